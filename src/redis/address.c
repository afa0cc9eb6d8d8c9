/* SPDX-License-Identifier: MIT
 *
 * Where Redis is: redis[s]://[user[:password]@]host[:port][/db], redis[s]+sentinel://…host:port,…/name[/db], redis[s]+cluster://…host:port,… and
 * unix:///path[?db=N]. No message repeats the URL: it may hold a password. */
#include "redis/connection.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIS_PORT_DEFAULT 6379
#define SENTINEL_PORT_DEFAULT 26379
#define PORT_MAX 65535
#define CLUSTER_SLOT_MAX 16383
#define REDIS_DB_MAX 16383
#define PART_MAX 4096 /* bytes of a name, a password or a path, decoded */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decoded copy of n bytes; NULL when an escape is broken or hides a NUL, when it is too long, or memory ran out. */
static char *decode(const char *s, size_t n)
{
	char *out = n <= 3 * PART_MAX ? malloc(n + 1) : NULL;
	size_t w = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] != '%') {
			out[w++] = s[i];
			continue;
		}
		int hi = i + 1 < n ? hex_value(s[i + 1]) : -1;
		int lo = i + 2 < n ? hex_value(s[i + 2]) : -1;
		if (hi < 0 || lo < 0 || (hi == 0 && lo == 0)) {
			free(out);
			return NULL;
		}
		out[w++] = (char)(hi * 16 + lo);
		i += 2;
	}
	out[w] = '\0';
	if (w <= PART_MAX)
		return out;
	free(out);
	return NULL;
}

/* A whole decimal number in [0, max]; -1 otherwise. */
static int number(const char *s, size_t n, int max)
{
	int v = 0;

	if (n == 0 || n > 9)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v <= max ? v : -1;
}

static int parse_unix(struct redis_address *a, const char *rest, struct error *err)
{
	const char *query = strchr(rest, '?');
	size_t n = query ? (size_t)(query - rest) : strlen(rest);

	if (n < 2 || rest[0] != '/')
		return error_set(err, ERR_CONFIG, "unix:// needs an absolute path, like unix:///run/redis.sock?db=0");
	if (query) {
		if (strncmp(query, "?db=", 4) != 0 || (a->db = number(query + 4, strlen(query + 4), REDIS_DB_MAX)) < 0)
			return error_set(err, ERR_CONFIG, "after the socket's path only ?db=NUMBER may follow");
	}
	a->socket = decode(rest, n);
	return a->socket ? 0 : error_set(err, ERR_CONFIG, "the socket's path has a broken %% escape, or is too long");
}

static int parse_user(struct redis_address *a, const char *s, size_t n, struct error *err)
{
	const char *colon = memchr(s, ':', n);
	size_t user = colon ? (size_t)(colon - s) : n;

	if (user > 0 && !(a->username = decode(s, user)))
		return error_set(err, ERR_CONFIG, "the user name has a broken %% escape, or is too long");
	if (colon && !(a->password = decode(colon + 1, n - user - 1)))
		return error_set(err, ERR_CONFIG, "the password has a broken %% escape, or is too long");
	return 0;
}

/* n bytes; a zone may follow behind '%'. */
static bool is_ipv6(const char *s, size_t n)
{
	const char *zone = memchr(s, '%', n);
	char text[INET6_ADDRSTRLEN];
	struct in6_addr parsed;

	if (zone)
		n = (size_t)(zone - s);
	if (n >= sizeof text)
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &parsed) == 1;
}

/* One "host:port" of n bytes. An empty host is this machine, unless there are several to choose from. */
static int parse_point(struct redis_point *p, const char *s, size_t n, int port_default, struct error *err)
{
	const char *port = NULL;
	size_t host = n;

	if (n > 0 && s[0] == '[') { /* an IPv6 address */
		const char *end = memchr(s, ']', n);
		if (!end || (end + 1 < s + n && end[1] != ':') || !is_ipv6(s + 1, (size_t)(end - s - 1)))
			return error_set(err, ERR_CONFIG, "an IPv6 address stands in brackets: redis://[::1]:6379/0");
		port = end + 1 < s + n ? end + 2 : NULL;
		s++;
		host = (size_t)(end - s);
		n--;
	} else {
		const char *colon = memchr(s, ':', n);
		if (colon) {
			host = (size_t)(colon - s);
			port = colon + 1;
		}
	}
	p->port = port ? number(port, (size_t)(s + n - port), PORT_MAX) : port_default;
	if (p->port <= 0)
		return error_set(err, ERR_CONFIG, "the port must be a number from 1 to %d", PORT_MAX);
	if (host > REDIS_HOST_MAX)
		return error_set(err, ERR_CONFIG, "a host's name has %d bytes at most", REDIS_HOST_MAX);
	snprintf(p->host, sizeof p->host, "%.*s", host ? (int)host : 9, host ? s : "127.0.0.1");
	return 0;
}

/* One, or several separated by commas where the scheme has several. */
static int parse_points(struct redis_address *a, const char *s, size_t n, int port_default, struct error *err)
{
	const char *end = s + n;

	a->points = calloc(REDIS_POINTS_MAX, sizeof *a->points);
	if (!a->points)
		return error_set(err, ERR_MEMORY, "out of memory");
	for (;;) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		size_t one = (size_t)((comma ? comma : end) - s);

		if (a->npoints == REDIS_POINTS_MAX)
			return error_set(err, ERR_CONFIG, "it may name %d hosts at most", REDIS_POINTS_MAX);
		if (comma && a->kind == REDIS_ALONE)
			return error_set(
				err, ERR_CONFIG,
				"several hosts are for redis+sentinel:// and redis+cluster://; redis:// has one");
		if (one == 0 && (comma || a->npoints > 0))
			return error_set(err, ERR_CONFIG, "a host is missing beside a comma");
		if (parse_point(&a->points[a->npoints++], s, one, port_default, err))
			return -1;
		if (!comma)
			return 0;
		s = comma + 1;
	}
}

/* What follows the hosts: "", "/", "/DB"; with sentinels "/NAME" or "/NAME/DB". */
static int parse_tail(struct redis_address *a, const char *tail, struct error *err)
{
	const char *name = tail + 1;
	size_t n;

	if (a->kind == REDIS_SENTINEL) {
		n = *tail == '/' ? strcspn(name, "/?") : 0;
		if (n == 0)
			return error_set(err, ERR_CONFIG,
					 "behind the sentinels stands the name of the master that they watch: "
					 "redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB");
		a->master = decode(name, n);
		if (!a->master)
			return error_set(err, ERR_CONFIG, "the master's name has a broken %% escape, or is too long");
		tail = name + n;
	}
	if (*tail == '/' && tail[1])
		a->db = number(tail + 1, strlen(tail + 1), REDIS_DB_MAX);
	if (a->db < 0 || *tail == '?')
		return error_set(err, ERR_CONFIG, "after the host only /NUMBER, the database, may follow");
	if (a->db > 0 && a->kind == REDIS_CLUSTER)
		return error_set(err, ERR_CONFIG, "a cluster has no database but 0");
	return 0;
}

static int parse_tcp(struct redis_address *a, const char *rest, struct error *err)
{
	size_t n = strcspn(rest, "/?");
	const char *tail = rest + n;
	const char *at = NULL;

	for (const char *p = rest; p < tail; p++)
		if (*p == '@')
			at = p;
	if (at && a->kind != REDIS_ALONE && memchr(rest, ',', (size_t)(at - rest)))
		return error_set(
			err, ERR_CONFIG,
			"one user and password are for all hosts, and stand once, before the first; a comma in them "
			"is written %%2C");
	if (at && parse_user(a, rest, (size_t)(at - rest), err))
		return -1;
	if (at) {
		n -= (size_t)(at + 1 - rest);
		rest = at + 1;
	}
	return parse_points(a, rest, n, a->kind == REDIS_SENTINEL ? SENTINEL_PORT_DEFAULT : REDIS_PORT_DEFAULT, err) ||
			       parse_tail(a, tail, err)
		     ? -1
		     : 0;
}

/* What beats the URL's own. */
static int override(char **field, const char *with, struct error *err)
{
	if (!with || !*with)
		return 0;
	if (*field)
		explicit_bzero(*field, strlen(*field)); /* it may be the password */
	free(*field);
	*field = strdup(with);
	return *field ? 0 : error_set(err, ERR_MEMORY, "out of memory");
}

static int parse_url(struct redis_address *a, const char *url, bool *tls, struct error *err)
{
	static const struct {
		const char *scheme;
		enum redis_kind kind;
		bool tls;
	} schemes[] = {
		{"redis://", REDIS_ALONE, false},
		{"rediss://", REDIS_ALONE, true},
		{"redis+sentinel://", REDIS_SENTINEL, false},
		{"rediss+sentinel://", REDIS_SENTINEL, true},
		{"redis+cluster://", REDIS_CLUSTER, false},
		{"rediss+cluster://", REDIS_CLUSTER, true},
	};

	if (strncmp(url, "unix://", 7) == 0)
		return parse_unix(a, url + 7, err);
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		if (strncmp(url, schemes[i].scheme, strlen(schemes[i].scheme)) != 0)
			continue;
		a->kind = schemes[i].kind;
		*tls = schemes[i].tls;
		return parse_tcp(a, url + strlen(schemes[i].scheme), err);
	}
	return error_set(err, ERR_CONFIG,
			 "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://");
}

static int complete(struct redis_address *a, const struct redis_options *o, bool tls, struct error *err)
{
	if (override(&a->username, o->username, err) || override(&a->password, o->password, err))
		return -1;
	/* Nothing would be sent; and who forgets the colon has a password here, which is shown as a name is. */
	if (a->username && !a->password)
		return error_set(
			err, ERR_CONFIG,
			"a user name is here and no password (redis_password): where the password alone is meant, it "
			"is written redis://:PASSWORD@HOST, with a colon");
	if (tls && !(a->tls = redis_tls_new(o, err)))
		return -1;
	if (a->kind == REDIS_CLUSTER && !(a->cluster = cluster_new()))
		return error_set(err, ERR_MEMORY, "out of memory");
	if (a->kind == REDIS_SENTINEL && !(a->watch = watch_new()))
		return error_set(err, ERR_MEMORY, "out of memory");
	return 0;
}

int redis_address_parse(struct redis_address *out, const char *url, const struct redis_options *options,
			struct error *err)
{
	const struct redis_options none = {0};
	struct redis_address a = {0};
	bool tls = false;
	int rc = parse_url(&a, url, &tls, err);

	if (rc == 0)
		rc = complete(&a, options ? options : &none, tls, err);
	if (rc == 0)
		*out = a;
	else
		redis_address_release(&a);
	return rc;
}

void redis_address_release(struct redis_address *a)
{
	watch_free(a->watch); /* first: it uses the others */
	free(a->points);
	free(a->socket);
	free(a->master);
	free(a->username);
	if (a->password)
		explicit_bzero(a->password, strlen(a->password));
	free(a->password);
	redis_tls_free(a->tls);
	cluster_free(a->cluster);
	*a = (struct redis_address){0};
}

void point_show(const struct redis_point *p, char *out, size_t out_bytes)
{
	snprintf(out, out_bytes, strchr(p->host, ':') ? "[%s]:%d" : "%s:%d", p->host, p->port);
}

/* Behind what is there; what does not fit is left out. */
static void show(char *out, size_t out_bytes, const char *text)
{
	size_t n = strlen(out);

	snprintf(out + n, out_bytes - n, "%s", text);
}

void redis_address_show(const struct redis_address *a, char *out, size_t out_bytes)
{
	char point[REDIS_HOST_MAX + 16];

	*out = '\0';
	if (a->socket)
		show(out, out_bytes, a->socket);
	if (a->kind == REDIS_SENTINEL) {
		show(out, out_bytes, a->master);
		show(out, out_bytes, " by ");
	}
	if (a->kind == REDIS_CLUSTER)
		show(out, out_bytes, "cluster ");
	for (size_t i = 0; i < a->npoints; i++) {
		point_show(&a->points[i], point, sizeof point);
		show(out, out_bytes, i > 0 ? "," : "");
		show(out, out_bytes, point);
	}
}

bool redis_spreads(const struct redis_address *a)
{
	return a->kind == REDIS_CLUSTER;
}

bool point_of_redirection(const char *text, const struct redis_point *from, unsigned *slot, struct redis_point *out)
{
	const char *number_at = strchr(text, ' '), *point = number_at ? strchr(number_at + 1, ' ') : NULL;
	const char *colon = point ? strrchr(point, ':') : NULL; /* the address may be one of IPv6, without brackets */
	size_t host;
	bool unknown; /* to the node itself, under which name it is reached */
	int n;

	if (!colon || (strncmp(text, "MOVED ", 6) != 0 && strncmp(text, "ASK ", 4) != 0))
		return false;
	n = number(number_at + 1, (size_t)(point - number_at - 1), CLUSTER_SLOT_MAX);
	host = (size_t)(colon - point - 1);
	out->port = number(colon + 1, strcspn(colon + 1, " "), PORT_MAX);
	if (n < 0 || out->port <= 0 || host > REDIS_HOST_MAX)
		return false;
	*slot = (unsigned)n;
	unknown = host == 0 || (host == 1 && point[1] == '?');
	snprintf(out->host, sizeof out->host, "%.*s", unknown ? REDIS_HOST_MAX : (int)host,
		 unknown ? from->host : point + 1);
	return true;
}
