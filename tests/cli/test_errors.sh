#!/bin/bash
# SPDX-License-Identifier: MIT
# Files that are no models: one sentence with the file, status 1, never a crash or a hang.
. "$(dirname "$0")/lib.sh"

dir=$tap_dir/files
mkdir "$dir"
synth "$dir/good.gguf" --layers 2 --embd 256 --ff 512
size=$(stat -c %s "$dir/good.gguf")

missing=$dir/missing.gguf
for command in "run -p x" "chat" "bench" "plan" "info" "eval --tokens 1 --logits $dir/logits" \
	"tokenize -p x" "perplexity -f $0"; do
	# shellcheck disable=SC2086
	weir $command "$missing"
	fails_with "${command%% *}, missing file" "missing\.gguf.*[Nn]o such file"
done

# refused NAME FILE REGEX: by info and by run
refused()
{
	weir info "$2"
	fails_with "info, $1" "$(basename "$2").*$3"
	weir run -q "$2" -p x
	fails_with "run, $1" "$(basename "$2").*$3"
}

: > "$dir/empty.gguf"
refused "empty file" "$dir/empty.gguf" ""
echo "This is no model but a letter to a friend." > "$dir/letter.gguf"
refused "text file" "$dir/letter.gguf" "GGUF"
head -c 5000000 /dev/zero > "$dir/zeros.gguf"
refused "zeros" "$dir/zeros.gguf" "GGUF"
refused "directory" "$dir" "directory|file"
refused "device" /dev/null ""
mkfifo "$dir/pipe"
refused "pipe nobody writes to" "$dir/pipe" ""
mkdir "$dir/sub"
ln -s loop "$dir/loop"
refused "symbolic link to itself" "$dir/loop" ""

# What is cut off: in the header, in metadata, in the tensor table, in the data, the last byte.
for length in 3 4 20 24 100 1000 $((size / 4)) $((size / 2)) $((size - 1)); do
	head -c "$length" "$dir/good.gguf" > "$dir/cut$length.gguf"
	weir info "$dir/cut$length.gguf"
	fails_with "cut after $length of $size bytes" "cut$length\.gguf"
done
weir run -q "$dir/cut$((size - 1)).gguf" -p x -n 1
fails_with "run of a file that lacks its last byte" "cut$((size - 1))\.gguf"

# A version that weir does not know, and numbers far larger than the file
cp "$dir/good.gguf" "$dir/version.gguf"
printf '\143' | dd of="$dir/version.gguf" bs=1 seek=4 conv=notrunc status=none
refused "version 99" "$dir/version.gguf" "version.*99"
cp "$dir/good.gguf" "$dir/huge.gguf"
printf '\377\377\377\377\377\377\377\177' | dd of="$dir/huge.gguf" bs=1 seek=8 conv=notrunc status=none
refused "2^63 tensors" "$dir/huge.gguf" ""

# The rest of the command line
weir run -q "$dir/good.gguf" -f "$dir/no-prompt.txt"
fails_with "run, missing prompt file" "no-prompt\.txt"
weir run -q "$dir/good.gguf" -f "$dir/sub"
fails_with "run, directory as prompt" "sub"
weir perplexity -q "$dir/good.gguf" -f "$dir/letter.gguf"
fails_with "perplexity, text too short" "letter\.gguf"
weir eval "$dir/good.gguf" --tokens 1,x --logits "$dir/logits"
fails_with "eval, tokens that are no numbers" "'x'|x"
weir eval "$dir/good.gguf" --tokens 1,99999999 --logits "$dir/logits"
fails_with "eval, a token beyond the vocabulary" "99999999"
weir eval "$dir/good.gguf" --tokens 1,2 --logits "$dir/no/such/place"
fails_with "eval, output that cannot be written" "no/such/place"
is "eval left no file" "$(find "$dir" -name 'logits*')" ""
weir tokenize "$dir/good.gguf" --decode 99999999
fails_with "tokenize, an id beyond the vocabulary" "good\.gguf|99999999"
weir run -q "$dir/good.gguf" -p "a b c d e f g h i j k l m n o p q r s t u v w x y z" -c 8 -n 4
fails_with "run, a prompt longer than the context" "context"
weir run -q "$dir/good.gguf" -p x --pre nonsense
fails_with "run, a pre-tokenizer for a model that has none" "--pre"
weir probe --dir "$dir/nowhere" --size 16M
err=$(tail -n 1 <<< "$err") # what it measured before is no failure
fails_with "probe, missing directory" "nowhere"

# Without a chat template there is no guess.
weir chat -q "$dir/good.gguf"
fails_with "chat, no template" "template"

done_testing
