// SPDX-License-Identifier: GPL-2.0
#include "gpu.h"

#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"
#include "errname.h"
#include "ktap.h"
#include "scope.h"

#define DRIVER "tbgpu"
#define FIRST_RENDER_MINOR 128
#define LAST_RENDER_MINOR 191

static const char *device;
static __u64 timeout_ns = 10 * NS_PER_S;

const struct arg gpu_args[] = {
	{ "device", ARG_TEXT, &device, NULL, "render node (default: the first one of tbgpu)" },
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

static bool is_tbgpu(int fd)
{
	char name[32] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };

	return !gpu_ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, DRIVER);
}

char *gpu_find_node(unsigned int n)
{
	for (int minor = FIRST_RENDER_MINOR; minor <= LAST_RENDER_MINOR; minor++) {
		char path[40];
		bool found;
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/renderD%d", minor);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = is_tbgpu(fd);
		close(fd);
		if (found && n-- == 0)
			return strdup(path);
	}
	return NULL;
}

void gpu_require(void)
{
	int fd;

	if (!device) {
		device = gpu_find_node(0);
		if (!device)
			ktap_bail("no render node of driver '" DRIVER
				  "' (hint: lsmod; ls /dev/dri)");
		return;
	}
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		ktap_bail("'%s' cannot be opened: %s", device, errname(errno));
	if (!is_tbgpu(fd))
		ktap_bail("'%s' is not a render node of driver '" DRIVER "'", device);
	close(fd);
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
