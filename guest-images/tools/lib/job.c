// SPDX-License-Identifier: GPL-2.0
#include "job.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "errname.h"
#include "ktap.h"
#include "scope.h"
#include "syncfile.h"

void job_init(struct job *job, struct gpu *gpu, __u32 engine_type)
{
	memset(job, 0, sizeof(*job));
	job->gpu = gpu;
	job->engine = gpu_engine(gpu, engine_type);
}

static struct drm_tbgpu_op *add_op(struct job *job, __u16 opcode)
{
	struct drm_tbgpu_op *op;

	if (job->op_count == TBGPU_MAX_OPS)
		abort();
	op = &job->ops[job->op_count++];
	op->opcode = opcode;
	return op;
}

static void set_dst(struct drm_tbgpu_op *op, struct place place)
{
	op->dst = place.bo->info.handle;
	op->dst_offset = place.offset;
}

static void set_src(struct drm_tbgpu_op *op, struct place place)
{
	op->src = place.bo->info.handle;
	op->src_offset = place.offset;
}

void job_nop(struct job *job)
{
	add_op(job, TBGPU_OP_NOP);
}

void job_fill(struct job *job, struct place dst, __u64 size, __u32 word)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_FILL);

	set_dst(op, dst);
	op->size = size;
	op->arg32 = word;
}

void job_copy(struct job *job, struct place dst, struct place src, __u64 size)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_COPY);

	set_dst(op, dst);
	set_src(op, src);
	op->size = size;
}

void job_checksum(struct job *job, struct place dst, struct place src, __u64 size)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_CHECKSUM);

	set_dst(op, dst);
	set_src(op, src);
	op->size = size;
}

void job_sem_wait(struct job *job, struct place sem, __u32 compare, __u64 value, __u64 timeout)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_SEM_WAIT);

	set_dst(op, sem);
	op->arg32 = compare;
	op->arg0 = value;
	op->arg1 = timeout;
}

void job_sem_release(struct job *job, struct place sem, __u64 value)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_SEM_RELEASE);

	set_dst(op, sem);
	op->arg0 = value;
}

void job_timestamp(struct job *job, struct place dst)
{
	set_dst(add_op(job, TBGPU_OP_TIMESTAMP), dst);
}

void job_delay(struct job *job, __u64 ns)
{
	add_op(job, TBGPU_OP_DELAY)->arg0 = ns;
}

void job_vector(struct job *job, __u32 operation, struct place dst, struct place a, struct place b,
		__u64 size, __u32 scalar)
{
	struct drm_tbgpu_op *op = add_op(job, TBGPU_OP_VECTOR);

	set_dst(op, dst);
	set_src(op, a);
	op->src2 = b.bo->info.handle;
	op->src2_offset = b.offset;
	op->size = size;
	op->arg32 = operation;
	op->arg0 = scalar;
}

static void add_sync(struct job *job, __u32 type, __u32 flags, __s32 handle, __u64 point)
{
	if (job->sync_count == TBGPU_MAX_SYNCS)
		abort();
	job->syncs[job->sync_count++] = (struct drm_tbgpu_sync){
		.type = type,
		.flags = flags,
		.handle = handle,
		.point = point,
	};
}

void job_wait_file(struct job *job, int sync_file)
{
	add_sync(job, TBGPU_SYNC_FILE, TBGPU_SYNC_WAIT, sync_file, 0);
}

static __u32 syncobj_type(__u64 point)
{
	return point ? TBGPU_SYNC_TIMELINE : TBGPU_SYNC_BINARY;
}

void job_wait_syncobj(struct job *job, __u32 syncobj, __u64 point)
{
	add_sync(job, syncobj_type(point), TBGPU_SYNC_WAIT, syncobj, point);
}

void job_signal_syncobj(struct job *job, __u32 syncobj, __u64 point)
{
	add_sync(job, syncobj_type(point), TBGPU_SYNC_SIGNAL, syncobj, point);
}

void job_signal_file(struct job *job)
{
	add_sync(job, TBGPU_SYNC_FILE, TBGPU_SYNC_SIGNAL, -1, 0);
}

int job_file(const struct job *job)
{
	for (__u32 i = 0; i < job->sync_count; i++)
		if (job->syncs[i].type == TBGPU_SYNC_FILE &&
		    job->syncs[i].flags == TBGPU_SYNC_SIGNAL)
			return job->syncs[i].handle;
	return -1;
}

int job_try_submit(struct job *job)
{
	struct drm_tbgpu_exec exec = {
		.engine = job->engine,
		.flags = job->flags,
		.ops = (__u64)(unsigned long)job->ops,
		.syncs = (__u64)(unsigned long)job->syncs,
		.op_count = job->op_count,
		.sync_count = job->sync_count,
	};
	int error;

	job->submitted = now_ns();
	error = gpu_ioctl(job->gpu->fd, DRM_IOCTL_TBGPU_EXEC, &exec);
	job->number = exec.job;
	return error;
}

void job_submit(struct job *job)
{
	int error = job_try_submit(job);

	if (error)
		ktap_stop("EXEC of %u operations on engine %u: %s", job->op_count, job->engine,
			  errname(error));
	scope_fd(job_file(job));
}

int job_submit_file(struct job *job)
{
	job_signal_file(job);
	job_submit(job);
	return job_file(job);
}

void job_run(struct job *job)
{
	int file = job_submit_file(job);
	int status = sync_file_wait(file, gpu_deadline());

	if (status != 1)
		ktap_stop("job %llu on engine %u ended with %s", job->number, job->engine,
			  status ? errname(status) : "nothing within the timeout");
	scope_close(file);
}
