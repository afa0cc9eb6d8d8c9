"""Death, and separately the loss of every connection, at each point where something touches Redis or the API (a worker built with FAULTS=1):
nothing is lost, nothing is answered twice, and the counters agree."""
import base64
import json
import os
import re
import signal
import time

import pytest
from conftest import ROOT, until

# After how many passages it happens; the second is where things are under way.
POINTS = {
    "turn:before": (1, 20), "turn:after": (1, 20), "look:before": (1, 3), "look:after": (1, 3), "wait:before": (1, 3), "wait:after": (1, 3),
    "tick:before": (1, 4), "tick:after": (1, 4), "call:before": (1, 20), "call:after": (1, 20), "mark:before": (1, 5), "mark:after": (1, 5),
    "audio:before": (1, 5), "audio:after": (1, 5), "stage:before": (1, 5), "stage:after": (1, 5), "reap:before": (1, 2), "reap:after": (1, 2),
    "leave:before": (1,), "leave:after": (1,), "audit:before": (1, 2), "cancel:before": (1,), "cancel:after": (1,), "unmark:before": (),
    "piece:look": (1, 5), "piece:before": (1, 5), "piece:after": (1, 5), "stream:before": (1, 9), "stream:after": (1, 9),
}
JOBS = 120
Q = "adwuma:{translate}:"
LONG = "It is long. " * 100 + "again stub(status=500,retry_after=0,times=1)"
SHAPES = [{"text": "plain"}, {"text": LONG}, {"text": ""}, {"type": "synthesize", "text": "say", "language": "twi"},
          {"text": "careful", "if_unsure": "hold"}, {"text": "told", "reply": "all"}, {"type": "transcribe", "audio_key": Q + "audio:in"},
          {"type": "taskingai.chat_completion", "params": {"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": "one two three stub(pace=2)"}]}}]
KINDS = len(SHAPES)
SLOW = ["slow0", "slow1", "slow2"]


def test_every_point_of_the_source_is_here():
    found = set()
    for folder, _, files in os.walk(ROOT + "/src"):
        for name in files:
            if name.endswith(".c"):
                found |= set(re.findall(r'fault_point\("([a-z:]+)"\)', open(os.path.join(folder, name), encoding="utf-8").read()))
    assert found == set(POINTS)


def start_dead_worker(system):
    """A worker that died with three jobs in its slots."""
    dead = system.worker(threads=4, lease_ms=1000)
    system.push("translate", *[{"id": i, "text": f"{i} stub(hang,times=1)"} for i in SLOW])
    until(lambda: system.stub.count() == len(SLOW), what="it has taken them")
    dead.kill()


def mixed():
    """Successes, retries, bad jobs, audio out and in, holds, replies, in one queue."""
    return [{"id": f"{i}", **SHAPES[i % len(SHAPES)], "seed": i} for i in range(JOBS)]


def check(system):
    system.reconcile("translate", JOBS + len(SLOW) + 1)
    results = {i: system.result("translate", str(i)) for i in range(JOBS)}
    for i, r in results.items():
        if i % KINDS == 2:
            assert r["error"]["type"] == "TranslationError"
        elif i % KINDS == 4 and r["status"] == "failed":
            assert r["error"]["type"] == "UnknownOutcomeError"
        else:
            assert r["status"] == "succeeded", r
    assert all(system.result("translate", i)["status"] == "succeeded" for i in SLOW)
    assert system.result("translate", "unwanted")["error"]["type"] == "CancelledError"
    replies = [json.loads(x) for x in system.redis.lrange(Q + "reply:all", 0, -1)]
    assert sorted(int(r["id"]) for r in replies) == [i for i in range(JOBS) if i % KINDS == 5] and all(r == results[int(r["id"])] for r in replies)
    for i in range(3, JOBS, KINDS):
        assert system.redis.strlen(results[i]["result"]["audio_key"]) == results[i]["result"]["bytes"]
    for i in range(6, JOBS, KINDS):
        assert results[i]["result"]["text"] == "Me ho yɛ"
    for i in range(7, JOBS, KINDS):
        check_stream(system, i, results[i])
    assert {int(d["job"]["id"]) for d in system.dead("translate")} == {i for i, r in results.items() if r["status"] == "failed"}
    until(lambda: system.redis.zcard(Q + "workers") <= 1, 20, "only the living are listed")


def check_stream(system, i, result):
    """Whatever broke: what counts is whole, in order and there once, and the stream ends once."""
    entries = [(e[b"event"].decode(), json.loads(e[b"data"])) for _, e in system.redis.xrange(f"{Q}stream:{i}")]
    names = [name for name, _ in entries]
    assert entries[-1] == ("done", result["result"]) and names.count("done") == 1 and "error" not in names, names
    last = len(names) - names[::-1].index("restart") if "restart" in names else 0
    assert [data["index"] for _, data in entries[last:-1]] == list(range(4)), entries


def lead(system, victim, happened):
    """Jobs of every kind, one after the other and then together, a cancelled one among them, until it has happened or all is done."""
    jobs = mixed()
    for job in jobs[:KINDS]:
        system.push("translate", job)
        until(lambda job=job: happened() or system.results("translate") > int(job["id"]), 20, "done, or broken")
    system.push("translate", {"id": "unwanted", "text": "unwanted stub(hang)"}, *jobs[KINDS:])
    until(lambda: happened() or any("unwanted" in c["text"] for c in system.stub.calls()), 20, "it runs, or broken")
    system.redis.zadd(Q + "cancelled", {"unwanted": int(time.time() * 1000)})
    until(lambda: happened() or system.results("translate") == JOBS + len(SLOW) + 1, 40, "all done, or broken")
    if not happened():
        victim.send(signal.SIGTERM)
        until(lambda: victim.process.poll() is not None, 20, "it ends")


@pytest.fixture
def prepared(system):
    system.redis.set(Q + "audio:in", base64.b64decode(spoken(system)), ex=600)
    start_dead_worker(system)
    return system


def spoken(system):
    """What the stub says; it understands its own speech."""
    w = system.worker(threads=1)
    r = system.do("synthesize", text="Me ho yɛ", language="twi", output="base64")
    assert w.stop() == 0
    system.stub.ask("DELETE", "/_stub/calls")
    system.redis.flushall()
    return r["result"]["audio_base64"]


@pytest.mark.parametrize("what", ["kill", "cut"])
@pytest.mark.parametrize("point,after", [(p, n) for p, counts in POINTS.items() for n in counts])
def test_it_breaks_there(prepared, point, after, what):
    system = prepared
    victim = system.worker(wait=False, threads=4, lease_ms=1000, FAULT=f"{point}={what}@{after}")
    if what == "kill":
        victim.expected = -signal.SIGKILL
    lead(system, victim, lambda: what == "kill" and victim.process.poll() is not None)
    assert what == "cut" or victim.process.returncode == -signal.SIGKILL, "it was to die"
    if what == "kill":
        system.worker(threads=4, lease_ms=1000)
    check(system)


@pytest.mark.parametrize("what", ["kill", "cut"])
def test_it_breaks_where_a_mark_is_taken_back(system, what):
    """A hold job whose request never went out is simply done."""
    victim = system.worker(wait=False, threads=1, lease_ms=1000, FAULT=f"unmark:before={what}", KHAYA_BASE_URL="http://127.0.0.1:1")
    victim.expected = -signal.SIGKILL
    system.push("translate", {"id": "a", "text": "x", "if_unsure": "hold"})
    if what == "kill":
        until(lambda: victim.process.poll() is not None, 20, "it dies")
    else:
        until(lambda: system.redis.zcard(Q + "delayed") == 1, 20, "it will be tried again")
        victim.kill()
    system.worker(threads=1, lease_ms=1000)
    r = system.result("translate", "a", 20)
    # Killed between the mark and its taking back, nobody can say that nothing was sent.
    assert r["status"] == "succeeded" or (what == "kill" and r["error"]["type"] == "UnknownOutcomeError")
    system.reconcile("translate", 1)


def test_all_kinds_of_death_one_after_the_other(prepared):
    """Workers that die at one point after the other, until one lives: the jobs survive all of it."""
    system = prepared
    system.push("translate", *mixed(), {"id": "unwanted", "text": "x"})
    system.redis.zadd(Q + "cancelled", {"unwanted": int(time.time() * 1000)})
    for n, point in enumerate([p for p in POINTS if p.split(":")[0] in ("turn", "tick", "call", "look", "mark", "audio", "stage", "reap")]):
        w = system.worker(wait=False, threads=4, lease_ms=1000, max_crashes=1000, FAULT=f"{point}@{3 + n % 5}")
        w.expected = -signal.SIGKILL
        until(lambda w=w: w.process.poll() is not None or system.results("translate") == JOBS + len(SLOW) + 1, 30, "it dies")
        if w.process.poll() is None:
            w.kill()
    system.worker(threads=4, lease_ms=1000, max_crashes=1000)
    check(system)
