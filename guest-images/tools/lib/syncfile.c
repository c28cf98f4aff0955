// SPDX-License-Identifier: GPL-2.0
#include "syncfile.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "clock.h"
#include "errname.h"
#include "gpu.h"
#include "ktap.h"

int sync_file_get(int fd, struct sync_file_state *state)
{
	memset(state, 0, sizeof(*state));
	state->info.num_fences = SYNC_FILE_MAX_FENCES;
	state->info.sync_fence_info = (__u64)(unsigned long)state->fences;
	return gpu_ioctl(fd, SYNC_IOC_FILE_INFO, &state->info);
}

int sync_file_status(int fd)
{
	struct sync_file_state state;
	int error = sync_file_get(fd, &state);

	if (error)
		ktap_stop("SYNC_IOC_FILE_INFO: %s", errname(error));
	return state.info.status;
}

__u64 sync_file_time(int fd)
{
	struct sync_file_state state;
	__u64 last = 0;

	if (sync_file_get(fd, &state))
		return 0;
	for (__u32 i = 0; i < state.info.num_fences; i++)
		if (state.fences[i].timestamp_ns > last)
			last = state.fences[i].timestamp_ns;
	return last;
}

int sync_file_wait(int fd, __u64 deadline)
{
	fd_ready(fd, POLLIN, deadline);
	return sync_file_status(fd);
}

int sync_file_merge(int a, int b, const char *name)
{
	struct sync_merge_data data = { .fd2 = b };
	int error;

	strncpy(data.name, name, sizeof(data.name) - 1);
	error = gpu_ioctl(a, SYNC_IOC_MERGE, &data);
	return error ? error : data.fence;
}

bool fd_ready(int fd, short events, __u64 deadline)
{
	struct pollfd entry = { .fd = fd, .events = events };
	int count;

	do {
		count = poll(&entry, 1, ms_until(deadline));
	} while (count < 0 && errno == EINTR);
	return count > 0 && (entry.revents & events) == events;
}

const char *status_name(int status)
{
	if (status == 0)
		return "pending";
	return status > 0 ? "ok" : errname(status);
}
