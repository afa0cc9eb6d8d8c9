/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (64UL * 1024)

static int read_fd(int fd, struct buf *out)
{
	for (;;) {
		size_t left = out->max - out->len, room = left < READ_BYTES ? left + 1 : READ_BYTES;
		char *to = buf_reserve(out, room <= left ? room : left);
		char beyond;
		ssize_t got;

		if (!to)
			return -1;
		got = left > 0 ? read(fd, to, room <= left ? room : left) : read(fd, &beyond, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return (int)got;
		if (left == 0) {
			out->failed = true;
			return -1;
		}
		out->len += (size_t)got;
		out->ptr[out->len] = '\0';
	}
}

int file_read_all(const char *path, const char *setting, struct buf *out, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
		rc = error_set(err, ERR_INVALID, "%s is no file", path);
	else if (fd >= 0 && read_fd(fd, out) == 0)
		rc = 0;
	else if (out->failed)
		rc = error_set(err, ERR_INVALID, "%s has more than %zu bytes (%s)", path, out->max, setting);
	else
		rc = error_set(err, ERR_INVALID, "%s cannot be read: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}
