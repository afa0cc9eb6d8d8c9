/* SPDX-License-Identifier: MIT
 *
 * Addresses of Redis and of the APIs. Input: the URL, a user and a password that beat its own; 0xff between them.
 * No message may hold what stands in the URL, told by a mark that the seeds have in their passwords. */
#include "fuzz.h"

#include <ctype.h>
#include <curl/curl.h>

#include "base/buf.h"
#include "http/http.h"
#include "redis/redis.h"
#include "settings/settings.h"
#include "worker/service.h"

#define MARK "sEcret"
#define HTTP_HOST "plain.example"

static void check_message(const struct error *err)
{
	must(err->code == ERR_CONFIG && *err->msg && !strstr(err->msg, MARK));
}

/* --- Redis. ------------------------------------------------------------------------------------------------------------- */

static void check_redis_parts(const struct redis_address *a)
{
	char shown[64];

	must(!a->points != !a->socket);
	must(a->db >= 0 && a->db <= 16383);
	must((a->kind == REDIS_SENTINEL) == (a->master && *a->master));
	must((a->kind == REDIS_CLUSTER) == (a->cluster != NULL));
	if (a->socket)
		must(a->socket[0] == '/' && a->socket[1]);
	else
		must(a->npoints >= 1 && (a->npoints == 1 || a->kind != REDIS_ALONE));
	for (size_t i = 0; i < a->npoints; i++)
		must(*a->points[i].host && a->points[i].port >= 1 && a->points[i].port <= 65535);
	redis_address_show(a, shown, sizeof shown);
	must(*shown);
}

static void add_encoded(struct buf *url, const char *text)
{
	for (; text && *text; text++)
		if (isalnum((unsigned char)*text) || *text == '/')
			buf_char(url, *text);
		else
			buf_printf(url, "%%%02x", (unsigned)(unsigned char)*text);
}

/* Written anew from its parts, it is the same address. */
static void check_redis_again(const struct redis_address *a)
{
	static const char *const schemes[] = {"redis://", "redis+sentinel://", "redis+cluster://"};
	struct buf url = BUF_INIT(SIZE_MAX / 4);
	struct redis_address b = {0};
	struct error err = {0};
	bool user = a->username || a->password;

	if (a->socket) {
		buf_lit(&url, "unix://");
		add_encoded(&url, a->socket);
		buf_printf(&url, "?db=%d", a->db);
	} else {
		buf_str_add(&url, schemes[a->kind]);
		add_encoded(&url, a->username);
		buf_str_add(&url, a->password ? ":" : "");
		for (const char *c = a->password; c && *c; c++)
			buf_printf(&url, "%%%02X", (unsigned)(unsigned char)*c);
		buf_str_add(&url, user ? "@" : "");
		for (size_t i = 0; i < a->npoints; i++)
			buf_printf(&url, strchr(a->points[i].host, ':') ? "%s[%s]:%d" : "%s%s:%d", i > 0 ? "," : "",
				   a->points[i].host, a->points[i].port);
		for (const char *c = a->master; c && *c; c++)
			buf_printf(&url, c == a->master ? "/%%%02X" : "%%%02X", (unsigned)(unsigned char)*c);
		buf_printf(&url, "/%d", a->db);
	}
	if (!a->username || !strchr(a->username, '/')) {
		must(redis_address_parse(&b, url.ptr, NULL, &err) == 0);
		must(a->kind == b.kind && same_text(a->socket, b.socket) && a->db == b.db &&
		     same_text(a->master, b.master));
		must(a->npoints == b.npoints);
		for (size_t i = 0; i < a->npoints; i++)
			must(a->points[i].port == b.points[i].port && strcmp(a->points[i].host, b.points[i].host) == 0);
		must(a->socket || (same_text(a->username, b.username) && same_text(a->password, b.password)));
		redis_address_release(&b);
	}
	buf_release(&url);
}

static void try_redis(const char *url, const char *user, const char *password)
{
	struct redis_address a = {0};
	struct error err = {0};

	if (redis_address_parse(&a, url, &(struct redis_options){.username = user, .password = password}, &err)) {
		check_message(&err);
		must(!a.points && !a.socket && !a.username && !a.password && !a.cluster);
		return;
	}
	check_redis_parts(&a);
	must(!*user || same_text(a.username, user));
	must(!*password || same_text(a.password, password));
	redis_address_release(&a);
	if (redis_address_parse(&a, url, NULL, &err)) {
		must(*password &&
		     strstr(err.msg, "no password")); /* the URL has a name, and its password stood beside it */
		return;
	}
	check_redis_again(&a);
	redis_address_release(&a);
}

/* --- As settings. ------------------------------------------------------------------------------------------------------- */

static int load(struct settings *s, const char *name, const char *url, struct error *err)
{
	struct buf flag = BUF_INIT(SIZE_MAX / 4);
	char *argv[] = {(char *)(intptr_t) "x",
			(char *)(intptr_t) "--config=/dev/null",
			(char *)(intptr_t) "--allow-http-loopback=on",
			(char *)(intptr_t) "--allow-http-hosts=" HTTP_HOST,
			NULL,
			NULL};
	int argc = 5, rc;

	buf_printf(&flag, "--%s=%s", name, url);
	argv[4] = flag.ptr;
	*s = (struct settings){0};
	rc = settings_load(s, &argc, argv, service_rules, NULL, err);
	buf_release(&flag);
	return rc;
}

static char *print(const struct settings *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	must(to);
	settings_print(s, to);
	fclose(to);
	return text;
}

/* What --check shows is the same for another password. The password: behind the first colon before the last @ of the authority. */
static void check_shown(const struct settings *s, const char *name, const char *url)
{
	const char *host = strstr(url, "://"), *at = NULL, *colon;
	struct buf other = BUF_INIT(SIZE_MAX / 4);
	struct settings with_other;
	struct error err = {0};
	char *a, *b;

	host = host ? host + 3 : url;
	for (const char *c = host; c < host + strcspn(host, "/?#"); c++)
		at = *c == '@' ? c : at;
	colon = at ? memchr(host, ':', (size_t)(at - host)) : NULL;
	if (!colon)
		return;
	buf_printf(&other, "%.*s:other%s", (int)(colon - url), url, at);
	must(load(&with_other, name, other.ptr, &err) == 0);
	a = print(s);
	b = print(&with_other);
	must(strcmp(a, b) == 0);
	settings_release(&with_other);
	buf_release(&other);
	free(a);
	free(b);
}

/* libcurl, which makes the call, sees https or one of the hosts that may be called without. */
static void check_http(const char *url)
{
	char *scheme = NULL, *host = NULL;
	CURLU *u = curl_url();

	must(u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK);
	must(curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK);
	must(curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK && *host);
	if (strcmp(scheme, "https") != 0)
		must(strcmp(scheme, "http") == 0 && (strcmp(host, "127.0.0.1") == 0 || strcmp(host, "localhost") == 0 ||
						     strcmp(host, "[::1]") == 0 || strcasecmp(host, HTTP_HOST) == 0));
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
}

static void try_setting(const char *name, const char *url, bool is_api)
{
	struct error err = {0};
	struct settings s;

	if (load(&s, name, url, &err)) {
		check_message(&err);
		must(strncmp(err.msg, "--", 2) == 0);
		return;
	}
	if (is_api)
		check_http(s.khaya_base_url);
	if (*url)
		check_shown(&s, name, url);
	settings_release(&s);
}

static void try_target(const char *url, const char *header)
{
	const char *const headers[] = {header, NULL};
	struct error err = {0};
	struct http_target *t = http_target_new(url, headers, true, &err);

	must(t || err.code == ERR_CONFIG);
	must(!t || !strpbrk(header, "\r\n"));
	must(t || strpbrk(header, "\r\n") || !strstr(err.msg, MARK));
	http_target_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {(const char *)data, size};
	char *url = next_text(&in), *user = next_text(&in), *password = next_text(&in);

	clearenv();
	try_redis(url, user, password);
	try_setting("redis-url", url, false);
	try_setting("khaya-base-url", url, true);
	try_target(url, user);
	free(url);
	free(user);
	free(password);
	return 0;
}
