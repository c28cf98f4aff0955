// SPDX-License-Identifier: GPL-2.0
#include "gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"
#include "errname.h"
#include "ktap.h"
#include "node.h"
#include "scope.h"

static const char *device;
static __u64 timeout_ns = 10 * NS_PER_S;

const struct arg gpu_args[] = {
	{ "device", ARG_TEXT, &device, NULL,
	  "render node or PCI address (default: the first of tbgpu)" },
	{ "timeout", ARG_TIME, &timeout_ns, NULL, "longest wait for one fence (default: 10s)" },
	{ 0 },
};

__u64 gpu_deadline(void)
{
	return now_ns() + timeout_ns;
}

int gpu_ioctl(int fd, unsigned long request, void *arg)
{
	while (ioctl(fd, request, arg) < 0)
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	return 0;
}

void gpu_require(void)
{
	static const char *resolved;

	if (resolved)
		return;
	resolved = device ? node_resolve(device) : node_find(0);
	if (!resolved && device)
		ktap_bail("'%s' is not a render node of driver 'tbgpu' (hint: ls /dev/dri)",
			  device);
	if (!resolved)
		ktap_bail("no render node of driver 'tbgpu' (hint: lsmod; ls /dev/dri)");
	device = resolved;
}

static void release_gpu(void *what)
{
	struct gpu *gpu = what;

	gpu_close(gpu);
	free(gpu);
}

struct gpu *gpu_open_node(const char *node)
{
	struct gpu *gpu = calloc(1, sizeof(*gpu));
	int error;

	if (!gpu)
		abort();
	gpu->node = node;
	gpu->fd = open(node, O_RDWR | O_CLOEXEC);
	if (gpu->fd < 0) {
		free(gpu);
		ktap_stop("open '%s': %s", node, errname(errno));
	}
	scope_defer(release_gpu, gpu);
	error = gpu_get_info(gpu, &gpu->info);
	if (error)
		ktap_stop("INFO of '%s': %s", node, errname(error));
	return gpu;
}

struct gpu *gpu_open(void)
{
	gpu_require();
	return gpu_open_node(device);
}

void gpu_close(struct gpu *gpu)
{
	if (gpu->fd >= 0)
		close(gpu->fd);
	gpu->fd = -1;
}

int gpu_get_info(struct gpu *gpu, struct drm_tbgpu_info *info)
{
	memset(info, 0, sizeof(*info));
	return gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_INFO, info);
}

__u32 gpu_engine(const struct gpu *gpu, __u32 type)
{
	for (__u32 engine = 0; engine < gpu->info.num_engines; engine++)
		if (gpu->info.engine_type[engine] == type)
			return engine;
	ktap_stop("no %s engine", engine_name(type));
}

const char *engine_name(__u32 type)
{
	return type == TBGPU_ENGINE_COPY ? "copy" : "compute";
}

const char *domain_name(__u32 domain)
{
	switch (domain) {
	case TBGPU_DOMAIN_VRAM:
		return "vram";
	case TBGPU_DOMAIN_SYSTEM:
		return "system";
	case TBGPU_DOMAIN_IMPORTED:
		return "imported";
	default:
		return "unknown";
	}
}
