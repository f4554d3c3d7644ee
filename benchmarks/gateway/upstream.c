/* A cheap engine for the gateway's benchmark: one thread, epoll, on a TCP port of loopback and on a unix socket.
 * A body with "stream":true gets as many server-sent events as its "max_tokens" says, one per tick, then one that ends
 * the choice, one with the usage if "include_usage":true was asked for, and [DONE]; behind the first event it pauses for
 * as many ticks as its "seed" says. Any other body (and none) gets a JSON answer of about 1 KB. Prints the port once it
 * listens.
 * usage: upstream SOCKET TICK_MS
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FD 16384
#define BUFFER (1 << 18)

struct connection {
  char *buffer;
  size_t have;
  int left;  /* events still to send; 0 when no stream is on */
  int pause; /* ticks of silence behind the first event */
  int begun; /* the first event is out */
  int usage; /* the usage was asked for */
};

static struct connection connections[MAX_FD];
static char answer[2048], event[512], finish[512], usage[512];
static const char stream_head[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
static const char stream_end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static void as_chunk(char *to, size_t size, const char *choices, const char *rest) {
  char body[400];
  int n = snprintf(body, sizeof body,
                   "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
                   "\"choices\":[%s]%s}\n\n",
                   choices, rest);
  snprintf(to, size, "%x\r\n%s\r\n", n, body);
}

static void prepare(void) {
  char text[700], body[1100];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  int n = snprintf(body, sizeof body,
                   "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
                   "\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":\"stop\"}],"
                   "\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":100,\"total_tokens\":400}}",
                   text);
  snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n, body);
  as_chunk(event, sizeof event, "{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}", "");
  as_chunk(finish, sizeof finish, "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}", "");
  as_chunk(usage, sizeof usage, "", ",\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":100,\"total_tokens\":400}");
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

static void tick_stream(int fd) {
  struct connection *c = &connections[fd];
  if (c->begun && c->pause > 0) { c->pause--; return; }
  c->begun = 1;
  send_all(fd, event, strlen(event));
  if (--c->left) return;
  char last[1200];
  int n = snprintf(last, sizeof last, "%s%s%s", finish, c->usage ? usage : "", stream_end);
  send_all(fd, last, (size_t)n);
}

/* The place behind `name` in the body, spaces skipped; NULL when it is not there. */
static const char *field(const char *body, size_t length, const char *name) {
  const char *at = memmem(body, length, name, strlen(name));
  if (!at) return NULL;
  at += strlen(name);
  while (*at == ' ') at++;
  return at;
}

static void answer_to(int fd, const char *body, size_t length) {
  /* The fields behind the prompt are looked for in the last part first, which spares a walk through long prompts. */
  size_t skip = length > 1024 ? length - 1024 : 0;
  const char *at = field(body + skip, length - skip, "\"stream\":");
  if (!at && skip) at = field(body, length, "\"stream\":");
  if (!at || strncmp(at, "true", 4)) return send_all(fd, answer, strlen(answer));
  const char *tokens = field(body, length, "\"max_tokens\":"), *asked = field(body, length, "\"include_usage\":"),
             *seed = field(body, length, "\"seed\":");
  connections[fd].usage = asked && !strncmp(asked, "true", 4);
  connections[fd].pause = seed ? atoi(seed) : 0;
  connections[fd].begun = 0;
  connections[fd].left = tokens && atoi(tokens) > 0 ? atoi(tokens) : 1;
  send_all(fd, stream_head, sizeof stream_head - 1);
}

/* Answers every complete request in the buffer; LiteLLM's and other clients' chunked bodies are not understood. */
static void requests(int fd) {
  struct connection *c = &connections[fd];
  for (;;) {
    c->buffer[c->have] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(c->buffer, "content-length:");
    size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
    size_t whole = (size_t)(end + 4 - c->buffer) + body;
    if (c->have < whole) return;
    answer_to(fd, end + 4, body);
    memmove(c->buffer, c->buffer + whole, c->have - whole);
    c->have -= whole;
  }
}

static void watch(int poll, int fd) {
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
}

static void accept_all(int poll, int listener) {
  for (int peer; (peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
    if (peer >= MAX_FD) { close(peer); continue; }
    int on = 1;
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections[peer].buffer = malloc(BUFFER + 1);
    watch(poll, peer);
  }
}

static int listen_unix(const char *path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  strncpy(name.sun_path, path, sizeof name.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  return bind(fd, (struct sockaddr *)&name, sizeof name) || listen(fd, 4096) ? -1 : fd;
}

static int listen_tcp(void) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof name;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(fd, (struct sockaddr *)&name, size) || listen(fd, 4096)) return -1;
  getsockname(fd, (struct sockaddr *)&name, &size);
  printf("%d\n", ntohs(name.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  int tick = atoi(argv[2]);
  prepare();
  int local = listen_unix(argv[1]), tcp = listen_tcp();
  if (local < 0 || tcp < 0) return perror("listen"), 1;
  int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec every = {.it_interval = {tick / 1000, tick % 1000 * 1000000L}, .it_value = {0, 1000000}};
  timerfd_settime(timer, 0, &every, NULL);
  int poll = epoll_create1(0);
  struct epoll_event ready[256];
  watch(poll, local);
  watch(poll, tcp);
  watch(poll, timer);
  for (;;) {
    int n = epoll_wait(poll, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (fd == local || fd == tcp) {
        accept_all(poll, fd);
      } else if (fd == timer) {
        unsigned long long ticks;
        if (read(timer, &ticks, sizeof ticks) < 0) continue;
        for (int peer = 0; peer < MAX_FD; peer++)
          if (connections[peer].left) tick_stream(peer);
      } else {
        struct connection *c = &connections[fd];
        ssize_t got = recv(fd, c->buffer + c->have, BUFFER - c->have, 0);
        if (got < 0 && errno == EAGAIN) continue;
        if (got <= 0) { drop(fd); continue; }
        c->have += (size_t)got;
        requests(fd);
      }
    }
  }
}
