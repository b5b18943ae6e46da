// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned extents: read once, kept until the last session that uses them is closed.
 *
 * Sessions that pin the same extents of the same unchanged files share one struct weir_pins. It
 * is charged to whoever came first, and stays so. "The same" is: same inodes, sizes and change
 * times, same ranges in the same order. Every one of these sessions has opened the files for
 * reading itself, so that sharing shows nobody what he could not read.
 */
#include <linux/overflow.h>
#include <linux/slab.h>

#include "trace.h"
#include "weir.h"

#define WEIR_PIN_READS 16 /* in flight while filling */

static DEFINE_MUTEX(weir_pins_mutex); /* protects the list and users */
static LIST_HEAD(weir_pins_list);

static struct weir_pins *to_pins(struct weir_engine *e)
{
	return container_of(e, struct weir_pins, engine);
}

/* ---- reading ---- */

static bool weir_pins_next(struct weir_engine *e, struct weir_target *t)
{
	struct weir_pins *p = to_pins(e);
	struct weir_extent *x;
	struct weir_pin *pin;
	bool found = false;
	u64 len;

	spin_lock(&e->lock);
	while (!p->at && p->next < p->n_extent && p->pin[p->next].state != WEIR_PIN_TODO)
		p->next++;
	if (p->next < p->n_extent) {
		x = &p->extent[p->next];
		pin = &p->pin[p->next];
		len = min_t(u64, x->length - p->at, WEIR_READ_MAX);
		*t = (struct weir_target){
			.area = &p->area,
			.area_off = pin->offset + p->at,
			.off = x->offset + p->at,
			.len = len,
			.file = x->file,
			.extent = p->next,
		};
		pin->state = WEIR_PIN_READING;
		pin->pieces++;
		p->at += len;
		if (p->at == x->length)
			p->at = 0;
		found = true;
	}
	spin_unlock(&e->lock);
	return found;
}

static void weir_pins_complete(struct weir_engine *e, const struct weir_target *t, int error)
{
	struct weir_pins *p = to_pins(e);
	struct weir_pin *pin = &p->pin[t->extent];
	struct weir_session *s;

	spin_lock(&e->lock);
	if (error && !pin->error)
		pin->error = error;
	if (error == -ESTALE)
		p->stale = true;
	pin->pieces--;
	/* at: there are pieces of it that have not been submitted yet */
	if (!pin->pieces && !(p->at && p->next == t->extent)) {
		pin->state = pin->error ? WEIR_PIN_FAILED : WEIR_PIN_READ;
		if (pin->error)
			WRITE_ONCE(pin->failed, pin->error);
		list_for_each_entry(s, &p->sessions, pins_node)
			weir_session_pin_done(s, t->extent, pin->error);
	}
	spin_unlock(&e->lock);
}

/* Reads a pinned extent again that could not be read. */
void weir_pins_retry(struct weir_pins *p, u32 i)
{
	spin_lock(&p->engine.lock);
	if (p->pin[i].state == WEIR_PIN_FAILED && !p->at) {
		p->pin[i].state = WEIR_PIN_TODO;
		p->pin[i].error = 0;
		p->next = min(p->next, i);
	}
	spin_unlock(&p->engine.lock);
	weir_engine_kick(&p->engine);
}

static void weir_pins_settle(struct weir_engine *e)
{
}

static void weir_pins_fini(struct weir_engine *e)
{
	struct weir_pins *p = to_pins(e);

	weir_area_free(&p->area);
	weir_uncharge(&p->charge);
	kvfree(p->extent);
	kvfree(p->pin);
}

static const struct weir_engine_ops weir_pins_ops = {
	.next = weir_pins_next,
	.complete = weir_pins_complete,
	.settle = weir_pins_settle,
	.fini = weir_pins_fini,
};

/* ---- sharing ---- */

static bool weir_pins_match(const struct weir_pins *p, const struct weir_session *s,
			    const struct weir_extent *extent, u32 n)
{
	u32 i;

	if (p->stale || p->n_extent != n || p->engine.n_file != s->engine.n_file)
		return false;
	for (i = 0; i < s->engine.n_file; i++)
		if (!weir_file_same(&p->engine.file[i], &s->engine.file[i]))
			return false;
	for (i = 0; i < n; i++)
		if (p->extent[i].file != extent[i].file ||
		    p->extent[i].offset != extent[i].offset ||
		    p->extent[i].length != extent[i].length)
			return false;
	return true;
}

static int weir_pins_fill_in(struct weir_pins *p, const struct weir_session *s,
			     const struct weir_extent *extent, u32 n)
{
	u64 bytes = 0;
	int ret;
	u32 i;

	p->engine.file = kvcalloc(s->engine.n_file, sizeof(*p->engine.file), WEIR_GFP);
	p->extent = kvmalloc_array(n, sizeof(*p->extent), WEIR_GFP);
	p->pin = kvcalloc(n, sizeof(*p->pin), WEIR_GFP);
	if (!p->engine.file || !p->extent || !p->pin)
		return -ENOMEM;
	for (; p->engine.n_file < s->engine.n_file; p->engine.n_file++)
		weir_file_dup(&p->engine.file[p->engine.n_file], &s->engine.file[p->engine.n_file]);
	memcpy(p->extent, extent, n * sizeof(*p->extent));
	p->n_extent = n;
	for (i = 0; i < n; i++) {
		p->pin[i].offset = bytes;
		if (check_add_overflow(bytes, PAGE_ALIGN(extent[i].length), &bytes))
			return -ENOMEM;
	}
	ret = weir_engine_reads(&p->engine, WEIR_PIN_READS);
	if (!ret)
		ret = weir_charge(&p->charge, bytes);
	if (!ret)
		ret = weir_area_alloc(&p->area, bytes);
	return ret;
}

static struct weir_pins *weir_pins_new(const struct weir_session *s,
				       const struct weir_extent *extent, u32 n)
{
	struct weir_pins *p = kzalloc(sizeof(*p), WEIR_GFP);
	int ret;

	if (!p)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&p->sessions);
	INIT_LIST_HEAD(&p->node);
	ret = weir_engine_init(&p->engine, &weir_pins_ops);
	if (ret) {
		kfree(p);
		return ERR_PTR(ret);
	}
	/* The session's, not the caller's, should the session have been handed on. */
	put_cred(p->engine.cred);
	p->engine.cred = get_cred(s->engine.cred);
	p->engine.ioprio = s->engine.ioprio;
	p->engine.background = s->engine.background;
	p->engine.submit = s->engine.submit;
	ret = weir_pins_fill_in(p, s, extent, n);
	if (ret) {
		weir_engine_abandon(&p->engine);
		return ERR_PTR(ret);
	}
	return p;
}

int weir_pins_attach(struct weir_session *s, const struct weir_extent *extent, u32 n)
{
	struct weir_pins *p;
	int ret;

	ret = mutex_lock_killable(&weir_pins_mutex);
	if (ret)
		return ret;
	list_for_each_entry(p, &weir_pins_list, node) {
		if (weir_pins_match(p, s, extent, n)) {
			s->pins_shared = true;
			goto found;
		}
	}
	p = weir_pins_new(s, extent, n);
	if (IS_ERR(p)) {
		mutex_unlock(&weir_pins_mutex);
		return PTR_ERR(p);
	}
	list_add(&p->node, &weir_pins_list);
found:
	p->users++;
	s->pins = p;
	mutex_unlock(&weir_pins_mutex);
	return 0;
}

/* From here on the session's control page shows what has been read. */
void weir_pins_watch(struct weir_session *s)
{
	struct weir_pins *p = s->pins;
	u32 i;

	spin_lock(&p->engine.lock);
	list_add(&s->pins_node, &p->sessions);
	for (i = 0; i < p->n_extent; i++)
		if (p->pin[i].state >= WEIR_PIN_READ)
			weir_session_pin_done(s, i, p->pin[i].error);
	spin_unlock(&p->engine.lock);
	weir_pins_set_background(p);
}

void weir_pins_set_background(struct weir_pins *p)
{
	bool background = true;
	struct weir_session *s;

	spin_lock(&p->engine.lock);
	list_for_each_entry(s, &p->sessions, pins_node)
		background &= READ_ONCE(s->engine.background);
	WRITE_ONCE(p->engine.background, background);
	spin_unlock(&p->engine.lock);
	weir_engine_kick(&p->engine);
}

void weir_pins_unwatch(struct weir_session *s)
{
	struct weir_pins *p = s->pins;

	if (!p)
		return;
	spin_lock(&p->engine.lock);
	list_del_init(&s->pins_node);
	spin_unlock(&p->engine.lock);
}

void weir_pins_detach(struct weir_session *s, struct weir_end **end)
{
	struct weir_pins *p = s->pins;
	bool last;

	if (!p)
		return;
	mutex_lock(&weir_pins_mutex);
	last = !--p->users;
	if (last)
		list_del(&p->node);
	else
		weir_pins_set_background(p);
	mutex_unlock(&weir_pins_mutex);
	s->pins = NULL;
	if (!last)
		return;
	weir_engine_kill(&p->engine);
	if (end)
		swap(p->engine.end, *end);
	/* Of a COMMIT that fails they have not run: the next one finds their memory free. */
	weir_engine_put_now(&p->engine);
}
