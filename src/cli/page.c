/* SPDX-License-Identifier: MIT
 *
 * See page.h. */
#include "cli/page.h"

#define PAGE_BYTES (1024 * 1024) /* aimed at, for one reply */

size_t page_next(size_t elements, size_t bytes)
{
	size_t fits = bytes ? PAGE_BYTES * elements / bytes : PAGE_MAX;
	size_t next = fits < elements * 8 ? fits : elements * 8;

	return next < 1 ? 1 : next > PAGE_MAX ? PAGE_MAX : next;
}
