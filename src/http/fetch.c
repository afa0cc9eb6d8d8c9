/* SPDX-License-Identifier: MIT
 *
 * See fetch.h. Redirects are followed by hand, one transfer each: libcurl would check none of our rules, and the socket callback must know
 * whose address it sees. */
#include "http/fetch.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/address.h"
#include "http/allow.h"
#include "http/drive.h"

#define REDIRECTS_MAX 5
#define CONNECT_MAX_MS 30000
#define STALL_BYTES_S 64L /* less than that is next to nothing */
#define BUFFER_BYTES (64L * 1024)
#define HOST_BYTES 256

struct fetch {
	struct http *http;
	const struct fetch_request *req;
	struct fetch_response *out;
	CURL *easy;
	CURLU *url;
	int64_t until_ms;	  /* mono */
	char sent_by[HOST_BYTES]; /* the host of the last redirect; "": none yet */
	/* Of the running transfer: */
	char host[HOST_BYTES];
	uint16_t port;
	bool head_whole; /* the blank line behind the answer's headers came */
	bool walled_off; /* an address was not for us */
	bool unwanted;	 /* a body that is not the file */
	bool too_large;
	int write_errno;
	char fault[CURL_ERROR_SIZE];
};

__attribute__((format(printf, 3, 4))) static int end_with(struct fetch *f, enum fetch_end end, const char *fmt, ...)
{
	size_t used = 0;
	va_list ap;

	if (*f->sent_by) {
		snprintf(f->out->fault, sizeof f->out->fault, "redirected by %s: ", f->sent_by);
		used = strlen(f->out->fault);
	}
	va_start(ap, fmt);
	vsnprintf(f->out->fault + used, sizeof f->out->fault - used, fmt, ap);
	va_end(ap);
	f->out->end = end;
	return -1;
}

/* --- Where it goes. ----------------------------------------------------------------------------------------------------- */

/* False: absent, or longer than anything good. */
static bool url_part(CURLU *url, CURLUPart part, unsigned flags, char *to, size_t n)
{
	char *text = NULL;
	bool fits = curl_url_get(url, part, &text, flags) == CURLUE_OK && strlen(text) < n;

	if (fits)
		memcpy(to, text, strlen(text) + 1);
	curl_free(text);
	return fits;
}

static bool has_part(CURLU *url, CURLUPart part)
{
	char *text = NULL;
	bool has = curl_url_get(url, part, &text, 0) == CURLUE_OK;

	curl_free(text);
	return has;
}

/* What is neither a name nor an address in ASCII is in no list, and must not get into a message either. */
static bool is_plain_host(const char *host)
{
	for (const char *c = host; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.[:]", *c))
			return false;
	return *host;
}

/* By libcurl's own parse of the URL, which it then goes by. 0, or -1: out says why not. */
static int check_place(struct fetch *f)
{
	char scheme[16], port[8];
	bool https, http;

	if (!url_part(f->url, CURLUPART_SCHEME, 0, scheme, sizeof scheme) ||
	    !url_part(f->url, CURLUPART_HOST, 0, f->host, sizeof f->host) || !is_plain_host(f->host))
		return end_with(f, FETCH_REFUSED, "names no host (in ASCII)");
	if (has_part(f->url, CURLUPART_USER) || has_part(f->url, CURLUPART_PASSWORD))
		return end_with(f, FETCH_REFUSED, "holds credentials; none are sent");
	https = strcmp(scheme, "https") == 0;
	http = strcmp(scheme, "http") == 0;
	if (!https && !(http && f->req->takes_http && f->req->takes_http(f->req->ctx, f->host, strlen(f->host))))
		return end_with(f, FETCH_REFUSED,
				"must begin with https:// (allow_http_loopback and allow_http_hosts make exceptions)");
	if (!url_part(f->url, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port) ||
	    sscanf(port, "%hu", &f->port) != 1 || !allow_host(f->req->allow, f->host, f->port))
		return end_with(f, FETCH_REFUSED, "host '%s' is not in audio_url_allow", f->host);
	curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, https ? "https" : "http");
	return 0;
}

static bool may_connect(const struct fetch *f, const struct sockaddr *to)
{
	struct address a;

	if (!address_from_socket(to, &a))
		return false;
	return address_is_public(&a) || allow_address(f->req->allow, &a, f->port) ||
	       (strcasecmp(f->host, "localhost") == 0 && address_is_loopback(&a));
}

static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct fetch *f = user;

	(void)purpose;
	if (may_connect(f, &to->addr))
		return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
	f->walled_off = true;
	return CURL_SOCKET_BAD;
}

/* --- What comes. -------------------------------------------------------------------------------------------------------- */

static long status_of(struct fetch *f)
{
	long status = 0;

	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

/* A part of a file, which nobody asked for, is not the file. */
static bool is_success(long status)
{
	return status >= 200 && status < 300 && status != 206;
}

/* A connection that ends within the headers is a whole answer to libcurl 7.88. */
static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct fetch *f = user;

	if (size * n >= 5 && memcmp(line, "HTTP/", 5) == 0)
		f->head_whole = false;
	else if (size * n <= 2)
		f->head_whole = true;
	return size * n;
}

static bool write_all(struct fetch *f, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t put = write(f->req->fd, data, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			f->write_errno = put < 0 ? errno : ENOSPC;
			return false;
		}
		data += put;
		n -= (size_t)put;
	}
	return true;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
	struct fetch *f = user;
	curl_off_t length = -1;

	f->unwanted = !is_success(status_of(f));
	curl_easy_getinfo(f->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	f->too_large = length > f->req->max_bytes || f->out->bytes + (int64_t)(size * n) > f->req->max_bytes;
	if (f->unwanted || f->too_large || !write_all(f, data, size * n))
		return 0;
	f->out->bytes += (int64_t)(size * n);
	return size * n;
}

/* --- One transfer. ------------------------------------------------------------------------------------------------------ */

static int set_up(struct fetch *f)
{
	f->easy = curl_easy_init();
	f->url = curl_url();
	if (!f->easy || !f->url)
		return end_with(f, FETCH_FAILED, "out of memory");
	curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->fault);
	curl_easy_setopt(f->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(f->easy, CURLOPT_USERAGENT, "adwuma/" ADWUMA_VERSION);
	curl_easy_setopt(f->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(f->easy, CURLOPT_HEADERDATA, f);
	curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
	curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETDATA, f);
	curl_easy_setopt(f->easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(f->easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(f->easy, CURLOPT_SSL_CTX_FUNCTION, drive_ssl_ctx);
	curl_easy_setopt(f->easy, CURLOPT_SSL_CTX_DATA, f->http);
	curl_easy_setopt(f->easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(f->easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_S);
	curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_TIME, (long)f->req->stall_s);
	/* A proxy would connect for us, and a kept connection was made for somebody else: neither passes by on_socket. */
	curl_easy_setopt(f->easy, CURLOPT_PROXY, ""); /* nor one that the environment names */
	curl_easy_setopt(f->easy, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(f->easy, CURLOPT_FORBID_REUSE, 1L);
	return 0;
}

/* 0: an answer came, for better or worse. */
static int transfer(struct fetch *f)
{
	int64_t left = f->until_ms - clock_mono_ms();
	CURLcode code;

	f->head_whole = f->walled_off = f->unwanted = f->too_large = false;
	f->fault[0] = '\0';
	if (left <= 0)
		return end_with(f, FETCH_FAILED, "%s: the time is up", f->host);
	curl_easy_setopt(f->easy, CURLOPT_CURLU, f->url);
	curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, (long)left);
	curl_easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(left < CONNECT_MAX_MS ? left : CONNECT_MAX_MS));
	f->out->tried = true;
	code = drive(f->http, f->easy);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return end_with(f, FETCH_ABORTED, "aborted");
	if (f->unwanted)
		return 0;
	if (f->too_large)
		return end_with(f, FETCH_REFUSED, "%s: the file is larger than max_audio_bytes allows (%lld)", f->host,
				(long long)f->req->max_bytes);
	if (f->write_errno)
		return end_with(f, FETCH_FAILED, "%s: the file cannot be kept: %s", f->host, strerror(f->write_errno));
	if (code == CURLE_COULDNT_CONNECT && f->walled_off)
		return end_with(f, FETCH_REFUSED,
				"host '%s' has an address that is not public; audio_url_allow does not list it",
				f->host);
	if (code != CURLE_OK)
		return end_with(f, FETCH_FAILED, "%s: %s", f->host, *f->fault ? f->fault : curl_easy_strerror(code));
	if (!f->head_whole)
		return end_with(f, FETCH_FAILED, "%s: the connection was closed within the answer's headers", f->host);
	return 0;
}

/* --- The whole. --------------------------------------------------------------------------------------------------------- */

/* 1: the answer sends us on, and url is the new one; 0: it does not; -1: out says why not. */
static int redirected(struct fetch *f, long status)
{
	struct curl_header *to = NULL;

	if (status < 301 || status > 308 || (status > 303 && status < 307) ||
	    curl_easy_header(f->easy, "Location", 0, CURLH_HEADER, -1, &to) != CURLHE_OK)
		return 0;
	/* Servers write spaces as they are; newer libcurl takes them only when told to. */
	if (curl_url_set(f->url, CURLUPART_URL, to->value, CURLU_URLENCODE | CURLU_ALLOW_SPACE) != CURLUE_OK)
		return end_with(f, FETCH_REFUSED, "%s: redirects to what is no URL", f->host);
	memcpy(f->sent_by, f->host, sizeof f->sent_by);
	return 1;
}

static int judge(struct fetch *f, long status)
{
	if (is_success(status)) {
		f->out->end = FETCH_DONE;
		return 0;
	}
	return end_with(f, status == 408 || status == 429 || status >= 500 ? FETCH_FAILED : FETCH_REFUSED,
			"%s: answered HTTP %ld", f->host, status);
}

static int follow(struct fetch *f)
{
	if (curl_url_set(f->url, CURLUPART_URL, f->req->url, 0) != CURLUE_OK)
		return end_with(f, FETCH_REFUSED, "is no URL");
	for (int redirects = 0;; redirects++) {
		int more;
		long status;

		if (check_place(f) || transfer(f))
			return -1;
		status = status_of(f);
		more = redirected(f, status);
		if (more <= 0)
			return more < 0 ? -1 : judge(f, status);
		if (redirects == REDIRECTS_MAX)
			return end_with(f, FETCH_REFUSED, "%s: more than %d redirects", f->host, REDIRECTS_MAX);
	}
}

void http_fetch(struct http *h, const struct fetch_request *req, struct fetch_response *out)
{
	struct fetch f = {.http = h, .req = req, .out = out, .until_ms = clock_mono_ms() + req->timeout_ms};

	*out = (struct fetch_response){.end = FETCH_FAILED};
	if (set_up(&f) == 0)
		follow(&f);
	curl_easy_cleanup(f.easy);
	curl_url_cleanup(f.url);
}
