/* The load generator of the gateway's benchmark, one thread, epoll. Every answer is checked: its status, its framing to
 * the last byte, its length (if BYTES is not 0), its text; of a stream the number of its events and one [DONE].
 *
 * load closed PORT CONNECTIONS TOTAL REQUEST BYTES EVENTS
 *   each connection keeps one request going until TOTAL answers have come.
 *   Prints "answers failures events seconds cpu_seconds".
 * load paced PORT OTHER CONNECTIONS TOTAL REQUEST BYTES INTERVAL_US
 *   TOTAL requests to each of two ports in turn, one every INTERVAL_US, over kept connections (CONNECTIONS to each).
 *   Prints "answers failures p50 p99 other_p50 other_p99", times in microseconds from the send to the last byte.
 * The first failures are told on stderr.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 16384
#define BUFFER (1 << 18)
#define HEAD (1 << 14)
#define TEXT 699 /* bytes 'x' in the upstream's answer */

enum state { IN_HEAD, IN_LENGTH, IN_SIZE, IN_CHUNK, IN_CHUNK_END, IN_TRAILER, COMPLETE, BROKEN };

struct needle { const char *text; int at; long found; };

struct connection {
  enum state state;
  int busy, target;
  size_t have; /* bytes of the head, of a size line, of a trailer line */
  long left;   /* bytes of the body or of the chunk still to come */
  long body, text;
  struct needle event, done;
  double sent_at;
  char head[HEAD];
};

static struct connection *connections[MAX_FD];
static char request[1 << 20];
static size_t request_length;
static long started, answers, failures, events, total, bytes, stream_events;
static int ports[2], poller, told;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *why, const struct connection *c) {
  failures++;
  if (told++ < 3) fprintf(stderr, "failed: %s; %.*s; %ld bytes, %ld events\n", why, 12, c ? c->head : "", c ? c->body : 0, c ? c->event.found : 0);
}

static int begin(int target) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((unsigned short)ports[target])};
  inet_pton(AF_INET, "127.0.0.1", &name.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  if (fd < 0 || fd >= MAX_FD || connect(fd, (struct sockaddr *)&name, sizeof name)) { perror("connect"); exit(1); }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (!connections[fd]) connections[fd] = malloc(sizeof(struct connection));
  memset(connections[fd], 0, sizeof(struct connection));
  connections[fd]->target = target;
  struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
  return fd;
}

static void ask(int fd) {
  struct connection *c = connections[fd];
  int target = c->target;
  c->state = IN_HEAD;
  c->have = 0;
  c->body = c->text = c->left = 0;
  c->event = (struct needle){"\" token\"", 0, 0};
  c->done = (struct needle){"[DONE]", 0, 0};
  c->target = target;
  c->busy = 1;
  c->sent_at = now();
  for (size_t sent = 0; sent < request_length;) {
    ssize_t n = send(fd, request + sent, request_length - sent, MSG_NOSIGNAL);
    if (n <= 0) return; /* the end of the connection follows, and counts as a failure */
    sent += (size_t)n;
  }
}

/* Neither needle begins with anything that it also has inside, so that one step back is enough. */
static void look(struct needle *n, const char *data, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (data[i] == n->text[n->at]) { if (!n->text[++n->at]) { n->found++; n->at = 0; } }
    else n->at = data[i] == n->text[0];
  }
}

static void payload(struct connection *c, const char *data, size_t length) {
  c->body += (long)length;
  if (stream_events) { look(&c->event, data, length); look(&c->done, data, length); }
  else for (size_t i = 0; i < length; i++) c->text += data[i] == 'x';
}

static enum state head_read(struct connection *c) {
  char *size = strcasestr(c->head, "\r\ncontent-length:"), *chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked");
  if (size) c->left = strtol(size + 17, NULL, 10);
  return size ? (c->left ? IN_LENGTH : COMPLETE) : chunked ? IN_SIZE : BROKEN;
}

/* Takes one byte of a head or of a line of the chunked framing. */
static enum state framing(struct connection *c, char byte) {
  if (c->state == IN_HEAD) {
    if (c->have >= HEAD - 1) return BROKEN;
    c->head[c->have++] = byte;
    if (c->have < 4 || memcmp(c->head + c->have - 4, "\r\n\r\n", 4)) return IN_HEAD;
    c->head[c->have] = 0;
    c->have = 0;
    return head_read(c);
  }
  if (byte == '\n') {
    long line = (long)c->have;
    c->have = 0;
    if (c->state == IN_CHUNK_END) return IN_SIZE;
    if (c->state == IN_TRAILER) return line ? IN_TRAILER : COMPLETE;
    return c->left ? IN_CHUNK : IN_TRAILER;
  }
  if (byte == '\r') return c->state;
  if (c->state == IN_CHUNK_END) return BROKEN;
  if (c->state == IN_SIZE) {
    int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
    if (digit < 0) return BROKEN;
    c->left = (c->have ? c->left : 0) * 16 + digit;
  }
  c->have++;
  return c->state;
}

/* Takes in bytes until the answer is complete or broken; bytes behind its end break it. */
static void take(struct connection *c, const char *data, size_t length) {
  while (length && c->state < COMPLETE) {
    if (c->state == IN_LENGTH || c->state == IN_CHUNK) {
      size_t part = (long)length < c->left ? length : (size_t)c->left;
      payload(c, data, part);
      data += part;
      length -= part;
      c->left -= (long)part;
      if (!c->left) c->state = c->state == IN_LENGTH ? COMPLETE : IN_CHUNK_END;
    } else {
      c->state = framing(c, *data++);
      length--;
    }
  }
  if (length && c->state == COMPLETE) c->state = BROKEN;
}

static void check(struct connection *c) {
  events += c->event.found;
  if (strncmp(c->head, "HTTP/1.1 200", 12)) fail("status", c);
  else if (stream_events && (c->event.found != stream_events || c->done.found != 1)) fail("events or [DONE]", c);
  else if (!stream_events && ((bytes && c->body != bytes) || c->text < TEXT)) fail("length or text", c);
  else answers++;
  c->busy = 0;
}

/* Reads what a connection has; 1 when its answer has ended, -1 when it is closed and *fd is a fresh one. */
static int hear(int *fd) {
  static char data[BUFFER];
  struct connection *c = connections[*fd];
  ssize_t got = recv(*fd, data, sizeof data, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return 0;
  if (got > 0 && c->busy) take(c, data, (size_t)got);
  if (got > 0 && c->busy && c->state == COMPLETE) return check(c), 1;
  if (got > 0 && c->busy && c->state != BROKEN) return 0;
  if (c->busy) fail(got > 0 ? "framing" : "connection lost", c);
  int target = c->target;
  close(*fd);
  *fd = begin(target);
  return -1;
}

static void closed(int width) {
  struct epoll_event ready[256];
  double from = now();
  for (int i = 0; i < width; i++) {
    int fd = begin(0);
    if (started++ < total) ask(fd);
  }
  while (answers + failures < total) {
    int n = epoll_wait(poller, ready, 256, 30000);
    if (n <= 0) { fprintf(stderr, "no answer for 30 s\n"); failures = total - answers; break; }
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd;
      if (hear(&fd) && !connections[fd]->busy && started < total) { started++; ask(fd); }
    }
  }
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  printf("%ld %ld %ld %.4f %.4f\n", answers, failures, events, now() - from,
         (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void paced(int width, long interval_us) {
  static int fds[2][64];
  double *times[2] = {calloc((size_t)total, sizeof(double)), calloc((size_t)total, sizeof(double))};
  long count[2] = {0, 0}, tick = 0;
  int timer = timerfd_create(CLOCK_MONOTONIC, 0);
  struct epoll_event ready[64], e = {.events = EPOLLIN, .data.fd = timer};
  struct itimerspec every = {.it_interval = {0, interval_us * 1000}, .it_value = {0, interval_us * 1000}};
  for (int target = 0; target < 2; target++)
    for (int i = 0; i < width; i++) fds[target][i] = begin(target);
  epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
  timerfd_settime(timer, 0, &every, NULL);
  while (answers + failures < 2 * total) {
    int n = epoll_wait(poller, ready, 64, 30000);
    if (n <= 0) { fprintf(stderr, "no answer for 30 s\n"); failures = 2 * total - answers; break; }
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd, old = fd, target = (int)(tick & 1);
      if (fd == timer) {
        unsigned long long ticks;
        if (read(timer, &ticks, sizeof ticks) < 0 || started >= 2 * total) continue;
        int free_fd = fds[target][tick / 2 % width];
        started++;
        tick++;
        if (connections[free_fd]->busy) fail("still busy when the next request was due", connections[free_fd]);
        else ask(free_fd);
        continue;
      }
      long good = answers;
      int heard = hear(&fd);
      struct connection *c = connections[fd];
      if (heard == 1 && answers > good && count[c->target] < total) times[c->target][count[c->target]++] = (now() - c->sent_at) * 1e6;
      if (fd != old)
        for (int j = 0; j < width; j++) if (fds[c->target][j] == old) fds[c->target][j] = fd;
    }
  }
  printf("%ld %ld", answers, failures);
  for (int target = 0; target < 2; target++) {
    qsort(times[target], (size_t)count[target], sizeof(double), compare);
    printf(" %.2f %.2f", times[target][count[target] / 2], times[target][count[target] * 99 / 100]);
  }
  printf("\n");
}

int main(int argc, char **argv) {
  int pace = argc == 9 && !strcmp(argv[1], "paced");
  if (!pace && (argc != 8 || strcmp(argv[1], "closed"))) return 2;
  char **rest = argv + (pace ? 4 : 3);
  ports[0] = atoi(argv[2]);
  ports[1] = pace ? atoi(argv[3]) : 0;
  int width = atoi(rest[0]);
  total = atol(rest[1]);
  FILE *file = fopen(rest[2], "rb");
  if (!file || (pace && width > 64)) return perror(rest[2]), 1;
  request_length = fread(request, 1, sizeof request, file);
  bytes = atol(rest[3]);
  poller = epoll_create1(0);
  if (pace) return paced(width, atol(rest[4])), 0;
  stream_events = atol(rest[4]);
  return closed(width), 0;
}
