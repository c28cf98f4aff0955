/* SPDX-License-Identifier: GPL-2.0 */
/* The subcommands of tb-gpu. Each returns the exit status. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "args.h"

extern const struct arg fill_args[], copy_args[], direction_args[], checksum_args[], stress_args[];
extern const struct arg job_args[], gone_args[];

int run_info(void);
int run_fill(void);
int run_copy(void);
int run_directions(void);
int run_checksum(void);
int run_vector(void);
int run_mmap(void);
int run_semaphores(void);
int run_timestamp(void);
int run_delay(void);
int run_limits(void);
int run_stress(void);
int run_job(void);
int run_gone(void);
int run_graph(void);

#endif
