// SPDX-License-Identifier: MIT
/*
 * libweir's public functions (include/weir/weir.h) on top of session and generator.
 */
#include "weir/weir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "decode/generate.h"

struct weir {
	struct session *s;
	struct generator g;
	struct sampler_params sampling;
	struct strbuf text; /* generated and not yet handed out */
	size_t given;
	struct err err;
};

const char *weir_version(void)
{
	return WEIR_VERSION;
}

struct weir *weir_new(void)
{
	return calloc(1, sizeof(struct weir));
}

static void close_model(struct weir *w)
{
	if (!w->s)
		return;
	generator_close(&w->g);
	session_close(w->s);
	w->s = NULL;
}

void weir_free(struct weir *w)
{
	if (!w)
		return;
	close_model(w);
	strbuf_free(&w->text);
	free(w);
}

const char *weir_error(const struct weir *w)
{
	return w->err.text;
}

/* The size of version 0.1: what every caller has. */
#define OPTIONS_MIN (offsetof(struct weir_options, cancel) + sizeof(void *))

/* Copies what an older or newer caller's struct shares with ours; the rest are defaults. */
static int read_options(struct weir *w, const struct weir_options *in, struct weir_options *o)
{
	*o = (struct weir_options)WEIR_OPTIONS_INIT;
	if (!in)
		return 0;
	if (in->size < OPTIONS_MIN || in->size % sizeof(void *) || in->size > 4096)
		return err_set(&w->err, -EINVAL,
			       "weir_options.size is %zu: set it to sizeof(struct weir_options)",
			       in->size);
	memcpy(o, in, MIN(in->size, sizeof(*o)));
	return 0;
}

int weir_open(struct weir *w, const char *path, const struct weir_options *in)
{
	struct session_params p = {.kv_type = KV_AUTO, .need_text = true};
	struct weir_options o;
	int r;

	if (w->s)
		return err_set(&w->err, -EBUSY, "this handle has a model already: use another one");
	r = read_options(w, in, &o);
	if (r)
		return r;
	p.path = path;
	p.budget = o.budget;
	p.source = o.source;
	p.pre = o.pre;
	p.n_ctx = o.n_ctx;
	p.n_threads = (int)MIN(o.n_threads, 1u << 20);
	p.cancel = o.cancel;
	w->sampling = (struct sampler_params){
		.temp = o.temp,
		.top_k = o.top_k,
		.top_p = o.top_p,
		.min_p = o.min_p,
		.repeat_penalty = o.repeat_penalty,
		.seed = o.seed,
	};
	r = sampler_check(&w->sampling, &w->err);
	if (!r)
		r = session_open(&p, &w->s, &w->err);
	if (r)
		return r;
	r = generator_open(&w->g, w->s, &w->sampling, &w->err);
	if (r) {
		session_close(w->s);
		w->s = NULL;
	}
	return r;
}

int weir_prompt(struct weir *w, const char *text, ptrdiff_t len)
{
	size_t n_tok;
	int r;

	if (!w->s)
		return err_set(&w->err, -EINVAL, "no model is open");
	r = generator_prompt_text(&w->g, text, len < 0 ? strlen(text) : (size_t)len, &n_tok,
				  &w->err);
	return r ? r : (int)MIN(n_tok, (size_t)INT32_MAX);
}

/* As much of text[given ..] as fits buf without cutting a character. */
static int hand_out(struct weir *w, char *buf, size_t size)
{
	size_t n = MIN(w->text.len - w->given, size - 1);
	const char *p = w->text.p + w->given;

	while (n < w->text.len - w->given && n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80)
		n--;
	memcpy(buf, p, n);
	buf[n] = '\0';
	w->given += n;
	if (w->given == w->text.len)
		w->given = w->text.len = 0;
	return (int)n;
}

int weir_next(struct weir *w, char *buf, size_t size)
{
	int r = 1;

	if (!w->s)
		return err_set(&w->err, -EINVAL, "no model is open");
	if (size < 64)
		return err_set(&w->err, -EINVAL,
			       "weir_next: a buffer of %zu bytes is too small: give 64 or more",
			       size);
	while (r > 0 && w->text.len == w->given)
		r = generator_step(&w->g, false, &w->text, &w->err);
	/* text that came before a failure is given first; the next call fails again */
	if (w->text.len > w->given)
		return hand_out(w, buf, size);
	return r;
}

void weir_reset(struct weir *w)
{
	if (!w->s)
		return;
	generator_reset(&w->g);
	w->text.len = w->given = 0;
}

int weir_stats(const struct weir *w, struct weir_stats *st)
{
	struct weir_stats full = {0};
	struct source_stats src;
	size_t size = st->size;

	if (!w->s || size < sizeof(size_t))
		return -EINVAL;
	w->s->src->ops->stats(w->s->src, &src);
	full.size = size;
	full.sweep_bytes = w->s->plan->sweep_bytes;
	full.pinned_bytes = w->s->plan->pinned_bytes;
	full.stream_bytes = w->s->plan->stream_bytes;
	full.pool_bytes = w->s->plan->pool_bytes;
	full.flash_read_bytes = src.flash_read_bytes;
	full.n_prompt = w->g.n_prompt;
	full.n_decode = w->g.n_decode;
	full.prompt_ns = w->g.prompt_ns;
	full.decode_ns = w->g.decode_ns;
	full.stall_ns = w->g.prompt_wait_ns + w->g.decode_wait_ns;
	memcpy(st, &full, MIN(size, sizeof(full)));
	return 0;
}
