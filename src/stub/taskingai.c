/* SPDX-License-Identifier: MIT
 *
 * See taskingai.h. Checks come in the server's order: route, JSON, key, schema, ids of the path, objects, meaning. */
#include "stub/taskingai.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "stub/tasking.h"
#include "stub/wishes.h"
#include "stub/wrong.h"

#define KEY_ID_AT 2 /* tk, then eight characters that name it */
#define KEY_ID_LEN 8

#define ONE "/v1/assistants/{}"
#define CHATS ONE "/chats"
#define MESSAGES CHATS "/{}/messages"
#define COLLECTIONS "/v1/collections"
#define RECORDS COLLECTIONS "/{}/records"
#define CHUNKS COLLECTIONS "/{}/chunks"

static void health(struct tasking *t)
{
	tasking_open(t);
	buf_cut(&t->a->body, t->a->body.len - (sizeof ",\"data\":" - 1));
	tasking_close(t);
}

static const struct tasking_route routes[] = {
	{"GET", "/v1/health_check", KINDS, health, false, false},
	{"GET", "/v1/assistants", ASSISTANT, tasking_list, false, false},
	{"POST", "/v1/assistants", ASSISTANT, tasking_create, false, false},
	{"GET", ONE, ASSISTANT, tasking_get, false, false},
	{"POST", ONE, ASSISTANT, tasking_update, false, false},
	{"DELETE", ONE, ASSISTANT, tasking_delete, false, false},
	{"GET", CHATS, CHAT, tasking_list, false, false},
	{"POST", CHATS, CHAT, tasking_create, false, false},
	{"GET", CHATS "/{}", CHAT, tasking_get, false, false},
	{"POST", CHATS "/{}", CHAT, tasking_update, false, false},
	{"DELETE", CHATS "/{}", CHAT, tasking_delete, false, false},
	{"POST", CHATS "/{}/clean_context", CHAT, tasking_clean, false, true},
	{"POST", CHATS "/{}/generate", CHAT, tasking_generate, true, false},
	{"GET", MESSAGES, MESSAGE, tasking_list, false, false},
	{"POST", MESSAGES, MESSAGE, tasking_create, false, false},
	{"GET", MESSAGES "/{}", MESSAGE, tasking_get, false, false},
	{"POST", MESSAGES "/{}", MESSAGE, tasking_update, false, false},
	{"GET", COLLECTIONS, COLLECTION, tasking_list, false, false},
	{"POST", COLLECTIONS, COLLECTION, tasking_create, false, false},
	{"GET", COLLECTIONS "/{}", COLLECTION, tasking_get, false, false},
	{"POST", COLLECTIONS "/{}", COLLECTION, tasking_update, false, false},
	{"DELETE", COLLECTIONS "/{}", COLLECTION, tasking_delete, false, false},
	{"GET", RECORDS, RECORD, tasking_list, false, false},
	{"POST", RECORDS, RECORD, tasking_create, false, false},
	{"GET", RECORDS "/{}", RECORD, tasking_get, false, false},
	{"POST", RECORDS "/{}", RECORD, tasking_update, false, false},
	{"DELETE", RECORDS "/{}", RECORD, tasking_delete, false, false},
	{"POST", CHUNKS "/query", COLLECTION, tasking_query, true, false},
	{"GET", CHUNKS, CHUNK, tasking_list, false, false},
	{"POST", CHUNKS, CHUNK, tasking_create, false, false},
	{"GET", CHUNKS "/{}", CHUNK, tasking_get, false, false},
	{"POST", CHUNKS "/{}", CHUNK, tasking_update, false, false},
	{"DELETE", CHUNKS "/{}", CHUNK, tasking_delete, false, false},
	{"POST", "/v1/inference/chat_completion", KINDS, tasking_complete, false, false},
	{"POST", "/v1/inference/text_embedding", KINDS, tasking_embed, false, false},
	{"POST", "/v1/inference/rerank", KINDS, tasking_rerank, false, false},
	{"POST", "/v1/files", KINDS, tasking_upload, false, false},
	{"GET", "/v1/actions", ACTION, tasking_list, false, false},
	{"POST", "/v1/actions/bulk_create", KINDS, tasking_bulk_create, false, false},
	{"GET", "/v1/actions/{}", ACTION, tasking_get, false, false},
	{"POST", "/v1/actions/{}", ACTION, tasking_update, true, false},
	{"DELETE", "/v1/actions/{}", ACTION, tasking_delete, false, false},
	{"POST", "/v1/actions/{}/run", ACTION, tasking_run, true, false},
};

bool taskingai_plays(const char *path)
{
	static const char *const stems[] = {"/v1/assistants", "/v1/collections", "/v1/inference/",
					    "/v1/files",      "/v1/actions",	 "/v1/health_check"};

	for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
		if (strncmp(path, stems[i], strlen(stems[i])) == 0)
			return true;
	return false;
}

/* --- Envelopes. -------------------------------------------------------------------------------------------- */

void tasking_open(struct tasking *t)
{
	answer_json(t->a, 200);
	buf_lit(&t->a->body, "{\"status\":\"success\",\"data\":");
}

void tasking_close(struct tasking *t)
{
	buf_char(&t->a->body, '}');
}

static void write_error(struct tasking *t, int status, const char *code, const char *message, bool debug)
{
	struct buf *out = &t->a->body;

	answer_json(t->a, status);
	buf_lit(out, "{\"status\":\"error\",\"error\":{\"code\":");
	buf_json_cstr(out, code);
	buf_lit(out, ",\"message\":");
	buf_json_cstr(out, message);
	buf_str_add(out, debug ? ",\"debug\":\"[{'type': 'stub'}]\"}}" : "}}");
}

void tasking_error(struct tasking *t, int status, const char *code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	write_error(t, status, code, text, false);
}

void tasking_invalid(struct tasking *t, const char *where, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n = snprintf(text, sizeof text, "%s: ", where);

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	write_error(t, 422, "REQUEST_VALIDATION_ERROR", text, true);
}

/* The framework's own, for what is no route of the application's. */
static void detail(struct tasking *t, int status, const char *text)
{
	answer_json(t->a, status);
	buf_printf(&t->a->body, "{\"detail\":\"%s\"}", text);
}

/* --- Faults on demand. ------------------------------------------------------------------------------------- */

static const struct {
	int status;
	const char *code, *message;
} usual[] = {
	{400, "INVALID_REQUEST", "The stub was asked to refuse it."},
	{401, "TOKEN_VALIDATION_FAILED", "Invalid apikey"},
	{404, "OBJECT_NOT_FOUND", "object stub not found"},
	{409, "DUPLICATE_OBJECT", "It exists already."},
	{422, "REQUEST_VALIDATION_ERROR", "body/stub: Field required"},
	{423, "OBJECT_LOCKED", "It is locked."},
	{429, "TOO_MANY_REQUESTS", "Too many requests."},
	{500, "INTERNAL_SERVER_ERROR", ""},
};

/* What the directives say of an error, in the API's own form. */
static void send_error(struct tasking *t)
{
	const struct directives *d = &t->d;
	const char *code = "UNKNOWN_ERROR", *message = "The stub was asked to say so.";
	char own_code[DIRECTIVES_LINE_MAX + 1], own_message[DIRECTIVES_LINE_MAX + 1];
	int status = d->status ? d->status : 400;

	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
		if (usual[i].status == status) {
			code = usual[i].code;
			message = usual[i].message;
		}
	snprintf(own_code, sizeof own_code, "%.*s", (int)d->code.len, d->code.len ? d->code.ptr : "");
	snprintf(own_message, sizeof own_message, "%.*s", (int)d->message.len, d->message.len ? d->message.ptr : "");
	code = d->code.ptr ? own_code : code;
	message = d->empty_message ? "" : d->message.ptr ? own_message : message;
	if (!d->message_object) {
		write_error(t, status, code, message, false);
		return;
	}
	answer_json(t->a, status);
	buf_printf(&t->a->body,
		   "{\"status\":\"error\",\"error\":{\"code\":\"%s\",\"message\":{\"code\":\"%s\",\"message\":", code,
		   code);
	buf_json_cstr(&t->a->body, message);
	buf_lit(&t->a->body, ",\"debug\":\"stub\"}}}");
}

/* Statuses that something in front of the application answers come with its page. */
static bool is_of_proxy(int status)
{
	return status == 408 || status == 413 || status == 502 || status == 503 || status == 504 || status < 400;
}

static void send_wrong(struct tasking *t)
{
	if (t->d.body == BODY_FITTING && (t->d.code.ptr || !is_of_proxy(t->d.status)))
		send_error(t);
	else
		wrong_send(t->a, &t->d, "taskingai");
}

/* --- Parts of a request. ----------------------------------------------------------------------------------- */

struct wanted {
	const char *name;
	struct span value;
};

static void find_member(void *ctx, struct span key, struct span value)
{
	struct wanted *w = ctx;

	if (json_key_is(key, w->name))
		w->value = json_span_type(value) == JSON_NULL ? (struct span){0} : value;
}

struct span tasking_member(struct span object, const char *name)
{
	struct wanted w = {.name = name};

	if (object.ptr)
		(void)json_scan(object.ptr, object.len, NULL, find_member, &w);
	return w.value;
}

bool tasking_is(struct span v, enum json_type type)
{
	return v.ptr && json_span_type(v) == type;
}

bool tasking_text(struct span v, struct buf *out)
{
	struct json *j;

	if (!tasking_is(v, JSON_STRING))
		return false;
	if (json_span_string(v, out))
		return true;
	j = json_parse(v.ptr, v.len); /* a lone surrogate */
	buf_str_add(out, json_text(j) ? json_text(j) : "");
	json_free(j);
	return true;
}

const char *tasking_string(struct span object, const char *name, struct buf *out)
{
	buf_clear(out);
	(void)tasking_text(tasking_member(object, name), out);
	return buf_cstr(out);
}

enum model tasking_model(const char *id)
{
	if (strlen(id) != 8 || strncmp(id, "Tp", 2) != 0)
		return MODEL_UNKNOWN;
	if (strncmp(id, "TpEmb", 5) == 0)
		return MODEL_EMBEDDING;
	return strncmp(id, "TpRer", 5) == 0 ? MODEL_RERANK : MODEL_CHAT;
}

bool tasking_can_stream(const char *id)
{
	return strncmp(id, "TpNoS", 5) != 0;
}

bool tasking_can_call(const char *id)
{
	return strncmp(id, "TpNoF", 5) != 0;
}

/* --- The way of a request. --------------------------------------------------------------------------------- */

/* Fills t->ids from what stands for {}. */
static bool path_fits(struct tasking *t, const char *pattern, const char *path)
{
	t->nids = 0;
	while (*pattern && *path) {
		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		size_t n = strcspn(path, "/");

		if (n == 0 || n >= sizeof t->ids[0])
			return false;
		memcpy(t->ids[t->nids], path, n);
		t->ids[t->nids++][n] = '\0';
		path += n;
		pattern += 2;
	}
	return !*pattern && !*path;
}

/* The row, or NULL with the answer made. */
static const struct tasking_route *find_route(struct tasking *t)
{
	const char *path = httpd_path(t->r);
	size_t n = strlen(path);
	const char *allow = NULL;

	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		if (!path_fits(t, routes[i].path, path) || (routes[i].hosted && !t->stub->hosted))
			continue;
		if (strcmp(routes[i].method, httpd_method(t->r)) == 0)
			return &routes[i];
		allow = routes[i].method;
	}
	if (allow) {
		httpd_add_header(t->a, "Allow", allow);
		detail(t, 405, "Method Not Allowed");
	} else if (n > 1 && path[n - 1] == '/') {
		char to[256];

		snprintf(to, sizeof to, "http://%s%.*s", httpd_header(t->r, "Host"), (int)n - 1, path);
		t->a->status = 307;
		httpd_add_header(t->a, "Location", to);
	} else {
		detail(t, 404, "Not Found");
	}
	return NULL;
}

static bool is_form(const struct tasking *t)
{
	const char *type = httpd_header(t->r, "Content-Type");

	return type && strncmp(type, "multipart/form-data", 19) == 0;
}

static bool body_is_good(struct tasking *t)
{
	const char *type = httpd_header(t->r, "Content-Type");
	enum json_type kind = JSON_NULL;
	size_t len;
	const char *body = httpd_body(t->r, &len);
	enum json_verdict verdict;

	if (strcmp(httpd_method(t->r), "POST") != 0 || is_form(t))
		return true;
	if (!utf8_valid(body, len)) {
		detail(t, 400, "There was an error parsing the body");
		return false;
	}
	if (type && strncmp(type, "application/json", 16) != 0) {
		tasking_invalid(t, "body", "Input should be a valid dictionary or object to extract fields from");
		return false;
	}
	verdict = json_scan(body, len, &kind, NULL, NULL);
	if (verdict != JSON_OK || kind != JSON_OBJECT) {
		tasking_invalid(t, "body/1", "JSON decode error");
		return false;
	}
	t->body = (struct span){body, len};
	return true;
}

/* With keys of ours given, one of them; else any but 32 zeros. */
static bool key_is_good(struct tasking *t)
{
	static const char zeros[] = "00000000000000000000000000000000";
	const char *header = httpd_header(t->r, "Authorization"), *key;
	bool any = true, known_id = false;

	if (!header || strncmp(header, "Bearer ", 7) != 0) {
		tasking_error(t, 401, "APIKEY_VALIDATION_FAILED", "API Key validation failed");
		return false;
	}
	key = header + 7;
	for (size_t i = 0; i < t->stub->nkeys; i++) {
		const char *ours = t->stub->keys[i];

		if (strncmp(ours, "tk", 2) != 0)
			continue;
		any = false;
		if (strcmp(ours, key) == 0)
			return true;
		known_id = known_id || (strlen(key) > KEY_ID_AT + KEY_ID_LEN && strlen(ours) > KEY_ID_AT + KEY_ID_LEN &&
					memcmp(ours + KEY_ID_AT, key + KEY_ID_AT, KEY_ID_LEN) == 0);
	}
	if (any && strcmp(key, zeros) != 0)
		return true;
	if (known_id)
		tasking_error(t, 401, "TOKEN_VALIDATION_FAILED", "Invalid apikey");
	else
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "apikey %.8s not found",
			      strlen(key) > KEY_ID_AT ? key + KEY_ID_AT : key);
	return false;
}

/* The number of characters that the id of that kind has in paths of that route; 0: from 1 to 50. */
static size_t id_length(const struct tasking_route *route, enum kind kind)
{
	return kind == CHAT || kind == MESSAGE || (kind == ASSISTANT && route->kind == CHAT) ? 24 : 0;
}

/* Of the ids of the path, from the first on. */
static enum kind kind_at(const struct tasking *t, size_t i)
{
	enum kind kind = t->route->kind;
	bool below = t->route->serve == tasking_list || t->route->serve == tasking_create;

	for (size_t n = t->nids + below; n > i + 1; n--)
		kind = tasking_parent_kind(kind);
	return kind;
}

static bool ids_are_good(struct tasking *t)
{
	for (size_t i = 0; i < t->nids && !t->route->loose; i++) {
		enum kind kind = kind_at(t, i);
		size_t wanted = id_length(t->route, kind), n = strlen(t->ids[i]);
		char name[40];

		snprintf(name, sizeof name, "%s_id", tasking_kind_name(kind));
		for (const char *p = t->ids[i]; *p; p++)
			if (!isalnum((unsigned char)*p) && *p != '_') {
				tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "Invalid path parameter: %s", name);
				return false;
			}
		if (kind != ACTION && (wanted ? n != wanted : n > 50)) {
			tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "%s: String should have %s characters", name,
				      wanted ? "24" : "at most 50");
			return false;
		}
	}
	return true;
}

static bool objects_are_there(struct tasking *t)
{
	for (size_t i = 0; i < t->nids; i++) {
		enum kind kind = kind_at(t, i);
		struct object *o = store_find(t->stub->store, kind, t->ids[i]);

		if (!o || (o->parent && o->parent != t->up)) {
			tasking_error(t, 404, "OBJECT_NOT_FOUND", "%s %.60s not found", tasking_kind_name(kind),
				      t->ids[i]);
			return false;
		}
		t->up = o;
	}
	return true;
}

static void serve(struct stub *s, struct tasking *t, const char *text)
{
	const char *bad = wishes_read(s, t->r, text, "", &t->d);

	if (bad) {
		wishes_refuse(t->a, bad);
		return;
	}
	t->route = find_route(t);
	if (t->route && body_is_good(t) && key_is_good(t)) {
		if (wrong_asked(&t->d) || t->d.code.ptr)
			if (t->d.stream_error == 0) {
				send_wrong(t);
				return;
			}
		if (ids_are_good(t) && objects_are_there(t))
			t->route->serve(t);
	}
}

/* What a call is known by in the record: the part of its input that people read. */
static void set_text(struct tasking *t, const char *text, struct call_input *in, struct buf *known)
{
	static const char *const names[] = {"query_text", "query", "content", "input", "name"};
	struct span messages = tasking_member(t->body, "messages"), v = {0};

	in->stream = tasking_member(t->body, "stream").ptr && json_span_is_true(tasking_member(t->body, "stream"));
	for (size_t i = 0; i < sizeof names / sizeof *names && !tasking_is(v, JSON_STRING); i++)
		v = tasking_member(t->body, names[i]);
	if (!messages.ptr && tasking_text(v, known))
		in->text = buf_cstr(known);
	else
		in->text = text;
}

void taskingai_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a)
{
	struct tasking t = {.stub = s, .r = r, .a = a};
	size_t len;
	const char *body = httpd_body(r, &len), *text = len > 0 && utf8_valid(body, len) ? body : httpd_path(r);
	struct buf known = BUF_INIT(1UL << 20);
	struct call_input in = {.text = "", .language = ""};

	serve(s, &t, text);
	if (t.d.delay_ms == 0)
		t.d.delay_ms = s->delay_ms;
	if (!t.a->pauses && t.a->manner == HTTPD_PLAIN) {
		wrong_finish(a, &t.d);
	} else {
		a->delay_ms = t.d.delay_ms; /* a stream has its own faults */
	}
	set_text(&t, text, &in, &known);
	calls_add(s->calls, r, &in, a);
	buf_release(&known);
}
