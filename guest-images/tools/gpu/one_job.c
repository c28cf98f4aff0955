// SPDX-License-Identifier: GPL-2.0
#include "job.h"

#include <stdio.h>

#include "announce.h"
#include "clock.h"
#include "commands.h"
#include "expect.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "syncfile.h"

#define SIZE 65536ull
#define WORD 0xfeedf00du

static int engine;
static __u64 delay_ms;
static const char *expected = "ok";
static bool say;

const struct arg job_args[] = {
	{ "engine", ARG_CHOICE, &engine, "copy|compute", "which engine (default: copy)" },
	{ "delay-ms", ARG_COUNT, &delay_ms, NULL, "how long the job takes (default: 0)" },
	{ "expect", ARG_TEXT, &expected, NULL,
	  "ok or the error of its fence, or a list: ENODEV,ESRCH" },
	{ "announce", ARG_FLAG, &say, NULL, "'tb-gpu: job submitted' into the kernel log" },
	{ 0 },
};

static void check_job(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	const void *map = bo_map(bo);
	struct job job;
	int status;

	(void)arg;
	job_init(&job, gpu, engine_types[engine]);
	job_delay(&job, delay_ms * NS_PER_MS);
	job_fill(&job, (struct place){ bo, 0 }, SIZE, WORD);
	job_signal_file(&job);
	status = job_try_submit(&job);
	if (!status) {
		int file = job_file(&job);

		if (say)
			announce("tb-gpu: job submitted");
		status = sync_file_wait(file, gpu_deadline());
		if (!status)
			ktap_stop("still pending at --timeout");
		ktap_note("job %llu: submit to signal %llu us", job.number,
			  (sync_file_time(file) - job.submitted) / NS_PER_US);
	}
	ktap_note("ended with %s", status_name(status));
	if (!expect_matches(expected, status))
		ktap_fail("should have ended with %s", expected);
	if (status == 1 && first_not_word(map, SIZE, WORD) < SIZE)
		ktap_fail("its data is not there");
}

int run_job(void)
{
	char name[128];

	if (!expect_valid(expected))
		return EXIT_USAGE;
	gpu_require();
	ktap_plan(1);
	snprintf(name, sizeof(name), "job on the %s engine ends with %s",
		 engine_name(engine_types[engine]), expected);
	ktap_run(name, check_job, NULL);
	return ktap_status();
}
