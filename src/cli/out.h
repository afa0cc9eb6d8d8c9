/* SPDX-License-Identifier: MIT
 *
 * Standard output and standard error. A reader that has gone away (a closed pipe) ends the program quietly, with exit
 * code 0: it had all it wanted. Any other failure to write is told and ends it with 1. */
#ifndef ADWUMA_CLI_OUT_H
#define ADWUMA_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/err.h"

/* "adwuma: ..." and a newline on standard error. Control characters, which may come from a remote API, are shown as
 * '?', bytes that are no UTF-8 as U+FFFD. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Tells an error of the library or of a lower layer, with what to try. Returns the exit code. */
int say_error(const struct adwuma_error *err);
int say_failure(const struct error *err);

void out_write(const void *data, size_t n);
void out_line(const char *data, size_t n);
/* The same with line breaks and backslashes written as \n, \r and \\, so that it stays one line. */
void out_escaped_line(const char *data, size_t n);
/* JSON, which may have line breaks between its values, as one line. */
void out_json_line(const char *json, size_t n);
void out_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void out_flush(void);
bool out_is_terminal(void);

/* Appends text as one line for people: control characters and bytes that are no UTF-8 as say() shows them, line breaks
 * and tabs as spaces. */
void clean_line(struct buf *out, const char *s, size_t n);

#define TIME_TEXT_MAX 40
/* "2026-11-25T03:47:11Z", or "-" of no time. */
void show_time(int64_t real_ms, char out[TIME_TEXT_MAX]);
/* "3d4h", "12m5s", "10m", "1s500ms": the two largest units of a span. */
void show_span(int64_t ms, char out[TIME_TEXT_MAX]);
/* The same, in whole seconds. */
void show_seconds(int64_t ms, char out[TIME_TEXT_MAX]);

#endif
