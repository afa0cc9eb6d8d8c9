/* SPDX-License-Identifier: MIT */
#include "http/ca.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>

static const char *ca_file;
static pthread_mutex_t ca_lock = PTHREAD_MUTEX_INITIALIZER; /* guards ca_store while it is made */
static X509_STORE *ca_store;

void ca_init(const char *file)
{
	ca_file = file;
}

void ca_release(void)
{
	X509_STORE_free(ca_store);
	ca_store = NULL;
}

int ca_check(const char *file, struct error *err)
{
	X509_STORE *store = X509_STORE_new();
	int good = store ? X509_STORE_load_locations(store, file, NULL) : 0;

	X509_STORE_free(store);
	return good == 1 ? 0 : error_set(err, ERR_CONFIG, "%s holds no certificate in PEM form", file);
}

int ca_attach(void *ssl_ctx)
{
	int rc = 0;

	pthread_mutex_lock(&ca_lock);
	if (!ca_store) {
		X509_STORE *store = X509_STORE_new();

		if (store && ca_file && X509_STORE_load_locations(store, ca_file, NULL) == 1) {
			ca_store = store;
		} else {
			X509_STORE_free(store);
			rc = -1;
		}
	}
	if (rc == 0)
		SSL_CTX_set1_cert_store(ssl_ctx, ca_store);
	pthread_mutex_unlock(&ca_lock);
	return rc;
}
