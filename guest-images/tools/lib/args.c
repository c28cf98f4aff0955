// SPDX-License-Identifier: GPL-2.0
#include "args.h"

#include <stdio.h>
#include <string.h>

#include "ktap.h"

static const char *value_name(const struct arg *arg)
{
	switch (arg->kind) {
	case ARG_SIZE:
		return " SIZE";
	case ARG_COUNT:
		return " N";
	case ARG_TIME:
		return " TIME";
	case ARG_TEXT:
		return " TEXT";
	case ARG_MAYBE_TEXT:
		return " [TEXT]";
	case ARG_CHOICE:
		return " ";
	case ARG_FLAG:
		break;
	}
	return "";
}

static void print_args(const struct arg *arg)
{
	for (; arg && arg->name; arg++) {
		char left[80];

		snprintf(left, sizeof(left), "--%s%s%s", arg->name, value_name(arg),
			 arg->kind == ARG_CHOICE ? arg->choices : "");
		printf("  %-34s %s\n", left, arg->help);
	}
}

static void print_commands(const struct program *program, const char *margin)
{
	for (const struct command *command = program->commands; command->name; command++)
		printf("%s%-16s %s\n", margin, command->name, command->about);
}

static bool has_all(const struct program *program)
{
	for (const struct command *command = program->commands; command->name; command++)
		if (command->in_all)
			return true;
	return false;
}

static void print_program_help(const struct program *program)
{
	printf("%s: %s\n\nusage: %s SUBCOMMAND [--option value]...\n\nsubcommands:\n",
	       program->name, program->about, program->name);
	print_commands(program, "  ");
	if (has_all(program))
		printf("  %-16s each of the above that needs no fault and no second device, as "
		       "subtests\n",
		       "all");
	printf("  %-16s the subcommands, one per line\n", "list");
	if (program->common) {
		puts("\noptions of each subcommand:");
		print_args(program->common);
	}
	printf("\n%s SUBCOMMAND --help prints the options of a subcommand.\n", program->name);
	puts("exit status: 0 all results ok, 1 some not ok, 2 usage, 4 nothing could be run");
	printf("\nexamples:\n%s", program->examples);
}

static void print_command_help(const struct program *program, const struct command *command)
{
	printf("%s %s: %s\n\noptions:\n", program->name, command->name, command->about);
	print_args(command->args);
	print_args(program->common);
}

static const struct arg *find_arg(const struct arg *args, const char *name, size_t length)
{
	for (const struct arg *arg = args; arg && arg->name; arg++)
		if (strlen(arg->name) == length && !strncmp(arg->name, name, length))
			return arg;
	return NULL;
}

static bool store_value(const struct arg *arg, const char *text)
{
	switch (arg->kind) {
	case ARG_SIZE:
		return parse_size(text, arg->value);
	case ARG_COUNT:
		return parse_count(text, arg->value);
	case ARG_TIME:
		return parse_time(text, arg->value);
	case ARG_TEXT:
	case ARG_MAYBE_TEXT:
		*(const char **)arg->value = text;
		return true;
	case ARG_CHOICE:
		*(int *)arg->value = parse_choice(arg->choices, text);
		return *(int *)arg->value >= 0;
	case ARG_FLAG:
		break;
	}
	return false;
}

/* One option with its value. Returns how many words it took, 0 after printing what is wrong with
 * it. */
static int parse_option(const struct program *program, const struct command *command, char **words,
			int count)
{
	const char *name = words[0] + 2;
	size_t length = strcspn(name, "=");
	const char *text = name[length] ? name + length + 1 : NULL;
	const struct arg *arg = find_arg(command->args, name, length);
	int used = 1;

	if (!arg)
		arg = find_arg(program->common, name, length);
	if (strncmp(words[0], "--", 2) || !arg) {
		fprintf(stderr, "%s %s: unknown option '%s'\n", program->name, command->name,
			words[0]);
		return 0;
	}
	if (arg->kind == ARG_FLAG && !text) {
		*(bool *)arg->value = true;
		return used;
	}
	if (arg->kind == ARG_MAYBE_TEXT && !text && (count == 1 || words[1][0] == '-'))
		return used;
	if (!text && count > 1) {
		text = words[1];
		used = 2;
	}
	if (text && store_value(arg, text))
		return used;
	fprintf(stderr, "%s %s: '%s' is not a value for --%s%s%s\n", program->name, command->name,
		text ? text : "", arg->name, value_name(arg),
		arg->kind == ARG_CHOICE ? arg->choices : "");
	return 0;
}

static int usage_hint(const struct program *program, const char *command)
{
	fprintf(stderr, "hint: %s %s%s--help\n", program->name, command, *command ? " " : "");
	return EXIT_USAGE;
}

static int run_command(const struct program *program, const struct command *command, char **words,
		       int count)
{
	while (count > 0) {
		int used;

		if (!strcmp(words[0], "--help")) {
			print_command_help(program, command);
			return EXIT_ALL_OK;
		}
		used = parse_option(program, command, words, count);
		if (!used)
			return usage_hint(program, command->name);
		words += used;
		count -= used;
	}
	return command->run();
}

static void run_subtests(void *arg)
{
	const struct command *command = arg;

	command->run();
}

static const struct program *all_of;

static int run_all(void)
{
	unsigned int count = 0;

	for (const struct command *command = all_of->commands; command->name; command++)
		count += command->in_all;
	ktap_plan(count);
	for (const struct command *command = all_of->commands; command->name; command++)
		if (command->in_all)
			ktap_run(command->name, run_subtests, (void *)command);
	return ktap_status();
}

int program_main(const struct program *program, int argc, char **argv)
{
	static const struct command all = { "all", "the subcommands that need no preparation", NULL,
					    run_all, false };

	if (argc < 2) {
		fprintf(stderr, "%s: a subcommand is needed\n", program->name);
		return usage_hint(program, "");
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		print_program_help(program);
		return EXIT_ALL_OK;
	}
	if (!strcmp(argv[1], "list")) {
		print_commands(program, "");
		return EXIT_ALL_OK;
	}
	all_of = program;
	if (!strcmp(argv[1], "all") && has_all(program))
		return run_command(program, &all, argv + 2, argc - 2);
	for (const struct command *command = program->commands; command->name; command++)
		if (!strcmp(argv[1], command->name))
			return run_command(program, command, argv + 2, argc - 2);
	fprintf(stderr, "%s: unknown subcommand '%s'\n", program->name, argv[1]);
	return usage_hint(program, "");
}
