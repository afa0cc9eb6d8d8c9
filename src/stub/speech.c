/* SPDX-License-Identifier: MIT
 *
 * See speech.h. The chunks are RIFF, fmt, fact, data, LIST: what follows the samples disturbs no reader, and the
 * samples begin at byte 58 as in the real service's files. The same text, language and speaker give the same bytes. */
#include "stub/speech.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define RATE 16000
#define SAMPLES_PER_CHAR ((size_t)(RATE * SPEECH_BYTE_S))
#define SAMPLES_MAX (RATE * 20)
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

void speech_make(struct buf *out, const char *text, const char *language, const char *speaker)
{
	size_t len = strlen(text), padded = (len + 1) + (len + 1) % 2;
	size_t samples = len * SAMPLES_PER_CHAR < SAMPLES_MAX ? len * SAMPLES_PER_CHAR : SAMPLES_MAX;
	size_t info = 4 + 8 + padded;

	buf_lit(out, "RIFF");
	add_u32(out, (uint32_t)(4 + 8 + 18 + 8 + 4 + 8 + samples * 4 + 8 + info));
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
	add_u32(out, (uint32_t)samples);
	buf_lit(out, "data");
	add_u32(out, (uint32_t)(samples * 4));
	add_samples(out, samples, period_of(language, speaker));
	buf_lit(out, "LIST");
	add_u32(out, (uint32_t)info);
	buf_lit(out, "INFOICMT");
	add_u32(out, (uint32_t)(len + 1));
	buf_add(out, text, len + 1);
	if (padded > len + 1)
		buf_char(out, '\0');
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

bool speech_text(const char *wav, size_t len, struct buf *text)
{
	uint32_t size = 0;
	const char *list, *comment;

	if (len < 12 || memcmp(wav, "RIFF", 4) != 0 || memcmp(wav + 8, "WAVE", 4) != 0)
		return false;
	list = find_chunk(wav + 12, wav + len, "LIST", &size);
	if (!list || size < 4 || memcmp(list, "INFO", 4) != 0)
		return false;
	comment = find_chunk(list + 4, list + size, "ICMT", &size);
	if (!comment)
		return false;
	buf_add(text, comment, strnlen(comment, size));
	return true;
}

bool speech_is_audio(const char *bytes, size_t len)
{
	const unsigned char *b = (const unsigned char *)bytes;

	return (len >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WAVE", 4) == 0) ||
	       (len >= 4 && (!memcmp(b, "fLaC", 4) || !memcmp(b, "OggS", 4))) ||
	       (len >= 3 && memcmp(b, "ID3", 3) == 0) || (len >= 2 && b[0] == 0xff && (b[1] & 0xe0) == 0xe0);
}
