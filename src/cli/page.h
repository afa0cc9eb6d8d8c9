/* SPDX-License-Identifier: MIT
 *
 * How many elements of a list are asked for at once: what one reply may hold is kept small by the size of those before.
 */
#ifndef ADWUMA_CLI_PAGE_H
#define ADWUMA_CLI_PAGE_H

#include <stddef.h>

#define PAGE_FIRST 4 /* elements of the first reply: each may be as large as a job */
#define PAGE_MAX 1000

/* The number to ask for next, after so many elements of so many bytes in all. */
size_t page_next(size_t elements, size_t bytes);

#endif
