/* SPDX-License-Identifier: MIT
 *
 * See allow.h. A list is read anew for every question: it is short, and a question comes with a download. */
#include "http/allow.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define SEPARATORS ", \t\n"
#define HOST_MAX 253
#define NET_BITS_MIN 8 /* a wider network is a typing error */

struct entry {
	const char *name; /* NULL: an address or a network */
	size_t len;
	bool below; /* the names that end in it */
	struct address net;
	unsigned bits;
	uint16_t port; /* 0: any */
};

/* -1: none in 1..max. */
static int number(const char *s, size_t n, int max)
{
	int v = 0;

	if (n < 1 || n > 5)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)s[i]))
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v >= 1 && v <= max ? v : -1;
}

/* To a resolver 127.1 and 0x7f.0.0.0x1 are addresses. */
static bool is_numeric(const char *label, size_t n)
{
	return strspn(label, "0123456789") >= n || (label[0] == '0' && (label[1] | 0x20) == 'x');
}

/* Labels of letters, digits, - and _. */
static bool is_name(const char *s, size_t n)
{
	size_t label = 0, last = 0;

	if (n < 1 || n > HOST_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '.' && label == 0)
			return false;
		label = s[i] == '.' ? 0 : label + 1;
		last = s[i] == '.' ? i + 1 : last;
		if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
			return false;
	}
	return label > 0 && !is_numeric(s + last, label);
}

static const char *read_network(const char *word, const char *slash, size_t n, struct entry *out)
{
	size_t len = (size_t)(slash - word);
	bool known = address_parse(word, len, &out->net);
	unsigned before = known && address_is_v4(&out->net) && !memchr(word, ':', len) ? ADDRESS_V4_BITS : 0;
	int bits = number(slash + 1, n - len - 1, (int)(ADDRESS_BITS - before));

	if (!known)
		return "no network; a host is written without scheme and path";
	if (bits < NET_BITS_MIN)
		return "no network; between 8 and 32 bits (128 for IPv6) follow the slash";
	out->bits = before + (unsigned)bits;
	return NULL;
}

static const char *read_host(const char *host, size_t n, struct entry *out)
{
	if (address_parse(host, n, &out->net)) {
		out->bits = ADDRESS_BITS;
		return NULL;
	}
	out->below = n > 2 && host[0] == '*' && host[1] == '.';
	out->name = out->below ? host + 1 : host;
	out->len = out->below ? n - 1 : n;
	return is_name(out->name + out->below, out->len - out->below) ? NULL : "neither a host's name nor an address";
}

/* NULL, or what is wrong. */
static const char *read_entry(const char *word, size_t n, struct entry *out)
{
	const char *slash = memchr(word, '/', n), *colon = memchr(word, ':', n), *end = word + n;
	int port;

	*out = (struct entry){0};
	if (slash)
		return read_network(word, slash, n, out);
	if (*word == '[') {
		const char *close = memchr(word, ']', n);

		colon = close && close + 1 < end ? close + 1 : NULL;
		if (!close || (colon && *colon != ':'))
			return "no address in brackets";
	} else if (colon && memchr(colon + 1, ':', (size_t)(end - colon) - 1)) {
		colon = NULL; /* of an IPv6 address */
	}
	if (!colon)
		return read_host(word, n, out);
	port = number(colon + 1, (size_t)(end - colon) - 1, UINT16_MAX);
	if (port < 0)
		return "without a port from 1 to 65535 behind its colon";
	out->port = (uint16_t)port;
	return read_host(word, (size_t)(colon - word), out);
}

/* The next word; NULL: none is left. */
static const char *next_word(const char **list, size_t *n)
{
	const char *word = *list + strspn(*list, SEPARATORS);

	*n = strcspn(word, SEPARATORS);
	*list = word + *n;
	return *n > 0 ? word : NULL;
}

int allow_check(const char *list, struct error *err)
{
	const char *word, *wrong;
	struct entry entry;
	size_t n;

	while ((word = next_word(&list, &n))) {
		wrong = read_entry(word, n, &entry);
		if (wrong)
			return error_set(err, ERR_CONFIG, "'%.*s' is %s", (int)(n < 100 ? n : 100), word, wrong);
	}
	return 0;
}

static bool has_name(const struct entry *e, const char *host, size_t n)
{
	if (!e->name || (e->below ? n <= e->len : n != e->len))
		return false;
	return strncasecmp(host + n - e->len, e->name, e->len) == 0;
}

bool allow_address(const char *list, const struct address *address, uint16_t port)
{
	const char *word;
	struct entry e;
	size_t n;

	while ((word = next_word(&list, &n)))
		if (!read_entry(word, n, &e) && !e.name && address_within(address, &e.net, e.bits) &&
		    (e.port == 0 || e.port == port))
			return true;
	return false;
}

bool allow_host(const char *list, const char *host, uint16_t port)
{
	size_t len = strlen(host), n;
	struct address address;
	const char *word;
	struct entry e;

	if (address_parse(host, len, &address))
		return allow_address(list, &address, port);
	while ((word = next_word(&list, &n)))
		if (!read_entry(word, n, &e) && has_name(&e, host, len) && (e.port == 0 || e.port == port))
			return true;
	return false;
}
