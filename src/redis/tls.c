/* SPDX-License-Identifier: MIT
 *
 * TLS to Redis: the certificate must be signed by a CA that is trusted, and be made out to the host that was asked for. hiredis looks at no names
 * itself, so it is given a connection of OpenSSL's that does. Where hiredis came without TLS (Debian 12), rediss:// is refused. */
#include "redis/connection.h"

#ifdef ADWUMA_REDIS_TLS

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct redis_tls {
	SSL_CTX *ctx;
};

bool redis_has_tls(void)
{
	return true;
}

const char *redis_tls_says(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return reason;
}

static const char *openssl_says(void)
{
	const char *says = redis_tls_says();

	return says ? says : "OpenSSL does not say why";
}

static int load(SSL_CTX *ctx, const struct redis_options *o, struct error *err)
{
	if (o->ca_file && SSL_CTX_load_verify_locations(ctx, o->ca_file, NULL) != 1)
		return error_set(err, ERR_CONFIG, "redis_ca_file holds no certificates in PEM: %s", openssl_says());
	if (!o->ca_file && SSL_CTX_set_default_verify_paths(ctx) != 1)
		return error_set(err, ERR_CONFIG, "the system's CA certificates cannot be used: %s", openssl_says());
	if (!o->cert_file != !o->key_file)
		return error_set(err, ERR_CONFIG,
				 "redis_cert_file and redis_key_file go together: one of them is missing");
	if (o->cert_file && SSL_CTX_use_certificate_chain_file(ctx, o->cert_file) != 1)
		return error_set(err, ERR_CONFIG, "redis_cert_file holds no certificate in PEM: %s", openssl_says());
	if (o->key_file && SSL_CTX_use_PrivateKey_file(ctx, o->key_file, SSL_FILETYPE_PEM) != 1)
		return error_set(err, ERR_CONFIG,
				 "redis_key_file holds no key in PEM that belongs to redis_cert_file: %s",
				 openssl_says());
	return 0;
}

struct redis_tls *redis_tls_new(const struct redis_options *o, struct error *err)
{
	struct redis_tls *t = calloc(1, sizeof *t);

	if (t)
		t->ctx = SSL_CTX_new(TLS_client_method());
	if (!t || !t->ctx) {
		error_set(err, ERR_MEMORY, "out of memory");
		redis_tls_free(t);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	ERR_clear_error();
	if (load(t->ctx, o, err) == 0)
		return t;
	redis_tls_free(t);
	return NULL;
}

bool redis_tls_has_certificate(const struct redis_tls *t)
{
	return SSL_CTX_get0_certificate(t->ctx) != NULL;
}

void redis_tls_free(struct redis_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->ctx);
	free(t);
}

/* The name, or the address, that the certificate must be made out to. */
static bool expect(SSL *ssl, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	bool is_address = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;

	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

/* What comes byte by byte would keep OpenSSL reading one message for hours, so its every read looks at the clock. */
static long before_read(BIO *bio, int operation, const char *data, size_t n, int argi, long argl, int ret, size_t *done)
{
	const struct redis *r = (const struct redis *)(void *)BIO_get_callback_arg(bio);

	(void)data, (void)n, (void)argi, (void)argl, (void)done;
	if (operation != BIO_CB_READ || r->until_ms == 0 || clock_mono_ms() < r->until_ms)
		return ret;
	errno = EAGAIN; /* as a read that has waited for so long */
	return -1;
}

/* hiredis has just given it the socket. */
static void at_handshake(const SSL *ssl, int where, int ret)
{
	(void)ret;
	if (where != SSL_CB_HANDSHAKE_START)
		return;
	BIO_set_callback_arg(SSL_get_rbio(ssl), SSL_get_app_data(ssl));
	BIO_set_callback_ex(SSL_get_rbio(ssl), before_read);
}

int redis_tls_begin(const struct redis_tls *t, struct redis *r, const char *host, struct error *err)
{
	SSL *ssl = SSL_new(t->ctx);
	const char *says;
	long verdict;

	if (!ssl || !expect(ssl, host)) {
		SSL_free(ssl);
		return error_set(err, ERR_MEMORY, "no memory for TLS");
	}
	SSL_set_app_data(ssl, r);
	SSL_set_info_callback(ssl, at_handshake);
	if (redisInitiateSSL(r->c, ssl) == REDIS_OK) {
		r->ssl = ssl;
		return 0;
	}
	verdict = SSL_get_verify_result(ssl);
	SSL_free(ssl);
	says = redis_tls_says();
	if (verdict != X509_V_OK)
		return error_set(err, ERR_REFUSED, "TLS: the certificate of %s is not accepted: %s (redis_ca_file: %s)",
				 host, X509_verify_cert_error_string(verdict),
				 verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH
					 ? "it is made out to another name"
					 : "does it hold the CA that signed it?");
	/* An alert is TLS; whatever else comes, or nothing, may be another protocol's. */
	return error_set(err, ERR_LINK, "TLS: %s%s", says ? says : "no answer, or the connection was closed",
			 says && strstr(says, "alert") ? "" : "; does it speak TLS?");
}

bool redis_tls_facts(const struct redis *r, struct redis_tls_facts *out)
{
	X509 *certificate = r->ssl ? SSL_get1_peer_certificate(r->ssl) : NULL;
	struct tm until;

	if (!r->ssl)
		return false;
	*out = (struct redis_tls_facts){.version = SSL_get_version(r->ssl), .cipher = SSL_get_cipher_name(r->ssl)};
	if (certificate && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &until) == 1)
		out->until_s = timegm(&until);
	X509_free(certificate);
	return true;
}

#else

const char *redis_tls_says(void)
{
	return NULL;
}

bool redis_has_tls(void)
{
	return false;
}

struct redis_tls *redis_tls_new(const struct redis_options *o, struct error *err)
{
	(void)o;
	error_set(
		err, ERR_CONFIG,
		"this build speaks no TLS to Redis, because its hiredis is too old (1.0 or newer is needed, as in Debian 13 and "
		"in our image): use redis://, or build where it is newer");
	return NULL;
}

bool redis_tls_has_certificate(const struct redis_tls *t)
{
	(void)t;
	return false;
}

void redis_tls_free(struct redis_tls *t)
{
	(void)t;
}

int redis_tls_begin(const struct redis_tls *t, struct redis *r, const char *host, struct error *err)
{
	(void)t;
	(void)r;
	(void)host;
	return error_set(err, ERR_CONFIG, "this build speaks no TLS to Redis");
}

bool redis_tls_facts(const struct redis *r, struct redis_tls_facts *out)
{
	(void)r;
	(void)out;
	return false;
}

#endif
