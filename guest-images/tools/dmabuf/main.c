// SPDX-License-Identifier: GPL-2.0
#include "args.h"
#include "commands.h"
#include "gpu.h"

static const struct command commands[] = {
	{ "self-import", "a dma-buf that comes home is the same buffer", NULL, run_self_import,
	  true },
	{ "mmap", "a mapping of the dma-buf and the GPU see the same bytes; SYNC waits for jobs",
	  NULL, run_mmap, true },
	{ "size", "lseek() tells the size and nothing else", NULL, run_size, true },
	{ "cloexec", "the descriptor has the flags that were asked for", NULL, run_cloexec, true },
	{ "pass", "a dma-buf outlives the process that exported and sent it", NULL, run_pass,
	  true },
	{ "poll", "poll() waits for the jobs of each importer and of the exporter", NULL, run_poll,
	  true },
	{ "export-import", "a second GPU reads and writes the first one's buffer", import_args,
	  run_export_import, false },
	{ "static-import", "a static importer (tbimport) maps the buffer and reads its content",
	  static_args, run_static_import, false },
	{ 0 },
};

static const struct program program = {
	.name = "tb-dmabuf",
	.about = "checks of dma-bufs exported by the testbed GPU's driver, results as KTAP",
	.examples = "  tb-dmabuf all\n"
		    "  tb-dmabuf export-import --second /dev/dri/renderD129   (needs two GPUs)\n"
		    "  tb-dmabuf static-import --pci 0000:00:02.0             (needs module "
		    "tbimport)\n",
	.common = gpu_args,
	.commands = commands,
};

int main(int argc, char **argv)
{
	return program_main(&program, argc, argv);
}
