/* SPDX-License-Identifier: MIT
 *
 * A table on standard output: aligned under a bold head on a terminal, separated by tabs elsewhere. Cells are given in
 * order, column by column, row by row. Rows are held back until it is known how wide they are: some hundreds at most,
 * so that a long table begins to show. */
#ifndef ADWUMA_CLI_TABLE_H
#define ADWUMA_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define TABLE_COLUMNS_MAX 32

struct table {
	bool pretty;
	size_t ncolumns, ncells; /* of cells: those that are held back */
	uint32_t right;		 /* a bit for each column that is aligned to the right */
	size_t widths[TABLE_COLUMNS_MAX];
	struct buf cells; /* each ended by a NUL */
	bool headed;
};

/* right: a bit for each column of numbers. */
void table_open(struct table *t, uint32_t right);
/* The names of the columns, one after the other, before the first cell. */
void table_column(struct table *t, const char *name);
void table_cell(struct table *t, const char *text, size_t n);
void table_cellf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_close(struct table *t); /* prints what is held back, and the head in any case */

#endif
