// SPDX-License-Identifier: GPL-2.0
/* Walk a range of a buffer in pieces that are contiguous for the device. */
#include <linux/scatterlist.h>

#include "tbgpu.h"

static void skip_done_entries(struct tbgpu_range *range)
{
	while (range->left && range->skip >= sg_dma_len(range->sg)) {
		range->skip -= sg_dma_len(range->sg);
		range->left--;
		range->sg = range->left ? sg_next(range->sg) : NULL;
	}
}

void tbgpu_range_init(struct tbgpu_range *range, struct tbgpu_bo *bo, u64 offset)
{
	*range = (struct tbgpu_range){ .bo = bo, .offset = offset };
	if (bo->domain == TBGPU_DOMAIN_VRAM)
		return;
	range->sg = bo->sgt->sgl;
	range->left = bo->sgt->nents;
	range->skip = offset;
	skip_done_entries(range);
}

/*
 * The next piece, at most limit bytes, and move behind it. Length 0: the table ends before the
 * buffer does, which only an exporter that miscounts can bring about.
 */
struct tbgpu_piece tbgpu_range_next(struct tbgpu_range *range, u64 limit)
{
	struct tbgpu_piece piece = { .length = limit };

	if (range->bo->domain == TBGPU_DOMAIN_VRAM) {
		piece.space = TBGPU_SPACE_VRAM;
		piece.address = range->bo->vram.start + range->offset;
		range->offset += limit;
		return piece;
	}
	piece.space = TBGPU_SPACE_SYSTEM;
	if (!range->left) {
		piece.length = 0;
		return piece;
	}
	piece.address = sg_dma_address(range->sg) + range->skip;
	piece.length = min(limit, sg_dma_len(range->sg) - range->skip);
	range->offset += piece.length;
	range->skip += piece.length;
	skip_done_entries(range);
	return piece;
}
