/* SPDX-License-Identifier: GPL-2.0 */
/* The subcommands of tb-fence. Each returns the exit status. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "args.h"

extern const struct arg held_args[], lost_args[], error_args[];

int run_sync_file(void);
int run_timeline(void);
int run_syncobj(void);
int run_engines(void);
int run_held(void);
int run_lost(void);
int run_implicit(void);
int run_error(void);

#endif
