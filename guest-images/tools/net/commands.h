/* SPDX-License-Identifier: GPL-2.0 */
/* The subcommands of tb-net. Each returns the exit status. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "args.h"

extern const struct arg receive_args[], send_args[], source_args[], sink_args[];

int run_receive(void);
int run_send(void);
int run_source(void);
int run_sink(void);

#endif
