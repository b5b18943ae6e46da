// SPDX-License-Identifier: GPL-2.0-only
/*
 * Model files: which may be attached, and whether they are still what they were.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/stat.h>

#include "weir.h"

/* Would generic_file_read_iter() call what is not there? */
static bool weir_can_direct(struct file *file)
{
#ifdef HAVE_FMODE_CAN_ODIRECT
	return file->f_mode & FMODE_CAN_ODIRECT;
#else
	return file->f_mapping->a_ops && file->f_mapping->a_ops->direct_IO;
#endif
}

static u32 weir_direct_align(struct inode *inode)
{
	u32 align = 1u << inode->i_blkbits;
	struct block_device *bdev = inode->i_sb->s_bdev;

	if (S_ISBLK(inode->i_mode))
		bdev = I_BDEV(inode);
	if (bdev)
		align = bdev_logical_block_size(bdev);
	return align;
}

static int weir_file_stat(const struct weir_file *f, u64 *bytes, struct timespec64 *ctime)
{
	struct inode *inode = file_inode(f->file);
	struct kstat stat;
	int ret;

	/* The node of a block device knows neither its size nor when it was written to. */
	if (S_ISBLK(inode->i_mode)) {
		*bytes = i_size_read(f->file->f_mapping->host);
		*ctime = (struct timespec64){};
		return 0;
	}
	ret = vfs_getattr(&f->file->f_path, &stat, STATX_SIZE | STATX_CTIME, AT_STATX_DONT_SYNC);
	if (ret)
		return ret;
	*bytes = stat.size;
	*ctime = stat.ctime;
	return 0;
}

int weir_file_open(struct weir_file *f, int fd, bool allow_buffered)
{
	struct inode *inode;
	int ret;

	*f = (struct weir_file){.file = fget(fd)};
	if (!f->file)
		return -EBADF;
	inode = f->file->f_mapping->host;
	ret = -EBADF;
	if (!(f->file->f_mode & FMODE_READ))
		goto put;
	ret = -EINVAL;
	if (!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode))
		goto put;
	if (IS_SWAPFILE(inode) || IS_DAX(inode) || !(f->file->f_mode & FMODE_CAN_READ) ||
	    !f->file->f_op->read_iter)
		goto put;
	f->direct = weir_can_direct(f->file);
	f->align = weir_direct_align(inode);
	/* Extents are aligned to WEIR_ALIGN and no more. */
	if (f->align > WEIR_ALIGN)
		f->direct = false;
	ret = -EOPNOTSUPP;
	if (!f->direct && !allow_buffered)
		goto put;
	ret = weir_file_stat(f, &f->bytes, &f->ctime);
	if (ret)
		goto put;
	return 0;

put:
	fput(f->file);
	*f = (struct weir_file){};
	return ret;
}

void weir_file_close(struct weir_file *f)
{
	if (f->file)
		fput(f->file);
	*f = (struct weir_file){};
}

void weir_file_dup(struct weir_file *to, const struct weir_file *from)
{
	*to = *from;
	get_file(to->file);
}

int weir_file_check(const struct weir_file *f)
{
	struct timespec64 ctime;
	u64 bytes;

	if (weir_file_stat(f, &bytes, &ctime))
		return -ESTALE;
	return bytes == f->bytes && timespec64_equal(&ctime, &f->ctime) ? 0 : -ESTALE;
}

bool weir_file_same(const struct weir_file *a, const struct weir_file *b)
{
	return a->file->f_mapping->host == b->file->f_mapping->host && a->bytes == b->bytes &&
	       timespec64_equal(&a->ctime, &b->ctime) && a->direct == b->direct;
}
