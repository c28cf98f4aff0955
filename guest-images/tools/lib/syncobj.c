// SPDX-License-Identifier: GPL-2.0
#include "syncobj.h"

#include <drm/drm.h>

#include "errname.h"
#include "ktap.h"
#include "scope.h"

static __u64 address_of(const void *pointer)
{
	return (__u64)(unsigned long)pointer;
}

__u32 syncobj_create(struct gpu *gpu, __u32 flags)
{
	struct drm_syncobj_create request = { .flags = flags };
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_CREATE, &request);

	if (error)
		ktap_stop("SYNCOBJ_CREATE: %s", errname(error));
	return request.handle;
}

int syncobj_destroy(struct gpu *gpu, __u32 handle)
{
	struct drm_syncobj_destroy request = { .handle = handle };

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_DESTROY, &request);
}

int syncobj_reset(struct gpu *gpu, __u32 handle)
{
	struct drm_syncobj_array request = { .handles = address_of(&handle), .count_handles = 1 };

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_RESET, &request);
}

int syncobj_signal(struct gpu *gpu, __u32 handle, __u64 point)
{
	struct drm_syncobj_timeline_array request = {
		.handles = address_of(&handle),
		.points = address_of(&point),
		.count_handles = 1,
	};
	struct drm_syncobj_array binary = { .handles = address_of(&handle), .count_handles = 1 };

	if (!point)
		return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_SIGNAL, &binary);
	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, &request);
}

static int wait_binary(struct gpu *gpu, __u32 handle, __u32 flags, __u64 deadline)
{
	struct drm_syncobj_wait request = {
		.handles = address_of(&handle),
		.timeout_nsec = deadline,
		.count_handles = 1,
		.flags = flags,
	};

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_WAIT, &request);
}

int syncobj_wait(struct gpu *gpu, __u32 handle, __u64 point, __u32 flags, __u64 deadline)
{
	struct drm_syncobj_timeline_wait request = {
		.handles = address_of(&handle),
		.points = address_of(&point),
		.timeout_nsec = deadline,
		.count_handles = 1,
		.flags = flags,
	};

	if (!point && !(flags & DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE))
		return wait_binary(gpu, handle, flags, deadline);
	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &request);
}

__u64 syncobj_query(struct gpu *gpu, __u32 handle, __u32 flags)
{
	__u64 point = 0;
	struct drm_syncobj_timeline_array request = {
		.handles = address_of(&handle),
		.points = address_of(&point),
		.count_handles = 1,
		.flags = flags,
	};
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_QUERY, &request);

	if (error)
		ktap_stop("SYNCOBJ_QUERY: %s", errname(error));
	return point;
}

int syncobj_eventfd(struct gpu *gpu, __u32 handle, __u64 point, __u32 flags, int eventfd)
{
	struct drm_syncobj_eventfd request = {
		.handle = handle,
		.flags = flags,
		.point = point,
		.fd = eventfd,
	};

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_EVENTFD, &request);
}

int syncobj_transfer(struct gpu *gpu, __u32 to, __u64 to_point, __u32 from, __u64 from_point)
{
	struct drm_syncobj_transfer request = {
		.src_handle = from,
		.dst_handle = to,
		.src_point = from_point,
		.dst_point = to_point,
	};

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_TRANSFER, &request);
}

int syncobj_export_file(struct gpu *gpu, __u32 handle)
{
	struct drm_syncobj_handle request = {
		.handle = handle,
		.flags = DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE,
		.fd = -1,
	};
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &request);

	return error ? error : request.fd;
}

int syncobj_import_file(struct gpu *gpu, __u32 handle, int sync_file)
{
	struct drm_syncobj_handle request = {
		.handle = handle,
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
		.fd = sync_file,
	};

	return gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &request);
}

int syncobj_export_fd(struct gpu *gpu, __u32 handle)
{
	struct drm_syncobj_handle request = { .handle = handle, .fd = -1 };
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &request);

	if (error)
		ktap_stop("SYNCOBJ_HANDLE_TO_FD: %s", errname(error));
	return scope_fd(request.fd);
}

__u32 syncobj_import_fd(struct gpu *gpu, int fd)
{
	struct drm_syncobj_handle request = { .fd = fd };
	int error = gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &request);

	if (error)
		ktap_stop("SYNCOBJ_FD_TO_HANDLE: %s", errname(error));
	return request.handle;
}
