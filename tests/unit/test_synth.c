// SPDX-License-Identifier: MIT
/*
 * Synth models: the same bytes always, weights of the promised spread in every type, a file
 * that opens with the promised shapes, and nothing left behind when it is interrupted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "gguf/gguf.h"
#include "gguf/synth.h"
#include "kernels/cpu/cpu.h"

static char dir[] = "/tmp/weir-test-synth-XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char cmd[sizeof(dir) + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static unsigned int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static unsigned int files_in_dir(void)
{
	DIR *d = opendir(dir);
	unsigned int n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* Some 20 MB in Q4_0: several pieces, the last one ragged. */
static struct synth_params params(const char *path)
{
	return (struct synth_params){
		.path = path,
		.arch = "llama",
		.n_layer = 3,
		.n_embd = 1024,
		.n_ff = 2816,
		.n_head = 16,
		.n_head_kv = 4,
		.n_vocab = 1003,
		.n_ctx = 2048,
		.type = WT_Q4_0,
		.output_type = SYNTH_OUTPUT_DEFAULT,
		.seed = 42,
		.n_threads = 2,
	};
}

static void make(const struct synth_params *p)
{
	struct err err = {""};

	if (synth_model(p, &err))
		fail_msg("%s", err.text);
}

static struct gguf *make_and_open(const struct synth_params *p)
{
	struct gguf *g = NULL;
	struct err err = {""};

	make(p);
	if (gguf_open(p->path, &g, &err))
		fail_msg("%s", err.text);
	return g;
}

static uint8_t *read_at(const char *path, uint64_t off, uint64_t n)
{
	uint8_t *b = malloc(n);
	int fd = open(path, O_RDONLY);

	assert_non_null(b);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, b, n, (off_t)off), n);
	close(fd);
	return b;
}

/* FNV-1a of the whole file */
static uint64_t hash_file(const char *path)
{
	uint64_t h = 0xcbf29ce484222325ull;
	struct stat st;
	uint8_t *b;

	assert_int_equal(stat(path, &st), 0);
	b = read_at(path, 0, (uint64_t)st.st_size);
	for (off_t i = 0; i < st.st_size; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	free(b);
	return h;
}

/* ---- the same bytes ---- */

/*
 * Also on every other machine and with every other compiler: the numbers here are the bytes that
 * benchmarks and golden tests have been made with. They change only with what synth writes.
 */
static void test_bytes_are_the_known_ones(void **state)
{
	static const struct {
		enum wtype type;
		const char *arch;
		uint64_t hash;
	} known[] = {
		{WT_F32, "llama", 0xe01d568f11b0b15f},	  {WT_F16, "qwen2", 0x81414e440b9393ac},
		{WT_Q4_0, "qwen3", 0xae396d7fa9bacc30},	  {WT_Q4_1, "llama", 0x3e4e5d7a7ac75ba3},
		{WT_Q5_0, "qwen2", 0x291e54af1c0395c5},	  {WT_Q5_1, "qwen3", 0x8858930ab8e44f46},
		{WT_Q8_0, "llama", 0x994051b616326d0e},	  {WT_Q2_K, "qwen2", 0x2ae8c3b665086541},
		{WT_Q3_K, "qwen3", 0x2e7323c9545b2d80},	  {WT_Q4_K, "llama", 0xa3f7c8ab97b83933},
		{WT_Q5_K, "qwen2", 0x211ceeba28a167ae},	  {WT_Q6_K, "qwen3", 0xdd96e4472ce54b5f},
		{WT_IQ4_NL, "llama", 0x6757e218993067c5}, {WT_IQ4_XS, "qwen2", 0x21b8173877aeeb4b},
		{WT_BF16, "qwen3", 0x54da6f87ec761b20},	  {WT_MXFP4, "llama", 0x902cc4dc02b34dca},
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		struct synth_params p = params(in_dir("known.gguf"));
		uint64_t hash;

		p.type = known[i].type;
		p.arch = known[i].arch;
		p.n_layer = 1;
		p.n_embd = 256;
		p.n_ff = 512;
		p.n_head = 8;
		make(&p);
		hash = hash_file(p.path);
		if (hash != known[i].hash)
			fail_msg("%s %s: hash 0x%016llx", known[i].arch,
				 wtype_info(known[i].type)->name, (unsigned long long)hash);
	}
}

static void test_threads_do_not_show_in_the_bytes(void **state)
{
	static const int threads[] = {1, 2, 3, 7, 0};
	uint64_t first = 0;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		struct synth_params p = params(in_dir("threads.gguf"));
		uint64_t hash;

		p.n_threads = threads[i];
		make(&p);
		hash = hash_file(p.path);
		if (i)
			assert_true(hash == first);
		first = hash;
	}
}

/* tmpfs has no direct I/O before Linux 6.6, or none of this kind: the other way of writing. */
static void test_file_system_does_not_show_in_the_bytes(void **state)
{
	struct synth_params p = params(in_dir("disk.gguf"));
	char path[64];
	uint64_t hash;

	snprintf(path, sizeof(path), "/dev/shm/weir-test-synth-%d.gguf", (int)getpid());
	make(&p);
	hash = hash_file(p.path);
	p.path = path;
	if (access("/dev/shm", W_OK)) {
		print_message("SKIP bytes on tmpfs: no /dev/shm here\n");
		skip();
	}
	make(&p);
	assert_true(hash_file(path) == hash);
	unlink(path);
}

static void test_seed_changes_every_matrix(void **state)
{
	struct synth_params p = params(in_dir("seed1.gguf")), q = params(in_dir("seed2.gguf"));
	struct gguf *g = make_and_open(&p), *h;

	q.seed++;
	h = make_and_open(&q);
	assert_int_equal(g->n_tensor, h->n_tensor);
	for (uint64_t i = 0; i < g->n_tensor; i++) {
		const struct gguf_tensor *t = &g->tensor[i];
		uint8_t *a = read_at(p.path, t->off, t->size),
			*b = read_at(q.path, t->off, t->size);

		assert_memory_not_equal(a, b, t->size);
		free(a);
		free(b);
	}
	gguf_close(g);
	gguf_close(h);
}

/* A tensor keeps its bytes when others come or go: benchmarks of depth stay comparable. */
static void test_layers_do_not_depend_on_their_number(void **state)
{
	struct synth_params p = params(in_dir("deep.gguf")), q = params(in_dir("flat.gguf"));
	const char *name = "blk.0.ffn_down.weight";
	const struct gguf_tensor *t, *u;
	struct gguf *g, *h;
	uint8_t *a, *b;

	q.n_layer = 1;
	q.alignment = 4096;
	g = make_and_open(&p);
	h = make_and_open(&q);
	t = gguf_find_tensor(g, name);
	u = gguf_find_tensor(h, name);
	a = read_at(p.path, t->off, t->size);
	b = read_at(q.path, u->off, u->size);
	assert_int_equal(t->size, u->size);
	assert_memory_equal(a, b, t->size);
	free(a);
	free(b);
	gguf_close(g);
	gguf_close(h);
}

/* ---- the weights ---- */

/* Mean and standard deviation of a tensor, dequantized by the reference. */
static void spread(const char *path, const struct gguf_tensor *t, double *mean, double *sd)
{
	const struct cpu_isa *isa = cpu_isa_by_name("scalar");
	uint64_t n = t->ne[0] * t->n_rows;
	uint8_t *data = read_at(path, t->off, t->size);
	float *x = malloc(n * sizeof(*x));
	double sum = 0, sum2 = 0;

	assert_non_null(x);
	isa->types[t->type]->dequantize(data, x, n);
	for (uint64_t i = 0; i < n; i++) {
		if (!isfinite(x[i]))
			fail_msg("%s: weight %llu is not finite", t->name.p, (unsigned long long)i);
		sum += (double)x[i];
		sum2 += (double)x[i] * (double)x[i];
	}
	*mean = sum / (double)n;
	*sd = sqrt(sum2 / (double)n - *mean * *mean);
	free(x);
	free(data);
}

/* Standard deviation 1/sqrt(n_in) within 3%, mean within 2% of that of 0. */
static void test_weights_have_the_promised_spread_in_every_type(void **state)
{
	static const uint32_t wide[] = {256, 1024, 8192};

	for (uint32_t type = 0; type < WT_COUNT; type++) {
		if (!wtype_info(type))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(wide); k++) {
			struct synth_params p = params(in_dir("spread.gguf"));
			const struct gguf_tensor *t;
			struct gguf *g;
			double mean, sd, want = 1 / sqrt(wide[k]);

			p.type = (enum wtype)type;
			p.n_layer = 1;
			p.n_embd = 256;
			p.n_head = 8;
			p.n_ff = wide[k];
			g = make_and_open(&p);
			t = gguf_find_tensor(g, "blk.0.ffn_down.weight");
			assert_int_equal(t->type, type);
			assert_int_equal(t->ne[0], wide[k]);
			spread(p.path, t, &mean, &sd);
			if (fabs(sd / want - 1) > 0.03 || fabs(mean / want) > 0.02)
				fail_msg("%s, n_in %u: mean %.4f, deviation %.4f (of 1/sqrt(n_in))",
					 wtype_info(type)->name, wide[k], mean / want, sd / want);
			gguf_close(g);
		}
	}
}

static void test_norms_and_biases_are_small_perturbations(void **state)
{
	static const struct {
		const char *arch, *name;
		float lo, hi;
	} want[] = {
		{"llama", "blk.1.attn_norm.weight", 0.75f, 1.25f},
		{"llama", "output_norm.weight", 0.75f, 1.25f},
		{"qwen2", "blk.1.attn_k.bias", -1 / 32.f, 1 / 32.f},
		{"qwen3", "blk.1.attn_q_norm.weight", 0.75f, 1.25f},
	};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct synth_params p = params(in_dir("norm.gguf"));
		const struct gguf_tensor *t;
		struct gguf *g;
		float *x, lo, hi;

		p.arch = want[i].arch;
		g = make_and_open(&p);
		t = gguf_find_tensor(g, want[i].name);
		assert_non_null(t);
		assert_int_equal(t->type, WT_F32);
		assert_int_equal(t->n_dims, 1);
		x = (float *)read_at(p.path, t->off, t->size);
		lo = hi = x[0];
		for (uint64_t k = 0; k < t->ne[0]; k++) {
			lo = MIN(lo, x[k]);
			hi = MAX(hi, x[k]);
		}
		assert_true(lo >= want[i].lo && hi < want[i].hi);
		assert_true(hi - lo > (want[i].hi - want[i].lo) * 0.8f);
		free(x);
		gguf_close(g);
	}
}

/* ---- the file ---- */

static void has_shape(const struct gguf *g, uint64_t i, const char *name, uint32_t type,
		      uint64_t ne0, uint64_t ne1)
{
	const struct gguf_tensor *t = &g->tensor[i];

	assert_true(i < g->n_tensor);
	assert_string_equal(t->name.p, name);
	if (t->type != type || t->ne[0] != ne0 || t->ne[1] != ne1)
		fail_msg("%s is %s [%llu, %llu]", name, wtype_info(t->type)->name,
			 (unsigned long long)t->ne[0], (unsigned long long)t->ne[1]);
}

static uint32_t u32_of(const struct gguf *g, const char *key)
{
	uint32_t v = UINT32_MAX;
	struct err err = {""};

	if (gguf_u32(g, key, &v, &err))
		fail_msg("%s", err.text);
	return v;
}

static void test_llama_has_its_keys_and_tensors_in_order(void **state)
{
	struct synth_params p = params(in_dir("llama.gguf"));
	struct gguf *g = make_and_open(&p);
	struct gguf_str s;
	float f = 0;

	assert_int_equal(gguf_string(g, "general.architecture", &s, NULL), 0);
	assert_string_equal(s.p, "llama");
	assert_int_equal(u32_of(g, "llama.block_count"), 3);
	assert_int_equal(u32_of(g, "llama.embedding_length"), 1024);
	assert_int_equal(u32_of(g, "llama.feed_forward_length"), 2816);
	assert_int_equal(u32_of(g, "llama.context_length"), 2048);
	assert_int_equal(u32_of(g, "llama.attention.head_count"), 16);
	assert_int_equal(u32_of(g, "llama.attention.head_count_kv"), 4);
	assert_int_equal(u32_of(g, "llama.rope.dimension_count"), 64);
	assert_int_equal(u32_of(g, "llama.vocab_size"), 1003);
	assert_null(gguf_find(g, "llama.attention.key_length"));
	assert_int_equal(gguf_f32(g, "llama.rope.freq_base", &f, NULL), 0);
	assert_true(f == 10000);

	assert_int_equal(g->n_tensor, 1 + 3 * 9 + 2);
	has_shape(g, 0, "token_embd.weight", WT_Q4_0, 1024, 1003);
	has_shape(g, 1, "blk.0.attn_norm.weight", WT_F32, 1024, 1);
	has_shape(g, 2, "blk.0.attn_q.weight", WT_Q4_0, 1024, 1024);
	has_shape(g, 3, "blk.0.attn_k.weight", WT_Q4_0, 1024, 256);
	has_shape(g, 4, "blk.0.attn_v.weight", WT_Q4_0, 1024, 256);
	has_shape(g, 5, "blk.0.attn_output.weight", WT_Q4_0, 1024, 1024);
	has_shape(g, 6, "blk.0.ffn_norm.weight", WT_F32, 1024, 1);
	has_shape(g, 7, "blk.0.ffn_gate.weight", WT_Q4_0, 1024, 2816);
	has_shape(g, 8, "blk.0.ffn_up.weight", WT_Q4_0, 1024, 2816);
	has_shape(g, 9, "blk.0.ffn_down.weight", WT_Q4_0, 2816, 1024);
	has_shape(g, 10, "blk.1.attn_norm.weight", WT_F32, 1024, 1);
	has_shape(g, 28, "output_norm.weight", WT_F32, 1024, 1);
	has_shape(g, 29, "output.weight", WT_Q6_K, 1024, 1003);
	gguf_close(g);
}

static void test_qwen2_has_biases(void **state)
{
	struct synth_params p = params(in_dir("qwen2.gguf"));
	struct gguf *g;

	p.arch = "qwen2";
	g = make_and_open(&p);
	assert_int_equal(u32_of(g, "qwen2.block_count"), 3);
	has_shape(g, 4, "blk.0.attn_v.weight", WT_Q4_0, 1024, 256);
	has_shape(g, 5, "blk.0.attn_q.bias", WT_F32, 1024, 1);
	has_shape(g, 6, "blk.0.attn_k.bias", WT_F32, 256, 1);
	has_shape(g, 7, "blk.0.attn_v.bias", WT_F32, 256, 1);
	has_shape(g, 8, "blk.0.attn_output.weight", WT_Q4_0, 1024, 1024);
	gguf_close(g);
}

static void test_qwen3_has_head_norms_and_its_head_dimension(void **state)
{
	struct synth_params p = params(in_dir("qwen3.gguf"));
	struct gguf *g;

	p.arch = "qwen3";
	p.head_dim = 128;
	g = make_and_open(&p);
	assert_int_equal(u32_of(g, "qwen3.attention.key_length"), 128);
	assert_int_equal(u32_of(g, "qwen3.attention.value_length"), 128);
	assert_int_equal(u32_of(g, "qwen3.rope.dimension_count"), 128);
	has_shape(g, 2, "blk.0.attn_q.weight", WT_Q4_0, 1024, 2048);
	has_shape(g, 3, "blk.0.attn_k.weight", WT_Q4_0, 1024, 512);
	has_shape(g, 5, "blk.0.attn_q_norm.weight", WT_F32, 128, 1);
	has_shape(g, 6, "blk.0.attn_k_norm.weight", WT_F32, 128, 1);
	has_shape(g, 7, "blk.0.attn_output.weight", WT_Q4_0, 2048, 1024);
	gguf_close(g);
}

static void test_output_type_and_tying(void **state)
{
	struct synth_params p = params(in_dir("output.gguf"));
	struct gguf *g;

	p.tied = true;
	g = make_and_open(&p);
	assert_null(gguf_find_tensor(g, "output.weight"));
	assert_int_equal(gguf_find_tensor(g, "token_embd.weight")->type, WT_Q6_K);
	gguf_close(g);

	p.tied = false;
	p.output_type = WT_Q8_0;
	g = make_and_open(&p);
	assert_int_equal(gguf_find_tensor(g, "output.weight")->type, WT_Q8_0);
	assert_int_equal(gguf_find_tensor(g, "token_embd.weight")->type, WT_Q8_0);
	assert_int_equal(gguf_find_tensor(g, "blk.0.attn_q.weight")->type, WT_Q4_0);
	gguf_close(g);

	p.output_type = SYNTH_OUTPUT_DEFAULT;
	p.n_embd = 96; /* too short a row for Q6_K */
	p.n_head = 3;
	p.n_head_kv = 1;
	g = make_and_open(&p);
	assert_int_equal(gguf_find_tensor(g, "output.weight")->type, WT_Q4_0);
	gguf_close(g);
}

/* Sum of the tensors, each rounded up to the alignment, after a header that ends aligned. */
static void test_size_is_as_predicted(void **state)
{
	static const uint32_t alignment[] = {0, 32, 4096};

	for (size_t k = 0; k < ARRAY_SIZE(alignment); k++) {
		struct synth_params p = params(in_dir("size.gguf"));
		uint32_t align = alignment[k] ? alignment[k] : 32;
		const uint64_t matrix = 1024ull * (1024 * 2 + 256 * 2 + 2816 * 3);
		uint64_t q4_0, f32, q6_k, off;
		struct gguf *g;

		p.alignment = alignment[k];
		g = make_and_open(&p);
		q4_0 = (3 * matrix + 1024 * 1003) / 32 * 18;
		q6_k = 1024 * 1003 / 256 * 210;
		f32 = (3 * 2 + 1) * 1024 * 4;
		off = g->file[0].data_off;
		for (uint64_t i = 0; i < g->n_tensor; i++) {
			assert_int_equal(g->tensor[i].off, off);
			off = align_up(off + g->tensor[i].size, align);
			q4_0 -= g->tensor[i].type == WT_Q4_0 ? g->tensor[i].size : 0;
			q6_k -= g->tensor[i].type == WT_Q6_K ? g->tensor[i].size : 0;
			f32 -= g->tensor[i].type == WT_F32 ? g->tensor[i].size : 0;
		}
		assert_int_equal(g->file[0].size, off);
		assert_int_equal(q4_0, 0);
		assert_int_equal(q6_k, 0);
		assert_int_equal(f32, 0);
		gguf_close(g);
	}
}

static int compare_str(const void *a, const void *b)
{
	const struct gguf_str *x = a, *y = b;

	return strcmp(x->p, y->p);
}

static void test_vocabulary_is_complete_and_has_no_token_twice(void **state)
{
	enum { N = 30000 };
	struct synth_params p = params(in_dir("vocab.gguf"));
	struct gguf_array text, score, type;
	struct gguf_str *sorted;
	char name[16];
	struct gguf *g;

	p.n_vocab = N;
	p.n_layer = 1;
	g = make_and_open(&p);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &text, NULL), 0);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, &score, NULL), 0);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, &type, NULL), 0);
	assert_int_equal(text.n, N);
	assert_int_equal(score.n, N);
	assert_int_equal(type.n, N);
	assert_string_equal(text.str[u32_of(g, "tokenizer.ggml.unknown_token_id")].p, "<unk>");
	assert_string_equal(text.str[u32_of(g, "tokenizer.ggml.bos_token_id")].p, "<s>");
	assert_string_equal(text.str[u32_of(g, "tokenizer.ggml.eos_token_id")].p, "</s>");
	for (int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "<0x%02X>", i);
		assert_string_equal(text.str[3 + i].p, name);
		assert_int_equal(((const int32_t *)type.num)[3 + i], 6);
	}
	sorted = malloc(N * sizeof(*sorted));
	assert_non_null(sorted);
	memcpy(sorted, text.str, N * sizeof(*sorted));
	qsort(sorted, N, sizeof(*sorted), compare_str);
	for (int i = 0; i < N; i++) {
		assert_true(sorted[i].len > 0);
		if (i && !compare_str(&sorted[i - 1], &sorted[i]))
			fail_msg("token '%s' is there twice", sorted[i].p);
	}
	free(sorted);
	gguf_close(g);
}

/* ---- failure ---- */

struct watch {
	volatile int cancel;
	int stop; /* at the first progress */
	unsigned int calls;
	uint64_t done, total;
};

static void watch(void *arg, uint64_t done, uint64_t total)
{
	struct watch *w = arg;

	w->calls++;
	assert_true(done >= w->done && done <= total);
	w->done = done;
	w->total = total;
	if (w->stop) /* threads read it meanwhile */
		__atomic_store_n(&w->cancel, 1, __ATOMIC_RELAXED);
}

static void test_progress_ends_at_the_total(void **state)
{
	struct synth_params p = params(in_dir("progress.gguf"));
	struct watch w = {0};

	p.progress = watch;
	p.arg = &w;
	p.cancel = &w.cancel;
	make(&p);
	assert_true(w.calls > 0);
	assert_true(w.total > 10000000);
	assert_true(w.done == w.total);
}

static void test_interrupted_leaves_nothing(void **state)
{
	struct synth_params p = params(in_dir("interrupted.gguf"));
	struct watch w = {.stop = 1};
	unsigned int before = files_in_dir();
	struct err err = {""};
	uint64_t hash;

	p.n_layer = 30;
	p.progress = watch;
	p.arg = &w;
	p.cancel = &w.cancel;
	assert_int_equal(synth_model(&p, &err), -EINTR);
	assert_non_null(strstr(err.text, "interrupted.gguf"));
	assert_true(w.done < w.total);
	assert_int_equal(files_in_dir(), before);

	/* and what was there stays */
	p.n_layer = 1;
	p.cancel = NULL;
	w.done = 0;
	make(&p);
	hash = hash_file(p.path);
	w = (struct watch){.cancel = 1};
	p.cancel = &w.cancel;
	assert_int_equal(synth_model(&p, &err), -EINTR);
	assert_true(hash_file(p.path) == hash);
	assert_int_equal(files_in_dir(), before + 1);
}

static void refused(struct synth_params p, int code, const char *what)
{
	unsigned int before = files_in_dir();
	struct err err = {""};
	int ret = synth_model(&p, &err);

	if (ret != code)
		fail_msg("code %d instead of %d: %s", ret, code, err.text);
	if (!strstr(err.text, what) || !strstr(err.text, "bad.gguf"))
		fail_msg("the sentence should say '%s': %s", what, err.text);
	assert_int_equal(files_in_dir(), before);
}

#define WITH(field, value)                                                                         \
	({                                                                                         \
		struct synth_params with_ = params(in_dir("bad.gguf"));                            \
		with_.field = value;                                                               \
		with_;                                                                             \
	})

static void test_parameters_that_make_no_model_are_refused(void **state)
{
	struct synth_params p;

	refused(WITH(arch, "mamba"), -EINVAL, "'mamba'");
	refused(WITH(n_layer, 0), -EINVAL, "at least 1");
	refused(WITH(n_embd, 0), -EINVAL, "at least 1");
	refused(WITH(n_head, 0), -EINVAL, "at least 1");
	refused(WITH(n_head_kv, 0), -EINVAL, "at least 1");
	refused(WITH(n_vocab, 258), -EINVAL, "259");
	refused(WITH(n_head, 15), -EINVAL, "1024 cannot be shared out among 15");
	refused(WITH(n_head_kv, 3), -EINVAL, "16 heads cannot share 3");
	refused(WITH(head_dim, 63), -EINVAL, "odd");
	refused(WITH(n_ff, 2817), -EINVAL, "2817");
	refused(WITH(type, (enum wtype)4), -EINVAL, "type 4");
	refused(WITH(output_type, 99), -EINVAL, "type 99");
	refused(WITH(alignment, 33), -EINVAL, "33");
	p = WITH(type, WT_Q4_K);
	p.n_embd = 1056;
	refused(p, -EINVAL, "1056, which is no multiple of Q4_K's block of 256");
	p = WITH(output_type, WT_Q6_K);
	p.n_embd = 1056;
	refused(p, -EINVAL, "Q6_K's block");
}

static void test_model_larger_than_the_disk_is_refused_at_once(void **state)
{
	struct synth_params p = params(in_dir("bad.gguf"));

	p.type = WT_F32;
	p.n_layer = 500;
	p.n_embd = 1 << 20;
	p.n_ff = 1 << 22;
	refused(p, -ENOSPC, "free some space");
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(bytes_are_the_known_ones),
		T(threads_do_not_show_in_the_bytes),
		T(file_system_does_not_show_in_the_bytes),
		T(seed_changes_every_matrix),
		T(layers_do_not_depend_on_their_number),
		T(weights_have_the_promised_spread_in_every_type),
		T(norms_and_biases_are_small_perturbations),
		T(llama_has_its_keys_and_tensors_in_order),
		T(qwen2_has_biases),
		T(qwen3_has_head_norms_and_its_head_dimension),
		T(output_type_and_tying),
		T(size_is_as_predicted),
		T(vocabulary_is_complete_and_has_no_token_twice),
		T(progress_ends_at_the_total),
		T(interrupted_leaves_nothing),
		T(parameters_that_make_no_model_are_refused),
		T(model_larger_than_the_disk_is_refused_at_once),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
