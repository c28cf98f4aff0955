// SPDX-License-Identifier: GPL-2.0
/* Calls of user space but EXEC, and open files. uapi/tbgpu_drm.h lists arguments and errnos. */
#include <linux/mm.h>
#include <linux/slab.h>

#include <drm/drm_drv.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_utils.h>
#include <drm/drm_vma_manager.h>

#include "tbgpu.h"

/* Sizes above it are a mistake, and could wrap when they are rounded up. */
#define MAX_BUFFER	BIT_ULL(40)

static int info_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct tbgpu_device *tdev = to_tbgpu(drm);
	struct drm_tbgpu_info *info = data;
	int idx;

	if (info->flags)
		return -EINVAL;
	if (READ_ONCE(tdev->lost) || !drm_dev_enter(drm, &idx))
		return -ENODEV;
	*info = (struct drm_tbgpu_info) {
		.device_version = tdev->version,
		.features = tdev->features,
		.num_engines = tdev->num_engines,
		.vram_size = tdev->vram.size,
		.vram_used = READ_ONCE(tdev->vram.used),
		.max_transfer = tdev->max_transfer,
		.timestamp = tbgpu_device_timestamp(tdev),
		.job_timeout_ms = tdev->job_timeout_ms,
	};
	for (unsigned int i = 0; i < tdev->num_engines; i++) {
		info->engine_type[i] = tdev->engines[i].type;
		info->reset_count += atomic64_read(&tdev->engines[i].stats.resets);
	}
	drm_dev_exit(idx);
	return 0;
}

static int bo_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_tbgpu_bo_create *args = data;
	struct tbgpu_device *tdev = to_tbgpu(drm);
	struct tbgpu_bo *bo;
	int idx, ret;

	if (args->flags || args->pad || !args->size)
		return -EINVAL;
	if (args->domain != TBGPU_DOMAIN_VRAM && args->domain != TBGPU_DOMAIN_SYSTEM)
		return -EINVAL;
	if (args->size > MAX_BUFFER || (args->domain == TBGPU_DOMAIN_SYSTEM &&
					args->size >> PAGE_SHIFT > totalram_pages() / 2))
		return -ENOMEM;
	if (READ_ONCE(tdev->lost) || !drm_dev_enter(drm, &idx))
		return -ENODEV;
	bo = tbgpu_bo_create(tdev, PAGE_ALIGN(args->size), args->domain);
	drm_dev_exit(idx);
	if (IS_ERR(bo))
		return PTR_ERR(bo);
	args->size = bo->base.size;
	ret = drm_gem_handle_create(file, &bo->base, &args->handle);
	drm_gem_object_put(&bo->base);
	return ret;
}

static int bo_info_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_tbgpu_bo_info *args = data;
	struct drm_gem_object *obj;
	struct tbgpu_bo *bo;

	if (args->flags || args->pad)
		return -EINVAL;
	obj = drm_gem_object_lookup(file, args->handle);
	if (!obj)
		return -ENOENT;
	bo = to_tbgpu_bo(obj);
	args->size = obj->size;
	args->domain = bo->domain;
	args->mmap_offset = bo->domain == TBGPU_DOMAIN_IMPORTED
			    ? 0 : drm_vma_node_offset_addr(&obj->vma_node);
	args->vram_offset = bo->domain == TBGPU_DOMAIN_VRAM ? bo->vram.start : ~0ull;
	drm_gem_object_put(obj);
	return 0;
}

static int bo_wait_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_tbgpu_bo_wait *args = data;
	struct drm_gem_object *obj;
	bool all = !(args->flags & TBGPU_WAIT_WRITERS);
	long ret;

	if (args->flags & ~TBGPU_WAIT_WRITERS)
		return -EINVAL;
	obj = drm_gem_object_lookup(file, args->handle);
	if (!obj)
		return -ENOENT;
	ret = dma_resv_wait_timeout(obj->resv, dma_resv_usage_rw(all), true,
				    drm_timeout_abs_to_jiffies(args->timeout_ns));
	drm_gem_object_put(obj);
	if (!ret)
		return -ETIME;
	return ret < 0 ? ret : 0;
}

const struct drm_ioctl_desc tbgpu_ioctls[] = {
	DRM_IOCTL_DEF_DRV(TBGPU_INFO, info_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(TBGPU_BO_CREATE, bo_create_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(TBGPU_BO_INFO, bo_info_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(TBGPU_BO_WAIT, bo_wait_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(TBGPU_EXEC, tbgpu_exec_ioctl, DRM_RENDER_ALLOW),
};

static_assert(ARRAY_SIZE(tbgpu_ioctls) == TBGPU_NUM_IOCTLS);

static void file_release(struct kref *ref)
{
	kfree(container_of(ref, struct tbgpu_file, ref));
}

void tbgpu_file_put(struct tbgpu_file *tfile)
{
	kref_put(&tfile->ref, file_release);
}

int tbgpu_open(struct drm_device *drm, struct drm_file *file)
{
	struct tbgpu_device *tdev = to_tbgpu(drm);
	struct tbgpu_file *tfile = kzalloc(sizeof(*tfile), GFP_KERNEL);
	int ret;

	if (!tfile)
		return -ENOMEM;
	tfile->tdev = tdev;
	kref_init(&tfile->ref);
	for (unsigned int i = 0; i < tdev->num_engines; i++) {
		struct drm_gpu_scheduler *sched = &tdev->engines[i].sched;

		mutex_init(&tfile->submit_lock[i]);
		ret = drm_sched_entity_init(&tfile->entities[i], DRM_SCHED_PRIORITY_NORMAL, &sched,
					    1, NULL);
		if (ret) {
			while (i--)
				drm_sched_entity_destroy(&tfile->entities[i]);
			kfree(tfile);
			return ret;
		}
	}
	file->driver_priv = tfile;
	return 0;
}

/* Waits up to a second for jobs to start; what did not start by then ends with -ESRCH. */
void tbgpu_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct tbgpu_file *tfile = file->driver_priv;

	for (unsigned int i = 0; i < tfile->tdev->num_engines; i++)
		drm_sched_entity_destroy(&tfile->entities[i]);
	tbgpu_file_put(tfile);
}
