// SPDX-License-Identifier: GPL-2.0
/* send: addresses of the data are offsets in the dma-buf, its id is a control message. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* needs struct timespec */
#include <linux/errqueue.h>

#include "clock.h"
#include "commands.h"
#include "devmem.h"
#include "errname.h"
#include "expect.h"
#include "ktap.h"
#include "provider.h"
#include "stream.h"

#define SEND_MAX (256 * 1024ull)

static const char *interface, *to, *expect = "ok";
static __u64 port = 5201, size = 8 << 20, chunk = SEND_MAX;
static int kind;

const struct arg send_args[] = {
	{ "interface", ARG_TEXT, &interface, NULL, "interface to bind and to send by" },
	{ "to", ARG_TEXT, &to, NULL, "address to connect to" },
	{ "provider", ARG_CHOICE, &kind, PROVIDER_CHOICES, "whose memory (default vram)" },
	{ "port", ARG_COUNT, &port, NULL, "TCP port (default 5201)" },
	{ "size", ARG_SIZE, &size, NULL, "bytes to send (default 8M)" },
	{ "chunk", ARG_SIZE, &chunk, NULL, "bytes in one call (default 256K)" },
	{ "expect", ARG_TEXT, &expect, NULL, "how the binding ends (default ok)" },
	{ 0 },
};

static ssize_t send_some(int fd, __u32 dmabuf_id, __u64 offset, __u64 bytes)
{
	struct iovec data = { (void *)(unsigned long)offset, bytes };
	union {
		char space[CMSG_SPACE(sizeof(__u32))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = DEVMEM_SCM_DMABUF;
	header->cmsg_len = CMSG_LEN(sizeof(dmabuf_id));
	memcpy(CMSG_DATA(header), &dmabuf_id, sizeof(dmabuf_id));
	return sendmsg(fd, &message, MSG_ZEROCOPY | MSG_NOSIGNAL);
}

/* Reads one notification: how many calls are completed so far. False if there is none. */
static bool read_completion(int fd, __u32 *completed)
{
	union {
		char space[256];
		struct cmsghdr align;
	} control;
	struct msghdr message = {
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct sock_extended_err told;
	struct cmsghdr *header;

	if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	header = CMSG_FIRSTHDR(&message);
	if (!header)
		return true;
	memcpy(&told, CMSG_DATA(header), sizeof(told));
	if (told.ee_origin != SO_EE_ORIGIN_ZEROCOPY || told.ee_errno)
		ktap_stop("an error instead of a completion: %s", errname(told.ee_errno));
	if (told.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
		ktap_fail("the kernel copied the data");
	*completed = told.ee_data + 1;
	return true;
}

static void send_all(int fd, __u32 dmabuf_id)
{
	struct pollfd wait = { .fd = fd };
	__u32 calls = 0, completed = 0;
	__u64 at = 0;

	while (at < size) {
		__u64 part = size - at < chunk ? size - at : chunk;
		ssize_t sent = send_some(fd, dmabuf_id, at, part);

		if (sent < 0)
			ktap_stop("sendmsg after %llu bytes: %s", at, errname(errno));
		at += sent;
		calls++;
		while (read_completion(fd, &completed))
			;
	}
	while (completed < calls) {
		if (poll(&wait, 1, ms_until(gpu_deadline())) != 1)
			ktap_stop("%u of %u calls were completed", completed, calls);
		while (read_completion(fd, &completed))
			;
	}
	ktap_note("%u calls, all completed", calls);
}

static void check_send(void *arg)
{
	struct provider *provider = provider_open(kind, size);
	int id = devmem_bind(interface, -1, provider->dmabuf), fd, one = 1;
	__u64 started, cpu;
	char end;

	(void)arg;
	if (!expect_matches(expect, id < 0 ? id : 0))
		ktap_stop("the binding ended with %s, not %s", errname(id < 0 ? id : 0), expect);
	if (id < 0)
		return;
	provider_fill(provider, size);
	fd = tcp_connect(to, port, interface);
	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		ktap_stop("SO_ZEROCOPY: %s", errname(errno));
	started = now_ns();
	cpu = cpu_ns();
	send_all(fd, id);
	shutdown(fd, SHUT_WR);
	if (recv(fd, &end, 1, 0))
		ktap_fail("the other end did not close the connection");
	note_figures(size, started, cpu);
}

int run_send(void)
{
	if (!interface || !to)
		ktap_bail("--interface and --to are needed");
	if (!expect_valid(expect) || !chunk)
		return EXIT_USAGE;
	ktap_plan(1);
	ktap_run(strcmp(expect, "ok") ? "the binding ends as expected" :
					"all was sent from the dma-buf and taken",
		 check_send, NULL);
	return ktap_status();
}
