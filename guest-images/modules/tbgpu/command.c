// SPDX-License-Identifier: GPL-2.0
/*
 * Operations of user space become ring entries. User space gives handles and offsets; addresses
 * are only written here, after every range was checked against its buffer. An operation on
 * scattered buffers uses scatter lists, and more than one entry if a list gets too long.
 */
#include <linux/overflow.h>
#include <linux/slab.h>

#include "tbgpu.h"

#define USE_SRC		BIT(0)
#define USE_DST		BIT(1)
#define USE_SRC2	BIT(2)
#define USE_SIZE	BIT(3)
#define USE_ARG32	BIT(4)
#define USE_ARG0	BIT(5)
#define USE_ARG1	BIT(6)
#define WORDS		BIT(7)		/* size and offsets are multiples of 4 */
#define DST_U64		BIT(8)		/* dst is one aligned u64 */
#define SEMAPHORE	BIT(9)		/* takes no part in implicit synchronisation */
#define WHOLE		BIT(10)		/* cannot be split into several entries */

/* List elements of one job: 1 MiB of lists */
#define MAX_JOB_ELEMENTS	65536

enum { SRC, DST, SRC2 };

static const u16 op_uses[] = {
	[TBGPU_OP_NOP] = 0,
	[TBGPU_OP_FILL] = USE_DST | USE_SIZE | USE_ARG32 | WORDS,
	[TBGPU_OP_COPY] = USE_SRC | USE_DST | USE_SIZE,
	[TBGPU_OP_CHECKSUM] = USE_SRC | USE_DST | USE_SIZE | DST_U64 | WHOLE,
	[TBGPU_OP_SEM_WAIT] = USE_DST | USE_ARG32 | USE_ARG0 | USE_ARG1 | DST_U64 | SEMAPHORE,
	[TBGPU_OP_SEM_RELEASE] = USE_DST | USE_ARG0 | DST_U64 | SEMAPHORE,
	[TBGPU_OP_TIMESTAMP] = USE_DST | DST_U64,
	[TBGPU_OP_DELAY] = USE_ARG0,
	[TBGPU_OP_VECTOR] = USE_SRC | USE_DST | USE_SRC2 | USE_SIZE | USE_ARG32 | USE_ARG0 | WORDS,
};

/* First pass: cmds and elements are NULL and things are only counted. */
struct builder {
	struct tbgpu_cmd *cmds;
	u32 num_cmds;
	struct tbgpu_element *elements;
	dma_addr_t elements_dma;
	u32 num_elements;
};

static bool unused_fields_are_zero(const struct drm_tbgpu_op *op, u16 uses)
{
	return (uses & USE_SRC || !(op->src | op->src_offset)) &&
	       (uses & USE_DST || !(op->dst | op->dst_offset)) &&
	       (uses & USE_SRC2 || !(op->src2 | op->src2_offset)) &&
	       (uses & USE_SIZE || !op->size) &&
	       (uses & USE_ARG32 || !op->arg32) &&
	       (uses & USE_ARG0 || !op->arg0) &&
	       (uses & USE_ARG1 || !op->arg1) &&
	       !op->flags && !op->pad;
}

static bool args_are_valid(struct tbgpu_engine *engine, const struct drm_tbgpu_op *op)
{
	switch (op->opcode) {
	case TBGPU_OP_SEM_WAIT:
		return op->arg32 <= TBGPU_SEM_AND;
	case TBGPU_OP_DELAY:
		return op->arg0 <= TBGPU_MAX_DELAY_NS;
	case TBGPU_OP_VECTOR:
		return engine->type == TBGPU_ENGINE_COMPUTE && op->arg32 <= TBGPU_VEC_FMA_F32 &&
		       !upper_32_bits(op->arg0);
	default:
		return true;
	}
}

/* Everything that can be said without the buffers. -EINVAL. */
int tbgpu_op_check(struct tbgpu_engine *engine, const struct drm_tbgpu_op *op)
{
	u16 uses;

	if (op->opcode >= ARRAY_SIZE(op_uses))
		return -EINVAL;
	uses = op_uses[op->opcode];
	if (!unused_fields_are_zero(op, uses) || !args_are_valid(engine, op))
		return -EINVAL;
	if (op->size > engine->tdev->max_transfer)
		return -EINVAL;
	if (uses & WORDS && (op->size | op->src_offset | op->dst_offset | op->src2_offset) & 3)
		return -EINVAL;
	if (uses & DST_U64 && op->dst_offset & 7)
		return -EINVAL;
	return 0;
}

/* Whether the operation has operand SRC, DST or SRC2; its handle and how it is used. */
bool tbgpu_op_operand(const struct drm_tbgpu_op *op, unsigned int which, u32 *handle,
		      enum dma_resv_usage *usage)
{
	static const u16 use_bits[TBGPU_OP_BOS] = { USE_SRC, USE_DST, USE_SRC2 };
	const u32 handles[TBGPU_OP_BOS] = { op->src, op->dst, op->src2 };
	u16 uses = op_uses[op->opcode];

	if (!(uses & use_bits[which]))
		return false;
	*handle = handles[which];
	if (uses & SEMAPHORE)
		*usage = DMA_RESV_USAGE_BOOKKEEP;
	else
		*usage = which == DST ? DMA_RESV_USAGE_WRITE : DMA_RESV_USAGE_READ;
	return true;
}

static int set_range(struct tbgpu_range *range, struct tbgpu_bo *bo, u64 offset, u64 size)
{
	u64 end;

	if (check_add_overflow(offset, size, &end) || end > bo->base.size)
		return -EINVAL;
	tbgpu_range_init(range, bo, offset);
	return 0;
}

/* How many of the next bytes fit into one list, or into one piece. Does not move the range. */
static u64 measure(struct tbgpu_range range, u64 size, u32 max_pieces)
{
	u64 done = 0;

	for (u32 n = 0; done < size && n < max_pieces; n++) {
		u64 length = tbgpu_range_next(&range, size - done).length;

		if (!length)
			break;
		done += length;
	}
	return done;
}

/* Where the next size bytes are: directly, or by a list (count is its length, else 0). */
struct place {
	u64 address;
	enum tbgpu_space space;
	u32 count;
};

static struct place take(struct builder *b, struct tbgpu_range *range, u64 size)
{
	struct tbgpu_piece piece = tbgpu_range_next(range, size);
	struct place place = { .address = piece.address, .space = piece.space };

	if (piece.length == size)
		return place;
	place.space = TBGPU_SPACE_LIST;
	place.address = b->elements_dma + b->num_elements * sizeof(struct tbgpu_element);
	for (;;) {
		if (b->elements)
			b->elements[b->num_elements] = (struct tbgpu_element) {
				.address = cpu_to_le64(piece.address),
				.length = cpu_to_le32(piece.length),
				.space = cpu_to_le32(piece.space),
			};
		b->num_elements++;
		place.count++;
		size -= piece.length;
		if (!size)
			return place;
		piece = tbgpu_range_next(range, size);
	}
}

static void put_cmd(struct builder *b, const struct drm_tbgpu_op *op, u64 size,
		    const struct place p[TBGPU_OP_BOS])
{
	u16 flags = TBGPU_CMD_SRC(p[SRC].space) | TBGPU_CMD_DST(p[DST].space) |
		    TBGPU_CMD_SRC2(p[SRC2].space);
	bool vector = op->opcode == TBGPU_OP_VECTOR;

	if (b->cmds)
		b->cmds[b->num_cmds] = (struct tbgpu_cmd) {
			.opcode = cpu_to_le16(op->opcode),
			.flags = cpu_to_le16(flags),
			.arg32 = cpu_to_le32(op->arg32),
			.src = cpu_to_le64(p[SRC].address),
			.dst = cpu_to_le64(p[DST].address),
			.size = cpu_to_le64(size),
			.arg0 = cpu_to_le64(vector ? p[SRC2].address : op->arg0),
			.arg1 = cpu_to_le64(vector ? op->arg0 : op->arg1),
			.arg2 = cpu_to_le64(TBGPU_CMD_SRC_COUNT(p[SRC].count) |
					    TBGPU_CMD_DST_COUNT(p[DST].count)),
		};
	b->num_cmds++;
}

static bool overlaps(const struct drm_tbgpu_op *op, struct tbgpu_bo *const bos[TBGPU_OP_BOS])
{
	return op->opcode == TBGPU_OP_COPY && bos[SRC] == bos[DST] &&
	       op->src_offset < op->dst_offset + op->size &&
	       op->dst_offset < op->src_offset + op->size;
}

/* Bytes that one entry can do of what is left. */
static u64 chunk_size(u16 uses, const struct tbgpu_range r[TBGPU_OP_BOS], u64 left)
{
	u64 chunk = left;

	if (uses & USE_SRC)
		chunk = measure(r[SRC], chunk, TBGPU_MAX_ELEMENTS);
	if (uses & USE_DST && !(uses & DST_U64))
		chunk = measure(r[DST], chunk, TBGPU_MAX_ELEMENTS);
	if (uses & USE_SRC2)
		chunk = measure(r[SRC2], chunk, 1);
	return chunk;
}

static int check_ranges(const struct drm_tbgpu_op *op, struct tbgpu_bo *const bos[TBGPU_OP_BOS],
			struct tbgpu_range r[TBGPU_OP_BOS])
{
	u16 uses = op_uses[op->opcode];
	int ret = 0;

	if (uses & USE_SRC)
		ret = set_range(&r[SRC], bos[SRC], op->src_offset, op->size);
	if (!ret && uses & USE_DST)
		ret = set_range(&r[DST], bos[DST], op->dst_offset,
				uses & DST_U64 ? sizeof(u64) : op->size);
	if (!ret && uses & USE_SRC2)
		ret = set_range(&r[SRC2], bos[SRC2], op->src2_offset, op->size);
	return ret;
}

static int build_op(struct builder *b, const struct drm_tbgpu_op *op,
		    struct tbgpu_bo *const bos[TBGPU_OP_BOS])
{
	u16 uses = op_uses[op->opcode];
	struct tbgpu_range r[TBGPU_OP_BOS] = {};
	struct place p[TBGPU_OP_BOS] = {};
	u64 left = op->size;
	int ret = check_ranges(op, bos, r);

	if (ret)
		return ret;
	if (uses & DST_U64) {
		if (measure(r[DST], sizeof(u64), 1) != sizeof(u64))
			return -EINVAL;
		p[DST] = take(b, &r[DST], sizeof(u64));
	}
	if (!left) {
		put_cmd(b, op, 0, p);
		return 0;
	}
	while (left) {
		u64 chunk = chunk_size(uses, r, left);

		if (!chunk)
			return -EINVAL;
		if (chunk != op->size && (uses & WHOLE || overlaps(op, bos)))
			return -EOPNOTSUPP;
		if (uses & USE_SRC)
			p[SRC] = take(b, &r[SRC], chunk);
		if (uses & USE_DST && !(uses & DST_U64))
			p[DST] = take(b, &r[DST], chunk);
		if (uses & USE_SRC2)
			p[SRC2] = take(b, &r[SRC2], chunk);
		put_cmd(b, op, chunk, p);
		left -= chunk;
	}
	return 0;
}

static int build_all(struct builder *b, const struct drm_tbgpu_op *ops,
		     struct tbgpu_bo *(*op_bos)[TBGPU_OP_BOS], u32 count, u32 max_cmds)
{
	for (u32 i = 0; i < count; i++) {
		int ret = build_op(b, &ops[i], op_bos[i]);

		if (ret)
			return ret;
		if (b->num_cmds > max_cmds || b->num_elements > MAX_JOB_ELEMENTS)
			return -E2BIG;
	}
	return 0;
}

/* The caller holds the reservation locks: addresses stay valid until the job's fence signals. */
int tbgpu_job_build(struct tbgpu_job *job, const struct drm_tbgpu_op *ops,
		    struct tbgpu_bo *(*op_bos)[TBGPU_OP_BOS], u32 count)
{
	struct tbgpu_device *tdev = job->engine->tdev;
	u32 max_cmds = tbgpu_ring_credits(tdev);
	struct builder b = {};
	int ret = build_all(&b, ops, op_bos, count, max_cmds);

	if (ret)
		return ret;
	job->cmds = kvcalloc(b.num_cmds, sizeof(*job->cmds), GFP_KERNEL);
	if (!job->cmds)
		return -ENOMEM;
	if (b.num_elements) {
		job->list = tbgpu_list_alloc(tdev, b.num_elements * sizeof(*b.elements));
		if (!job->list)
			return -ENOMEM;
		b.elements = job->list->cpu;
		b.elements_dma = job->list->dma;
	}
	b.cmds = job->cmds;
	b.num_cmds = 0;
	b.num_elements = 0;
	ret = build_all(&b, ops, op_bos, count, max_cmds);
	job->num_cmds = b.num_cmds;
	return ret;
}
