/* SPDX-License-Identifier: MIT
 *
 * See taskingai.h. Checks come in the server's order: route, JSON, key, schema, ids of the path, objects, meaning. */
#include "stub/taskingai.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/utf8.h"
#include "stub/tasking.h"
#include "stub/wishes.h"
#include "stub/wrong.h"

#define KEY_ID_AT 2 /* tk, then eight characters that name it */
#define KEY_ID_LEN 8

#define ASSISTANTS "/v1/assistants"
#define CHATS ASSISTANTS "/{}/chats"
#define ONE_CHAT CHATS "/{}"
#define MESSAGES ONE_CHAT "/messages"
#define COLLECTIONS "/v1/collections"
#define RECORDS COLLECTIONS "/{}/records"
#define CHUNKS COLLECTIONS "/{}/chunks"
#define ACTIONS "/v1/actions"

static void version(struct tasking *t)
{
	tasking_open(t);
	buf_lit(&t->a->body, "{\"version\":\"v0.3.0\",\"postgres_schema_version\":7}");
	tasking_close(t);
}

static const struct tasking_route routes[] = {
	{"GET", "/v1/health_check", KINDS, tasking_nothing, NULL, NULL, OPEN},
	{"GET", "/v1/version", KINDS, version, NULL, NULL, OPEN},
	{"GET", ASSISTANTS, ASSISTANT, tasking_list, NULL, tasking_check_list, 0},
	{"POST", ASSISTANTS, ASSISTANT, tasking_create, tasking_assistant_fields, tasking_check_assistant, 0},
	{"GET", ASSISTANTS "/{}", ASSISTANT, tasking_get, NULL, NULL, 0},
	{"POST", ASSISTANTS "/{}", ASSISTANT, tasking_update, tasking_assistant_fields, tasking_check_assistant,
	 PARTIAL},
	{"DELETE", ASSISTANTS "/{}", ASSISTANT, tasking_delete, NULL, NULL, 0},
	{"GET", CHATS, CHAT, tasking_list, NULL, tasking_check_list, 0},
	{"POST", CHATS, CHAT, tasking_create, tasking_chat_fields, NULL, 0},
	{"GET", ONE_CHAT, CHAT, tasking_get, NULL, NULL, 0},
	{"POST", ONE_CHAT, CHAT, tasking_update, tasking_chat_fields, NULL, PARTIAL},
	{"DELETE", ONE_CHAT, CHAT, tasking_delete, NULL, NULL, 0},
	{"POST", ONE_CHAT "/clean_context", CHAT, tasking_clean, NULL, NULL, HOSTED},
	{"POST", ONE_CHAT "/generate", CHAT, tasking_generate, tasking_generate_fields, NULL, LOOSE},
	{"GET", MESSAGES, MESSAGE, tasking_list, NULL, tasking_check_list, 0},
	{"POST", MESSAGES, MESSAGE, tasking_create, tasking_message_fields, NULL, 0},
	{"GET", MESSAGES "/{}", MESSAGE, tasking_get, NULL, NULL, 0},
	{"POST", MESSAGES "/{}", MESSAGE, tasking_update, tasking_message_update_fields, NULL, PARTIAL},
	{"GET", COLLECTIONS, COLLECTION, tasking_list, NULL, tasking_check_list, 0},
	{"POST", COLLECTIONS, COLLECTION, tasking_create, tasking_collection_fields, NULL, 0},
	{"GET", COLLECTIONS "/{}", COLLECTION, tasking_get, NULL, NULL, 0},
	{"POST", COLLECTIONS "/{}", COLLECTION, tasking_update, tasking_collection_update_fields, NULL, PARTIAL},
	{"DELETE", COLLECTIONS "/{}", COLLECTION, tasking_delete, NULL, NULL, 0},
	{"GET", RECORDS, RECORD, tasking_list, NULL, tasking_check_list, 0},
	{"POST", RECORDS, RECORD, tasking_create, tasking_record_fields, tasking_check_record, 0},
	{"GET", RECORDS "/{}", RECORD, tasking_get, NULL, NULL, 0},
	{"POST", RECORDS "/{}", RECORD, tasking_update, tasking_record_fields, tasking_check_record, PARTIAL},
	{"DELETE", RECORDS "/{}", RECORD, tasking_delete, NULL, NULL, 0},
	{"GET", RECORDS "/{}/chunks", RECORD, tasking_list_chunks, NULL, tasking_check_chunk_list, 0},
	{"POST", CHUNKS "/query", COLLECTION, tasking_query, tasking_query_fields, NULL, LOOSE},
	{"GET", CHUNKS, CHUNK, tasking_list, NULL, tasking_check_list, 0},
	{"POST", CHUNKS, CHUNK, tasking_create, tasking_chunk_fields, NULL, 0},
	{"GET", CHUNKS "/{}", CHUNK, tasking_get, NULL, NULL, 0},
	{"POST", CHUNKS "/{}", CHUNK, tasking_update, tasking_chunk_fields, NULL, PARTIAL},
	{"DELETE", CHUNKS "/{}", CHUNK, tasking_delete, NULL, NULL, 0},
	{"POST", "/v1/inference/chat_completion", KINDS, tasking_complete, tasking_completion_fields,
	 tasking_check_completion, 0},
	{"POST", "/v1/inference/text_embedding", KINDS, tasking_embed, tasking_embed_fields, NULL, 0},
	{"POST", "/v1/inference/rerank", KINDS, tasking_rerank, tasking_rerank_fields, NULL, 0},
	{"POST", "/v1/files", KINDS, tasking_upload, NULL, tasking_check_file, FORM},
	{"POST", "/v1/images", KINDS, tasking_upload_image, NULL, tasking_check_image, FORM},
	{"GET", ACTIONS, ACTION, tasking_list, NULL, tasking_check_list, 0},
	{"POST", ACTIONS "/bulk_create", KINDS, tasking_bulk_create, tasking_action_fields, tasking_check_action, 0},
	{"GET", ACTIONS "/{}", ACTION, tasking_get, NULL, NULL, 0},
	{"POST", ACTIONS "/{}", ACTION, tasking_update_action, tasking_action_fields, tasking_check_action_update,
	 LOOSE | PARTIAL},
	{"DELETE", ACTIONS "/{}", ACTION, tasking_delete, NULL, NULL, 0},
	{"POST", ACTIONS "/{}/run", ACTION, tasking_run, tasking_run_fields, NULL, LOOSE},
};

bool taskingai_plays(const char *path)
{
	/* Translations are timed, so that they are told apart by a letter. */
	static const char firsts[] = "acfhiv", *const stems[] = {"/v1/assistants",   "/v1/collections",
								 "/v1/inference/",   "/v1/files",
								 "/v1/images",	     "/v1/actions",
								 "/v1/health_check", "/v1/version"};

	if (strncmp(path, "/v1/", 4) != 0 || !path[4] || !strchr(firsts, path[4]))
		return false;
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

void tasking_show(struct tasking *t, const struct buf *data)
{
	tasking_open(t);
	buf_add(&t->a->body, data->ptr, data->len);
	tasking_close(t);
}

void tasking_nothing(struct tasking *t)
{
	answer_json(t->a, 200);
	buf_lit(&t->a->body, "{\"status\":\"success\"}");
}

/* An earlier answer is taken back. */
static void begin_anew(struct tasking *t)
{
	buf_clear(&t->a->body);
	t->a->nheaders = 0;
}

static void write_error(struct tasking *t, int status, const char *code, const char *message, bool debug)
{
	struct buf *out = &t->a->body;

	begin_anew(t);
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

void tasking_refuse(struct tasking *t, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	write_error(t, 422, "REQUEST_VALIDATION_ERROR", text, false);
}

void tasking_unknown(struct tasking *t, const char *kind, const char *id)
{
	tasking_error(t, 404, "OBJECT_NOT_FOUND", "%s %.60s not found", kind, id);
}

static void write_object(struct tasking *t, int status, const char *code, const char *message)
{
	struct buf *out = &t->a->body;

	begin_anew(t);
	answer_json(t->a, status);
	buf_lit(out, "{\"status\":\"error\",\"error\":{\"code\":");
	buf_json_cstr(out, code);
	buf_lit(out, ",\"message\":{\"code\":");
	buf_json_cstr(out, code);
	buf_lit(out, ",\"message\":");
	buf_json_cstr(out, message);
	buf_lit(out, ",\"debug\":\"stub\"}}}");
}

void tasking_refuse_inside(struct tasking *t, const char *text)
{
	write_object(t, 422, "REQUEST_VALIDATION_ERROR", text);
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
	if (d->message_object)
		write_object(t, status, code, message);
	else
		write_error(t, status, code, message, false);
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

struct span tasking_member(struct span object, const char *name)
{
	struct span v = schema_member(object, name);

	return v.ptr && json_span_type(v) == JSON_NULL ? (struct span){0} : v;
}

bool tasking_is(struct span v, enum json_type type)
{
	return v.ptr && json_span_type(v) == type;
}

bool tasking_says(struct span v, const char *text)
{
	return tasking_is(v, JSON_STRING) && v.len == strlen(text) + 2 && memcmp(v.ptr + 1, text, v.len - 2) == 0;
}

bool tasking_true(struct span object, const char *name)
{
	struct span v = schema_member(object, name);

	return v.ptr && json_span_is_true(v);
}

/* What has half a pair of surrogates in it stays as it is. */
static void add_string(struct buf *out, struct span v)
{
	struct buf text = BUF_INIT(TASKING_TEXT_MAX);

	if (memchr(v.ptr, '\\', v.len) && json_span_string(v, &text))
		buf_json_string(out, buf_cstr(&text), text.len);
	else
		buf_add(out, v.ptr, v.len);
	buf_release(&text);
}

void tasking_add_json(struct buf *out, struct span v)
{
	for (size_t i = 0, n = 0; i < v.len; i += n) {
		n = strspn(v.ptr + i, " \t\r\n");
		if (n > 0)
			continue;
		if (v.ptr[i] != '"') {
			buf_char(out, v.ptr[i]);
			n = 1;
			continue;
		}
		for (n = 1; v.ptr[i + n] != '"'; n++)
			n += v.ptr[i + n] == '\\';
		add_string(out, (struct span){v.ptr + i, ++n});
	}
}

size_t tasking_tokens(struct span text)
{
	return (json_points(text) + 3) / 4;
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
	for (const char *p = id; *p; p++)
		if (!isalnum((unsigned char)*p))
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

static const struct tasking_route *match(struct tasking *t, const char *path, const char *method)
{
	const struct tasking_route *other = NULL;

	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		if (!path_fits(t, routes[i].path, path) || ((routes[i].flags & HOSTED) && !t->stub->hosted))
			continue;
		if (strcmp(routes[i].method, method) == 0)
			return &routes[i];
		if (!other)
			other = &routes[i];
	}
	return other;
}

static void redirect(struct tasking *t, const char *path, size_t len)
{
	const char *host = httpd_header(t->r, "Host"), *query = strchr(httpd_target(t->r), '?');
	char to[256];

	snprintf(to, sizeof to, "%s://%s%.*s%s", t->stub->tls ? "https" : "http", host ? host : "stub", (int)len, path,
		 query ? query : "");
	t->a->status = 307;
	httpd_add_header(t->a, "Location", to);
}

/* The row, or NULL with the answer made. */
static const struct tasking_route *find_route(struct tasking *t)
{
	const char *path = httpd_path(t->r), *method = httpd_method(t->r);
	const struct tasking_route *route = match(t, path, method);
	size_t n = strlen(path);
	char *bare;

	if (route && strcmp(route->method, method) == 0)
		return route;
	if (route) {
		httpd_add_header(t->a, "Allow", route->method);
		detail(t, 405, "Method Not Allowed");
		return NULL;
	}
	bare = path[n - 1] == '/' ? strndup(path, n - 1) : NULL;
	if (bare && match(t, bare, method))
		redirect(t, bare, n - 1);
	else
		detail(t, 404, "Not Found");
	free(bare);
	return NULL;
}

/* A body that can be read; what it says is looked at later (3.7). */
static bool body_is_good(struct tasking *t)
{
	const char *type = httpd_header(t->r, "Content-Type");
	size_t len;
	const char *body = httpd_body(t->r, &len);

	if (t->route->flags & FORM) {
		/* Another kind of body has no parts, so that the first is missing. */
		if (!form_is(type) || form_parse(&t->form, type, body, len))
			return true;
		detail(t, 400, "There was an error parsing the body");
		return false;
	}
	if (!t->route->fields || len == 0)
		return true;
	if (type && strncmp(type, "application/json", 16) != 0) {
		t->body = (struct span){"\"\"", 2}; /* bytes, and no object */
		return true;
	}
	if (!utf8_valid(body, len)) {
		detail(t, 400, "There was an error parsing the body");
		return false;
	}
	if (json_scan(body, len, NULL, NULL, NULL) != JSON_OK) {
		tasking_invalid(t, "body/1", "JSON decode error");
		return false;
	}
	t->body = (struct span){body, len};
	return true;
}

static bool schema_is_good(struct tasking *t)
{
	unsigned how = (t->route->flags & PARTIAL ? SCHEMA_PARTIAL : 0U) | (t->stub->hosted ? SCHEMA_HOSTED : 0U);
	struct complaint c;

	if (t->route->fields && !t->body.ptr) {
		tasking_invalid(t, "body", "Field required");
		return false;
	}
	if (t->route->fields && !tasking_is(t->body, JSON_OBJECT)) {
		tasking_invalid(t, "body", "Input should be a valid dictionary or object to extract fields from");
		return false;
	}
	if (t->route->fields && !schema_fits(t->body, t->route->fields, how, "body", &c)) {
		tasking_invalid(t, c.where, "%s", c.text);
		return false;
	}
	return !t->route->check || t->route->check(t);
}

/* With keys of ours given, one of them; else any but 32 zeros. */
static bool key_is_good(struct tasking *t)
{
	static const char zeros[] = "00000000000000000000000000000000";
	const char *header = httpd_header(t->r, "Authorization"), *key;
	bool any = true, known_id = false;

	if (t->route->flags & OPEN)
		return true;
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
	for (size_t i = 0; i < t->nids && !(t->route->flags & LOOSE); i++) {
		enum kind kind = kind_at(t, i);
		size_t wanted = id_length(t->route, kind), n = strlen(t->ids[i]);
		char name[40];

		snprintf(name, sizeof name, "%s_id", tasking_kind_name(kind));
		for (const char *p = t->ids[i]; *p; p++)
			if (!isalnum((unsigned char)*p) && *p != '_') {
				tasking_refuse(t, "Invalid path parameter: %s", name);
				return false;
			}
		if (kind != ACTION && (wanted ? n != wanted : n > 50)) {
			tasking_refuse(t, "%s: String should have %s characters", name, wanted ? "24" : "at most 50");
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
			tasking_unknown(t, tasking_kind_name(kind), t->ids[i]);
			return false;
		}
		t->up = o;
	}
	return true;
}

/* A code may be that of an event in a stream. */
bool tasking_goes_wrong(struct tasking *t)
{
	if ((!wrong_asked(&t->d) && !t->d.code.ptr) || t->d.stream_error > 0)
		return false;
	send_wrong(t);
	return true;
}

static void serve(struct tasking *t, const char *text)
{
	const char *bad = wishes_read(t->stub, t->r, text, "", &t->d);

	if (bad) {
		wishes_refuse(t->a, bad);
		return;
	}
	t->route = find_route(t);
	if (!t->route || !body_is_good(t) || !key_is_good(t))
		return;
	if (!tasking_goes_wrong(t) && schema_is_good(t) && ids_are_good(t) && objects_are_there(t))
		t->route->serve(t);
}

/* --- Where directives stand. ------------------------------------------------------------------------------- */

static void add_query(void *ctx, const char *name, const char *value)
{
	struct buf *out = ctx;

	buf_char(out, memchr(buf_cstr(out), '?', out->len) ? '&' : '?');
	buf_str_add(out, name);
	buf_char(out, '=');
	buf_str_add(out, value);
}

/* In JSON a list may have escapes in it: they are undone. */
static const char *undo_escapes(struct tasking *t, const char *body)
{
	size_t n;
	const char *list = directives_find(body, &n);
	struct buf quoted = BUF_INIT(TASKING_TEXT_MAX);
	bool good;

	if (!list || !memchr(list, '\\', n))
		return body;
	buf_char(&quoted, '"');
	buf_add(&quoted, list, n);
	buf_char(&quoted, '"');
	buf_add(&t->asked, body, (size_t)(list - body));
	good = json_scan(buf_cstr(&quoted), quoted.len, NULL, NULL, NULL) == JSON_OK &&
	       json_span_string((struct span){buf_cstr(&quoted), quoted.len}, &t->asked);
	buf_release(&quoted);
	buf_str_add(&t->asked, list + n);
	return good && !t->asked.failed ? buf_cstr(&t->asked) : body;
}

/* The body, or where there is none the path with its query. */
static const char *words_of(struct tasking *t)
{
	size_t len;
	const char *body = httpd_body(t->r, &len);

	if (len > 0 && (utf8_valid(body, len) || form_is(httpd_header(t->r, "Content-Type"))))
		return undo_escapes(t, body);
	buf_str_add(&t->asked, httpd_path(t->r));
	httpd_queries(t->r, add_query, &t->asked);
	return buf_cstr(&t->asked);
}

/* --- The record. ------------------------------------------------------------------------------------------- */

#define BODY_KEPT_MAX (32UL * 1024)
#define PART_KEPT_MAX 4096U

/* Text that is cut at a whole letter. */
static void add_kept(struct buf *out, const char *name, struct span v, size_t max)
{
	buf_str_add(out, name);
	if (v.ptr)
		buf_json_string(out, v.ptr, utf8_cut(v.ptr, v.len, max));
	else
		buf_lit(out, "null");
}

static void add_part(struct buf *out, const struct form_part *p)
{
	char sum[SHA256_HEX_LEN + 1];

	sha256_hex(p->bytes.ptr, p->bytes.len, sum);
	add_kept(out, "{\"name\":", p->name, PART_KEPT_MAX);
	add_kept(out, ",\"filename\":", p->file, PART_KEPT_MAX);
	add_kept(out, ",\"content_type\":", p->type, PART_KEPT_MAX);
	buf_printf(out, ",\"bytes\":%zu,\"sha256\":\"%s\"", p->bytes.len, sum);
	if (utf8_valid(p->bytes.ptr, p->bytes.len))
		add_kept(out, ",\"text\":", p->bytes, PART_KEPT_MAX);
	buf_char(out, '}');
}

static void add_body(struct tasking *t, struct buf *out)
{
	size_t len;
	const char *body = httpd_body(t->r, &len);

	if (t->form.n == 0 && len > 0 && utf8_valid(body, len))
		add_kept(out, ",\"body\":", (struct span){body, len}, BODY_KEPT_MAX);
	for (size_t i = 0; i < t->form.n; i++) {
		buf_str_add(out, i ? "," : ",\"parts\":[");
		add_part(out, &t->form.parts[i]);
	}
	buf_str_add(out, t->form.n ? "]" : "");
}

/* What a call is known by: the part of its input that people read. */
static const char *known_by(struct tasking *t, const char *text, struct buf *known)
{
	static const char *const names[] = {"query_text", "query", "content", "input", "name"};
	struct span v = {0};

	if (!tasking_is(t->body, JSON_OBJECT) || tasking_member(t->body, "messages").ptr)
		return text;
	for (size_t i = 0; i < sizeof names / sizeof *names && !tasking_is(v, JSON_STRING); i++)
		v = tasking_member(t->body, names[i]);
	return tasking_text(v, known) ? buf_cstr(known) : text;
}

static struct call_ref record(struct tasking *t, const char *text)
{
	struct buf known = BUF_INIT(TASKING_TEXT_MAX), more = BUF_INIT(TASKING_TEXT_MAX);
	struct call_input in = {.language = "", .route = t->route ? t->route->path : NULL};
	struct call_ref ref;

	in.text = known_by(t, text, &known);
	in.stream = tasking_is(t->body, JSON_OBJECT) && tasking_true(t->body, "stream");
	add_body(t, &more);
	in.more = buf_cstr(&more);
	ref = calls_add(t->stub->calls, t->r, &in, t->a);
	buf_release(&known);
	buf_release(&more);
	return ref;
}

/* --- What happens when an answer is over. ------------------------------------------------------------------ */

/* Waits for the end of a stream or a generation; its objects may be gone by then. */
struct watch {
	struct stub *stub;
	void (*counted)(void *ctx, const struct httpd_answer *a, const struct httpd_end *end);
	void *counted_ctx;
	struct call_ref call;
	char chat[OBJECT_ID_MAX + 1], message[OBJECT_ID_MAX + 1];
	size_t final_end;
	bool streams;
};

/* A stream's pieces that were sent, in part or in whole. */
static int count_pieces(const struct httpd_answer *a, size_t sent)
{
	static const char mark[] = "\"delta\": ";
	const char *at = buf_cstr(&a->body), *end = at + (sent < a->body.len ? sent : a->body.len);
	int n = 0;

	while ((at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1))) {
		at += sizeof mark - 1;
		n++;
	}
	return n;
}

/* A message that was streamed is kept if the client had all of it; one that was not, in any case (3.9). */
static void settle(const struct watch *w, size_t sent)
{
	struct object *chat = store_find(w->stub->store, CHAT, w->chat);
	struct object *message = store_find_pending(w->stub->store, MESSAGE, w->message);

	if (chat)
		chat->locked_until_ms = 0;
	if (!message)
		return;
	if (!w->streams || (w->final_end > 0 && sent >= w->final_end))
		message->pending = false;
	else
		store_delete(w->stub->store, message);
}

static void answer_over(void *ctx, const struct httpd_answer *a, const struct httpd_end *end)
{
	struct watch *w = ctx;
	char members[120];

	w->counted(w->counted_ctx, a, end);
	snprintf(members, sizeof members, ",\"sent_bytes\":%zu,\"sent_pieces\":%d,\"gone\":%s", end->sent,
		 count_pieces(a, end->sent), end->gone ? "true" : "false");
	if (w->streams)
		calls_note(w->stub->calls, w->call, members);
	settle(w, end->sent);
	free(w);
}

static void watch(struct tasking *t, struct call_ref call)
{
	struct watch *w = t->streams || t->chat ? calloc(1, sizeof *w) : NULL;

	if (!w)
		return;
	w->stub = t->stub;
	w->counted = t->a->done;
	w->counted_ctx = t->a->done_ctx;
	w->call = call;
	w->final_end = t->final_end;
	w->streams = t->streams;
	if (t->chat)
		memcpy(w->chat, t->chat->id, sizeof w->chat);
	if (t->message)
		memcpy(w->message, t->message->id, sizeof w->message);
	t->a->done = answer_over;
	t->a->done_ctx = w;
}

void taskingai_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a)
{
	struct tasking t = {
		.stub = s, .r = r, .a = a, .asked = BUF_INIT(2 * TASKING_TEXT_MAX), .said = BUF_INIT(TASKING_TEXT_MAX)};
	const char *text = words_of(&t);

	serve(&t, text);
	if (t.d.delay_ms == 0)
		t.d.delay_ms = s->delay_ms;
	if (t.streams)
		wrong_head(a, &t.d);
	else
		wrong_finish(a, &t.d);
	watch(&t, record(&t, text));
	buf_release(&t.asked);
	buf_release(&t.said);
}
