/* SPDX-License-Identifier: MIT */
#include "stub/directives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sort { NUMBER,
	    STATUS,
	    WORD,
	    RETRY_AFTER,
	    MANNER,
	    PRESET };

static const struct row {
	const char *name;
	enum sort sort;
	size_t where;
	int value;	  /* MANNER: which; PRESET: status */
	const char *body; /* PRESET */
} rows[] = {
	{"status", STATUS, 0, 0, NULL},
	{"body", WORD, 0, 0, NULL},
	{"retry_after", RETRY_AFTER, 0, 0, NULL},
	{"delay", NUMBER, offsetof(struct directives, delay_ms), 0, NULL},
	{"body_delay", NUMBER, offsetof(struct directives, body_delay_ms), 0, NULL},
	{"dribble", NUMBER, offsetof(struct directives, dribble_ms), 0, NULL},
	{"times", NUMBER, offsetof(struct directives, times), 0, NULL},
	{"hang", MANNER, 0, HTTPD_HANG, NULL},
	{"reset", MANNER, 0, HTTPD_RESET, NULL},
	{"close", MANNER, 0, HTTPD_CLOSE, NULL},
	{"truncate", MANNER, 0, HTTPD_TRUNCATE, NULL},
	{"broken_json", PRESET, 0, 200, "broken"},
	{"not_audio", PRESET, 0, 200, "json"},
	{"html200", PRESET, 0, 200, "html"},
};

const char *directives_help(void)
{
	return "  status=N        answer with this status\n"
	       "  body=KIND       and this body: e1 e2 e3 html text empty json broken challenge stopped quota\n"
	       "  retry_after=T   with this Retry-After header\n"
	       "  delay=MS        before the answer     body_delay=MS  in the middle of the body\n"
	       "  dribble=MS      before each byte      times=N        only for the first N calls with this input\n"
	       "  hang  reset  close  truncate          end the call in that way\n"
	       "  html200  broken_json  not_audio       a wrong body with status 200\n";
}

static bool apply(struct directives *d, const struct row *row, const char *value)
{
	char *end;
	long long n = strtoll(value, &end, 10);

	switch (row->sort) {
	case NUMBER:
		memcpy((char *)d + row->where, &(int64_t){n}, sizeof(int64_t));
		return *value && !*end && n >= 0;
	case STATUS:
		d->status = (int)n;
		return !*end && n >= 200 && n <= 599;
	case WORD:
		snprintf(d->body, sizeof d->body, "%.15s", value);
		return *value;
	case RETRY_AFTER:
		snprintf(d->retry_after, sizeof d->retry_after, "%.63s", value);
		d->has_retry_after = true;
		return true;
	case MANNER:
		d->manner = (enum httpd_manner)row->value;
		return !*value;
	case PRESET:
		d->status = row->value;
		snprintf(d->body, sizeof d->body, "%s", row->body);
		return !*value;
	}
	return false;
}

static bool parse_one(struct directives *d, const char *text, size_t len)
{
	const char *equals = memchr(text, '=', len);
	size_t n = equals ? (size_t)(equals - text) : len;
	char value[128] = "";

	if (equals)
		snprintf(value, sizeof value, "%.*s", (int)(len - n - 1), equals + 1);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strlen(rows[i].name) == n && memcmp(rows[i].name, text, n) == 0)
			return apply(d, &rows[i], value);
	return false;
}

bool directives_parse(struct directives *d, const char *text, size_t len, const char **bad)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i < len && (text[i] == ' ' || text[i] == ','))
			i++;
		while (i + n < len && text[i + n] != ',')
			n++;
		if (n > 0 && !parse_one(d, text + i, n)) {
			*bad = text + i;
			return false;
		}
		i += n;
	}
	return true;
}

const char *directives_find(const char *text, size_t *len)
{
	const char *from = strstr(text, "stub("), *end = from ? strchr(from, ')') : NULL;

	if (!end)
		return NULL;
	*len = (size_t)(end - from) - 5;
	return from + 5;
}
