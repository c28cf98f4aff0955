/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * tbimport: /dev/tbimport, a second importer for dma-bufs. It attaches the way NIC zero-copy does:
 * with dma_buf_attach(), that is static (no peer2peer, cannot follow a buffer that moves).
 *
 * An open file holds at most one imported buffer. Closing the file lets it go.
 */
#ifndef TBIMPORT_H
#define TBIMPORT_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TBIMPORT_MAX_SEGMENTS	1024

struct tbimport_segment {
	__u64 address;			/* DMA address, as the device would put it on the bus */
	__u64 length;			/* bytes */
};

/*
 * ATTACH: take a dma-buf, attach it and map it for a device, in both directions.
 * device: "DDDD:BB:DD.F" of a PCI device (it needs no driver), or empty for tbimport's own platform
 * device. segments: pointer to segment_space elements; the first segment_count of them are written.
 * -EBADF: not a descriptor. -EINVAL: not a dma-buf, malformed device, segment_space over the limit,
 * flags not 0. -ENODEV: no such PCI device. -EBUSY: this file has a buffer already. -EFAULT,
 * -ENOMEM, -EINTR. Errors of the exporter's attach and map are passed on (-EOPNOTSUPP: refuses
 * static importers).
 */
struct tbimport_attach {
	__s32 fd;			/* in */
	__u32 flags;			/* in, 0 */
	char device[32];		/* in, ends with a 0 byte */
	__u64 segments;			/* in, may be 0 when segment_space is 0 */
	__u32 segment_space;		/* in */
	__u32 segment_count;		/* out: segments of the mapping */
	__u64 size;			/* out: size of the dma-buf */
	__u64 mapped;			/* out: sum of all segment lengths */
};

/*
 * READ: content of the attached buffer through its exporter's vmap, between begin_cpu_access and
 * end_cpu_access (which wait for the GPU's implicit fences).
 * -ENOTCONN: nothing attached. -EINVAL: no vmap, range outside the buffer, or length over 16 MiB.
 * -ENODEV: the exporter's device is gone. -EFAULT, -ENOMEM, -EINTR.
 */
struct tbimport_read {
	__u64 offset;
	__u64 length;
	__u64 data;			/* pointer to length bytes */
};

/* DETACH: unmap, detach and let the buffer go. -ENOTCONN: nothing attached. */

#define TBIMPORT_IOC_ATTACH	_IOWR('T', 0xb0, struct tbimport_attach)
#define TBIMPORT_IOC_READ	_IOW('T', 0xb1, struct tbimport_read)
#define TBIMPORT_IOC_DETACH	_IO('T', 0xb2)

#endif
