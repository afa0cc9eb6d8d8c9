"""The release before this one and this one on the same queues: whatever one leaves behind, in whatever state, the other finishes, both ways.

What src/queue/PROTOCOL.md says under "What may change between versions" is held here, as far as it can be tried."""
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

import load
import pytest
from conftest import BUILD, ROOT, SLOW, start, until

PREVIOUS = ROOT + "/build/previous/source/build"
BUILDS = {"old": PREVIOUS, "new": BUILD}
VERSION_AT = {path: version for version, path in BUILDS.items()}
Q = "adwuma:{translate}:"
LEASE_MS = 2000


def pytest_generate_tests(metafunc):
    if "one" in metafunc.fixturenames:
        metafunc.parametrize("one, other", [("old", "new"), ("new", "old")], ids=["old-to-new", "new-to-old"])


@pytest.fixture(autouse=True)
def both_are_built():
    assert os.path.exists(PREVIOUS + "/adwumad"), "the previous release is not built: scripts/build-previous does that, and make test-ha"


@pytest.fixture
def workers(system):
    """workers("old", …) starts a worker of that version."""
    return lambda version, **settings: system.worker(build=BUILDS[version], **{"lease_ms": LEASE_MS, **settings})


@pytest.fixture
def cli(system):
    """cli("old", "stats", …): what that version's command line says."""
    def run(version, *args, code=0, stdin=None):
        p = subprocess.run([BUILDS[version] + "/adwuma", *args], env=system.env(), input=stdin, capture_output=True, text=True, timeout=60 * SLOW, check=False)
        assert p.returncode == code, (p.returncode, p.stdout, p.stderr)
        return p.stdout if code == 0 else p.stdout + p.stderr
    return run


def die_in_call(system, w, calls):
    """Killed when that many calls have come to the API."""
    until(lambda: system.stub.count() >= calls, 20, f"{calls} calls")
    w.kill()


def in_delayed(system):
    return system.redis.zrange(Q + "delayed", 0, -1)


# --- The whole, under load.

def test_under_load_with_deaths(system, workers, cli):
    """Jobs of all kinds by producers of both versions and by plain LPUSH, while workers of both are killed again and again."""
    dice = random.Random(4)
    system.stub.fault("delay=8")

    def make(n):
        marks = dice.choice(["", "", "", "", " stub(status=503,retry_after=0.1,times=1)", " stub(reset,times=1)"])
        more = dice.choice([{}, {}, {}, {"not_before_ms": int(time.time() * 1000) + 400}, {"x_unknown": [1, 2.50, "ɛ"]}])
        return {"text": f"job {n}{marks}", "reply": "all", **more}

    versions = ["old", "new", "old", "new"]
    seats = [workers(v, queues="translate", threads=4) for v in versions]
    pushed = [0]

    def push(queue, jobs):
        """A third each by plain LPUSH and the two command lines, which are slower at it: so by heaps."""
        pushed[0] += 1
        if pushed[0] % 15 == 0:
            for version in ("old", "new"):
                extra = "\n".join(json.dumps({"id": f"{version}{pushed[0]}.{i}", "text": f"by {version} {pushed[0]}.{i}", "reply": "all"}) for i in range(40))
                ids = cli(version, "submit", "-q", "translate", stdin=extra).split()
                assert len(ids) == 40
                by_cli.extend(ids)
        system.redis.lpush(load.key(queue, "ready"), *jobs)

    by_cli, kills = [], 0
    producer = load.Load(push, 400, make=make)
    producer.start()
    until(lambda: len(producer) > 200, 20, "the load is on")
    for n in range(12):
        seat = n % 4
        threading.Event().wait(dice.uniform(0.2, 1.0))
        seats[seat].kill()
        kills += 1
        seats[seat] = workers(versions[seat], queues="translate", threads=4)
    accepted = producer.end() + len(by_cli)
    system.reconcile("translate", accepted)
    assert not load.account(system.redis, "translate", [*producer.accepted["translate"], *by_cli])
    done_by = {v: 0 for v in BUILDS}
    version_of = {str(w.process.pid): VERSION_AT[w.build] for w in system.workers}
    for r in load.results(system.redis, "translate").values():
        done_by[version_of[r["worker"].rsplit(".", 1)[0].rsplit("-", 2)[1]]] += 1
    print(f"{accepted} jobs ({len(by_cli)} by the command lines), {kills} deaths, results by version {done_by}, calls {system.stub.count()}, {system.stats('translate')}")
    assert all(n > accepted / 5 for n in done_by.values()), done_by


def test_a_rolling_upgrade_and_back(system, workers):
    """One worker after the other is replaced by TERM: no job is lost, none is called twice, and somebody always works."""
    system.stub.fault("delay=20")
    fleet = [workers("old", queues="translate", threads=4) for _ in range(3)]
    producer = load.Load(lambda queue, jobs: system.redis.lpush(load.key(queue, "ready"), *jobs), 300)
    producer.start()
    until(lambda: len(producer) > 200, 20, "the load is on")
    for version in ("new", "old"):
        for i in range(3):
            assert fleet[i].stop() == 0
            fleet[i] = workers(version, queues="translate", threads=4)
    accepted = producer.end()
    system.reconcile("translate", accepted)
    assert not load.account(system.redis, "translate", producer.accepted["translate"])
    assert system.stub.count() == accepted


# --- Single states that one leaves and the other finds.

def test_a_job_in_a_dead_workers_slot(system, workers, one, other):
    dead = workers(one, threads=1)
    system.push("translate", {"id": "a", "text": "x stub(hang,times=1)"})
    die_in_call(system, dead, 1)
    workers(other)
    r = system.result("translate", "a", 15)
    assert r["status"] == "succeeded" and r["attempts"] == 1  # a death is no try
    until(lambda: not system.redis.keys(Q + "slot:*") and system.redis.zcard(Q + "workers") == 1, 10, "it is struck off")
    assert system.redis.zcard(Q + "gone") == 1


def test_a_job_that_waits_for_its_next_try(system, workers, one, other):
    """Tries and what was sent are counted on, and the rest of the payload is what it was."""
    first = workers(one)
    payload = '{ "x_new": {"a": [1, 2.50, 9007199254740993, "\\u025b ɛ"]}, "id":"a","text":"x stub(status=503,retry_after=2,times=1)", "x_last":null }'
    system.push("translate", payload)
    held = until(lambda: in_delayed(system), 10, "it waits")[0].decode()
    assert first.stop() == 0
    assert in_delayed(system) == [held.encode()]
    assert '"x_new": {"a": [1, 2.50, 9007199254740993, "\\u025b ɛ"]}' in held and '"x_last":null' in held
    workers(other)
    r = system.result("translate", "a", 15)
    assert r["status"] == "succeeded" and r["attempts"] == 2 and r["billed"]["request"] == 2


def test_a_job_that_is_due_later(system, workers, one, other):
    first = workers(one)
    payload = json.dumps({"id": "a", "text": "x", "not_before_ms": int(time.time() * 1000) + 2500})
    system.push("translate", payload)
    until(lambda: in_delayed(system) == [payload.encode()], 10, "it waits, byte for byte")
    first.kill()
    workers(other)
    r = system.result("translate", "a", 15)
    assert r["status"] == "succeeded" and r["started_at_ms"] >= json.loads(payload)["not_before_ms"]


def test_a_job_that_was_sent_and_must_not_be_sent_again(system, workers, one, other):
    """The mark of one is read by the other; a job without it had not begun."""
    dead = workers(one, threads=1)
    system.push("translate", {"id": "sent", "text": "x stub(hang)", "if_unsure": "hold"})
    die_in_call(system, dead, 1)
    mark, = system.redis.keys(Q + "sent:*")
    assert re.fullmatch(rb"[0-9a-f]{40}", system.redis.get(mark))
    workers(other)
    assert system.result("translate", "sent", 15)["error"]["type"] == "UnknownOutcomeError"
    assert system.do("translate", id="fresh", text="y", if_unsure="hold")["status"] == "succeeded"
    until(lambda: not system.redis.exists(mark), 10, "the mark goes with its worker")
    assert system.stub.count() == 2


def test_deaths_of_both_are_counted_together(system, workers, one, other):
    system.push("translate", {"id": "poison", "text": "x stub(hang)"})
    for n, version in enumerate((one, other)):
        w = workers(version, max_crashes=2)
        die_in_call(system, w, n + 1)
    workers(one, max_crashes=2)
    assert system.result("translate", "poison", 15)["error"]["type"] == "WorkerCrashError" and system.stub.count() == 2


def test_pieces_that_were_paid_for(system, workers, one, other):
    """Pieces of a long text that one has finished the other does not send again."""
    pieces = [f"{word} begins, " + "it says what it has to say, " * 31 + fault + f"{word} ends." for word, fault in
              (("A", ""), ("B", ""), ("C", "stub(hang,times=1) "))]
    dead = workers(one, threads=1)
    system.push("translate", {"id": "a", "text": " ".join(pieces)})
    die_in_call(system, dead, 3)
    assert system.redis.hlen(Q + "pieces:a") == 2
    workers(other)
    r = system.result("translate", "a", 15)
    assert r["result"]["text"] == " ".join(f"[tw] {p}" for p in pieces)
    assert [c["text"][0] for c in system.stub.calls()] == ["A", "B", "C", "C"] and not system.redis.keys(Q + "pieces:*")


def test_a_stream_that_broke_off(system, workers, one, other):
    dead = workers(one)
    stream = "adwuma:{taskingai}:stream:s"
    said = "one two three four stub(pace=30,cut_after=2,end=hang,times=1)"
    system.push("taskingai", {"id": "s", "type": "taskingai.chat_completion",
                              "params": {"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": said}]}})
    until(lambda: system.redis.xlen(stream) >= 2, 10, "pieces have come")
    dead.kill()
    workers(other)
    r = system.result("taskingai", "s", 15)
    assert r["result"]["data"]["message"]["content"] == "Echo: one two three four"
    entries = [(e[b"event"].decode(), json.loads(e[b"data"])) for _, e in system.redis.xrange(stream)]
    names = [name for name, _ in entries]
    assert names.count("restart") == 1 and names.count("done") == 1 and names[-1] == "done" and "error" not in names, names
    assert "".join(d["delta"] for name, d in entries[names.index("restart"):] if name == "chunk") == "Echo: one two three four"


def test_jobs_that_are_handed_back(system, workers, one, other):
    """At a stop that cannot wait jobs go back byte for byte, to the end that is served next."""
    first = workers(one, threads=2, drain_timeout_s=0)
    jobs = [json.dumps({"x": 1.0, "id": f"{i}", "text": f"{i} stub(delay=3000,times=1)"}) for i in range(6)]
    system.push("translate", *jobs)
    until(lambda: system.stub.count() == 2, 10, "two are called")
    assert first.stop() == 0
    assert sorted(system.redis.lrange(Q + "ready", 0, -1)) == sorted(j.encode() for j in jobs)
    workers(other)
    system.reconcile("translate", 6)


def test_speech_that_one_made_the_other_hears(system, workers, one, other):
    maker = workers(one)
    made = system.do("synthesize", text="Me ho yɛ", language="twi")["result"]
    assert maker.stop() == 0
    workers(other)
    assert system.do("transcribe", audio_key=made["audio_key"])["result"]["text"] == "Me ho yɛ"


def test_ids_pauses_and_cancellations_are_of_all(system, workers, cli, one, other):
    """An id that one has answered the other does not call; what one version's command line says the other's workers do."""
    first = workers(one)
    assert system.do("translate", id="a", text="x")["status"] == "succeeded"
    assert first.stop() == 0
    workers(other)
    system.push("translate", {"id": "a", "text": "x again"})
    until(lambda: system.stats("translate").get("fenced") == 1, 10, "the second job of that id ends")
    assert system.stub.count() == 1
    cli(one, "pause", "translate", "--reason", "test")
    system.push("translate", {"id": "b", "text": "x"}, {"id": "c", "text": "y"})
    cli(one, "cancel", "-q", "translate", "c")
    assert all("waiting" in cli(v, "result", "-q", "translate", "b", code=75) for v in (one, other))
    assert system.stub.count() == 1
    cli(one, "resume", "translate")
    assert system.result("translate", "b")["status"] == "succeeded" and system.result("translate", "c")["error"]["type"] == "CancelledError"


def test_dead_jobs_of_one_are_tried_again_by_the_other(system, workers, cli, one, other):
    payload = '{"id":"a", "x_new":[1.50,"ɛ"], "text":"x stub(status=401,times=1)"}'
    first = workers(one)
    system.push("translate", payload)
    assert system.result("translate", "a")["error"]["type"] == "AuthenticationError"
    assert first.stop() == 0
    assert '"x_new":[1.50,"ɛ"]' in system.redis.lindex(Q + "dead", 0).decode()
    assert "AuthenticationError" in cli(other, "dead", "list", "-q", "translate")
    cli(other, "dead", "retry", "-q", "translate", "a")
    assert system.redis.lrange(Q + "ready", 0, -1) == [payload.encode()]
    workers(other)
    assert system.result("translate", "a")["status"] == "succeeded" and not system.redis.exists(Q + "dead", Q + "dead_bytes")


def test_each_ones_command_line_sees_both(system, workers, cli):
    fleet = {v: workers(v) for v in BUILDS}
    assert system.do("translate", id="a", text="x")["status"] == "succeeded"
    for version in BUILDS:
        listed = [json.loads(line) for line in cli(version, "workers", "--json", "-q", "translate").splitlines()]
        assert {w["pid"] for w in listed} == {w.process.pid for w in fleet.values()} and all(w["alive"] and w["slots"] > 0 for w in listed)
        assert "[tw] x" in cli(version, "result", "-q", "translate", "a")
        assert "translate" in cli(version, "stats", "-q", "translate")
        assert "[tw] by both" in cli(version, "translate", "by both")


def test_scripts_of_both_stand_side_by_side(system, workers):
    """Each loads its own, by hash; a flush costs neither a job."""
    fleet = [workers(v, queues="translate") for v in BUILDS]
    for n in range(3):
        system.redis.script_flush("SYNC")
        system.push("translate", *({"id": f"{n}.{i}", "text": f"{n}.{i}"} for i in range(100)))
    system.reconcile("translate", 300)
    assert system.stub.count() == 300 and all(w.process.poll() is None for w in fleet)


# --- What a later version may add, and what it may not.

class Later:
    """What a later version might leave in Redis when it dies: more fields, another form of name within bounds, more slots."""

    def __init__(self, r, slots=4351, job=None, name=None):
        self.name = name or "h" * 40 + "-later-form-9-" + "a" * 30 + ".7"
        assert name or len(self.name) <= 96
        r.zadd(Q + "workers", {self.name: int(time.time() * 1000) - 60_000})
        r.hset(Q + "worker:" + self.name, mapping={"slots": slots, "version": "99.0", "x_shard": "eu", "busy": "many"})
        if job:
            r.lpush(f"{Q}slot:{self.name}:{slots - 1}", job)


@pytest.mark.parametrize("version", BUILDS)
def test_a_later_worker_is_buried_by_an_earlier_one(system, workers, cli, version):
    """Names up to 96 bytes and up to 4,351 slots are looked into; fields that nobody knows are passed over."""
    later = Later(system.redis, job='{"id":"a","text":"x","x_later":{"deep":[1.0]}}')
    system.redis.hset(Q + "stats", "x_counter", "7")
    cli(version, "workers", "-q", "translate")
    cli(version, "stats", "-q", "translate")
    workers(version, lease_ms=1000)
    assert system.result("translate", "a", 20)["status"] == "succeeded"
    until(lambda: system.redis.zscore(Q + "workers", later.name) is None, 10, "it is struck off")
    assert not system.redis.exists(Q + "worker:" + later.name) and system.redis.hget(Q + "stats", "x_counter") == b"7"


@pytest.mark.parametrize("version", BUILDS)
def test_a_name_that_is_too_long_is_only_forgotten(system, workers, version):
    """Why a version must not make longer ones: nobody would look into its slots."""
    later = Later(system.redis, slots=1, job='{"id":"a","text":"x"}', name="n" * 97)
    workers(version, lease_ms=1000)
    until(lambda: system.redis.zscore(Q + "workers", later.name) is None, 20, "it is off the list")
    assert system.redis.llen(f"{Q}slot:{later.name}:0") == 1


@pytest.mark.parametrize("version", BUILDS)
def test_more_in_results_and_dead_entries_is_passed_over(system, cli, version):
    result = {"id": "a", "queue": "translate", "type": "translate", "status": "succeeded", "x_later": {"y": 1},
              "result": {"text": "Maakye", "source_language": "en", "target_language": "tw", "x": 1}, "attempts": 1, "enqueued_at_ms": None,
              "started_at_ms": 2, "finished_at_ms": 3, "api_ms": 0.8, "cached": False, "worker": "w", "billed": {"request": 1, "x_unit": 2}}
    failed = {**result, "id": "b", "status": "failed", "error": {"type": "LaterError", "message": "m", "status_code": 499, "code": None, "details": [],
              "activity_id": None, "retryable": False, "service": "khaya", "x": 1}}
    del failed["result"]
    for r in (result, failed):
        system.redis.rpush(Q + "result:" + r["id"], json.dumps(r))
    entry = json.dumps({"job": {"id": "b", "text": "x", "x": 1}, "error": failed["error"], "died_at_ms": 5, "x_why": "later"})
    system.redis.lpush(Q + "dead", entry)
    system.redis.set(Q + "dead_bytes", len(entry))
    assert "Maakye" in cli(version, "result", "-q", "translate", "a")
    assert json.loads(cli(version, "result", "--json", "-q", "translate", "a")) == result
    assert "LaterError" in cli(version, "dead", "list", "-q", "translate") and "LaterError" in cli(version, "dead", "show", "-q", "translate", "b")
    cli(version, "dead", "retry", "-q", "translate", "b")
    assert json.loads(system.redis.lindex(Q + "ready", 0)) == {"id": "b", "text": "x", "x": 1}


@pytest.mark.parametrize("version", BUILDS)
def test_a_type_that_is_not_known_yet_is_refused(system, workers, version):
    """Why workers are upgraded before producers use what is new: an earlier one says no, for good, and says so."""
    workers(version)
    r = system.do("translate", id="a", type="translate_document", text="x")
    assert r["error"]["type"] == "InvalidJobError" and "translate_document" in r["error"]["message"] and system.stub.count() == 0
    assert system.do("translate", id="b", text="x", x_priority=7)["status"] == "succeeded"  # a field that is not known is ignored


def test_leases_of_different_length(system, workers, one, other):
    """Each is judged by what it said itself."""
    patient = workers(one, lease_ms=8000, queues="translate", threads=1)
    system.push("translate", {"id": "a", "text": "x stub(delay=4000)"})
    until(lambda: system.stub.count() == 1, 10, "it is called")
    patient.send(signal.SIGSTOP)
    workers(other, lease_ms=1000, queues="translate", threads=1)
    threading.Event().wait(3)  # three leases of the other: it must leave the slot alone
    assert system.redis.zcard(Q + "workers") == 2 and len(system.redis.keys(Q + "slot:*")) == 1
    patient.send(signal.SIGCONT)
    assert system.result("translate", "a", 20)["status"] == "succeeded" and system.stub.count() == 1


def test_a_batch_of_one_goes_on_with_the_other(system, workers, tmp_path, one, other):
    """A batch that one version's command line began, and was killed in, the other's ends; nothing is paid twice."""
    workers(one, threads=4)
    workers(other, threads=4)
    system.stub.fault("delay=40")
    lines = [{"text": f"line {i}"} for i in range(400)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["batch", "in.jsonl", "-o", "out.jsonl", "-q", "translate"]
    p = start([BUILDS[one] + "/adwuma", *command], cwd=tmp_path, env=system.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    until(lambda: system.results("translate") > 100, 20, "it is under way")
    p.kill()
    p.communicate()
    done = subprocess.run([BUILDS[other] + "/adwuma", *command], cwd=tmp_path, env=system.env(), capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert done.returncode == 0, done.stderr
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["result"]["text"] for r in out] == [f"[tw] line {i}" for i in range(400)] and system.stub.count() == 400
