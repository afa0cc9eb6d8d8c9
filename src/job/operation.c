/* SPDX-License-Identifier: MIT
 *
 * See operation.h. Rows follow taskingai-api.md, section 4; defaults are those that the SDK sends and a server needs or takes. What is optional
 * and has no default is left out of a request, never sent as null (2.4). */
#include "job/operation.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define SHOWN_MAX 60	       /* bytes of the producer's value in a message */
#define ASSISTANT_ID_POINTS 24 /* a model's id has 8 (6.1) */
#define TIMEOUT_MS 310000      /* the server gives up after 300 s by itself, and says why (1.5) */

/* --- Rows. -------------------------------------------------------------------------------------------------------------- */

#define PATH_ID(n)                                                                                                     \
	{                                                                                                              \
		n, PARAM_PATH, PARAM_ID, true, NULL, NULL                                                              \
	}
#define BODY(n, k)                                                                                                     \
	{                                                                                                              \
		n, PARAM_BODY, k, false, NULL, NULL                                                                    \
	}
#define NEEDED(n, k)                                                                                                   \
	{                                                                                                              \
		n, PARAM_BODY, k, true, NULL, NULL                                                                     \
	}
#define DEFAULT(n, k, json)                                                                                            \
	{                                                                                                              \
		n, PARAM_BODY, k, false, json, NULL                                                                    \
	}
#define INSIDE(n, k, member)                                                                                           \
	{                                                                                                              \
		n, PARAM_BODY, k, true, NULL, member                                                                   \
	}
/* The query of every list (3.2), at the same places in all of them: the last four. */
#define PAGE                                                                                                           \
	{"order", PARAM_QUERY, PARAM_STRING, false, "\"desc\"", NULL},                                                 \
		{"limit", PARAM_QUERY, PARAM_INTEGER, false, "20", NULL},                                              \
		{"after", PARAM_QUERY, PARAM_ID, false, NULL, NULL},                                                   \
	{                                                                                                              \
		"before", PARAM_QUERY, PARAM_ID, false, NULL, NULL                                                     \
	}
#define END                                                                                                            \
	{                                                                                                              \
		NULL, PARAM_BODY, PARAM_STRING, false, NULL, NULL                                                      \
	}
#define PARAMS(...) ((const struct param[]){__VA_ARGS__, END})

static const char BOTH_CURSORS[] = "params.after and params.before exclude each other";

static const char *check_page(const struct span *v)
{
	return v[2].ptr && v[3].ptr ? BOTH_CURSORS : NULL;
}

static const char *check_page_below(const struct span *v)
{
	return check_page(v + 1);
}

static const char *check_page_below_two(const struct span *v)
{
	return check_page(v + 2);
}

static bool is_text(struct span v, const char *text)
{
	struct buf plain = BUF_INIT(v.len);
	bool is = v.ptr && json_span_type(v) == JSON_STRING && json_span_string(v, &plain) &&
		  strcmp(buf_cstr(&plain), text) == 0;

	buf_release(&plain);
	return is;
}

static bool is_empty(struct span v)
{
	return !v.ptr || v.len <= 2;
}

/* type, file_id, url, title, content: what the SDK refuses by itself (4.5). */
static const char *check_record_fields(const struct span *v)
{
	if (is_text(v[0], "text") && is_empty(v[4]))
		return "params.content is missing or empty: a record of type text needs it";
	if (is_text(v[0], "file") && is_empty(v[1]))
		return "params.file_id is missing or empty: a record of type file needs it";
	if (is_text(v[0], "web") && (is_empty(v[2]) || v[2].len < 10 || strncmp(v[2].ptr + 1, "https://", 8) != 0))
		return "params.url must be there and begin with https:// for a record of type web";
	return NULL;
}

static const char *check_record(const struct span *v)
{
	return check_record_fields(v + 1);
}

static const char *check_record_update(const struct span *v)
{
	return check_record_fields(v + 2);
}

/* file_path, file_key, file_base64, file_name, purpose */
static const char *check_upload(const struct span *v)
{
	int sources = (v[0].ptr != NULL) + (v[1].ptr != NULL) + (v[2].ptr != NULL);

	if (sources != 1)
		return "exactly one of params.file_path, params.file_key and params.file_base64 is needed";
	if (!v[0].ptr && !v[3].ptr)
		return "params.file_name is missing: params.file_key and params.file_base64 have none of their own";
	if (v[4].ptr && !is_text(v[4], "record_file") && !is_text(v[4], "qa_record_file"))
		return "params.purpose must be record_file or qa_record_file";
	return NULL;
}

#define RETRIEVAL_CONFIGS                                                                                              \
	"{\"top_k\":3,\"method\":\"user_message\"}" /* the SDK's default without its nulls; C wants it */

#define ASSISTANT_FIELDS                                                                                               \
	BODY("name", PARAM_STRING), BODY("description", PARAM_STRING), BODY("system_prompt_template", PARAM_STRINGS),  \
		BODY("tools", PARAM_OBJECTS), BODY("retrievals", PARAM_OBJECTS)

#define RECORD_FIELDS                                                                                                  \
	BODY("file_id", PARAM_STRING), BODY("url", PARAM_STRING), BODY("title", PARAM_STRING),                         \
		BODY("content", PARAM_STRING), BODY("text_splitter", PARAM_OBJECT), BODY("metadata", PARAM_OBJECT)

#define ROW(n, m, p, a, r, ...)                                                                                        \
	{                                                                                                              \
		.type = {JOB_TASKINGAI, OPERATION_PREFIX n, "taskingai", JOB_PARAMS_BIT, TIMEOUT_MS}, .method = m,     \
		.path = p, .answer = a, .repeat = r, __VA_ARGS__                                                       \
	}
#define JOB_PARAMS_BIT (1ULL << JOB_PARAMS)

#define ASSISTANTS "/v1/assistants"
#define CHATS ASSISTANTS "/{assistant_id}/chats"
#define MESSAGES CHATS "/{chat_id}/messages"
#define COLLECTIONS "/v1/collections"
#define RECORDS COLLECTIONS "/{collection_id}/records"
#define CHUNKS COLLECTIONS "/{collection_id}/chunks"
#define ACTIONS "/v1/actions"

static const struct operation operations[] = {
	ROW("list_assistants", "GET", ASSISTANTS, ANSWER_LIST, REPEAT_FREELY, .params = PARAMS(PAGE),
	    .check = check_page),
	ROW("get_assistant", "GET", ASSISTANTS "/{assistant_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"))),
	ROW("create_assistant", "POST", ASSISTANTS, ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(NEEDED("model_id", PARAM_ID), NEEDED("memory", PARAM_OBJECT), ASSISTANT_FIELDS,
			     DEFAULT("retrieval_configs", PARAM_OBJECT, RETRIEVAL_CONFIGS),
			     BODY("metadata", PARAM_OBJECT))),
	ROW("update_assistant", "POST", ASSISTANTS "/{assistant_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params =
		    PARAMS(PATH_ID("assistant_id"), BODY("model_id", PARAM_ID), BODY("memory", PARAM_OBJECT),
			   ASSISTANT_FIELDS, BODY("retrieval_configs", PARAM_OBJECT), BODY("metadata", PARAM_OBJECT))),
	ROW("delete_assistant", "DELETE", ASSISTANTS "/{assistant_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("assistant_id"))),

	ROW("list_chats", "GET", CHATS, ANSWER_LIST, REPEAT_FREELY, .params = PARAMS(PATH_ID("assistant_id"), PAGE),
	    .check = check_page_below),
	ROW("get_chat", "GET", CHATS "/{chat_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"))),
	ROW("create_chat", "POST", CHATS, ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(PATH_ID("assistant_id"), BODY("name", PARAM_STRING), BODY("metadata", PARAM_OBJECT))),
	ROW("update_chat", "POST", CHATS "/{chat_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"), BODY("name", PARAM_STRING),
			     BODY("metadata", PARAM_OBJECT))),
	ROW("delete_chat", "DELETE", CHATS "/{chat_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"))),
	ROW("clean_chat_context", "POST", CHATS "/{chat_id}/clean_context", ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"))),

	ROW("list_messages", "GET", MESSAGES, ANSWER_LIST, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"), PAGE), .check = check_page_below_two),
	ROW("get_message", "GET", MESSAGES "/{message_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"), PATH_ID("message_id"))),
	ROW("create_message", "POST", MESSAGES, ANSWER_OBJECT, REPEAT_NEVER, .constant = "\"role\":\"user\"",
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"), INSIDE("text", PARAM_STRING, "content"),
			     DEFAULT("metadata", PARAM_OBJECT, "{}"))),
	ROW("update_message", "POST", MESSAGES "/{message_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"), PATH_ID("message_id"),
			     NEEDED("metadata", PARAM_OBJECT))),
	ROW("generate_message", "POST", CHATS "/{chat_id}/generate", ANSWER_OBJECT, REPEAT_NEVER, .streams = true,
	    .params = PARAMS(PATH_ID("assistant_id"), PATH_ID("chat_id"),
			     DEFAULT("system_prompt_variables", PARAM_STRING_MAP, "{}"),
			     DEFAULT("stream", PARAM_BOOL, "false"), DEFAULT("debug", PARAM_BOOL, "false"))),

	ROW("list_collections", "GET", COLLECTIONS, ANSWER_LIST, REPEAT_FREELY, .params = PARAMS(PAGE),
	    .check = check_page),
	ROW("get_collection", "GET", COLLECTIONS "/{collection_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"))),
	ROW("create_collection", "POST", COLLECTIONS, ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(NEEDED("embedding_model_id", PARAM_ID), DEFAULT("capacity", PARAM_INTEGER, "1000"),
			     BODY("name", PARAM_STRING), DEFAULT("type", PARAM_STRING, "\"text\""),
			     BODY("description", PARAM_STRING), BODY("metadata", PARAM_OBJECT))),
	ROW("update_collection", "POST", COLLECTIONS "/{collection_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), BODY("name", PARAM_STRING), BODY("description", PARAM_STRING),
			     BODY("metadata", PARAM_OBJECT))),
	ROW("delete_collection", "DELETE", COLLECTIONS "/{collection_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("collection_id"))),

	ROW("list_records", "GET", RECORDS, ANSWER_LIST, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), PAGE), .check = check_page_below),
	ROW("get_record", "GET", RECORDS "/{record_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("record_id"))),
	ROW("create_record", "POST", RECORDS, ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(PATH_ID("collection_id"), NEEDED("type", PARAM_ID), RECORD_FIELDS), .check = check_record),
	ROW("update_record", "POST", RECORDS "/{record_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("record_id"), BODY("type", PARAM_STRING), RECORD_FIELDS),
	    .check = check_record_update),
	ROW("delete_record", "DELETE", RECORDS "/{record_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("record_id"))),

	ROW("query_chunks", "POST", CHUNKS "/query", ANSWER_LIST, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), NEEDED("query_text", PARAM_STRING),
			     DEFAULT("top_k", PARAM_INTEGER, "3"), BODY("score_threshold", PARAM_NUMBER),
			     BODY("max_tokens", PARAM_INTEGER), BODY("rerank_model_id", PARAM_ID))),
	ROW("list_chunks", "GET", CHUNKS, ANSWER_LIST, REPEAT_FREELY, .params = PARAMS(PATH_ID("collection_id"), PAGE),
	    .check = check_page_below),
	ROW("get_chunk", "GET", CHUNKS "/{chunk_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("chunk_id"))),
	ROW("create_chunk", "POST", CHUNKS, ANSWER_OBJECT, REPEAT_NEVER,
	    .params =
		    PARAMS(PATH_ID("collection_id"), NEEDED("content", PARAM_STRING), BODY("metadata", PARAM_OBJECT))),
	ROW("update_chunk", "POST", CHUNKS "/{chunk_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("chunk_id"), BODY("content", PARAM_STRING),
			     BODY("metadata", PARAM_OBJECT))),
	ROW("delete_chunk", "DELETE", CHUNKS "/{chunk_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("collection_id"), PATH_ID("chunk_id"))),

	ROW("chat_completion", "POST", "/v1/inference/chat_completion", ANSWER_OBJECT, REPEAT_NOT_BY_ASSISTANT,
	    .streams = true,
	    .params = PARAMS(NEEDED("model_id", PARAM_ID), NEEDED("messages", PARAM_MESSAGES),
			     BODY("configs", PARAM_OBJECT), BODY("function_call", PARAM_STRING),
			     BODY("functions", PARAM_OBJECTS), DEFAULT("stream", PARAM_BOOL, "false"))),
	ROW("text_embedding", "POST", "/v1/inference/text_embedding", ANSWER_VECTORS, REPEAT_FREELY,
	    .params = PARAMS(NEEDED("model_id", PARAM_ID), NEEDED("input", PARAM_TEXTS),
			     BODY("input_type", PARAM_STRING))),
	ROW("rerank", "POST", "/v1/inference/rerank", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(NEEDED("model_id", PARAM_ID), NEEDED("query", PARAM_STRING),
			     NEEDED("documents", PARAM_STRINGS), NEEDED("top_n", PARAM_INTEGER))),

	ROW("upload_file", "POST", "/v1/files", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS({"file_path", PARAM_FILE, PARAM_ID, false, NULL, NULL},
			     {"file_key", PARAM_FILE, PARAM_ID, false, NULL, NULL},
			     {"file_base64", PARAM_FILE, PARAM_STRING, false, NULL, NULL},
			     {"file_name", PARAM_FILE, PARAM_ID, false, NULL, NULL},
			     {"purpose", PARAM_FILE, PARAM_STRING, false, "\"record_file\"", NULL}),
	    .check = check_upload),

	ROW("list_actions", "GET", ACTIONS, ANSWER_LIST, REPEAT_FREELY, .params = PARAMS(PAGE), .check = check_page),
	ROW("get_action", "GET", ACTIONS "/{action_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("action_id"))),
	ROW("bulk_create_actions", "POST", ACTIONS "/bulk_create", ANSWER_LIST, REPEAT_NEVER,
	    .params = PARAMS(NEEDED("openapi_schema", PARAM_OBJECT), BODY("authentication", PARAM_OBJECT))),
	ROW("update_action", "POST", ACTIONS "/{action_id}", ANSWER_OBJECT, REPEAT_FREELY,
	    .params = PARAMS(PATH_ID("action_id"), BODY("openapi_schema", PARAM_OBJECT),
			     BODY("authentication", PARAM_OBJECT))),
	ROW("delete_action", "DELETE", ACTIONS "/{action_id}", ANSWER_EMPTY, REPEAT_DELETE,
	    .params = PARAMS(PATH_ID("action_id"))),
	ROW("run_action", "POST", ACTIONS "/{action_id}/run", ANSWER_OBJECT, REPEAT_NEVER,
	    .params = PARAMS(PATH_ID("action_id"), DEFAULT("parameters", PARAM_OBJECT, "{}"))),
};

#define OPERATIONS (sizeof operations / sizeof *operations)

/* --- Looking up. -------------------------------------------------------------------------------------------------------- */

const struct operation *operation_find(const char *name, size_t len)
{
	const size_t prefix = sizeof OPERATION_PREFIX - 1;

	if (len <= prefix || memcmp(name, OPERATION_PREFIX, prefix) != 0)
		return NULL;
	for (size_t i = 0; i < OPERATIONS; i++)
		if (strlen(operations[i].type.name) == len && memcmp(operations[i].type.name, name, len) == 0)
			return &operations[i];
	return NULL;
}

const struct operation *operation_of(const struct job *job)
{
	return job->type && job->type->kind == JOB_TASKINGAI ? (const struct operation *)(const void *)job->type : NULL;
}

const struct operation *operation_at(size_t i)
{
	return i < OPERATIONS ? &operations[i] : NULL;
}

const char *operation_kind_name(enum param_kind kind)
{
	static const char *const names[] = {
		[PARAM_STRING] = "string",
		[PARAM_ID] = "non-empty string",
		[PARAM_INTEGER] = "integer",
		[PARAM_NUMBER] = "number",
		[PARAM_BOOL] = "true or false",
		[PARAM_OBJECT] = "object",
		[PARAM_STRING_MAP] = "object of strings",
		[PARAM_STRINGS] = "array of strings",
		[PARAM_OBJECTS] = "array of objects",
		[PARAM_MESSAGES] = "non-empty array of objects",
		[PARAM_TEXTS] = "string or array of strings",
	};

	return names[kind];
}

/* --- Params. ------------------------------------------------------------------------------------------------------------ */

struct reading {
	const struct operation *op;
	struct span *values;
	struct span unknown; /* the first key that the operation does not take */
};

static size_t param_at(const struct operation *op, struct span key)
{
	size_t i = 0;

	while (op->params[i].name && !json_key_is(key, op->params[i].name))
		i++;
	return i;
}

/* The last of several counts, as in most readers; null is absent. */
static void collect(void *ctx, struct span key, struct span value)
{
	struct reading *r = ctx;
	size_t i = param_at(r->op, key);

	if (r->op->params[i].name)
		r->values[i] = json_span_type(value) == JSON_NULL ? (struct span){0} : value;
	else if (!r->unknown.ptr)
		r->unknown = key;
}

static void read_params(const struct job *job, struct reading *r)
{
	struct span params = job->field[JOB_PARAMS];

	memset(r->values, 0, OPERATION_PARAMS_MAX * sizeof *r->values);
	if (params.ptr)
		(void)json_scan(params.ptr, params.len, NULL, collect, r);
}

void operation_values(const struct job *job, struct span values[OPERATION_PARAMS_MAX])
{
	struct reading r = {.op = operation_of(job), .values = values};

	read_params(job, &r);
}

struct span operation_value(const struct job *job, const char *name)
{
	const struct operation *op = operation_of(job);
	struct span values[OPERATION_PARAMS_MAX];
	size_t i = 0;

	if (!op)
		return (struct span){0};
	operation_values(job, values);
	while (op->params[i].name && strcmp(op->params[i].name, name) != 0)
		i++;
	return op->params[i].name ? values[i] : (struct span){0};
}

struct elements {
	enum json_type wanted;
	bool all;
	size_t n;
};

static void look_at_element(void *ctx, struct span key, struct span value)
{
	struct elements *e = ctx;

	(void)key;
	e->n++;
	e->all &= json_span_type(value) == e->wanted;
}

static bool is_array_of(struct span v, enum json_type wanted, size_t at_least)
{
	struct elements e = {.wanted = wanted, .all = true};

	if (json_span_type(v) != JSON_ARRAY)
		return false;
	(void)json_elements(v, look_at_element, &e);
	return e.all && e.n >= at_least;
}

static bool is_map_of_strings(struct span v)
{
	struct elements e = {.wanted = JSON_STRING, .all = true};

	if (json_span_type(v) != JSON_OBJECT)
		return false;
	(void)json_scan(v.ptr, v.len, NULL, look_at_element, &e);
	return e.all;
}

static bool fits(struct span v, enum param_kind kind)
{
	int64_t n;

	switch (kind) {
	case PARAM_STRING:
		return json_span_type(v) == JSON_STRING;
	case PARAM_ID:
		return json_span_type(v) == JSON_STRING && v.len > 2;
	case PARAM_INTEGER:
		return json_span_int(v, &n);
	case PARAM_NUMBER:
		return json_span_type(v) == JSON_NUMBER;
	case PARAM_BOOL:
		return json_span_type(v) == JSON_BOOL;
	case PARAM_OBJECT:
		return json_span_type(v) == JSON_OBJECT;
	case PARAM_STRING_MAP:
		return is_map_of_strings(v);
	case PARAM_STRINGS:
		return is_array_of(v, JSON_STRING, 0);
	case PARAM_OBJECTS:
		return is_array_of(v, JSON_OBJECT, 0);
	case PARAM_MESSAGES:
		return is_array_of(v, JSON_OBJECT, 1);
	case PARAM_TEXTS:
		return json_span_type(v) == JSON_STRING || is_array_of(v, JSON_STRING, 0);
	}
	return false;
}

static int shown(struct span v)
{
	return (int)utf8_cut(v.ptr, v.len, SHOWN_MAX);
}

static void list_names(const struct operation *op, struct buf *out)
{
	for (const struct param *p = op->params; p->name; p++)
		buf_printf(out, "%s%s", p == op->params ? "" : ", ", p->name);
}

static int refuse_unknown(const struct operation *op, struct span key, struct fault *fault)
{
	struct buf names = BUF_INIT(FAULT_MESSAGE_MAX / 2);

	list_names(op, &names);
	fault_set(fault, "InvalidJobError", 0, "params.%.*s is unknown to %s, which takes %s", shown(key), key.ptr,
		  op->type.name, buf_cstr(&names));
	buf_release(&names);
	return -1;
}

/* What goes into a URL, a form or the name of a file must be text as such. */
static bool is_plain(const struct param *p, struct span v)
{
	struct buf plain = BUF_INIT(v.len);
	bool is = true;

	if (p->place != PARAM_BODY && json_span_type(v) == JSON_STRING && memchr(v.ptr, '\\', v.len))
		is = !json_span_has_nul(v) && json_span_string(v, &plain) && !plain.failed;
	buf_release(&plain);
	return is;
}

/* In a path these would lead elsewhere, however they are encoded. */
static bool is_dots(const struct param *p, struct span v)
{
	return p->place == PARAM_PATH && (is_text(v, ".") || is_text(v, ".."));
}

static int check_param(const struct operation *op, const struct param *p, struct span v, struct fault *fault)
{
	const char *kind = operation_kind_name(p->kind);

	if (!v.ptr && p->required)
		fault_set(fault, "InvalidJobError", 0, "params.%s is missing: %s needs it, %s", p->name, op->type.name,
			  kind);
	else if (v.ptr && !fits(v, p->kind))
		fault_set(fault, "InvalidJobError", 0, "params.%s must be %s, got %.*s%s", p->name, kind, shown(v),
			  v.ptr, v.len > SHOWN_MAX ? "…" : "");
	else if (v.ptr && !is_plain(p, v))
		fault_set(fault, "InvalidJobError", 0,
			  "params.%s must be Unicode text without lone surrogates and the character U+0000", p->name);
	else if (v.ptr && is_dots(p, v))
		fault_set(fault, "InvalidJobError", 0, "params.%s must not be . or ..", p->name);
	else
		return 0;
	return -1;
}

int operation_check(const struct job *job, struct fault *fault)
{
	const struct operation *op = operation_of(job);
	struct span values[OPERATION_PARAMS_MAX];
	struct reading r = {.op = op, .values = values};
	const char *wrong;

	read_params(job, &r);
	if (r.unknown.ptr)
		return refuse_unknown(op, r.unknown, fault);
	for (size_t i = 0; op->params[i].name; i++)
		if (check_param(op, &op->params[i], values[i], fault))
			return -1;
	wrong = op->check ? op->check(values) : NULL;
	if (wrong)
		fault_set(fault, "InvalidJobError", 0, "%s", wrong);
	return wrong ? -1 : 0;
}

bool operation_holds(const struct job *job)
{
	const struct operation *op = operation_of(job);
	struct span id;

	if (!op || op->repeat == REPEAT_FREELY || op->repeat == REPEAT_DELETE)
		return false;
	if (op->repeat == REPEAT_NEVER)
		return true;
	id = operation_value(job, "model_id");
	return id.ptr && json_span_type(id) == JSON_STRING && json_points(id) == ASSISTANT_ID_POINTS;
}
