/* SPDX-License-Identifier: MIT
 *
 * Between the files of the courier only:
 *
 *   courier.c  its beginning and end, what is put down    settle.c  the awaited ones, and how they move on
 *   send.c     hands over what was put down               take.c    takes results back
 *   handle.c   the public functions about handles */
#ifndef ADWUMA_LIB_COURIER_INSIDE_H
#define ADWUMA_LIB_COURIER_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "lib/courier.h"
#include "lib/result.h"

#define BATCH_JOBS 1024		/* jobs that gather while a trip is under way */
#define BATCH_BYTES (64 * 1024) /* of their texts, beyond the first */

enum state {
	PUT_DOWN,  /* waits to be handed over */
	SUBMITTED, /* Redis has it */
	DONE,	   /* its result is here */
	LOST,	   /* it could not be handed over: error says why */
};

struct adwuma_handle {
	struct place *place;
	adwuma_handle *next, *before; /* of all of the client */
	adwuma_handle
		*next_alike; /* in a bucket, while its result is awaited; of those to be told of, when it is settled */
	union {
		adwuma_result result;	    /* DONE */
		struct adwuma_error *error; /* LOST; NULL: no memory */
	};
	void *data;
	unsigned char state;
	bool carried;	/* the sending thread still looks at it */
	bool forgotten; /* nobody else does */
	bool known;	/* its id may have been done before */
	bool to_tell;	/* is in the list of settled ones */
	bool watched;	/* somebody waits for it */
	char id[];
};

/* Takes the results of all queues; or, where their lists may be on different processes of Redis, of one. */
struct taker {
	struct courier *courier;
	const struct place *only; /* NULL: all */
	pthread_t thread;
	bool runs;
	struct link link;     /* its own */
	int fd;		      /* of the link; -1: not connected */
	struct error trouble; /* why results do not come at the moment; code ERR_NONE: they do */
	size_t nwatched;      /* it waits at the first nwatched places */
	size_t next_bucket;   /* where the next look begins */
};

/* A queue that jobs went to. Never changes once it is there. */
struct place {
	struct courier *courier;
	struct keys keys;
	char name[QUEUE_NAME_MAX + 1];
	char reply[KEY_MAX];
	struct taker taker; /* runs where each queue has its own */
};

struct item {
	adwuma_handle *handle;
	size_t at, len;	     /* in texts */
	unsigned unanswered; /* how often it was sent and nobody knows what became of it: Redis may have it */
	bool dealt_with;
};

struct batch {
	struct buf texts;
	struct item *items;
	size_t n;
	int64_t since_ms; /* when the first was put down */
};

struct courier {
	struct adwuma *client;
	char reply_name[ADWUMA_ID_MAX + 1];
	pthread_t sender;
	bool has_sender;
	struct link sending; /* the sender's own */
	struct taker taker;  /* of all queues; runs where one connection serves them */
	bool spreads;	     /* it does not */
	pthread_mutex_t lock;
	pthread_cond_t work;	/* for the sender */
	pthread_cond_t awaited; /* for takers: there is something to wait for */
	pthread_cond_t changed; /* for callers: room, or a handle moved on */
	bool ending;
	int64_t end_ms; /* mono; when the sender gives up at the latest */
	struct batch batches[2];
	struct batch *gathering;
	struct place *places[QUEUES_MAX];
	size_t nplaces;
	adwuma_handle **buckets;
	size_t nbuckets, nawaited;
	size_t nunderway; /* jobs whose results are still to come, also of handles that are gone: nobody else empties the list */
	int64_t arrived_ms; /* mono; when the last came, or a job was handed over */
	bool wake;	    /* a watched one has moved on */
	size_t nhusks;	    /* forgotten ones in the list of settled ones */
	adwuma_handle *first;
	adwuma_handle *first_settled, *last_settled;
	int told_by;	/* an eventfd, -1: nobody asked */
	int sending_fd; /* -1: not connected, or to several */
};

/* --- settle.c. All under the lock. -------------------------------------------------------------------------------------- */

void handle_await(struct courier *c, adwuma_handle *h);
void handle_await_no_more(struct courier *c, adwuma_handle *h);
/* The chain in which handles of that id are, with others. */
adwuma_handle *handles_alike(const struct courier *c, const char *id);
void handle_settle(struct courier *c, adwuma_handle *h, enum state state);
/* Whoever waits for thousands is not woken by each. */
void courier_wake_watchers(struct courier *c);
/* maybe: what was sent may have arrived. */
void handle_lose(struct courier *c, adwuma_handle *h, bool maybe, const struct error *e);
void handle_destroy(adwuma_handle *h);
void handle_carried_no_more(adwuma_handle *h);

/* --- courier.c. ------------------------------------------------------------------------------------------------------------ */

/* For pthread_cond_timedwait on changed. */
struct timespec courier_until(int64_t mono_ms);

/* --- The threads. --------------------------------------------------------------------------------------------------------- */

void *courier_send_all(void *courier);
void *courier_take_all(void *taker);
/* Results, of one queue's jobs. */
void courier_deliver(struct courier *c, const struct place *place, struct reply *const *replies, size_t n);

#endif
