// SPDX-License-Identifier: MIT
/* libweir as a program meets it: handles, options that grow, text, errors, starting anew. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "weir/weir.h"

#define MODEL "tools/demo-model/weir-demo.gguf"

static struct weir *open_model(const struct weir_options *o)
{
	struct weir *w = weir_new();

	assert_non_null(w);
	if (weir_open(w, MODEL, o))
		fail_msg("%s", weir_error(w));
	return w;
}

/* Up to n pieces of text; returns the last call's value. */
static int collect(struct weir *w, int n, char *out, size_t size)
{
	char piece[64];
	int r = 1;

	out[0] = '\0';
	while (n-- > 0 && (r = weir_next(w, piece, sizeof(piece))) > 0)
		strncat(out, piece, size - strlen(out) - 1);
	return r;
}

static void test_text_follows_a_prompt(void **state)
{
	struct weir_stats st = {.size = sizeof(st)};
	struct weir_options o = WEIR_OPTIONS_INIT;
	char text[1024];
	struct weir *w;

	o.budget = "50%";
	o.temp = 0;
	w = open_model(&o);
	assert_true(weir_prompt(w, "The young lady", -1) >= 3);
	assert_true(collect(w, 20, text, sizeof(text)) > 0);
	assert_true(strlen(text) > 20);
	assert_int_equal(weir_stats(w, &st), 0);
	assert_true(st.pinned_bytes > 0 && st.stream_bytes > 0);
	assert_true(st.pool_bytes <= st.sweep_bytes / 2 + 8192);
	assert_true(st.n_decode >= 20 && st.flash_read_bytes > st.pinned_bytes);
	weir_free(w);
}

static void test_reset_begins_anew(void **state)
{
	struct weir_options o = WEIR_OPTIONS_INIT;
	char first[1024], again[1024];
	struct weir *w;

	o.repeat_penalty = 1.3f;
	o.seed = 5;
	w = open_model(&o);
	assert_true(weir_prompt(w, "It was a", -1) > 0);
	collect(w, 30, first, sizeof(first));
	weir_reset(w);
	assert_int_equal(weir_next(w, again, sizeof(again)), -EINVAL); /* no prompt */
	assert_true(weir_prompt(w, "It was a", -1) > 0);
	collect(w, 30, again, sizeof(again));
	assert_string_equal(first, again);
	weir_free(w);
}

/* A full context ends the text after its last piece, not before it. */
static void test_full_context_loses_no_text(void **state)
{
	struct weir_options o = WEIR_OPTIONS_INIT;
	char whole[1024], cut[1024];
	struct weir *w;

	o.temp = 0;
	w = open_model(&o);
	assert_true(weir_prompt(w, "The king said to", -1) > 0);
	collect(w, 40, whole, sizeof(whole));
	weir_free(w);

	o.n_ctx = 20;
	w = open_model(&o);
	assert_true(weir_prompt(w, "The king said to", -1) > 0);
	assert_int_equal(collect(w, 40, cut, sizeof(cut)), -ENOSPC);
	assert_non_null(strstr(weir_error(w), "context"));
	assert_true(strlen(cut) > 10);
	assert_memory_equal(cut, whole, strlen(cut));
	weir_free(w);
}

static void test_options_of_other_sizes(void **state)
{
	struct {
		struct weir_options o;
		char newer[64];
	} grown = {.o = WEIR_OPTIONS_INIT};
	struct weir *w = weir_new();

	grown.o.size = 8;
	assert_int_equal(weir_open(w, MODEL, &grown.o), -EINVAL);
	assert_non_null(strstr(weir_error(w), "sizeof"));
	grown.o.size = sizeof(struct weir_options) - 4; /* ends inside a pointer */
	assert_int_equal(weir_open(w, MODEL, &grown.o), -EINVAL);
	grown.o.size = sizeof(grown); /* a caller of a later version */
	assert_int_equal(weir_open(w, MODEL, &grown.o), 0);
	weir_free(w);
}

static void test_errors_are_sentences_and_leave_the_handle_usable(void **state)
{
	struct weir_options o = WEIR_OPTIONS_INIT;
	struct weir *w = weir_new();
	char buf[64];

	assert_string_equal(weir_error(w), "");
	assert_int_equal(weir_prompt(w, "x", -1), -EINVAL);
	assert_int_equal(weir_next(w, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(weir_open(w, "no/such/file.gguf", NULL), -ENOENT);
	assert_non_null(strstr(weir_error(w), "no/such/file.gguf"));
	o.temp = -1;
	assert_int_equal(weir_open(w, MODEL, &o), -EINVAL);
	o.temp = 0;
	assert_int_equal(weir_open(w, MODEL, &o), 0);
	assert_int_equal(weir_open(w, MODEL, &o), -EBUSY);
	assert_int_equal(weir_next(w, buf, 8), -EINVAL); /* too small a buffer */
	assert_int_equal(weir_prompt(w, "", -1) < 0, 0); /* BOS alone is a prompt */
	weir_free(w);
	weir_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_follows_a_prompt),
		cmocka_unit_test(test_reset_begins_anew),
		cmocka_unit_test(test_full_context_loses_no_text),
		cmocka_unit_test(test_options_of_other_sizes),
		cmocka_unit_test(test_errors_are_sentences_and_leave_the_handle_usable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
