/* llama-server's HTTP side without a model, so that a benchmark measures what stands in front of it.
 *
 * usage: mock_upstream --host 127.0.0.1 --port 8080 (llama-server's other flags are ignored)
 *
 * One thread, epoll. A chat completion takes three fields from the first kilobytes of its body, because that
 * is what every proxy forwards unchanged: "stream", "max_tokens", and "mock_interval_us" between two tokens
 * (0 or none: as fast as they are taken). As the real one it writes headers and each event on their own,
 * closes the connection after a stream without having said so, and after 100 answers having said so.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MAX_FDS 65536
#define ANSWERS_A_CONNECTION 100
#define TIMER (1ull << 32)

#define COMMON "\"created\":1795368260,\"id\":\"chatcmpl-HYmcbSb2HAffWwiibIHgKJZsq28M2t6J\",\"model\":\"mock\"," \
               "\"system_fingerprint\":\"b0-mock\",\"object\":\"chat.completion"
#define TIMINGS "\"timings\":{\"cache_n\":23,\"prompt_n\":1,\"prompt_ms\":0.349,\"prompt_per_token_ms\":0.349," \
                "\"prompt_per_second\":2865.329512893983,\"predicted_n\":3,\"predicted_ms\":0.34," \
                "\"predicted_per_token_ms\":0.1125,\"predicted_per_second\":5882.35294117647}"
#define USAGE "\"usage\":{\"completion_tokens\":3,\"prompt_tokens\":24,\"total_tokens\":27," \
              "\"prompt_tokens_details\":{\"cached_tokens\":0}}"
#define CHOICE "{\"choices\":[{\"finish_reason\":"
#define ANSWER CHOICE "\"length\",\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\" every quiet llama\"" \
               "}}]," COMMON "\"," USAGE "," TIMINGS "}"
#define MODELS "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"owned_by\":\"llamacpp\"}]}"
#define PROPS "{\"total_slots\":4096,\"model_alias\":\"mock\",\"build_info\":\"b0-mock\"}"
#define METRICS "llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n"
#define ERROR(code, text) "{\"error\":{\"code\":" #code ",\"message\":\"" text "\",\"type\":\"error\"}}"

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nX-Accel-Buffering: no\r\nContent-Type: text/event-stream" \
                    "\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5, max=100\r\n\r\n"
#define DELTA(content) "data: " CHOICE "null,\"index\":0,\"delta\":{" content "}}]," COMMON ".chunk\"}\n\n"
#define FINISH "data: " CHOICE "\"length\",\"index\":0,\"delta\":{}}]," COMMON ".chunk\"," TIMINGS "}\n\n"

struct piece {
    char text[1024];
    size_t length;
};
static struct piece head, role, token, finish, done, end;

struct connection {
    int fd, timer, answers;
    char in[8192];
    size_t have, body_left;
    bool in_body, streaming, waits_for_room;
    long long next, pieces;     /* of a stream: the piece to send next, how many it has */
    long long due;              /* how many may be sent by now */
    size_t sent;                /* of the piece `next` */
};
static struct connection *connections[MAX_FDS];
static int poller;

static void chunk(struct piece *piece, const char *data) {
    piece->length = snprintf(piece->text, sizeof piece->text, "%zX\r\n%s\r\n", strlen(data), data);
}

static void make_pieces(void) {
    head.length = snprintf(head.text, sizeof head.text, "%s", STREAM_HEAD);
    chunk(&role, DELTA("\"role\":\"assistant\",\"content\":null"));
    chunk(&token, DELTA("\"content\":\" woolly\""));
    chunk(&finish, FINISH);
    chunk(&done, "data: [DONE]\n\n");
    end.length = snprintf(end.text, sizeof end.text, "0\r\n\r\n");
}

static void watch(int fd, uint32_t events, uint64_t data, int operation) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    epoll_ctl(poller, operation, fd, &event);
}

static void drop(struct connection *c) {
    connections[c->fd] = NULL;
    if (c->timer >= 0) close(c->timer);
    close(c->fd);
    free(c);
}

static const struct piece *piece_of(const struct connection *c) {
    if (c->next == 0) return &head;
    if (c->next == 1) return &role;
    if (c->next == c->pieces - 3) return &finish;
    if (c->next == c->pieces - 2) return &done;
    return c->next == c->pieces - 1 ? &end : &token;
}

/* Be called again when the socket takes more, or no longer. */
static void wait_for_room(struct connection *c, bool waits) {
    if (c->waits_for_room == waits) return;
    c->waits_for_room = waits;
    watch(c->fd, waits ? EPOLLIN | EPOLLOUT : EPOLLIN, c->fd, EPOLL_CTL_MOD);
}

/* Send what is due; at full speed one piece, then the other streams have their turn, as slots have. */
static void push(struct connection *c) {
    const bool paced = c->timer >= 0;
    while (c->next < c->pieces && c->next < c->due) {
        const struct piece *piece = piece_of(c);
        ssize_t n = send(c->fd, piece->text + c->sent, piece->length - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) return wait_for_room(c, true);
        if (n < 0) return drop(c);
        c->sent += n;
        if (c->sent == piece->length) c->next++, c->sent = 0;
        if (!paced && c->next < c->pieces) return wait_for_room(c, true);
    }
    if (c->next == c->pieces) return drop(c);
    wait_for_room(c, false);
}

/* Head, role and the first token at once. The rest of paced streams is spread over the interval, so that no
 * two of them come together: the case that costs a proxy most. */
static void start_stream(struct connection *c, long tokens, long interval_us) {
    static uint64_t spread;
    c->streaming = true;
    c->pieces = tokens + 5;
    c->due = interval_us ? 3 : LLONG_MAX;
    if (interval_us) {
        long first = 1 + (spread += 618034) % 1000000 * interval_us / 1000000; /* golden ratio */
        struct itimerspec pace = {
            .it_interval = {interval_us / 1000000, interval_us % 1000000 * 1000},
            .it_value = {first / 1000000, first % 1000000 * 1000},
        };
        c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        timerfd_settime(c->timer, 0, &pace, NULL);
        watch(c->timer, EPOLLIN, c->fd | TIMER, EPOLL_CTL_ADD);
    }
    push(c);
}

static void tick(struct connection *c) {
    uint64_t expirations;
    if (read(c->timer, &expirations, sizeof expirations) != sizeof expirations) return;
    c->due += expirations;
    if (c->due >= c->pieces - 3) c->due = c->pieces; /* the end comes with the last token */
    push(c);
}

static void answer(struct connection *c, const char *status, const char *kind, const char *body) {
    char text[4096];
    const bool last = ++c->answers == ANSWERS_A_CONNECTION;
    int length = snprintf(
        text, sizeof text, "HTTP/1.1 %s\r\nServer: llama.cpp\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n\r\n%s",
        status, kind, strlen(body), last ? "Connection: close" : "Keep-Alive: timeout=5, max=100", body);
    if (send(c->fd, text, length, MSG_NOSIGNAL) != length || last) drop(c);
}

static const char *value_of(const char *body, const char *key) {
    const char *found = strstr(body, key);
    return found ? found + strlen(key) + strspn(found + strlen(key), ": ") : "";
}

static bool asks(const struct connection *c, const char *method_and_path) {
    size_t length = strlen(method_and_path);
    return !strncmp(c->in, method_and_path, length) && strchr(" ?", c->in[length]);
}

static void handle(struct connection *c, const char *body) {
    static const char *json = "application/json; charset=utf-8";
    if (asks(c, "POST /v1/chat/completions")) {
        if (strncmp(value_of(body, "\"stream\""), "true", 4)) return answer(c, "200 OK", json, ANSWER);
        return start_stream(c, atol(value_of(body, "\"max_tokens\"")), atol(value_of(body, "\"mock_interval_us\"")));
    }
    if (asks(c, "GET /health") || asks(c, "GET /v1/health")) return answer(c, "200 OK", json, "{\"status\":\"ok\"}");
    if (asks(c, "GET /v1/models") || asks(c, "GET /models")) return answer(c, "200 OK", json, MODELS);
    if (asks(c, "GET /props")) return answer(c, "200 OK", json, PROPS);
    if (asks(c, "GET /metrics")) return answer(c, "200 OK", "text/plain; version=0.0.4", METRICS);
    if (asks(c, "GET /slots")) return answer(c, "501 Not Implemented", json, ERROR(501, "Started with --no-slots"));
    answer(c, "404 Not Found", json, ERROR(404, "File Not Found"));
}

/* Take what has come of a request: its head and the beginning of its body are kept, the rest is counted. */
static void read_request(struct connection *c) {
    static char surplus[65536];
    size_t room = sizeof c->in - 1 - c->have;
    ssize_t n = recv(c->fd, room ? c->in + c->have : surplus, room ? room : sizeof surplus, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || c->streaming) return drop(c);
    if (room) c->in[c->have += n] = 0;
    char *body = strstr(c->in, "\r\n\r\n");
    if (!body && !room) drop(c);
    if (!body) return;
    if (c->in_body) {
        c->body_left -= n;
    } else {
        *body = 0;
        const char *length = strcasestr(c->in, "\ncontent-length:");
        *body = '\r';
        size_t came = c->have - (body + 4 - c->in), whole = length ? strtoul(length + 16, NULL, 10) : 0;
        if (came > whole) return drop(c); /* no pipelining */
        c->body_left = whole - came;
        c->in_body = true;
    }
    if (c->body_left) return;
    c->have = 0;
    c->in_body = false;
    handle(c, body + 4);
}

static void admit(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        struct connection *c = fd < MAX_FDS ? calloc(1, sizeof *c) : NULL;
        if (!c) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        c->fd = fd;
        c->timer = -1;
        connections[fd] = c;
        watch(fd, EPOLLIN, fd, EPOLL_CTL_ADD);
    }
}

static int listen_on(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    inet_pton(AF_INET, host, &address.sin_addr);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
        perror("mock_upstream: listen");
        exit(1);
    }
    return fd;
}

static void leave(int number) {
    (void)number;
    _exit(0);
}

int main(int argc, char **argv) {
    const char *host = "127.0.0.1";
    int port = 8080;
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--host")) host = argv[i + 1];
        if (!strcmp(argv[i], "--port")) port = atoi(argv[i + 1]);
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGTERM, leave);
    make_pieces();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(host, port);
    watch(listener, EPOLLIN, listener, EPOLL_CTL_ADD);
    for (struct epoll_event events[256];;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            /* One that an earlier event of this turn has ended is no longer in the table. */
            int fd = (int)(uint32_t)events[i].data.u64;
            struct connection *c = connections[fd];
            if (fd == listener) admit(listener);
            else if (c && events[i].data.u64 & TIMER) tick(c);
            else if (c && events[i].events & EPOLLOUT) push(c);
            else if (c) read_request(c);
        }
    }
}
