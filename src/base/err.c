/* SPDX-License-Identifier: MIT
 *
 * See err.h. Never allocates, so it can also tell that memory ran out. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	return -1;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char before[sizeof err->msg];
	size_t n;
	va_list ap;

	if (!err)
		return -1;
	memcpy(before, err->msg, sizeof before);
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof err->msg - n, ": %s", before);
	return -1;
}
