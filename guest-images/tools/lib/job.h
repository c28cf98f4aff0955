/* SPDX-License-Identifier: GPL-2.0 */
/* One EXEC: operations for an engine, fences to wait for and to signal. */
#ifndef JOB_H
#define JOB_H

#include "gpu.h"

struct job {
	struct gpu *gpu;
	__u32 engine;
	__u32 flags;
	__u32 op_count;
	__u32 sync_count;
	struct drm_tbgpu_op ops[TBGPU_MAX_OPS];
	struct drm_tbgpu_sync syncs[TBGPU_MAX_SYNCS];
	__u64 number;	 /* by job_try_submit() */
	__u64 submitted; /* now_ns() before the call */
};

/* A place in a buffer. */
struct place {
	struct bo *bo;
	__u64 offset;
};

/* Starts a new list of operations. Implicit fences are on: set flags to TBGPU_EXEC_NO_IMPLICIT
 * otherwise. */
void job_init(struct job *job, struct gpu *gpu, __u32 engine_type);

void job_nop(struct job *job);
void job_fill(struct job *job, struct place dst, __u64 size, __u32 word);
void job_copy(struct job *job, struct place dst, struct place src, __u64 size);
void job_checksum(struct job *job, struct place dst, struct place src, __u64 size);
void job_sem_wait(struct job *job, struct place sem, __u32 compare, __u64 value, __u64 timeout);
void job_sem_release(struct job *job, struct place sem, __u64 value);
void job_timestamp(struct job *job, struct place dst);
void job_delay(struct job *job, __u64 ns);
void job_vector(struct job *job, __u32 op, struct place dst, struct place a, struct place b,
		__u64 size, __u32 scalar);

void job_wait_file(struct job *job, int sync_file);
void job_wait_syncobj(struct job *job, __u32 syncobj, __u64 point);
void job_signal_syncobj(struct job *job, __u32 syncobj, __u64 point);
/* Asks for a sync_file; job_file() is its descriptor after the submission. */
void job_signal_file(struct job *job);
int job_file(const struct job *job);

int job_try_submit(struct job *job);
void job_submit(struct job *job);
/* Submits it and returns its fence as a sync_file. */
int job_submit_file(struct job *job);
/* Submits it, waits, and ends the check unless the fence was signalled without an error. */
void job_run(struct job *job);

#endif
