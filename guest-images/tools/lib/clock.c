// SPDX-License-Identifier: GPL-2.0
#include "clock.h"

#include <limits.h>
#include <time.h>

__u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int ms_until(__u64 deadline)
{
	__u64 now = now_ns();
	__u64 ms = deadline > now ? (deadline - now + NS_PER_MS - 1) / NS_PER_MS : 0;

	return ms > INT_MAX ? INT_MAX : (int)ms;
}
