/* A server of gRPC's health service that says SERVING to every call, on the port that it is given: as much of HTTP/2
   (RFC 9113) and HPACK (RFC 7541) as a prober needs. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATA, HEADERS, SETTINGS = 4, PING = 6 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

static int get(int connection, unsigned char *into, size_t length) {
  while (length) {
    ssize_t got = read(connection, into, length);
    if (got <= 0) return 0;
    into += got;
    length -= got;
  }
  return 1;
}

static void put(int connection, int type, int flags, const unsigned char *stream, const void *body, size_t length) {
  unsigned char frame[9 + 64] = {0, 0, length, type, flags};
  memcpy(frame + 5, stream, 4);
  memcpy(frame + 9, body, length);
  if (write(connection, frame, 9 + length) < 0) _exit(1);
}

static void answer(int connection, const unsigned char *stream) {
  static const char headers[] = "\x88\x0f\x10\x10" "application/grpc"; /* :status 200, content-type */
  static const char serving[] = "\0\0\0\0\2\x08\1";                    /* not compressed, 2 bytes: status = SERVING */
  static const char trailers[] = "\0\x0bgrpc-status\1" "0";
  put(connection, HEADERS, END_HEADERS, stream, headers, sizeof headers - 1);
  put(connection, DATA, 0, stream, serving, sizeof serving - 1);
  put(connection, HEADERS, END_HEADERS | END_STREAM, stream, trailers, sizeof trailers - 1);
}

static void serve(int connection) {
  static unsigned char head[24], body[1 << 16], none[4];
  if (!get(connection, head, 24)) return; /* the preface */
  put(connection, SETTINGS, 0, none, "", 0);
  while (get(connection, head, 9)) {
    size_t length = head[0] << 16 | head[1] << 8 | head[2];
    int type = head[3], flags = head[4];
    if (length > sizeof body || !get(connection, body, length)) return;
    if (type == SETTINGS && !(flags & ACK)) put(connection, SETTINGS, ACK, none, "", 0);
    if (type == PING && !(flags & ACK)) put(connection, PING, ACK, none, body, length);
    if (type == DATA && flags & END_STREAM) answer(connection, head + 5);
  }
}

int main(int count, char **words) {
  int listener = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(count > 1 ? atoi(words[1]) : 0)};
  signal(SIGCHLD, SIG_IGN);
  if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 64)) return 1;
  for (;;) {
    int connection = accept(listener, 0, 0);
    if (connection < 0 || fork()) {
      close(connection);
      continue;
    }
    serve(connection);
    return 0;
  }
}
