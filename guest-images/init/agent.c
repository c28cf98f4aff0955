// SPDX-License-Identifier: GPL-2.0
/*
 * The host's line to a guest: the virtio-serial port org.testbed.ready, one word and its value to a line.
 *
 * A guest whose RAM is about to be saved is told "prepare BASE". A guest that was restored from such a file wakes
 * in the read() in which it was saved, with the identity of the machine that booted; it is told its own and
 * then "clone ID", and answers by its new nonce. Files come this way too. docs/snapshots.md has the table. The
 * agent sleeps in read() else: it costs a guest nothing.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define CLONE		"/run/testbed/clone"
#define BOOT_ID		"/proc/sys/kernel/random/boot_id"
#define WORD_MAX	1024
#define ENTROPY_MAX	256
#define OWN_PROCESSES	4	/* process 1, log pump, this one, sshd */
#define SETTLE_MS	3000
#define CLEAR_MAX	(128UL << 20)

static char base_id[64];

static void store(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("write %s", path);
	close(fd);
}

static void load(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count = fd < 0 ? -1 : read(fd, text, size - 1);

	if (count < 0)
		die("read %s", path);
	text[count] = '\0';
	text[strcspn(text, "\n")] = '\0';
	close(fd);
}

static void __attribute__((noreturn)) refuse(const char *what)
{
	errno = EINVAL;
	die("the host's word '%s'", what);
}

static size_t decode_hex(const char *text, unsigned char *bytes, size_t size)
{
	size_t count = 0;

	for (; isxdigit(text[0]) && isxdigit(text[1]) && count < size; text += 2) {
		char digits[3] = { text[0], text[1], '\0' };

		bytes[count++] = strtoul(digits, NULL, 16);
	}
	return *text ? 0 : count;
}

/* Two clones begin with the same generator; from here on they differ (drivers/char/random.c). */
static void add_entropy(const char *text)
{
	union {
		struct rand_pool_info pool;
		unsigned char room[sizeof(struct rand_pool_info) + ENTROPY_MAX];
	} request;
	int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	request.pool.buf_size = decode_hex(text, (unsigned char *)request.pool.buf, ENTROPY_MAX);
	request.pool.entropy_count = request.pool.buf_size * 8;
	if (request.pool.buf_size == 0)
		refuse("entropy");
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &request.pool) || ioctl(fd, RNDRESEEDCRNG))
		die("add entropy");
	close(fd);
}

static void set_clock(const char *text)
{
	struct timespec now = { 0 };
	long long seconds;

	if (sscanf(text, "%lld.%9ld", &seconds, &now.tv_nsec) != 2)
		refuse("time");
	now.tv_sec = seconds;
	if (clock_settime(CLOCK_REALTIME, &now))
		die("set the clock");
}

static void set_mac(const char *text)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), INTERFACE);
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	if (decode_hex(text, (unsigned char *)request.ifr_hwaddr.sa_data, 6) != 6)
		refuse("mac");
	if (fd < 0 || ioctl(fd, SIOCSIFHWADDR, &request))
		die("set the address of " INTERFACE);
	close(fd);
}

static void note_in_log(const char *clone)
{
	char text[256];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	int length = snprintf(text, sizeof(text), "<6>testbed: clone %s of base %s\n", clone, base_id);

	if (fd < 0 || write(fd, text, length) != length)
		die("write /dev/kmsg");
	close(fd);
}

static void be_clone(int port, const char *clone)
{
	char nonce[64], boot_id[64], text[512];
	struct utsname name;
	int length;

	snprintf(text, sizeof(text), "base %s\nclone %s\n", base_id, clone);
	store(CLONE, text, 0644);
	note_in_log(clone);
	load(NONCE, nonce, sizeof(nonce));
	load(BOOT_ID, boot_id, sizeof(boot_id));
	uname(&name);
	length = snprintf(text, sizeof(text), "READY %s base %s boot %s kernel %s\n", nonce, base_id, boot_id,
			  name.release);
	if (write(port, text, length) != length)
		die("say READY");
}

/* Processes of user space: those whose /proc/PID/exe leads somewhere. */
static int count_processes(void)
{
	DIR *directory = opendir("/proc");
	struct dirent *item;
	int count = 0;

	while (directory && (item = readdir(directory))) {
		char path[300], target[256];

		if (!isdigit(item->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/exe", item->d_name);
		count += readlink(path, target, sizeof(target)) > 0;
	}
	if (directory)
		closedir(directory);
	return count;
}

/*
 * The kernel hands out zeroed pages, and pages of zeroes take no room in the file. What a boot used and freed lies
 * in small pieces, which are handed out first as long as no huge pages are wanted; it is not more in a larger guest.
 */
static void clear_free_memory(void)
{
	struct sysinfo memory;
	size_t size;
	void *hog;

	store("/proc/sys/vm/drop_caches", "3", 0);
	if (sysinfo(&memory))
		return;
	size = (size_t)memory.freeram * memory.mem_unit / 2;
	if (size > CLEAR_MAX)
		size = CLEAR_MAX;
	hog = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hog == MAP_FAILED)
		return;
	madvise(hog, size, MADV_NOHUGEPAGE);
	madvise(hog, size, MADV_POPULATE_WRITE);
	munmap(hog, size);
}

static void prepare(int port, const char *base)
{
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	char text[128];
	int length;

	/* What the host ran here over SSH must not be found in each clone. */
	for (int waited = 0; count_processes() > OWN_PROCESSES; waited += 10) {
		if (waited >= SETTLE_MS) {
			errno = EBUSY;
			die("processes beside our own");
		}
		nanosleep(&tick, NULL);
	}
	snprintf(base_id, sizeof(base_id), "%s", base);
	clear_free_memory();
	length = snprintf(text, sizeof(text), "PREPARED %s\n", base_id);
	if (write(port, text, length) != length)
		die("say PREPARED");
}

static void make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			die("make %s", path);
		*slash = '/';
	}
}

/* "MODE SIZE PATH", then the content: SSH would take ten times as long under emulation to bring it. */
static void take_file(FILE *words, const char *value)
{
	char path[512], data[4096];
	unsigned int mode;
	size_t left;
	int fd;

	if (sscanf(value, "%o %zu %511[^\n]", &mode, &left, path) != 3 || path[0] != '/')
		refuse("file");
	make_folders(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		die("write %s", path);
	while (left > 0) {
		size_t count = fread(data, 1, left < sizeof(data) ? left : sizeof(data), words);

		if (count == 0 || write(fd, data, count) != (ssize_t)count)
			die("write %s", path);
		left -= count;
	}
	close(fd);
}

static void say_done(int port, const char *what)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "DONE %s\n", what);

	if (write(port, text, length) != length)
		die("say DONE");
}

static void obey(int port, FILE *words, const char *word, const char *value)
{
	if (!strcmp(word, "file"))
		take_file(words, value);
	else if (!strcmp(word, "done"))
		say_done(port, value);
	else if (!strcmp(word, "prepare"))
		prepare(port, value);
	else if (!strcmp(word, "nonce"))
		store(NONCE, value, 0644);
	else if (!strcmp(word, "authorized_key"))
		store(AUTHORIZED_KEY, value, 0600);
	else if (!strcmp(word, "entropy"))
		add_entropy(value);
	else if (!strcmp(word, "time"))
		set_clock(value);
	else if (!strcmp(word, "mac"))
		set_mac(value);
	else if (!strcmp(word, "clone"))
		be_clone(port, value);
	else
		refuse(word);
}

static void say_ready(int port)
{
	char nonce[64], line[128];
	int length;

	load(NONCE, nonce, sizeof(nonce));
	length = snprintf(line, sizeof(line), "READY %s\n", nonce);
	if (write(port, line, length) != length)
		die("say READY");
}

void start_agent(void)
{
	char line[WORD_MAX];
	FILE *words;
	int port;

	if (fork())
		return;
	port = open_port(PORTS "org.testbed.ready", O_RDWR);
	words = fdopen(port, "r");
	if (!words)
		die("read the port");
	say_ready(port);
	while (fgets(line, sizeof(line), words)) {
		char *value = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		if (!value)
			refuse(line);
		*value++ = '\0';
		obey(port, words, line, value);
	}
	/* The host hung up: there is nobody left to obey. */
	_exit(0);
}
