// SPDX-License-Identifier: GPL-2.0
#include <drm/drm.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "gate.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

#define SHORT (20 * NS_PER_MS)

static void expect(const char *what, int error, int expected)
{
	if (error != -expected)
		ktap_fail("%s: %s, should be %s", what, errname(error), errname(expected));
}

static void submit_signal(struct gpu *gpu, __u32 syncobj, struct gate *gate)
{
	struct job job;

	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_gate(&job, gate);
	job_signal_syncobj(&job, syncobj, 0);
	job_submit(&job);
}

static void check_wait(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0);

	(void)arg;
	expect("wait for an empty one", syncobj_wait(gpu, syncobj, 0, 0, 0), EINVAL);
	submit_signal(gpu, syncobj, gate);
	expect("asking at once", syncobj_wait(gpu, syncobj, 0, 0, 0), ETIME);
	gate_open(gate);
	expect("wait", syncobj_wait(gpu, syncobj, 0, 0, gpu_deadline()), 0);
	expect("reset", syncobj_reset(gpu, syncobj), 0);
	expect("wait after reset", syncobj_wait(gpu, syncobj, 0, 0, 0), EINVAL);
}

static void check_lifecycle(void *arg)
{
	struct gpu *gpu = gpu_open();
	__u32 syncobj = syncobj_create(gpu, DRM_SYNCOBJ_CREATE_SIGNALED);

	(void)arg;
	expect("created signalled", syncobj_wait(gpu, syncobj, 0, 0, 0), 0);
	expect("reset", syncobj_reset(gpu, syncobj), 0);
	expect("signal from the CPU", syncobj_signal(gpu, syncobj, 0), 0);
	expect("wait", syncobj_wait(gpu, syncobj, 0, 0, 0), 0);
	expect("destroy", syncobj_destroy(gpu, syncobj), 0);
	expect("wait for a destroyed one", syncobj_wait(gpu, syncobj, 0, 0, 0), ENOENT);
	expect("destroy twice", syncobj_destroy(gpu, syncobj), EINVAL);
}

static void check_job_waits(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0);
	struct job job;
	int file;

	(void)arg;
	submit_signal(gpu, syncobj, gate);
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_nop(&job);
	job_wait_syncobj(&job, syncobj, 0);
	file = job_submit_file(&job);
	expect("destroy while a job waits", syncobj_destroy(gpu, syncobj), 0);
	if (fd_ready(file, POLLIN, now_ns() + SHORT))
		ktap_fail("the waiting job did not wait");
	gate_open(gate);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_fail("the waiting job ended with %s", status_name(sync_file_status(file)));
}

static void check_export_file(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0);
	int file = syncobj_export_file(gpu, syncobj);

	(void)arg;
	expect("export of an empty one", file, EINVAL);
	submit_signal(gpu, syncobj, gate);
	file = scope_fd(syncobj_export_file(gpu, syncobj));
	if (file < 0)
		ktap_stop("export: %s", errname(file));
	if (sync_file_status(file))
		ktap_fail("the sync_file is %s at once", status_name(sync_file_status(file)));
	/* the file holds the fence, whatever becomes of the object */
	syncobj_reset(gpu, syncobj);
	gate_open(gate);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_fail("the sync_file ended with %s", status_name(sync_file_status(file)));
}

static void check_import_file(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0);
	struct job job;
	int file;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_gate(&job, gate);
	file = job_submit_file(&job);
	expect("import", syncobj_import_file(gpu, syncobj, file), 0);
	scope_close(file);
	expect("asking at once", syncobj_wait(gpu, syncobj, 0, 0, 0), ETIME);
	gate_open(gate);
	expect("wait", syncobj_wait(gpu, syncobj, 0, 0, gpu_deadline()), 0);
	expect("import of another kind of file", syncobj_import_file(gpu, syncobj, gpu->fd),
	       EINVAL);
}

static void check_shared(void *arg)
{
	struct gpu *gpu = gpu_open(), *other = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0);
	__u32 same = syncobj_import_fd(other, syncobj_export_fd(gpu, syncobj));

	(void)arg;
	submit_signal(gpu, syncobj, gate);
	expect("asking at once in the other file", syncobj_wait(other, same, 0, 0, 0), ETIME);
	gate_open(gate);
	expect("wait in the other file", syncobj_wait(other, same, 0, 0, gpu_deadline()), 0);
	expect("reset in the other file", syncobj_reset(other, same), 0);
	expect("wait in the first file", syncobj_wait(gpu, syncobj, 0, 0, 0), EINVAL);
}

static void check_eventfd(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct gate *gate = gate_create(gpu);
	__u32 syncobj = syncobj_create(gpu, 0), timeline = syncobj_create(gpu, 0);
	int binary_event = scope_fd(eventfd(0, EFD_CLOEXEC));
	int point_event = scope_fd(eventfd(0, EFD_CLOEXEC));
	struct job job;

	(void)arg;
	expect("eventfd of an unsubmitted point", syncobj_eventfd(gpu, timeline, 2, 0, point_event),
	       0);
	submit_signal(gpu, syncobj, gate);
	expect("eventfd", syncobj_eventfd(gpu, syncobj, 0, 0, binary_event), 0);
	if (fd_ready(binary_event, POLLIN, 0))
		ktap_fail("the eventfd is ready before the job has ended");
	gate_open(gate);
	if (!fd_ready(binary_event, POLLIN, gpu_deadline()))
		ktap_fail("the eventfd is not written");
	if (fd_ready(point_event, POLLIN, 0))
		ktap_fail("the eventfd of the point is ready without a job");
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_nop(&job);
	job_signal_syncobj(&job, timeline, 2);
	job_submit(&job);
	if (!fd_ready(point_event, POLLIN, gpu_deadline()))
		ktap_fail("the eventfd of the point is not written");
}

int run_syncobj(void)
{
	gpu_require();
	ktap_plan(7);
	ktap_run("wait, reset", check_wait, NULL);
	ktap_run("create, signal, destroy", check_lifecycle, NULL);
	ktap_run("a job waits for it", check_job_waits, NULL);
	ktap_run("sync_file out", check_export_file, NULL);
	ktap_run("sync_file in", check_import_file, NULL);
	ktap_run("shared by two files", check_shared, NULL);
	ktap_run("eventfd", check_eventfd, NULL);
	return ktap_status();
}
