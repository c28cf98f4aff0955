// SPDX-License-Identifier: GPL-2.0
/*
 * Process 1 of a testbed guest: from the kernel's first instruction in user space to a listening sshd.
 *
 * A program rather than a script, since each fork and exec costs milliseconds under emulation. What the host
 * is told, and when, is in docs/provisioning.md. Whatever goes wrong here ends in a power-off with the reason
 * on the console: a guest that cannot be reached is of no use to anybody.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <net/route.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "init.h"

#define FW_CFG		"/sys/firmware/qemu_fw_cfg/by_name/opt/org.testbed/"
#define HOST_KEY	"/run/testbed/host_key"
#define MODULE_LIST	"/etc/testbed/modules"
#define ADDRESS		"10.0.2.15"	/* what QEMU's user network expects without DHCP */
#define NETMASK		"255.255.255.0"
#define GATEWAY		"10.0.2.2"
#define RECORD_MAX	8192		/* of /dev/kmsg: CONSOLE_EXT_LOG_MAX */

void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "testbed-init: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void mount_one(const char *type, const char *target, const char *options)
{
	mkdir(target, 0755);
	if (mount(type, target, type, 0, options))
		die("mount %s", target);
}

static void mount_all(void)
{
	mount_one("proc", "/proc", NULL);
	mount_one("sysfs", "/sys", NULL);
	mount_one("devtmpfs", "/dev", "mode=0755");
	mount_one("devpts", "/dev/pts", "mode=0620,ptmxmode=0666");
	mount_one("tmpfs", "/dev/shm", "mode=1777");
	mount_one("tmpfs", "/run", "mode=0755");
	mount_one("tmpfs", "/tmp", "mode=1777");
	/* Kernels can be built without these two. */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
	mkdir("/run/testbed", 0755);
	mkdir(PORTS, 0755);
	if (symlink("/proc/self/fd", "/dev/fd") || symlink("/proc/self/mounts", "/etc/mtab"))
		die("symlink");
}

static void load_modules(void)
{
	FILE *list = fopen(MODULE_LIST, "re");
	char path[256];

	if (!list)
		die("open %s", MODULE_LIST);
	while (fgets(path, sizeof(path), list)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			die("load %s", path);
		close(fd);
		/* It is in the kernel now; the RAM disk need not hold it too. */
		unlink(path);
	}
	fclose(list);
}

static void copy_file(const char *from, const char *to, mode_t mode)
{
	char data[4096];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	ssize_t count;

	if (in < 0)
		die("open %s", from);
	if (out < 0)
		die("open %s", to);
	while ((count = read(in, data, sizeof(data))) > 0)
		if (write(out, data, count) != count)
			die("write %s", to);
	if (count < 0)
		die("read %s", from);
	close(in);
	close(out);
}

static void install_identity(void)
{
	copy_file(FW_CFG "nonce/raw", NONCE, 0644);
	copy_file(FW_CFG "host_key/raw", HOST_KEY, 0600);
	copy_file(FW_CFG "authorized_key/raw", AUTHORIZED_KEY, 0600);
}

static struct sockaddr_in internet(const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	inet_pton(AF_INET, text, &address.sin_addr);
	return address;
}

static void set_address(int fd, struct ifreq *request, unsigned long call, const char *text)
{
	struct sockaddr_in address = internet(text);

	memcpy(&request->ifr_addr, &address, sizeof(address));
	if (ioctl(fd, call, request))
		die("%s: address %s", request->ifr_name, text);
}

static void raise_interface(int fd, const char *name, const char *address, const char *netmask)
{
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	set_address(fd, &request, SIOCSIFADDR, address);
	set_address(fd, &request, SIOCSIFNETMASK, netmask);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		die("%s: flags", name);
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		die("%s: up", name);
}

static void start_network(void)
{
	struct sockaddr_in gateway = internet(GATEWAY), everywhere = internet("0.0.0.0");
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	raise_interface(fd, "lo", "127.0.0.1", "255.0.0.0");
	raise_interface(fd, INTERFACE, ADDRESS, NETMASK);
	memcpy(&route.rt_gateway, &gateway, sizeof(gateway));
	memcpy(&route.rt_dst, &everywhere, sizeof(everywhere));
	memcpy(&route.rt_genmask, &everywhere, sizeof(everywhere));
	if (ioctl(fd, SIOCADDRT, &route))
		die("default route");
	close(fd);
}

/* Make /dev/virtio-ports/NAME for all ports that are there, as udev would. */
static void link_ports(void)
{
	DIR *directory = opendir("/sys/class/virtio-ports");
	struct dirent *item;

	while (directory && (item = readdir(directory))) {
		char path[512], name[128] = "", link[256];
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", item->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(name, sizeof(name), file)) {
			name[strcspn(name, "\n")] = '\0';
			snprintf(path, sizeof(path), "/dev/%s", item->d_name);
			snprintf(link, sizeof(link), PORTS "%s", name);
			if (symlink(path, link) && errno != EEXIST)
				die("link %s", link);
		}
		fclose(file);
	}
	if (directory)
		closedir(directory);
}

/* Ports come by messages from the device, so perhaps after us; each one announces itself by a uevent. */
int open_port(const char *path, int flags)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	char event[RECORD_MAX];
	int fd;

	if (events < 0 || bind(events, (struct sockaddr *)&kernel, sizeof(kernel)))
		die("uevents");
	for (;;) {
		link_ports();
		fd = open(path, flags | O_CLOEXEC);
		if (fd >= 0 || errno != ENOENT)
			break;
		if (recv(events, event, sizeof(event), 0) < 0 && errno != ENOBUFS)
			die("wait for %s", path);
	}
	close(events);
	if (fd < 0)
		die("open %s", path);
	return fd;
}

/* Copy the kernel's log to the host as it is written. Runs as a child; a host without the port goes without. */
static void start_log_pump(void)
{
	char record[RECORD_MAX];
	ssize_t count;
	int in, out;

	if (fork())
		return;
	in = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	if (in < 0)
		die("open /dev/kmsg");
	out = open_port(PORTS "org.testbed.kmsg", O_WRONLY);
	for (;;) {
		count = read(in, record, sizeof(record));
		/* EPIPE: records were overwritten before we came to read them; the next read goes on behind. */
		if (count < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (count <= 0 || write(out, record, count) != count)
			_exit(1);
	}
}

/* dropbear puts itself in the background once it listens: when our child has ended, logins are possible. */
static void start_sshd(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		setsid();
		execl("/usr/sbin/dropbear", "dropbear", "-s", "-r", HOST_KEY, "-P", "/run/dropbear.pid", "-p", "22",
		      NULL);
		die("run dropbear");
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		die("dropbear ended with status %#x", status);
}

/* busybox asks process 1 by these signals: SIGUSR1 halt, SIGUSR2 poweroff, SIGTERM reboot. */
static void __attribute__((noreturn)) serve(const sigset_t *signals)
{
	int number;

	for (;;) {
		if (sigwait(signals, &number))
			continue;
		if (number == SIGCHLD) {
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			continue;
		}
		sync();
		reboot(number == SIGTERM ? RB_AUTOBOOT : RB_POWER_OFF);
	}
}

int main(void)
{
	static char *const environment[] = {
		"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux", NULL };
	sigset_t signals;

	environ = (char **)environment;
	umask(022);
	mount_all();
	if (sethostname("testbed", 7))
		die("hostname");
	load_modules();
	start_log_pump();
	install_identity();
	start_network();
	start_sshd();
	start_agent();

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	/* After the children were started: they must not inherit a mask. */
	sigprocmask(SIG_BLOCK, &signals, NULL);
	serve(&signals);
}
