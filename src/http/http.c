/* SPDX-License-Identifier: MIT
 *
 * See http.h. Each handle drives a multi handle of one: perform first and wait only then, which saves a poll per call (measured), and lets
 * another thread wake it to abort. What does not change from call to call is set once per target. */
#include "http/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "http/ca.h"
#include "http/drive.h"

#define CONNECT_MAX_MS 30000
#define BUFFER_BYTES 4096 /* enough for text; audio gets more */
#define BUFFER_AUDIO_BYTES (64 * 1024)
#define KEEP_BYTES (64UL * 1024)
#define POLL_MAX_MS 1000 /* an abort is seen at the latest then */
#define DRAIN_MAX_MS 500 /* how long a stream may take to end after its last event; else its connection is not kept */
#define SHARED_KINDS 8	 /* more than CURL_LOCK_DATA_LAST */

struct http_target {
	CURLU *url;
	struct curl_slist *headers;
	char *text;
	bool https_only;
};

struct http {
	struct http_shared *shared;
	CURL *easy;
	_Atomic(CURLM *) multi;		  /* another thread wakes it to abort */
	const struct http_target *target; /* that easy is set up for */
	bool plain;			  /* to POST bodies from memory to it, and nothing else */
	struct curl_slist *own_headers;
	curl_mime *form;
	struct buf body;
	_Atomic bool aborted;
	/* Of the running transfer: */
	unsigned sends; /* requests begun */
	const struct http_body_source *source;
	int64_t source_left;
	bool head_whole; /* the blank line behind the answer's headers came */
	bool too_large;
	bool source_failed;
	const struct http_sink *sink;
	size_t sunk, sink_max; /* bytes */
	int64_t silence_ms;    /* longest that is borne, while there is a sink */
	int64_t heard_ms;      /* mono; when something last came */
	bool streams;	       /* the answer is an event stream */
	enum http_sink_says said;
	char fault[CURL_ERROR_SIZE];
};

struct http_shared {
	CURLSH *share;
	pthread_mutex_t locks[SHARED_KINDS];
	bool no_proxy; /* the environment names none */
	struct ca ca;
};

/* --- What is shared. ---------------------------------------------------------------------------------------------------- */

static void share_lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *user)
{
	struct http_shared *s = user;

	(void)easy;
	(void)access;
	pthread_mutex_lock(&s->locks[(unsigned)data % SHARED_KINDS]);
}

static void share_unlock(CURL *easy, curl_lock_data data, void *user)
{
	struct http_shared *s = user;

	(void)easy;
	pthread_mutex_unlock(&s->locks[(unsigned)data % SHARED_KINDS]);
}

static bool proxy_named(void)
{
	static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *proxy = getenv(names[i]);

		if (proxy && *proxy)
			return true;
	}
	return false;
}

/* curl_global_init counts its callers, and from 7.84 on they may be many threads at once. */
struct http_shared *http_shared_new(const char *ca_file, struct error *err)
{
	struct http_shared *s = calloc(1, sizeof *s);

	if (!s || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		error_set(err, s ? ERR_SYSTEM : ERR_MEMORY, s ? "libcurl cannot be set up" : "out of memory");
		free(s);
		return NULL;
	}
	if (!ca_file)
		ca_file = curl_version_info(CURLVERSION_NOW)->cainfo;
	ca_init(&s->ca, ca_file ? ca_file : "/etc/ssl/certs/ca-certificates.crt");
	for (int i = 0; i < SHARED_KINDS; i++)
		pthread_mutex_init(&s->locks[i], NULL);
	s->share = curl_share_init();
	if (!s->share) {
		http_shared_free(s);
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	curl_share_setopt(s->share, CURLSHOPT_USERDATA, s);
	curl_share_setopt(s->share, CURLSHOPT_LOCKFUNC, share_lock);
	curl_share_setopt(s->share, CURLSHOPT_UNLOCKFUNC, share_unlock);
	curl_share_setopt(s->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(s->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	s->no_proxy = !proxy_named();
	return s;
}

int http_check_ca_file(const char *file, struct error *err)
{
	return ca_check(file, err);
}

void http_shared_free(struct http_shared *s)
{
	if (!s)
		return;
	curl_share_cleanup(s->share);
	for (int i = 0; i < SHARED_KINDS; i++)
		pthread_mutex_destroy(&s->locks[i]);
	ca_release(&s->ca);
	free(s);
	curl_global_cleanup();
}

/* --- Targets. ----------------------------------------------------------------------------------------------------------- */

/* A line break in a value, like a key pasted with one, would be a header of its own. The value is not shown. */
static bool is_header(const char *header, struct error *err)
{
	if (!strpbrk(header, "\r\n"))
		return true;
	error_set(err, ERR_CONFIG, "the value of the header %.*s holds a line break", (int)strcspn(header, ":\r\n"),
		  header);
	return false;
}

static int add_header(struct curl_slist **list, const char *header)
{
	struct curl_slist *longer = curl_slist_append(*list, header);

	if (!longer)
		return -1;
	*list = longer;
	return 0;
}

struct http_target *http_target_new(const char *url, const char *const *headers, bool https_only, struct error *err)
{
	struct http_target *t;
	int rc;

	for (const char *const *header = headers; header && *header; header++)
		if (!is_header(*header, err))
			return NULL;
	t = calloc(1, sizeof *t);
	rc = t ? 0 : -1;
	if (rc == 0) {
		t->https_only = https_only;
		t->text = strdup(url);
		t->url = curl_url();
		rc = t->text && t->url ? 0 : -1;
	}
	if (rc == 0 && curl_url_set(t->url, CURLUPART_URL, url, 0) != CURLUE_OK) {
		http_target_free(t);
		error_set(err, ERR_CONFIG, "is no URL"); /* not repeated: a password may stand in it */
		return NULL;
	}
	/* libcurl would ask a server for permission before it sends a larger body; none of ours needs it. */
	rc = rc ? rc : add_header(&t->headers, "Expect:");
	/* None is asked for, but what comes nevertheless is decoded: TaskingAI's servers encode nothing, Khaya's answers are too small for
	 * it, and libcurl would make the header anew for every call, 9,000 instructions of 70,000 (measured). */
	rc = rc ? rc : add_header(&t->headers, "Accept-Encoding:");
	for (; rc == 0 && headers && *headers; headers++)
		rc = add_header(&t->headers, *headers);
	if (rc) {
		http_target_free(t);
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	return t;
}

void http_target_free(struct http_target *t)
{
	if (!t)
		return;
	curl_url_cleanup(t->url);
	for (struct curl_slist *h = t->headers; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data)); /* one holds the key */
	curl_slist_free_all(t->headers);
	free(t->text);
	free(t);
}

/* --- Callbacks of one transfer. ----------------------------------------------------------------------------------------- */

static bool is_event_stream(struct http *h)
{
	static const char wanted[] = "text/event-stream";
	const char *type = NULL;
	long status = 0;

	curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(h->easy, CURLINFO_CONTENT_TYPE, &type);
	return status == 200 && type && strncasecmp(type, wanted, sizeof wanted - 1) == 0;
}

static size_t sink(struct http *h, const char *data, size_t n)
{
	h->sunk += n;
	h->too_large = h->sunk > h->sink_max;
	if (!h->too_large && h->said == HTTP_SINK_MORE)
		h->said = h->sink->write(h->sink->ctx, data, n);
	if (h->said == HTTP_SINK_MORE)
		h->heard_ms = clock_mono_ms();
	return h->too_large || h->said == HTTP_SINK_STOP ? 0 : n;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
	struct http *h = user;

	if (h->sink && h->sunk == 0 && h->body.len == 0)
		h->streams = is_event_stream(h);
	if (h->sink && h->streams)
		return sink(h, data, size * n);
	h->heard_ms = h->sink ? clock_mono_ms() : 0;
	buf_add(&h->body, data, size * n);
	h->too_large = h->body.failed;
	return h->body.failed ? 0 : size * n;
}

/* A connection that ends within the headers is a whole answer to libcurl 7.88. */
static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct http *h = user;

	if (size * n >= 5 && memcmp(line, "HTTP/", 5) == 0)
		h->head_whole = false;
	else if (size * n <= 2)
		h->head_whole = true;
	if (h->sink)
		h->heard_ms = clock_mono_ms();
	return size * n;
}

/* libcurl repeats a request by itself when a kept connection dies before the answer: a paid call must not be made twice. */
static int on_request(void *user, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
	struct http *h = user;

	(void)primary_ip;
	(void)local_ip;
	(void)primary_port;
	(void)local_port;
	return h->sends++ == 0 ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static size_t on_read(char *to, size_t size, size_t n, void *user)
{
	struct http *h = user;
	int64_t got = h->source->read(h->source->ctx, to, size * n);

	/* Of a body that ends before its size the server would wait for the rest until the time is up. */
	if (got < 0 || got > h->source_left || (got == 0 && h->source_left > 0)) {
		h->source_failed = true;
		return CURL_READFUNC_ABORT;
	}
	h->source_left -= got;
	return (size_t)got;
}

static int on_seek(void *user, curl_off_t offset, int origin)
{
	struct http *h = user;

	if (origin != SEEK_SET || offset != 0 || h->source->rewind(h->source->ctx))
		return CURL_SEEKFUNC_CANTSEEK;
	h->source_left = h->source->size;
	return CURL_SEEKFUNC_OK;
}

CURLcode drive_ssl_ctx(CURL *easy, void *ssl_ctx, void *user)
{
	struct http *h = user;

	(void)easy;
	return ca_attach(&h->shared->ca, ssl_ctx) == 0 ? CURLE_OK : CURLE_SSL_CACERT_BADFILE;
}

/* --- The handle. -------------------------------------------------------------------------------------------------------- */

struct http *http_new(struct http_shared *shared, struct error *err)
{
	struct http *h = calloc(1, sizeof *h);

	if (h)
		h->shared = shared;
	else
		error_set(err, ERR_MEMORY, "out of memory");
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->easy && h->multi)
		curl_multi_remove_handle(h->multi, h->easy);
	curl_easy_cleanup(h->easy);
	curl_multi_cleanup(h->multi);
	curl_slist_free_all(h->own_headers);
	curl_mime_free(h->form);
	buf_release(&h->body);
	free(h);
}

void http_abort(struct http *h)
{
	h->aborted = true;
	if (h->multi)
		curl_multi_wakeup(h->multi);
}

void http_unabort(struct http *h)
{
	h->aborted = false;
}

/* What stays for the handle's life. */
static int make_handle(struct http *h)
{
	CURL *e = curl_easy_init();
	CURLM *m = e ? curl_multi_init() : NULL;

	if (!m) {
		curl_easy_cleanup(e);
		return -1;
	}
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_SHARE, h->shared->share);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, h->fault);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING,
			 ""); /* answers are decoded; none is asked for, see http_target_new() */
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, h);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(e, CURLOPT_READDATA, h);
	curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(e, CURLOPT_SEEKDATA, h);
	curl_easy_setopt(e, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, drive_ssl_ctx);
	curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, h);
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* a silent name server must not hold a call beyond its timeout */
	if (h->shared->no_proxy) {		     /* else libcurl asks the environment at every call */
		curl_easy_setopt(e, CURLOPT_PROXY, "");
		curl_easy_setopt(e, CURLOPT_NOPROXY, "");
	}
	h->easy = e;
	h->multi = m;
	return 0;
}

static int merge_headers(struct http *h, const struct http_request *req)
{
	struct curl_slist *list = NULL;
	int rc = 0;

	for (const struct curl_slist *s = req->target->headers; s && rc == 0; s = s->next)
		rc = add_header(&list, s->data);
	for (const char *const *s = req->headers; *s && rc == 0; s++)
		rc = add_header(&list, *s);
	if (rc == 0)
		curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, list);
	curl_slist_free_all(h->own_headers);
	h->own_headers = list;
	return rc;
}

static void set_url(struct http *h, const struct http_request *req)
{
	struct buf url = BUF_INIT(64 * 1024);

	if (!req->query && !req->path) {
		curl_easy_setopt(h->easy, CURLOPT_URL, NULL);
		curl_easy_setopt(h->easy, CURLOPT_CURLU, req->target->url);
		return;
	}
	buf_printf(&url, "%s%s%s%s", req->target->text, req->path ? req->path : "", req->query ? "?" : "",
		   req->query ? req->query : "");
	curl_easy_setopt(h->easy, CURLOPT_CURLU, NULL);
	curl_easy_setopt(h->easy, CURLOPT_URL, buf_cstr(&url)); /* copies */
	buf_release(&url);
}

/* A POST always has one, empty though it may be; a GET never. */
static bool has_body(const struct http_request *req)
{
	return strcmp(req->method, "POST") == 0 || (strcmp(req->method, "GET") != 0 && (req->body || req->source));
}

static bool is_plain(const struct http_request *req)
{
	return !req->query && !req->path && !req->headers && !req->source && !req->form && !req->large_response &&
	       strcmp(req->method, "POST") == 0;
}

/* What depends on the target and on the shape of the request, but not on its body. */
static int set_shape(struct http *h, const struct http_request *req)
{
	h->target = req->target;
	h->plain = is_plain(req);
	set_url(h, req);
	curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, req->target->https_only ? "https" : "http,https");
	curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, (long)(req->large_response ? BUFFER_AUDIO_BYTES : BUFFER_BYTES));
	curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, req->target->headers);
	if (req->headers && merge_headers(h, req))
		return -1;
	curl_easy_setopt(h->easy, has_body(req) ? CURLOPT_POST : CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, strcmp(req->method, "POST") == 0 ? NULL : req->method);
	return 0;
}

static void drop_form(struct http *h)
{
	if (!h->form)
		return;
	curl_easy_setopt(h->easy, CURLOPT_MIMEPOST, NULL);
	curl_mime_free(h->form);
	h->form = NULL;
}

static int set_form(struct http *h, const struct http_request *req)
{
	const struct http_form *form = req->form;
	curl_mimepart *file, *more;
	CURLcode code;

	h->form = curl_mime_init(h->easy);
	file = h->form ? curl_mime_addpart(h->form) : NULL;
	more = h->form ? curl_mime_addpart(h->form) : NULL;
	if (!file || !more)
		return -1;
	code = req->source ? curl_mime_data_cb(file, req->source->size, on_read, on_seek, NULL, h)
			   : curl_mime_data(file, req->body ? req->body : "", req->body_len);
	if (code || curl_mime_name(file, form->file_field) || curl_mime_filename(file, form->file_name) ||
	    curl_mime_type(file, "application/octet-stream") || curl_mime_name(more, form->field) ||
	    curl_mime_data(more, form->value, CURL_ZERO_TERMINATED))
		return -1;
	return curl_easy_setopt(h->easy, CURLOPT_MIMEPOST, h->form) == CURLE_OK ? 0 : -1;
}

static int set_body(struct http *h, const struct http_request *req)
{
	h->source = req->source;
	h->source_left = req->source ? req->source->size : 0;
	if (req->form)
		return set_form(h, req);
	if (req->source) {
		curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, NULL);
		curl_easy_setopt(h->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->source->size);
	} else if (has_body(req)) {
		curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, req->body ? req->body : "");
		curl_easy_setopt(h->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
	}
	return 0;
}

/* Nothing but the body is to be set anew. */
static bool shape_stands(const struct http *h, const struct http_request *req)
{
	return h->target == req->target && h->plain && is_plain(req);
}

static int prepare(struct http *h, const struct http_request *req)
{
	if (!h->easy && make_handle(h))
		return -1;
	drop_form(h);
	if (!shape_stands(h, req) && set_shape(h, req))
		return -1;
	if (set_body(h, req))
		return -1;
	curl_easy_setopt(h->easy, CURLOPT_TIMEOUT_MS, req->sink ? 0L : (long)req->timeout_ms);
	curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(req->timeout_ms < CONNECT_MAX_MS ? req->timeout_ms : CONNECT_MAX_MS));
	curl_easy_setopt(h->easy, CURLOPT_FRESH_CONNECT, req->fresh_connection ? 1L : 0L);
	buf_trim(&h->body, KEEP_BYTES);
	h->body.max = req->max_response_bytes;
	h->sends = 0;
	h->head_whole = h->too_large = h->source_failed = h->streams = false;
	h->sink = req->sink;
	h->sunk = 0;
	h->sink_max = req->max_response_bytes;
	h->said = HTTP_SINK_MORE;
	h->silence_ms = req->timeout_ms;
	h->heard_ms = req->sink ? clock_mono_ms() : 0;
	h->fault[0] = '\0';
	return 0;
}

/* --- A call. ------------------------------------------------------------------------------------------------------------ */

/* How long may still be waited before the call is looked at, and with a sink: before nothing has come for too long. */
static int left_ms(const struct http *h)
{
	int64_t left = POLL_MAX_MS;

	if (h->sink)
		left = h->heard_ms + (h->said == HTTP_SINK_ENOUGH ? DRAIN_MAX_MS : h->silence_ms) - clock_mono_ms();
	return left > POLL_MAX_MS ? POLL_MAX_MS : left > 0 ? (int)left : 0;
}

static int wait_ms(const struct http *h)
{
	int64_t idle = h->sink && h->sink->idle ? h->sink->idle(h->sink->ctx) : -1;
	int left = left_ms(h);

	return idle >= 0 && idle < left ? (int)idle : left;
}

static CURLcode say_silent(struct http *h)
{
	if (h->said == HTTP_SINK_ENOUGH)
		return CURLE_OK;
	snprintf(h->fault, sizeof h->fault, "nothing came for %lld ms", (long long)h->silence_ms);
	return CURLE_OPERATION_TIMEDOUT;
}

CURLcode drive(struct http *h, CURL *easy)
{
	int running = 1, left;
	const CURLMsg *msg;
	CURLcode code = CURLE_OUT_OF_MEMORY;

	if (!h->multi && make_handle(h))
		return code;
	if (curl_multi_add_handle(h->multi, easy) != CURLM_OK)
		return code;
	while (running && !h->aborted && left_ms(h) > 0) {
		if (curl_multi_perform(h->multi, &running) != CURLM_OK)
			break;
		if (running && !h->aborted)
			curl_multi_poll(h->multi, NULL, 0, wait_ms(h), NULL);
	}
	while ((msg = curl_multi_info_read(h->multi, &left)))
		if (msg->msg == CURLMSG_DONE)
			code = msg->data.result;
	if (running && h->aborted)
		code = CURLE_ABORTED_BY_CALLBACK;
	else if (running && left_ms(h) == 0)
		code = say_silent(h);
	curl_multi_remove_handle(h->multi, easy);
	return code;
}

static enum http_end judge(const struct http *h, CURLcode code)
{
	if (code == CURLE_OK)
		return h->head_whole ? HTTP_ANSWERED : HTTP_TRANSPORT;
	if (h->too_large)
		return HTTP_TOO_LARGE;
	if (h->said == HTTP_SINK_STOP)
		return HTTP_STOPPED;
	if (h->source_failed)
		return HTTP_BODY_FAILED;
	if (h->sends > 1)
		return HTTP_TRANSPORT;
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_TIMED_OUT;
	case CURLE_ABORTED_BY_CALLBACK:
		return h->aborted ? HTTP_ABORTED : HTTP_TRANSPORT;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL: /* also of an answer that is no HTTP */
	case CURLE_SSL_CACERT_BADFILE:
		return h->sends == 0 ? HTTP_REFUSED : HTTP_TRANSPORT;
	default:
		return HTTP_TRANSPORT;
	}
}

/* Values of a repeated header are joined, as HTTP has it: that is no number then, but can be shown. */
static void copy_retry_after(struct http *h, struct http_response *out)
{
	struct curl_header *header = NULL;
	size_t n = 0;

	for (size_t i = 0; n < sizeof out->retry_after; i++) {
		if (curl_easy_header(h->easy, "Retry-After", i, CURLH_HEADER, -1, &header) != CURLHE_OK)
			break;
		n += (size_t)snprintf(out->retry_after + n, sizeof out->retry_after - n, "%s%s", i ? ", " : "",
				      header->value);
	}
}

/* What libcurl cannot say, or says of its own callbacks only. NULL: its own words are best. */
static const char *explain(const struct http *h, CURLcode code, enum http_end end)
{
	if (end == HTTP_TOO_LARGE)
		return "the answer is larger than max_response_bytes";
	if (end == HTTP_BODY_FAILED)
		return "the request's body could not be read to its end";
	if (end == HTTP_ABORTED)
		return "aborted";
	if (end == HTTP_STOPPED)
		return "the rest of the stream was not wanted";
	if (h->sends > 1)
		return "the connection was closed before an answer came";
	if (code == CURLE_OK)
		return "the connection was closed within the answer's headers";
	return NULL;
}

static void describe(struct http *h, CURLcode code, struct http_response *out)
{
	const char *text = explain(h, code, out->end);

	if (code == CURLE_SSL_CACERT_BADFILE) {
		snprintf(out->fault, sizeof out->fault, "the CA bundle cannot be read (setting api_ca_file): %s",
			 h->shared->ca.file);
		return;
	}
	if (!text)
		text = *h->fault ? h->fault : curl_easy_strerror(code);
	snprintf(out->fault, sizeof out->fault, "%s", text);
}

void http_perform(struct http *h, const struct http_request *req, struct http_response *out)
{
	int64_t began_us = clock_mono_us();
	CURLcode code = CURLE_OUT_OF_MEMORY;
	const char *type = NULL;
	long request_bytes = 0;

	*out = (struct http_response){.end = HTTP_TRANSPORT};
	if (h->aborted) {
		out->end = HTTP_ABORTED;
		snprintf(out->fault, sizeof out->fault, "aborted before it began");
		return;
	}
	if (prepare(h, req)) {
		snprintf(out->fault, sizeof out->fault, "out of memory");
		return;
	}
	code = drive(h, h->easy);
	out->end = judge(h, code);
	out->streamed = h->streams || (h->sink && h->sunk == 0 && h->body.len == 0 && is_event_stream(h));
	if (out->end != HTTP_ANSWERED)
		describe(h, code, out);
	curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &out->status);
	curl_easy_getinfo(h->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
	out->sent = request_bytes > 0;
	out->body = h->body;
	if (out->status > 0) {
		curl_easy_getinfo(h->easy, CURLINFO_CONTENT_TYPE, &type);
		snprintf(out->content_type, sizeof out->content_type, "%s", type ? type : "");
		if (out->status >= 400)
			copy_retry_after(h, out);
	}
	h->sink = NULL;
	out->elapsed_ms = (double)(clock_mono_us() - began_us) / 1000.0;
}

void http_encode(struct buf *out, const char *s, size_t n)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
			     c == '.' || c == '_' || c == '~';
		char escape[3] = {'%', hex[c >> 4], hex[c & 15]};

		if (plain)
			buf_char(out, (char)c);
		else
			buf_add(out, escape, 3);
	}
}
