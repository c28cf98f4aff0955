/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Test results as KTAP version 1 on stdout.
 *
 * A group of results is ktap_plan() and then so many ktap_run(). A check function reports by
 * ktap_fail() and ktap_stop(); when it does neither its result is "ok". A check function that calls
 * ktap_plan() itself has subtests, and is "ok" when they are.
 */
#ifndef KTAP_H
#define KTAP_H

#include <stdnoreturn.h>

#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))

enum {
	EXIT_ALL_OK = 0,
	EXIT_NOT_OK = 1,
	EXIT_USAGE = 2,
	EXIT_NOTHING_RUN = 4,
};

/* The header and the number of results that follow. */
void ktap_plan(unsigned int results);
/* One result: runs check(arg), lets go of what it owned, prints the result line. */
void ktap_run(const char *name, void (*check)(void *arg), void *arg);

/* A diagnostic line. */
PRINTF_LIKE void ktap_note(const char *format, ...);
/* The current result is not ok, for this reason; the check goes on. */
PRINTF_LIKE void ktap_fail(const char *format, ...);
/* The same, and the check ends here. Outside of a check, while preparing, it is ktap_bail(). */
noreturn PRINTF_LIKE void ktap_stop(const char *format, ...);
/* The current result cannot be had here; the check ends. */
noreturn PRINTF_LIKE void ktap_skip(const char *format, ...);
/* Nothing can be run: "Bail out!" and exit status 4. */
noreturn PRINTF_LIKE void ktap_bail(const char *format, ...);

/* Whether the current result is not ok so far. */
int ktap_failed(void);
/* The program's exit status, after the last result. */
int ktap_status(void);

#endif
