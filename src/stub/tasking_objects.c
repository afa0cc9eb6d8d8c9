/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI's clients create: each kind's members are a table, by which bodies are checked, kept and shown. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stub/tasking.h"

#define LIST_DEFAULT 20
#define LIST_MAX 100
#define CURSOR_MAX 50
#define MEMORY_LETTERS_MAX 65535 /* of a chat */
#define OBJECT_JSON_MAX (64UL * 1024 * 1024)
#define CONTEXT_CLEANED "context_cleaned"

/* --- What bodies may say. ---------------------------------------------------------------------------------- */

#define NAME                                                                                                           \
	{                                                                                                              \
		"name", TEXT, OPTIONAL, 0, 127, NULL, NULL                                                             \
	}
#define DESCRIPTION                                                                                                    \
	{                                                                                                              \
		"description", TEXT, OPTIONAL, 0, 512, NULL, NULL                                                      \
	}
#define METADATA                                                                                                       \
	{                                                                                                              \
		"metadata", OBJECT, OPTIONAL, 0, 16, NULL, NULL                                                        \
	}
#define END                                                                                                            \
	{                                                                                                              \
		NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL                                                                 \
	}

static const struct field one_text[] = {{"", TEXT, OPTIONAL, 0, 0, NULL, NULL}, END};
static const struct field memory_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "zero naive message_window", NULL},
					     {"max_messages", INTEGER, OPTIONAL, 1, 1024, NULL, NULL},
					     {"max_tokens", INTEGER, OPTIONAL, 1, 8192, NULL, NULL},
					     END};
static const struct field tool_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "action plugin", NULL},
					   {"id", TEXT, REQUIRED, 1, 256, NULL, NULL},
					   END};
static const struct field retrieval_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "collection", NULL},
						{"id", TEXT, REQUIRED, 1, 256, NULL, NULL},
						END};
static const struct field retrieval_config_fields[] = {{"top_k", INTEGER, OPTIONAL, 1, 20, NULL, NULL},
						       {"method", TEXT, REQUIRED, 0, 0,
							"function_call user_message memory", NULL},
						       {"max_tokens", INTEGER, OPTIONAL, 1, 0, NULL, NULL},
						       {"score_threshold", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
						       {"function_description", TEXT, OPTIONAL, 0, 1024, NULL, NULL},
						       END};
const struct field tasking_assistant_fields[] = {{"model_id", TEXT, REQUIRED, 8, 8, NULL, NULL},
						 NAME,
						 DESCRIPTION,
						 {"system_prompt_template", ARRAY, OPTIONAL, 0, 0, NULL, one_text},
						 {"memory", OBJECT, REQUIRED, 0, 0, NULL, memory_fields},
						 {"tools", ARRAY, OPTIONAL, 0, 0, NULL, tool_fields},
						 {"retrievals", ARRAY, OPTIONAL, 0, 0, NULL, retrieval_fields},
						 {"retrieval_configs", OBJECT, REQUIRED_IN_COMMUNITY, 0, 0, NULL,
						  retrieval_config_fields},
						 METADATA,
						 END};
const struct field tasking_chat_fields[] = {NAME, METADATA, END};
static const struct field content_fields[] = {{"text", TEXT, REQUIRED, 0, 0, NULL, NULL}, END};
const struct field tasking_message_fields[] = {{"role", TEXT, REQUIRED, 0, 0, "user assistant", NULL},
					       {"content", OBJECT, REQUIRED, 0, 0, NULL, content_fields},
					       METADATA,
					       END};
const struct field tasking_message_update_fields[] = {METADATA, END};
const struct field tasking_collection_fields[] = {NAME,
						  DESCRIPTION,
						  {"embedding_model_id", TEXT, REQUIRED, 8, 8, NULL, NULL},
						  {"capacity", INTEGER, REQUIRED, 1000, 1000, NULL, NULL},
						  {"type", TEXT, OPTIONAL, 0, 0, "text qa", NULL},
						  METADATA,
						  END};
const struct field tasking_collection_update_fields[] = {NAME, DESCRIPTION, METADATA, END};
static const struct field splitter_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "token separator", NULL},
					       {"chunk_size", INTEGER, OPTIONAL, 50, 1000, NULL, NULL},
					       {"chunk_overlap", INTEGER, OPTIONAL, 0, 200, NULL, NULL},
					       {"separators", ARRAY, OPTIONAL, 1, 16, NULL, one_text},
					       END};
const struct field tasking_record_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "text file web qa_sheet", NULL},
					      {"file_id", TEXT, OPTIONAL, 1, 256, NULL, NULL},
					      {"url", TEXT, OPTIONAL, 1, 2048, NULL, NULL},
					      {"title", TEXT, OPTIONAL, 0, 256, NULL, NULL},
					      {"content", TEXT, OPTIONAL, 0, 32768, NULL, NULL},
					      {"text_splitter", OBJECT, REQUIRED, 0, 0, NULL, splitter_fields},
					      METADATA,
					      END};
const struct field tasking_chunk_fields[] = {{"content", TEXT, REQUIRED, 1, 32768, NULL, NULL}, METADATA, END};

/* --- What is kept and shown. ------------------------------------------------------------------------------- */

typedef void compute_fn(struct tasking *t, struct buf *out, const struct object *o);
static compute_fn chat_memory, message_tokens, chunk_tokens, collection_records, collection_chunks, record_chunks;

enum source { TAKEN, OURS, COMMUNITY_ONLY, HOSTED_ONLY };

struct member_row {
	const char *name;
	enum source source;    /* TAKEN and HOSTED_ONLY come from bodies */
	const char *otherwise; /* JSON, where it is not given; NULL: it is not shown then */
	compute_fn *compute;   /* NULL: it is kept */
};

#define MEMBERS_MAX 14

static const struct kind_row {
	const char *name, *object, *stem;
	enum kind parent;
	bool own_id_first, created_first;
	bool needs_change; /* an update that changes nothing is a 500 (2.4) */
	struct member_row members[MEMBERS_MAX];
} kinds[KINDS] = {
	[ASSISTANT] = {"assistant",
		       "Assistant",
		       "X5lM",
		       KINDS,
		       false,
		       true,
		       false,
		       {{"model_id", TAKEN, NULL, NULL},
			{"name", TAKEN, "\"\"", NULL},
			{"description", TAKEN, "\"\"", NULL},
			{"system_prompt_template", TAKEN, "[]", NULL},
			{"memory", TAKEN, NULL, NULL},
			{"tools", TAKEN, "[]", NULL},
			{"retrievals", TAKEN, "[]", NULL},
			{"retrieval_configs", TAKEN, "{\"top_k\":3,\"method\":\"user_message\"}", NULL},
			{"metadata", TAKEN, "{}", NULL}}},
	[CHAT] = {"chat",
		  "Chat",
		  "SdEL",
		  ASSISTANT,
		  false,
		  true,
		  true,
		  {{"metadata", TAKEN, "{}", NULL},
		   {"memory", COMMUNITY_ONLY, NULL, chat_memory},
		   {"name", TAKEN, "\"\"", NULL}}},
	[MESSAGE] = {"message",
		     "Message",
		     "Mah1",
		     CHAT,
		     false,
		     true,
		     true,
		     {{"role", TAKEN, NULL, NULL},
		      {"content", TAKEN, NULL, NULL},
		      {"num_tokens", COMMUNITY_ONLY, NULL, message_tokens},
		      {"metadata", TAKEN, "{}", NULL}}},
	[COLLECTION] = {"collection",
			"Collection",
			"DbgY",
			KINDS,
			true,
			false,
			true,
			{{"name", TAKEN, "\"\"", NULL},
			 {"description", TAKEN, "\"\"", NULL},
			 {"num_records", COMMUNITY_ONLY, NULL, collection_records},
			 {"num_chunks", COMMUNITY_ONLY, NULL, collection_chunks},
			 {"capacity", TAKEN, NULL, NULL},
			 {"type", HOSTED_ONLY, "\"text\"", NULL},
			 {"embedding_model_id", TAKEN, NULL, NULL},
			 {"embedding_size", OURS, "8", NULL},
			 {"status", OURS, "\"ready\"", NULL},
			 {"metadata", TAKEN, "{}", NULL}}},
	[RECORD] = {"record",
		    "Record",
		    "qpEa",
		    COLLECTION,
		    true,
		    false,
		    false,
		    {{"title", TAKEN, "\"\"", NULL},
		     {"status", OURS, "\"ready\"", NULL},
		     {"num_chunks", OURS, NULL, record_chunks},
		     {"type", TAKEN, NULL, NULL},
		     {"content", TAKEN, "\"\"", NULL},
		     {"metadata", TAKEN, "{}", NULL}}},
	[CHUNK] = {"chunk",
		   NULL,
		   "LmK0",
		   COLLECTION,
		   true,
		   false,
		   false,
		   {{"record_id", OURS, "null", NULL},
		    {"content", TAKEN, NULL, NULL},
		    {"num_tokens", OURS, NULL, chunk_tokens},
		    {"metadata", TAKEN, "{}", NULL}}},
	[ACTION] = {"action",
		    "Action",
		    "bFBd",
		    KINDS,
		    true,
		    false,
		    true,
		    {{"name", OURS, NULL, NULL},
		     {"operation_id", OURS, NULL, NULL},
		     {"description", OURS, NULL, NULL},
		     {"url", OURS, NULL, NULL},
		     {"method", OURS, NULL, NULL},
		     {"path_param_schema", OURS, "null", NULL},
		     {"query_param_schema", OURS, "null", NULL},
		     {"body_param_schema", OURS, "null", NULL},
		     {"body_type", OURS, "\"NONE\"", NULL},
		     {"function_def", OURS, NULL, NULL},
		     {"openapi_schema", OURS, NULL, NULL},
		     {"authentication", OURS, NULL, NULL}}},
	[UPLOAD] = {"file", NULL, "file_Jde5", KINDS, true, false, false, {{NULL, OURS, NULL, NULL}}},
};

const char *tasking_kind_name(enum kind kind)
{
	return kinds[kind].name;
}

enum kind tasking_parent_kind(enum kind kind)
{
	return kinds[kind].parent;
}

/* --- What is counted when it is shown. --------------------------------------------------------------------- */

static void write_tokens(struct buf *out, struct span text)
{
	buf_printf(out, "%zu", tasking_tokens(text));
}

static void message_tokens(struct tasking *t, struct buf *out, const struct object *o)
{
	(void)t;
	write_tokens(out, tasking_member(object_get(o, "content"), "text"));
}

static void chunk_tokens(struct tasking *t, struct buf *out, const struct object *o)
{
	(void)t;
	write_tokens(out, object_get(o, "content"));
}

static size_t count(const struct store *s, enum kind kind, const struct object *parent, const struct object *maker)
{
	size_t n = 0;

	for (struct object *o = NULL; (o = store_next(s, kind, parent, o));)
		n += !maker || o->maker == maker;
	return n;
}

static void collection_records(struct tasking *t, struct buf *out, const struct object *o)
{
	buf_printf(out, "%zu", count(t->stub->store, RECORD, o, NULL));
}

static void collection_chunks(struct tasking *t, struct buf *out, const struct object *o)
{
	buf_printf(out, "%zu", count(t->stub->store, CHUNK, o, NULL));
}

static void record_chunks(struct tasking *t, struct buf *out, const struct object *o)
{
	buf_printf(out, "%zu", count(t->stub->store, CHUNK, o->parent, o));
}

static bool memory_is(const struct object *assistant, const char *type)
{
	return tasking_says(tasking_member(object_get(assistant, "memory"), "type"), type);
}

/* The oldest that still counts: behind the last that ended the context, and within the window. */
static struct object *first_message(const struct tasking *t, const struct object *chat)
{
	struct object *first = NULL, *o = NULL;
	bool zero = memory_is(chat->parent, "zero"), begins = true;
	int64_t window = INT64_MAX, n = 0;

	while ((o = store_next(t->stub->store, MESSAGE, chat, o))) {
		bool ends = tasking_says(object_get(o, "role"), "system") ||
			    (zero && tasking_says(object_get(o, "role"), "assistant"));

		n = ends ? 0 : n + 1;
		first = ends ? NULL : begins ? o : first;
		begins = ends;
	}
	if (memory_is(chat->parent, "message_window"))
		(void)json_span_int(tasking_member(object_get(chat->parent, "memory"), "max_messages"), &window);
	for (; first && n > window; n--)
		first = store_next(t->stub->store, MESSAGE, chat, first);
	return first;
}

struct object *tasking_next_message(const struct tasking *t, const struct object *chat, const struct object *o)
{
	return o ? store_next(t->stub->store, MESSAGE, chat, o) : first_message(t, chat);
}

static void chat_memory(struct tasking *t, struct buf *out, const struct object *chat)
{
	static const char *const numbers[] = {"max_messages", "max_tokens"};
	struct span memory = object_get(chat->parent, "memory"), type = tasking_member(memory, "type");

	buf_lit(out, "{\"type\":");
	buf_add(out, type.ptr, type.len);
	buf_lit(out, ",\"messages\":[");
	for (struct object *o = NULL, *next; (next = tasking_next_message(t, chat, o)); o = next) {
		struct span role = object_get(next, "role"),
			    content = tasking_member(object_get(next, "content"), "text");

		buf_str_add(out, o ? ",{\"role\":" : "{\"role\":");
		buf_add(out, role.ptr, role.len);
		buf_lit(out, ",\"content\":");
		buf_add(out, content.ptr, content.len);
		buf_char(out, '}');
	}
	buf_char(out, ']');
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		struct span n = tasking_member(memory, numbers[i]);

		buf_printf(out, ",\"%s\":", numbers[i]);
		buf_add(out, n.ptr ? n.ptr : "null", n.ptr ? n.len : 4);
	}
	buf_char(out, '}');
}

/* --- Showing. ---------------------------------------------------------------------------------------------- */

static void write_id(struct buf *out, const struct object *o)
{
	buf_printf(out, "\"%s_id\":\"%s\",", kinds[o->kind].name, o->id);
}

static void write_ids(struct buf *out, const struct object *o, bool own_first)
{
	if (own_first)
		write_id(out, o);
	if (o->parent)
		write_ids(out, o->parent, own_first);
	if (!own_first)
		write_id(out, o);
}

static bool is_shown(const struct tasking *t, const struct member_row *m)
{
	return m->source == TAKEN || m->source == OURS || (m->source == HOSTED_ONLY) == t->stub->hosted;
}

void tasking_write(struct tasking *t, struct buf *out, const struct object *o, const double *score)
{
	const struct kind_row *k = &kinds[o->kind];
	int64_t first = k->created_first ? o->created_ms : o->updated_ms,
		second = k->created_first ? o->updated_ms : o->created_ms;

	buf_char(out, '{');
	if (k->object)
		buf_printf(out, "\"object\":\"%s\",", k->object);
	write_ids(out, o, k->own_id_first);
	for (const struct member_row *m = k->members; m->name; m++) {
		struct span v = object_get(o, m->name);

		if (!is_shown(t, m) || (!v.ptr && !m->compute))
			continue;
		buf_printf(out, "\"%s\":", m->name);
		if (m->compute)
			m->compute(t, out, o);
		else if (v.ptr)
			buf_add(out, v.ptr, v.len);
		buf_char(out, ',');
	}
	buf_printf(out, "\"%s_timestamp\":%" PRId64 ",\"%s_timestamp\":%" PRId64,
		   k->created_first ? "created" : "updated", first, k->created_first ? "updated" : "created", second);
	if (score)
		buf_printf(out, ",\"score\":%.6f", *score);
	buf_char(out, '}');
}

static void show(struct tasking *t, const struct object *o)
{
	tasking_open(t);
	tasking_write(t, &t->a->body, o, NULL);
	tasking_close(t);
}

void tasking_get(struct tasking *t)
{
	show(t, t->up);
}

void tasking_delete(struct tasking *t)
{
	store_delete(t->stub->store, t->up);
	tasking_nothing(t);
}

/* --- Lists. ------------------------------------------------------------------------------------------------ */

bool tasking_check_list(struct tasking *t)
{
	static const char *const cursors[] = {"after", "before"};
	const char *limit = httpd_query(t->r, "limit"), *order = httpd_query(t->r, "order"),
		   *filter = httpd_query(t->r, "prefix_filter");
	char *end = NULL, where[32];
	long long n = limit ? strtoll(limit, &end, 10) : LIST_DEFAULT;

	if (limit && (!*limit || *end))
		tasking_invalid(t, "query/limit", "Input should be a valid integer");
	else if (n < 1)
		tasking_invalid(t, "query/limit", "Input should be greater than or equal to 1");
	else if (n > LIST_MAX)
		tasking_invalid(t, "query/limit", "Input should be less than or equal to %d", LIST_MAX);
	else if (order && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0)
		tasking_invalid(t, "query/order", "Input should be 'asc' or 'desc'");
	else if (filter && *filter)
		tasking_invalid(t, "query/prefix_filter", "prefix_filter is not allowed");
	else {
		for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
			const char *id = httpd_query(t->r, cursors[i]);

			if (!id || (*id && strlen(id) <= CURSOR_MAX))
				continue;
			snprintf(where, sizeof where, "query/%s", cursors[i]);
			tasking_invalid(t, where, "String should have at %s",
					*id ? "most 50 characters" : "least 1 character");
			return false;
		}
		return true;
	}
	return false;
}

/* The server's own filter by record is banned by its own check, unless an empty one takes its place (4.6). */
bool tasking_check_chunk_list(struct tasking *t)
{
	if (!httpd_query(t->r, "prefix_filter")) {
		tasking_invalid(t, "query/prefix_filter", "prefix_filter is not allowed");
		return false;
	}
	return tasking_check_list(t);
}

/* What is listed: of a kind, below a parent, made by a maker (NULL: any), in the wanted order. */
struct listing {
	enum kind kind;
	const struct object *parent, *maker;
	struct object **all;
	size_t n;
	const struct object *after, *before;
};

static bool read_cursor(struct tasking *t, const struct listing *l, const char *name, const struct object **to)
{
	const char *id = httpd_query(t->r, name);

	if (!id)
		return true;
	*to = store_find(t->stub->store, l->kind, id);
	if (*to && (!l->parent || (*to)->parent == l->parent))
		return true;
	tasking_unknown(t, kinds[l->kind].name, id);
	return false;
}

static void collect(struct tasking *t, struct listing *l)
{
	const struct store *s = t->stub->store;
	const char *order = httpd_query(t->r, "order");
	bool ascending = order && strcmp(order, "asc") == 0;
	size_t i = 0;

	l->n = count(s, l->kind, l->parent, l->maker);
	l->all = calloc(l->n + 1, sizeof(struct object *));
	if (!l->all)
		l->n = 0;
	for (struct object *o = NULL; l->n > 0 && (o = store_next(s, l->kind, l->parent, o));)
		if (!l->maker || o->maker == l->maker)
			l->all[ascending ? i++ : l->n - 1 - i++] = o;
}

/* Those between the cursors; the last `limit` of them count where there is only an end. */
static void write_page(struct tasking *t, const struct listing *l)
{
	const char *asked = httpd_query(t->r, "limit");
	struct buf *out = &t->a->body;
	size_t from = 0, to = l->n, limit = asked ? (size_t)strtoull(asked, NULL, 10) : LIST_DEFAULT;
	bool more;

	for (size_t i = 0; i < l->n; i++) {
		if (l->all[i] == l->after)
			from = i + 1;
		if (l->all[i] == l->before)
			to = i;
	}
	to = to < from ? from : to;
	more = to - from > limit;
	if (more && l->before && !l->after)
		from = to - limit;
	else if (more)
		to = from + limit;
	tasking_open(t);
	buf_char(out, '[');
	for (size_t i = from; i < to; i++) {
		buf_str_add(out, i > from ? "," : "");
		tasking_write(t, out, l->all[i], NULL);
	}
	buf_printf(out, "],\"fetched_count\":%zu,\"has_more\":%s", to - from, more ? "true" : "false");
	tasking_close(t);
}

static void list(struct tasking *t, struct listing l)
{
	if (!read_cursor(t, &l, "after", &l.after) || !read_cursor(t, &l, "before", &l.before))
		return;
	collect(t, &l);
	write_page(t, &l);
	free(l.all);
}

void tasking_list(struct tasking *t)
{
	list(t, (struct listing){.kind = t->route->kind, .parent = t->up});
}

void tasking_list_chunks(struct tasking *t)
{
	list(t, (struct listing){.kind = CHUNK, .parent = t->up->parent, .maker = t->up});
}

/* --- Keeping. ---------------------------------------------------------------------------------------------- */

void tasking_set(struct object *o, const char *name, const struct buf *json)
{
	object_set(o, name, (struct span){buf_cstr(json), json->len});
}

void tasking_set_text(struct object *o, const char *name, const char *text)
{
	struct buf json = BUF_INIT(OBJECT_JSON_MAX);

	buf_json_cstr(&json, text);
	tasking_set(o, name, &json);
	buf_release(&json);
}

static void add_unless_null(void *ctx, struct span key, struct span value)
{
	struct buf *out = ctx;

	if (json_span_type(value) == JSON_NULL)
		return;
	buf_str_add(out, buf_cstr(out)[out->len - 1] == '{' ? "\"" : ",\"");
	buf_add(out, key.ptr, key.len);
	buf_lit(out, "\":");
	tasking_add_json(out, value);
}

/* An assistant's memory and retrieval_configs are shown without their null members. */
static void set_without_nulls(struct object *o, const char *name, struct span v)
{
	struct buf json = BUF_INIT(OBJECT_JSON_MAX);

	buf_char(&json, '{');
	(void)json_scan(v.ptr, v.len, NULL, add_unless_null, &json);
	buf_char(&json, '}');
	tasking_set(o, name, &json);
	buf_release(&json);
}

static void set_json(struct object *o, const char *name, struct span v)
{
	struct buf json = BUF_INIT(OBJECT_JSON_MAX);

	tasking_add_json(&json, v);
	tasking_set(o, name, &json);
	buf_release(&json);
}

static bool is_taken(const struct member_row *m)
{
	return m->source == TAKEN || m->source == HOSTED_ONLY;
}

static void keep_members(struct tasking *t, struct object *o, bool create)
{
	for (const struct member_row *m = kinds[o->kind].members; m->name; m++) {
		struct span v = is_taken(m) ? tasking_member(t->body, m->name) : (struct span){0};

		if (!v.ptr && create && m->otherwise)
			v = (struct span){m->otherwise, strlen(m->otherwise)};
		if (v.ptr && o->kind == ASSISTANT && tasking_is(v, JSON_OBJECT) && strcmp(m->name, "metadata") != 0)
			set_without_nulls(o, m->name, v);
		else if (v.ptr)
			set_json(o, m->name, v);
	}
}

struct object *tasking_add(struct tasking *t, enum kind kind, struct object *parent)
{
	struct object *o = store_add(t->stub->store, kind, parent, kinds[kind].stem);

	if (!o) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "The stub keeps no more objects.");
		return NULL;
	}
	for (const struct member_row *m = kinds[kind].members; m->name; m++)
		if (m->otherwise)
			object_set(o, m->name, (struct span){m->otherwise, strlen(m->otherwise)});
	return o;
}

/* --- Assistants: what their parts mean. -------------------------------------------------------------------- */

/* A window has a size (4.1). */
bool tasking_check_assistant(struct tasking *t)
{
	struct span memory = tasking_member(t->body, "memory");

	if (t->stub->hosted || !tasking_says(tasking_member(memory, "type"), "message_window") ||
	    tasking_member(memory, "max_messages").ptr)
		return true;
	tasking_invalid(t, "body/memory/max_messages", "Field required");
	return false;
}

/* A member as it will be: of the body, or as it is. */
static struct span future(struct tasking *t, const char *name)
{
	struct span v = tasking_member(t->body, name);

	return v.ptr || t->route->serve == tasking_create ? v : object_get(t->up, name);
}

static bool model_is(struct tasking *t, const char *member, enum model wanted, const char *what)
{
	struct buf id = BUF_INIT(1000);
	const char *text;
	enum model model;

	(void)tasking_text(future(t, member), &id);
	text = buf_cstr(&id);
	model = tasking_model(text);
	if (model == MODEL_UNKNOWN)
		tasking_unknown(t, "model", text);
	else if (model != wanted)
		tasking_refuse(t, "Model %s is not a %s model.", text, what);
	buf_release(&id);
	return model == wanted;
}

struct parts {
	struct tasking *t;
	size_t n;
	bool good;
	struct span embedding; /* the model of the collections so far */
};

static void check_tool(void *ctx, struct span key, struct span v)
{
	struct parts *p = ctx;
	struct buf id = BUF_INIT(4000);
	const char *text = tasking_string(v, "id", &id);

	(void)key;
	p->n++;
	if (!p->good) {
		buf_release(&id);
		return;
	}
	p->good = false;
	if (tasking_says(tasking_member(v, "type"), "plugin") && !strchr(text, '/'))
		tasking_refuse(p->t, "Invalid plugin id: %.60s", text);
	else if (tasking_says(tasking_member(v, "type"), "plugin") && strncmp(text, "unknown", 7) == 0)
		tasking_unknown(p->t, "bundle", text);
	else if (tasking_says(tasking_member(v, "type"), "action") && !store_find(p->t->stub->store, ACTION, text))
		tasking_unknown(p->t, "action", text);
	else
		p->good = true;
	buf_release(&id);
}

static void check_retrieval(void *ctx, struct span key, struct span v)
{
	struct parts *p = ctx;
	struct buf id = BUF_INIT(4000);
	const char *text = tasking_string(v, "id", &id);
	struct object *collection = store_find(p->t->stub->store, COLLECTION, text);
	struct span model = collection ? object_get(collection, "embedding_model_id") : (struct span){0};

	(void)key;
	p->n++;
	if (p->good && !collection)
		tasking_unknown(p->t, "collection", text);
	else if (p->good && p->embedding.ptr &&
		 (p->embedding.len != model.len || memcmp(p->embedding.ptr, model.ptr, model.len) != 0))
		tasking_refuse(p->t, "All collections must have the same embedding model.");
	else if (p->good) {
		p->embedding = model;
		buf_release(&id);
		return;
	}
	p->good = false;
	buf_release(&id);
}

static bool assistant_makes_sense(struct tasking *t)
{
	struct span tools = future(t, "tools"), retrievals = future(t, "retrievals");
	struct span method = tasking_member(future(t, "retrieval_configs"), "method");
	struct parts p = {.t = t, .good = true}, q = {.t = t, .good = true};
	struct buf model = BUF_INIT(1000);
	bool calls;

	if (!model_is(t, "model_id", MODEL_CHAT, "chat completion"))
		return false;
	if (tools.ptr)
		(void)json_elements(tools, check_tool, &p);
	if (p.good && retrievals.ptr)
		(void)json_elements(retrievals, check_retrieval, &q);
	if (!p.good || !q.good)
		return false;
	(void)tasking_text(future(t, "model_id"), &model);
	calls = p.n > 0 || (q.n > 0 && tasking_says(method, "function_call"));
	if (calls && !tasking_can_call(buf_cstr(&model))) {
		tasking_refuse(t, "Model %s does not support function call.", buf_cstr(&model));
		p.good = false;
	}
	buf_release(&model);
	return p.good;
}

/* --- Creating and changing. -------------------------------------------------------------------------------- */

static bool makes_sense(struct tasking *t, enum kind kind)
{
	if (kind == ASSISTANT)
		return assistant_makes_sense(t);
	if (kind == COLLECTION && t->route->serve == tasking_create)
		return model_is(t, "embedding_model_id", MODEL_EMBEDDING, "text embedding");
	return true;
}

/* Letters of what a chat remembers. */
static size_t memory_letters(struct tasking *t, const struct object *chat)
{
	size_t n = 0;

	for (struct object *o = NULL; (o = tasking_next_message(t, chat, o));)
		n += json_points(tasking_member(object_get(o, "content"), "text"));
	return n;
}

/* What a new object is beyond its members. False: the answer is made, and if it is not to stay it is gone. */
static bool complete(struct tasking *t, struct object *o)
{
	if (o->kind == RECORD && !tasking_fill_record(t, o)) {
		store_delete(t->stub->store, o);
		return false;
	}
	if (o->kind == MESSAGE && memory_letters(t, o->parent) > MEMORY_LETTERS_MAX) { /* it stays (3.8) */
		tasking_error(t, 429, "RESOURCE_LIMIT_REACHED", "Chat memory exceeds %d characters.",
			      MEMORY_LETTERS_MAX);
		return false;
	}
	return true;
}

void tasking_create(struct tasking *t)
{
	struct object *o;

	if (!makes_sense(t, t->route->kind))
		return;
	o = tasking_add(t, t->route->kind, t->up);
	if (!o)
		return;
	keep_members(t, o, true);
	if (!complete(t, o))
		return;
	show(t, o);
	if (o->kind == RECORD) /* the hosted edition's is ready when it is looked at again */
		tasking_set_text(o, "status", "ready");
}

/* How many members the body changes. */
static size_t changes(struct tasking *t, enum kind kind)
{
	size_t n = 0;

	for (const struct member_row *m = kinds[kind].members; m->name; m++)
		n += is_taken(m) && tasking_member(t->body, m->name).ptr;
	return n;
}

/* Of the body; an empty one changes nothing in an assistant (2.4). */
static void keep_changes(struct tasking *t)
{
	struct span metadata = tasking_member(t->body, "metadata"), kept = object_get(t->up, "metadata");
	struct buf old = BUF_INIT(OBJECT_JSON_MAX);

	buf_add(&old, kept.ptr ? kept.ptr : "{}", kept.ptr ? kept.len : 2);
	keep_members(t, t->up, false);
	if (t->up->kind == ASSISTANT && metadata.ptr && !memchr(metadata.ptr, '"', metadata.len))
		tasking_set(t->up, "metadata", &old);
	buf_release(&old);
	t->up->updated_ms = clock_real_ms();
}

/* What a record says is cut anew, which takes a splitter (3.8). */
static bool record_can_change(struct tasking *t, bool *anew)
{
	*anew = tasking_member(t->body, "type").ptr || tasking_member(t->body, "title").ptr ||
		tasking_member(t->body, "content").ptr;
	if (tasking_says(object_get(t->up, "type"), "file"))
		tasking_refuse(t, "Record of type file cannot be updated.");
	else if (*anew && !tasking_member(t->body, "text_splitter").ptr)
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'text_splitter'");
	else
		return true;
	return false;
}

void tasking_update(struct tasking *t)
{
	enum kind kind = t->route->kind;
	bool anew = false;

	if (kinds[kind].needs_change && changes(t, kind) == 0) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "Update dict cannot be empty");
		return;
	}
	if (!makes_sense(t, kind) || (kind == RECORD && !record_can_change(t, &anew)))
		return;
	keep_changes(t);
	if (!anew || tasking_fill_record(t, t->up))
		show(t, t->up);
}

/* --- Messages. --------------------------------------------------------------------------------------------- */

struct object *tasking_add_message(struct tasking *t, struct object *chat, const char *role, const char *text)
{
	struct object *o = tasking_add(t, MESSAGE, chat);
	struct buf json = BUF_INIT(OBJECT_JSON_MAX);

	if (!o)
		return NULL;
	tasking_set_text(o, "role", role);
	buf_lit(&json, "{\"text\":");
	buf_json_cstr(&json, text);
	buf_char(&json, '}');
	tasking_set(o, "content", &json);
	buf_release(&json);
	return o;
}

void tasking_clean(struct tasking *t)
{
	struct object *o = tasking_add_message(t, t->up, "system", CONTEXT_CLEANED);

	if (o)
		show(t, o);
}
