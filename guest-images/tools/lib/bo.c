// SPDX-License-Identifier: GPL-2.0
#include <drm/drm.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "errname.h"
#include "gpu.h"
#include "ktap.h"
#include "scope.h"

static void release_bo(void *what)
{
	struct bo *bo = what;
	struct drm_gem_close request = { .handle = bo->info.handle };

	if (bo->map)
		munmap(bo->map, bo->info.size);
	/* fails when the device is gone or its file was closed first; the kernel has let go of it
	 * then */
	gpu_ioctl(bo->gpu->fd, DRM_IOCTL_GEM_CLOSE, &request);
	free(bo);
}

static struct bo *new_bo(struct gpu *gpu, __u32 handle)
{
	struct bo *bo = calloc(1, sizeof(*bo));
	int error;

	if (!bo)
		abort();
	bo->gpu = gpu;
	bo->info.handle = handle;
	scope_defer(release_bo, bo);
	error = gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_BO_INFO, &bo->info);
	if (error)
		ktap_stop("BO_INFO: %s", errname(error));
	return bo;
}

struct bo *bo_create(struct gpu *gpu, __u32 domain, __u64 size)
{
	struct drm_tbgpu_bo_create request = { .size = size, .domain = domain };
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_BO_CREATE, &request);

	if (error)
		ktap_stop("BO_CREATE of %llu bytes in %s: %s", size, domain_name(domain),
			  errname(error));
	return new_bo(gpu, request.handle);
}

struct bo *bo_import(struct gpu *gpu, int dmabuf)
{
	struct drm_prime_handle request = { .fd = dmabuf };
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &request);

	if (error)
		ktap_stop("PRIME_FD_TO_HANDLE on '%s': %s", gpu->node, errname(error));
	return new_bo(gpu, request.handle);
}

int bo_export(struct bo *bo, __u32 flags)
{
	struct drm_prime_handle request = { .handle = bo->info.handle, .flags = flags };
	int error = gpu_ioctl(bo->gpu->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &request);

	if (error)
		ktap_stop("PRIME_HANDLE_TO_FD: %s", errname(error));
	return scope_fd(request.fd);
}

void *bo_map(struct bo *bo)
{
	void *map;

	if (bo->map)
		return bo->map;
	map = mmap(NULL, bo->info.size, PROT_READ | PROT_WRITE, MAP_SHARED, bo->gpu->fd,
		   bo->info.mmap_offset);
	if (map == MAP_FAILED)
		ktap_stop("mmap of %llu bytes of %s: %s", bo->info.size,
			  domain_name(bo->info.domain), errname(errno));
	bo->map = map;
	return map;
}

void bo_close(struct bo *bo)
{
	scope_release(bo);
}

int bo_wait(struct bo *bo, __u32 flags, __u64 deadline)
{
	struct drm_tbgpu_bo_wait request = {
		.handle = bo->info.handle,
		.flags = flags,
		.timeout_ns = deadline,
	};

	return gpu_ioctl(bo->gpu->fd, DRM_IOCTL_TBGPU_BO_WAIT, &request);
}
