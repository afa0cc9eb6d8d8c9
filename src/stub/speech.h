/* SPDX-License-Identifier: MIT
 *
 * Speech that carries its text: a playable WAV in the layout the real service uses (32-bit float, mono, 16 kHz, 18-byte
 * fmt chunk, fact chunk), with the text in a LIST/INFO chunk, so that transcribing it gives the text back. Pure. */
#ifndef ADWUMA_STUB_SPEECH_H
#define ADWUMA_STUB_SPEECH_H

#include <stdbool.h>

#include "base/buf.h"

#define SPEECH_BYTE_S 0.02 /* how long a byte of text lasts */

void speech_make(struct buf *out, const char *text, const char *language, const char *speaker);
/* The text within, NUL-terminated and owned by *text; false when the audio carries none. */
bool speech_text(const char *wav, size_t len, struct buf *text);
/* Whether the bytes begin like audio of a kind the service takes. */
bool speech_is_audio(const char *bytes, size_t len);

#endif
