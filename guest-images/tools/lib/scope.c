// SPDX-License-Identifier: GPL-2.0
#include "scope.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct entry {
	void (*release)(void *what);
	void *what;
};

static struct entry *entries;
static size_t used, space;

static void out_of_memory(void)
{
	fputs("out of memory\n", stderr);
	exit(1);
}

void scope_defer(void (*release)(void *what), void *what)
{
	if (used == space) {
		space = space ? 2 * space : 64;
		entries = realloc(entries, space * sizeof(*entries));
		if (!entries)
			out_of_memory();
	}
	entries[used++] = (struct entry){ release, what };
}

void scope_release(void *what)
{
	for (size_t i = used; i-- > 0;) {
		struct entry entry = entries[i];

		if (!entry.release || entry.what != what)
			continue;
		entries[i].release = NULL;
		entry.release(what);
		return;
	}
}

size_t scope_mark(void)
{
	return used;
}

void scope_unwind(size_t mark)
{
	while (used > mark) {
		struct entry entry = entries[--used];

		if (entry.release)
			entry.release(entry.what);
	}
}

void *scope_alloc(size_t size)
{
	void *memory = calloc(1, size ? size : 1);

	if (!memory)
		out_of_memory();
	scope_defer(free, memory);
	return memory;
}

static void close_fd(void *what)
{
	close((int)(intptr_t)what);
}

int scope_fd(int fd)
{
	if (fd >= 0)
		scope_defer(close_fd, (void *)(intptr_t)fd);
	return fd;
}

void scope_close(int fd)
{
	for (size_t i = used; i-- > 0;) {
		if (entries[i].release != close_fd || (int)(intptr_t)entries[i].what != fd)
			continue;
		entries[i].release = NULL;
		break;
	}
	close(fd);
}
