/* SPDX-License-Identifier: GPL-2.0 */
/* The render nodes of driver tbgpu, in the order of their PCI addresses. */
#ifndef NODE_H
#define NODE_H

/* Path of the n-th node, NULL if there is none. The caller frees it. */
char *node_find(unsigned int n);
/*
 * Path for what a user wrote, "/dev/dri/renderD128" or "0000:01:00.0"; NULL if it is no node of
 * tbgpu. The caller frees it.
 */
char *node_resolve(const char *name);

#endif
