// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stddef.h>

#include "limits.h"

#define NO_HANDLE 0x7fffffff
#define SIXTY_SECONDS 60000000000ull

#define FIELD(type, name) offsetof(struct type, name), sizeof(((struct type *)0)->name)
#define EXEC(opcode, name, value) TBGPU_OP_##opcode, FIELD(request, name), value

const struct exec_limit exec_limits[] = {
	{ "engine that does not exist", EINVAL, EXEC(NOP, exec.engine, 8) },
	{ "engine ~0", EINVAL, EXEC(NOP, exec.engine, ~0u) },
	{ "unknown EXEC flag", EINVAL, EXEC(NOP, exec.flags, 1u << 1) },
	{ "highest EXEC flag", EINVAL, EXEC(NOP, exec.flags, 1u << 31) },
	{ "no operation", EINVAL, EXEC(NOP, exec.op_count, 0) },
	{ "too many operations", E2BIG, EXEC(NOP, exec.op_count, TBGPU_MAX_OPS + 1) },
	{ "~0 operations", E2BIG, EXEC(NOP, exec.op_count, ~0u) },
	{ "too many fences", E2BIG, EXEC(NOP, exec.sync_count, TBGPU_MAX_SYNCS + 1) },
	{ "operations at a bad address", EFAULT, EXEC(NOP, exec.ops, 8) },

	{ "unknown opcode", EINVAL, EXEC(NOP, op.opcode, 9) },
	{ "opcode 65535", EINVAL, EXEC(NOP, op.opcode, 0xffff) },
	{ "operation flags", EINVAL, EXEC(NOP, op.flags, 1) },
	{ "operation padding", EINVAL, EXEC(NOP, op.pad, 1) },
	{ "NOP with a destination", EINVAL, EXEC(NOP, op.dst, 1) },
	{ "NOP with a size", EINVAL, EXEC(NOP, op.size, 4) },

	{ "FILL of no such buffer", ENOENT, EXEC(FILL, op.dst, NO_HANDLE) },
	{ "FILL of handle 0", ENOENT, EXEC(FILL, op.dst, 0) },
	{ "FILL size no multiple of 4", EINVAL, EXEC(FILL, op.size, 6) },
	{ "FILL offset no multiple of 4", EINVAL, EXEC(FILL, op.dst_offset, 2) },
	{ "FILL over the end", EINVAL, EXEC(FILL, op.dst_offset, BUFFER_SIZE - 4) },
	{ "FILL offset that wraps", EINVAL, EXEC(FILL, op.dst_offset, ~0ull - 3) },
	{ "FILL with a source", EINVAL, EXEC(FILL, op.src, 1) },

	{ "COPY from no such buffer", ENOENT, EXEC(COPY, op.src, NO_HANDLE) },
	{ "COPY to no such buffer", ENOENT, EXEC(COPY, op.dst, NO_HANDLE) },
	{ "COPY source over the end", EINVAL, EXEC(COPY, op.src_offset, BUFFER_SIZE - 4095) },
	{ "COPY destination over the end", EINVAL, EXEC(COPY, op.dst_offset, BUFFER_SIZE) },
	{ "COPY source offset that wraps", EINVAL, EXEC(COPY, op.src_offset, ~0ull) },
	{ "COPY of more than the buffer", EINVAL, EXEC(COPY, op.size, BUFFER_SIZE + 1) },
	{ "COPY of 2^63 bytes", EINVAL, EXEC(COPY, op.size, 1ull << 63) },
	{ "COPY with a second source", EINVAL, EXEC(COPY, op.src2, 1) },
	{ "COPY with a second offset", EINVAL, EXEC(COPY, op.src2_offset, 8) },
	{ "COPY with arg32", EINVAL, EXEC(COPY, op.arg32, 1) },
	{ "COPY with arg0", EINVAL, EXEC(COPY, op.arg0, 1) },
	{ "COPY with arg1", EINVAL, EXEC(COPY, op.arg1, 1) },

	{ "CHECKSUM to a place not aligned", EINVAL, EXEC(CHECKSUM, op.dst_offset, 4) },
	{ "CHECKSUM behind the end", EINVAL, EXEC(CHECKSUM, op.dst_offset, BUFFER_SIZE) },
	{ "SEM_WAIT with an unknown comparison", EINVAL, EXEC(SEM_WAIT, op.arg32, 3) },
	{ "SEM_WAIT not aligned", EINVAL, EXEC(SEM_WAIT, op.dst_offset, 4) },
	{ "SEM_WAIT with a size", EINVAL, EXEC(SEM_WAIT, op.size, 8) },
	{ "SEM_RELEASE not aligned", EINVAL, EXEC(SEM_RELEASE, op.dst_offset, 1) },
	{ "SEM_RELEASE behind the end", EINVAL, EXEC(SEM_RELEASE, op.dst_offset, BUFFER_SIZE) },
	{ "TIMESTAMP not aligned", EINVAL, EXEC(TIMESTAMP, op.dst_offset, 4) },
	{ "TIMESTAMP with arg0", EINVAL, EXEC(TIMESTAMP, op.arg0, 1) },
	{ "DELAY over 60 s", EINVAL, EXEC(DELAY, op.arg0, SIXTY_SECONDS + 1) },
	{ "DELAY with a destination", EINVAL, EXEC(DELAY, op.dst, 1) },

	{ "VECTOR on the copy engine", EINVAL, EXEC(VECTOR, exec.engine, 0) },
	{ "VECTOR with an unknown operation", EINVAL, EXEC(VECTOR, op.arg32, 6) },
	{ "VECTOR size no multiple of 4", EINVAL, EXEC(VECTOR, op.size, 6) },
	{ "VECTOR offset no multiple of 4", EINVAL, EXEC(VECTOR, op.dst_offset, 2) },
	{ "VECTOR from no such second buffer", ENOENT, EXEC(VECTOR, op.src2, NO_HANDLE) },
	{ "VECTOR second source over the end", EINVAL, EXEC(VECTOR, op.src2_offset, BUFFER_SIZE) },

	{ "fences at a bad address", EFAULT, EXEC(NOP, exec.syncs, 8) },
	{ "unknown fence type", EINVAL, EXEC(NOP, sync.type, 3) },
	{ "fence that neither waits nor signals", EINVAL, EXEC(NOP, sync.flags, 0) },
	{ "fence that waits and signals", EINVAL, EXEC(NOP, sync.flags, 3) },
	{ "unknown fence flag", EINVAL, EXEC(NOP, sync.flags, 4) },
	{ "fence padding", EINVAL, EXEC(NOP, sync.pad, 1) },
	{ "binary syncobj with a point", EINVAL, EXEC(NOP, sync.point, 1) },
	{ "timeline syncobj with point 0", EINVAL, EXEC(NOP, sync.type, TBGPU_SYNC_TIMELINE) },
	{ "no such syncobj", ENOENT, EXEC(NOP, sync.handle, NO_HANDLE) },
};

const unsigned int exec_limit_count = sizeof(exec_limits) / sizeof(*exec_limits);

#define CALL(ioctl, argument, name, value) \
	DRM_IOCTL_TBGPU_##ioctl, offsetof(struct call, argument), FIELD(call, argument.name), value

const struct call_limit call_limits[] = {
	{ "INFO flags", EINVAL, CALL(INFO, info, flags, 1) },
	{ "BO_CREATE of 0 bytes", EINVAL, CALL(BO_CREATE, create, size, 0) },
	{ "BO_CREATE larger than VRAM", ENOSPC, CALL(BO_CREATE, create, size, 1ull << 36) },
	{ "BO_CREATE of ~0 bytes", ENOMEM, CALL(BO_CREATE, create, size, ~0ull) },
	{ "BO_CREATE in domain 0", EINVAL, CALL(BO_CREATE, create, domain, 0) },
	{ "BO_CREATE in domain imported", EINVAL,
	  CALL(BO_CREATE, create, domain, TBGPU_DOMAIN_IMPORTED) },
	{ "BO_CREATE in domain 4", EINVAL, CALL(BO_CREATE, create, domain, 4) },
	{ "BO_CREATE flags", EINVAL, CALL(BO_CREATE, create, flags, 1) },
	{ "BO_CREATE padding", EINVAL, CALL(BO_CREATE, create, pad, 1) },
	{ "BO_INFO of no such buffer", ENOENT, CALL(BO_INFO, bo_info, handle, NO_HANDLE) },
	{ "BO_INFO of handle 0", ENOENT, CALL(BO_INFO, bo_info, handle, 0) },
	{ "BO_INFO flags", EINVAL, CALL(BO_INFO, bo_info, flags, 1) },
	{ "BO_WAIT for no such buffer", ENOENT, CALL(BO_WAIT, wait, handle, NO_HANDLE) },
	{ "BO_WAIT flags", EINVAL, CALL(BO_WAIT, wait, flags, 2) },
};

const unsigned int call_limit_count = sizeof(call_limits) / sizeof(*call_limits);
