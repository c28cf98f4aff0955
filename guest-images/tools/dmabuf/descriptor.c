// SPDX-License-Identifier: GPL-2.0
/* size, cloexec, mmap: what the descriptor of a dma-buf can do */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "buffer.h"
#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"

#define SIZE (64 * 1024ull)
#define WORD 0x5eed5eedu

static void expect_seek(int fd, off_t offset, int whence, off_t expected, const char *what)
{
	off_t place = lseek(fd, offset, whence);

	if (place < 0)
		place = -errno;
	if (place == expected)
		return;
	if (place < 0)
		ktap_fail("%s: %s", what, errname(place));
	else
		ktap_fail("%s: %lld", what, (long long)place);
}

static void check_size(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE - 1);
	int fd = bo_export(bo, DRM_CLOEXEC);

	expect_seek(fd, 0, SEEK_END, SIZE, "SEEK_END 0");
	expect_seek(fd, 0, SEEK_SET, 0, "SEEK_SET 0");
	expect_seek(fd, 1, SEEK_SET, -EINVAL, "SEEK_SET 1");
	expect_seek(fd, -1, SEEK_END, -EINVAL, "SEEK_END -1");
	expect_seek(fd, 0, SEEK_CUR, -EINVAL, "SEEK_CUR 0");
}

int run_size(void)
{
	gpu_require();
	ktap_plan(2);
	run_in_domains("lseek() on a dma-buf", check_size);
	return ktap_status();
}

static void check_descriptor_flags(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int plain = bo_export(bo, 0), closed = bo_export(bo, DRM_CLOEXEC);
	int writable = bo_export(bo, DRM_CLOEXEC | DRM_RDWR);
	struct drm_prime_handle bad = { .handle = bo->info.handle, .flags = O_APPEND };

	if (fcntl(plain, F_GETFD) & FD_CLOEXEC)
		ktap_fail("close-on-exec although it was not asked for");
	if (!(fcntl(closed, F_GETFD) & FD_CLOEXEC))
		ktap_fail("DRM_CLOEXEC is not close-on-exec");
	if (!(fcntl(writable, F_GETFD) & FD_CLOEXEC))
		ktap_fail("DRM_CLOEXEC | DRM_RDWR is not close-on-exec");
	if (gpu_ioctl(gpu->fd, DRM_IOCTL_PRIME_HANDLE_TO_FD, &bad) != -EINVAL)
		ktap_fail("an unknown flag is not refused with EINVAL");
}

static void check_read_only(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int fd = bo_export(bo, DRM_CLOEXEC);
	void *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED) {
		ktap_fail("a dma-buf exported without DRM_RDWR can be mapped for writing");
		munmap(map, SIZE);
	} else if (errno != EACCES) {
		ktap_fail("mmap for writing: %s, should be EACCES", errname(errno));
	}
}

int run_cloexec(void)
{
	gpu_require();
	ktap_plan(4);
	run_in_domains("flags of the descriptor", check_descriptor_flags);
	run_in_domains("no writing without DRM_RDWR: a dma-buf", check_read_only);
	return ktap_status();
}

static void check_cpu_and_gpu(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	struct bo *sums = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	int fd = bo_export(bo, DRM_CLOEXEC | DRM_RDWR), error;
	unsigned char *map = map_dmabuf(fd, SIZE);
	const __u64 *sum = bo_map(sums);
	struct job job;

	error = sync_dmabuf(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
	if (error)
		ktap_fail("SYNC start: %s", errname(error));
	pattern_write(map, SIZE, 41);
	error = sync_dmabuf(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);
	if (error)
		ktap_fail("SYNC end: %s", errname(error));
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_checksum(&job, (struct place){ sums, 0 }, (struct place){ bo, 0 }, SIZE);
	job_run(&job);
	if (*sum != crc32(map, SIZE))
		ktap_fail("the GPU's checksum is 0x%llx, the CPU's 0x%x", *sum, crc32(map, SIZE));
	if (first_difference(map, bo_map(bo), SIZE) < SIZE)
		ktap_fail("the mapping through the DRM file shows other bytes");
	fill_buffer(bo, SIZE, WORD);
	if (first_not_word(map, SIZE, WORD) < SIZE)
		ktap_fail("the CPU does not see what the GPU wrote");
}

static void check_sync_waits(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int fd = bo_export(bo, DRM_CLOEXEC | DRM_RDWR), error;
	unsigned char *map = map_dmabuf(fd, SIZE);
	struct job job;

	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_delay(&job, 50 * NS_PER_MS);
	job_fill(&job, (struct place){ bo, 0 }, SIZE, WORD);
	job_submit(&job);
	error = sync_dmabuf(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (error)
		ktap_stop("SYNC start: %s", errname(error));
	if (first_not_word(map, SIZE, WORD) < SIZE)
		ktap_fail("SYNC start did not wait for the job that writes");
	sync_dmabuf(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}

static void check_refused(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int fd = bo_export(bo, DRM_CLOEXEC | DRM_RDWR);
	void *map = mmap(NULL, SIZE + PAGE, PROT_READ, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED || errno != EINVAL)
		ktap_fail("a mapping longer than the buffer is not refused with EINVAL");
	if (sync_dmabuf(fd, 1ull << 5) != -EINVAL)
		ktap_fail("an unknown SYNC flag is not refused with EINVAL");
	if (sync_dmabuf(fd, DMA_BUF_SYNC_START) != -EINVAL)
		ktap_fail("SYNC that neither reads nor writes is not refused with EINVAL");
}

/* A mapping holds the buffer when the dma-buf, the handle and the file are closed. */
static void check_outlives(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	unsigned char *map = map_dmabuf(bo_export(bo, DRM_CLOEXEC | DRM_RDWR), SIZE);

	fill_buffer(bo, SIZE, WORD);
	bo_close(bo);
	gpu_close(gpu);
	if (first_not_word(map, SIZE, WORD) < SIZE)
		ktap_fail("the mapping lost its bytes");
}

int run_mmap(void)
{
	gpu_require();
	ktap_plan(8);
	run_in_domains("CPU and GPU share a dma-buf", check_cpu_and_gpu);
	run_in_domains("SYNC waits for the writer", check_sync_waits);
	run_in_domains("bad mappings and flags are refused: a dma-buf", check_refused);
	run_in_domains("a mapping outlives the file: a dma-buf", check_outlives);
	return ktap_status();
}
