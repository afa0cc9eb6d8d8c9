/* SPDX-License-Identifier: MIT
 *
 * See httpd.h. A request lives from its headers until the library says it is completed. A late one sits in the timer's
 * heap; both threads touch the heap under one lock, and nothing else of a suspended request. Where the timer has no
 * memory for one more, the answer is not late. */
#include "httpd/httpd.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define CONNECTIONS_MAX 8192
#define BACKLOG 4096
#define CONNECTION_IDLE_S 120
#define PEM_MAX_BYTES (1UL << 20)
#define HANG_LOOK_MS 500 /* how soon it is seen that the client of a hanging call went: the library does not tell */

struct httpd_request {
	struct httpd *server;
	struct MHD_Connection *connection;
	const char *method, *path;
	struct buf body;
	bool too_large, answered, delayed;
	struct httpd_answer answer;
	const struct link *link; /* NULL where there was no memory for one */
	bool paused;		 /* in the middle of the body */
	size_t npaused;		 /* pauses that are over */
	int64_t waited_ms;	 /* of the one at hand */
	size_t dribbled, sent;
	bool gone;   /* the client was seen to have left */
	bool broken; /* we broke off ourselves */
};

/* A connection. */
struct link {
	int64_t number, requests;
	char *target; /* of the request at hand, where it is not just its path; or NULL */
};

struct timer {
	int64_t due_us;
	struct MHD_Connection *connection;
};

struct httpd {
	struct MHD_Daemon *daemon;
	httpd_handler *handler;
	void *ctx;
	size_t max_body_bytes;
	struct buf cert, key; /* empty: no TLS */
	int64_t links;	      /* so far; touched by the library's thread alone */
	pthread_t clock_thread;
	bool clock_started;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool stopping;
	struct timer *heap; /* earliest first */
	size_t nheap, cap;
};

/* --- The timer. -------------------------------------------------------------------------------------------- */

static void swap(struct timer *a, struct timer *b)
{
	struct timer t = *a;

	*a = *b;
	*b = t;
}

/* Under the lock. */
static struct timer heap_pop(struct httpd *h)
{
	struct timer first = h->heap[0];

	h->heap[0] = h->heap[--h->nheap];
	for (size_t i = 0, child; (child = 2 * i + 1) < h->nheap; i = child) {
		if (child + 1 < h->nheap && h->heap[child + 1].due_us < h->heap[child].due_us)
			child++;
		if (h->heap[i].due_us <= h->heap[child].due_us)
			break;
		swap(&h->heap[i], &h->heap[child]);
	}
	return first;
}

static bool heap_push(struct httpd *h, struct timer t)
{
	if (h->nheap == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 256;
		struct timer *more = realloc(h->heap, cap * sizeof *more);

		if (!more)
			return false;
		h->heap = more;
		h->cap = cap;
	}
	h->heap[h->nheap] = t;
	for (size_t i = h->nheap++; i > 0 && h->heap[i].due_us < h->heap[(i - 1) / 2].due_us; i = (i - 1) / 2)
		swap(&h->heap[i], &h->heap[(i - 1) / 2]);
	return true;
}

/* Suspends the connection for so long. False when there is no waiting any more: the server stops, or no memory. */
static bool sleep_ms(struct httpd_request *r, int64_t ms)
{
	struct httpd *h = r->server;
	bool ok;

	pthread_mutex_lock(&h->lock);
	ok = !h->stopping && heap_push(h, (struct timer){clock_mono_us() + ms * 1000, r->connection});
	if (ok) {
		MHD_suspend_connection(r->connection);
		if (h->heap[0].connection == r->connection) /* it is the first now: the clock sleeps too long */
			pthread_cond_signal(&h->changed);
	}
	pthread_mutex_unlock(&h->lock);
	return ok;
}

static bool is_stopping(struct httpd *h)
{
	bool stopping;

	pthread_mutex_lock(&h->lock);
	stopping = h->stopping;
	pthread_mutex_unlock(&h->lock);
	return stopping;
}

static void *clock_main(void *arg)
{
	struct httpd *h = arg;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping || h->nheap > 0) {
		int64_t due_us = h->nheap > 0 ? h->heap[0].due_us : 0;
		struct timespec at = {.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000};

		if (h->nheap == 0)
			pthread_cond_wait(&h->changed, &h->lock);
		else if (h->stopping || clock_mono_us() >= due_us)
			MHD_resume_connection(heap_pop(h).connection);
		else
			pthread_cond_timedwait(&h->changed, &h->lock, &at);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* --- The request. ------------------------------------------------------------------------------------------ */

const char *httpd_method(const struct httpd_request *r)
{
	return r->method;
}

const char *httpd_path(const struct httpd_request *r)
{
	return r->path;
}

const char *httpd_target(const struct httpd_request *r)
{
	return r->link && r->link->target ? r->link->target : r->path;
}

const char *httpd_query(const struct httpd_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *httpd_header(const struct httpd_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

int64_t httpd_connection(const struct httpd_request *r)
{
	return r->link ? r->link->number : 0;
}

bool httpd_reused(const struct httpd_request *r)
{
	return r->link && r->link->requests > 1;
}

const char *httpd_body(const struct httpd_request *r, size_t *len)
{
	*len = r->body.len;
	return buf_cstr(&r->body);
}

struct walk {
	httpd_pair_fn *pair;
	void *ctx;
};

static enum MHD_Result walk_pair(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	const struct walk *w = ctx;

	(void)kind;
	w->pair(w->ctx, name, value ? value : "");
	return MHD_YES;
}

void httpd_queries(const struct httpd_request *r, httpd_pair_fn *pair, void *ctx)
{
	MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, walk_pair, &(struct walk){pair, ctx});
}

void httpd_headers(const struct httpd_request *r, httpd_pair_fn *pair, void *ctx)
{
	MHD_get_connection_values(r->connection, MHD_HEADER_KIND, walk_pair, &(struct walk){pair, ctx});
}

void httpd_add_header(struct httpd_answer *a, const char *name, const char *value)
{
	if (a->nheaders == HTTPD_HEADERS_MAX)
		return;
	a->headers[a->nheaders].name = name;
	snprintf(a->headers[a->nheaders++].value, sizeof a->headers[0].value, "%s", value);
}

/* --- The answer. ------------------------------------------------------------------------------------------- */

static int connection_fd(const struct httpd_request *r)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

/* Its end of the connection is open, whatever it has sent that nobody has read. */
static bool client_is_there(const struct httpd_request *r)
{
	struct pollfd p = {.fd = connection_fd(r), .events = POLLRDHUP};

	return poll(&p, 1, 0) <= 0;
}

static ssize_t break_off(struct httpd_request *r)
{
	r->broken = true;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* Waits some more for a client that is still there. */
static bool stay(struct httpd_request *r, int64_t ms)
{
	r->gone = r->gone || !client_is_there(r);
	return !r->gone && sleep_ms(r, ms);
}

static ssize_t end_body(struct httpd_request *r)
{
	switch (r->answer.manner) {
	case HTTPD_CUT:
		return break_off(r);
	case HTTPD_STAY:
		return stay(r, HANG_LOOK_MS) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
	default:
		return MHD_CONTENT_READER_END_OF_STREAM;
	}
}

/* How many of n bytes may go now; 0: a pause goes on, or its client has gone. A long one is slept in parts, between
 * which it is looked whether the client is there. */
static size_t until_pause(struct httpd_request *r, size_t at, size_t n)
{
	const struct httpd_answer *a = &r->answer;

	while (r->npaused < a->npauses && a->pauses[r->npaused].at <= at) {
		int64_t left = a->pauses[r->npaused].ms - r->waited_ms;
		int64_t ms = left < HANG_LOOK_MS ? left : HANG_LOOK_MS;

		r->gone = r->gone || (r->waited_ms > 0 && !client_is_there(r));
		if (r->gone)
			return 0;
		if (ms > 0 && sleep_ms(r, ms)) {
			r->waited_ms += ms;
			return 0;
		}
		r->npaused++;
		r->waited_ms = 0;
	}
	if (r->npaused < a->npauses && a->pauses[r->npaused].at - at < n)
		return a->pauses[r->npaused].at - at;
	return n;
}

/* The body bit by bit, for answers that are slow or cut short. */
static ssize_t read_body(void *ctx, uint64_t at, char *to, size_t max)
{
	struct httpd_request *r = ctx;
	struct httpd_answer *a = &r->answer;
	size_t n = a->body.len - at, half = a->body.len / 2;

	if (is_stopping(r->server))
		return break_off(r); /* a pause that was cut short is no reason to send the rest */
	if (a->manner != HTTPD_TRUNCATE && n == 0)
		return end_body(r); /* asked for where the length was not announced */
	if (n > max)
		n = max;
	if (a->manner == HTTPD_TRUNCATE) {
		if (at >= half)
			return break_off(r);
		n = half - at < n ? half - at : n;
	}
	if (a->dribble_ms > 0) {
		if (r->dribbled == at) {
			r->dribbled = at + 1;
			if (sleep_ms(r, a->dribble_ms))
				return 0;
		}
		n = 1;
	}
	if (a->body_delay_ms > 0 && at < half) {
		n = half - at < n ? half - at : n;
	} else if (a->body_delay_ms > 0 && !r->paused) {
		r->paused = true;
		if (sleep_ms(r, a->body_delay_ms))
			return 0;
	}
	n = until_pause(r, at, n);
	if (r->gone)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	memcpy(to, a->body.ptr + at, n);
	if (a->touch)
		a->touch(to, n);
	r->sent = at + n;
	return (ssize_t)n;
}

static enum MHD_Result send_answer(struct httpd_request *r)
{
	struct httpd_answer *a = &r->answer;
	struct MHD_Response *response;
	enum MHD_Result rc;
	size_t len = a->body.len;

	if (a->manner == HTTPD_TRUNCATE || a->dribble_ms > 0 || a->body_delay_ms > 0 || a->chunked)
		response = MHD_create_response_from_callback(a->chunked ? MHD_SIZE_UNKNOWN : len, 64 * 1024, read_body,
							     r, NULL);
	else
		response = MHD_create_response_from_buffer(len, len > 0 ? buf_steal(&a->body) : NULL,
							   len > 0 ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (!response)
		return MHD_NO;
	for (size_t i = 0; i < a->nheaders; i++)
		MHD_add_response_header(response, a->headers[i].name, a->headers[i].value);
	rc = MHD_queue_response(r->connection, (unsigned)a->status, response);
	MHD_destroy_response(response);
	return rc;
}

/* Dissolving the association sends RST at once. SO_LINGER would not do: the library shuts down before it closes, and
 * the client would see an orderly end first. */
static void reset(struct httpd_request *r)
{
	(void)connect(connection_fd(r), &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr));
}

/* The library calls again when the connection is woken. */
static enum MHD_Result answer(struct httpd_request *r)
{
	struct httpd_answer *a = &r->answer;

	if (!r->answered) {
		r->answered = true;
		if (r->too_large)
			a->status = 413;
		else
			r->server->handler(r->server->ctx, r, a);
	}
	if (a->delay_ms > 0 && !r->delayed) {
		r->delayed = true;
		if (sleep_ms(r, a->delay_ms))
			return MHD_YES;
	}
	r->broken = is_stopping(r->server);
	if (r->broken)
		return MHD_NO;
	switch (a->manner) {
	case HTTPD_HANG:
		return stay(r, HANG_LOOK_MS) ? MHD_YES : MHD_NO;
	case HTTPD_RESET:
		reset(r);
		r->broken = true;
		return MHD_NO;
	case HTTPD_CLOSE:
		r->broken = true;
		return MHD_NO;
	case HTTPD_PLAIN:
	case HTTPD_TRUNCATE:
	case HTTPD_LEAVE:
	case HTTPD_CUT:
	case HTTPD_STAY:
		break;
	}
	return send_answer(r);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **slot,
			  enum MHD_ConnectionNotificationCode what)
{
	struct httpd *h = ctx;
	struct link *link;

	(void)connection;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		link = *slot;
		if (link)
			free(link->target);
		free(link);
		*slot = NULL;
		return;
	}
	*slot = link = calloc(1, sizeof *link);
	h->links++;
	if (link)
		link->number = h->links;
}

/* The library decodes the target in place, so it is copied before where that changes it. */
static void *on_target(void *ctx, const char *target, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct link *link = info ? info->socket_context : NULL;

	(void)ctx;
	if (!link)
		return NULL;
	free(link->target);
	link->target = strpbrk(target, "?%") ? strdup(target) : NULL;
	return NULL;
}

static const struct link *count_request(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct link *link = info ? info->socket_context : NULL;

	if (link)
		link->requests++;
	return link;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path, const char *method,
				  const char *version, const char *data, size_t *size, void **slot)
{
	struct httpd *h = ctx;
	struct httpd_request *r = *slot;

	(void)version;
	if (!r) {
		r = calloc(1, sizeof *r);
		if (!r)
			return MHD_NO;
		*r = (struct httpd_request){.server = h,
					    .connection = connection,
					    .method = method,
					    .path = path,
					    .link = count_request(connection),
					    .body = BUF_INIT(h->max_body_bytes)};
		r->answer.body = BUF_INIT(SIZE_MAX / 2);
		*slot = r;
		return MHD_YES;
	}
	if (*size > 0) {
		buf_add(&r->body, data, *size);
		r->too_large = r->too_large || r->body.failed;
		*size = 0;
		return MHD_YES;
	}
	return answer(r);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why)
{
	struct httpd_request *r = *slot;

	struct httpd_end end;

	(void)ctx;
	(void)connection;
	if (!r)
		return;
	end.sent = r->sent;
	end.gone = r->gone || (!r->broken && why != MHD_REQUEST_TERMINATED_COMPLETED_OK &&
			       why != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN);
	if (r->answer.manner == HTTPD_LEAVE) /* what was sent is sent; the library sees an end and closes */
		(void)shutdown(connection_fd(r), SHUT_RDWR);
	if (r->answer.done)
		r->answer.done(r->answer.done_ctx, &r->answer, &end);
	buf_release(&r->body);
	buf_release(&r->answer.body);
	free(r->answer.pauses);
	free(r);
	*slot = NULL;
}

/* --- Start and stop. --------------------------------------------------------------------------------------- */

static int resolve(const char *listen, struct sockaddr_storage *out, struct error *err)
{
	char host[256];
	const char *colon = strrchr(listen, ':');
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
	int rc;

	if (!colon || colon == listen || (size_t)(colon - listen) >= sizeof host || strlen(colon + 1) > 5 ||
	    atol(colon + 1) > UINT16_MAX)
		return error_set(err, ERR_CONFIG,
				 "'%s' is no address to listen on; it must be HOST:PORT, the port at most 65535",
				 listen);
	if (*listen == '[' && colon[-1] == ']') /* an IPv6 address */
		snprintf(host, sizeof host, "%.*s", (int)(colon - listen) - 2, listen + 1);
	else
		snprintf(host, sizeof host, "%.*s", (int)(colon - listen), listen);
	rc = getaddrinfo(host, colon + 1, &hints, &found);
	if (rc)
		return error_set(err, ERR_CONFIG, "cannot listen on '%s': %s", listen, gai_strerror(rc));
	memcpy(out, found->ai_addr, found->ai_addrlen);
	freeaddrinfo(found);
	return 0;
}

/* A socket that listens there and its port; -1 with errno. Not the library's: from 1.0 on it does not say why it could not make one. */
static int open_listener(const struct sockaddr_storage *address, uint16_t *port)
{
	bool v6 = address->ss_family == AF_INET6;
	socklen_t len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1, no = 0;
	struct sockaddr_storage bound = *address;

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) ||
	    (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no)) ||
	    bind(fd, (const struct sockaddr *)address, len) || listen(fd, BACKLOG) ||
	    getsockname(fd, (struct sockaddr *)&bound, &len)) {
		int why = errno;

		close(fd);
		errno = why;
		return -1;
	}
	*port = ntohs(v6 ? ((struct sockaddr_in6 *)&bound)->sin6_port : ((struct sockaddr_in *)&bound)->sin_port);
	return fd;
}

/* A file that has a part whose name ends so. */
static int read_pem(const char *path, const char *part, struct buf *out, struct error *err)
{
	FILE *f = fopen(path, "re");
	size_t n = 1;

	if (!f)
		return error_set(err, ERR_CONFIG, "cannot read %s: %s", path, strerror(errno));
	while (n > 0 && buf_reserve(out, 4096)) {
		n = fread(out->ptr + out->len, 1, 4096, f);
		out->len += n;
		out->ptr[out->len] = '\0';
	}
	fclose(f);
	if (out->failed || !memmem(buf_cstr(out), out->len, part, strlen(part)))
		return error_set(err, ERR_CONFIG, "%s has no '-----BEGIN ... %s' in it", path, part);
	return 0;
}

static int read_tls(struct httpd *h, const struct httpd_tls *tls, struct error *err)
{
	if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
		return error_set(err, ERR_CONFIG, "this build of libmicrohttpd knows no TLS");
	if (read_pem(tls->cert_path, "CERTIFICATE-----", &h->cert, err))
		return -1;
	return read_pem(tls->key_path, "PRIVATE KEY-----", &h->key, err);
}

/* The port, or -1. */
static int start_daemon(struct httpd *h, const char *listen, struct error *err)
{
	bool tls = h->cert.len > 0;
	struct MHD_OptionItem plain[] = {{MHD_OPTION_END, 0, NULL}};
	struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert.ptr},
					  {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key.ptr},
					  {MHD_OPTION_END, 0, NULL}};
	struct sockaddr_storage address = {0};
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0U);
	uint16_t port;
	int fd;

	if (resolve(listen, &address, err))
		return -1;
	fd = open_listener(&address, &port);
	if (fd < 0)
		return error_set(err, ERR_SYSTEM, "cannot listen on %s: %s", listen, strerror(errno));
	errno = 0;
	h->daemon =
		MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd,
				 MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				 (unsigned)CONNECTION_IDLE_S, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
				 MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_URI_LOG_CALLBACK, on_target,
				 NULL, MHD_OPTION_ARRAY, tls ? secure : plain, MHD_OPTION_END);
	if (h->daemon)
		return port;
	/* The socket is left to the end of the program: versions differ in who closes it. EBADF is what they leave when they clean up. */
	if (tls && (errno == 0 || errno == EBADF)) /* no system call failed, so it is what the files say */
		return error_set(err, ERR_CONFIG, "the certificate and the key are damaged, or not of each other");
	return error_set(err, ERR_SYSTEM, "cannot listen on %s: %s", listen, strerror(errno ? errno : EIO));
}

struct httpd *httpd_start_tls(const char *listen, const struct httpd_tls *tls, size_t max_body_bytes,
			      httpd_handler *handler, void *ctx, uint16_t *port, struct error *err)
{
	struct httpd *h = calloc(1, sizeof *h);
	pthread_condattr_t attr;
	int bound, rc;

	if (!h) {
		error_set(err, ERR_MEMORY, "cannot listen on %s: out of memory", listen);
		return NULL;
	}
	h->handler = handler;
	h->ctx = ctx;
	h->max_body_bytes = max_body_bytes;
	h->cert = h->key = BUF_INIT(PEM_MAX_BYTES);
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->changed, &attr);
	bound = tls && read_tls(h, tls, err) ? -1 : start_daemon(h, listen, err);
	rc = bound < 0 ? 0 : pthread_create(&h->clock_thread, NULL, clock_main, h);
	if (rc)
		error_set(err, ERR_SYSTEM, "cannot listen on %s: %s", listen, strerror(rc));
	if (rc || bound < 0) {
		httpd_stop(h);
		return NULL;
	}
	*port = (uint16_t)bound;
	h->clock_started = true;
	return h;
}

struct httpd *httpd_start(const char *listen, size_t max_body_bytes, httpd_handler *handler, void *ctx, uint16_t *port,
			  struct error *err)
{
	return httpd_start_tls(listen, NULL, max_body_bytes, handler, ctx, port, err);
}

void httpd_stop(struct httpd *h)
{
	if (!h)
		return;
	if (h->clock_started) {
		pthread_mutex_lock(&h->lock);
		h->stopping = true;
		pthread_cond_signal(&h->changed);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->clock_thread, NULL); /* it resumes all that are suspended: the library insists */
	}
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	buf_release(&h->cert);
	buf_release(&h->key);
	free(h->heap);
	free(h);
}
