/* SPDX-License-Identifier: MIT
 *
 * A row of the table of settings and what its kind means. Between the files of settings/ only. */
#ifndef ADWUMA_SETTINGS_ROW_H
#define ADWUMA_SETTINGS_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "settings/settings.h"

enum row_kind {
	TEXT,	     /* char *, owned; empty means unset, where there is no fallback */
	LIST,	     /* the same; words between commas, which may go on in indented lines of the file */
	CHOICE_TEXT, /* char *, one of choices */
	INTEGER,     /* int64_t; no fallback: 0 means unset */
	SIZE,	     /* int64_t bytes, with K, M, G */
	SWITCH,	     /* bool */
	CHOICE,	     /* an enum, by the order of choices */
	QUEUES,	     /* queues and nqueues; a list too */
};

struct row {
	const char *name;
	enum row_kind kind;
	size_t where;	      /* offset in struct settings */
	const char *env;      /* NULL: ADWUMA_<NAME> */
	const char *fallback; /* the default as it would be written; NULL: unset */
	int64_t min, max;
	const char *choices; /* words between '|' */
	bool secret;
	const char *help;
};

/* Parses value into s; the message has no place yet. */
int row_set(const struct row *row, struct settings *s, const char *value, struct error *err);
/* name = value in the section of a queue. */
int row_set_queue(struct queue_settings *q, const char *name, const char *value, struct error *err);
struct queue_settings *row_queue_find(struct settings *s, const char *name);
bool row_is_string(const struct row *row); /* where points to a char * */
void row_print(const struct row *row, const struct settings *s, FILE *to);
/* The password within a URL; NULL when there is none. */
const char *row_url_password(const char *url, size_t *len);
/* HOST:PORT or off. */
int row_check_listen(const char *value, struct error *err);

#endif
