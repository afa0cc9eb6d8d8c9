/* SPDX-License-Identifier: MIT
 *
 * See directives.h. One table row per directive; pure. What is not understood is told, not guessed. */
#include "stub/directives.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

enum sort { NUMBER, STATUS, BODY, LITERAL, LINE, MANNER, PRESET };

static const struct row {
	const char *name;
	enum sort sort;
	size_t where; /* NUMBER, LINE */
	int value;    /* MANNER: which; PRESET: body, with status 200 */
} rows[] = {
	{"status", STATUS, 0, 0},
	{"body", BODY, 0, 0},
	{"body64", LITERAL, 0, 0},
	{"type", LINE, offsetof(struct directives, type), 0},
	{"retry_after", LINE, offsetof(struct directives, retry_after), 0},
	{"delay", NUMBER, offsetof(struct directives, delay_ms), 0},
	{"body_delay", NUMBER, offsetof(struct directives, body_delay_ms), 0},
	{"dribble", NUMBER, offsetof(struct directives, dribble_ms), 0},
	{"times", NUMBER, offsetof(struct directives, times), 0},
	{"hang", MANNER, 0, HTTPD_HANG},
	{"reset", MANNER, 0, HTTPD_RESET},
	{"close", MANNER, 0, HTTPD_CLOSE},
	{"truncate", MANNER, 0, HTTPD_TRUNCATE},
	{"broken_json", PRESET, 0, BODY_BROKEN},
	{"not_audio", PRESET, 0, BODY_JSON},
	{"html200", PRESET, 0, BODY_HTML},
};

static const char *const bodies[] = {
	[BODY_E1] = "e1",	    [BODY_E2] = "e2",	      [BODY_E3] = "e3",
	[BODY_HTML] = "html",	    [BODY_TEXT] = "text",     [BODY_EMPTY] = "empty",
	[BODY_JSON] = "json",	    [BODY_BROKEN] = "broken", [BODY_CHALLENGE] = "challenge",
	[BODY_STOPPED] = "stopped",
};

const char *directives_help(void)
{
	return "  status=N        answer with this status\n"
	       "  body=KIND       and this body: e1 e2 e3 html text empty json broken challenge stopped\n"
	       "  body64=BASE64   or with these very bytes; an empty value: none\n"
	       "  type=MIME       with this Content-Type\n"
	       "  retry_after=T   with this Retry-After header; an HTTP date may have its comma\n"
	       "  delay=MS        before the answer     body_delay=MS  in the middle of the body\n"
	       "  dribble=MS      before each byte      times=N        only for the first N calls with this input\n"
	       "  hang  reset  close  truncate          end the call in that way\n"
	       "  html200  broken_json  not_audio       a wrong body with status 200\n";
}

static bool set_body(struct directives *d, const char *name)
{
	for (size_t i = BODY_E1; i < sizeof bodies / sizeof *bodies; i++) {
		if (strcmp(bodies[i], name) == 0) {
			d->body = (enum wrong_body)i;
			return true;
		}
	}
	return false;
}

/* Decoded here only to see that it can be. */
static bool set_literal(struct directives *d, const char *base64, size_t len)
{
	struct buf decoded = BUF_INIT(len);
	bool good = base64_decode(&decoded, base64, len);

	buf_release(&decoded);
	d->body = BODY_LITERAL;
	d->literal = base64;
	d->literal_len = len;
	return good;
}

static void set_line(struct directives *d, const struct row *row, const char *value)
{
	struct directives_line line = {.given = true};

	snprintf(line.text, sizeof line.text, "%s", value);
	memcpy((char *)d + row->where, &line, sizeof line);
}

static bool apply(struct directives *d, const struct row *row, const char *value)
{
	char *end;
	long long n = strtoll(value, &end, 10);

	switch (row->sort) {
	case NUMBER:
		memcpy((char *)d + row->where, &(int64_t){n}, sizeof(int64_t));
		return *value && !*end && n >= 0 && n <= STUB_MS_MAX;
	case STATUS:
		d->status = (int)n;
		return !*end && n >= 200 && n <= 599;
	case BODY:
		return set_body(d, value);
	case LITERAL: /* is not copied: see parse_one */
		return false;
	case LINE:
		set_line(d, row, value);
		return true;
	case MANNER:
		d->manner = (enum httpd_manner)row->value;
		return !*value;
	case PRESET:
		d->status = 200;
		d->body = (enum wrong_body)row->value;
		return !*value;
	}
	return false;
}

static const struct row *find_row(const char *name, size_t n)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (strlen(rows[i].name) == n && memcmp(rows[i].name, name, n) == 0)
			return &rows[i];
	return NULL;
}

static bool parse_one(struct directives *d, const char *text, size_t len)
{
	const char *equals = memchr(text, '=', len);
	size_t n = equals ? (size_t)(equals - text) : len, value_len = equals ? len - n - 1 : 0;
	const struct row *row = find_row(text, n);
	char value[DIRECTIVES_LINE_MAX + 1] = "";

	if (row && row->sort == LITERAL)
		return equals && set_literal(d, equals + 1, value_len);
	if (!row || value_len >= sizeof value)
		return false;
	if (equals)
		memcpy(value, equals + 1, value_len);
	return apply(d, row, value);
}

/* The comma between two directives; that of an HTTP date (Wed, 21 Oct …) has a blank and a digit behind it, and no
 * directive begins so. */
static bool is_comma(const char *at, size_t left)
{
	return *at == ',' && !(left > 2 && at[1] == ' ' && at[2] >= '0' && at[2] <= '9');
}

bool directives_parse(struct directives *d, const char *text, size_t len, const char **bad)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;

		while (i < len && (text[i] == ' ' || text[i] == ','))
			i++;
		while (i + n < len && !is_comma(text + i + n, len - i - n))
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
