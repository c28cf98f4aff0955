// SPDX-License-Identifier: GPL-2.0
/*
 * The fence that an engine's sequence number signals. It has neither release nor wait, so that it
 * may outlive this module once it is signalled.
 */
#include <linux/slab.h>

#include "tbgpu.h"

struct tbgpu_fence {
	struct dma_fence base;		/* first: freed by dma_fence_free() */
	const struct tbgpu_engine *engine;
};

static_assert(offsetof(struct tbgpu_fence, base) == 0);

static const char *get_driver_name(struct dma_fence *fence)
{
	return "tbgpu";
}

static const char *get_timeline_name(struct dma_fence *fence)
{
	return container_of(fence, struct tbgpu_fence, base)->engine->name;
}

static const struct dma_fence_ops tbgpu_fence_ops = {
	.get_driver_name = get_driver_name,
	.get_timeline_name = get_timeline_name,
};

/* Memory now, sequence number when the job reaches the ring: that step must not allocate. */
struct dma_fence *tbgpu_fence_alloc(struct tbgpu_engine *engine)
{
	struct tbgpu_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence)
		return NULL;
	fence->engine = engine;
	return &fence->base;
}

void tbgpu_fence_init(struct dma_fence *fence, struct tbgpu_engine *engine, u64 seq)
{
	dma_fence_init64(fence, &tbgpu_fence_ops, NULL, engine->fence_context, seq);
}

void tbgpu_fence_free(struct dma_fence *fence)
{
	if (!fence)
		return;
	if (dma_fence_was_initialized(fence))
		dma_fence_put(fence);
	else
		kfree(container_of(fence, struct tbgpu_fence, base));
}
