/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI's clients create: each kind's members are a table, by which bodies are checked, kept and shown. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "stub/tasking.h"
#include "stub/wrong.h"

#define LIST_MAX 100
#define QUERY_MAX 20
#define FILE_MAX (15UL * 1024 * 1024)
#define NO_SCORE (-2.0)

enum member_type { TEXT, NUMBER, OBJECT, ARRAY, ANY };

struct member_row {
	const char *name;
	enum member_type type;
	bool required;	       /* to create it */
	const char *otherwise; /* JSON, where it is not given; NULL: it is not kept */
	double min, max;       /* of a number; of a text's letters, of an object's members */
	bool hidden;	       /* taken, and not shown */
	bool ours;	       /* shown, and not taken */
};

#define MEMBERS_MAX 14
#define METADATA                                                                                                       \
	{                                                                                                              \
		"metadata", OBJECT, false, "{}", 0, 16, false, false                                                   \
	}
#define NAME                                                                                                           \
	{                                                                                                              \
		"name", TEXT, false, "\"\"", 0, 127, false, false                                                      \
	}
#define DESCRIPTION                                                                                                    \
	{                                                                                                              \
		"description", TEXT, false, "\"\"", 0, 512, false, false                                               \
	}

static const struct kind_row {
	const char *name, *object, *prefix;
	enum kind parent;
	bool needs_change; /* an update that changes nothing is a 500 (2.4) */
	struct member_row members[MEMBERS_MAX];
} kinds[KINDS] = {
	[ASSISTANT] = {"assistant",
		       "Assistant",
		       "X5lM",
		       KINDS,
		       false,
		       {{"model_id", TEXT, true, NULL, 8, 8, false, false},
			NAME,
			DESCRIPTION,
			{"system_prompt_template", ARRAY, false, "[]", 0, 0, false, false},
			{"memory", OBJECT, true, NULL, 0, 16, false, false},
			{"tools", ARRAY, false, "[]", 0, 0, false, false},
			{"retrievals", ARRAY, false, "[]", 0, 0, false, false},
			{"retrieval_configs", OBJECT, true, NULL, 0, 16, false, false},
			METADATA}},
	[CHAT] = {"chat",
		  "Chat",
		  "SdEL",
		  ASSISTANT,
		  true,
		  {METADATA, {"memory", OBJECT, false, NULL, 0, 0, false, true}, NAME}},
	[MESSAGE] = {"message",
		     "Message",
		     "Mah1",
		     CHAT,
		     true,
		     {{"role", TEXT, true, NULL, 1, 20, false, false},
		      {"content", OBJECT, true, NULL, 1, 16, false, false},
		      {"num_tokens", NUMBER, false, "3", 0, 0, false, true},
		      METADATA}},
	[COLLECTION] = {"collection",
			"Collection",
			"DbgY",
			KINDS,
			true,
			{NAME,
			 DESCRIPTION,
			 {"num_records", NUMBER, false, "0", 0, 0, false, true},
			 {"num_chunks", NUMBER, false, "0", 0, 0, false, true},
			 {"capacity", NUMBER, true, NULL, 1000, 1000, false, false},
			 {"embedding_model_id", TEXT, true, NULL, 8, 8, false, false},
			 {"embedding_size", NUMBER, false, "8", 0, 0, false, true},
			 {"status", TEXT, false, "\"ready\"", 0, 0, false, true},
			 METADATA}},
	[RECORD] = {"record",
		    "Record",
		    "qpEa",
		    COLLECTION,
		    false,
		    {{"title", TEXT, false, "\"\"", 0, 256, false, false},
		     {"status", TEXT, false, "\"ready\"", 0, 0, false, true},
		     {"num_chunks", NUMBER, false, "1", 0, 0, false, true},
		     {"type", TEXT, true, NULL, 1, 20, false, false},
		     {"content", TEXT, false, "\"\"", 0, 32768, false, false},
		     {"file_id", TEXT, false, NULL, 1, 256, true, false},
		     {"url", TEXT, false, NULL, 1, 2048, true, false},
		     {"text_splitter", OBJECT, true, NULL, 1, 16, true, false},
		     METADATA}},
	[CHUNK] = {"chunk",
		   NULL,
		   "LmK0",
		   COLLECTION,
		   false,
		   {{"record_id", ANY, false, "null", 0, 0, false, true},
		    {"content", TEXT, true, NULL, 1, 32768, false, false},
		    {"num_tokens", NUMBER, false, "3", 0, 0, false, true},
		    METADATA}},
	[ACTION] = {"action",
		    "Action",
		    "bFBd",
		    KINDS,
		    true,
		    {{"name", TEXT, false, "\"\"", 0, 0, false, true},
		     {"operation_id", TEXT, false, "\"\"", 0, 0, false, true},
		     {"description", TEXT, false, "\"\"", 0, 0, false, true},
		     {"url", TEXT, false, "\"\"", 0, 0, false, true},
		     {"method", TEXT, false, "\"GET\"", 0, 0, false, true},
		     {"body_type", TEXT, false, "\"NONE\"", 0, 0, false, true},
		     {"openapi_schema", OBJECT, true, NULL, 1, 64, false, false},
		     {"authentication", OBJECT, false, "{\"type\":\"none\"}", 1, 16, false, false}}},
	[UPLOAD] = {"file", NULL, "txt_Jde5", KINDS, false, {{"content", TEXT, false, "\"\"", 0, 0, true, true}}},
};

const char *tasking_kind_name(enum kind kind)
{
	return kinds[kind].name;
}

enum kind tasking_parent_kind(enum kind kind)
{
	return kinds[kind].parent;
}

/* --- Showing. ---------------------------------------------------------------------------------------------- */

/* The ids of what stands above come first. */
static void write_parents(struct buf *out, const struct object *o)
{
	if (!o)
		return;
	write_parents(out, o->parent);
	buf_printf(out, "\"%s_id\":\"%s\",", kinds[o->kind].name, o->id);
}

void tasking_write(struct buf *out, const struct object *o, double score)
{
	const struct kind_row *k = &kinds[o->kind];

	buf_char(out, '{');
	if (k->object)
		buf_printf(out, "\"object\":\"%s\",", k->object);
	write_parents(out, o);
	for (const struct member_row *m = k->members; m->name; m++) {
		struct span v = object_get(o, m->name);

		if (m->hidden || !v.ptr)
			continue;
		buf_printf(out, "\"%s\":", m->name);
		buf_add(out, v.ptr, v.len);
		buf_char(out, ',');
	}
	buf_printf(out, "\"updated_timestamp\":%" PRId64 ",\"created_timestamp\":%" PRId64, o->updated_ms,
		   o->created_ms);
	if (score > NO_SCORE)
		buf_printf(out, ",\"score\":%.6f", score);
	buf_char(out, '}');
}

static void show(struct tasking *t, const struct object *o)
{
	tasking_open(t);
	tasking_write(&t->a->body, o, NO_SCORE);
	tasking_close(t);
}

void tasking_get(struct tasking *t)
{
	show(t, t->up);
}

void tasking_delete(struct tasking *t)
{
	store_delete(t->stub->store, t->up);
	answer_json(t->a, 200);
	buf_lit(&t->a->body, "{\"status\":\"success\"}");
}

/* --- Lists. ------------------------------------------------------------------------------------------------ */

struct listed {
	struct object *o;
};

struct page {
	int64_t limit;
	bool ascending;
	struct object *after, *before;
};

static bool read_cursor(struct tasking *t, const char *name, struct object **to)
{
	const char *id = httpd_query(t->r, name);

	if (!id)
		return true;
	*to = store_find(t->stub->store, t->route->kind, id);
	if (!*to)
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "%s %.60s not found", kinds[t->route->kind].name, id);
	return *to;
}

static bool read_page(struct tasking *t, struct page *p)
{
	const char *limit = httpd_query(t->r, "limit"), *order = httpd_query(t->r, "order"),
		   *filter = httpd_query(t->r, "prefix_filter");
	char *end = NULL;

	*p = (struct page){.limit = limit ? strtoll(limit, &end, 10) : 20};
	if (limit && (!*limit || *end)) {
		tasking_invalid(t, "query/limit", "Input should be a valid integer");
	} else if (p->limit < 1 || p->limit > LIST_MAX) {
		tasking_invalid(t, "query/limit", "Input should be from 1 to %d", LIST_MAX);
	} else if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
		tasking_invalid(t, "query/order", "Input should be 'asc' or 'desc'");
	} else if (filter && *filter) {
		tasking_invalid(t, "query/prefix_filter", "prefix_filter is not allowed");
	} else {
		p->ascending = order && strcmp(order, "asc") == 0;
		return read_cursor(t, "after", &p->after) && read_cursor(t, "before", &p->before);
	}
	return false;
}

/* All of them in the wanted order; then those between the cursors, of which the last `limit` count where there is only an end. */
static void write_page(struct tasking *t, const struct page *p, const struct listed *all, size_t n)
{
	struct buf *out = &t->a->body;
	size_t from = 0, to = n, limit = (size_t)p->limit;
	bool more;

	for (size_t i = 0; i < n; i++) {
		if (all[i].o == p->after)
			from = i + 1;
		if (all[i].o == p->before)
			to = i;
	}
	to = to < from ? from : to;
	more = to - from > limit;
	if (more && p->before && !p->after)
		from = to - limit;
	else if (more)
		to = from + limit;
	tasking_open(t);
	buf_char(out, '[');
	for (size_t i = from; i < to; i++) {
		buf_str_add(out, i > from ? "," : "");
		tasking_write(out, all[i].o, NO_SCORE);
	}
	buf_printf(out, "],\"fetched_count\":%zu,\"has_more\":%s", to - from, more ? "true" : "false");
	tasking_close(t);
}

void tasking_list(struct tasking *t)
{
	const struct store *s = t->stub->store;
	struct object *o = NULL;
	struct listed *all;
	struct page page;
	size_t n = 0, i = 0;

	if (!read_page(t, &page))
		return;
	while ((o = store_next(s, t->route->kind, t->up, o)))
		n++;
	all = calloc(n + 1, sizeof *all);
	while (all && (o = store_next(s, t->route->kind, t->up, o)))
		all[page.ascending ? i++ : n - 1 - i++].o = o;
	write_page(t, &page, all, all ? n : 0);
	free(all);
}

/* --- Checking and keeping. --------------------------------------------------------------------------------- */

static void count(void *ctx, struct span key, struct span value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
}

static bool invalid_member(struct tasking *t, const char *name, const char *text)
{
	char where[80];

	snprintf(where, sizeof where, "body/%s", name);
	tasking_invalid(t, where, "%s", text);
	return false;
}

static bool member_fits(struct tasking *t, const struct member_row *m, struct span v)
{
	static const struct {
		enum json_type type;
		const char *wanted;
	} types[] = {[TEXT] = {JSON_STRING, "Input should be a valid string"},
		     [NUMBER] = {JSON_NUMBER, "Input should be a valid integer"},
		     [OBJECT] = {JSON_OBJECT, "Input should be a valid dictionary"},
		     [ARRAY] = {JSON_ARRAY, "Input should be a valid list"}};
	double size = 0;
	size_t n = 0;
	int64_t number;

	if (!tasking_is(v, types[m->type].type))
		return invalid_member(t, m->name, types[m->type].wanted);
	if (m->type == NUMBER && json_span_int(v, &number))
		size = (double)number;
	if (m->type == TEXT)
		size = (double)json_points(v);
	if (m->type == OBJECT) {
		(void)json_scan(v.ptr, v.len, NULL, count, &n);
		size = (double)n;
	}
	if (m->type != ARRAY && (size < m->min || (m->max > 0 && size > m->max)))
		return invalid_member(t, m->name,
				      m->type == NUMBER ? "Input is out of its range"
							: "It should have another number of items");
	return true;
}

static bool members_fit(struct tasking *t, const struct kind_row *k, bool create)
{
	for (const struct member_row *m = k->members; m->name; m++) {
		struct span v = tasking_member(t->body, m->name);

		if (m->ours)
			continue;
		if (!v.ptr && m->required && create)
			return invalid_member(t, m->name, "Field required");
		if (v.ptr && !member_fits(t, m, v))
			return false;
	}
	return true;
}

static void keep_members(struct tasking *t, struct object *o, const struct kind_row *k, bool create)
{
	for (const struct member_row *m = k->members; m->name; m++) {
		struct span v = m->ours ? (struct span){0} : tasking_member(t->body, m->name);

		if (!v.ptr && create && m->otherwise)
			v = (struct span){m->otherwise, strlen(m->otherwise)};
		if (v.ptr)
			object_set(o, m->name, v);
	}
}

static void set_text(struct object *o, const char *name, const char *text)
{
	struct buf json = BUF_INIT(FILE_MAX * 6);

	buf_json_cstr(&json, text);
	object_set(o, name, (struct span){buf_cstr(&json), json.len});
	buf_release(&json);
}

/* --- What each kind checks beyond its members, with its parents known. Returns false with the answer made. ------ */

static bool model_is(struct tasking *t, const char *member, enum model wanted, const char *what)
{
	struct buf id = BUF_INIT(100);
	const char *text = tasking_string(t->body, member, &id);
	enum model model = tasking_model(text);

	if (!*text)
		model = wanted; /* not given, so not changed */
	else if (model == MODEL_UNKNOWN)
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "model %s not found", text);
	else if (model != wanted)
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "Model %s is not a %s model.", text, what);
	buf_release(&id);
	return model == wanted;
}

static bool check_assistant(struct tasking *t)
{
	struct span memory = tasking_member(t->body, "memory"), max = tasking_member(memory, "max_messages");
	struct buf type = BUF_INIT(100);
	const char *name = tasking_string(memory, "type", &type);
	bool window = strcmp(name, "message_window") == 0, good = true;

	if (memory.ptr && !window && strcmp(name, "zero") != 0 && strcmp(name, "naive") != 0)
		good = invalid_member(t, "memory/type", "Input should be 'zero', 'naive' or 'message_window'");
	else if (window && !tasking_is(max, JSON_NUMBER))
		good = invalid_member(t, "memory/max_messages", "Field required");
	buf_release(&type);
	return good && model_is(t, "model_id", MODEL_CHAT, "chat completion");
}

static bool check_message(struct tasking *t)
{
	struct buf role = BUF_INIT(100);
	const char *name = tasking_string(t->body, "role", &role);
	bool given = *name, known = !given || strcmp(name, "user") == 0 || strcmp(name, "assistant") == 0;

	buf_release(&role);
	if (!known)
		return invalid_member(t, "role", "Input should be 'user' or 'assistant'");
	if (given && !tasking_is(tasking_member(tasking_member(t->body, "content"), "text"), JSON_STRING))
		return invalid_member(t, "content/text", "Field required");
	return true;
}

static bool check_collection(struct tasking *t)
{
	return model_is(t, "embedding_model_id", MODEL_EMBEDDING, "text embedding");
}

static bool check_splitter(struct tasking *t, struct span splitter)
{
	struct buf type = BUF_INIT(100);
	const char *name = tasking_string(splitter, "type", &type);
	int64_t size = 0, overlap = -1;
	bool token = strcmp(name, "token") == 0, separator = strcmp(name, "separator") == 0;

	buf_release(&type);
	if (!token && !separator)
		return invalid_member(t, "text_splitter/type", "Input should be 'token' or 'separator'");
	(void)json_span_int(tasking_member(splitter, "chunk_size"), &size);
	(void)json_span_int(tasking_member(splitter, "chunk_overlap"), &overlap);
	if (token && (size < 50 || size > 1000))
		return invalid_member(t, "text_splitter/chunk_size", "Input should be from 50 to 1000");
	if (token && (overlap < 0 || overlap > 200 || overlap > size / 2))
		return invalid_member(t, "text_splitter/chunk_overlap", "Input should be at most half of chunk_size");
	if (separator && !tasking_is(tasking_member(splitter, "separators"), JSON_ARRAY))
		return invalid_member(t, "text_splitter/separators", "Field required");
	return true;
}

static bool check_record(struct tasking *t)
{
	struct span splitter = tasking_member(t->body, "text_splitter");
	struct buf text = BUF_INIT(1UL << 20);
	const char *type = tasking_string(t->body, "type", &text);
	bool is_text = strcmp(type, "text") == 0, is_file = strcmp(type, "file") == 0, web = strcmp(type, "web") == 0;
	bool good = true;

	if (*type && !is_text && !is_file && !web && !(t->stub->hosted && strcmp(type, "qa_sheet") == 0))
		good = invalid_member(t, "type", "Input should be 'text', 'file' or 'web'");
	else if (splitter.ptr)
		good = check_splitter(t, splitter);
	else if (*type || tasking_member(t->body, "content").ptr || tasking_member(t->body, "title").ptr) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'text_splitter'");
		good = false;
	}
	if (good && is_text && !*tasking_string(t->body, "content", &text))
		good = invalid_member(t, "content", "Field required");
	else if (good && is_file && !*tasking_string(t->body, "file_id", &text)) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'NoneType' object has no attribute 'split'");
		good = false;
	} else if (good && web && strncmp(tasking_string(t->body, "url", &text), "https://", 8) != 0)
		good = invalid_member(t, "url", "URL should begin with https://");
	buf_release(&text);
	return good;
}

static bool check_nothing(struct tasking *t)
{
	(void)t;
	return true;
}

/* --- What each kind does when it was made or changed. ------------------------------------------------------- */

static void add_number(struct object *o, const char *name, int by)
{
	char text[24];
	int64_t n = 0;

	(void)json_span_int(object_get(o, name), &n);
	snprintf(text, sizeof text, "%" PRId64, n + by);
	object_set(o, name, (struct span){text, strlen(text)});
}

static void fill_chat(struct tasking *t, struct object *o)
{
	struct span memory = object_get(o->parent, "memory");
	struct buf json = BUF_INIT(1UL << 20);

	(void)t;
	buf_add(&json, memory.ptr, memory.len - 1);
	buf_lit(&json, ",\"messages\":[]}");
	object_set(o, "memory", (struct span){buf_cstr(&json), json.len});
	buf_release(&json);
}

/* A file is used up by the record that reads it. */
static bool take_file(struct tasking *t, struct object *record)
{
	struct buf id = BUF_INIT(1000), json = BUF_INIT(1000);
	struct object *file = store_find(t->stub->store, UPLOAD, tasking_string(t->body, "file_id", &id));

	if (file) {
		buf_printf(&json, "{\"file_id\": \"%s\", \"file_name\": \"stub\", \"file_size\": 1}", file->id);
		set_text(record, "content", buf_cstr(&json));
		store_delete(t->stub->store, file);
	} else {
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "file %.60s not found", buf_cstr(&id));
	}
	buf_release(&id);
	buf_release(&json);
	return file;
}

static void chunk_of(struct tasking *t, struct object *record)
{
	struct object *chunk = store_add(t->stub->store, CHUNK, record->parent, kinds[CHUNK].prefix);
	char id[OBJECT_ID_MAX + 3];

	if (!chunk)
		return;
	snprintf(id, sizeof id, "\"%s\"", record->id);
	for (const struct member_row *m = kinds[CHUNK].members; m->name; m++)
		if (m->otherwise)
			object_set(chunk, m->name, (struct span){m->otherwise, strlen(m->otherwise)});
	object_set(chunk, "record_id", (struct span){id, strlen(id)});
	object_set(chunk, "content", object_get(record, "content"));
	add_number(record->parent, "num_chunks", 1);
}

static bool fill_record(struct tasking *t, struct object *o)
{
	struct buf text = BUF_INIT(1UL << 20), json = BUF_INIT(1UL << 20);
	const char *type = tasking_string(t->body, "type", &text);
	bool good = strcmp(type, "file") != 0 || take_file(t, o);

	if (strcmp(type, "web") == 0) {
		buf_lit(&json, "{\"url\": ");
		buf_json_cstr(&json, tasking_string(t->body, "url", &text));
		buf_char(&json, '}');
		set_text(o, "content", buf_cstr(&json));
	}
	buf_release(&text);
	buf_release(&json);
	if (good) {
		chunk_of(t, o);
		add_number(o->parent, "num_records", 1);
	}
	return good;
}

static bool (*const checks[KINDS])(struct tasking *) = {
	[ASSISTANT] = check_assistant,	 [CHAT] = check_nothing,  [MESSAGE] = check_message,
	[COLLECTION] = check_collection, [RECORD] = check_record, [CHUNK] = check_nothing,
	[ACTION] = check_nothing};

void tasking_create(struct tasking *t)
{
	enum kind kind = t->route->kind;
	const struct kind_row *k = &kinds[kind];
	struct object *o;
	bool good = true;

	if (!members_fit(t, k, true) || !checks[kind](t))
		return;
	o = store_add(t->stub->store, kind, t->up, k->prefix);
	if (!o) {
		tasking_error(t, 429, "RESOURCE_LIMIT_REACHED", "The stub keeps no more objects.");
		return;
	}
	keep_members(t, o, k, true);
	if (kind == CHAT)
		fill_chat(t, o);
	else if (kind == RECORD)
		good = fill_record(t, o);
	else if (kind == CHUNK)
		add_number(o->parent, "num_chunks", 1);
	if (good)
		show(t, o);
	else
		store_delete(t->stub->store, o);
}

/* How many members the body changes. */
static size_t changes(struct tasking *t, const struct kind_row *k)
{
	size_t n = 0;

	for (const struct member_row *m = k->members; m->name; m++)
		n += !m->ours && tasking_member(t->body, m->name).ptr;
	return n;
}

void tasking_update(struct tasking *t)
{
	enum kind kind = t->route->kind;
	const struct kind_row *k = &kinds[kind];
	struct span metadata = tasking_member(t->body, "metadata");
	struct span kept = object_get(t->up, "metadata");
	struct buf old = BUF_INIT(1UL << 20);

	if (kind == MESSAGE && !metadata.ptr) {
		invalid_member(t, "metadata", "Field required");
		return;
	}
	if (!members_fit(t, k, false) || !checks[kind](t))
		return;
	if (k->needs_change && changes(t, k) == 0) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "Update dict cannot be empty");
		return;
	}
	if (kind == RECORD && strncmp(object_get(t->up, "type").ptr, "\"file\"", 6) == 0) {
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "A record of type file cannot be updated.");
		return;
	}
	buf_add(&old, kept.ptr ? kept.ptr : "{}", kept.ptr ? kept.len : 2);
	keep_members(t, t->up, k, false);
	if (kind == ASSISTANT && metadata.ptr && metadata.len <= 2) /* an empty one changes nothing there (2.4) */
		object_set(t->up, "metadata", (struct span){buf_cstr(&old), old.len});
	t->up->updated_ms = clock_real_ms();
	buf_release(&old);
	show(t, t->up);
}

/* --- Messages, chunks, files, actions. ----------------------------------------------------------------------- */

struct object *tasking_add_message(struct tasking *t, struct object *chat, const char *role, const char *text)
{
	struct object *o = store_add(t->stub->store, MESSAGE, chat, kinds[MESSAGE].prefix);
	struct buf json = BUF_INIT(1UL << 24);

	if (!o)
		return NULL;
	for (const struct member_row *m = kinds[MESSAGE].members; m->name; m++)
		if (m->otherwise)
			object_set(o, m->name, (struct span){m->otherwise, strlen(m->otherwise)});
	set_text(o, "role", role);
	buf_lit(&json, "{\"text\":");
	buf_json_cstr(&json, text);
	buf_char(&json, '}');
	object_set(o, "content", (struct span){buf_cstr(&json), json.len});
	buf_release(&json);
	return o;
}

void tasking_clean(struct tasking *t)
{
	struct object *o = tasking_add_message(t, t->up, "system", "context_cleaned");

	if (o)
		show(t, o);
}

struct hit {
	const struct object *chunk;
	double score;
};

static int by_score(const void *a, const void *b)
{
	double x = ((const struct hit *)a)->score, y = ((const struct hit *)b)->score;

	return x < y ? 1 : x > y ? -1 : 0;
}

static void write_hits(struct tasking *t, struct hit *hits, size_t n)
{
	struct buf *out = &t->a->body;

	tasking_open(t);
	buf_char(out, '[');
	for (size_t i = 0; i < n; i++) {
		buf_str_add(out, i ? "," : "");
		tasking_write(out, hits[i].chunk, hits[i].score);
	}
	buf_printf(out, "],\"fetched_count\":%zu,\"total_count\":null,\"has_more\":false", n);
	tasking_close(t);
}

void tasking_query(struct tasking *t)
{
	struct buf question = BUF_INIT(1UL << 20), content = BUF_INIT(1UL << 20);
	struct object *o = NULL;
	struct hit *hits = NULL;
	int64_t top = 0;
	size_t n = 0;

	if (!tasking_text(tasking_member(t->body, "query_text"), &question) || question.len == 0) {
		invalid_member(t, "query_text", "Field required");
	} else if (!json_span_int(tasking_member(t->body, "top_k"), &top) || top < 1 || top > QUERY_MAX) {
		invalid_member(t, "top_k", "Input should be from 1 to 20");
	} else {
		while ((o = store_next(t->stub->store, CHUNK, t->up, o))) {
			struct hit *more = realloc(hits, (n + 1) * sizeof *hits);

			if (!more)
				break;
			hits = more;
			buf_clear(&content);
			(void)tasking_text(object_get(o, "content"), &content);
			hits[n++] = (struct hit){o, tasking_similarity(buf_cstr(&question), buf_cstr(&content))};
		}
		if (hits)
			qsort(hits, n, sizeof *hits, by_score);
		write_hits(t, hits, n < (size_t)top ? n : (size_t)top);
	}
	free(hits);
	buf_release(&question);
	buf_release(&content);
}

/* The part of a form with that name: where its bytes are, and its file's name. */
static struct span form_part(const struct tasking *t, const char *name, char *file, size_t bytes)
{
	const char *type = httpd_header(t->r, "Content-Type"), *mark = type ? strstr(type, "boundary=") : NULL;
	char border[128], wanted[64];
	size_t len;
	const char *body = httpd_body(t->r, &len), *at = body, *end = body + len;

	if (!mark)
		return (struct span){0};
	snprintf(border, sizeof border, "\r\n--%.100s", mark + 9);
	snprintf(wanted, sizeof wanted, "name=\"%s\"", name);
	while (at < end) {
		const char *head = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
		const char *stop = head ? memmem(head + 4, (size_t)(end - head - 4), border, strlen(border)) : NULL;
		const char *given;

		if (!stop)
			break;
		given = memmem(at, (size_t)(head - at), wanted, strlen(wanted));
		if (given && given[-1] != 'e') { /* filename="…" ends like it */
			const char *of = memmem(at, (size_t)(head - at), "filename=\"", 10);

			if (file)
				snprintf(file, bytes, "%.*s", of ? (int)strcspn(of + 10, "\"") : 0, of ? of + 10 : "");
			return (struct span){head + 4, (size_t)(stop - head - 4)};
		}
		at = stop + 2;
	}
	return (struct span){0};
}

void tasking_upload(struct tasking *t)
{
	static const char *const taken[] = {"pdf", "docx", "md", "txt", "html", "htm"};
	char name[256] = "";
	struct span file = form_part(t, "file", name, sizeof name), purpose = form_part(t, "purpose", NULL, 0);
	const char *dot = strrchr(name, '.'), *kind = NULL;
	struct object *o;

	for (size_t i = 0; dot && i < sizeof taken / sizeof *taken; i++)
		if (strcasecmp(dot + 1, taken[i]) == 0)
			kind = taken[i];
	if (!purpose.ptr)
		invalid_member(t, "purpose", "Field required");
	else if (!file.ptr)
		invalid_member(t, "file", "Field required");
	else if (purpose.len != 11 || memcmp(purpose.ptr, "record_file", 11) != 0)
		invalid_member(t, "purpose", "Input should be 'record_file'");
	else if (!kind)
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "File type is not supported.");
	else if (file.len > FILE_MAX)
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "File size is too large.");
	else if ((o = store_add(t->stub->store, UPLOAD, NULL, strcasecmp(kind, "htm") == 0 ? "html" : kind))) {
		char id[OBJECT_ID_MAX + 1];

		snprintf(id, sizeof id, "%s_Jde5%.20s", strcasecmp(kind, "htm") == 0 ? "html" : kind,
			 o->id + strlen(o->id) - 20);
		memcpy(o->id, id, sizeof id);
		tasking_open(t);
		buf_printf(&t->a->body, "{\"file_id\":\"%s\"}", id);
		tasking_close(t);
	}
}

/* One action for each operation of the schema: method and path are told apart by the caller. */
struct operations {
	struct tasking *t;
	const char *path;
	size_t n, bad;
};

static void make_action(void *ctx, struct span key, struct span value)
{
	struct operations *all = ctx;
	struct tasking *t = all->t;
	struct buf id = BUF_INIT(1000), text = BUF_INIT(4000);
	const char *name = tasking_string(value, "operationId", &id);
	static const char masked[] = "{\"type\":\"bearer\",\"secret\":\"se****et\"}";
	struct object *o;
	char method[16];

	if (!*name || !(*tasking_string(value, "description", &text) || *tasking_string(value, "summary", &text))) {
		all->bad++;
	} else if ((o = store_add(t->stub->store, ACTION, NULL, kinds[ACTION].prefix))) {
		keep_members(t, o, &kinds[ACTION], true);
		set_text(o, "operation_id", name);
		set_text(o, "name", name);
		set_text(o, "description", buf_cstr(&text));
		snprintf(method, sizeof method, "%.*s", (int)key.len, key.ptr);
		for (char *c = method; *c; c++)
			*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
		set_text(o, "method", method);
		if (tasking_member(object_get(o, "authentication"), "secret").ptr)
			object_set(o, "authentication", (struct span){masked, sizeof masked - 1});
		buf_str_add(&t->a->body, all->n++ ? "," : "");
		tasking_write(&t->a->body, o, NO_SCORE);
	}
	buf_release(&id);
	buf_release(&text);
}

static void make_actions(void *ctx, struct span key, struct span value)
{
	(void)key;
	(void)json_scan(value.ptr, value.len, NULL, make_action, ctx);
}

void tasking_bulk_create(struct tasking *t)
{
	struct span schema = tasking_member(t->body, "openapi_schema"), paths = tasking_member(schema, "paths");
	struct operations all = {.t = t};

	if (!tasking_is(schema, JSON_OBJECT)) {
		invalid_member(t, "openapi_schema", "Field required");
		return;
	}
	tasking_open(t);
	buf_char(&t->a->body, '[');
	if (paths.ptr)
		(void)json_scan(paths.ptr, paths.len, NULL, make_actions, &all);
	buf_char(&t->a->body, ']');
	tasking_close(t);
	if (all.n > 0 && all.bad == 0 && tasking_is(tasking_member(schema, "servers"), JSON_ARRAY))
		return;
	buf_clear(&t->a->body);
	t->a->nheaders = 0;
	tasking_error(t, 422, "REQUEST_VALIDATION_ERROR",
		      "The schema has no servers, no paths, or an operation without operationId or description.");
}

/* The target is the stub itself: it gives back what it was given, or a status that the directives ask for. */
void tasking_run(struct tasking *t)
{
	struct span parameters = tasking_member(t->body, "parameters");

	tasking_open(t);
	if (t->d.target_status > 0)
		buf_printf(&t->a->body,
			   "{\"status\":%" PRId64 ",\"data\":{\"error\":\"API call failed with status %" PRId64
			   ": stub\"}}",
			   t->d.target_status, t->d.target_status);
	else {
		buf_lit(&t->a->body, "{\"status\":200,\"data\":{\"parameters\":");
		buf_add(&t->a->body, parameters.ptr ? parameters.ptr : "{}", parameters.ptr ? parameters.len : 2);
		buf_lit(&t->a->body, "}}");
	}
	tasking_close(t);
}
