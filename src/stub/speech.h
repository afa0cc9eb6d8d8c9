/* SPDX-License-Identifier: MIT
 *
 * Speech that carries its text, so that transcribing it gives the text back: playable files in the formats of the
 * service. WAV has the layout that the real service uses: 32-bit float, mono, 16 kHz, 18-byte fmt chunk, fact chunk,
 * samples from byte 58. MP3 and Ogg (Opus) are silent. Pure. */
#ifndef ADWUMA_STUB_SPEECH_H
#define ADWUMA_STUB_SPEECH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define SPEECH_BYTE_MS 20U /* how long a byte of text lasts, to 20 s in all */

struct speech {
	const char *text, *language, *speaker;
	/* A WAV whose length is not known when its head is written: every size in it is this one, and the samples reach
	 * to the end of the file. */
	bool streamed;
	uint32_t placeholder;
};

typedef void speech_fn(struct buf *out, const struct speech *s);
speech_fn speech_wav, speech_mp3, speech_ogg;

/* The text within, NUL-terminated and owned by *text; false when the audio carries none. */
bool speech_text(const char *audio, size_t len, struct buf *text);
/* Whether the bytes begin like audio of a kind the service takes. */
bool speech_is_audio(const char *bytes, size_t len);

#endif
