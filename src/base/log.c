/* SPDX-License-Identifier: MIT
 *
 * See log.h. A line is built on the stack and written at once, so lines of several threads do not mix and no lock is needed. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"

#define NUMBER_RING 8
#define VALUE_MAX 1024 /* so that one long value cannot push out those behind it */

static const char *program_name = "adwuma";
static enum log_level lowest = LOG_INFO;
static enum log_format log_form = LOG_LOGFMT;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_open(const char *program, enum log_level level, enum log_format format)
{
	program_name = program;
	lowest = level;
	log_form = format;
}

bool log_enabled(enum log_level level)
{
	return level >= lowest;
}

const char *log_int(long long n)
{
	static _Thread_local char ring[NUMBER_RING][24];
	static _Thread_local unsigned next;
	char *s = ring[next++ % NUMBER_RING];

	snprintf(s, sizeof ring[0], "%lld", n);
	return s;
}

/* Text that logfmt readers take without quotes. */
static bool plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] == '"' || s[i] == '=' || s[i] == '\\' || s[i] >= 0x7f)
			return false;
	return n > 0;
}

static void add_pair(struct buf *line, const char *key, const char *value)
{
	size_t before = line->len, n;

	if (!value)
		value = "";
	n = utf8_cut(value, strnlen(value, VALUE_MAX + 1), VALUE_MAX);
	if (log_form == LOG_JSON) {
		buf_char(line, line->len == 0 ? '{' : ',');
		buf_json_cstr(line, key);
		buf_char(line, ':');
		buf_json_string(line, value, n);
	} else {
		if (line->len > 0)
			buf_char(line, ' ');
		buf_str_add(line, key);
		buf_char(line, '=');
		if (plain(value, n))
			buf_add(line, value, n);
		else
			buf_json_string(line, value, n);
	}
	if (line->failed) { /* a pair that does not fit is left out whole, so that the line stays readable */
		buf_cut(line, before);
		line->failed = false;
	}
}

static void stamp(char out[40])
{
	int64_t ms = clock_real_ms();
	time_t s = (time_t)(ms / 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 40 - n, ".%03dZ", (int)(ms % 1000));
}

void log_event(enum log_level level, const char *event, ...)
{
	char ts[40], room[LOG_LINE_MAX + 1];
	/* It never outgrows this room, so buf never asks for memory. Two bytes are kept for the end. */
	struct buf line = {.ptr = room, .cap = sizeof room, .max = LOG_LINE_MAX - 2};
	const char *key;
	va_list ap;
	ssize_t written;

	if (level < lowest)
		return;
	stamp(ts);
	add_pair(&line, "ts", ts);
	add_pair(&line, "level", level_names[level]);
	add_pair(&line, "program", program_name);
	add_pair(&line, "event", event);
	va_start(ap, event);
	while ((key = va_arg(ap, const char *)))
		add_pair(&line, key, va_arg(ap, const char *));
	va_end(ap);
	line.max = LOG_LINE_MAX;
	if (log_form == LOG_JSON)
		buf_char(&line, '}');
	buf_char(&line, '\n');
	written = write(STDERR_FILENO, line.ptr, line.len);
	(void)written; /* nowhere to tell it */
}
