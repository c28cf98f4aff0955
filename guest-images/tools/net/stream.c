// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE /* accept4() */
#include "stream.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "announce.h"
#include "clock.h"
#include "errname.h"
#include "gpu.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"

/* A prime: bytes that come a power of two too early or too late are other ones. */
#define PERIOD 1048573ull

const void *stream_at(__u64 position)
{
	static char bytes[PERIOD + STREAM_VIEW];
	static bool ready;

	if (!ready) {
		pattern_write(bytes, PERIOD, 4);
		memcpy(bytes + PERIOD, bytes, PERIOD);
		memcpy(bytes + 2 * PERIOD, bytes, sizeof(bytes) - 2 * PERIOD);
		ready = true;
	}
	return bytes + position % PERIOD;
}

static void set_timeouts(int fd)
{
	__u64 ns = gpu_deadline() - now_ns();
	struct timeval limit = { ns / NS_PER_S, ns % NS_PER_S / NS_PER_US };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

int tcp_connect(const char *address, __u64 port, const char *interface)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	char service[24];
	int fd, error;

	snprintf(service, sizeof(service), "%llu", port);
	if (getaddrinfo(address, service, &hints, &found))
		ktap_stop("'%s' is no address", address);
	fd = scope_fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (fd < 0)
		ktap_stop("socket: %s", errname(errno));
	set_timeouts(fd);
	if (interface &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, strlen(interface) + 1))
		ktap_stop("SO_BINDTODEVICE '%s': %s", interface, errname(errno));
	error = connect(fd, found->ai_addr, found->ai_addrlen) ? errno : 0;
	freeaddrinfo(found);
	if (error)
		ktap_stop("connect to %s port %llu: %s", address, port, errname(error));
	return fd;
}

int tcp_accept(__u64 port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = scope_fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)), connection, one = 1;
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		ktap_stop("socket: %s", errname(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&address, sizeof(address)) || listen(fd, 1))
		ktap_stop("listen on port %llu: %s", port, errname(errno));
	announce("tb-net: listening");
	if (poll(&wait, 1, ms_until(gpu_deadline())) != 1)
		ktap_stop("nobody connected");
	connection = scope_fd(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	if (connection < 0)
		ktap_stop("accept: %s", errname(errno));
	set_timeouts(connection);
	return connection;
}

__u64 cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

void note_figures(__u64 bytes, __u64 started, __u64 cpu)
{
	double seconds = (double)(now_ns() - started) / NS_PER_S;

	ktap_note("%llu bytes in %.3f s, %.1f MB/s, CPU time of this process %.3f s", bytes,
		  seconds, bytes / seconds / 1e6, (double)(cpu_ns() - cpu) / NS_PER_S);
}
