// SPDX-License-Identifier: MIT
/*
 * stream_bench: how fast a source reads, without any arithmetic.
 *
 *	stream_bench FILE BUDGET [SECONDS [DEPTH [COMPUTE_MS [SOURCE]]]]
 *
 * The file, whatever it holds, is taken for a model: "tensors" of 24 MiB, rows of 9216 bytes.
 * Each tensor's streamed extents are acquired as a decoder would (at most max_acquire at once),
 * one byte a page is read, and they are released. COMPUTE_MS: what to sleep for every pass,
 * spread over its tensors. SOURCE: as weir's --source; uring unless given. Prints one line: GB/s
 * read from flash while streaming, CPU seconds per GB of this process and of the whole system
 * (interrupts and kernel threads work for us too), pass time, depth found. BUDGET as on weir's
 * command line (2G, 50%).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "stream/stream.h"

#define ROW_BYTES    9216ull
#define TENSOR_BYTES (24ull << 20)
#define MAX_TENSOR   8192

/* What was touched, so that touching it is not left out. */
volatile unsigned int stream_bench_sum;

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Seconds that all CPUs together have not been idle; 0 where that cannot be had. */
static double busy_seconds(void)
{
	FILE *f = fopen("/proc/stat", "r");
	double v[8] = {0};
	int n = 0;

	if (!f)
		return 0;
	n = fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", v, v + 1, v + 2, v + 3, v + 4, v + 5,
		   v + 6, v + 7);
	fclose(f);
	/* but for idle and waiting for I/O */
	return n == 8 ? (v[0] + v[1] + v[2] + v[5] + v[6]) / (double)sysconf(_SC_CLK_TCK) : 0;
}

static void note(void *arg, const char *sentence)
{
	fprintf(stderr, "stream_bench: %s\n", sentence);
}

/* Holds up to max_acquire streamed extents, touches their pages, gives them back. */
static int use_tensor(struct source *s, const struct plan *plan, uint32_t t, struct err *err)
{
	const struct plan_tensor_segs *ts = &plan->tensor[t];
	uint32_t held[64], n = 0;
	const void *data;
	int r = 0;

	for (uint32_t i = 0; i < ts->n_seg && !r; i++) {
		uint32_t e = plan->seg[ts->seg0 + i].extent;

		if (plan->extent[e].kind != EXTENT_STREAM)
			continue;
		r = source_acquire(s, e, &data, err);
		if (r)
			break;
		for (uint64_t at = 0; at < plan->extent[e].len; at += PAGE_4K)
			stream_bench_sum += ((const unsigned char *)data)[at];
		held[n++] = e;
		if (n < plan->max_acquire && n < ARRAY_SIZE(held))
			continue;
		while (n)
			source_release(s, held[--n]);
	}
	while (n)
		source_release(s, held[--n]);
	return r;
}

static int run(struct source *s, const struct plan *plan, double seconds, double compute_ms,
	       struct err *err)
{
	struct timespec nap = {0, (long)(compute_ms * 1e6 / plan->n_tensor)};
	uint64_t start, passes = 0;
	struct source_stats a, b;
	double cpu, busy, wall, gb;
	int r;

	/* one pass to find the depth and to be in the middle of things */
	for (uint32_t t = 0; t < plan->n_tensor; t++) {
		r = use_tensor(s, plan, t, err);
		if (r)
			return r;
	}
	s->ops->stats(s, &a);
	cpu = cpu_seconds();
	busy = busy_seconds();
	start = now_ns();
	do {
		for (uint32_t t = 0; t < plan->n_tensor; t++) {
			r = use_tensor(s, plan, t, err);
			if (r)
				return r;
			if (nap.tv_nsec)
				nanosleep(&nap, NULL);
		}
		passes++;
		wall = (double)(now_ns() - start) / 1e9;
	} while (wall < seconds);
	cpu = cpu_seconds() - cpu;
	busy = busy_seconds() - busy;
	s->ops->stats(s, &b);
	gb = (double)(b.stream_read_bytes - a.stream_read_bytes) / 1e9;
	printf("%.4f GB/s, %.4f CPU s/GB, system %.4f CPU s/GB, %.3f s a pass of %.3f GB, waited "
	       "%.1f%%, depth %u, "
	       "hits %llu late %llu misses %llu\n",
	       gb / wall, gb > 0 ? cpu / gb : 0, gb > 0 ? busy / gb : 0, wall / (double)passes,
	       (double)plan->stream_bytes / 1e9, (double)(b.wait_ns - a.wait_ns) / 1e7 / wall,
	       b.depth, (unsigned long long)(b.hits - a.hits),
	       (unsigned long long)(b.late - a.late), (unsigned long long)(b.misses - a.misses));
	return 0;
}

int main(int argc, char **argv)
{
	static struct plan_tensor tensor[MAX_TENSOR];
	double seconds = argc > 3 ? atof(argv[3]) : 10, compute_ms = argc > 5 ? atof(argv[5]) : 0;
	const struct source_ops *ops = argc > 6 ? source_by_name(argv[6]) : &source_uring;
	struct source_params sp = {.n_file = 1, .note = note};
	struct plan_params pp = {0};
	struct plan *plan = NULL;
	struct source *s = NULL;
	uint64_t size, rows, start;
	struct source_stats st;
	uint32_t n = 0;
	struct stat file;
	struct err err;
	int r;

	if (argc < 3 || !ops || stat(argv[1], &file)) {
		fprintf(stderr, "usage: stream_bench FILE BUDGET [SECONDS [DEPTH [COMPUTE_MS "
				"[SOURCE]]]]\n");
		return 2;
	}
	size = (uint64_t)file.st_size;
	for (uint64_t off = 0; off + ROW_BYTES <= size && n < MAX_TENSOR; off += rows * ROW_BYTES) {
		rows = MIN(TENSOR_BYTES, size - off) / ROW_BYTES;
		tensor[n++] = (struct plan_tensor){
			.off = off, .row_bytes = ROW_BYTES, .n_rows = rows, .cls = PLAN_SWEEP};
	}
	r = parse_size(argv[2], size, &pp.budget, &err);
	if (!r)
		r = plan_make(tensor, n, &size, 1, &pp, &plan, &err);
	if (r)
		goto out;
	sp.path = (const char *const *)&argv[1];
	sp.plan = plan;
	sp.depth = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
	start = now_ns();
	r = ops->open(&sp, &s, &err);
	if (r)
		goto out;
	s->ops->stats(s, &st);
	fprintf(stderr,
		"pinned %.3f GB, alpha %.3f, ring %u x %.1f MiB, held %u, locked %.3f GB, filled "
		"at %.3f "
		"GB/s\n",
		(double)plan->pinned_bytes / 1e9, plan->alpha, plan->n_slot,
		(double)plan->slot_bytes / 1048576, plan->max_acquire,
		(double)st.locked_bytes / 1e9,
		(double)plan->pinned_bytes / (double)(now_ns() - start));
	if (plan->n_slot)
		r = run(s, plan, seconds, compute_ms, &err);
	s->ops->close(s);
out:
	plan_free(plan);
	if (r)
		fprintf(stderr, "stream_bench: %s\n", err.text);
	return r ? 1 : 0;
}
