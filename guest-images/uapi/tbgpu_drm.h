/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * tbgpu: what user space says to the driver of the testbed GPU.
 *
 * The driver is a DRM render node named "tbgpu" (DRM_IOCTL_VERSION). Besides the calls below it
 * has what DRM itself gives: GEM_CLOSE, PRIME_HANDLE_TO_FD, PRIME_FD_TO_HANDLE, and the SYNCOBJ
 * calls with time lines.
 *
 * Rules for every call:
 *  - fields named "pad" and flags without a meaning must be 0, else -EINVAL;
 *  - sizes and offsets are in bytes, times in nanoseconds;
 *  - -EFAULT: a pointer that user space gave cannot be read or written;
 *  - -ENODEV: the device is gone (unbound, unplugged), the file can only be closed;
 *  - -EINTR: a signal came (restarted by the kernel or by drmIoctl()).
 */
#ifndef TBGPU_DRM_H
#define TBGPU_DRM_H

#include <drm/drm.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define TBGPU_MAX_ENGINES	8
#define TBGPU_MAX_OPS		256	/* operations in one EXEC */
#define TBGPU_MAX_SYNCS		64	/* fences in one EXEC */

/* drm_tbgpu_info.features: bits of the device's register FEATURES */
#define TBGPU_FEATURE_LISTS	(1u << 0)
#define TBGPU_FEATURE_SEMAPHORES (1u << 1)
#define TBGPU_FEATURE_VECTOR	(1u << 2)

/* drm_tbgpu_info.engine_type[] */
#define TBGPU_ENGINE_COPY	1
#define TBGPU_ENGINE_COMPUTE	2

/*
 * INFO: what the device is and how it is doing. All fields are written by the kernel; flags is 0.
 * -EINVAL: flags is not 0. -ENODEV.
 */
struct drm_tbgpu_info {
	__u32 flags;
	__u32 device_version;		/* major in 31:16, minor in 15:0 */
	__u32 features;			/* TBGPU_FEATURE_* */
	__u32 num_engines;
	__u32 engine_type[TBGPU_MAX_ENGINES];	/* TBGPU_ENGINE_*, 0 behind the last */
	__u64 vram_size;
	__u64 vram_used;		/* by all files together */
	__u64 max_transfer;		/* most bytes of one operation */
	__u64 timestamp;		/* device clock, ns */
	__u32 job_timeout_ms;		/* a job that runs longer is ended, see EXEC */
	__u32 reset_count;		/* engine resets by this driver since probe */
};

/* drm_tbgpu_bo_create.domain and drm_tbgpu_bo_info.domain */
#define TBGPU_DOMAIN_VRAM	1	/* device memory, contiguous */
#define TBGPU_DOMAIN_SYSTEM	2	/* pages of the machine, reached by scatter lists */
#define TBGPU_DOMAIN_IMPORTED	3	/* a dma-buf of another device; BO_INFO only */

/*
 * BO_CREATE: a new zero-filled buffer and its handle.
 * size is rounded up to whole pages and written back.
 * -EINVAL: size 0, unknown domain, flags not 0. -ENOSPC: VRAM has no free range of that size.
 * -ENOMEM: no memory, or a size that can never be (over 1 TiB, or over half of the machine's memory
 * in system memory). -ENODEV.
 */
struct drm_tbgpu_bo_create {
	__u64 size;			/* in, out */
	__u32 domain;			/* TBGPU_DOMAIN_VRAM or _SYSTEM */
	__u32 flags;			/* 0 */
	__u32 handle;			/* out */
	__u32 pad;
};

/*
 * BO_INFO: what a handle stands for. mmap_offset is the offset for mmap() on the DRM file; it is 0
 * for an imported buffer, which is mapped through its own dma-buf. vram_offset is the place in
 * VRAM, ~0 elsewhere (for the control socket's flip_vram_bit).
 * -ENOENT: no such handle. -EINVAL. -ENODEV.
 *
 * Mapped buffers: after the device is gone a touched page of VRAM raises SIGBUS; system pages stay.
 * The CPU does not wait for the GPU by itself: use BO_WAIT, a fence, or DMA_BUF_IOCTL_SYNC.
 */
struct drm_tbgpu_bo_info {
	__u32 handle;			/* in */
	__u32 flags;			/* in, 0 */
	__u64 size;
	__u64 mmap_offset;
	__u64 vram_offset;
	__u32 domain;
	__u32 pad;
};

/* drm_tbgpu_bo_wait.flags. WRITERS: only for jobs that write the buffer, not for all. */
#define TBGPU_WAIT_WRITERS	(1u << 0)

/*
 * BO_WAIT: wait for the fences that EXEC (without TBGPU_EXEC_NO_IMPLICIT) left on a buffer.
 * timeout_ns is an absolute CLOCK_MONOTONIC time; 0 asks without waiting.
 * -ETIME: not done by then. -ENOENT: no such handle. -EINVAL: unknown flag. -ENODEV.
 * That a job failed is not reported here: its own fence carries the error.
 */
struct drm_tbgpu_bo_wait {
	__u32 handle;
	__u32 flags;
	__s64 timeout_ns;
};

/* drm_tbgpu_op.opcode: the numbers of the device's commands (docs/devices/gpu.md) */
#define TBGPU_OP_NOP		0
#define TBGPU_OP_FILL		1
#define TBGPU_OP_COPY		2
#define TBGPU_OP_CHECKSUM	3
#define TBGPU_OP_SEM_WAIT	4
#define TBGPU_OP_SEM_RELEASE	5
#define TBGPU_OP_TIMESTAMP	6
#define TBGPU_OP_DELAY		7
#define TBGPU_OP_VECTOR		8	/* compute engines only */

/* arg32 of SEM_WAIT */
#define TBGPU_SEM_EQUAL		0
#define TBGPU_SEM_GEQUAL	1
#define TBGPU_SEM_AND		2

/* arg32 of VECTOR: dst[i] = op(src[i], src2[i]) */
#define TBGPU_VEC_ADD_U32	0
#define TBGPU_VEC_MUL_U32	1
#define TBGPU_VEC_XOR		2
#define TBGPU_VEC_ADD_F32	3
#define TBGPU_VEC_MUL_F32	4
#define TBGPU_VEC_FMA_F32	5	/* scalar * src + src2; the scalar's bits are arg0 31:0 */

/*
 * One operation. Buffers are GEM handles of the calling file, places in them offsets. A field that
 * an opcode does not use must be 0.
 *
 * opcode       uses                                  meaning
 * NOP
 * FILL         dst size arg32                        repeat the 32-bit pattern arg32
 * COPY         src dst size                          ranges of one buffer may overlap
 * CHECKSUM     src size dst                          zlib's crc32 of the source as u64 at dst
 * SEM_WAIT     dst arg32 arg0 arg1                   until the u64 at dst is TBGPU_SEM_* to arg0;
 *                                                    arg1: timeout in ns (then -EIO), 0 none
 * SEM_RELEASE  dst arg0                              write the u64 arg0 at dst
 * TIMESTAMP    dst                                   device clock in ns as u64 at dst
 * DELAY        arg0                                  takes arg0 ns, at most 60 s
 * VECTOR       src src2 dst size arg32 arg0          arg0 31:0 is the scalar
 *
 * Size and offsets of FILL and VECTOR are multiples of 4; dst_offset of CHECKSUM, SEM_WAIT,
 * SEM_RELEASE and TIMESTAMP is a multiple of 8. Semaphores take no part in implicit
 * synchronisation (a waiting job would keep the releasing one from starting).
 */
struct drm_tbgpu_op {
	__u16 opcode;
	__u16 flags;			/* 0 */
	__u32 arg32;
	__u32 src;			/* handles */
	__u32 dst;
	__u32 src2;
	__u32 pad;
	__u64 src_offset;
	__u64 dst_offset;
	__u64 src2_offset;
	__u64 size;
	__u64 arg0;
	__u64 arg1;
};

/* drm_tbgpu_sync.type */
#define TBGPU_SYNC_FILE		0	/* handle is a file descriptor of a sync_file */
#define TBGPU_SYNC_BINARY	1	/* handle is a syncobj, point is 0 */
#define TBGPU_SYNC_TIMELINE	2	/* handle is a syncobj, point is not 0 */

/*
 * drm_tbgpu_sync.flags: exactly one. The job starts after what it WAITs for. SIGNAL gives the
 * job's fence to the syncobj, or, with TBGPU_SYNC_FILE, makes a new descriptor (close-on-exec) that
 * the kernel writes to handle; what was there before does not matter.
 */
#define TBGPU_SYNC_WAIT		(1u << 0)
#define TBGPU_SYNC_SIGNAL	(1u << 1)

struct drm_tbgpu_sync {
	__u32 type;
	__u32 flags;
	__s32 handle;
	__u32 pad;
	__u64 point;
};

/*
 * drm_tbgpu_exec.flags. NO_IMPLICIT: neither wait for fences on the buffers nor leave one that
 * other users of the buffers would wait for (it is left with dma_resv usage BOOKKEEP).
 */
#define TBGPU_EXEC_NO_IMPLICIT	(1u << 0)

/*
 * EXEC: run operations in order on one engine, as one job with one fence.
 *
 * Jobs that one file sends to one engine run in the order of the calls; engines are independent.
 * Unless TBGPU_EXEC_NO_IMPLICIT is given a job waits for earlier writers of what it reads and for
 * all earlier users of what it writes, those of other drivers included (dma_resv).
 *
 * All or nothing: on an error no job was made, no fence signalled, and no descriptor is left open.
 *
 * -EINVAL: no such engine, unknown opcode, flag or sync type, opcode not of that engine, field that
 *          must be 0 or aligned is not, range outside a buffer, size over max_transfer, DELAY over
 *          60 s, op_count 0, syncobj without a fence to wait for, descriptor that is not a
 *          sync_file.
 * -E2BIG:  op_count or sync_count over the limits above, or the job needs more ring entries than a
 *          ring has (buffers scattered over very many pieces).
 * -EOPNOTSUPP: CHECKSUM of, or overlapping COPY within, a range of more than 4096 pieces.
 * -ENOENT: no such buffer or syncobj handle.
 * -EMFILE: no descriptor free. -ENOMEM. -EFAULT. -EINTR. -ENODEV.
 * Mapping an imported buffer may give its exporter's error.
 *
 * Error of the job's fence (SYNC_IOC_FILE_INFO status, negative):
 * -EIO:       the device reported an error in one of its operations; details in the kernel log.
 * -ETIME:     ran longer than job_timeout_ms: the engine was reset. Other jobs go on.
 * -ENODEV:    the device went away before the job was done.
 * -ESRCH:     the file was closed and the job had not started a second later.
 * An error of a fence waited for is not inherited; the job runs all the same.
 */
struct drm_tbgpu_exec {
	__u32 engine;			/* index, below num_engines */
	__u32 flags;			/* TBGPU_EXEC_* */
	__u64 ops;			/* pointer to struct drm_tbgpu_op[op_count] */
	__u64 syncs;			/* pointer to struct drm_tbgpu_sync[sync_count] */
	__u32 op_count;
	__u32 sync_count;
	__u64 job;			/* out: this job's number in the kernel log */
};

#define DRM_TBGPU_INFO		0x00
#define DRM_TBGPU_BO_CREATE	0x01
#define DRM_TBGPU_BO_INFO	0x02
#define DRM_TBGPU_BO_WAIT	0x03
#define DRM_TBGPU_EXEC		0x04

#define DRM_IOCTL_TBGPU_INFO \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_TBGPU_INFO, struct drm_tbgpu_info)
#define DRM_IOCTL_TBGPU_BO_CREATE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_TBGPU_BO_CREATE, struct drm_tbgpu_bo_create)
#define DRM_IOCTL_TBGPU_BO_INFO \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_TBGPU_BO_INFO, struct drm_tbgpu_bo_info)
#define DRM_IOCTL_TBGPU_BO_WAIT \
	DRM_IOW(DRM_COMMAND_BASE + DRM_TBGPU_BO_WAIT, struct drm_tbgpu_bo_wait)
#define DRM_IOCTL_TBGPU_EXEC \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_TBGPU_EXEC, struct drm_tbgpu_exec)

#if defined(__cplusplus)
}
#endif

#endif
