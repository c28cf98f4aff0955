// SPDX-License-Identifier: GPL-2.0
/* held, lost-interrupt: what the driver does when the device misbehaves. The scenario injects the
 * fault before. */
#include <errno.h>
#include <stdio.h>

#include "announce.h"
#include "clock.h"
#include "commands.h"
#include "expect.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "syncfile.h"

#define SIZE 65536ull
#define WORD 0x0dd0beefu
#define SLACK (2 * NS_PER_S) /* a loaded machine without KVM */

static int engine;
static const char *expected = "ETIME";
static bool recovers;

static const __u32 types[2] = { TBGPU_ENGINE_COPY, TBGPU_ENGINE_COMPUTE };

const struct arg held_args[] = {
	{ "engine", ARG_CHOICE, &engine, "copy|compute",
	  "the engine with the fault (default: copy)" },
	{ "expect-errno", ARG_TEXT, &expected, NULL,
	  "error of the held job's fence (default: ETIME)" },
	{ "recovers", ARG_FLAG, &recovers, NULL,
	  "the fault has ended (count 1): the engine must work again" },
	{ 0 },
};

const struct arg lost_args[] = {
	{ "engine", ARG_CHOICE, &engine, "copy|compute",
	  "the engine with the fault (default: copy)" },
	{ 0 },
};

static void start_fill(struct job *job, struct bo *bo, __u32 engine_type, __u32 word)
{
	job_init(job, bo->gpu, engine_type);
	job_fill(job, (struct place){ bo, 0 }, SIZE, word);
}

static __u64 fence_deadline(const struct gpu *gpu)
{
	return now_ns() + gpu->info.job_timeout_ms * NS_PER_MS + SLACK;
}

static void check_held_fence(void *arg)
{
	struct gpu *gpu = arg;
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	__u64 timeout = gpu->info.job_timeout_ms * NS_PER_MS, took;
	struct job job;
	int file, status;

	start_fill(&job, bo, types[engine], WORD);
	file = job_submit_file(&job);
	announce("tb-fence: held job submitted");
	status = sync_file_wait(file, fence_deadline(gpu));
	if (!status)
		ktap_stop("still pending %u ms + 2 s after the submission",
			  gpu->info.job_timeout_ms);
	took = sync_file_time(file) - job.submitted;
	ktap_note("ended with %s after %llu ms, the job timeout is %u ms", status_name(status),
		  took / NS_PER_MS, gpu->info.job_timeout_ms);
	if (status == 1 || !expect_matches(expected, status))
		ktap_fail("should have ended with %s", expected);
	if (status == -ETIME && took < timeout)
		ktap_fail("sooner than the timeout");
}

static void check_reset_count(void *arg)
{
	struct gpu *gpu = arg;
	struct drm_tbgpu_info info;

	gpu_get_info(gpu, &info);
	ktap_note("%u resets before, %u now", gpu->info.reset_count, info.reset_count);
	if (info.reset_count <= gpu->info.reset_count)
		ktap_fail("the driver counts no reset");
}

static void check_works(struct gpu *gpu, __u32 engine_type)
{
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, SIZE);
	struct job job;

	for (__u32 word = WORD; word < WORD + 3; word++) {
		start_fill(&job, bo, engine_type, word);
		job_run(&job);
		if (first_not_word(bo_map(bo), SIZE, word) < SIZE)
			ktap_fail("fill number %u is not there", word - WORD);
	}
}

static void check_other_engine(void *arg)
{
	check_works(arg, types[!engine]);
}

static void check_same_engine(void *arg)
{
	check_works(arg, types[engine]);
}

static void check_held(void *arg)
{
	struct gpu *gpu = gpu_open();

	(void)arg;
	ktap_plan(recovers ? 4 : 3);
	ktap_run("the fence fails within the timeout", check_held_fence, gpu);
	ktap_run("the engine was reset", check_reset_count, gpu);
	ktap_run("the other engine works", check_other_engine, gpu);
	if (recovers)
		ktap_run("the engine works again", check_same_engine, gpu);
}

int run_held(void)
{
	char name[64];

	if (!expect_valid(expected))
		return EXIT_USAGE;
	gpu_require();
	ktap_plan(1);
	snprintf(name, sizeof(name), "held completion on the %s engine",
		 engine_name(types[engine]));
	ktap_run(name, check_held, NULL);
	return ktap_status();
}

static void check_lost_interrupt(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	struct drm_tbgpu_info after;
	struct job job;
	int file, status;

	(void)arg;
	start_fill(&job, bo, types[engine], WORD);
	file = job_submit_file(&job);
	status = sync_file_wait(file, fence_deadline(gpu));
	if (!status)
		ktap_stop("still pending %u ms + 2 s after the submission",
			  gpu->info.job_timeout_ms);
	ktap_note("ended with %s after %llu ms, the job timeout is %u ms", status_name(status),
		  (sync_file_time(file) - job.submitted) / NS_PER_MS, gpu->info.job_timeout_ms);
	if (status != 1)
		ktap_fail("the job was done, its fence should be ok");
	if (first_not_word(bo_map(bo), SIZE, WORD) < SIZE)
		ktap_fail("the data is not there");
	gpu_get_info(gpu, &after);
	if (after.reset_count != gpu->info.reset_count)
		ktap_fail("the engine was reset although the job was done");
}

static void check_next(void *arg)
{
	(void)arg;
	check_works(gpu_open(), types[engine]);
}

int run_lost(void)
{
	char name[64];

	gpu_require();
	ktap_plan(2);
	snprintf(name, sizeof(name), "lost interrupt of the %s engine", engine_name(types[engine]));
	ktap_run(name, check_lost_interrupt, NULL);
	ktap_run("the next jobs end as usual", check_next, NULL);
	return ktap_status();
}
