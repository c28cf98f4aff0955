// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE /* memfd_create() */
#include "provider.h"

#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"
#include "stream.h"

static void release_map(void *what)
{
	struct provider *provider = what;

	munmap(provider->map, provider->size);
}

static void map_memory(struct provider *provider, int fd)
{
	provider->map = mmap(NULL, provider->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (provider->map == MAP_FAILED)
		ktap_stop("mmap: %s", errname(errno));
	scope_defer(release_map, provider);
}

static int open_device(const char *path)
{
	int fd = scope_fd(open(path, O_RDWR | O_CLOEXEC));

	if (fd < 0)
		ktap_stop("%s: %s", path, errname(errno));
	return fd;
}

static void open_vram(struct provider *provider)
{
	struct gpu *gpu = gpu_open();

	provider->bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, provider->size);
	provider->sums = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	provider->dmabuf = bo_export(provider->bo, DRM_CLOEXEC | DRM_RDWR);
}

static void open_udmabuf(struct provider *provider)
{
	int memory = scope_fd(memfd_create("tb-net", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	struct udmabuf_create request = {
		.memfd = memory,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = provider->size,
	};

	if (memory < 0 || ftruncate(memory, provider->size) ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK))
		ktap_stop("memfd of %llu bytes: %s", provider->size, errname(errno));
	provider->dmabuf = scope_fd(ioctl(open_device("/dev/udmabuf"), UDMABUF_CREATE, &request));
	if (provider->dmabuf < 0)
		ktap_stop("UDMABUF_CREATE: %s", errname(errno));
	map_memory(provider, memory);
}

static void open_heap(struct provider *provider)
{
	struct dma_heap_allocation_data request = {
		.len = provider->size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int error = gpu_ioctl(open_device("/dev/dma_heap/system"), DMA_HEAP_IOCTL_ALLOC, &request);

	if (error)
		ktap_stop("DMA_HEAP_IOCTL_ALLOC: %s", errname(error));
	provider->dmabuf = scope_fd(request.fd);
	map_memory(provider, provider->dmabuf);
}

struct provider *provider_open(enum provider_kind kind, __u64 size)
{
	struct provider *provider = scope_alloc(sizeof(*provider));

	provider->size = (size + PAGE - 1) / PAGE * PAGE;
	if (kind == PROVIDER_VRAM)
		open_vram(provider);
	else if (kind == PROVIDER_UDMABUF)
		open_udmabuf(provider);
	else
		open_heap(provider);
	return provider;
}

static void sync_cpu(struct provider *provider, __u64 flags)
{
	struct dma_buf_sync request = { .flags = flags };
	int error = gpu_ioctl(provider->dmabuf, DMA_BUF_IOCTL_SYNC, &request);

	if (error)
		ktap_stop("DMA_BUF_IOCTL_SYNC: %s", errname(error));
}

void provider_fill(struct provider *provider, __u64 size)
{
	char *to = provider->bo ? bo_map(provider->bo) : provider->map;

	sync_cpu(provider, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	for (__u64 at = 0; at < size; at += STREAM_VIEW)
		memcpy(to + at, stream_at(at), size - at < STREAM_VIEW ? size - at : STREAM_VIEW);
	sync_cpu(provider, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

static void complain(const struct piece *piece)
{
	ktap_fail("%u bytes at 0x%llx of the dma-buf are not those at %llu of the stream",
		  piece->size, piece->offset, piece->position);
}

static void check_by_cpu(struct provider *provider, const struct piece *pieces, unsigned int count)
{
	sync_cpu(provider, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	for (unsigned int i = 0; i < count; i++)
		if (memcmp((char *)provider->map + pieces[i].offset,
			   stream_at(pieces[i].position), pieces[i].size))
			complain(&pieces[i]);
	sync_cpu(provider, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}

static void check_by_gpu(struct provider *provider, const struct piece *pieces, unsigned int count)
{
	const __u64 *sums = bo_map(provider->sums);
	struct job job;

	job_init(&job, provider->bo->gpu, TBGPU_ENGINE_COMPUTE);
	for (unsigned int i = 0; i < count; i++)
		job_checksum(&job, (struct place){ provider->sums, i * sizeof(*sums) },
			     (struct place){ provider->bo, pieces[i].offset }, pieces[i].size);
	job_run(&job);
	for (unsigned int i = 0; i < count; i++)
		if (sums[i] != crc32(stream_at(pieces[i].position), pieces[i].size))
			complain(&pieces[i]);
}

void provider_check(struct provider *provider, const struct piece *pieces, unsigned int count)
{
	const unsigned int most = provider->bo ? TBGPU_MAX_OPS : count;

	while (count) {
		unsigned int now = count < most ? count : most;

		if (provider->bo)
			check_by_gpu(provider, pieces, now);
		else
			check_by_cpu(provider, pieces, now);
		pieces += now;
		count -= now;
	}
}
