/* SPDX-License-Identifier: MIT */
#include "http/ca.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

void ca_init(struct ca *ca, const char *file)
{
	*ca = (struct ca){.file = file};
	pthread_mutex_init(&ca->lock, NULL);
}

void ca_release(struct ca *ca)
{
	X509_STORE_free(ca->store);
	pthread_mutex_destroy(&ca->lock);
}

int ca_check(const char *file, struct error *err)
{
	X509_STORE *store = X509_STORE_new();
	int good = store ? X509_STORE_load_locations(store, file, NULL) : 0;

	X509_STORE_free(store);
	return good == 1 ? 0 : error_set(err, ERR_CONFIG, "%s holds no certificate in PEM form", file);
}

int ca_attach(struct ca *ca, void *ssl_ctx)
{
	int rc = 0;

	pthread_mutex_lock(&ca->lock);
	if (!ca->store) {
		X509_STORE *store = X509_STORE_new();

		if (store && X509_STORE_load_locations(store, ca->file, NULL) == 1) {
			ca->store = store;
		} else {
			X509_STORE_free(store);
			rc = -1;
		}
	}
	if (rc == 0)
		SSL_CTX_set1_cert_store(ssl_ctx, ca->store);
	pthread_mutex_unlock(&ca->lock);
	return rc;
}
