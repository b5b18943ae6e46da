// SPDX-License-Identifier: MIT
/*
 * The post's figures, weir's own limits, and how much memory a group allows.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "stream/memory.h"
#include "stream/predict.h"

static void near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%.6g is not %.6g", got, want);
}

static const struct machine *machine(const char *name)
{
	const struct machine *m = machine_by_name(name);

	if (!m)
		fail_msg("no machine %s", name);
	return m;
}

static double unit(const char *name, const char *what)
{
	const struct machine_unit *u;

	for (unsigned int i = 0; (u = machine_unit_at(machine(name), i)); i++)
		if (!strcmp(u->name, what))
			return post_compute_tok_s(u->ops_s);
	fail_msg("%s has no %s", name, what);
	return 0;
}

static void compute_bound_of_the_post(void **state)
{
	near(unit("iphone-15-pro", "CPU, NEON int8"), 94, 0.5);
	near(unit("iphone-15-pro", "GPU, fp32"), 134, 0.5);
	near(unit("iphone-15-pro", "neural engine, int8"), 2188, 1);
	near(unit("orin-64", "CPU, NEON int8"), 106, 0.5);
	near(unit("orin-64", "CPU, NEON fp32"), 26, 0.5);
	near(unit("orin-64", "GPU, fp32"), 332, 1);
	near(unit("orin-64", "GPU, tensor int8"), 5312, 1);
	near(unit("orin-64", "DLA, int8"), 3281, 1);
}

static void memory_bound_of_the_post(void **state)
{
	near(post_memory_tok_s(machine("iphone-15-pro")->dram_gb_s, POST_WEIGHT_GB), 12.8, 1e-9);
	near(post_memory_tok_s(machine("orin-64")->dram_gb_s, POST_WEIGHT_GB), 51.2, 1e-9);
	near(post_memory_tok_s(machine("iphone-15-pro")->dram_gb_s, POST_TRAFFIC_GB), 8.53, 0.005);
	near(post_memory_tok_s(machine("orin-64")->dram_gb_s, POST_TRAFFIC_GB), 34.1, 0.05);
}

static void offload_of_the_post(void **state)
{
	const struct machine *m = machine("iphone-15-pro");

	near(post_alpha_max(1, 50), 0.0196, 0.00005);
	near(post_alpha_max(m->flash_gb_s, m->dram_gb_s), 0.0192, 0.00005);
	near(post_dram_effective_gb_s(m->flash_gb_s, 0.5), 1, 1e-9);
	near(50 / post_dram_effective_gb_s(1, 0.5), 50, 1e-9);
	/* at the largest alpha without loss all of the DRAM's bandwidth is used */
	near(post_dram_effective_gb_s(1, post_alpha_max(1, 50)), 50, 1e-9);
}

static void machines_have_names_and_figures(void **state)
{
	const struct machine *m;
	unsigned int n;

	for (n = 0; (m = machine_at(n)); n++) {
		assert_ptr_equal(machine_by_name(m->name), m);
		assert_true(m->dram_gb_s > m->flash_gb_s && m->flash_gb_s > 0 && m->flops > 0);
	}
	assert_true(n >= 4);
	assert_null(machine_by_name("abacus"));
	assert_null(machine_unit_at(machine("orin-nano"), 1000));
}

static void prediction_takes_the_slowest(void **state)
{
	const struct machine m = {"test", 100, 2, 1e12};
	struct prediction p;

	/* resident: 4 GB at 100 GB/s */
	predict(&m, 4e9, 0, 0, 16e9, &p);
	assert_int_equal(p.bound, BOUND_DRAM);
	near(p.tok_s, 25, 1e-9);
	near(p.t_flash, 0, 0);
	/* the KV cache is read too */
	predict(&m, 4e9, 0, 1e9, 16e9, &p);
	near(p.tok_s, 20, 1e-9);
	/* half of it from flash; what streams crosses DRAM twice */
	predict(&m, 4e9, 2e9, 0, 16e9, &p);
	assert_int_equal(p.bound, BOUND_FLASH);
	near(p.tok_s, 1, 1e-9);
	near(p.t_dram, 0.06, 1e-9);
	/* arithmetic */
	predict(&m, 4e9, 0, 0, 1e11, &p);
	assert_int_equal(p.bound, BOUND_COMPUTE);
	near(p.tok_s, 10, 1e-9);
	near(p.alpha_balance, 2.0 / 102, 1e-9);
	assert_string_equal(bound_name(BOUND_FLASH), "flash");
	assert_string_equal(bound_name(BOUND_DRAM), "DRAM");
	assert_string_equal(bound_name(BOUND_COMPUTE), "compute");
}

static void unknown_arithmetic_is_no_bound(void **state)
{
	const struct machine m = {"test", 100, 2, 0};
	struct prediction p;

	predict(&m, 4e9, 0, 0, 1e15, &p);
	assert_int_equal(p.bound, BOUND_DRAM);
	near(p.tok_s, 25, 1e-9);
}

/* ---- memory_available() over a tree of files ---- */

static char root[300];

static void put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = strchr(full + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(full, 0700);
		*p = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_root(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/weir-memory-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(root))
		return -1;
	put("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree:  1 kB\n"
			     "MemAvailable:   8000000 kB\n");
	return 0;
}

static int remove_root(void **state)
{
	char command[400];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

static void no_group_no_limit(void **state)
{
	assert_int_equal(memory_available_at(root), 8000000ull * 1024);
	assert_true(memory_available() > 0);
}

static void version_2_with_ancestors(void **state)
{
	put("/proc/self/cgroup", "0::/user/app\n");
	put("/proc/self/mountinfo",
	    "20 1 0:5 / /proc rw - proc proc rw\n"
	    "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
	put("/sys/fs/cgroup/user/app/memory.max", "max\n");
	put("/sys/fs/cgroup/user/app/memory.current", "1000000\n");
	assert_int_equal(memory_available_at(root), 8000000ull * 1024);
	/* the parent allows 3 GB, uses 1 GB, of which 0.4 GB is idle page cache */
	put("/sys/fs/cgroup/user/memory.max", "3000000000\n");
	put("/sys/fs/cgroup/user/memory.current", "1000000000\n");
	put("/sys/fs/cgroup/user/memory.stat", "anon 5\nfile 9\ninactive_file 400000000\n");
	assert_int_equal(memory_available_at(root), 2400000000ull);
	put("/sys/fs/cgroup/user/app/memory.high", "2000000\n");
	assert_int_equal(memory_available_at(root), 1000000);
	/* over the limit already */
	put("/sys/fs/cgroup/user/app/memory.current", "2000001\n");
	assert_int_equal(memory_available_at(root), 0);
}

static void version_1_beside_an_empty_version_2(void **state)
{
	put("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/box/a\n0::/\n");
	put("/proc/self/mountinfo",
	    "31 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	    "32 20 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	    "33 20 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "3221225472\n");
	put("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "221225472\n");
	put("/sys/fs/cgroup/memory/box/memory.stat",
	    "inactive_file 1\ntotal_inactive_file 221225472\n");
	assert_int_equal(memory_available_at(root), 3221225472ull);
	put("/sys/fs/cgroup/memory/box/a/memory.limit_in_bytes", "1000000000\n");
	put("/sys/fs/cgroup/memory/box/a/memory.usage_in_bytes", "0\n");
	assert_int_equal(memory_available_at(root), 1000000000ull);
}

/* In a container the mount shows the group itself as its top. */
static void a_mount_of_a_subtree(void **state)
{
	put("/proc/self/cgroup", "0::/docker/1234\n");
	put("/proc/self/mountinfo",
	    "30 20 0:26 /docker/1234 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
	put("/sys/fs/cgroup/memory.max", "500000000\n");
	put("/sys/fs/cgroup/memory.current", "100000000\n");
	assert_int_equal(memory_available_at(root), 400000000ull);
	/* a path that leads out of the namespace */
	put("/proc/self/cgroup", "0::/../other\n");
	assert_int_equal(memory_available_at(root), 400000000ull);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compute_bound_of_the_post),
		cmocka_unit_test(memory_bound_of_the_post),
		cmocka_unit_test(offload_of_the_post),
		cmocka_unit_test(machines_have_names_and_figures),
		cmocka_unit_test(prediction_takes_the_slowest),
		cmocka_unit_test(unknown_arithmetic_is_no_bound),
		cmocka_unit_test_setup_teardown(no_group_no_limit, make_root, remove_root),
		cmocka_unit_test_setup_teardown(version_2_with_ancestors, make_root, remove_root),
		cmocka_unit_test_setup_teardown(version_1_beside_an_empty_version_2, make_root,
						remove_root),
		cmocka_unit_test_setup_teardown(a_mount_of_a_subtree, make_root, remove_root),
	};

	return cmocka_run_group_tests_name("prediction and memory", tests, NULL, NULL);
}
