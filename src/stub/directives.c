/* SPDX-License-Identifier: MIT
 *
 * See directives.h. One table row per directive; pure. What is not understood is told, not guessed. */
#include "stub/directives.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define HELP_AT 21 /* the column */
#define WAIT_MAX_S (400LL * 24 * 3600)

/* Those from FLAG on have no value. */
enum sort { NUMBER, WAIT, STATUS, BODY, LITERAL, WORDS, LINE, HEADER, FLAG, SLIP, MANNER, PRESET };

static const struct row {
	const char *name, *form, *help;
	enum sort sort;
	size_t where;	   /* NUMBER, WORDS, LINE, FLAG */
	int64_t max;	   /* NUMBER, WAIT */
	int value, status; /* MANNER: which; WAIT, PRESET: body and status */
	const char *
		text; /* HEADER: its name; SLIP: what; WORDS: all that they may be, with blanks around; NULL: anything */
} rows[] = {
#define AT(member) offsetof(struct directives, member)
	{"status", "=N", "answers with this status", STATUS, 0, 0, 0, 0, NULL},
	{"body", "=KIND", "and this body", BODY, 0, 0, 0, 0, NULL},
	{"body64", "=BASE64", "or these very bytes; an empty value: none", LITERAL, 0, 0, 0, 0, NULL},
	{"detail", "=CODE", "a 400 with this code in its detail", WORDS, AT(detail), 0, BODY_E1, 400, NULL},
	{"quota", "=S", "403, out of calls for so long, and Retry-After", WAIT, 0, WAIT_MAX_S, BODY_QUOTA, 403, NULL},
	{"quota_days", "=S", "the same in its older words, without Retry-After", WAIT, 0, WAIT_MAX_S, BODY_QUOTA_DAYS,
	 403, NULL},
	{"bandwidth", "=S", "403, out of bytes", WAIT, 0, WAIT_MAX_S, BODY_BANDWIDTH, 403, NULL},
	{"rate", "=S", "429, and Retry-After", WAIT, 0, WAIT_MAX_S, BODY_RATE, 429, NULL},
	{"stopped", "", "403, the page of a backend that is stopped", PRESET, 0, 0, BODY_STOPPED, 403, NULL},
	{"challenge", "", "403, the page that looks for robots", PRESET, 0, 0, BODY_CHALLENGE, 403, NULL},
	{"html200", "", "200, a page", PRESET, 0, 0, BODY_HTML, 200, NULL},
	{"broken_json", "", "200, JSON that is cut off", PRESET, 0, 0, BODY_BROKEN, 200, NULL},
	{"not_audio", "", "200, JSON that nobody asked for", PRESET, 0, 0, BODY_JSON, 200, NULL},
	{"e1_200", "", "200, an error's envelope", PRESET, 0, 0, BODY_E1, 200, NULL},

	{"type", "=MIME", "another Content-Type; an empty value: none", LINE, AT(type), 0, 0, 0, NULL},
	{"retry_after", "=T", "a header, more than one if repeated; a date may have its comma", HEADER, 0, 0, 0, 0,
	 "Retry-After"},
	{"location", "=URL", "a header", HEADER, 0, 0, 0, 0, "Location"},
	{"encoding", "=NAME", "Content-Encoding, while the body stays what it is", HEADER, 0, 0, 0, 0,
	 "Content-Encoding"},
	{"connection", "=close", "says so, and does it", HEADER, 0, 0, 0, 0, "Connection"},
	{"gzip", "", "the body is compressed, and the header says so", FLAG, AT(gzip), 0, 0, 0, NULL},
	{"bom", "", "a byte order mark before the body", FLAG, AT(bom), 0, 0, 0, NULL},
	{"escaped", "", "JSON has \\u escapes for all but ASCII", FLAG, AT(escaped), 0, 0, 0, NULL},
	{"nul", "", "\\u0000 at the end of the text in JSON", SLIP, 0, 0, 0, 0, "\\u0000"},
	{"surrogates", "", "or a pair of surrogates", SLIP, 0, 0, 0, 0, "\\ud83d\\ude00"},
	{"lone_surrogate", "", "or half a pair", SLIP, 0, 0, 0, 0, "\\ud83d"},
	{"not_utf8", "", "or a byte that is no UTF-8", SLIP, 0, 0, 0, 0, "\xff"},
	{"wav_size", "=N", "every size in a WAV is N, as in a stream", NUMBER, AT(wav_size), UINT32_MAX, 0, 0, NULL},
	{"chunked", "", "the body's length is not announced", FLAG, AT(chunked), 0, 0, 0, NULL},

	{"delay", "=MS", "before the answer", NUMBER, AT(delay_ms), STUB_MS_MAX, 0, 0, NULL},
	{"body_delay", "=MS", "in the middle of the body", NUMBER, AT(body_delay_ms), STUB_MS_MAX, 0, 0, NULL},
	{"dribble", "=MS", "before each byte", NUMBER, AT(dribble_ms), STUB_MS_MAX, 0, 0, NULL},
	{"hang", "", "never answers", MANNER, 0, 0, HTTPD_HANG, 0, NULL},
	{"reset", "", "the connection is reset", MANNER, 0, 0, HTTPD_RESET, 0, NULL},
	{"close", "", "closed before the answer", MANNER, 0, 0, HTTPD_CLOSE, 0, NULL},
	{"truncate", "", "closed in the middle of the body", MANNER, 0, 0, HTTPD_TRUNCATE, 0, NULL},
	{"leave", "", "closed after the answer, which does not say so", MANNER, 0, 0, HTTPD_LEAVE, 0, NULL},

	{"code", "=NAME", "TaskingAI: the error's code", WORDS, AT(code), 0, 0, 0, NULL},
	{"message", "=TEXT", "its message", WORDS, AT(message), 0, 0, 0, NULL},
	{"message_object", "", "an object in its place, with the message inside", FLAG, AT(message_object), 0, 0, 0,
	 NULL},
	{"empty_message", "", "none at all", FLAG, AT(empty_message), 0, 0, 0, NULL},
	{"say", "=TEXT", "what a chat answers", WORDS, AT(say), 0, 0, 0, NULL},
	{"call", "", "it calls a function", FLAG, AT(call), 0, 0, 0, NULL},
	{"locked", "", "the chat is locked", FLAG, AT(locked), 0, 0, 0, NULL},
	{"no_vectors", "", "embeddings are empty", FLAG, AT(no_vectors), 0, 0, 0, NULL},
	{"embedding", "=HOW", "the first one is", WORDS, AT(embedding), 0, 0, 0,
	 " missing null text short not_finite dropped "},
	{"target_status", "=N", "what an action's target answers", NUMBER, AT(target_status), 599, 0, 0, NULL},
	{"target", "=HOW", "or how that goes", WORDS, AT(target), 0, 0, 0, " text unreachable too_large "},
	{"pieces", "=N", "a stream has so many; else one for each word", NUMBER, AT(pieces), 1000000, 0, 0, NULL},
	{"pace", "=MS", "between two of them", NUMBER, AT(pace_ms), STUB_MS_MAX, 0, 0, NULL},
	{"split", "=BYTES", "its bytes come in parts of so many", NUMBER, AT(split), 1000000, 0, 0, NULL},
	{"stream_error", "=N", "an Error event in place of piece N, from 1", NUMBER, AT(stream_error), 1000000, 0, 0,
	 NULL},
	{"cut_after", "=N", "no more than N pieces; then it ends as end says, or with cut", NUMBER, AT(cut_after),
	 1000000, 0, 0, NULL},
	{"end", "=HOW", "it ends early", WORDS, AT(end), 0, 0, 0, " nofinal nodone cut midline hang "},
	{"crlf", "", "lines end with CR LF", FLAG, AT(crlf), 0, 0, 0, NULL},
	{"cr", "", "or with CR", FLAG, AT(cr), 0, 0, 0, NULL},
	{"comments", "", "comments, id and retry lines in between", FLAG, AT(comments), 0, 0, 0, NULL},
	{"multiline", "", "each event has two data lines", FLAG, AT(multiline), 0, 0, 0, NULL},
	{"raw_utf8", "", "its text is not escaped", FLAG, AT(raw_utf8), 0, 0, 0, NULL},
	{"after_done", "", "an event behind [DONE]", FLAG, AT(after_done), 0, 0, 0, NULL},
	{"not_json", "", "an event that is no JSON, before the last", FLAG, AT(not_json), 0, 0, 0, NULL},
	{"bad_unicode", "", "half a pair of surrogates, or with raw_utf8 a bad byte", FLAG, AT(bad_unicode), 0, 0, 0,
	 NULL},
	{"astral", "", "a letter beyond the first plane", FLAG, AT(astral), 0, 0, 0, NULL},
	{"empty_deltas", "", "an empty piece behind each", FLAG, AT(empty_deltas), 0, 0, 0, NULL},
	{"unknown_object", "", "an event of an unknown kind behind each", FLAG, AT(unknown_object), 0, 0, 0, NULL},
	{"stamp", "", "each piece ends with @ and the microsecond of its sending", FLAG, AT(stamp), 0, 0, 0, NULL},

	{"times", "=N", "only the first N calls with this input", NUMBER, AT(times), STUB_MS_MAX, 0, 0, NULL},
	{"after", "=N", "not the first N calls with it", NUMBER, AT(after), STUB_MS_MAX, 0, 0, NULL},
	{"each", "", "with times and after: counted for each text by itself", FLAG, AT(each), 0, 0, 0, NULL},
	{"word", "=W", "only where W is in the text", WORDS, AT(word), 0, 0, 0, NULL},
	{"path", "=P", "only where P is in the path", WORDS, AT(path), 0, 0, 0, NULL},
	{"reused", "", "only on a connection that had a call before", FLAG, AT(reused), 0, 0, 0, NULL},
#undef AT
};

static const char *const bodies[] = {
	[BODY_E1] = "e1",	    [BODY_E2] = "e2",	      [BODY_E3] = "e3",
	[BODY_HTML] = "html",	    [BODY_TEXT] = "text",     [BODY_EMPTY] = "empty",
	[BODY_JSON] = "json",	    [BODY_BROKEN] = "broken", [BODY_CHALLENGE] = "challenge",
	[BODY_STOPPED] = "stopped",
};

void directives_help(FILE *to)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int n = fprintf(to, "  %s%s", rows[i].name, rows[i].form);

		fprintf(to, "%*s%s", n < HELP_AT ? HELP_AT - n : 1, "", rows[i].help);
		for (size_t j = BODY_E1; rows[i].sort == BODY && j < sizeof bodies / sizeof *bodies; j++)
			fprintf(to, "%s%s", j == BODY_E1 ? ": " : " ", bodies[j]);
		if (rows[i].sort == WORDS && rows[i].text)
			fprintf(to, ":%.*s", (int)strlen(rows[i].text) - 1, rows[i].text);
		fputc('\n', to);
	}
	fputs("  then               begins another rule; the first that fits is carried out\n", to);
}

bool words_are(struct words w, const char *text)
{
	return w.ptr && strlen(text) == w.len && memcmp(text, w.ptr, w.len) == 0;
}

static bool is_among(struct words w, const char *words)
{
	const char *at = memmem(words, strlen(words), w.ptr, w.len);

	return at && at[-1] == ' ' && at[w.len] == ' ' && !memchr(w.ptr, ' ', w.len);
}

static bool set_body(struct directives *d, struct words name)
{
	for (size_t i = BODY_E1; i < sizeof bodies / sizeof *bodies; i++) {
		if (words_are(name, bodies[i])) {
			d->body = (enum wrong_body)i;
			return true;
		}
	}
	return false;
}

/* Decoded here only to see that it can be. */
static bool set_literal(struct directives *d, struct words base64)
{
	struct buf decoded = BUF_INIT(base64.len);
	bool good = base64_decode(&decoded, base64.ptr, base64.len);

	buf_release(&decoded);
	d->body = BODY_LITERAL;
	d->literal = base64;
	return good;
}

static bool add_header(struct directives *d, const char *name, struct words value)
{
	if (value.len > DIRECTIVES_LINE_MAX || d->nheaders == DIRECTIVES_HEADERS_MAX)
		return false;
	d->headers[d->nheaders].name = name;
	d->headers[d->nheaders++].value = value;
	return true;
}

static bool set_number(int64_t *to, int64_t max, struct words value)
{
	char *end;

	*to = strtoll(value.ptr, &end, 10);
	return value.len > 0 && end == value.ptr + value.len && *to >= 0 && *to <= max;
}

static void preset(struct directives *d, const struct row *row)
{
	d->status = row->status;
	d->body = (enum wrong_body)row->value;
}

static bool apply(struct directives *d, const struct row *row, struct words value)
{
	char *where = (char *)d + row->where;
	int64_t n;
	bool good;

	switch (row->sort) {
	case NUMBER:
		good = set_number(&n, row->max, value);
		memcpy(where, &n, sizeof n);
		d->streamed = d->streamed || row->where == offsetof(struct directives, wav_size);
		return good;
	case WAIT:
		preset(d, row);
		return set_number(&d->wait_s, row->max, value);
	case STATUS:
		good = set_number(&n, 599, value);
		d->status = (int)n;
		return good && n >= 200;
	case BODY:
		return set_body(d, value);
	case LITERAL:
		return set_literal(d, value);
	case WORDS:
		if (row->status)
			preset(d, row);
		memcpy(where, &value, sizeof value);
		return value.len > 0 && (!row->text || is_among(value, row->text));
	case LINE:
		memcpy(where, &value, sizeof value);
		return value.len <= DIRECTIVES_LINE_MAX;
	case HEADER:
		return add_header(d, row->text, value);
	case FLAG:
		*(bool *)where = true;
		return true;
	case SLIP:
		d->slip = row->text;
		return true;
	case MANNER:
		d->manner = (enum httpd_manner)row->value;
		return true;
	case PRESET:
		preset(d, row);
		return true;
	}
	return false;
}

static bool parse_one(struct directives *d, const char *text, size_t len)
{
	const char *equals = memchr(text, '=', len);
	struct words name = {text, equals ? (size_t)(equals - text) : len}, value = {NULL, 0};

	if (equals)
		value = (struct words){equals + 1, len - name.len - 1};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (words_are(name, rows[i].name))
			return (rows[i].sort < FLAG) == (equals != NULL) && apply(d, &rows[i], value);
	return false;
}

/* The comma between two directives; that of an HTTP date (Wed, 21 Oct …) has a blank and a digit behind it, and no
 * directive begins so. */
static bool is_comma(const char *at, size_t left)
{
	return *at == ',' && !(left > 2 && at[1] == ' ' && at[2] >= '0' && at[2] <= '9');
}

static bool begin_rule(struct rules *rules)
{
	if (rules->n == RULES_MAX)
		return false;
	rules->rule[rules->n++] = (struct directives){0};
	return true;
}

bool rules_parse(struct rules *rules, const char *text, size_t len, const char **bad)
{
	rules->n = 0;
	for (size_t i = 0; i < len;) {
		size_t n = 0;
		bool good = true;

		while (i < len && (text[i] == ' ' || text[i] == ','))
			i++;
		while (i + n < len && !is_comma(text + i + n, len - i - n))
			n++;
		if (n > 0 && (rules->n == 0 || words_are((struct words){text + i, n}, "then")))
			good = begin_rule(rules);
		if (good && n > 0 && !words_are((struct words){text + i, n}, "then"))
			good = parse_one(&rules->rule[rules->n - 1], text + i, n);
		if (!good) {
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
