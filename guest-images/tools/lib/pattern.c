// SPDX-License-Identifier: GPL-2.0
#include "pattern.h"

__u32 crc32(const void *data, size_t size)
{
	static __u32 table[256];
	const unsigned char *byte = data;
	__u32 crc = ~0u;

	if (!table[1]) {
		for (__u32 i = 0; i < 256; i++) {
			table[i] = i;
			for (int bit = 0; bit < 8; bit++)
				table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
		}
	}
	while (size--)
		crc = crc >> 8 ^ table[(crc ^ *byte++) & 0xff];
	return ~crc;
}

void pattern_write(void *data, size_t size, __u32 seed)
{
	unsigned char *byte = data;
	__u32 state = seed * 2654435761u + 1;

	for (size_t i = 0; i < size; i++) {
		state = state * 1664525u + 1013904223u;
		byte[i] = state >> 24;
	}
}

size_t first_difference(const void *a, const void *b, size_t size)
{
	const unsigned char *left = a, *right = b;
	size_t i;

	for (i = 0; i < size && left[i] == right[i]; i++)
		;
	return i;
}

size_t first_not_word(const void *data, size_t size, __u32 word)
{
	const unsigned char *byte = data;
	size_t i;

	for (i = 0; i < size && byte[i] == (unsigned char)(word >> 8 * (i & 3)); i++)
		;
	return i;
}
