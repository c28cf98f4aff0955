// SPDX-License-Identifier: GPL-2.0
/*
 * One engine's command ring. Positions are 64-bit and only grow; position & mask is the index that
 * the hardware knows. The scheduler's credits are ring entries, see tbgpu_ring_credits().
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>

#include "tbgpu.h"

/*
 * Half of the ring: credits come back when a fence signals, but HEAD moves a little later, and
 * with it the room in the ring.
 */
u32 tbgpu_ring_credits(struct tbgpu_device *tdev)
{
	return 1u << (tdev->ring_log2 - 1);
}

int tbgpu_ring_init(struct tbgpu_engine *engine)
{
	struct tbgpu_device *tdev = engine->tdev;
	size_t size = sizeof(struct tbgpu_cmd) << tdev->ring_log2;

	spin_lock_init(&engine->lock);
	INIT_LIST_HEAD(&engine->inflight);
	engine->fence_context = dma_fence_context_alloc(1);
	engine->ring_mask = (1u << tdev->ring_log2) - 1;
	engine->ring = dmam_alloc_coherent(tbgpu_dev(tdev), size, &engine->ring_dma, GFP_KERNEL);
	engine->fence = dmam_alloc_coherent(tbgpu_dev(tdev), sizeof(*engine->fence),
					    &engine->fence_dma, GFP_KERNEL);
	return engine->ring && engine->fence ? 0 : -ENOMEM;
}

struct tbgpu_job *tbgpu_ring_first(struct tbgpu_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return list_first_entry_or_null(&engine->inflight, struct tbgpu_job, node);
}

/*
 * Whether the job has been the oldest one for anything like the timeout. The scheduler's timer may
 * fire for a job that is done, and then name the one after it.
 */
bool tbgpu_ring_is_late(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	unsigned long enough = msecs_to_jiffies(engine->tdev->job_timeout_ms) / 2;

	guard(spinlock_irqsave)(&engine->lock);
	return list_first_entry_or_null(&engine->inflight, struct tbgpu_job, node) == job &&
	       time_after_eq(jiffies, engine->progress + enough);
}

/* The caller holds engine->lock. The job may be freed when this returns. */
static void finish_job(struct tbgpu_engine *engine, struct tbgpu_job *job, int error)
{
	struct dma_fence *fence = dma_fence_get(job->fence);

	list_del_init(&job->node);
	if (error) {
		dma_fence_set_error(fence, error);
		atomic64_inc(&engine->stats.failed);
	} else {
		atomic64_inc(&engine->stats.completed);
	}
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

/* Jobs are done up to what the device wrote, or up to head_pos. Says if there were any. */
static bool collect_locked(struct tbgpu_engine *engine, u64 head_pos)
{
	u64 seq = le64_to_cpu(READ_ONCE(*engine->fence));
	struct tbgpu_job *job, *next;
	bool found = false;

	/* Fences may come out of order when a fault is injected: the highest counts. */
	engine->done_seq = max(engine->done_seq, min(seq, engine->last_seq));
	list_for_each_entry_safe(job, next, &engine->inflight, node) {
		if (job->seq > engine->done_seq && job->end_pos > head_pos)
			break;
		finish_job(engine, job, 0);
		found = true;
	}
	if (found)
		engine->progress = jiffies;
	return found;
}

bool tbgpu_ring_collect(struct tbgpu_engine *engine)
{
	guard(spinlock_irqsave)(&engine->lock);
	return collect_locked(engine, 0);
}

/* The caller holds engine->lock. */
static int read_head(struct tbgpu_engine *engine, u64 *head_pos)
{
	u32 head = readl(engine->regs + TBGPU_ENG_HEAD);

	if (head == TBGPU_ALL_ONES)
		return -ENODEV;
	*head_pos = engine->tail_pos - ((engine->tail_pos - head) & engine->ring_mask);
	return 0;
}

/* As tbgpu_ring_collect(), but asks the device. 1: there were jobs; -ENODEV: device gone. */
int tbgpu_ring_collect_head(struct tbgpu_engine *engine)
{
	u64 head_pos;
	int ret;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->dead)
		return -ENODEV;
	ret = read_head(engine, &head_pos);
	if (ret)
		return ret;
	return collect_locked(engine, head_pos);
}

/* The caller holds engine->lock and rings the doorbell. */
static void emit_job(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	for (u32 i = job->first; i < job->num_cmds; i++)
		engine->ring[engine->tail_pos++ & engine->ring_mask] = job->cmds[i];
	job->end_pos = engine->tail_pos;
}

static void ring_doorbell(struct tbgpu_engine *engine)
{
	writel(engine->tail_pos & engine->ring_mask, engine->regs + TBGPU_ENG_TAIL);
}

/* Never waits and never allocates. -ENODEV: the device is gone. */
int tbgpu_ring_submit(struct tbgpu_engine *engine, struct tbgpu_job *job)
{
	struct tbgpu_cmd *last = &job->cmds[job->num_cmds - 1];

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->dead)
		return -ENODEV;
	job->seq = ++engine->last_seq;
	last->flags |= cpu_to_le16(TBGPU_CMD_FENCE | TBGPU_CMD_IRQ);
	last->seq = cpu_to_le64(job->seq);
	tbgpu_fence_init(job->fence, engine, job->seq);
	if (list_empty(&engine->inflight))
		engine->progress = jiffies;
	list_add_tail(&job->node, &engine->inflight);
	emit_job(engine, job);
	ring_doorbell(engine);
	atomic64_inc(&engine->stats.submitted);
	return 0;
}

/*
 * Reset the engine. What had completed is collected; the guilty job, if it is still unfinished,
 * ends with error; the others stay queued for tbgpu_ring_start(), the first of them from the
 * command at which the engine was stopped. -ENODEV: device gone, nothing changed.
 */
int tbgpu_ring_halt(struct tbgpu_engine *engine, struct tbgpu_job *guilty, int error)
{
	struct tbgpu_job *job;
	u64 head_pos;
	int ret;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->dead)
		return -ENODEV;
	ret = read_head(engine, &head_pos);
	if (ret)
		return ret;
	writel(TBGPU_ENG_CTRL_RESET, engine->regs + TBGPU_ENG_CTRL);
	readl(engine->regs + TBGPU_ENG_STATUS);
	atomic64_inc(&engine->stats.resets);

	collect_locked(engine, head_pos);
	job = list_first_entry_or_null(&engine->inflight, struct tbgpu_job, node);
	if (job && job == guilty) {
		finish_job(engine, job, error);
	} else if (job) {
		u64 left = job->end_pos - head_pos;

		if (left < job->num_cmds - job->first)
			job->first = job->num_cmds - left;
	}
	return 0;
}

/* Set the ring up and give it the jobs that are in flight, first index first. */
void tbgpu_ring_start(struct tbgpu_engine *engine)
{
	void __iomem *regs = engine->regs;
	struct tbgpu_job *job;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->dead)
		return;
	engine->tail_pos = ALIGN(engine->tail_pos, (u64)engine->ring_mask + 1);
	writel(ilog2(engine->ring_mask + 1), regs + TBGPU_ENG_RING_LOG2);
	writel(lower_32_bits(engine->ring_dma), regs + TBGPU_ENG_RING_BASE_LO);
	writel(upper_32_bits(engine->ring_dma), regs + TBGPU_ENG_RING_BASE_HI);
	writel(lower_32_bits(engine->fence_dma), regs + TBGPU_ENG_FENCE_ADDR_LO);
	writel(upper_32_bits(engine->fence_dma), regs + TBGPU_ENG_FENCE_ADDR_HI);
	writel(TBGPU_ENG_CTRL_RUN, regs + TBGPU_ENG_CTRL);
	list_for_each_entry(job, &engine->inflight, node)
		emit_job(engine, job);
	ring_doorbell(engine);
	engine->progress = jiffies;
}

/* The device is gone: everything in flight ends with -ENODEV and nothing is taken any more. */
void tbgpu_ring_kill(struct tbgpu_engine *engine)
{
	struct tbgpu_job *job, *next;

	guard(spinlock_irqsave)(&engine->lock);
	if (engine->dead)
		return;
	collect_locked(engine, 0);
	engine->dead = true;
	list_for_each_entry_safe(job, next, &engine->inflight, node)
		finish_job(engine, job, -ENODEV);
}
