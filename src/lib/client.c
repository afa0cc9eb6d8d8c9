/* SPDX-License-Identifier: MIT
 *
 * A client: opened, closed, and the connections that it lends out. */
#include "lib/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "lib/draft.h"
#include "lib/inside.h"
#include "lib/sigpipe.h"
#include "queue/address.h"

#define SUBMIT_MS 10000	   /* how long a broken connection is made anew before a submit gives up */
#define SUBMIT_MS_MIN 1000 /* what has moved to another node takes a second try */
#define SUBMIT_MS_MAX 86400000LL
#define TIMEOUT_MS_MAX (366LL * 86400 * 1000)
#define PAUSE_FIRST_MS 50 /* before the first new connection; doubled each time */
#define PAUSE_MAX_MS 1000
#define SCRATCH_KEEP_BYTES (64 * 1024)

/* --- Errors. -------------------------------------------------------------------------------------------------------- */

static enum adwuma_code code_of(const struct error *e)
{
	static const enum adwuma_code codes[] = {
		[ERR_NONE] = ADWUMA_OK,
		[ERR_USAGE] = ADWUMA_INVALID,
		[ERR_CONFIG] = ADWUMA_CONFIG,
		[ERR_INVALID] = ADWUMA_INVALID,
		[ERR_MEMORY] = ADWUMA_NO_MEMORY,
		[ERR_LINK] = ADWUMA_UNREACHABLE,
		[ERR_REFUSED] = ADWUMA_UNREACHABLE,
		[ERR_TIMEOUT] = ADWUMA_TIMEOUT,
		[ERR_SYSTEM] = ADWUMA_UNREACHABLE,
	};

	return codes[e->code];
}

int lib_tell(struct adwuma_error *out, const struct error *e)
{
	if (out) {
		out->code = code_of(e);
		snprintf(out->message, sizeof out->message, "%s", e->msg);
	}
	return -1;
}

int64_t lib_timeout(int64_t timeout_ms)
{
	return timeout_ms < 0 ? 0 : timeout_ms < TIMEOUT_MS_MAX ? timeout_ms : TIMEOUT_MS_MAX;
}

int lib_no_client(struct adwuma_error *err)
{
	struct error e = {0};

	error_set(&e, ERR_INVALID, "there is no client: adwuma_open has failed");
	return lib_tell(err, &e);
}

int lib_check_names(const char *queue, const char *id, struct error *e)
{
	if (!queue || !draft_is_queue(queue, strlen(queue)))
		return error_set(e, ERR_INVALID, "'%.80s' is no queue name: 1 to %d characters of a-z 0-9 _ . -",
				 queue ? queue : "", QUEUE_NAME_MAX);
	if (!id || !draft_is_id(id, strlen(id)))
		return error_set(e, ERR_INVALID, "'%.140s' is no id: 1 to %d characters of A-Z a-z 0-9 . _ : -",
				 id ? id : "", ADWUMA_ID_MAX);
	return 0;
}

/* --- Connections. --------------------------------------------------------------------------------------------------- */

void link_init(struct link *l, struct adwuma *c)
{
	*l = (struct link){.client = c, .scratch = BUF_INIT(c->max_job_bytes)};
}

void link_release(struct link *l)
{
	link_disconnect(l);
	buf_release(&l->scratch);
}

struct link *link_take(struct adwuma *c, struct error *e)
{
	struct link *l;

	pthread_mutex_lock(&c->lock);
	l = c->idle_links;
	if (l) {
		c->idle_links = l->next;
		c->nidle_links--;
	}
	pthread_mutex_unlock(&c->lock);
	if (l)
		return l;
	l = malloc(sizeof *l);
	if (l)
		link_init(l, c);
	else
		error_set(e, ERR_MEMORY, "out of memory");
	return l;
}

void link_give(struct link *l)
{
	struct adwuma *c = l->client;
	bool kept;

	buf_trim(&l->scratch, SCRATCH_KEEP_BYTES);
	pthread_mutex_lock(&c->lock);
	kept = c->nidle_links < LIB_IDLE_MAX;
	if (kept) {
		l->next = c->idle_links;
		c->idle_links = l;
		c->nidle_links++;
	}
	pthread_mutex_unlock(&c->lock);
	if (kept)
		return;
	link_release(l);
	free(l);
}

void link_disconnect(struct link *l)
{
	redis_close(l->redis);
	l->redis = NULL;
	l->outdated = l->served = false;
}

bool link_broke(const struct error *e)
{
	return e->code == ERR_LINK;
}

bool link_may_heal(const struct adwuma *c, const struct error *e)
{
	return link_broke(e) && (c->patient || c->was_connected);
}

static int say_where(const struct link *l, struct error *e)
{
	char where[256];

	if (e->code != ERR_LINK && e->code != ERR_REFUSED)
		return -1;
	redis_address_show(&l->client->address, where, sizeof where);
	return error_prefix(e, "Redis at %s", where);
}

int link_failed(struct link *l, struct error *e)
{
	link_disconnect(l); /* whatever it was: replies may still be on their way */
	return say_where(l, e);
}

/* A redirection is followed by the connection that got it. Whoever takes nothing for another reason, like a full disk, may have been replaced meanwhile,
 * and go on answering: only a new connection finds that out. Where it is new, the command line does not wait for a better time. */
void link_judge(struct link *l, const struct reply *reply, struct verdict *v)
{
	bool elsewhere = reply_is_elsewhere(reply);

	*v = (struct verdict){.unsure = reply_leaves_open(reply)};
	redis_note_error(l->redis, reply, &v->e);
	if (link_broke(&v->e) && !elsewhere && !l->served && !l->client->patient)
		v->e.code = ERR_REFUSED;
	say_where(l, &v->e);
	if (link_broke(&v->e) && (v->unsure || !elsewhere))
		l->outdated = true;
	l->served = l->served || v->e.code == ERR_NONE;
}

int link_connect(struct link *l, struct error *e)
{
	if (l->redis)
		return 0;
	l->redis = l->key ? redis_open(&l->client->address, l->key, false, e)
			  : redis_open_routed(&l->client->address, false, e);
	if (!l->redis)
		return link_failed(l, e);
	l->client->was_connected = true;
	return 0;
}

void link_pause(unsigned tries, int64_t left_ms)
{
	int64_t ms = tries < 5 ? PAUSE_FIRST_MS << tries : PAUSE_MAX_MS;

	ms += clock_mono_us() % (ms / 2 + 1);
	if (ms > left_ms)
		ms = left_ms > 0 ? left_ms : 0;
	clock_nap(ms);
}

/* --- Opening and closing. ------------------------------------------------------------------------------------------- */

const struct settings_rule client_rules[] = {{"redis_url", address_check_url}, {0}};

static struct adwuma *open_with(const struct settings *s, struct error *e)
{
	struct adwuma *c = calloc(1, sizeof *c);

	if (!c) {
		error_set(e, ERR_MEMORY, "out of memory");
		return NULL;
	}
	c->settings = s;
	if (address_from_settings(&c->address, s, e)) {
		error_prefix(e, "redis_url");
		free(c);
		return NULL;
	}
	memcpy(c->prefix, s->key_prefix, strlen(s->key_prefix) + 1);
	c->max_job_bytes = (size_t)s->max_job_bytes;
	c->result_ttl_s = s->result_ttl_s;
	c->submit_ms = SUBMIT_MS;
	c->pid = getpid();
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

adwuma *client_open(const struct settings *settings, struct adwuma_error *err)
{
	struct error e = {0};
	struct adwuma *c = open_with(settings, &e);

	if (!c)
		lib_tell(err, &e);
	return c;
}

bool client_spreads(const adwuma *client)
{
	return redis_spreads(&client->address);
}

void client_hurry(adwuma *client, int64_t limit_ms)
{
	if (limit_ms < SUBMIT_MS_MIN)
		limit_ms = SUBMIT_MS_MIN;
	if (limit_ms < client->submit_ms)
		client->submit_ms = limit_ms;
}

static int put_text(char **to, const char *value, struct error *e)
{
	char *copy;

	if (!value)
		return 0;
	copy = strdup(value);
	if (!copy)
		return error_set(e, ERR_MEMORY, "out of memory");
	if (*to)
		explicit_bzero(*to, strlen(*to));
	free(*to);
	*to = copy;
	return 0;
}

/* What the caller chose beats what the settings say. */
static int put_options(struct settings *s, const struct adwuma_options *o, struct error *e)
{
	if (o->max_job_bytes < 0 || o->submit_timeout_ms < 0 || o->submit_timeout_ms > SUBMIT_MS_MAX)
		return error_set(e, ERR_CONFIG,
				 "max_job_bytes and submit_timeout_ms may not be negative, nor the latter above a day");
	if (o->key_prefix &&
	    (strlen(o->key_prefix) > KEY_PREFIX_MAX || !draft_is_id(o->key_prefix, strlen(o->key_prefix))))
		return error_set(e, ERR_CONFIG, "key_prefix must be 1 to %d characters of A-Z a-z 0-9 . _ : -",
				 KEY_PREFIX_MAX);
	if (o->max_job_bytes)
		s->max_job_bytes = o->max_job_bytes;
	return put_text(&s->redis_url, o->redis_url, e) || put_text(&s->redis_username, o->redis_username, e) ||
			       put_text(&s->redis_password, o->redis_password, e) ||
			       put_text(&s->key_prefix, o->key_prefix, e) ||
			       put_text(&s->khaya_api_key, o->khaya_api_key, e) ||
			       put_text(&s->khaya_base_url, o->khaya_base_url, e) ||
			       put_text(&s->taskingai_api_key, o->taskingai_api_key, e) ||
			       put_text(&s->taskingai_host, o->taskingai_host, e)
		     ? -1
		     : 0;
}

adwuma *adwuma_open(const struct adwuma_options *options, struct adwuma_error *err)
{
	struct settings *settings = calloc(1, sizeof *settings);
	struct adwuma_options none = {0};
	struct error e = {0};
	struct adwuma *c = NULL;
	char *no_flags[] = {NULL};
	int nflags = 0;

	options = options ? options : &none;
	if (!settings)
		error_set(&e, ERR_MEMORY, "out of memory");
	else if (settings_load(settings, &nflags, no_flags, client_rules, NULL, &e) == 0 &&
		 put_options(settings, options, &e) == 0)
		c = open_with(settings, &e);
	if (c) {
		c->own_settings = settings;
		c->patient = true;
		c->submit_ms = options->submit_timeout_ms ? options->submit_timeout_ms : SUBMIT_MS;
		return c;
	}
	if (settings)
		settings_release(settings);
	free(settings);
	lib_tell(err, &e);
	return NULL;
}

void adwuma_close(adwuma *client)
{
	struct sigpipe sigpipe;

	if (!client ||
	    client->pid != getpid()) /* a child of fork() has none of its threads, and what is open is its parent's */
		return;
	sigpipe_block(&sigpipe);
	courier_end(client->courier);
	while (client->idle_links) {
		struct link *l = client->idle_links;

		client->idle_links = l->next;
		link_release(l);
		free(l);
	}
	directs_free(client);
	sigpipe_restore(&sigpipe);
	redis_address_release(&client->address);
	if (client->own_settings)
		settings_release(client->own_settings);
	free(client->own_settings);
	pthread_mutex_destroy(&client->lock);
	free(client);
}

void adwuma_free(void *p)
{
	free(p);
}

const char *adwuma_version(void)
{
	return ADWUMA_VERSION;
}

int adwuma_abi(void)
{
	return ADWUMA_ABI;
}
