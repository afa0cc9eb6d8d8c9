/* SPDX-License-Identifier: MIT
 *
 * See catalogue.h. The three services give their lists three shapes; an older or a later server gives another's. So a list is taken in
 * whatever shape it comes, and what has no code or no speaker in it is left out. */
#include "api/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "api/khaya.h"

#define PATHS_MAX 2

/* Not every version has a catalogue: then the first of them speaks for all. */
static const struct kind {
	enum job_kind service;
	const char *member; /* of the body: the list */
	bool name_first;    /* as an object the list has names for keys, codes for values */
	struct {
		const char *version, *path;
	} paths[PATHS_MAX];
} kinds[CATALOGUES] = {
	[CATALOGUE_TRANSLATE] = {JOB_TRANSLATE, "languages", false, {{"v1", "/v1/languages"}, {"v2", "/v2/languages"}}},
	[CATALOGUE_ASR] = {JOB_TRANSCRIBE, "languages", false, {{"v3", "/asr/v3/languages"}}},
	[CATALOGUE_TTS] = {JOB_SYNTHESIZE,
			   "languages",
			   true,
			   {{"v1", "/tts/v1/languages"}, {"v2", "/tts/v2/languages"}}},
	[CATALOGUE_SPEAKERS] = {JOB_SYNTHESIZE,
				"speakers",
				true,
				{{"v1", "/tts/v1/speakers"}, {"v2", "/tts/v2/speakers"}}},
};

struct http_target *catalogue_target(enum catalogue_kind kind, const struct settings *s, struct error *err)
{
	const struct kind *k = &kinds[kind];
	const char *version = khaya_version(s, k->service);
	size_t i = 0;

	while (i < PATHS_MAX && k->paths[i].version && strcmp(k->paths[i].version, version) != 0)
		i++;
	if (i == PATHS_MAX || !k->paths[i].version)
		i = 0;
	return khaya_target(s, k->service, k->paths[i].path, err);
}

/* --- Reading. ----------------------------------------------------------------------------------------------------------- */

static void add(struct catalogue *c, const char *code, const char *name)
{
	if (code && *code)
		c->entries[c->n++] = (struct catalogue_entry){code, name ? name : ""};
}

/* A member of an object, or an element of an array, whose name is NULL. */
static void add_language(struct catalogue *c, const struct kind *k, const struct json *j)
{
	const char *key = json_name(j), *value = json_text(j);

	if (json_type(j) == JSON_OBJECT)
		add(c, json_text(json_get(j, "code")), json_text(json_get(j, "name")));
	else if (value)
		add(c, !key || k->name_first ? value : key, !key || k->name_first ? key : value);
}

static void add_all(struct catalogue *c, const struct kind *k, const struct json *list)
{
	for (const struct json *j = json_first(list); j; j = json_next(j)) {
		if (json_type(j) != JSON_ARRAY)
			add_language(c, k, j);
		for (const struct json *one = json_type(j) == JSON_ARRAY ? json_first(j) : NULL; one;
		     one = json_next(one))
			add(c, json_text(one), json_name(j)); /* of a group */
	}
}

/* The most entries that the list may come to. */
static size_t count(const struct json *list)
{
	size_t n = 0;

	for (const struct json *j = json_first(list); j; j = json_next(j))
		n += json_type(j) == JSON_ARRAY ? json_count(j) : 1;
	return n;
}

static int by_code(const void *a, const void *b)
{
	const struct catalogue_entry *x = a, *y = b;
	int order = strcmp(x->code, y->code);

	return order ? order : strcmp(x->name, y->name);
}

static int by_group(const void *a, const void *b)
{
	const struct catalogue_entry *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->code, y->code);
}

static void read_list(enum catalogue_kind kind, const struct http_response *resp, struct catalogue *c,
		      struct outcome *out)
{
	const struct json *list = json_get(c->body, kinds[kind].member);

	if (json_type(list) != JSON_OBJECT && json_type(list) != JSON_ARRAY) {
		khaya_unexpected_json(resp, out);
		return;
	}
	c->entries = calloc(count(list) + 1, sizeof *c->entries);
	if (!c->entries) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", (int)resp->status, "out of memory for a response of %zu bytes",
			  resp->body.len);
		return;
	}
	add_all(c, &kinds[kind], list);
	qsort(c->entries, c->n, sizeof *c->entries, kind == CATALOGUE_SPEAKERS ? by_group : by_code);
	out->kind = OUTCOME_SUCCEEDED;
}

void catalogue_read(enum catalogue_kind kind, const struct settings *s, const struct http_response *resp,
		    struct catalogue *c, struct outcome *out)
{
	*c = (struct catalogue){.body = khaya_read_json(resp, out)};
	out->fault.service = "khaya";
	if (c->body)
		read_list(kind, resp, c, out);
	if (out->kind == OUTCOME_SUCCEEDED)
		return;
	api_mask_secrets(s, &out->fault);
	catalogue_release(c);
}

void catalogue_release(struct catalogue *c)
{
	free(c->entries);
	json_free(c->body);
	*c = (struct catalogue){0};
}
