/* A cheap upstream for the gateway's benchmark: answers on a unix socket, one thread, epoll.
 * A body with "stream":true gets EVENTS server-sent events, one per tick; any other a JSON answer of about 1 KB.
 * usage: upstream SOCKET EVENTS TICK_MS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FD 8192
#define BUFFER (1 << 18)

struct connection {
  char *buffer;
  size_t have;
  int left;  /* events still to send; 0 when no stream is on */
};

static struct connection connections[MAX_FD];
static char answer[2048], event[512];
static size_t answer_length, event_length;
static const char stream_head[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
static const char stream_end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static void prepare(void) {
  char text[700], body[1100];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  int n = snprintf(body, sizeof body,
                   "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
                   "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":\"stop\"}],"
                   "\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":100,\"total_tokens\":400}}",
                   text);
  answer_length = (size_t)snprintf(answer, sizeof answer,
                                   "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
  n = snprintf(body, sizeof body,
               "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
               "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n");
  event_length = (size_t)snprintf(event, sizeof event, "%x\r\n%s\r\n", n, body);
}

static void drop(int fd) {
  free(connections[fd].buffer);
  memset(&connections[fd], 0, sizeof connections[fd]);
  close(fd);
}

static void send_all(int fd, const char *data, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) continue;
    if (sent <= 0) return;
    data += sent;
    length -= (size_t)sent;
  }
}

/* Answers every complete request in the buffer. */
static void requests(int fd, int events) {
  struct connection *c = &connections[fd];
  for (;;) {
    c->buffer[c->have] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->buffer, "content-length:");
    size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
    size_t whole = (size_t)(end + 4 - c->buffer) + body;
    if (c->have < whole) return;
    if (memmem(end, whole - (size_t)(end - c->buffer), "\"stream\":true", 13)) {
      send_all(fd, stream_head, sizeof stream_head - 1);
      c->left = events;
    } else {
      send_all(fd, answer, answer_length);
    }
    memmove(c->buffer, c->buffer + whole, c->have - whole);
    c->have -= whole;
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int events = atoi(argv[2]), tick = atoi(argv[3]);
  prepare();
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 4096)) return perror("listen"), 1;
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec every = {.it_interval = {tick / 1000, tick % 1000 * 1000000L}, .it_value = {0, 1000000}};
  timerfd_settime(timer, 0, &every, NULL);
  int poll = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, ready[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e);
  e.data.fd = timer;
  epoll_ctl(poll, EPOLL_CTL_ADD, timer, &e);
  for (;;) {
    int n = epoll_wait(poll, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        for (int peer; (peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
          if (peer >= MAX_FD) { close(peer); continue; }
          connections[peer].buffer = malloc(BUFFER + 1);
          e.data.fd = peer;
          epoll_ctl(poll, EPOLL_CTL_ADD, peer, &e);
        }
      } else if (fd == timer) {
        unsigned long long ticks;
        if (read(timer, &ticks, sizeof ticks) < 0) continue;
        for (int peer = 0; peer < MAX_FD; peer++) {
          if (!connections[peer].left) continue;
          send_all(peer, event, event_length);
          if (--connections[peer].left == 0) send_all(peer, stream_end, sizeof stream_end - 1);
        }
      } else {
        struct connection *c = &connections[fd];
        ssize_t got = recv(fd, c->buffer + c->have, BUFFER - c->have, 0);
        if (got <= 0) { drop(fd); continue; }
        c->have += (size_t)got;
        requests(fd, events);
      }
    }
  }
}
