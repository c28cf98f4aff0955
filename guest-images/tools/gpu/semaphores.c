// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "syncfile.h"

#define SIZE (256 * 1024ull)
#define WORD 0xc0ffee11u
#define WAIT_STAMP 8 /* offsets in the buffer of stamps */
#define RELEASE_STAMP 16

struct sem_case {
	const char *name;
	__u32 domain;
	__u32 compare;
	__u64 before, value, released;
};

static const struct sem_case cases[] = {
	{ "equal in vram", TBGPU_DOMAIN_VRAM, TBGPU_SEM_EQUAL, 0, 5, 5 },
	{ "equal in system", TBGPU_DOMAIN_SYSTEM, TBGPU_SEM_EQUAL, 9, 5, 5 },
	{ "greater or equal in vram", TBGPU_DOMAIN_VRAM, TBGPU_SEM_GEQUAL, 4, 5, 1ull << 40 },
	{ "greater or equal in system", TBGPU_DOMAIN_SYSTEM, TBGPU_SEM_GEQUAL, 4, 5, 6 },
	{ "and in vram", TBGPU_DOMAIN_VRAM, TBGPU_SEM_AND, 0x0f, 0xf0, 0x13 },
	{ "and in system", TBGPU_DOMAIN_SYSTEM, TBGPU_SEM_AND, 0x0f, 1ull << 63, ~0ull },
};

#define CASES (sizeof(cases) / sizeof(*cases))

/* The compute engine starts first and waits; the copy engine delays, fills the source and releases.
 * No fence orders the two jobs, so only the semaphore can make the copy show the filled data. */
static void check_order(void *arg)
{
	const struct sem_case *sem_case = arg;
	struct gpu *gpu = gpu_open();
	struct bo *src = bo_create(gpu, TBGPU_DOMAIN_VRAM, SIZE);
	struct bo *dst = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	struct bo *sem_bo = bo_create(gpu, sem_case->domain, PAGE);
	struct bo *stamps = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	__u64 *sem = bo_map(sem_bo), *stamp = bo_map(stamps);
	struct job waiter, releaser;
	int waiting, status;

	*sem = sem_case->before;
	job_init(&waiter, gpu, TBGPU_ENGINE_COMPUTE);
	waiter.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_sem_wait(&waiter, (struct place){ sem_bo, 0 }, sem_case->compare, sem_case->value, 0);
	job_timestamp(&waiter, (struct place){ stamps, WAIT_STAMP });
	job_copy(&waiter, (struct place){ dst, 0 }, (struct place){ src, 0 }, SIZE);
	waiting = job_submit_file(&waiter);

	job_init(&releaser, gpu, TBGPU_ENGINE_COPY);
	releaser.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_delay(&releaser, 20 * NS_PER_MS);
	job_fill(&releaser, (struct place){ src, 0 }, SIZE, WORD);
	job_timestamp(&releaser, (struct place){ stamps, RELEASE_STAMP });
	job_sem_release(&releaser, (struct place){ sem_bo, 0 }, sem_case->released);
	job_run(&releaser);

	status = sync_file_wait(waiting, gpu_deadline());
	if (status != 1)
		ktap_stop("the waiting job ended with %s", status_name(status));
	if (stamp[WAIT_STAMP / 8] < stamp[RELEASE_STAMP / 8])
		ktap_fail("the wait ended at %llu, before the release at %llu",
			  stamp[WAIT_STAMP / 8], stamp[RELEASE_STAMP / 8]);
	if (first_not_word(bo_map(dst), SIZE, WORD) < SIZE)
		ktap_fail("the copy shows data from before the release");
	if (*sem != sem_case->released)
		ktap_fail("the semaphore is 0x%llx, should be 0x%llx", *sem, sem_case->released);
}

static void check_timeout(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *sem_bo = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	struct job job;
	int status;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_sem_wait(&job, (struct place){ sem_bo, 0 }, TBGPU_SEM_EQUAL, 1, 5 * NS_PER_MS);
	job_sem_release(&job, (struct place){ sem_bo, 8 }, 1);
	status = sync_file_wait(job_submit_file(&job), gpu_deadline());
	if (status != -EIO)
		ktap_fail("the fence's status is %s, should be EIO", status_name(status));
	if (((__u64 *)bo_map(sem_bo))[1])
		ktap_fail("the operation behind the failed one was carried out");
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_sem_release(&job, (struct place){ sem_bo, 16 }, 77);
	job_run(&job);
	if (((__u64 *)bo_map(sem_bo))[2] != 77)
		ktap_fail("the next job of the engine did nothing");
}

int run_semaphores(void)
{
	gpu_require();
	ktap_plan(CASES + 1);
	for (size_t i = 0; i < CASES; i++)
		ktap_run(cases[i].name, check_order, (void *)&cases[i]);
	ktap_run("a wait that times out fails with EIO", check_timeout, NULL);
	return ktap_status();
}
