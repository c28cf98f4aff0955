// SPDX-License-Identifier: GPL-2.0
/* info, timestamp, delay */
#include <errno.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"

static void check_description(void *arg)
{
	struct gpu *gpu = gpu_open();
	const struct drm_tbgpu_info *info = &gpu->info;

	(void)arg;
	ktap_note("node %s, device version %u.%u, features 0x%x", gpu->node,
		  info->device_version >> 16, info->device_version & 0xffff, info->features);
	ktap_note("vram %llu MiB, %llu bytes used, %llu bytes in one operation",
		  info->vram_size >> 20, info->vram_used, info->max_transfer);
	ktap_note("job timeout %u ms, %u resets", info->job_timeout_ms, info->reset_count);
	if (info->device_version >> 16 != 1)
		ktap_fail("major version %u, this program knows 1", info->device_version >> 16);
	if (info->vram_size < 1 << 20 || info->vram_size & (info->vram_size - 1))
		ktap_fail("vram_size is not a power of two from 1 MiB");
	if (info->vram_used > info->vram_size)
		ktap_fail("more VRAM used than there is");
	if (!info->max_transfer || !info->job_timeout_ms || !info->timestamp)
		ktap_fail("max_transfer, job_timeout_ms or timestamp is 0");
}

static void check_engines(void *arg)
{
	struct gpu *gpu = gpu_open();
	const struct drm_tbgpu_info *info = &gpu->info;

	(void)arg;
	ktap_note("%u engines", info->num_engines);
	if (!info->num_engines || info->num_engines > TBGPU_MAX_ENGINES)
		ktap_stop("a number of engines that cannot be");
	for (__u32 i = 0; i < TBGPU_MAX_ENGINES; i++) {
		__u32 expected = i & 1 ? TBGPU_ENGINE_COMPUTE : TBGPU_ENGINE_COPY;

		if (i >= info->num_engines)
			expected = 0;
		if (info->engine_type[i] != expected)
			ktap_fail("engine_type[%u] is %u, should be %u", i, info->engine_type[i],
				  expected);
	}
}

static void check_accounting(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct drm_tbgpu_info before, with, after;
	struct bo *bo;

	(void)arg;
	gpu_get_info(gpu, &before);
	bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, 3 * PAGE + 1);
	gpu_get_info(gpu, &with);
	if (bo->info.size != 4 * PAGE)
		ktap_fail("size is %llu, should be rounded up to 4 pages", bo->info.size);
	if (bo->info.vram_offset + bo->info.size > with.vram_size)
		ktap_fail("vram_offset 0x%llx lies outside", bo->info.vram_offset);
	bo_close(bo);
	gpu_get_info(gpu, &after);
	if (with.vram_used < before.vram_used + 4 * PAGE)
		ktap_fail("vram_used did not grow by the buffer: %llu, then %llu", before.vram_used,
			  with.vram_used);
	if (after.vram_used != before.vram_used)
		ktap_fail("vram_used is %llu after the buffer, %llu before it", after.vram_used,
			  before.vram_used);
}

int run_info(void)
{
	gpu_require();
	ktap_plan(3);
	ktap_run("description", check_description, NULL);
	ktap_run("engines", check_engines, NULL);
	ktap_run("VRAM accounting", check_accounting, NULL);
	return ktap_status();
}

static void check_clock_in_job(void *arg)
{
	const __u32 *engine_type = arg;
	struct gpu *gpu = gpu_open();
	struct bo *stamps = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	__u64 *stamp = bo_map(stamps);
	struct drm_tbgpu_info after;
	struct job job;

	job_init(&job, gpu, *engine_type);
	for (int i = 0; i < 16; i++)
		job_timestamp(&job, (struct place){ stamps, 8 * i });
	job_run(&job);
	gpu_get_info(gpu, &after);
	if (stamp[0] < gpu->info.timestamp)
		ktap_fail("the job's first %llu is before INFO's %llu", stamp[0],
			  gpu->info.timestamp);
	for (int i = 1; i < 16; i++)
		if (stamp[i] < stamp[i - 1])
			ktap_fail("number %d goes back: %llu after %llu", i, stamp[i],
				  stamp[i - 1]);
	if (after.timestamp < stamp[15])
		ktap_fail("INFO's %llu after the job is before its last %llu", after.timestamp,
			  stamp[15]);
}

static void check_clock_across(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *stamps = bo_create(gpu, TBGPU_DOMAIN_VRAM, PAGE);
	__u64 *stamp = bo_map(stamps);
	struct job job;

	(void)arg;
	for (int i = 0; i < 8; i++) {
		job_init(&job, gpu, i & 1 ? TBGPU_ENGINE_COMPUTE : TBGPU_ENGINE_COPY);
		job_timestamp(&job, (struct place){ stamps, 8 * i });
		job_run(&job);
	}
	for (int i = 1; i < 8; i++)
		if (stamp[i] < stamp[i - 1])
			ktap_fail("job %d goes back: %llu after %llu", i, stamp[i], stamp[i - 1]);
}

int run_timestamp(void)
{
	static __u32 types[2] = { TBGPU_ENGINE_COPY, TBGPU_ENGINE_COMPUTE };

	gpu_require();
	ktap_plan(3);
	ktap_run("within a job of the copy engine", check_clock_in_job, &types[0]);
	ktap_run("within a job of the compute engine", check_clock_in_job, &types[1]);
	ktap_run("across engines, into VRAM", check_clock_across, NULL);
	return ktap_status();
}

static void check_delay(void *arg)
{
	const __u64 *ms = arg;
	__u64 ns = *ms * NS_PER_MS;
	struct gpu *gpu = gpu_open();
	struct bo *stamps = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	__u64 *stamp = bo_map(stamps);
	struct job job;

	if (*ms * 2 > gpu->info.job_timeout_ms)
		ktap_skip("job timeout of %u ms", gpu->info.job_timeout_ms);
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_timestamp(&job, (struct place){ stamps, 0 });
	job_delay(&job, ns);
	job_timestamp(&job, (struct place){ stamps, 8 });
	job_run(&job);
	ktap_note("took %llu us", (stamp[1] - stamp[0]) / NS_PER_US);
	if (stamp[1] - stamp[0] < ns)
		ktap_fail("shorter than asked");
}

static void check_longest(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job job;
	int error;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_delay(&job, 60 * NS_PER_S + 1);
	error = job_try_submit(&job);
	if (error != -EINVAL)
		ktap_fail("%s, should be EINVAL", errname(error));
}

int run_delay(void)
{
	static __u64 delays[3] = { 0, 5, 50 };

	gpu_require();
	ktap_plan(4);
	ktap_run("0 ms", check_delay, &delays[0]);
	ktap_run("5 ms", check_delay, &delays[1]);
	ktap_run("50 ms", check_delay, &delays[2]);
	ktap_run("more than 60 s is refused", check_longest, NULL);
	return ktap_status();
}
