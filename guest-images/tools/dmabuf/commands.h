/* SPDX-License-Identifier: GPL-2.0 */
/* The subcommands of tb-dmabuf. Each returns the exit status. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "args.h"

extern const struct arg import_args[], static_args[];

int run_export_import(void);
int run_self_import(void);
int run_static_import(void);
int run_mmap(void);
int run_size(void);
int run_cloexec(void);
int run_pass(void);
int run_poll(void);

#endif
