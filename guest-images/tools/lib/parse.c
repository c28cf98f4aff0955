// SPDX-License-Identifier: GPL-2.0
#include "args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BILLION 1000000000ull

struct unit {
	const char *name;
	__u64 factor;
};

static const struct unit sizes[] = {
	{ "", 1 }, { "K", 1ull << 10 }, { "M", 1ull << 20 }, { "G", 1ull << 30 }, { NULL, 0 },
};

static const struct unit times[] = {
	{ "", 1000000 },
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", 1000000 },
	{ "s", 1000000000ull },
	{ "min", 60000000000ull },
	{ NULL, 0 },
};

static bool parse_number(const char *text, char **end, __u64 *value)
{
	/* strtoull() takes signs and leading blanks, which no number of ours has */
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	/* no octal: 010 is ten */
	*value = strtoull(text, end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	return errno == 0;
}

/* The digits behind a point, as billionths; further ones do not count. */
static __u64 parse_fraction(char **text)
{
	__u64 billionths = 0, place = BILLION;

	if (**text != '.')
		return 0;
	for ((*text)++; **text >= '0' && **text <= '9'; (*text)++) {
		place /= 10;
		billionths += place * (**text - '0');
	}
	return billionths;
}

static bool parse_with_unit(const char *text, const struct unit *unit, __u64 *value)
{
	__u64 whole, billionths;
	unsigned __int128 product;
	char *end;

	if (!parse_number(text, &end, &whole))
		return false;
	billionths = parse_fraction(&end);
	for (; unit->name; unit++) {
		if (strcmp(end, unit->name))
			continue;
		product = (unsigned __int128)whole * unit->factor;
		product += (unsigned __int128)billionths * unit->factor / BILLION;
		*value = product;
		return product == *value;
	}
	return false;
}

bool parse_count(const char *text, __u64 *value)
{
	char *end;

	return parse_number(text, &end, value) && *end == '\0';
}

bool parse_size(const char *text, __u64 *value)
{
	return parse_with_unit(text, sizes, value);
}

bool parse_time(const char *text, __u64 *value)
{
	return parse_with_unit(text, times, value);
}

int parse_choice(const char *choices, const char *text)
{
	size_t length = strlen(text);

	for (int index = 0;; index++) {
		size_t choice = strcspn(choices, "|");

		if (choice == length && !strncmp(choices, text, length))
			return index;
		if (choices[choice] == '\0')
			return -1;
		choices += choice + 1;
	}
}
