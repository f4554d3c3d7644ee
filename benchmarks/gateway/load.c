/* A closed-loop load generator for the gateway's benchmark, one thread, epoll.
 * Each of CONNECTIONS keeps one request going until TOTAL answers have come; a request is read from the file REQUEST.
 * An answer ends by its content-length or its last chunk. Prints "answers failures events seconds".
 * usage: load PORT CONNECTIONS TOTAL REQUEST
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 8192
#define BUFFER (1 << 18)

struct connection {
  char *buffer;
  size_t have;
  long body;     /* bytes of the answer's body still to come; -1: chunked; -2: the head is not complete */
  char tail[8];  /* the last bytes of a chunked answer */
};

static struct connection connections[MAX_FD];
static char request[1 << 20];
static size_t request_length;
static long started, answers, failures, events, total;
static int port;

static int begin(int poll) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  inet_pton(AF_INET, "127.0.0.1", &name.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || fd >= MAX_FD || connect(fd, (struct sockaddr *)&name, sizeof name)) return perror("connect"), -1;
  if (!connections[fd].buffer) connections[fd].buffer = malloc(BUFFER + 1);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
  return fd;
}

static void ask(int fd) {
  struct connection *c = &connections[fd];
  c->have = 0;
  c->body = -2;
  memset(c->tail, 0, sizeof c->tail);
  if (started >= total) return;
  started++;
  for (size_t sent = 0; sent < request_length;) {
    ssize_t n = send(fd, request + sent, request_length - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += (size_t)n;
  }
}

static void count_events(const char *data, size_t length) {
  for (const char *at = data, *end = data + length; (at = memmem(at, (size_t)(end - at), "data: {", 7)); at += 7) events++;
}

static void keep_tail(struct connection *c, const char *data, size_t length) {
  if (length >= 5) memcpy(c->tail, data + length - 5, 5);
  else { memmove(c->tail, c->tail + length, 5 - length); memcpy(c->tail + 5 - length, data, length); }
}

/* Takes in bytes; 1 when the answer is complete. */
static int take(struct connection *c, char *data, size_t length) {
  if (c->body == -2) {
    memcpy(c->buffer + c->have, data, length);
    c->have += length;
    c->buffer[c->have] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return 0;
    if (strncmp(c->buffer, "HTTP/1.1 200", 12)) failures++;
    char *size = strcasestr(c->buffer, "\r\ncontent-length:");
    data = end + 4;
    length = c->have - (size_t)(data - c->buffer);
    c->body = size && size < end ? strtol(size + 17, NULL, 10) : -1;
  }
  if (c->body >= 0) { c->body -= (long)length; return c->body <= 0; }
  count_events(data, length);
  keep_tail(c, data, length);
  return !memcmp(c->tail, "0\r\n\r\n", 5);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  port = atoi(argv[1]);
  int width = atoi(argv[2]);
  total = atol(argv[3]);
  FILE *file = fopen(argv[4], "rb");
  if (!file) return perror(argv[4]), 1;
  request_length = fread(request, 1, sizeof request, file);
  int poll = epoll_create1(0);
  struct epoll_event ready[256];
  struct timespec from, to;
  static char data[BUFFER];
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; i < width; i++) {
    int fd = begin(poll);
    if (fd < 0) return 1;
    ask(fd);
  }
  while (answers + failures < total) {
    int n = epoll_wait(poll, ready, 256, 20000);
    if (n <= 0) { fprintf(stderr, "no answer for 20 s\n"); failures += total - answers - failures; break; }
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      ssize_t got = recv(fd, data, sizeof data, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) {
        if (connections[fd].body != -2 || connections[fd].have || started < total) failures++;
        close(fd);
        int fresh = started < total ? begin(poll) : -1;
        if (fresh >= 0) ask(fresh);
        continue;
      }
      if (take(&connections[fd], data, (size_t)got)) { answers++; ask(fd); }
    }
  }
  clock_gettime(CLOCK_MONOTONIC, &to);
  double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
  printf("%ld %ld %ld %.3f\n", answers, failures, events, seconds);
  return 0;
}
