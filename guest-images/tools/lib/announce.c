// SPDX-License-Identifier: GPL-2.0
#include "announce.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "ktap.h"

void announce(const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	ktap_note("%s", text);
	if (fd < 0 || dprintf(fd, "%s\n", text) < 0)
		ktap_note("/dev/kmsg cannot be written");
	if (fd >= 0)
		close(fd);
}
