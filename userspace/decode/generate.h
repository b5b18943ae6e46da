/* SPDX-License-Identifier: MIT */
/*
 * The decode loop: feed the last token, sample the next, turn it into text.
 */
#ifndef WEIR_DECODE_GENERATE_H
#define WEIR_DECODE_GENERATE_H

#include "base/util.h"
#include "decode/sampler.h"
#include "decode/session.h"

struct generator {
	struct session *s;
	struct sampler *sampler;
	struct text_stream text;
	int32_t next;	 /* sampled and not yet fed; -1: none */
	bool given;	 /* its text has been given out: a step that failed may be repeated */
	bool ended;	 /* an end-of-generation token came */
	bool ignore_end; /* go on after it: benchmarks */

	uint64_t n_prompt, n_decode; /* tokens */
	uint64_t prompt_ns, decode_ns;
	uint64_t prompt_wait_ns, decode_wait_ns; /* of them waiting for flash */
	uint64_t decode_read_bytes;		 /* streamed while decoding */
	uint64_t seen_read_bytes;		 /* streamed up to the last step */
};

int generator_open(struct generator *g, struct session *s, const struct sampler_params *p,
		   struct err *err);
/* Forgets the context and begins anew, as just opened; the books go on. */
void generator_reset(struct generator *g);
void generator_close(struct generator *g);

/* Runs tokens as a prompt and samples what follows them. */
int generator_prompt(struct generator *g, const int32_t *id, size_t n, struct err *err);
/* Tokenizes text first; BOS only where the context is empty. *n_tok may be NULL. */
int generator_prompt_text(struct generator *g, const char *text, size_t len, size_t *n_tok,
			  struct err *err);

/*
 * One step: appends the text of the token sampled last, then runs it through the model to
 * sample the next. @last: it is the final one wanted, so the model is not run again.
 * Return: 1, 0 when the text has ended (held-back bytes are flushed), or a negative errno.
 */
int generator_step(struct generator *g, bool last, struct strbuf *out, struct err *err);

#endif
