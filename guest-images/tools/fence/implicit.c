// SPDX-License-Identifier: GPL-2.0
/* implicit: no fence is passed; the buffers' reservations order the jobs, and dma-buf shows them to
 * others. */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "gate.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"
#include "syncfile.h"

#define SIZE (128 * 1024ull)
#define SHORT (20 * NS_PER_MS)
#define WORD 0xabcd0123u

struct scene {
	struct gpu *gpu;
	struct gate *gate;
	struct bo *bo, *other;
	int dmabuf;
};

static void set_up(struct scene *scene)
{
	scene->gpu = gpu_open();
	scene->gate = gate_create(scene->gpu);
	scene->bo = bo_create(scene->gpu, TBGPU_DOMAIN_VRAM, SIZE);
	scene->other = bo_create(scene->gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	scene->dmabuf = bo_export(scene->bo, DRM_CLOEXEC | DRM_RDWR);
}

/* A job on the copy engine that writes the buffer, or only reads it, when the gate is opened. */
static int start_gated(struct scene *scene, bool writes, __u32 flags)
{
	struct place bo = { scene->bo, 0 }, other = { scene->other, 0 };
	struct job job;

	job_init(&job, scene->gpu, TBGPU_ENGINE_COPY);
	job.flags = flags;
	job_gate(&job, scene->gate);
	if (writes)
		job_fill(&job, bo, SIZE, WORD);
	else
		job_copy(&job, other, bo, SIZE);
	return job_submit_file(&job);
}

/* Submits a job that has to wait for the gated one, and runs both. */
static void run_after_gate(struct scene *scene, struct job *job)
{
	int file = job_submit_file(job);

	if (fd_ready(file, POLLIN, now_ns() + SHORT))
		ktap_fail("the second job ran before the first");
	gate_open(scene->gate);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_fail("the second job ended with %s", status_name(sync_file_status(file)));
}

static void check_read_after_write(void *arg)
{
	struct scene scene;
	struct job job;

	(void)arg;
	set_up(&scene);
	start_gated(&scene, true, 0);
	job_init(&job, scene.gpu, TBGPU_ENGINE_COMPUTE);
	job_copy(&job, (struct place){ scene.other, 0 }, (struct place){ scene.bo, 0 }, SIZE);
	run_after_gate(&scene, &job);
	if (first_not_word(bo_map(scene.other), SIZE, WORD) < SIZE)
		ktap_fail("the reader did not see what the writer wrote");
}

static void check_write_after_read(void *arg)
{
	struct scene scene;
	struct job job;

	(void)arg;
	set_up(&scene);
	start_gated(&scene, false, 0);
	job_init(&job, scene.gpu, TBGPU_ENGINE_COMPUTE);
	job_fill(&job, (struct place){ scene.bo, 0 }, SIZE, WORD);
	run_after_gate(&scene, &job);
	if (first_not_word(bo_map(scene.other), SIZE, 0) < SIZE)
		ktap_fail("the reader saw what was written after it");
}

/* Two readers need not wait for each other. */
static void check_readers(void *arg)
{
	struct scene scene;
	struct bo *third;
	struct job job;
	int slow;

	(void)arg;
	set_up(&scene);
	third = bo_create(scene.gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	slow = start_gated(&scene, false, 0);
	job_init(&job, scene.gpu, TBGPU_ENGINE_COMPUTE);
	job_copy(&job, (struct place){ third, 0 }, (struct place){ scene.bo, 0 }, SIZE);
	job_run(&job);
	if (sync_file_status(slow))
		ktap_fail("the second reader was not done before the first, slow one");
}

static void check_poll_writer(void *arg)
{
	struct scene scene;
	int job;

	(void)arg;
	set_up(&scene);
	if (!fd_ready(scene.dmabuf, POLLIN | POLLOUT, 0))
		ktap_fail("not ready before any job");
	job = start_gated(&scene, true, 0);
	if (fd_ready(scene.dmabuf, POLLIN, 0) || fd_ready(scene.dmabuf, POLLOUT, 0))
		ktap_fail("ready while the writer runs");
	gate_open(scene.gate);
	if (!fd_ready(scene.dmabuf, POLLIN, gpu_deadline()))
		ktap_fail("POLLIN does not come");
	if (sync_file_status(job) != 1)
		ktap_fail("POLLIN came while the writer's fence is %s",
			  status_name(sync_file_status(job)));
	if (!fd_ready(scene.dmabuf, POLLOUT, gpu_deadline()))
		ktap_fail("POLLOUT does not come");
}

static void check_poll_reader(void *arg)
{
	struct scene scene;
	int job;

	(void)arg;
	set_up(&scene);
	job = start_gated(&scene, false, 0);
	if (!fd_ready(scene.dmabuf, POLLIN, 0))
		ktap_fail("not readable while a reader runs");
	if (fd_ready(scene.dmabuf, POLLOUT, 0))
		ktap_fail("writable while a reader runs");
	gate_open(scene.gate);
	if (!fd_ready(scene.dmabuf, POLLOUT, gpu_deadline()))
		ktap_fail("POLLOUT does not come");
	if (sync_file_status(job) != 1)
		ktap_fail("POLLOUT came while the reader's fence is %s",
			  status_name(sync_file_status(job)));
}

static void check_no_implicit(void *arg)
{
	struct scene scene;

	(void)arg;
	set_up(&scene);
	start_gated(&scene, true, TBGPU_EXEC_NO_IMPLICIT);
	if (!fd_ready(scene.dmabuf, POLLIN | POLLOUT, 0))
		ktap_fail("the dma-buf waits for a job with NO_IMPLICIT");
	if (bo_wait(scene.bo, 0, 0))
		ktap_fail("BO_WAIT waits for a job with NO_IMPLICIT");
}

static void check_bo_wait(void *arg)
{
	struct scene scene;
	int error;

	(void)arg;
	set_up(&scene);
	start_gated(&scene, false, 0);
	error = bo_wait(scene.bo, TBGPU_WAIT_WRITERS, 0);
	if (error)
		ktap_fail("for writers while a reader runs: %s, should be ok", errname(error));
	error = bo_wait(scene.bo, 0, 0);
	if (error != -ETIME)
		ktap_fail("asking while a reader runs: %s, should be ETIME", errname(error));
	error = bo_wait(scene.bo, 0, now_ns() + SHORT);
	if (error != -ETIME)
		ktap_fail("a short wait: %s, should be ETIME", errname(error));
	gate_open(scene.gate);
	error = bo_wait(scene.bo, 0, gpu_deadline());
	if (error)
		ktap_fail("the wait: %s", errname(error));
}

static void check_export_fence(void *arg)
{
	struct dma_buf_export_sync_file request = { .flags = DMA_BUF_SYNC_READ, .fd = -1 };
	struct scene scene;
	int error, job;

	(void)arg;
	set_up(&scene);
	job = start_gated(&scene, true, 0);
	error = gpu_ioctl(scene.dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request);
	if (error)
		ktap_stop("EXPORT_SYNC_FILE: %s", errname(error));
	scope_fd(request.fd);
	if (sync_file_status(request.fd))
		ktap_fail("the buffer's fence is %s at once",
			  status_name(sync_file_status(request.fd)));
	gate_open(scene.gate);
	if (sync_file_wait(request.fd, gpu_deadline()) != 1 || sync_file_status(job) != 1)
		ktap_fail("the buffer's fence is %s, the job's %s",
			  status_name(sync_file_status(request.fd)),
			  status_name(sync_file_status(job)));
}

/* A fence that user space puts into a dma-buf makes an implicit job wait. */
static void check_import_fence(void *arg)
{
	struct dma_buf_import_sync_file request = { .flags = DMA_BUF_SYNC_WRITE };
	struct scene scene;
	struct job job;
	int error;

	(void)arg;
	set_up(&scene);
	request.fd = start_gated(&scene, true, TBGPU_EXEC_NO_IMPLICIT);
	error = gpu_ioctl(scene.dmabuf, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request);
	if (error)
		ktap_stop("IMPORT_SYNC_FILE: %s", errname(error));
	job_init(&job, scene.gpu, TBGPU_ENGINE_COMPUTE);
	job_copy(&job, (struct place){ scene.other, 0 }, (struct place){ scene.bo, 0 }, SIZE);
	run_after_gate(&scene, &job);
	if (first_not_word(bo_map(scene.other), SIZE, WORD) < SIZE)
		ktap_fail("the reader did not wait for the imported fence");
}

int run_implicit(void)
{
	gpu_require();
	ktap_plan(9);
	ktap_run("a reader waits for the writer", check_read_after_write, NULL);
	ktap_run("a writer waits for the reader", check_write_after_read, NULL);
	ktap_run("readers do not wait for each other", check_readers, NULL);
	ktap_run("poll() on the dma-buf of a written buffer", check_poll_writer, NULL);
	ktap_run("poll() on the dma-buf of a read buffer", check_poll_reader, NULL);
	ktap_run("NO_IMPLICIT leaves no fence", check_no_implicit, NULL);
	ktap_run("BO_WAIT", check_bo_wait, NULL);
	ktap_run("sync_file out of the dma-buf", check_export_fence, NULL);
	ktap_run("sync_file into the dma-buf", check_import_fence, NULL);
	return ktap_status();
}
