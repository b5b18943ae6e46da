// SPDX-License-Identifier: MIT
/*
 * Golden test: are the logits of `weir eval` those of transformers and of llama.cpp?
 *
 *	golden [MANIFEST...]     (default: tests/golden/hf.manifest tests/golden/synth.manifest)
 *
 * The environment's WEIR is the program to test (default build/weir); it may be several words
 * ("qemu-aarch64 build/arm64/weir"). Output is TAP; the exit status is 0 when all passed.
 *
 * Words: an *entry* is one line of a manifest: a model, the logits that a *peer* (transformers
 * or llama.cpp) computed for it, and how near weir must come. README.md has the format. Logits
 * are raw little-endian float32 [n_tokens][n_vocab].
 *
 * Each entry is first run with the plainest choices (mmap, one thread): those logits are
 * compared with the peer's. Then the same bits must come out of two threads and out of weights
 * that stream through io_uring. Models with quantized weights are then packed, and the packed
 * ones must do all of this too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#define MAX_WORDS 64

/* Seconds after which a run of weir counts as hung; sanitizers and qemu are slow. */
#define RUN_SECONDS 300

/* F32 weights, F32 arithmetic: only the order of sums differs. max |error| / max |logit| */
#define EXACT_ERROR 1e-4

/* Activations rounded to 8 bits, by either side or by both. */
#define LEAST_COSINE 0.9995

/*
 * Where both sides round, one position may have twice the error that all of them together may:
 * llama.cpp is as far from its own result with float activations at some.
 */
#define LEAST_COSINE_AT 0.998

/* Keys, queries and values rounded to 8 bits as well. */
#define LEAST_COSINE_8_BIT_CACHE 0.999

/*
 * The noise of a logit at a position is the RMS of the difference between weir and the peer
 * there. The gap between two logits has sqrt(2) times that; a gap of 4 RMS is 2.8 deviations.
 */
#define NOISE_RMS 4.0

enum kind {
	KIND_EXACT, /* EXACT_ERROR */
	KIND_CLOSE, /* LEAST_COSINE, at each position too */
	KIND_PEER,  /* LEAST_COSINE, LEAST_COSINE_AT, the same greedy tokens beyond the noise */
};

struct entry {
	enum kind kind;
	const char *name;
	const char *tokens; /* "1,2,3" */
	size_t n_tokens, n_vocab;
	char model[PATH_MAX];
	float *want; /* the peer's logits */
	float *got;  /* weir's */
};

struct command {
	char *word[MAX_WORDS + 1]; /* NULL-terminated */
	int n;
	char program[PATH_MAX]; /* which the first words point into */
};

static char tmp_dir[PATH_MAX];

/* dir/name into @path[PATH_MAX]; ends the program where that is no path. */
static void join(char *path, const char *dir, const char *name)
{
	if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX) {
		fprintf(stderr, "golden: %s/%s: path too long\n", dir, name);
		exit(1);
	}
}

/* ---- running weir ---- */

static void add(struct command *c, const char *word)
{
	if (c->n == MAX_WORDS) {
		fprintf(stderr, "golden: a command has more than %d words\n", MAX_WORDS);
		exit(1);
	}
	c->word[c->n++] = (char *)word;
	c->word[c->n] = NULL;
}

/* Splits @words in place. */
static void add_words(struct command *c, char *words)
{
	char *save;

	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
		add(c, w);
}

static void note_file(const char *path)
{
	char line[512];
	FILE *f = fopen(path, "r");

	if (!f)
		return;
	for (int i = 0; i < 20 && fgets(line, sizeof(line), f); i++) {
		line[strcspn(line, "\n")] = 0;
		tap_note("%s", line);
	}
	fclose(f);
}

static void note_command(const struct command *c, int status)
{
	printf("#");
	for (int i = 0; i < c->n; i++)
		printf(" %s", c->word[i]);
	if (WIFSIGNALED(status))
		printf(": killed by signal %d%s\n", WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? " (it hung)" : "");
	else
		printf(": exit status %d\n", WEXITSTATUS(status));
}

static void exec_command(const struct command *c, const char *messages)
{
	int null = open("/dev/null", O_WRONLY);
	int err = open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (null < 0 || err < 0 || dup2(null, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	alarm(RUN_SECONDS);
	execvp(c->word[0], c->word);
	dprintf(2, "%s: %s\n", c->word[0], strerror(errno));
	_exit(127);
}

/* True when it ended with status 0; what it said otherwise becomes a note. */
static bool run(const struct command *c)
{
	char messages[PATH_MAX];
	int status = 0;
	pid_t pid;

	join(messages, tmp_dir, "messages");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exec_command(c, messages);
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		tap_note("cannot run %s: %s", c->word[0], strerror(errno));
		return false;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	note_command(c, status);
	note_file(messages);
	return false;
}

/* `weir SUBCOMMAND` */
static void begin(struct command *c, const char *subcommand)
{
	const char *program = getenv("WEIR");

	c->n = 0;
	snprintf(c->program, sizeof(c->program), "%s",
		 program && *program ? program : "build/weir");
	add_words(c, c->program);
	add(c, subcommand);
}

/* ---- logits ---- */

/* A whole file of exactly @n floats, all finite; NULL with a note otherwise. */
static float *read_logits(const char *path, size_t n)
{
	float *x = malloc(n * sizeof(float));
	FILE *f = fopen(path, "rb");
	size_t i = 0, got = 0;
	bool more = false;

	if (f && x) {
		got = fread(x, sizeof(float), n, f);
		more = fgetc(f) != EOF;
	}
	if (f)
		fclose(f);
	while (i < got && isfinite(x[i]))
		i++;
	if (f && x && got == n && !more && i == n)
		return x;
	if (!f)
		tap_note("%s: %s", path, strerror(errno));
	else if (got != n || more)
		tap_note("%s: is not %zu float32 values long", path, n);
	else
		tap_note("%s: value %zu is not finite", path, i);
	free(x);
	return NULL;
}

static float *eval(const struct entry *e, const char *options)
{
	char opt[256], out[PATH_MAX];
	struct command c;
	float *logits = NULL;

	begin(&c, "eval");
	join(out, tmp_dir, "logits");
	snprintf(opt, sizeof(opt), "%s", options);
	add(&c, e->model);
	add(&c, "--tokens");
	add(&c, e->tokens);
	add(&c, "--logits");
	add(&c, out);
	add_words(&c, opt);
	if (run(&c))
		logits = read_logits(out, e->n_tokens * e->n_vocab);
	unlink(out);
	return logits;
}

/* max |got - want| / max |want| */
static double max_error(const struct entry *e)
{
	double error = 0, scale = 0;

	for (size_t i = 0; i < e->n_tokens * e->n_vocab; i++) {
		error = fmax(error, fabs((double)e->got[i] - e->want[i]));
		scale = fmax(scale, fabs(e->want[i]));
	}
	return error / scale;
}

static double cosine(const float *a, const float *b, size_t n)
{
	double ab = 0, aa = 0, bb = 0;

	for (size_t i = 0; i < n; i++) {
		ab += (double)a[i] * b[i];
		aa += (double)a[i] * a[i];
		bb += (double)b[i] * b[i];
	}
	return ab / sqrt(aa * bb);
}

static double rms_difference(const float *a, const float *b, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
	return sqrt(sum / n);
}

static size_t arg_max(const float *x, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* How far the greatest logit is above the next. */
static double top_gap(const float *x, size_t n)
{
	size_t best = arg_max(x, n);
	double next = -INFINITY;

	for (size_t i = 0; i < n; i++)
		if (i != best)
			next = fmax(next, x[i]);
	return x[best] - next;
}

/* ---- what is asserted ---- */

static void check_exact(const struct entry *e)
{
	double error = max_error(e);

	tap_ok(error < EXACT_ERROR, "%s: logits within %g of the greatest (%.1e)", e->name,
	       EXACT_ERROR, error);
}

/* @at_each: for the position that agrees least */
static void check_cosine(const struct entry *e, double at_each)
{
	double all = cosine(e->got, e->want, e->n_tokens * e->n_vocab);
	double least = all;
	size_t where = 0;

	for (size_t t = 0; t < e->n_tokens; t++) {
		size_t at = t * e->n_vocab;
		double c = cosine(e->got + at, e->want + at, e->n_vocab);

		if (!(c >= least)) {
			least = c;
			where = t;
		}
	}
	tap_ok(all > LEAST_COSINE && least > at_each,
	       "%s: cosine above %g (%.5f), at each position above %g (%.5f at %zu)", e->name,
	       LEAST_COSINE, all, at_each, least, where);
}

/* At least half of the positions must be decided: else this would assert nothing. */
static void check_greedy(const struct entry *e)
{
	size_t decided = 0, same = 0;

	for (size_t t = 0; t < e->n_tokens; t++) {
		const float *got = e->got + t * e->n_vocab, *want = e->want + t * e->n_vocab;
		size_t a = arg_max(got, e->n_vocab), b = arg_max(want, e->n_vocab);
		double noise = NOISE_RMS * rms_difference(got, want, e->n_vocab);
		double gap = top_gap(want, e->n_vocab);

		if (!(gap > noise))
			continue;
		decided++;
		same += a == b;
		if (a != b)
			tap_note("position %zu: token %zu, not %zu, at a gap of %g and noise of %g",
				 t, a, b, gap, noise);
	}
	tap_ok(same == decided && 2 * decided >= e->n_tokens,
	       "%s: the same greedy token where the top two are apart (%zu of %zu, of %zu)",
	       e->name, same, decided, e->n_tokens);
}

/* True when `weir eval` with @options gives e->got bit for bit. */
static bool same_bits(const struct entry *e, const char *options)
{
	float *x = eval(e, options);
	bool same = x && !memcmp(x, e->got, e->n_tokens * e->n_vocab * sizeof(float));

	if (x && !same)
		tap_note("with %s: not the bits of --source mmap -t 1",
			 *options ? options : "no options");
	free(x);
	return same;
}

/* Seccomp and old kernels may refuse it; what weir says then is another test's business. */
static const char *uring_missing(void)
{
	char params[256] = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, params);

	if (fd < 0)
		return strerror(errno);
	close(fd);
	return NULL;
}

static void check_same_bits(const struct entry *e)
{
	const char *missing = uring_missing();
	bool one, two, plain;

	tap_ok(same_bits(e, "--source mmap -t 2"), "%s: the same bits from two threads", e->name);
	if (missing) {
		tap_skip(missing, "%s: the same bits streamed by io_uring", e->name);
		return;
	}
	one = same_bits(e, "--source uring --budget 60% -t 1");
	two = same_bits(e, "--source uring --budget 60% -t 2");
	plain = same_bits(e, "");
	tap_ok(one && two && plain,
	       "%s: the same bits streamed by io_uring with 60%% of the model in DRAM, and by "
	       "default",
	       e->name);
}

/* Near the peer too, by a way that rounds differently. */
static void check_close(const struct entry *e, const char *options, double least)
{
	float *other = eval(e, options);
	double c = other ? cosine(other, e->want, e->n_tokens * e->n_vocab) : 0;

	if (!tap_ok(c >= least, "%s: with %s, cosine to the peer's logits >= %g", e->name, options,
		    least))
		tap_note("cosine %.6f", c);
	free(other);
}

static void check_entry(struct entry *e)
{
	if (!e->want) {
		tap_ok(false, "%s: has logits to compare with", e->name);
		return;
	}
	e->got = eval(e, "--source mmap -t 1");
	if (!e->got) {
		tap_ok(false, "%s: runs", e->name);
		return;
	}
	switch (e->kind) {
	case KIND_EXACT:
		check_exact(e);
		break;
	case KIND_CLOSE:
		check_cosine(e, LEAST_COSINE);
		break;
	case KIND_PEER:
		check_cosine(e, LEAST_COSINE_AT);
		check_greedy(e);
		check_close(e, "--batch 1", LEAST_COSINE);
		check_close(e, "--kv-type q8_0", LEAST_COSINE_8_BIT_CACHE);
		break;
	}
	/* A close entry is an exact one in another type of weight, and its model is too small to
	 * cut. */
	if (e->kind != KIND_CLOSE)
		check_same_bits(e);
	free(e->got);
}

/* The same of the model as `weir pack` lays it out. */
static void check_packed(const struct entry *e)
{
	struct entry packed = *e;
	struct command c;
	char name[128];

	snprintf(name, sizeof(name), "%s, packed", e->name);
	packed.name = name;
	join(packed.model, tmp_dir, "packed.weir");
	begin(&c, "pack");
	add(&c, e->model);
	add(&c, packed.model);
	if (run(&c))
		check_entry(&packed);
	else
		tap_ok(false, "%s: weir packs it", e->name);
	unlink(packed.model);
}

/* ---- manifests ---- */

/* CRC-32 as zlib and gzip have it; false when the file cannot be read. */
static bool file_crc(const char *path, uint32_t *out)
{
	FILE *f = fopen(path, "rb");
	uint32_t crc = ~0u;
	int c;

	if (!f)
		return false;
	while ((c = getc(f)) != EOF) {
		crc ^= (uint32_t)c;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	*out = ~crc;
	fclose(f);
	return true;
}

/* Makes e->model; false when weir fails or the file is not the one that the peer was given. */
static bool synth(struct entry *e, const char *crc, char *options)
{
	struct command c;
	uint32_t got;

	begin(&c, "synth");
	add(&c, e->model);
	add_words(&c, options);
	if (!run(&c) || !file_crc(e->model, &got))
		return tap_ok(false, "%s: weir synth makes a model", e->name);
	if (got == strtoul(crc, NULL, 16))
		return true;
	tap_note("CRC-32 %08x, not %s: if `weir synth` was changed on purpose, run "
		 "make_llamacpp.py again",
		 got, crc);
	return tap_ok(false, "%s: weir synth makes the model that llama.cpp ran", e->name);
}

static bool kind_by_name(const char *name, enum kind *kind)
{
	static const char *const names[] = {"exact", "close", "peer"};

	for (int i = 0; i < 3; i++) {
		if (!strcmp(names[i], name)) {
			*kind = (enum kind)i;
			return true;
		}
	}
	return false;
}

/*
 * One line `file KIND NAME LOGITS N_VOCAB MODEL` or `synth KIND NAME LOGITS N_VOCAB CRC OPTIONS`;
 * @line is split in place. False when it has another form.
 */
static bool check_line(char *line, const char *dir, const char *tokens, size_t n_tokens)
{
	struct entry e = {.tokens = tokens, .n_tokens = n_tokens};
	char path[PATH_MAX], *field[6], *rest = line;

	for (int i = 0; i < 6; i++) {
		field[i] = strsep(&rest, " ");
		if (!field[i] || !*field[i])
			return false;
	}
	e.name = field[2];
	e.n_vocab = strtoul(field[4], NULL, 10);
	if (!kind_by_name(field[1], &e.kind) || !n_tokens || !e.n_vocab)
		return false;
	join(path, dir, field[3]);
	e.want = read_logits(path, n_tokens * e.n_vocab);
	if (!strcmp(field[0], "file") && !rest) {
		join(e.model, dir, field[5]);
		check_entry(&e);
		if (e.kind != KIND_EXACT)
			check_packed(&e);
	} else if (!strcmp(field[0], "synth") && rest) {
		join(e.model, tmp_dir, "model.gguf");
		if (synth(&e, field[5], rest)) {
			check_entry(&e);
			check_packed(&e);
		}
		unlink(e.model);
	} else {
		free(e.want);
		return false;
	}
	free(e.want);
	return true;
}

static void check_manifest(const char *path)
{
	char dir[PATH_MAX], *line = NULL, *tokens = NULL, *slash;
	size_t cap = 0, n_tokens = 0, n_line = 0;
	FILE *f = fopen(path, "r");

	if (!f) {
		tap_note("%s: %s", path, strerror(errno));
		tap_ok(false, "%s can be read", path);
		return;
	}
	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	else
		strcpy(dir, ".");
	while (getline(&line, &cap, f) > 0) {
		n_line++;
		line[strcspn(line, "\n")] = 0;
		if (!*line || *line == '#')
			continue;
		if (!strncmp(line, "tokens ", 7)) {
			free(tokens);
			tokens = strdup(line + 7);
			n_tokens = 1;
			for (const char *p = tokens; *p; p++)
				n_tokens += *p == ',';
		} else if (!check_line(line, dir, tokens, n_tokens)) {
			tap_ok(false, "%s:%zu can be understood", path, n_line);
		}
	}
	free(tokens);
	free(line);
	fclose(f);
}

int main(int argc, char **argv)
{
	const char *base = getenv("TMPDIR");
	char messages[PATH_MAX];

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(tmp_dir, sizeof(tmp_dir), "%s/weir-golden-XXXXXX", base && *base ? base : "/tmp");
	if (!mkdtemp(tmp_dir)) {
		fprintf(stderr, "golden: %s: %s\n", tmp_dir, strerror(errno));
		return 1;
	}
	if (argc < 2) {
		check_manifest("tests/golden/hf.manifest");
		check_manifest("tests/golden/synth.manifest");
	}
	for (int i = 1; i < argc; i++)
		check_manifest(argv[i]);
	join(messages, tmp_dir, "messages");
	unlink(messages);
	rmdir(tmp_dir);
	return tap_done();
}
