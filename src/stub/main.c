/* SPDX-License-Identifier: MIT
 *
 * adwuma-stubapi: a stand-in for the remote APIs, for tests, the demo and benches. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "stub/khaya.h"
#include "stub/store.h"
#include "stub/taskingai.h"
#include "stub/wishes.h"

#define LISTEN_DEFAULT "127.0.0.1:8089"
#define BODY_MAX (128UL * 1024 * 1024)
enum { EXIT_USAGE = 2, EXIT_NO_SERVER = 69 };

static int usage(FILE *to)
{
	fputs("adwuma-stubapi: plays the Khaya and the TaskingAI API, with faults on demand.\n\n"
	      "usage: adwuma-stubapi [--listen HOST:PORT] [--key KEY]... [--delay MS]\n"
	      "                      [--fault LIST] [--codes lenient|strict] [--tts-limit N]\n"
	      "                      [--too-long e1|e3] [--edition community|hosted] [--tls-cert FILE --tls-key FILE] [--no-record]\n"
	      "       adwuma-stubapi --version\n\n"
	      "  --listen HOST:PORT   port 0 takes any [" LISTEN_DEFAULT "]; the address is printed\n"
	      "  --key KEY            a key that is accepted, for TaskingAI where it begins with tk [every\n"
	      "                       key but 32 zeros]\n"
	      "  --delay MS           answers so late, where the call's directives do not say how late\n"
	      "  --fault LIST         does this to every call; also PUT /_stub/fault with the list as body\n"
	      "  --codes MODE         lenient takes older codes (tw), v2 and v3 of recognition with a\n"
	      "                       warning; strict refuses them and names the new ones [lenient]\n"
	      "  --tts-limit N        letters in a text to speak [2000]\n"
	      "  --too-long BODY      what a text to translate gets for more than 1000: e1, or the older\n"
	      "                       e3 [e1]\n"
	      "  --edition NAME       TaskingAI's: community, or hosted, which has clean_context [community]\n"
	      "  --tls-cert FILE      HTTPS in place of HTTP, with this certificate (PEM) ...\n"
	      "  --tls-key FILE       ... and its private key\n"
	      "  --no-record          counts calls but does not keep them\n\n"
	      "A call asks for a fault with stub(LIST) in its text or language (TaskingAI: anywhere in its\n"
	      "body, or its path or query; a generation's also in the last message of its chat), or with\n"
	      "the header X-Stub: LIST. LIST is separated by commas:\n",
	      to);
	directives_help(to);
	fputs("\nControl: GET /_stub/calls[?since=N&limit=N], GET /_stub/stats, DELETE /_stub/calls,\n"
	      "         PUT /_stub/fault, DELETE /_stub/store\n\n"
	      "TaskingAI is played with all its routes: assistants, chats, messages and their generation,\n"
	      "collections, records, chunks, files, images, actions, chat completion, embedding, rerank.\n"
	      "What is created is kept in memory. Its models are Tp and six letters or digits: TpEmb...\n"
	      "embed, TpRer... rank, TpNoS... cannot stream, TpNoF... cannot call functions, all others\n"
	      "chat.\n",
	      to);
	return to == stdout ? 0 : EXIT_USAGE;
}

static int64_t query_number(const struct httpd_request *r, const char *name, int64_t otherwise)
{
	const char *value = httpd_query(r, name);

	return value && *value ? strtoll(value, NULL, 10) : otherwise;
}

static void set_fault(struct stub *s, const struct httpd_request *r, struct httpd_answer *a)
{
	size_t len;
	const char *body = httpd_body(r, &len), *bad;

	if (wishes_everywhere(s, body, len, &bad)) {
		buf_lit(&a->body, "{}");
		return;
	}
	a->status = 400;
	buf_lit(&a->body, "{\"not_understood\":");
	buf_json_cstr(&a->body, bad);
	buf_char(&a->body, '}');
}

static void control(struct stub *s, const struct httpd_request *r, struct httpd_answer *a)
{
	const char *path = httpd_path(r), *method = httpd_method(r);

	a->status = 200;
	httpd_add_header(a, "Content-Type", "application/json");
	if (strcmp(path, "/_stub/calls") == 0 && strcmp(method, "GET") == 0) {
		calls_list(s->calls, query_number(r, "since", 0), query_number(r, "limit", INT64_MAX), &a->body);
	} else if (strcmp(path, "/_stub/calls") == 0 && strcmp(method, "DELETE") == 0) {
		calls_reset(s->calls);
		buf_lit(&a->body, "{}");
	} else if (strcmp(path, "/_stub/stats") == 0 && strcmp(method, "GET") == 0) {
		calls_stats(s->calls, &a->body);
	} else if (strcmp(path, "/_stub/store") == 0 && strcmp(method, "DELETE") == 0) {
		store_clear(s->store);
		buf_lit(&a->body, "{}");
	} else if (strcmp(path, "/_stub/fault") == 0 && strcmp(method, "PUT") == 0) {
		set_fault(s, r, a);
	} else {
		a->status = 404;
		buf_lit(&a->body, "{}");
	}
}

static void handle(void *ctx, const struct httpd_request *r, struct httpd_answer *a)
{
	struct stub *s = ctx;

	if (strncmp(httpd_path(r), "/_stub/", 7) == 0)
		control(s, r, a);
	else if (taskingai_plays(httpd_path(r)))
		taskingai_answer(s, r, a);
	else
		khaya_answer(s, r, a);
}

/* --- Flags. ------------------------------------------------------------------------------------------------ */

struct options {
	struct stub stub;
	const char *listen;
	struct httpd_tls tls;
	bool no_record;
};

static bool set_key(struct options *o, const char *value)
{
	if (o->stub.nkeys == STUB_KEYS_MAX)
		return false;
	o->stub.keys[o->stub.nkeys++] = value;
	return true;
}

static bool set_everywhere(struct options *o, const char *value)
{
	const char *bad;

	return wishes_everywhere(&o->stub, value, strlen(value), &bad);
}

static bool set_codes(struct options *o, const char *value)
{
	o->stub.strict_codes = strcmp(value, "strict") == 0;
	return o->stub.strict_codes || strcmp(value, "lenient") == 0;
}

static bool set_too_long(struct options *o, const char *value)
{
	o->stub.older_too_long = strcmp(value, "e3") == 0;
	return o->stub.older_too_long || strcmp(value, "e1") == 0;
}

static bool read_number(const char *value, int64_t max, int64_t *out)
{
	char *end;

	*out = strtoll(value, &end, 10);
	return end != value && !*end && *out >= 0 && *out <= max;
}

static bool set_edition(struct options *o, const char *value)
{
	o->stub.hosted = strcmp(value, "hosted") == 0;
	return o->stub.hosted || strcmp(value, "community") == 0;
}

static bool set_delay(struct options *o, const char *value)
{
	return read_number(value, STUB_MS_MAX, &o->stub.delay_ms);
}

static bool set_tts_limit(struct options *o, const char *value)
{
	return read_number(value, STUB_TTS_LIMIT_MAX, &o->stub.tts_limit);
}

static bool set_listen(struct options *o, const char *value)
{
	o->listen = value;
	return true;
}

static bool set_tls_cert(struct options *o, const char *value)
{
	o->tls.cert_path = value;
	return true;
}

static bool set_tls_key(struct options *o, const char *value)
{
	o->tls.key_path = value;
	return true;
}

static bool set_no_record(struct options *o, const char *value)
{
	(void)value;
	o->no_record = true;
	return true;
}

static const struct flag {
	const char *name;
	bool (*set)(struct options *o, const char *value);
	const char *rule; /* said where set() fails */
	bool bare;	  /* takes no value */
} flags[] = {
	{"--listen", set_listen, "", false},
	{"--key", set_key, "too many keys", false},
	{"--delay", set_delay, "is a number of milliseconds", false},
	{"--fault", set_everywhere, "has a directive that is unknown or has a wrong value", false},
	{"--codes", set_codes, "is lenient or strict", false},
	{"--tts-limit", set_tts_limit, "is a number of letters, at most a million", false},
	{"--too-long", set_too_long, "is e1 or e3", false},
	{"--edition", set_edition, "is community or hosted", false},
	{"--tls-cert", set_tls_cert, "", false},
	{"--tls-key", set_tls_key, "", false},
	{"--no-record", set_no_record, "", true},
};

static const struct flag *find_flag(const char *name)
{
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (strcmp(flags[i].name, name) == 0)
			return &flags[i];
	return NULL;
}

/* 0, or what to exit with. */
static int read_flags(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i], *wrong = NULL;
		const struct flag *f = find_flag(name);

		if (!f)
			wrong = "unknown flag";
		else if (!f->bare && i + 1 == argc)
			wrong = "its value is missing";
		else if (!f->set(o, f->bare ? NULL : argv[++i]))
			wrong = f->rule;
		if (wrong) {
			fprintf(stderr, "adwuma-stubapi: %s: %s; see --help\n", name, wrong);
			return EXIT_USAGE;
		}
	}
	if (!o->tls.cert_path != !o->tls.key_path) {
		fprintf(stderr, "adwuma-stubapi: --tls-cert and --tls-key go together; see --help\n");
		return EXIT_USAGE;
	}
	return 0;
}

/* Thousands of calls may be in flight. */
static void raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* Returns what to exit with. */
static int run(struct options *o)
{
	struct stub *stub = &o->stub;
	const struct httpd_tls *tls = o->tls.cert_path ? &o->tls : NULL;
	struct error err = {0};
	struct httpd *server;
	sigset_t stop;
	uint16_t port;
	int sig;

	raise_file_limit();
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	stub->calls = calls_new(!o->no_record);
	stub->store = store_new();
	stub->tls = tls;
	server = stub->calls && stub->store ? httpd_start_tls(o->listen, tls, BODY_MAX, handle, stub, &port, &err)
					    : NULL;
	if (!server) {
		fprintf(stderr, "adwuma-stubapi: %s\n", stub->calls && stub->store ? err.msg : "out of memory");
		calls_free(stub->calls);
		store_free(stub->store);
		return EXIT_NO_SERVER;
	}
	printf("listening on %s://%.*s:%u\n", tls ? "https" : "http", (int)(strrchr(o->listen, ':') - o->listen),
	       o->listen, port);
	fflush(stdout);
	sigwait(&stop, &sig);
	httpd_stop(server);
	calls_free(stub->calls);
	store_free(stub->store);
	return 0;
}

int main(int argc, char **argv)
{
	struct options options = {.listen = LISTEN_DEFAULT, .stub = {.tts_limit = STUB_TTS_LIMIT_DEFAULT}};
	int rc;

	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		return usage(stdout);
	if (argc > 1 && strcmp(argv[1], "--version") == 0)
		return printf("adwuma-stubapi %s\n", ADWUMA_VERSION) < 0;
	rc = read_flags(argc, argv, &options);
	if (!rc)
		rc = run(&options);
	free(options.stub.everywhere_list);
	return rc;
}
