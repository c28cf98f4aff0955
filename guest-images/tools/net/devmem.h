/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's interface to device-memory TCP (Documentation/networking/devmem.rst). musl has no
 * names for it, and <linux/uio.h> cannot be included beside its <sys/uio.h>.
 */
#ifndef DEVMEM_H
#define DEVMEM_H

#include <linux/types.h>

#define DEVMEM_SCM_LINEAR 78
#define DEVMEM_SCM_DMABUF 79
#define DEVMEM_SO_DONTNEED 80
#define DEVMEM_MSG_SOCK 0x2000000

#define DEVMEM_MAX_TOKENS 128 /* in one DONTNEED */

struct devmem_frag { /* struct dmabuf_cmsg */
	__u64 offset;
	__u32 size;
	__u32 token;
	__u32 dmabuf_id;
	__u32 flags;
};

struct devmem_token { /* struct dmabuf_token */
	__u32 start;
	__u32 count;
};

/*
 * Binds a dma-buf to receive queue 'queue' of an interface, or for sending if queue is negative.
 * The binding ends with the netlink socket, which belongs to the current check. Returns its id
 * (above 0) or -errno.
 */
int devmem_bind(const char *interface, int queue, int dmabuf);

#endif
