// SPDX-License-Identifier: Apache-2.0
/*
 * The launcher: installed as cni-vlan and cni-ipam, it hands one invocation to the agent and copies back the
 * answer. Until the agent says that it has begun, the launcher may execute the one-shot plugin of its own name
 * from the bundle, so that the agent is never a point of failure. After that nothing is run a second time.
 *
 * cni_agent/protocol.py describes the messages. Static and without dependencies: it starts in half a
 * millisecond, on any host.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET "/run/cni-vlan/agent.sock"
#define BUNDLE "/opt/cni-vlan/current"
#define BOOT "/run/cni-vlan/boot"
#ifndef DEADLINE_S
#define DEADLINE_S 100 /* longer than any deadline inside the agent */
#endif
#define BEGIN_S (DEADLINE_S < 30 ? DEADLINE_S : 30) /* longer than the agent needs to begin or decline */
#define LARGEST (8u << 20) /* bytes of a request; the agent refuses twice that */
#define BEGUN 0x101u

extern char **environ;

struct request {
	char magic[4];
	uint32_t environment, input;
};

struct reply {
	char magic[4];
	uint32_t status, out, err;
};

static const char magic[4] = {'C', 'N', 'I', 2};

struct buffer {
	char *data;
	size_t length, room;
};

/* Print an error of the CNI spec and end. A path may hold what JSON does not take as it is. */
static void __attribute__((noreturn, format(printf, 2, 3))) fail(int code, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	for (char *at = text; *at; at++)
		if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ' || (unsigned char)*at > '~')
			*at = '?';
	printf("{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": %d,\n    \"msg\": \"%s\"\n}\n", code, text);
	fflush(stdout);
	_exit(1);
}

static void append(struct buffer *buffer, const void *data, size_t length)
{
	if (buffer->length + length > buffer->room) {
		buffer->room = (buffer->length + length) * 2 + 4096;
		buffer->data = realloc(buffer->data, buffer->room);
		if (!buffer->data)
			fail(5, "cni-vlan launcher: out of memory");
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
}

static const char *setting(const char *name, const char *otherwise)
{
	const char *value = secure_getenv(name);
	return value && *value ? value : otherwise;
}

/* Execute the one-shot plugin. What was read of stdin is given back to it. */
static void __attribute__((noreturn)) run_bundle(char **argv, const char *name, const struct buffer *input)
{
	char path[4096];

	if (input) {
		int fd = memfd_create("stdin", 0);

		if (fd < 0 || write(fd, input->data, input->length) != (ssize_t)input->length ||
		    lseek(fd, 0, SEEK_SET) < 0 || dup2(fd, 0) < 0)
			fail(5, "pass the configuration on: %s", strerror(errno));
	}
	snprintf(path, sizeof(path), "%s/%s", setting("CNI_VLAN_BUNDLE", BUNDLE), name);
	if (argv[0])
		argv[0] = path;
	execve(path, argv, environ);
	fail(5, "no agent is running, and %s cannot be started: %s", path, strerror(errno));
}

/* Return a connection to the agent, -1 if none listens. */
static int reach_agent(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval wait = {.tv_sec = 5};
	const char *path = setting("CNI_VLAN_SOCKET", SOCKET);
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* An agent that accepts nothing any more is as good as none: connect(2) too waits no longer. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The plugin's name and the CNI_* variables, each ended by a NUL; and which boot this is: what was agreed on by
 * all who share this host's /run, else the kernel's word. An agent in a container may see another. */
static void add_environment(struct buffer *message, const char *name)
{
	static const char *const places[] = {BOOT, "/proc/sys/kernel/random/boot_id"};
	char boot[64] = "CNI_VLAN_BOOT=";
	const size_t start = strlen(boot), length = 36; /* of a UUID */

	append(message, name, strlen(name) + 1);
	for (char **entry = environ; *entry; entry++)
		if (strncmp(*entry, "CNI_", 4) == 0 && strncmp(*entry, boot, start) != 0)
			append(message, *entry, strlen(*entry) + 1);
	for (ssize_t at = 0, got = 0; at < 2 && got != (ssize_t)length; at++) {
		int fd = open(places[at], O_RDONLY | O_CLOEXEC);

		got = fd < 0 ? -1 : read(fd, boot + start, length);
		close(fd);
		if (got == (ssize_t)length)
			append(message, boot, start + length + 1);
	}
}

/* Read the configuration; 0 if it cannot be read, which the plugin itself says best. */
static int read_input(struct buffer *input)
{
	char chunk[16384];
	ssize_t got;

	while ((got = read(0, chunk, sizeof(chunk))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0)
			append(input, chunk, (size_t)got);
	return got == 0;
}

/* Send the request, the sandbox with its first byte; 0 if it did not go out whole, so that nobody runs it. */
static int send_request(int agent, int sandbox, const struct buffer *message)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	size_t sent = 0;

	while (sent < message->length) {
		struct iovec part = {message->data + sent, message->length - sent};
		struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
		ssize_t put;

		if (sent == 0 && sandbox >= 0) {
			struct cmsghdr *rights;

			header.msg_control = control;
			header.msg_controllen = sizeof(control);
			rights = CMSG_FIRSTHDR(&header);
			rights->cmsg_level = SOL_SOCKET, rights->cmsg_type = SCM_RIGHTS;
			rights->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(rights), &sandbox, sizeof(int));
		}
		put = sendmsg(agent, &header, MSG_NOSIGNAL);
		if (put == 0 || (put < 0 && errno != EINTR))
			return 0;
		sent += put < 0 ? 0 : (size_t)put;
	}
	return 1;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/* Receive so many bytes by a moment; return why not, NULL if they are there. */
static const char *receive(int agent, void *target, size_t length, long until)
{
	for (size_t got = 0; got < length;) {
		struct pollfd ready = {.fd = agent, .events = POLLIN};
		long left = until - milliseconds();
		ssize_t part;

		if (left <= 0 || poll(&ready, 1, (int)left) == 0)
			return "did not answer in time";
		part = recv(agent, (char *)target + got, length - got, 0);
		if (part == 0 || (part < 0 && errno != EINTR))
			return "closed the connection before it answered";
		got += part < 0 ? 0 : (size_t)part;
	}
	return NULL;
}

/* Wait until the agent says that it has begun; 0 if it has not, and never will. */
static int has_begun(int agent)
{
	struct reply reply = {0};
	const char *failure = receive(agent, &reply, sizeof(reply), milliseconds() + BEGIN_S * 1000L);

	if (failure) {
		/* From now on its send fails (unix(7)), so it does not begin. What it has said already is here. */
		shutdown(agent, SHUT_RD);
		if (recv(agent, &reply, sizeof(reply), MSG_DONTWAIT) == sizeof(reply) && reply.status == BEGUN)
			fail(11, "cni-agent %s", failure);
		return 0;
	}
	return memcmp(reply.magic, magic, sizeof(magic)) == 0 && reply.status == BEGUN;
}

static int copy_out(int fd, const char *data, size_t length)
{
	for (ssize_t put; length; data += put, length -= (size_t)put)
		while ((put = write(fd, data, length)) <= 0)
			if (put == 0 || errno != EINTR)
				return 0;
	return 1;
}

/* Pass the answer on; return the exit status. */
static int pass_answer(int agent)
{
	char *text = NULL;
	struct reply reply;
	const long until = milliseconds() + DEADLINE_S * 1000L;
	const char *failure = receive(agent, &reply, sizeof(reply), until);

	if (!failure && (reply.status > 255 || memcmp(reply.magic, magic, sizeof(magic)) != 0))
		failure = "sent an invalid answer";
	if (!failure && !(text = malloc((size_t)reply.out + reply.err + 1)))
		failure = "sent an answer too large for memory";
	if (!failure)
		failure = receive(agent, text, (size_t)reply.out + reply.err, until);
	if (failure)
		fail(11, "cni-agent %s", failure);
	copy_out(2, text + reply.out, reply.err);
	if (!copy_out(1, text, reply.out))
		return 1; /* an ADD is undone, for nobody knows of it */
	send(agent, "", 1, MSG_NOSIGNAL);
	return (int)reply.status;
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "cni-vlan";
	struct buffer input = {0}, message = {0};
	struct request request = {0};
	const char *path = getenv("CNI_NETNS"), *command = getenv("CNI_COMMAND");
	int agent, sandbox = -1, fd;

	if (command && strcmp(command, "ADD") == 0 && fcntl(1, F_GETFD) < 0)
		return 1; /* nobody would learn what was attached */
	do /* a standard descriptor that is closed would become the agent's socket */
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	close(fd);
	if (strcmp(name, "host-local") == 0) /* a drop-in for it, by a link */
		name = "cni-ipam";
	if (!command || !*command)
		run_bundle(argv, name, NULL);
	agent = reach_agent();
	if (agent < 0 || !read_input(&input))
		run_bundle(argv, name, NULL);
	if (path && *path)
		sandbox = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	append(&message, &request, sizeof(request));
	add_environment(&message, name);
	memcpy(request.magic, magic, sizeof(magic));
	request.environment = (uint32_t)(message.length - sizeof(request));
	request.input = (uint32_t)input.length;
	memcpy(message.data, &request, sizeof(request));
	append(&message, input.data, input.length);
	if (input.length > LARGEST || !send_request(agent, sandbox, &message) || !has_begun(agent))
		run_bundle(argv, name, &input);
	return pass_answer(agent);
}
