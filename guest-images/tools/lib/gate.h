/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A job that stands still until the program lets it go on: "is it pending now?" has an answer that
 * does not depend on how fast this machine is. The job's timeout goes on counting.
 */
#ifndef GATE_H
#define GATE_H

#include "job.h"

struct gate;

/* A closed gate. It is opened when the check ends, if not before. */
struct gate *gate_create(struct gpu *gpu);
/* The job waits here. */
void job_gate(struct job *job, const struct gate *gate);
void gate_open(struct gate *gate);

#endif
