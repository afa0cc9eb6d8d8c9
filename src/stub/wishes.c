/* SPDX-License-Identifier: MIT
 *
 * See wishes.h. */
#include "stub/wishes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the call at hand. */
struct asking {
	const struct httpd_request *r;
	const char *text;
	struct directives *d;
};

/* A list of directives, and where it was found. */
struct wish {
	const char *place, *list, *input;
	size_t len;
};

static bool within(struct words w, const char *text)
{
	return !w.ptr || memmem(text, strlen(text), w.ptr, w.len);
}

/* Whether a rule is to be carried out for this call, which counts for it if all but its number is right. */
static bool holds(struct stub *s, const struct asking *q, const struct wish *w, const struct directives *d, size_t rule)
{
	const char *text = q->text;
	int64_t n;

	if (!within(d->word, text) || !within(d->path, httpd_path(q->r)) || (d->reused && !httpd_reused(q->r)))
		return false;
	if (d->times == 0 && d->after == 0)
		return true;
	n = calls_seen(s->calls, (const char *const[]){w->place, w->list, d->each ? text : w->input}, 3, rule);
	return n > d->after && (d->times == 0 || n - d->after <= d->times);
}

static void carry_out(struct stub *s, struct asking *q, const struct wish *w, const struct rules *rules)
{
	for (size_t i = 0; i < rules->n; i++) {
		if (holds(s, q, w, &rules->rule[i], i)) {
			*q->d = rules->rule[i];
			return;
		}
	}
}

/* Returns what is not understood, or NULL. */
static const char *add_wish(struct stub *s, struct asking *q, struct wish w)
{
	struct rules rules;
	const char *bad = NULL;

	if (w.list && rules_parse(&rules, w.list, w.len, &bad))
		carry_out(s, q, &w, &rules);
	return bad;
}

/* The nearest wish counts: text, then language, then header, then everywhere; but one whose conditions do not hold
 * gives way. A header that is not understood is told; a text with something else in stub(...) is just a text. */
const char *wishes_read(struct stub *s, const struct httpd_request *r, const char *text, const char *language,
			struct directives *d)
{
	const char *header = httpd_header(r, "X-Stub"), *bad = NULL;
	struct asking q = {.r = r, .text = text, .d = d};
	struct wish of_language = {.place = "language", .input = language};
	struct wish of_text = {.place = "text", .input = text};

	if (s->everywhere.n > 0)
		carry_out(s, &q, &(struct wish){s->everywhere_name, s->everywhere_list, "", 0}, &s->everywhere);
	if (header && *header)
		bad = add_wish(s, &q, (struct wish){"header", header, "", strlen(header)});
	of_language.list = directives_find(language, &of_language.len);
	(void)add_wish(s, &q, of_language);
	of_text.list = directives_find(text, &of_text.len);
	(void)add_wish(s, &q, of_text);
	return bad;
}

void wishes_in(struct stub *s, const struct httpd_request *r, const char *text, struct directives *d)
{
	struct asking q = {.r = r, .text = text, .d = d};
	struct wish wish = {.place = "text", .input = text};

	wish.list = directives_find(text, &wish.len);
	(void)add_wish(s, &q, wish);
}

void wishes_refuse(struct httpd_answer *a, const char *bad)
{
	a->status = 400;
	buf_printf(&a->body, "adwuma-stubapi: '%s' in X-Stub is not understood; see --help\n", bad);
}

bool wishes_everywhere(struct stub *s, const char *list, size_t len, const char **bad)
{
	char *own = strndup(list, len);
	struct rules rules;

	*bad = "out of memory";
	if (!own)
		return false;
	if (!rules_parse(&rules, own, strlen(own), bad)) {
		*bad = list + (*bad - own);
		free(own);
		return false;
	}
	free(s->everywhere_list);
	s->everywhere_list = own;
	s->everywhere = rules;
	snprintf(s->everywhere_name, sizeof s->everywhere_name, "everywhere %u", ++s->everywhere_number);
	return true;
}
