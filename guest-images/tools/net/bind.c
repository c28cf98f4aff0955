// SPDX-License-Identifier: GPL-2.0
/* Netlink family "netdev": bind-rx and bind-tx. */
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netdev.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devmem.h"
#include "errname.h"
#include "ktap.h"
#include "scope.h"

struct request {
	struct nlmsghdr header;
	struct genlmsghdr generic;
	char attrs[256];
};

static void begin(struct request *request, __u16 family, __u8 command)
{
	memset(request, 0, sizeof(*request));
	request->header.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN;
	request->header.nlmsg_type = family;
	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	request->generic.cmd = command;
	request->generic.version = 1;
}

static struct nlattr *put(struct request *request, __u16 type, const void *data, size_t size)
{
	struct nlattr *attr = (void *)((char *)request + request->header.nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + size;
	if (size)
		memcpy((char *)attr + NLA_HDRLEN, data, size);
	request->header.nlmsg_len += NLA_ALIGN(attr->nla_len);
	return attr;
}

static void put_u32(struct request *request, __u16 type, __u32 value)
{
	put(request, type, &value, sizeof(value));
}

/* The number in an attribute of a message, if it is there. */
static void find_number(const struct nlmsghdr *message, __u16 type, __u32 *value)
{
	const char *at = (const char *)message + NLMSG_HDRLEN + GENL_HDRLEN;
	const char *end = (const char *)message + message->nlmsg_len;

	while (at + NLA_HDRLEN <= end) {
		const struct nlattr *attr = (const void *)at;
		size_t size = attr->nla_len - NLA_HDRLEN;

		if (attr->nla_len < NLA_HDRLEN)
			return;
		if ((attr->nla_type & NLA_TYPE_MASK) == type) {
			*value = 0;
			memcpy(value, at + NLA_HDRLEN, size < 4 ? size : 4);
		}
		at += NLA_ALIGN(attr->nla_len);
	}
}

/* Sends it; 'value' is what the reply has as attribute 'wanted'. 0 or -errno. */
static int exchange(int fd, struct request *request, __u16 wanted, __u32 *value)
{
	char reply[8192] __attribute__((aligned(8)));

	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		int size = recv(fd, reply, sizeof(reply), 0);
		struct nlmsghdr *message = (void *)reply;

		if (size < 0)
			return -errno;
		for (; NLMSG_OK(message, (unsigned int)size);
		     message = NLMSG_NEXT(message, size)) {
			if (message->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(message))->error;
			find_number(message, wanted, value);
		}
	}
}

static __u16 find_family(int fd)
{
	struct request request;
	__u32 family = 0;
	int error;

	begin(&request, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	put(&request, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY_NAME, sizeof(NETDEV_FAMILY_NAME));
	error = exchange(fd, &request, CTRL_ATTR_FAMILY_ID, &family);
	if (error || !family)
		ktap_stop("netlink family '%s': %s", NETDEV_FAMILY_NAME, errname(error));
	return family;
}

static void put_queue(struct request *request, __u32 queue)
{
	struct nlattr *nest = put(request, NETDEV_A_DMABUF_QUEUES | NLA_F_NESTED, NULL, 0);

	put_u32(request, NETDEV_A_QUEUE_ID, queue);
	put_u32(request, NETDEV_A_QUEUE_TYPE, NETDEV_QUEUE_TYPE_RX);
	nest->nla_len = (char *)request + request->header.nlmsg_len - (char *)nest;
}

int devmem_bind(const char *interface, int queue, int dmabuf)
{
	int fd = scope_fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
	__u32 index = if_nametoindex(interface), id = 0;
	struct request request;
	int error;

	if (fd < 0)
		ktap_stop("netlink socket: %s", errname(errno));
	if (!index)
		ktap_stop("no interface '%s'", interface);
	begin(&request, find_family(fd), queue < 0 ? NETDEV_CMD_BIND_TX : NETDEV_CMD_BIND_RX);
	put_u32(&request, NETDEV_A_DMABUF_IFINDEX, index);
	if (queue >= 0)
		put_queue(&request, queue);
	put_u32(&request, NETDEV_A_DMABUF_FD, dmabuf);
	error = exchange(fd, &request, NETDEV_A_DMABUF_ID, &id);
	return error ? error : (int)id;
}
