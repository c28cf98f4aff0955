// SPDX-License-Identifier: GPL-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "ktap.h"

int bench_failed(const char *format, ...)
{
	va_list values;

	fputs("tb-bench: ", stderr);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fputc('\n', stderr);
	return EXIT_NOTHING_RUN;
}

bool bench_count_ok(__u64 count)
{
	if (count >= 1 && count <= MOST_SAMPLES)
		return true;
	fprintf(stderr, "tb-bench: --count is from 1 to %d\n", MOST_SAMPLES);
	return false;
}

static int compare(const void *a, const void *b)
{
	__u64 left = *(const __u64 *)a, right = *(const __u64 *)b;

	return (left > right) - (left < right);
}

void bench_print(const char *name, __u64 *samples, __u64 count)
{
	double median;

	qsort(samples, count, sizeof(*samples), compare);
	median = (samples[(count - 1) / 2] + samples[count / 2]) / 2.0;
	printf("{\"name\": \"%s\", \"unit\": \"us\", \"n\": %llu, \"min\": %.3f, \"median\": %.3f, "
	       "\"max\": %.3f}\n",
	       name, count, samples[0] / 1e3, median / 1e3, samples[count - 1] / 1e3);
}
