/* SPDX-License-Identifier: MIT
 *
 * Timings, as an API may tell them, as subtitles of both kinds. The input is the JSON of the timings. */
#include "fuzz.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "cli/subtitles.h"
#include "text/grapheme.h"

#define LINE_WIDTH 42
#define CUE_LINES 2

/* The line at the beginning of *in, without its end. *in moves on. */
static struct span next_line(struct span *in)
{
	const char *end = in->len ? memchr(in->ptr, '\n', in->len) : NULL;
	struct span line = {in->ptr, 0};

	must(end); /* each line is ended */
	line.len = (size_t)(end - in->ptr);
	*in = (struct span){end + 1, in->len - line.len - 1};
	return line;
}

static size_t graphemes(struct span s)
{
	size_t n = 0;

	for (size_t at = 0; at < s.len; n++)
		at += grapheme_first(s.ptr + at, s.len - at).bytes;
	return n;
}

static int64_t read_time(const char *s, char point)
{
	int64_t hours = 0;
	int minutes, seconds, ms;
	char mark;

	must(sscanf(s, "%" SCNd64 ":%2d:%2d%c%3d", &hours, &minutes, &seconds, &mark, &ms) == 5 && mark == point);
	must(hours >= 0 && minutes < 60 && seconds < 60);
	return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms;
}

static void check_times(struct span line, char point, int64_t *before)
{
	char text[64];
	const char *arrow;
	int64_t start, end;

	must(line.len < sizeof text);
	memcpy(text, line.ptr, line.len);
	text[line.len] = '\0';
	arrow = strstr(text, " --> ");
	must(arrow);
	start = read_time(text, point);
	end = read_time(arrow + 5, point);
	must(start >= *before && end > start);
	*before = end;
}

/* Text of a WebVTT file without its escapes. */
static void unescape(struct buf *out, struct span s)
{
	static const char *const escapes[] = {"&amp;", "&lt;", "&gt;"};

	for (size_t at = 0; at < s.len; at++) {
		size_t known = 0;

		must(s.ptr[at] != '<' && s.ptr[at] != '>');
		for (size_t i = 0; s.ptr[at] == '&' && i < 3; i++) {
			size_t n = strlen(escapes[i]);

			if (s.len - at >= n && memcmp(s.ptr + at, escapes[i], n) == 0) {
				buf_char(out, "&<>"[i]);
				known = n;
			}
		}
		must(known > 0 || s.ptr[at] != '&');
		if (known == 0)
			buf_char(out, s.ptr[at]);
		else
			at += known - 1;
	}
}

/* The text of the cues, lines ended by a line feed. */
static void check_file(struct span file, enum subtitles_format format, struct buf *text)
{
	bool srt = format == SUBTITLES_SRT;
	int64_t before = 0;

	must(utf8_valid(file.ptr, file.len));
	if (!srt) {
		must(same(next_line(&file), (struct span){"WEBVTT", 6}));
		must(next_line(&file).len == 0);
	}
	for (int number = 1; number == 1 || file.len > 0; number++) {
		size_t lines = 0;

		if (srt) {
			char want[16];
			int n = snprintf(want, sizeof want, "%d", number);

			must(same(next_line(&file), (struct span){want, (size_t)n}));
		}
		check_times(next_line(&file), srt ? ',' : '.', &before);
		while (file.len > 0) {
			struct span line = next_line(&file);
			size_t began = text->len;

			if (line.len == 0)
				break;
			must(!memmem(line.ptr, line.len, "-->", 3));
			lines++;
			if (srt)
				buf_add(text, line.ptr, line.len);
			else
				unescape(text, line);
			must(graphemes((struct span){text->ptr + began, text->len - began}) <= LINE_WIDTH);
			buf_char(text, '\n');
		}
		must(lines > 0 && lines <= CUE_LINES);
	}
}

/* What neither white space nor a control character is: none may be lost. */
static size_t visible(const char *s, size_t n)
{
	size_t count = 0;

	for (size_t at = 0; at < n;) {
		struct grapheme g = grapheme_first(s + at, n - at);

		count += !(grapheme_is_white(g) || g.first < ' ' || (g.first >= 0x7f && g.first < 0xa0));
		at += g.bytes;
	}
	return count;
}

static size_t visible_in(const struct json *list, const char *name)
{
	size_t count = 0;

	for (const struct json *item = json_type(list) == JSON_ARRAY ? json_first(list) : NULL; item;
	     item = json_next(item)) {
		const char *text = json_text(json_get(item, name));

		count += text ? visible(text, strlen(text)) : 0;
	}
	return count;
}

static void check(const struct json *timings)
{
	struct buf srt = BUF_INIT(SIZE_MAX / 4), vtt = srt, srt_text = srt, vtt_text = srt;
	struct error err = {0};
	int rc = subtitles_write(timings, SUBTITLES_SRT, &srt, &err);

	must(subtitles_write(timings, SUBTITLES_VTT, &vtt, &err) == rc);
	if (rc) {
		must(err.code == ERR_INVALID && *err.msg && srt.len == 0 && vtt.len == 0);
	} else {
		size_t said = visible_in(json_get(timings, "segments"), "text");

		check_file((struct span){srt.ptr, srt.len}, SUBTITLES_SRT, &srt_text);
		check_file((struct span){vtt.ptr, vtt.len}, SUBTITLES_VTT, &vtt_text);
		must(visible(vtt_text.ptr, vtt_text.len) ==
		     (said ? said : visible_in(json_get(timings, "words"), "word")));
		if (!memmem(vtt_text.ptr, vtt_text.len, "-->", 3))
			must(srt_text.len == vtt_text.len && memcmp(srt_text.ptr, vtt_text.ptr, srt_text.len) == 0);
	}
	buf_release(&srt);
	buf_release(&vtt);
	buf_release(&srt_text);
	buf_release(&vtt_text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json *timings = json_parse((const char *)data, size);

	check(timings);
	json_free(timings);
	return 0;
}
