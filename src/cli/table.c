/* SPDX-License-Identifier: MIT
 *
 * See table.h. The head is the first row of cells. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/out.h"

#define ROWS_HELD 500
#define CELLS_BYTES_MAX (64UL * 1024 * 1024)
#define CELL_MAX 1024

void table_open(struct table *t, uint32_t right)
{
	*t = (struct table){.pretty = out_is_terminal(), .right = right, .cells = BUF_INIT(CELLS_BYTES_MAX)};
}

/* In characters, as terminals count most of them. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void add(struct table *t, const char *text, size_t n)
{
	size_t from = t->cells.len, column = t->ncells % t->ncolumns, wide;

	clean_line(&t->cells, text, n);
	buf_char(&t->cells, '\0');
	t->ncells += !t->cells.failed;
	wide = t->cells.failed ? 0 : width(t->cells.ptr + from);
	if (wide > t->widths[column])
		t->widths[column] = wide;
}

void table_column(struct table *t, const char *name)
{
	if (t->ncolumns == TABLE_COLUMNS_MAX)
		return;
	t->ncolumns++;
	add(t, name, strlen(name));
}

static void print_cell(const struct table *t, size_t column, const char *text)
{
	size_t room = t->widths[column] - width(text);
	bool last = column + 1 == t->ncolumns;

	if (column > 0)
		out_printf("%s", t->pretty ? "  " : "\t");
	if (t->pretty && (t->right & (1U << column)))
		out_printf("%*s%s", (int)room, "", text);
	else
		out_printf("%s%*s", text, t->pretty && !last ? (int)room : 0, "");
}

static void flush(struct table *t)
{
	const char *text = buf_cstr(&t->cells);

	for (size_t i = 0; i < t->ncells; i++) {
		bool head = t->pretty && !t->headed, last = (i + 1) % t->ncolumns == 0;

		if (head && i == 0)
			out_printf("\033[1m");
		print_cell(t, i % t->ncolumns, text);
		if (last)
			out_printf("%s\n", head ? "\033[0m" : "");
		t->headed = t->headed || last;
		text += strlen(text) + 1;
	}
	t->ncells = 0;
	buf_clear(&t->cells);
	out_flush();
}

void table_cell(struct table *t, const char *text, size_t n)
{
	if (t->ncells >= ROWS_HELD * t->ncolumns)
		flush(t);
	add(t, text, n);
}

void table_cellf(struct table *t, const char *fmt, ...)
{
	char text[CELL_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	table_cell(t, text, strlen(text));
}

void table_close(struct table *t)
{
	flush(t);
	buf_release(&t->cells);
}
