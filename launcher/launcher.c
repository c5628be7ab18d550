// SPDX-License-Identifier: Apache-2.0
/*
 * The launcher: installed as cni-vlan and cni-ipam, it hands one invocation to the agent and copies back the
 * answer. No agent: it executes the one-shot plugin of its own name from the bundle, so that the agent is never
 * a point of failure. A request that was sent whole is never run a second time.
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
#ifndef DEADLINE_S
#define DEADLINE_S 100 /* longer than any deadline inside the agent */
#endif
#define LARGEST (8u << 20) /* bytes of a request; the agent refuses more */
#define DECLINED 0x100u

extern char **environ;

struct request {
	char magic[4];
	uint32_t environment, input;
};

struct reply {
	char magic[4];
	uint32_t status, out, err;
};

static const char magic[4] = {'C', 'N', 'I', 1};

struct buffer {
	char *data;
	size_t length, room;
};

/* Print an error of the CNI spec and end. Texts are ours or strerror's: nothing in them needs escaping. */
static void __attribute__((noreturn, format(printf, 2, 3))) fail(int code, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
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
	fail(999, "no agent is running, and %s cannot be started: %s", path, strerror(errno));
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
	if (fd < 0)
		return -1;
	/* An agent that accepts nothing any more is as good as none: connect(2) too waits no longer. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The plugin's name and the CNI_* variables, each ended by a NUL. */
static void add_environment(struct buffer *message, const char *name)
{
	append(message, name, strlen(name) + 1);
	for (char **entry = environ; *entry; entry++)
		if (strncmp(*entry, "CNI_", 4) == 0)
			append(message, *entry, strlen(*entry) + 1);
}

/* Read the configuration; 0 if it cannot be read, which the plugin itself says best. */
static int read_input(struct buffer *input)
{
	char chunk[16384];
	ssize_t got;

	while ((got = read(0, chunk, sizeof(chunk))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return 0;
		append(input, chunk, (size_t)got);
		if (input->length > LARGEST)
			fail(6, "the network configuration is larger than %u bytes", LARGEST);
	}
	return 1;
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
			rights->cmsg_level = SOL_SOCKET;
			rights->cmsg_type = SCM_RIGHTS;
			rights->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(rights), &sandbox, sizeof(int));
		}
		put = sendmsg(agent, &header, MSG_NOSIGNAL);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return 0;
		sent += (size_t)put;
	}
	return 1;
}

static long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/* Receive so many bytes by a moment, or fail with "try again later": what the agent did is unknown. */
static void receive(int agent, void *target, size_t length, long until)
{
	size_t got = 0;

	while (got < length) {
		struct pollfd ready = {.fd = agent, .events = POLLIN};
		long left = until - milliseconds();
		ssize_t part;

		if (left <= 0 || poll(&ready, 1, (int)left) == 0)
			fail(11, "cni-agent did not answer in %d s", DEADLINE_S);
		part = recv(agent, (char *)target + got, length - got, 0);
		if (part < 0 && errno == EINTR)
			continue;
		if (part <= 0)
			fail(11, "cni-agent went away before it answered");
		got += (size_t)part;
	}
}

static void copy_out(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t put = write(fd, data, length);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return;
		data += put;
		length -= (size_t)put;
	}
}

/* Pass the answer on; return the exit status, -1 if the agent declined. */
static int pass_answer(int agent)
{
	long until = milliseconds() + DEADLINE_S * 1000L;
	struct reply reply;
	size_t length;
	char *text;

	receive(agent, &reply, sizeof(reply), until);
	if (memcmp(reply.magic, magic, sizeof(magic)) != 0)
		fail(11, "what listens on the socket of cni-agent is something else, or of another version");
	if (reply.status == DECLINED)
		return -1;
	length = (size_t)reply.out + reply.err;
	text = malloc(length + 1);
	if (!text || reply.status > 255)
		fail(11, "cni-agent gave an answer that makes no sense");
	receive(agent, text, length, until);
	copy_out(1, text, reply.out);
	copy_out(2, text + reply.out, reply.err);
	return (int)reply.status;
}

int main(int argc, char **argv)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "cni-vlan";
	struct buffer input = {0}, message = {0};
	struct request request = {0};
	const char *path = getenv("CNI_NETNS");
	int agent, sandbox = -1, status;

	if (strcmp(name, "host-local") == 0) /* a drop-in for it, by a link */
		name = "cni-ipam";
	if (!getenv("CNI_COMMAND"))
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
	if (!send_request(agent, sandbox, &message))
		run_bundle(argv, name, &input);
	status = pass_answer(agent);
	if (status < 0)
		run_bundle(argv, name, &input);
	return status;
}
