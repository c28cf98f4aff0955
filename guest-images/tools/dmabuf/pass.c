// SPDX-License-Identifier: GPL-2.0
/* pass: a child process exports a buffer, sends it and is gone before it is received. */
#include <drm/drm.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buffer.h"
#include "commands.h"
#include "errname.h"
#include "job.h"
#include "ktap.h"
#include "pattern.h"
#include "scope.h"

#define SIZE (128 * 1024ull)
#define WORD 0x9a55ed00u

union control {
	char space[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static int send_descriptor(int socket, int fd)
{
	char byte = 0;
	struct iovec data = { &byte, 1 };
	union control control = { 0 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

static int receive_descriptor(int socket)
{
	char byte;
	struct iovec data = { &byte, 1 };
	union control control;
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *header;
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
		ktap_stop("the exporting process sent nothing: %s", errname(errno));
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS)
		ktap_stop("the message holds no descriptor");
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return scope_fd(fd);
}

/* The child: its own GPU file, a buffer filled by the GPU, sent as a dma-buf. A failure is printed
 * as a diagnostic of the parent's result, and told by the exit status. */
static void export_and_send(void *arg, int socket)
{
	struct gpu *gpu = gpu_open();
	struct bo *bo = bo_create(gpu, *(const __u32 *)arg, SIZE);
	int error;

	fill_buffer(bo, SIZE, WORD);
	error = send_descriptor(socket, bo_export(bo, DRM_CLOEXEC | DRM_RDWR));
	if (error)
		ktap_fail("sendmsg: %s", errname(error));
	fflush(stdout);
	_exit(ktap_failed());
}

static void check_pass(void *arg)
{
	int sockets[2], status, dmabuf;
	struct gpu *gpu;
	struct bo *bo;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		ktap_stop("socketpair: %s", errname(errno));
	scope_fd(sockets[0]);
	scope_fd(sockets[1]);
	child = fork();
	if (child < 0)
		ktap_stop("fork: %s", errname(errno));
	if (!child)
		export_and_send(arg, sockets[1]);
	scope_close(sockets[1]);
	if (waitpid(child, &status, 0) != child || status)
		ktap_stop("the exporting process failed");

	dmabuf = receive_descriptor(sockets[0]);
	if (first_not_word(map_dmabuf(dmabuf, SIZE), SIZE, WORD) < SIZE)
		ktap_fail("the content is lost with the process");
	gpu = gpu_open();
	bo = bo_import(gpu, dmabuf);
	fill_buffer(bo, SIZE, ~WORD);
	if (first_not_word(map_dmabuf(dmabuf, SIZE), SIZE, ~WORD) < SIZE)
		ktap_fail("the GPU does not write the received buffer");
}

int run_pass(void)
{
	gpu_require();
	ktap_plan(2);
	run_in_domains("passed by a process that has ended: a dma-buf", check_pass);
	return ktap_status();
}
