/* SPDX-License-Identifier: MIT
 *
 * health: how the worker of this machine is, by its admin endpoints. For the health check of a container, which then needs no curl in it. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"
#include "http/http.h"

#define TIMEOUT_MS 5000
#define ANSWER_MAX (64 * 1024)

static bool is_host(const char *listen, const char *host)
{
	size_t n = strlen(host);

	return strncmp(listen, host, n) == 0 && listen[n] == ':';
}

/* What listens on every address is asked on loopback. */
static struct http_target *where(const char *listen, const char *path, struct error *err)
{
	const char *loopback = is_host(listen, "0.0.0.0") ? "127.0.0.1" : is_host(listen, "[::]") ? "[::1]" : "";
	char url[512];

	snprintf(url, sizeof url, "http://%s%s%s", loopback, *loopback ? strrchr(listen, ':') : listen, path);
	return http_target_new(url, NULL, false, err);
}

static int ask(struct http *http, const struct http_target *target, const char *listen)
{
	struct http_request req = {.target = target,
				   .method = "GET",
				   .timeout_ms = TIMEOUT_MS,
				   .max_response_bytes = ANSWER_MAX};
	struct http_response resp = {0};

	http_perform(http, &req, &resp);
	if (resp.end != HTTP_ANSWERED) {
		say("no worker answers at %s: %s", listen, resp.fault);
		say("  admin_listen (ADWUMA_ADMIN_LISTEN) must be the worker's own");
		return CLI_UNREACHABLE;
	}
	if (resp.status != 200) {
		say("%.*s (%ld)", (int)strcspn(buf_cstr(&resp.body), "\n"), buf_cstr(&resp.body), resp.status);
		return CLI_JOB_FAILED;
	}
	out_write(resp.body.ptr, resp.body.len);
	return CLI_DONE;
}

int cli_health(const struct cli *cli)
{
	const char *listen = cli->settings->admin_listen;
	struct http_target *target;
	struct http_shared *shared;
	struct error err = {0};
	struct http *http;
	int rc;

	if (strcmp(listen, "off") == 0) {
		say("admin_listen is off: the worker listens nowhere");
		return CLI_SETTINGS;
	}
	setenv("no_proxy", "*", 1); /* a proxy's loopback is not ours */
	target = where(listen, cli->option[OPT_READY] ? "/readyz" : "/healthz", &err);
	shared = target ? http_shared_new(NULL, &err) : NULL;
	http = shared ? http_new(shared, &err) : NULL;
	rc = http ? ask(http, target, listen) : say_failure(&err);
	http_free(http);
	http_shared_free(shared);
	http_target_free(target);
	return rc;
}
