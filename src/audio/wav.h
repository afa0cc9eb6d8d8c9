/* SPDX-License-Identifier: MIT
 *
 * WAV files: how long they are, what a stream left open in their header, and several made one.
 *
 * PCM and IEEE float, also in an extensible format. A header written before the length was known has a size that cannot be: one that runs
 * past the end of the file, 0xFFFFFFFF, or 0 with bytes behind it. Such data goes to the end of the file, cut to whole frames.
 *
 * Pure; any bytes may be given. Where a function fails it returns -1 with ERR_INVALID and what is wrong, or with ERR_MEMORY for want of
 * memory, beyond the bound of a buffer, or beyond the 4 GiB that a WAV file can tell. */
#ifndef ADWUMA_AUDIO_WAV_H
#define ADWUMA_AUDIO_WAV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define WAV_PCM 1
#define WAV_FLOAT 3
#define WAV_HEAD_BYTES                                                                                                 \
	(64 * 1024) /* enough of a file's beginning for wav_parse_head(), unless odd chunks stand before its data */

/* Places are offsets in the file, sizes are in bytes. A frame is one sample of each channel. */
struct wav_info {
	uint32_t tag; /* WAV_PCM or WAV_FLOAT; of an extensible format the one it stands for */
	uint32_t channels, rate_hz, bits, frame_bytes;
	uint64_t data_at, data_bytes; /* the samples, whole frames only */
	uint64_t frames;
	double seconds;
	size_t fmt_at, fmt_bytes; /* what the fmt chunk holds */
	size_t fact_at; /* where the fact chunk tells the number of frames; 0: there is none before the data */
	bool open;	/* the data's size was left open: it goes to the end */
	bool valid;	/* the sizes of the data and of the whole are possible */
};

int wav_parse(const void *file, size_t n, struct wav_info *out, struct error *err);
/* The same from the first n bytes of a file of file_bytes. */
int wav_parse_head(const void *head, size_t n, uint64_t file_bytes, struct wav_info *out, struct error *err);

/* wav holds a whole file; when that is not valid its sizes become what they should be: left open, part of a frame at its end is dropped and
 * a pad byte may be added. A valid file stays as it is, byte for byte. On failure wav is unchanged, unless memory ran out. */
int wav_repair(struct buf *wav, struct error *err);

/* Puts the samples of files, one after the other, into one file. All must be of the same format; chunks beside the samples stay behind. One
 * file alone stays as it is, but for wav_repair(). */
struct wav_join {
	struct buf *out;       /* the file so far; borrowed */
	struct wav_info first; /* of the first part */
	size_t parts;
	size_t data_at;	     /* in out, from the second part on */
	uint64_t data_bytes; /* of all parts */
};

void wav_join_begin(struct wav_join *j, struct buf *out); /* out is emptied; it holds the file after wav_join_end() */
/* file: n bytes, copied. After a failure what out holds is no file. */
int wav_join_add(struct wav_join *j, const void *file, size_t n, struct error *err);
int wav_join_end(struct wav_join *j, struct error *err); /* fails where nothing was added */

#endif
