// SPDX-License-Identifier: GPL-2.0-only
/*
 * EXPORT: the pool as a dma-buf, for a GPU or an NPU.
 *
 * The buffer is the pool without its gaps: pins, soft frames, slots. It holds the session, whose
 * memory is not given back while the buffer lives. Read-only, so that devices only ever map it
 * for reading. There is no CPU mapping through the buffer: /dev/weir has one.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "weir.h"

#if IS_ENABLED(CONFIG_DMA_SHARED_BUFFER)

#ifdef HAVE_IMPORT_NS_IDENT
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif

static u32 weir_count_blocks(struct weir_session *s, u64 *bytes)
{
	u32 n = 0, i;

	*bytes = 0;
	if (s->pins) {
		n += s->pins->area.n_block;
		*bytes += s->pins->area.bytes;
	}
	for (i = 0; i < s->n_soft + s->n_slot; i++) {
		n += s->frame[i].area.n_block;
		*bytes += s->frame[i].area.bytes;
	}
	return n;
}

static struct scatterlist *weir_add_area(struct scatterlist *sg, const struct weir_area *a)
{
	u32 i;

	for (i = 0; i < a->n_block; i++, sg = sg_next(sg))
		sg_set_page(sg, a->block[i].page, PAGE_SIZE << a->block[i].order, 0);
	return sg;
}

/* Nothing is given back while it is exported, so that the areas stay what they are. */
static int weir_fill_table(struct weir_session *s, struct sg_table *table)
{
	struct scatterlist *sg;
	u64 bytes;
	int ret;
	u32 i;

	ret = sg_alloc_table(table, weir_count_blocks(s, &bytes), GFP_KERNEL);
	if (ret)
		return ret;
	sg = table->sgl;
	if (s->pins)
		sg = weir_add_area(sg, &s->pins->area);
	for (i = 0; i < s->n_soft + s->n_slot; i++)
		sg = weir_add_area(sg, &s->frame[i].area);
	return 0;
}

/*
 * Frames are filled again while a device has them mapped, and nobody tells it. So it must see what
 * is in DRAM: through no bounce buffer, and past no cache of its own that somebody has to clean.
 */
static bool weir_needs_sync(struct device *dev, struct sg_table *table)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(table, sg, i)
		if (dma_need_sync(dev, sg_dma_address(sg)))
			return true;
	return false;
}

static struct sg_table *weir_dmabuf_map(struct dma_buf_attachment *at, enum dma_data_direction dir)
{
	struct weir_session *s = at->dmabuf->priv;
	struct sg_table *table;
	int ret;

	/* Weights are read by devices, never written. */
	if (dir != DMA_TO_DEVICE)
		return ERR_PTR(-EACCES);
	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	ret = weir_fill_table(s, table);
	if (ret)
		goto free;
	ret = dma_map_sgtable(at->dev, table, dir, 0);
	if (ret)
		goto table;
	if (weir_needs_sync(at->dev, table)) {
		dma_unmap_sgtable(at->dev, table, dir, 0);
		ret = -EOPNOTSUPP;
		goto table;
	}
	return table;

table:
	sg_free_table(table);
free:
	kfree(table);
	return ERR_PTR(ret);
}

static void weir_dmabuf_unmap(struct dma_buf_attachment *at, struct sg_table *table,
			      enum dma_data_direction dir)
{
	dma_unmap_sgtable(at->dev, table, dir, 0);
	sg_free_table(table);
	kfree(table);
}

static void weir_export_end(struct weir_session *s)
{
	spin_lock(&s->engine.lock);
	s->exports--;
	spin_unlock(&s->engine.lock);
	weir_engine_put(&s->engine);
}

static void weir_dmabuf_release(struct dma_buf *buf)
{
	weir_export_end(buf->priv);
}

static const struct dma_buf_ops weir_dmabuf_ops = {
	.map_dma_buf = weir_dmabuf_map,
	.unmap_dma_buf = weir_dmabuf_unmap,
	.release = weir_dmabuf_release,
};

static struct dma_buf *weir_export_buffer(struct weir_session *s)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *buf = ERR_PTR(-ENOMEM);
	u64 bytes;

	weir_engine_get(&s->engine);
	spin_lock(&s->engine.lock);
	s->exports++;
	spin_unlock(&s->engine.lock);
	/* What was given back must be there again: offsets in the buffer depend on it. */
	if (weir_session_whole(s)) {
		weir_count_blocks(s, &bytes);
		info.ops = &weir_dmabuf_ops;
		info.size = bytes;
		info.flags = O_RDONLY;
		info.priv = s;
		buf = dma_buf_export(&info);
	}
	/* From here on the buffer holds the session. */
	if (IS_ERR(buf))
		weir_export_end(s);
	return buf;
}

int weir_export(struct weir_session *s, struct weir_export *a, struct weir_export __user *user)
{
	struct dma_buf *buf;
	int fd;

	if (!weir_session_committed(s))
		return -EBUSY;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	buf = weir_export_buffer(s);
	if (IS_ERR(buf)) {
		put_unused_fd(fd);
		return PTR_ERR(buf);
	}
	if (put_user(fd, &user->fd)) {
		dma_buf_put(buf);
		put_unused_fd(fd);
		return -EFAULT;
	}
	/* Others can see it now: nothing may fail any more. */
	fd_install(fd, buf->file);
	return 0;
}

#else

int weir_export(struct weir_session *s, struct weir_export *a, struct weir_export __user *user)
{
	return -EOPNOTSUPP;
}

#endif
