/* SPDX-License-Identifier: MIT
 *
 * How long one job takes through an idle queue: producer, API and consumer in one process, so that one clock tells all. One job at a time is
 * pushed and its request awaited, answered, and its result awaited; between jobs the same connection is asked for a PONG, the machine's measure.
 *
 *   latency REDIS-SOCKET JOBS
 *
 * Listens on a loopback port, prints "listening on http://127.0.0.1:PORT", waits until a worker waits for jobs of the queue "translate", works,
 * prints one JSON line, in milliseconds.
 *
 * Nothing here spins: with few cores that would take time from the worker. So each figure holds the waking of this process, once, as that of
 * any API and any consumer. A result counts as readable when a BLMOVE that was waiting before has brought it, which is how results are read;
 * asking for the key again and again would be a load on Redis, and would find it no sooner than Redis hands it to who waits. */
#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINKS_MAX 256
#define REQUEST_MAX 8192
#define WARM_UP 20
#define GIVE_UP_MS 20000
#define PAUSE_MIN_US 5000
#define PAUSE_SPREAD_US 10000

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n\"Maakye\"";

/* A connection of the worker, and what has come of its request. */
struct http_link {
	size_t len;
	char bytes[REQUEST_MAX];
};

static struct pollfd polled[1 + LINKS_MAX]; /* the listener, then the links */
static struct http_link links[LINKS_MAX];
static nfds_t nlinks;
static redisContext *producer, *consumer;

static void die(const char *what)
{
	fprintf(stderr, "latency: %s\n", what);
	exit(1);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Long enough for the worker to sleep again, and in no step with its ticks. */
static void pause_a_little(void)
{
	usleep(PAUSE_MIN_US + (useconds_t)(random() % PAUSE_SPREAD_US));
}

/* --- Redis. ------------------------------------------------------------------------------------------------------------- */

static redisContext *connect_redis(const char *path)
{
	struct timeval limit = {.tv_sec = GIVE_UP_MS / 1000};
	redisContext *r = redisConnectUnix(path);

	if (!r || r->err || redisSetTimeout(r, limit) != REDIS_OK)
		die("no Redis there");
	return r;
}

static redisReply *checked(void *reply)
{
	redisReply *r = reply;

	if (!r || r->type == REDIS_REPLY_ERROR)
		die(r ? r->str : "Redis does not answer");
	return r;
}

/* A worker with nothing to do is the only one whom Redis holds a BLMOVE of. */
static void await_worker(void)
{
	double give_up = now_ms() + GIVE_UP_MS;
	bool waits = false;

	while (!waits) {
		redisReply *r = checked(redisCommand(producer, "INFO clients"));
		const char *blocked = strstr(r->str, "blocked_clients:");

		waits = blocked && strtol(strchr(blocked, ':') + 1, NULL, 10) > 0;
		freeReplyObject(r);
		if (now_ms() > give_up)
			die("no worker came");
		usleep(10000);
	}
}

static void await_result_later(int number)
{
	int sent = 0;

	redisAppendCommand(consumer, "BLMOVE adwuma:{translate}:result:l%d adwuma:{translate}:result:l%d LEFT LEFT %d",
			   number, number, GIVE_UP_MS / 1000);
	while (!sent)
		if (redisBufferWrite(consumer, &sent) != REDIS_OK)
			die("the consumer lost Redis");
}

static void await_result(void)
{
	void *reply = NULL;
	redisReply *r;

	if (redisGetReply(consumer, &reply) != REDIS_OK)
		die("no result came");
	r = checked(reply);
	if (r->type != REDIS_REPLY_STRING || !strstr(r->str, "\"status\":\"succeeded\""))
		die(r->str ? r->str : "no result came");
	freeReplyObject(r);
}

static double ping(void)
{
	double began = now_ms();

	freeReplyObject(checked(redisCommand(producer, "PING")));
	return now_ms() - began;
}

static void push(int number)
{
	char job[128];

	snprintf(job, sizeof job, "{\"id\":\"l%d\",\"text\":\"Good morning, number %d\",\"language_pair\":\"en-tw\"}",
		 number, number);
	freeReplyObject(checked(redisCommand(producer, "LPUSH adwuma:{translate}:ready %s", job)));
}

/* --- The API. ----------------------------------------------------------------------------------------------------------- */

static void start_to_listen(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) || listen(fd, LINKS_MAX) ||
	    getsockname(fd, (struct sockaddr *)&at, &len))
		die("cannot listen");
	printf("listening on http://127.0.0.1:%d\n", ntohs(at.sin_port));
	fflush(stdout);
	polled[0] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void accept_one(void)
{
	int on = 1, fd = accept4(polled[0].fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || nlinks == LINKS_MAX)
		die("cannot take another connection");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	links[nlinks++].len = 0;
	polled[nlinks] = (struct pollfd){.fd = fd, .events = POLLIN};
}

/* Head and body are there. */
static bool is_whole(struct http_link *link)
{
	const char *end, *length;

	link->bytes[link->len] = '\0';
	end = strstr(link->bytes, "\r\n\r\n");
	length = strcasestr(link->bytes, "\r\nContent-Length:");
	return end && length && length < end &&
	       link->len >= (size_t)(end + 4 - link->bytes) + strtoul(length + 17, NULL, 10);
}

/* True when a request is whole. A worker that closes a connection while none of its jobs waits may do so. */
static bool read_some(nfds_t i)
{
	struct http_link *link = &links[i];
	ssize_t got = recv(polled[i + 1].fd, link->bytes + link->len, sizeof link->bytes - 1 - link->len, 0);

	if (got <= 0) {
		close(polled[i + 1].fd);
		polled[i + 1] = polled[nlinks];
		links[i] = links[--nlinks];
		return false;
	}
	link->len += (size_t)got;
	return is_whole(link);
}

/* The socket that a whole request came from. */
static int await_request(void)
{
	for (;;) {
		nfds_t had = nlinks;

		if (poll(polled, 1 + nlinks, GIVE_UP_MS) <= 0)
			die("no request came");
		if (polled[0].revents)
			accept_one();
		for (nfds_t i = had; i-- > 0;)
			if (polled[i + 1].revents && read_some(i)) {
				links[i].len = 0;
				return polled[i + 1].fd;
			}
	}
}

static void answer_it(int fd)
{
	if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) != sizeof answer - 1)
		die("the worker went away");
}

/* --- Figures. ----------------------------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_figures(const char *name, double *ms, int n, const char *after)
{
	qsort(ms, (size_t)n, sizeof *ms, by_size);
	printf("\"%s\":{\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f}%s", name, ms[n / 2], ms[n * 9 / 10], ms[n * 99 / 100],
	       after);
}

static void one_job(int number, double *pickup, double *result)
{
	double pushed, asked, answered;
	int fd;

	pause_a_little();
	await_result_later(number);
	pause_a_little();
	pushed = now_ms();
	push(number);
	fd = await_request();
	asked = now_ms();
	answer_it(fd);
	answered = now_ms();
	await_result();
	*result = now_ms() - answered;
	*pickup = asked - pushed;
}

int main(int argc, char **argv)
{
	int jobs = argc == 3 ? atoi(argv[2]) : 0;
	double *pickup, *result, *pings;

	if (jobs < 1) {
		fprintf(stderr, "usage: latency REDIS-SOCKET JOBS\n");
		return 2;
	}
	pickup = calloc((size_t)jobs, sizeof *pickup);
	result = calloc((size_t)jobs, sizeof *result);
	pings = calloc((size_t)jobs, sizeof *pings);
	if (!pickup || !result || !pings)
		die("out of memory");
	producer = connect_redis(argv[1]);
	consumer = connect_redis(argv[1]);
	start_to_listen();
	await_worker();
	/* The first jobs fault code in and open connections; they are overwritten. */
	for (int i = -WARM_UP; i < jobs; i++) {
		int k = i < 0 ? 0 : i;

		one_job(i + WARM_UP, &pickup[k], &result[k]);
		pause_a_little();
		pings[k] = ping();
	}
	printf("{\"jobs\":%d,", jobs);
	print_figures("pickup", pickup, jobs, ",");
	print_figures("result", result, jobs, ",");
	print_figures("ping", pings, jobs, "}\n");
	return 0;
}
