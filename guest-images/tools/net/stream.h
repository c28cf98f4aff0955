/* SPDX-License-Identifier: GPL-2.0 */
/* The bytes that are sent, which follow from their position, and TCP sockets to send them over. */
#ifndef STREAM_H
#define STREAM_H

#include <linux/types.h>

#define STREAM_VIEW (1ull << 20)

/* At least STREAM_VIEW bytes of the stream from a position on. */
const void *stream_at(__u64 position);

/* All end the check when they fail; sockets belong to it and have --timeout. */
int tcp_connect(const char *address, __u64 port, const char *interface);
/* Announces "tb-net: listening", waits for one connection. */
int tcp_accept(__u64 port);
/* A note with bytes, seconds, and the CPU time of this process since 'started' and 'cpu'. */
void note_figures(__u64 bytes, __u64 started, __u64 cpu);
__u64 cpu_ns(void);

#endif
