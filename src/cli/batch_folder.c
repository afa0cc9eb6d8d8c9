/* SPDX-License-Identifier: MIT
 *
 * batch: a folder of recordings into a folder of transcripts. See batch.h.
 *
 * A transcript appears in OUT whole or not at all, so what is there is done; a recording that failed has its whole result in NAME.error.json.
 * NAME is the recording's without its ending, or all of it where two would get one NAME, or where it would look like an error's. A recording
 * travels through Redis under its job's id, and is taken away from there when its result is here. The id follows from OUT, the file's name,
 * size and time, and what is asked for, so that it need not be read again to be found. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pick.h"
#include "cli/batch.h"
#include "cli/input.h"
#include "cli/jobs.h"
#include "cli/out.h"
#include "cli/transcript.h"
#include "queue/keys.h"

#define WINDOW 16
#define HELD_BYTES (256UL * 1024 * 1024) /* of recordings in Redis at once */
#define PIECE_BYTES (1024 * 1024)	 /* of a recording in memory here */
#define NAME_BYTES 512			 /* of a file: 255 and our endings */
#define BESIDE ".adwuma-batch" /* what is written before it is renamed; one, since one batch writes at a time */
#define ERROR_ENDING ".error"

static const char *const endings[] = {"wav", "mp3",  "ogg", "oga", "opus", "flac", "m4a", "mp4",
				      "aac", "webm", "wma", "amr", "aif",  "aiff", "3gp"};

struct recording {
	char *name;
	bool whole; /* its transcript has all of its name */
};

struct folder {
	const struct transcript_format *format;
	char path[BATCH_PATH_BYTES]; /* of OUT */
	int in, out;
	struct recording *recordings; /* those that are not done */
	size_t n, room, at;
	size_t of, passed_over;
};

/* --- Names. ------------------------------------------------------------------------------------------------------- */

static size_t stem(const char *name)
{
	return (size_t)(strrchr(name, '.') - name);
}

static bool is_recording(const char *name)
{
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && dot > name && *name != '.' && i < sizeof endings / sizeof *endings; i++)
		if (strcasecmp(dot + 1, endings[i]) == 0)
			return true;
	return false;
}

static bool has_end(const char *s, size_t n, const char *end)
{
	return n >= strlen(end) && memcmp(s + n - strlen(end), end, strlen(end)) == 0;
}

/* NAME of its transcript and of its error. */
static size_t base(const struct recording *r)
{
	return r->whole ? strlen(r->name) : stem(r->name);
}

static void name_output(const struct recording *r, const char *ending, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%.*s.%s", (int)base(r), r->name, ending);
}

static void name_error(const struct recording *r, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%.*s" ERROR_ENDING ".json", (int)base(r), r->name);
}

static int by_base(const void *a, const void *b)
{
	const struct recording *x = a, *y = b;
	size_t n = base(x), m = base(y);
	int order = memcmp(x->name, y->name, n < m ? n : m);

	if (order == 0 && n != m)
		return n < m ? -1 : 1;
	return order != 0 ? order : strcmp(x->name, y->name);
}

/* Those that would get one NAME get their whole names, which may be NAMEs of others yet: until nothing changes. */
static void part_names(struct folder *f)
{
	bool changed = true;

	for (size_t i = 0; i < f->n; i++)
		f->recordings[i].whole = has_end(f->recordings[i].name, stem(f->recordings[i].name), ERROR_ENDING);
	while (changed && f->n > 0) {
		changed = false;
		qsort(f->recordings, f->n, sizeof *f->recordings, by_base);
		for (size_t i = 1; i < f->n; i++) {
			struct recording *x = &f->recordings[i - 1], *y = x + 1;

			if (base(x) != base(y) || memcmp(x->name, y->name, base(x)) != 0)
				continue;
			changed = changed || !x->whole || !y->whole;
			x->whole = y->whole = true;
		}
	}
}

/* --- Beginning. --------------------------------------------------------------------------------------------------- */

static int keep(struct folder *f, const char *name, struct error *err)
{
	size_t room = f->room ? 2 * f->room : 64;
	struct recording *more = f->n == f->room ? realloc(f->recordings, room * sizeof *more) : f->recordings;

	if (!more)
		return error_set(err, ERR_MEMORY, "no memory for the names of %zu recordings", f->n);
	f->room = f->n == f->room ? room : f->room;
	f->recordings = more;
	f->recordings[f->n] = (struct recording){.name = strdup(name)};
	if (!f->recordings[f->n].name)
		return error_set(err, ERR_MEMORY, "no memory for the names of %zu recordings", f->n);
	f->n++;
	return 0;
}

static int list(struct folder *f, const char *path, struct error *err)
{
	int fd = dup(f->in), rc = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	struct stat st;

	if (!dir) {
		error_set(err, ERR_USAGE, "%.300s cannot be read: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (rc == 0 && (errno = 0, entry = readdir(dir))) {
		if (fstatat(f->in, entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode) && is_recording(entry->d_name))
			rc = keep(f, entry->d_name, err);
		else
			f->passed_over += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	}
	if (rc == 0 && errno != 0)
		rc = error_set(err, ERR_USAGE, "%.300s cannot be read: %s", path, strerror(errno));
	closedir(dir);
	return rc;
}

static bool exists(const struct folder *f, const char *name)
{
	return faccessat(f->out, name, F_OK, 0) == 0;
}

static void read_error(const struct folder *f, const char *name, struct buf *out)
{
	int fd = openat(f->out, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t got = 1;

	while (fd >= 0 && got > 0) {
		char block[4096];

		got = input_read(fd, block, sizeof block);
		buf_add(out, block, got > 0 ? (size_t)got : 0);
	}
	if (fd >= 0)
		close(fd);
}

/* Whether it is done, which is counted. An error beside a transcript is from before. */
static bool is_done(struct batch *b, const struct recording *r)
{
	struct folder *f = b->own;
	struct buf result = BUF_INIT(PICK_TEXT_MAX);
	char output[NAME_BYTES], error[NAME_BYTES];
	bool done = true;

	name_output(r, f->format->ending, output);
	name_error(r, error);
	if (exists(f, output)) {
		unlinkat(f->out, error, 0);
		batch_count(b, NULL);
	} else if (!b->retries && exists(f, error)) {
		read_error(f, error, &result);
		batch_count_result(b, buf_cstr(&result));
	} else {
		done = false;
	}
	buf_release(&result);
	return done;
}

static void drop_done(struct batch *b)
{
	struct folder *f = b->own;
	size_t kept = 0;

	f->of = f->n;
	for (size_t i = 0; i < f->of; i++) {
		if (is_done(b, &f->recordings[i]))
			free(f->recordings[i].name);
		else
			f->recordings[kept++] = f->recordings[i];
	}
	f->n = kept;
}

static int open_output(struct batch *b, const char *path, struct error *err)
{
	struct folder *f = b->own;

	if (!*path || strcmp(path, "-") == 0)
		return error_set(err, ERR_USAGE, "-o must name a folder: what is in it says what is done");
	b->fresh = mkdir(path, 0777) == 0;
	if (!b->fresh && errno != EEXIST)
		return error_set(err, ERR_USAGE, "%.300s cannot be made: %s", path, strerror(errno));
	f->out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->out < 0 || !realpath(path, f->path))
		return error_set(err, ERR_USAGE, "%.300s cannot be used: %s", path, strerror(errno));
	if (faccessat(f->out, ".", W_OK | X_OK, 0) != 0)
		return error_set(err, ERR_USAGE, "%.300s cannot be written to: %s", path, strerror(errno));
	if (flock(f->out, LOCK_EX | LOCK_NB) != 0)
		return error_set(err, ERR_USAGE, "%.300s is being written by another batch", path);
	unlinkat(f->out, BESIDE, 0); /* of a run that was killed */
	return 0;
}

static void say_passed_over(const struct folder *f)
{
	struct buf known = BUF_INIT(4096);

	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		buf_printf(&known, " .%s", endings[i]);
	say("%zu of %zu are passed over: recordings are files that end in%s", f->passed_over, f->passed_over + f->of,
	    buf_cstr(&known));
	buf_release(&known);
}

static int open_all(struct batch *b, struct error *err)
{
	const char *path = b->cli->operands[0];
	struct folder *f = b->own = calloc(1, sizeof *f);

	if (!f)
		return error_set(err, ERR_MEMORY, "no memory");
	f->out = -1;
	f->format = transcript_format(b->cli->option[OPT_FORMAT]);
	f->in = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->in < 0)
		return error_set(err, ERR_USAGE, "%.300s cannot be read: %s", path, strerror(errno));
	if (list(f, path, err) || open_output(b, b->cli->option[OPT_INTO], err))
		return -1;
	part_names(f);
	drop_done(b);
	b->read = b->done;
	if (f->passed_over > 0)
		say_passed_over(f);
	return 0;
}

static size_t count(struct batch *b)
{
	return ((struct folder *)b->own)->of;
}

/* --- Recordings in. ----------------------------------------------------------------------------------------------- */

static const struct recording *recording_of(const struct batch *b, const struct item *item)
{
	const struct folder *f = b->own;
	size_t i;

	memcpy(&i, item->record.ptr, sizeof i);
	return &f->recordings[i];
}

static void refuse(const struct batch *b, struct item *item, const char *what, const char *why)
{
	char text[300];

	snprintf(text, sizeof text, "the recording %s%s%.200s", what, why ? ": " : "", why ? why : "");
	batch_refuse(b, item, NULL, text, NULL);
}

/* With --retry-failed another than that of the failed result, which may be still there. */
static void choose_id(const struct batch *b, const struct recording *r, const struct stat *st, const char *asked,
		      char id[ADWUMA_ID_MAX + 1])
{
	const struct folder *f = b->own;
	struct want want[] = {{"id", {0}}};
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	char name[NAME_BYTES], old[ADWUMA_ID_MAX + 1];

	buf_printf(&text, "%s\n%s\n%lld.%09ld", r->name, asked, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	batch_make_id(f->path, (size_t)st->st_size, buf_cstr(&text), text.len, id);
	buf_clear(&text);
	name_error(r, name);
	if (b->retries)
		read_error(f, name, &text);
	if (text.len > 0 && pick((struct span){text.ptr, text.len}, want, 1) == 0 &&
	    pick_text(want[0].value, old, ADWUMA_ID_MAX))
		batch_retry_id(old, id);
	buf_release(&text);
}

static void name_audio(const struct batch *b, const char *queue, const char *id, char key[KEY_MAX])
{
	struct keys keys;

	keys_init(&keys, b->cli->settings->key_prefix, queue);
	key_audio(&keys, id, key);
}

static void make_job(struct batch *b, struct item *item, const struct recording *r, const struct stat *st)
{
	const struct folder *f = b->own;
	const char *queue = b->cli->option[OPT_QUEUE] ? b->cli->option[OPT_QUEUE] : "transcribe";
	const char *timestamps = b->cli->option[OPT_TIMESTAMPS];
	struct buf asked = BUF_INIT(SIZE_MAX / 4), json = BUF_INIT(SIZE_MAX / 4);
	char id[ADWUMA_ID_MAX + 1], key[KEY_MAX];

	jobs_write_member(&asked, "language", jobs_language(b->cli));
	jobs_write_member(&asked, "timestamps", timestamps || !f->format->timed ? timestamps : "segment");
	choose_id(b, r, st, buf_cstr(&asked), id);
	name_audio(b, queue, id, key);
	buf_lit(&json, "{\"type\":\"transcribe\"");
	jobs_write_member(&json, "audio_key", key);
	buf_add(&json, asked.ptr, asked.len);
	buf_char(&json, '}');
	batch_make_job(b, item, buf_cstr(&json), json.len, id);
	buf_release(&asked);
	buf_release(&json);
}

static int next(struct batch *b, struct item *item, struct error *err)
{
	struct folder *f = b->own;
	const struct recording *r = &f->recordings[f->at];
	int64_t max = b->cli->settings->max_audio_bytes;
	char why[80];
	struct stat st;

	(void)err;
	if (f->at == f->n)
		return 0;
	buf_add(&item->record, &f->at, sizeof f->at);
	f->at++;
	if (fstatat(f->in, r->name, &st, 0) != 0) {
		refuse(b, item, "cannot be read", strerror(errno));
	} else if (st.st_size == 0) {
		refuse(b, item, "is empty", NULL);
	} else if (st.st_size > max) {
		snprintf(why, sizeof why, "it has %lld, and max_audio_bytes is %" PRId64, (long long)st.st_size, max);
		refuse(b, item, "has too many bytes", why);
	} else {
		make_job(b, item, r, &st);
		item->held = (size_t)st.st_size;
	}
	return 1;
}

/* In pieces, so that it need not be held here. One that breaks off is begun anew. 1: all is there; 0: it cannot be read. */
static int upload(struct batch *b, int fd, const char *key, struct error *err)
{
	const struct settings *s = b->cli->settings;
	char *piece = malloc(PIECE_BYTES);
	int64_t all = 0;
	ssize_t got = 1;
	int rc = piece ? 0 : error_set(err, ERR_MEMORY, "no memory for a recording");

	while (rc == 0 && (got = input_read(fd, piece, PIECE_BYTES)) > 0 && all + got <= s->max_audio_bytes) {
		rc = all == 0 ? redis_call(b->look.redis, NULL, err, "SET %s %b EX %lld", key, piece, (size_t)got,
					   (long long)s->result_ttl_s)
			      : redis_call(b->look.redis, NULL, err, "APPEND %s %b", key, piece, (size_t)got);
		all += got;
	}
	free(piece);
	return rc < 0 ? -1 : got == 0 && all > 0;
}

/* A recording that an earlier run has left there, or the result of it. What that run had in flight may lie anywhere in the folder by now. */
static int doubt(struct batch *b, struct item *item, struct error *err)
{
	struct reply *reply = NULL;
	char audio[KEY_MAX], result[KEY_MAX];
	struct keys keys;

	name_audio(b, item->queue, item->id, audio);
	keys_init(&keys, b->cli->settings->key_prefix, item->queue);
	key_result(&keys, item->id, result);
	if (redis_call(b->look.redis, &reply, err, "EXISTS %s %s", audio, result))
		return -1;
	item->doubtful = reply_int(reply, 0) > 0;
	reply_free(reply);
	return 0;
}

static int send(struct batch *b, struct item *item, struct error *err)
{
	const struct folder *f = b->own;
	int fd = openat(f->in, recording_of(b, item)->name, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc = 0;
	char key[KEY_MAX];

	name_audio(b, item->queue, item->id, key);
	if (fd >= 0)
		rc = upload(b, fd, key, err);
	if (rc == 0)
		refuse(b, item, "cannot be read", fd < 0 ? strerror(errno) : "it changes or is unreadable");
	if (fd >= 0)
		close(fd);
	return rc < 0 ? -1 : 0;
}

/* --- Transcripts out. --------------------------------------------------------------------------------------------- */

static bool write_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t wrote = write(fd, bytes, n);

		if (wrote < 0 && errno != EINTR)
			return false;
		bytes += wrote > 0 ? wrote : 0;
		n -= wrote > 0 ? (size_t)wrote : 0;
	}
	return true;
}

static int save(const struct folder *f, const char *name, const struct buf *text, struct error *err)
{
	int fd = openat(f->out, BESIDE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	bool done = fd >= 0 && write_all(fd, buf_cstr(text), text->len) && fsync(fd) == 0;

	done = fd >= 0 && close(fd) == 0 && done && renameat(f->out, BESIDE, f->out, name) == 0;
	return done ? 0
		    : error_set(err, ERR_SYSTEM, "%.150s/%.255s cannot be written: %s", f->path, name, strerror(errno));
}

/* The transcript; where there is none in the result, that becomes a failed one. */
static int render(const struct batch *b, struct item *item, struct buf *out, struct error *err)
{
	const struct folder *f = b->own;
	struct error why = {0};
	struct result r;
	char *result;

	if (result_read(&r, buf_cstr(&item->result)) || !result_succeeded(&r))
		return 0;
	if (f->format->render(&r, out, &why) == 0 && !out->failed)
		return 0;
	if (out->failed || why.code == ERR_MEMORY)
		return error_set(err, ERR_MEMORY, "no memory for a transcript");
	buf_clear(out);
	result = r.result.ptr ? strndup(r.result.ptr, r.result.len) : NULL;
	batch_refuse(b, item, "ASRTranscriptionError", why.msg, result);
	free(result);
	return 0;
}

/* Where the connection is lost all of it is done again; where Redis refuses, the recording expires. */
static int delete_audio(const struct batch *b, const struct item *item, struct error *err)
{
	char key[KEY_MAX];

	name_audio(b, item->queue, item->id, key);
	return redis_call(b->look.redis, NULL, err, "DEL %s", key) && err->code == ERR_LINK ? -1 : 0;
}

static int put(struct batch *b, struct item *item, struct error *err)
{
	const struct recording *r = recording_of(b, item);
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	const struct folder *f = b->own;
	char output[NAME_BYTES], error[NAME_BYTES];
	int rc = render(b, item, &text, err);

	name_output(r, f->format->ending, output);
	name_error(r, error);
	if (rc == 0 && text.len > 0) {
		rc = save(f, output, &text, err);
		unlinkat(f->out, error, 0);
	} else if (rc == 0) {
		json_add_clean(&text, (struct span){item->result.ptr, item->result.len});
		buf_char(&text, '\n');
		rc = save(f, error, &text, err);
	}
	buf_release(&text);
	return rc == 0 && *item->id ? delete_audio(b, item, err) : rc;
}

static void close_all(struct batch *b)
{
	struct folder *f = b->own;

	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		free(f->recordings[i].name);
	free(f->recordings);
	if (f->in >= 0)
		close(f->in);
	if (f->out >= 0)
		close(f->out);
	free(f);
}

const struct batch_kind batch_folder = {.unit = "recordings",
					.takes = TAKES(OPT_QUEUE) | TAKES(OPT_LANGUAGE) | TAKES(OPT_TIMESTAMPS) |
						 TAKES(OPT_FORMAT),
					.window = WINDOW,
					.held_max = HELD_BYTES,
					.open = open_all,
					.count = count,
					.next = next,
					.doubt = doubt,
					.send = send,
					.put = put,
					.close = close_all};
