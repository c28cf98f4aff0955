// SPDX-License-Identifier: GPL-2.0
/* fill, checksum, and the options that fill and copy share */
#include <stdio.h>

#include "commands.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"
#include "scope.h"

#define GUARD_SEED 7

struct options options = {
	.engine = BOTH,
	.from = BOTH,
	.to = BOTH,
	.size = 1 << 20,
	.pattern = 0x5aa51234,
};

const __u32 engine_types[2] = { TBGPU_ENGINE_COPY, TBGPU_ENGINE_COMPUTE };
const __u32 domains[2] = { TBGPU_DOMAIN_VRAM, TBGPU_DOMAIN_SYSTEM };

const struct arg fill_args[] = {
	{ "to", ARG_CHOICE, &options.to, DOMAIN_CHOICES, "where the buffer lies (default: both)" },
	{ "engine", ARG_CHOICE, &options.engine, ENGINE_CHOICES, "which engine (default: both)" },
	{ "size", ARG_SIZE, &options.size, NULL, "bytes, a multiple of 4 (default: 1M)" },
	{ "offset", ARG_SIZE, &options.offset, NULL, "first byte, a multiple of 4 (default: 0)" },
	{ "pattern", ARG_COUNT, &options.pattern, NULL, "32-bit word (default: 0x5aa51234)" },
	{ 0 },
};

const struct arg checksum_args[] = {
	{ "from", ARG_CHOICE, &options.from, DOMAIN_CHOICES,
	  "where the data lies (default: both)" },
	{ "size", ARG_SIZE, &options.size, NULL, "bytes of the longest range (default: 1M)" },
	{ "engine", ARG_CHOICE, &options.engine, ENGINE_CHOICES, "which engine (default: both)" },
	{ 0 },
};

struct target {
	__u32 engine_type;
	__u32 domain;
};

/* A buffer with 'before' bytes, the range of 'size', and a page behind it, all of which the CPU
 * wrote. */
static void check_fill(const struct target *target, __u64 before, __u64 size)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, target->domain, before + size + PAGE);
	unsigned char *guard = scope_alloc(bo->info.size);
	unsigned char *map = bo_map(bo);
	__u64 end = before + size;
	struct job job;
	size_t at;

	pattern_write(guard, bo->info.size, GUARD_SEED);
	pattern_write(map, bo->info.size, GUARD_SEED);
	job_init(&job, gpu, target->engine_type);
	job_fill(&job, (struct place){ bo, before }, size, options.pattern);
	job_run(&job);

	at = first_difference(map, guard, before);
	if (at < before)
		ktap_fail("byte %zu before the range was written", at);
	at = first_not_word(map + before, size, options.pattern);
	if (at < size)
		ktap_fail("byte %zu of the range is 0x%02x", at, map[before + at]);
	at = first_difference(map + end, guard + end, bo->info.size - end);
	if (at < bo->info.size - end)
		ktap_fail("byte %zu behind the range was written", at);
}

static void check_fill_range(void *arg)
{
	check_fill(arg, options.offset, options.size);
}

static void check_fill_inner(void *arg)
{
	check_fill(arg, PAGE + 4, 3 * PAGE + 8);
}

static void check_fill_nothing(void *arg)
{
	check_fill(arg, 64, 0);
}

/* The engines that the options select, with the places that 'place' selects. */
static unsigned int list_targets(struct target targets[4], int place)
{
	unsigned int count = 0;

	for (int engine = 0; engine < 2; engine++)
		for (int to = 0; to < 2; to++)
			if (selected(options.engine, engine) && selected(place, to))
				targets[count++] =
					(struct target){ engine_types[engine], domains[to] };
	return count;
}

static void run_on(const struct target *target, const char *what, void (*check)(void *arg))
{
	char name[96];

	snprintf(name, sizeof(name), "%s %s by the %s engine", what, domain_name(target->domain),
		 engine_name(target->engine_type));
	ktap_run(name, check, (void *)target);
}

int run_fill(void)
{
	struct target targets[4];
	unsigned int count = list_targets(targets, options.to);

	gpu_require();
	ktap_plan(3 * count);
	for (unsigned int i = 0; i < count; i++) {
		run_on(&targets[i], "fill", check_fill_range);
		run_on(&targets[i], "fill inside", check_fill_inner);
		run_on(&targets[i], "fill 0 bytes of", check_fill_nothing);
	}
	return ktap_status();
}

struct range {
	__u64 begin, size;
};

static void check_checksum(void *arg)
{
	const struct target *target = arg;
	const struct range ranges[] = {
		{ 0, 0 },
		{ 1, 1 },
		{ 3, 3 },
		{ 4, 4 },
		{ 7, PAGE - 1 },
		{ 9, PAGE + 1 },
		{ 5, 9 * PAGE + 5 },
		{ 0, options.size },
	};
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, target->domain, options.size + 16 * PAGE);
	struct bo *sums = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	unsigned char *map = bo_map(bo);
	__u64 *sum = bo_map(sums);
	struct job job;

	pattern_write(map, bo->info.size, options.pattern);
	job_init(&job, gpu, target->engine_type);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		sum[i] = ~0ull;
		job_checksum(&job, (struct place){ sums, 8 * i },
			     (struct place){ bo, ranges[i].begin }, ranges[i].size);
	}
	job_run(&job);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		__u64 expected = crc32(map + ranges[i].begin, ranges[i].size);

		if (sum[i] != expected)
			ktap_fail("%llu bytes: 0x%llx, the CPU says 0x%llx", ranges[i].size, sum[i],
				  expected);
	}
}

int run_checksum(void)
{
	struct target targets[4];
	unsigned int count = list_targets(targets, options.from);

	gpu_require();
	ktap_plan(count);
	for (unsigned int i = 0; i < count; i++)
		run_on(&targets[i], "checksum of", check_checksum);
	return ktap_status();
}
