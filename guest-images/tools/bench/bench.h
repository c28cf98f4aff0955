/* SPDX-License-Identifier: GPL-2.0 */
#ifndef BENCH_H
#define BENCH_H

#include "args.h"

#define MOST_SAMPLES 1000000

extern const struct arg submit_args[], mmio_args[];

int run_submit(void);
int run_mmio(void);

/* "measured: why" to stderr; returns the status for "nothing could be run". */
__attribute__((format(printf, 1, 2))) int bench_failed(const char *format, ...);
/* Whether --count is usable; otherwise tells so on stderr. */
bool bench_count_ok(__u64 count);
/* Sorts the samples, nanoseconds each, and prints the line. */
void bench_print(const char *name, __u64 *samples, __u64 count);

#endif
