/* SPDX-License-Identifier: MIT
 *
 * See progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/out.h"

#define BAR 20
#define DRAW_EVERY_MS 100 /* what is faster nobody can read */
#define LINE_MAX_BYTES 100
#define COLUMNS 80 /* where the terminal does not say */

static struct {
	bool on, shown;	   /* shown: the line stands on the terminal */
	size_t of, before; /* before: were done when it began */
	int64_t began_ms, drawn_ms;
} bar;

/* "34/s", "2.5/s", "12.0/min" */
static int rate(char *out, size_t bytes, size_t done, int64_t elapsed_ms)
{
	double per_s = elapsed_ms > 0 ? (double)done * 1000 / (double)elapsed_ms : 0;

	if (per_s >= 1)
		return snprintf(out, bytes, ", %.*f/s", per_s < 10 ? 1 : 0, per_s);
	return snprintf(out, bytes, ", %.1f/min", per_s * 60);
}

/* In ASCII; cut where the terminal has fewer columns. */
static void make_line(char out[LINE_MAX_BYTES], size_t columns, size_t done, size_t of, size_t failed,
		      int64_t elapsed_ms)
{
	size_t full = of > 0 ? (size_t)((double)BAR * (double)done / (double)of) : 0, room = LINE_MAX_BYTES, n;
	char left[TIME_TEXT_MAX];

	full = full < BAR ? full : BAR;
	n = (size_t)snprintf(out, room, "[%.*s%.*s] %zu of %zu", (int)full, "####################", (int)(BAR - full),
			     "....................", done, of);
	if (failed > 0)
		n += (size_t)snprintf(out + n, room - n, ", %zu failed", failed);
	if (done > bar.before && done < of) {
		n += (size_t)rate(out + n, room - n, done - bar.before, elapsed_ms);
		show_seconds((int64_t)((double)elapsed_ms / (double)(done - bar.before) * (double)(of - done)) + 999,
			     left);
		snprintf(out + n, room - n, ", %s left", left);
	}
	if (columns < LINE_MAX_BYTES) /* in its last column a terminal would begin a new line */
		out[columns > 0 ? columns - 1 : 0] = '\0';
}

static size_t columns(void)
{
	struct winsize size = {0};

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS;
}

static void draw(size_t done, size_t failed)
{
	int64_t now = clock_mono_ms();
	char line[LINE_MAX_BYTES];

	if (!bar.on || (bar.shown && now - bar.drawn_ms < DRAW_EVERY_MS))
		return;
	make_line(line, columns(), done, bar.of, failed, now - bar.began_ms);
	fprintf(stderr, "\r%s\033[K", line);
	bar.shown = true;
	bar.drawn_ms = now;
}

void progress_begin(size_t of, bool prints)
{
	bar.on = of > 1 && isatty(STDERR_FILENO) == 1 && !(prints && out_is_terminal());
	bar.of = of;
	bar.before = 0;
	bar.began_ms = clock_mono_ms();
	draw(0, 0);
}

void progress_resume(size_t done)
{
	bar.before = done;
}

void progress_step(size_t done, size_t failed)
{
	draw(done, failed);
}

void progress_erase(void)
{
	if (bar.shown)
		fputs("\r\033[K", stderr);
	bar.shown = false;
}

void progress_end(void)
{
	progress_erase();
	bar.on = false;
}
