// SPDX-License-Identifier: GPL-2.0
/*
 * Runs a graph of jobs. Only explicit fences order the jobs (TBGPU_EXEC_NO_IMPLICIT), so a lost one
 * shows.
 *
 * Each job has a syncobj, its door. Dependents in a reversed graph are offered before there is a
 * fence to wait for: a thread per job waits until the doors of its dependencies have one (as
 * Vulkan's wait before signal does), whatever kind of fence they publish.
 */
#include <drm/drm.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "expect.h"
#include "graph.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"
#include "syncfile.h"
#include "syncobj.h"

#define WAIT_AVAILABLE \
	(DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE | DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT)
#define BEGIN 0 /* words of a job's page of results */
#define END 1
#define FIRST_SUM 2

struct run;

struct run_job {
	const struct graph_job *plan;
	struct run *run;
	struct job job;
	struct bo *results;
	const __u64 *result;
	__u32 door;
	__u64 point;	  /* at the door, 0 for a binary one */
	atomic_int error; /* of the submission */
	int status;	  /* of the fence */
	__u64 fence_time;
	pthread_t thread;
};

struct run {
	const struct graph *graph;
	struct gpu *gpu;
	struct bo *buffers[MAX_BUFFERS];
	struct run_job *jobs;
	__u64 deadline;
	sem_t waiting; /* posted by a thread that is about to wait */
};

static void add_op(struct run_job *job, const struct graph_op *op, unsigned int sum)
{
	struct run *run = job->run;
	struct place dst = { run->buffers[op->dst], 0 }, src = { run->buffers[op->src], 0 };
	struct place src2 = { run->buffers[op->src2], 0 };
	const struct graph_buffer *buffers = run->graph->buffers;

	switch (op->opcode) {
	case TBGPU_OP_FILL:
		job_fill(&job->job, dst, buffers[op->dst].size, op->arg32);
		break;
	case TBGPU_OP_COPY:
		job_copy(&job->job, dst, src, buffers[op->src].size);
		break;
	case TBGPU_OP_CHECKSUM:
		job_checksum(&job->job, (struct place){ job->results, 8ull * (FIRST_SUM + sum) },
			     src, buffers[op->src].size);
		break;
	case TBGPU_OP_DELAY:
		job_delay(&job->job, op->delay_ns);
		break;
	case TBGPU_OP_VECTOR:
		job_vector(&job->job, op->arg32, dst, src, src2, buffers[op->dst].size, 0);
		break;
	default:
		job_nop(&job->job);
	}
}

static void prepare_job(struct run_job *job)
{
	const struct graph_job *plan = job->plan;
	struct run *run = job->run;

	job->results = bo_create(run->gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	job->result = bo_map(job->results);
	job->door = syncobj_create(run->gpu, 0);
	job->point = plan->publish == PUBLISH_TIMELINE ? 1 + (job - run->jobs) : 0;
	job_init(&job->job, run->gpu, plan->engine_type);
	job->job.flags = TBGPU_EXEC_NO_IMPLICIT;
	job_timestamp(&job->job, (struct place){ job->results, 8 * BEGIN });
	for (unsigned int i = 0; i < plan->op_count; i++)
		add_op(job, &plan->ops[i], i);
	job_timestamp(&job->job, (struct place){ job->results, 8 * END });
	job_signal_file(&job->job);
	if (plan->publish != PUBLISH_SYNC_FILE)
		job_signal_syncobj(&job->job, job->door, job->point);
}

/* Runs in a thread of its own in a reversed graph: nothing here may end the check. */
static int submit_job(struct run_job *job)
{
	struct run *run = job->run;
	int files[MAX_AFTER], file_count = 0, error = 0;

	for (unsigned int i = 0; i < job->plan->after_count && !error; i++) {
		struct run_job *before = &run->jobs[job->plan->after[i]];

		error = syncobj_wait(run->gpu, before->door, before->point, WAIT_AVAILABLE,
				     run->deadline);
		if (!error && before->error)
			error = -ECANCELED;
		if (error)
			break;
		if (before->plan->publish != PUBLISH_SYNC_FILE) {
			job_wait_syncobj(&job->job, before->door, before->point);
			continue;
		}
		files[file_count] = syncobj_export_file(run->gpu, before->door);
		if (files[file_count] < 0)
			error = files[file_count];
		else
			job_wait_file(&job->job, files[file_count++]);
	}
	if (!error)
		error = job_try_submit(&job->job);
	while (file_count)
		close(files[--file_count]);
	return error;
}

static void *publish_job(void *arg)
{
	struct run_job *job = arg;
	struct gpu *gpu = job->run->gpu;

	sem_post(&job->run->waiting);
	job->error = submit_job(job);
	if (job->error)
		/* opens the door for those that wait at it; they look at the error */
		syncobj_signal(gpu, job->door, job->point);
	else if (job->plan->publish == PUBLISH_SYNC_FILE)
		syncobj_import_file(gpu, job->door, job_file(&job->job));
	return NULL;
}

static void submit_reversed(struct run *run)
{
	const struct graph *graph = run->graph;

	for (unsigned int i = graph->job_count; i-- > 0;) {
		struct run_job *job = &run->jobs[graph->order[i]];
		int error = pthread_create(&job->thread, NULL, publish_job, job);

		if (error)
			ktap_bail("a thread cannot be started: %s", errname(error));
		sem_wait(&run->waiting);
	}
	for (unsigned int i = 0; i < graph->job_count; i++)
		pthread_join(run->jobs[i].thread, NULL);
}

static void finish_jobs(struct run *run)
{
	for (unsigned int i = 0; i < run->graph->job_count; i++) {
		struct run_job *job = &run->jobs[i];

		if (job->error)
			continue;
		job->status = sync_file_wait(scope_fd(job_file(&job->job)), run->deadline);
		job->fence_time = sync_file_time(job_file(&job->job));
	}
}

/* A job may begin when the jobs before it have ended, by the device's clock and by their fences. */
static void check_order(const struct run_job *job)
{
	for (unsigned int i = 0; i < job->plan->after_count; i++) {
		const struct run_job *before = &job->run->jobs[job->plan->after[i]];

		if (before->status == 1 && job->result[BEGIN] < before->result[END])
			ktap_fail("began %llu ns before job '%s' ended",
				  before->result[END] - job->result[BEGIN], before->plan->name);
		if (!before->status || job->fence_time < before->fence_time)
			ktap_fail("its fence was signalled before that of job '%s'",
				  before->plan->name);
	}
}

static void note_figures(const struct run_job *job)
{
	ktap_note("job %s: submit to signal %llu us", job->plan->name,
		  (job->fence_time - job->job.submitted) / NS_PER_US);
	if (job->status != 1)
		return;
	ktap_note("job %s: on the device %llu us", job->plan->name,
		  (job->result[END] - job->result[BEGIN]) / NS_PER_US);
	for (unsigned int i = 0; i < job->plan->op_count; i++)
		if (job->plan->ops[i].opcode == TBGPU_OP_CHECKSUM)
			ktap_note("job %s: checksum of %s is 0x%llx", job->plan->name,
				  job->run->graph->buffers[job->plan->ops[i].src].name,
				  job->result[FIRST_SUM + i]);
}

static void check_job(void *arg)
{
	const struct run_job *job = arg;
	int outcome = job->error ? job->error : job->status;

	if (!outcome)
		ktap_stop("not signalled within the timeout");
	if (job->error)
		ktap_note("EXEC: %s", errname(job->error));
	else
		note_figures(job);
	if (!expect_matches(job->plan->expect, outcome))
		ktap_fail("ended with %s, should be %s", status_name(outcome), job->plan->expect);
	if (outcome == 1)
		check_order(job);
}

struct content {
	struct bo *bo;
	__u64 size;
	__u32 word;
};

static void check_content(void *arg)
{
	const struct content *content = arg;
	const unsigned char *map = bo_map(content->bo);
	size_t at = first_not_word(map, content->size, content->word);

	if (at < content->size)
		ktap_fail("the u32 at byte %zu is 0x%08x", at & ~3ul,
			  *(__u32 *)(map + (at & ~3ul)));
}

static void print_results(struct run *run)
{
	const struct graph *graph = run->graph;
	char name[NAME_SPACE + 80];

	for (unsigned int i = 0; i < graph->job_count; i++) {
		snprintf(name, sizeof(name), "job %s", graph->jobs[i].name);
		ktap_run(name, check_job, &run->jobs[i]);
	}
	for (unsigned int i = 0; i < graph->check_count; i++) {
		const struct graph_check *check = &graph->checks[i];
		struct content content = { run->buffers[check->buffer],
					   graph->buffers[check->buffer].size, check->word };

		snprintf(name, sizeof(name), "buffer %s is 0x%x",
			 graph->buffers[check->buffer].name, check->word);
		ktap_run(name, check_content, &content);
	}
}

void graph_run(const struct graph *graph)
{
	struct run run = { .graph = graph, .gpu = gpu_open() };

	ktap_plan(graph->job_count + graph->check_count);
	run.deadline = now_ns() + graph->timeout_ns;
	run.jobs = scope_alloc(graph->job_count * sizeof(*run.jobs));
	sem_init(&run.waiting, 0, 0);
	for (unsigned int i = 0; i < graph->buffer_count; i++) {
		run.buffers[i] =
			bo_create(run.gpu, graph->buffers[i].domain, graph->buffers[i].size);
		bo_map(run.buffers[i]);
	}
	for (unsigned int i = 0; i < graph->job_count; i++) {
		run.jobs[i].plan = &graph->jobs[i];
		run.jobs[i].run = &run;
		prepare_job(&run.jobs[i]);
	}
	if (graph->reverse)
		submit_reversed(&run);
	else
		for (unsigned int i = 0; i < graph->job_count; i++)
			publish_job(&run.jobs[graph->order[i]]);
	finish_jobs(&run);
	print_results(&run);
}

int run_graph(void)
{
	static struct graph graph;

	graph.timeout_ns = 10 * NS_PER_S;
	if (!graph_read(&graph))
		return EXIT_USAGE;
	gpu_require();
	graph_run(&graph);
	return ktap_status();
}
