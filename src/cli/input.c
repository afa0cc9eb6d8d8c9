/* SPDX-License-Identifier: MIT
 *
 * See input.h. */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024) /* a pipe's capacity */

static bool is_stdin(const char *path)
{
	return strcmp(path, "-") == 0;
}

const char *input_shown(const char *path)
{
	return is_stdin(path) ? "standard input" : path;
}

int input_open(const char *path, struct error *err)
{
	struct stat st;
	int fd;

	if (is_stdin(path))
		return STDIN_FILENO;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
		return fd;
	error_set(err, ERR_USAGE, "%s cannot be read: %s", path, fd >= 0 ? "it is a directory" : strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

void input_close(int fd)
{
	if (fd > STDIN_FILENO)
		close(fd);
}

ssize_t input_read(int fd, char *to, size_t n)
{
	ssize_t got;

	do
		got = read(fd, to, n);
	while (got < 0 && errno == EINTR);
	return got;
}

int input_check(const char *path, struct error *err)
{
	struct stat st;

	if (is_stdin(path))
		return 0;
	if (stat(path, &st) != 0 || access(path, R_OK) != 0)
		return error_set(err, ERR_USAGE, "%s cannot be read: %s", path, strerror(errno));
	return S_ISDIR(st.st_mode) ? error_set(err, ERR_USAGE, "%s cannot be read: it is a directory", path) : 0;
}

int input_read_all(const char *path, const char *setting, struct buf *out, struct error *err)
{
	int fd = input_open(path, err), rc = -1;
	ssize_t got = 1;

	if (fd < 0)
		return -1;
	while (got > 0) {
		size_t room = out->max - out->len < READ_BYTES ? out->max - out->len + 1 : READ_BYTES;
		char block[READ_BYTES + 1];

		got = input_read(fd, block, room);
		if (got > 0)
			buf_add(out, block, (size_t)got);
		if (out->failed)
			break;
	}
	if (out->failed)
		error_set(err, ERR_USAGE, "%s has more than %zu bytes (%s)", input_shown(path), out->max, setting);
	else if (got < 0)
		error_set(err, ERR_USAGE, "%s cannot be read: %s", input_shown(path), strerror(errno));
	else
		rc = 0;
	input_close(fd);
	return rc;
}

/* --- Lines. ------------------------------------------------------------------------------------------------------- */

int lines_open(struct lines *l, const char *path, size_t max_line_bytes, struct error *err)
{
	int fd = input_open(path, err);

	if (fd < 0)
		return -1;
	*l = (struct lines){.fd = fd, .name = input_shown(path), .buf = BUF_INIT(max_line_bytes + READ_BYTES)};
	return 0;
}

void lines_close(struct lines *l)
{
	input_close(l->fd);
	buf_release(&l->buf);
}

/* Takes the bytes up to `end`, and the line break there, out of the buffer. */
static void take(struct lines *l, size_t end, const char **line, size_t *len)
{
	*line = l->buf.ptr + l->at;
	*len = end - l->at;
	if (*len > 0 && (*line)[*len - 1] == '\r')
		(*len)--;
	l->at = end < l->buf.len ? end + 1 : end;
	l->looked = l->at;
}

/* Drops what was taken, and all of a line that is being skipped. */
static void make_room(struct lines *l)
{
	if (l->skipping)
		l->at = l->buf.len;
	l->buf.len -= l->at;
	if (l->buf.len > 0)
		memmove(l->buf.ptr, l->buf.ptr + l->at, l->buf.len);
	l->at = 0;
	l->looked = l->buf.len;
}

static bool nothing_there_yet(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 0;
}

/* A line that is in the buffer. */
static bool find(struct lines *l, const char **line, size_t *len)
{
	const char *end = l->looked < l->buf.len ? memchr(l->buf.ptr + l->looked, '\n', l->buf.len - l->looked) : NULL;

	if (!end && !(l->at_end && l->at < l->buf.len)) {
		l->looked = l->buf.len;
		return false;
	}
	take(l, end ? (size_t)(end - l->buf.ptr) : l->buf.len, line, len);
	return true;
}

static int fill(struct lines *l, struct error *err)
{
	ssize_t got;
	char *to;

	make_room(l);
	to = buf_reserve(&l->buf, READ_BYTES);
	if (!to)
		return error_set(err, ERR_MEMORY, "no memory for a line of %s", l->name);
	got = input_read(l->fd, to, READ_BYTES);
	if (got < 0)
		return error_set(err, ERR_USAGE, "%s cannot be read: %s", l->name, strerror(errno));
	l->buf.len += (size_t)got;
	l->at_end = got == 0;
	return 0;
}

enum line_state lines_next(struct lines *l, const char **line, size_t *len, struct error *err)
{
	size_t max = l->buf.max - READ_BYTES;

	for (;;) {
		if (find(l, line, len)) {
			bool whole = !l->skipping && *len <= max;

			l->skipping = false;
			return whole ? LINE_IS : LINE_TOO_LONG;
		}
		if (l->at_end)
			return l->skipping ? (l->skipping = false, LINE_TOO_LONG) : LINE_END;
		if (l->buf.len - l->at > max)
			l->skipping = true;
		if (!l->paused && nothing_there_yet(l->fd)) {
			l->paused = true;
			return LINE_PAUSE;
		}
		l->paused = false;
		if (fill(l, err))
			return LINE_FAILED;
	}
}
