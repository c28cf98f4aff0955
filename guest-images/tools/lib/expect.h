/* SPDX-License-Identifier: GPL-2.0 */
/* The value of --expect: "ok", "ETIME", or several of them: "ENODEV,ESRCH". */
#ifndef EXPECT_H
#define EXPECT_H

#include <stdbool.h>

/* Whether each name in the list is known; prints the one that is not to stderr. */
bool expect_valid(const char *list);
/* Whether a status is in the list: 1 and 0 are "ok", negative errnos are themselves. */
bool expect_matches(const char *list, int status);

#endif
