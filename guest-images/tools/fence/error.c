// SPDX-License-Identifier: GPL-2.0
/* error: jobs that fail without any fault injected: a semaphore wait that times out, and a job that
 * is too long. */
#include <errno.h>
#include <poll.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

static int which;

const struct arg error_args[] = {
	{ "errno", ARG_CHOICE, &which, "EIO|ETIME",
	  "how the job fails: a device error, or longer than the job timeout (default: EIO)" },
	{ 0 },
};

static int expected(void)
{
	return which ? ETIME : EIO;
}

static __u64 deadline(const struct gpu *gpu)
{
	return gpu_deadline() + gpu->info.job_timeout_ms * NS_PER_MS;
}

static void begin_bad_job(struct job *job, struct gpu *gpu)
{
	job_init(job, gpu, TBGPU_ENGINE_COPY);
	if (which)
		job_delay(job, gpu->info.job_timeout_ms * NS_PER_MS * 4);
	else
		job_sem_wait(job, (struct place){ bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE), 0 },
			     TBGPU_SEM_EQUAL, 1, 2 * NS_PER_MS);
}

static void check_status(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct sync_file_state state;
	struct job job;
	int file, status;

	(void)arg;
	begin_bad_job(&job, gpu);
	file = job_submit_file(&job);
	status = sync_file_wait(file, deadline(gpu));
	if (status != -expected())
		ktap_stop("status is %s, should be %s", status_name(status), errname(expected()));
	sync_file_get(file, &state);
	if (state.fences[0].status != -expected())
		ktap_fail("the fence's own status is %s", status_name(state.fences[0].status));
	if (!state.fences[0].timestamp_ns)
		ktap_fail("the fence has no time");
	if (!fd_ready(file, POLLIN, 0))
		ktap_fail("poll() does not call it ready");
}

/* drm_syncobj's waits tell only that there is a signal; the error is in the fence that can be
 * exported. */
static void check_syncobj(void *arg)
{
	struct gpu *gpu = gpu_open();
	__u32 syncobj = syncobj_create(gpu, 0);
	struct job job;
	int error, file;

	(void)arg;
	begin_bad_job(&job, gpu);
	job_signal_syncobj(&job, syncobj, 0);
	job_submit(&job);
	error = syncobj_wait(gpu, syncobj, 0, 0, deadline(gpu));
	if (error)
		ktap_stop("wait: %s", errname(error));
	file = scope_fd(syncobj_export_file(gpu, syncobj));
	if (file < 0)
		ktap_stop("export: %s", errname(file));
	if (sync_file_status(file) != -expected())
		ktap_fail("the exported fence's status is %s, should be %s",
			  status_name(sync_file_status(file)), errname(expected()));
}

static void check_merged(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job bad, good;
	int bad_file, good_file, merged;

	(void)arg;
	begin_bad_job(&bad, gpu);
	bad_file = job_submit_file(&bad);
	job_init(&good, gpu, TBGPU_ENGINE_COMPUTE);
	job_nop(&good);
	good_file = job_submit_file(&good);
	merged = scope_fd(sync_file_merge(good_file, bad_file, "merged"));
	if (merged < 0)
		ktap_stop("merge: %s", errname(merged));
	if (sync_file_wait(merged, deadline(gpu)) != -expected())
		ktap_fail("the merged status is %s, should be %s",
			  status_name(sync_file_status(merged)), errname(expected()));
	if (sync_file_status(good_file) != 1)
		ktap_fail("the good job's status is %s", status_name(sync_file_status(good_file)));
}

/* Neither a job that waited for the failed one nor the next one of the same engine inherits the
 * error. */
static void check_not_inherited(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job bad, dependent, next;
	int bad_file, dependent_file, next_file;

	(void)arg;
	begin_bad_job(&bad, gpu);
	bad_file = job_submit_file(&bad);
	job_init(&dependent, gpu, TBGPU_ENGINE_COMPUTE);
	job_nop(&dependent);
	job_wait_file(&dependent, bad_file);
	dependent_file = job_submit_file(&dependent);
	job_init(&next, gpu, TBGPU_ENGINE_COPY);
	job_nop(&next);
	next_file = job_submit_file(&next);

	if (sync_file_wait(bad_file, deadline(gpu)) != -expected())
		ktap_fail("the bad job ended with %s", status_name(sync_file_status(bad_file)));
	if (sync_file_wait(dependent_file, gpu_deadline()) != 1)
		ktap_fail("the dependent job ended with %s",
			  status_name(sync_file_status(dependent_file)));
	if (sync_file_wait(next_file, gpu_deadline()) != 1)
		ktap_fail("the next job ended with %s", status_name(sync_file_status(next_file)));
	if (sync_file_time(dependent_file) < sync_file_time(bad_file))
		ktap_fail("the dependent job was done before the bad one");
}

int run_error(void)
{
	gpu_require();
	ktap_plan(4);
	ktap_run("status of a sync_file", check_status, NULL);
	ktap_run("through a syncobj", check_syncobj, NULL);
	ktap_run("merged with a good fence", check_merged, NULL);
	ktap_run("not inherited by later jobs", check_not_inherited, NULL);
	return ktap_status();
}
