/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CLOCK_H
#define CLOCK_H

#include <linux/types.h>

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

/* CLOCK_MONOTONIC, the clock of fence timestamps and of DRM's timeouts. */
__u64 now_ns(void);
/* For poll(): milliseconds until a time of now_ns(), rounded up, 0 when it has passed. */
int ms_until(__u64 deadline);

#endif
