/* SPDX-License-Identifier: MIT
 *
 * doctor: what it was given, repeated in what mends something: else that would be about another Redis, other queues, or a second source of a
 * secret, which is an error. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/doctor.h"

#define NAME_BYTES 64

/* --- Flags. ------------------------------------------------------------------------------------------------------- */

static const char *give(struct buf *line, char out[DOCTOR_TEXT_MAX])
{
	snprintf(out, DOCTOR_TEXT_MAX, "%s", buf_cstr(line));
	buf_release(line);
	return out;
}

/* The password of a URL was struck out when it was read. */
static const char *without_stars(const char *value, char out[DOCTOR_TEXT_MAX])
{
	const char *stars = strstr(value, ":*"), *rest = stars ? stars + 1 + strspn(stars + 1, "*") : value;

	if (stars && *rest == '@')
		snprintf(out, DOCTOR_TEXT_MAX, "%.*s…%s", (int)(stars + 1 - value), value, rest);
	else
		snprintf(out, DOCTOR_TEXT_MAX, "%s", value);
	return out;
}

static void add_flag(struct buf *line, const char *but, const char *name, size_t len, const char *value)
{
	char shown[DOCTOR_TEXT_MAX], word[DOCTOR_TEXT_MAX];

	if (!but || strncmp(name, but, strlen(but)) != 0)
		buf_printf(line, " --%.*s %s", (int)len, name, shell_word(without_stars(value, shown), word));
}

const char *given(const struct doctor *d, const char *but, char out[DOCTOR_TEXT_MAX])
{
	struct buf line = BUF_INIT(DOCTOR_TEXT_MAX - 1);

	for (char **word = d->cli->flags; *word; word++) { /* "--name=value", or two words */
		const char *name = *word + 2;
		size_t len = strcspn(name, "=");

		add_flag(&line, but, name, len, name[len] ? name + len + 1 : *++word);
	}
	if (d->cli->option[OPT_QUEUE])
		add_flag(&line, but, "queue", strlen("queue"), d->cli->option[OPT_QUEUE]);
	return give(&line, out);
}

/* ADWUMA_REDIS_URL is the variable of redis_url, of which --redis-url is the flag. */
static const char *name_of(const char *variable, char between, char out[NAME_BYTES])
{
	static const char ours[] = "ADWUMA_";

	if (strncmp(variable, ours, sizeof ours - 1) == 0)
		variable += sizeof ours - 1;
	snprintf(out, NAME_BYTES, "%s", variable);
	for (char *c = out; *c; c++)
		*c = *c == '_' ? between : (char)tolower((unsigned char)*c);
	return out;
}

const char *set_of(const struct doctor *d, const char *variable, char out[DOCTOR_TEXT_MAX])
{
	char name[NAME_BYTES], with[DOCTOR_TEXT_MAX], without[DOCTOR_TEXT_MAX];
	struct buf line = BUF_INIT(DOCTOR_TEXT_MAX - 1);

	name_of(variable, '-', name);
	if (strcmp(given(d, NULL, with), given(d, name, without)) == 0)
		buf_printf(&line, "export %s=", variable);
	else
		buf_printf(&line, "adwuma doctor%s --%s=", without, name);
	return give(&line, out);
}

/* --- Secrets. ----------------------------------------------------------------------------------------------------- */

void mend_secret(struct doctor *d, const char *variable, const char *comment)
{
	char setting[NAME_BYTES], word[DOCTOR_TEXT_MAX];
	const struct secret *now = settings_secret(d->settings, name_of(variable, '_', setting));

	if (now && now->file)
		mend(d, "${EDITOR:-vi} %s    # %s is read from there; %s", shell_word(now->file, word), setting,
		     comment);
	else if (now)
		mend(d, "export %s=…    # %s", variable, comment);
	else
		mend(d, "export %s=…    # or %s_FILE=FILE; %s", variable, variable, comment);
}

/* In redis_url; what stands before it and behind it are those of another URL. */
static void mend_url_password(struct doctor *d)
{
	const char *url = d->settings->redis_url, *place = strstr(url, "://");
	const char *rest = place ? place + 3 : url, *user_end = memrchr(rest, '@', strcspn(rest, "/?"));
	char set[DOCTOR_TEXT_MAX], clean[DOCTOR_TEXT_MAX], word[DOCTOR_TEXT_MAX];

	snprintf(clean, sizeof clean, "%.*s%s", (int)(rest - url), url, user_end ? user_end + 1 : rest);
	mend(d, "%s%s    # this Redis asks for no password", set_of(d, "ADWUMA_REDIS_URL", set),
	     shell_word(clean, word));
}

void mend_no_password(struct doctor *d)
{
	const struct secret *now = settings_secret(d->settings, "redis_password");
	char word[DOCTOR_TEXT_MAX];

	if (!now)
		mend_url_password(d);
	else if (now->variable)
		mend(d, "unset %s    # this Redis asks for no password; nor must redis_url hold one", now->variable);
	else
		mend(d,
		     "${EDITOR:-vi} %s    # without redis_password and redis_password_file: this Redis asks for none",
		     shell_word(d->settings->file, word));
}
