/* SPDX-License-Identifier: MIT
 *
 * The flat scan and the tree: see json.h. The scan keeps one bit a level (object or array) for JSON_DEPTH_MAX levels and beyond
 * that only counts brackets, so neither depth nor length costs memory. */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define TREE_VALUES_MAX (1024UL * 1024) /* of some 64 bytes each; a transcript of a day has fewer */
#define EXPONENT_FAR 1000000000000000	/* no text is as long, so no digits can make up for it */

/* --- The scan. ---------------------------------------------------------------------------------------------------------- */

struct scan {
	const char *p, *end;
	json_member_fn *member; /* may be NULL */
	void *ctx;
	struct span own_key;   /* of the last member at depth 1, */
	const char *own_value; /* and where its value begins */
	bool not_utf8, too_deep;
	bool elements; /* member is called for those of an array, not for members */
	size_t depth, values;
	bool in_object[JSON_DEPTH_MAX + 1]; /* by depth, from 1 */
};

static bool is_ws(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_ws(struct scan *s)
{
	while (s->p < s->end && is_ws(*s->p))
		s->p++;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool scan_escape(struct scan *s)
{
	s->p++;
	if (s->p == s->end)
		return false;
	if (*s->p != 'u')
		return memchr("\"\\/bfnrt", *s->p, 8) && s->p++;
	if (s->end - s->p < 5)
		return false;
	for (int i = 1; i <= 4; i++)
		if (!is_hex(s->p[i]))
			return false;
	s->p += 5;
	return true;
}

/* At the opening quote; leaves p behind the closing one. */
static bool scan_string(struct scan *s)
{
	s->p++;
	while (s->p < s->end) {
		const char *p = s->p; /* a local, which no store through another pointer may have changed */
		unsigned char c = 0;

		while (p < s->end && (c = (unsigned char)*p) >= 0x20 && c < 0x80 && c != '"' && c != '\\')
			p++;
		s->p = p;
		if (p == s->end)
			return false;
		if (c == '"') {
			s->p++;
			return true;
		}
		if (c == '\\') {
			if (!scan_escape(s))
				return false;
		} else if (c < 0x20) {
			return false;
		} else {
			size_t step = utf8_step(s->p, (size_t)(s->end - s->p));

			s->not_utf8 |= step == 0;
			s->p += step ? step : 1;
		}
	}
	return false;
}

static bool scan_digits(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	return s->p > from;
}

static bool scan_number(struct scan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!scan_digits(s))
		return false;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!scan_digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!scan_digits(s))
			return false;
	}
	return true;
}

static bool scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return false;
	s->p += n;
	return true;
}

static bool scan_scalar(struct scan *s)
{
	switch (*s->p) {
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return (*s->p == '-' || is_digit(*s->p)) && scan_number(s);
	}
}

/* Too deep to be checked: only strings and brackets are looked at, until the depth is back at JSON_DEPTH_MAX. */
static bool skip_deep(struct scan *s)
{
	while (s->p < s->end && s->depth > JSON_DEPTH_MAX) {
		if (*s->p == '"') {
			if (!scan_string(s))
				return false;
			continue;
		}
		if (*s->p == '{' || *s->p == '[')
			s->depth++;
		if (*s->p == '}' || *s->p == ']')
			s->depth--;
		s->p++;
	}
	return s->depth <= JSON_DEPTH_MAX;
}

static bool scan_key(struct scan *s, struct span *key)
{
	const char *from = s->p;

	if (s->p == s->end || *s->p != '"' || !scan_string(s))
		return false;
	*key = (struct span){from + 1, (size_t)(s->p - from) - 2};
	skip_ws(s);
	if (s->p == s->end || *s->p != ':')
		return false;
	s->p++;
	skip_ws(s);
	return true;
}

/* Passes a scalar, an empty container, one that is too deep, or only the opening bracket of any other: then the value is not complete. */
static bool scan_value(struct scan *s, bool *complete)
{
	bool object = *s->p == '{';

	s->values++;
	*complete = true;
	if (!object && *s->p != '[')
		return scan_scalar(s);
	s->p++;
	if (++s->depth > JSON_DEPTH_MAX) {
		s->too_deep = true;
		return skip_deep(s);
	}
	s->in_object[s->depth] = object;
	skip_ws(s);
	*complete = s->p < s->end && *s->p == (object ? '}' : ']');
	if (*complete) {
		s->p++;
		s->depth--;
	}
	return true;
}

/* Behind a complete value: closing brackets, until a comma says that more comes or the depth is 0. */
static bool scan_after(struct scan *s)
{
	while (s->depth > 0) {
		if (s->depth == 1 && s->in_object[1] == !s->elements && s->member)
			s->member(s->ctx, s->own_key, (struct span){s->own_value, (size_t)(s->p - s->own_value)});
		skip_ws(s);
		if (s->p == s->end)
			return false;
		if (*s->p == ',') {
			s->p++;
			return true;
		}
		if (*s->p != (s->in_object[s->depth] ? '}' : ']'))
			return false;
		s->p++;
		s->depth--;
	}
	return true;
}

static bool scan_text(struct scan *s)
{
	bool complete;

	do {
		struct span key = {0};

		skip_ws(s);
		if (s->depth > 0 && s->in_object[s->depth] && !scan_key(s, &key))
			return false;
		if (s->p == s->end)
			return false;
		if (s->depth == 1) {
			s->own_key = key;
			s->own_value = s->p;
		}
		if (!scan_value(s, &complete) || (complete && !scan_after(s)))
			return false;
	} while (s->depth > 0);
	return true;
}

static enum json_verdict scan_whole(struct scan *s, enum json_type *type)
{
	skip_ws(s);
	if (s->p == s->end)
		return JSON_BROKEN;
	if (type)
		*type = json_span_type((struct span){s->p, (size_t)(s->end - s->p)});
	if (!scan_text(s))
		return JSON_BROKEN;
	skip_ws(s);
	if (s->p != s->end)
		return JSON_BROKEN;
	if (s->too_deep)
		return JSON_TOO_DEEP;
	return s->not_utf8 ? JSON_NOT_UTF8 : JSON_OK;
}

enum json_verdict json_scan(const char *text, size_t len, enum json_type *type, json_member_fn *member, void *ctx)
{
	struct scan s = {.p = text, .end = text + len, .member = member, .ctx = ctx};

	return scan_whole(&s, type);
}

enum json_verdict json_elements(struct span array, json_member_fn *element, void *ctx)
{
	struct scan s = {.p = array.ptr, .end = array.ptr + array.len, .member = element, .ctx = ctx, .elements = true};

	return scan_whole(&s, NULL);
}

/* --- Spans. ------------------------------------------------------------------------------------------------------------- */

enum json_type json_span_type(struct span v)
{
	switch (v.len > 0 ? v.ptr[0] : 'n') {
	case '{':
		return JSON_OBJECT;
	case '[':
		return JSON_ARRAY;
	case '"':
		return JSON_STRING;
	case 't':
	case 'f':
		return JSON_BOOL;
	case 'n':
		return JSON_NULL;
	default:
		return JSON_NUMBER;
	}
}

/* What "e-12" says; far beyond any text's length it only has to stay far. */
static int64_t exponent(const char *s, const char *end)
{
	bool minus = *s == '-';
	int64_t n = 0;

	for (s += *s == '-' || *s == '+'; s < end && n < EXPONENT_FAR; s++)
		n = n * 10 + (*s - '0');
	return minus ? -n : n;
}

static bool add_digit(uint64_t *n, unsigned digit, uint64_t limit)
{
	if (*n > (limit - digit) / 10)
		return false;
	*n = *n * 10 + digit;
	return true;
}

/* Exact, unlike a detour by double, and the same in every locale. The last digit is worth 10 to the power of tens. */
bool json_span_int(struct span v, int64_t *out)
{
	bool minus = v.len > 0 && *v.ptr == '-';
	const char *p = v.ptr + minus, *end = v.ptr + v.len, *last = p, *point;
	uint64_t n = 0, limit = (uint64_t)INT64_MAX + minus;
	int64_t tens = 0;

	if (json_span_type(v) != JSON_NUMBER)
		return false;
	while (last < end && (is_digit(*last) || *last == '.'))
		last++;
	if (last < end)
		tens = exponent(last + 1, end);
	point = memchr(p, '.', (size_t)(last - p));
	if (point)
		tens -= last - point - 1;
	for (; last > p && (last[-1] == '0' || last[-1] == '.'); last--)
		tens += last[-1] == '0';
	if (tens < 0 && last > p)
		return false;
	for (; p < last; p++)
		if (*p != '.' && !add_digit(&n, (unsigned)(*p - '0'), limit))
			return false;
	for (; n > 0 && tens > 0; tens--)
		if (!add_digit(&n, 0, limit))
			return false;
	*out = minus ? (int64_t)(0 - n) : (int64_t)n;
	return true;
}

bool json_span_is_true(struct span v)
{
	return v.len == 4 && v.ptr[0] == 't';
}

bool json_span_has_nul(struct span v)
{
	for (size_t i = 0; i + 1 < v.len; i++) {
		if (v.ptr[i] != '\\')
			continue;
		if (v.len - i >= 6 && memcmp(v.ptr + i, "\\u0000", 6) == 0)
			return true;
		i++;
	}
	return false;
}

static unsigned hex4(const char *s)
{
	unsigned n = 0;

	for (int i = 0; i < 4; i++) {
		char c = s[i];

		n = n * 16 + (unsigned)(is_digit(c) ? c - '0' : (c | 32) - 'a' + 10);
	}
	return n;
}

static void add_point(struct buf *out, unsigned c)
{
	char s[4];
	size_t n = 0;

	if (c < 0x80) {
		s[n++] = (char)c;
	} else if (c < 0x800) {
		s[n++] = (char)(0xc0 | c >> 6);
		s[n++] = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		s[n++] = (char)(0xe0 | c >> 12);
		s[n++] = (char)(0x80 | (c >> 6 & 63));
		s[n++] = (char)(0x80 | (c & 63));
	} else {
		s[n++] = (char)(0xf0 | c >> 18);
		s[n++] = (char)(0x80 | (c >> 12 & 63));
		s[n++] = (char)(0x80 | (c >> 6 & 63));
		s[n++] = (char)(0x80 | (c & 63));
	}
	buf_add(out, s, n);
}

/* At "\uXXXX" with left bytes to the end: the code point that stands there, in *n bytes; false for a lone surrogate (of 6 bytes). */
static bool read_unicode(const char *s, size_t left, unsigned *point, size_t *n)
{
	unsigned low;

	*point = hex4(s + 2);
	*n = 6;
	if (*point < 0xd800 || *point > 0xdfff)
		return true;
	if (*point > 0xdbff || left < 12 || s[6] != '\\' || s[7] != 'u')
		return false;
	low = hex4(s + 8);
	if (low < 0xdc00 || low > 0xdfff)
		return false;
	*point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
	*n = 12;
	return true;
}

/* Returns the bytes used, 0 for a lone surrogate. */
static size_t add_unicode(struct buf *out, const char *s, size_t left)
{
	unsigned point;
	size_t n;

	if (!read_unicode(s, left, &point, &n))
		return 0;
	add_point(out, point);
	return n;
}

static bool is_line_break(char c)
{
	return c == '\n' || c == '\r';
}

void json_add_clean(struct buf *out, struct span v)
{
	size_t from = 0, n;

	for (size_t i = 0; i < v.len; i += n) {
		const char *s = v.ptr + i, *instead = NULL;
		size_t left = v.len - i;
		unsigned point;

		n = 1;
		if (*s == '\\' && left >= 6 && s[1] == 'u') {
			instead = read_unicode(s, left, &point, &n) ? NULL : "\\ufffd";
		} else if (*s == '\\' && left > 1 && !is_line_break(s[1])) {
			n = 2;
		} else if (is_line_break(*s)) {
			instead = " ";
		} else if ((unsigned char)*s >= 0x80) {
			n = utf8_step(s, left);
			instead = n > 0 ? NULL : UTF8_REPLACEMENT;
			n = n > 0 ? n : utf8_bad(s, left);
		}
		if (instead) {
			buf_add(out, v.ptr + from, i - from);
			buf_str_add(out, instead);
			from = i + n;
		}
	}
	buf_add(out, v.ptr + from, v.len - from);
}

static bool unescape(struct buf *out, const char *s, size_t n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	size_t start = out->len;

	for (size_t i = 0; i < n;) {
		const char *slash = memchr(s + i, '\\', n - i);
		size_t plain = slash ? (size_t)(slash - (s + i)) : n - i, used = 2;

		buf_add(out, s + i, plain);
		i += plain;
		if (!slash)
			break;
		if (s[i + 1] == 'u')
			used = add_unicode(out, s + i, n - i);
		else
			buf_char(out, to[strchr(from, s[i + 1]) - from]);
		if (used == 0) {
			buf_cut(out, start);
			return false;
		}
		i += used;
	}
	return true;
}

bool json_span_string(struct span v, struct buf *out)
{
	return unescape(out, v.ptr + 1, v.len - 2);
}

size_t json_points(struct span string)
{
	size_t points = 0;

	for (size_t i = 1; i + 1 < string.len; i++) {
		unsigned char c = (unsigned char)string.ptr[i];

		points += (c & 0xc0) != 0x80;
		if (c != '\\')
			continue;
		if (string.ptr[i + 1] == 'u') {
			unsigned unit = hex4(string.ptr + i + 2);

			/* The second half of a pair is no point of its own. */
			if (unit >= 0xdc00 && unit <= 0xdfff && i > 6 && string.ptr[i - 6] == '\\' &&
			    string.ptr[i - 5] == 'u' && hex4(string.ptr + i - 4) >= 0xd800 &&
			    hex4(string.ptr + i - 4) <= 0xdbff)
				points--;
			i += 5;
		} else {
			i++;
		}
	}
	return points;
}

bool json_key_is(struct span key, const char *name)
{
	struct buf plain = BUF_INIT(1024);
	bool is;

	if (!memchr(key.ptr, '\\', key.len))
		return strlen(name) == key.len && memcmp(key.ptr, name, key.len) == 0;
	is = unescape(&plain, key.ptr, key.len) && !plain.failed && strlen(name) == plain.len &&
	     memcmp(plain.ptr, name, plain.len) == 0;
	buf_release(&plain);
	return is;
}

struct copy {
	const char *name;
	const char *from; /* what has been copied up to */
	struct buf *out;
	bool found;
};

static void skip_member(void *ctx, struct span key, struct span value)
{
	struct copy *c = ctx;
	const char *end = value.ptr + value.len;

	if (!json_key_is(key, c->name))
		return;
	/* The member goes with the comma behind it; a comma that stays at the end is mended by the caller. */
	buf_add(c->out, c->from, (size_t)(key.ptr - 1 - c->from));
	while (*end == ' ' || *end == '\n' || *end == '\r' || *end == '\t')
		end++;
	c->from = *end == ',' ? end + 1 : end;
	c->found = true;
}

bool json_open_without(const char *text, size_t len, const char *name, struct buf *out)
{
	struct copy c = {.name = name, .from = text, .out = out};
	const char *end = text + len;

	json_scan(text, len, NULL, skip_member, &c);
	while (end[-1] != '}')
		end--;
	buf_add(out, c.from, (size_t)(end - 1 - c.from));
	return c.found;
}

/* --- The tree. ---------------------------------------------------------------------------------------------------------- */

static const cJSON *raw(const struct json *j)
{
	return (const cJSON *)(const void *)j;
}

static const struct json *wrap(const cJSON *c)
{
	return (const struct json *)(const void *)c;
}

/* In place: escapes that cJSON cannot hold (NUL) or refuses (a lone surrogate) become that of U+FFFD. */
static void soften_escapes(char *s, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++) {
		unsigned c;

		if (s[i] != '\\')
			continue;
		if (s[i + 1] != 'u' || n - i < 6) {
			i++;
			continue;
		}
		c = hex4(s + i + 2);
		if (c >= 0xd800 && c <= 0xdbff && n - i >= 12 && s[i + 6] == '\\' && s[i + 7] == 'u' &&
		    hex4(s + i + 8) >= 0xdc00 && hex4(s + i + 8) <= 0xdfff) {
			i += 11;
			continue;
		}
		if (c == 0 || (c >= 0xd800 && c <= 0xdfff))
			memcpy(s + i, "\\ufffd", 6);
		i += 5;
	}
}

struct json *json_parse(const char *text, size_t len)
{
	struct buf copy = BUF_INIT(len * 3 + 1);
	enum json_verdict verdict;
	struct scan s = {0};
	cJSON *tree = NULL;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	s.p = text;
	s.end = text + len;
	verdict = scan_whole(&s, NULL);
	if (verdict == JSON_BROKEN || verdict == JSON_TOO_DEEP || s.values > TREE_VALUES_MAX)
		return NULL;
	if (verdict == JSON_NOT_UTF8)
		utf8_repair(&copy, text, len);
	else
		buf_add(&copy, text, len);
	if (!copy.failed) {
		soften_escapes(copy.ptr, copy.len);
		tree = cJSON_ParseWithLengthOpts(copy.ptr, copy.len + 1, NULL, 1);
	}
	buf_release(&copy);
	return (struct json *)(void *)tree;
}

void json_free(struct json *j)
{
	cJSON_Delete((cJSON *)(void *)j);
}

enum json_type json_type(const struct json *j)
{
	const cJSON *c = raw(j);

	if (!c || cJSON_IsNull(c) || cJSON_IsInvalid(c))
		return JSON_NULL;
	if (cJSON_IsBool(c))
		return JSON_BOOL;
	if (cJSON_IsNumber(c))
		return JSON_NUMBER;
	if (cJSON_IsString(c))
		return JSON_STRING;
	return cJSON_IsArray(c) ? JSON_ARRAY : JSON_OBJECT;
}

const struct json *json_get(const struct json *obj, const char *key)
{
	return json_type(obj) == JSON_OBJECT ? wrap(cJSON_GetObjectItemCaseSensitive(raw(obj), key)) : NULL;
}

const char *json_text(const struct json *j)
{
	return json_type(j) == JSON_STRING ? raw(j)->valuestring : NULL;
}

bool json_double(const struct json *j, double *out)
{
	if (json_type(j) != JSON_NUMBER)
		return false;
	*out = raw(j)->valuedouble;
	return true;
}

bool json_true(const struct json *j)
{
	return j && cJSON_IsTrue(raw(j));
}

const struct json *json_first(const struct json *j)
{
	enum json_type t = json_type(j);

	return t == JSON_ARRAY || t == JSON_OBJECT ? wrap(raw(j)->child) : NULL;
}

const struct json *json_next(const struct json *c)
{
	return c ? wrap(raw(c)->next) : NULL;
}

const char *json_name(const struct json *c)
{
	return c ? raw(c)->string : NULL;
}

size_t json_count(const struct json *j)
{
	size_t n = 0;

	for (const struct json *c = json_first(j); c; c = json_next(c))
		n++;
	return n;
}
