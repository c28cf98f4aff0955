/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test result owns. ktap_run() lets go of it in reverse order when the result ends, also
 * when it ends early, so that a check needs no error paths of its own.
 */
#ifndef SCOPE_H
#define SCOPE_H

#include <stddef.h>

void scope_defer(void (*release)(void *what), void *what);
/* Runs and forgets the release function of 'what' now. */
void scope_release(void *what);

size_t scope_mark(void);
void scope_unwind(size_t mark);

/* Zeroed memory; ends the program when there is none. */
void *scope_alloc(size_t size);
/* Both take and return fd; a negative fd is left alone. */
int scope_fd(int fd);
void scope_close(int fd);

#endif
