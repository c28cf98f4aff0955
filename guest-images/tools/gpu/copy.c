// SPDX-License-Identifier: GPL-2.0
/* copy and all-directions */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "scope.h"

#define GUARD_SEED 11

const struct arg copy_args[] = {
	{ "from", ARG_CHOICE, &options.from, DOMAIN_CHOICES,
	  "where the source lies (default: both)" },
	{ "to", ARG_CHOICE, &options.to, DOMAIN_CHOICES,
	  "where the destination lies (default: both)" },
	{ "engine", ARG_CHOICE, &options.engine, ENGINE_CHOICES, "which engine (default: both)" },
	{ "size", ARG_SIZE, &options.size, NULL, "bytes (default: 1M)" },
	{ "offset", ARG_SIZE, &options.offset, NULL, "first byte in both buffers (default: 0)" },
	{ "pattern", ARG_COUNT, &options.pattern, NULL, "seed of the source's data" },
	{ 0 },
};

const struct arg direction_args[] = {
	{ "engine", ARG_CHOICE, &options.engine, ENGINE_CHOICES, "which engine (default: both)" },
	{ "size", ARG_SIZE, &options.size, NULL, "bytes, a multiple of 4 (default: 1M)" },
	{ "pattern", ARG_COUNT, &options.pattern, NULL, "32-bit word" },
	{ 0 },
};

struct direction {
	__u32 engine_type, from, to;
};

struct range {
	__u64 src, dst, size;
};

/* Compares a buffer with what it should hold, which was made in ordinary memory. */
static void compare(const char *what, const unsigned char *got, const unsigned char *expected,
		    __u64 size)
{
	size_t at = first_difference(got, expected, size);

	if (at < size)
		ktap_fail("%s: byte %zu is 0x%02x, should be 0x%02x", what, at, got[at],
			  expected[at]);
}

static void copy_between(const struct direction *direction, struct range range)
{
	struct gpu *gpu = gpu_open();
	struct bo *src = bo_create(gpu, direction->from, range.src + range.size + 64);
	struct bo *dst = bo_create(gpu, direction->to, range.dst + range.size + 64);
	unsigned char *source = scope_alloc(src->info.size);
	unsigned char *expected = scope_alloc(dst->info.size);
	struct job job;

	pattern_write(source, src->info.size, options.pattern);
	memcpy(bo_map(src), source, src->info.size);
	pattern_write(expected, dst->info.size, GUARD_SEED);
	memcpy(bo_map(dst), expected, dst->info.size);
	memcpy(expected + range.dst, source + range.src, range.size);

	job_init(&job, gpu, direction->engine_type);
	job_copy(&job, (struct place){ dst, range.dst }, (struct place){ src, range.src },
		 range.size);
	job_run(&job);
	compare("destination", bo_map(dst), expected, dst->info.size);
	compare("source", bo_map(src), source, src->info.size);
}

static void copy_within(const struct direction *direction, struct range range)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, direction->to, options.size + PAGE);
	unsigned char *expected = scope_alloc(bo->info.size);
	struct job job;

	pattern_write(expected, bo->info.size, options.pattern);
	memcpy(bo_map(bo), expected, bo->info.size);
	memmove(expected + range.dst, expected + range.src, range.size);

	job_init(&job, gpu, direction->engine_type);
	job_copy(&job, (struct place){ bo, range.dst }, (struct place){ bo, range.src },
		 range.size);
	job_run(&job);
	compare("buffer", bo_map(bo), expected, bo->info.size);
}

static void check_plain(void *arg)
{
	copy_between(arg, (struct range){ options.offset, options.offset, options.size });
}

/* Pieces of pages that begin and end at different places in source and destination. */
static void check_unaligned(void *arg)
{
	copy_between(arg, (struct range){ PAGE - 3, 5, 37 * PAGE + 1 });
}

static void check_empty(void *arg)
{
	copy_between(arg, (struct range){ 8, 16, 0 });
}

static void check_overlap_up(void *arg)
{
	copy_within(arg, (struct range){ 0, 1001, options.size });
}

static void check_overlap_down(void *arg)
{
	copy_within(arg, (struct range){ 1001, 0, options.size });
}

struct shape {
	const char *name;
	void (*check)(void *arg);
	bool one_buffer; /* needs source and destination in the same place */
};

static const struct shape shapes[] = {
	{ "plain", check_plain, false },
	{ "unaligned", check_unaligned, false },
	{ "empty", check_empty, false },
	{ "overlapping upwards", check_overlap_up, true },
	{ "overlapping downwards", check_overlap_down, true },
};

/* The directions that the options select. */
static unsigned int list_directions(struct direction directions[8])
{
	unsigned int count = 0;

	for (int engine = 0; engine < 2; engine++)
		for (int from = 0; from < 2; from++)
			for (int to = 0; to < 2; to++)
				if (selected(options.engine, engine) &&
				    selected(options.from, from) && selected(options.to, to))
					directions[count++] =
						(struct direction){ engine_types[engine],
								    domains[from], domains[to] };
	return count;
}

static void run_direction(const struct direction *direction, const char *shape,
			  void (*check)(void *arg))
{
	char name[128];

	snprintf(name, sizeof(name), "%s to %s by the %s engine%s%s", domain_name(direction->from),
		 domain_name(direction->to), engine_name(direction->engine_type),
		 *shape ? ": " : "", shape);
	ktap_run(name, check, (void *)direction);
}

/* Runs the shapes that fit a direction, or only counts them. */
static unsigned int each_shape(const struct direction *direction, bool run)
{
	unsigned int count = 0;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		if (shapes[i].one_buffer && direction->from != direction->to)
			continue;
		if (run)
			run_direction(direction, shapes[i].name, shapes[i].check);
		count++;
	}
	return count;
}

int run_copy(void)
{
	struct direction directions[8];
	unsigned int count = list_directions(directions), results = 0;

	for (unsigned int i = 0; i < count; i++)
		results += each_shape(&directions[i], false);
	gpu_require();
	ktap_plan(results);
	for (unsigned int i = 0; i < count; i++)
		each_shape(&directions[i], true);
	return ktap_status();
}

static void check_direction(void *arg)
{
	const struct direction *direction = arg;
	struct gpu *gpu = gpu_open();
	struct bo *src = bo_create(gpu, direction->from, options.size);
	struct bo *dst = bo_create(gpu, direction->to, options.size);
	struct bo *sums = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	__u64 *sum = bo_map(sums);
	__u32 expected;
	struct job job;
	size_t at;

	job_init(&job, gpu, direction->engine_type);
	job_fill(&job, (struct place){ src, 0 }, options.size, options.pattern);
	job_copy(&job, (struct place){ dst, 0 }, (struct place){ src, 0 }, options.size);
	job_checksum(&job, (struct place){ sums, 0 }, (struct place){ src, 0 }, options.size);
	job_checksum(&job, (struct place){ sums, 8 }, (struct place){ dst, 0 }, options.size);
	job_run(&job);

	at = first_not_word(bo_map(src), options.size, options.pattern);
	if (at < options.size)
		ktap_fail("byte %zu of the filled source is wrong", at);
	at = first_difference(bo_map(dst), bo_map(src), options.size);
	if (at < options.size)
		ktap_fail("byte %zu of the copy differs", at);
	expected = crc32(bo_map(src), options.size);
	if (sum[0] != expected || sum[1] != expected)
		ktap_fail("checksums 0x%llx and 0x%llx, the CPU says 0x%x", sum[0], sum[1],
			  expected);
}

int run_directions(void)
{
	struct direction directions[8];
	unsigned int count;

	options.from = options.to = BOTH;
	count = list_directions(directions);
	gpu_require();
	ktap_plan(count);
	for (unsigned int i = 0; i < count; i++)
		run_direction(&directions[i], "", check_direction);
	return ktap_status();
}
