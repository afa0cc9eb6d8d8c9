/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI's other models infer: a text's vector is made of its words, so that texts with words in common are
 * alike, and a test knows beforehand which. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stub/tasking.h"

#define DIMENSIONS 8
#define INPUTS_AT_ONCE 512 /* the index begins anew with each batch (7.1) */

const struct field tasking_embed_fields[] = {{"model_id", TEXT, REQUIRED, 8, 8, NULL, NULL},
					     {"input", TEXT_OR_TEXTS, REQUIRED, 0, 0, NULL, NULL},
					     {"input_type", TEXT, OPTIONAL, 0, 0, "document query", NULL},
					     {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};
static const struct field one_document[] = {{"", TEXT, OPTIONAL, 0, 0, NULL, NULL}};
const struct field tasking_rerank_fields[] = {{"model_id", TEXT, REQUIRED, 8, 8, NULL, NULL},
					      {"query", TEXT, REQUIRED, 0, 0, NULL, NULL},
					      {"documents", ARRAY, REQUIRED, 0, 0, NULL, one_document},
					      {"top_n", INTEGER, REQUIRED, 1, 0, NULL, NULL},
					      {NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL}};

/* --- Vectors. ---------------------------------------------------------------------------------------------- */

static void vector_of(const char *text, double v[DIMENSIONS])
{
	double length = 0;

	memset(v, 0, DIMENSIONS * sizeof *v);
	while (*text) {
		unsigned hash = 2166136261U;

		for (; *text && !isalnum((unsigned char)*text) && (unsigned char)*text < 0x80; text++)
			;
		for (; isalnum((unsigned char)*text) || (unsigned char)*text >= 0x80; text++)
			hash = (hash ^ (unsigned char)tolower((unsigned char)*text)) * 16777619U;
		v[hash % DIMENSIONS] += 1 + hash / DIMENSIONS % 3;
	}
	v[0] += 0.001;
	for (int i = 0; i < DIMENSIONS; i++)
		length += v[i] * v[i];
	for (int i = 0; i < DIMENSIONS; i++)
		v[i] /= sqrt(length);
}

double tasking_similarity(const char *a, const char *b)
{
	double x[DIMENSIONS], y[DIMENSIONS], sum = 0;

	vector_of(a, x);
	vector_of(b, y);
	for (int i = 0; i < DIMENSIONS; i++)
		sum += x[i] * y[i];
	return sum;
}

/* --- Embedding. -------------------------------------------------------------------------------------------- */

struct embedding {
	struct tasking *t;
	size_t n, tokens;
};

static void write_numbers(struct buf *out, const char *text, size_t n)
{
	double v[DIMENSIONS];

	vector_of(text, v);
	buf_char(out, '[');
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "%s%.6f", i ? "," : "", v[i]);
	buf_char(out, ']');
}

static bool is_asked(const struct tasking *t, const char *how)
{
	return words_are(t->d.embedding, how);
}

/* A vector, or what the directives want in its place; that is the first one's. */
static void write_embedding(const struct embedding *e, struct buf *out, const char *text)
{
	const struct tasking *t = e->t;

	if (e->n > 0 || !t->d.embedding.ptr)
		write_numbers(out, text, t->d.no_vectors ? 0 : DIMENSIONS);
	else if (is_asked(t, "null"))
		buf_lit(out, "null");
	else if (is_asked(t, "text"))
		buf_lit(out, "\"0.6 0.8\"");
	else if (is_asked(t, "not_finite"))
		buf_lit(out, "[1e999,0.5]");
	else
		write_numbers(out, text, DIMENSIONS - 1);
}

static void write_vector(void *ctx, struct span key, struct span value)
{
	struct embedding *e = ctx;
	struct buf text = BUF_INIT(TASKING_TEXT_MAX), *out = &e->t->a->body;

	(void)key;
	e->tokens += tasking_tokens(value);
	if (e->n == 0 && is_asked(e->t, "dropped")) {
		e->n++;
		return;
	}
	(void)tasking_text(value, &text);
	buf_printf(out, "%s{\"index\":%zu", out->ptr[out->len - 1] == '[' ? "" : ",", e->n % INPUTS_AT_ONCE);
	if (e->n > 0 || !is_asked(e->t, "missing")) {
		buf_lit(out, ",\"embedding\":");
		write_embedding(e, out, buf_cstr(&text));
	}
	buf_char(out, '}');
	e->n++;
	buf_release(&text);
}

/* The model that is named, if it is of that kind; else the answer is made. */
static bool model_is(struct tasking *t, enum model wanted, const char *what)
{
	struct buf id = BUF_INIT(1000);
	const char *name = tasking_string(t->body, "model_id", &id);
	enum model model = tasking_model(name);

	if (model == MODEL_UNKNOWN)
		tasking_unknown(t, "model", name);
	else if (model != wanted)
		tasking_refuse_inside(t, what);
	buf_release(&id);
	return model == wanted;
}

void tasking_embed(struct tasking *t)
{
	struct span input = tasking_member(t->body, "input");
	struct embedding e = {.t = t};

	if (!model_is(t, MODEL_EMBEDDING, "The model is not a text embedding model."))
		return;
	tasking_open(t);
	buf_char(&t->a->body, '[');
	if (tasking_is(input, JSON_ARRAY))
		(void)json_elements(input, write_vector, &e);
	else
		write_vector(&e, (struct span){0}, input);
	buf_printf(&t->a->body, "],\"usage\":{\"input_tokens\":%zu}", e.tokens);
	tasking_close(t);
}

/* --- Rerank. ----------------------------------------------------------------------------------------------- */

struct ranked {
	size_t index;
	double score;
	struct span text;
};

struct ranking {
	struct ranked *all;
	size_t n;
	const char *query;
};

static void rank(void *ctx, struct span key, struct span value)
{
	struct ranking *r = ctx;
	struct ranked *more = realloc(r->all, (r->n + 1) * sizeof *more);
	struct buf text = BUF_INIT(TASKING_TEXT_MAX);

	(void)key;
	if (!more)
		return;
	r->all = more;
	(void)tasking_text(value, &text);
	more[r->n] = (struct ranked){r->n, tasking_similarity(r->query, buf_cstr(&text)), value};
	r->n++;
	buf_release(&text);
}

static int by_relevance(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->score != y->score)
		return x->score < y->score ? 1 : -1;
	return x->index < y->index ? -1 : x->index > y->index;
}

void tasking_rerank(struct tasking *t)
{
	struct span documents = tasking_member(t->body, "documents"), query = tasking_member(t->body, "query");
	struct buf text = BUF_INIT(TASKING_TEXT_MAX), *out = &t->a->body;
	struct ranking r = {.n = 0};
	int64_t top = 0;

	if (!model_is(t, MODEL_RERANK, "The model is not a rerank model."))
		return;
	(void)json_span_int(tasking_member(t->body, "top_n"), &top);
	(void)tasking_text(query, &text);
	r.query = buf_cstr(&text);
	(void)json_elements(documents, rank, &r);
	if (r.all)
		qsort(r.all, r.n, sizeof *r.all, by_relevance);
	tasking_open(t);
	buf_lit(out, "{\"results\":[");
	for (size_t i = 0; r.all && i < r.n && i < (size_t)top; i++) {
		buf_printf(out, "%s{\"index\":%zu,\"document\":{\"text\":", i ? "," : "", r.all[i].index);
		tasking_add_json(out, r.all[i].text);
		buf_printf(out, "},\"relevance_score\":%.6f}", r.all[i].score);
	}
	buf_printf(out, "]},\"usage\":{\"input_tokens\":%zu,\"output_tokens\":1}", tasking_tokens(query));
	tasking_close(t);
	free(r.all);
	buf_release(&text);
}
