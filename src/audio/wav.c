/* SPDX-License-Identifier: MIT */
#include "audio/wav.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RIFF_BYTES 12
#define CHUNK_BYTES 8
#define FMT_BYTES 16
#define EXTENSIBLE 0xfffe
#define EXTENSIBLE_BYTES 40
#define SUBFORMAT_AT 24
#define FACT_BYTES 4
#define SIZE_OPEN 0xffffffff

/* --- Numbers are little endian. ----------------------------------------------------------------------------------- */

static uint32_t get16(const unsigned char *s)
{
	return (uint32_t)s[0] | (uint32_t)s[1] << 8;
}

static uint32_t get32(const unsigned char *s)
{
	return get16(s) | get16(s + 2) << 16;
}

static void put32(char *s, uint64_t n)
{
	for (int i = 0; i < 4; i++)
		s[i] = (char)(n >> 8 * i & 0xff);
}

/* --- Reading. ----------------------------------------------------------------------------------------------------- */

/* The tag of an extensible format is the beginning of a GUID whose rest is always this. */
static bool is_subformat(const unsigned char *guid)
{
	static const unsigned char rest[] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};

	return memcmp(guid + 2, rest, sizeof rest) == 0;
}

static int read_format(const unsigned char *fmt, size_t n, struct wav_info *out, struct error *err)
{
	if (n < FMT_BYTES)
		return error_set(err, ERR_INVALID, "its fmt chunk has %zu bytes; %d are needed", n, FMT_BYTES);
	out->tag = get16(fmt);
	out->channels = get16(fmt + 2);
	out->rate_hz = get32(fmt + 4);
	out->frame_bytes = get16(fmt + 12);
	out->bits = get16(fmt + 14);
	if (out->tag == EXTENSIBLE) {
		if (n < EXTENSIBLE_BYTES || !is_subformat(fmt + SUBFORMAT_AT))
			return error_set(err, ERR_INVALID, "its extensible format does not say what it stands for");
		out->tag = get16(fmt + SUBFORMAT_AT);
	}
	if (out->tag != WAV_PCM && out->tag != WAV_FLOAT)
		return error_set(err, ERR_INVALID,
				 "its samples have format tag %" PRIu32 "; only PCM (1) and float (3) are known",
				 out->tag);
	if (out->channels == 0 || out->rate_hz == 0 || out->bits == 0)
		return error_set(err, ERR_INVALID,
				 "it cannot have %" PRIu32 " channels of %" PRIu32 " bits at %" PRIu32 " Hz",
				 out->channels, out->bits, out->rate_hz);
	if (out->frame_bytes < out->channels * ((out->bits + 7) / 8))
		return error_set(err, ERR_INVALID,
				 "%" PRIu32 " channels of %" PRIu32 " bits do not fit into frames of %" PRIu32 " bytes",
				 out->channels, out->bits, out->frame_bytes);
	return 0;
}

static void read_data(uint64_t riff_size, uint32_t size, uint64_t file_bytes, struct wav_info *out)
{
	uint64_t there = file_bytes - out->data_at;

	out->open = size > there || size == SIZE_OPEN || (size == 0 && there > 0);
	/* Some writers count no pad byte behind the data, and what stands behind the whole is not ours to judge. */
	out->valid =
		!out->open && riff_size <= file_bytes - CHUNK_BYTES && riff_size + CHUNK_BYTES >= out->data_at + size;
	out->frames = (out->open ? there : size) / out->frame_bytes;
	out->data_bytes = out->frames * out->frame_bytes;
	out->seconds = (double)out->frames / out->rate_hz;
}

int wav_parse_head(const void *head, size_t n, uint64_t file_bytes, struct wav_info *out, struct error *err)
{
	const unsigned char *s = head;
	size_t at = RIFF_BYTES;

	*out = (struct wav_info){0};
	if (n > file_bytes)
		n = (size_t)file_bytes;
	if (n < RIFF_BYTES || memcmp(s, "RIFF", 4) != 0 || memcmp(s + 8, "WAVE", 4) != 0)
		return error_set(err, ERR_INVALID, "this is no WAV file: it does not begin with RIFF and WAVE");
	while (at <= n && n - at >= CHUNK_BYTES) {
		const unsigned char *chunk = s + at;
		uint32_t size = get32(chunk + 4);

		at += CHUNK_BYTES;
		if (memcmp(chunk, "data", 4) == 0) {
			if (out->frame_bytes == 0)
				return error_set(err, ERR_INVALID,
						 "no fmt chunk stands before the data of this WAV file");
			out->data_at = at;
			read_data(get32(s + 4), size, file_bytes, out);
			return 0;
		}
		if (size > file_bytes - at)
			return error_set(
				err, ERR_INVALID,
				"the chunk at byte %zu of this WAV file runs past its end, and none before it holds the data",
				at - CHUNK_BYTES);
		if (size > n - at)
			break;
		if (memcmp(chunk, "fmt ", 4) == 0 && out->fmt_at == 0) {
			out->fmt_at = at;
			out->fmt_bytes = size;
			if (read_format(s + at, size, out, err))
				return error_prefix(err, "this WAV file cannot be used");
		}
		if (memcmp(chunk, "fact", 4) == 0 && size >= FACT_BYTES)
			out->fact_at = at;
		at += (size_t)size + (size & 1);
	}
	if (n < file_bytes)
		return error_set(err, ERR_INVALID, "the first %zu bytes of this WAV file hold no data chunk", n);
	return error_set(err, ERR_INVALID, "this WAV file has no data chunk");
}

int wav_parse(const void *file, size_t n, struct wav_info *out, struct error *err)
{
	return wav_parse_head(file, n, n, out, err);
}

/* --- Writing. ----------------------------------------------------------------------------------------------------- */

static int too_large(struct error *err)
{
	return error_set(err, ERR_MEMORY, "a WAV file cannot be larger than 4 GiB");
}

static int no_memory(struct error *err)
{
	return error_set(err, ERR_MEMORY, "no memory for the audio, or it is larger than allowed");
}

static bool is_tellable(uint64_t file_bytes)
{
	return file_bytes - CHUNK_BYTES < SIZE_OPEN;
}

int wav_repair(struct buf *wav, struct error *err)
{
	struct wav_info info;
	size_t end = wav->len;

	if (wav_parse(buf_cstr(wav), wav->len, &info, err))
		return -1;
	if (info.valid)
		return 0;
	if (info.open)
		end = (size_t)(info.data_at + info.data_bytes);
	if (!is_tellable((uint64_t)end + 1))
		return too_large(err);
	if (info.open) {
		buf_cut(wav, end);
		if (end & 1)
			buf_char(wav, '\0');
		if (wav->failed)
			return no_memory(err);
		put32(wav->ptr + info.data_at - 4, info.data_bytes);
		if (info.fact_at > 0)
			put32(wav->ptr + info.fact_at, info.frames);
	}
	put32(wav->ptr + 4, wav->len - CHUNK_BYTES);
	return 0;
}

void wav_join_begin(struct wav_join *j, struct buf *out)
{
	buf_clear(out);
	*j = (struct wav_join){.out = out};
}

static bool same_format(const struct wav_info *a, const struct wav_info *b)
{
	return a->tag == b->tag && a->channels == b->channels && a->rate_hz == b->rate_hz && a->bits == b->bits &&
	       a->frame_bytes == b->frame_bytes;
}

static const char *format_words(const struct wav_info *w, char words[100])
{
	snprintf(words, 100, "%" PRIu32 "-bit %s, %" PRIu32 " channel%s, %" PRIu32 " Hz, %" PRIu32 " bytes a frame",
		 w->bits, w->tag == WAV_PCM ? "PCM" : "float", w->channels, w->channels == 1 ? "" : "s", w->rate_hz,
		 w->frame_bytes);
	return words;
}

/* What the first part has before its samples becomes one header for all: the fmt chunk as it is, and where samples are float also a fact
 * chunk, which the standard wants for all but PCM. Sizes come at the end. */
static int replace_header(struct wav_join *j, struct error *err)
{
	const struct wav_info *first = &j->first;
	struct buf *out = j->out, head = BUF_INIT(SIZE_MAX / 4);
	size_t kept = (size_t)first->data_bytes;

	buf_lit(&head, "RIFF\0\0\0\0WAVE");
	buf_add(&head, out->ptr + first->fmt_at - CHUNK_BYTES, CHUNK_BYTES + first->fmt_bytes);
	if (first->fmt_bytes & 1)
		buf_char(&head, '\0');
	if (first->tag == WAV_FLOAT)
		buf_lit(&head, "fact\4\0\0\0\0\0\0\0");
	buf_lit(&head, "data\0\0\0\0");
	if (head.len > first->data_at)
		buf_reserve(out, head.len - (size_t)first->data_at);
	if (head.failed || out->failed) {
		buf_release(&head);
		return no_memory(err);
	}
	memmove(out->ptr + head.len, out->ptr + first->data_at, kept);
	memcpy(out->ptr, head.ptr, head.len);
	out->len = head.len + kept;
	out->ptr[out->len] = '\0';
	j->data_at = head.len;
	buf_release(&head);
	return 0;
}

int wav_join_add(struct wav_join *j, const void *file, size_t n, struct error *err)
{
	const char *bytes = file;
	char these[100], those[100];
	struct wav_info info;

	if (wav_parse(file, n, &info, err))
		return j->parts > 0 ? error_prefix(err, "part %zu", j->parts + 1) : -1;
	if (j->parts == 0) {
		j->first = info;
		buf_add(j->out, bytes, n);
	} else {
		if (!same_format(&j->first, &info))
			return error_set(err, ERR_INVALID,
					 "part %zu cannot be joined to part 1: it is %s; part 1 is %s", j->parts + 1,
					 format_words(&info, these), format_words(&j->first, those));
		if (j->parts == 1 && replace_header(j, err))
			return -1;
		if (!is_tellable(j->data_at + j->data_bytes + info.data_bytes + 1))
			return too_large(err);
		buf_add(j->out, bytes + info.data_at, (size_t)info.data_bytes);
	}
	if (j->out->failed)
		return no_memory(err);
	j->data_bytes += info.data_bytes;
	j->parts++;
	return 0;
}

int wav_join_end(struct wav_join *j, struct error *err)
{
	struct buf *out = j->out;

	if (j->parts == 0)
		return error_set(err, ERR_INVALID, "there is no audio to join");
	if (j->parts == 1)
		return wav_repair(out, err);
	if (j->data_bytes & 1)
		buf_char(out, '\0');
	if (out->failed)
		return no_memory(err);
	put32(out->ptr + 4, out->len - CHUNK_BYTES);
	put32(out->ptr + j->data_at - 4, j->data_bytes);
	if (j->first.tag == WAV_FLOAT)
		put32(out->ptr + j->data_at - CHUNK_BYTES - FACT_BYTES, j->data_bytes / j->first.frame_bytes);
	return 0;
}
