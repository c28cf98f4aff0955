// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include "errname.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIGHEST_ERRNO 133 /* EHWPOISON */

const char *errname(int error)
{
	static char unknown[32];
	const char *name;

	error = abs(error);
	if (error == 0)
		return "ok";
	name = strerrorname_np(error);
	if (name)
		return name;
	snprintf(unknown, sizeof(unknown), "errno %d", error);
	return unknown;
}

int errname_parse(const char *name)
{
	for (int error = 0; error <= HIGHEST_ERRNO; error++)
		if (!strcmp(errname(error), name))
			return error;
	return -1;
}
