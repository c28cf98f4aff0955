// SPDX-License-Identifier: GPL-2.0
#include "node.h"

#include <dirent.h>
#include <drm/drm.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu.h"

#define DRIVER "tbgpu"
#define DIRECTORY "/dev/dri"
#define MOST_NODES 64

struct node {
	char path[32];
	char address[32]; /* of the PCI device, "" if it has none */
};

static bool is_tbgpu(const char *path)
{
	char name[32] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool found;

	if (fd < 0)
		return false;
	found = !gpu_ioctl(fd, DRM_IOCTL_VERSION, &version) && !strcmp(name, DRIVER);
	close(fd);
	return found;
}

static void read_address(struct node *node)
{
	char link[64], target[PATH_MAX];
	const char *address;

	node->address[0] = '\0';
	snprintf(link, sizeof(link), "/sys/class/drm/%s/device", strrchr(node->path, '/') + 1);
	if (!realpath(link, target))
		return;
	address = strrchr(target, '/') + 1;
	if (strlen(address) < sizeof(node->address))
		strcpy(node->address, address);
}

static int compare(const void *a, const void *b)
{
	const struct node *left = a, *right = b;

	return strcmp(left->address, right->address);
}

static unsigned int list_nodes(struct node nodes[MOST_NODES])
{
	DIR *directory = opendir(DIRECTORY);
	unsigned int count = 0;
	struct dirent *entry;

	while (directory && count < MOST_NODES && (entry = readdir(directory))) {
		struct node *node = &nodes[count];

		if (strncmp(entry->d_name, "render", 6) || strlen(entry->d_name) > 20)
			continue;
		snprintf(node->path, sizeof(node->path), DIRECTORY "/%.20s", entry->d_name);
		if (!is_tbgpu(node->path))
			continue;
		read_address(node);
		count++;
	}
	if (directory)
		closedir(directory);
	qsort(nodes, count, sizeof(*nodes), compare);
	return count;
}

char *node_find(unsigned int n)
{
	struct node nodes[MOST_NODES];

	return n < list_nodes(nodes) ? strdup(nodes[n].path) : NULL;
}

char *node_resolve(const char *name)
{
	struct node nodes[MOST_NODES];
	unsigned int count = list_nodes(nodes);

	for (unsigned int i = 0; i < count; i++)
		if (!strcmp(name, nodes[i].path) || !strcmp(name, nodes[i].address))
			return strdup(nodes[i].path);
	return NULL;
}
