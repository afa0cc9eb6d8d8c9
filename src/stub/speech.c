/* SPDX-License-Identifier: MIT
 *
 * See speech.h. The text is where the formats have a place for a title or a comment. The same text, language and
 * speaker give the same bytes. */
#include "stub/speech.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define RATE 16000
#define SAMPLES_PER_BYTE (RATE * SPEECH_BYTE_MS / 1000)
#define BYTES_MAX 1000	/* 20 s */
#define PERIOD_MIN 40U	/* samples: 400 Hz */
#define PERIOD_MAX 120U /* 133 Hz */
#define TWO_PI 6.283185307179586

static void add_u16(struct buf *b, unsigned n)
{
	buf_char(b, (char)(n & 255));
	buf_char(b, (char)(n >> 8 & 255));
}

static void add_u32(struct buf *b, uint32_t n)
{
	add_u16(b, n & 0xffff);
	add_u16(b, n >> 16);
}

static uint32_t get_u32(const char *s)
{
	const unsigned char *b = (const unsigned char *)s;

	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* A soft tone of one whole period after another, so that a minute of it costs no more than copying. */
static void add_samples(struct buf *out, size_t samples, size_t period)
{
	struct buf wave = BUF_INIT(PERIOD_MAX * 4);

	for (size_t i = 0; i < period; i++) {
		float sample = (float)(0.2 * sin(TWO_PI * (double)i / (double)period));
		uint32_t bits;

		memcpy(&bits, &sample, sizeof bits);
		add_u32(&wave, bits);
	}
	buf_reserve(out, samples * 4);
	for (size_t left = samples * 4, n; left > 0; left -= n) {
		n = left < wave.len ? left : wave.len;
		if (wave.failed || out->failed)
			break;
		buf_add(out, wave.ptr, n);
	}
	buf_release(&wave);
}

/* The voice: another language or speaker, another pitch. */
static size_t period_of(const char *language, const char *speaker)
{
	unsigned sum = 0;

	for (const char *p = language; *p; p++)
		sum = sum * 31 + (unsigned char)*p;
	for (const char *p = speaker; *p; p++)
		sum = sum * 31 + (unsigned char)*p;
	return PERIOD_MIN + sum % (PERIOD_MAX - PERIOD_MIN + 1);
}

/* How many bytes of it are heard. */
static size_t heard(const char *text)
{
	return strnlen(text, BYTES_MAX);
}

/* --- WAV. -------------------------------------------------------------------------------------------------- */

/* The text in a LIST/INFO chunk. */
static void add_list(struct buf *out, const char *text)
{
	size_t len = strlen(text) + 1, padded = len + len % 2;

	buf_lit(out, "LIST");
	add_u32(out, (uint32_t)(4 + 8 + padded));
	buf_lit(out, "INFOICMT");
	add_u32(out, (uint32_t)len);
	buf_add(out, text, len);
	if (padded > len)
		buf_char(out, '\0');
}

static void add_size(struct buf *out, const struct speech *s, size_t size)
{
	add_u32(out, s->streamed ? s->placeholder : (uint32_t)size);
}

/* What follows the samples disturbs no reader, unless their number is not told: then it comes before. */
void speech_wav(struct buf *out, const struct speech *s)
{
	size_t len = strlen(s->text) + 1, list = 8 + 4 + 8 + len + len % 2;
	size_t samples = heard(s->text) * SAMPLES_PER_BYTE;

	buf_lit(out, "RIFF");
	add_size(out, s, 4 + 8 + 18 + 8 + 4 + 8 + samples * 4 + list);
	buf_lit(out, "WAVEfmt ");
	add_u32(out, 18);
	add_u16(out, 3); /* IEEE float */
	add_u16(out, 1);
	add_u32(out, RATE);
	add_u32(out, RATE * 4);
	add_u16(out, 4);
	add_u16(out, 32);
	add_u16(out, 0);
	buf_lit(out, "fact");
	add_u32(out, 4);
	add_size(out, s, samples);
	if (s->streamed)
		add_list(out, s->text);
	buf_lit(out, "data");
	add_size(out, s, samples * 4);
	add_samples(out, samples, period_of(s->language, s->speaker));
	if (!s->streamed)
		add_list(out, s->text);
}

/* Walks the chunks between from and to; the first of that name, or NULL. */
static const char *find_chunk(const char *from, const char *to, const char *name, uint32_t *size)
{
	while (to - from >= 8) {
		*size = get_u32(from + 4);
		if (*size > (size_t)(to - from) - 8)
			return NULL;
		if (memcmp(from, name, 4) == 0)
			return from + 8;
		from += 8 + *size + (*size & 1 && *size < (size_t)(to - from) - 8);
	}
	return NULL;
}

static const char *wav_text(const char *wav, size_t len, size_t *n)
{
	uint32_t size = 0;
	const char *list, *comment;

	if (len < 12 || memcmp(wav, "RIFF", 4) != 0 || memcmp(wav + 8, "WAVE", 4) != 0)
		return NULL;
	list = find_chunk(wav + 12, wav + len, "LIST", &size);
	if (!list || size < 4 || memcmp(list, "INFO", 4) != 0)
		return NULL;
	comment = find_chunk(list + 4, list + size, "ICMT", &size);
	*n = size;
	return comment;
}

/* --- MP3: an ID3v2.4 tag with one title, then frames of silence. ------------------------------------------- */

#define ID3_HEAD 10
#define ID3_SIZE_MAX (1UL << 28)
#define MP3_FRAME_BYTES 144 /* MPEG-2 layer III, 16 kHz, mono, 32 kbit/s */
#define MP3_FRAME_MS 36

/* Seven bits a byte, so that no size looks like the beginning of a frame. */
static void add_synchsafe(struct buf *b, size_t n)
{
	for (int shift = 21; shift >= 0; shift -= 7)
		buf_char(b, (char)(n >> shift & 127));
}

static size_t get_synchsafe(const char *s)
{
	size_t n = 0;

	for (int i = 0; i < 4; i++)
		n = n << 7 | (s[i] & 127);
	return n;
}

void speech_mp3(struct buf *out, const struct speech *s)
{
	static const char frame[MP3_FRAME_BYTES] = "\xff\xf3\x48\xc0";
	size_t len = strnlen(s->text, ID3_SIZE_MAX - ID3_HEAD - 2);

	buf_add(out, "ID3\4\0\0", 6);
	add_synchsafe(out, ID3_HEAD + 1 + len);
	buf_lit(out, "TIT2");
	add_synchsafe(out, 1 + len);
	buf_add(out, "\0\0\3", 3); /* no flags; UTF-8 */
	buf_add(out, s->text, len);
	for (size_t ms = 0; ms < heard(s->text) * SPEECH_BYTE_MS; ms += MP3_FRAME_MS)
		buf_add(out, frame, sizeof frame);
}

static const char *mp3_text(const char *mp3, size_t len, size_t *n)
{
	if (len < 2 * ID3_HEAD + 1 || memcmp(mp3, "ID3\4", 4) != 0 || memcmp(mp3 + ID3_HEAD, "TIT2", 4) != 0)
		return NULL;
	*n = get_synchsafe(mp3 + ID3_HEAD + 4);
	if (*n < 1 || *n > len - 2 * ID3_HEAD)
		return NULL;
	--*n;
	return mp3 + 2 * ID3_HEAD + 1;
}

/* --- Ogg: a page each for the head and the title of an Opus stream, then pages of silence. ----------------- */

#define OGG_HEAD 27
#define OGG_SEGMENTS_MAX 255
#define OGG_TEXT_MAX 60000		       /* with its frame, a page's worth */
#define OPUS_PACKET_TIME (48 * SPEECH_BYTE_MS) /* at 48 kHz */
#define OGG_FIRST 2
#define OGG_LAST 4
#define OGG_TITLE "OpusTags\x0e\0\0\0adwuma-stubapi\1\0\0\0" /* then the length of the title, and the title */
#define OGG_NAME "TITLE="

static uint32_t ogg_sum(const char *s, size_t n)
{
	uint32_t crc = 0;

	for (size_t i = 0; i < n; i++) {
		crc ^= (uint32_t)(unsigned char)s[i] << 24;
		for (int bit = 0; bit < 8; bit++)
			crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7 : 0);
	}
	return crc;
}

/* A page of packets that are all of that size, or of one that is larger than a segment. */
static void add_page(struct buf *out, unsigned flags, size_t granule, uint32_t number, const struct buf *data,
		     size_t packet)
{
	size_t from = out->len, packets = data->len / packet, segments = packets * (packet / 255 + 1);
	uint32_t sum;

	buf_add(out, "OggS\0", 5);
	buf_char(out, (char)flags);
	add_u32(out, (uint32_t)granule);
	add_u32(out, 0);
	add_u32(out, 1); /* the stream's number */
	add_u32(out, number);
	add_u32(out, 0);
	buf_char(out, (char)segments);
	for (size_t i = 0; i < packets; i++) {
		for (size_t left = packet; left >= 255; left -= 255)
			buf_char(out, (char)255);
		buf_char(out, (char)(packet % 255));
	}
	buf_add(out, data->ptr, data->len);
	if (out->failed)
		return;
	sum = ogg_sum(out->ptr + from, out->len - from);
	for (int i = 0; i < 4; i++)
		out->ptr[from + 22 + (size_t)i] = (char)(sum >> 8 * i & 255);
}

void speech_ogg(struct buf *out, const struct speech *s)
{
	struct buf data = BUF_INIT(64UL * 1024);
	size_t len = strnlen(s->text, OGG_TEXT_MAX), packets = heard(s->text);
	uint32_t number = 2;

	buf_add(&data, "OpusHead\1\1\0\0\x80\x3e\0\0\0\0\0", 19);
	add_page(out, OGG_FIRST, 0, 0, &data, data.len);
	buf_clear(&data);
	buf_lit(&data, OGG_TITLE);
	add_u32(&data, (uint32_t)(sizeof OGG_NAME - 1 + len));
	buf_lit(&data, OGG_NAME);
	buf_add(&data, s->text, len);
	add_page(out, 0, 0, 1, &data, data.len);
	for (size_t done = 0, n; done < packets; done += n, number++) {
		n = packets - done < OGG_SEGMENTS_MAX ? packets - done : OGG_SEGMENTS_MAX;
		buf_clear(&data);
		for (size_t i = 0; i < n; i++)
			buf_char(&data, 8); /* 20 ms in which nothing is said */
		add_page(out, done + n == packets ? OGG_LAST : 0, (done + n) * OPUS_PACKET_TIME, number, &data, 1);
	}
	buf_release(&data);
}

static const char *ogg_text(const char *ogg, size_t len, size_t *n)
{
	static const char mark[] = OGG_TITLE;
	const char *at = len >= 4 && memcmp(ogg, "OggS", 4) == 0 ? memmem(ogg, len, mark, sizeof mark - 1) : NULL;
	size_t left = at ? len - (size_t)(at - ogg) - (sizeof mark - 1) : 0, name = sizeof OGG_NAME - 1;

	if (left < 4)
		return NULL;
	at += sizeof mark - 1;
	*n = get_u32(at);
	if (*n > left - 4 || *n < name)
		return NULL;
	*n -= name;
	return at + 4 + name;
}

/* ----------------------------------------------------------------------------------------------------------- */

bool speech_text(const char *audio, size_t len, struct buf *text)
{
	static const char *(*const readers[])(const char *, size_t, size_t *) = {wav_text, mp3_text, ogg_text};

	for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
		size_t n;
		const char *found = readers[i](audio, len, &n);

		if (found) {
			buf_add(text, found, strnlen(found, n));
			return true;
		}
	}
	return false;
}

bool speech_is_audio(const char *bytes, size_t len)
{
	const unsigned char *b = (const unsigned char *)bytes;

	return (len >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WAVE", 4) == 0) ||
	       (len >= 4 && (!memcmp(b, "fLaC", 4) || !memcmp(b, "OggS", 4))) ||
	       (len >= 3 && memcmp(b, "ID3", 3) == 0) || (len >= 2 && b[0] == 0xff && (b[1] & 0xe0) == 0xe0);
}
