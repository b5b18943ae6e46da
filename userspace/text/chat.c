// SPDX-License-Identifier: MIT
/*
 * Chat templates: a conversation as the one text that a model was trained on.
 *
 * A model carries its template as a Jinja program. weir runs no such program: it knows the
 * families that most models belong to, recognises a family by strings that only its programs
 * hold, and renders it from a table. Words:
 *
 *   turn      one message: what goes before its text, the text, what goes after it
 *   place     where a system message goes: a turn of its own, or into a user's turn
 *   prompt    the opening of the assistant's turn that the model is to fill
 *
 * A template that only resembles a known family must not be taken for it: a model answers a
 * wrong frame with nonsense that looks like a fault of the weights. What a program does only
 * for tools, images or documents is not rendered.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/text.h"
#include "text/vocab.h"

enum role {
	SYSTEM,
	USER,
	ASSISTANT,
	N_ROLE,
};

enum place {
	OWN_TURN,
	FIRST_USER, /* before the text of the next user's turn */
	LAST_USER,  /* before the text of the last user's turn */
};

enum {
	TRIM_SYSTEM = 1, /* white space at both ends of the text goes */
	TRIM_USER = 2,
	TRIM_ANSWER = 4,
	TRIM_ALL = TRIM_SYSTEM | TRIM_USER | TRIM_ANSWER,
	TRIM_JOINED = 8,    /* with the system message before it, not text by itself */
	DROP_THOUGHTS = 16, /* of earlier answers, all up to </think> */
	DROP_NEWLINES = 32, /* and the newlines after it */
	BOS_EACH_USER = 64, /* BOS again before each user's turn */
};

struct turn {
	const char *before, *after;
};

#define MAX_MARKS 3

struct chat_template {
	const char *name;
	/*
	 * Strings that a program of this family holds, and one that it does not (or NULL),
	 * in a program whose quotes are all ' and whose \n are newlines.
	 */
	const char *has[MAX_MARKS];
	const char *lacks;
	const char *eos; /* the file's EOS token, where the program prints that, or NULL */
	const char *bos;
	const char *head; /* before the first turn, or NULL */
	struct turn turn[N_ROLE];
	enum place place;
	struct turn joined; /* around a system message within a user's turn */
	const char *system; /* where the conversation has none, or NULL */
	const char *prompt;
	unsigned int flags;
};

#define IM(role)                                                                                   \
	{                                                                                          \
		"<|im_start|>" role "\n", "<|im_end|>\n"                                           \
	}
#define CHATML_TURNS                                                                               \
	.turn = {IM("system"), IM("user"), IM("assistant")}, .prompt = "<|im_start|>assistant\n"

#define IM_SEP(role)                                                                               \
	{                                                                                          \
		"<|im_start|>" role "<|im_sep|>", "<|im_end|>"                                     \
	}

#define HEADER(role)                                                                               \
	{                                                                                          \
		"<|start_header_id|>" role "<|end_header_id|>\n\n", "<|eot_id|>"                   \
	}
#define LLAMA3_PROMPT "<|start_header_id|>assistant<|end_header_id|>\n\n"
/* Llama 3.1 says so in every system message; the date is the program's own default. */
#define LLAMA31_DATES "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

#define LLAMA4(role)                                                                               \
	{                                                                                          \
		"<|header_start|>" role "<|header_end|>\n\n", "<|eot|>"                            \
	}

#define BAR(role, end)                                                                             \
	{                                                                                          \
		"<|" role "|>\n", end "\n"                                                         \
	}
#define BAR_TURNS(end)                                                                             \
	.turn = {BAR("system", end), BAR("user", end), BAR("assistant", end)},                     \
	.prompt = "<|assistant|>\n"

#define COHERE(role)                                                                               \
	{                                                                                          \
		"<|START_OF_TURN_TOKEN|><|" role "_TOKEN|>", "<|END_OF_TURN_TOKEN|>"               \
	}

/* DeepSeek's marks are written with U+FF5C and U+2581. */
#define DS_BOS	     "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
#define DS_EOS	     "<\uff5cend\u2581of\u2581sentence\uff5c>"
#define DS_USER	     "<\uff5cUser\uff5c>"
#define DS_ASSISTANT "<\uff5cAssistant\uff5c>"

#define HARMONY(role)                                                                              \
	{                                                                                          \
		"<|start|>" role "<|message|>", "<|end|>"                                          \
	}

/* Looked through in this order: a family comes before those whose marks it also has. */
static const struct chat_template templates[] = {
	{.name = "phi4",
	 .has = {"<|im_start|>", "<|im_sep|>"},
	 .turn = {IM_SEP("system"), IM_SEP("user"), IM_SEP("assistant")},
	 .prompt = "<|im_start|>assistant<|im_sep|>"},
	{.name = "qwen2.5",
	 .has = {"<|im_start|>",
		 "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"},
	 .system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
	 CHATML_TURNS},
	{.name = "qwen2",
	 .has = {"<|im_start|>", "You are a helpful assistant.<|im_end|>"},
	 .system = "You are a helpful assistant.",
	 CHATML_TURNS},
	{.name = "qwen1.5",
	 .has = {"<|im_start|>", "You are a helpful assistant<|im_end|>"},
	 .system = "You are a helpful assistant",
	 CHATML_TURNS},
	{.name = "smollm2",
	 .has = {"<|im_start|>",
		 "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"},
	 .system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
	 CHATML_TURNS},
	{.name = "qwq",
	 .has = {"'<|im_start|>assistant\n<think>\n'", "split('</think>')[-1].lstrip('\n')"},
	 .turn = {IM("system"), IM("user"), IM("assistant")},
	 .prompt = "<|im_start|>assistant\n<think>\n",
	 .flags = DROP_THOUGHTS | DROP_NEWLINES},
	{.name = "qwen3.5",
	 .has = {"'<|im_start|>assistant\n'", "{{- '<think>\n' }}",
		 "split('</think>')[-1].lstrip('\n')"},
	 .turn = {IM("system"), IM("user"), IM("assistant")},
	 .prompt = "<|im_start|>assistant\n<think>\n",
	 .flags = TRIM_ALL | DROP_THOUGHTS | DROP_NEWLINES},
	{.name = "qwen3",
	 .has = {"<|im_start|>", "split('</think>')[-1].lstrip('\n')"},
	 .flags = DROP_THOUGHTS | DROP_NEWLINES,
	 CHATML_TURNS},
	{.name = "chatml",
	 .has = {"<|im_start|>", "<|im_end|>"},
	 .lacks = "</think>",
	 CHATML_TURNS},
	{.name = "mistral-v7",
	 .has = {"[INST]", "[SYSTEM_PROMPT] "},
	 .bos = "<s>",
	 .turn = {{"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"}, {"[INST] ", "[/INST]"}, {" ", "</s>"}}},
	{.name = "mistral-v7-tekken",
	 .has = {"[INST]", "[SYSTEM_PROMPT]"},
	 .bos = "<s>",
	 .turn = {{"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, {"[INST]", "[/INST]"}, {"", "</s>"}}},
	{.name = "mistral-v1",
	 .has = {" [INST] ", " [/INST]"},
	 .bos = "<s>",
	 .turn = {[USER] = {" [INST] ", " [/INST]"}, [ASSISTANT] = {" ", "</s>"}},
	 .place = FIRST_USER,
	 .joined = {"", "\n\n"}},
	{.name = "mistral-v3",
	 .has = {"[AVAILABLE_TOOLS]", "[INST] "},
	 .bos = "<s>",
	 .turn = {[USER] = {"[INST] ", "[/INST]"}, [ASSISTANT] = {" ", "</s>"}},
	 .place = LAST_USER,
	 .joined = {"", "\n\n"},
	 .flags = TRIM_ANSWER},
	{.name = "mistral-v3-tekken",
	 .has = {"[AVAILABLE_TOOLS]", "[INST]"},
	 .bos = "<s>",
	 .turn = {[USER] = {"[INST]", "[/INST]"}, [ASSISTANT] = {"", "</s>"}},
	 .place = LAST_USER,
	 .joined = {"", "\n\n"}},
	{.name = "llama2",
	 .has = {"[INST]", "<<SYS>>"},
	 .bos = "<s>",
	 .turn = {[USER] = {"[INST] ", " [/INST]"}, [ASSISTANT] = {" ", " </s>"}},
	 .place = FIRST_USER,
	 .joined = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
	 .flags = TRIM_USER | TRIM_ANSWER | TRIM_JOINED | BOS_EACH_USER},
	{.name = "mistral-v0",
	 .has = {"'[INST] '", "' [/INST]'"},
	 .bos = "<s>",
	 .turn = {[USER] = {"[INST] ", " [/INST]"}, [ASSISTANT] = {"", "</s>"}},
	 .place = FIRST_USER,
	 .joined = {"", "\n\n"}},
	{.name = "llama3.1",
	 .has = {"<|start_header_id|>", "Cutting Knowledge Date: December 2023", "26 Jul 2024"},
	 .bos = "<|begin_of_text|>",
	 .turn = {{"<|start_header_id|>system<|end_header_id|>\n\n" LLAMA31_DATES, "<|eot_id|>"},
		  HEADER("user"),
		  HEADER("assistant")},
	 .system = "",
	 .prompt = LLAMA3_PROMPT,
	 .flags = TRIM_ALL},
	{.name = "llama3",
	 .has = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
	 .lacks = "tools",
	 .bos = "<|begin_of_text|>",
	 .turn = {HEADER("system"), HEADER("user"), HEADER("assistant")},
	 .prompt = LLAMA3_PROMPT,
	 .flags = TRIM_ALL},
	{.name = "llama4",
	 .has = {"<|header_start|>", "<|header_end|>", "<|eot|>"},
	 .bos = "<|begin_of_text|>",
	 .turn = {LLAMA4("system"), LLAMA4("user"), LLAMA4("assistant")},
	 .prompt = "<|header_start|>assistant<|header_end|>\n\n",
	 .flags = TRIM_ALL},
	{.name = "gemma",
	 .has = {"<start_of_turn>", "<end_of_turn>"},
	 .bos = "<bos>",
	 .turn = {[USER] = {"<start_of_turn>user\n", "<end_of_turn>\n"},
		  [ASSISTANT] = {"<start_of_turn>model\n", "<end_of_turn>\n"}},
	 .place = FIRST_USER,
	 .joined = {"", "\n\n"},
	 .prompt = "<start_of_turn>model\n",
	 .flags = TRIM_USER | TRIM_ANSWER},
	{.name = "gpt-oss",
	 .has = {"<|start|>", "<|channel|>", "<|message|>"},
	 /* the shortest form: thinking is skipped, the answer opens in the final channel */
	 .head = "<|start|>system<|message|>You are ChatGPT, a large language model trained by "
		 "OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: low\n\n# Valid channels: "
		 "analysis, commentary, final. Channel must be included for every message.<|end|>",
	 .turn = {{"<|start|>developer<|message|># Instructions\n\n", "\n\n<|end|>"},
		  HARMONY("user"),
		  HARMONY("assistant<|channel|>final")},
	 .prompt = "<|start|>assistant<|channel|>final<|message|>"},
	{.name = "phi4-mini",
	 .has = {"'|>' + message['content'] + '<|end|>'", "<|assistant|>", "<|tool|>"},
	 .turn = {{"<|system|>", "<|end|>"}, {"<|user|>", "<|end|>"}, {"<|assistant|>", "<|end|>"}},
	 .prompt = "<|assistant|>"},
	{.name = "phi3",
	 .has = {"message['content'] + '<|end|>", "<|assistant|>"},
	 BAR_TURNS("<|end|>")},
	{.name = "zephyr",
	 .has = {"'<|user|>\n' + message['content'] + eos_token", "<|assistant|>"},
	 .eos = "</s>",
	 BAR_TURNS("</s>")},
	{.name = "stablelm-zephyr",
	 .has = {"'<|user|>\n' + message['content'] + eos_token", "<|assistant|>"},
	 .eos = "<|endoftext|>",
	 BAR_TURNS("<|endoftext|>")},
	{.name = "command-r",
	 .has = {"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content", "<|CHATBOT_TOKEN|>"},
	 .lacks = "tools",
	 .bos = "<BOS_TOKEN>",
	 .turn = {COHERE("SYSTEM"), COHERE("USER"), COHERE("CHATBOT")},
	 .prompt = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
	 .flags = TRIM_USER | TRIM_ANSWER},
	{.name = "deepseek-r1",
	 .has = {DS_ASSISTANT "<think>\n", DS_USER "' + message['content']}}", "split('</think>')"},
	 .bos = DS_BOS,
	 .turn = {{"", ""}, {DS_USER, ""}, {DS_ASSISTANT, DS_EOS}},
	 .prompt = DS_ASSISTANT "<think>\n",
	 .flags = DROP_THOUGHTS},
	{.name = "deepseek-v3",
	 .has = {DS_ASSISTANT, DS_USER, DS_EOS},
	 .lacks = "<think>",
	 .bos = DS_BOS,
	 .turn = {{"", ""}, {DS_USER, ""}, {DS_ASSISTANT, DS_EOS}},
	 .prompt = DS_ASSISTANT,
	 .flags = DROP_THOUGHTS},
	{.name = "deepseek-v2",
	 .has = {"'User: '", "'Assistant: ' + message['content'] + eos_token"},
	 .bos = DS_BOS,
	 .turn = {{"", "\n\n"}, {"User: ", "\n\n"}, {"Assistant: ", DS_EOS}},
	 .prompt = "Assistant:"},
};

/* What people call a family whose template has versions: the one that its newest models have. */
static const struct {
	const char *family, *name;
} newest[] = {
	{"mistral", "mistral-v7-tekken"},
	{"deepseek", "deepseek-v3"},
	{"qwen", "qwen3"},
	{"llama", "llama3.1"},
};

const struct chat_template *chat_template_by_name(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(newest); i++)
		if (!strcmp(newest[i].family, name))
			name = newest[i].name;
	for (i = 0; i < ARRAY_SIZE(templates); i++)
		if (!strcmp(templates[i].name, name))
			return &templates[i];
	return NULL;
}

const char *chat_template_name(unsigned int i)
{
	return i < ARRAY_SIZE(templates) ? templates[i].name : NULL;
}

/* ---- recognising ---- */

/* Programs are written with either quote, and with newlines as such or as \n. */
static int plain_program(const struct gguf_str *s, struct strbuf *out)
{
	uint64_t i;
	int r = 0;
	char c;

	for (i = 0; i < s->len && !r; i++) {
		c = s->p[i] == '"' ? '\'' : s->p[i];
		if (c == '\\' && i + 1 < s->len && s->p[i + 1] == 'n') {
			c = '\n';
			i++;
		}
		r = strbuf_add(out, &c, 1);
	}
	return r;
}

static bool has(const struct strbuf *s, const char *what)
{
	return s->len && memmem(s->p, s->len, what, strlen(what));
}

/* The text of the file's EOS token; empty where there is none. */
static struct gguf_str eos_text(const struct gguf *g)
{
	struct gguf_str none = {"", 0};
	struct gguf_array tokens;
	uint64_t id;

	if (gguf_u64(g, "tokenizer.ggml.eos_token_id", &id, NULL) ||
	    gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, NULL) || id >= tokens.n)
		return none;
	return tokens.str[id];
}

static bool is_family(const struct chat_template *ct, const struct strbuf *program,
		      const struct gguf_str *eos)
{
	size_t i;

	for (i = 0; i < MAX_MARKS && ct->has[i]; i++)
		if (!has(program, ct->has[i]))
			return false;
	if (ct->lacks && has(program, ct->lacks))
		return false;
	return !ct->eos || (eos->len == strlen(ct->eos) && !memcmp(eos->p, ct->eos, eos->len));
}

/* Sets @sentence as the error, with how to name a template. Returns @code. */
static int no_template(int code, const char *sentence, struct err *err)
{
	struct strbuf names = {0};
	unsigned int i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(templates) && !r; i++)
		r = strbuf_printf(&names, "%s%s", i ? ", " : "", templates[i].name);
	err_set(err, code, "%s; --chat-template NAME chooses one of: %s", sentence,
		r ? "" : names.p);
	strbuf_free(&names);
	return code;
}

int chat_template_detect(const struct gguf *g, const struct chat_template **out, struct err *err)
{
	struct gguf_str raw, eos = eos_text(g);
	struct strbuf program = {0};
	size_t i;
	int r;

	r = gguf_string(g, "tokenizer.chat_template", &raw, err);
	if (r == -ENOENT)
		r = gguf_string(g, "tokenizer.chat_template.default", &raw, err);
	if (r == -ENOENT)
		return no_template(r, "the model has no chat template (tokenizer.chat_template)",
				   err);
	if (r)
		return r;
	if (plain_program(&raw, &program)) {
		strbuf_free(&program);
		return err_set(err, -ENOMEM, "no memory to read the chat template");
	}
	for (i = 0; i < ARRAY_SIZE(templates) && !is_family(&templates[i], &program, &eos);)
		i++;
	strbuf_free(&program);
	if (i == ARRAY_SIZE(templates))
		return no_template(-EOPNOTSUPP, "the model's chat template is none that weir knows",
				   err);
	*out = &templates[i];
	return 0;
}

/* ---- rendering ---- */

/* A stretch of a message's text. */
struct span {
	const char *p;
	size_t len;
};

static void trim_left(struct span *s)
{
	while (s->len && isspace((unsigned char)*s->p)) {
		s->p++;
		s->len--;
	}
}

static void trim_right(struct span *s)
{
	while (s->len && isspace((unsigned char)s->p[s->len - 1]))
		s->len--;
}

/* What is left of an answer without its thoughts. */
static void drop_thoughts(struct span *s, bool newlines)
{
	static const char end[] = "</think>";
	const char *p, *last = NULL;

	for (p = s->p; (p = strstr(p, end)) != NULL; p += strlen(end))
		last = p + strlen(end);
	if (!last)
		return;
	s->len -= (size_t)(last - s->p);
	s->p = last;
	while (newlines && s->len && *s->p == '\n') {
		s->p++;
		s->len--;
	}
}

struct render {
	const struct chat_template *ct;
	struct strbuf *out;
	const char *system; /* waits for a user's turn, or NULL */
	bool bos_written;   /* by the tokenizer, or here */
	int r;		    /* 0 or -ENOMEM: nothing is added after a failure */
};

static void put(struct render *w, const char *p, size_t len)
{
	if (!w->r)
		w->r = strbuf_add(w->out, p, len);
}

static void puts_to(struct render *w, const char *s)
{
	if (s)
		put(w, s, strlen(s));
}

/* @joins: the system message that waits goes into this turn */
static void put_turn(struct render *w, enum role role, const char *content, bool joins)
{
	static const unsigned int trims[] = {TRIM_SYSTEM, TRIM_USER, TRIM_ANSWER};
	const struct chat_template *ct = w->ct;
	struct span text = {content, strlen(content)};

	if (role == ASSISTANT && (ct->flags & DROP_THOUGHTS))
		drop_thoughts(&text, ct->flags & DROP_NEWLINES);
	if (ct->flags & trims[role]) {
		trim_right(&text);
		/* joined text has the system message at its left, which ends as it should */
		if (!joins || !(ct->flags & TRIM_JOINED))
			trim_left(&text);
	}
	if (role == USER && (ct->flags & BOS_EACH_USER)) {
		if (w->bos_written)
			w->bos_written = false;
		else
			puts_to(w, ct->bos);
	}
	puts_to(w, ct->turn[role].before);
	if (joins) {
		puts_to(w, ct->joined.before);
		puts_to(w, w->system);
		puts_to(w, ct->joined.after);
		w->system = NULL;
	}
	put(w, text.p, text.len);
	puts_to(w, ct->turn[role].after);
}

static int role_of(const char *name)
{
	static const char *const names[] = {"system", "user", "assistant"};
	int i;

	for (i = 0; i < N_ROLE; i++)
		if (!strcmp(names[i], name))
			return i;
	return -1;
}

static size_t last_user(const struct chat_message *msg, size_t n_msg)
{
	size_t i = n_msg;

	while (i && role_of(msg[i - 1].role) != USER)
		i--;
	return i ? i - 1 : n_msg;
}

/* A template that puts the system message into a user's turn takes one at a time. */
static int hold_system(struct render *w, const char *content, struct err *err)
{
	if (w->system)
		return err_set(err, -EINVAL,
			       "chat template %s has room for one system message before a user's",
			       w->ct->name);
	w->system = content;
	return 0;
}

static int put_messages(struct render *w, const struct chat_message *msg, size_t n_msg,
			struct err *err)
{
	const struct chat_template *ct = w->ct;
	size_t joins_at = ct->place == LAST_USER ? last_user(msg, n_msg) : 0;
	bool joins;
	size_t i;
	int role, r;

	for (i = 0; i < n_msg; i++) {
		role = role_of(msg[i].role);
		if (role < 0)
			return err_set(
				err, -EINVAL,
				"message %zu has role '%s': system, user and assistant are known",
				i, msg[i].role);
		if (role == SYSTEM && ct->place != OWN_TURN) {
			r = hold_system(w, msg[i].content, err);
			if (r)
				return r;
			continue;
		}
		joins = role == USER && w->system && i >= joins_at;
		put_turn(w, (enum role)role, msg[i].content, joins);
	}
	if (w->system)
		return err_set(err, -EINVAL,
			       "chat template %s needs a user's message after the system message",
			       ct->name);
	return 0;
}

int chat_render(const struct chat_template *ct, const struct chat_message *msg, size_t n_msg,
		bool add_prompt, bool bos_by_tokenizer, struct strbuf *out, struct err *err)
{
	struct render w = {.ct = ct, .out = out, .bos_written = true};
	size_t len_before = out->len;
	int r;

	if (!bos_by_tokenizer)
		puts_to(&w, ct->bos);
	puts_to(&w, ct->head);
	if (ct->system && (!n_msg || role_of(msg[0].role) != SYSTEM))
		put_turn(&w, SYSTEM, ct->system, false);
	r = put_messages(&w, msg, n_msg, err);
	if (!r && add_prompt)
		puts_to(&w, ct->prompt);
	if (!r && w.r)
		r = err_set(err, -ENOMEM, "no memory for the text of a conversation");
	if (r && out->p) {
		out->len = len_before;
		out->p[len_before] = '\0';
	}
	return r;
}
