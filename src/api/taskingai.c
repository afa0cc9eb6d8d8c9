/* SPDX-License-Identifier: MIT
 *
 * TaskingAI: a job's operation and params become a request (taskingai-api.md, sections 1 and 2). All that differs between operations is in their
 * rows (job/operation.c). Values go on as the text they came as: numbers beyond 2^53, 1e-7 and escapes stay what they were. */
#include "api/taskingai.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/operation.h"

#define PATH_MAX_BYTES (48UL * 1024) /* with the query; servers take far less */

struct taskingai {
	const struct settings *settings;
	struct http_target *target; /* NULL: no key */
};

struct taskingai *taskingai_new(const struct settings *s, struct error *err)
{
	struct taskingai *t = calloc(1, sizeof *t);
	char key[4200];
	const char *headers[] = {key, "Accept: application/json", "User-Agent: adwuma/" ADWUMA_VERSION, NULL};

	if (!t) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	t->settings = s;
	if (!s->taskingai_api_key)
		return t;
	snprintf(key, sizeof key, "Authorization: Bearer %s", s->taskingai_api_key);
	t->target = http_target_new(s->taskingai_host, headers, strncmp(s->taskingai_host, "https://", 8) == 0, err);
	explicit_bzero(key, sizeof key);
	if (!t->target) {
		taskingai_free(t);
		return NULL;
	}
	return t;
}

void taskingai_free(struct taskingai *t)
{
	if (!t)
		return;
	http_target_free(t->target);
	free(t);
}

/* --- Path and query. ---------------------------------------------------------------------------------------------------- */

static void add_encoded(struct buf *to, struct span v)
{
	struct buf plain = BUF_INIT(v.len);
	int64_t n;

	if (json_span_type(v) == JSON_STRING && json_span_string(v, &plain))
		http_encode(to, buf_cstr(&plain), plain.len);
	else if (json_span_int(v, &n)) /* 2e1 is an integer to JSON, but not in a query */
		buf_int(to, n);
	else
		buf_add(to, v.ptr, v.len);
	to->failed = to->failed || plain.failed;
	buf_release(&plain);
}

/* What is sent for it: the job's value, or the default. ptr NULL: nothing is. */
static struct span value_of(const struct param *p, struct span v)
{
	if (!v.ptr && p->otherwise)
		return (struct span){p->otherwise, strlen(p->otherwise)};
	return v;
}

static void add_path(const struct operation *op, const struct span *values, struct buf *to)
{
	size_t next = 0; /* rows list path params first, in the order of the path */

	for (const char *p = op->path; *p; p++) {
		if (*p != '{') {
			buf_char(to, *p);
			continue;
		}
		add_encoded(to, values[next++]);
		p = strchr(p, '}');
	}
}

static void add_query(const struct operation *op, const struct span *values, struct buf *to)
{
	for (size_t i = 0; op->params[i].name; i++) {
		const struct param *p = &op->params[i];
		struct span v = value_of(p, values[i]);

		if (p->place != PARAM_QUERY || !v.ptr)
			continue;
		buf_printf(to, "%s%s=", to->len > 0 ? "&" : "", p->name);
		add_encoded(to, v);
	}
}

/* --- Body. -------------------------------------------------------------------------------------------------------------- */

static void add_body(const struct operation *op, const struct span *values, struct buf *to)
{
	const char *comma = "";

	buf_char(to, '{');
	if (op->constant) {
		buf_str_add(to, op->constant);
		comma = ",";
	}
	for (size_t i = 0; op->params[i].name; i++) {
		const struct param *p = &op->params[i];
		struct span v = value_of(p, values[i]);

		if (p->place != PARAM_BODY || !v.ptr)
			continue;
		buf_str_add(to, comma);
		if (p->inside)
			buf_printf(to, "\"%s\":{", p->inside);
		buf_printf(to, "\"%s\":", p->name);
		buf_add(to, v.ptr, v.len);
		buf_str_add(to, p->inside ? "}" : "");
		comma = ",";
	}
	buf_char(to, '}');
}

/* The value of a param of kind PARAM_FILE, decoded; "" where it is absent. */
static void add_plain(const struct operation *op, const struct span *values, const char *name, struct buf *to)
{
	for (size_t i = 0; op->params[i].name; i++) {
		struct span v = value_of(&op->params[i], values[i]);

		if (strcmp(op->params[i].name, name) == 0 && v.ptr && !json_span_string(v, to))
			to->failed = true;
	}
}

/* A name of its own, or the last part of its path. The file itself is opened by the caller. */
static void set_form(const struct operation *op, const struct span *values, struct call *call)
{
	struct buf *names = &call->names;
	size_t name = 0, purpose;

	add_plain(op, values, "file_name", names);
	if (names->len == 0)
		add_plain(op, values, "file_path", names);
	buf_char(names, '\0');
	purpose = names->len;
	add_plain(op, values, "purpose", names);
	if (names->failed)
		return;
	if (strrchr(names->ptr, '/'))
		name = (size_t)(strrchr(names->ptr, '/') + 1 - names->ptr);
	call->form = (struct http_form){.file_field = "file",
					.file_name = names->ptr + name,
					.field = "purpose",
					.value = names->ptr + purpose};
	call->wants_audio = true;
	call->request.form = &call->form;
}

static bool takes(const struct operation *op, enum param_place place)
{
	for (const struct param *p = op->params; p->name; p++)
		if (p->place == place)
			return true;
	return false;
}

int taskingai_build(const struct taskingai *t, struct job *job, struct call *call, struct outcome *out)
{
	const struct operation *op = operation_of(job);
	struct span values[OPERATION_PARAMS_MAX];

	if (!t->target) { /* wins over every other check, as with Khaya */
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "AuthenticationError", 401, "API key is required");
		return -1;
	}
	operation_values(job, values);
	call->path.max = call->query.max = PATH_MAX_BYTES;
	add_path(op, values, &call->path);
	add_query(op, values, &call->query);
	call->request.target = t->target;
	call->request.method = op->method;
	call->request.max_response_bytes = (size_t)t->settings->max_response_bytes;
	call->units.n[UNIT_REQUEST] = 1;
	if (takes(op, PARAM_FILE)) {
		set_form(op, values, call);
	} else if (strcmp(op->method, "POST") == 0) {
		add_body(op, values, &call->body);
		call_add_header(call, "Content-Type: application/json");
	}
	if (job_streams(job)) {
		call->stream.wanted = true;
		call->sink = (struct http_sink){.write = stream_write, .idle = stream_idle, .ctx = &call->stream};
		call->request.sink = &call->sink;
	}
	if (call->path.failed || call->query.failed) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "InvalidJobError", 0,
			  "the params that go into the URL are longer than %lu bytes", PATH_MAX_BYTES);
		return -1;
	}
	if (call->body.failed || call->names.failed) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "TaskingAIError", 0, "out of memory for the request");
		return -1;
	}
	call->request.path = call->path.ptr;
	call->request.query = call->query.len > 0 ? call->query.ptr : NULL;
	call->request.body = call->body.len > 0 ? call->body.ptr : NULL;
	call->request.body_len = call->body.len;
	return 0;
}
