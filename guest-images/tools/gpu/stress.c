// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>

#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

#define SLOT 1024ull
#define MOST_JOBS 16384
#define IN_FLIGHT 128 /* open sync_files at a time */

static __u64 jobs = 400;

const struct arg stress_args[] = {
	{ "jobs", ARG_COUNT, &jobs, NULL, "jobs in all, at most 16384 (default: 400)" },
	{ 0 },
};

/* Job number i runs on engine i % 2, in slot i of the buffers; points of its engine's timeline
 * count from 1. */
struct stress {
	struct gpu *gpu;
	struct bo *vram, *system, *stamps;
	__u32 timeline[2];
	int *files;
	__u64 *fence_times;
};

static __u32 word_of(__u64 i)
{
	return 0x9e3779b9u * (__u32)(i + 1);
}

static void submit_one(struct stress *stress, __u64 i)
{
	struct place vram = { stress->vram, i * SLOT }, system = { stress->system, i * SLOT };
	struct job job;

	job_init(&job, stress->gpu, engine_types[i & 1]);
	job.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_timestamp(&job, (struct place){ stress->stamps, 16 * i });
	job_fill(&job, vram, SLOT, word_of(i));
	job_copy(&job, system, vram, SLOT);
	job_timestamp(&job, (struct place){ stress->stamps, 16 * i + 8 });
	job_signal_syncobj(&job, stress->timeline[i & 1], i / 2 + 1);
	stress->files[i] = job_submit_file(&job);
}

static void finish_one(struct stress *stress, __u64 i)
{
	int status = sync_file_wait(stress->files[i], gpu_deadline());

	if (status != 1)
		ktap_stop("job %llu: %s", i, status_name(status));
	stress->fence_times[i] = sync_file_time(stress->files[i]);
	scope_close(stress->files[i]);
}

static void check_completion(void *arg)
{
	struct stress *stress = arg;

	for (__u64 i = 0; i < jobs; i++) {
		if (i >= IN_FLIGHT)
			finish_one(stress, i - IN_FLIGHT);
		submit_one(stress, i);
	}
	for (__u64 i = jobs > IN_FLIGHT ? jobs - IN_FLIGHT : 0; i < jobs; i++)
		finish_one(stress, i);
}

static void check_fence_order(void *arg)
{
	struct stress *stress = arg;

	for (__u64 i = 2; i < jobs; i++)
		if (stress->fence_times[i] < stress->fence_times[i - 2])
			ktap_fail("the fence of job %llu was signalled before that of job %llu", i,
				  i - 2);
	for (__u64 engine = 0; engine < 2; engine++) {
		__u64 last = syncobj_query(stress->gpu, stress->timeline[engine], 0);

		if (last != (jobs + 1 - engine) / 2)
			ktap_fail("the %s engine's timeline is at %llu, should be at %llu",
				  engine_name(engine_types[engine]), last, (jobs + 1 - engine) / 2);
	}
}

static void check_device_order(void *arg)
{
	struct stress *stress = arg;
	const __u64 *stamp = bo_map(stress->stamps);

	for (__u64 i = 0; i < jobs; i++) {
		__u64 begin = stamp[2 * i], end = stamp[2 * i + 1];

		if (!begin || end < begin)
			ktap_fail("job %llu ran from %llu to %llu", i, begin, end);
		if (i >= 2 && begin < stamp[2 * (i - 2) + 1])
			ktap_fail("job %llu began before job %llu ended", i, i - 2);
	}
}

static void check_data(void *arg)
{
	struct stress *stress = arg;
	const unsigned char *vram = bo_map(stress->vram), *system = bo_map(stress->system);

	for (__u64 i = 0; i < jobs; i++) {
		if (first_not_word(vram + i * SLOT, SLOT, word_of(i)) < SLOT)
			ktap_fail("slot %llu in VRAM is wrong", i);
		if (first_not_word(system + i * SLOT, SLOT, word_of(i)) < SLOT)
			ktap_fail("slot %llu in system memory is wrong", i);
	}
}

static void check_stress(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct stress stress = {
		.gpu = gpu,
		.vram = bo_create(gpu, TBGPU_DOMAIN_VRAM, jobs * SLOT),
		.system = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, jobs * SLOT),
		.stamps = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, jobs * 16),
		.timeline = { syncobj_create(gpu, 0), syncobj_create(gpu, 0) },
		.files = scope_alloc(jobs * sizeof(int)),
		.fence_times = scope_alloc(jobs * sizeof(__u64)),
	};

	(void)arg;
	ktap_plan(4);
	ktap_run("each fence is signalled", check_completion, &stress);
	ktap_run("fences of an engine in order", check_fence_order, &stress);
	ktap_run("jobs of an engine one after the other", check_device_order, &stress);
	ktap_run("data", check_data, &stress);
}

int run_stress(void)
{
	char name[64];

	if (!jobs || jobs > MOST_JOBS) {
		fprintf(stderr, "tb-gpu stress: --jobs is from 1 to %d\n", MOST_JOBS);
		return EXIT_USAGE;
	}
	gpu_require();
	ktap_plan(1);
	snprintf(name, sizeof(name), "%llu jobs", jobs);
	ktap_run(name, check_stress, NULL);
	return ktap_status();
}
