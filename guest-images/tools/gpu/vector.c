// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "options.h"
#include "pattern.h"

#define ELEMENTS 5000u
#define BYTES (ELEMENTS * 4)
#define SCALAR -2.25f

struct operation {
	const char *name;
	__u32 number;
	bool is_float;
	__u32 (*cpu)(__u32 a, __u32 b);
};

static float to_float(__u32 bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static __u32 to_bits(float value)
{
	__u32 bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static __u32 add_u32(__u32 a, __u32 b)
{
	return a + b;
}

static __u32 mul_u32(__u32 a, __u32 b)
{
	return a * b;
}

static __u32 xor_u32(__u32 a, __u32 b)
{
	return a ^ b;
}

static __u32 add_f32(__u32 a, __u32 b)
{
	return to_bits(to_float(a) + to_float(b));
}

static __u32 mul_f32(__u32 a, __u32 b)
{
	return to_bits(to_float(a) * to_float(b));
}

static __u32 fma_f32(__u32 a, __u32 b)
{
	float product = SCALAR * to_float(a);

	return to_bits(product + to_float(b));
}

static const struct operation operations[] = {
	{ "add u32", TBGPU_VEC_ADD_U32, false, add_u32 },
	{ "mul u32", TBGPU_VEC_MUL_U32, false, mul_u32 },
	{ "xor", TBGPU_VEC_XOR, false, xor_u32 },
	{ "add f32", TBGPU_VEC_ADD_F32, true, add_f32 },
	{ "mul f32", TBGPU_VEC_MUL_F32, true, mul_f32 },
	{ "fma f32", TBGPU_VEC_FMA_F32, true, fma_f32 },
};

#define OPERATIONS (sizeof(operations) / sizeof(*operations))

struct vector_case {
	const struct operation *operation;
	__u32 domain;
};

/* Numbers whose sums and products are exact enough to be the same with any order of rounding: small
 * integers and quarters, of both signs. Patterns for integers use all bits, so that overflow wraps.
 */
static void write_operand(__u32 *data, bool is_float, __u32 seed)
{
	pattern_write(data, BYTES, seed);
	if (!is_float)
		return;
	for (__u32 i = 0; i < ELEMENTS; i++)
		data[i] = to_bits(((int)(data[i] & 0xffff) - 0x8000) / 4.0f);
}

static void check_operation(void *arg)
{
	const struct vector_case *vector = arg;
	const struct operation *operation = vector->operation;
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, vector->domain, 3 * (BYTES + PAGE));
	struct place a = { bo, 0 }, b = { bo, BYTES + PAGE }, dst = { bo, 2 * (BYTES + PAGE) };
	unsigned char *map = bo_map(bo);
	const __u32 *left = (void *)(map + a.offset), *right = (void *)(map + b.offset);
	const __u32 *got = (void *)(map + dst.offset);
	struct job job;

	write_operand((void *)(map + a.offset), operation->is_float, 3);
	write_operand((void *)(map + b.offset), operation->is_float, 4);
	job_init(&job, gpu, TBGPU_ENGINE_COMPUTE);
	job_vector(&job, operation->number, dst, a, b, BYTES,
		   operation->number == TBGPU_VEC_FMA_F32 ? to_bits(SCALAR) : 0);
	job_run(&job);
	for (__u32 i = 0; i < ELEMENTS; i++) {
		__u32 expected = operation->cpu(left[i], right[i]);

		if (got[i] != expected)
			ktap_stop("element %u is 0x%08x, the CPU says 0x%08x", i, got[i], expected);
	}
	if (got[ELEMENTS])
		ktap_fail("the word behind the last element was written");
}

static void check_copy_engine(void *arg)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, TBGPU_DOMAIN_VRAM, PAGE);
	struct place place = { bo, 0 };
	struct job job;
	int error;

	(void)arg;
	job_init(&job, gpu, TBGPU_ENGINE_COPY);
	job_vector(&job, TBGPU_VEC_XOR, place, place, place, 16, 0);
	error = job_try_submit(&job);
	if (error != -EINVAL)
		ktap_fail("%s, should be EINVAL", errname(error));
}

int run_vector(void)
{
	gpu_require();
	ktap_plan(2 * OPERATIONS + 1);
	for (size_t i = 0; i < 2 * OPERATIONS; i++) {
		struct vector_case vector = { &operations[i / 2], domains[i & 1] };
		char name[64];

		snprintf(name, sizeof(name), "%s in %s", vector.operation->name,
			 domain_name(vector.domain));
		ktap_run(name, check_operation, &vector);
	}
	ktap_run("the copy engine has no vector operations", check_copy_engine, NULL);
	return ktap_status();
}
