/* Load for a benchmark: a closed loop over some connections, one request after the other on each.
 *
 * usage: load --port N --body FILE [--key KEY] [--connections 1] [--requests 1 | --seconds 0] [--fresh 0]
 *             [--events 0] [--announce 0]
 *
 * --requests is for each connection; --seconds takes their place. --fresh 1 makes a connection for each
 * request, before its clock starts, as streams of llama-server need it. --events says how many a stream must
 * have to count as whole. --announce 1 says "open" once every connection has had the first byte of a body.
 *
 * Prints one line of JSON, times in microseconds: the latency is from sending a request to the last byte of its
 * answer, "first" to the first byte of its body. What fails or is cut short is counted, not timed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HOPELESS 100 /* failures without a success: there is nothing to measure */

enum state { HEAD, SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, WHOLE, BROKEN };

struct connection {
    int fd;
    long requests_left;
    uint64_t sent_at, first_at;
    enum state state;
    char line[4096];            /* the head, or the line of a chunk's size */
    size_t have, left, newlines;
    bool closes, seen;
};
struct times {
    float *values;
    size_t count, room;
};

static int port, fresh, announce;
static long connections = 1, requests = 1, expected_events;
static double seconds;
static char *request;
static size_t request_length;
static uint64_t deadline;
static long whole, failed, events, running, unseen;
static struct times latencies, firsts;
static int poller;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void note(struct times *times, uint64_t nanoseconds) {
    if (times->count == times->room) {
        times->room = times->room ? 2 * times->room : 4096;
        times->values = realloc(times->values, times->room * sizeof *times->values);
    }
    times->values[times->count++] = nanoseconds / 1e3f;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct times *times, double share) {
    return times->count ? times->values[(size_t)(share * (times->count - 1))] : 0;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* In loopback a connection is made at once. Sending may block: an answer comes after the whole request. */
static void connect_to_plane(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("load: connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void disconnect(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void begin(struct connection *c) {
    if (deadline ? now() >= deadline : c->requests_left-- == 0) {
        running--;
        return disconnect(c);
    }
    if (c->fd < 0) connect_to_plane(c);
    c->state = HEAD;
    c->have = c->newlines = 0;
    c->first_at = 0;
    c->closes = fresh;
    c->sent_at = now();
    for (size_t sent = 0; sent < request_length;) {
        ssize_t n = send(c->fd, request + sent, request_length - sent, MSG_NOSIGNAL);
        if (n < 0) return; /* whoever closed it has said why, or epoll will tell of its end */
        sent += n;
    }
}

static void finish(struct connection *c, uint64_t at) {
    if (c->state == WHOLE && (!expected_events || c->newlines == 2 * (size_t)expected_events)) {
        note(&latencies, at - c->sent_at);
        note(&firsts, c->first_at - c->sent_at);
        whole++;
    } else {
        failed++;
        c->closes = true;
    }
    events += c->newlines / 2;
    if (c->closes) disconnect(c);
    begin(c);
}

static void read_head(struct connection *c) {
    c->line[c->have] = 0;
    const char *length = strcasestr(c->line, "\r\ncontent-length:");
    if (strcasestr(c->line, "\r\nconnection: close")) c->closes = true;
    c->have = 0;
    if (strncmp(c->line + 8, " 200", 4)) {
        c->state = BROKEN;
    } else if (length) {
        c->left = strtoul(length + 17, NULL, 10);
        c->state = c->left ? SIZED : WHOLE;
    } else {
        c->state = strcasestr(c->line, "\r\ntransfer-encoding: chunked") ? CHUNK_SIZE : BROKEN;
    }
}

/* A line of the chunked framing has come whole. */
static void read_line(struct connection *c) {
    c->line[c->have] = 0;
    if (c->state == CHUNK_SIZE) {
        c->left = strtoul(c->line, NULL, 16);
        c->state = c->left ? CHUNK_DATA : TRAILER;
    } else if (c->state == CHUNK_END) {
        c->state = CHUNK_SIZE;
    } else if (c->have == 2) {
        c->state = WHOLE;
    }
    c->have = 0;
}

/* The body's bytes. An event of llama-server has two newlines, whatever chunks it comes in. */
static size_t read_body(struct connection *c, const char *data, size_t length, uint64_t at) {
    if (length > c->left) length = c->left;
    if (!c->first_at) {
        c->first_at = at;
        if (announce && !c->seen && --unseen == 0) puts("open"), fflush(stdout);
        c->seen = true;
    }
    if (c->state == CHUNK_DATA)
        for (const char *p = data; (p = memchr(p, '\n', data + length - p)); p++) c->newlines++;
    c->left -= length;
    if (!c->left) c->state = c->state == SIZED ? WHOLE : CHUNK_END;
    return length;
}

static void feed(struct connection *c, const char *data, size_t length, uint64_t at) {
    for (size_t i = 0; i < length && c->state < WHOLE;) {
        if (c->state == SIZED || c->state == CHUNK_DATA) {
            i += read_body(c, data + i, length - i, at);
            continue;
        }
        if (c->have == sizeof c->line - 1) c->state = BROKEN;
        else c->line[c->have++] = data[i++];
        if (c->state == HEAD) {
            if (c->have >= 4 && !memcmp(c->line + c->have - 4, "\r\n\r\n", 4)) read_head(c);
        } else if (c->state < WHOLE && c->line[c->have - 1] == '\n') {
            read_line(c);
        }
    }
}

static void receive(struct connection *c) {
    static char buffer[262144];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    uint64_t at = now();
    if (n > 0) feed(c, buffer, n, at);
    else c->state = BROKEN;
    if (c->state >= WHOLE) finish(c, at);
}

static void make_request(const char *file, const char *key) {
    static char body[1 << 20];
    FILE *source = fopen(file, "rb");
    if (!source) die(file);
    size_t length = fread(body, 1, sizeof body, source);
    fclose(source);
    int head = asprintf(
        &request,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load\r\nAccept: */*\r\n"
        "%s%s%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
        port, key ? "Authorization: Bearer " : "", key ? key : "", key ? "\r\n" : "", length);
    request = realloc(request, head + length);
    memcpy(request + head, body, length);
    request_length = head + length;
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"port", 1, 0, 'p'}, {"body", 1, 0, 'b'}, {"key", 1, 0, 'k'}, {"connections", 1, 0, 'c'},
        {"requests", 1, 0, 'r'}, {"seconds", 1, 0, 's'}, {"fresh", 1, 0, 'f'}, {"events", 1, 0, 'e'},
        {"announce", 1, 0, 'a'}, {0, 0, 0, 0}};
    const char *body = NULL, *key = NULL;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'b': body = optarg; break;
        case 'k': key = optarg; break;
        case 'c': connections = atol(optarg); break;
        case 'r': requests = atol(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'f': fresh = atoi(optarg); break;
        case 'e': expected_events = atol(optarg); break;
        case 'a': announce = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (!port || !body || connections < 1) {
        fputs("load: --port and --body are needed\n", stderr);
        exit(2);
    }
    make_request(body, key);
}

int main(int argc, char **argv) {
    parse(argc, argv);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);
    for (long i = 0; i < connections; i++) {
        all[i].requests_left = requests;
        connect_to_plane(&all[i]);
    }
    uint64_t began = now();
    if (seconds > 0) deadline = began + (uint64_t)(seconds * 1e9);
    running = unseen = connections;
    for (long i = 0; i < connections; i++) begin(&all[i]);
    while (running && (whole || failed < HOPELESS)) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) receive(ready[i].data.ptr);
    }
    double took = (now() - began) / 1e9;
    qsort(latencies.values, latencies.count, sizeof(float), ascending);
    qsort(firsts.values, firsts.count, sizeof(float), ascending);
    printf("{\"whole\": %ld, \"failed\": %ld, \"events\": %ld, \"seconds\": %.6f, \"latency_p50\": %.1f, "
           "\"latency_p99\": %.1f, \"first_p50\": %.1f, \"first_p99\": %.1f}\n",
           whole, failed, events, took, quantile(&latencies, 0.5), quantile(&latencies, 0.99),
           quantile(&firsts, 0.5), quantile(&firsts, 0.99));
}
