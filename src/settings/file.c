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
	bool indented; /* the line read last */
	int os_error;
	settings_line_fn *fn;
	void *ctx;
	struct error *err;
	bool failed;
	char section[128]; /* inih's own copy is cut at 50 bytes, less than a queue's name may have */
	/* The value that may still go on in the next line. */
	char name[64], value[VALUE_MAX];
	int value_line;
	bool continued;
};

static void fail(struct reading *r, int line, const char *what)
{
	error_set(r->err, ERR_CONFIG, "%s:%d: %s", r->path, line, what);
	r->failed = true;
}

/* Gives the collected value on. */
static void deliver(struct reading *r)
{
	char place[320];
	struct file_line line = {.place = place, .name = r->name, .value = r->value, .continued = r->continued};

	if (!*r->name || r->failed)
		return;
	snprintf(place, sizeof place, "%s:%d", r->path, r->value_line);
	if (strncmp(r->section, "queue ", 6) == 0)
		line.queue = r->section + 6 + strspn(r->section + 6, " ");
	if (*r->section && !line.queue) {
		error_set(r->err, ERR_CONFIG, "%s: section [%s] is unknown; there is only [queue NAME]", place,
			  r->section);
		r->failed = true;
	} else if (r->fn(r->ctx, &line, r->err)) {
		r->failed = true;
	}
	*r->name = '\0';
}

/* As inih sees it: an indented line goes on with the value before, where there is one. */
static void note_section(struct reading *r, const char *line)
{
	const char *start = line + strspn(line, " \t");

	r->indented = start > line;
	if (*start != '[' || (r->indented && *r->name))
		return;
	deliver(r);
	snprintf(r->section, sizeof r->section, "%.*s", (int)strcspn(start + 1, "]"), start + 1);
}

/* The line's end stays behind: with it the longest line would not fit into inih's buffer. */
static char *read_line(char *to, int size, void *stream)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct reading *r = stream;
	char line[LINE_BYTES_MAX + 3];
	const char *start = line;
	size_t n = 0;
	int c;

	if (r->too_long || r->failed)
		return NULL;
	while ((c = getc(r->file)) != EOF && c != '\n' && c != '\0' && n < sizeof line - 1)
		line[n++] = (char)c;
	if (c == EOF && n == 0) {
		r->os_error = ferror(r->file) ? errno : 0;
		return NULL;
	}
	if (n > 0 && line[n - 1] == '\r')
		n--;
	r->line++;
	if (c == '\0') {
		fail(r, r->line, "holds a NUL byte");
		return NULL;
	}
	if (n > LINE_BYTES_MAX || n >= (size_t)size) {
		r->too_long = true;
		return NULL;
	}
	line[n] = '\0';
	if (r->line == 1 && strncmp(line, bom, 3) == 0)
		start += 3;
	note_section(r, start);
	return strcpy(to, start);
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	size_t used = strlen(r->value);

	(void)section;
	if (r->indented && strcmp(r->name, name) == 0) {
		if (used + strlen(value) + 2 > sizeof r->value) {
			fail(r, r->line, "the list is too long");
			return 0;
		}
		snprintf(r->value + used, sizeof r->value - used, ",%s", value);
		r->continued = true;
		return 1;
	}
	deliver(r);
	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->value, sizeof r->value, "%s", value);
	r->value_line = r->line;
	r->continued = false;
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
	if (!r->failed && r->os_error) {
		error_set(err, ERR_CONFIG, "%s: cannot read it: %s", path, strerror(r->os_error));
		r->failed = true;
	} else if (!r->failed && r->too_long) {
		fail(r, r->line, "the line is longer than 198 bytes; a list may go on in the next, indented line");
	} else if (!r->failed && bad) {
		fail(r, bad > 0 ? bad : r->line, "is neither name = value nor [section]");
	}
	bad = r->failed;
	free(r);
	return bad ? -1 : 0;
}
