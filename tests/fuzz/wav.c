/* SPDX-License-Identifier: MIT
 *
 * WAV files, parsed, repaired and joined. The input is one file, or several one after the other: each begins where RIFF stands. */
#include "fuzz.h"

#include "audio/wav.h"

static void check_info(const struct wav_info *w, size_t n)
{
	must(w->tag == WAV_PCM || w->tag == WAV_FLOAT);
	must(w->channels > 0 && w->rate_hz > 0 && w->bits > 0 && w->frame_bytes > 0);
	must(w->data_at <= n && w->data_bytes <= n - w->data_at && w->data_bytes == w->frames * w->frame_bytes);
	must(w->seconds >= 0 && w->seconds <= (double)n);
	must(w->fmt_at >= 20 && w->fmt_bytes >= 16 && w->fmt_bytes <= w->data_at - w->fmt_at);
	must(w->fact_at == 0 || w->fact_at + 4 <= w->data_at);
}

/* Whatever is known from a part of the file is what the whole says. */
static void check_head(const char *file, size_t n, const struct wav_info *w)
{
	struct error err = {0};
	struct wav_info head;

	must(wav_parse_head(file, (size_t)w->data_at, n, &head, &err) == 0);
	must(head.data_at == w->data_at && head.frames == w->frames && head.fmt_at == w->fmt_at &&
	     head.fact_at == w->fact_at);
	must(head.tag == w->tag && head.open == w->open && head.valid == w->valid);
	must(wav_parse_head(file, (size_t)w->data_at - 1, n, &head, &err) != 0);
}

static void check_repair(const char *file, size_t n, const struct wav_info *w)
{
	struct buf b = BUF_INIT(SIZE_MAX / 4);
	struct error err = {0};
	struct wav_info again;

	buf_add(&b, file, n);
	must(wav_repair(&b, &err) == 0);
	must(!w->valid || (b.len == n && memcmp(b.ptr, file, n) == 0));
	must(wav_parse(b.ptr, b.len, &again, &err) == 0);
	must(again.valid && again.frames == w->frames);
	must(memcmp(b.ptr + again.data_at, file + w->data_at, (size_t)w->data_bytes) == 0);
	buf_release(&b);
}

static struct span next_file(struct span *in)
{
	const char *end = in->len > 4 ? memmem(in->ptr + 4, in->len - 4, "RIFF", 4) : NULL;
	struct span file = {in->ptr, end ? (size_t)(end - in->ptr) : in->len};

	*in = (struct span){in->ptr + file.len, in->len - file.len};
	return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {(const char *)data, size};
	struct buf out = BUF_INIT(SIZE_MAX / 4), samples = BUF_INIT(SIZE_MAX / 4);
	struct error err = {0};
	struct wav_info w;
	struct wav_join join;

	wav_join_begin(&join, &out);
	do {
		struct span s = next_file(&in);
		char *file = malloc(s.len + 1);
		int parsed, joined;

		must(file);
		if (s.len > 0)
			memcpy(file, s.ptr, s.len);
		file[s.len] = '\0';
		memset(&w, 0, sizeof w);
		parsed = wav_parse(file, s.len, &w, &err);
		must(parsed == 0 || (err.code == ERR_INVALID && *err.msg));
		if (parsed == 0) {
			check_info(&w, s.len);
			check_head(file, s.len, &w);
			check_repair(file, s.len, &w);
		}
		err = (struct error){0};
		joined = wav_join_add(&join, file, s.len, &err);
		must(joined == 0 || (err.code == ERR_INVALID && *err.msg));
		must(joined != 0 || parsed == 0);
		must(parsed != 0 || joined == 0 || join.parts > 0);
		if (joined == 0)
			buf_add(&samples, file + w.data_at, (size_t)w.data_bytes);
		free(file);
	} while (in.len > 0);
	if (wav_join_end(&join, &err) == 0) {
		must(wav_parse(out.ptr, out.len, &w, &err) == 0);
		check_info(&w, out.len);
		must(w.valid && w.data_bytes == samples.len);
		must(memcmp(out.ptr + w.data_at, buf_cstr(&samples), samples.len) == 0);
	} else {
		must(join.parts == 0 && err.code == ERR_INVALID);
	}
	buf_release(&samples);
	buf_release(&out);
	return 0;
}
