/* SPDX-License-Identifier: MIT
 *
 * How far many jobs are, on one line of standard error: a bar, how many are done and failed, how fast, and for how long yet. Nothing where
 * standard error is no terminal. One at a time. */
#ifndef ADWUMA_CLI_PROGRESS_H
#define ADWUMA_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* of: how many there are; a single one needs no bar. prints: results go to standard output meanwhile, so there is no bar where that is a
 * terminal too. */
void progress_begin(size_t of, bool prints);
/* So many had ended before it began: they say nothing of how fast it is. */
void progress_resume(size_t done);
/* So many have ended, of which so many have failed. */
void progress_step(size_t done, size_t failed);
/* The line is taken away before something else is written there; the next step brings it back. */
void progress_erase(void);
void progress_end(void);

#endif
