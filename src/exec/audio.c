/* SPDX-License-Identifier: MIT
 *
 * See audio.h. */
#include "exec/audio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fault_point.h"
#include "exec/beneath.h"
#include "http/fetch.h"
#include "job/operation.h"

#define PIECE_BYTES (256 * 1024)
#define HEAD_BYTES API_AUDIO_HEAD_BYTES
#define STALL_S 30

/* --- Reading. ----------------------------------------------------------------------------------------------------------- */

void audio_init(struct audio *a, const struct settings *settings, struct side *side)
{
	*a = (struct audio){.settings = settings, .side = side, .fd = -1, .bytes = BUF_INIT(1UL << 30)};
}

void audio_close(struct audio *a)
{
	if (a->fd >= 0)
		close(a->fd);
	reply_free(a->piece);
	buf_release(&a->bytes);
	audio_init(a, a->settings, a->side);
}

static int64_t read_file(void *ctx, char *to, size_t n)
{
	struct audio *a = ctx;
	ssize_t got;

	/* The length was promised to the server: a file that grew is cut, one that shrank fails the call. */
	if ((int64_t)n > a->size - a->at)
		n = (size_t)(a->size - a->at);
	got = n > 0 ? pread(a->fd, to, n, a->at) : 0;
	if (got < 0 || (n > 0 && got == 0))
		return -1;
	a->at += got;
	return got;
}

static int next_piece(struct audio *a)
{
	struct error err = {0};

	reply_free(a->piece);
	a->piece = NULL;
	a->piece_at = 0;
	if (side_open(a->side, &err) || redis_call(a->side->r, &a->piece, &err, "GETRANGE %s %lld %lld", a->key,
						   (long long)a->at, (long long)(a->at + PIECE_BYTES - 1))) {
		a->lost = true;
		side_close(a->side);
		return -1;
	}
	return 0;
}

static int64_t read_key(void *ctx, char *to, size_t n)
{
	struct audio *a = ctx;
	const char *bytes;
	size_t len = 0;

	if (a->at >= a->size)
		return 0;
	bytes = reply_bytes(a->piece, &len);
	if (!bytes || a->piece_at >= len) {
		if (next_piece(a))
			return -1;
		bytes = reply_bytes(a->piece, &len);
		if (!bytes || len == 0)
			return -1; /* it expired, or was cut, under our hands */
	}
	if (n > len - a->piece_at)
		n = len - a->piece_at;
	if ((int64_t)n > a->size - a->at)
		n = (size_t)(a->size - a->at);
	memcpy(to, bytes + a->piece_at, n);
	a->piece_at += n;
	a->at += (int64_t)n;
	return (int64_t)n;
}

static int rewind_source(void *ctx)
{
	struct audio *a = ctx;

	a->at = 0;
	reply_free(a->piece);
	a->piece = NULL;
	return 0;
}

static void use_source(struct audio *a, struct call *call, int64_t (*read)(void *, char *, size_t))
{
	a->source = (struct http_body_source){.read = read, .rewind = rewind_source, .ctx = a, .size = a->size};
	call->request.source = &a->source;
}

/* --- Opening. ----------------------------------------------------------------------------------------------------------- */

static enum audio_opened check_size(struct audio *a, struct job *job, struct outcome *out, const char *what)
{
	int64_t max = a->settings->max_audio_bytes;

	if (a->size == 0)
		api_audio_fault(job, out, "%s is empty", what);
	else if (a->size > max)
		api_audio_fault(job, out, "%s has %lld bytes; max_audio_bytes allows %lld", what, (long long)a->size,
				(long long)max);
	else
		return AUDIO_READY;
	return AUDIO_FAULT;
}

static enum audio_opened use_file(struct audio *a, struct job *job, struct call *call, struct outcome *out,
				  const char *what)
{
	char head[HEAD_BYTES];
	ssize_t got;

	if (check_size(a, job, out, what) != AUDIO_READY)
		return AUDIO_FAULT;
	got = pread(a->fd, head, sizeof head, 0);
	api_set_audio_head(call, head, got > 0 ? (size_t)got : 0, a->size);
	use_source(a, call, read_file);
	return AUDIO_READY;
}

static const char *why_not_opened(int error)
{
	switch (error) {
	case EXDEV:
	case ELOOP:
		return "leads out of audio_root";
	case EACCES:
	case EPERM:
		return "may not be read";
	default:
		return "cannot be opened";
	}
}

static enum audio_opened open_path(struct audio *a, struct job *job, struct call *call, struct outcome *out)
{
	const char *root = a->settings->audio_root, *path = job_string(job, JOB_AUDIO_PATH, ""), *inside = path,
		   *name = job_field_name(job, JOB_AUDIO_PATH);
	size_t n = root ? strlen(root) : 0;
	struct stat st;

	if (!root) {
		api_audio_fault(job, out, "%s is refused: this worker has no audio_root", name);
		return AUDIO_FAULT;
	}
	/* The whole name of a file under the root is as good as the name within it. */
	if (strncmp(path, root, n) == 0 && (path[n] == '/' || (n > 0 && root[n - 1] == '/')))
		inside = path + n + strspn(path + n, "/");
	a->fd = open_beneath(root, inside, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (a->fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		api_audio_fault(job, out, "%s not found: %s", operation_of(job) ? "File" : "Audio file", path);
		return AUDIO_FAULT;
	}
	if (a->fd < 0) {
		api_audio_fault(job, out, "%s %s: %s", name, why_not_opened(errno), path);
		return AUDIO_FAULT;
	}
	if (fstat(a->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		api_audio_fault(job, out, "%s is no regular file: %s", name, path);
		return AUDIO_FAULT;
	}
	a->size = st.st_size;
	return use_file(a, job, call, out, operation_of(job) ? "the file" : "the audio file");
}

/* A file that nobody else can see, and that goes with its descriptor. */
static int open_nameless(void)
{
	const char *folder = getenv("TMPDIR");
	int fd = open(folder && *folder ? folder : "/tmp", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : memfd_create("adwuma-audio", MFD_CLOEXEC);
}

static bool takes_http(const void *settings, const char *host, size_t n)
{
	return settings_takes_http(settings, host, n);
}

enum audio_opened audio_fetch(struct audio *a, struct http *http, int64_t timeout_ms, struct job *job,
			      struct call *call, struct outcome *out, bool *tried)
{
	struct fetch_request req = {.url = job_string(job, JOB_AUDIO_URL, ""),
				    .allow = a->settings->audio_url_allow,
				    .takes_http = takes_http,
				    .ctx = a->settings,
				    .fd = open_nameless(),
				    .max_bytes = a->settings->max_audio_bytes,
				    .timeout_ms = timeout_ms,
				    .stall_s = STALL_S};
	struct fetch_response got;

	a->fd = req.fd;
	http_fetch(http, &req, &got);
	*tried = got.tried;
	if (got.end == FETCH_ABORTED)
		return AUDIO_ABORTED;
	if (got.end != FETCH_DONE) {
		api_audio_fault(job, out, "audio_url: %s", got.fault);
		out->fault.retryable = got.end == FETCH_FAILED;
		out->kind = got.end == FETCH_FAILED ? OUTCOME_RETRY : OUTCOME_FAILED;
		return AUDIO_FAULT;
	}
	a->size = got.bytes;
	return use_file(a, job, call, out, "the audio at audio_url");
}

static enum audio_opened open_key(struct audio *a, const struct keys *keys, struct job *job, struct call *call,
				  struct outcome *out, struct error *err)
{
	const char *key = job_string(job, JOB_AUDIO_KEY, ""), *name = job_field_name(job, JOB_AUDIO_KEY);
	struct reply *reply = NULL;
	const char *head;
	size_t len = 0;

	if (!a->side) {
		api_audio_fault(job, out, "%s is refused: there is no Redis here", name);
		return AUDIO_FAULT;
	}
	if (strlen(key) >= KEY_MAX || !key_is_audio(keys, key)) {
		api_audio_fault(job, out, "%s must be the whole name of an audio key, like %saudio:NAME, got '%.100s'",
				name, keys->stem, key);
		return AUDIO_FAULT;
	}
	memcpy(a->key, key, strlen(key) + 1);
	fault_point("audio:before");
	if (side_open(a->side, err))
		return AUDIO_NO_REDIS;
	if (redis_call(a->side->r, &reply, err, "STRLEN %s", key)) {
		if (err->code == ERR_REFUSED) {
			api_audio_fault(job, out, "%s '%s' holds no string", name, key);
			return AUDIO_FAULT;
		}
		side_close(a->side);
		return AUDIO_NO_REDIS;
	}
	a->size = reply_int(reply, 0);
	reply_free(reply);
	reply = NULL;
	if (a->size == 0) {
		api_audio_fault(job, out, "%s '%s' is empty, or does not exist (any more)", name, key);
		return AUDIO_FAULT;
	}
	if (check_size(a, job, out, operation_of(job) ? "the file" : "the audio") != AUDIO_READY)
		return AUDIO_FAULT;
	if (redis_call(a->side->r, &reply, err, "GETRANGE %s 0 %d", key, HEAD_BYTES - 1)) {
		side_close(a->side);
		return AUDIO_NO_REDIS;
	}
	fault_point("audio:after");
	head = reply_bytes(reply, &len);
	api_set_audio_head(call, head ? head : "", len, a->size);
	reply_free(reply);
	use_source(a, call, read_key);
	return AUDIO_READY;
}

static enum audio_opened open_base64(struct audio *a, struct job *job, struct call *call, struct outcome *out)
{
	struct span v = job->field[JOB_AUDIO_BASE64];
	const char *text = v.ptr + 1, *name = job_field_name(job, JOB_AUDIO_BASE64);
	size_t n = v.len - 2;

	if (memchr(text, '\\', n)) { /* "\/" is legal JSON for "/" */
		text = job_string(job, JOB_AUDIO_BASE64, "");
		n = strlen(text);
	}
	if (!base64_decode(&a->bytes, text, n)) {
		api_audio_fault(job, out, "%s is no base64 (RFC 4648, with padding, without line breaks)", name);
		return AUDIO_FAULT;
	}
	a->size = (int64_t)a->bytes.len;
	if (check_size(a, job, out, name) != AUDIO_READY)
		return AUDIO_FAULT;
	api_set_audio_head(call, a->bytes.ptr, a->bytes.len, a->size);
	call->request.body = a->bytes.ptr;
	call->request.body_len = a->bytes.len;
	return AUDIO_READY;
}

enum audio_opened audio_open(struct audio *a, const struct keys *keys, struct job *job, struct call *call,
			     struct outcome *out, struct error *err)
{
	if (job_has(job, JOB_AUDIO_PATH))
		return open_path(a, job, call, out);
	if (job_has(job, JOB_AUDIO_KEY))
		return open_key(a, keys, job, call, out, err);
	if (job_has(job, JOB_AUDIO_BASE64))
		return open_base64(a, job, call, out);
	if (a->settings->audio_url_allow)
		return AUDIO_ELSEWHERE;
	api_audio_fault(job, out, "audio_url is refused: this worker takes none (audio_url_allow)");
	return AUDIO_FAULT;
}

/* --- Staging. ----------------------------------------------------------------------------------------------------------- */

int audio_stage(struct side *side, const char *key, const struct buf *bytes, int64_t ttl_ms, struct error *err)
{
	struct redis_args args = {0};
	int rc = side_open(side, err);

	for (size_t at = 0; rc == 0 && at < bytes->len; at += PIECE_BYTES) {
		size_t n = bytes->len - at < PIECE_BYTES ? bytes->len - at : PIECE_BYTES;
		struct reply *reply = NULL;

		redis_args_script(&args, side->r, SCRIPT_STAGE);
		redis_arg_int(&args, 1);
		redis_arg_str(&args, key);
		redis_arg(&args, bytes->ptr + at, n);
		redis_arg_str(&args, at == 0 ? "1" : "0");
		redis_arg_int(&args, ttl_ms);
		fault_point("stage:before");
		rc = redis_run(side->r, &args, &reply, err);
		fault_point("stage:after");
		/* A piece that went in twice after a lost reply, or an expired beginning, shows in the length. */
		if (rc == 0 && reply_int(reply, -1) != (int64_t)(at + n))
			rc = error_set(err, ERR_LINK, "staged audio has another length than expected");
		reply_free(reply);
	}
	redis_args_release(&args);
	if (rc)
		side_close(side);
	return rc;
}
