/* SPDX-License-Identifier: GPL-2.0 */
/* What the checks of dma-bufs share. Each function ends the check when it fails. */
#ifndef BUFFER_H
#define BUFFER_H

#include "gpu.h"

/* Where the checks put a buffer; index with 0 and 1. */
extern const __u32 domains[2];

/* Maps a dma-buf for reading and writing until the check ends. */
void *map_dmabuf(int dmabuf, __u64 size);
/* DMA_BUF_IOCTL_SYNC; 0 or -errno. */
int sync_dmabuf(int dmabuf, __u64 flags);
/* Fills the buffer by a job of its GPU. */
void fill_buffer(struct bo *bo, __u64 size, __u32 word);
/* Runs a check for each domain: "NAME of vram", "NAME of system"; check gets a const __u32 *. */
void run_in_domains(const char *name, void (*check)(void *arg));

#endif
