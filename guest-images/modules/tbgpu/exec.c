// SPDX-License-Identifier: GPL-2.0
/* EXEC: from the call to a job in the scheduler, and a job's end. */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_drv.h>
#include <drm/drm_exec.h>

#include "tbgpu.h"

struct exec_context {
	struct tbgpu_file *tfile;
	struct drm_file *file;
	struct drm_tbgpu_exec *args;
	struct tbgpu_engine *engine;
	struct drm_tbgpu_op *ops;
	struct tbgpu_bo *(*op_bos)[TBGPU_OP_BOS];
	struct tbgpu_job *job;
	struct tbgpu_syncs syncs;
};

static void account_time(struct tbgpu_job *job)
{
	struct drm_sched_fence *s_fence = job->base.s_fence;
	ktime_t start, end;

	if (!dma_fence_test_signaled_flag(&s_fence->scheduled) ||
	    !dma_fence_test_signaled_flag(&s_fence->finished))
		return;
	start = dma_fence_timestamp(&s_fence->scheduled);
	end = dma_fence_timestamp(&s_fence->finished);
	if (ktime_after(end, start))
		atomic64_add(ktime_to_ns(ktime_sub(end, start)),
			     &job->tfile->busy_ns[job->engine->index]);
}

/* A job that the scheduler is through with, or one that never got there. May sleep. */
void tbgpu_job_free(struct tbgpu_job *job)
{
	if (job->base.s_fence) {
		if (dma_fence_was_initialized(&job->base.s_fence->finished))
			account_time(job);
		drm_sched_job_cleanup(&job->base);
	}
	tbgpu_fence_free(job->fence);
	tbgpu_list_free(job->engine->tdev, job->list);
	for (u32 i = 0; i < job->num_bos; i++)
		drm_gem_object_put(&job->bos[i].bo->base);
	kvfree(job->bos);
	kvfree(job->cmds);
	tbgpu_file_put(job->tfile);
	kfree(job);
}

static void job_free_work(struct work_struct *work)
{
	tbgpu_job_free(container_of(work, struct tbgpu_job, free_work));
}

static int new_job(struct exec_context *ctx)
{
	struct tbgpu_job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	if (!job)
		return -ENOMEM;
	job->engine = ctx->engine;
	job->tfile = ctx->tfile;
	kref_get(&job->tfile->ref);
	INIT_LIST_HEAD(&job->node);
	INIT_WORK(&job->free_work, job_free_work);
	job->id = atomic64_inc_return(&ctx->engine->tdev->next_job);
	ctx->job = job;
	job->bos = kvcalloc(ctx->args->op_count * TBGPU_OP_BOS, sizeof(*job->bos), GFP_KERNEL);
	job->fence = tbgpu_fence_alloc(ctx->engine);
	return job->bos && job->fence ? 0 : -ENOMEM;
}

static int load_ops(struct exec_context *ctx)
{
	u32 count = ctx->args->op_count;

	if (!count)
		return -EINVAL;
	if (count > TBGPU_MAX_OPS)
		return -E2BIG;
	ctx->ops = vmemdup_array_user(u64_to_user_ptr(ctx->args->ops), count, sizeof(*ctx->ops));
	if (IS_ERR(ctx->ops)) {
		int ret = PTR_ERR(ctx->ops);

		ctx->ops = NULL;
		return ret;
	}
	for (u32 i = 0; i < count; i++) {
		int ret = tbgpu_op_check(ctx->engine, &ctx->ops[i]);

		if (ret)
			return ret;
	}
	ctx->op_bos = kvcalloc(count, sizeof(*ctx->op_bos), GFP_KERNEL);
	return ctx->op_bos ? 0 : -ENOMEM;
}

/* Takes over the reference. A buffer is in the job's table once, with its strongest use. */
static struct tbgpu_bo *add_bo(struct tbgpu_job *job, struct drm_gem_object *obj,
			       enum dma_resv_usage usage)
{
	struct tbgpu_bo *bo = to_tbgpu_bo(obj);

	for (u32 i = 0; i < job->num_bos; i++) {
		if (job->bos[i].bo != bo)
			continue;
		job->bos[i].usage = min(job->bos[i].usage, usage);
		drm_gem_object_put(obj);
		return bo;
	}
	job->bos[job->num_bos++] = (struct tbgpu_job_bo){ .bo = bo, .usage = usage };
	return bo;
}

static int find_bos(struct exec_context *ctx)
{
	for (u32 i = 0; i < ctx->args->op_count; i++) {
		for (unsigned int k = 0; k < TBGPU_OP_BOS; k++) {
			struct drm_gem_object *obj;
			enum dma_resv_usage usage;
			u32 handle;

			if (!tbgpu_op_operand(&ctx->ops[i], k, &handle, &usage))
				continue;
			obj = drm_gem_object_lookup(ctx->file, handle);
			if (!obj)
				return -ENOENT;
			ctx->op_bos[i][k] = add_bo(ctx->job, obj, usage);
		}
	}
	return 0;
}

static int lock_bos(struct tbgpu_job *job, struct drm_exec *exec)
{
	int ret = 0;

	drm_exec_until_all_locked(exec) {
		for (u32 i = 0; i < job->num_bos; i++) {
			ret = drm_exec_prepare_obj(exec, &job->bos[i].bo->base, 1);
			drm_exec_retry_on_contention(exec);
			if (ret)
				return ret;
		}
	}
	return ret;
}

static int map_bos(struct tbgpu_job *job)
{
	for (u32 i = 0; i < job->num_bos; i++) {
		struct tbgpu_bo *bo = job->bos[i].bo;
		int ret = bo->domain == TBGPU_DOMAIN_IMPORTED ? tbgpu_import_map(bo) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

static int add_dependencies(struct exec_context *ctx)
{
	struct tbgpu_job *job = ctx->job;
	int ret = tbgpu_syncs_wait(&ctx->syncs, &job->base);

	if (ret || ctx->args->flags & TBGPU_EXEC_NO_IMPLICIT)
		return ret;
	for (u32 i = 0; i < job->num_bos; i++) {
		if (job->bos[i].usage == DMA_RESV_USAGE_BOOKKEEP)
			continue;
		ret = drm_sched_job_add_implicit_dependencies(&job->base, &job->bos[i].bo->base,
							      job->bos[i].usage ==
							      DMA_RESV_USAGE_WRITE);
		if (ret)
			return ret;
	}
	return 0;
}

static void leave_fences(struct exec_context *ctx, struct dma_fence *fence)
{
	struct tbgpu_job *job = ctx->job;
	bool explicit = ctx->args->flags & TBGPU_EXEC_NO_IMPLICIT;

	for (u32 i = 0; i < job->num_bos; i++)
		dma_resv_add_fence(job->bos[i].bo->base.resv, fence,
				   explicit ? DMA_RESV_USAGE_BOOKKEEP : job->bos[i].usage);
}

/*
 * Once armed a job has to be pushed. If the very last allocation fails it is pushed as cancelled,
 * which nobody outside can see.
 */
static int push(struct exec_context *ctx)
{
	struct tbgpu_job *job = ctx->job;
	struct dma_fence *fence;
	int ret;

	guard(mutex)(&ctx->tfile->submit_lock[ctx->engine->index]);
	drm_sched_job_arm(&job->base);
	fence = &job->base.s_fence->finished;
	ret = tbgpu_syncs_attach(&ctx->syncs, fence);
	if (ret) {
		job->cancelled = true;
	} else {
		leave_fences(ctx, fence);
		tbgpu_syncs_publish(&ctx->syncs, fence);
		ctx->args->job = job->id;
	}
	ctx->job = NULL;
	drm_sched_entity_push_job(&job->base);
	return ret;
}

static int submit_locked(struct exec_context *ctx)
{
	struct tbgpu_job *job = ctx->job;
	int ret = map_bos(job);

	if (!ret)
		ret = tbgpu_job_build(job, ctx->ops, ctx->op_bos, ctx->args->op_count);
	if (!ret)
		ret = drm_sched_job_init(&job->base,
					 &ctx->tfile->entities[ctx->engine->index],
					 job->num_cmds, ctx->tfile, ctx->file->client_id);
	if (!ret)
		ret = add_dependencies(ctx);
	return ret ?: push(ctx);
}

static int lock_and_submit(struct exec_context *ctx)
{
	struct drm_exec exec;
	int ret;

	drm_exec_init(&exec, DRM_EXEC_INTERRUPTIBLE_WAIT, ctx->job->num_bos);
	ret = lock_bos(ctx->job, &exec);
	if (!ret)
		ret = submit_locked(ctx);
	drm_exec_fini(&exec);
	return ret;
}

static int do_exec(struct exec_context *ctx)
{
	int ret = load_ops(ctx);

	if (!ret)
		ret = tbgpu_syncs_load(&ctx->syncs, ctx->args->syncs, ctx->args->sync_count);
	if (!ret)
		ret = new_job(ctx);
	if (!ret)
		ret = find_bos(ctx);
	return ret ?: lock_and_submit(ctx);
}

int tbgpu_exec_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct tbgpu_device *tdev = to_tbgpu(drm);
	struct drm_tbgpu_exec *args = data;
	struct exec_context *ctx;
	int idx, ret;

	if (args->engine >= tdev->num_engines || args->flags & ~TBGPU_EXEC_NO_IMPLICIT)
		return -EINVAL;
	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);
	if (!ctx)
		return -ENOMEM;
	ctx->tfile = file->driver_priv;
	ctx->file = file;
	ctx->args = args;
	ctx->engine = &tdev->engines[args->engine];
	ctx->syncs.file = file;

	if (READ_ONCE(tdev->lost) || !drm_dev_enter(drm, &idx)) {
		ret = -ENODEV;
	} else {
		ret = do_exec(ctx);
		drm_dev_exit(idx);
	}
	if (ctx->job)
		tbgpu_job_free(ctx->job);
	tbgpu_syncs_free(&ctx->syncs);
	kvfree(ctx->op_bos);
	kvfree(ctx->ops);
	kfree(ctx);
	return ret;
}
