// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers of others. We are a dynamic importer: mapped when a job first uses the buffer, unmapped
 * when the exporter says that it moves. Tables may be without pages; only DMA addresses are used.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_prime.h>

#include "tbgpu.h"

/* The caller holds the reservation lock. */
static void unmap_import(struct tbgpu_bo *bo)
{
	if (!bo->sgt)
		return;
	dma_buf_unmap_attachment(bo->base.import_attach, bo->sgt, DMA_BIDIRECTIONAL);
	bo->sgt = NULL;
}

/* Reservation lock held. Our jobs have left fences on the buffer: when they are done, so are we. */
static void invalidate(struct dma_buf_attachment *attach)
{
	struct tbgpu_bo *bo = attach->importer_priv;

	if (!bo->sgt)
		return;
	dma_resv_wait_timeout(attach->dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false,
			      MAX_SCHEDULE_TIMEOUT);
	unmap_import(bo);
}

static const struct dma_buf_attach_ops attach_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = invalidate,
};

static struct tbgpu_bo *new_import(struct tbgpu_device *tdev, struct dma_buf *dmabuf)
{
	struct tbgpu_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);
	struct dma_buf_attachment *attach;

	if (!bo)
		return ERR_PTR(-ENOMEM);
	bo->base.funcs = &tbgpu_bo_funcs;
	bo->base.resv = dmabuf->resv;
	drm_gem_private_object_init(&tdev->drm, &bo->base, dmabuf->size);
	attach = dma_buf_dynamic_attach(dmabuf, tbgpu_dev(tdev), &attach_ops, bo);
	if (IS_ERR(attach)) {
		drm_gem_private_object_fini(&bo->base);
		kfree(bo);
		return ERR_CAST(attach);
	}
	get_dma_buf(dmabuf);
	bo->base.import_attach = attach;
	tbgpu_bo_init_common(tdev, bo, TBGPU_DOMAIN_IMPORTED);
	return bo;
}

struct drm_gem_object *tbgpu_gem_prime_import(struct drm_device *drm, struct dma_buf *dmabuf)
{
	struct tbgpu_bo *bo;
	int idx;

	if (tbgpu_dmabuf_is_ours(drm, dmabuf) || drm_gem_is_prime_exported_dma_buf(drm, dmabuf)) {
		drm_gem_object_get(dmabuf->priv);
		return dmabuf->priv;
	}
	if (!drm_dev_enter(drm, &idx))
		return ERR_PTR(-ENODEV);
	bo = new_import(to_tbgpu(drm), dmabuf);
	drm_dev_exit(idx);
	return IS_ERR(bo) ? ERR_CAST(bo) : &bo->base;
}

/* The caller holds the reservation lock and is in drm_dev_enter(). */
int tbgpu_import_map(struct tbgpu_bo *bo)
{
	struct sg_table *sgt;

	if (bo->sgt)
		return 0;
	sgt = dma_buf_map_attachment(bo->base.import_attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);
	bo->sgt = sgt;
	return 0;
}

void tbgpu_import_free(struct tbgpu_bo *bo)
{
	drm_prime_gem_destroy(&bo->base, bo->sgt);
}

/* An imported buffer that is still mapped, with a reference. */
static struct tbgpu_bo *next_import(struct tbgpu_device *tdev)
{
	struct tbgpu_bo *bo;

	guard(mutex)(&tdev->bo_lock);
	list_for_each_entry(bo, &tdev->bos, node) {
		if (bo->domain != TBGPU_DOMAIN_IMPORTED || bo->torn)
			continue;
		bo->torn = true;
		if (kref_get_unless_zero(&bo->base.refcount))
			return bo;
	}
	return NULL;
}

void tbgpu_import_teardown(struct tbgpu_device *tdev)
{
	struct tbgpu_bo *bo;

	while ((bo = next_import(tdev))) {
		dma_resv_lock(bo->base.resv, NULL);
		unmap_import(bo);
		dma_resv_unlock(bo->base.resv);
		drm_gem_object_put(&bo->base);
	}
}
