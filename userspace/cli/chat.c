// SPDX-License-Identifier: MIT
/*
 * weir chat: a conversation in the terminal.
 *
 * Each turn the whole conversation is rendered and tokenized again, and what the KV cache
 * already holds of it is kept: whatever a template does to earlier turns, the model sees
 * exactly what the template says.
 */
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

struct chat_args {
	struct common c;
	const char *system, *template;
};

enum { OPT_TEMPLATE = OPT_OWN };

static const struct argp_option options[] = {
	{"system", 's', "TEXT", 0, "System message", 0},
	{"chat-template", OPT_TEMPLATE, "NAME", 0,
	 "Chat template to use instead of the model's: chatml, llama3, mistral, gemma, ...", 0},
	{0},
};

static error_t parse(int key, char *arg, struct argp_state *st)
{
	struct chat_args *a = st->input;

	switch (key) {
	case ARGP_KEY_INIT:
		st->child_inputs[0] = &a->c;
		return 0;
	case 's':
		a->system = arg;
		return 0;
	case OPT_TEMPLATE:
		if (!chat_template_by_name(arg)) {
			struct strbuf names = {0};

			for (unsigned int i = 0; chat_template_name(i); i++)
				strbuf_printf(&names, " %s", chat_template_name(i));
			argp_error(st, "--chat-template: '%s' is not known; these are:%s", arg,
				   names.p);
		}
		a->template = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
static const struct argp argp = {
	options,  parse,
	"MODEL",  "A conversation in the terminal. End with Ctrl-D; Ctrl-C stops an answer.",
	children, NULL,
	NULL};

struct chat {
	struct session *s;
	struct generator g;
	const struct chat_template *tmpl;
	struct chat_message *msg;
	size_t n_msg, cap_msg;
	struct token_list cached; /* what the KV cache holds */
	uint32_t n_predict;

	EditLine *el; /* NULL without a terminal */
	History *history;
};

static int add_message(struct chat *ch, const char *role, const char *content, size_t len)
{
	char *copy = strndup(content, len);

	if (ch->n_msg == ch->cap_msg) {
		size_t cap = ch->cap_msg ? ch->cap_msg * 2 : 16;
		void *p = realloc(ch->msg, cap * sizeof(*ch->msg));

		if (!p) {
			free(copy);
			return -ENOMEM;
		}
		ch->msg = p;
		ch->cap_msg = cap;
	}
	if (!copy)
		return -ENOMEM;
	ch->msg[ch->n_msg++] = (struct chat_message){role, copy};
	return 0;
}

/* Feeds what of the rendered conversation is not in the cache yet. */
static int feed_conversation(struct chat *ch, struct err *err)
{
	const struct tokenizer *t = ch->s->tok;
	struct token_list ids = {0};
	struct strbuf text = {0};
	size_t same = 0;
	int r;

	r = chat_render(ch->tmpl, ch->msg, ch->n_msg, true, tokenizer_adds_bos(t), &text, err);
	if (!r)
		r = tokenize(t, text.p, text.len, TOKENIZE_BOS | TOKENIZE_SPECIAL, &ids, err);
	if (r)
		goto out;
	while (same + 1 < ids.n && same < ch->cached.n && ids.id[same] == ch->cached.id[same])
		same++;
	session_rewind(ch->s, (uint32_t)same);
	ch->cached.n = same;
	r = generator_prompt(&ch->g, ids.id + same, ids.n - same, err);
	for (size_t i = same; !r && i < ids.n; i++)
		r = token_list_add(&ch->cached, ids.id[i]);
out:
	token_list_free(&ids);
	strbuf_free(&text);
	return r;
}

/* Prints the answer as it comes and adds it to the conversation. Ctrl-C ends the answer alone. */
static int answer(struct chat *ch, struct err *err)
{
	struct strbuf all = {0};
	size_t shown = 0;
	int r = 1;

	for (uint32_t i = 0; r > 0 && i < ch->n_predict && !cli_cancel; i++) {
		int32_t id = ch->g.next;
		uint32_t past = ch->s->n_past;

		r = generator_step(&ch->g, i + 1 == ch->n_predict, &all, err);
		if (ch->s->n_past > past && token_list_add(&ch->cached, id))
			r = err_set(err, -ENOMEM, "out of memory for the conversation");
		fwrite(all.p + shown, 1, all.len - shown, stdout);
		fflush(stdout);
		shown = all.len;
	}
	putchar('\n');
	if (r == -EINTR)
		r = 0;
	if (r >= 0 && add_message(ch, "assistant", all.p ? all.p : "", all.len))
		r = err_set(err, -ENOMEM, "out of memory for the conversation");
	strbuf_free(&all);
	return r < 0 ? r : 0;
}

static char *prompt_text(EditLine *el)
{
	static char p[] = "> ";

	(void)el;
	return p;
}

static void line_open(struct chat *ch)
{
	HistEvent ev;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return;
	/* the line editor drops what is no character in the locale; numbers stay as they are */
	setlocale(LC_CTYPE, "");
	ch->el = el_init("weir", stdin, stdout, stderr);
	if (!ch->el)
		return;
	ch->history = history_init();
	history(ch->history, &ev, H_SETSIZE, 100);
	el_set(ch->el, EL_PROMPT, prompt_text);
	el_set(ch->el, EL_EDITOR, "emacs");
	el_set(ch->el, EL_HIST, history, ch->history);
}

static void line_close(struct chat *ch)
{
	if (ch->el)
		el_end(ch->el);
	if (ch->history)
		history_end(ch->history);
}

/* The user's next line without its newline; false at the end. */
static bool line_read(struct chat *ch, struct strbuf *line)
{
	const char *p = NULL;
	char *own = NULL;
	size_t cap = 0;
	int n;

	line->len = 0;
	if (ch->el) {
		p = el_gets(ch->el, &n);
	} else {
		n = (int)getline(&own, &cap, stdin);
		p = own;
	}
	if (!p || n <= 0 || strbuf_add(line, p, (size_t)n)) {
		free(own);
		return false;
	}
	free(own);
	while (line->len && (line->p[line->len - 1] == '\n' || line->p[line->len - 1] == '\r'))
		line->p[--line->len] = '\0';
	if (ch->el && line->len) {
		HistEvent ev;

		history(ch->history, &ev, H_ENTER, line->p);
	}
	return true;
}

/* Ctrl-C at the prompt is for the line editor; while an answer is made, it stops the answer. */
static int converse(struct chat *ch, struct err *err)
{
	struct strbuf line = {0};
	int r = 0;

	for (;;) {
		cli_cancel = 0;
		cli_catch_interrupt();
		if (r || cli_cancel || !line_read(ch, &line) || cli_cancel)
			break;
		if (!line.len)
			continue;
		r = add_message(ch, "user", line.p, line.len);
		if (r) {
			err_set(err, r, "out of memory for the conversation");
			break;
		}
		r = feed_conversation(ch, err);
		if (!r) {
			r = answer(ch, err);
		} else if (r == -EINTR && cli_cancel) {
			/* stopped before the first word: the question is taken back */
			free((char *)ch->msg[--ch->n_msg].content);
			fputs("\n", stdout);
			r = 0;
		}
	}
	strbuf_free(&line);
	return cli_cancel && !r ? err_set(err, -EINTR, "interrupted") : r;
}

int cmd_chat(int argc, char **argv)
{
	struct chat_args a = {.c = common_defaults()};
	struct chat ch = {0};
	struct session_params sp;
	struct err err = {""};
	int r;

	a.c.n_predict = 1024;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	cli_catch_interrupt();
	common_session(&a.c, &sp);
	r = session_open(&sp, &ch.s, &err);
	if (r)
		goto out;
	ch.n_predict = a.c.n_predict;
	ch.tmpl = a.template ? chat_template_by_name(a.template) : NULL;
	if (!ch.tmpl)
		r = chat_template_detect(ch.s->gguf, &ch.tmpl, &err);
	if (!r)
		r = generator_open(&ch.g, ch.s, &a.c.sampling, &err);
	if (!r && a.system && add_message(&ch, "system", a.system, strlen(a.system)))
		r = err_set(&err, -ENOMEM, "out of memory for the conversation");
	if (r)
		goto out;
	line_open(&ch);
	r = converse(&ch, &err);
	line_close(&ch);
out:
	if (r)
		r = cli_fail(r, &err);
	for (size_t i = 0; i < ch.n_msg; i++)
		free((char *)ch.msg[i].content);
	free(ch.msg);
	token_list_free(&ch.cached);
	generator_close(&ch.g);
	session_close(ch.s);
	return r;
}
