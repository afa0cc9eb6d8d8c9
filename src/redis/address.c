/* SPDX-License-Identifier: MIT
 *
 * Where Redis is: redis://[user[:password]@]host[:port][/db] and unix:///path[?db=N]. The other schemes of the contract are
 * told apart, so that the refusal can say what is missing. No message repeats the URL: it may hold a password. */
#include "redis/redis.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDIS_PORT_DEFAULT 6379
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

static int parse_host(struct redis_address *a, const char *s, size_t n, struct error *err)
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
	if (port) {
		a->port = number(port, (size_t)(s + n - port), 65535);
		if (a->port <= 0)
			return error_set(err, ERR_CONFIG, "the port must be a number from 1 to 65535");
	}
	a->host = host ? strndup(s, host) : strdup("127.0.0.1");
	return a->host ? 0 : error_set(err, ERR_MEMORY, "out of memory");
}

static int parse_tcp(struct redis_address *a, const char *rest, struct error *err)
{
	size_t n = strcspn(rest, "/?");
	const char *tail = rest + n;
	const char *at = NULL;

	for (const char *p = rest; p < tail; p++)
		if (*p == '@')
			at = p;
	if (at && parse_user(a, rest, (size_t)(at - rest), err))
		return -1;
	if (at) {
		n -= (size_t)(at + 1 - rest);
		rest = at + 1;
	}
	a->port = REDIS_PORT_DEFAULT;
	if (parse_host(a, rest, n, err))
		return -1;
	if (*tail == '/' && tail[1])
		a->db = number(tail + 1, strlen(tail + 1), REDIS_DB_MAX);
	if (a->db < 0 || *tail == '?')
		return error_set(err, ERR_CONFIG, "after the host only /NUMBER, the database, may follow");
	return 0;
}

/* What beats the URL's own. */
static int override(char **field, const char *with, struct error *err)
{
	if (!with || !*with)
		return 0;
	free(*field);
	*field = strdup(with);
	return *field ? 0 : error_set(err, ERR_MEMORY, "out of memory");
}

int redis_address_parse(struct redis_address *out, const char *url, const char *username, const char *password,
			struct error *err)
{
	static const char *const later[] = {"rediss://", "redis+sentinel://", "redis+cluster://"};
	struct redis_address a = {0};
	int rc = -1;

	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		if (strncmp(url, later[i], strlen(later[i])) == 0)
			return error_set(err, ERR_CONFIG,
					 "%s is not supported by this version; use redis:// or unix://", later[i]);
	if (strncmp(url, "unix://", 7) == 0)
		rc = parse_unix(&a, url + 7, err);
	else if (strncmp(url, "redis://", 8) == 0)
		rc = parse_tcp(&a, url + 8, err);
	else
		error_set(err, ERR_CONFIG, "must begin with redis:// or unix://");
	if (rc == 0 && (override(&a.username, username, err) || override(&a.password, password, err)))
		rc = -1;
	if (rc == 0)
		*out = a;
	else
		redis_address_release(&a);
	return rc;
}

void redis_address_release(struct redis_address *a)
{
	free(a->host);
	free(a->socket);
	free(a->username);
	if (a->password)
		explicit_bzero(a->password, strlen(a->password));
	free(a->password);
	*a = (struct redis_address){0};
}

void redis_address_show(const struct redis_address *a, char *out, size_t out_bytes)
{
	if (a->socket)
		snprintf(out, out_bytes, "%s", a->socket);
	else
		snprintf(out, out_bytes, "%s:%d", a->host, a->port);
}
