// SPDX-License-Identifier: GPL-2.0
/* tb-bench: prints one line of JSON per measurement. Its exit statuses are those of the other
 * tools. */
#include <stdio.h>

#include "args.h"
#include "bench.h"
#include "gpu.h"

static const struct command commands[] = {
	{ "submit", "time from EXEC of an empty job to its fence seen by poll(), in microseconds",
	  submit_args, run_submit, false },
	{ "mmio", "time of one 32-bit register read through sysfs resource0, in microseconds",
	  mmio_args, run_mmio, false },
	{ 0 },
};

static const struct program program = {
	.name = "tb-bench",
	.about = "measurements; each prints one line of JSON: name, unit, n, min, median, max",
	.examples = "  tb-bench submit --count 1000 --engine compute\n"
		    "  tb-bench mmio --pci 0000:01:00.0 --offset 0x8\n"
		    "  tb-bench mmio --id 1234:11e8                  (QEMU's edu device)\n",
	.common = NULL,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
