/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ANNOUNCE_H
#define ANNOUNCE_H

/*
 * Tells the outside that a tool has reached a point, so that a fault or an unplug can be timed to
 * it: a diagnostic, and the same text in the kernel log, where a scenario's "wait: {kmsg: ...}"
 * sees it.
 */
void announce(const char *text);

#endif
