// SPDX-License-Identifier: GPL-2.0
#include "args.h"
#include "commands.h"
#include "gpu.h"

static const struct command commands[] = {
	{ "sync-file", "a job's fence as a sync_file: poll, status, times, merge", NULL,
	  run_sync_file, true },
	{ "timeline",
	  "jobs signal points of a timeline, in order; waits before and after submission", NULL,
	  run_timeline, true },
	{ "syncobj", "binary syncobj: wait, reset, sync_file in and out, sharing, eventfd", NULL,
	  run_syncobj, true },
	{ "engines-ordered", "one engine waits for the other by each kind of fence", NULL,
	  run_engines, true },
	{ "implicit",
	  "jobs on one buffer are ordered by its reservation, and poll() on its dma-buf sees it",
	  NULL, run_implicit, true },
	{ "error", "a failed job's fence carries the error, and only its own", error_args,
	  run_error, true },
	{ "held",
	  "with completions held: the fence fails in time, the engine is reset, the others work",
	  held_args, run_held, false },
	{ "lost-interrupt", "with an interrupt lost: the job ends ok all the same", lost_args,
	  run_lost, false },
	{ 0 },
};

static const struct program program = {
	.name = "tb-fence",
	.about = "checks of the fences of the testbed GPU's driver, results as KTAP",
	.examples = "  tb-fence all\n"
		    "  tb-fence timeline --device /dev/dri/renderD129\n"
		    "  tb-fence held --engine copy              (inject: hold_completions)\n"
		    "  tb-fence held --recovers                 (the same with count: 1)\n"
		    "  tb-fence lost-interrupt                  (inject: lose_interrupt)\n",
	.common = gpu_args,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
