// SPDX-License-Identifier: GPL-2.0
/* receive: payload in device memory, its places told by control messages, given back by tokens. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "announce.h"
#include "clock.h"
#include "commands.h"
#include "devmem.h"
#include "errname.h"
#include "expect.h"
#include "ktap.h"
#include "provider.h"
#include "scope.h"
#include "stream.h"

#define MAX_FRAGS 1024 /* in one recvmsg() */

static const char *interface, *expect = "ok";
static __u64 queue = 1, port = 5201, size = 8 << 20, memory = 16 << 20;
static int kind;
static bool allow_linear, no_check;

const struct arg receive_args[] = {
	{ "interface", ARG_TEXT, &interface, NULL, "interface to bind" },
	{ "queue", ARG_COUNT, &queue, NULL, "its receive queue (default 1)" },
	{ "provider", ARG_CHOICE, &kind, PROVIDER_CHOICES, "whose memory (default vram)" },
	{ "memory", ARG_SIZE, &memory, NULL, "how much of it is bound (default 16M)" },
	{ "port", ARG_COUNT, &port, NULL, "TCP port (default 5201)" },
	{ "size", ARG_SIZE, &size, NULL, "bytes to expect (default 8M)" },
	{ "expect", ARG_TEXT, &expect, NULL, "how the binding ends (default ok)" },
	{ "allow-linear", ARG_FLAG, &allow_linear, NULL, "payload may come in host memory too" },
	{ "no-check", ARG_FLAG, &no_check, NULL, "do not look at the bytes, to measure" },
	{ 0 },
};

struct reception {
	int fd;
	struct provider *provider;
	__u32 dmabuf_id;
	__u64 position, linear, frags, released;
	struct piece pieces[MAX_FRAGS];
	struct devmem_token tokens[MAX_FRAGS];
	unsigned int count; /* of the two above */
	char bytes[64 * 1024];
	union {
		char space[MAX_FRAGS * CMSG_SPACE(sizeof(struct devmem_frag))];
		struct cmsghdr align;
	} control;
};

static void take_linear(struct reception *r, __u32 bytes, __u64 skip)
{
	if (memcmp(r->bytes + skip, stream_at(r->position), bytes))
		ktap_fail("%u bytes at %llu in host memory are wrong", bytes, r->position);
	r->position += bytes;
	r->linear += bytes;
}

static void take_frag(struct reception *r, const struct devmem_frag *frag)
{
	if (frag->dmabuf_id != r->dmabuf_id)
		ktap_stop("bytes at %llu are in dma-buf %u, %u was bound", r->position,
			  frag->dmabuf_id, r->dmabuf_id);
	if (frag->offset + frag->size > r->provider->size)
		ktap_stop("bytes at %llu are outside of the dma-buf", r->position);
	r->pieces[r->count] = (struct piece){ frag->offset, frag->size, r->position };
	r->tokens[r->count++] = (struct devmem_token){ frag->token, 1 };
	r->position += frag->size;
}

static void release_tokens(struct reception *r)
{
	for (unsigned int i = 0; i < r->count; i += DEVMEM_MAX_TOKENS) {
		unsigned int now = r->count - i;
		int released;

		if (now > DEVMEM_MAX_TOKENS)
			now = DEVMEM_MAX_TOKENS;
		released = setsockopt(r->fd, SOL_SOCKET, DEVMEM_SO_DONTNEED, &r->tokens[i],
				      now * sizeof(r->tokens[0]));
		if (released < 0)
			ktap_stop("SO_DEVMEM_DONTNEED: %s", errname(errno));
		r->released += released;
	}
	r->frags += r->count;
	r->count = 0;
}

/* One recvmsg(); false at the end of the stream. */
static bool receive_some(struct reception *r)
{
	struct iovec data = { r->bytes, sizeof(r->bytes) };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = r->control.space,
		.msg_controllen = sizeof(r->control.space),
	};
	ssize_t got = recvmsg(r->fd, &message, DEVMEM_MSG_SOCK);
	__u64 skip = 0;

	if (got < 0)
		ktap_stop("recvmsg after %llu bytes: %s", r->position, errname(errno));
	/* a packet that was not split is ordinary data: no control message tells of it */
	if (got && !CMSG_FIRSTHDR(&message))
		take_linear(r, got, 0);
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
	     header = CMSG_NXTHDR(&message, header)) {
		struct devmem_frag frag;

		memcpy(&frag, CMSG_DATA(header), sizeof(frag));
		if (header->cmsg_type == DEVMEM_SCM_LINEAR) {
			take_linear(r, frag.size, skip);
			skip += frag.size;
		} else if (header->cmsg_type == DEVMEM_SCM_DMABUF) {
			take_frag(r, &frag);
		}
	}
	if (!no_check)
		provider_check(r->provider, r->pieces, r->count);
	release_tokens(r);
	return got > 0;
}

static void check_receive(void *arg)
{
	struct reception *r = scope_alloc(sizeof(*r));
	__u64 started, cpu;
	int id;

	(void)arg;
	r->provider = provider_open(kind, memory);
	id = devmem_bind(interface, queue, r->provider->dmabuf);
	if (!expect_matches(expect, id < 0 ? id : 0))
		ktap_stop("the binding ended with %s, not %s", errname(id < 0 ? id : 0), expect);
	if (id < 0)
		return;
	r->dmabuf_id = id;
	r->fd = tcp_accept(port);
	started = now_ns();
	cpu = cpu_ns();
	while (receive_some(r))
		;
	if (r->position != size)
		ktap_fail("%llu bytes came, not %llu", r->position, size);
	if (r->linear && !allow_linear)
		ktap_fail("%llu bytes of payload came in host memory", r->linear);
	if (r->released != r->frags)
		ktap_fail("%llu tokens were given back, the kernel took %llu", r->frags,
			  r->released);
	ktap_note("%llu pieces", r->frags);
	note_figures(r->position, started, cpu);
}

int run_receive(void)
{
	if (!interface)
		ktap_bail("--interface is missing");
	if (!expect_valid(expect))
		return EXIT_USAGE;
	ktap_plan(1);
	ktap_run(strcmp(expect, "ok") ? "the binding ends as expected" :
					"all came into the dma-buf as it was sent",
		 check_receive, NULL);
	return ktap_status();
}
