// SPDX-License-Identifier: GPL-2.0
/* static-import: /dev/tbimport attaches like NIC zero-copy does, without following a buffer that
 * moves. */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"
#include "tbimport.h"

#define NODE "/dev/tbimport"
#define SIZE (256 * 1024ull)
#define WORD 0x57a71c00u

static const char *pci = "";

const struct arg static_args[] = {
	{ "pci", ARG_TEXT, &pci, NULL, "DDDD:BB:DD.F to map for (default: tbimport's own device)" },
	{ 0 },
};

static int open_importer(void)
{
	int fd = open(NODE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		ktap_stop("open '%s': %s", NODE, errname(errno));
	return scope_fd(fd);
}

static int attach(int importer, int dmabuf, struct tbimport_attach *request,
		  struct tbimport_segment *segments)
{
	memset(request, 0, sizeof(*request));
	request->fd = dmabuf;
	snprintf(request->device, sizeof(request->device), "%s", pci);
	request->segments = (__u64)(unsigned long)segments;
	request->segment_space = segments ? TBIMPORT_MAX_SEGMENTS : 0;
	return gpu_ioctl(importer, TBIMPORT_IOC_ATTACH, request);
}

static void must_attach(int importer, int dmabuf)
{
	struct tbimport_attach request;
	int error = attach(importer, dmabuf, &request, NULL);

	if (error)
		ktap_stop("ATTACH: %s", errname(error));
}

static int read_content(int importer, __u64 offset, __u64 length, void *data)
{
	struct tbimport_read request = {
		.offset = offset,
		.length = length,
		.data = (__u64)(unsigned long)data,
	};

	return gpu_ioctl(importer, TBIMPORT_IOC_READ, &request);
}

static void expect(const char *what, int error, int expected)
{
	if (error != -expected)
		ktap_fail("%s: %s, should be %s", what, errname(error), errname(expected));
}

static void check_mapping(void *arg)
{
	struct tbimport_segment *segments = scope_alloc(TBIMPORT_MAX_SEGMENTS * sizeof(*segments));
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int importer = open_importer(), error;
	struct tbimport_attach request;
	__u64 sum = 0;

	error = attach(importer, bo_export(bo, DRM_CLOEXEC | DRM_RDWR), &request, segments);
	if (error)
		ktap_stop("ATTACH: %s", errname(error));
	ktap_note("%u segments, the first at 0x%llx", request.segment_count, segments[0].address);
	if (request.size != SIZE || request.mapped != SIZE)
		ktap_fail("size %llu, mapped %llu, should be %llu", request.size, request.mapped,
			  SIZE);
	for (__u32 i = 0; i < request.segment_count && i < TBIMPORT_MAX_SEGMENTS; i++) {
		/* what devmem TCP demands of an exporter */
		if (segments[i].length % PAGE || segments[i].address % PAGE || !segments[i].address)
			ktap_fail("segment %u: 0x%llx, %llu bytes", i, segments[i].address,
				  segments[i].length);
		sum += segments[i].length;
	}
	if (sum != SIZE)
		ktap_fail("the segments have %llu bytes", sum);
	expect("DETACH", gpu_ioctl(importer, TBIMPORT_IOC_DETACH, NULL), 0);
}

static void check_content(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	unsigned char *data = scope_alloc(SIZE);
	int importer = open_importer(), error;
	struct job job;

	pattern_write(bo_map(bo), SIZE, 51);
	must_attach(importer, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));
	error = read_content(importer, 0, SIZE, data);
	if (error)
		ktap_stop("READ: %s", errname(error));
	if (first_difference(data, bo_map(bo), SIZE) < SIZE)
		ktap_fail("byte %zu differs", first_difference(data, bo_map(bo), SIZE));
	expect("READ inside", read_content(importer, PAGE + 3, 77, data), 0);
	if (first_difference(data, (char *)bo_map(bo) + PAGE + 3, 77) < 77)
		ktap_fail("a range inside differs");
	/* the read waits for the job by the buffer's reservation */
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_delay(&job, 50 * NS_PER_MS);
	job_fill(&job, (struct place){ bo, 0 }, SIZE, WORD);
	job_submit(&job);
	expect("READ while a job writes", read_content(importer, 0, SIZE, data), 0);
	if (first_not_word(data, SIZE, WORD) < SIZE)
		ktap_fail("the read did not wait for the job that writes");
}

/* The attachment alone keeps the buffer. */
static void check_outlives(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int importer = open_importer(), dmabuf = bo_export(bo, DRM_CLOEXEC | DRM_RDWR);
	unsigned char *data = scope_alloc(SIZE);

	fill_buffer(bo, SIZE, WORD);
	must_attach(importer, dmabuf);
	scope_close(dmabuf);
	bo_close(bo);
	gpu_close(gpu);
	expect("READ", read_content(importer, 0, SIZE, data), 0);
	if (first_not_word(data, SIZE, WORD) < SIZE)
		ktap_fail("the content is lost");
}

static void check_refused(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, SIZE);
	int importer = open_importer(), dmabuf = bo_export(bo, DRM_CLOEXEC);
	struct tbimport_attach request;
	char data[8];

	(void)arg;
	expect("READ of nothing", read_content(importer, 0, 8, data), ENOTCONN);
	expect("DETACH of nothing", gpu_ioctl(importer, TBIMPORT_IOC_DETACH, NULL), ENOTCONN);
	expect("ATTACH of no descriptor", attach(importer, -1, &request, NULL), EBADF);
	expect("ATTACH of another kind of file", attach(importer, gpu->fd, &request, NULL), EINVAL);
	must_attach(importer, dmabuf);
	expect("a second ATTACH", attach(importer, dmabuf, &request, NULL), EBUSY);
	expect("READ behind the end", read_content(importer, SIZE - 4, 8, data), EINVAL);
	expect("READ at an offset that wraps", read_content(importer, ~0ull - 3, 8, data), EINVAL);
	expect("READ to a bad address", read_content(importer, 0, 8, (void *)8), EFAULT);
}

int run_static_import(void)
{
	gpu_require();
	if (access(NODE, R_OK | W_OK))
		ktap_bail("'%s': %s (hint: load module tbimport)", NODE, errname(errno));
	ktap_plan(7);
	run_in_domains("mapping", check_mapping);
	run_in_domains("content", check_content);
	run_in_domains("the attachment keeps the buffer: content", check_outlives);
	ktap_run("bad requests are refused", check_refused, NULL);
	return ktap_status();
}
