/* SPDX-License-Identifier: MIT
 *
 * What a server says on a connection of ours, from the handshake on. The input's first byte says how the rest is used (see below);
 * the rest is the server's bytes, given by a thread behind a Unix socket. */
#include "fuzz.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "queue/turn.h"
#include "redis/redis.h"

/* The first byte. */
#define WELCOME 1 /* the bytes come behind a handshake that succeeds */
#define LOGIN 2	  /* we log in and select a database */
#define REAPING 4 /* the turn names a worker that may turn out to be alive */
#define POLLED 8  /* replies are polled for */
#define SETTLED(c) ((c) >> 4 & 3)
#define SLOTS(c) ((c) >> 6)

#define REPLIES_MAX 100

static struct {
	char dir[64], path[80];
	int listener;
	sem_t served;
	const char *bytes;
	size_t len;
} server;

static void welcome(struct buf *out, bool login)
{
	static const char info[] = "redis_version:7.0.15\r\nrole:master\r\nuptime_in_seconds:77\r\n";

	if (login)
		buf_lit(out, "+OK\r\n+OK\r\n");
	buf_printf(out, "$%zu\r\n%s\r\n", sizeof info - 1, info);
	for (int i = 0; i < SCRIPTS; i++)
		buf_lit(out, "$40\r\n0123456789012345678901234567890123456789\r\n");
}

static void *serve(void *unused)
{
	char drop[4096];

	for (;;) {
		int fd = accept(server.listener, NULL, NULL);

		must(fd >= 0);
		for (size_t at = 0; at < server.len;) {
			ssize_t n = send(fd, server.bytes + at, server.len - at, MSG_NOSIGNAL);

			if (n <= 0)
				break;
			at += (size_t)n;
		}
		shutdown(fd, SHUT_WR);
		while (read(fd, drop, sizeof drop) > 0)
			;
		close(fd);
		sem_post(&server.served);
	}
	return unused;
}

static void clean(void)
{
	unlink(server.path);
	rmdir(server.dir);
}

static void start(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	pthread_t thread;

	if (server.listener)
		return;
	signal(SIGPIPE, SIG_IGN);
	snprintf(server.dir, sizeof server.dir, "%s/fuzz.XXXXXX", P_tmpdir);
	must(mkdtemp(server.dir));
	snprintf(server.path, sizeof server.path, "%s/redis", server.dir);
	memcpy(name.sun_path, server.path, strlen(server.path) + 1);
	server.listener = socket(AF_UNIX, SOCK_STREAM, 0);
	must(bind(server.listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(server.listener, 1) == 0);
	atexit(clean);
	sem_init(&server.served, 0, 0);
	must(pthread_create(&thread, NULL, serve, NULL) == 0);
}

static bool is_letter(enum claim_state state)
{
	return state == CLAIM_FULL || strchr("ebupoa", (int)state);
}

static size_t length(const struct reply *p)
{
	size_t len = 0;

	must(reply_bytes(p, &len));
	return len;
}

static void check_turn(const struct reply *reply, uint8_t how)
{
	struct settlement settle[3] = {0};
	unsigned slots[3] = {0, 1, 2};
	struct turn_request q = {.worker = "w",
				 .victim = how & REAPING ? "v" : "",
				 .settle = settle,
				 .nsettle = SETTLED(how),
				 .slots = slots,
				 .nslots = SLOTS(how)};
	struct turn_answer a = {0};
	struct error err = {0};

	if (turn_read(reply, &q, &a, &err)) {
		must(err.code == ERR_REFUSED && *err.msg && !a.letters);
		return;
	}
	must(a.letters && is_letter(a.state) && a.nclaimed <= q.nslots);
	if (a.state == CLAIM_VICTIM_ALIVE)
		must(how & REAPING);
	else
		must(length(reply_at(reply, 0)) == q.nsettle);
	must(reply_count(reply) == TURN_FIRST_PAYLOAD + a.nclaimed);
	for (size_t i = 0; i < a.nclaimed; i++)
		must(reply_bytes(reply_at(reply, TURN_FIRST_PAYLOAD + i), NULL));
}

/* A reply is of one kind, and its accessors agree about which. */
static void look(struct reply *p)
{
	size_t len = 0, n = reply_count(p), stolen = 0;
	const char *bytes = reply_bytes(p, &len), *error = reply_error(p);
	bool number = reply_int(p, 1) == reply_int(p, 2);
	char *taken;

	must((bytes != NULL) + (error != NULL) + reply_is_nil(p) + (n > 0) <= 1);
	must(!bytes || bytes[len] == '\0');
	must(!reply_passes(p) || error);
	must(!number || (!error && !reply_is_nil(p) && n == 0));
	must(!reply_at(p, n) && !reply_at(p, SIZE_MAX));
	for (size_t i = 0; i < n; i++)
		look(reply_at(p, i));
	taken = reply_steal(p, &stolen);
	must(taken == bytes && (!taken || (stolen == len && reply_is_nil(p) && !reply_bytes(p, NULL))));
	free(taken);
}

static int next(struct redis *r, uint8_t how, struct reply **out, struct error *err)
{
	int rc = 0;

	*out = NULL;
	if (!(how & POLLED))
		return redis_receive(r, out, err);
	while (rc == 0 && !*out)
		rc = redis_poll(r, out, err);
	return rc;
}

static void talk(struct redis *r, uint8_t how)
{
	struct error err = {0};
	struct reply *reply;

	must(redis_uptime_s(r) == 77 || !(how & WELCOME));
	for (int i = 0; i < REPLIES_MAX; i++) {
		if (next(r, how, &reply, &err)) {
			must(!reply && err.code == ERR_LINK && *err.msg);
			return;
		}
		must(reply);
		check_turn(reply, how);
		look(reply);
		reply_free(reply);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how = size ? data[0] : 0;
	struct buf bytes = BUF_INIT(SIZE_MAX / 4);
	char user[] = "u", password[] = "p";
	struct redis_address a = {.socket = server.path};
	struct error err = {0};
	struct redis *r;

	start();
	if (how & LOGIN)
		a = (struct redis_address){.socket = server.path, .db = 3, .username = user, .password = password};
	if (how & WELCOME)
		welcome(&bytes, how & LOGIN);
	buf_add(&bytes, data + 1, size ? size - 1 : 0);
	server.bytes = buf_cstr(&bytes);
	server.len = bytes.len;
	r = redis_open(&a, "adwuma:{q}:ready", true, &err);
	must(r || !(how & WELCOME));
	must(r || ((err.code == ERR_LINK || err.code == ERR_REFUSED) && *err.msg));
	if (r)
		talk(r, how);
	redis_close(r);
	while (sem_wait(&server.served))
		;
	buf_release(&bytes);
	return 0;
}
