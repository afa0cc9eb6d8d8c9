/* SPDX-License-Identifier: MIT
 *
 * Actions: an OpenAPI document becomes one for each path and method. They call nobody: a run gives back what it was
 * given, or what the directives want of its target. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "stub/tasking.h"

#define ACTION_TEXT_MAX (4UL * 1024 * 1024)
#define DESCRIPTION_MAX 512
#define NAME_MAX_LETTERS 128

static const struct field authentication_fields[] = {{"type", TEXT, REQUIRED, 0, 0, "none bearer basic custom", NULL},
						     {"secret", TEXT, OPTIONAL, 1, 1024, NULL, NULL},
						     {"content", BY_NAME, OPTIONAL, 0, 16, NULL, NULL},
						     {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};
const struct field tasking_action_fields[] = {{"openapi_schema", OBJECT, REQUIRED, 0, 0, NULL, NULL},
					      {"authentication", OBJECT, OPTIONAL, 0, 0, NULL, authentication_fields},
					      {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};
const struct field tasking_run_fields[] = {{"parameters", OBJECT, OPTIONAL, 0, 0, NULL, NULL},
					   {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};

/* --- Schema. ----------------------------------------------------------------------------------------------- */

/* A kind of authentication has what it needs. */
bool tasking_check_action(struct tasking *t)
{
	struct span how = tasking_member(t->body, "authentication"), type = tasking_member(how, "type");
	bool secret = tasking_says(type, "bearer") || tasking_says(type, "basic");

	if (secret && !tasking_member(how, "secret").ptr)
		tasking_invalid(t, "body/authentication/secret", "Field required");
	else if (tasking_says(type, "custom") && !tasking_member(how, "content").ptr)
		tasking_invalid(t, "body/authentication/content", "Field required");
	else
		return true;
	return false;
}

/* The validators run on an explicit null, too (2.4). */
bool tasking_check_action_update(struct tasking *t)
{
	static const char *const names[] = {"openapi_schema", "authentication"};
	char where[60];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct span v = schema_member(t->body, names[i]);

		if (!v.ptr || json_span_type(v) != JSON_NULL)
			continue;
		snprintf(where, sizeof where, "body/%s", names[i]);
		tasking_invalid(t, where, "Input should be a valid dictionary");
		return false;
	}
	return tasking_check_action(t);
}

/* --- Documents. -------------------------------------------------------------------------------------------- */

/* One operation of a document. */
struct operation {
	struct span path, method, says; /* path and method: between their quotes */
};

#define OPERATIONS_MAX 256

struct document {
	struct operation all[OPERATIONS_MAX];
	size_t n;
	struct span path;
	struct span server;
	size_t servers;
	char wrong[200]; /* empty: nothing */
};

static bool is_method(struct span key)
{
	static const char *const methods[] = {"get", "post", "put", "delete", "patch"};

	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		if (key.len == strlen(methods[i]) && strncasecmp(key.ptr, methods[i], key.len) == 0)
			return true;
	return false;
}

static void add_operation(void *ctx, struct span key, struct span value)
{
	struct document *d = ctx;

	if (is_method(key) && d->n < OPERATIONS_MAX)
		d->all[d->n++] = (struct operation){d->path, key, value};
}

static void add_path(void *ctx, struct span key, struct span value)
{
	struct document *d = ctx;

	d->path = key;
	(void)json_scan(value.ptr, value.len, NULL, add_operation, d);
}

static void add_server(void *ctx, struct span key, struct span value)
{
	struct document *d = ctx;

	(void)key;
	d->servers++;
	d->server = tasking_member(value, "url");
}

static bool is_identifier(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return !*s;
}

static void check_operation(struct document *d, const struct operation *o)
{
	struct buf id = BUF_INIT(ACTION_TEXT_MAX);
	const char *name = tasking_string(o->says, "operationId", &id);
	struct span description = tasking_member(o->says, "description"), summary = tasking_member(o->says, "summary");
	const char *wrong = NULL;

	if (!*name || strlen(name) > NAME_MAX_LETTERS || !is_identifier(name))
		wrong = "operationId";
	else if (!tasking_is(description, JSON_STRING) && !tasking_is(summary, JSON_STRING))
		wrong = "description";
	else if (description.ptr && json_points(description) > DESCRIPTION_MAX)
		wrong = "description of at most 512 characters";
	if (wrong && !*d->wrong)
		snprintf(d->wrong, sizeof d->wrong, "%.*s of path %.*s has no %s.", (int)o->method.len, o->method.ptr,
			 (int)(o->path.len < 60 ? o->path.len : 60), o->path.ptr, wrong);
	buf_release(&id);
}

/* False: the answer is made. */
static bool read_document(struct tasking *t, struct document *d)
{
	struct span schema = tasking_member(t->body, "openapi_schema"), servers = tasking_member(schema, "servers"),
		    paths = tasking_member(schema, "paths");

	*d = (struct document){.n = 0};
	if (tasking_is(servers, JSON_ARRAY))
		(void)json_elements(servers, add_server, d);
	if (tasking_is(paths, JSON_OBJECT))
		(void)json_scan(paths.ptr, paths.len, NULL, add_path, d);
	if (d->servers != 1 || !tasking_is(d->server, JSON_STRING))
		snprintf(d->wrong, sizeof d->wrong, "Exactly one server is required in action schema.");
	else if (d->n == 0)
		snprintf(d->wrong, sizeof d->wrong, "At least one path is required in action schema.");
	for (size_t i = 0; i < d->n; i++)
		check_operation(d, &d->all[i]);
	if (*d->wrong)
		tasking_refuse(t, "%s", d->wrong);
	return !*d->wrong;
}

/* --- One action. ------------------------------------------------------------------------------------------- */

static void add_snake(struct buf *out, const char *s)
{
	for (const char *p = s; *p; p++) {
		if (isupper((unsigned char)*p) && p > s && p[-1] != '_' && !isupper((unsigned char)p[-1]))
			buf_char(out, '_');
		buf_char(out, (char)tolower((unsigned char)*p));
	}
}

struct parameters {
	const char *in; /* which kind is wanted */
	struct buf properties, required;
};

static void add_parameter(void *ctx, struct span key, struct span value)
{
	struct parameters *p = ctx;
	struct span name = tasking_member(value, "name"), schema = tasking_member(value, "schema");

	(void)key;
	if (!tasking_says(tasking_member(value, "in"), p->in) || !tasking_is(name, JSON_STRING))
		return;
	buf_str_add(&p->properties, p->properties.len ? "," : "");
	buf_add(&p->properties, name.ptr, name.len);
	buf_char(&p->properties, ':');
	buf_add(&p->properties, schema.ptr ? schema.ptr : "{}", schema.ptr ? schema.len : 2);
	if (!tasking_true(value, "required"))
		return;
	buf_str_add(&p->required, p->required.len ? "," : "");
	buf_add(&p->required, name.ptr, name.len);
}

/* {"type":"object","properties":{…},"required":[…]}, or null where there are none. */
static void set_parameters(struct object *o, struct span says, const char *in, const char *member)
{
	struct parameters p = {in, BUF_INIT(ACTION_TEXT_MAX), BUF_INIT(ACTION_TEXT_MAX)};
	struct span list = tasking_member(says, "parameters");
	struct buf json = BUF_INIT(ACTION_TEXT_MAX);

	if (tasking_is(list, JSON_ARRAY))
		(void)json_elements(list, add_parameter, &p);
	if (p.properties.len > 0)
		buf_printf(&json, "{\"type\":\"object\",\"properties\":{%s},\"required\":[%s]}",
			   buf_cstr(&p.properties), buf_cstr(&p.required));
	else
		buf_lit(&json, "null");
	tasking_set(o, member, &json);
	buf_release(&json);
	buf_release(&p.properties);
	buf_release(&p.required);
}

static void set_body_schema(struct object *o, struct span says)
{
	struct span content = tasking_member(tasking_member(says, "requestBody"), "content");
	struct span json = tasking_member(tasking_member(content, "application/json"), "schema");
	struct span form = tasking_member(tasking_member(content, "application/x-www-form-urlencoded"), "schema");

	object_set(o, "body_param_schema", json.ptr ? json : form.ptr ? form : (struct span){"null", 4});
	tasking_set_text(o, "body_type", json.ptr ? "JSON" : form.ptr ? "FORM" : "NONE");
}

static void set_function(struct object *o)
{
	static const char *const parts[] = {"query_param_schema", "body_param_schema"};
	struct span name = object_get(o, "name"), description = object_get(o, "description"),
		    parameters = object_get(o, "path_param_schema");
	struct buf json = BUF_INIT(ACTION_TEXT_MAX);

	for (size_t i = 0; i < sizeof parts / sizeof *parts && !tasking_is(parameters, JSON_OBJECT); i++)
		parameters = object_get(o, parts[i]);
	buf_printf(&json, "{\"name\":%.*s,\"description\":%.*s,\"parameters\":", (int)name.len, name.ptr,
		   (int)description.len, description.ptr);
	if (tasking_is(parameters, JSON_OBJECT))
		buf_add(&json, parameters.ptr, parameters.len);
	else
		buf_lit(&json, "{\"type\":\"object\",\"properties\":{},\"required\":[]}");
	buf_char(&json, '}');
	tasking_set(o, "function_def", &json);
	buf_release(&json);
}

/* The document with this operation alone. */
static void set_document(struct tasking *t, struct object *o, const struct operation *of)
{
	struct span schema = tasking_member(t->body, "openapi_schema");
	struct buf json = BUF_INIT(ACTION_TEXT_MAX);

	(void)json_open_without(schema.ptr, schema.len, "paths", &json);
	while (json.len > 1 && (json.ptr[json.len - 1] == ',' || isspace((unsigned char)json.ptr[json.len - 1])))
		buf_cut(&json, json.len - 1);
	buf_printf(&json, "%s\"paths\":{\"%.*s\":{\"%.*s\":", json.len > 1 ? "," : "", (int)of->path.len, of->path.ptr,
		   (int)of->method.len, of->method.ptr);
	buf_add(&json, of->says.ptr, of->says.len);
	buf_lit(&json, "}}}");
	tasking_set(o, "openapi_schema", &json);
	buf_release(&json);
}

static void set_url(struct object *o, const struct document *d, const struct operation *of)
{
	struct buf url = BUF_INIT(ACTION_TEXT_MAX);

	buf_add(&url, d->server.ptr, d->server.len - 1);
	while (url.len > 1 && url.ptr[url.len - 1] == '/')
		buf_cut(&url, url.len - 1);
	buf_add(&url, of->path.ptr, of->path.len);
	buf_char(&url, '"');
	tasking_set(o, "url", &url);
	buf_release(&url);
}

static void set_operation(struct tasking *t, struct object *o, const struct document *d, const struct operation *of)
{
	struct buf text = BUF_INIT(ACTION_TEXT_MAX), name = BUF_INIT(ACTION_TEXT_MAX);
	char method[12];
	size_t n = of->method.len < sizeof method ? of->method.len : 0;

	for (size_t i = 0; i < n; i++)
		method[i] = (char)toupper((unsigned char)of->method.ptr[i]);
	method[n] = '\0';
	tasking_set_text(o, "operation_id", tasking_string(of->says, "operationId", &text));
	add_snake(&name, buf_cstr(&text));
	tasking_set_text(o, "name", buf_cstr(&name));
	if (!*tasking_string(of->says, "description", &text))
		(void)tasking_string(of->says, "summary", &text);
	tasking_set_text(o, "description", buf_cstr(&text));
	tasking_set_text(o, "method", method);
	set_url(o, d, of);
	set_parameters(o, of->says, "path", "path_param_schema");
	set_parameters(o, of->says, "query", "query_param_schema");
	set_body_schema(o, of->says);
	set_function(o);
	set_document(t, o, of);
	buf_release(&text);
	buf_release(&name);
}

/* --- Secrets. ---------------------------------------------------------------------------------------------- */

static void add_masked(struct buf *out, struct span text)
{
	struct buf plain = BUF_INIT(ACTION_TEXT_MAX), masked = BUF_INIT(ACTION_TEXT_MAX);

	(void)tasking_text(text, &plain);
	if (plain.len > 4)
		buf_printf(&masked, "%.2s****%s", buf_cstr(&plain), buf_cstr(&plain) + plain.len - 2);
	else
		buf_str_add(&masked, buf_cstr(&plain));
	buf_json_string(out, buf_cstr(&masked), masked.len);
	buf_release(&plain);
	buf_release(&masked);
}

static void add_masked_header(void *ctx, struct span key, struct span value)
{
	struct buf *out = ctx;

	buf_printf(out, "%s\"%.*s\":", out->ptr[out->len - 1] == '{' ? "" : ",", (int)key.len, key.ptr);
	add_masked(out, value);
}

/* As it is shown: nobody needs the secrets themselves. */
static void set_authentication(struct object *o, struct span how)
{
	struct span type = tasking_member(how, "type"), secret = tasking_member(how, "secret"),
		    content = tasking_member(how, "content");
	struct buf json = BUF_INIT(ACTION_TEXT_MAX);

	buf_lit(&json, "{\"encrypted\":false,\"type\":");
	buf_add(&json, type.ptr ? type.ptr : "\"none\"", type.ptr ? type.len : 6);
	buf_lit(&json, ",\"secret\":");
	if (secret.ptr)
		add_masked(&json, secret);
	else
		buf_lit(&json, "null");
	buf_lit(&json, ",\"content\":");
	if (content.ptr) {
		buf_char(&json, '{');
		(void)json_scan(content.ptr, content.len, NULL, add_masked_header, &json);
		buf_char(&json, '}');
	} else {
		buf_lit(&json, "null");
	}
	buf_char(&json, '}');
	tasking_set(o, "authentication", &json);
	buf_release(&json);
}

/* --- Routes. ----------------------------------------------------------------------------------------------- */

void tasking_bulk_create(struct tasking *t)
{
	struct buf all = BUF_INIT(64 * ACTION_TEXT_MAX);
	struct document d;
	struct object *o = NULL;

	if (!read_document(t, &d))
		return;
	buf_char(&all, '[');
	for (size_t i = 0; i < d.n && (o = tasking_add(t, ACTION, NULL)); i++) {
		set_authentication(o, tasking_member(t->body, "authentication"));
		set_operation(t, o, &d, &d.all[i]);
		buf_str_add(&all, i ? "," : "");
		tasking_write(t, &all, o, NULL);
	}
	buf_char(&all, ']');
	if (o)
		tasking_show(t, &all);
	buf_release(&all);
}

void tasking_update_action(struct tasking *t)
{
	struct span schema = tasking_member(t->body, "openapi_schema"), how = tasking_member(t->body, "authentication");
	struct buf json = BUF_INIT(ACTION_TEXT_MAX * 2);
	struct document d;

	if (!schema.ptr && !how.ptr) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "Update dict cannot be empty");
		return;
	}
	if (schema.ptr && !read_document(t, &d))
		return;
	if (schema.ptr && d.n != 1) {
		tasking_refuse(t, "Exactly one path and one method are required to update an action.");
		return;
	}
	if (schema.ptr)
		set_operation(t, t->up, &d, &d.all[0]);
	if (how.ptr)
		set_authentication(t->up, how);
	t->up->updated_ms = clock_real_ms();
	tasking_write(t, &json, t->up, NULL);
	tasking_show(t, &json);
	buf_release(&json);
}

static bool has_parameters(const struct object *o)
{
	return tasking_is(object_get(o, "path_param_schema"), JSON_OBJECT) ||
	       tasking_is(object_get(o, "query_param_schema"), JSON_OBJECT) ||
	       tasking_is(object_get(o, "body_param_schema"), JSON_OBJECT);
}

static bool target_is(const struct tasking *t, const char *how)
{
	return words_are(t->d.target, how);
}

/* The outcome is nested in a success (section 10). */
static void write_outcome(struct tasking *t, struct span parameters)
{
	struct buf *out = &t->a->body;
	int64_t status = t->d.target_status > 0 ? t->d.target_status : 200;

	if (target_is(t, "unreachable"))
		buf_lit(out, "{\"status\":500,\"error\":{\"error\":\"Failed to make the API call\"}}");
	else if (target_is(t, "too_large"))
		buf_printf(out, "{\"status\":%" PRId64 ",\"data\":{\"error\":\"The response is too large.\"}}", status);
	else if (status != 200)
		buf_printf(out,
			   "{\"status\":%" PRId64 ",\"data\":{\"error\":\"API call failed with status %" PRId64
			   ": stub\"}}",
			   status, status);
	else if (target_is(t, "text"))
		buf_lit(out, "{\"status\":200,\"data\":{\"result\":\"The stub's text.\"}}");
	else {
		buf_lit(out, "{\"status\":200,\"data\":{\"parameters\":");
		if (parameters.ptr)
			tasking_add_json(out, parameters);
		else
			buf_lit(out, "{}");
		buf_lit(out, "}}");
	}
}

void tasking_run(struct tasking *t)
{
	struct span parameters = tasking_member(t->body, "parameters");

	if (!parameters.ptr && has_parameters(t->up)) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "argument of type 'NoneType' is not iterable");
		return;
	}
	tasking_open(t);
	write_outcome(t, parameters);
	tasking_close(t);
}
