/* SPDX-License-Identifier: MIT
 *
 * A file is written beside its place and renamed into it, so nobody ever sees half of it and an old one survives a
 * failure. A link is followed, its target replaced. What is no plain file (a pipe, a device) is written as it stands.
 */
#include "cli/save.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/out.h"

struct place {
	char path[PATH_MAX]; /* with links resolved, where it exists */
	char folder[PATH_MAX];
	bool plain; /* a plain file, or nothing yet */
	mode_t mode;
};

static mode_t mode_of_new_file(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return 0666 & ~mask;
}

static int refuse(struct error *err, enum err_code code, const char *path, const char *why)
{
	return error_set(err, code, "%s cannot be written: %s", path, why);
}

static int place_find(struct place *p, const char *path, struct error *err)
{
	char copy[PATH_MAX];
	struct stat st;

	if (strlen(path) >= sizeof copy)
		return refuse(err, ERR_USAGE, path, strerror(ENAMETOOLONG));
	if (!realpath(path, p->path))
		snprintf(p->path, sizeof p->path, "%s", path);
	snprintf(copy, sizeof copy, "%s", p->path);
	snprintf(p->folder, sizeof p->folder, "%s", dirname(copy));
	p->mode = mode_of_new_file();
	p->plain = true;
	if (stat(p->path, &st) != 0)
		return errno == ENOENT ? 0 : refuse(err, ERR_USAGE, path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return refuse(err, ERR_USAGE, path, "it is a directory");
	p->plain = S_ISREG(st.st_mode);
	p->mode = st.st_mode & 0777;
	return 0;
}

int save_check(const char *path, struct error *err)
{
	struct place p = {0};

	if (strcmp(path, "-") == 0 && out_is_terminal())
		return refuse(err, ERR_USAGE, "standard output", "it is a terminal, and this is audio");
	if (strcmp(path, "-") == 0)
		return 0;
	if (*path == '\0' || path[strlen(path) - 1] == '/')
		return refuse(err, ERR_USAGE, *path ? path : "''", "that is no file's name");
	if (place_find(&p, path, err))
		return -1;
	if (access(p.plain ? p.folder : p.path, p.plain ? W_OK | X_OK : W_OK) != 0)
		return refuse(err, ERR_USAGE, path, strerror(errno));
	return 0;
}

static bool write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool replace(const struct place *p, const char *bytes, size_t len)
{
	char beside[PATH_MAX + 32];
	bool done;
	int fd, why;

	snprintf(beside, sizeof beside, "%s/.adwuma-XXXXXX", p->folder);
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write_all(fd, bytes, len) && fchmod(fd, p->mode) == 0 && fsync(fd) == 0;
	done = close(fd) == 0 && done && rename(beside, p->path) == 0;
	why = errno;
	if (!done)
		unlink(beside);
	errno = why;
	return done;
}

static bool write_into(const char *path, const char *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	bool done = fd >= 0 && write_all(fd, bytes, len);

	return fd >= 0 && close(fd) == 0 && done;
}

int save_bytes(const char *path, const char *bytes, size_t len, struct error *err)
{
	struct place p = {0};

	if (strcmp(path, "-") == 0) {
		out_write(bytes, len);
		out_flush();
		return 0;
	}
	if (place_find(&p, path, err))
		return -1;
	if (p.plain ? replace(&p, bytes, len) : write_into(p.path, bytes, len))
		return 0;
	return refuse(err, ERR_SYSTEM, path, strerror(errno));
}
