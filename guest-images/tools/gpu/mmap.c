// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "scope.h"

#define SIZE (64 * 1024 + PAGE)

static void check_cpu_writes(void *arg)
{
	const __u32 *domain = arg;
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *domain, SIZE);
	struct bo *sums = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	__u64 *sum = bo_map(sums);
	struct job job;

	pattern_write(bo_map(bo), SIZE, 21);
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_checksum(&job, (struct place){ sums, 0 }, (struct place){ bo, 0 }, SIZE);
	job_run(&job);
	if (*sum != crc32(bo_map(bo), SIZE))
		ktap_fail("the GPU's checksum is 0x%llx, the CPU's 0x%x", *sum,
			  crc32(bo_map(bo), SIZE));
}

static void check_gpu_writes(void *arg)
{
	const __u32 *domain = arg;
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *domain, SIZE);
	unsigned char *map = bo_map(bo);
	struct job job;
	size_t at;

	/* twice, so that nothing the CPU read before is taken for the new content */
	for (__u32 word = 0x01020304; word <= 0x02020304; word += 0x01000000) {
		job_init(&job, gpu, TBGPU_ENGINE_COPY);
		job_fill(&job, (struct place){ bo, 0 }, SIZE, word);
		job_run(&job);
		at = first_not_word(map, SIZE, word);
		if (at < SIZE)
			ktap_fail("byte %zu is 0x%02x after a fill with 0x%08x", at, map[at], word);
	}
}

static void check_zeroed(void *arg)
{
	const __u32 *domain = arg;
	struct gpu *gpu = gpu_open();
	size_t at;

	for (int round = 0; round < 2; round++) {
		struct bo *bo = bo_create(gpu, *domain, SIZE);
		unsigned char *map = bo_map(bo);

		at = first_not_word(map, SIZE, 0);
		if (at < SIZE)
			ktap_stop("byte %zu of a new buffer is 0x%02x", at, map[at]);
		memset(map, 0xee, SIZE);
		bo_close(bo);
	}
}

static unsigned char *map_again(struct bo *bo)
{
	unsigned char *map =
		mmap(NULL, SIZE, PROT_READ, MAP_SHARED, bo->gpu->fd, bo->info.mmap_offset);

	if (map == MAP_FAILED)
		ktap_stop("second mmap: %s", errname(errno));
	return map;
}

static void check_two_mappings(void *arg)
{
	const __u32 *domain = arg;
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *domain, SIZE);
	unsigned char *map = bo_map(bo), *second = map_again(bo);

	pattern_write(map, SIZE, 22);
	if (first_difference(map, second, SIZE) < SIZE)
		ktap_fail("the second mapping shows other bytes");
	munmap(second, SIZE);
}

/* A mapping holds the buffer after its handle and even its file are closed. */
static void check_outlives_handle(void *arg)
{
	const __u32 *domain = arg;
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *domain, SIZE), *other;
	unsigned char *map = map_again(bo);
	unsigned char *expected = scope_alloc(SIZE);

	pattern_write(expected, SIZE, 23);
	memcpy(bo_map(bo), expected, SIZE);
	bo_close(bo);
	other = bo_create(gpu, *domain, SIZE);
	memset(bo_map(other), 0, SIZE);
	if (first_difference(map, expected, SIZE) < SIZE)
		ktap_fail("the mapping lost its bytes with the handle");
	gpu_close(gpu);
	if (first_difference(map, expected, SIZE) < SIZE)
		ktap_fail("the mapping lost its bytes with the file");
	munmap(map, SIZE);
}

static void expect_mmap_error(int fd, __u64 size, __u64 offset, int expected, const char *what)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	int error = map == MAP_FAILED ? errno : 0;

	if (map != MAP_FAILED)
		munmap(map, size);
	if (error != expected)
		ktap_fail("%s: %s, should be %s", what, errname(error), errname(expected));
}

static void check_refused(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gpu *stranger = gpu_open();
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, SIZE);
	__u64 offset = bo->info.mmap_offset;

	(void)arg;
	expect_mmap_error(gpu->fd, SIZE + PAGE, offset, EINVAL, "longer than the buffer");
	expect_mmap_error(gpu->fd, PAGE, 0, EINVAL, "an offset that stands for no buffer");
	expect_mmap_error(stranger->fd, SIZE, offset, EACCES,
			  "a file that has no handle of the buffer");
}

struct mmap_check {
	const char *name;
	void (*check)(void *arg);
};

static const struct mmap_check checks[] = {
	{ "CPU writes, GPU reads", check_cpu_writes },
	{ "GPU writes, CPU reads", check_gpu_writes },
	{ "new buffers are zero", check_zeroed },
	{ "two mappings agree", check_two_mappings },
	{ "a mapping outlives handle and file", check_outlives_handle },
};

#define CHECKS (sizeof(checks) / sizeof(*checks))

int run_mmap(void)
{
	gpu_require();
	ktap_plan(2 * CHECKS + 1);
	for (size_t i = 0; i < 2 * CHECKS; i++) {
		__u32 domain = domains[i & 1];
		char name[64];

		snprintf(name, sizeof(name), "%s in %s", checks[i / 2].name, domain_name(domain));
		ktap_run(name, checks[i / 2].check, &domain);
	}
	ktap_run("bad mappings are refused", check_refused, NULL);
	return ktap_status();
}
