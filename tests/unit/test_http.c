/* SPDX-License-Identifier: MIT
 *
 * http/ against a server of this program's own that answers by the book or breaks off in every way a network can.
 *
 * The server plays a script: the n-th request of the test gets its n-th step, whatever connection it came on. One thread accepts, one more per
 * connection; what it saw is read under its lock. Everything is on loopback, with a port of the system's choice. */
#include <arpa/inet.h>
#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "http/http.h"

#define CONNECTIONS_MAX 64
#define STEPS_MAX 4
#define REQUEST_MAX (8UL * 1024 * 1024)
#define TIMEOUT_MS 20000      /* never reached unless something hangs */
#define SHORT_TIMEOUT_MS 300  /* for what does hang */
#define QUERY_SECRET "s3cret" /* must never come back in a fault */

/* --- The server. -------------------------------------------------------------------------------------------------------- */

enum after {
	KEEP,	 /* wait for the next request */
	SHUT,	 /* close in good order */
	RESET,	 /* close with a reset */
	HOLD,	 /* say nothing more until the client goes */
	DRIBBLE, /* a byte now and then until the client goes */
};

struct step {
	const char *answer; /* NULL: none */
	size_t len;	    /* 0: strlen(answer) */
	enum after after;
};

struct peer {
	struct server *server;
	int fd;
	SSL *ssl; /* NULL: plain */
	pthread_t thread;
};

struct server {
	int fd;
	unsigned port;
	SSL_CTX *tls; /* NULL: plain */
	pthread_t thread;
	sem_t came;   /* one post per request that came whole */
	sem_t closed; /* one post per connection the server closed */
	struct step steps[STEPS_MAX];
	size_t nsteps;	      /* the last one is played again and again */
	pthread_mutex_t lock; /* guards the following */
	unsigned requests, connections, resumed;
	struct peer peers[CONNECTIONS_MAX];
	struct buf last; /* the last request, whole */
};

static ssize_t peer_read(struct peer *p, char *to, size_t n)
{
	return p->ssl ? SSL_read(p->ssl, to, (int)n) : recv(p->fd, to, n, 0);
}

static bool peer_write(struct peer *p, const char *from, size_t n)
{
	while (n > 0) {
		ssize_t put = p->ssl ? SSL_write(p->ssl, from, (int)n) : send(p->fd, from, n, MSG_NOSIGNAL);

		if (put <= 0)
			return false;
		from += put;
		n -= (size_t)put;
	}
	return true;
}

/* The whole length of the request that begins in b, 0 while its head is incomplete. */
static size_t request_bytes(const struct buf *b)
{
	const char *end = strstr(buf_cstr(b), "\r\n\r\n"), *length = strstr(buf_cstr(b), "Content-Length: ");

	if (!end)
		return 0;
	return (size_t)(end + 4 - b->ptr) + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
}

static bool read_request(struct peer *p, struct buf *b)
{
	char piece[65536];
	size_t whole = 0;

	buf_clear(b);
	do {
		ssize_t got = peer_read(p, piece, sizeof piece);

		if (got <= 0)
			return false;
		buf_add(b, piece, (size_t)got);
		whole = whole ? whole : request_bytes(b);
	} while (whole == 0 || b->len < whole);
	return true;
}

static void hold(struct peer *p)
{
	char byte;

	while (peer_read(p, &byte, 1) > 0)
		;
}

static void dribble(struct peer *p)
{
	const struct timespec pace = {.tv_nsec = 20 * 1000 * 1000};

	while (peer_write(p, "x", 1))
		nanosleep(&pace, NULL);
}

static struct step next_step(struct server *s, const struct buf *request)
{
	struct step step;

	pthread_mutex_lock(&s->lock);
	step = s->steps[s->requests < s->nsteps ? s->requests : s->nsteps - 1];
	s->requests++;
	buf_clear(&s->last);
	buf_add(&s->last, request->ptr, request->len);
	pthread_mutex_unlock(&s->lock);
	sem_post(&s->came);
	return step;
}

static void converse(struct peer *p)
{
	struct buf request = BUF_INIT(REQUEST_MAX);
	struct step step = {.after = KEEP};

	while (step.after == KEEP && read_request(p, &request)) {
		step = next_step(p->server, &request);
		if (step.answer)
			peer_write(p, step.answer, step.len ? step.len : strlen(step.answer));
	}
	if (step.after == HOLD)
		hold(p);
	if (step.after == DRIBBLE)
		dribble(p);
	if (step.after == RESET)
		setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
	buf_release(&request);
}

static void *serve(void *arg)
{
	struct peer *p = arg;
	struct server *s = p->server;
	bool ready = true;

	if (s->tls) {
		p->ssl = SSL_new(s->tls);
		SSL_set_fd(p->ssl, p->fd);
		ready = SSL_accept(p->ssl) == 1;
	}
	if (ready) {
		pthread_mutex_lock(&s->lock);
		s->resumed += p->ssl && SSL_session_reused(p->ssl);
		pthread_mutex_unlock(&s->lock);
		converse(p);
	}
	SSL_free(p->ssl);
	pthread_mutex_lock(&s->lock);
	close(p->fd);
	p->fd = -1;
	pthread_mutex_unlock(&s->lock);
	sem_post(&s->closed);
	return NULL;
}

static void *listen_on(void *arg)
{
	struct server *s = arg;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		pthread_mutex_lock(&s->lock);
		ck_assert_uint_lt(s->connections, CONNECTIONS_MAX);
		s->peers[s->connections] = (struct peer){.server = s, .fd = fd};
		pthread_create(&s->peers[s->connections].thread, NULL, serve, &s->peers[s->connections]);
		s->connections++;
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

static void server_start(struct server *s, SSL_CTX *tls, const struct step *steps, size_t nsteps)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof any;

	*s = (struct server){.tls = tls, .nsteps = nsteps, .last = BUF_INIT(REQUEST_MAX)};
	memcpy(s->steps, steps, nsteps * sizeof *steps);
	pthread_mutex_init(&s->lock, NULL);
	sem_init(&s->came, 0, 0);
	sem_init(&s->closed, 0, 0);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(s->fd, (struct sockaddr *)&any, sizeof any), 0);
	ck_assert_int_eq(listen(s->fd, CONNECTIONS_MAX), 0);
	getsockname(s->fd, (struct sockaddr *)&any, &len);
	s->port = ntohs(any.sin_port);
	pthread_create(&s->thread, NULL, listen_on, s);
}

/* Nobody listens any more; connections that stand go on. */
static void server_deafen(struct server *s)
{
	if (s->fd < 0)
		return;
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
	s->fd = -1;
}

static void server_stop(struct server *s)
{
	server_deafen(s);
	for (unsigned i = 0; i < s->connections; i++) {
		pthread_mutex_lock(&s->lock);
		if (s->peers[i].fd >= 0)
			shutdown(s->peers[i].fd, SHUT_RDWR);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->peers[i].thread, NULL);
	}
	buf_release(&s->last);
	sem_destroy(&s->came);
	sem_destroy(&s->closed);
	pthread_mutex_destroy(&s->lock);
}

static unsigned seen(struct server *s, const unsigned *what)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = *what;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* --- What the tests share. ---------------------------------------------------------------------------------------------- */

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

static struct server server;
static struct http_target *target;
static struct http_shared *shared;
static struct http *http;
static struct http_response resp;

static struct http_target *make_target(const char *scheme, unsigned port, bool https_only)
{
	static const char *const headers[] = {"X-Key: k", "Content-Type: application/json", NULL};
	char url[100];
	struct error err = {0};
	struct http_target *t;

	snprintf(url, sizeof url, "%s://127.0.0.1:%u/path", scheme, port);
	t = http_target_new(url, headers, https_only, &err);
	ck_assert_msg(t != NULL, "%s", err.msg);
	return t;
}

static void setup(void)
{

	shared = http_shared_new(NULL, NULL);
	ck_assert_ptr_nonnull(shared);
	http = http_new(shared, NULL);
	ck_assert_ptr_nonnull(http);
}

static void begin(const struct step *steps, size_t nsteps)
{
	server_start(&server, NULL, steps, nsteps);
	target = make_target("http", server.port, false);
}

static void teardown(void)
{
	http_free(http);
	http_target_free(target);
	http_shared_free(shared);
	server_stop(&server);
}

static struct http_request post(const char *body)
{
	return (struct http_request){.target = target,
				     .method = "POST",
				     .body = body,
				     .body_len = body ? strlen(body) : 0,
				     .timeout_ms = TIMEOUT_MS,
				     .max_response_bytes = 1000};
}

static void call(struct http_request req)
{
	http_perform(http, &req, &resp);
}

static void assert_answered(long status, const char *body)
{
	ck_assert_msg(resp.end == HTTP_ANSWERED, "end %d: %s", (int)resp.end, resp.fault);
	ck_assert_int_eq(resp.status, status);
	ck_assert_str_eq(buf_cstr(&resp.body), body);
	ck_assert(resp.sent);
}

/* The last request, headers and body. */
static const char *request_text(void)
{
	return buf_cstr(&server.last);
}

/* --- One answer, one end. ----------------------------------------------------------------------------------------------- */

#define BYTES(s) s, sizeof(s) - 1
#define HEAD "HTTP/1.1 200 OK\r\n"
#define GZIP HEAD "Content-Encoding: gzip\r\n"

static const struct row {
	const char *name;
	const char *answer;
	size_t len;
	enum after after;
	enum http_end end;
	long status;
	const char *type, *retry_after, *body; /* body: only of an answer */
} rows[] = {
	{"plain", BYTES(OK_ANSWER), KEEP, HTTP_ANSWERED, 200, "text/plain", "", "ok"},
	{"empty", BYTES("HTTP/1.1 204 No Content\r\n\r\n"), KEEP, HTTP_ANSWERED, 204, "", "", ""},
	{"error with a body", BYTES("HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad"), KEEP, HTTP_ANSWERED, 400, "",
	 "", "bad"},
	{"redirect is an answer", BYTES("HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"), KEEP,
	 HTTP_ANSWERED, 302, "", "", ""},
	{"type as it is", BYTES(HEAD "content-type: Audio/WAV; x=\"y\"\r\nContent-Length: 0\r\n\r\n"), KEEP,
	 HTTP_ANSWERED, 200, "Audio/WAV; x=\"y\"", "", ""},
	{"retry-after", BYTES("HTTP/1.1 503 No\r\nRETRY-AFTER: 1.5\r\nContent-Length: 0\r\n\r\n"), KEEP, HTTP_ANSWERED,
	 503, "", "1.5", ""},
	{"retry-after twice", BYTES("HTTP/1.1 429 No\r\nRetry-After: 5\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"),
	 KEEP, HTTP_ANSWERED, 429, "", "5, 7", ""},
	{"chunked", BYTES(HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"), KEEP, HTTP_ANSWERED,
	 200, "", "", "abc"},
	{"until the end", BYTES(HEAD "\r\nabc"), SHUT, HTTP_ANSWERED, 200, "", "", "abc"},
	{"interim answer", BYTES("HTTP/1.1 103 Early Hints\r\nContent-Type: a/b\r\n\r\n" OK_ANSWER), KEEP,
	 HTTP_ANSWERED, 200, "text/plain", "", "ok"},
	{"gzip",
	 BYTES(GZIP
	       "Content-Length: 25\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00"),
	 KEEP, HTTP_ANSWERED, 200, "", "", "hello"},
	{"gzip of rubbish",
	 BYTES(GZIP "Content-Length: 14\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xff"
		    "bad"),
	 KEEP, HTTP_TRANSPORT, 200, "", "", NULL},
	{"cut short", BYTES(HEAD "Content-Length: 10\r\n\r\nabc"), SHUT, HTTP_TRANSPORT, 200, "", "", NULL},
	{"chunks cut short", BYTES(HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nab"), SHUT, HTTP_TRANSPORT, 200, "", "",
	 NULL},
	{"head cut short", BYTES("HTTP/1.1 200 OK\r\nContent-Le"), SHUT, HTTP_TRANSPORT, 200, "", "", NULL},
	{"reset in the body", BYTES(HEAD "Content-Length: 10\r\n\r\nabc"), RESET, HTTP_TRANSPORT, 200, "", "", NULL},
	{"reset at once", NULL, 0, RESET, HTTP_TRANSPORT, 0, "", "", NULL},
	{"closed at once", NULL, 0, SHUT, HTTP_TRANSPORT, 0, "", "", NULL},
	{"no HTTP at all", BYTES("-ERR what?\r\n"), SHUT, HTTP_TRANSPORT, 0, "", "", NULL},
	{"silence", NULL, 0, HOLD, HTTP_TIMED_OUT, 0, "", "", NULL},
	{"silence in the body", BYTES(HEAD "Content-Length: 10\r\n\r\nabc"), HOLD, HTTP_TIMED_OUT, 200, "", "", NULL},
	{"dribbled body", BYTES(HEAD "Content-Length: 900\r\n\r\n"), DRIBBLE, HTTP_TIMED_OUT, 200, "", "", NULL},
	{"dribbled head", BYTES(HEAD "X-Slow: "), DRIBBLE, HTTP_TIMED_OUT, 200, "", "", NULL},
	{"too large", BYTES(HEAD "Content-Length: 20\r\n\r\n01234567890123456789"), KEEP, HTTP_TOO_LARGE, 200, "", "",
	 NULL},
	{"just not too large", BYTES(HEAD "Content-Length: 16\r\n\r\n0123456789012345"), KEEP, HTTP_ANSWERED, 200, "",
	 "", "0123456789012345"},
	{"too large in chunks",
	 BYTES(HEAD "Transfer-Encoding: chunked\r\n\r\n9\r\n012345678\r\n9\r\n012345678\r\n0\r\n\r\n"), KEEP,
	 HTTP_TOO_LARGE, 200, "", "", NULL},
	{"too large unpacked",
	 BYTES(GZIP
	       "Content-Length: 29\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x4b\x4c\x1c\x05\xa3\x60\x14\x0c\x77\x00\x00\xf9\x8b\xb9\xce\xe8\x03\x00\x00"),
	 KEEP, HTTP_TOO_LARGE, 200, "", "", NULL},
};

START_TEST(each_answer_has_its_end)
{
	const struct row *row = &rows[_i];
	struct step step = {row->answer, row->len, row->after};
	bool hangs = row->after == HOLD || row->after == DRIBBLE;
	struct http_request req;

	begin(&step, 1);
	req = post("body");
	req.query = "key=" QUERY_SECRET;
	req.max_response_bytes = 16;
	if (strstr(row->name, "dribbled"))
		req.max_response_bytes = 1000;
	req.timeout_ms = hangs ? SHORT_TIMEOUT_MS : TIMEOUT_MS;
	call(req);
	ck_assert_msg(resp.end == row->end, "%s: end %d, not %d (%s)", row->name, (int)resp.end, (int)row->end,
		      resp.fault);
	ck_assert_msg(resp.status == row->status, "%s: status %ld", row->name, resp.status);
	ck_assert_msg(resp.sent, "%s: not sent", row->name);
	ck_assert_msg(seen(&server, &server.requests) == 1, "%s: not one request", row->name);
	if (row->end == HTTP_ANSWERED) {
		ck_assert_str_eq(resp.content_type, row->type);
		ck_assert_str_eq(resp.retry_after, row->retry_after);
		ck_assert_str_eq(buf_cstr(&resp.body), row->body);
		ck_assert_str_eq(resp.fault, "");
	} else {
		ck_assert_msg(*resp.fault && !strstr(resp.fault, QUERY_SECRET), "%s: fault '%s'", row->name,
			      resp.fault);
	}
	ck_assert_double_ge(resp.elapsed_ms, row->end == HTTP_TIMED_OUT ? SHORT_TIMEOUT_MS - 2 : 0);
	ck_assert_double_lt(resp.elapsed_ms, hangs ? SHORT_TIMEOUT_MS + 2000 : TIMEOUT_MS / 2.0);
}
END_TEST

/* --- Connections. ------------------------------------------------------------------------------------------------------- */

START_TEST(a_connection_is_used_again)
{
	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	for (int i = 0; i < 5; i++) {
		call(post("body"));
		assert_answered(200, "ok");
	}
	ck_assert_uint_eq(seen(&server, &server.connections), 1);
	ck_assert_uint_eq(seen(&server, &server.requests), 5);
}
END_TEST

START_TEST(a_fresh_connection_when_asked)
{
	struct http_request req;

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	req = post("body");
	call(req);
	req.fresh_connection = true;
	call(req);
	assert_answered(200, "ok");
	ck_assert_uint_eq(seen(&server, &server.connections), 2);
}
END_TEST

/* The server closed a kept connection before we used it: nobody is harmed, a new one is made. */
START_TEST(an_idle_connection_may_be_gone)
{
	begin(&(struct step){OK_ANSWER, 0, SHUT}, 1);
	call(post("body"));
	assert_answered(200, "ok");
	sem_wait(&server.closed);
	call(post("body"));
	assert_answered(200, "ok");
	ck_assert_uint_eq(seen(&server, &server.connections), 2);
	ck_assert_uint_eq(seen(&server, &server.requests), 2);
}
END_TEST

/* libcurl would send the request again, on its own, and report success. */
static void dies_after_the_request(enum after how, bool streamed);

START_TEST(a_post_is_never_sent_twice)
{
	dies_after_the_request(_i & 1 ? RESET : SHUT, _i & 2);
}
END_TEST

/* Nor is the attempt forgotten when the second connection cannot be made. */
START_TEST(it_was_sent_although_the_server_is_gone)
{
	const struct step steps[] = {{OK_ANSWER, 0, KEEP}, {NULL, 0, SHUT}};

	begin(steps, 2);
	call(post("first"));
	assert_answered(200, "ok");
	server_deafen(&server);
	call(post("second"));
	ck_assert_int_eq(resp.end, HTTP_TRANSPORT);
	ck_assert(resp.sent);
	ck_assert_int_eq(resp.status, 0);
}
END_TEST

START_TEST(a_refused_connection_sends_nothing)
{
	begin(&(struct step){OK_ANSWER, 0, SHUT}, 1);
	call(post("body")); /* what this one leaves behind must not show in the next */
	assert_answered(200, "ok");
	sem_wait(&server.closed);
	server_deafen(&server);
	call(post("body"));
	ck_assert_int_eq(resp.end, HTTP_TRANSPORT);
	ck_assert(!resp.sent);
	ck_assert_int_eq(resp.status, 0);
	ck_assert_str_eq(resp.content_type, "");
	ck_assert_ptr_nonnull(strstr(resp.fault, "127.0.0.1"));
	ck_assert_uint_eq(resp.body.len, 0);
}
END_TEST

/* After an end of any kind the handle is as good as new: each fault is its own. */
START_TEST(faults_do_not_stay)
{
	static const enum http_end ends[] = {HTTP_TOO_LARGE, HTTP_TIMED_OUT, HTTP_TRANSPORT, HTTP_ANSWERED};
	const struct step steps[] = {{HEAD "Content-Length: 10\r\n\r\n0123456789", 0, KEEP},
				     {HEAD "Content-Length: 5\r\n\r\n", 0, HOLD},
				     {NULL, 0, SHUT},
				     {OK_ANSWER, 0, KEEP}};
	struct http_request req;

	begin(steps, 4);
	req = post("body");
	req.max_response_bytes = 8;
	req.timeout_ms = SHORT_TIMEOUT_MS;
	for (size_t i = 0; i < 4; i++) {
		call(req);
		ck_assert_msg(resp.end == ends[i], "%zu: end %d: %s", i, (int)resp.end, resp.fault);
		ck_assert_int_eq(*resp.fault == '\0', resp.end == HTTP_ANSWERED);
	}
}
END_TEST

/* --- Requests. ---------------------------------------------------------------------------------------------------------- */

static bool requested(const char *part)
{
	return strstr(request_text(), part) != NULL;
}

START_TEST(a_request_is_exact)
{
	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	call(post("{\"in\":1}"));
	assert_answered(200, "ok");
	ck_assert(strncmp(request_text(), "POST /path HTTP/1.1\r\n", 21) == 0);
	ck_assert(requested("\r\nX-Key: k\r\n") && requested("\r\nContent-Type: application/json\r\n"));
	ck_assert(requested("\r\nContent-Length: 8\r\n") && !requested("\r\nAccept-Encoding:"));
	ck_assert(requested("\r\n\r\n{\"in\":1}"));
	ck_assert(!requested("Expect:") && !requested("chunked"));
}
END_TEST

/* What one call sets must not stay behind in the next, in whatever order the kinds come. */
static const struct {
	const char *method, *query, *header, *body, *line, *absent;
} shapes[] = {
	{"POST", NULL, NULL, "one", "POST /path HTTP/1.1\r\n", "X-Own"},
	{"POST", "a=b%20c", "X-Own: 1", "two", "POST /path?a=b%20c HTTP/1.1\r\n", "one"},
	{"GET", NULL, NULL, "", "GET /path HTTP/1.1\r\n", "two"},
	{"POST", NULL, NULL, "three", "POST /path HTTP/1.1\r\n", "X-Own"},
	{"GET", NULL, NULL, "", "GET /path HTTP/1.1\r\n", "three"},
	{"DELETE", NULL, NULL, "", "DELETE /path HTTP/1.1\r\n", "three"},
	{"GET", "q", NULL, "", "GET /path?q HTTP/1.1\r\n", "Content-Length"},
	{"POST", NULL, "X-Own: 2", "", "POST /path HTTP/1.1\r\n", "three"},
	{"PUT", NULL, NULL, "four", "PUT /path HTTP/1.1\r\n", "X-Own"},
	{"POST", NULL, NULL, "five", "POST /path HTTP/1.1\r\n", "four"},
};

START_TEST(shapes_do_not_mix)
{
	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const char *headers[] = {shapes[i].header, NULL};
		char *body = strdup(shapes[i].body); /* gone before the next call */
		struct http_request req = post(body);

		req.method = shapes[i].method;
		req.query = shapes[i].query;
		req.headers = shapes[i].header ? headers : NULL;
		call(req);
		free(body);
		assert_answered(200, "ok");
		ck_assert_msg(strncmp(request_text(), shapes[i].line, strlen(shapes[i].line)) == 0, "%zu: %s", i,
			      request_text());
		ck_assert_msg(requested("X-Key: k"), "%zu: %s", i, request_text());
		ck_assert_msg(!shapes[i].header || requested(shapes[i].header), "%zu: %s", i, request_text());
		ck_assert_msg(!requested(shapes[i].absent), "%zu: %s", i, request_text());
		ck_assert_str_eq(strstr(request_text(), "\r\n\r\n") + 4, shapes[i].body);
	}
	ck_assert_uint_eq(seen(&server, &server.connections), 1);
}
END_TEST

static enum http_sink_says sink_says;
static struct buf sunk;

static enum http_sink_says take(void *ctx, const char *bytes, size_t n)
{
	(void)ctx;
	buf_add(&sunk, bytes, n);
	return sink_says;
}

static const struct http_sink sink = {.write = take};

#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

/* Only an event stream goes to the sink; what follows on the handle is as ever. */
static const struct {
	struct step step;
	enum http_sink_says says;
	enum http_end end;
	const char *sunk, *body;
	bool streamed;
} sinks[] = {
	{{EVENTS "Content-Length: 4\r\n\r\nabcd", 0, KEEP}, HTTP_SINK_MORE, HTTP_ANSWERED, "abcd", "", true},
	{{EVENTS "Content-Length: 0\r\n\r\n", 0, KEEP}, HTTP_SINK_MORE, HTTP_ANSWERED, "", "", true},
	{{EVENTS "Content-Length: 9\r\n\r\nabcd", 0, SHUT}, HTTP_SINK_MORE, HTTP_TRANSPORT, "abcd", "", true},
	{{EVENTS "Content-Length: 9\r\n\r\nabcd", 0, HOLD}, HTTP_SINK_MORE, HTTP_TIMED_OUT, "abcd", "", true},
	{{EVENTS "\r\nabcd", 0, HOLD}, HTTP_SINK_ENOUGH, HTTP_ANSWERED, "abcd", "", true},
	{{EVENTS "\r\nabcd", 0, HOLD}, HTTP_SINK_STOP, HTTP_STOPPED, "abcd", "", true},
	{{EVENTS "Content-Length: 40\r\n\r\n0123456789012345678901234567890123456789", 0, KEEP},
	 HTTP_SINK_MORE,
	 HTTP_TOO_LARGE,
	 "",
	 "",
	 true},
	{{"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0, KEEP},
	 HTTP_SINK_STOP,
	 HTTP_ANSWERED,
	 "",
	 "{}",
	 false},
	{{"HTTP/1.1 500 No\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\n{}", 0, KEEP},
	 HTTP_SINK_STOP,
	 HTTP_ANSWERED,
	 "",
	 "{}",
	 false},
};

START_TEST(a_stream_goes_to_its_sink)
{
	const struct step steps[] = {sinks[_i].step, {OK_ANSWER, 0, KEEP}};
	struct http_request req;

	begin(steps, 2);
	sunk = BUF_INIT(1000);
	sink_says = sinks[_i].says;
	req = post("body");
	req.sink = &sink;
	req.timeout_ms = SHORT_TIMEOUT_MS;
	req.max_response_bytes = 20;
	call(req);
	ck_assert_int_eq(resp.end, sinks[_i].end);
	ck_assert_int_eq(resp.streamed, sinks[_i].streamed);
	ck_assert_str_eq(buf_cstr(&sunk), sinks[_i].sunk);
	ck_assert_str_eq(buf_cstr(&resp.body), sinks[_i].body);
	call(post("body"));
	assert_answered(200, "ok");
	buf_release(&sunk);
}
END_TEST

START_TEST(a_form_leaves_nothing_behind)
{
	const struct http_form form = {.file_field = "file", .file_name = "n.txt", .field = "purpose", .value = "p"};
	struct http_target *bare;
	struct http_request req;
	struct error err;
	char url[64];

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	snprintf(url, sizeof url, "http://127.0.0.1:%u/path", server.port);
	bare = http_target_new(url, NULL, false, &err); /* a target's Content-Type would be the form's */
	for (int i = 0; i < 3; i++) {
		req = post("the file");
		req.target = bare;
		req.form = &form;
		req.path = "/below";
		call(req);
		assert_answered(200, "ok");
		ck_assert(strncmp(request_text(), "POST /path/below HTTP/1.1\r\n", 27) == 0);
		ck_assert(requested("multipart/form-data; boundary=") && requested("\r\n\r\nthe file\r\n--"));
		ck_assert(requested("name=\"purpose\"\r\n\r\np\r\n--"));
		req = post(NULL);
		req.method = i == 0 ? "GET" : i == 1 ? "DELETE" : "POST";
		call(req);
		assert_answered(200, "ok");
		ck_assert(!requested("multipart") && !requested("the file"));
	}
	http_free(http); /* before what it is set up for */
	http = NULL;
	http_target_free(bare);
}
END_TEST

START_TEST(a_handle_serves_several_targets)
{
	struct http_target *first, *second;
	struct http_request req;

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	first = target;
	second = http_target_new("http://127.0.0.1:1/closed", NULL, false, NULL);
	ck_assert_ptr_nonnull(second);
	for (int i = 0; i < 3; i++) {
		req = post("body");
		req.target = i == 1 ? second : first;
		call(req);
		ck_assert_int_eq(resp.end, i == 1 ? HTTP_TRANSPORT : HTTP_ANSWERED);
	}
	http_target_free(second);
}
END_TEST

START_TEST(https_only_means_it)
{
	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	http_target_free(target);
	target = make_target("http", server.port, true);
	call(post("body"));
	ck_assert_int_eq(resp.end, HTTP_REFUSED);
	ck_assert(!resp.sent && *resp.fault);
	ck_assert_uint_eq(seen(&server, &server.connections), 0);
}
END_TEST

START_TEST(bad_targets_are_refused)
{
	static const char *const split[] = {"X-Key: " QUERY_SECRET "\r\nX-More: 1", NULL};
	struct error err = {0};

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	ck_assert_ptr_null(http_target_new("no url at all", NULL, false, &err));
	ck_assert_int_eq(err.code, ERR_CONFIG);
	ck_assert_str_eq(err.msg, "is no URL"); /* a password may stand in it */
	/* A key with a line break in it would be a header of its own, or the end of the head. */
	ck_assert_ptr_null(http_target_new("http://127.0.0.1/", split, false, &err));
	ck_assert_int_eq(err.code, ERR_CONFIG);
	ck_assert(strstr(err.msg, "X-Key") && !strstr(err.msg, QUERY_SECRET));
}
END_TEST

START_TEST(values_are_encoded)
{
	struct buf out = BUF_INIT(1000);

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	http_encode(&out, "aZ09-._~ &=+/?%\xc9\x9b", 17);
	ck_assert_str_eq(buf_cstr(&out), "aZ09-._~%20%26%3D%2B%2F%3F%25%C9%9B");
	buf_release(&out);
}
END_TEST

/* --- Streamed bodies. --------------------------------------------------------------------------------------------------- */

struct stream {
	int64_t at, size, breaks_at; /* breaks_at: -1 never */
	bool ends_early;
	unsigned rewinds;
};

static int64_t stream_read(void *ctx, char *to, size_t n)
{
	struct stream *s = ctx;

	if (s->at == s->breaks_at)
		return s->ends_early ? 0 : -1;
	if ((int64_t)n > s->size - s->at)
		n = (size_t)(s->size - s->at);
	if (s->breaks_at >= 0 && (int64_t)n > s->breaks_at - s->at)
		n = (size_t)(s->breaks_at - s->at);
	for (size_t i = 0; i < n; i++)
		to[i] = (char)('a' + (s->at + (int64_t)i) % 23);
	s->at += (int64_t)n;
	return (int64_t)n;
}

static int stream_rewind(void *ctx)
{
	struct stream *s = ctx;

	s->at = 0;
	s->rewinds++;
	return 0;
}

static void call_streaming(struct stream *s)
{
	struct http_body_source source = {stream_read, stream_rewind, s, s->size};
	struct http_request req = post("");

	req.source = &source;
	call(req);
}

START_TEST(a_streamed_body_arrives_whole)
{
	static const int64_t sizes[] = {1, 65536, 3000000};
	struct stream s = {.size = sizes[_i], .breaks_at = -1};
	const char *body;
	char length[60];

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	call_streaming(&s);
	assert_answered(200, "ok");
	snprintf(length, sizeof length, "\r\nContent-Length: %lld\r\n", (long long)s.size);
	ck_assert(requested(length) && !requested("chunked") && !requested("Expect"));
	body = strstr(request_text(), "\r\n\r\n") + 4;
	ck_assert_int_eq((int64_t)strlen(body), s.size);
	for (int64_t i = 0; i < s.size; i++)
		if (body[i] != (char)('a' + i % 23))
			ck_abort_msg("byte %lld differs", (long long)i);
	call(post("after")); /* nothing of the source stays behind */
	assert_answered(200, "ok");
	ck_assert(requested("\r\n\r\nafter"));
	ck_assert_uint_eq(seen(&server, &server.connections), 1);
}
END_TEST

/* A source that fails, and one that ends before its size: the server would wait for the rest as long as we let it. */
START_TEST(a_broken_source_ends_the_call)
{
	const struct step steps[] = {{NULL, 0, SHUT}, {OK_ANSWER, 0, KEEP}};
	struct stream s = {.size = 300000, .breaks_at = 100000, .ends_early = _i};

	begin(steps, 2);
	call_streaming(&s);
	ck_assert_msg(resp.end == HTTP_BODY_FAILED, "end %d: %s", (int)resp.end, resp.fault);
	ck_assert_ptr_nonnull(strstr(resp.fault, "body"));
	ck_assert_double_lt(resp.elapsed_ms, TIMEOUT_MS / 2.0);
	ck_assert_uint_eq(seen(&server, &server.requests), 0);
	call(post("after"));
	ck_assert_int_eq(resp.end, HTTP_TRANSPORT);
	call(post("after"));
	assert_answered(200, "ok");
}
END_TEST

static void dies_after_the_request(enum after how, bool streamed)
{
	const struct step steps[] = {{OK_ANSWER, 0, KEEP}, {NULL, 0, how}, {OK_ANSWER, 0, KEEP}};
	struct stream s = {.size = 5000, .breaks_at = -1};

	begin(steps, 3);
	call(post("first"));
	assert_answered(200, "ok");
	if (streamed)
		call_streaming(&s);
	else
		call(post("second"));
	ck_assert_msg(resp.end == HTTP_TRANSPORT, "end %d", (int)resp.end);
	ck_assert(resp.sent);
	ck_assert_int_eq(resp.status, 0);
	ck_assert_uint_eq(seen(&server, &server.requests), 2);
	call(post("third"));
	assert_answered(200, "ok");
	ck_assert_uint_eq(seen(&server, &server.requests), 3);
}

/* --- Aborting, and many threads. ---------------------------------------------------------------------------------------- */

static void *abort_when_it_came(void *arg)
{
	sem_wait(&server.came);
	http_abort(arg);
	return NULL;
}

START_TEST(another_thread_may_abort)
{
	const struct step steps[] = {{OK_ANSWER, 0, KEEP}, {NULL, 0, HOLD}, {OK_ANSWER, 0, KEEP}};
	pthread_t other;

	begin(steps, 3);
	call(post("body")); /* so that no timer of a new connection wakes the next one */
	sem_wait(&server.came);
	pthread_create(&other, NULL, abort_when_it_came, http);
	call(post("body"));
	pthread_join(other, NULL);
	ck_assert_int_eq(resp.end, HTTP_ABORTED);
	ck_assert(resp.sent && *resp.fault);
	ck_assert_double_lt(resp.elapsed_ms, 900); /* it was woken; without that it would look after a second */
	call(post("body"));
	ck_assert_int_eq(resp.end, HTTP_ABORTED);
	ck_assert(!resp.sent && *resp.fault);
	ck_assert_uint_eq(seen(&server, &server.requests), 2);
	http_unabort(http);
	call(post("body"));
	assert_answered(200, "ok");
}
END_TEST

START_TEST(an_abort_before_the_first_call)
{
	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	http_abort(http);
	call(post("body"));
	ck_assert_int_eq(resp.end, HTTP_ABORTED);
	ck_assert_uint_eq(seen(&server, &server.connections), 0);
}
END_TEST

#define CREW 8
#define CREW_CALLS 50

static void *call_often(void *arg)
{
	struct http *own = http_new(shared, NULL);
	struct http_response answer;
	uintptr_t good = 0;

	(void)arg;
	for (int i = 0; i < CREW_CALLS; i++) {
		struct http_request req = post("body");

		req.query = i % 3 == 0 ? "q=1" : NULL;
		http_perform(own, &req, &answer);
		good += answer.end == HTTP_ANSWERED && answer.body.len == 2;
	}
	http_free(own);
	return (void *)good;
}

START_TEST(many_threads_share_a_target)
{
	pthread_t crew[CREW];

	begin(&(struct step){OK_ANSWER, 0, KEEP}, 1);
	for (size_t i = 0; i < CREW; i++)
		pthread_create(&crew[i], NULL, call_often, NULL);
	for (size_t i = 0; i < CREW; i++) {
		void *good;

		pthread_join(crew[i], &good);
		ck_assert_uint_eq((uintptr_t)good, CREW_CALLS);
	}
	ck_assert_uint_eq(seen(&server, &server.requests), CREW * CREW_CALLS);
	ck_assert_uint_eq(seen(&server, &server.connections), CREW);
}
END_TEST

/* --- TLS. --------------------------------------------------------------------------------------------------------------- */

static X509 *make_certificate(EVP_PKEY *key, const char *name)
{
	X509 *x = X509_new();
	X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	X509_add_ext(x, names, -1);
	X509_EXTENSION_free(names);
	ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
	return x;
}

/* A server's context with a certificate of its own making, which is written to path as the CA bundle. */
static SSL_CTX *make_tls(const char *name, const char *path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = make_certificate(key, name);
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
	FILE *f = fopen(path, "w");

	ck_assert_int_eq(SSL_CTX_use_certificate(tls, x), 1);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey(tls, key), 1);
	ck_assert(f && PEM_write_X509(f, x));
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
	return tls;
}

static const struct {
	const char *name;   /* in the server's certificate */
	const char *bundle; /* "own": with that certificate; "other": with one of the same name; "missing" */
	enum http_end end;
	const char *fault;
} trusts[] = {
	{"IP:127.0.0.1", "own", HTTP_ANSWERED, ""},
	{"IP:127.0.0.1", "other", HTTP_TRANSPORT, "certificate"},
	{"IP:127.0.0.2", "own", HTTP_TRANSPORT, "127.0.0.1"},
	{"IP:127.0.0.1", "missing", HTTP_REFUSED, "missing.pem"},
};

START_TEST(a_server_is_trusted_by_the_bundle_alone)
{
	char folder[] = "/tmp/adwuma-http-XXXXXX", own[100], other[100], bundle[100];
	struct step step = {OK_ANSWER, 0, KEEP};
	struct http *again;
	SSL_CTX *tls;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(own, sizeof own, "%s/own.pem", folder);
	snprintf(other, sizeof other, "%s/other.pem", folder);
	snprintf(bundle, sizeof bundle, "%s/%s.pem", folder, trusts[_i].bundle);
	SSL_CTX_free(make_tls(trusts[_i].name, other));
	tls = make_tls(trusts[_i].name, own);
	server_start(&server, tls, &step, 1);
	target = make_target("https", server.port, true);
	shared = http_shared_new(bundle, NULL);
	ck_assert_ptr_nonnull(shared);
	http = http_new(shared, NULL);
	call(post("body"));
	ck_assert_msg(resp.end == trusts[_i].end, "end %d: %s", (int)resp.end, resp.fault);
	ck_assert_msg(strstr(resp.fault, trusts[_i].fault) != NULL, "%s", resp.fault);
	ck_assert_int_eq(resp.sent, resp.end == HTTP_ANSWERED);
	ck_assert_uint_eq(seen(&server, &server.requests), resp.end == HTTP_ANSWERED);
	if (resp.end == HTTP_ANSWERED) { /* another handle takes the session up */
		again = http;
		http = http_new(shared, NULL);
		call(post("body"));
		assert_answered(200, "ok");
		ck_assert_uint_eq(seen(&server, &server.resumed), 1);
		http_free(again);
	}
	teardown();
	SSL_CTX_free(tls);
	unlink(own);
	unlink(other);
	rmdir(folder);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http");
	TCase *t = tcase_create("plain"), *tls = tcase_create("tls");
	SRunner *r;
	int failed;

	signal(SIGPIPE, SIG_IGN);
	tcase_set_timeout(t, 60);
	tcase_set_timeout(tls, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, each_answer_has_its_end, 0, sizeof rows / sizeof *rows);
	tcase_add_test(t, a_connection_is_used_again);
	tcase_add_test(t, a_fresh_connection_when_asked);
	tcase_add_test(t, an_idle_connection_may_be_gone);
	tcase_add_loop_test(t, a_post_is_never_sent_twice, 0, 4);
	tcase_add_test(t, it_was_sent_although_the_server_is_gone);
	tcase_add_test(t, a_refused_connection_sends_nothing);
	tcase_add_test(t, faults_do_not_stay);
	tcase_add_test(t, a_request_is_exact);
	tcase_add_test(t, shapes_do_not_mix);
	tcase_add_test(t, a_handle_serves_several_targets);
	tcase_add_test(t, https_only_means_it);
	tcase_add_test(t, bad_targets_are_refused);
	tcase_add_test(t, values_are_encoded);
	tcase_add_loop_test(t, a_streamed_body_arrives_whole, 0, 3);
	tcase_add_loop_test(t, a_broken_source_ends_the_call, 0, 2);
	tcase_add_loop_test(t, a_stream_goes_to_its_sink, 0, sizeof sinks / sizeof *sinks);
	tcase_add_test(t, a_form_leaves_nothing_behind);
	tcase_add_test(t, another_thread_may_abort);
	tcase_add_test(t, an_abort_before_the_first_call);
	tcase_add_test(t, many_threads_share_a_target);
	tcase_add_loop_test(tls, a_server_is_trusted_by_the_bundle_alone, 0, sizeof trusts / sizeof *trusts);
	suite_add_tcase(s, t);
	suite_add_tcase(s, tls);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
