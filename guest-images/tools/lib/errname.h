/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ERRNAME_H
#define ERRNAME_H

/* "ETIME" for 62 and for -62, "ok" for 0; a number that has no name as "errno 4000". */
const char *errname(int error);
/* 62 for "ETIME", 0 for "ok", -1 for a name that no error has. */
int errname_parse(const char *name);

#endif
