// SPDX-License-Identifier: GPL-2.0
#include "gate.h"

#include <stdatomic.h>

#include "scope.h"

struct gate {
	struct bo *bo;
	_Atomic __u64 *word;
};

static void release_gate(void *what)
{
	gate_open(what);
}

struct gate *gate_create(struct gpu *gpu)
{
	struct gate *gate = scope_alloc(sizeof(*gate));

	gate->bo = bo_create(gpu, TBGPU_DOMAIN_SYSTEM, PAGE);
	gate->word = bo_map(gate->bo);
	scope_defer(release_gate, gate);
	return gate;
}

void job_gate(struct job *job, const struct gate *gate)
{
	job_sem_wait(job, (struct place){ gate->bo, 0 }, TBGPU_SEM_EQUAL, 1, 0);
}

void gate_open(struct gate *gate)
{
	atomic_store(gate->word, 1);
}
