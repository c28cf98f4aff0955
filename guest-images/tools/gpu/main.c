// SPDX-License-Identifier: GPL-2.0
#include "args.h"
#include "commands.h"
#include "gpu.h"

static const struct command commands[] = {
	{ "info", "the driver's description of the device is consistent", NULL, run_info, true },
	{ "fill", "FILL writes its range and nothing else", fill_args, run_fill, true },
	{ "copy", "COPY in each direction: plain, unaligned, overlapping, empty", copy_args,
	  run_copy, true },
	{ "all-directions", "fill, copy and checksum agree with the CPU in all four directions",
	  direction_args, run_directions, true },
	{ "checksum", "CHECKSUM is the CPU's crc32", checksum_args, run_checksum, true },
	{ "vector", "each vector operation gives the CPU's result", NULL, run_vector, true },
	{ "mmap", "CPU mappings and the GPU see the same bytes; bad mappings are refused", NULL,
	  run_mmap, true },
	{ "semaphores", "a semaphore orders two engines; a wait that times out fails with EIO",
	  NULL, run_semaphores, true },
	{ "timestamp", "the device clock only moves on, the same for all engines", NULL,
	  run_timestamp, true },
	{ "delay", "DELAY takes as long as asked", NULL, run_delay, true },
	{ "limits", "bad handles, ranges, flags and paddings are refused with the right errno",
	  NULL, run_limits, true },
	{ "stress", "many jobs on both engines finish in order with the right data", stress_args,
	  run_stress, true },
	{ "job", "one job ends as --expect says", job_args, run_job, false },
	{ "gone", "open files, mappings and fences behave when the device goes away", gone_args,
	  run_gone, false },
	{ "graph", "a graph of jobs from stdin runs in the order of its dependencies", NULL,
	  run_graph, false },
	{ 0 },
};

static const struct program program = {
	.name = "tb-gpu",
	.about = "checks of the testbed GPU and its driver, results as KTAP",
	.examples = "  tb-gpu all\n"
		    "  tb-gpu copy --from vram --to system --engine compute --size 1M\n"
		    "  tb-gpu job --delay-ms 5000 --expect ETIME\n"
		    "  printf 'buffer x vram 4096\\njob a copy sync_file\\nop fill x 7\\ncheck x "
		    "7\\n' |"
		    " tb-gpu graph\n",
	.common = gpu_args,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
