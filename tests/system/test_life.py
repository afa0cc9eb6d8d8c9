"""A worker's life and a job's times: signals in full flight, jobs that come due together, jobs that expire while they wait."""
import base64
import os
import random
import signal
import subprocess
import time

import pytest
from conftest import BUILD, SANITIZED, SLOW, until

JOBS = 4000 if not SANITIZED else 800
STOPS = int(os.environ.get("ADWUMA_STOPS", 10))


def jobs(n, text="job", **more):
    return [{"id": f"{i}", "text": f"{text} {i}", **more} for i in range(n)]


def delayed(system):
    return system.redis.zrange("adwuma:{translate}:delayed", 0, -1, withscores=True)


@pytest.mark.release
def test_a_start_without_room_for_all_threads_says_so_and_ends(system):
    command = ["prlimit", f"--as={300 << 20}", BUILD + "/adwumad"]
    ended = subprocess.run(command, env=system.env(threads=2048), stderr=subprocess.PIPE, text=True, timeout=15, check=False)
    assert ended.returncode == 69 and "cannot start thread call/" in ended.stderr, ended


@pytest.mark.core
def test_stops_in_full_flight_lose_nothing_and_waste_nothing(system):
    """Worker after worker is told to stop in the middle of fast jobs: each call that was made has its result, and the next goes on."""
    system.stub.fault("delay=4")
    system.push("translate", *jobs(JOBS))
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        w = system.worker(threads=16)
        done = system.stats("translate").get("succeeded", 0)
        until(lambda done=done: system.stats("translate").get("succeeded", 0) > done + JOBS // 8, 30, "jobs run")
        assert w.stop(sig) == 0
        assert system.stub.count() == system.results("translate") == JOBS - system.redis.llen("adwuma:{translate}:ready")
        assert not system.redis.keys("adwuma:*slot*") and not system.redis.keys("adwuma:*worker*")
    system.worker(threads=16)
    system.reconcile("translate", JOBS)
    assert system.stub.count() == JOBS and system.stats("translate") == {"succeeded": JOBS}


@pytest.mark.core
def test_stop_under_load_often(system):
    """TERM at any moment; ADWUMA_STOPS=100 is the whole campaign. Each exit is in time, and what was done is kept."""
    random.seed(STOPS)
    system.stub.fault("delay=20")
    pushed = 0
    for _ in range(STOPS):
        w = system.worker(threads=16, drain_timeout_s=5)
        for _ in range(random.randint(1, 4)):
            system.push("translate", *[{"id": f"{i}", "text": f"job {i}"} for i in range(pushed, pushed + 40)])
            pushed += 40
            time.sleep(random.random() * 0.05)  # when it comes is what is tried out
        began = time.monotonic()
        assert w.stop() == 0 and time.monotonic() - began < 5 * SLOW
        assert not system.redis.keys("adwuma:*slot*") and system.stub.count() == system.results("translate")
    system.worker(threads=16)
    system.reconcile("translate", pushed)
    assert system.stub.count() == pushed


def test_stop_of_a_worker_that_waits_is_at_once(system):
    """Also while it is quiet, or its queue is paused: exit 0, off the list."""
    for state in ("idle", "quiet", "paused"):
        w = system.worker(lease_ms=60000)
        if state == "quiet":
            w.send(signal.SIGTSTP)
            until(lambda w=w: "taking no more jobs" in w.log(), what="quiet")
        if state == "paused":
            system.redis.set("adwuma:{translate}:paused", "x")
        began = time.monotonic()
        assert w.stop() == 0
        assert time.monotonic() - began < (2 if not SANITIZED else 10), state
        assert not system.redis.keys("adwuma:*worker*")


@pytest.mark.core
def test_stop_before_redis_has_read_the_wait(wire, system):
    """CLIENT UNBLOCK overtakes the BLMOVE that it is to end: it is asked again, and the stop does not last as long as the wait."""
    w = system.worker(lease_ms=60000, queues="translate", redis_url="unix://" + wire.path)
    wire.asked.clear()
    system.do("translate", text="x")
    until(lambda: b"BLMOVE" in wire.seen, what="it begins to wait for the next")
    w.send(signal.SIGTERM)
    until(lambda: b"UNBLOCK" in wire.seen, what="the wait is to end")
    wire.asked.set()
    began = time.monotonic()
    assert w.stop() == 0
    assert time.monotonic() - began < (2 if not SANITIZED else 10)


def test_retries_that_wait_do_not_keep_a_worker_from_stopping(system):
    w = system.worker()
    system.push("translate", *jobs(20, "x stub(status=503,retry_after=2000,times=1)"))
    until(lambda: len(delayed(system)) == 20, what="all wait")
    now = time.time() * 1000
    # Retry-After is honoured, with jitter only upwards.
    assert all(now + 1_990_000 < due <= now + 2_300_000 for _, due in delayed(system))
    assert w.stop() == 0 and len(delayed(system)) == 20


def test_many_jobs_due_at_the_same_time(system):
    """More than one round of the keeper takes: all are done soon after, none before."""
    n, due = 450, int(time.time() * 1000) + 1500
    system.push("translate", *jobs(n, not_before_ms=due))
    system.worker(threads=8)
    until(lambda: len(delayed(system)) == n, 10, "all wait")
    assert {score for _, score in delayed(system)} == {due} and system.stub.count() == 0
    system.reconcile("translate", n)
    calls = [c["arrived_ms"] for c in system.stub.calls()]
    assert min(calls) >= due - 20  # the stub's clock is this machine's
    assert SANITIZED or max(calls) < due + 3000
    assert system.stats("translate") == {"succeeded": n}  # waiting is no outcome


def test_waiting_jobs_outlive_their_worker(system):
    due = int(time.time() * 1000) + 1200
    system.push("translate", *jobs(3, not_before_ms=due))
    first = system.worker(lease_ms=1000)
    until(lambda: len(delayed(system)) == 3, what="all wait")
    first.kill()
    system.worker(lease_ms=1000)
    system.reconcile("translate", 3)
    assert all(system.result("translate", str(i))["started_at_ms"] >= due for i in range(3))


def test_jobs_expire_while_they_wait(system):
    system.worker(threads=1)
    system.push("translate", {"id": "first", "text": "x stub(delay=700)"})
    until(lambda: system.stub.count() == 1, what="the only thread is busy")
    now = int(time.time() * 1000)
    system.push("translate", {"id": "late", "text": "x", "expires_at_ms": now + 100, "reply": "r"}, {"id": "good", "text": "x", "expires_at_ms": now + 60_000})
    e = system.result("translate", "late")
    assert (e["error"]["type"], e["error"]["status_code"], e["error"]["service"], e["attempts"]) == ("ExpiredError", 0, "khaya", 0)
    assert system.result("translate", "good")["status"] == "succeeded"
    assert system.redis.llen("adwuma:{translate}:reply:r") == 1
    assert system.stats("translate") == {"succeeded": 2, "expired": 1} and system.stub.count() == 2 and not system.dead("translate")
    # A job between two tries was started in time.
    system.push("translate", {"id": "tried", "text": "x stub(status=503,retry_after=1,times=1)", "expires_at_ms": int(time.time() * 1000) + 700})
    r = system.result("translate", "tried")
    assert (r["status"], r["attempts"]) == ("succeeded", 2)
    # Both at once: what must not start before it has expired never starts.
    r = system.do("translate", text="x", not_before_ms=now + 2000, expires_at_ms=now + 1000)
    assert r["error"]["type"] == "ExpiredError"


def test_many_with_one_id(system):
    """Hundreds of copies over two workers: one call at least, one result, every other counted as fenced."""
    system.push("translate", *[{"id": f"{i % 20}", "text": f"copy {i}", "reply": "r"} for i in range(400)])
    system.worker(threads=8)
    system.worker(threads=8)
    until(lambda: sum(system.stats("translate").values()) == 400, 30, "all have ended")
    assert system.stats("translate") == {"succeeded": 20, "fenced": 380} and system.redis.llen("adwuma:{translate}:reply:r") == 20
    system.reconcile("translate", 20)
    assert system.stub.count() < 400


def test_flushed_under_load(system):
    """All is gone at a stroke: what runs ends, what comes later is done, and the worker is listed again."""
    system.stub.fault("delay=5")
    system.push("translate", *jobs(1000))
    w = system.worker(threads=8, lease_ms=1000)
    until(lambda: system.results("translate") > 100, what="jobs run")
    system.redis.flushall()
    system.push("synthesize", {"id": "s", "text": "x", "language": "twi"})
    system.push("translate", *[{"id": f"later{i}", "text": "x"} for i in range(200)])
    until(lambda: system.redis.llen("adwuma:{synthesize}:result:s"), 15, "the other queue goes on")
    for i in range(200):
        assert system.result("translate", f"later{i}", 15)["status"] == "succeeded"
    until(lambda: system.redis.zcard("adwuma:{translate}:workers") == 1, 10, "it is listed")
    assert w.stop() == 0


@pytest.mark.core
def test_all_types_and_fates_at_once(system):
    """Every kind of end in one run, over two queues and two workers; each exactly as it should be."""
    shapes = [("translate", {"text": "x"}, "succeeded"), ("synthesize", {"text": "x", "language": "twi"}, "succeeded"),
              ("transcribe", {"audio_base64": base64.b64encode(b"RIFF\0\0\0\0WAVE").decode()}, "succeeded"), ("translate", {"text": 5}, "InvalidJobError"),
              ("translate", {"text": "stub(status=500,retry_after=0,times=1)"}, "succeeded"), ("translate", {"text": "stub(status=429,retry_after=0)", "max_attempts": 2}, "RateLimitError"),
              ("translate", {"text": "stub(reset)", "max_attempts": 1}, "APIError"), ("translate", {"text": "stub(html200)"}, "APIError"),
              ("translate", {"text": "x", "expires_at_ms": 1}, "ExpiredError"), ("synthesize", {"text": "stub(not_audio)", "language": "twi"}, "TTSGenerationError"),
              ("synthesize", {"text": "x"}, "TTSGenerationError"), ("transcribe", {"audio_path": "x"}, "ASRTranscriptionError")]
    n = 600 if not SANITIZED else 240
    wanted = {}
    for i in range(n):
        kind, job, fate = shapes[i % len(shapes)]
        queue = ("left", "right")[i % 2]
        text = {"text": f"{job['text']} {i}"} if isinstance(job.get("text"), str) else {}
        system.push(queue, {"id": f"{i}", "type": kind, **job, **text})
        wanted[queue, str(i)] = fate
    system.push("left", b"no json")
    for _ in range(2):
        system.worker(queues="left,right:2", threads=8)
    system.reconcile("left", n // 2, without_id=1)
    system.reconcile("right", n // 2)
    for (queue, job_id), fate in wanted.items():
        r = system.result(queue, job_id)
        assert (r["status"] if r["status"] == "succeeded" else r["error"]["type"]) == fate, (shapes[int(job_id) % len(shapes)], r)
