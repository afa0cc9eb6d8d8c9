/* SPDX-License-Identifier: MIT
 *
 * batch: a file that results are added to. See batch.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/batch.h"

#define PENDING_KEEP_BYTES (1024 * 1024)

/* The whole name of OUT: from another folder it is the same batch. */
static int name(struct batch_output *o, const char *given, bool retries, struct error *err)
{
	const char *slash = strrchr(given, '/');
	char folder[BATCH_PATH_BYTES], whole[BATCH_PATH_BYTES];

	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - given) + 1 : 1, slash ? given : ".");
	if (!*given || strcmp(given, "-") == 0 || (slash && !slash[1]))
		return error_set(err, ERR_USAGE, "-o must name a file: what is in it says what is done");
	if (!realpath(folder, whole))
		return error_set(err, ERR_USAGE, "%.300s: %s", folder, strerror(errno));
	if ((size_t)snprintf(o->path, sizeof o->path, "%s/%s", whole, slash ? slash + 1 : given) >= sizeof o->path)
		return error_set(err, ERR_USAGE, "%.200s... is too long a name", given);
	snprintf(o->into, sizeof o->into, "%s%s", o->path, retries ? ".new" : "");
	return 0;
}

static int open_locked(const char *path, int flags, struct error *err)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0) {
		error_set(err, ERR_USAGE, "%.300s cannot be %s: %s", path, flags == O_RDONLY ? "read" : "written",
			  strerror(errno));
	} else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		error_set(err, ERR_USAGE, "%.300s is being written by another batch", path);
		close(fd);
		fd = -1;
	}
	return fd;
}

int batch_output_open(struct batch_output *o, const struct batch *b, int in, struct error *err)
{
	struct stat input, output;

	*o = (struct batch_output){.fd = -1, .old = -1, .pending = BUF_INIT(SIZE_MAX / 4)};
	if (name(o, b->cli->option[OPT_INTO], b->retries, err))
		return -1;
	if (b->retries)
		o->old = open_locked(o->path, O_RDONLY, err);
	if (b->retries && o->old < 0)
		return -1;
	if (stat(o->path, &output) == 0 && fstat(in, &input) == 0 && input.st_dev == output.st_dev &&
	    input.st_ino == output.st_ino)
		return error_set(err, ERR_USAGE, "%.300s is input and output at once", o->path);
	o->is_new = access(o->into, F_OK) != 0;
	o->fd = open_locked(o->into, O_RDWR | O_CREAT, err);
	return o->fd < 0 ? -1 : 0;
}

int batch_output_cut(struct batch_output *o, size_t whole, struct error *err)
{
	if (ftruncate(o->fd, (off_t)whole) != 0 || lseek(o->fd, 0, SEEK_END) < 0)
		return error_set(err, ERR_SYSTEM, "%.300s: %s", o->into, strerror(errno));
	return 0;
}

int batch_output_flush(struct batch_output *o, struct error *err)
{
	const char *bytes = o->pending.ptr;
	size_t n = o->pending.len;

	if (o->pending.failed)
		return error_set(err, ERR_MEMORY, "no memory for results");
	while (n > 0) {
		ssize_t wrote = write(o->fd, bytes, n);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return error_set(err, ERR_SYSTEM, "%.300s cannot be written: %s", o->into, strerror(errno));
		bytes += wrote;
		n -= (size_t)wrote;
	}
	buf_trim(&o->pending, PENDING_KEEP_BYTES);
	return 0;
}

int batch_output_replace(struct batch_output *o, struct error *err)
{
	if (o->old < 0 || (fsync(o->fd) == 0 && rename(o->into, o->path) == 0))
		return 0;
	return error_set(err, ERR_SYSTEM, "%.200s cannot take the place of %.200s: %s", o->into, o->path,
			 strerror(errno));
}

void batch_output_close(struct batch_output *o)
{
	if (o->fd > 0)
		close(o->fd);
	if (o->old > 0)
		close(o->old);
	buf_release(&o->pending);
}

int batch_output_foreign(const struct batch_output *o, const struct batch *b, struct error *err)
{
	return error_set(err, ERR_USAGE, "%.300s has %zu %s and the input only %zu: is it the output of another batch?",
			 o->into, b->done, b->kind->unit, b->read);
}
