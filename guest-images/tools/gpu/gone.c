// SPDX-License-Identifier: GPL-2.0
/* What is left to a process whose GPU goes away (unplug, unbind) while it holds files, mappings and
 * fences. */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "announce.h"
#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "expect.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

#define WORD 0x600dda7au

static __u64 wait_ns = 30 * NS_PER_S;
static __u64 delay_ms;
static const char *fence_error = "ENODEV";

const struct arg gone_args[] = {
	{ "wait", ARG_TIME, &wait_ns, NULL,
	  "how long to wait for the device to go (default: 30s)" },
	{ "delay-ms", ARG_COUNT, &delay_ms, NULL,
	  "length of a job that runs meanwhile (default: 0, none)" },
	{ "expect", ARG_TEXT, &fence_error, NULL, "error of that job's fence (default: ENODEV)" },
	{ 0 },
};

struct gone {
	struct gpu *gpu;
	struct bo *vram, *system;
	volatile __u32 *vram_map;
	const __u32 *system_map;
	int dmabuf, uevents, fence;
	bool went;
};

static sigjmp_buf on_bus_error;

static void handle_bus_error(int signal)
{
	(void)signal;
	siglongjmp(on_bus_error, 1);
}

static int open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	scope_fd(fd);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		ktap_stop("socket for uevents: %s", errname(errno));
	return fd;
}

/* The first line of a uevent is "remove@/devices/.../drm/renderD128". */
static bool is_removal_of(const char *event, const char *node)
{
	const char *name = strrchr(event, '/');

	return name && !strncmp(event, "remove@", 7) && !strcmp(name, strrchr(node, '/'));
}

static void check_goes(void *arg)
{
	struct gone *gone = arg;
	__u64 deadline = now_ns() + wait_ns;
	char event[4096];

	announce("tb-gpu: waiting for the device to go");
	while (fd_ready(gone->uevents, POLLIN, deadline)) {
		ssize_t length = recv(gone->uevents, event, sizeof(event) - 1, 0);

		event[length > 0 ? length : 0] = '\0';
		gone->went = is_removal_of(event, gone->gpu->node);
		if (gone->went)
			return;
	}
	ktap_stop("no uevent that '%s' was removed within --wait", gone->gpu->node);
}

static void check_fence(void *arg)
{
	struct gone *gone = arg;
	int status;

	if (gone->fence < 0)
		ktap_skip("no job was running (--delay-ms)");
	status = sync_file_wait(gone->fence, gpu_deadline());
	ktap_note("ended with %s", status_name(status));
	if (!status || !expect_matches(fence_error, status))
		ktap_fail("should have ended with %s", fence_error);
}

static void expect_gone(const char *what, int error)
{
	if (error != -ENODEV)
		ktap_fail("%s: %s, should be ENODEV", what, errname(error));
}

static void check_calls(void *arg)
{
	struct gone *gone = arg;
	struct gpu *gpu = gone->gpu;
	struct drm_tbgpu_bo_create create = { .size = PAGE, .domain = TBGPU_DOMAIN_SYSTEM };
	struct drm_tbgpu_bo_info info = { .handle = gone->vram->info.handle };
	struct drm_prime_handle prime = { .handle = gone->vram->info.handle, .flags = DRM_CLOEXEC };
	struct drm_syncobj_create syncobj = { 0 };
	struct drm_tbgpu_info gpu_info;
	struct job job;

	expect_gone("INFO", gpu_get_info(gpu, &gpu_info));
	expect_gone("BO_CREATE", gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_BO_CREATE, &create));
	expect_gone("BO_INFO", gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_BO_INFO, &info));
	expect_gone("BO_WAIT", bo_wait(gone->vram, 0, 0));
	expect_gone("PRIME_HANDLE_TO_FD", gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime));
	expect_gone("SYNCOBJ_CREATE", gpu_ioctl(gpu->fd, DRM_IOCTL_SYNCOBJ_CREATE, &syncobj));
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_nop(&job);
	expect_gone("EXEC", job_try_submit(&job));
}

static bool raises_bus_error(volatile __u32 *word)
{
	if (sigsetjmp(on_bus_error, 1))
		return true;
	(void)*word;
	return false;
}

/* The driver withdraws the pages a moment after the uevent: the access is tried until then. */
static void check_vram_mapping(void *arg)
{
	struct gone *gone = arg;
	struct sigaction action = { .sa_handler = handle_bus_error }, before;
	__u64 deadline = gpu_deadline();
	bool raised = false;

	sigaction(SIGBUS, &action, &before);
	while (!raised && now_ns() < deadline) {
		raised = raises_bus_error(gone->vram_map);
		if (!raised)
			poll(NULL, 0, 5);
	}
	sigaction(SIGBUS, &before, NULL);
	if (!raised)
		ktap_fail("reading it raised no SIGBUS within --timeout");
}

static void check_system_mapping(void *arg)
{
	struct gone *gone = arg;

	if (first_not_word(gone->system_map, PAGE, WORD) < PAGE)
		ktap_fail("it lost its content");
}

static void check_dmabuf(void *arg)
{
	struct gone *gone = arg;
	off_t size = lseek(gone->dmabuf, 0, SEEK_END);

	if (size != (off_t)PAGE)
		ktap_fail("lseek to its end gives %lld", (long long)size);
	if (!fd_ready(gone->dmabuf, POLLIN | POLLOUT, gpu_deadline()))
		ktap_fail("poll() does not say that it is idle");
	scope_close(gone->dmabuf);
}

static void check_open(void *arg)
{
	struct gone *gone = arg;
	int fd = open(gone->gpu->node, O_RDWR | O_CLOEXEC);
	int error = errno;

	if (fd >= 0) {
		close(fd);
		ktap_fail("'%s' can still be opened", gone->gpu->node);
	} else if (error != ENOENT && error != ENODEV && error != ENXIO) {
		ktap_fail("open of '%s': %s, should be ENOENT, ENODEV or ENXIO", gone->gpu->node,
			  errname(error));
	}
}

static void check_close(void *arg)
{
	struct gone *gone = arg;

	munmap(gone->vram->map, gone->vram->info.size);
	gone->vram->map = NULL;
	if (close(gone->gpu->fd))
		ktap_fail("close: %s", errname(errno));
	gone->gpu->fd = -1;
	if (first_not_word(gone->system_map, PAGE, WORD) < PAGE)
		ktap_fail("the mapping of system memory lost its content with the file");
}

static void set_up(struct gone *gone)
{
	struct job job;

	gone->uevents = open_uevents();
	gone->gpu = gpu_open();
	gone->vram = bo_create(gone->gpu, TBGPU_DOMAIN_VRAM, PAGE);
	gone->system = bo_create(gone->gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	gone->vram_map = bo_map(gone->vram);
	gone->system_map = bo_map(gone->system);
	gone->dmabuf = bo_export(gone->vram, DRM_CLOEXEC | DRM_RDWR);
	job_init(&job, gone->gpu, TBGPU_ENGINE_COPY);
	job_fill(&job, (struct place){ gone->vram, 0 }, PAGE, WORD);
	job_fill(&job, (struct place){ gone->system, 0 }, PAGE, WORD);
	job_run(&job);
	gone->fence = -1;
	if (!delay_ms)
		return;
	job_init(&job, gone->gpu, TBGPU_ENGINE_COPY);
	job.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_delay(&job, delay_ms * NS_PER_MS);
	gone->fence = job_submit_file(&job);
}

static void check_gone(void *arg)
{
	struct gone gone = { .went = false };

	(void)arg;
	set_up(&gone);
	ktap_plan(8);
	ktap_run("the device goes", check_goes, &gone);
	if (!gone.went)
		ktap_stop("the other results need that");
	ktap_run("the fence of a running job fails", check_fence, &gone);
	ktap_run("calls give ENODEV", check_calls, &gone);
	ktap_run("a mapping of VRAM raises SIGBUS", check_vram_mapping, &gone);
	ktap_run("a mapping of system memory stays", check_system_mapping, &gone);
	ktap_run("an exported dma-buf can be asked and closed", check_dmabuf, &gone);
	ktap_run("the node cannot be opened", check_open, &gone);
	ktap_run("the file can be closed", check_close, &gone);
}

int run_gone(void)
{
	if (!expect_valid(fence_error))
		return EXIT_USAGE;
	gpu_require();
	ktap_plan(1);
	ktap_run("device gone", check_gone, NULL);
	return ktap_status();
}
