// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shrinker: when the system is short of memory, sessions give back frames that were read
 * ahead and that nobody uses, background sessions first, and then pins that are soft.
 */
#include <linux/mm.h>

#include "compat.h"
#include "weir.h"

/* The next session behind @s, or the first, with a reference; the one on @s is dropped. */
static struct weir_session *weir_next_session(struct weir_session *s)
{
	struct weir_session *next, *found = NULL;
	u64 after = s ? s->engine.id : 0;

	spin_lock(&weir_sessions_lock);
	list_for_each_entry(next, &weir_sessions, node) {
		/* By number: @s may have left the list meanwhile. */
		if (next->engine.id > after && kref_get_unless_zero(&next->engine.ref)) {
			found = next;
			break;
		}
	}
	spin_unlock(&weir_sessions_lock);
	if (s)
		weir_engine_put(&s->engine);
	return found;
}

static unsigned long weir_shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct weir_session *s = NULL;
	unsigned long pages = 0;

	while ((s = weir_next_session(s)))
		pages += weir_session_spare(s);
	return pages ?: SHRINK_EMPTY;
}

static unsigned long weir_shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	unsigned long given = 0;
	int background;

	for (background = 1; background >= 0; background--) {
		struct weir_session *s = NULL;

		while ((s = weir_next_session(s)))
			if (READ_ONCE(s->engine.background) == background && given < sc->nr_to_scan)
				given += weir_session_give_back(s, sc->nr_to_scan - given);
	}
	return given ?: SHRINK_STOP;
}

#ifdef HAVE_SHRINKER_ALLOC
static struct shrinker *weir_shrinker;

int weir_pressure_init(void)
{
	weir_shrinker = shrinker_alloc(0, "weir");
	if (!weir_shrinker)
		return -ENOMEM;
	weir_shrinker->count_objects = weir_shrink_count;
	weir_shrinker->scan_objects = weir_shrink_scan;
	shrinker_register(weir_shrinker);
	return 0;
}

void weir_pressure_exit(void)
{
	shrinker_free(weir_shrinker);
}
#else
static struct shrinker weir_shrinker = {
	.count_objects = weir_shrink_count,
	.scan_objects = weir_shrink_scan,
	.seeks = DEFAULT_SEEKS,
};

int weir_pressure_init(void)
{
#ifdef HAVE_REGISTER_SHRINKER_FMT
	return register_shrinker(&weir_shrinker, "weir");
#else
	return register_shrinker(&weir_shrinker);
#endif
}

void weir_pressure_exit(void)
{
	unregister_shrinker(&weir_shrinker);
}
#endif
