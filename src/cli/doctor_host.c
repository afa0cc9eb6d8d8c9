/* SPDX-License-Identifier: MIT
 *
 * doctor: settings, files that secrets are in, and limits of this machine. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cli/doctor.h"

#define FILES_OF_THREAD 3 /* its connections to the API and to Redis, and audio on its way */
#define FILES_OF_QUEUE 3  /* its two connections and what wakes it */
#define FILES_OF_WORKER 64

/* "environment ADWUMA_X: is no setting, ignored": its place tells what can be taken away. */
static void tell_warning(struct doctor *d, const char *line, size_t n)
{
	static const char variable[] = "environment ";
	size_t place = sizeof variable - 1, name = 0;
	char flags[DOCTOR_TEXT_MAX];

	found(d, FOUND_WARN, "%.*s", (int)n, line);
	if (n > place && strncmp(line, variable, place) == 0)
		name = strcspn(line + place, ":\n");
	if (name > 0)
		mend(d, "unset %.*s    # the names there are: adwuma help settings", (int)name, line + place);
	else
		mend(d, "adwumad --check%s    # what the settings resolve to", given(d, "queue", flags));
}

void doctor_settings(struct doctor *d)
{
	const char *file = d->settings->file;

	found(d, FOUND_OK, "%s%s; flags and environment stand above it",
	      file ? "read from " : "defaults: there is no settings file", file ? file : "");
	for (const char *line = d->cli->warnings; *line; line += strcspn(line, "\n") + 1)
		tell_warning(d, line, strcspn(line, "\n"));
}

/* Of several secrets in one file the first stands for it. */
static bool is_new_file(const struct settings *s, size_t secret)
{
	const char *file = s->secrets[secret].file;

	for (size_t i = 0; i < secret && file; i++)
		if (s->secrets[i].file && strcmp(s->secrets[i].file, file) == 0)
			return false;
	return file;
}

/* Whether nobody else may read it; else that is told. */
static bool is_closed(struct doctor *d, const char *file)
{
	char word[DOCTOR_TEXT_MAX];
	struct stat st;

	if (stat(file, &st) != 0) {
		found(d, FOUND_WARN, "%s was read, but is not there any more: %s", file, strerror(errno));
		mend(d, "adwumad --check%s    # a worker that starts now would not find it", given(d, "queue", word));
		return false;
	}
	if (st.st_mode & (S_IROTH | S_IWOTH)) {
		found(d, FOUND_WARN, "%s holds a secret, and everybody on this machine may %s it", file,
		      st.st_mode & S_IWOTH ? "change" : "read");
		mend(d, "chmod o= %s", shell_word(file, word));
		return false;
	}
	return true;
}

void doctor_secret_files(struct doctor *d)
{
	size_t files = 0, closed = 0;

	for (size_t i = 0; i < d->settings->nsecrets; i++) {
		if (!is_new_file(d->settings, i))
			continue;
		files++;
		closed += is_closed(d, d->settings->secrets[i].file);
	}
	if (closed == files)
		found(d, FOUND_OK,
		      closed ? "%zu, not open to everybody" : "%zu: secrets come from the environment, if at all",
		      closed);
}

void doctor_open_files(struct doctor *d)
{
	const struct settings *s = d->settings;
	struct rlimit files;
	rlim_t needed = (rlim_t)s->threads * FILES_OF_THREAD + (rlim_t)s->nqueues * FILES_OF_QUEUE + FILES_OF_WORKER;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
		found(d, FOUND_WARN, "the limit cannot be read: %s", strerror(errno));
		mend(d, "ulimit -n %llu", (unsigned long long)needed);
		return;
	}
	if (files.rlim_cur >= needed) {
		found(d, FOUND_OK, "a process may have %llu; a worker of %lld threads may need %llu",
		      (unsigned long long)files.rlim_cur, (long long)s->threads, (unsigned long long)needed);
		return;
	}
	found(d, FOUND_BAD, "a process may have %llu; a worker of %lld threads may need %llu",
	      (unsigned long long)files.rlim_cur, (long long)s->threads, (unsigned long long)needed);
	mend(d, "ulimit -n %llu    # before adwumad; in a unit of systemd: LimitNOFILE=%llu",
	     (unsigned long long)needed, (unsigned long long)needed);
}
