// SPDX-License-Identifier: MIT
#include "decode/generate.h"

#include <errno.h>
#include <string.h>

int generator_open(struct generator *g, struct session *s, const struct sampler_params *p,
		   struct err *err)
{
	memset(g, 0, sizeof(*g));
	g->s = s;
	g->text.tok = s->tok;
	g->text.started = true; /* what follows a prompt keeps its leading space */
	g->next = -1;
	return sampler_open(p, s->model->hp.n_vocab, &g->sampler, err);
}

void generator_reset(struct generator *g)
{
	session_rewind(g->s, 0);
	sampler_reset(g->sampler);
	g->text.held.len = 0;
	g->text.started = true;
	g->next = -1;
	g->given = g->ended = false;
}

void generator_close(struct generator *g)
{
	sampler_close(g->sampler);
	text_stream_free(&g->text);
}

/* Feeds tokens, samples the next one, and adds the time to one side of the books. */
static int feed(struct generator *g, const int32_t *id, size_t n, bool decoding, struct err *err)
{
	struct source *src = g->s->src;
	struct source_stats before, after;
	uint64_t start = now_ns(), ns;
	int r;

	src->ops->stats(src, &before);
	r = session_feed(g->s, id, n, err);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		sampler_accept(g->sampler, id[i]);
	g->next = sampler_sample(g->sampler, session_logits(g->s));
	g->given = false;
	if (g->next < 0)
		return err_set(err, -EDOM,
			       "the model's output is not a number: the file may be damaged");
	src->ops->stats(src, &after);
	ns = now_ns() - start;
	if (decoding) {
		g->n_decode += n;
		g->decode_ns += ns;
		g->decode_wait_ns += after.wait_ns - before.wait_ns;
		g->decode_read_bytes += after.stream_read_bytes - g->seen_read_bytes;
	} else {
		g->n_prompt += n;
		g->prompt_ns += ns;
		g->prompt_wait_ns += after.wait_ns - before.wait_ns;
	}
	/* what was read ahead between two steps belongs to the later one */
	g->seen_read_bytes = after.stream_read_bytes;
	return 0;
}

int generator_prompt(struct generator *g, const int32_t *id, size_t n, struct err *err)
{
	int r;

	if (n == 0)
		return err_set(err, -EINVAL, "a prompt needs at least one token");
	r = feed(g, id, n, false, err);
	if (r)
		return r;
	g->ended = false;
	/* the rest of a character that the answer before was cut in */
	g->text.held.len = 0;
	return 0;
}

int generator_prompt_text(struct generator *g, const char *text, size_t len, size_t *n_tok,
			  struct err *err)
{
	unsigned int flags = TOKENIZE_SPECIAL | (g->s->n_past ? 0 : TOKENIZE_BOS);
	struct token_list list = {0};
	int r;

	if (!g->s->tok)
		return err_set(err, -EINVAL,
			       "this model has no tokenizer that weir knows: give token ids");
	r = tokenize(g->s->tok, text, len, flags, &list, err);

	if (!r && list.n == 0)
		r = err_set(err, -EINVAL, "the prompt is empty: give at least one character (-p)");
	if (!r)
		r = generator_prompt(g, list.id, list.n, err);
	if (!r && n_tok)
		*n_tok = list.n;
	token_list_free(&list);
	return r;
}

int generator_step(struct generator *g, bool last, struct strbuf *out, struct err *err)
{
	int32_t id = g->next;
	int r;

	if (g->ended)
		return 0;
	if (id < 0)
		return err_set(err, -EINVAL, "there is no prompt to go on from");
	if (!g->ignore_end && g->s->tok && tokenizer_is_eog(g->s->tok, id)) {
		g->ended = true;
		return text_stream_flush(&g->text, out);
	}
	/* an id beyond the vocabulary, in the padding of an embedding, has no text */
	if (g->s->tok && !g->given && text_stream_feed(&g->text, id, out) == -ENOMEM)
		return err_set(err, -ENOMEM, "out of memory for text");
	g->given = true;
	if (last) {
		g->ended = true;
		r = text_stream_flush(&g->text, out);
		return r ? r : 1;
	}
	r = feed(g, &id, 1, true, err);
	return r ? r : 1;
}
