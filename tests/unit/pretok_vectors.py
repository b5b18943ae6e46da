#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes pretok_vectors.h: where the PyPI package `tokenizers` cuts one nasty text.

Each pre-tokenizer is built here as the models' own tokenizer.json files have it, in that
package's syntax and with its regular-expression engine, so that the C code is compared with
something that shares nothing with it. "default" is no model's: it is what files without a
pre-tokenizer are read with in the field.

Usage: pip install tokenizers; tests/unit/pretok_vectors.py > tests/unit/pretok_vectors.h
"""
from tokenizers import Regex, pre_tokenizers as pre

TEXT = (
    "I'm we'LL THEY'RE it's don'T 'tis he'd've O'Brien's ' s \u2018t\u2019s\n"
    "1 12 123 1234 12345678 \u00bd\u2153 \u0663\u0664\u0665\u0666 \u2167 v2.0 0x1F 3.14e-10\n"
    "a  b   c\t\td \t e\r\n\r\n\n f \n\n  g\u00a0h\u2003\u2003i\u3000j\u200bk\u2028l\u0085m\n"
    "camelCase HTTPServer iPhone \u00c0\u00c9x \u01c5\u02b0\u00aa stra\u00dfe e\u0301a\u0308 \u0301\n"
    "\u4e2d\u6587\u5b57\u7b26\uff0c\u6e2c\u8a66\u3002\u201c\u5f15\u300d\u30ab\u30bf\u3072\u3089\u30fc"
    "\ud55c\uad6d\uc5b4 \ub2e8\uc5b4\n"
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e01\u0e47\u0e20\u0e32\u0e29\u0e32 \u05e9\u05dc\u05d5\u05dd "
    "\u0645\u0631\u062d\u0628\u0627\u06d4 \u041f\u0440\u0438\u0432\u0435\u0442\n"
    "\U0001f600\U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea \u2764\ufe0f \U00010400 \U0001d7d8\n"
    "http://a.b/c?d=e&f#g $1,234.56 C++ a+b=c <tag/> {\"k\": [1, 2]} // ... !!! ~^`|\n"
    "/path/to/\n //x\r\n!\n\n?/\n    end   "
)

ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LATIN = (
    "[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
    "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943]+"
)
ASIAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


def o200k(ending, digits):
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ending}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
        rf"{ending}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|" + TAIL
    )


def split(regex):
    return pre.Split(Regex(regex), "isolated")


GPT2 = split(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
DIGITS = pre.Digits(individual_digits=True)
DEFS = {
    "default": [split(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, split(r"\p{N}+"), split("[0-9][0-9][0-9]")],
    "llama-bpe": [split(ENDINGS + LETTERS + r"|\p{N}{1,3}" + SYMBOLS + TAIL)],
    "qwen2": [split(ENDINGS + LETTERS + r"|\p{N}" + SYMBOLS + TAIL)],
    "qwen35": [
        split(
            ENDINGS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL
        )
    ],
    "gpt-4o": [split(o200k(ENDINGS + "?", r"\p{N}{1,3}"))],
    "tekken": [split(o200k("", r"\p{N}"))],
    "gpt-2": [GPT2],
    "smollm": [DIGITS, GPT2],
    "deepseek-llm": [
        split("[\r\n]"),
        split(r"\s?" + LATIN),
        split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
        split(r"\s+$"),
        split(ASIAN),
        DIGITS,
    ],
    "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(ASIAN), DIGITS],
    "deepseek-v3": [
        split(r"\p{N}{1,3}"),
        split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
        split(
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|" + TAIL
        ),
    ],
    "falcon": [pre.Punctuation("contiguous"), GPT2, split("[0-9][0-9][0-9]")],
    "bailingmoe": [
        split(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        )
    ],
    "seed-coder": [split(ENDINGS + LETTERS + r"|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + TAIL)],
    "bloom": [split(BLOOM)],
    "viking": [split(BLOOM), DIGITS],
}


def c_string(data):
    out, line = [], '"'
    for byte in data:
        if byte in b'"\\':
            piece = "\\" + chr(byte)
        elif 0x20 <= byte < 0x7F and byte != 0x3F:  # no trigraphs
            piece = chr(byte)
        else:
            piece = f"\\{byte:03o}"
        if len(line) + len(piece) > 90:
            out.append("\t" + line + '"')
            line = '"'
        line += piece
    return "\n".join(out + ["\t" + line + '"'])


def main():
    print("/* SPDX-License-Identifier: MIT */")
    print("/* Made by pretok_vectors.py. Where each pre-tokenizer cuts a text, in bytes. */")
    print("/* clang-format off */")
    print("static const char pretok_text[] =\n" + c_string(TEXT.encode()) + ";\n")
    print("static const struct pretok_vector {\n\tconst char *name;\n\tsize_t n;")
    print("\tunsigned short end[512];\n} pretok_vectors[] = {")
    for name, sequence in DEFS.items():
        chain = pre.Sequence(sequence + [pre.ByteLevel(add_prefix_space=False, use_regex=False)])
        ends = [len(TEXT[:b].encode()) for _, (_, b) in chain.pre_tokenize_str(TEXT)]
        print(f'\t{{ "{name}", {len(ends)},\n\t  {{', end="")
        for i, end in enumerate(ends):
            print(("\n\t    " if i % 16 == 0 else " ") + f"{end},", end="")
        print(" } },")
    print("};\n/* clang-format on */")


if __name__ == "__main__":
    main()
