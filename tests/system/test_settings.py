"""Settings: sources and their order, --check, refusals with place and reason, secrets, logs."""
import json
import os
import re
import subprocess
import time

import pytest
from conftest import BUILD, KEY, until


def run(*flags, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ADWUMA_", "KHAYA_", "TASKINGAI_"))}
    clean.update({k: str(v) for k, v in env.items()})
    return subprocess.run([BUILD + "/adwumad", *flags], env=clean, capture_output=True, text=True, timeout=30)


def checked(*flags, **env):
    done = run("--check", *flags, **env)
    assert done.returncode == 0, done.stderr
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line), done.stderr


def test_check_tells_which_file_was_read(tmp_path):
    conf = tmp_path / "a.conf"
    conf.write_text("threads = 5\n")
    assert run("--check", "--config", str(conf)).stdout.startswith(f"; settings file: {conf}\nredis_url = ")
    default = "/etc/adwuma/adwumad.conf"
    told = default if os.path.exists(default) else f"none, there is no {default}"
    assert run("--check").stdout.startswith(f"; settings file: {told}\nredis_url = ")


def test_defaults():
    s, err = checked()
    assert (s["threads"], s["lease_ms"], s["redis_url"], s["max_job_bytes"], s["dead_max_bytes"]) == ("32", "15000", "redis://127.0.0.1:6379/0", "16777216", "67108864")
    assert (s["queues"], s["khaya_base_url"]) == ("translate,transcribe,synthesize,taskingai", "https://translation-api.ghananlp.org")
    assert "no API key" in err


def test_flags_beat_environment_beats_file(tmp_path):
    conf = tmp_path / "a.conf"
    conf.write_text("# a comment\nthreads = 5\nlease_ms = 2000\nmax_attempts=7\nqueues = a:2,\n  b,\n  translate\n\n[queue b]\nmax_concurrency = 3\ntimeout_ms = 10\n")
    s, _ = checked("--config", str(conf))
    assert (s["threads"], s["queues"], s["max_concurrency"]) == ("5", "a:2,b,translate", "3")
    s, _ = checked("--config", str(conf), ADWUMA_THREADS=6, ADWUMA_LEASE_MS=3000)
    assert (s["threads"], s["lease_ms"], s["max_attempts"]) == ("6", "3000", "7")
    s, _ = checked("--threads", "7", "--config=" + str(conf), "--allow-http-loopback=yes", "--max-job-bytes", "2m", ADWUMA_THREADS=6)
    assert (s["threads"], s["allow_http_loopback"], s["max_job_bytes"]) == ("7", "on", "2097152")
    s, _ = checked(ADWUMA_THREADS="", KHAYA_TIMEOUT="7.0")
    assert (s["threads"], s["khaya_timeout"]) == ("32", "7")


WRONG = [
    (["--threads", "0"], {}, "--threads: threads must be a whole number from 1 to 4096, got '0'"),
    (["--threads", "7x"], {}, "--threads"), (["--threads"], {}, "a value must follow"), (["--threads", "99999999999999999999"], {}, "--threads"),
    ([], {"ADWUMA_THREADS": "4097"}, "environment ADWUMA_THREADS"), ([], {"ADWUMA_LEASE_MS": "999"}, "ADWUMA_LEASE_MS"),
    ([], {"KHAYA_TIMEOUT": "7.5"}, "KHAYA_TIMEOUT"), ([], {"KHAYA_BASE_URL": "http://api.example.org"}, "https://"), ([], {"KHAYA_BASE_URL": "HTTPS://x"}, "https://"),
    ([], {"KHAYA_BASE_URL": "http://127.0.0.1:1"}, "allow_http_loopback"), (["--allow-http-loopback", "on"], {"KHAYA_BASE_URL": "http://127.0.0.1.example.org"}, "https://"),
    (["--allow-http-loopback", "on"], {"KHAYA_BASE_URL": "http://localhost@example.org"}, "https://"),
    (["--redis-url", "redis://hushhush@h"], {}, "written redis://:PASSWORD@HOST"), ([], {"ADWUMA_REDIS_USERNAME": "hushhush"}, "environment ADWUMA_REDIS_USERNAME: a user name needs a password"),
    (["--nonsense", "1"], {}, "--nonsense: unknown flag"), (["stray"], {}, "stray: unexpected argument"), (["--khaya-api-key", "x"], {}, "secrets have no flag"),
    (["--redis-password=x"], {}, "secrets have no flag"), (["--redis-url", "http://x"], {}, "--redis-url: must begin with"), (["--redis-url", "redis+sentinel://x:1"], {}, "the name of the master"),
    (["--queues", "Bad Name"], {}, "no queue name"), (["--queues", "a,a"], {}, "twice"), (["--queues", ","], {}, "at least one"), (["--queues", "a:0"], {}, "weight"),
    (["--log-level", "loud"], {}, "debug|info|warn|error"), (["--audio-root", "/nonexistent"], {}, "no directory"), (["--api-ca-file", "/nonexistent"], {}, "cannot read"),
    (["--config", "/nonexistent"], {}, "/nonexistent: cannot read"), (["--khaya-tts-version", "v3"], {}, "--khaya-tts-version"), (["--admin-listen", "nowhere"], {}, "--admin-listen: must be"),
    (["--max-job-bytes", "1T"], {}, "max_job_bytes"), (["--allow-http-loopback", "maybe"], {}, "on or off"), (["--key-prefix", "a{b"], {}, "--key-prefix: must be"),
]


@pytest.mark.parametrize("flags,env,message", WRONG)
def test_refused_with_place_and_reason(flags, env, message):
    for check in ([], ["--check"]):
        done = run(*check, *flags, **env)
        assert done.returncode == 78 and message in done.stderr and "hushhush" not in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text,message", [
    ("threads = 5\nthreds = 6\n", ":2: 'threds' is no setting"), ("threads = many\n", ":1: threads must be"), ("x" * 250 + " = 1\n", ":1: the line is longer than 198"),
    ("[queue nope]\nmax_concurrency = 1\n", ":2: queue 'nope' is not among queues"), ("[other]\nthreads = 1\n", ":2: section [other]"),
    ("[queue translate]\nrate_limit = 10/s\n", "not supported"), ("[queue translate]\nthreads = 1\n", "no setting of a queue"), ("just words\n", ":1: is neither"),
])
def test_file_refused_with_line(tmp_path, text, message):
    conf = tmp_path / "bad.conf"
    conf.write_text(text)
    done = run("--check", "--config", str(conf))
    assert done.returncode == 78 and f"{conf}" in done.stderr and message in done.stderr, done.stderr


def test_a_ca_file_without_a_certificate_stops_the_start(tmp_path):
    """Every job would fail later; what is in the file does not matter."""
    bundle = tmp_path / "ca.pem"
    pem = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    for text in ("", "words\n", pem.format("bm8gY2VydGlmaWNhdGU="), pem.format("x"), pem.format("").replace("CERTIFICATE", "PRIVATE KEY")):
        bundle.write_text(text)
        for check in ([], ["--check"]):
            done = run(*check, "--api-ca-file", str(bundle))
            assert done.returncode == 78 and f": {bundle} holds no certificate" in done.stderr, (text, done.stderr)
    with open("/etc/ssl/certs/ca-certificates.crt", encoding="utf-8") as f:
        bundle.write_text(f.read().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    assert checked("--api-ca-file", str(bundle))[0]["api_ca_file"] == str(bundle)
    bundle.write_text("# a comment\n" + bundle.read_text())
    checked("--api-ca-file", str(bundle))


def test_unknown_environment_is_a_warning():
    _, err = checked(ADWUMA_PORT="tcp://1", KHAYA_SOMETHING="x", PORT="y")
    assert "ADWUMA_PORT" in err and "KHAYA_SOMETHING" not in err


def test_secrets_are_never_shown(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(KEY + "\n")
    done = run("--check", "--redis-url", "redis://user:hushhush@h:1/2", KHAYA_API_KEY_FILE=secret, TASKINGAI_API_KEY="hushhush2", ADWUMA_REDIS_PASSWORD="hushhush3")
    assert done.returncode == 0 and KEY not in done.stdout and "hushhush" not in done.stdout + done.stderr
    assert "khaya_api_key = ***" in done.stdout and "redis_url = redis://user:***@h:1/2" in done.stdout
    done = run("--check", KHAYA_API_KEY_FILE=tmp_path / "none")
    assert done.returncode == 78 and "KHAYA_API_KEY_FILE" in done.stderr
    conf = tmp_path / "c.conf"
    conf.write_text(f"khaya_api_key_file = {secret}\n")
    assert checked("--config", str(conf))[0]["khaya_api_key"] == "***"


def test_no_secret_in_process_results_or_redis(system):
    w = system.worker(log_level="debug")
    system.do("translate", text="stub(status=401)")
    system.do("translate", text="x stub(reset)", max_attempts=1)
    assert KEY.encode() not in open(f"/proc/{w.process.pid}/cmdline", "rb").read()
    assert KEY not in open(f"/proc/{w.process.pid}/comm").read() + w.log()
    for key in system.redis.keys("*"):
        kind = system.redis.type(key)
        text = system.redis.lrange(key, 0, -1) if kind == b"list" else system.redis.hgetall(key) if kind == b"hash" else b""
        assert KEY not in repr(text)


def test_wrong_password_and_old_wishes_stop_the_start(system):
    system.redis.config_set("requirepass", "right")
    for env, message in (({}, "NOAUTH"), ({"redis_password": "wrong-password"}, "WRONGPASS")):
        w = system.worker(wait=False, **env)
        w.expected = 69
        assert w.process.wait(20) == 69 and message in w.log() and "wrong-password" not in w.log()
    w = system.worker(wait=False, redis_password="right")
    until(lambda: "started" in w.log(), what="starts with the right one")


def test_logs_parse_in_both_forms(system):
    w = system.worker(log_format="json")
    system.do("translate", id="a", text="")
    until(lambda: "job failed" in w.log(), what="it is logged")
    for line in w.log().splitlines():
        assert {"ts", "level", "program", "event"} <= set(json.loads(line))
    w.stop()
    w = system.worker()
    system.do("translate", id="b", text="")
    pair = r'[a-z_]+=(?:[^\s"=\\]+|"(?:[^"\\]|\\.)*")'
    until(lambda: "job failed" in w.log(), what="it is logged")
    for line in w.log().splitlines():
        assert re.fullmatch(f"{pair}(?: {pair})*", line), line


def test_help_and_version():
    done = run("--help")
    assert done.returncode == 0
    assert "comes later" not in done.stdout.split("ADWUMA_ADMIN_LISTEN\n")[1].split("\n")[0]
    for name in checked()[0]:
        if name not in ("max_concurrency", "timeout_ms"):
            assert "--" + name.replace("_", "-") in done.stdout or name.upper() in done.stdout, name
    for words in ("--log-level debug|info|warn|error ", "--khaya-asr-version v1|v2|v3 ", "--allow-http-loopback on|off ", "--threads VALUE "):
        assert words in done.stdout
    assert run("--version").stdout.startswith("adwumad 0.")


@pytest.mark.release
def test_idle_memory(system):
    """32 threads, fresh: under 4 MB of anonymous memory."""
    w = system.worker(threads=32)
    until(lambda: "started" in w.log(), what="started")
    status = open(f"/proc/{w.process.pid}/status").read()
    rss = int(re.search(r"RssAnon:\s+(\d+)", status)[1])
    assert rss < 4096, f"{rss} KiB"
    assert int(re.search(r"Threads:\s+(\d+)", status)[1]) >= 32 + 4 + 2


def test_key_prefix(system):
    system.worker(key_prefix="other")
    system.redis.lpush("other:{translate}:ready", '{"id":"1","text":"x"}')
    key = "other:{translate}:result:1"
    assert json.loads(system.redis.blmove(key, key, 10, "LEFT", "LEFT"))["status"] == "succeeded"
    assert not system.redis.keys("adwuma:*")


UNUSABLE = [{"ADWUMA_REDIS_URL": "redis://h:99999/1"}, {"ADWUMA_REDIS_URL": "redis://h/x"}, {"ADWUMA_REDIS_URL": "unix://relative"}, {"ADWUMA_REDIS_URL": "redis://u:%zz@h"},
            {"KHAYA_BASE_URL": "https://a b", "KHAYA_API_KEY": "k"}]


@pytest.mark.parametrize("env", UNUSABLE)
def test_an_unusable_address_stops_the_start(env):
    done = run(**env)
    assert done.returncode == 78 and done.stderr.startswith(f"adwumad: environment {next(iter(env))}: "), done.stderr


@pytest.mark.parametrize("env", UNUSABLE)
def test_check_refuses_an_unusable_address(env):
    done = run("--check", **env)
    assert done.returncode == 78 and next(iter(env)) in done.stderr, done.stderr


@pytest.mark.parametrize("program,argument", [("adwumad", "--check"), ("adwuma", "stats")])
def test_the_place_is_told_once_by_both_programs(tmp_path, program, argument):
    conf = tmp_path / "a.conf"
    conf.write_text("redis_url = redis://h:99999\nkey_prefix = a{b\n")
    reason = "the port must be a number from 1 to 65535\n"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ADWUMA_", "KHAYA_", "TASKINGAI_"))}
    for flags, env, place in ((["--redis-url", "redis://h:99999"], {}, "--redis-url: "), ([], {"ADWUMA_REDIS_URL": "redis://h:99999"}, "environment ADWUMA_REDIS_URL: "),
                              (["--config", str(conf), "--key-prefix", "x"], {}, f"{conf}:1: redis_url: ")):
        done = subprocess.run([f"{BUILD}/{program}", argument, *flags], env={**clean, **env}, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (78, "", f"{program}: {place}{reason}")


def test_odd_files(tmp_path):
    conf = tmp_path / "a.conf"
    conf.write_bytes(b"threads = 5\r\nlease_ms = 2000\r\n; a comment\r\n")
    s, _ = checked("--config", str(conf))
    assert (s["threads"], s["lease_ms"]) == ("5", "2000")
    conf.write_text("queues = a,b\n[queue a]\nmax_attempts = 2\n[queue b]\ntimeout_ms = 9\nmax_attempts = 3\n")
    done = run("--check", "--config", str(conf), ADWUMA_QUEUES="b,c")  # what the file says of a queue stays where the queue does
    assert done.returncode == 0 and "[queue b]\ntimeout_ms = 9\nmax_attempts = 3\n" in done.stdout and "[queue a]" not in done.stdout
    done = run("--check", "--config", str(tmp_path))
    assert done.returncode == 78 and str(tmp_path) in done.stderr
    for text in ("max_attempts = 101\n", "max_concurrency = 0\n", "timeout_ms = soon\n"):
        conf.write_text("[queue translate]\n" + text)
        done = run("--check", "--config", str(conf))
        assert done.returncode == 78 and f"{conf}:2: " in done.stderr and text.split()[0] in done.stderr


def test_secrets_that_cannot_be_headers_are_refused(tmp_path):
    secret = tmp_path / "secret"
    for text in ("hush\nhush\n", "hush\rhush", "\x7fhush"):
        secret.write_text(text)
        for env in ({"KHAYA_API_KEY_FILE": secret}, {"KHAYA_API_KEY": text}):
            done = run("--check", **env)
            assert done.returncode == 78 and "KHAYA_API_KEY" in done.stderr and "hush" not in done.stderr, (text, done.stderr)
    secret.write_text("x" * 5000)
    assert run("--check", KHAYA_API_KEY_FILE=secret).returncode == 78
    secret.write_text("  spaces are kept \n")
    assert checked(KHAYA_API_KEY_FILE=secret)[0]["khaya_api_key"] == "***"


def test_a_secret_given_in_both_ways_stops_the_start(tmp_path):
    """Which one is meant, nobody can know; and a file that is not read may as well be missing."""
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    for name in ("KHAYA_API_KEY", "TASKINGAI_API_KEY", "ADWUMA_REDIS_PASSWORD"):
        for path in (secret, "/nonexistent"):
            done = run("--check", **{name: "hush", name + "_FILE": path})
            assert done.returncode == 78 and f"environment {name} and {name}_FILE: both are set" in done.stderr and "hush" not in done.stderr, done.stderr
        assert checked(**{name: "", name + "_FILE": secret})[0][name.lower().removeprefix("adwuma_")] == "***"
        assert checked(**{name: "hush", name + "_FILE": ""})[0][name.lower().removeprefix("adwuma_")] == "***"


def test_switches_and_sizes():
    for on, off in (("on", "off"), ("yes", "no"), ("true", "false"), ("1", "0"), ("ON", "Off")):
        assert checked(ADWUMA_ALLOW_HTTP_LOOPBACK=on)[0]["allow_http_loopback"] == "on"
        assert checked(ADWUMA_ALLOW_HTTP_LOOPBACK=off)[0]["allow_http_loopback"] == "off"
    for text, size in (("1024", 1024), ("4K", 4096), ("4k", 4096), ("3M", 3 << 20), ("1G", 1 << 30)):
        assert checked(ADWUMA_DEAD_MAX_BYTES=text)[0]["dead_max_bytes"] == str(size)
    for text in ("4KB", "K", "1.5M", "-1", "0x10", "1 K", "99999999999G"):
        assert run("--check", ADWUMA_DEAD_MAX_BYTES=text).returncode == 78, text
