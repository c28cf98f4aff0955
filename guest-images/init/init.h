/* SPDX-License-Identifier: GPL-2.0 */
/* What the two halves of process 1 share: bringing the machine up (init.c), and the host's line to it (agent.c). */
#ifndef TESTBED_INIT_H
#define TESTBED_INIT_H

#define PORTS		"/dev/virtio-ports/"
#define NONCE		"/run/testbed/nonce"
#define AUTHORIZED_KEY	"/root/.ssh/authorized_keys"
#define INTERFACE	"eth0"

/* Say what went wrong, with errno, and power off. */
void __attribute__((format(printf, 1, 2), noreturn)) die(const char *format, ...);

/* Open a port when the device has announced it. */
int open_port(const char *path, int flags);

/* Say READY and do what the host asks, in a child of process 1. */
void start_agent(void);

#endif
