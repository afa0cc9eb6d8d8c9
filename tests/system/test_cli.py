"""The command line: what goes to standard output, what to standard error, and the exit codes."""
import hashlib
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from conftest import BUILD, ROOT, SLOW, RedisServer, until

ADWUMA = BUILD + "/adwuma"
UNSERVED = "adwuma: no worker serves a queue {} now; its jobs wait for one\n"


class Done:
    def __init__(self, code, out, err):
        self.code, self.raw, self.err = code, out, err
        self.out = out.decode(errors="surrogateescape")
        self.lines = self.out.splitlines()
        assert "Sanitizer" not in err and "runtime error" not in err, err


class Cli:
    def __init__(self, system):
        self.system = system

    def start(self, *args, **popen):
        settings = popen.pop("settings", {})
        return subprocess.Popen([ADWUMA, *args], env=self.system.env(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def __call__(self, *args, stdin=b"", **settings):
        p = self.start(*args, settings=settings, stdin=subprocess.PIPE)
        out, err = p.communicate(stdin, timeout=60 * SLOW)
        return Done(p.returncode, out, err.decode())


@pytest.fixture
def cli(system):
    return Cli(system)


def slot_in(system, queue, worker, payload, slots=4, n=1):
    """What a worker that holds a job looks like from outside."""
    prefix = f"adwuma:{{{queue}}}:"
    system.redis.zadd(prefix + "workers", {worker: int(time.time() * 1000) + 600000})
    system.redis.hset(prefix + "worker:" + worker, "slots", slots)
    system.redis.lpush(f"{prefix}slot:{worker}:{n}", payload)


def give_result(system, queue, job_id, **fields):
    result = {"id": job_id, "queue": queue, "type": queue, "status": "succeeded", "result": {"text": "T"}, "attempts": 1, **fields}
    system.redis.rpush(f"adwuma:{{{queue}}}:result:{job_id}", json.dumps(result, ensure_ascii=False))
    return result


# --- translate -----------------------------------------------------------------------------------------------------------


def test_translate_prints_results_in_order_one_a_line(system, cli):
    system.worker()
    texts = [f"text {i}" for i in range(50)]
    done = cli("translate", *texts)
    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"[tw] {t}" for t in texts]


def test_translate_takes_the_pair_and_writes_a_complete_job(system, cli):
    before = int(time.time() * 1000)
    done = cli("translate", "--no-wait", "--pair=en-ee", 'say "hi"\\ \n', "--queue", "bulk")
    assert done.code == 0 and len(done.lines) == 1
    jobs = [json.loads(j) for j in system.redis.lrange("adwuma:{bulk}:ready", 0, -1)]
    assert len(jobs) == 1
    assert before <= jobs[0].pop("enqueued_at_ms") <= int(time.time() * 1000)
    assert jobs[0] == {"id": done.lines[0], "type": "translate", "language_pair": "en-ee", "text": 'say "hi"\\ \n'}
    assert re.fullmatch(r"[A-Za-z0-9._:-]{26,128}", done.lines[0])


def test_waiting_for_nobody_is_told(system, cli):
    done = cli("translate", "--no-wait", "a", "b")
    assert (done.code, len(done.lines)) == (0, 2) and done.err == "adwuma: no worker serves a queue translate now; the jobs wait for one\n"
    done = cli("translate", "--timeout", "0.1", "--queue", "bulk", "a")
    assert done.code == 75 and "no worker serves a queue bulk now; the job waits for one\n" in done.err
    job = json.loads(system.redis.lindex("adwuma:{bulk}:ready", 0))["id"]
    assert f"adwuma result --queue bulk {job} tells" in done.err and "adwuma stats --queue bulk whether" in done.err
    p = cli.start("translate", "--timeout", "60", "a", "b")
    assert p.stderr.readline() == b"adwuma: no worker serves a queue translate now; the jobs wait for one\n"
    system.worker()
    assert p.communicate(timeout=60 * SLOW) == (b"[tw] a\n[tw] b\n", b"")
    assert cli("translate", "a").err == ""


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_who_interrupts_a_wait_learns_the_ids(system, cli, sig):
    p = cli.start("translate", "--queue", "bulk", "a", "b")
    until(lambda: system.redis.info("clients")["blocked_clients"] == 1)
    p.send_signal(sig)
    out, err = p.communicate(timeout=10 * SLOW)
    ids = " ".join(json.loads(j)["id"] for j in reversed(system.redis.lrange("adwuma:{bulk}:ready", 0, -1)))
    assert p.returncode == -sig and out == b""
    assert err.decode().endswith(f"adwuma: interrupted; what was submitted goes on\n  ask later: adwuma result --queue bulk {ids}\n  take it back: adwuma cancel --queue bulk {ids}\n")


def test_who_interrupts_a_wait_learns_how_to_take_jobs_back_where_it_may_not_look(system, cli):
    p = cli.start("translate", "a")
    until(lambda: system.redis.info("clients")["blocked_clients"] == 1)
    p.send_signal(signal.SIGINT)
    job = json.loads(system.redis.lindex("adwuma:{translate}:ready", 0))["id"]
    assert p.communicate(timeout=10 * SLOW)[1].decode().endswith(f"  ask later: adwuma result {job}\n  take it back: adwuma cancel --queue translate {job}\n")


def test_one_text_is_printed_as_it_is_and_several_one_a_line(system, cli):
    system.worker()
    assert cli("translate", "a\nb\\c").out == "[tw] a\nb\\c\n"
    assert cli("translate", "a\nb\\c", "d").out == "[tw] a\\nb\\\\c\n[tw] d\n"


def test_standard_input_is_one_text(system, cli):
    system.worker()
    assert cli("translate", "-", stdin="Mema wo akye ɛ\nzwei\n".encode()).out == "[tw] Mema wo akye ɛ\nzwei\n"
    done = cli("translate", "-", "-", stdin=b"x")
    assert done.code == 2 and "once" in done.err


def test_json_gives_the_whole_result(system, cli):
    system.worker()
    done = cli("translate", "--json", "a", "b")
    results = [json.loads(line) for line in done.lines]
    assert [r["result"]["text"] for r in results] == ["[tw] a", "[tw] b"]
    assert all(r["status"] == "succeeded" and r["queue"] == "translate" and r["enqueued_at_ms"] for r in results)
    # Byte for byte what stands in Redis.
    assert done.lines[0].encode() == system.redis.lindex("adwuma:{translate}:result:" + results[0]["id"], 0)


def test_a_failed_job_is_told_readably_and_keeps_its_line_empty(system, cli):
    system.worker()
    done = cli("translate", "good", "", "fine")
    assert done.code == 1
    assert done.out == "[tw] good\n\n[tw] fine\n"
    assert re.search(r"^adwuma: job \S+ failed: TranslationError \(400\): Text and language pair are required$", done.err, re.M)
    assert cli("translate", "").out == ""
    failed = cli("translate", "--json", "")
    assert failed.code == 1 and json.loads(failed.out)["error"]["type"] == "TranslationError"


def test_all_that_is_known_of_a_failure_is_shown(system, cli):
    error = {"type": "AuthenticationError", "message": "Access denied\x1b[31m due to ɛ", "status_code": 401, "code": "C7",
             "details": [{"field": "text"}], "activity_id": "act-9", "retryable": True, "service": "khaya"}
    give_result(system, "translate", "42", status="failed", error=error, result=None)
    done = cli("result", "42")
    assert done.code == 1 and done.out == ""
    assert "adwuma: job 42 failed: AuthenticationError (401): Access denied?[31m due to ɛ\n" in done.err
    for line in ("  code: C7", '  details: [{"field": "text"}]', "  activity id: act-9", "could succeed"):
        assert line in done.err
    error.update(status_code=0, code=None, details=[], activity_id=None, retryable=False, message="boom")
    give_result(system, "translate", "43", status="failed", error=error)
    assert cli("result", "43").err == "adwuma: job 43 failed: AuthenticationError: boom\n"


def test_no_wait_prints_ids_that_lead_to_results(system, cli):
    done = cli("translate", "--no-wait", "a", "b")
    assert done.code == 0 and len(done.lines) == 2
    system.worker()
    assert cli("result", "--wait", "20", *done.lines).lines == ["[tw] a", "[tw] b"]


def test_timeout_ends_the_wait_with_75_and_the_job_stays(system, cli):
    start = time.monotonic()
    done = cli("translate", "--timeout", "0.3", "a", "b")
    assert 0.3 <= time.monotonic() - start < 5 * SLOW
    assert done.code == 75 and done.out == "\n\n"
    assert done.err.count("no result within 0.3 s") == 2 and "adwuma stats" in done.err
    assert system.redis.llen("adwuma:{translate}:ready") == 2


def test_a_failure_weighs_more_than_a_timeout(system, cli):
    p = cli.start("translate", "--timeout", "2", "a", "b")
    until(lambda: system.redis.llen("adwuma:{translate}:ready") == 2)
    first = json.loads(system.redis.lindex("adwuma:{translate}:ready", -1))
    give_result(system, "translate", first["id"], status="failed", error={"type": "APIError", "message": "m", "status_code": 500})
    assert p.wait(20 * SLOW) == 1
    p.communicate()


def test_text_that_is_not_utf8_or_too_long_is_refused_before_anything_is_sent(system, cli):
    for args, stdin in ((["translate", "ok", b"\xff\xfe"], b""), (["translate", "ok", "-"], b"\xff"), (["translate", "ok", "-"], b"x" * 3000),
                        (["translate", "ok", "x" * 2000], b"")):
        done = cli(*args, stdin=stdin, max_job_bytes=2048)
        assert done.code == 2 and ("UTF-8" in done.err or "max_job_bytes" in done.err)
    assert system.redis.keys("*") == []


# --- transcribe, synthesize ----------------------------------------------------------------------------------------------


def test_speech_and_back(system, cli, tmp_path):
    system.worker()
    wav = tmp_path / "m.wav"
    wav.write_bytes(b"old")
    wav.chmod(0o640)
    done = cli("synthesize", "Maakye", "-o", str(wav))
    assert (done.code, done.out, done.err) == (0, "", "")
    audio = wav.read_bytes()
    assert audio[:4] == b"RIFF" and wav.stat().st_mode & 0o777 == 0o640
    assert not [n for n in os.listdir(tmp_path) if n.startswith(".adwuma-")]

    to_stdout = cli("synthesize", "Maakye", "-o", "-")
    assert to_stdout.code == 0 and to_stdout.raw == audio

    both = cli("synthesize", "Maakye", "--json", "-o", str(tmp_path / "n.wav"))
    result = json.loads(both.out)["result"]
    assert result["sha256"] == hashlib.sha256(audio).hexdigest() and (tmp_path / "n.wav").read_bytes() == audio

    key = cli("synthesize", "Maakye").out.strip()
    assert re.fullmatch(r"adwuma:\{synthesize\}:audio:\S+", key) and system.redis.get(key) == audio

    assert cli("transcribe", str(wav)).out == "Maakye\n"
    assert cli("transcribe", str(wav), "-", stdin=audio).out == "Maakye\nMaakye\n"
    as_json = json.loads(cli("transcribe", "--format", "json", str(wav)).out)
    assert as_json["text"] == "Maakye" and as_json["language"] == "twi"


def test_files_travel_through_expiring_keys(system, cli, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    done = cli("transcribe", "--no-wait", "--timestamps", "word", "--language", "ewe", str(tmp_path / "a.wav"), result_ttl_s=500)
    job = json.loads(system.redis.lindex("adwuma:{transcribe}:ready", 0))
    assert job["audio_key"] == "adwuma:{transcribe}:audio:" + done.out.strip()
    assert (job["language"], job["timestamps"], job["type"]) == ("ewe", "word", "transcribe")
    assert system.redis.get(job["audio_key"]) == b"sound"
    assert 400 < system.redis.ttl(job["audio_key"]) <= 500


def test_files_that_cannot_be_used_are_told_before_anything_is_sent(system, cli, tmp_path):
    good, large = tmp_path / "good.wav", tmp_path / "large.wav"
    good.write_bytes(b"x")
    large.write_bytes(b"x" * 2000)
    for bad in (str(tmp_path / "none.wav"), str(tmp_path)):
        done = cli("transcribe", str(good), bad)
        assert done.code == 2 and "cannot be read" in done.err and bad in done.err
        assert system.redis.keys("*") == []
    done = cli("transcribe", str(large), max_audio_bytes=1024)
    assert done.code == 2 and "max_audio_bytes" in done.err and not system.redis.keys("*:ready")


def test_audio_that_is_empty_is_told_before_anything_is_submitted(system, cli, tmp_path):
    good, empty = tmp_path / "good.wav", tmp_path / "empty.wav"
    good.write_bytes(b"x")
    empty.write_bytes(b"")
    for args, name in (([str(empty)], empty), ([str(good), str(empty)], empty), (["/dev/null"], "/dev/null"), (["-"], "standard input")):
        done = cli("transcribe", "--no-wait", *args, stdin=b"")
        assert (done.code, done.out, done.err) == (2, "", f"adwuma: transcribe: {name} is empty\n")
        assert not system.redis.keys("*:ready")


def test_output_that_cannot_be_written_is_told_before_anything_is_sent(system, cli, tmp_path):
    for bad in (str(tmp_path / "none" / "x.wav"), str(tmp_path), str(tmp_path) + "/", ""):
        done = cli("synthesize", "x", "-o", bad)
        assert done.code == 2 and "cannot be written" in done.err, bad
    for args in (("a", "b", "-o", "x"), ("a", "-o", "x", "--no-wait"), ("a", "-o", "-", "--json")):
        assert cli("synthesize", *args).code == 2
    assert system.redis.keys("*") == []


def test_a_failed_job_leaves_the_file_alone(system, cli, tmp_path):
    system.worker()
    (tmp_path / "keep.wav").write_bytes(b"old")
    done = cli("synthesize", "", "-o", str(tmp_path / "keep.wav"))
    assert done.code == 1 and "TTSGenerationError" in done.err and (tmp_path / "keep.wav").read_bytes() == b"old"


def serve_synthesize(system, audio, **facts):
    """A worker of a few lines, that says of the audio what it likes."""
    def serve():
        raw = system.redis.brpop("adwuma:{synthesize}:ready", 20)
        job = json.loads(raw[1])
        key = "adwuma:{synthesize}:audio:" + job["id"]
        if audio is not None:
            system.redis.set(key, audio)
        give_result(system, "synthesize", job["id"], result={"audio_key": key, "bytes": len(audio or b""), **facts})
    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_audio_that_is_not_what_the_result_says_is_not_saved(system, cli, tmp_path):
    for audio, facts, told in ((b"wrong", {"sha256": "0" * 64}, "not the one"), (None, {}, "does not exist")):
        thread = serve_synthesize(system, audio, **facts)
        done = cli("synthesize", "x", "-o", str(tmp_path / "x.wav"))
        thread.join()
        assert done.code == 1 and told in done.err and not (tmp_path / "x.wav").exists()


def test_audio_into_links_and_pipes(system, cli, tmp_path):
    """A pipe stands for all that is no plain file. Never a real device here: a defect would replace it on the machine that runs the tests."""
    target, link, fifo = tmp_path / "target.wav", tmp_path / "link.wav", tmp_path / "pipe"
    target.write_bytes(b"old")
    link.symlink_to(target)
    os.mkfifo(fifo)
    # Open for both sides, so that neither side waits for the other even where the pipe is wrongly replaced.
    both = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    for path in (link, fifo):
        thread = serve_synthesize(system, b"sound")
        assert cli("synthesize", "x", "-o", str(path)).code == 0
        thread.join()
    assert link.is_symlink() and target.read_bytes() == b"sound"
    assert os.read(both, 100) == b"sound" and fifo.is_fifo()
    os.close(both)


# --- submit --------------------------------------------------------------------------------------------------------------


def test_submit_takes_good_lines_and_tells_bad_ones_by_number(system, cli):
    lines = ['{"type":"translate","text":"a","id":"one","n":9007199254740993}', "", "  ", "nonsense", '{"text":"no type"}',
             '{"type":"translate","id":7}', '{"id":null,"type":"transcribe.x"}\r', "[]", '{"type":"translate","text":"last"}']
    done = cli("submit", stdin="\n".join(lines).encode())
    assert done.code == 1
    assert done.lines[0] == "one" and len(done.lines) == 3 and len(set(done.lines)) == 3
    assert re.findall(r"line (\d+): ", done.err) == ["4", "5", "6", "8"]
    ready = [j.decode() for j in reversed(system.redis.lrange("adwuma:{translate}:ready", 0, -1))]
    assert ready == [lines[0], '{"id":"%s","type":"translate","text":"last"}' % done.lines[2]]
    assert system.redis.lrange("adwuma:{transcribe}:ready", 0, -1) == [b'{"id":"%s","type":"transcribe.x"}' % done.lines[1].encode()]


def test_submit_from_a_file_into_a_queue(system, cli, tmp_path):
    (tmp_path / "jobs.jsonl").write_text("".join('{"n":%d}\n' % i for i in range(3500)))
    done = cli("submit", "--queue", "bulk", str(tmp_path / "jobs.jsonl"))
    assert done.code == 0 and done.err == UNSERVED.format("bulk") and len(set(done.lines)) == 3500
    ready = [json.loads(j) for j in reversed(system.redis.lrange("adwuma:{bulk}:ready", 0, -1))]
    assert [(j["id"], j["n"]) for j in ready] == [(i, n) for n, i in enumerate(done.lines)]
    missing = cli("submit", str(tmp_path / "none"))
    assert missing.code == 2 and "cannot be read" in missing.err


def test_submit_tells_queues_that_nobody_serves(system, cli):
    system.redis.zadd("adwuma:{b}:workers", {"dead": 1})
    system.redis.zadd("adwuma:{c}:workers", {"alive": int(time.time() * 1000) + 60000})
    lines = ['{"type":"a.x"}', '{"type":"b"}', "nonsense", '{"type":"c"}', '{"type":"a.y"}', '{"id":"1","type":"b"}']
    done = cli("submit", stdin="\n".join(lines).encode())
    assert done.code == 1 and len(done.lines) == 5 and done.err.endswith(UNSERVED.format("a") + UNSERVED.format("b")) and done.err.count("\n") == 3
    done = cli("submit", "-q", "c", stdin=b'{"type":"a"}')
    assert done.code == 0 and done.err == ""


def test_submit_skips_a_byte_order_mark(system, cli):
    bom = b"\xef\xbb\xbf"
    assert cli("submit", "--queue", "q", stdin=bom + b'{"id":"a"}\r\n{"id":"b"}\n').lines == ["a", "b"]
    assert system.redis.lrange("adwuma:{q}:ready", 0, -1)[1].startswith(b'{')
    assert cli("submit", "--queue", "q", stdin=bom + b"\n" + b'{"id":"c"}\n').lines == ["c"]
    done = cli("submit", "--queue", "q", stdin=b'{"id":"d"}\n' + bom + b'{"id":"e"}\n')  # one in the middle is no mark
    assert done.code == 1 and done.lines == ["d"] and "line 2" in done.err


def test_submit_skips_a_line_that_is_too_long(system, cli):
    long = b'{"id":"long","text":"' + b"x" * 300000 + b'"}'
    exact = b'{"id":"exact","text":"' + b"y" * (2048 - 24) + b'"}'
    assert len(exact) == 2048
    done = cli("submit", "-q", "q", stdin=b'{"id":"a"}\n' + long + b"\n" + exact + b"\n" + exact[:-1] + b' }\n{"id":"b"}\n' + long, max_job_bytes=2048)
    assert done.code == 1 and done.lines == ["a", "exact", "b"]
    assert re.findall(r"line (\d+): .*max_job_bytes", done.err) == ["2", "4", "6"]


def test_submit_does_not_hold_back_jobs_that_trickle_in(system, cli):
    p = cli.start("submit", "--queue", "q", stdin=subprocess.PIPE)
    p.stdin.write(b'{"id":"first"}\n{"id":"sec')
    p.stdin.flush()
    assert p.stdout.readline() == b"first\n"
    assert system.redis.llen("adwuma:{q}:ready") == 1
    p.stdin.write(b'ond"}\n')
    p.stdin.flush()
    assert p.stdout.readline() == b"second\n"
    p.stdin.close()
    assert p.wait(20 * SLOW) == 0
    p.stdout.close()
    p.stderr.close()


def test_submit_goes_on_after_the_connection_broke(system, cli):
    p = cli.start("submit", "--queue", "q", stdin=subprocess.PIPE)
    p.stdin.write(b'{"id":"first"}\n')
    p.stdin.flush()
    assert p.stdout.readline() == b"first\n" and p.stderr.readline().decode() == UNSERVED.format("q")
    assert system.redis.client_kill_filter(_type="normal", skipme=True) >= 1
    p.stdin.write(b'{"id":"second"}\n')
    p.stdin.close()
    assert p.stdout.readline() == b"second\n"
    assert p.wait(20 * SLOW) == 0
    assert p.stderr.read() == b""
    assert set(system.redis.lrange("adwuma:{q}:ready", 0, -1)) == {b'{"id":"first"}', b'{"id":"second"}'}


class Cutter:
    """Stands between a client and Redis, and cuts the first connection after its n-th LPUSH has gone through but was not answered."""

    def __init__(self, redis_socket):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.redis_socket = redis_socket
        self.cut = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.redis_socket)
            threading.Thread(target=self.forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self.back, args=(server, client), daemon=True).start()

    def forward(self, client, server):
        while True:
            data = client.recv(65536)
            if b"LPUSH" in data and not self.cut:
                self.cut = True
                # A new connection to Redis is only made after this one has been carried out there: so the reply is lost, not the jobs.
                client.shutdown(socket.SHUT_RDWR)
                server.sendall(data)
                server.recv(65536)
                server.close()
                return
            if not data:
                server.close()
                return
            server.sendall(data)

    @staticmethod
    def back(server, client):
        try:
            while True:
                data = server.recv(65536)
                if not data:
                    break
                client.sendall(data)
        except OSError:
            pass
        client.close()


def test_a_lost_reply_submits_the_same_ids_again_and_each_is_done_once(system, cli):
    cutter = Cutter(system.server.socket)
    jobs = "".join('{"type":"translate","text":"t%d"}\n' % i for i in range(20)).encode()
    done = cli("submit", stdin=jobs, redis_url=f"redis://127.0.0.1:{cutter.port}/0")
    cutter.listener.close()
    assert cutter.cut and done.code == 0 and len(set(done.lines)) == 20, done.err
    assert {json.loads(j)["id"] for j in system.redis.lrange("adwuma:{translate}:ready", 0, -1)} == set(done.lines)
    system.worker()
    assert cli("result", "--wait", "20", *done.lines).lines == [f"[tw] t{i}" for i in range(20)]
    until(lambda: system.redis.llen("adwuma:{translate}:ready") == 0)
    assert system.results("translate") == 20


# --- result --------------------------------------------------------------------------------------------------------------


def test_result_says_where_each_job_is(system, cli):
    r = system.redis
    job = lambda i: json.dumps({"id": i, "text": "x" * 2000})
    for i in range(300):
        r.lpush("adwuma:{translate}:ready", job(f"filler{i}"))
    r.lpush("adwuma:{translate}:ready", "no json", job("waits"))
    r.rpush("adwuma:{synthesize}:ready", job("next"))
    r.zadd("adwuma:{transcribe}:delayed", {job("later"): int(time.time() * 1000) + 90000, job("x"): 1})
    slot_in(system, "translate", "host-1-abc.0", job("runs"), slots=70, n=69)
    r.lpush("adwuma:{taskingai}:dead", json.dumps({"job": {"id": "buried"}, "error": {"id": "not-this"}, "died_at_ms": 1}),
            json.dumps({"job": "no json", "error": {}, "died_at_ms": 1}))
    give_result(system, "translate", "there")
    done = cli("result", "waits", "there", "next", "later", "runs", "nowhere", "waits", "not-this")
    assert done.code == 75
    assert done.out == "\nT\n\n\n\n\n\n\n"
    told = done.err.splitlines()
    assert told[0] == told[5] == "adwuma: job waits: waiting in queue translate"
    assert told[1] == "adwuma: job next: waiting in queue synthesize"
    assert re.fullmatch(r"adwuma: job later: delayed in queue transcribe, due in 1m(30|2\d)s", told[2])
    assert told[3] == "adwuma: job runs: running in queue translate on worker host-1-abc.0"
    assert told[4].startswith("adwuma: job nowhere: unknown") and told[6].startswith("adwuma: job not-this: unknown")
    every = cli("result", *[f"filler{i}" for i in range(300)], *["waits"] * 7)
    assert every.err.count("waiting in queue translate") == 307 and every.out == "\n" * 307
    buried = cli("result", "buried")
    assert buried.code == 1 and "dead in queue taskingai" in buried.err
    assert "unknown" in cli("result", "waits", "--queue", "synthesize").err
    done = cli("result", "--json", "waits", "there", "later", "runs", "nowhere", "buried")
    assert done.code == 1 and done.lines[1].startswith('{"id": "there"')
    places = [json.loads(line) for line in done.lines]
    due = places[2].pop("due_at_ms")
    assert 80000 < due - time.time() * 1000 <= 90000
    place = lambda i, queue, state, **more: {"id": i, "queue": queue, "state": state, "due_at_ms": None, "worker": None, **more}
    assert [places[0], *places[3:]] == [place("waits", "translate", "waiting"), place("runs", "translate", "running", worker="host-1-abc.0"),
                                        place("nowhere", None, "unknown"), place("buried", "taskingai", "dead")]
    assert places[2] == {"id": "later", "queue": "transcribe", "state": "delayed", "worker": None}
    for i, code in (("later", 75), ("nowhere", 75), ("buried", 1)):
        one = cli("result", "--json", i)
        assert one.code == code and json.loads(one.out)["id"] == i


def test_what_is_not_found_is_told_with_where_it_was_looked_for(system, cli):
    system.push("bulk", {"id": "a"})
    where = "looked in translate, transcribe, synthesize, taskingai; elsewhere with -q QUEUE, ADWUMA_QUEUES or --config FILE"
    for args in (["result"], ["result", "--json"], ["cancel"], ["dead", "list"], ["dead", "show"], ["dead", "retry"], ["dead", "purge"]):
        assert cli(*args, "a", "b").err.count(where) == 1, args
        assert "looked in" not in cli(*args, "a", "-q", "bulk").err
    assert "looked in translate;" in cli("result", "a", queues="translate").err
    assert "waiting in queue bulk" in cli("result", "a", queues="translate,bulk").err


def test_result_prints_by_type_and_keeps_numbers(system, cli):
    give_result(system, "translate", "text", result={"text": "ɛ"})
    give_result(system, "synthesize", "audio", result={"bytes": 5, "audio_key": "adwuma:{synthesize}:audio:audio"})
    system.redis.rpush("adwuma:{taskingai}:result:other", '{"id":"other","status":"succeeded","result":{"data":{"n":9007199254740993}}}')
    done = cli("result", "text", "audio", "other")
    assert done.code == 0 and done.lines == ["ɛ", "adwuma:{synthesize}:audio:audio", '{"data":{"n":9007199254740993}}']
    system.redis.rpush("adwuma:{taskingai}:result:odd", "not a result")
    odd = cli("result", "odd")
    assert odd.code == 1 and odd.out == "" and "no result: not a result" in odd.err


def test_result_waits(system, cli):
    start = time.monotonic()
    assert cli("result", "--wait", "0.2", "none").code == 75
    assert time.monotonic() - start >= 0.2
    for flags in ((), ("--queue", "synthesize")):
        name = f"soon{len(flags)}"
        p = cli.start("result", "--wait", "30", name, *flags)
        until(lambda: system.redis.client_list(_type="normal") and system.redis.info("clients")["blocked_clients"] >= 1)
        give_result(system, "synthesize", name)
        out, err = p.communicate(timeout=20 * SLOW)
        assert (p.returncode, out, err) == (0, b"T\n", b"")


# --- stats ---------------------------------------------------------------------------------------------------------------


def fill_for_stats(system):
    r = system.redis
    r.lpush("adwuma:{translate}:ready", *"abc")
    r.zadd("adwuma:{translate}:delayed", {"a": 1, "b": 2})
    r.lpush("adwuma:{translate}:dead", "x")
    r.set("adwuma:{transcribe}:paused", "why")
    r.hset("adwuma:{translate}:stats", mapping={"succeeded": 1000, "failed": 7, "retried": 3, "fenced": 2, "expired": 1})
    slot_in(system, "translate", "w1", "j", slots=1500, n=1499)
    slot_in(system, "translate", "w1", "j", slots=1500, n=0)
    r.zadd("adwuma:{translate}:workers", {"gone": 1})


def test_stats_counts_everything(system, cli):
    fill_for_stats(system)
    done = cli("stats", "--json")
    queues = [json.loads(line) for line in done.lines]
    assert done.code == 0 and [q["queue"] for q in queues] == ["translate", "transcribe", "synthesize", "taskingai"]
    assert queues[0] == {"queue": "translate", "paused": False, "paused_until_ms": None, "ready": 3, "delayed": 2, "running": 2, "dead": 1, "workers": 1,
                         "succeeded": 1000, "failed": 7, "retried": 3, "fenced": 2, "cancelled": 0, "expired": 1, "cached": 0,
                         "requests": 0, "characters": 0, "audio_seconds": 0, "tokens": 0}
    assert queues[1]["paused"] and queues[1]["ready"] == 0
    table = [line.split("\t") for line in cli("stats").lines]
    assert table[0][:7] == ["queue", "state", "ready", "delayed", "running", "dead", "workers"]
    assert table[1] == ["translate", "running", "3", "2", "2", "1", "1", "1000", "7", "3", "2", "0", "1", "0", "0", "0", "0", "0"]
    assert [row[:2] for row in table[3:]] == [["synthesize", "no worker"], ["taskingai", "no worker"]]
    assert table[2][:3] == ["transcribe", "paused", "0"] and queues[1]["paused_until_ms"] is None
    system.redis.pexpire("adwuma:{transcribe}:paused", 600000)
    assert re.fullmatch(r"transcribe	paused (10m|9m5\ds)	0	.*", cli("stats").lines[2])
    assert 590 < json.loads(cli("stats", "--json").lines[1])["paused_until_ms"] / 1000 - time.time() <= 601
    assert [line.split("\t")[0] for line in cli("stats", "--queue", "bulk").lines] == ["queue", "bulk"]
    system.redis.set("adwuma:{bulk}:ready", "x")
    wrong = cli("stats", "--queue", "bulk")
    assert wrong.code == 69 and "WRONGTYPE" in wrong.err and "type it must be" in wrong.err and "--redis-url" not in wrong.err


@pytest.mark.parametrize("key,args", [
    ("ready", ["stats"]), ("delayed", ["stats"]), ("stats", ["stats"]), ("workers", ["stats"]), ("workers", ["workers"]), ("ready", ["result", "x"]), ("dead", ["result", "x"]),
    ("result:x", ["result", "x"]), ("result:x", ["result", "--wait", "5", "x"]), ("dead", ["dead", "list"]), ("cancelled", ["cancel", "x"]),
])
def test_a_key_of_a_wrong_type_is_named(system, cli, key, args):
    key = "adwuma:{q}:" + key
    if key.endswith((":ready", ":result:x")):
        system.redis.set(key, "x")
    elif key.endswith(":dead"):
        system.redis.hset(key, "x", "y")
    else:
        system.redis.rpush(key, "x")
    done = cli(*args, "--queue", "q")
    assert done.code == 69 and f": {key}: WRONGTYPE " in done.err and "type it must be" in done.err, done.err


def test_stats_of_real_workers(system, cli):
    system.worker()
    cli("translate", "a", "b", "")
    stats = json.loads(cli("stats", "--json", "-q", "translate").out)
    assert {k: stats[k] for k in ("succeeded", "failed", "workers", "dead", "running")} == \
        {"succeeded": 2, "failed": 1, "workers": 1, "dead": 1, "running": 0}


def on_terminal(system, *args):
    master, slave = pty.openpty()
    p = subprocess.Popen([ADWUMA, *args], env=system.env(), stdout=slave, stderr=slave, stdin=subprocess.DEVNULL)
    os.close(slave)
    out = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            part = b""
        if not part:
            break
        out += part
    os.close(master)
    return p.wait(20 * SLOW), out.decode().replace("\r\n", "\n")


def test_a_terminal_gets_aligned_columns(system, cli):
    fill_for_stats(system)
    code, out = on_terminal(system, "stats")
    head, *rows = out.splitlines()
    assert code == 0 and head.startswith("\x1b[1m") and "\t" not in out
    assert "\x1b" not in "".join(rows).replace("\x1b[0m", "")
    plain = re.sub(r"\x1b\[\d*m", "", head)
    assert rows[0].index("1000") + 4 == plain.index("succeeded") + len("succeeded")
    assert "expired" in plain and "cached" not in plain
    code, out = on_terminal(system, "synthesize", "x", "-o", "-")
    assert code == 2 and "it is a terminal" in out


# --- Wrong use, bad settings, no Redis -----------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [
    [], ["nonsense"], ["--nonsense"], ["translate"], ["translate", "--nonsense", "x"], ["translate", "x", "--timeout"],
    ["translate", "x", "--timeout", "soon"], ["translate", "x", "--timeout", "-1"], ["translate", "x", "--timeout", "99999999999999999999"],
    ["translate", "x", "--queue", "Q"], ["translate", "x", "--no-wait=1"], ["translate", "x", "-o", "f"], ["transcribe", "x", "y", "--format", "srt"],
    ["transcribe", "x", "--format", "vtt", "--json"], ["transcribe", "x", "--format", "mp3"], ["transcribe", "x", "--timestamps", "hour"], ["synthesize"],
    ["submit", "a", "b"], ["result"], ["result", "a b"], ["result", "x" * 129], ["stats", "x"], ["help", "nonsense"],
])
def test_wrong_use_is_exit_2_with_usage_on_standard_error(cli, system, args):
    done = cli(*args)
    assert done.code == 2 and done.out == "" and "usage: adwuma" in done.err and (not args or done.err.count("\n") <= 6)
    assert system.redis.keys("*") == []


@pytest.mark.parametrize("command", ["dashboard"])
def test_commands_that_come_later_are_told_as_such(cli, command):
    for args in ((command, "x"), ("help", command)):
        done = cli(*args)
        assert done.code == 2 and f"{command}: this command comes later" in done.err and "there is no command" not in done.err
    with open(ROOT + "/README.md", encoding="utf-8") as f:
        later = f.read().split("* Not there yet: ")[1].split("\n\n")[0]
    assert f"`{command}`" in later


def test_a_text_that_begins_with_a_dash(system, cli):
    system.worker()
    assert "--" in cli("translate", "-5 degrees").err
    assert cli("translate", "--", "-5 degrees", "--queue").lines == ["[tw] -5 degrees", "[tw] --queue"]


def test_bad_settings_are_exit_78(cli, tmp_path):
    (tmp_path / "bad.conf").write_text("threads = many\n")
    for done in (cli("stats", threads="many"), cli("stats", "--threads", "0"), cli("stats", "--config", str(tmp_path / "bad.conf")),
                 cli("stats", "--redis-url", "ftp://:hush@x"), cli("translate", "x", "--redis-password", "hush")):
        assert done.code == 78 and done.out == "" and done.err.startswith("adwuma: ") and "hush" not in done.err


def test_no_redis_is_exit_69_with_its_place_and_what_to_try(cli, tmp_path):
    wav = tmp_path / "a.wav"
    wav.write_bytes(b"x")
    for args in (["translate", "x"], ["transcribe", str(wav)], ["synthesize", "x"], ["submit"], ["result", "x"], ["result", "x", "--wait", "60"], ["stats"]):
        start = time.monotonic()
        done = cli(*args, stdin=b'{"type":"translate"}', redis_url="redis://:hush@127.0.0.1:1/0")
        assert done.code == 69 and done.out == "" and "127.0.0.1:1" in done.err and "--redis-url" in done.err and "hush" not in done.err, args
        assert time.monotonic() - start < 5 * SLOW


def test_a_wrong_password_is_exit_69(system, cli):
    system.redis.config_set("requirepass", "sesame-1")
    try:
        done = cli("translate", "x", redis_password="sesame-2")
        assert done.code == 69 and "WRONGPASS" in done.err and "ADWUMA_REDIS_PASSWORD" in done.err and "sesame" not in done.err
        assert cli("translate", "--no-wait", "x", redis_password="sesame-1").code == 0
    finally:
        system.redis.execute_command("AUTH", "sesame-1")
        system.redis.config_set("requirepass", "")


@pytest.fixture
def refusing():
    """A Redis that tells who it is and says no to all else."""
    class Refusing:
        says, info = "ERR no", "redis_version:7.0.0\r\nrole:master\r\n"

        def __init__(self):
            self.listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
            threading.Thread(target=self.serve, daemon=True).start()

        def serve(self):
            try:
                while True:
                    client, _ = self.listener.accept()
                    with client:
                        while asked := client.recv(65536):
                            client.sendall((f"${len(self.info)}\r\n{self.info}\r\n" if b"INFO" in asked else f"-{self.says}\r\n").encode())
            except OSError:
                pass

    r = Refusing()
    yield r
    r.listener.close()


@pytest.mark.parametrize("says,hint", [
    ("OOM command not allowed when used memory > 'maxmemory'.", "its memory is full"), ("READONLY You can't write against a read only replica.", "is a replica"),
    ("MISCONF Redis is configured to save RDB snapshots", "cannot save"), ("LOADING Redis is loading the dataset in memory", "reads its data"),
    ("BUSY Redis is busy running a script.", "runs somebody's script"), ("NOREPLICAS Not enough good replicas to write.", "too few of its replicas"),
    ("NOPERM this user has no permissions", "its ACL"), ("ERR unknown command", "It answers, but refuses."), ("EXECABORT x", "It answers, but refuses."),
])
def test_a_redis_that_refuses_gets_a_fitting_hint(cli, refusing, says, hint):
    refusing.says = says
    for args in (["submit", "-q", "q"], ["stats"], ["pause", "q"]):
        done = cli(*args, stdin=b'{"id":"a"}', redis_url=refusing.url)
        assert done.code == 69 and says in done.err and hint in done.err and "Does Redis run there" not in done.err, done.err


def test_what_cannot_be_used_as_redis_gets_a_fitting_hint(cli, refusing):
    for info, hint in (("redis_version:7.0.0\r\nrole:slave\r\n", "is a replica."), ("redis_version:5.0.0\r\nrole:master\r\n", "cannot be used"),
                       ("x:y\r\n", "Something else listens")):
        refusing.info = info
        done = cli("stats", redis_url=refusing.url)
        assert done.code == 69 and hint in done.err and "--redis-url" in done.err and "Does Redis run there" not in done.err, done.err


def test_a_full_redis_is_told(system, cli):
    system.redis.config_set("maxmemory", 1)
    done = cli("submit", "--queue", "q", stdin=b'{"id":"a"}\nbad\n{"id":"b"}\n')
    assert done.code == 69 and done.out == "" and "OOM" in done.err and "its memory is full" in done.err and "from line 1 on" in done.err
    assert cli("translate", "x").code == 69


def test_waiting_outlives_a_restart_of_redis(cli, tmp_path):
    (tmp_path / "durable").mkdir()
    durable = RedisServer(tmp_path / "durable", "--appendonly", "yes")
    try:
        p = cli.start("translate", "a", settings={"redis_url": "unix://" + durable.socket})
        until(lambda: durable.client.info("clients")["blocked_clients"] == 1)
        durable.kill()
        os.unlink(durable.socket)
        durable.start()
        job = json.loads(until(lambda: durable.client.lindex("adwuma:{translate}:ready", 0)))
        durable.client.rpush("adwuma:{translate}:result:" + job["id"], json.dumps({"id": job["id"], "status": "succeeded", "result": {"text": "T"}}))
        out, err = p.communicate(timeout=30 * SLOW)
        assert out == b"T\n" and err in (b"", b"adwuma: no worker serves a queue translate now; the job waits for one\n"), "the second where it took long"
        assert p.returncode == 0
    finally:
        durable.stop()


def test_a_wait_in_all_queues_outlives_an_outage_of_redis(system, cli):
    p = cli.start("result", "--wait", "30", "a", "b")
    until(lambda: system.redis.info("clients")["blocked_clients"] == 1)
    system.server.kill()
    time.sleep(0.3)  # the outage
    assert p.poll() is None
    system.server.start()
    give_result(system, "taskingai", "a")
    give_result(system, "transcribe", "b")
    assert p.communicate(timeout=30 * SLOW) == (b"T\nT\n", b"") and p.returncode == 0
    p = cli.start("result", "--wait", "1", "c")
    until(lambda: system.redis.info("clients")["blocked_clients"] == 1)
    system.server.kill()
    begin = time.monotonic()
    err = p.communicate(timeout=30 * SLOW)[1].decode()
    assert p.returncode == 69 and "Does Redis run there" in err and time.monotonic() - begin < 5 * SLOW


# --- Standard output -----------------------------------------------------------------------------------------------------


def test_a_reader_that_went_away_ends_it_quietly(system, cli):
    give_result(system, "translate", "big", result={"text": "x" * 1000000})
    p = cli.start("result", "big", "big")
    p.stdout.close()
    err = p.stderr.read()
    assert p.wait(20 * SLOW) == 0 and err == b""
    p.stderr.close()


def test_a_full_disk_is_told(system):
    with open("/dev/full", "wb") as full:
        p = subprocess.run([ADWUMA, "stats"], env=system.env(), stdout=full, stderr=subprocess.PIPE, timeout=20 * SLOW)
    assert p.returncode == 1 and b"cannot be written" in p.stderr


def test_help_says_what_timeout_means_to_a_batch(cli):
    help_of = {command: cli("help", command).out for command in ("batch", "translate")}
    assert "where no result has come for so many seconds, exit 75 [300]" in help_of["batch"] and "wait so many seconds in all, then exit 75 [300]" in help_of["translate"]
    assert help_of["batch"].count("seconds") == 1


def test_help_is_complete(cli):
    overview = cli("--help")
    commands = re.findall(r"^  (\w+) ", overview.out, re.M)
    assert overview.code == 0 and overview.err == "" and set(commands) >= {"translate", "transcribe", "synthesize", "submit", "result", "stats", "workers", "dead", "cancel", "pause", "resume", "help"}
    assert cli("help").out == cli("-h").out == cli("help", "--help").out == overview.out
    for command in set(commands) - {"help", "adwuma"}:
        page = cli(command, "--help")
        assert page.code == 0 and page.out.startswith("usage: adwuma " + command) and "Examples:\n  " in page.out
        assert cli("help", command).out == page.out
        assert max(len(line) for line in page.lines) <= 120
        other_side = "the worker" if command == "health" else "the API" if command in ("operations", "languages", "speakers") else "Redis"
        for code in ("0 ", "2 wrong use", f"69 {other_side} cannot be reached", "78 bad settings"):
            assert code in page.out.split("Exit codes of every command: ")[1], command
    assert "2 FILE cannot be read" in cli("help", "submit").out
    assert cli("help", "help").out == overview.out
    in_jobs, in_looks = "the queue; without it the one named like the job's type", "in this queue; without it in all of the setting `queues`"
    for commands, sentence, other in ((("translate", "transcribe", "synthesize", "submit"), in_jobs, in_looks),
                                      (("result", "stats", "workers", "dead list", "dead show", "dead retry", "dead purge", "cancel"), in_looks, in_jobs)):
        for command in commands:
            page = cli("help", *command.split()).out
            assert sentence in page and other not in page, command
    settings = cli("help", "settings")
    assert settings.code == 0 and "--redis-url" in settings.out
    # Help does not need what help is about.
    assert cli("translate", "--help", threads="many").code == 0
    assert re.fullmatch(r"adwuma \d+\.\d+\.\d+\n", cli("--version").out)


def test_examples_of_the_help_run(system, cli, tmp_path):
    """Each example of every help page, with what it needs beside it, by a shell. Those that mend something say so on standard error."""
    system.worker()
    system.redis.zadd("adwuma:{translate}:delayed", {'{"id":"45","text":"x"}': int(time.time() * 1000) + 900000})
    for job_id in ("42", "43", "44", "46", "47"):
        system.redis.rpush("adwuma:{translate}:dead", json.dumps({"job": {"id": job_id, "text": "x"}, "error": {"type": "APIError"}, "died_at_ms": 1}))
    (tmp_path / "letter.txt").write_text("Dear all,\ngood morning\n")
    (tmp_path / "jobs.jsonl").write_text('{"type":"translate","text":"x"}\n')
    assert cli("synthesize", "speech", "-o", str(tmp_path / "speech.wav")).code == 0
    for folder in ("texts", "recordings"):
        (tmp_path / folder).mkdir()
    (tmp_path / "recordings" / "speech.wav").write_bytes((tmp_path / "speech.wav").read_bytes())
    for job_id in ("0193580be2c41f0c9a5d7e3b4a86c2f1", "42", "43", "44"):
        give_result(system, "translate", job_id)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aplay").symlink_to("/bin/cat")
    env = {**system.env(), "PATH": f"{os.path.dirname(os.path.abspath(ADWUMA))}:{tmp_path}/bin:{os.environ['PATH']}"}
    examples = []
    pages = ["translate", "transcribe", "synthesize", "submit", "result", "stats", "workers", "dead list", "dead show", "dead retry", "dead purge", "cancel",
             "pause", "resume"]
    for page in [cli("--help")] + [cli("help", *p.split()) for p in pages]:
        examples += [line.strip() for line in page.out.split("Examples:\n")[1].splitlines() if line.startswith("  ")]
    assert len(examples) >= 30
    for example in examples:
        watches = "--watch" in example
        p = subprocess.run(["/bin/sh", "-e", "-c", watches * "timeout -s INT 1 " + example], cwd=tmp_path, env=env, capture_output=True, timeout=60 * SLOW)
        assert p.returncode == (124 if watches else 0), (example, p.stderr)
        assert p.stderr == b"" or re.match(r"adwuma (dead (retry|purge)|cancel|pause|resume)", example), (example, p.stderr)


def test_secrets_are_in_no_output(system, cli):
    for args in (["help", "settings"], ["translate", "x", "--timeout", "0"], ["stats"]):
        done = cli(*args, redis_username="default", redis_password="hush-hush")
        assert "hush-hush" not in done.out + done.err


def test_the_library_exports_its_header_and_nothing_else():
    with open(ROOT + "/include/adwuma.h", encoding="utf-8") as f:
        declared = set(re.findall(r"^ADWUMA_API [^;(]*?\b(adwuma_\w+)\(", f.read(), re.M))
    symbols = subprocess.run(["nm", "-D", "--defined-only", BUILD + "/libadwuma.so"], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in symbols.splitlines() if line.split()[1] in "TDBR"}
    exported = {s for s in exported if not s.startswith(("__asan", "__ubsan", "__odr", "__tsan", "_init", "_fini"))}
    assert exported == declared


@pytest.mark.release
def test_what_is_installed_serves_a_producer(system, tmp_path):
    """make install, and the example of adwuma.h built from what it put there, against both forms of the library."""
    system.worker()
    clean = {k: v for k, v in system.env().items() if not k.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", "-s", "-o", "all", "install", "B=" + BUILD, f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=ROOT, env=clean, check=True)
    put = {os.path.relpath(os.path.join(folder, f), tmp_path / "usr") for folder, _, files in os.walk(tmp_path / "usr") for f in files}
    pages = {f"share/man/man{page[-1]}/{page}" for page in os.listdir(ROOT + "/deploy/man") if page[-2] == "."}
    assert put == {"bin/adwuma", "sbin/adwumad", "include/adwuma.h", "lib/libadwuma.a", "lib/libadwuma.so", "lib/libadwuma.so.0", "lib/pkgconfig/adwuma.pc",
                   "lib/systemd/system/adwumad.service", "share/bash-completion/completions/adwuma", "share/bash-completion/completions/adwumad",
                   *(f"share/doc/adwuma/{f}" for f in ("adwumad.conf.example", "users.acl", "users-6.2.acl", "users.md", "kubernetes.md", "prometheus/alerts.yml",
                                                       "prometheus/prometheus.yml", "grafana/dashboards/adwuma.json", "grafana/provisioning/dashboards/adwuma.yml",
                                                       "grafana/provisioning/datasources/prometheus.yml")), *pages}
    for f in put:
        mode = stat.S_IMODE(os.stat(tmp_path / "usr" / f).st_mode)
        assert mode == (0o755 if f.startswith(("bin/", "sbin/", "lib/libadwuma.so")) else 0o644), f
        if "." in f and not f.startswith("lib/lib"):
            text = (tmp_path / "usr" / f).read_text(encoding="utf-8")
            assert "/usr/local" not in text, f
            for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text) if f.endswith(".md") else []:
                assert os.path.exists(os.path.join(tmp_path, "usr", os.path.dirname(f), link)), (f, link)
    with open(tmp_path / "usr/lib/systemd/system/adwumad.service", encoding="utf-8") as f:
        assert "\nExecStart=/usr/sbin/adwumad\n" in f.read()
    with open(tmp_path / "usr/include/adwuma.h", encoding="utf-8") as f:
        example = "".join(re.findall(r"^ \*   (.*\n)", f.read(), re.M))
    (tmp_path / "p.c").write_text("#include <adwuma.h>\n#include <stdio.h>\nint main(void)\n{\n" + example + "return 0;\n}\n")
    env = {**clean, "PKG_CONFIG_LIBDIR": f"{tmp_path}/usr/lib/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": str(tmp_path), "LD_LIBRARY_PATH": f"{tmp_path}/usr/lib"}
    ways = [(c, libs) for c in ("cc -std=c11 -Wextra", "g++ -std=c++17 -x c++") for libs in ("--libs adwuma", "--static --libs adwuma | sed s/-ladwuma/-l:libadwuma.a/")]
    for compiler, libs in ways:
        build = f"{compiler} -Wall -Werror $(pkg-config --cflags adwuma) p.c -x none $(pkg-config {libs}) -o p && ./p"
        done = subprocess.run(["sh", "-c", build], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout == "[tw] Good morning\n", build + done.stderr
    subprocess.run(["make", "-s", "uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=ROOT, env=clean, check=True)
    assert [f for _, _, files in os.walk(tmp_path / "usr") for f in files] == [] and not os.path.exists(tmp_path / "usr/share/doc/adwuma")
