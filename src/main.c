/* SPDX-License-Identifier: MIT
 *
 * adwumad: settings, signals, start and stop. Only main takes signals, by sigtimedwait(); every other thread is born with all blocked. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "settings/settings.h"
#include "worker/service.h"

enum { EXIT_DONE = 0, EXIT_UNREACHABLE = 69, EXIT_SETTINGS = 78 };

#define WARNINGS_MAX (64 * 1024)

static sigset_t signals; /* those that mean something to us */
static bool stop_seen;	 /* one TERM or INT came */

static void take_signals(void)
{
	static const int ours[] = {SIGTERM, SIGINT, SIGTSTP, SIGCONT, SIGUSR1};

	sigemptyset(&signals);
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		sigaddset(&signals, ours[i]);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static bool is_stop(int sig)
{
	return sig == SIGTERM || sig == SIGINT;
}

/* Whether another stop signal is waiting; others are dropped, since the service is starting or stopping. */
static bool stop_came(void)
{
	struct timespec now = {0};
	int sig;

	while ((sig = sigtimedwait(&signals, NULL, &now)) > 0)
		if (is_stop(sig))
			return true;
	return false;
}

/* So often while something lasts: the manager is told that it may. */
#define EXTEND_EVERY_MS 10000
static struct service *running; /* whose signs of life the manager's watchdog gets; NULL: none yet */

/* Tells the service manager's watchdog that the loops turn, as often as it needs; a stuck loop is not reported, so that it restarts us. */
static void sign_of_life(void)
{
	static int64_t next_ms;
	int64_t every_ms = notify_watchdog_ms() / 3;

	if (!running || every_ms == 0 || clock_mono_ms() < next_ms)
		return;
	if (service_alive(running))
		notify("WATCHDOG=1");
	next_ms = clock_mono_ms() + every_ms;
}

static bool hurry(void)
{
	sign_of_life();
	return stop_came();
}

/* Waiting for Redis may last: a manager that waits for READY must not give up. */
static void still_starting(void)
{
	static int64_t next_ms;

	if (clock_mono_ms() < next_ms)
		return;
	notify("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=waiting for redis");
	next_ms = clock_mono_ms() + EXTEND_EVERY_MS;
}

static bool stop_asked_at_start(void)
{
	still_starting();
	stop_seen = stop_seen || stop_came();
	return stop_seen;
}

static void run_until_stopped(struct service *service)
{
	int64_t watchdog_ms = notify_watchdog_ms();
	struct timespec limit = {.tv_sec = watchdog_ms / 4000, .tv_nsec = watchdog_ms / 4 % 1000 * 1000000};

	for (;;) {
		int sig = watchdog_ms > 0 ? sigtimedwait(&signals, NULL, &limit) : sigwaitinfo(&signals, NULL);

		sign_of_life();
		if (is_stop(sig))
			return;
		if (sig == SIGTSTP || sig == SIGCONT) {
			service_quiet(service, sig == SIGTSTP);
			notify(sig == SIGTSTP ? "STATUS=taking no more jobs" : "STATUS=taking jobs");
		}
		if (sig == SIGUSR1)
			service_log(service);
	}
}

static int usage(void)
{
	printf("adwumad: takes jobs from Redis lists, calls the API, writes results back.\n\n"
	       "usage: adwumad [--config FILE] [--SETTING VALUE]...\n"
	       "       adwumad --check     print the settings file that was read and the resolved settings, and stop; opens no connection\n"
	       "       adwumad --version\n\n"
	       "Signals: TERM or INT finish what runs and stop (a second one: at once, jobs go back to their lists);\n"
	       "TSTP takes no more jobs, CONT takes them again; USR1 logs what each thread does.\n\n"
	       "Settings. Flags beat the environment, which beats the file (/etc/adwuma/adwumad.conf), which beats the default:\n");
	settings_help(stdout);
	printf("\nA section [queue NAME] of the file sets max_concurrency, timeout_ms and max_attempts of that queue.\n"
	       "Exit codes: 0 done, 69 Redis cannot be reached at the stop or refuses us, 78 bad settings.\n");
	return EXIT_DONE;
}

static int complain(const char *what)
{
	fprintf(stderr, "adwumad: %s\n", what);
	return EXIT_SETTINGS;
}

/* Warnings come one a line. */
static void log_warnings(const struct buf *warnings)
{
	for (const char *line = buf_cstr(warnings); *line;) {
		size_t n = strcspn(line, "\n");
		char text[512];

		snprintf(text, sizeof text, "%.*s", (int)n, line);
		log_event(LOG_WARN, "setting", "warning", text, NULL);
		line += line[n] ? n + 1 : n;
	}
}

static bool has_key(const struct settings *s)
{
	return settings_khaya_key(s, NULL) || s->khaya_translation_api_key || s->khaya_asr_api_key ||
	       s->khaya_tts_api_key || s->taskingai_api_key;
}

static int check(const struct settings *s, const struct buf *warnings)
{
	settings_print(s, stdout);
	for (const char *line = buf_cstr(warnings); *line; line += strcspn(line, "\n") + 1)
		fprintf(stderr, "warning: %.*s\n", (int)strcspn(line, "\n"), line);
	if (!has_key(s))
		fputs("warning: no API key is set (KHAYA_API_KEY or KHAYA_API_KEY_FILE): jobs will fail with AuthenticationError\n",
		      stderr);
	return EXIT_DONE;
}

/* What to do where there is no start, as far as the reason tells; "" else. */
static const char *what_then(const struct settings *s, const char *reason)
{
	static char text[512];
	const char *user = s->redis_username;

	if (strstr(reason, "NOPERM "))
		snprintf(
			text, sizeof text,
			"the ACL of Redis does not let %s%.100s do that; ADWUMA_REDIS_USERNAME names another, users.acl says what each may",
			user ? "user " : "the user of redis_url", user ? user : "");
	else if (strstr(reason, strerror(EADDRINUSE)))
		snprintf(text, sizeof text, "a second worker on a host needs another admin_listen, or off");
	return text;
}

static int serve(const struct settings *s, const struct buf *warnings)
{
	struct error err = {0};
	struct service *service;
	const char *then;
	bool clean;

	log_open("adwumad", s->log_level, s->log_format);
	log_warnings(warnings);
	if (!has_key(s))
		log_event(
			LOG_WARN, "setting", "warning",
			"no API key is set (KHAYA_API_KEY or KHAYA_API_KEY_FILE): jobs will fail with AuthenticationError",
			NULL);
	take_signals();
	service = service_start(s, stop_asked_at_start, &err);
	if (!service) {
		if (stop_seen) {
			log_event(LOG_INFO, "stopped", "while", "waiting for redis", NULL);
			return EXIT_DONE;
		}
		then = what_then(s, err.msg);
		log_event(LOG_ERROR, "cannot start", "reason", err.msg, *then ? "then" : NULL, then, NULL);
		return err.code == ERR_CONFIG ? EXIT_SETTINGS : EXIT_UNREACHABLE;
	}
	running = service;
	notify("READY=1\nSTATUS=taking jobs");
	run_until_stopped(service);
	notify("STOPPING=1\nSTATUS=finishing what runs");
	clean = service_stop(service, hurry);
	running = NULL;
	service_free(service);
	return clean ? EXIT_DONE : EXIT_UNREACHABLE;
}

int main(int argc, char **argv)
{
	struct buf warnings = BUF_INIT(WARNINGS_MAX);
	struct settings settings = {0};
	struct error err = {0};
	int rc;

	/* A core or /proc/PID/mem must not be readable by others: it holds keys. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0)
			return usage();
		if (strcmp(argv[i], "--version") == 0)
			return printf("adwumad %s\n", ADWUMA_VERSION) < 0;
	}
	if (settings_load(&settings, &argc, argv, service_rules, &warnings, &err)) {
		rc = complain(err.msg);
	} else if (argc > 1 && (strcmp(argv[1], "--check") != 0 || argc > 2)) {
		const char *flag = argv[strcmp(argv[1], "--check") == 0 ? 2 : 1];
		char text[256];

		/* Without its value, which may be a secret under a misspelt name. */
		snprintf(text, sizeof text, "%.*s: %s; see adwumad --help", (int)strcspn(flag, "="), flag,
			 *flag == '-' ? "unknown flag" : "unexpected argument");
		rc = complain(text);
	} else if (argc > 1) {
		rc = check(&settings, &warnings);
	} else {
		rc = serve(&settings, &warnings);
	}
	settings_release(&settings);
	buf_release(&warnings);
	return rc;
}
