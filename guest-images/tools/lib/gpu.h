/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The render node of a testbed GPU and its buffers. Functions that return int give 0 or -errno; the
 * others end the current check when they fail. All objects belong to the current check (scope.h).
 */
#ifndef GPU_H
#define GPU_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "args.h"
#include "tbgpu_drm.h"

#define PAGE 4096ull

struct gpu {
	int fd; /* -1 after gpu_close() */
	const char *node;
	struct drm_tbgpu_info info;
};

struct bo {
	struct gpu *gpu;
	struct drm_tbgpu_bo_info info;
	void *map; /* by bo_map() */
};

/* --device and --timeout, for struct program.common. */
extern const struct arg gpu_args[];
/* An absolute time of now_ns(): --timeout from now. */
__u64 gpu_deadline(void);

/* ioctl() that restarts after signals; 0 or -errno. */
int gpu_ioctl(int fd, unsigned long request, void *arg);

/* Ends the program by "Bail out!" unless there is a GPU to work with. */
void gpu_require(void);
/* Opens the GPU of --device, by default the first. */
struct gpu *gpu_open(void);
struct gpu *gpu_open_node(const char *node);
/* Closes its file before the check ends; mappings of its buffers stay. */
void gpu_close(struct gpu *gpu);

int gpu_get_info(struct gpu *gpu, struct drm_tbgpu_info *info);
/* Index of the first engine of a type (TBGPU_ENGINE_*). */
__u32 gpu_engine(const struct gpu *gpu, __u32 type);
const char *engine_name(__u32 type);
const char *domain_name(__u32 domain);

struct bo *bo_create(struct gpu *gpu, __u32 domain, __u64 size);
/* Imports a dma-buf into gpu. */
struct bo *bo_import(struct gpu *gpu, int dmabuf);
/* Exports it; flags are DRM_CLOEXEC and DRM_RDWR. */
int bo_export(struct bo *bo, __u32 flags);
/* Maps it once; later calls return the same address. */
void *bo_map(struct bo *bo);
void bo_close(struct bo *bo);
/* Waits for the implicit fences until deadline (now_ns()), 0: only asks. */
int bo_wait(struct bo *bo, __u32 flags, __u64 deadline);

#endif
