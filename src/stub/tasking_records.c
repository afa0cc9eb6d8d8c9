/* SPDX-License-Identifier: MIT
 *
 * Records, whose text is cut into chunks, and the queries that find these. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "stub/tasking.h"

#define CAPACITY 1000 /* chunks of a collection */
#define TOKEN_LETTERS 4
#define SEPARATOR_MAX 50
#define SEPARATORS_MAX 16
#define CHUNK_SIZE_DEFAULT 200 /* tokens, where separators have none */

const struct field tasking_query_fields[] = {{"query_text", TEXT, REQUIRED, 1, 32768, NULL, NULL},
					     {"top_k", INTEGER, REQUIRED_IN_COMMUNITY, 1, 20, NULL, NULL},
					     {"score_threshold", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
					     {"max_tokens", INTEGER, OPTIONAL, 1, 0, NULL, NULL},
					     {"rerank_model_id", TEXT, OPTIONAL, 8, 8, NULL, NULL},
					     {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};

/* --- What a record's body must say (4.5). ------------------------------------------------------------------ */

struct separators {
	struct buf text[SEPARATORS_MAX];
	size_t n;
};

static void add_separator(void *ctx, struct span key, struct span v)
{
	struct separators *s = ctx;

	(void)key;
	if (s->n == SEPARATORS_MAX)
		return;
	s->text[s->n] = BUF_INIT(TASKING_TEXT_MAX);
	(void)tasking_text(v, &s->text[s->n++]);
}

static void release(struct separators *s)
{
	for (size_t i = 0; i < s->n; i++)
		buf_release(&s->text[i]);
}

static void read_separators(struct tasking *t, struct separators *s)
{
	struct span list = tasking_member(tasking_member(t->body, "text_splitter"), "separators");

	s->n = 0;
	if (list.ptr)
		(void)json_elements(list, add_separator, s);
}

/* NULL, or what is wrong. */
static const char *separators_wrong(const struct separators *s)
{
	if (s->n == 0)
		return "Field required";
	for (size_t i = 0; i < s->n; i++) {
		size_t letters = utf8_count(buf_cstr(&s->text[i]), s->text[i].len);

		if (letters == 0 || letters >= SEPARATOR_MAX)
			return "Separators should have from 1 to 49 characters";
		for (size_t j = 0; j < s->n; j++)
			if (i != j && strstr(buf_cstr(&s->text[j]), buf_cstr(&s->text[i])))
				return "No separator may be part of another";
	}
	return NULL;
}

static bool splitter_is_good(struct tasking *t, struct span splitter)
{
	static const char *const sizes[] = {"chunk_size", "chunk_overlap"};
	bool token = tasking_says(tasking_member(splitter, "type"), "token");
	int64_t size = CHUNK_SIZE_DEFAULT, overlap = 0;
	struct separators separators;
	const char *wrong = NULL;
	char where[60];

	for (size_t i = 0; token && i < sizeof sizes / sizeof *sizes; i++) {
		if (tasking_member(splitter, sizes[i]).ptr)
			continue;
		snprintf(where, sizeof where, "body/text_splitter/%s", sizes[i]);
		tasking_invalid(t, where, "Field required");
		return false;
	}
	(void)json_span_int(tasking_member(splitter, "chunk_size"), &size);
	(void)json_span_int(tasking_member(splitter, "chunk_overlap"), &overlap);
	if (overlap > size / 2) {
		tasking_invalid(t, "body/text_splitter/chunk_overlap", "Input should be at most half of chunk_size");
		return false;
	}
	if (token)
		return true;
	read_separators(t, &separators);
	wrong = separators_wrong(&separators);
	release(&separators);
	if (wrong)
		tasking_invalid(t, "body/text_splitter/separators", "%s", wrong);
	return !wrong;
}

bool tasking_check_record(struct tasking *t)
{
	struct span type = tasking_member(t->body, "type"), splitter = tasking_member(t->body, "text_splitter");
	struct span url = tasking_member(t->body, "url");

	if (tasking_says(type, "qa_sheet") && !t->stub->hosted)
		tasking_invalid(t, "body/type", "Input should be 'text', 'file' or 'web'");
	else if (splitter.ptr && !splitter_is_good(t, splitter))
		return false;
	else if (tasking_says(type, "text") && tasking_member(t->body, "content").len <= 2)
		tasking_invalid(t, "body/content", "Field required");
	else if (tasking_says(type, "web") && (url.len < 10 || memcmp(url.ptr, "\"https://", 9) != 0))
		tasking_invalid(t, "body/url", "URL should begin with https://");
	else
		return true;
	return false;
}

/* --- Where its text is from. ------------------------------------------------------------------------------- */

static void take_file(struct tasking *t, struct object *record, struct object *file, struct buf *text)
{
	struct buf json = BUF_INIT(TASKING_TEXT_MAX);
	struct span name = object_get(file, "name"), size = object_get(file, "size");

	(void)tasking_text(object_get(file, "text"), text);
	buf_printf(&json, "{\"file_id\": \"%s\", \"file_name\": %.*s, \"file_size\": %.*s}", file->id, (int)name.len,
		   name.ptr, (int)size.len, size.ptr);
	tasking_set_text(record, "content", buf_cstr(&json));
	store_delete(t->stub->store, file);
	buf_release(&json);
}

/* A file is used up by the record that reads it, even where that fails then. */
static bool read_file(struct tasking *t, struct object *record, struct buf *text)
{
	struct buf id = BUF_INIT(4000);
	struct object *file = store_find(t->stub->store, UPLOAD, tasking_string(t->body, "file_id", &id));
	bool good = false;

	if (!tasking_member(t->body, "file_id").ptr) {
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'NoneType' object has no attribute 'split'");
	} else if (!file) {
		tasking_unknown(t, "file", buf_cstr(&id));
	} else {
		take_file(t, record, file, text);
		good = strspn(buf_cstr(text), " \t\r\n") < text->len;
		if (!good)
			tasking_error(t, 400, "INVALID_REQUEST", "The file has no text.");
	}
	buf_release(&id);
	return good;
}

/* The page's text is its address. */
static void read_page(struct tasking *t, struct object *record, struct buf *text)
{
	struct buf json = BUF_INIT(TASKING_TEXT_MAX);

	(void)tasking_text(tasking_member(t->body, "url"), text);
	buf_lit(&json, "{\"url\": ");
	buf_json_cstr(&json, buf_cstr(text));
	buf_char(&json, '}');
	tasking_set_text(record, "content", buf_cstr(&json));
	buf_release(&json);
}

/* --- Cutting. ---------------------------------------------------------------------------------------------- */

static size_t bytes_of_letters(const char *text, size_t left, size_t letters)
{
	size_t n = 0;

	while (n < left && letters-- > 0) {
		size_t step = utf8_step(text + n, left - n);

		n += step ? step : 1;
	}
	return n;
}

/* Up to the next separator, and behind it; at least a letter. */
static size_t to_separator(const struct separators *s, const char *text, size_t left, size_t *behind)
{
	size_t first = left;

	*behind = left;
	for (size_t i = 0; i < s->n; i++) {
		const char *at = memmem(text, left, buf_cstr(&s->text[i]), s->text[i].len);

		if (at && (size_t)(at - text) < first) {
			first = (size_t)(at - text);
			*behind = first + s->text[i].len;
		}
	}
	return first;
}

static bool add_chunk(struct tasking *t, struct object *record, const char *text, size_t n)
{
	struct object *chunk = tasking_add(t, CHUNK, record->parent);
	struct buf json = BUF_INIT(TASKING_TEXT_MAX);

	if (!chunk)
		return false;
	chunk->maker = record;
	tasking_set_text(chunk, "record_id", record->id);
	buf_json_string(&json, text, n);
	tasking_set(chunk, "content", &json);
	buf_release(&json);
	return true;
}

static bool has_room(struct tasking *t, const struct object *collection)
{
	size_t n = 0;

	for (struct object *o = NULL; (o = store_next(t->stub->store, CHUNK, collection, o));)
		n++;
	return n < CAPACITY;
}

/* False: the answer is made. */
static bool cut(struct tasking *t, struct object *record, const char *text, size_t len)
{
	struct span splitter = tasking_member(t->body, "text_splitter");
	int64_t size = CHUNK_SIZE_DEFAULT, overlap = 0;
	struct separators separators;
	bool good = true;

	(void)json_span_int(tasking_member(splitter, "chunk_size"), &size);
	(void)json_span_int(tasking_member(splitter, "chunk_overlap"), &overlap);
	read_separators(t, &separators);
	for (size_t at = 0; at < len && good;) {
		size_t behind, most = bytes_of_letters(text + at, len - at, (size_t)size * TOKEN_LETTERS);
		size_t n = to_separator(&separators, text + at, most, &behind);

		if (!has_room(t, record->parent)) {
			tasking_error(t, 429, "RESOURCE_LIMIT_REACHED", "The collection has reached its capacity.");
			good = false;
		} else if (n > 0) {
			good = add_chunk(t, record, text + at, n);
		}
		if (n == most && at + n < len) /* no separator: the next begins so much before this one's end */
			behind = bytes_of_letters(text + at, most, (size_t)(size - overlap) * TOKEN_LETTERS);
		at += behind;
	}
	release(&separators);
	return good;
}

static void drop_chunks(struct tasking *t, const struct object *record)
{
	struct object *o = NULL;

	while ((o = store_next(t->stub->store, CHUNK, record->parent, o))) {
		if (o->maker != record)
			continue;
		store_delete(t->stub->store, o);
		o = NULL;
	}
}

bool tasking_fill_record(struct tasking *t, struct object *record)
{
	struct span type = object_get(record, "type");
	struct buf text = BUF_INIT(TASKING_TEXT_MAX);
	bool good = true;

	if (tasking_says(type, "file") || tasking_says(type, "qa_sheet"))
		good = read_file(t, record, &text);
	else if (tasking_says(type, "web") && tasking_member(t->body, "url").ptr)
		read_page(t, record, &text);
	else
		(void)tasking_text(object_get(record, "content"), &text);
	if (good) {
		drop_chunks(t, record);
		good = cut(t, record, buf_cstr(&text), text.len);
	}
	if (good && t->stub->hosted)
		tasking_set_text(record, "status", "creating");
	buf_release(&text);
	return good;
}

/* --- Queries. ---------------------------------------------------------------------------------------------- */

struct hit {
	const struct object *chunk;
	double score;
};

struct query {
	int64_t top, max_tokens;
	double threshold;
	struct hit *hits;
	size_t n;
};

static int by_score(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return x->chunk->number < y->chunk->number ? -1 : x->chunk->number > y->chunk->number;
}

static void find_hits(struct tasking *t, struct query *q)
{
	struct buf question = BUF_INIT(TASKING_TEXT_MAX), content = BUF_INIT(TASKING_TEXT_MAX);

	(void)tasking_text(tasking_member(t->body, "query_text"), &question);
	for (struct object *o = NULL; (o = store_next(t->stub->store, CHUNK, t->up, o));) {
		struct hit *more = realloc(q->hits, (q->n + 1) * sizeof *more);

		if (!more)
			break;
		q->hits = more;
		buf_clear(&content);
		(void)tasking_text(object_get(o, "content"), &content);
		q->hits[q->n++] = (struct hit){o, tasking_similarity(buf_cstr(&question), buf_cstr(&content))};
	}
	if (q->hits)
		qsort(q->hits, q->n, sizeof *q->hits, by_score);
	buf_release(&question);
	buf_release(&content);
}

/* Those that would exceed the sum of tokens are left out. */
static void write_hits(struct tasking *t, const struct query *q)
{
	struct buf *out = &t->a->body;
	int64_t tokens = 0, shown = 0;

	tasking_open(t);
	buf_char(out, '[');
	for (size_t i = 0; i < q->n && shown < q->top && q->hits[i].score >= q->threshold; i++) {
		int64_t own = (int64_t)tasking_tokens(object_get(q->hits[i].chunk, "content"));

		if (tokens + own > q->max_tokens)
			continue;
		tokens += own;
		buf_str_add(out, shown++ ? "," : "");
		tasking_write(t, out, q->hits[i].chunk, &q->hits[i].score);
	}
	buf_printf(out, "],\"fetched_count\":%lld,\"total_count\":null,\"has_more\":false", (long long)shown);
	tasking_close(t);
}

void tasking_query(struct tasking *t)
{
	struct query q = {.top = 3, .max_tokens = INT64_MAX, .threshold = -1};
	struct span threshold = tasking_member(t->body, "score_threshold");
	struct buf id = BUF_INIT(1000);
	const char *model = tasking_string(t->body, "rerank_model_id", &id);

	if (*model && tasking_model(model) != MODEL_RERANK) {
		tasking_unknown(t, "model", model);
		buf_release(&id);
		return;
	}
	(void)json_span_int(tasking_member(t->body, "top_k"), &q.top);
	(void)json_span_int(tasking_member(t->body, "max_tokens"), &q.max_tokens);
	if (threshold.ptr)
		q.threshold = strtod(threshold.ptr, NULL);
	find_hits(t, &q);
	write_hits(t, &q);
	free(q.hits);
	buf_release(&id);
}
