/* SPDX-License-Identifier: MIT
 *
 * Checks of final values: they look at other settings or at files, so they wait until all sources have spoken. */
#include "settings/check.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings/row.h"

static bool listed(const char *list, const char *name, size_t n)
{
	for (const char *p = list; p && *p;) {
		size_t len;

		p += strspn(p, ", \t");
		len = strcspn(p, ", \t");
		if (len == n && strncasecmp(p, name, n) == 0)
			return true;
		p += len;
	}
	return false;
}

bool settings_takes_http(const struct settings *s, const char *host, size_t n)
{
	static const char *const loopback[] = {"127.0.0.1", "localhost", "[::1]"};

	for (size_t i = 0; s->allow_http_loopback && i < 3; i++)
		if (strlen(loopback[i]) == n && strncmp(host, loopback[i], n) == 0)
			return true;
	return n > 0 && listed(s->allow_http_hosts, host, n);
}

/* https, or plain http where a setting lets this host pass. */
static int check_url(const struct settings *s, const char *url, struct error *err)
{
	const char *host = url + 7;
	size_t n, authority;

	if (strncmp(url, "https://", 8) == 0) /* a host follows: slashes at the end are cut before */
		return 0;
	if (strncmp(url, "http://", 7) == 0) {
		authority = strcspn(host, "/?#");
		/* http://localhost:1@example.org goes to example.org. */
		n = memchr(host, '@', authority) ? 0 : *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
		if (n < authority && host[n] != ':')
			n = 0;
		if (settings_takes_http(s, host, n))
			return 0;
	}
	/* The value is not repeated: a password may stand in it. */
	return error_set(
		err, ERR_CONFIG,
		"must begin with https:// (allow_http_loopback and allow_http_hosts make exceptions for http://)");
}

static int check_readable(const struct settings *s, const char *path, struct error *err)
{
	struct stat st;

	(void)s;
	if (access(path, R_OK) != 0 || stat(path, &st) != 0)
		return error_set(err, ERR_CONFIG, "cannot read %s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return error_set(err, ERR_CONFIG, "%s is a directory; a file is needed", path);
	return 0;
}

static int check_directory(const struct settings *s, const char *path, struct error *err)
{
	struct stat st;

	(void)s;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : error_set(err, ERR_CONFIG, "%s is no directory", path);
}

static int check_redis_url(const struct settings *s, const char *url, struct error *err)
{
	static const char *const schemes[] = {"redis://",	   "rediss://",		 "unix://",
					      "redis+sentinel://", "rediss+sentinel://", "redis+cluster://",
					      "rediss+cluster://"};

	(void)s;
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
		if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
			return 0;
	return error_set(err, ERR_CONFIG,
			 "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://");
}

/* Nothing would be sent: Redis takes no name without a password. */
static int check_username(const struct settings *s, const char *name, struct error *err)
{
	size_t len;

	if (!*name || (s->redis_password && *s->redis_password) || row_url_password(s->redis_url, &len))
		return 0;
	return error_set(err, ERR_CONFIG, "a user name needs a password: set redis_password, too");
}

static int check_prefix(const struct settings *s, const char *prefix, struct error *err)
{
	size_t n = strlen(prefix);

	(void)s;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)prefix[i]) && !strchr("._:-", prefix[i]))
			n = 0;
	return n >= 1 && n <= 64 ? 0 : error_set(err, ERR_CONFIG, "must be 1 to 64 characters of A-Z a-z 0-9 . _ : -");
}

static int check_listen(const struct settings *s, const char *value, struct error *err)
{
	(void)s;
	return row_check_listen(value, err);
}

void settings_strip_slashes(char *url)
{
	for (size_t n = strlen(url); n > 0 && url[n - 1] == '/'; n--)
		url[n - 1] = '\0';
}

const struct settings_rule settings_checks[] = {
	{"redis_url", check_redis_url},
	{"redis_username", check_username}, /* one that stands in the URL: redis/address.c checks it */
	{"redis_ca_file", check_readable},
	{"redis_cert_file", check_readable},
	{"redis_key_file", check_readable},
	{"audio_root", check_directory},
	{"admin_listen", check_listen},
	{"key_prefix", check_prefix},
	{"khaya_base_url", check_url},
	{"taskingai_host", check_url},
	{"api_ca_file", check_readable},
	{0},
};
