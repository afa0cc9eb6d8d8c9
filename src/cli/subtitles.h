/* SPDX-License-Identifier: MIT
 *
 * A transcription's timings as subtitles: SRT or WebVTT, UTF-8, lines ended by a line feed.
 *
 * Cues come from segments, or where there are none from words, which are put together until there is a pause, a sentence's end or no more
 * room. A cue has at most two lines of 42 characters (graphemes); a longer segment becomes several cues, its time shared by their length,
 * and a word longer than a line is cut. Runs of white space and control characters become one space or the end of a line.
 *
 * Times are rounded to milliseconds, half of one up. Cues are in order, never overlap and last at least a millisecond, whatever the input
 * says: what is out of order is sorted; a start that is missing or no number is the end before it, an end that is missing or earlier is the
 * start; below 0 counts as 0, beyond 100 hours as that.
 *
 * Pure; takes time linear in its input but for sorting. */
#ifndef ADWUMA_CLI_SUBTITLES_H
#define ADWUMA_CLI_SUBTITLES_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum subtitles_format { SUBTITLES_SRT, SUBTITLES_VTT };

/* timings: the member of that name of a transcription's result; NULL or null where it has none. Appends to out. Returns -1 with ERR_INVALID
 * where there is nothing to make cues of, with words for the user, or with ERR_MEMORY. */
int subtitles_write(const struct json *timings, enum subtitles_format format, struct buf *out, struct error *err);

#endif
