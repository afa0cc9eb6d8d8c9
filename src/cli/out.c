/* SPDX-License-Identifier: MIT
 *
 * See out.h. */
#include "cli/out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/progress.h"

#define SAY_MAX (64 * 1024)

/* --- Standard error. ---------------------------------------------------------------------------------------------- */

/* What a terminal would obey becomes '?', also U+0080 to U+009F. blanks: line breaks and tabs stay. */
static void clean(struct buf *out, const char *s, size_t n, bool blanks)
{
	size_t to = out->len, i = to;

	utf8_repair(out, s, n);
	while (i < out->len) {
		unsigned char c = (unsigned char)out->ptr[i++];

		if (c == '\n' || c == '\t' || (c == '\r' && !blanks)) {
			c = blanks ? c : ' ';
		} else if (c < 0x20 || c == 0x7f) {
			c = '?';
		} else if (c == 0xc2 && (unsigned char)out->ptr[i] < 0xa0) {
			c = '?';
			i++;
		}
		out->ptr[to++] = (char)c;
	}
	buf_cut(out, to);
}

void clean_line(struct buf *out, const char *s, size_t n)
{
	clean(out, s, n, false);
}

void say(const char *fmt, ...)
{
	static char text[SAY_MAX];
	struct buf line = BUF_INIT(sizeof text * 3); /* U+FFFD has three bytes */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	clean(&line, text, strlen(text), true);
	progress_erase();
	fprintf(stderr, "adwuma: %s\n", line.failed ? "(no memory to say what is wrong)" : buf_cstr(&line));
	buf_release(&line);
}

/* Error replies of Redis begin with a word in capitals; before it stand the place and what was tried. */
static bool is_error_reply(const char *message)
{
	for (const char *at = strstr(message, ": "); at; at = strstr(at + 2, ": ")) {
		size_t n = strspn(at + 2, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

		if (n >= 2 && at[2 + n] == ' ')
			return true;
	}
	return false;
}

#define PASSWORD                                                                                                       \
	"ADWUMA_REDIS_PASSWORD or ADWUMA_REDIS_PASSWORD_FILE gives the password, ADWUMA_REDIS_USERNAME the name."
#define ELSEWHERE "--redis-url or ADWUMA_REDIS_URL name another place."
#define AWAY "Does Redis run there, and let us in? " ELSEWHERE

/* Sentinels, or a cluster: the place with which the message begins says so (redis_address_show). */
static bool is_of_several(const char *message)
{
	const char *by = strstr(message, " by "), *place_end = strstr(message, ": ");

	return strncmp(message, "Redis at cluster ", 17) == 0 || (by && place_end && by < place_end);
}

/* What to do about it; NULL where the message says that itself. */
static const char *hint(const char *message)
{
	static const struct {
		const char *words, *hint;
	} hints[] = {
		{"redis_url must begin with", NULL},
		{"a failover may be under way", "Try again in a moment; adwuma doctor tells what is wrong."},
		{"CLUSTERDOWN ", "It answers, but nobody serves this queue now; adwuma doctor tells why."},
		{"WRONGTYPE ", "A key of this queue is not of the type it must be; somebody else wrote it."},
		{"NOAUTH ", PASSWORD},
		{"WRONGPASS ", PASSWORD},
		{"OOM ", "It answers, but its memory is full (maxmemory): it takes nothing before there is room."},
		{"READONLY ", "It answers, but is a replica, which takes nothing. " ELSEWHERE},
		{"a replica;", "It answers, but is a replica. " ELSEWHERE},
		{"MISCONF ",
		 "It answers, but cannot save to its disk, and takes nothing until it can; its log says why."},
		{"NOREPLICAS ", "It answers, but too few of its replicas do, so it takes nothing."},
		{"LOADING ", "It answers, but still reads its data; try again in a moment."},
		{"BUSY ", "It answers, but runs somebody's script; try again in a moment."},
		{"NOPERM ",
		 "It answers, but its ACL does not let this user do that. ADWUMA_REDIS_USERNAME names another; users.acl says what each may."},
		{"max number of clients", "It answers, but has as many connections as it takes (maxclients)."},
		{"is no Redis", "Something else listens there. " ELSEWHERE},
		{"is too old", "It answers, but cannot be used. " ELSEWHERE},
	};

	for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
		if (strstr(message, hints[i].words))
			return hints[i].hint;
	if (is_error_reply(message))
		return "It answers, but refuses.";
	if (is_of_several(message))
		return "A failover may be under way: try again in a moment. " AWAY;
	return AWAY;
}

/* Several queues may fail for one reason: what to do is said once. */
static void say_with_hint(const char *message)
{
	static const char *said;
	const char *what_to_do = hint(message);

	if (what_to_do && what_to_do != said)
		say("%s\n  %s", message, what_to_do);
	else
		say("%s", message);
	said = what_to_do;
}

static int say_by_code(enum adwuma_code code, const char *message)
{
	switch (code) {
	case ADWUMA_INVALID:
		say("%s", message);
		return CLI_USAGE;
	case ADWUMA_UNREACHABLE:
		say_with_hint(message);
		return CLI_UNREACHABLE;
	case ADWUMA_TIMEOUT:
		say("%s", message);
		return CLI_TIMED_OUT;
	case ADWUMA_CONFIG:
		say("%s", message);
		return CLI_SETTINGS;
	case ADWUMA_OK:
	case ADWUMA_MISSING:
	case ADWUMA_NO_MEMORY:
		break;
	}
	say("%s", message);
	return CLI_JOB_FAILED;
}

int say_error(const struct adwuma_error *err)
{
	return say_by_code(err->code, err->message);
}

int say_failure(const struct error *err)
{
	if (err->code == ERR_LINK || err->code == ERR_REFUSED)
		return say_by_code(ADWUMA_UNREACHABLE, err->msg);
	return say_by_code(err->code == ERR_CONFIG ? ADWUMA_CONFIG : ADWUMA_NO_MEMORY, err->msg);
}

void show_time(int64_t real_ms, char out[TIME_TEXT_MAX])
{
	time_t s = (time_t)(real_ms / 1000);
	struct tm tm;

	if (real_ms <= 0 || !gmtime_r(&s, &tm) || strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, TIME_TEXT_MAX, "-");
}

void show_span(int64_t ms, char out[TIME_TEXT_MAX])
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
	size_t i = 0, n;

	if (ms <= 0) {
		snprintf(out, TIME_TEXT_MAX, "0s");
		return;
	}
	while (ms < units[i].ms)
		i++;
	n = (size_t)snprintf(out, TIME_TEXT_MAX, "%" PRId64 "%s", ms / units[i].ms, units[i].name);
	ms %= units[i].ms;
	if (ms > 0 && ms >= units[i + 1].ms)
		snprintf(out + n, TIME_TEXT_MAX - n, "%" PRId64 "%s", ms / units[i + 1].ms, units[i + 1].name);
}

void show_seconds(int64_t ms, char out[TIME_TEXT_MAX])
{
	show_span(ms / 1000 * 1000, out);
}

/* --- Standard output. --------------------------------------------------------------------------------------------- */

static _Noreturn void lost(void)
{
	int why = errno;

	if (why != EPIPE)
		say("standard output cannot be written: %s", strerror(why));
	_exit(why == EPIPE ? CLI_DONE : CLI_JOB_FAILED);
}

void out_write(const void *data, size_t n)
{
	if (n > 0 && fwrite(data, 1, n, stdout) != n)
		lost();
}

void out_line(const char *data, size_t n)
{
	out_write(data, n);
	out_write("\n", 1);
}

void out_json_line(const char *json, size_t n)
{
	struct buf line = BUF_INIT(SIZE_MAX / 4);

	json_add_clean(&line, (struct span){json, n});
	out_line(buf_cstr(&line), line.len);
	buf_release(&line);
}

void out_escaped_line(const char *data, size_t n)
{
	while (n > 0) {
		size_t plain = 0;

		while (plain < n && !memchr("\n\r\\", data[plain], 3))
			plain++;
		out_write(data, plain);
		data += plain;
		n -= plain;
		if (n > 0) {
			out_write(*data == '\n' ? "\\n" : *data == '\r' ? "\\r" : "\\\\", 2);
			data++;
			n--;
		}
	}
	out_write("\n", 1);
}

void out_printf(const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vprintf(fmt, ap);
	va_end(ap);
	if (n < 0)
		lost();
}

void out_flush(void)
{
	if (fflush(stdout) != 0)
		lost();
}

bool out_is_terminal(void)
{
	return isatty(STDOUT_FILENO) == 1;
}
