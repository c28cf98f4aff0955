// SPDX-License-Identifier: GPL-2.0
/*
 * VRAM as dma-buf. The table has DMA addresses only, no pages. VRAM does not move, so a static
 * importer is as good as a dynamic one until the device goes: then dynamic importers are told, and
 * a static one keeps addresses that nothing answers.
 */
#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_prime.h>

#include "tbgpu.h"

/* Most bytes in one table entry, whose length is an unsigned int. */
#define MAX_ENTRY	SZ_1G

static struct tbgpu_bo *bo_of(struct dma_buf *dmabuf)
{
	return to_tbgpu_bo((struct drm_gem_object *)dmabuf->priv);
}

static int vram_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct tbgpu_device *tdev = to_tbgpu(bo_of(dmabuf)->base.dev);

	if (tdev->policy == TBGPU_DMABUF_REFUSE_STATIC && !attach->peer2peer)
		return -EOPNOTSUPP;
	return drm_dev_is_unplugged(&tdev->drm) ? -ENODEV : 0;
}

static int vram_pin(struct dma_buf_attachment *attach)
{
	atomic_inc(&bo_of(attach->dmabuf)->pins);
	return 0;
}

static void vram_unpin(struct dma_buf_attachment *attach)
{
	atomic_dec(&bo_of(attach->dmabuf)->pins);
}

static void unmap_mmio(struct device *dev, struct sg_table *sgt, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(sgt, sg, i)
		if (sg_dma_len(sg))
			dma_unmap_phys(dev, sg_dma_address(sg), sg_dma_len(sg), dir,
				       DMA_ATTR_MMIO);
	sg_free_table(sgt);
	kfree(sgt);
}

static struct sg_table *map_mmio(struct tbgpu_bo *bo, struct device *dev,
				 enum dma_data_direction dir)
{
	phys_addr_t phys = tbgpu_vram_phys(bo);
	u64 left = bo->base.size;
	struct scatterlist *sg;
	struct sg_table *sgt;
	int i, ret;

	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, DIV_ROUND_UP_ULL(left, MAX_ENTRY), GFP_KERNEL);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}
	for_each_sgtable_dma_sg(sgt, sg, i) {
		size_t len = min_t(u64, left, MAX_ENTRY);
		dma_addr_t addr = dma_map_phys(dev, phys, len, dir, DMA_ATTR_MMIO);

		ret = dma_mapping_error(dev, addr);
		if (ret) {
			unmap_mmio(dev, sgt, dir);
			return ERR_PTR(ret);
		}
		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = len;
		phys += len;
		left -= len;
	}
	return sgt;
}

static struct sg_table *vram_map(struct dma_buf_attachment *attach, enum dma_data_direction dir)
{
	struct tbgpu_bo *bo = bo_of(attach->dmabuf);
	struct tbgpu_device *tdev = to_tbgpu(bo->base.dev);
	struct phys_vec vec = { .paddr = tbgpu_vram_phys(bo), .len = bo->base.size };
	struct sg_table *sgt;
	int idx;

	if (!drm_dev_enter(&tdev->drm, &idx))
		return ERR_PTR(-ENODEV);
	if (tdev->policy == TBGPU_DMABUF_P2PDMA)
		sgt = dma_buf_phys_vec_to_sgt(attach, tdev->p2p, &vec, 1, vec.len, dir);
	else
		sgt = map_mmio(bo, attach->dev, dir);
	drm_dev_exit(idx);
	return sgt;
}

static void vram_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	if (to_tbgpu(bo_of(attach->dmabuf)->base.dev)->policy == TBGPU_DMABUF_P2PDMA)
		dma_buf_free_sgt(attach, sgt, dir);
	else
		unmap_mmio(attach->dev, sgt, dir);
}

/* Waits for the jobs that write (or, before writing, for all that use) the buffer. */
static int vram_begin_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	bool write = dir == DMA_BIDIRECTIONAL || dir == DMA_TO_DEVICE;
	long ret;

	if (drm_dev_is_unplugged(bo_of(dmabuf)->base.dev))
		return -ENODEV;
	ret = dma_resv_wait_timeout(dmabuf->resv, dma_resv_usage_rw(write), true,
				    MAX_SCHEDULE_TIMEOUT);
	return ret < 0 ? ret : 0;
}

static int vram_end_cpu(struct dma_buf *dmabuf, enum dma_data_direction dir)
{
	/* Mappings are write-combining: what the CPU wrote must be in VRAM. */
	wmb();
	return 0;
}

static void vram_release(struct dma_buf *dmabuf)
{
	struct tbgpu_bo *bo = bo_of(dmabuf);

	scoped_guard(mutex, &to_tbgpu(bo->base.dev)->bo_lock)
		bo->dmabuf = NULL;
	drm_gem_dmabuf_release(dmabuf);
}

static const struct dma_buf_ops vram_dmabuf_ops = {
	.attach = vram_attach,
	.pin = vram_pin,
	.unpin = vram_unpin,
	.map_dma_buf = vram_map,
	.unmap_dma_buf = vram_unmap,
	.begin_cpu_access = vram_begin_cpu,
	.end_cpu_access = vram_end_cpu,
	.mmap = drm_gem_dmabuf_mmap,
	.vmap = drm_gem_dmabuf_vmap,
	.vunmap = drm_gem_dmabuf_vunmap,
	.release = vram_release,
};

bool tbgpu_dmabuf_is_ours(struct drm_device *drm, struct dma_buf *dmabuf)
{
	return dmabuf->ops == &vram_dmabuf_ops && bo_of(dmabuf)->base.dev == drm;
}

struct dma_buf *tbgpu_dmabuf_export(struct drm_gem_object *obj, int flags)
{
	struct dma_buf_export_info info = {
		.exp_name = KBUILD_MODNAME,
		.owner = THIS_MODULE,
		.ops = &vram_dmabuf_ops,
		.size = obj->size,
		.flags = flags,
		.priv = obj,
		.resv = obj->resv,
	};
	struct dma_buf *dmabuf = drm_gem_dmabuf_export(obj->dev, &info);

	if (IS_ERR(dmabuf))
		return dmabuf;
	guard(mutex)(&to_tbgpu(obj->dev)->bo_lock);
	to_tbgpu_bo(obj)->dmabuf = dmabuf;
	return dmabuf;
}

int tbgpu_dmabuf_init(struct tbgpu_device *tdev)
{
	int ret;

	if (tdev->policy != TBGPU_DMABUF_P2PDMA)
		return 0;
	ret = pcim_p2pdma_init(tdev->pdev);
	if (ret)
		return dev_err_probe(tbgpu_dev(tdev), ret, "p2pdma\n");
	tdev->p2p = pcim_p2pdma_provider(tdev->pdev, TBGPU_BAR_VRAM);
	return tdev->p2p ? 0 : -EOPNOTSUPP;
}

/* An exported buffer whose importers were not told yet, with a reference on its file. */
static struct dma_buf *next_export(struct tbgpu_device *tdev)
{
	struct tbgpu_bo *bo;

	guard(mutex)(&tdev->bo_lock);
	list_for_each_entry(bo, &tdev->bos, node) {
		if (!bo->dmabuf || bo->torn)
			continue;
		bo->torn = true;
		/* bo_lock keeps release() away, so the file is there even if its count is 0. */
		if (get_file_active(&bo->dmabuf->file))
			return bo->dmabuf;
	}
	return NULL;
}

void tbgpu_dmabuf_teardown(struct tbgpu_device *tdev)
{
	struct dma_buf *dmabuf;

	while ((dmabuf = next_export(tdev))) {
		dma_resv_lock(dmabuf->resv, NULL);
		dma_buf_invalidate_mappings(dmabuf);
		dma_resv_unlock(dmabuf->resv);
		dma_buf_put(dmabuf);
	}
}
