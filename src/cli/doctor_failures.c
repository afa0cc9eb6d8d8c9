/* SPDX-License-Identifier: MIT
 *
 * doctor: what mends it by what an error of Redis's, or of the way to it, says. */
#include <stdio.h>
#include <string.h>

#include "cli/doctor.h"

/* --- What errors say. --------------------------------------------------------------------------------------------- */

#define NO_DATABASE "    # it has no database of that number"

enum where { ALONE = 1, SEVERAL = 2, ANYWHERE = ALONE | SEVERAL }; /* several: with sentinels, and in a cluster */

static const struct known {
	const char *words;
	enum where where;
	enum { LINE, CLI, URL, CA, CERTIFICATE, LATER, PASSWORD, NO_PASSWORD } how; /* what stands before the line */
	const char *line;
} known[] = {
	{"NOPERM ", ANYWHERE, CLI,
	 "ACL LIST    # as a user who may: ACL SETUSER gives rights, users.acl has them for each role; ADWUMA_REDIS_USERNAME names another user"},
	{"NOAUTH ", ANYWHERE, PASSWORD, NULL},
	{"WRONGPASS ", ANYWHERE, PASSWORD, NULL},
	{"invalid password", ANYWHERE, PASSWORD, NULL},
	{"without any password", ANYWHERE, NO_PASSWORD, NULL},
	{"a sentinel: redis_url", ANYWHERE, URL, "redis+sentinel://HOST:PORT/NAME/0"},
	{"select database", ALONE, URL, "redis://HOST:PORT/0" NO_DATABASE},
	{"select database", SEVERAL, URL, "redis+sentinel://HOST:PORT/NAME/0" NO_DATABASE},
	{"OOM ", ANYWHERE, CLI,
	 "INFO memory    # it is full: fewer keys (adwuma dead purge), or CONFIG SET maxmemory BYTES where its machine has more"},
	{"MISCONF ", ANYWHERE, CLI,
	 "LASTSAVE    # it cannot save to its disk, and takes nothing until it can; its log says why"},
	{"NOREPLICAS ", ANYWHERE, CLI,
	 "INFO replication    # start the replicas that it waits for; or CONFIG SET min-replicas-to-write 0, which gives up what they are for"},
	{"WRONGTYPE ", ANYWHERE, CLI, "TYPE KEY    # somebody else wrote this key: rename or delete it"},
	{"BUSY ", ANYWHERE, CLI, "SCRIPT KILL    # or wait until somebody's script ends"},
	{"no answer in time", ANYWHERE, CLI, "PING    # it hangs, or the way to it does: does it answer others?"},
	{"READONLY ", ALONE, URL, "redis://HOST:PORT/0    # that of the master"},
	{"READONLY ", SEVERAL, LATER, "it became a replica: a failover goes on"},
	{"max number of clients", ANYWHERE, CLI,
	 "CONFIG SET maxclients 10000    # it has as many connections as it takes"},
	{"CLUSTERDOWN ", ANYWHERE, CLI, "CLUSTER INFO    # what the check of the cluster says mends it"},
	{"MOVED ", ANYWHERE, LATER, "the slot went to another node meanwhile"},
	{"ASK ", ANYWHERE, LATER, "the slot is on its way to another node"},
	{"TRYAGAIN ", ANYWHERE, LATER, "the slot is on its way to another node"},
	{"certificate has expired", ANYWHERE, LINE,
	 "openssl x509 -noout -enddate -in CERT    # on its host: a new one is needed"},
	{"TLS: the certificate", ANYWHERE, CA,
	 "FILE    # of the CA that signed it; or redis_url must name the host as the certificate does"},
	{"certificate required", ANYWHERE, CERTIFICATE, NULL},
	{"does it want a certificate", ANYWHERE, CERTIFICATE, NULL},
	{"does it accept our certificate", ANYWHERE, CERTIFICATE, NULL},
	{"alert unknown ca", ANYWHERE, CERTIFICATE, NULL},
	{"alert bad certificate", ANYWHERE, CERTIFICATE, NULL},
	{"does it speak TLS?", ANYWHERE, URL, "redis…    # instead of rediss…: that port speaks no TLS"},
};

/* Of a flag that stands there twice the last counts. */
static void mend_certificate(struct doctor *d)
{
	char set[DOCTOR_TEXT_MAX];
	bool by_flag = strncmp(set_of(d, "ADWUMA_REDIS_CERT_FILE", set), "export ", 7) != 0;

	mend(d, "%sFILE %s=FILE    # %s", set, by_flag ? "--redis-key-file" : "ADWUMA_REDIS_KEY_FILE",
	     d->settings->redis_cert_file ? "of a CA that it trusts (its tls-ca-cert-file)"
					  : "it may want a certificate of ours");
}

static void mend_by(struct doctor *d, const char *cli, const struct known *k)
{
	char set[DOCTOR_TEXT_MAX];

	switch (k->how) {
	case LINE:
		mend(d, "%s", k->line);
		break;
	case CLI:
		mend(d, "%s %s", cli, k->line);
		break;
	case URL:
		mend(d, "%s%s", set_of(d, "ADWUMA_REDIS_URL", set), k->line);
		break;
	case CA:
		mend(d, "%s%s", set_of(d, "ADWUMA_REDIS_CA_FILE", set), k->line);
		break;
	case CERTIFICATE:
		mend_certificate(d);
		break;
	case LATER:
		mend_later(d, k->line);
		break;
	case PASSWORD:
		mend_secret(d, "ADWUMA_REDIS_PASSWORD", "ADWUMA_REDIS_USERNAME gives the name");
		break;
	case NO_PASSWORD:
		mend_no_password(d);
		break;
	}
}

bool lacks_right(const struct error *err)
{
	return err->code == ERR_REFUSED && strncmp(err->msg, "NOPERM ", 7) == 0;
}

bool mend_known(struct doctor *d, const char *cli, const char *message)
{
	enum where here = d->look.address.kind == REDIS_ALONE ? ALONE : SEVERAL;

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].where & here && strstr(message, known[i].words)) {
			mend_by(d, cli, &known[i]);
			return true;
		}
	return false;
}

/* --- Of the server that is looked at. ----------------------------------------------------------------------------- */

static bool is_here(const struct redis_address *a)
{
	return a->socket || strcmp(a->points[0].host, "localhost") == 0 || strncmp(a->points[0].host, "127.", 4) == 0;
}

static void mend_absence(struct doctor *d)
{
	const struct redis_address *a = &d->look.address;
	char set[DOCTOR_TEXT_MAX];

	if (a->kind != REDIS_ALONE)
		mend(d,
		     "%s PING    # does it run, and is this address, which %s, reached from here? It may be set: %s-announce-ip",
		     d->at->cli, a->kind == REDIS_SENTINEL ? "the sentinels give out" : "the cluster gives out",
		     a->kind == REDIS_SENTINEL ? "replica" : "cluster");
	else if (is_here(a))
		mend(d, "systemctl start redis-server    # or redis_url must name another place");
	else
		mend(d, "%sredis://HOST:PORT/0    # or does Redis not run there, or the network not let us in?",
		     set_of(d, "ADWUMA_REDIS_URL", set));
}

/* It hangs up on those who speak TLS or plain where it does not, and its alert that it wants a certificate may be lost with the connection. */
static bool mend_hang_up(struct doctor *d, const char *message)
{
	const struct redis_address *a = &d->look.address;
	char set[DOCTOR_TEXT_MAX];

	if (!strstr(message, "Connection reset") && !strstr(message, "closed the connection"))
		return false;
	if (!a->tls && !a->socket)
		mend(d, "%srediss…    # instead of redis…, where that port speaks TLS",
		     set_of(d, "ADWUMA_REDIS_URL", set));
	else if (a->tls)
		mend_certificate(d);
	else
		return false;
	return true;
}

void mend_error(struct doctor *d, const char *message)
{
	if (mend_hang_up(d, message))
		return;
	if (!mend_known(d, d->at->cli, message))
		mend_absence(d);
}

void found_failed(struct doctor *d, const char *what, struct error *err)
{
	found(d, FOUND_BAD, "%s%s%s", what ? what : "", what ? ": " : "", err->msg);
	mend_error(d, err->msg);
	if (err->code == ERR_LINK && doctor_connect(d, err)) {
		d->unreachable = true;
		found(d, FOUND_BAD, "the connection is lost: %s; what comes after was not looked at", err->msg);
		mend_error(d, err->msg);
	}
}
