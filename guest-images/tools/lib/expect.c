// SPDX-License-Identifier: GPL-2.0
#include "expect.h"

#include <stdio.h>
#include <string.h>

#include "errname.h"

/* Takes the next name off the list. */
static bool next_name(const char **list, char *name, size_t space)
{
	size_t length = strcspn(*list, ",");

	if (**list == '\0')
		return false;
	snprintf(name, space, "%.*s", (int)length, *list);
	*list += length + ((*list)[length] == ',');
	return true;
}

bool expect_valid(const char *list)
{
	char name[32];
	bool any = false;

	while (next_name(&list, name, sizeof(name))) {
		any = true;
		if (errname_parse(name) < 0) {
			fprintf(stderr, "'%s' is neither 'ok' nor the name of an error\n", name);
			return false;
		}
	}
	return any;
}

bool expect_matches(const char *list, int status)
{
	char name[32];

	while (next_name(&list, name, sizeof(name)))
		if (errname_parse(name) == (status < 0 ? -status : 0))
			return true;
	return false;
}
