// SPDX-License-Identifier: GPL-2.0
/* Fences that EXEC waits for and gives back: sync_file, syncobj, time-line point. */
#include <linux/dma-fence-chain.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/slab.h>
#include <linux/sync_file.h>
#include <linux/uaccess.h>

#include <drm/drm_syncobj.h>

#include "tbgpu.h"

static int check_sync(const struct drm_tbgpu_sync *sync)
{
	if (sync->pad || sync->type > TBGPU_SYNC_TIMELINE)
		return -EINVAL;
	if (sync->flags != TBGPU_SYNC_WAIT && sync->flags != TBGPU_SYNC_SIGNAL)
		return -EINVAL;
	if (sync->type == TBGPU_SYNC_TIMELINE)
		return sync->point ? 0 : -EINVAL;
	return sync->point ? -EINVAL : 0;
}

/* What may fail for a fence that is given back, before there is a job. */
static int prepare_out(struct tbgpu_syncs *set, const struct drm_tbgpu_sync *sync,
		       struct drm_tbgpu_sync __user *user)
{
	struct tbgpu_sync_out *out = &set->outs[set->num_outs++];

	out->fd = -1;
	out->point = sync->point;
	if (sync->type == TBGPU_SYNC_FILE) {
		out->fd = get_unused_fd_flags(O_CLOEXEC);
		if (out->fd < 0)
			return out->fd;
		return put_user(out->fd, &user->handle);
	}
	out->syncobj = drm_syncobj_find(set->file, sync->handle);
	if (!out->syncobj)
		return -ENOENT;
	if (sync->type == TBGPU_SYNC_TIMELINE) {
		out->chain = dma_fence_chain_alloc();
		if (!out->chain)
			return -ENOMEM;
	}
	return 0;
}

/* After an error too, tbgpu_syncs_free() is due. No lock may be held: this touches user memory. */
int tbgpu_syncs_load(struct tbgpu_syncs *set, u64 user, u32 count)
{
	struct drm_tbgpu_sync __user *from = u64_to_user_ptr(user);
	struct drm_tbgpu_sync *syncs;
	int ret;

	if (!count)
		return 0;
	if (count > TBGPU_MAX_SYNCS)
		return -E2BIG;
	syncs = memdup_array_user(from, count, sizeof(*syncs));
	if (IS_ERR(syncs))
		return PTR_ERR(syncs);
	set->syncs = syncs;
	set->count = count;
	for (u32 i = 0; i < count; i++) {
		ret = check_sync(&syncs[i]);
		if (!ret && syncs[i].flags & TBGPU_SYNC_SIGNAL)
			ret = prepare_out(set, &syncs[i], &from[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static int find_fence(struct tbgpu_syncs *set, const struct drm_tbgpu_sync *sync,
		      struct dma_fence **fence)
{
	if (sync->type != TBGPU_SYNC_FILE)
		return drm_syncobj_find_fence(set->file, sync->handle, sync->point, 0, fence);
	*fence = sync_file_get_fence(sync->handle);
	return *fence ? 0 : -EINVAL;
}

int tbgpu_syncs_wait(struct tbgpu_syncs *set, struct drm_sched_job *job)
{
	struct dma_fence *fence;
	int ret;

	for (u32 i = 0; i < set->count; i++) {
		if (!(set->syncs[i].flags & TBGPU_SYNC_WAIT))
			continue;
		ret = find_fence(set, &set->syncs[i], &fence);
		if (!ret)
			ret = drm_sched_job_add_dependency(job, fence);
		if (ret)
			return ret;
	}
	return 0;
}

/* The last step that may fail. */
int tbgpu_syncs_attach(struct tbgpu_syncs *set, struct dma_fence *fence)
{
	for (u32 i = 0; i < set->num_outs; i++) {
		struct tbgpu_sync_out *out = &set->outs[i];

		if (out->fd < 0)
			continue;
		out->file = sync_file_create(fence);
		if (!out->file)
			return -ENOMEM;
	}
	return 0;
}

void tbgpu_syncs_publish(struct tbgpu_syncs *set, struct dma_fence *fence)
{
	for (u32 i = 0; i < set->num_outs; i++) {
		struct tbgpu_sync_out *out = &set->outs[i];

		if (out->chain)
			drm_syncobj_add_point(out->syncobj, out->chain, fence, out->point);
		else if (out->syncobj)
			drm_syncobj_replace_fence(out->syncobj, fence);
		else
			fd_install(out->fd, out->file->file);
		out->chain = NULL;
		out->file = NULL;
		out->fd = -1;
	}
}

void tbgpu_syncs_free(struct tbgpu_syncs *set)
{
	for (u32 i = 0; i < set->num_outs; i++) {
		struct tbgpu_sync_out *out = &set->outs[i];

		if (out->file)
			fput(out->file->file);
		if (out->fd >= 0)
			put_unused_fd(out->fd);
		if (out->syncobj)
			drm_syncobj_put(out->syncobj);
		dma_fence_chain_free(out->chain);
	}
	kfree(set->syncs);
}
