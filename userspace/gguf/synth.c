// SPDX-License-Identifier: MIT
/*
 * synth_model(): keys and vocabulary, the list of tensors, and the threads that fill them.
 *
 * The file's data part is cut into pieces of 4 MiB. Threads take the next piece, fill a
 * buffer with synth_fill.c and write it where it belongs; the calling thread waits, reports
 * progress and stops them. Who fills a piece, and when, does not show in its bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/gguf.h"
#include "gguf/internal.h"
#include "gguf/synth.h"
#include "gguf/synth_fill.h"

#define PIECE_BYTES (4ull << 20)
#define MAX_THREADS 256

enum {
	TOKEN_NORMAL = 1,
	TOKEN_UNKNOWN = 2,
	TOKEN_CONTROL = 3,
	TOKEN_BYTE = 6,
};

/* What differs between the architectures. */
struct arch {
	const char *name;
	float rope_base;
	float rms_eps;
	bool qkv_bias;
	bool qk_norm;
};

static const struct arch archs[] = {
	{"llama", 10000, 1e-5f, false, false},
	{"qwen2", 1000000, 1e-6f, true, false},
	{"qwen3", 1000000, 1e-6f, false, true},
};

struct synth {
	const struct synth_params *p;
	const struct arch *arch;
	uint32_t head_dim;
	uint32_t output_type, embd_type;
	struct gguf_writer *w;

	uint64_t n_tensor;
	struct fill *fill; /* [n_tensor] */
	uint64_t data_off, data_end, n_piece;

	/* shared by the threads, under lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t next_piece;
	uint64_t done_bytes;
	int n_running;
	int status; /* the first failure: everybody stops */
	struct err why;
};

/* ---- parameters ---- */

static int bad(const struct synth *s, struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(const struct synth *s, struct err *err, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return err_set(err, -EINVAL, "cannot make '%s': %s", SHOW_PATH(s->p->path), why);
}

static int choose_arch(struct synth *s, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
		if (!strcmp(archs[i].name, s->p->arch))
			s->arch = &archs[i];
	if (!s->arch)
		return bad(s, err, "architecture '%.40s' is unknown, use llama, qwen2 or qwen3",
			   s->p->arch);
	return 0;
}

static int check_heads(struct synth *s, struct err *err)
{
	const struct synth_params *p = s->p;

	s->head_dim = p->head_dim;
	if (!s->head_dim) {
		if (p->n_embd % p->n_head)
			return bad(s, err,
				   "an embedding of %u cannot be shared out among %u heads, choose "
				   "other numbers or the head dimension",
				   p->n_embd, p->n_head);
		s->head_dim = p->n_embd / p->n_head;
	}
	if (s->head_dim % 2)
		return bad(s, err, "the head dimension %u is odd, rotary embedding needs pairs",
			   s->head_dim);
	if (p->n_head % p->n_head_kv)
		return bad(s, err, "%u heads cannot share %u key-value heads", p->n_head,
			   p->n_head_kv);
	if ((uint64_t)p->n_head * s->head_dim > UINT32_MAX)
		return bad(s, err, "%u heads of %u are too many", p->n_head, s->head_dim);
	return 0;
}

static int choose_types(struct synth *s, struct err *err)
{
	const struct synth_params *p = s->p;

	if (!wtype_info(p->type))
		return bad(s, err, "weight type %u is unknown", (unsigned int)p->type);
	if (p->output_type != SYNTH_OUTPUT_DEFAULT) {
		if (p->output_type < 0 || !wtype_info((uint32_t)p->output_type))
			return bad(s, err, "weight type %d is unknown", p->output_type);
		s->output_type = s->embd_type = (uint32_t)p->output_type;
		return 0;
	}
	s->output_type = p->type;
	if (p->type == WT_Q4_0 && p->n_embd % wtype_info(WT_Q6_K)->block_elems == 0)
		s->output_type = WT_Q6_K;
	s->embd_type = p->tied ? s->output_type : p->type;
	return 0;
}

/* Rows must be whole blocks. */
static int check_row(const struct synth *s, const char *what, uint64_t n, uint32_t type,
		     struct err *err)
{
	const struct wtype_info *info = wtype_info(type);

	if (n % info->block_elems)
		return bad(
			s, err,
			"%s is %" PRIu64
			", which is no multiple of %s's block of %u: choose another size or type",
			what, n, info->name, info->block_elems);
	return 0;
}

static int check_params(struct synth *s, struct err *err)
{
	const struct synth_params *p = s->p;
	int ret;

	if (!p->n_layer || !p->n_embd || !p->n_ff || !p->n_head || !p->n_head_kv || !p->n_ctx)
		return bad(
			s, err,
			"layers, embedding, feed-forward, heads, key-value heads and context must "
			"all be at least 1");
	if (p->n_vocab < SYNTH_MIN_VOCAB || p->n_vocab > INT32_MAX)
		return bad(s, err, "a vocabulary of %u tokens is not possible, the least is %u",
			   p->n_vocab, SYNTH_MIN_VOCAB);
	ret = choose_arch(s, err);
	if (!ret)
		ret = check_heads(s, err);
	if (!ret)
		ret = choose_types(s, err);
	if (!ret)
		ret = check_row(s, "the embedding", p->n_embd, p->type, err);
	if (!ret)
		ret = check_row(s, "the embedding", p->n_embd, s->output_type, err);
	if (!ret)
		ret = check_row(s, "the feed-forward size", p->n_ff, p->type, err);
	if (!ret)
		ret = check_row(s, "heads times head dimension", (uint64_t)p->n_head * s->head_dim,
				p->type, err);
	return ret;
}

/* ---- metadata ---- */

static const char *arch_key(const struct synth *s, const char *name, char buf[static 96])
{
	snprintf(buf, 96, "%s.%s", s->arch->name, name);
	return buf;
}

static void arch_u32(struct synth *s, const char *name, uint32_t v)
{
	char key[96];

	gguf_write_u32(s->w, arch_key(s, name, key), v);
}

static void arch_f32(struct synth *s, const char *name, float v)
{
	char key[96];

	gguf_write_f32(s->w, arch_key(s, name, key), v);
}

/* Failures stick to the writer. */
static void declare_keys(struct synth *s)
{
	const struct synth_params *p = s->p;
	char name[96];

	snprintf(name, sizeof(name), "weir synth %s %ux%u %s", s->arch->name, p->n_layer, p->n_embd,
		 wtype_info(p->type)->name);
	gguf_write_str(s->w, "general.architecture", s->arch->name);
	gguf_write_str(s->w, "general.name", name);
	gguf_write_u32(s->w, "general.quantization_version", 2);
	arch_u32(s, "block_count", p->n_layer);
	arch_u32(s, "context_length", p->n_ctx);
	arch_u32(s, "embedding_length", p->n_embd);
	arch_u32(s, "feed_forward_length", p->n_ff);
	arch_u32(s, "attention.head_count", p->n_head);
	arch_u32(s, "attention.head_count_kv", p->n_head_kv);
	if (s->arch->qk_norm || (uint64_t)s->head_dim * p->n_head != p->n_embd) {
		arch_u32(s, "attention.key_length", s->head_dim);
		arch_u32(s, "attention.value_length", s->head_dim);
	}
	arch_f32(s, "attention.layer_norm_rms_epsilon", s->arch->rms_eps);
	arch_f32(s, "rope.freq_base", s->arch->rope_base);
	arch_u32(s, "rope.dimension_count", s->head_dim);
	arch_u32(s, "vocab_size", p->n_vocab);
}

/* Word number n of its own language: two letters a syllable, all words different. */
static void word(uint32_t n, char *buf)
{
	static const char consonants[] = "bcdfghjklmnprstvwxyz", vowels[] = "aeiou";
	const uint32_t n_syllable = (sizeof(consonants) - 1) * (sizeof(vowels) - 1);

	for (n++; n; n = (n - 1) / n_syllable) {
		uint32_t syllable = (n - 1) % n_syllable;

		*buf++ = consonants[syllable / (sizeof(vowels) - 1)];
		*buf++ = vowels[syllable % (sizeof(vowels) - 1)];
	}
	*buf = '\0';
}

/* Text and kind of a token. SentencePiece writes a space as U+2581. */
static int32_t token(uint32_t id, char buf[static 48])
{
	static const char *const special[] = {"<unk>", "<s>", "</s>"};
	static const char space[] = "\xe2\x96\x81";
	const uint32_t n_ascii = '~' - '!' + 1;

	if (id < ARRAY_SIZE(special)) {
		snprintf(buf, 48, "%s", special[id]);
		return id ? TOKEN_CONTROL : TOKEN_UNKNOWN;
	}
	id -= ARRAY_SIZE(special);
	if (id < 256) {
		snprintf(buf, 48, "<0x%02X>", id);
		return TOKEN_BYTE;
	}
	id -= 256;
	if (!id) {
		snprintf(buf, 48, "%s", space);
	} else if (id <= n_ascii) {
		snprintf(buf, 48, "%c", (char)('!' + id - 1));
	} else {
		id -= n_ascii + 1;
		buf[0] = '\0';
		if (id % 2 == 0)
			snprintf(buf, 48, "%s", space);
		word(id / 2, buf + strlen(buf));
	}
	return TOKEN_NORMAL;
}

struct vocab {
	struct arena arena;
	struct gguf_str *text;
	float *score;
	int32_t *type;
};

/* Earlier tokens are merged first. */
static int make_vocab(struct vocab *v, uint32_t n)
{
	char buf[48], *copy;
	size_t len;

	v->text = calloc(n, sizeof(*v->text));
	v->score = calloc(n, sizeof(*v->score));
	v->type = calloc(n, sizeof(*v->type));
	if (!v->text || !v->score || !v->type)
		return -ENOMEM;
	for (uint32_t id = 0; id < n; id++) {
		v->type[id] = token(id, buf);
		v->score[id] = v->type[id] == TOKEN_NORMAL ? -(float)id : 0;
		len = strlen(buf);
		copy = arena_alloc(&v->arena, len + 1, 1);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, buf, len + 1);
		v->text[id] = (struct gguf_str){copy, len};
	}
	return 0;
}

static void declare_array(struct synth *s, const char *key, struct gguf_array arr)
{
	struct gguf_kv kv = {.key = {key, strlen(key)}, .type = GGUF_ARRAY, .arr = arr};

	gguf_write_kv(s->w, &kv);
}

static int declare_vocab(struct synth *s, struct err *err)
{
	uint32_t n = s->p->n_vocab;
	struct vocab v = {.text = NULL};
	int ret;

	ret = make_vocab(&v, n);
	if (ret) {
		err_set(err, ret, "cannot make '%s': not enough memory for %u tokens",
			SHOW_PATH(s->p->path), n);
		goto out;
	}
	gguf_write_str(s->w, "tokenizer.ggml.model", "llama");
	declare_array(s, "tokenizer.ggml.tokens",
		      (struct gguf_array){GGUF_STRING, n, {.str = v.text}});
	declare_array(s, "tokenizer.ggml.scores",
		      (struct gguf_array){GGUF_F32, n, {.num = v.score}});
	declare_array(s, "tokenizer.ggml.token_type",
		      (struct gguf_array){GGUF_I32, n, {.num = v.type}});
	gguf_write_u32(s->w, "tokenizer.ggml.unknown_token_id", 0);
	gguf_write_u32(s->w, "tokenizer.ggml.bos_token_id", 1);
	gguf_write_u32(s->w, "tokenizer.ggml.eos_token_id", 2);
	gguf_write_bool(s->w, "tokenizer.ggml.add_bos_token", true);
	gguf_write_bool(s->w, "tokenizer.ggml.add_eos_token", false);
out:
	free(v.text);
	free(v.score);
	free(v.type);
	arena_free(&v.arena);
	return ret;
}

/* ---- tensors ---- */

/* FNV-1a: a tensor's stream depends on its name, not on its place in the file. */
static uint64_t hash_name(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return h;
}

/* n_out 0: a vector of n_in */
static int add(struct synth *s, enum fill_kind kind, uint32_t type, uint64_t n_in, uint64_t n_out,
	       const char *name)
{
	const uint64_t ne[] = {n_in, n_out};
	struct fill *fill;

	fill = gguf_grow(s->fill, s->n_tensor, sizeof(*fill));
	if (!fill)
		return -ENOMEM;
	s->fill = fill;
	fill_init(&fill[s->n_tensor++], type, kind, n_in, hash_name(name) ^ s->p->seed);
	return gguf_write_tensor(s->w, name, type, n_out ? 2 : 1, ne);
}

/* Every part of a layer that some architecture has, in the order of the file. */
static int add_layer(struct synth *s, uint32_t layer)
{
	const struct synth_params *p = s->p;
	const uint64_t embd = p->n_embd, ff = p->n_ff, hd = s->head_dim;
	const uint64_t q = p->n_head * hd, kv = p->n_head_kv * hd;
	const bool bias = s->arch->qkv_bias, norm = s->arch->qk_norm;
	const struct {
		const char *name;
		enum fill_kind kind;
		bool present;
		uint64_t n_in, n_out;
	} part[] = {
		{"attn_norm.weight", FILL_NORM, true, embd, 0},
		{"attn_q.weight", FILL_WEIGHTS, true, embd, q},
		{"attn_k.weight", FILL_WEIGHTS, true, embd, kv},
		{"attn_v.weight", FILL_WEIGHTS, true, embd, kv},
		{"attn_q.bias", FILL_BIAS, bias, q, 0},
		{"attn_k.bias", FILL_BIAS, bias, kv, 0},
		{"attn_v.bias", FILL_BIAS, bias, kv, 0},
		{"attn_q_norm.weight", FILL_NORM, norm, hd, 0},
		{"attn_k_norm.weight", FILL_NORM, norm, hd, 0},
		{"attn_output.weight", FILL_WEIGHTS, true, q, embd},
		{"ffn_norm.weight", FILL_NORM, true, embd, 0},
		{"ffn_gate.weight", FILL_WEIGHTS, true, embd, ff},
		{"ffn_up.weight", FILL_WEIGHTS, true, embd, ff},
		{"ffn_down.weight", FILL_WEIGHTS, true, ff, embd},
	};
	char name[64];
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(part) && !ret; i++) {
		if (!part[i].present)
			continue;
		snprintf(name, sizeof(name), "blk.%u.%s", layer, part[i].name);
		ret = add(s, part[i].kind, part[i].kind == FILL_WEIGHTS ? p->type : WT_F32,
			  part[i].n_in, part[i].n_out, name);
	}
	return ret;
}

static int declare_tensors(struct synth *s, struct err *err)
{
	const struct synth_params *p = s->p;
	int ret;

	ret = add(s, FILL_WEIGHTS, s->embd_type, p->n_embd, p->n_vocab, "token_embd.weight");
	for (uint32_t i = 0; i < p->n_layer && !ret; i++)
		ret = add_layer(s, i);
	if (!ret)
		ret = add(s, FILL_NORM, WT_F32, p->n_embd, 0, "output_norm.weight");
	if (!ret && !p->tied)
		ret = add(s, FILL_WEIGHTS, s->output_type, p->n_embd, p->n_vocab, "output.weight");
	if (ret == -ENOMEM)
		return err_set(err, ret, "cannot make '%s': not enough memory", SHOW_PATH(p->path));
	return 0; /* what else failed is the writer's to say */
}

/* ---- filling ---- */

/*
 * The data part is cut into pieces that end at multiples of PIECE_BYTES in the file, whatever
 * tensors these hold, so that all but its ragged ends can be written past the page cache:
 * that is faster, and does not push out of it what others need.
 */
static uint64_t piece_start(const struct synth *s, uint64_t piece)
{
	uint64_t at = align_down(s->data_off, PIECE_BYTES) + piece * PIECE_BYTES;

	return piece ? MIN(at, s->data_end) : s->data_off;
}

static void cut_into_pieces(struct synth *s)
{
	uint64_t first = gguf_writer_tensor(s->w, 0)->off;
	const struct gguf_tensor *last = gguf_writer_tensor(s->w, s->n_tensor - 1);

	s->data_off = first;
	s->data_end = last->off + last->size;
	s->n_piece =
		(align_up(s->data_end, PIECE_BYTES) - align_down(first, PIECE_BYTES)) / PIECE_BYTES;
}

/* The tensor that holds a byte of the file, or ends before it: the last that starts so early. */
static uint64_t tensor_at(const struct synth *s, uint64_t off)
{
	uint64_t lo = 0, hi = s->n_tensor, mid;

	while (hi - lo > 1) {
		mid = lo + (hi - lo) / 2;
		if (gguf_writer_tensor(s->w, mid)->off <= off)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* Bytes off .. end-1 of the file: tensors, and zeros between them. */
static void fill_piece(const struct synth *s, uint8_t *buf, uint64_t off, uint64_t end)
{
	const struct gguf_tensor *t;
	uint64_t from, to;

	memset(buf, 0, end - off);
	for (uint64_t i = tensor_at(s, off); i < s->n_tensor; i++) {
		t = gguf_writer_tensor(s->w, i);
		if (t->off >= end)
			break;
		from = MAX(t->off, off);
		to = MIN(t->off + t->size, end);
		if (from < to)
			fill_range(&s->fill[i], buf + (from - off), from - t->off, to - from);
	}
}

static bool cancelled(const struct synth *s)
{
	return s->p->cancel && __atomic_load_n(s->p->cancel, __ATOMIC_RELAXED);
}

/* One piece, from the random numbers to the file. */
static int do_piece(const struct synth *s, uint64_t piece, uint8_t *buf, struct err *err)
{
	uint64_t off = piece_start(s, piece), end = piece_start(s, piece + 1);
	uint8_t *at = buf + off % PAGE_4K; /* as gguf_writer_put() likes it */

	if (cancelled(s))
		return err_set(err, -EINTR, "'%s' was not made: interrupted",
			       SHOW_PATH(s->p->path));
	fill_piece(s, at, off, end);
	return gguf_writer_put(s->w, at, off, end - off, err);
}

static void *worker(void *arg)
{
	struct synth *s = arg;
	uint8_t *buf = aligned_alloc(PAGE_4K, PIECE_BYTES + PAGE_4K);
	uint64_t piece;
	struct err why;
	int code = 0;

	pthread_mutex_lock(&s->lock);
	if (!buf)
		code = err_set(&why, -ENOMEM, "cannot make '%s': not enough memory",
			       SHOW_PATH(s->p->path));
	while (!code && !s->status && s->next_piece < s->n_piece) {
		piece = s->next_piece++;
		pthread_mutex_unlock(&s->lock);
		code = do_piece(s, piece, buf, &why);
		pthread_mutex_lock(&s->lock);
		if (!code)
			s->done_bytes += piece_start(s, piece + 1) - piece_start(s, piece);
		pthread_cond_signal(&s->changed);
	}
	if (code && !s->status) {
		s->status = code;
		s->why = why;
	}
	s->n_running--;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	free(buf);
	return NULL;
}

static int thread_count(const struct synth *s)
{
	long n = s->p->n_threads;

	if (n <= 0)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : (int)MIN(n, (long)MAX_THREADS);
}

/* Until the last thread has ended. */
static void watch(struct synth *s)
{
	uint64_t shown = 0;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (s->p->progress && s->done_bytes != shown) {
			shown = s->done_bytes;
			pthread_mutex_unlock(&s->lock);
			s->p->progress(s->p->arg, shown, s->data_end - s->data_off);
			pthread_mutex_lock(&s->lock);
			continue;
		}
		if (!s->n_running)
			break;
		pthread_cond_wait(&s->changed, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
}

static int fill_all(struct synth *s, struct err *err)
{
	pthread_t thread[MAX_THREADS];
	int n = thread_count(s), started = 0, ret = 0;

	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->n_running = n;
	while (started < n && !ret) {
		ret = pthread_create(&thread[started], NULL, worker, s);
		started += !ret;
	}
	pthread_mutex_lock(&s->lock);
	s->n_running -= n - started;
	if (ret && !started)
		s->status = err_set(&s->why, -ret, "cannot start a thread: %s", strerror(ret));
	pthread_mutex_unlock(&s->lock);
	watch(s);
	for (int i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	return s->status ? err_set(err, s->status, "%s", s->why.text) : 0;
}

int synth_model(const struct synth_params *p, struct err *err)
{
	struct synth s = {.p = p};
	int ret;

	ret = check_params(&s, err);
	if (ret)
		return ret;
	ret = gguf_writer_open(p->path, p->alignment ? p->alignment : GGUF_DEFAULT_ALIGNMENT, &s.w,
			       err);
	if (ret)
		return ret;
	declare_keys(&s);
	ret = declare_vocab(&s, err);
	if (!ret)
		ret = declare_tensors(&s, err);
	if (!ret)
		ret = gguf_write_header(s.w, err);
	if (!ret) {
		cut_into_pieces(&s);
		ret = fill_all(&s, err);
	}
	if (ret)
		gguf_writer_close(s.w);
	else
		ret = gguf_writer_finish(s.w, err);
	free(s.fill);
	return ret;
}
