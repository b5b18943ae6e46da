// SPDX-License-Identifier: MIT
/*
 * The probe measures, leaves nothing behind, and finds its results again.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "stream/stream.h"

static char dir[300];

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/weir-test-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	setenv("XDG_CACHE_HOME", dir, 1);
	return 0;
}

static int remove_dir(void **state)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/weir/probe.json", dir);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	/* fails, and so does the test, where anything else was left behind */
	return rmdir(dir);
}

static void count(void *arg, const char *what)
{
	assert_true(strlen(what) > 5);
	++*(int *)arg;
}

static void measures_a_temporary_file_and_removes_it(void **state)
{
	struct probe p;
	struct err err;
	int said = 0;

	if (probe_run(NULL, dir, 1 << 20, 2, &p, count, &said, &err))
		fail_msg("%s", err.text);
	assert_true(said > 3);
	assert_true(p.dram_gb_s > 0.1 && p.dram_gb_s < 10000);
	assert_true(p.flash_gb_s > 0 && p.flash_depth >= 1 && p.flash_size >= 128 << 10);
	assert_string_equal(p.flash_path, dir);
	for (int i = 0; i < PROBE_SIZES; i++) {
		for (int k = 0; k < PROBE_DEPTHS; k++) {
			assert_true(p.flash_table[i][k] <= p.flash_gb_s);
			/* what is larger than the file is not measured */
			assert_int_equal(p.flash_table[i][k] > 0,
					 p.size[i] * p.depth[k] <= 1 << 20);
		}
	}
	assert_int_equal(p.size[0], 128 << 10);
	assert_int_equal(p.size[PROBE_SIZES - 1], 4 << 20);
	assert_int_equal(p.depth[PROBE_DEPTHS - 1], 32);
}

static void failures_are_sentences(void **state)
{
	struct probe p;
	struct err err;

	assert_int_equal(probe_run("/nonexistent", dir, 0, 1, &p, NULL, NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent"));
	assert_int_equal(probe_run(NULL, "/nonexistent", 1, 1, &p, NULL, NULL, &err), -ENOENT);
	assert_int_equal(probe_run(NULL, dir, 1ull << 60, 1, &p, NULL, NULL, &err), -ENOSPC);
	assert_non_null(strstr(err.text, dir));
	assert_int_equal(probe_run(NULL, dir, 100, 1, &p, NULL, NULL, &err), -EINVAL);
	assert_int_equal(probe_run(NULL, dir, 1 << 20, 0, &p, NULL, NULL, &err), -EINVAL);
}

static void results_are_kept(void **state)
{
	struct probe p = {.dram_gb_s = 51.25,
			  .flash_gb_s = 1.75,
			  .flash_size = 1 << 20,
			  .flash_depth = 8,
			  .flops = 1.5e12,
			  .flash_path = "/a \"strange\" path"},
		     q;
	struct err err;

	for (int i = 0; i < PROBE_SIZES; i++)
		p.size[i] = 1000 + (uint64_t)i;
	for (int k = 0; k < PROBE_DEPTHS; k++) {
		p.depth[k] = 10 + (uint32_t)k;
		p.flash_table[k][2] = 0.25 * k;
	}
	assert_int_equal(probe_load(&q, &err), -ENOENT);
	assert_non_null(strstr(err.text, "weir probe"));
	assert_int_equal(probe_save(&p, &err), 0);
	assert_int_equal(probe_load(&q, &err), 0);
	assert_memory_equal(&p, &q, sizeof(p));
	/* a second time over the first */
	p.flops = 0;
	assert_int_equal(probe_save(&p, &err), 0);
	assert_int_equal(probe_load(&q, &err), 0);
	assert_true(q.flops == 0);
}

static void damaged_results_are_refused(void **state)
{
	static const char *const text[] = {"", "{", "[]", "{\"version\": 1}",
					   "{\"version\": \"x\"}"};
	struct probe p = {.dram_gb_s = 1, .flash_gb_s = 1};
	struct err err;
	char path[400];
	FILE *f;

	assert_int_equal(probe_save(&p, &err), 0);
	snprintf(path, sizeof(path), "%s/weir/probe.json", dir);
	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		f = fopen(path, "w");
		assert_non_null(f);
		fputs(text[i], f);
		fclose(f);
		assert_int_equal(probe_load(&p, &err), -EINVAL);
		assert_non_null(strstr(err.text, path));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(measures_a_temporary_file_and_removes_it, make_dir,
						remove_dir),
		cmocka_unit_test_setup_teardown(failures_are_sentences, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(results_are_kept, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(damaged_results_are_refused, make_dir, remove_dir),
	};

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
