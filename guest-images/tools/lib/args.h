/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Command lines: PROGRAM SUBCOMMAND [--option value]...
 */
#ifndef ARGS_H
#define ARGS_H

#include <linux/types.h>
#include <stdbool.h>

enum arg_kind {
	ARG_SIZE,	/* __u64, bytes: 4096, 64K, 1M */
	ARG_COUNT,	/* __u64, decimal or 0x... */
	ARG_TIME,	/* __u64, nanoseconds: 300ms, 5s; a bare number is milliseconds */
	ARG_TEXT,	/* const char * */
	ARG_MAYBE_TEXT, /* the same; "--option" alone asks for the default */
	ARG_CHOICE,	/* int, index into 'choices' */
	ARG_FLAG,	/* bool, takes no value */
};

struct arg {
	const char *name; /* without "--"; NULL ends a list */
	enum arg_kind kind;
	void *value;	     /* keeps its initial value when the option is not given */
	const char *choices; /* "vram|system" */
	const char *help;
};

struct command {
	const char *name;	/* NULL ends a list */
	const char *about;	/* what its results prove */
	const struct arg *args; /* may be NULL */
	/* Runs it and returns the program's exit status. */
	int (*run)(void);
	bool in_all; /* needs no fault, no second device, no unplug: part of "all" */
};

struct program {
	const char *name;
	const char *about;
	const char *examples;
	const struct arg *common; /* options of every subcommand; may be NULL */
	const struct command *commands;
};

/* Returns the exit status for main(). */
int program_main(const struct program *program, int argc, char **argv);

/* The value of a number with a unit; false: not one, or too large. */
bool parse_count(const char *text, __u64 *value);
bool parse_size(const char *text, __u64 *value);
bool parse_time(const char *text, __u64 *value);
/* Index of text in "a|b|c", -1 if it is not there. */
int parse_choice(const char *choices, const char *text);

#endif
