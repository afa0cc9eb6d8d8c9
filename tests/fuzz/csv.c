/* SPDX-License-Identifier: MIT
 *
 * Tables: wherever the bytes are cut the same records come, which together are the input again; the values of a record, written and read
 * again, are the same. The input's first byte chooses the cuts, its second the delimiter. */
#include "fuzz.h"

#include "base/buf.h"
#include "text/csv.h"

#define RECORD_MAX 300
#define SEEN_MAX (1UL << 24)

/* A record of the same values in our own spelling has the same cells. */
static void write_again(struct span record, char delimiter)
{
	struct buf value = BUF_INIT(SEEN_MAX), again = BUF_INIT(SEEN_MAX), line = BUF_INIT(SEEN_MAX);
	size_t at = 0, at_again = 0, n = 0;
	struct span cell, cell_again;
	struct csv c;

	while (csv_next(record, delimiter, &at, &cell)) {
		buf_clear(&value);
		csv_value(cell, &value);
		if (n++ > 0)
			buf_char(&line, delimiter);
		csv_add(&line, delimiter, buf_cstr(&value), value.len);
	}
	must(n == csv_count(record, delimiter) && n > 0);
	buf_lit(&line, "\r\n");
	csv_init(&c, delimiter, SEEN_MAX);
	c.bom = 4; /* it stands in the middle of a table */
	must(csv_feed(&c, line.ptr, line.len) == line.len && c.whole && csv_record(&c).len == line.len);
	at = 0;
	while (csv_next(record, delimiter, &at, &cell)) {
		must(csv_next(csv_record(&c), delimiter, &at_again, &cell_again));
		buf_clear(&value);
		buf_clear(&again);
		csv_value(cell, &value);
		csv_value(cell_again, &again);
		must(same((struct span){buf_cstr(&value), value.len}, (struct span){buf_cstr(&again), again.len}));
	}
	must(!csv_next(csv_record(&c), delimiter, &at_again, &cell_again));
	csv_release(&c);
	buf_release(&value);
	buf_release(&again);
	buf_release(&line);
}

static void note(const struct csv *c, struct buf *seen)
{
	struct span record = csv_record(c);

	buf_printf(seen, "%d%d", c->too_long, c->open);
	buf_add(seen, record.ptr, record.len);
	if (!c->too_long && !c->open)
		write_again(record, c->delimiter);
}

/* step 0: all at once. Returns whether a record was too long. */
static bool play(struct span in, char delimiter, size_t step, struct buf *seen, struct buf *all)
{
	bool dropped = false;
	struct csv c;

	csv_init(&c, delimiter, RECORD_MAX);
	for (size_t at = 0, n; at < in.len; at += n) {
		char *part;

		n = step > 0 && step < in.len - at ? step : in.len - at;
		part = malloc(n); /* a block of its own, so that a look beyond its end is seen */
		must(part);
		memcpy(part, in.ptr + at, n);
		for (size_t took = 0; took < n;) {
			took += csv_feed(&c, part + took, n - took);
			if (!c.whole)
				continue;
			note(&c, seen);
			buf_add(all, csv_record(&c).ptr, csv_record(&c).len);
			dropped = dropped || c.too_long;
		}
		free(part);
	}
	if (csv_end(&c)) {
		note(&c, seen);
		buf_add(all, csv_record(&c).ptr, csv_record(&c).len);
		dropped = dropped || c.too_long;
	}
	must(csv_has_bom(&c) == (in.len >= 3 && memcmp(in.ptr, "\xef\xbb\xbf", 3) == 0));
	if (!dropped && csv_has_bom(&c))
		must(same((struct span){in.ptr + 3, in.len - 3}, (struct span){buf_cstr(all), all->len}));
	else if (!dropped)
		must(same(in, (struct span){buf_cstr(all), all->len}));
	csv_release(&c);
	return dropped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT(SEEN_MAX), cut = BUF_INIT(SEEN_MAX), all = BUF_INIT(SEEN_MAX);
	struct span in = {(const char *)data + 2, size - 2};
	char delimiter;

	if (size < 2)
		return 0;
	delimiter = data[1] % 2 ? ';' : ',';
	(void)play(in, delimiter, 0, &whole, &all);
	buf_clear(&all);
	(void)play(in, delimiter, 1 + *data % 7, &cut, &all);
	must(same((struct span){buf_cstr(&whole), whole.len}, (struct span){buf_cstr(&cut), cut.len}));
	buf_release(&whole);
	buf_release(&cut);
	buf_release(&all);
	return 0;
}
