// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings: the pool and the control page, by ordinary VMAs whose faults return counted pages.
 *
 * No PFN mappings: get_user_pages() works here, so that direct I/O, io_uring and CUDA can use the
 * pool. A page that anything holds is not filled again (weir_area_referenced()), and one that was
 * given back lives until its last holder lets go.
 *
 * Every session has an inode of its own, so that unmapping a frame touches nobody else. Its size
 * is beyond all that is ever mapped: core mm maps no huge page that reaches past the end of a file.
 *
 * Faults wait for nothing but a page that is being mapped: frames are allocated, and zeroed, by
 * COMMIT. Whether their bytes are there is what ACQUIRE and the control page say. There is no
 * .map_pages, .page_mkwrite or .open: no pointer to a VMA is kept.
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "compat.h"
#include "trace.h"
#include "weir.h"

#define WEIR_FS_MAGIC 0x77656972 /* "weir" */

/* ---- inodes ---- */

static struct vfsmount *weir_fs_mount;
static int weir_fs_users;

static int weir_fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, WEIR_FS_MAGIC) ? 0 : -ENOMEM;
}

/*
 * Mounted while there are sessions. No .owner: sessions hold the module, and a mount that held it
 * as well would be held by it.
 */
static struct file_system_type weir_fs = {
	.name = "weir",
	.init_fs_context = weir_fs_init_context,
	.kill_sb = kill_anon_super,
};

int weir_inode_get(struct weir_session *s)
{
	struct inode *inode;
	int ret;

	ret = simple_pin_fs(&weir_fs, &weir_fs_mount, &weir_fs_users);
	if (ret)
		return ret;
	inode = alloc_anon_inode(weir_fs_mount->mnt_sb);
	if (IS_ERR(inode)) {
		simple_release_fs(&weir_fs_mount, &weir_fs_users);
		return PTR_ERR(inode);
	}
	i_size_write(inode, MAX_LFS_FILESIZE);
	s->inode = inode;
	return 0;
}

void weir_inode_put(struct weir_session *s)
{
	if (!s->inode)
		return;
	iput(s->inode);
	s->inode = NULL;
	simple_release_fs(&weir_fs_mount, &weir_fs_users);
}

/* ---- faults ---- */

u64 weir_frame_offset(const struct weir_session *s, u32 frame)
{
	return s->frame_base + frame * s->stride;
}

/* The page of a frame that is there now, with a reference; NULL where it was given back. */
static struct page *weir_get_frame_page(struct weir_session *s, u32 frame, pgoff_t pgoff)
{
	struct page *page;

	spin_lock(&s->engine.lock);
	page = weir_area_page(&s->frame[frame].area, pgoff);
	if (page)
		get_page(page);
	spin_unlock(&s->engine.lock);
	return page;
}

/*
 * The same, locked: who gives a frame back takes its pages away first, then waits for their locks,
 * then unmaps. So a page that is still there once it is locked is mapped before that, or not at
 * all.
 */
static struct page *weir_lock_frame_page(struct weir_session *s, u32 frame, pgoff_t pgoff)
{
	struct page *page, *now;

	while ((page = weir_get_frame_page(s, frame, pgoff))) {
		lock_page(page);
		now = weir_get_frame_page(s, frame, pgoff);
		if (now)
			put_page(now);
		if (now == page)
			break;
		unlock_page(page);
		put_page(page);
	}
	return page;
}

/* The page at an offset of the pool, with a reference and locked; NULL where there is none. */
static struct page *weir_pool_page(struct weir_session *s, u64 off)
{
	struct page *page;
	u32 frame;

	if (s->pins && off < s->pins->area.bytes) {
		page = weir_area_page(&s->pins->area, off >> PAGE_SHIFT);
		get_page(page);
		lock_page(page);
		return page;
	}
	if (off < s->frame_base || off >= s->map_bytes)
		return NULL;
	frame = div64_u64(off - s->frame_base, s->stride);
	off -= weir_frame_offset(s, frame);
	return weir_lock_frame_page(s, frame, off >> PAGE_SHIFT);
}

static vm_fault_t weir_fault(struct vm_fault *vmf)
{
	struct weir_session *s = vmf->vma->vm_file->private_data;
	u64 off = (u64)vmf->pgoff << PAGE_SHIFT;
	struct page *page = NULL;

	if (off < WEIR_MMAP_CONTROL) {
		page = weir_pool_page(s, off);
	} else {
		u64 i = (off - WEIR_MMAP_CONTROL) >> PAGE_SHIFT, end = s->n_control_page;

		if (off >= WEIR_MMAP_CLAIMS) {
			i = s->n_control_page + ((off - WEIR_MMAP_CLAIMS) >> PAGE_SHIFT);
			end += s->n_claim_page;
		}
		if (i < end) {
			page = s->control_page[i];
			get_page(page);
			lock_page(page);
		}
	}
	trace_weir_fault(&s->engine, off, !!page);
	if (!page)
		return VM_FAULT_SIGBUS;
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

static const struct vm_operations_struct weir_vm_ops = {
	.fault = weir_fault,
};

/* ---- mmap ---- */

/* Where the region that holds offset @off begins and how long it is. */
static void weir_region(const struct weir_session *s, u64 off, u64 *start, u64 *len)
{
	if (off >= WEIR_MMAP_CLAIMS) {
		*start = WEIR_MMAP_CLAIMS;
		*len = (u64)s->n_claim_page << PAGE_SHIFT;
	} else if (off >= WEIR_MMAP_CONTROL) {
		*start = WEIR_MMAP_CONTROL;
		*len = (u64)s->n_control_page << PAGE_SHIFT;
	} else {
		*start = WEIR_MMAP_POOL;
		*len = s->map_bytes;
	}
}

int weir_map(struct weir_session *s, struct vm_area_struct *vma)
{
	u64 off = (u64)vma->vm_pgoff << PAGE_SHIFT, start, end, len;

	if (!weir_session_committed(s))
		return -EBUSY;
	if (vma->vm_pgoff > U64_MAX >> PAGE_SHIFT)
		return -EINVAL;
	weir_region(s, off, &start, &len);
	if (check_add_overflow(off, (u64)(vma->vm_end - vma->vm_start), &end) || end - start > len)
		return -EINVAL;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	if (start != WEIR_MMAP_CLAIMS) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		weir_vm_flags_clear(vma, VM_MAYWRITE);
	}
	weir_vm_flags_clear(vma, VM_MAYEXEC);
	weir_vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &weir_vm_ops;
	return 0;
}

void weir_unmap_frame(struct weir_session *s, u32 frame, const struct weir_area *area)
{
	u32 i;

	/* Faults that had found a page there are done with it; nothing is allocated meanwhile. */
	for (i = 0; i < area->n_block; i++) {
		lock_page(area->block[i].page);
		unlock_page(area->block[i].page);
	}
	unmap_mapping_range(s->inode->i_mapping, weir_frame_offset(s, frame), s->stride, 1);
}
