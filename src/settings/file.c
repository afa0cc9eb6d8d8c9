/* SPDX-License-Identifier: MIT
 *
 * inih cuts lines over 198 bytes without a word, and takes an indented line for a second value of the name before. So lines come to it
 * through a reader of ours, which refuses the first and joins the second into one value. */
#include "settings/file.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES_MAX 198 /* what inih holds */
#define VALUE_MAX 8192	   /* a list over many lines */

struct reading {
	const char *path;
	FILE *file;
	int line; /* of the line read last */
	bool too_long;
	settings_line_fn *fn;
	void *ctx;
	struct error *err;
	bool failed;
	/* The value that may still go on in the next line. */
	char section[64], name[64], value[VALUE_MAX];
	int value_line;
};

static char *read_line(char *to, int size, void *stream)
{
	struct reading *r = stream;
	char line[LINE_BYTES_MAX + 3];

	(void)size;
	if (r->too_long || r->failed || !fgets(line, sizeof line, r->file))
		return NULL;
	r->line++;
	if (strlen(line) > LINE_BYTES_MAX && !strchr(line, '\n')) {
		r->too_long = true;
		return NULL;
	}
	return strcpy(to, line);
}

/* Gives the collected value on. */
static void deliver(struct reading *r)
{
	char place[320];
	const char *queue = NULL;

	if (!*r->name || r->failed)
		return;
	snprintf(place, sizeof place, "%s:%d", r->path, r->value_line);
	if (strncmp(r->section, "queue ", 6) == 0)
		queue = r->section + 6 + strspn(r->section + 6, " ");
	if (*r->section && !queue) {
		error_set(r->err, ERR_CONFIG, "%s: section [%s] is unknown; there is only [queue NAME]", place, r->section);
		r->failed = true;
	} else if (r->fn(r->ctx, place, queue, r->name, r->value, r->err)) {
		r->failed = true;
	}
	*r->name = '\0';
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	size_t used = strlen(r->value);

	/* A line that goes on: inih calls again with the same name. A repeated name comes with a line that is not indented, but
	 * the last of two counts either way only for lists, so it is joined with a comma and its setting's own check decides. */
	if (strcmp(r->name, name) == 0 && strcmp(r->section, section) == 0 && used + strlen(value) + 2 < sizeof r->value) {
		snprintf(r->value + used, sizeof r->value - used, ",%s", value);
		return 1;
	}
	deliver(r);
	snprintf(r->section, sizeof r->section, "%s", section);
	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->value, sizeof r->value, "%s", value);
	r->value_line = r->line;
	return !r->failed;
}

int settings_file_read(const char *path, settings_line_fn *line, void *ctx, struct error *err)
{
	struct reading *r = calloc(1, sizeof *r);
	int bad;

	if (!r)
		return error_set(err, ERR_MEMORY, "out of memory");
	*r = (struct reading){.path = path, .file = fopen(path, "re"), .fn = line, .ctx = ctx, .err = err};
	if (!r->file) {
		error_set(err, ERR_CONFIG, "%s: cannot read it: %s", path, strerror(errno));
		free(r);
		return -1;
	}
	bad = ini_parse_stream(read_line, r, on_pair, r);
	if (!bad)
		deliver(r);
	fclose(r->file);
	if (!r->failed && r->too_long) {
		error_set(err, ERR_CONFIG, "%s:%d: the line is longer than %d bytes; a list may go on in the next, indented line", path, r->line,
			  LINE_BYTES_MAX);
		r->failed = true;
	} else if (!r->failed && bad) {
		error_set(err, ERR_CONFIG, "%s:%d: is neither name = value nor [section]", path, bad > 0 ? bad : r->line);
		r->failed = true;
	}
	bad = r->failed;
	free(r);
	return bad ? -1 : 0;
}
