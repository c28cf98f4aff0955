// SPDX-License-Identifier: GPL-2.0
/* self-import, export-import, poll */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "clock.h"
#include "commands.h"
#include "gate.h"
#include "job.h"
#include "ktap.h"
#include "node.h"
#include "pattern.h"
#include "syncfile.h"

#define SIZE (256 * 1024ull)
#define WORD 0x77665544u
#define OTHER_WORD 0x01234567u

static const char *second;

const struct arg import_args[] = {
	{ "second", ARG_MAYBE_TEXT, &second, NULL,
	  "render node or PCI address of the importer (default: the second of tbgpu)" },
	{ 0 },
};

static void check_same_file(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct drm_prime_handle prime = { .fd = bo_export(bo, DRM_CLOEXEC | DRM_RDWR) };

	if (gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime))
		ktap_stop("PRIME_FD_TO_HANDLE failed");
	if (prime.handle != bo->info.handle)
		ktap_fail("handle %u came back as %u", bo->info.handle, prime.handle);
}

static void check_other_file(void *arg)
{
	__u32 domain = *(const __u32 *)arg;
	struct gpu *gpu = gpu_open(), *other = gpu_open();
	struct bo *bo = bo_create(gpu, domain, SIZE);
	struct bo *same = bo_import(other, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));

	if (same->info.domain != domain)
		ktap_fail("its domain is %s in the other file", domain_name(same->info.domain));
	if (same->info.size != bo->info.size || same->info.vram_offset != bo->info.vram_offset)
		ktap_fail("size %llu at 0x%llx became %llu at 0x%llx", bo->info.size,
			  bo->info.vram_offset, same->info.size, same->info.vram_offset);
	fill_buffer(bo, SIZE, WORD);
	if (first_not_word(bo_map(same), SIZE, WORD) < SIZE)
		ktap_fail("the other file does not see the same bytes");
	gpu_close(gpu);
	fill_buffer(same, SIZE, OTHER_WORD);
	if (first_not_word(bo_map(same), SIZE, OTHER_WORD) < SIZE)
		ktap_fail("the buffer does not work after the first file was closed");
}

static void check_not_dmabuf(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct drm_prime_handle prime = { .fd = gpu->fd };

	(void)arg;
	if (gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) != -EINVAL)
		ktap_fail("import of another kind of file is not refused with EINVAL");
	prime.fd = -1;
	if (gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime) != -EBADF)
		ktap_fail("import of no file is not refused with EBADF");
	prime = (struct drm_prime_handle){ .handle = 0x7fffffff };
	if (gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) != -ENOENT)
		ktap_fail("export of no buffer is not refused with ENOENT");
}

int run_self_import(void)
{
	gpu_require();
	ktap_plan(5);
	run_in_domains("the same file has the same handle", check_same_file);
	run_in_domains("another file has the same buffer", check_other_file);
	ktap_run("bad descriptors and handles are refused", check_not_dmabuf, NULL);
	return ktap_status();
}

static void check_import(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open_node(second);
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct bo *imported = bo_import(other, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));

	if (imported->info.domain != TBGPU_DOMAIN_IMPORTED)
		ktap_fail("its domain is %s: do both nodes belong to one device?",
			  domain_name(imported->info.domain));
	if (imported->info.size != bo->info.size || imported->info.mmap_offset)
		ktap_fail("size %llu, mmap_offset 0x%llx", imported->info.size,
			  imported->info.mmap_offset);
}

static void check_second_reads(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open_node(second);
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct bo *imported = bo_import(other, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));

	pattern_write(bo_map(bo), SIZE, 31);
	for (int i = 0; i < 2; i++) {
		struct bo *copy = bo_create(other, domains[i], SIZE);
		struct job job;

		job_init(&job, other, TBGPU_ENGINE_COPY);
		job_copy(&job, (struct place){ copy, 0 }, (struct place){ imported, 0 }, SIZE);
		job_run(&job);
		if (first_difference(bo_map(copy), bo_map(bo), SIZE) < SIZE)
			ktap_fail("the second GPU's copy to its %s differs",
				  domain_name(domains[i]));
	}
}

static void check_second_writes(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open_node(second);
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct bo *imported = bo_import(other, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));

	fill_buffer(imported, SIZE - PAGE, WORD);
	if (first_not_word(bo_map(bo), SIZE - PAGE, WORD) < SIZE - PAGE)
		ktap_fail("what the second GPU wrote is not there");
	if (first_not_word((char *)bo_map(bo) + SIZE - PAGE, PAGE, 0) < PAGE)
		ktap_fail("the second GPU wrote behind its range");
}

/* The importer's job waits for the exporter's by the buffer's reservation. */
static void check_implicit(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open_node(second);
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct bo *imported = bo_import(other, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));
	struct bo *copy = bo_create(other, TBGPU_DOMAIN_SYSTEM, SIZE);
	struct job writer, reader;

	job_init(&writer, gpu, TBGPU_ENGINE_COPY);
	job_delay(&writer, 50 * NS_PER_MS);
	job_fill(&writer, (struct place){ bo, 0 }, SIZE, WORD);
	job_submit(&writer);
	job_init(&reader, other, TBGPU_ENGINE_COPY);
	job_copy(&reader, (struct place){ copy, 0 }, (struct place){ imported, 0 }, SIZE);
	job_run(&reader);
	if (first_not_word(bo_map(copy), SIZE, WORD) < SIZE)
		ktap_fail("the second GPU did not wait for the first one's job");
}

int run_export_import(void)
{
	gpu_require();
	second = second ? node_resolve(second) : node_find(1);
	if (!second)
		ktap_bail("no such second render node of driver 'tbgpu' (hint: ls /dev/dri)");
	ktap_plan(8);
	run_in_domains("import", check_import);
	run_in_domains("the second GPU reads a buffer", check_second_reads);
	run_in_domains("the second GPU writes a buffer", check_second_writes);
	run_in_domains("the second GPU waits for the writer", check_implicit);
	return ktap_status();
}

/* Starts a gated writer of 'bo' and expects poll() on the dma-buf to wait for it. */
static void check_poll_for(struct bo *bo, int dmabuf, const char *who)
{
	struct gate *gate = gate_create(bo->gpu);
	struct job job;
	int file;

	job_init(&job, bo->gpu, TBGPU_ENGINE_COMPUTE);
	job_gate(&job, gate);
	job_fill(&job, (struct place){ bo, 0 }, SIZE, WORD);
	file = job_submit_file(&job);
	if (fd_ready(dmabuf, POLLIN, 0))
		ktap_fail("readable while a job of the %s writes it", who);
	gate_open(gate);
	if (!fd_ready(dmabuf, POLLIN | POLLOUT, gpu_deadline()))
		ktap_fail("never ready after a job of the %s", who);
	if (sync_file_status(file) != 1)
		ktap_fail("ready while the fence of the %s is %s", who,
			  status_name(sync_file_status(file)));
}

static void check_poll(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int dmabuf = bo_export(bo, DRM_CLOEXEC);
	struct bo *imported = bo_import(other, dmabuf);

	if (!fd_ready(dmabuf, POLLIN | POLLOUT, 0))
		ktap_fail("an idle buffer is not ready");
	check_poll_for(bo, dmabuf, "exporter");
	check_poll_for(imported, dmabuf, "importer");
}

int run_poll(void)
{
	gpu_require();
	ktap_plan(2);
	run_in_domains("poll() on the dma-buf", check_poll);
	return ktap_status();
}
