// SPDX-License-Identifier: GPL-2.0
#include "buffer.h"

#include <errno.h>
#include <linux/dma-buf.h>
#include <stdio.h>
#include <sys/mman.h>

#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "scope.h"

const __u32 domains[2] = { TBGPU_DOMAIN_VRAM, TBGPU_DOMAIN_SYSTEM };

struct mapping {
	void *address;
	__u64 size;
};

static void release_mapping(void *what)
{
	struct mapping *mapping = what;

	munmap(mapping->address, mapping->size);
}

void *map_dmabuf(int dmabuf, __u64 size)
{
	struct mapping *mapping = scope_alloc(sizeof(*mapping));

	mapping->size = size;
	mapping->address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf, 0);
	if (mapping->address == MAP_FAILED)
		ktap_stop("mmap of the dma-buf: %s", errname(errno));
	scope_defer(release_mapping, mapping);
	return mapping->address;
}

int sync_dmabuf(int dmabuf, __u64 flags)
{
	struct dma_buf_sync request = { .flags = flags };

	return gpu_ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &request);
}

void fill_buffer(struct bo *bo, __u64 size, __u32 word)
{
	struct job job;

	job_init(&job, bo->gpu, TBGPU_ENGINE_COPY);
	job_fill(&job, (struct place){ bo, 0 }, size, word);
	job_run(&job);
}

void run_in_domains(const char *name, void (*check)(void *arg))
{
	for (int i = 0; i < 2; i++) {
		char full[96];

		snprintf(full, sizeof(full), "%s of %s", name, domain_name(domains[i]));
		ktap_run(full, check, (void *)&domains[i]);
	}
}
