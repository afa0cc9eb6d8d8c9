/* SPDX-License-Identifier: MIT
 *
 * One parser and one printer for each kind of setting. */
#include "settings/row.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_MAX 1000

static int bad(struct error *err, const struct row *row, const char *expected, const char *value)
{
	return error_set(err, ERR_CONFIG, "%s must be %s, got '%s'", row->name, expected, row->secret ? "***" : value);
}

static int parse_int(const char *value, int64_t *out)
{
	char *end;
	long long n;

	if (!isdigit((unsigned char)*value) && *value != '-')
		return -1;
	n = strtoll(value, &end, 10);		  /* beyond its range the bound, which no setting's range reaches */
	if (end > value && *end == '.' && end[1]) /* the Khaya SDK takes 7.0 for 7 */
		end += 1 + strspn(end + 1, "0");
	if (end == value || *end)
		return -1;
	*out = n;
	return 0;
}

static int set_int(const struct row *row, int64_t *out, const char *value, struct error *err)
{
	char range[80];
	int64_t n;

	snprintf(range, sizeof range, "a whole number from %lld to %lld", (long long)row->min, (long long)row->max);
	if (parse_int(value, &n) || n < row->min || n > row->max)
		return bad(err, row, range, value);
	*out = n;
	return 0;
}

static int set_size(const struct row *row, int64_t *out, const char *value, struct error *err)
{
	static const char units[] = "KMG";
	char none[] = "", *end = none, range[96];
	long long n = isdigit((unsigned char)*value) ? strtoll(value, &end, 10) : -1;
	const char *unit = n >= 0 && *end ? strchr(units, toupper((unsigned char)*end)) : NULL;

	if (unit && *unit && !end[1] && n < (1LL << 32)) {
		n <<= 10 * (unit - units + 1);
		end++;
	}
	snprintf(range, sizeof range, "a size from %lld to %lld bytes, like 64M", (long long)row->min,
		 (long long)row->max);
	if (n < row->min || n > row->max || *end)
		return bad(err, row, range, value);
	*out = n;
	return 0;
}

static int set_switch(const struct row *row, bool *out, const char *value, struct error *err)
{
	static const char *const on[] = {"on", "yes", "true", "1"}, *const off[] = {"off", "no", "false", "0"};

	for (size_t i = 0; i < 4; i++) {
		if (strcasecmp(value, on[i]) == 0 || strcasecmp(value, off[i]) == 0) {
			*out = strcasecmp(value, on[i]) == 0;
			return 0;
		}
	}
	return bad(err, row, "on or off", value);
}

/* The position of value among the choices, -1 when it is none. */
static int choice(const char *choices, const char *value)
{
	int i = 0;

	for (const char *word = choices; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL, i++) {
		size_t n = strcspn(word, "|");

		if (strlen(value) == n && strncmp(value, word, n) == 0)
			return i;
	}
	return -1;
}

static int set_text(const struct row *row, char **out, const char *value, struct error *err)
{
	char *copy;

	if (!*value && row->fallback)
		return error_set(err, ERR_CONFIG, "%s must not be empty", row->name);
	/* It may end in a request's header or a log line. */
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return error_set(err, ERR_CONFIG, "%s must be one line without control characters", row->name);
	copy = *value ? strdup(value) : NULL;
	if (*value && !copy)
		return error_set(err, ERR_MEMORY, "out of memory");
	if (*out)
		explicit_bzero(*out, strlen(*out));
	free(*out);
	*out = copy;
	return 0;
}

/* --- Queues. ------------------------------------------------------------------------------------------------------------ */

static bool is_queue_name(const char *s, size_t n)
{
	if (n < 1 || n > QUEUE_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(islower((unsigned char)s[i]) || isdigit((unsigned char)s[i]) || (i > 0 && strchr("_.-", s[i]))))
			return false;
	return true;
}

struct queue_settings *row_queue_find(struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->nqueues; i++)
		if (strcmp(s->queues[i].name, name) == 0)
			return &s->queues[i];
	return NULL;
}

static int add_queue(struct settings *s, const char *item, size_t len, struct error *err)
{
	struct queue_settings *q = &s->queues[s->nqueues];
	const char *colon = memchr(item, ':', len);
	size_t n = colon ? (size_t)(colon - item) : len;
	char weight[8] = "1";

	if (s->nqueues == QUEUES_MAX)
		return error_set(err, ERR_CONFIG, "queues: at most %d queues", QUEUES_MAX);
	if (!is_queue_name(item, n))
		return error_set(
			err, ERR_CONFIG,
			"queues: '%.*s' is no queue name: 1 to 64 characters of a-z 0-9 _ . -, beginning with a letter or digit",
			(int)n, item);
	*q = (struct queue_settings){0};
	memcpy(q->name, item, n);
	if (row_queue_find(s, q->name))
		return error_set(err, ERR_CONFIG, "queues: '%s' stands there twice", q->name);
	if (colon)
		snprintf(weight, sizeof weight, "%.*s", (int)(len - n - 1 < 7 ? len - n - 1 : 7), colon + 1);
	if (parse_int(weight, &q->weight) || q->weight < 1 || q->weight > WEIGHT_MAX)
		return error_set(err, ERR_CONFIG,
				 "queues: the weight of '%s' must be a whole number from 1 to %d, got '%s'", q->name,
				 WEIGHT_MAX, weight);
	s->nqueues++;
	return 0;
}

static int set_queues(struct settings *s, const char *value, struct error *err)
{
	s->nqueues = 0;
	for (const char *p = value; *p;) {
		size_t n;

		p += strspn(p, ", \t\n");
		n = strcspn(p, ", \t\n");
		if (n > 0 && add_queue(s, p, n, err))
			return -1;
		p += n;
	}
	if (s->nqueues == 0)
		return error_set(err, ERR_CONFIG, "queues: at least one queue is needed");
	return 0;
}

int row_set_queue(struct queue_settings *q, const char *name, const char *value, struct error *err)
{
	static const struct {
		struct row row;
		size_t where;
	} rows[] = {
		{{.name = "max_concurrency", .min = 1, .max = THREADS_MAX},
		 offsetof(struct queue_settings, max_concurrency)},
		{{.name = "timeout_ms", .min = 1, .max = 3600000}, offsetof(struct queue_settings, timeout_ms)},
		{{.name = "max_attempts", .min = 1, .max = 100}, offsetof(struct queue_settings, max_attempts)},
	};

	if (strcmp(name, "rate_limit") == 0 || strcmp(name, "cache_ttl_s") == 0)
		return error_set(err, ERR_CONFIG, "%s is not supported by this version; it comes later", name);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strcmp(name, rows[i].row.name) == 0)
			return set_int(&rows[i].row, (int64_t *)(void *)((char *)q + rows[i].where), value, err);
	return error_set(err, ERR_CONFIG,
			 "'%s' is no setting of a queue: it takes max_concurrency, timeout_ms and max_attempts", name);
}

bool row_is_string(const struct row *row)
{
	return row->kind == TEXT || row->kind == LIST || row->kind == CHOICE_TEXT;
}

/* --- All kinds. --------------------------------------------------------------------------------------------------------- */

int row_set(const struct row *row, struct settings *s, const char *value, struct error *err)
{
	void *at = (char *)s + row->where;
	int i;

	switch (row->kind) {
	case TEXT:
	case LIST:
		return set_text(row, at, value, err);
	case CHOICE_TEXT:
		if (choice(row->choices, value) < 0)
			return bad(err, row, row->choices, value);
		return set_text(row, at, value, err);
	case INTEGER:
		return set_int(row, at, value, err);
	case SIZE:
		return set_size(row, at, value, err);
	case SWITCH:
		return set_switch(row, at, value, err);
	case CHOICE:
		i = choice(row->choices, value);
		if (i < 0)
			return bad(err, row, row->choices, value);
		memcpy(at, &i, sizeof i); /* enums are ints with gcc and clang */
		return 0;
	case QUEUES:
		return set_queues(s, value, err);
	}
	return 0;
}

const char *row_url_password(const char *url, size_t *len)
{
	const char *host = strstr(url, "://"), *at = host ? strrchr(host, '@') : NULL,
		   *colon = host ? strchr(host + 3, ':') : NULL;

	if (!at || !colon || colon > at)
		return NULL;
	*len = (size_t)(at - colon) - 1;
	return colon + 1;
}

static void print_url(const char *url, FILE *to)
{
	size_t len = 0;
	const char *password = row_url_password(url, &len);

	if (password)
		fprintf(to, "%.*s***%s", (int)(password - url), url, password + len);
	else
		fputs(url, to);
}

static void print_queues(const struct settings *s, FILE *to)
{
	for (size_t i = 0; i < s->nqueues; i++) {
		fprintf(to, "%s%s", i ? "," : "", s->queues[i].name);
		if (s->queues[i].weight != 1)
			fprintf(to, ":%lld", (long long)s->queues[i].weight);
	}
}

void row_print(const struct row *row, const struct settings *s, FILE *to)
{
	const void *at = (const char *)s + row->where;
	const char *text = NULL;
	int64_t n = 0;
	int i = 0;

	switch (row->kind) {
	case TEXT:
	case LIST:
	case CHOICE_TEXT:
		memcpy(&text, at, sizeof text);
		if (text && row->secret)
			fputs("***", to);
		else if (text)
			print_url(text, to);
		return;
	case INTEGER:
	case SIZE:
		memcpy(&n, at, sizeof n);
		if (n || row->fallback)
			fprintf(to, "%lld", (long long)n);
		return;
	case SWITCH:
		fputs(*(const bool *)at ? "on" : "off", to);
		return;
	case CHOICE:
		memcpy(&i, at, sizeof i);
		for (text = row->choices; i > 0; i--)
			text = strchr(text, '|') + 1;
		fprintf(to, "%.*s", (int)strcspn(text, "|"), text);
		return;
	case QUEUES:
		print_queues(s, to);
	}
}

int row_check_listen(const char *value, struct error *err)
{
	const char *colon = value ? strrchr(value, ':') : NULL;
	bool brackets = value && *value == '['; /* around an IPv6 address */
	int64_t port;

	if (value && strcmp(value, "off") == 0)
		return 0;
	if (!colon || colon == value || (brackets && (colon[-1] != ']' || colon - value < 4)) ||
	    parse_int(colon + 1, &port) || port < 0 || port > 65535)
		return error_set(err, ERR_CONFIG, "must be HOST:PORT or off, got '%s'", value ? value : "");
	return 0;
}
