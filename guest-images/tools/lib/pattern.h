/* SPDX-License-Identifier: GPL-2.0 */
/* Data that tests write and look for, and the CPU's side of the GPU's arithmetic. */
#ifndef PATTERN_H
#define PATTERN_H

#include <linux/types.h>
#include <stddef.h>

/* CRC-32 of IEEE 802.3, zlib's crc32(). */
__u32 crc32(const void *data, size_t size);
/* Fills bytes with a sequence that depends on seed and nothing else. */
void pattern_write(void *data, size_t size, __u32 seed);
/* Index of the first byte that differs, size if none does. */
size_t first_difference(const void *a, const void *b, size_t size);
/* Index of the first byte that is not the repeated little-endian word, size if each is. */
size_t first_not_word(const void *data, size_t size, __u32 word);

#endif
