/* SPDX-License-Identifier: GPL-2.0 */
/* Where device memory comes from: a dma-buf, and a way to write and check its bytes. */
#ifndef PROVIDER_H
#define PROVIDER_H

#include "gpu.h"

#define PROVIDER_CHOICES "vram|udmabuf|heap"

enum provider_kind { PROVIDER_VRAM, PROVIDER_UDMABUF, PROVIDER_HEAP };

struct piece { /* of the dma-buf, and where its bytes are in the stream */
	__u64 offset;
	__u32 size;
	__u64 position;
};

struct provider {
	int dmabuf;
	__u64 size;
	struct bo *bo;	 /* VRAM only */
	struct bo *sums; /* VRAM only: what the GPU finds */
	void *map;	 /* the others */
};

/* Ends the check when the memory cannot be had. Belongs to the current check. */
struct provider *provider_open(enum provider_kind kind, __u64 size);
/* Writes the stream from its beginning. */
void provider_fill(struct provider *provider, __u64 size);
/*
 * Compares pieces with the stream: VRAM by the GPU's checksum engine, so that no CPU touches the
 * bytes, other memory by the CPU. Notes a failure.
 */
void provider_check(struct provider *provider, const struct piece *pieces, unsigned int count);

#endif
