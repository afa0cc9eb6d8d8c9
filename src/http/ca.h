/* SPDX-License-Identifier: MIT
 *
 * One store of CA certificates for all handles: a handle that loads the system's bundle itself costs 1 MB and 43 ms, the shared store
 * 0.13 MB and 2 ms (measured). Between the files of http/ only. */
#ifndef ADWUMA_HTTP_CA_H
#define ADWUMA_HTTP_CA_H

#include <pthread.h>

#include "base/err.h"

struct ca {
	const char *file;
	pthread_mutex_t lock; /* guards store while it is made */
	void *store;	      /* libcrypto's */
};

/* file: PEM bundle, borrowed. Loaded at the first use, so that a service that speaks plain http does not pay for it. */
void ca_init(struct ca *ca, const char *file);
void ca_release(struct ca *ca);
/* Whether file can become a store: 0 or -1. Keeps nothing. */
int ca_check(const char *file, struct error *err);
/* For CURLOPT_SSL_CTX_FUNCTION's ssl_ctx. 0, or -1 when the bundle cannot be read. Any thread. */
int ca_attach(struct ca *ca, void *ssl_ctx);

#endif
