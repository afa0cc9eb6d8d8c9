/* SPDX-License-Identifier: MIT
 *
 * See wrong.h. */
#include "stub/wrong.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/utf8.h"

#define ACTIVITY ", \"activityId\": \"41d51993-e979-4d99-a8fd-eea93a3d0267\""
#define GZIP_BLOCK_MAX 65535U

static const char key_missing[] = "Access denied due to missing subscription key. "
				  "Make sure to include subscription key when making requests to an API.";
static const char key_invalid[] = "Access denied due to invalid subscription key. "
				  "Make sure to provide a valid key for an active subscription.";
static const char not_found[] = "Resource not found";

/* What comes with a status where the directive does not say it. */
static const struct usual {
	int status;
	enum wrong_body body;
	const char *message; /* of the gateway; NULL: that something went wrong within */
	const char *title;   /* of a page; NULL: that of a 502 */
} usuals[] = {
	{204, BODY_EMPTY, NULL, NULL},
	{400, BODY_E1, NULL, "Bad Request"},
	{401, BODY_E2, key_invalid, "Unauthorized"},
	{403, BODY_E2, "Out of call volume quota. Quota will be replenished in 00:10:00.", "Forbidden"},
	{404, BODY_E2, not_found, "Not Found"},
	{405, BODY_E2, "Method Not Allowed", "Method Not Allowed"},
	{408, BODY_HTML, NULL, "Request Timeout"},
	{413, BODY_HTML, NULL, "Request Entity Too Large"},
	{429, BODY_E2, "Rate limit is exceeded. Try again in 9 seconds.", "Too Many Requests"},
	{500, BODY_E1, NULL, "Internal Server Error"},
	{502, BODY_HTML, NULL, NULL},
	{503, BODY_HTML, NULL, "Service Unavailable"},
	{504, BODY_HTML, NULL, "Gateway Timeout"},
};

static struct usual usual_of(int status)
{
	for (size_t i = 0; i < sizeof usuals / sizeof *usuals; i++)
		if (usuals[i].status == status)
			return usuals[i];
	return (struct usual){status,
			      status < 300   ? BODY_JSON
			      : status < 400 ? BODY_EMPTY /* a redirect */
					     : BODY_E2,
			      NULL, NULL};
}

/* --- Bodies. ----------------------------------------------------------------------------------------------- */

void answer_json(struct httpd_answer *a, int status)
{
	a->status = status;
	httpd_add_header(a, "Content-Type", "application/json");
}

static void gateway(struct httpd_answer *a, int status, const char *message)
{
	answer_json(a, status);
	buf_printf(&a->body, "{ \"statusCode\": %d, \"message\": \"%s\"%s }", status,
		   message ? message : "Internal server error", message ? "" : ACTIVITY);
}

void wrong_input(struct httpd_answer *a, const char *code, const char *target, const char *message)
{
	answer_json(a, 400);
	buf_lit(&a->body, "{\"error\":{\"code\":\"VALIDATION_FAILED\",\"message\":\"The request payload contains "
			  "invalid parameters.\",\"details\":[{\"code\":");
	buf_json_cstr(&a->body, code);
	buf_lit(&a->body, ",\"message\":");
	buf_json_cstr(&a->body, message);
	buf_lit(&a->body, ",\"target\":");
	buf_json_cstr(&a->body, target);
	buf_lit(&a->body, "}]}}");
}

void wrong_length(struct httpd_answer *a, int status)
{
	answer_json(a, status);
	buf_lit(&a->body, "{\"type\":\"validation_error\",\"message\":\"Input text exceeds maximum length of "
			  "1000 characters\"}");
}

static void add_challenge(struct httpd_answer *a, const char *api)
{
	char challenge[256];

	snprintf(challenge, sizeof challenge,
		 "AzureApiManagementKey realm=\"https://stub/%s\",name=\"Ocp-Apim-Subscription-Key\",type=\"header\"",
		 api);
	httpd_add_header(a, "WWW-Authenticate", challenge);
}

void wrong_key(struct httpd_answer *a, const char *api, bool missing)
{
	add_challenge(a, api);
	gateway(a, 401, missing ? key_missing : key_invalid);
}

void wrong_path(struct httpd_answer *a)
{
	gateway(a, 404, not_found);
}

static void page(struct httpd_answer *a, const char *title, const char *heading)
{
	httpd_add_header(a, "Content-Type", "text/html; charset=utf-8");
	buf_printf(&a->body, "<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>",
		   title ? title : "Bad Gateway", heading);
}

static void service_fault(struct httpd_answer *a, int status, struct words detail)
{
	char code[DIRECTIVES_LINE_MAX + 1];

	if (detail.ptr) {
		snprintf(code, sizeof code, "%.*s", (int)detail.len, detail.ptr);
		wrong_input(a, code, "", "The stub was asked to say so");
	} else if (status == 400) {
		wrong_input(a, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair",
			    "Language combination en-zz cannot be used");
	} else {
		answer_json(a, status);
		buf_lit(&a->body, "{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"An unexpected error "
				  "occurred.\",\"details\":[]}}");
	}
	a->status = status;
}

/* Calls, or bytes, that are used up: each with its words, and how the wait is written in them. */
static void used_up(struct httpd_answer *a, int status, enum wrong_body body, int64_t s)
{
	static const char *const words[] = {
		[BODY_QUOTA] = "Out of call volume quota. Quota will be replenished in %s.",
		[BODY_QUOTA_DAYS] = "Out of call volume quota. Quota will be replenished in %s.",
		[BODY_BANDWIDTH] = "Out of bandwidth quota. Quota will be replenished in %s.",
		[BODY_RATE] = "Rate limit is exceeded. Try again in %s seconds.",
	};
	char wait[64], days[32] = "", message[192];
	const char *gap = strchr(words[body], '%');
	int64_t day = 24 * 3600;

	if (s >= day)
		snprintf(days, sizeof days, "%" PRId64 ".", s / day);
	if (body == BODY_RATE)
		snprintf(wait, sizeof wait, "%" PRId64, s);
	else if (body == BODY_QUOTA_DAYS)
		snprintf(wait, sizeof wait, "%.2f days", (double)s / (double)day);
	else
		snprintf(wait, sizeof wait, "%s%02d:%02d:%02d", days, (int)(s % day / 3600), (int)(s / 60 % 60),
			 (int)(s % 60));
	snprintf(message, sizeof message, "%.*s%s%s", (int)(gap - words[body]), words[body], wait, gap + 2);
	gateway(a, status, message);
	if (body == BODY_QUOTA_DAYS)
		return;
	snprintf(wait, sizeof wait, "%" PRId64, s);
	httpd_add_header(a, "Retry-After", wait);
}

bool wrong_asked(const struct directives *d)
{
	return d->status || d->body;
}

void wrong_send(struct httpd_answer *a, const struct directives *d, const char *api)
{
	int status = d->status ? d->status : 200;
	struct usual usual = usual_of(status);
	enum wrong_body body = d->body == BODY_FITTING ? usual.body : d->body;

	a->status = status;
	if (status == 401)
		add_challenge(a, api);
	switch (body) {
	case BODY_FITTING: /* is none */
	case BODY_EMPTY:
		break;
	case BODY_E1:
		service_fault(a, status, d->detail);
		break;
	case BODY_E2:
		gateway(a, status, usual.message);
		break;
	case BODY_E3:
		wrong_length(a, status);
		break;
	case BODY_HTML:
		page(a, usual.title, "The server is not there.");
		break;
	case BODY_CHALLENGE:
		page(a, "Just a moment...", "Checking your browser");
		break;
	case BODY_STOPPED:
		page(a, "Web App - Unavailable", "Error 403 - This web app is stopped.");
		break;
	case BODY_TEXT:
		httpd_add_header(a, "Content-Type", "text/plain");
		buf_lit(&a->body, "upstream connect error");
		break;
	case BODY_BROKEN:
		answer_json(a, status);
		buf_lit(&a->body, "{\"text\": \"cut of");
		break;
	case BODY_JSON:
		answer_json(a, status);
		buf_lit(&a->body, "{\"unexpected\": [1, 2, 3]}");
		break;
	case BODY_LITERAL:
		base64_decode(&a->body, d->literal.ptr, d->literal.len);
		break;
	case BODY_QUOTA:
	case BODY_QUOTA_DAYS:
	case BODY_BANDWIDTH:
	case BODY_RATE:
		used_up(a, status, body, d->wait_s);
		break;
	}
}

/* --- What is done to any body. Each makes a new one of the old one. ---------------------------------------- */

static void escape(struct buf *out, const char *s, size_t n)
{
	for (size_t i = 0, step; i < n; i += step) {
		const unsigned char *b = (const unsigned char *)s + i;
		uint32_t c;

		step = utf8_step(s + i, n - i);
		if (step <= 1) {
			buf_add(out, s + i, 1);
			step = 1;
			continue;
		}
		c = b[0] & (0xffU >> (step + 1));
		for (size_t j = 1; j < step; j++)
			c = c << 6 | (b[j] & 63U);
		if (c >= 0x10000)
			buf_printf(out, "\\u%04x\\u%04x", 0xd800U + ((c - 0x10000) >> 10),
				   0xdc00U + ((c - 0x10000) & 1023));
		else
			buf_printf(out, "\\u%04x", c);
	}
}

static void add_bom(struct buf *out, const char *s, size_t n)
{
	buf_lit(out, "\xef\xbb\xbf");
	buf_add(out, s, n);
}

static void add_little_endian(struct buf *out, uint32_t n, int bytes)
{
	for (; bytes > 0; bytes--, n >>= 8)
		buf_char(out, (char)(n & 255));
}

static uint32_t crc32(const char *s, size_t n)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		crc ^= (unsigned char)s[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

/* Stored blocks, which every reader takes, save a library for the sake of a test. */
static void gzip(struct buf *out, const char *s, size_t n)
{
	size_t done = 0;

	buf_add(out, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
	do {
		uint32_t size = n - done < GZIP_BLOCK_MAX ? (uint32_t)(n - done) : GZIP_BLOCK_MAX;

		buf_char(out, done + size == n);
		add_little_endian(out, size, 2);
		add_little_endian(out, ~size, 2);
		buf_add(out, s + done, size);
		done += size;
	} while (done < n);
	add_little_endian(out, crc32(s, n), 4);
	add_little_endian(out, (uint32_t)n, 4);
}

static void change(struct httpd_answer *a, void (*how)(struct buf *out, const char *s, size_t n))
{
	struct buf changed = BUF_INIT(a->body.max);

	how(&changed, buf_cstr(&a->body), a->body.len);
	buf_release(&a->body);
	a->body = changed;
}

static size_t find_header(const struct httpd_answer *a, const char *name)
{
	size_t i = 0;

	while (i < a->nheaders && strcmp(a->headers[i].name, name) != 0)
		i++;
	return i;
}

static void drop_header(struct httpd_answer *a, const char *name)
{
	size_t i = find_header(a, name);

	if (i < a->nheaders)
		a->headers[i] = a->headers[--a->nheaders];
}

static void add_words(struct httpd_answer *a, const char *name, struct words w)
{
	char value[DIRECTIVES_LINE_MAX + 1];

	snprintf(value, sizeof value, "%.*s", (int)w.len, w.ptr);
	httpd_add_header(a, name, value);
}

static bool is_json(const struct httpd_answer *a)
{
	size_t i = find_header(a, "Content-Type");

	return i < a->nheaders && strcmp(a->headers[i].value, "application/json") == 0;
}

void wrong_finish(struct httpd_answer *a, const struct directives *d)
{
	if (d->escaped && is_json(a))
		change(a, escape);
	if (d->bom)
		change(a, add_bom);
	if (d->gzip) {
		change(a, gzip);
		httpd_add_header(a, "Content-Encoding", "gzip");
	}
	wrong_head(a, d);
}

void wrong_head(struct httpd_answer *a, const struct directives *d)
{
	if (d->type.ptr)
		drop_header(a, "Content-Type");
	if (d->type.len > 0)
		add_words(a, "Content-Type", d->type);
	for (size_t i = 0; i < d->nheaders; i++)
		drop_header(a, d->headers[i].name); /* the directive's own is meant */
	for (size_t i = 0; i < d->nheaders; i++)
		add_words(a, d->headers[i].name, d->headers[i].value);
	a->chunked = a->chunked || d->chunked;
	a->delay_ms = d->delay_ms;
	a->body_delay_ms = d->body_delay_ms;
	a->dribble_ms = d->dribble_ms;
	if (d->manner != HTTPD_PLAIN)
		a->manner = d->manner;
}
