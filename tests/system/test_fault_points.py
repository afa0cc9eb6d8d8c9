"""Death at every point where a job changes hands (programs built with FAULTS=1): another worker finishes, and nothing is lost or answered twice."""
import json
import signal

import pytest
from conftest import until

pytestmark = pytest.mark.faults

POINTS = ["turn:before", "turn:after", "wait:before", "wait:after", "tick:before", "tick:after", "call:before", "call:after"]
JOBS = 300


def mixed(n):
    """Successes, retries, bad jobs, audio, holds, in one queue."""
    shapes = [{"text": "plain"}, {"text": "again stub(status=500,retry_after=0,times=1)"}, {"text": ""}, {"type": "synthesize", "text": "say", "language": "twi"},
              {"text": "careful", "if_unsure": "hold"}, {"text": "told", "reply": "all"}]
    return [{"id": f"{i}", **shapes[i % len(shapes)], "seed": i} for i in range(n)]


def check(system):
    system.reconcile("translate", JOBS)
    results = {i: system.result("translate", str(i)) for i in range(JOBS)}
    for i, r in results.items():
        if i % 6 == 2:
            assert r["error"]["type"] == "TranslationError"
        elif i % 6 == 4 and r["status"] == "failed":
            assert r["error"]["type"] == "UnknownOutcomeError"
        else:
            assert r["status"] == "succeeded", r
    replies = [json.loads(x) for x in system.redis.lrange("adwuma:{translate}:reply:all", 0, -1)]
    assert sorted(int(r["id"]) for r in replies) == [i for i in range(JOBS) if i % 6 == 5] and all(r == results[int(r["id"])] for r in replies)
    for i in range(3, JOBS, 6):
        assert system.redis.strlen(results[i]["result"]["audio_key"]) == results[i]["result"]["bytes"]
    assert {int(d["job"]["id"]) for d in system.dead("translate")} == {i for i, r in results.items() if r["status"] == "failed"}
    until(lambda: system.redis.zcard("adwuma:{translate}:workers") == 1, 20, "only the living are listed")


@pytest.mark.parametrize("after", [1, 3, 20])
@pytest.mark.parametrize("point", POINTS)
def test_death_there(system, point, after):
    if point.startswith("wait"):  # a wait begins when the list is empty, and is served by what comes then
        after = min(after, 3)
    victim = system.worker(wait=False, threads=4, lease_ms=1000, FAULT=f"{point}@{after}")
    victim.expected = -signal.SIGKILL
    jobs = mixed(JOBS)
    for job in jobs[:6]:
        system.push("translate", job)
        until(lambda job=job: victim.process.poll() is not None or system.results("translate") > int(job["id"]), 20, "done, or dead")
    system.push("translate", *jobs[6:])
    until(lambda: victim.process.poll() is not None, 20, "it dies")
    system.worker(threads=4, lease_ms=1000)
    check(system)


def test_all_kinds_of_death_one_after_the_other(system):
    """Workers that die at one point after the other, until one lives: the jobs survive all of it."""
    system.push("translate", *mixed(JOBS))
    for n, point in enumerate(POINTS * 2):
        if point.startswith("wait"):
            continue
        w = system.worker(wait=False, threads=4, lease_ms=1000, max_crashes=1000, FAULT=f"{point}@{3 + n}")
        w.expected = -signal.SIGKILL
        until(lambda w=w: w.process.poll() is not None or system.results("translate") == JOBS, 30, "it dies")
        if w.process.poll() is None:
            w.kill()
    system.worker(threads=4, lease_ms=1000, max_crashes=1000)
    check(system)
