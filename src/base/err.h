/* SPDX-License-Identifier: MIT
 *
 * How a failed operation is told to its caller.
 *
 * A function that can fail returns 0, or -1 after filling the caller's struct error. It never logs what it
 * returns. The layer that knows the fact writes the message: what is wrong, where, and what to do.
 * A failed *job* is not an error in this sense: see job/fault.h. */
#ifndef ADWUMA_BASE_ERR_H
#define ADWUMA_BASE_ERR_H

enum err_code {
	ERR_NONE = 0,
	ERR_USAGE,   /* the command line is wrong: exit 2 */
	ERR_CONFIG,  /* a setting is wrong: exit 78 */
	ERR_INVALID, /* input from outside does not have the form it must have */
	ERR_MEMORY,  /* no memory, or a size bound was hit */
	ERR_LINK,    /* a connection could not be made, broke, or timed out */
	ERR_REFUSED, /* the other side answered, and said no */
	ERR_TIMEOUT, /* the caller's own time limit passed */
	ERR_SYSTEM,  /* the operating system refused */
};

struct error {
	enum err_code code;
	char msg[512];
};

/* Fills *err (NULL is fine) and returns -1, so that `return error_set(...)` reads well. */
int error_set(struct error *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message that is already there. Returns -1. */
int error_prefix(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
