/* SPDX-License-Identifier: MIT
 *
 * Server-sent events: wherever the bytes are cut, the same events come. The input's first byte chooses the cuts. */
#include "fuzz.h"

#include "base/buf.h"
#include "text/sse.h"

#define EVENT_MAX 300

static void note(void *ctx, struct span data, const char *name)
{
	struct buf *seen = ctx;

	must(data.len > 0 && data.len <= EVENT_MAX && !memchr(name, '\n', strlen(name)));
	buf_printf(seen, "[%s|", name);
	buf_add(seen, data.ptr, data.len);
	buf_char(seen, ']');
}

/* step 0: all at once. */
static int play(const uint8_t *data, size_t size, size_t step, struct buf *seen)
{
	struct sse s;
	int rc = 0;

	sse_init(&s, EVENT_MAX);
	for (size_t at = 0, n; at < size && rc == 0; at += n) {
		char *part;

		n = step > 0 && step < size - at ? step : size - at;
		part = malloc(n); /* a block of its own, so that a look beyond its end is seen */
		must(part);
		memcpy(part, data + at, n);
		rc = sse_feed(&s, part, n, note, seen);
		free(part);
	}
	if (rc == 0)
		sse_end(&s, note, seen);
	sse_release(&s);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT(1UL << 24), cut = BUF_INIT(1UL << 24);
	int rc;

	if (size < 1)
		return 0;
	rc = play(data + 1, size - 1, 0, &whole);
	/* Which line is found to be too long first may depend on the cuts; what came before it does not. */
	if (play(data + 1, size - 1, 1 + *data % 7, &cut) == 0 && rc == 0)
		must(same((struct span){buf_cstr(&whole), whole.len}, (struct span){buf_cstr(&cut), cut.len}));
	buf_release(&whole);
	buf_release(&cut);
	return 0;
}
