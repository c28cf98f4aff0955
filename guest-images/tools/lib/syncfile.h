/* SPDX-License-Identifier: GPL-2.0 */
/* sync_file descriptors. */
#ifndef SYNCFILE_H
#define SYNCFILE_H

#include <linux/sync_file.h>
#include <linux/types.h>
#include <stdbool.h>

#define SYNC_FILE_MAX_FENCES 8

struct sync_file_state {
	struct sync_file_info info;
	struct sync_fence_info fences[SYNC_FILE_MAX_FENCES];
};

/* 0 or -errno. */
int sync_file_get(int fd, struct sync_file_state *state);
/* 0 pending, 1 signalled, negative errno: signalled with that error. Ends the check if it cannot be
 * read. */
int sync_file_status(int fd);
/* When the last of its fences was signalled, in now_ns() time. */
__u64 sync_file_time(int fd);
/* Waits by poll() and returns the status, 0 when it is still pending at the deadline. */
int sync_file_wait(int fd, __u64 deadline);
/* The new descriptor, or -errno. */
int sync_file_merge(int a, int b, const char *name);

/* Whether poll() says that 'events' are there by the deadline (0: at once). */
bool fd_ready(int fd, short events, __u64 deadline);
/* A fence's status in words: "pending", "ok", "ETIME". */
const char *status_name(int status);

#endif
