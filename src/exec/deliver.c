/* SPDX-License-Identifier: MIT
 *
 * See deliver.h. The folder is opened beneath audio_root as beneath.h says, and everything after that happens within it. */
#include "exec/deliver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "exec/beneath.h"

#define TEMP_TRIES 10

void deliver_init(struct deliver *d, const struct settings *settings)
{
	*d = (struct deliver){.settings = settings, .folder = -1};
}

void deliver_close(struct deliver *d)
{
	if (d->folder >= 0)
		close(d->folder);
	deliver_init(d, d->settings);
}

void deliver_note(struct outcome *out, const char *name, const char *value, size_t len)
{
	out->result.len--; /* the closing brace */
	buf_printf(&out->result, ",\"%s\":", name);
	buf_json_string(&out->result, value, len);
	buf_char(&out->result, '}');
}

/* --- Before the call. --------------------------------------------------------------------------------------------------- */

static int refuse(struct outcome *out, const char *why, const char *path)
{
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, "TTSGenerationError", 400, "output_path %s: %s", why, path);
	return -1;
}

static const char *why_no_folder(int error)
{
	switch (error) {
	case EXDEV:
	case ELOOP:
		return "leads out of audio_root";
	case ENOENT:
	case ENOTDIR:
		return "has a folder that does not exist";
	case EACCES:
	case EPERM:
		return "has a folder that may not be entered";
	default:
		return "has a folder that cannot be opened";
	}
}

/* NULL: a file may be put there. */
static const char *why_no_file(const struct deliver *d)
{
	struct stat st;

	if (fstatat(d->folder, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISREG(st.st_mode) ? NULL : "is there already, and is no regular file";
	if (errno == ENAMETOOLONG)
		return "has a name that is too long";
	return errno == ENOENT ? NULL : "cannot be looked at";
}

static int open_folder(struct deliver *d, const char *path)
{
	size_t n = (size_t)(d->name - path);
	char *folder = n > 0 ? strndup(path, n) : strdup(".");

	d->folder = folder ? open_beneath(d->settings->audio_root, folder, O_PATH | O_DIRECTORY) : -1;
	free(folder);
	return d->folder < 0 ? -1 : 0;
}

int deliver_open(struct deliver *d, struct job *job, struct outcome *out)
{
	const char *path, *slash, *why;

	if (job->type->kind != JOB_SYNTHESIZE || strcmp(job_string(job, JOB_OUTPUT, "key"), "path") != 0)
		return 0;
	path = job_string(job, JOB_OUTPUT_PATH, "");
	slash = strrchr(path, '/');
	d->path = path;
	d->name = slash ? slash + 1 : path;
	if (!d->settings->audio_root)
		return refuse(out, "is refused: this worker has no audio_root", path);
	if (*path == '/')
		return refuse(out, "must be relative to audio_root", path);
	if (!*d->name || strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
		return refuse(out, "must name a file", path);
	if (open_folder(d, path))
		return refuse(out, why_no_folder(errno), path);
	why = why_no_file(d);
	if (!why && faccessat(d->folder, ".", W_OK | X_OK, AT_EACCESS) != 0)
		why = "has a folder that may not be written to";
	if (why) {
		deliver_close(d);
		return refuse(out, why, path);
	}
	return 0;
}

/* --- After it. ---------------------------------------------------------------------------------------------------------- */

static bool write_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, data, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		data += put;
		n -= (size_t)put;
	}
	return true;
}

/* A new file of a name that nobody can guess. */
static int create_temp(int folder, char name[32])
{
	int fd = -1;

	for (int i = 0; i < TEMP_TRIES && fd < 0; i++) {
		uint64_t random;

		if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
			return -1;
		snprintf(name, 32, ".adwuma-%016llx", (unsigned long long)random);
		fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 && errno != EEXIST)
			return -1;
	}
	return fd;
}

/* The new name is on the disk, too. Some file systems cannot tell, and that takes nothing from the file. */
static void sync_folder(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

/* 0, or -1 with errno; nothing is left then. */
static int put_file(const struct deliver *d, const struct buf *bytes)
{
	char temp[32];
	int fd = create_temp(d->folder, temp), saved;
	bool good;

	if (fd < 0)
		return -1;
	good = write_all(fd, bytes->ptr, bytes->len) && fsync(fd) == 0;
	saved = errno;
	if (close(fd) != 0 && good) {
		saved = errno;
		good = false;
	}
	if (good && renameat(d->folder, temp, d->folder, d->name) == 0) {
		sync_folder(d->folder);
		return 0;
	}
	saved = good ? errno : saved;
	unlinkat(d->folder, temp, 0);
	errno = saved;
	return -1;
}

/* What was paid for is lost here: the fault says so, and that the same job can succeed once there is room. */
static void to_file(const struct deliver *d, struct outcome *out)
{
	const char *why = why_no_file(d); /* it may have come into being meanwhile */

	if (!why && put_file(d, &out->audio) == 0) {
		deliver_note(out, "audio_path", d->path, strlen(d->path));
		return;
	}
	if (!why)
		why = strerror(errno);
	refuse(out, "could not be written, and the audio that was made is lost", d->path);
	buf_printf(&out->fault.message, ": %s", why);
	out->fault.retryable = true;
}

static void to_result(const struct deliver *d, struct outcome *out)
{
	struct buf text = BUF_INIT((size_t)d->settings->max_job_bytes);

	base64_encode(&text, out->audio.ptr, out->audio.len);
	if (text.failed) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "TTSGenerationError", 400,
			  "audio of %zu bytes is too large for output base64 (max_job_bytes); use output key",
			  out->audio.len);
	} else {
		deliver_note(out, "audio_base64", text.ptr, text.len);
	}
	buf_release(&text);
}

void deliver(struct deliver *d, struct outcome *out)
{
	if (d->folder >= 0)
		to_file(d, out);
	else
		to_result(d, out);
}
