/* SPDX-License-Identifier: MIT
 *
 * What is read from files and from standard input, named "-". */
#ifndef ADWUMA_CLI_INPUT_H
#define ADWUMA_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

const char *input_shown(const char *path); /* its name for messages */
/* Whether a file can be read, before anything is done that would be in vain without it. ERR_USAGE with the reason. */
int input_check(const char *path, struct error *err);
/* All of it into out (empty before), up to out's bound, which comes from that setting. ERR_USAGE with the reason. */
int input_read_all(const char *path, const char *setting, struct buf *out, struct error *err);

/* Opens it; -1, and ERR_USAGE with the reason. */
int input_open(const char *path, struct error *err);
/* Reads once. Returns the number of bytes, 0 at the end, -1 on failure. */
ssize_t input_read(int fd, char *to, size_t n);
void input_close(int fd); /* standard input stays open */

/* Reads line by line, without holding back a line that has come. */
enum line_state {
	LINE_IS,       /* a line, valid until the next call; without its line break */
	LINE_TOO_LONG, /* one was longer than the bound and is skipped */
	LINE_PAUSE,    /* none is there yet, and the next call may block: first do what should not wait */
	LINE_END,
	LINE_FAILED, /* err says why */
};

struct lines {
	int fd;
	const char *name;  /* for messages; borrowed */
	struct buf buf;	   /* unread bytes from `at` on */
	size_t at, looked; /* no line break before `looked` */
	bool at_end, skipping, paused;
};

int lines_open(struct lines *l, const char *path, size_t max_line_bytes, struct error *err);
void lines_close(struct lines *l);
enum line_state lines_next(struct lines *l, const char **line, size_t *len, struct error *err);

#endif
