// SPDX-License-Identifier: GPL-2.0
/* engines-ordered: the compute engine copies what the copy engine fills, ordered by a fence and
 * nothing else. */
#include <stdio.h>

#include "clock.h"
#include "commands.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "syncfile.h"
#include "syncobj.h"

#define SIZE (512 * 1024ull)
#define DELAY (30 * NS_PER_MS)
#define FIRST_WORD 0x11112222u
#define SECOND_WORD 0x33334444u

enum kind { SYNC_FILE, BINARY, TIMELINE, KINDS };

struct scene {
	struct gpu *gpu;
	struct bo *src, *dst, *stamps;
	__u32 syncobj;
};

static void set_up(struct scene *scene)
{
	scene->gpu = gpu_open();
	scene->src = bo_create(scene->gpu, TBGPU_DOMAIN_VRAM, SIZE);
	scene->dst = bo_create(scene->gpu, TBGPU_DOMAIN_SYSTEM, SIZE);
	scene->stamps = bo_create(scene->gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	scene->syncobj = syncobj_create(scene->gpu, 0);
	bo_map(scene->dst);
	bo_map(scene->stamps);
}

/* Delays and fills the source on the copy engine; stamps its end at word 0. */
static void begin_producer(struct scene *scene, struct job *job, __u32 word)
{
	job_init(job, scene->gpu, TBGPU_ENGINE_COPY);
	job->flags = TBGPU_EXEC_NO_IMPLICIT;
	job_delay(job, DELAY);
	job_fill(job, (struct place){ scene->src, 0 }, SIZE, word);
	job_timestamp(job, (struct place){ scene->stamps, 0 });
}

/* Stamps its beginning at word 1 and copies the source on the compute engine. */
static void begin_consumer(struct scene *scene, struct job *job)
{
	job_init(job, scene->gpu, TBGPU_ENGINE_COMPUTE);
	job->flags = TBGPU_EXEC_NO_IMPLICIT;
	job_timestamp(job, (struct place){ scene->stamps, 8 });
	job_copy(job, (struct place){ scene->dst, 0 }, (struct place){ scene->src, 0 }, SIZE);
}

static void check_result(struct scene *scene, __u32 word)
{
	const __u64 *stamp = bo_map(scene->stamps);

	if (!stamp[0] || stamp[1] < stamp[0])
		ktap_fail("compute began at %llu, copy ended at %llu", stamp[1], stamp[0]);
	if (first_not_word(bo_map(scene->dst), SIZE, word) < SIZE)
		ktap_fail("the copy does not show the filled data");
}

static void check_order(void *arg)
{
	enum kind kind = *(enum kind *)arg;
	__u64 point = kind == TIMELINE ? 7 : 0;
	struct job producer, consumer;
	struct scene scene;

	set_up(&scene);
	begin_producer(&scene, &producer, FIRST_WORD);
	begin_consumer(&scene, &consumer);
	if (kind == SYNC_FILE) {
		job_wait_file(&consumer, job_submit_file(&producer));
	} else {
		job_signal_syncobj(&producer, scene.syncobj, point);
		job_submit(&producer);
		job_wait_syncobj(&consumer, scene.syncobj, point);
	}
	job_run(&consumer);
	check_result(&scene, FIRST_WORD);
}

/* The second fill must wait for the copy of the first: a chain copy, compute, copy, compute. */
static void check_ping_pong(void *arg)
{
	struct job producer, consumer;
	struct scene scene;
	int copied, file;

	(void)arg;
	set_up(&scene);
	begin_producer(&scene, &producer, FIRST_WORD);
	begin_consumer(&scene, &consumer);
	job_wait_file(&consumer, job_submit_file(&producer));
	copied = job_submit_file(&consumer);

	job_init(&producer, scene.gpu, TBGPU_ENGINE_COPY);
	producer.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_wait_file(&producer, copied);
	job_timestamp(&producer, (struct place){ scene.stamps, 16 });
	job_fill(&producer, (struct place){ scene.src, 0 }, SIZE, SECOND_WORD);
	file = job_submit_file(&producer);
	if (sync_file_wait(file, gpu_deadline()) != 1)
		ktap_stop("the last job ended with %s", status_name(sync_file_status(file)));
	check_result(&scene, FIRST_WORD);
	if (sync_file_time(file) < sync_file_time(copied))
		ktap_fail("the second fill was done before the copy");
	if (first_not_word(bo_map(scene.src), SIZE, SECOND_WORD) < SIZE)
		ktap_fail("the source does not show the second fill");
}

int run_engines(void)
{
	static const char *const names[] = { "by a sync_file", "by a binary syncobj",
					     "by a timeline" };

	gpu_require();
	ktap_plan(4);
	for (enum kind kind = SYNC_FILE; kind < KINDS; kind++)
		ktap_run(names[kind], check_order, &kind);
	ktap_run("there and back again", check_ping_pong, NULL);
	return ktap_status();
}
