/* SPDX-License-Identifier: MIT
 *
 * Settings: kinds, sources and their order, the file, secrets, checks over several settings. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "settings/settings.h"

#define ARGS_MAX 16

static struct settings s;
static struct error err;
static struct buf warnings;
static char dir[128], path[160];
static char *args[ARGS_MAX + 1];
static int nargs;

static void setup(void)
{
	clearenv();
	snprintf(dir, sizeof dir, "%s/test_settings.XXXXXX", P_tmpdir);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/a.conf", dir);
	warnings = BUF_INIT(10000);
	s = (struct settings){0};
	err = (struct error){0};
}

static void teardown(void)
{
	settings_release(&s);
	buf_release(&warnings);
	unlink(path);
	rmdir(dir);
}

/* words: the command line, cut at spaces; NULL: none. A file written before is named by --config. */
static int load(const char *words)
{
	static char copy[1024];

	settings_release(&s);
	err = (struct error){0};
	buf_clear(&warnings);
	nargs = 0;
	args[nargs++] = (char *)(intptr_t) "program";
	if (access(path, F_OK) == 0) {
		args[nargs++] = (char *)(intptr_t) "--config";
		args[nargs++] = path;
	}
	snprintf(copy, sizeof copy, "%s", words ? words : "");
	for (char *w = strtok(copy, " "); w && nargs < ARGS_MAX; w = strtok(NULL, " "))
		args[nargs++] = w;
	args[nargs] = NULL;
	return settings_load(&s, &nargs, args, NULL, &warnings, &err);
}

static void write_bytes(const char *to, const char *text, size_t n)
{
	FILE *f = fopen(to, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, n, f), n);
	fclose(f);
}

static void write_file(const char *text)
{
	write_bytes(path, text, strlen(text));
}

static void assert_refused(int rc, const char *part)
{
	ck_assert_msg(rc == -1, "taken, but should say: %s", part);
	ck_assert_int_eq(err.code, ERR_CONFIG);
	ck_assert_msg(strstr(err.msg, part), "'%s' does not say '%s'", err.msg, part);
}

START_TEST(defaults_are_the_contracts)
{
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_str_eq(s.redis_url, "redis://127.0.0.1:6379/0");
	ck_assert_ptr_null(s.redis_username);
	ck_assert_uint_eq(s.nqueues, 4);
	ck_assert_str_eq(s.queues[0].name, "translate");
	ck_assert_str_eq(s.queues[3].name, "taskingai");
	ck_assert_int_eq(s.queues[0].weight, 1);
	ck_assert_int_eq(s.threads, 32);
	ck_assert_int_eq(s.lease_ms, 15000);
	ck_assert_int_eq(s.dead_max_jobs, 10000);
	ck_assert_int_eq(s.dead_max_bytes, 64 << 20);
	ck_assert_int_eq(s.result_ttl_s, 86400);
	ck_assert_int_eq(s.max_attempts, 5);
	ck_assert_int_eq(s.max_crashes, 5);
	ck_assert_int_eq(s.drain_timeout_s, 25);
	ck_assert_int_eq(s.max_job_bytes, 16 << 20);
	ck_assert_int_eq(s.max_audio_bytes, 64 << 20);
	ck_assert_int_eq(s.max_response_bytes, 64 << 20);
	ck_assert_ptr_null(s.audio_root);
	ck_assert_ptr_null(s.audio_url_allow);
	ck_assert_str_eq(s.admin_listen, "127.0.0.1:9464");
	ck_assert(!s.admin_listen_set);
	ck_assert_int_eq(s.log_level, LOG_INFO);
	ck_assert_int_eq(s.log_format, LOG_LOGFMT);
	ck_assert_str_eq(s.key_prefix, "adwuma");
	ck_assert_str_eq(s.khaya_base_url, "https://translation-api.ghananlp.org");
	ck_assert_int_eq(s.khaya_timeout, 0);
	ck_assert_int_eq(s.khaya_retry_attempts, 0);
	ck_assert_str_eq(s.khaya_translation_version, "v1");
	ck_assert_str_eq(s.khaya_asr_version, "v3");
	ck_assert_str_eq(s.khaya_tts_version, "v1");
	ck_assert_int_eq(s.khaya_tts_max_chars, 500);
	ck_assert_str_eq(s.taskingai_host, "https://api.tasking.ai");
	ck_assert_int_eq(s.taskingai_timeout, 0);
	ck_assert_ptr_null(s.api_ca_file);
	ck_assert(!s.allow_http_loopback);
	ck_assert_ptr_null(s.allow_http_hosts);
	ck_assert_ptr_null(settings_khaya_key(&s, s.khaya_tts_api_key));
	ck_assert_uint_eq(warnings.len, 0);
}
END_TEST

START_TEST(flags_beat_environment_beats_file)
{
	write_file("threads = 5\nlease_ms = 2000\nmax_attempts = 7\nlog_level = warn\n");
	setenv("ADWUMA_LEASE_MS", "3000", 1);
	setenv("ADWUMA_MAX_ATTEMPTS", "8", 1);
	setenv("ADWUMA_THREADS", "", 1); /* as good as unset */
	ck_assert_int_eq(load("--max-attempts 9"), 0);
	ck_assert_int_eq(s.threads, 5);
	ck_assert_int_eq(s.lease_ms, 3000);
	ck_assert_int_eq(s.max_attempts, 9);
	ck_assert_int_eq(s.log_level, LOG_WARN);
	ck_assert_int_eq(load("--threads=1 --threads 2"), 0);
	ck_assert_int_eq(s.threads, 2);
}
END_TEST

START_TEST(other_arguments_stay_in_order)
{
	ck_assert_int_eq(load("translate --threads 3 --pair en-tw --json --lease-ms=2000 text -- --threads 9"), 0);
	ck_assert_int_eq(s.threads, 3);
	ck_assert_int_eq(nargs, 9);
	ck_assert_str_eq(args[0], "program");
	ck_assert_str_eq(args[1], "translate");
	ck_assert_str_eq(args[2], "--pair");
	ck_assert_str_eq(args[3], "en-tw");
	ck_assert_str_eq(args[4], "--json");
	ck_assert_str_eq(args[5], "text");
	ck_assert_str_eq(args[6], "--");
	ck_assert_str_eq(args[7], "--threads");
	ck_assert_str_eq(args[8], "9");
	ck_assert_ptr_null(args[9]);
}
END_TEST

START_TEST(names_with_their_own_environment)
{
	setenv("KHAYA_TIMEOUT", "7.0", 1);
	setenv("KHAYA_RETRY_ATTEMPTS", "4", 1);
	setenv("KHAYA_BASE_URL", "https://example.org/khaya//", 1);
	setenv("TASKINGAI_HOST", "https://example.org/", 1);
	setenv("TASKINGAI_TIMEOUT", "60", 1);
	setenv("KHAYA_API_KEY", "common", 1);
	setenv("KHAYA_TTS_API_KEY", "own", 1);
	setenv("ADWUMA_KHAYA_ASR_API_KEY", "no such name", 1);
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_int_eq(s.khaya_timeout, 7);
	ck_assert_int_eq(s.khaya_retry_attempts, 4);
	ck_assert_str_eq(s.khaya_base_url, "https://example.org/khaya");
	ck_assert_str_eq(s.taskingai_host, "https://example.org");
	ck_assert_int_eq(s.taskingai_timeout, 60);
	ck_assert_str_eq(settings_khaya_key(&s, s.khaya_tts_api_key), "own");
	ck_assert_str_eq(settings_khaya_key(&s, s.khaya_asr_api_key), "common");
	ck_assert_str_eq(buf_cstr(&warnings), "environment ADWUMA_KHAYA_ASR_API_KEY: is no setting, ignored\n");
}
END_TEST

START_TEST(only_names_of_ours_are_warned_of)
{
	setenv("ADWUMA_THREDS", "1", 1);
	setenv("ADWUMA_THREADS", "1", 1);
	setenv("ADWUMA_REDIS_PASSWORD_FILE", "", 1);
	setenv("KHAYA_NONSENSE", "1", 1);
	setenv("THREADS", "1", 1);
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_str_eq(buf_cstr(&warnings), "environment ADWUMA_THREDS: is no setting, ignored\n");
}
END_TEST

/* --- Kinds. ------------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *args, *part;
} refusals[] = {
	{"--threads 0", "--threads: threads must be a whole number from 1 to 4096, got '0'"},
	{"--threads 4097", "got '4097'"},
	{"--threads 7x", "got '7x'"},
	{"--threads 7.5", "got '7.5'"},
	{"--threads 7.", "got '7.'"},
	{"--threads 7.01", "got '7.01'"},
	{"--threads 0x10", "got '0x10'"},
	{"--threads +7", "got '+7'"},
	{"--threads -7", "got '-7'"},
	{"--threads -", "got '-'"},
	{"--threads=", "got ''"},
	{"--threads 1e1", "got '1e1'"},
	{"--threads 18446744073709551617", "--threads"}, /* 2^64 + 1 */
	{"--threads", "--threads: a value must follow"},
	{"--config", "--config: a value must follow"},
	{"--lease-ms 999", "from 1000 to 600000"},
	{"--lease-ms 600001", "from 1000 to 600000"},
	{"--max-job-bytes 1T", "max_job_bytes must be a size"},
	{"--max-job-bytes 16MB", "max_job_bytes must be a size"},
	{"--max-job-bytes M", "max_job_bytes must be a size"},
	{"--max-job-bytes -1", "max_job_bytes must be a size"},
	{"--max-job-bytes 1023", "max_job_bytes must be a size"},
	{"--max-job-bytes 17179869184G", "max_job_bytes must be a size"}, /* 2^64 */
	{"--max-job-bytes 18446744073726328832", "max_job_bytes must be a size"},
	{"--dead-max-bytes 17179869185G", "dead_max_bytes must be a size"}, /* 2^64 + 2^30 */
	{"--allow-http-loopback maybe", "on or off"},
	{"--log-level loud", "debug|info|warn|error"},
	{"--log-level inf", "debug|info|warn|error"},
	{"--log-level info|warn", "debug|info|warn|error"},
	{"--log-format INFO", "logfmt|json"},
	{"--queues a,a", "'a' stands there twice"},
	{"--queues ,", "at least one"},
	{"--queues A", "'A' is no queue name"},
	{"--queues -a", "'-a' is no queue name"},
	{"--queues a{b}", "is no queue name"},
	{"--queues a:", "the weight of 'a'"},
	{"--queues a:0", "the weight of 'a'"},
	{"--queues a:1001", "the weight of 'a'"},
	{"--queues a:10000000000000001", "the weight of 'a'"},
	{"--queues a:1:2", "the weight of 'a'"},
	{"--queues :2", "is no queue name"},
	{"--redis-url=", "redis_url must not be empty"},
	{"--khaya-base-url=", "khaya_base_url must not be empty"},
	{"--key-prefix=", "key_prefix must not be empty"},
	{"--key-prefix a{b", "--key-prefix: must be 1 to 64"},
	{"--admin-listen=", "admin_listen must not be empty"},
	{"--admin-listen nowhere", "HOST:PORT or off"},
	{"--admin-listen :1", "HOST:PORT or off"},
	{"--admin-listen h:65536", "HOST:PORT or off"},
	{"--admin-listen [::1]", "HOST:PORT or off"},
	{"--admin-listen [::1:9464", "HOST:PORT or off"},
	{"--admin-listen []:9464", "HOST:PORT or off"},
	{"--redis-url http://x", "--redis-url: must begin with"},
	{"--redis-url redis+ring://h:1", "must begin with redis://, rediss://"},
	{"--khaya-translation-version v3", "khaya_translation_version must be v1|v2, got 'v3'"},
	{"--khaya-asr-version V1", "khaya_asr_version must be v1|v2|v3, got 'V1'"},
	{"--khaya-asr-version v", "must be v1|v2|v3, got 'v'"},
	{"--khaya-tts-version v3", "khaya_tts_version must be v1|v2, got 'v3'"},
	{"--audio-root /nonexistent", "--audio-root: /nonexistent is no directory"},
	{"--audio-root /dev/null", "is no directory"},
	{"--api-ca-file /nonexistent", "--api-ca-file: cannot read /nonexistent"},
	{"--api-ca-file /", "--api-ca-file: / is a directory"},
	{"--redis-key-file /nonexistent", "--redis-key-file: cannot read"},
	{"--config /nonexistent", "/nonexistent: cannot read it"},
	{"--config /", "/: cannot read it"},
	{"--khaya-api-key hush", "--khaya-api-key: secrets have no flag"},
	{"--taskingai-api-key=hush", "--taskingai-api-key: secrets have no flag"},
	{"--redis-password=hush", "--redis-password: secrets have no flag"},
};

START_TEST(refused_with_place_and_reason)
{
	assert_refused(load(refusals[_i].args), refusals[_i].part);
	ck_assert_ptr_null(strstr(err.msg, "hush"));
}
END_TEST

START_TEST(kinds_take_all_their_forms)
{
	static const char *const on[] = {"on", "yes", "true", "1", "ON", "True"}, *const off[] = {"off", "no",	"false",
												  "0",	 "OFF", "No"};
	char flags[64];

	for (size_t i = 0; i < 6; i++) {
		snprintf(flags, sizeof flags, "--allow-http-loopback %s", on[i]);
		ck_assert_int_eq(load(flags), 0);
		ck_assert(s.allow_http_loopback);
		snprintf(flags, sizeof flags, "--allow-http-loopback on --allow-http-loopback=%s", off[i]);
		ck_assert_int_eq(load(flags), 0);
		ck_assert(!s.allow_http_loopback);
	}
	ck_assert_int_eq(load("--max-job-bytes 2K --max-audio-bytes 3m --dead-max-bytes 1G --max-response-bytes 5000"),
			 0);
	ck_assert_int_eq(s.max_job_bytes, 2048);
	ck_assert_int_eq(s.max_audio_bytes, 3 << 20);
	ck_assert_int_eq(s.dead_max_bytes, 1 << 30);
	ck_assert_int_eq(s.max_response_bytes, 5000);
	ck_assert_int_eq(
		load("--threads 4096 --lease-ms 600000 --log-level error --log-format json --admin-listen off"), 0);
	ck_assert_int_eq(s.threads, 4096);
	ck_assert_int_eq(s.log_level, LOG_ERROR);
	ck_assert_int_eq(s.log_format, LOG_JSON);
	ck_assert(s.admin_listen_set);
	ck_assert_int_eq(load("--admin-listen [::1]:0 --audio-root / --redis-url unix:///x"), 0);
	ck_assert_str_eq(s.audio_root, "/");
	ck_assert_int_eq(load("--audio-root / --audio-root="), 0);
	ck_assert_ptr_null(s.audio_root);
}
END_TEST

START_TEST(queues_have_names_and_weights)
{
	char name[QUEUE_NAME_MAX + 2], flags[128];

	ck_assert_int_eq(load("--queues a:3,,0b.c_d-e,z:1000"), 0);
	ck_assert_uint_eq(s.nqueues, 3);
	ck_assert_str_eq(s.queues[0].name, "a");
	ck_assert_int_eq(s.queues[0].weight, 3);
	ck_assert_str_eq(s.queues[1].name, "0b.c_d-e");
	ck_assert_int_eq(s.queues[2].weight, 1000);
	memset(name, 'q', sizeof name);
	snprintf(flags, sizeof flags, "--queues %.*s", QUEUE_NAME_MAX, name);
	ck_assert_int_eq(load(flags), 0);
	snprintf(flags, sizeof flags, "--queues %.*s", QUEUE_NAME_MAX + 1, name);
	assert_refused(load(flags), "is no queue name");
}
END_TEST

START_TEST(queues_are_bounded)
{
	struct buf flags = BUF_INIT(2000);

	buf_lit(&flags, "--queues a");
	for (int i = 1; i < QUEUES_MAX; i++)
		buf_printf(&flags, ",q%d", i);
	ck_assert_int_eq(load(flags.ptr), 0);
	ck_assert_uint_eq(s.nqueues, QUEUES_MAX);
	buf_lit(&flags, ",more");
	assert_refused(load(flags.ptr), "at most 64 queues");
	buf_release(&flags);
}
END_TEST

/* --- Plain http. -------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *url;
	bool loopback,
		hosts; /* whether it passes with allow_http_loopback; with allow_http_hosts=stub,other.example,[fd00::1] */
} urls[] = {
	{"http://127.0.0.1:8080/x", true, false},
	{"http://localhost", true, false},
	{"http://[::1]:1", true, false},
	{"http://127.0.0.1.example.org", false, false},
	{"http://localhost@example.org", false, false},
	{"http://localhost:1@example.org", false, false},
	{"http://[::1]@example.org", false, false},
	{"http://[::1]x", false, false},
	{"http://[::1", false, false},
	{"http://[", false, false},
	{"http://", false, false},
	{"http:///localhost", false, false},
	{"http://example.org/@localhost", false, false},
	{"http://stub:9", false, true},
	{"http://STUB", false, true},
	{"http://other.example?x", false, true},
	{"http://[fd00::1]:80", false, true},
	{"http://stub.example.org", false, false},
	{"http://tub", false, false},
	{"http://other", false, false},
	{"HTTP://localhost", false, false},
	{"HTTPS://localhost", false, false},
	{"ftp://localhost", false, false},
	{"https://", false, false},
	{"https:///", false, false},
};

START_TEST(only_https_but_for_what_is_allowed)
{
	char flags[256];

	for (int i = 0; i < 2; i++) {
		const char *name = i ? "--taskingai-host" : "--khaya-base-url";

		snprintf(flags, sizeof flags, "%s %s", name, urls[_i].url);
		assert_refused(load(flags), "must begin with https://");
		snprintf(flags, sizeof flags, "%s %s --allow-http-loopback on", name, urls[_i].url);
		ck_assert_int_eq(load(flags), urls[_i].loopback ? 0 : -1);
		snprintf(flags, sizeof flags, "%s %s --allow-http-hosts stub,other.example,[fd00::1],", name,
			 urls[_i].url);
		ck_assert_int_eq(load(flags), urls[_i].hosts ? 0 : -1);
	}
}
END_TEST

/* --- The file. ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_file_is_read)
{
	write_file(
		"\xef\xbb\xbf# a comment\r\n; another\r\n  threads = 5 ; behind\r\n\r\nqueues = a:2,\r\n\tb\r\n\r\n  # between\r\n   c:3\r\n"
		"allow_http_hosts = one\n  [::1]\naudio_root : /\nlease_ms = 2000\nlease_ms = 3000\n[queue b]\nmax_concurrency = 3\ntimeout_ms=10\n"
		"[queue   a]\nmax_attempts = 100\n[queue b]\ntimeout_ms = 11");
	ck_assert_msg(load(NULL) == 0, "%s", err.msg);
	ck_assert_int_eq(s.threads, 5);
	ck_assert_uint_eq(s.nqueues, 3);
	ck_assert_int_eq(s.queues[2].weight, 3);
	ck_assert_str_eq(s.allow_http_hosts, "one,[::1]");
	ck_assert_str_eq(s.audio_root, "/");
	ck_assert_int_eq(s.lease_ms, 3000); /* as with flags, the last counts */
	ck_assert_int_eq(s.queues[0].max_attempts, 100);
	ck_assert_int_eq(s.queues[0].max_concurrency, 0);
	ck_assert_int_eq(s.queues[1].max_concurrency, 3);
	ck_assert_int_eq(s.queues[1].timeout_ms, 11);
}
END_TEST

static const struct {
	const char *text, *part;
} files[] = {
	{"threads = 5\nthreds = 6\n", ":2: 'threds' is no setting"},
	{"threads = many\n", ":1: threads must be a whole number"},
	{"threads =\n", ":1: threads must be"},
	{"redis_url =\n", ":1: redis_url must not be empty"},
	{"\n\njust words\n", ":3: is neither name = value nor [section]"},
	{"[queue translate\ntimeout_ms = 1\n", ":1: is neither"},
	{"[queue nope]\ntimeout_ms = 1\n", ":2: queue 'nope' is not among queues"},
	{"queues = nope\n[queue translate]\ntimeout_ms = 1\n", ":3: queue 'translate' is not among queues"},
	{"[queue translate]\nthreads = 1\n", ":2: 'threads' is no setting of a queue"},
	{"[queue translate]\nrate_limit = 10/s\n", "rate_limit is not supported by this version"},
	{"[queue translate]\ncache_ttl_s = 1\n", "cache_ttl_s is not supported by this version"},
	{"[queue translate]\ntimeout_ms = 3600001\n", ":2: timeout_ms must be"},
	{"[queue translate]\nmax_attempts = 101\n", ":2: max_attempts must be"},
	{"[queue translate]\nmax_concurrency = 0\n", ":2: max_concurrency must be"},
	{"[queue translate]\ntimeout_ms = 1\n  2\n", "only lists may"},
	{"[other]\nthreads = 1\n", ":2: section [other] is unknown"},
	{"redis_username = a\n  threads = 5\n", ":1: 'redis_username' goes on in an indented line; only lists may"},
	{"threads = 1\n\t2\n", "only lists may"},
	{"khaya_api_key_file = /nonexistent\n", ":1: cannot read /nonexistent"},
	{"threads_file = /dev/null\n", ":1: 'threads_file' is no setting"},
	{"threads = 5\nredis_username = ama\n",
	 ":2: redis_username: a user name needs a password: set redis_password, too"},
	{"redis_username = a\rthreads = 5\n", "must be one line without control characters"},
};

START_TEST(a_bad_file_is_refused_with_its_line)
{
	write_file(files[_i].text);
	assert_refused(load(NULL), files[_i].part);
	ck_assert_int_eq(strncmp(err.msg, path, strlen(path)), 0);
}
END_TEST

/* inih holds 198 bytes: to that length a line is taken whole, with any line end; beyond, refused. */
START_TEST(long_lines_are_taken_whole_or_refused)
{
	static const char *const ends[] = {"\n", "\r\n", ""};
	char text[300];

	setenv("ADWUMA_REDIS_PASSWORD", "secret", 1); /* a name needs one */
	for (size_t e = 0; e < 3; e++) {
		for (size_t n = 190; n < 210; n++) {
			size_t len = (size_t)sprintf(text, "redis_username = ");

			memset(text + len, 'u', n - len);
			strcpy(text + n, ends[e]);
			write_file(text);
			if (n > 198) {
				assert_refused(load(NULL), ":1: the line is longer than 198 bytes");
				continue;
			}
			ck_assert_msg(load(NULL) == 0, "%zu: %s", n, err.msg);
			ck_assert_uint_eq(strlen(s.redis_username), n - len);
		}
	}
}
END_TEST

START_TEST(a_long_list_is_taken_whole_or_refused)
{
	struct buf text = BUF_INIT(20000);
	size_t n = 0;

	buf_lit(&text, "allow_http_hosts = a\n");
	for (; text.len < 7500; n++)
		buf_lit(&text, "  host-of-some-length.example.org\n");
	write_file(text.ptr);
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_uint_eq(strlen(s.allow_http_hosts), 1 + n * 32);
	while (text.len < 9000)
		buf_lit(&text, "  host-of-some-length.example.org\n");
	write_file(text.ptr);
	assert_refused(load(NULL), "the list is too long");
	buf_release(&text);
}
END_TEST

START_TEST(a_byte_order_mark_hides_no_section)
{
	write_file("\xef\xbb\xbf[queue translate]\ntimeout_ms = 4\n");
	ck_assert_msg(load(NULL) == 0, "%s", err.msg);
	ck_assert_int_eq(s.queues[0].timeout_ms, 4);
}
END_TEST

START_TEST(sections_follow_the_queues_of_all_sources)
{
	write_file("queues = a,b\n[queue a]\ntimeout_ms = 1\n[queue b]\ntimeout_ms = 2\n");
	ck_assert_int_eq(load("--queues b:5,c"), 0); /* the file knows a, this worker leaves it to others */
	ck_assert_uint_eq(s.nqueues, 2);
	ck_assert_int_eq(s.queues[0].timeout_ms, 2);
	ck_assert_int_eq(s.queues[0].weight, 5);
	ck_assert_int_eq(s.queues[1].timeout_ms, 0);
	write_file("[queue special]\ntimeout_ms = 3\n");
	setenv("ADWUMA_QUEUES", "special", 1);
	ck_assert_msg(load(NULL) == 0, "%s", err.msg);
	ck_assert_int_eq(s.queues[0].timeout_ms, 3);
}
END_TEST

START_TEST(a_section_may_name_the_longest_queue)
{
	char name[QUEUE_NAME_MAX + 1] = {0}, text[300];

	memset(name, 'q', QUEUE_NAME_MAX);
	snprintf(text, sizeof text, "queues = %s\n[queue %s]\ntimeout_ms = 4\n", name, name);
	write_file(text);
	ck_assert_msg(load(NULL) == 0, "%s", err.msg);
	ck_assert_int_eq(s.queues[0].timeout_ms, 4);
}
END_TEST

/* --- Secrets. ----------------------------------------------------------------------------------------------------------- */

START_TEST(a_secret_from_a_file)
{
	static const struct {
		const char *text, *key;
	} cases[] = {{"key", "key"}, {"key\n", "key"}, {"key\r\n", "key"}, {" k \n", " k "}, {"", NULL}, {"\n", NULL}};

	setenv("ADWUMA_REDIS_PASSWORD_FILE", path, 1);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *no_args[] = {NULL};
		int none = 0;

		write_file(cases[i].text);
		settings_release(&s);
		ck_assert_msg(settings_load(&s, &none, no_args, NULL, NULL, &err) == 0, "%s", err.msg);
		if (cases[i].key)
			ck_assert_str_eq(s.redis_password, cases[i].key);
		else
			ck_assert_ptr_null(s.redis_password);
	}
}
END_TEST

START_TEST(it_is_known_where_a_secret_stands)
{
	write_file("redis_password = from-the-file\nkhaya_api_key = key\n");
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_str_eq(settings_secret(&s, "redis_password")->file, s.file);
	ck_assert_ptr_null(settings_secret(&s, "redis_password")->variable);
	ck_assert_ptr_null(settings_secret(&s, "taskingai_api_key"));
	setenv("ADWUMA_REDIS_PASSWORD", "stands above it", 1);
	setenv("KHAYA_API_KEY_FILE", "/dev/null", 1);
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_ptr_null(settings_secret(&s, "redis_password")->file);
	ck_assert_str_eq(settings_secret(&s, "redis_password")->variable, "ADWUMA_REDIS_PASSWORD");
	ck_assert_str_eq(settings_secret(&s, "khaya_api_key")->file, "/dev/null");
	ck_assert_str_eq(settings_secret(&s, "khaya_api_key")->variable, "KHAYA_API_KEY_FILE");
}
END_TEST

START_TEST(a_bad_secret_file_is_refused)
{
	static char text[5000];
	char *no_args[] = {NULL};
	int none = 0;

	setenv("KHAYA_API_KEY_FILE", "/nonexistent", 1);
	assert_refused(load(NULL), "environment KHAYA_API_KEY_FILE: cannot read /nonexistent");
	setenv("KHAYA_API_KEY_FILE", "/", 1);
	assert_refused(load(NULL), "environment KHAYA_API_KEY_FILE: cannot read /");
	setenv("KHAYA_API_KEY_FILE", path, 1);
	write_file("hush\nhush\n"); /* a second line would end in a header */
	assert_refused(settings_load(&s, &none, no_args, NULL, NULL, &err), "khaya_api_key must be one line");
	ck_assert_ptr_null(strstr(err.msg, "hush"));
	memset(text, 'x', sizeof text);
	write_bytes(path, text, sizeof text);
	assert_refused(settings_load(&s, &none, no_args, NULL, NULL, &err), "longer than 4096 bytes");
	setenv("KHAYA_API_KEY", "hush", 1); /* which one is meant? */
	assert_refused(settings_load(&s, &none, no_args, NULL, NULL, &err),
		       "environment KHAYA_API_KEY and KHAYA_API_KEY_FILE: both are set");
	ck_assert_ptr_null(strstr(err.msg, "hush"));
}
END_TEST

START_TEST(what_is_printed_hides_secrets)
{
	static const char *const names[] = {"KHAYA_API_KEY",	 "KHAYA_TRANSLATION_API_KEY", "KHAYA_ASR_API_KEY",
					    "KHAYA_TTS_API_KEY", "TASKINGAI_API_KEY",	      "ADWUMA_REDIS_PASSWORD"};
	char *text = NULL;
	size_t n = 0;
	FILE *f;

	for (size_t i = 0; i < 6; i++)
		setenv(names[i], "hush", 1);
	write_file("queues = a:2,b\n[queue b]\nmax_concurrency = 3\n");
	ck_assert_int_eq(load("--redis-url redis://user:hush:hush@h:1/2 --khaya-base-url https://u:hush@example.org"),
			 0);
	f = open_memstream(&text, &n);
	settings_print(&s, f);
	fclose(f);
	ck_assert_ptr_null(strstr(text, "hush"));
	ck_assert_ptr_nonnull(strstr(text, "redis_url = redis://user:***@h:1/2\n"));
	ck_assert_ptr_nonnull(strstr(text, "khaya_api_key = ***\n"));
	ck_assert_ptr_nonnull(strstr(text, "queues = a:2,b\n"));
	ck_assert_ptr_nonnull(strstr(text, "\n[queue b]\nmax_concurrency = 3\n"));
	ck_assert_ptr_null(strstr(text, "[queue a]"));
	ck_assert_ptr_nonnull(strstr(text, "khaya_timeout = \n"));
	ck_assert_ptr_nonnull(strstr(text, "max_job_bytes = 16777216\n"));
	free(text);
	text = NULL;
	ck_assert_int_eq(load("--redis-url redis://:hush@h"), 0);
	f = open_memstream(&text, &n);
	settings_print(&s, f);
	fclose(f);
	ck_assert_ptr_nonnull(strstr(text, "redis_url = redis://:***@h\n"));
	free(text);
}
END_TEST

START_TEST(help_names_flag_or_reason)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	settings_help(f);
	fclose(f);
	ck_assert_ptr_nonnull(strstr(text, "--redis-url VALUE   or ADWUMA_REDIS_URL\n"));
	ck_assert_ptr_nonnull(strstr(text, "--khaya-timeout VALUE   or KHAYA_TIMEOUT\n"));
	ck_assert_ptr_nonnull(strstr(text, "KHAYA_API_KEY or KHAYA_API_KEY_FILE (no flag: it is secret)\n"));
	ck_assert_ptr_null(strstr(text, "--khaya-api-key"));
	free(text);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("settings");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, defaults_are_the_contracts);
	tcase_add_test(t, flags_beat_environment_beats_file);
	tcase_add_test(t, other_arguments_stay_in_order);
	tcase_add_test(t, names_with_their_own_environment);
	tcase_add_test(t, only_names_of_ours_are_warned_of);
	tcase_add_loop_test(t, refused_with_place_and_reason, 0, sizeof refusals / sizeof *refusals);
	tcase_add_test(t, kinds_take_all_their_forms);
	tcase_add_test(t, queues_have_names_and_weights);
	tcase_add_test(t, queues_are_bounded);
	tcase_add_loop_test(t, only_https_but_for_what_is_allowed, 0, sizeof urls / sizeof *urls);
	tcase_add_test(t, a_file_is_read);
	tcase_add_loop_test(t, a_bad_file_is_refused_with_its_line, 0, sizeof files / sizeof *files);
	tcase_add_test(t, long_lines_are_taken_whole_or_refused);
	tcase_add_test(t, a_long_list_is_taken_whole_or_refused);
	tcase_add_test(t, a_byte_order_mark_hides_no_section);
	tcase_add_test(t, sections_follow_the_queues_of_all_sources);
	tcase_add_test(t, a_section_may_name_the_longest_queue);
	tcase_add_test(t, a_secret_from_a_file);
	tcase_add_test(t, it_is_known_where_a_secret_stands);
	tcase_add_test(t, a_bad_secret_file_is_refused);
	tcase_add_test(t, what_is_printed_hides_secrets);
	tcase_add_test(t, help_names_flag_or_reason);
	suite_add_tcase(suite, t);
	r = srunner_create(suite);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
