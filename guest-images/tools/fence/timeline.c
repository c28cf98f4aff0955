// SPDX-License-Identifier: GPL-2.0
#include <drm/drm.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "gate.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

#define DELAY (50 * NS_PER_MS)
#define SHORT (10 * NS_PER_MS)
#define POINTS 5

static void submit_point(struct gpu *gpu, __u32 timeline, __u64 point, __u64 delay)
{
	struct job job;

	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_delay(&job, delay);
	job_signal_syncobj(&job, timeline, point);
	job_submit(&job);
}

static void submit_gated(struct gpu *gpu, __u32 timeline, __u64 point, struct gate *gate)
{
	struct job job;

	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_gate(&job, gate);
	job_signal_syncobj(&job, timeline, point);
	job_submit(&job);
}

static void expect(const char *what, int error, int expected)
{
	if (error != -expected)
		ktap_fail("%s: %s, should be %s", what, errname(error), errname(expected));
}

static void check_wait(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 timeline = syncobj_create(gpu, 0);

	(void)arg;
	submit_gated(gpu, timeline, 1, gate);
	expect("asking at once", syncobj_wait(gpu, timeline, 1, 0, 0), ETIME);
	expect("a short wait", syncobj_wait(gpu, timeline, 1, 0, now_ns() + SHORT), ETIME);
	gate_open(gate);
	expect("the wait", syncobj_wait(gpu, timeline, 1, 0, gpu_deadline()), 0);
}

static void check_points_in_order(void *arg)
{
	struct gpu *gpu = gpu_open();
	__u32 timeline = syncobj_create(gpu, 0);
	__u64 last = 0;

	(void)arg;
	for (__u64 point = 1; point <= POINTS; point++)
		submit_point(gpu, timeline, point * 10, DELAY / POINTS);
	if (syncobj_query(gpu, timeline, DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED) != POINTS * 10)
		ktap_fail("the last submitted point is %llu, should be %d",
			  syncobj_query(gpu, timeline, DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED),
			  POINTS * 10);
	for (__u64 point = 10; point <= POINTS * 10; point += 10) {
		expect("wait", syncobj_wait(gpu, timeline, point, 0, gpu_deadline()), 0);
		last = syncobj_query(gpu, timeline, 0);
		if (last < point || last % 10)
			ktap_fail("the query says %llu after point %llu", last, point);
	}
}

/* A wait for a point that no job has is a wait for the next one that has been submitted. */
static void check_between(void *arg)
{
	struct gpu *gpu = gpu_open();
	__u32 timeline = syncobj_create(gpu, 0);

	(void)arg;
	submit_point(gpu, timeline, 10, 0);
	expect("point 7", syncobj_wait(gpu, timeline, 7, 0, gpu_deadline()), 0);
	if (syncobj_query(gpu, timeline, 0) != 10)
		ktap_fail("the query says %llu, should be 10", syncobj_query(gpu, timeline, 0));
}

static void check_unsubmitted(void *arg)
{
	const __u32 for_submit = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT;
	const __u32 available = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE;
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 timeline = syncobj_create(gpu, 0);
	__u64 soon = now_ns() + SHORT;

	(void)arg;
	expect("plain wait", syncobj_wait(gpu, timeline, 1, 0, soon), EINVAL);
	expect("wait for submit", syncobj_wait(gpu, timeline, 1, for_submit, soon), ETIME);
	submit_gated(gpu, timeline, 1, gate);
	expect("point 1 available",
	       syncobj_wait(gpu, timeline, 1, for_submit | available, gpu_deadline()), 0);
	expect("point 1 signalled at once", syncobj_wait(gpu, timeline, 1, 0, 0), ETIME);
	expect("point 2, plain wait", syncobj_wait(gpu, timeline, 2, 0, soon), EINVAL);
	gate_open(gate);
	expect("point 1", syncobj_wait(gpu, timeline, 1, for_submit, gpu_deadline()), 0);
}

struct waiter {
	struct gpu *gpu;
	__u32 timeline;
	__u64 deadline, ended;
	int error;
};

static void *wait_before_submit(void *arg)
{
	struct waiter *waiter = arg;

	waiter->error = syncobj_wait(waiter->gpu, waiter->timeline, 1,
				     DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT, waiter->deadline);
	waiter->ended = now_ns();
	return NULL;
}

static void check_wait_for_submit(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct waiter waiter = { .gpu = gpu, .timeline = syncobj_create(gpu, 0) };
	pthread_t thread;
	struct job job;
	int error;

	(void)arg;
	waiter.deadline = gpu_deadline();
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_delay(&job, DELAY);
	job_signal_syncobj(&job, waiter.timeline, 1);
	error = pthread_create(&thread, NULL, wait_before_submit, &waiter);
	if (error)
		ktap_stop("a thread cannot be started: %s", errname(error));
	error = job_try_submit(&job);
	pthread_join(thread, NULL);
	expect("EXEC", error, 0);
	expect("the wait that began before the submission", waiter.error, 0);
	if (waiter.ended < job.submitted + DELAY)
		ktap_fail("the wait ended before the job could have");
}

static void check_job_waits(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 timeline = syncobj_create(gpu, 0);
	struct job job;
	int file;

	(void)arg;
	submit_gated(gpu, timeline, 4, gate);
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_nop(&job);
	job_wait_syncobj(&job, timeline, 4);
	job_signal_syncobj(&job, timeline, 5);
	file = job_submit_file(&job);
	if (fd_ready(file, POLLIN, now_ns() + SHORT))
		ktap_fail("the waiting job did not wait");
	gate_open(gate);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_fail("the waiting job ended with %s", status_name(sync_file_status(file)));
	expect("point 5", syncobj_wait(gpu, timeline, 5, 0, gpu_deadline()), 0);
}

static void check_host_and_transfer(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 timeline = syncobj_create(gpu, 0), binary = syncobj_create(gpu, 0);

	(void)arg;
	expect("signal point 3 from the CPU", syncobj_signal(gpu, timeline, 3), 0);
	if (syncobj_query(gpu, timeline, 0) != 3)
		ktap_fail("the query says %llu, should be 3", syncobj_query(gpu, timeline, 0));
	submit_gated(gpu, timeline, 6, gate);
	expect("transfer of point 6 to a binary syncobj",
	       syncobj_transfer(gpu, binary, 0, timeline, 6), 0);
	expect("binary, at once", syncobj_wait(gpu, binary, 0, 0, 0), ETIME);
	gate_open(gate);
	expect("binary", syncobj_wait(gpu, binary, 0, 0, gpu_deadline()), 0);
	expect("transfer of a missing point", syncobj_transfer(gpu, binary, 0, timeline, 99),
	       EINVAL);
}

int run_timeline(void)
{
	gpu_require();
	ktap_plan(7);
	ktap_run("wait for a point", check_wait, NULL);
	ktap_run("points in order", check_points_in_order, NULL);
	ktap_run("a point between two jobs", check_between, NULL);
	ktap_run("points without a job", check_unsubmitted, NULL);
	ktap_run("wait before submission", check_wait_for_submit, NULL);
	ktap_run("a job waits for a point and signals the next", check_job_waits, NULL);
	ktap_run("points from the CPU, transfer", check_host_and_transfer, NULL);
	return ktap_status();
}
