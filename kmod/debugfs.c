// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be read from outside: fdinfo of a session's file, and /sys/kernel/debug/weir/sessions.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "weir.h"

static struct dentry *weir_debugfs;

void weir_session_show(struct seq_file *m, struct weir_session *s)
{
	struct weir_stats a = {};

	weir_session_count(s, &a);
	seq_printf(m, "weir-pinned:\t%llu kB\n", a.pinned_bytes >> 10);
	seq_printf(m, "weir-shared:\t%llu kB\n", a.shared_bytes >> 10);
	seq_printf(m, "weir-extents:\t%u\n", s->n_extent);
	seq_printf(m, "weir-slots:\t%u\n", s->n_slot - READ_ONCE(s->n_gone));
	seq_printf(m, "weir-read:\t%llu\n", a.read_bytes);
	seq_printf(m, "weir-reads:\t%llu\n", a.reads);
	seq_printf(m, "weir-acquires:\t%llu\n", a.acquires);
	seq_printf(m, "weir-late:\t%llu\n", a.late);
	seq_printf(m, "weir-misses:\t%llu\n", a.misses);
	seq_printf(m, "weir-wait-ns:\t%llu\n", a.wait_ns);
	seq_printf(m, "weir-in-flight:\t%u\n", a.in_flight);
	seq_printf(m, "weir-depth:\t%u\n", a.depth);
	seq_printf(m, "weir-given-back:\t%llu\n", a.given_back);
	seq_printf(m, "weir-demoted:\t%llu\n", a.demoted);
	seq_printf(m, "weir-error:\t%d\n", READ_ONCE(s->error));
}

static int weir_sessions_show(struct seq_file *m, void *unused)
{
	struct weir_session *s;

	seq_printf(m, "pinned %llu of %llu kB\n", weir_pinned_now() >> 10, weir_pinned_max() >> 10);
	spin_lock(&weir_sessions_lock);
	list_for_each_entry(s, &weir_sessions, node) {
		seq_printf(m, "\nweir-session:\t%llu\npid:\t%d\npriority:\t%s\n", s->engine.id,
			   s->tgid, READ_ONCE(s->engine.background) ? "background" : "foreground");
		if (weir_session_committed(s))
			weir_session_show(m, s);
	}
	spin_unlock(&weir_sessions_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(weir_sessions);

void weir_debugfs_init(void)
{
	weir_debugfs = debugfs_create_dir("weir", NULL);
	debugfs_create_file("sessions", 0400, weir_debugfs, NULL, &weir_sessions_fops);
}

void weir_debugfs_exit(void)
{
	debugfs_remove(weir_debugfs);
}
