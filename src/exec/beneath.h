/* SPDX-License-Identifier: MIT
 *
 * Opening what a job names, and nothing outside of a root. */
#ifndef ADWUMA_EXEC_BENEATH_H
#define ADWUMA_EXEC_BENEATH_H

/* flags as for open(), O_CLOEXEC is added. Returns owned; or -1 with errno: EXDEV or ELOOP where path leads out of root, by "..", a link, or from its
 * beginning. The kernel sees to that at the very moment of opening (openat2). */
int open_beneath(const char *root, const char *path, int flags);

#endif
