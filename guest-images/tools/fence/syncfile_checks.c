// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "gate.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"
#include "syncfile.h"

#define DELAY (100 * NS_PER_MS)

static int start_delay(struct job *job, struct gpu *gpu, __u32 engine_type, __u64 ns)
{
	job_init(job, gpu, engine_type);
	job_delay(job, ns);
	return job_submit_file(job);
}

static int start_gated(struct job *job, struct gpu *gpu, __u32 engine_type, struct gate *gate)
{
	job_init(job, gpu, engine_type);
	job_gate(job, gate);
	return job_submit_file(job);
}

static void check_pending(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	struct sync_file_state state;
	struct job job;
	int file = start_gated(&job, gpu, TBGPU_ENGINE_COPY, gate);

	(void)arg;
	if (fd_ready(file, POLLIN, 0))
		ktap_fail("poll() calls it ready at once");
	if (sync_file_get(file, &state))
		ktap_stop("SYNC_IOC_FILE_INFO failed");
	ktap_note("driver '%s', object '%s', name '%s'", state.fences[0].driver_name,
		  state.fences[0].obj_name, state.info.name);
	if (state.info.status || state.fences[0].status)
		ktap_fail("status is %s while the job runs", status_name(state.info.status));
	if (state.info.num_fences != 1)
		ktap_fail("%u fences", state.info.num_fences);
	if (!(fcntl(file, F_GETFD) & FD_CLOEXEC))
		ktap_fail("the descriptor is not close-on-exec");
	gate_open(gate);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_fail("status is %s afterwards", status_name(sync_file_status(file)));
}

static void check_signalled(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct sync_file_state state;
	struct job job;
	int file = start_delay(&job, gpu, TBGPU_ENGINE_COMPUTE, DELAY);
	int status = sync_file_wait(file, gpu_deadline());
	__u64 seen = now_ns();

	(void)arg;
	if (status != 1)
		ktap_stop("status is %s", status_name(status));
	sync_file_get(file, &state);
	if (state.fences[0].status != 1)
		ktap_fail("the fence's own status is %s", status_name(state.fences[0].status));
	if (state.fences[0].timestamp_ns < job.submitted + DELAY ||
	    state.fences[0].timestamp_ns > seen)
		ktap_fail("signalled at %llu; submitted at %llu, seen at %llu",
			  (unsigned long long)state.fences[0].timestamp_ns, job.submitted, seen);
	if (!fd_ready(file, POLLIN, 0))
		ktap_fail("poll() does not call it ready a second time");
}

static void check_merge_engines(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	struct sync_file_state state;
	struct job fast, slow;
	int first = start_delay(&fast, gpu, TBGPU_ENGINE_COPY, 0);
	int second = start_gated(&slow, gpu, TBGPU_ENGINE_COMPUTE, gate);
	int third = start_gated(&slow, gpu, TBGPU_ENGINE_COPY, gate);
	int merged = sync_file_merge(second, third, "both");

	(void)arg;
	if (merged < 0)
		ktap_stop("SYNC_IOC_MERGE: %s", errname(merged));
	scope_fd(merged);
	sync_file_get(merged, &state);
	if (state.info.num_fences != 2 || strcmp(state.info.name, "both"))
		ktap_fail("'%s' of %u fences, should be 'both' of 2", state.info.name,
			  state.info.num_fences);
	merged = scope_fd(sync_file_merge(first, second, "fast and slow"));
	sync_file_wait(first, gpu_deadline());
	if (sync_file_status(merged))
		ktap_fail("signalled with the first fence");
	gate_open(gate);
	if (sync_file_wait(merged, gpu_deadline()) != 1)
		ktap_fail("status is %s", status_name(sync_file_status(merged)));
	if (sync_file_status(first) != 1 || sync_file_status(second) != 1)
		ktap_fail("signalled before both fences");
}

/* Fences of one engine are ordered: merging keeps the later one alone, which stands for both. */
static void check_merge_same(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job first_job, second_job;
	int first = start_delay(&first_job, gpu, TBGPU_ENGINE_COPY, DELAY / 4);
	int second = start_delay(&second_job, gpu, TBGPU_ENGINE_COPY, DELAY / 4);
	int merged = sync_file_merge(second, first, "later");

	(void)arg;
	if (merged < 0)
		ktap_stop("SYNC_IOC_MERGE: %s", errname(merged));
	scope_fd(merged);
	if (sync_file_wait(merged, gpu_deadline()) != 1)
		ktap_fail("status is %s", status_name(sync_file_status(merged)));
	if (sync_file_status(first) != 1 || sync_file_status(second) != 1)
		ktap_fail("signalled before both fences");
}

static void check_merge_errors(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job job;
	int file = start_delay(&job, gpu, TBGPU_ENGINE_COPY, 0);
	struct sync_merge_data flags = { .fd2 = file, .flags = 1 };
	int error = sync_file_merge(file, gpu->fd, "bad");

	(void)arg;
	if (error != -ENOENT)
		ktap_fail("merge with another kind of file: %s, should be ENOENT", errname(error));
	error = gpu_ioctl(file, SYNC_IOC_MERGE, &flags);
	if (error != -EINVAL)
		ktap_fail("merge with flags: %s, should be EINVAL", errname(error));
}

static void check_outlives(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job job;
	int file = start_delay(&job, gpu, TBGPU_ENGINE_COPY, 0);
	int status;

	(void)arg;
	status = sync_file_wait(file, gpu_deadline());
	gpu_close(gpu);
	if (status != 1 || sync_file_status(file) != 1)
		ktap_fail("%s, and %s after the GPU's file was closed", status_name(status),
			  status_name(sync_file_status(file)));
}

/* A process that closes its file waits for nobody, but what it submitted before is still carried
 * out. */
static void check_close_while_running(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job job;
	int file = start_delay(&job, gpu, TBGPU_ENGINE_COPY, DELAY), status;

	(void)arg;
	gpu_close(gpu);
	status = sync_file_wait(file, gpu_deadline());
	ktap_note("ended with %s", status_name(status));
	if (!status)
		ktap_fail("the fence is never signalled");
}

int run_sync_file(void)
{
	gpu_require();
	ktap_plan(7);
	ktap_run("pending while the job runs", check_pending, NULL);
	ktap_run("signalled when it has ended", check_signalled, NULL);
	ktap_run("merged, two engines", check_merge_engines, NULL);
	ktap_run("merged, one engine", check_merge_same, NULL);
	ktap_run("bad merges are refused", check_merge_errors, NULL);
	ktap_run("outlives the GPU's file", check_outlives, NULL);
	ktap_run("is signalled when the file is closed meanwhile", check_close_while_running, NULL);
	return ktap_status();
}
