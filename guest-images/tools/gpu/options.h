/* SPDX-License-Identifier: GPL-2.0 */
/* Which engines and places a subcommand of tb-gpu works on. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "args.h"
#include "gpu.h"

#define ENGINE_CHOICES "copy|compute|both"
#define DOMAIN_CHOICES "vram|system|both"
#define BOTH 2

struct options {
	int engine, from, to; /* indices into the choices */
	__u64 size, offset, pattern;
};

extern struct options options;
extern const __u32 engine_types[2]; /* in the order of the choices */
extern const __u32 domains[2];

static inline bool selected(int choice, int index)
{
	return choice == BOTH || choice == index;
}

#endif
