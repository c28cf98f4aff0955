// SPDX-License-Identifier: GPL-2.0
#include "ktap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "scope.h"

#define MAX_DEPTH 3

/* A result that is running, or the whole program (depth 0), and the results inside it. */
struct frame {
	jmp_buf end;
	bool failed;
	bool planned;
	char skipped[200];
	unsigned int plan, seen, skips;
};

static struct frame frames[MAX_DEPTH + 1];
static int depth;

static struct frame *current(void)
{
	return &frames[depth];
}

static void indent(int level)
{
	printf("%*s", 2 * level, "");
}

/* A diagnostic stands at the level of the result line that it belongs to. */
static void diagnostic(const char *format, va_list values)
{
	indent(depth ? depth - 1 : 0);
	fputs("# ", stdout);
	vprintf(format, values);
	putchar('\n');
	fflush(stdout);
}

void ktap_plan(unsigned int results)
{
	struct frame *frame = current();

	frame->planned = true;
	frame->plan = results;
	indent(depth);
	puts("KTAP version 1");
	indent(depth);
	printf("1..%u\n", results);
	fflush(stdout);
}

/* What the results inside a frame say about it. */
static void judge_children(struct frame *frame)
{
	if (!frame->planned)
		return;
	if (frame->seen != frame->plan) {
		ktap_note("%u of %u planned results", frame->seen, frame->plan);
		frame->failed = true;
	}
	if (!frame->failed && frame->seen && frame->skips == frame->seen)
		snprintf(frame->skipped, sizeof(frame->skipped), "each of its results was skipped");
}

static void print_result(const char *name, const struct frame *child, struct frame *parent)
{
	parent->seen++;
	indent(depth);
	printf("%s %u - %s", child->failed ? "not ok" : "ok", parent->seen, name);
	if (child->failed) {
		parent->failed = true;
	} else if (child->skipped[0]) {
		printf(" # SKIP %s", child->skipped);
		parent->skips++;
	}
	putchar('\n');
	fflush(stdout);
}

void ktap_run(const char *name, void (*check)(void *arg), void *arg)
{
	size_t mark = scope_mark();
	struct frame *parent = current();
	struct frame *child;

	if (depth == MAX_DEPTH)
		abort();
	depth++;
	child = current();
	*child = (struct frame){ 0 };
	if (!setjmp(child->end))
		check(arg);
	judge_children(child);
	scope_unwind(mark);
	depth--;
	print_result(name, child, parent);
}

void ktap_note(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	diagnostic(format, values);
	va_end(values);
}

void ktap_fail(const char *format, ...)
{
	va_list values;

	current()->failed = true;
	va_start(values, format);
	diagnostic(format, values);
	va_end(values);
}

static noreturn void bail(const char *format, va_list values)
{
	if (depth == 0 && !frames[0].planned)
		puts("KTAP version 1");
	fputs("Bail out! ", stdout);
	vprintf(format, values);
	putchar('\n');
	fflush(stdout);
	exit(EXIT_NOTHING_RUN);
}

void ktap_stop(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	if (!depth)
		bail(format, values);
	current()->failed = true;
	diagnostic(format, values);
	va_end(values);
	longjmp(current()->end, 1);
}

void ktap_skip(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	if (!depth)
		bail(format, values);
	vsnprintf(current()->skipped, sizeof(current()->skipped), format, values);
	va_end(values);
	longjmp(current()->end, 1);
}

void ktap_bail(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	bail(format, values);
}

int ktap_failed(void)
{
	return current()->failed;
}

int ktap_status(void)
{
	const struct frame *top = &frames[0];

	if (top->failed || top->seen != top->plan)
		return EXIT_NOT_OK;
	return top->skips == top->seen ? EXIT_NOTHING_RUN : EXIT_ALL_OK;
}
