// SPDX-License-Identifier: GPL-2.0
/*
 * A scheduler per engine, and recovery. Timeouts and error interrupts of all engines are handled on
 * one ordered queue; reset_lock also keeps a function-level reset out.
 */
#include <linux/io.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>

#include "tbgpu.h"

static const char *error_name(u32 code)
{
	static const char * const names[] = {
		"NONE", "BAD_OPCODE", "BAD_FLAGS", "BAD_SIZE", "VRAM_RANGE", "DMA_FAULT",
		"BAD_RING", "SEM_TIMEOUT",
	};

	return code < ARRAY_SIZE(names) ? names[code] : "unknown";
}

/* While parked no job starts or is freed. Jobs in flight keep the fence they have. */
void tbgpu_sched_park(struct tbgpu_engine *engine, struct drm_sched_job *bad)
{
	struct drm_sched_job *job;

	drm_sched_stop(&engine->sched, bad);
	drm_sched_for_each_pending_job(job, &engine->sched, NULL)
		job->s_fence->parent = dma_fence_get(to_tbgpu_job(job)->fence);
}

void tbgpu_sched_unpark(struct tbgpu_engine *engine)
{
	drm_sched_start(&engine->sched, 0);
}

static void report_error(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	void __iomem *regs = engine->regs;
	u32 code = readl(regs + TBGPU_ENG_ERROR_CODE);
	u64 address = readl(regs + TBGPU_ENG_ERROR_ADDR_LO);

	address |= (u64)readl(regs + TBGPU_ENG_ERROR_ADDR_HI) << 32;
	atomic64_inc(&engine->stats.errors);
	dev_err_ratelimited(tbgpu_dev(engine->tdev),
			    "%s: job %llu: device error %u %s at ring index %u, address %#llx\n",
			    engine->name, job ? job->id : 0, code, error_name(code),
			    readl(regs + TBGPU_ENG_ERROR_INDEX), address);
}

static void report_timeout(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	atomic64_inc(&engine->stats.timeouts);
	dev_err_ratelimited(tbgpu_dev(engine->tdev),
			    "%s: job %llu ran longer than %u ms, resetting the engine\n",
			    engine->name, job ? job->id : 0, engine->tdev->job_timeout_ms);
}

/* The first unfinished job is the guilty one: an engine runs its jobs in order. */
static void recover(struct tbgpu_engine *engine, struct drm_sched_job *bad, bool error)
{
	struct tbgpu_job *guilty;

	tbgpu_sched_park(engine, bad);
	guilty = tbgpu_ring_first(engine);
	if (error)
		report_error(engine, guilty);
	else
		report_timeout(engine, guilty);
	if (tbgpu_ring_halt(engine, guilty, error ? -EIO : -ETIME))
		tbgpu_device_lost(engine->tdev);
	else
		tbgpu_ring_start(engine);
	tbgpu_sched_unpark(engine);
}

static enum drm_gpu_sched_stat handle_timeout(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	struct tbgpu_device *tdev = engine->tdev;
	u32 status = readl(engine->regs + TBGPU_ENG_STATUS);
	int ret = tbgpu_ring_collect_head(engine);

	if (ret < 0 || status == TBGPU_ALL_ONES) {
		tbgpu_device_lost(tdev);
		return DRM_GPU_SCHED_STAT_NO_HANG;
	}
	if (ret) {
		atomic64_inc(&engine->stats.lost_irqs);
		dev_info(tbgpu_dev(tdev), "%s: job %llu was done, its interrupt got lost\n",
			 engine->name, job->id);
	}
	if (!tbgpu_ring_is_late(engine, job))
		return DRM_GPU_SCHED_STAT_NO_HANG;
	recover(engine, &job->base, status & TBGPU_ENG_STATUS_ERROR);
	return DRM_GPU_SCHED_STAT_RESET;
}

static enum drm_gpu_sched_stat timedout_job(struct drm_sched_job *base)
{
	struct tbgpu_job *job = to_tbgpu_job(base);
	struct tbgpu_device *tdev = job->engine->tdev;
	enum drm_gpu_sched_stat stat;
	int idx;

	/* When the device goes remove() ends the job, not we. */
	if (!drm_dev_enter(&tdev->drm, &idx))
		return DRM_GPU_SCHED_STAT_NO_HANG;
	scoped_guard(mutex, &tdev->reset_lock)
		stat = handle_timeout(job->engine, job);
	drm_dev_exit(idx);
	return stat;
}

static void error_work(struct work_struct *work)
{
	struct tbgpu_engine *engine = container_of(work, struct tbgpu_engine, error_work);
	struct tbgpu_device *tdev = engine->tdev;
	u32 status;
	int idx;

	if (!drm_dev_enter(&tdev->drm, &idx))
		return;
	scoped_guard(mutex, &tdev->reset_lock) {
		status = readl(engine->regs + TBGPU_ENG_STATUS);
		if (status == TBGPU_ALL_ONES)
			tbgpu_device_lost(tdev);
		else if (status & TBGPU_ENG_STATUS_ERROR)
			recover(engine, NULL, true);
	}
	drm_dev_exit(idx);
}

static struct dma_fence *run_job(struct drm_sched_job *base)
{
	struct tbgpu_job *job = to_tbgpu_job(base);
	struct tbgpu_device *tdev = job->engine->tdev;
	int idx, ret;

	if (job->cancelled)
		return ERR_PTR(-ECANCELED);
	if (!drm_dev_enter(&tdev->drm, &idx))
		return ERR_PTR(-ENODEV);
	ret = tbgpu_ring_submit(job->engine, job);
	drm_dev_exit(idx);
	return ret ? ERR_PTR(ret) : dma_fence_get(job->fence);
}

/* Freeing takes reservation locks, whose owners may wait for jobs that this queue has to run. */
static void free_job(struct drm_sched_job *base)
{
	struct tbgpu_job *job = to_tbgpu_job(base);

	queue_work(job->engine->tdev->free_wq, &job->free_work);
}

static void cancel_job(struct drm_sched_job *base)
{
	tbgpu_ring_kill(to_tbgpu_job(base)->engine);
}

static const struct drm_sched_backend_ops tbgpu_sched_ops = {
	.run_job = run_job,
	.timedout_job = timedout_job,
	.free_job = free_job,
	.cancel_job = cancel_job,
};

static void destroy_wq(struct drm_device *drm, void *wq)
{
	destroy_workqueue(wq);
}

/* Somebody may be reading a fence's names, which are ours, while it gets signalled. */
static void wait_for_names(struct drm_device *drm, void *unused)
{
	synchronize_rcu();
}

static void fini_engine(struct drm_device *drm, void *data)
{
	struct tbgpu_engine *engine = data;

	cancel_work_sync(&engine->error_work);
	drm_sched_fini(&engine->sched);
}

static int init_engine(struct tbgpu_device *tdev, unsigned int index)
{
	struct tbgpu_engine *engine = &tdev->engines[index];
	struct drm_sched_init_args args = {
		.ops = &tbgpu_sched_ops,
		.timeout_wq = tdev->reset_wq,
		.num_rqs = DRM_SCHED_PRIORITY_COUNT,
		.credit_limit = tbgpu_ring_credits(tdev),
		.timeout = tdev->job_timeout_ms ? msecs_to_jiffies(tdev->job_timeout_ms)
						: MAX_SCHEDULE_TIMEOUT,
		.name = engine->name,
		.dev = tbgpu_dev(tdev),
	};
	int ret;

	engine->tdev = tdev;
	engine->index = index;
	engine->regs = tdev->regs + TBGPU_ENGINE_BASE(index);
	engine->type = readl(engine->regs + TBGPU_ENG_TYPE);
	snprintf(engine->name, sizeof(engine->name), "%s%u",
		 engine->type == TBGPU_ENGINE_COMPUTE ? "compute" : "copy", index);
	INIT_WORK(&engine->error_work, error_work);
	ret = tbgpu_ring_init(engine);
	if (ret)
		return ret;
	ret = drm_sched_init(&engine->sched, &args);
	if (ret)
		return ret;
	return drmm_add_action_or_reset(&tdev->drm, fini_engine, engine);
}

int tbgpu_sched_init(struct tbgpu_device *tdev)
{
	int ret;

	ret = drmm_add_action_or_reset(&tdev->drm, wait_for_names, NULL);
	if (ret)
		return ret;
	tdev->reset_wq = alloc_ordered_workqueue("tbgpu-reset", 0);
	if (!tdev->reset_wq)
		return -ENOMEM;
	ret = drmm_add_action_or_reset(&tdev->drm, destroy_wq, tdev->reset_wq);
	if (ret)
		return ret;
	tdev->free_wq = alloc_workqueue("tbgpu-free", WQ_UNBOUND, 0);
	if (!tdev->free_wq)
		return -ENOMEM;
	ret = drmm_add_action_or_reset(&tdev->drm, destroy_wq, tdev->free_wq);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < tdev->num_engines; i++) {
		ret = init_engine(tdev, i);
		if (ret)
			return ret;
	}
	return 0;
}
