// SPDX-License-Identifier: GPL-2.0
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "node.h"
#include "scope.h"
#include "syncfile.h"

#define WARM_UP 10

static __u64 count = 1000;
static int engine;
static const char *device;

const struct arg submit_args[] = {
	{ "count", ARG_COUNT, &count, NULL, "jobs (default: 1000)" },
	{ "engine", ARG_CHOICE, &engine, "copy|compute", "which engine (default: copy)" },
	{ "device", ARG_TEXT, &device, NULL,
	  "render node or PCI address (default: the first of tbgpu)" },
	{ 0 },
};

/* Nanoseconds from the call to the fence, 0 when the job failed. */
static __u64 measure_one(struct gpu *gpu, __u32 engine_type)
{
	struct job job;
	int error, status;
	__u64 end;

	job_init(&job, gpu, engine_type);
	job.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_nop(&job);
	job_signal_file(&job);
	error = job_try_submit(&job);
	if (error) {
		bench_failed("EXEC: %s", errname(error));
		return 0;
	}
	fd_ready(job_file(&job), POLLIN, now_ns() + 10 * NS_PER_S);
	end = now_ns();
	status = sync_file_status(job_file(&job));
	close(job_file(&job));
	if (status == 1)
		return end - job.submitted;
	bench_failed("the job ended with %s", status_name(status));
	return 0;
}

int run_submit(void)
{
	static const __u32 types[] = { TBGPU_ENGINE_COPY, TBGPU_ENGINE_COMPUTE };
	__u64 *samples;
	struct gpu *gpu;

	if (!bench_count_ok(count))
		return EXIT_USAGE;
	device = device ? node_resolve(device) : node_find(0);
	if (!device)
		return bench_failed("no such render node of driver 'tbgpu'");
	gpu = gpu_open_node(device);
	samples = scope_alloc(count * sizeof(*samples));
	for (int i = 0; i < WARM_UP; i++)
		measure_one(gpu, types[engine]);
	for (__u64 i = 0; i < count; i++) {
		samples[i] = measure_one(gpu, types[engine]);
		if (!samples[i])
			return EXIT_NOT_OK;
	}
	bench_print("submit", samples, count);
	return EXIT_ALL_OK;
}
