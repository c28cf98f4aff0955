/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A graph of jobs. Text, one statement per line, '#' starts a comment:
 *
 *   buffer NAME vram|system BYTES
 *   job NAME copy|compute sync_file|syncobj|timeline
 *     after NAME                      about the job above, any number
 *     op fill BUF VALUE | op copy SRC DST | op checksum BUF | op delay MS | op nop
 *     op vector add|xor|mul A B DST
 *     expect ok|ERRNO
 *   check BUF VALUE                   each u32 of the buffer, when all jobs are done
 *   submit forward|reverse            reverse: a job is offered before those it waits for
 *   timeout MS                        for all jobs together
 */
#ifndef GRAPH_H
#define GRAPH_H

#include <stdbool.h>

#include "gpu.h"
#include "tbgpu_drm.h"

#define MAX_BUFFERS 64
#define MAX_JOBS 128
#define MAX_CHECKS 64
#define MAX_AFTER 32
#define MAX_JOB_OPS 200 /* an EXEC also has two time stamps */
#define NAME_SPACE 48

enum publish { PUBLISH_SYNC_FILE, PUBLISH_SYNCOBJ, PUBLISH_TIMELINE };

struct graph_buffer {
	char name[NAME_SPACE];
	__u32 domain;
	__u64 size;
};

struct graph_op {
	__u32 opcode;
	__u32 arg32; /* FILL: word; VECTOR: TBGPU_VEC_* */
	__u64 delay_ns;
	int dst, src, src2; /* indices of buffers */
};

struct graph_job {
	char name[NAME_SPACE];
	__u32 engine_type;
	enum publish publish;
	char expect[64];
	unsigned int line;
	unsigned int op_count, after_count;
	struct graph_op ops[MAX_JOB_OPS];
	char after_name[MAX_AFTER][NAME_SPACE];
	int after[MAX_AFTER]; /* indices of jobs */
};

struct graph_check {
	int buffer;
	__u32 word;
};

struct graph {
	unsigned int buffer_count, job_count, check_count;
	struct graph_buffer buffers[MAX_BUFFERS];
	struct graph_job jobs[MAX_JOBS];
	struct graph_check checks[MAX_CHECKS];
	int order[MAX_JOBS]; /* jobs, those that others wait for first */
	bool reverse;
	__u64 timeout_ns;
};

/* Reads stdin. On a mistake prints "line N: what" to stderr and returns false. */
bool graph_read(struct graph *graph);
/* Prints the results: one per job and one per check. */
void graph_run(const struct graph *graph);

#endif
