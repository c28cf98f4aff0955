// SPDX-License-Identifier: GPL-2.0
/* Device memory: one contiguous, page-aligned range per buffer. */
#include <linux/io.h>
#include <linux/sizes.h>

#include <drm/drm_managed.h>

#include "tbgpu.h"

static void takedown(struct drm_device *drm, void *data)
{
	struct tbgpu_device *tdev = data;

	drm_mm_takedown(&tdev->vram.mm);
}

int tbgpu_vram_init(struct tbgpu_device *tdev)
{
	struct device *dev = tbgpu_dev(tdev);
	resource_size_t len = pci_resource_len(tdev->pdev, TBGPU_BAR_VRAM);
	int ret;

	if (tdev->vram.size < SZ_1M || tdev->vram.size > len)
		return dev_err_probe(dev, -EIO, "%llu bytes of VRAM in a BAR of %pa\n",
				     tdev->vram.size, &len);
	tdev->vram.base = pci_resource_start(tdev->pdev, TBGPU_BAR_VRAM);
	ret = devm_arch_io_reserve_memtype_wc(dev, tdev->vram.base, len);
	if (ret)
		return ret;
	ret = drmm_mutex_init(&tdev->drm, &tdev->vram.lock);
	if (ret)
		return ret;
	drm_mm_init(&tdev->vram.mm, 0, tdev->vram.size);
	return drmm_add_action_or_reset(&tdev->drm, takedown, tdev);
}

phys_addr_t tbgpu_vram_phys(struct tbgpu_bo *bo)
{
	return to_tbgpu(bo->base.dev)->vram.base + bo->vram.start;
}

/* By the CPU: it must not depend on an engine that works. The caller is in drm_dev_enter(). */
static int clear_vram(struct tbgpu_bo *bo)
{
	void __iomem *map = ioremap_wc(tbgpu_vram_phys(bo), bo->base.size);

	if (!map)
		return -ENOMEM;
	memset_io(map, 0, bo->base.size);
	iounmap(map);
	return 0;
}

/* A zero-filled range; -ENOSPC. */
int tbgpu_vram_alloc(struct tbgpu_bo *bo)
{
	struct tbgpu_device *tdev = to_tbgpu(bo->base.dev);
	int ret;

	scoped_guard(mutex, &tdev->vram.lock) {
		ret = drm_mm_insert_node_generic(&tdev->vram.mm, &bo->vram, bo->base.size,
						 PAGE_SIZE, 0, DRM_MM_INSERT_BEST);
		if (ret)
			return ret;
		tdev->vram.used += bo->base.size;
	}
	ret = clear_vram(bo);
	if (ret)
		tbgpu_vram_free(bo);
	return ret;
}

void tbgpu_vram_free(struct tbgpu_bo *bo)
{
	struct tbgpu_device *tdev = to_tbgpu(bo->base.dev);

	guard(mutex)(&tdev->vram.lock);
	if (!drm_mm_node_allocated(&bo->vram))
		return;
	drm_mm_remove_node(&bo->vram);
	tdev->vram.used -= bo->base.size;
}
