/* SPDX-License-Identifier: MIT
 *
 * Between the files of lib/ only: what a client is, and its connections.
 *
 * A client serves many threads. What it lends out, a link (a connection to Redis) or a direct (a connection to the APIs), is used by one call at a
 * time and given back; when none is idle another is made. So no call waits for another, and a program of one thread has one of each. What runs by
 * itself is the courier (lib/courier.c), from the first handle on. */
#ifndef ADWUMA_LIB_INSIDE_H
#define ADWUMA_LIB_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/err.h"
#include "lib/direct.h"
#include "queue/keys.h"
#include "redis/redis.h"

#define LIB_IDLE_MAX 16 /* links, and directs, that are kept for the next call */

struct courier;

/* A connection that is made when needed, and made anew after it broke. */
struct link {
	struct adwuma *client;
	const char *key;     /* it is about this one and those beside it; NULL: about any */
	struct redis *redis; /* NULL: not connected */
	bool served;	     /* a job was taken over this connection */
	bool outdated;	     /* a reply says so: to be closed before its next use */
	struct buf scratch;  /* the job that is being drafted; its bound is max_job_bytes */
	struct link *next;   /* idle */
};

struct adwuma {
	struct redis_address address;
	char prefix[KEY_PREFIX_MAX + 1];
	size_t max_job_bytes;
	int64_t submit_ms;
	int64_t result_ttl_s;
	pid_t pid;			 /* whose it is */
	bool patient;			 /* Redis is waited for also where it was never there */
	_Atomic bool was_connected;	 /* once: then a break is waited out */
	const struct settings *settings; /* for direct calls */
	struct settings *own_settings;	 /* NULL: they are the program's */
	pthread_mutex_t lock;		 /* guards the rest; held for no input or output but that of a first call */
	struct link *idle_links;
	size_t nidle_links;
	struct direct_site *site;
	struct idle_direct *idle_directs;
	size_t nidle_directs;
	struct courier *courier; /* NULL: no handle was made yet */
};

/* Fills *out (NULL is fine). Returns -1. */
int lib_tell(struct adwuma_error *out, const struct error *e);
/* Says that there is no client. Returns -1. */
int lib_no_client(struct adwuma_error *err);
/* Within bounds: negative is 0, and no result lives longer than the longest. */
int64_t lib_timeout(int64_t timeout_ms);
/* The names that came from outside, checked: they become parts of keys. */
int lib_check_names(const char *queue, const char *id, struct error *e);

/* Returns owned: link_free, or link_give; NULL with ERR_MEMORY. */
struct link *link_take(struct adwuma *c, struct error *e);
void link_give(struct link *l); /* back to its client */
void link_init(struct link *l, struct adwuma *c);
void link_release(struct link *l);
/* 0, also where it was connected; else -1, with the address told. */
int link_connect(struct link *l, struct error *e);
/* Says where, closes what is finished. Returns -1. */
int link_failed(struct link *l, struct error *e);
void link_disconnect(struct link *l);
/* What a reply to a job that was pushed says: Redis has it; or (ERR_LINK) it is to be pushed again; or it never will be taken. */
struct verdict {
	struct error e; /* with the address */
	bool unsure;	/* in spite of e, it may have been taken */
};
/* All that was sent is still answered over a link that this finds outdated. */
void link_judge(struct link *l, const struct reply *reply, struct verdict *v);
/* Whether what failed may succeed on a new connection. */
bool link_broke(const struct error *e);
/* The same, where that is worth waiting for. */
bool link_may_heal(const struct adwuma *c, const struct error *e);
/* Waits before try number `tries` (from 0), with jitter so that many producers do not come back at once; never beyond left_ms. */
void link_pause(unsigned tries, int64_t left_ms);

/* courier.c, for adwuma_close. NULL is fine. */
void courier_end(struct courier *c);

/* call.c: ends what direct calls were made with. */
void directs_free(struct adwuma *c);

#endif
