/* SPDX-License-Identifier: MIT
 *
 * One line per event on standard error, one write() each, in logfmt or JSON.
 *
 *   log_event(LOG_INFO, "redis lost", "reason", err.msg, "host", host, NULL);
 *
 * Keys and values are pairs of C strings ended by NULL; values are quoted and escaped as the format needs. Lines are cut at
 * LOG_LINE_MAX. Secrets never come here: whoever holds one does not log it. Any thread; no lock is held by the caller. */
#ifndef ADWUMA_BASE_LOG_H
#define ADWUMA_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_LOGFMT, LOG_JSON };

#define LOG_LINE_MAX 4096

/* Call from main before threads start. program is borrowed for ever. */
void log_open(const char *program, enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));

/* For a value that is a number: returns a string in a small per-thread ring, good for the same statement. */
const char *log_int(long long n);

#endif
