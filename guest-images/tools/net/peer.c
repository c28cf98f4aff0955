// SPDX-License-Identifier: GPL-2.0
/* source, sink: ordinary sockets at the other end. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "commands.h"
#include "errname.h"
#include "ktap.h"
#include "stream.h"

static const char *to;
static __u64 port = 5201, size = 8 << 20;

const struct arg source_args[] = {
	{ "to", ARG_TEXT, &to, NULL, "address to connect to" },
	{ "port", ARG_COUNT, &port, NULL, "TCP port (default 5201)" },
	{ "size", ARG_SIZE, &size, NULL, "bytes to send (default 8M)" },
	{ 0 },
};

const struct arg sink_args[] = {
	{ "port", ARG_COUNT, &port, NULL, "TCP port (default 5201)" },
	{ "size", ARG_SIZE, &size, NULL, "bytes to expect (default 8M)" },
	{ 0 },
};

static void check_source(void *arg)
{
	int fd = tcp_connect(to, port, NULL);
	__u64 started = now_ns(), cpu = cpu_ns(), at = 0;
	char end;

	(void)arg;
	while (at < size) {
		size_t part = size - at < STREAM_VIEW ? size - at : STREAM_VIEW;
		ssize_t sent = send(fd, stream_at(at), part, MSG_NOSIGNAL);

		if (sent < 0)
			ktap_stop("send after %llu bytes: %s", at, errname(errno));
		at += sent;
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, &end, 1, 0))
		ktap_fail("the other end did not close the connection");
	note_figures(size, started, cpu);
}

static void check_sink(void *arg)
{
	static char bytes[STREAM_VIEW];
	int fd = tcp_accept(port);
	__u64 started = now_ns(), cpu = cpu_ns(), at = 0;
	ssize_t got;

	(void)arg;
	while ((got = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		if (memcmp(bytes, stream_at(at), got))
			ktap_stop("%zd bytes at %llu are wrong", got, at);
		at += got;
	}
	if (got < 0)
		ktap_stop("recv after %llu bytes: %s", at, errname(errno));
	if (at != size)
		ktap_fail("%llu bytes came, not %llu", at, size);
	note_figures(at, started, cpu);
}

int run_source(void)
{
	if (!to)
		ktap_bail("--to is missing");
	ktap_plan(1);
	ktap_run("all was sent and taken", check_source, NULL);
	return ktap_status();
}

int run_sink(void)
{
	ktap_plan(1);
	ktap_run("all came as it was sent", check_sink, NULL);
	return ktap_status();
}
