// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "clock.h"
#include "errname.h"
#include "ktap.h"
#include "scope.h"

#define DEVICES "/sys/bus/pci/devices"
#define WARM_UP 100

static const char *pci;
static const char *id = "1234:7b67";
static __u64 offset;
static __u64 count = 10000;

const struct arg mmio_args[] = {
	{ "pci", ARG_TEXT, &pci, NULL, "DDDD:BB:DD.F of the device (default: the first of --id)" },
	{ "id", ARG_TEXT, &id, NULL,
	  "vendor:device, hexadecimal (default: 1234:7b67, the testbed GPU)" },
	{ "offset", ARG_SIZE, &offset, NULL, "register, a multiple of 4 (default: 0)" },
	{ "count", ARG_COUNT, &count, NULL, "reads (default: 10000)" },
	{ 0 },
};

/* The number in a file of the device in sysfs, -1 if it cannot be read. */
static long read_number(const char *device, const char *name)
{
	char path[PATH_MAX];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", device, name);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%li", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

/* Finds the device of --id; false: there is none. */
static bool find_device(char *name, size_t space)
{
	DIR *directory = opendir(DEVICES);
	struct dirent *entry;
	long vendor, device;
	char *end;
	bool found = false;

	vendor = strtol(id, &end, 16);
	device = *end == ':' ? strtol(end + 1, NULL, 16) : -1;
	if (!directory)
		return false;
	while (!found && (entry = readdir(directory))) {
		found = entry->d_name[0] != '.' && read_number(entry->d_name, "vendor") == vendor &&
			read_number(entry->d_name, "device") == device;
		if (found)
			snprintf(name, space, "%s", entry->d_name);
	}
	closedir(directory);
	return found;
}

/* A device without a driver does not decode its memory until it is enabled. */
static bool set_enabled(const char *device, bool enabled)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), DEVICES "/%s/enable", device);
	file = fopen(path, "we");
	if (!file)
		return false;
	fputs(enabled ? "1" : "0", file);
	return fclose(file) == 0;
}

/* Address of the register, or NULL after telling why not. */
static volatile __u32 *map_register(const char *device, void **map, size_t *size)
{
	char path[PATH_MAX];
	struct stat state;
	int fd;

	snprintf(path, sizeof(path), DEVICES "/%s/resource0", device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &state)) {
		bench_failed("'%s' cannot be opened: %s", path, errname(errno));
		return NULL;
	}
	scope_fd(fd);
	*size = state.st_size;
	if (offset + 4 > *size) {
		bench_failed("offset 0x%llx is not a register of %zu bytes", offset, *size);
		return NULL;
	}
	*map = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*map == MAP_FAILED) {
		bench_failed("mmap of '%s': %s%s", path, errname(errno),
			     errno == EINVAL
				     ? " (hint: a driver claims it; boot with iomem=relaxed)"
				     : "");
		return NULL;
	}
	return (volatile __u32 *)((char *)*map + offset);
}

static int measure(const char *device)
{
	__u64 *samples = scope_alloc(count * sizeof(*samples));
	volatile __u32 *reg;
	__u32 value = 0;
	size_t size;
	void *map;

	reg = map_register(device, &map, &size);
	if (!reg)
		return EXIT_NOTHING_RUN;
	for (int i = 0; i < WARM_UP; i++)
		value = *reg;
	for (__u64 i = 0; i < count; i++) {
		__u64 begin = now_ns();

		value = *reg;
		samples[i] = now_ns() - begin;
	}
	munmap(map, size);
	fprintf(stderr, "tb-bench: %s register 0x%llx reads 0x%08x\n", device, offset, value);
	if (value == ~0u)
		return bench_failed("the device does not answer");
	bench_print("mmio", samples, count);
	return EXIT_ALL_OK;
}

int run_mmio(void)
{
	char name[NAME_MAX + 1];
	bool was_enabled;
	int status;

	if (!bench_count_ok(count))
		return EXIT_USAGE;
	if (offset % 4) {
		fprintf(stderr, "tb-bench: --offset is a multiple of 4\n");
		return EXIT_USAGE;
	}
	if (pci)
		snprintf(name, sizeof(name), "%s", pci);
	else if (!find_device(name, sizeof(name)))
		return bench_failed("no PCI device '%s'", id);
	was_enabled = read_number(name, "enable") > 0;
	if (!was_enabled && !set_enabled(name, true))
		return bench_failed("PCI device '%s' cannot be enabled: %s", name, errname(errno));
	status = measure(name);
	if (!was_enabled)
		set_enabled(name, false);
	return status;
}
