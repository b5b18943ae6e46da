// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory: areas of compound pages, and who pays for them.
 *
 * Pages are not movable and not on any LRU list: a device may hold them for as long as it likes,
 * and reclaim never looks at them. They are charged to the memory cgroup of whoever calls COMMIT.
 *
 * Every limit counts: RLIMIT_MEMLOCK of the user (unless CAP_IPC_LOCK), the memory cgroup, and
 * max_pinned_mb for all sessions together, because pages that are not mapped are seen by no one,
 * the OOM killer's score included.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "weir.h"

static unsigned long weir_max_pinned_mb;
module_param_named(max_pinned_mb, weir_max_pinned_mb, ulong, 0644);
MODULE_PARM_DESC(max_pinned_mb, "MiB that all sessions may pin together (0: half of RAM)");

static atomic_long_t weir_pinned_pages;

/* 2 MiB where a page is 4 KiB: one entry of the second level of the page table. */
static const unsigned int weir_orders[] = {
	ilog2(SZ_2M) > PAGE_SHIFT ? ilog2(SZ_2M) - PAGE_SHIFT : 0,
	ilog2(SZ_64K) > PAGE_SHIFT ? ilog2(SZ_64K) - PAGE_SHIFT : 0,
	0,
};

u64 weir_frame_sizes(void)
{
	u64 sizes = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(weir_orders); i++)
		sizes |= (u64)PAGE_SIZE << weir_orders[i];
	return sizes;
}

/* ---- areas ---- */

/*
 * Large orders are tried without effort: breaking up memory for them costs more than they bring.
 * The last resort tries hard, but fails before anything is killed for it.
 */
static struct page *weir_alloc_block(u32 order, bool nowait)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_ACCOUNT;

	if (order)
		gfp |= __GFP_COMP | __GFP_NORETRY;
	else
		gfp |= __GFP_RETRY_MAYFAIL;
	if (order || nowait)
		gfp &= ~__GFP_RECLAIM;
	return alloc_pages(gfp, order);
}

static gfp_t weir_array_gfp(bool nowait)
{
	return nowait ? GFP_NOWAIT | __GFP_ACCOUNT | __GFP_NOWARN : WEIR_GFP;
}

static int weir_area_fill(struct weir_area *a, u64 bytes, bool nowait)
{
	u32 n_pages = bytes >> PAGE_SHIFT, pgoff = 0, pick = 0;

	/* At worst nothing but single pages; the array is trimmed afterwards. */
	a->block = kvcalloc(n_pages, sizeof(*a->block), weir_array_gfp(nowait));
	if (!a->block)
		return -ENOMEM;
	while (pgoff < n_pages) {
		u32 order = weir_orders[pick];
		struct page *page;

		/* The end of an area is made of descending powers of two. */
		order = min_t(u32, order, ilog2(n_pages - pgoff));
		if (fatal_signal_pending(current))
			return -EINTR;
		page = weir_alloc_block(order, nowait);
		if (!page) {
			while (pick < ARRAY_SIZE(weir_orders) && weir_orders[pick] >= order)
				pick++;
			if (pick == ARRAY_SIZE(weir_orders))
				return -ENOMEM;
			continue;
		}
		/* Mapping a huge page asks whether it lies within the file, by its index. */
		page->index = 0;
		a->block[a->n_block++] = (struct weir_block){page, pgoff, order};
		pgoff += 1u << order;
		cond_resched();
	}
	return 0;
}

static void weir_area_trim(struct weir_area *a, bool nowait)
{
	struct weir_block *block;

	block = kvcalloc(a->n_block, sizeof(*block), weir_array_gfp(nowait));
	if (!block)
		return;
	memcpy(block, a->block, a->n_block * sizeof(*block));
	kvfree(a->block);
	a->block = block;
}

static int weir_area_make(struct weir_area *a, u64 bytes, bool nowait)
{
	int ret;

	*a = (struct weir_area){};
	bytes = PAGE_ALIGN(bytes);
	if (!bytes)
		return 0;
	/* Fewer pages than fit u32, and far more than any machine has. */
	if (bytes >> PAGE_SHIFT > U32_MAX / 2)
		return -ENOMEM;
	ret = weir_area_fill(a, bytes, nowait);
	if (ret) {
		weir_area_free(a);
		return ret;
	}
	weir_area_trim(a, nowait);
	a->bytes = bytes;
	return 0;
}

int weir_area_alloc(struct weir_area *a, u64 bytes)
{
	return weir_area_make(a, bytes, false);
}

int weir_area_alloc_nowait(struct weir_area *a, u64 bytes)
{
	return weir_area_make(a, bytes, true);
}

void weir_area_free(struct weir_area *a)
{
	u32 i;

	/* Whoever still holds a page (a pipe, a device) keeps it until he lets go. */
	for (i = 0; i < a->n_block; i++)
		put_page(a->block[i].page);
	kvfree(a->block);
	*a = (struct weir_area){};
}

/* The block that holds a page, which there is. */
static u32 weir_area_find(const struct weir_area *a, pgoff_t pgoff)
{
	u32 lo = 0, hi = a->n_block;

	while (hi - lo > 1) {
		u32 mid = lo + (hi - lo) / 2;

		if (a->block[mid].pgoff <= pgoff)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

struct page *weir_area_page(const struct weir_area *a, pgoff_t pgoff)
{
	const struct weir_block *b;

	if (pgoff >= a->bytes >> PAGE_SHIFT)
		return NULL;
	b = &a->block[weir_area_find(a, pgoff)];
	return b->page + (pgoff - b->pgoff);
}

u32 weir_area_bvec(const struct weir_area *a, u64 off, u64 len, struct bio_vec *bv)
{
	u32 i = weir_area_find(a, off >> PAGE_SHIFT), n = 0;

	for (; len; i++, n++) {
		const struct weir_block *b = &a->block[i];
		u64 from = off - ((u64)b->pgoff << PAGE_SHIFT);
		u64 piece = min_t(u64, len, ((u64)PAGE_SIZE << b->order) - from);

		if (bv)
			bv[n] = (struct bio_vec){
				.bv_page = b->page + (from >> PAGE_SHIFT),
				.bv_offset = offset_in_page(from),
				.bv_len = piece,
			};
		off += piece;
		len -= piece;
	}
	return n;
}

void weir_area_zero(const struct weir_area *a, u64 off, u64 len)
{
	while (len) {
		u32 at = offset_in_page(off);
		u32 piece = min_t(u64, len, PAGE_SIZE - at);

		zero_user(weir_area_page(a, off >> PAGE_SHIFT), at, piece);
		off += piece;
		len -= piece;
	}
}

/*
 * How many page tables map a compound page or a part of it. Kernels before 6.9 keep no sum and
 * do not export the function that adds it up. Before 6.2 mapping a huge page as a whole of a file
 * counted in every part of it as well.
 */
static int weir_mapcount(struct page *page, u32 order)
{
#ifdef HAVE_LARGE_MAPCOUNT
	return folio_mapcount(page_folio(page));
#else
	int sum, whole, i;

	if (!order)
		return page_mapcount(page);
#ifdef HAVE_ENTIRE_MAPCOUNT
	whole = folio_entire_mapcount(page_folio(page));
#else
	whole = compound_mapcount(page);
#endif
	/* Mapped as a whole and by nothing else: no need to look at its parts. */
	if (page_count(page) == 1 + whole)
		return whole;
	sum = whole;
	for (i = 0; i < 1 << order; i++)
		sum += atomic_read(&page[i]._mapcount) + 1;
#ifdef HAVE_NR_PAGES_MAPPED
	/* Compiles only where there is such a member: a probe that erred cannot pass unseen. */
	BUILD_BUG_ON(!offsetof(struct folio, _nr_pages_mapped));
#else
	sum -= whole << order;
#endif
	return sum;
#endif
}

bool weir_area_referenced(const struct weir_area *a)
{
	u32 i;

	for (i = 0; i < a->n_block; i++) {
		const struct weir_block *b = &a->block[i];

		/*
		 * A page table holds one reference for each mapping. The counts cannot be read at
		 * once, so references are read before and after: a mapping that comes between is
		 * in the second, one that goes is in the first, and neither hides a reference.
		 * Either may look like one for a moment, which only costs time.
		 */
		int before, mapped, after;

		before = page_count(b->page);
		smp_rmb(); /* references before mappings; nobody has to pair with it */
		mapped = weir_mapcount(b->page, b->order);
		smp_rmb(); /* mappings before references */
		after = page_count(b->page);
		if (max(before, after) > 1 + mapped)
			return true;
	}
	return false;
}

/* ---- who pays ---- */

u64 weir_pinned_max(void)
{
	u64 mb = READ_ONCE(weir_max_pinned_mb);

	if (mb)
		return min(mb, U64_MAX >> 20) << 20;
	return (u64)(totalram_pages() / 2) << PAGE_SHIFT;
}

u64 weir_pinned_now(void)
{
	return (u64)atomic_long_read(&weir_pinned_pages) << PAGE_SHIFT;
}

/* Adds @pages unless that exceeds @max. */
static bool weir_add_below(atomic_long_t *count, long pages, unsigned long max)
{
	long now = atomic_long_read(count);

	do {
		if (pages > max || now > max - pages)
			return false;
	} while (!atomic_long_try_cmpxchg(count, &now, now + pages));
	return true;
}

int weir_charge_part(struct weir_charge *c, u64 bytes)
{
	long pages = bytes >> PAGE_SHIFT;

	if (!weir_add_below(&weir_pinned_pages, pages, weir_pinned_max() >> PAGE_SHIFT))
		return -ENOMEM;
	if (c->locked_vm &&
	    !weir_add_below(&c->user->locked_vm, pages, rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT)) {
		atomic_long_sub(pages, &weir_pinned_pages);
		return -ENOMEM;
	}
	atomic64_add(bytes, &c->bytes);
	return 0;
}

void weir_uncharge_part(struct weir_charge *c, u64 bytes)
{
	long pages = bytes >> PAGE_SHIFT;

	atomic_long_sub(pages, &weir_pinned_pages);
	if (c->locked_vm)
		atomic_long_sub(pages, &c->user->locked_vm);
	atomic64_sub(bytes, &c->bytes);
}

int weir_charge(struct weir_charge *c, u64 bytes)
{
	int ret;

	*c = (struct weir_charge){
		.user = get_uid(current_user()),
		.locked_vm = !capable(CAP_IPC_LOCK),
	};
	ret = weir_charge_part(c, PAGE_ALIGN(bytes));
	if (ret) {
		free_uid(c->user);
		*c = (struct weir_charge){};
	}
	return ret;
}

void weir_uncharge(struct weir_charge *c)
{
	if (!c->user)
		return;
	weir_uncharge_part(c, atomic64_read(&c->bytes));
	free_uid(c->user);
	*c = (struct weir_charge){};
}
