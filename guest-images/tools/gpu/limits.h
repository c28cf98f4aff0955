/* SPDX-License-Identifier: GPL-2.0 */
/* Tables of limits.c: which field of a good request is replaced by what. */
#ifndef LIMITS_H
#define LIMITS_H

#include "tbgpu_drm.h"

#define BUFFER_SIZE 65536ull /* of both buffers of a good EXEC */

struct request {
	struct drm_tbgpu_exec exec;
	struct drm_tbgpu_op op;
	struct drm_tbgpu_sync sync;
};

struct exec_limit {
	const char *name;
	int error;
	__u32 opcode; /* the good request is of this kind */
	__u32 field, width;
	__u64 value;
};

struct call {
	struct drm_tbgpu_info info;
	struct drm_tbgpu_bo_create create;
	struct drm_tbgpu_bo_info bo_info;
	struct drm_tbgpu_bo_wait wait;
};

struct call_limit {
	const char *name;
	int error;
	unsigned long request;
	__u32 argument; /* where in struct call the argument lies */
	__u32 field, width;
	__u64 value;
};

extern const struct exec_limit exec_limits[];
extern const unsigned int exec_limit_count;
extern const struct call_limit call_limits[];
extern const unsigned int call_limit_count;

#endif
