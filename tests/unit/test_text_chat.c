// SPDX-License-Identifier: MIT
/*
 * Chat templates: what each family renders, and which family a model's program is taken for.
 *
 * The expected texts are what jinja2 renders from the models' own programs (with bos_token and
 * eos_token of the model, add_generation_prompt set, thinking on). Not so: gpt-oss, whose form
 * here is shorter than its program's; the date of Llama 3.1, which is its program's default; and
 * Mistral's long default system message, which weir does not add.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "text/text.h"

#include "text_fixture.h"

static const struct chat_message long_chat[] = {
	{"system", " Be brief. "},
	{"user", " Hi\n"},
	{"assistant", " Hello! "},
	{"user", "Bye"},
};
static const struct chat_message short_chat[] = {{"user", "Hi"}};

#define HARMONY_HEAD                                                                               \
	"<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"   \
	"Knowledge cutoff: 2024-06\n\nReasoning: low\n\n# Valid channels: analysis, commentary, "  \
	"final. Channel must be included for every message.<|end|>"

/* clang-format off: a long text stays on its line */
static const struct {
	const char *name;
	const char *long_text;	/* of long_chat; NULL: the family's program refuses it */
	const char *short_text; /* of short_chat */
} vectors[] = {
	{"chatml",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"qwen2.5",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
	 "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"qwen2",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>system\nYou are a helpful "
	 "assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"qwen1.5",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>system\nYou are a helpful "
	 "assistant<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"smollm2",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
	 "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"qwen3",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
	 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
	{"qwen3.5",
	 "<|im_start|>system\nBe "
	 "brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>"
	 "\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n",
	 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n"},
	{"qwq",
	 "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n "
	 "Hi\n<|im_end|>\n<|im_start|>assistant\n Hello! "
	 "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n",
	 "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n"},
	{"phi4",
	 "<|im_start|>system<|im_sep|> Be brief. <|im_end|><|im_start|>user<|im_sep|> "
	 "Hi\n<|im_end|><|im_start|>assistant<|im_sep|> Hello! "
	 "<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|><|im_start|>assistant<|im_sep|>",
	 "<|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>"},
	{"mistral-v0", NULL, "<s>[INST] Hi [/INST]"},
	{"mistral-v1", "<s> [INST]  Be brief. \n\n Hi\n [/INST]  Hello! </s> [INST] Bye [/INST]",
	 "<s> [INST] Hi [/INST]"},
	{"mistral-v3", "<s>[INST]  Hi\n[/INST] Hello!</s>[INST]  Be brief. \n\nBye[/INST]",
	 "<s>[INST] Hi[/INST]"},
	{"mistral-v3-tekken", "<s>[INST] Hi\n[/INST] Hello! </s>[INST] Be brief. \n\nBye[/INST]",
	 "<s>[INST]Hi[/INST]"},
	{"mistral-v7",
	 "<s>[SYSTEM_PROMPT]  Be brief. [/SYSTEM_PROMPT][INST]  Hi\n[/INST]  Hello! </s>[INST] "
	 "Bye[/INST]",
	 "<s>[INST] Hi[/INST]"},
	{"mistral-v7-tekken",
	 "<s>[SYSTEM_PROMPT] Be brief. [/SYSTEM_PROMPT][INST] Hi\n[/INST] Hello! "
	 "</s>[INST]Bye[/INST]",
	 "<s>[INST]Hi[/INST]"},
	{"llama2",
	 "<s>[INST] <<SYS>>\n Be brief. \n<</SYS>>\n\n Hi [/INST] Hello! </s><s>[INST] Bye [/INST]",
	 "<s>[INST] Hi [/INST]"},
	{"llama3",
	 "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe "
	 "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_"
	 "id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|"
	 ">\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
	 "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_"
	 "id|>assistant<|end_header_id|>\n\n"},
	{"llama3.1",
	 "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
	 "December 2023\nToday Date: 26 Jul 2024\n\nBe "
	 "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_"
	 "id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user<|end_header_id|"
	 ">\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
	 "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
	 "December 2023\nToday Date: 26 Jul "
	 "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_"
	 "id|>assistant<|end_header_id|>\n\n"},
	{"gemma",
	 "<bos><start_of_turn>user\n Be brief. "
	 "\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n<start_of_turn>user\nBye<"
	 "end_of_turn>\n<start_of_turn>model\n",
	 "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"},
	{"phi3",
	 "<|system|>\n Be brief. <|end|>\n<|user|>\n Hi\n<|end|>\n<|assistant|>\n Hello! "
	 "<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
	 "<|user|>\nHi<|end|>\n<|assistant|>\n"},
	{"phi4-mini",
	 "<|system|> Be brief. <|end|><|user|> Hi\n<|end|><|assistant|> Hello! "
	 "<|end|><|user|>Bye<|end|><|assistant|>",
	 "<|user|>Hi<|end|><|assistant|>"},
	{"zephyr",
	 "<|system|>\n Be brief. </s>\n<|user|>\n Hi\n</s>\n<|assistant|>\n Hello! "
	 "</s>\n<|user|>\nBye</s>\n<|assistant|>\n",
	 "<|user|>\nHi</s>\n<|assistant|>\n"},
	{"stablelm-zephyr",
	 "<|system|>\n Be brief. <|endoftext|>\n<|user|>\n Hi\n<|endoftext|>\n<|assistant|>\n "
	 "Hello! <|endoftext|>\n<|user|>\nBye<|endoftext|>\n<|assistant|>\n",
	 "<|user|>\nHi<|endoftext|>\n<|assistant|>\n"},
	{"command-r",
	 "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|> Be brief. "
	 "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|START_"
	 "OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello!<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_"
	 "TOKEN|>Bye<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
	 "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|START_OF_TURN_"
	 "TOKEN|><|CHATBOT_TOKEN|>"},
	{"deepseek-v2",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c> Be brief. \n\nUser:  Hi\n\n\nAssistant:  "
	 "Hello! <\uff5cend\u2581of\u2581sentence\uff5c>User: Bye\n\nAssistant:",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c>User: Hi\n\nAssistant:"},
	{"deepseek-v3",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c> Be brief. <\uff5cUser\uff5c> "
	 "Hi\n<\uff5cAssistant\uff5c> Hello! "
	 "<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Bye<\uff5cAssistant\uff5c>",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>"},
	{"deepseek-r1",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c> Be brief. <\uff5cUser\uff5c> "
	 "Hi\n<\uff5cAssistant\uff5c> Hello! "
	 "<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Bye<\uff5cAssistant\uff5c><"
	 "think>\n",
	 "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c><"
	 "think>\n"},
	{"llama4",
	 "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe "
	 "brief.<|eot|><|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|"
	 "header_end|>\n\nHello!<|eot|><|header_start|>user<|header_end|>\n\nBye<|eot|><|header_"
	 "start|>assistant<|header_end|>\n\n",
	 "<|begin_of_text|><|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>"
	 "assistant<|header_end|>\n\n"},
	{"gpt-oss",
	 HARMONY_HEAD
	 "<|start|>developer<|message|># Instructions\n\n Be brief. "
	 "\n\n<|end|><|start|>user<|message|> "
	 "Hi\n<|end|><|start|>assistant<|channel|>final<|message|> Hello! "
	 "<|end|><|start|>user<|message|>Bye<|end|><|start|>assistant<|channel|>final<|message|>",
	 HARMONY_HEAD
	 "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>"},
};
/* clang-format on */

static void expect_text(const char *name, const struct chat_message *msg, size_t n, bool add_prompt,
			bool bos_by_tokenizer, const char *want)
{
	const struct chat_template *ct = chat_template_by_name(name);
	struct strbuf s = {0};
	struct err err = {""};

	assert_non_null(ct);
	assert_int_equal(strbuf_puts(&s, "before "), 0);
	if (chat_render(ct, msg, n, add_prompt, bos_by_tokenizer, &s, &err))
		fail_msg("%s: %s", name, err.text);
	assert_memory_equal(s.p, "before ", 7);
	if (strcmp(s.p + 7, want))
		fail_msg("%s:\n%s\nbut expected\n%s", name, s.p + 7, want);
	strbuf_free(&s);
}

static void test_every_family_renders(void **state)
{
	const char *name;
	size_t i, n = 0;

	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		if (vectors[i].long_text)
			expect_text(vectors[i].name, long_chat, ARRAY_SIZE(long_chat), true, false,
				    vectors[i].long_text);
		expect_text(vectors[i].name, short_chat, 1, true, false, vectors[i].short_text);
	}
	/* and none is left without a vector */
	for (i = 0; (name = chat_template_name((unsigned int)i)) != NULL; i++) {
		for (n = 0; n < ARRAY_SIZE(vectors) && strcmp(vectors[n].name, name);)
			n++;
		if (n == ARRAY_SIZE(vectors))
			fail_msg("no vector for %s", name);
	}
	assert_int_equal(i, ARRAY_SIZE(vectors));
	assert_null(chat_template_by_name("no such template"));
}

static void test_bos_is_left_to_the_tokenizer(void **state)
{
	static const struct chat_message turns[] = {
		{"user", "a"}, {"assistant", "b"}, {"user", "c"}};

	expect_text("llama3", short_chat, 1, false, true,
		    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>");
	expect_text("gemma", short_chat, 1, false, true, "<start_of_turn>user\nHi<end_of_turn>\n");
	expect_text("deepseek-v3", short_chat, 1, false, true, "<\uff5cUser\uff5c>Hi");
	/* Llama 2 opens each of the user's turns with one: only the first is the tokenizer's */
	expect_text("llama2", turns, 3, true, true, "[INST] a [/INST] b </s><s>[INST] c [/INST]");
	expect_text("llama2", turns, 3, true, false,
		    "<s>[INST] a [/INST] b </s><s>[INST] c [/INST]");
	/* what is no BOS stays */
	expect_text("gpt-oss", short_chat, 1, false, true,
		    HARMONY_HEAD "<|start|>user<|message|>Hi<|end|>");
}

static void test_prompt_only_if_asked(void **state)
{
	expect_text("chatml", short_chat, 1, false, false, "<|im_start|>user\nHi<|im_end|>\n");
	expect_text("chatml", NULL, 0, false, false, "");
	expect_text("chatml", NULL, 0, true, false, "<|im_start|>assistant\n");
}

static void test_thoughts_of_earlier_answers_are_dropped(void **state)
{
	static const struct chat_message turns[] = {
		{"user", "a"},
		{"assistant", "<think>\nhm </think> no\n</think>\n\nb"},
		{"user", "c"},
	};

	expect_text("qwen3", turns, 3, true, false,
		    "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
		    "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
	expect_text("deepseek-r1", turns, 3, true, true,
		    "<\uff5cUser\uff5c>a<\uff5cAssistant\uff5c>\n\nb"
		    "<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>c"
		    "<\uff5cAssistant\uff5c><think>\n");
	/* other families have no such marks: the text is the text */
	expect_text("phi3", turns + 1, 1, false, false,
		    "<|assistant|>\n<think>\nhm </think> no\n</think>\n\nb<|end|>\n");
}

static void refuse_chat(const char *name, const struct chat_message *msg, size_t n,
			const char *part)
{
	struct strbuf s = {0};
	struct err err = {""};

	assert_int_equal(strbuf_puts(&s, "before"), 0);
	assert_int_equal(chat_render(chat_template_by_name(name), msg, n, true, false, &s, &err),
			 -EINVAL);
	if (!strstr(err.text, part))
		fail_msg("'%s' does not say '%s'", err.text, part);
	assert_string_equal(s.p, "before");
	strbuf_free(&s);
}

static void test_what_a_template_has_no_place_for(void **state)
{
	static const struct chat_message tool[] = {{"user", "a"}, {"tool", "b"}};
	static const struct chat_message two[] = {{"system", "a"}, {"system", "b"}, {"user", "c"}};

	refuse_chat("chatml", tool, 2, "message 1 has role 'tool'");
	refuse_chat("gemma", two, 3, "one system message");
	refuse_chat("llama2", two, 1, "needs a user's message");
	/* a system message of its own turn may stand anywhere, alone too */
	expect_text("chatml", two, 1, false, false, "<|im_start|>system\na<|im_end|>\n");
}

/* ---- recognising ---- */

static int detect(const char *key, const char *program, const char *eos, const char **name,
		  struct err *err)
{
	const struct chat_template *ct = NULL;
	struct metadata m = {0};
	struct gguf *g;
	unsigned int i;
	int r;

	if (key)
		meta_str(&m, key, program);
	meta_strs(&m, "tokenizer.ggml.tokens", &eos, 1);
	meta_u32(&m, "tokenizer.ggml.eos_token_id", 0);
	g = meta_open(&m, err);
	assert_non_null(g);
	r = chat_template_detect(g, &ct, err);
	gguf_close(g);
	*name = NULL;
	for (i = 0; !r && chat_template_name(i); i++)
		if (chat_template_by_name(chat_template_name(i)) == ct)
			*name = chat_template_name(i);
	return r;
}

/* clang-format off */
static const struct {
	const char *name; /* NULL: none */
	const char *eos;
	const char *program;
} programs[] = {
	{ "chatml", "<|im_end|>", "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}" },
	{ "qwen2.5", "<|im_end|>", "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}" },
	{ "qwen2", "<|im_end|>", "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}" },
	{ "qwen1.5", "<|im_end|>", "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}" },
	{ "smollm2", "<|im_end|>", "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}" },
	{ "qwen3", "<|im_end|>", "{%- set c = m.content.split('</think>')[-1].lstrip('\\n') %}{{- '<|im_start|>' + m.role }}" },
	{ "qwen3.5", "<|im_end|>", "{%- set c = x.split('</think>')[-1].lstrip('\\n') %}{{- '<|im_start|>assistant\\n' }}{{- '<think>\\n' }}" },
	{ "qwq", "<|im_end|>", "{%- set c = x.split('</think>')[-1].lstrip('\\n') %}{{- '<|im_start|>assistant\\n<think>\\n' }}" },
	{ "phi4", "<|im_end|>", "{{'<|im_start|>user<|im_sep|>' + m['content'] + '<|im_end|>'}}" },
	{ NULL, "<|im_end|>", "{{ '<|im_start|>' + m.role }}<|im_end|>{{ '<think></think>' }}" },
	{ "mistral-v0", "</s>", "{{ bos_token }}{{ '[INST] ' + m['content'] + ' [/INST]' }}{{ m['content'] + eos_token }}" },
	{ "mistral-v1", "</s>", "{{- \" [INST] \" + system_message + \"\\n\\n\" + m[\"content\"] + \" [/INST]\" }}" },
	{ "mistral-v3", "</s>", "{{- \"[AVAILABLE_TOOLS][\" }}{{- \"[INST] \" + m[\"content\"] + \"[/INST]\" }}" },
	{ "mistral-v3-tekken", "</s>", "{{- \"[AVAILABLE_TOOLS][\" }}{{- \"[INST]\" + m[\"content\"] + \"[/INST]\" }}" },
	{ "mistral-v7", "</s>", "{{- '[SYSTEM_PROMPT] ' + s + '[/SYSTEM_PROMPT]' }}{{- '[INST] ' + u + '[/INST]' }}" },
	{ "mistral-v7-tekken", "</s>", "{{- '[SYSTEM_PROMPT]' + s + '[/SYSTEM_PROMPT]' }}{{- '[INST]' + u + '[/INST]' }}" },
	{ "llama2", "</s>", "{% set content = '<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}" },
	{ "llama3", "<|eot_id|>", "{% set c = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}" },
	{ "llama3.1", "<|eot_id|>", "{%- set date_string = \"26 Jul 2024\" %}{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}{{- \"Cutting Knowledge Date: December 2023\\n\" }}{%- if tools %}{%- endif %}" },
	{ NULL, "<|eot_id|>", "{{ '<|start_header_id|>x<|end_header_id|><|eot_id|>' }}{%- if tools %}functions{% endif %}" },
	{ "llama4", "<|eot|>", "{{ '<|header_start|>user<|header_end|>\\n\\n' }}<|eot|>" },
	{ "gemma", "<eos>", "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}" },
	{ "gpt-oss", "<|return|>", "{{- \"<|start|>assistant<|channel|>final<|message|>\" + m.content + \"<|end|>\" }}" },
	{ "phi3", "<|endoftext|>", "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{{ '<|assistant|>\n' }}" },
	{ "phi3", "<|endoftext|>", "{{'<|user|>' + '\\n' + message['content'] + '<|end|>' + '\\n' + '<|assistant|>' + '\\n'}}" },
	{ "phi4-mini", "<|endoftext|>", "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{{ '<|tool|>' }}{{ '<|assistant|>' }}" },
	{ "zephyr", "</s>", "{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>' }}" },
	{ "stablelm-zephyr", "<|endoftext|>", "{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>' }}" },
	{ NULL, "<|end|>", "{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>' }}" },
	{ NULL, "<|endoftext|>", "{{ '[gMASK]<sop><|user|>\n' + message['content'] }}{{ '<|assistant|>' }}" },
	{ "command-r", "<|END_OF_TURN_TOKEN|>", "{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() }}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}" },
	{ "deepseek-v2", "x", "{{ 'User: ' + message['content'] }}{{ 'Assistant: ' + message['content'] + eos_token }}" },
	{ "deepseek-v3", "x", "{{'<\uff5cUser\uff5c>' + message['content']}}{{'<\uff5cAssistant\uff5c>' + message['content'] + '<\uff5cend\u2581of\u2581sentence\uff5c>'}}" },
	{ "deepseek-r1", "x", "{{'<\uff5cUser\uff5c>' + message['content']}}{% set c = c.split('</think>')[-1] %}{{'<\uff5cend\u2581of\u2581sentence\uff5c>'}}{{'<\uff5cAssistant\uff5c><think>\\n'}}" },
	{ NULL, "x", "{{'<\uff5cUser\uff5c>' + m}}{{'<\uff5cAssistant\uff5c><think></think>'}}{{'<\uff5cend\u2581of\u2581sentence\uff5c>'}}" },
	{ NULL, "x", "{{ 'Human: ' + message['content'] }}" },
	{ NULL, "x", "" },
};
/* clang-format on */

static void test_families_are_recognised(void **state)
{
	const char *name;
	struct err err;
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(programs); i++) {
		r = detect("tokenizer.chat_template", programs[i].program, programs[i].eos, &name,
			   &err);
		assert_int_equal(r, programs[i].name ? 0 : -EOPNOTSUPP);
		if (programs[i].name ? !name || strcmp(name, programs[i].name) : name != NULL)
			fail_msg("program %zu is taken for %s", i, name ? name : "none");
	}
}

static void test_unknown_template_says_what_to_do(void **state)
{
	const char *name;
	struct err err;

	assert_int_equal(detect("tokenizer.chat_template", "Hello", "x", &name, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.text, "none that weir knows; --chat-template NAME chooses one"));
	assert_non_null(strstr(err.text, "chatml"));
	/* the last name fits as well */
	assert_non_null(strstr(err.text, "deepseek-v2"));
	assert_int_equal(detect(NULL, NULL, "x", &name, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no chat template"));
	assert_non_null(strstr(err.text, "--chat-template NAME"));
}

static void test_default_of_several_templates(void **state)
{
	static const char *const names[] = {"default", "tool_use"};
	const struct chat_template *ct = NULL;
	struct metadata m = {0};
	const char *name;
	struct err err;
	struct gguf *g;

	/* the key without a name is the default; named ones are for other uses */
	meta_strs(&m, "tokenizer.chat_templates", names, 2);
	meta_str(&m, "tokenizer.chat_template.tool_use", "<start_of_turn><end_of_turn>");
	meta_str(&m, "tokenizer.chat_template", "<|im_start|><|im_end|>");
	g = meta_open(&m, &err);
	assert_int_equal(chat_template_detect(g, &ct, &err), 0);
	assert_ptr_equal(ct, chat_template_by_name("chatml"));
	gguf_close(g);
	assert_int_equal(detect("tokenizer.chat_template.default", "<|im_start|><|im_end|>", "x",
				&name, &err),
			 0);
	assert_string_equal(name, "chatml");
	assert_int_equal(detect("tokenizer.chat_template.tool_use", "<|im_start|><|im_end|>", "x",
				&name, &err),
			 -ENOENT);
}

static void test_a_family_names_its_newest_template(void **state)
{
	assert_ptr_equal(chat_template_by_name("mistral"),
			 chat_template_by_name("mistral-v7-tekken"));
	assert_ptr_equal(chat_template_by_name("deepseek"), chat_template_by_name("deepseek-v3"));
	assert_ptr_equal(chat_template_by_name("qwen"), chat_template_by_name("qwen3"));
	assert_ptr_equal(chat_template_by_name("llama"), chat_template_by_name("llama3.1"));
	assert_non_null(chat_template_by_name("mistral"));
	assert_null(chat_template_by_name("mist"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_family_names_its_newest_template),
		cmocka_unit_test(test_every_family_renders),
		cmocka_unit_test(test_bos_is_left_to_the_tokenizer),
		cmocka_unit_test(test_prompt_only_if_asked),
		cmocka_unit_test(test_thoughts_of_earlier_answers_are_dropped),
		cmocka_unit_test(test_what_a_template_has_no_place_for),
		cmocka_unit_test(test_families_are_recognised),
		cmocka_unit_test(test_unknown_template_says_what_to_do),
		cmocka_unit_test(test_default_of_several_templates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
