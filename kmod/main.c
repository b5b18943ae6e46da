// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/weir: the device and its ioctls. What each of them does is in session.c,
 * commit.c, consume.c and dmabuf.c.
 *
 * One table says for every ioctl how large its struct was when it was new, and where its reserved
 * fields are; checking them happens here, once. The struct is copied in, and out again where the
 * ioctl does nothing but answer. One that has an effect answers by itself, as the last step that
 * may fail (weir_answer()).
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

#include "weir.h"

union weir_arg {
	u32 size;
	struct weir_info info;
	struct weir_attach attach;
	struct weir_extents extents;
	struct weir_commit commit;
	struct weir_acquire_args acquire;
	struct weir_release release;
	struct weir_hint hint;
	struct weir_schedule schedule;
	struct weir_set_priority priority;
	struct weir_export export;
	struct weir_stats stats;
};

static int weir_ioctl_info(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	arg->info = (struct weir_info){
		.size = arg->size,
		.features = WEIR_FEATURE_SHARED | WEIR_FEATURE_SOFT | WEIR_FEATURE_BACKGROUND,
		.pinned_max = weir_pinned_max(),
		.pinned_now = weir_pinned_now(),
		.frame_sizes = weir_frame_sizes(),
		.max_extents = WEIR_MAX_EXTENTS,
		.max_files = WEIR_MAX_FILES,
	};
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
		arg->info.features |= WEIR_FEATURE_DMABUF;
	return 0;
}

static int weir_ioctl_attach(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_attach(s, &arg->attach, user);
}

static int weir_ioctl_extents(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_extents(s, &arg->extents);
}

static int weir_ioctl_commit(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_commit(s, &arg->commit, user);
}

static int weir_ioctl_acquire(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	int ret = weir_session_acquire(s, &arg->acquire);

	/* Only a failure has something to say: which extent it was. */
	if (ret)
		weir_answer(user, &arg->acquire, min_t(u32, arg->size, sizeof(arg->acquire)));
	return ret;
}

static int weir_ioctl_release(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_release(s, &arg->release);
}

static int weir_ioctl_hint(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_hint(s, &arg->hint);
}

static int weir_ioctl_schedule(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_schedule(s, &arg->schedule);
}

static int weir_ioctl_priority(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	if (arg->priority.priority > WEIR_BACKGROUND)
		return -EOPNOTSUPP;
	return weir_session_set_background(s, arg->priority.priority == WEIR_BACKGROUND);
}

static int weir_ioctl_export(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_export(s, &arg->export, user);
}

static int weir_ioctl_stats(struct weir_session *s, union weir_arg *arg, void __user *user)
{
	return weir_session_stats(s, &arg->stats);
}

struct weir_ioctl_op {
	int (*execute)(struct weir_session *s, union weir_arg *arg, void __user *user);
	u32 size;     /* in this kernel */
	u32 min_size; /* when it was new */
	u32 flags;    /* known bits of the field after size */
	u32 reserved; /* offset of a u32 that must be 0; 0: there is none */
	bool answers;
};

#define WEIR_OP(_nr, _fn, _struct, _last, _flags, _reserved, _answers)                             \
	[_nr] = {                                                                                  \
		.execute = _fn,                                                                    \
		.size = sizeof(struct _struct) +                                                   \
			BUILD_BUG_ON_ZERO(sizeof(struct _struct) > sizeof(union weir_arg)),        \
		.min_size = offsetofend(struct _struct, _last),                                    \
		.flags = _flags,                                                                   \
		.reserved = _reserved,                                                             \
		.answers = _answers,                                                               \
	}

static const struct weir_ioctl_op weir_ioctl_ops[] = {
	WEIR_OP(WEIR_CMD_INFO, weir_ioctl_info, weir_info, max_files, 0, 0, true),
	WEIR_OP(WEIR_CMD_ATTACH, weir_ioctl_attach, weir_attach, file_bytes, WEIR_ATTACH_BUFFERED,
		0, false),
	WEIR_OP(WEIR_CMD_EXTENTS, weir_ioctl_extents, weir_extents, extents, 0,
		offsetof(struct weir_extents, reserved), false),
	WEIR_OP(WEIR_CMD_COMMIT, weir_ioctl_commit, weir_commit, shared_bytes,
		WEIR_COMMIT_REGISTERED, offsetof(struct weir_commit, reserved), false),
	WEIR_OP(WEIR_CMD_ACQUIRE, weir_ioctl_acquire, weir_acquire_args, offsets,
		WEIR_ACQUIRE_WAIT_ONLY, 0, false),
	WEIR_OP(WEIR_CMD_RELEASE, weir_ioctl_release, weir_release, extents, 0,
		offsetof(struct weir_release, reserved), false),
	WEIR_OP(WEIR_CMD_HINT, weir_ioctl_hint, weir_hint, extents, 0, 0, false),
	WEIR_OP(WEIR_CMD_SCHEDULE, weir_ioctl_schedule, weir_schedule, extents, 0,
		offsetof(struct weir_schedule, reserved), false),
	WEIR_OP(WEIR_CMD_PRIORITY, weir_ioctl_priority, weir_set_priority, reserved, 0,
		offsetof(struct weir_set_priority, reserved), false),
	WEIR_OP(WEIR_CMD_EXPORT, weir_ioctl_export, weir_export, reserved, 0,
		offsetof(struct weir_export, reserved), false),
	WEIR_OP(WEIR_CMD_STATS, weir_ioctl_stats, weir_stats, shared_bytes, 0, 0, true),
};

static long weir_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	const struct weir_ioctl_op *op;
	void __user *ptr = (void __user *)user;
	union weir_arg arg = {};
	u32 size, nr = _IOC_NR(cmd);
	int ret;

	/* The numbers carry neither size nor direction. */
	if (cmd != _IO(WEIR_IOC_TYPE, nr) || nr >= ARRAY_SIZE(weir_ioctl_ops))
		return -ENOTTY;
	op = &weir_ioctl_ops[nr];
	if (get_user(size, (u32 __user *)ptr))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	ret = copy_struct_from_user(&arg, op->size, ptr, size);
	if (ret)
		return ret;
	/* Every struct has its flags behind its size. */
	if (arg.info.flags & ~op->flags)
		return -EOPNOTSUPP;
	if (op->reserved && *(u32 *)((char *)&arg + op->reserved))
		return -EOPNOTSUPP;
	ret = op->execute(file->private_data, &arg, ptr);
	if (op->answers && copy_to_user(ptr, &arg, min(size, op->size)))
		return ret ?: -EFAULT;
	return ret;
}

static int weir_open(struct inode *inode, struct file *file)
{
	struct weir_session *s = weir_session_open();

	if (IS_ERR(s))
		return PTR_ERR(s);
	file->private_data = s;
	/* Unmapping a frame must not touch other sessions' mappings. */
	file->f_mapping = s->inode->i_mapping;
	return 0;
}

static int weir_release(struct inode *inode, struct file *file)
{
	weir_session_close(file->private_data);
	return 0;
}

static int weir_mmap(struct file *file, struct vm_area_struct *vma)
{
	return weir_map(file->private_data, vma);
}

static void weir_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct weir_session *s = file->private_data;

	seq_printf(m, "weir-session:\t%llu\n", s->engine.id);
	if (weir_session_committed(s))
		weir_session_show(m, s);
}

static const struct file_operations weir_fops = {
	.owner = THIS_MODULE,
	.open = weir_open,
	.release = weir_release,
	.unlocked_ioctl = weir_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = weir_mmap,
	/* Aligned, so that huge pages can be mapped as such. */
	.get_unmapped_area = thp_get_unmapped_area,
	.show_fdinfo = weir_show_fdinfo,
	.llseek = noop_llseek,
};

static struct miscdevice weir_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "weir",
	.fops = &weir_fops,
	.mode = 0660,
};

static int __init weir_init(void)
{
	int ret;

	ret = weir_io_init();
	if (ret)
		return ret;
	ret = weir_pressure_init();
	if (ret)
		goto io;
	weir_debugfs_init();
	ret = misc_register(&weir_device);
	if (ret)
		goto pressure;
	return 0;

pressure:
	weir_debugfs_exit();
	weir_pressure_exit();
io:
	weir_io_exit();
	return ret;
}

static void __exit weir_exit(void)
{
	misc_deregister(&weir_device);
	weir_debugfs_exit();
	weir_pressure_exit();
	weir_io_exit();
}

module_init(weir_init);
module_exit(weir_exit);

MODULE_DESCRIPTION("Pinned memory for weights, filled from flash in a declared order");
MODULE_AUTHOR("The weir authors");
MODULE_LICENSE("GPL");
