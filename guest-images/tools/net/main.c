// SPDX-License-Identifier: GPL-2.0
#include "args.h"
#include "commands.h"
#include "gpu.h"

static const struct command commands[] = {
	{ "receive", "one TCP connection arrives in device memory, every byte as it was sent",
	  receive_args, run_receive, false },
	{ "send", "one TCP connection is sent from device memory without a copy", send_args,
	  run_send, false },
	{ "source", "the peer of receive: sends over an ordinary socket", source_args, run_source,
	  false },
	{ "sink", "the peer of send: every byte arrives as it was sent", sink_args, run_sink,
	  false },
	{ 0 },
};

static const struct program program = {
	.name = "tb-net",
	.about = "device-memory TCP, results as KTAP; the bytes sent follow from their position",
	.examples = "  tb-net receive --interface eth1 --queue 1 --provider vram --size 8M\n"
		    "  tb-net source --to 10.9.0.1 --size 8M                  (at the peer)\n"
		    "  tb-net receive --interface eth1 --expect EINVAL        (binding is refused)\n",
	.common = gpu_args,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
