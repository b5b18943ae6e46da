// SPDX-License-Identifier: MIT
/*
 * The sampler: which token comes from logits, seed and parameters.
 *
 * Draws are pinned to splitmix64's published sequence for seed 0, so that a text made with a
 * seed stays the same text on every machine and in every version.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "decode/sampler.h"

#define N_DRAWS 20000

/* Everything off: the plain distribution of the logits. */
static const struct sampler_params plain = {.temp = 1, .top_p = 1, .repeat_penalty = 1};

static struct sampler *open_sampler(struct sampler_params p, uint32_t n_vocab)
{
	struct sampler *s = NULL;
	struct err err = {""};

	assert_int_equal(sampler_open(&p, n_vocab, &s, &err), 0);
	assert_non_null(s);
	return s;
}

/* One token from a fresh sampler */
static int32_t sample_once(struct sampler_params p, const float *logits, uint32_t n_vocab)
{
	struct sampler *s = open_sampler(p, n_vocab);
	int32_t token = sampler_sample(s, logits);

	sampler_close(s);
	return token;
}

/* How often each token comes in N_DRAWS */
static void draw(struct sampler_params p, const float *logits, uint32_t n_vocab,
		 unsigned int *count)
{
	struct sampler *s = open_sampler(p, n_vocab);

	memset(count, 0, n_vocab * sizeof(*count));
	for (int i = 0; i < N_DRAWS; i++) {
		int32_t t = sampler_sample(s, logits);

		assert_in_range(t, 0, n_vocab - 1);
		count[t]++;
	}
	sampler_close(s);
}

/* A count is within 5 standard deviations of what its probability says. */
static void count_fits(unsigned int count, double p)
{
	double mean = N_DRAWS * p, deviation = sqrt(N_DRAWS * p * (1 - p));

	if (fabs(count - mean) > 5 * deviation + 1)
		print_error("%u draws where %.0f were expected\n", count, mean);
	assert_true(fabs(count - mean) <= 5 * deviation + 1);
}

static void test_greedy_takes_the_largest(void **state)
{
	const float logits[] = {-3, 2.5f, 2.4f, -INFINITY};
	struct sampler_params p = plain;

	p.temp = 0;
	assert_int_equal(sample_once(p, logits, 4), 1);
}

static void test_greedy_takes_the_lowest_id_among_equals(void **state)
{
	const float logits[] = {1, 7, 7, 7};
	struct sampler_params p = plain;

	p.temp = 0;
	assert_int_equal(sample_once(p, logits, 4), 1);
}

static void test_greedy_ignores_the_seed(void **state)
{
	const float logits[] = {1, 2, 1.99f, 0};
	struct sampler_params p = plain;

	p.temp = 0;
	for (p.seed = 0; p.seed < 100; p.seed++)
		assert_int_equal(sample_once(p, logits, 4), 1);
}

static void test_nan_is_never_chosen(void **state)
{
	const float logits[] = {NAN, 1, NAN, 0.5f};
	unsigned int count[4];
	struct sampler_params p = plain;

	draw(p, logits, 4, count);
	assert_int_equal(count[0] + count[2], 0);
	p.temp = 0;
	assert_int_equal(sample_once(p, logits, 4), 1);
}

static void test_no_number_among_the_logits_gives_no_token(void **state)
{
	const float logits[] = {NAN, NAN, NAN};
	struct sampler_params p = plain;

	assert_int_equal(sample_once(p, logits, 3), -1);
	p.temp = 0;
	assert_int_equal(sample_once(p, logits, 3), -1);
}

static void test_infinite_logits(void **state)
{
	const float best[] = {0, INFINITY, 1}, only[] = {-INFINITY, -INFINITY, 3};
	unsigned int count[3];

	assert_int_equal(sample_once(plain, best, 3), 1);
	draw(plain, only, 3, count);
	assert_int_equal(count[2], N_DRAWS);
}

static void test_logits_are_not_changed(void **state)
{
	const float logits[] = {3, -1, 2, 0.5f};
	float copy[4];
	struct sampler_params p = {
		.temp = 0.7f, .top_k = 2, .top_p = 0.9f, .min_p = 0.1f, .repeat_penalty = 1.5f};
	struct sampler *s = open_sampler(p, 4);

	memcpy(copy, logits, sizeof(copy));
	sampler_accept(s, 0);
	sampler_accept(s, 1);
	sampler_sample(s, copy);
	assert_memory_equal(copy, logits, sizeof(copy));
	sampler_close(s);
}

static void test_draws_follow_the_published_splitmix64(void **state)
{
	static const uint64_t published[] = {0xe220a8397b1dcdafull, 0x6e789e6aa1b965f4ull,
					     0x06c45d188009454full, 0xf88bb8a8724c81ecull,
					     0x1b39896a51a8749bull};
	enum { N = 1000 };
	static const float logits[N]; /* all equal: token = floor(u * N) */
	struct sampler *s = open_sampler(plain, N);

	for (size_t i = 0; i < ARRAY_SIZE(published); i++)
		assert_int_equal(sampler_sample(s, logits),
				 (int)((double)published[i] * 0x1p-64 * N));
	sampler_close(s);
}

static void test_same_seed_same_tokens(void **state)
{
	float logits[50];
	struct sampler_params p = SAMPLER_DEFAULTS;
	struct sampler *a, *b, *c;
	int same = 0;

	for (int i = 0; i < 50; i++)
		logits[i] = (float)(i % 7);
	p.seed = 7;
	a = open_sampler(p, 50);
	b = open_sampler(p, 50);
	p.seed = 8;
	c = open_sampler(p, 50);
	for (int i = 0; i < 200; i++) {
		int32_t x = sampler_sample(a, logits);

		assert_int_equal(sampler_sample(b, logits), x);
		same += sampler_sample(c, logits) == x;
	}
	assert_true(same < 100);
	sampler_close(a);
	sampler_close(b);
	sampler_close(c);
}

static void test_frequencies_are_the_softmax(void **state)
{
	const float logits[] = {logf(1), logf(2), logf(3), logf(4)};
	unsigned int count[4];

	draw(plain, logits, 4, count);
	for (int i = 0; i < 4; i++)
		count_fits(count[i], (i + 1) / 10.0);
}

static void test_temperature_flattens(void **state)
{
	/* at temperature 2 the weights are square roots: 1, 2, 3 */
	const float logits[] = {logf(1), logf(4), logf(9)};
	struct sampler_params p = plain;
	unsigned int count[3];

	p.temp = 2;
	draw(p, logits, 3, count);
	for (int i = 0; i < 3; i++)
		count_fits(count[i], (i + 1) / 6.0);
}

static void test_tiny_temperature_is_greedy(void **state)
{
	const float logits[] = {1, 1.001f, 0};
	struct sampler_params p = plain;
	unsigned int count[3];

	p.temp = 1e-30f;
	draw(p, logits, 3, count);
	assert_int_equal(count[1], N_DRAWS);
}

static void test_top_k_keeps_the_k_best(void **state)
{
	float logits[100];
	unsigned int count[100];
	struct sampler_params p = plain;

	for (int i = 0; i < 100; i++)
		logits[i] = (float)((i * 37) % 100) *
			    0.01f; /* a permutation: the best is where it is 99 */
	p.top_k = 5;
	draw(p, logits, 100, count);
	for (int i = 0; i < 100; i++)
		assert_int_equal(count[i] > 0, (i * 37) % 100 >= 95);
}

static void test_top_k_takes_lower_ids_among_equals(void **state)
{
	const float logits[] = {0, 1, 1, 1, 1};
	unsigned int count[5];
	struct sampler_params p = plain;

	p.top_k = 2;
	draw(p, logits, 5, count);
	assert_true(count[1] > 0 && count[2] > 0);
	assert_int_equal(count[1] + count[2], N_DRAWS);
}

static void test_top_k_larger_than_the_vocabulary_keeps_all(void **state)
{
	const float logits[] = {0, 0, 0};
	unsigned int count[3];
	struct sampler_params p = plain;

	p.top_k = 1000;
	draw(p, logits, 3, count);
	for (int i = 0; i < 3; i++)
		count_fits(count[i], 1.0 / 3);
}

static void test_top_p_keeps_the_fewest_that_reach_it(void **state)
{
	/* 0.1, 0.2, 0.3, 0.4: the best two reach 0.7, three reach 0.9 */
	const float logits[] = {logf(1), logf(2), logf(3), logf(4)};
	unsigned int count[4];
	struct sampler_params p = plain;

	p.top_p = 0.65f;
	draw(p, logits, 4, count);
	assert_int_equal(count[0] + count[1], 0);
	count_fits(count[2], 3.0 / 7);
	p.top_p = 0.75f;
	draw(p, logits, 4, count);
	assert_int_equal(count[0], 0);
	count_fits(count[1], 2.0 / 9);
	p.top_p = 0;
	draw(p, logits, 4, count);
	assert_int_equal(count[3], N_DRAWS);
}

static void test_min_p_drops_what_is_far_below_the_best(void **state)
{
	/* shares of the best one's probability: 0.25, 0.5, 0.75, 1 */
	const float logits[] = {logf(1), logf(2), logf(3), logf(4)};
	unsigned int count[4];
	struct sampler_params p = plain;

	p.min_p = 0.4f;
	draw(p, logits, 4, count);
	assert_int_equal(count[0], 0);
	count_fits(count[1], 2.0 / 9);
	p.min_p = 1;
	draw(p, logits, 4, count);
	assert_int_equal(count[3], N_DRAWS);
}

static void test_what_is_kept_does_not_depend_on_temperature(void **state)
{
	const float logits[] = {logf(1), logf(2), logf(3), logf(4)};
	unsigned int count[4];
	struct sampler_params p = plain;

	p.top_p = 0.65f;
	p.temp = 50;
	draw(p, logits, 4, count);
	assert_int_equal(count[0] + count[1], 0);
	p.top_p = 1;
	p.min_p = 0.7f;
	draw(p, logits, 4, count);
	assert_int_equal(count[0] + count[1], 0);
}

static void test_repeat_penalty_divides_positive_and_multiplies_negative(void **state)
{
	struct sampler_params p = {.temp = 0, .top_p = 1, .repeat_penalty = 2};
	const float positive[] = {4, 2.1f, 1}, negative[] = {-1, -1.9f, -2.1f};
	struct sampler *s = open_sampler(p, 3);

	sampler_accept(s, 0);
	assert_int_equal(sampler_sample(s, positive), 1); /* 4 / 2 < 2.1 */
	assert_int_equal(sampler_sample(s, negative), 1); /* -1 * 2 < -1.9 */
	sampler_close(s);
}

static void test_repeat_penalty_counts_a_token_once(void **state)
{
	struct sampler_params p = {.temp = 0, .top_p = 1, .repeat_penalty = 2};
	const float logits[] = {4, 1.5f};
	struct sampler *s = open_sampler(p, 2);

	for (int i = 0; i < 10; i++)
		sampler_accept(s, 0);
	assert_int_equal(sampler_sample(s, logits), 0); /* 4 / 2, not 4 / 2^10 */
	sampler_close(s);
}

static void test_repeat_penalty_forgets_after_64_tokens(void **state)
{
	struct sampler_params p = {.temp = 0, .top_p = 1, .repeat_penalty = 2};
	const float logits[] = {4, 3, 0};
	struct sampler *s = open_sampler(p, 3);

	sampler_accept(s, 0);
	for (int i = 0; i < SAMPLER_LAST - 1; i++)
		sampler_accept(s, 2);
	assert_int_equal(sampler_sample(s, logits), 1);
	sampler_accept(s, 2);
	assert_int_equal(sampler_sample(s, logits), 0);
	sampler_close(s);
}

static void test_tokens_outside_the_vocabulary_are_not_penalized(void **state)
{
	struct sampler_params p = {.temp = 0, .top_p = 1, .repeat_penalty = 2};
	const float logits[] = {1, 2};
	struct sampler *s = open_sampler(p, 2);

	sampler_accept(s, -1);
	sampler_accept(s, 2);
	sampler_accept(s, INT32_MAX);
	assert_int_equal(sampler_sample(s, logits), 1);
	sampler_close(s);
}

static void test_impossible_parameters_are_refused(void **state)
{
	const struct sampler_params bad[] = {
		{.temp = -1, .top_p = 1, .repeat_penalty = 1},
		{.temp = NAN, .top_p = 1, .repeat_penalty = 1},
		{.temp = 1, .top_p = -0.1f, .repeat_penalty = 1},
		{.temp = 1, .top_p = NAN, .repeat_penalty = 1},
		{.temp = 1, .top_p = 1, .min_p = 1.5f, .repeat_penalty = 1},
		{.temp = 1, .top_p = 1, .min_p = NAN, .repeat_penalty = 1},
		{.temp = 1, .top_p = 1, .repeat_penalty = 0},
		{.temp = 1, .top_p = 1, .repeat_penalty = -2},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct sampler *s = NULL;
		struct err err = {""};

		assert_int_equal(sampler_open(&bad[i], 10, &s, &err), -EINVAL);
		assert_null(s);
		assert_true(strlen(err.text) > 10);
	}
}

static void test_close_of_nothing_is_fine(void **state)
{
	sampler_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greedy_takes_the_largest),
		cmocka_unit_test(test_greedy_takes_the_lowest_id_among_equals),
		cmocka_unit_test(test_greedy_ignores_the_seed),
		cmocka_unit_test(test_nan_is_never_chosen),
		cmocka_unit_test(test_no_number_among_the_logits_gives_no_token),
		cmocka_unit_test(test_infinite_logits),
		cmocka_unit_test(test_logits_are_not_changed),
		cmocka_unit_test(test_draws_follow_the_published_splitmix64),
		cmocka_unit_test(test_same_seed_same_tokens),
		cmocka_unit_test(test_frequencies_are_the_softmax),
		cmocka_unit_test(test_temperature_flattens),
		cmocka_unit_test(test_tiny_temperature_is_greedy),
		cmocka_unit_test(test_top_k_keeps_the_k_best),
		cmocka_unit_test(test_top_k_takes_lower_ids_among_equals),
		cmocka_unit_test(test_top_k_larger_than_the_vocabulary_keeps_all),
		cmocka_unit_test(test_top_p_keeps_the_fewest_that_reach_it),
		cmocka_unit_test(test_min_p_drops_what_is_far_below_the_best),
		cmocka_unit_test(test_what_is_kept_does_not_depend_on_temperature),
		cmocka_unit_test(test_repeat_penalty_divides_positive_and_multiplies_negative),
		cmocka_unit_test(test_repeat_penalty_counts_a_token_once),
		cmocka_unit_test(test_repeat_penalty_forgets_after_64_tokens),
		cmocka_unit_test(test_tokens_outside_the_vocabulary_are_not_penalized),
		cmocka_unit_test(test_impossible_parameters_are_refused),
		cmocka_unit_test(test_close_of_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
