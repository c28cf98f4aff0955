// SPDX-License-Identifier: GPL-2.0
/* Requests that differ from a good one in one field, and the errno that each must give. */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"
#include "syncobj.h"

#include "limits.h"

static struct request good_request(struct gpu *gpu, __u32 opcode)
{
	struct bo *vram = bo_create(gpu, TBGPU_DOMAIN_VRAM, BUFFER_SIZE);
	struct bo *system = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, BUFFER_SIZE);
	struct place src = { vram, 0 }, dst = { system, 0 };
	struct request request = { 0 };
	struct job job;

	job_init(&job, gpu, opcode == TBGPU_OP_VECTOR ? TBGPU_ENGINE_COMPUTE : TBGPU_ENGINE_COPY);
	switch (opcode) {
	case TBGPU_OP_FILL:
		job_fill(&job, dst, PAGE, 1);
		break;
	case TBGPU_OP_COPY:
		job_copy(&job, dst, src, PAGE);
		break;
	case TBGPU_OP_CHECKSUM:
		job_checksum(&job, dst, src, PAGE);
		break;
	case TBGPU_OP_SEM_WAIT:
		job_sem_wait(&job, dst, TBGPU_SEM_EQUAL, 0, 0);
		break;
	case TBGPU_OP_SEM_RELEASE:
		job_sem_release(&job, dst, 1);
		break;
	case TBGPU_OP_TIMESTAMP:
		job_timestamp(&job, dst);
		break;
	case TBGPU_OP_VECTOR:
		job_vector(&job, TBGPU_VEC_XOR, dst, src, src, PAGE, 0);
		break;
	case TBGPU_OP_DELAY:
		job_delay(&job, 1000);
		break;
	default:
		job_nop(&job);
	}
	request.exec.engine = job.engine;
	request.exec.op_count = 1;
	request.op = job.ops[0];
	request.sync.type = TBGPU_SYNC_BINARY;
	request.sync.flags = TBGPU_SYNC_SIGNAL;
	request.sync.handle = syncobj_create(gpu, 0);
	return request;
}

static int submit(struct gpu *gpu, struct request *request)
{
	if (!request->exec.ops)
		request->exec.ops = (__u64)(unsigned long)&request->op;
	if (!request->exec.syncs)
		request->exec.syncs = (__u64)(unsigned long)&request->sync;
	return gpu_ioctl(gpu->fd, DRM_IOCTL_TBGPU_EXEC, &request->exec);
}

static void expect(int error, int expected)
{
	if (error != -expected)
		ktap_fail("%s, should be %s", errname(error), errname(expected));
}

static void check_exec(void *arg)
{
	const struct exec_limit *limit = arg;
	struct gpu *gpu = gpu_open();
	struct request request = good_request(gpu, limit->opcode);

	/* little-endian: the first bytes of the value are its low ones */
	memcpy((char *)&request + limit->field, &limit->value, limit->width);
	if (limit->field >= offsetof(struct request, sync) ||
	    limit->field == offsetof(struct request, exec.syncs))
		request.exec.sync_count = 1;
	expect(submit(gpu, &request), limit->error);
	/* what was refused must leave the file usable */
	request = good_request(gpu, TBGPU_OP_NOP);
	expect(submit(gpu, &request), 0);
}

static void run_exec_limits(void *arg)
{
	(void)arg;
	ktap_plan(exec_limit_count);
	for (unsigned int i = 0; i < exec_limit_count; i++)
		ktap_run(exec_limits[i].name, check_exec, (void *)&exec_limits[i]);
}

/* The good requests are good: without this each refusal above could have another cause. */
static void check_good(void *arg)
{
	struct gpu *gpu = gpu_open();

	(void)arg;
	for (__u32 opcode = TBGPU_OP_NOP; opcode <= TBGPU_OP_VECTOR; opcode++) {
		struct request request = good_request(gpu, opcode);
		int error;

		request.exec.sync_count = 1;
		error = submit(gpu, &request);
		if (!error)
			error = syncobj_wait(gpu, request.sync.handle, 0, 0, gpu_deadline());
		if (error)
			ktap_fail("opcode %u: %s", opcode, errname(error));
	}
}

static void check_nothing_signalled(void *arg)
{
	struct gpu *gpu = gpu_open();
	__u32 syncobj = syncobj_create(gpu, 0);
	struct job job;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_nop(&job);
	job_signal_syncobj(&job, syncobj, 0);
	job_wait_syncobj(&job, 0x7fffffff, 0);
	expect(job_try_submit(&job), ENOENT);
	if (syncobj_wait(gpu, syncobj, 0, 0, 0) != -EINVAL)
		ktap_fail("the refused job left a fence in the syncobj");
}

static int next_descriptor(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

static void check_no_descriptor_left(void *arg)
{
	struct gpu *gpu = gpu_open();
	int before = next_descriptor();
	struct job job;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_nop(&job);
	job_signal_file(&job);
	job_signal_file(&job);
	job_wait_syncobj(&job, 0x7fffffff, 0);
	expect(job_try_submit(&job), ENOENT);
	if (next_descriptor() != before)
		ktap_fail("the refused job left a descriptor open");
}

static void check_unfenced_syncobj(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct job job;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_nop(&job);
	job_wait_syncobj(&job, syncobj_create(gpu, 0), 0);
	expect(job_try_submit(&job), EINVAL);
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_nop(&job);
	job_wait_syncobj(&job, syncobj_create(gpu, 0), 3);
	expect(job_try_submit(&job), EINVAL);
}

static void check_not_sync_file(void *arg)
{
	struct gpu *gpu = gpu_open();
	int null = scope_fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
	const int fds[] = { -1, null, gpu->fd };

	(void)arg;
	for (int i = 0; i < 3; i++) {
		struct job job;

		job_init(&job, gpu, TBGPU_ENGINE_COPY);
		job_nop(&job);
		job_wait_file(&job, fds[i]);
		expect(job_try_submit(&job), EINVAL);
	}
}

static void check_bo_call(void *arg)
{
	const struct call_limit *limit = arg;
	struct gpu *gpu = gpu_open();
	struct call call = { .info.flags = 0 };
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, PAGE);

	call.create.size = PAGE;
	call.create.domain = TBGPU_DOMAIN_VRAM;
	call.bo_info.handle = bo->info.handle;
	call.wait.handle = bo->info.handle;
	memcpy((char *)&call + limit->field, &limit->value, limit->width);
	expect(gpu_ioctl(gpu->fd, limit->request, (char *)&call + limit->argument), limit->error);
}

static void run_call_limits(void *arg)
{
	(void)arg;
	ktap_plan(call_limit_count);
	for (unsigned int i = 0; i < call_limit_count; i++)
		ktap_run(call_limits[i].name, check_bo_call, (void *)&call_limits[i]);
}

static void check_unknown_call(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct drm_tbgpu_info info = { 0 };

	(void)arg;
	expect(gpu_ioctl(gpu->fd, DRM_IOWR(DRM_COMMAND_BASE + 0x3f, struct drm_tbgpu_info), &info),
	       EINVAL);
}

int run_limits(void)
{
	gpu_require();
	ktap_plan(8);
	ktap_run("good requests", check_good, NULL);
	ktap_run("INFO and BO calls", run_call_limits, NULL);
	ktap_run("EXEC", run_exec_limits, NULL);
	ktap_run("a refused job signals nothing", check_nothing_signalled, NULL);
	ktap_run("a refused job leaves no descriptor", check_no_descriptor_left, NULL);
	ktap_run("a syncobj without a fence", check_unfenced_syncobj, NULL);
	ktap_run("a descriptor that is no sync_file", check_not_sync_file, NULL);
	ktap_run("an unknown call", check_unknown_call, NULL);
	return ktap_status();
}
