"""What producers and operators take back: cancelled jobs, paused queues; and slots that nobody lists."""
import json
import signal
import time

import pytest
from conftest import SANITIZED, until

Q = "adwuma:{translate}:"


def cancel(system, *ids):
    system.redis.zadd(Q + "cancelled", {i: int(time.time() * 1000) for i in ids})


def assert_cancelled(system, job_id, attempts, seconds=10):
    r = system.result("translate", job_id, seconds)
    assert (r["status"], r["error"]["type"], r["error"]["status_code"], r["error"]["retryable"], r["error"]["service"]) == ("failed", "CancelledError", 0, False, "khaya"), r
    assert r["attempts"] == attempts
    assert not system.dead("translate")
    until(lambda: system.redis.zscore(Q + "cancelled", job_id) is None, 5, "it is struck off: the id may be used anew")


@pytest.mark.core
def test_waiting(system):
    """Both ways in: through a turn, and through the wait."""
    cancel(system, "a", "b", "other")
    system.push("translate", *[{"id": i, "text": "x", "reply": "r"} for i in ("a", "b", "c")])
    system.worker()
    for job_id in ("a", "b"):
        assert_cancelled(system, job_id, 0)
    assert system.result("translate", "c")["status"] == "succeeded"
    cancel(system, "d")
    system.push("translate", {"id": "d", "text": "x"})
    assert_cancelled(system, "d", 0)
    assert system.stub.count() == 1 and system.stats("translate") == {"succeeded": 1, "cancelled": 3}
    assert system.redis.llen(Q + "reply:r") == 3 and system.redis.zcard(Q + "cancelled") == 1


@pytest.mark.core
@pytest.mark.parametrize("more", [{}, {"if_unsure": "hold"}])
def test_running(system, more):
    """The call is aborted within two seconds, and only that one."""
    system.worker()
    system.push("translate", {"id": "a", "text": "x stub(hang)", **more}, {"id": "b", "text": "y stub(delay=3000)"})
    until(lambda: system.stub.count() == 2, what="both run")
    began = time.monotonic()
    cancel(system, "a")
    assert_cancelled(system, "a", 1)
    assert SANITIZED or time.monotonic() - began < 2
    assert system.result("translate", "b")["status"] == "succeeded"
    # The thread whose call was aborted goes on with others.
    system.push("translate", *[{"id": f"n{i}", "text": "x"} for i in range(50)])
    for i in range(50):
        assert system.result("translate", f"n{i}")["status"] == "succeeded"


def test_between_two_tries(system):
    """A call that fails while its job is cancelled is not tried again; one that waits for its next try ends when that is due."""
    system.worker()
    system.push("translate", {"id": "a", "text": "x stub(status=503,retry_after=1)"})
    until(lambda: system.redis.zcard(Q + "delayed") == 1, what="it waits for its second try")
    cancel(system, "a")
    assert_cancelled(system, "a", 1)
    system.push("translate", {"id": "b", "text": "x", "not_before_ms": int(time.time() * 1000) + 3_600_000})
    until(lambda: system.redis.zcard(Q + "delayed") == 1, what="it waits for its time")
    cancel(system, "b")
    # What `adwuma cancel` does for a delayed job: it is due now.
    system.redis.zadd(Q + "delayed", {system.redis.zrange(Q + "delayed", 0, 0)[0]: 0}, xx=True)
    assert_cancelled(system, "b", 0)


def test_an_old_cancel_is_forgotten_and_a_late_one_does_nothing(system):
    system.worker(result_ttl_s=60)
    r = system.do("translate", id="a", text="x")
    cancel(system, "a")
    system.redis.zadd(Q + "cancelled", {"old": int(time.time() * 1000) - 61_000})
    until(lambda: system.redis.zscore(Q + "cancelled", "old") is None, what="it is dropped")
    assert system.result("translate", "a") == r
    assert system.redis.zscore(Q + "cancelled", "a")


def test_a_wrong_type_at_cancelled_is_told_and_loses_nothing(system):
    w = system.worker()
    system.redis.set(Q + "cancelled", "x")
    until(lambda: "WRONGTYPE" in w.log(), what="it is told")
    system.push("translate", {"id": "a", "text": "x"})
    system.redis.delete(Q + "cancelled")
    assert system.result("translate", "a")["status"] == "succeeded"


@pytest.mark.core
def test_a_pause_holds_for_a_worker_that_was_already_waiting(wire, system):
    """Its BLMOVE was sent before the pause, and is served after it: no call is made."""
    w = system.worker(queues="translate", redis_url="unix://" + wire.path, lease_ms=60000)
    until(lambda: any(c["cmd"] == "blmove" for c in system.redis.client_list()), what="it waits")
    pipe = system.redis.pipeline()
    pipe.set(Q + "paused", "by the test").lpush(Q + "ready", json.dumps({"id": "a", "text": "x"}))
    pipe.execute()
    until(lambda: "queue paused" in w.log(), what="it has seen the pause")
    until(lambda: system.redis.llen(Q + "ready") == 1 and not system.redis.keys(Q + "slot:*"), what="handed back")
    assert system.stub.count() == 0 and system.results("translate") == 0
    system.redis.delete(Q + "paused")
    assert system.result("translate", "a")["status"] == "succeeded"


def test_what_waits_in_a_worker_is_handed_back_at_a_pause(system):
    system.stub.fault("delay=3")
    w = system.worker(threads=2, queues="translate")
    system.push("translate", *[{"id": f"{i}", "text": "x"} for i in range(3000)])
    until(lambda: system.results("translate") > 100, what="jobs run")
    system.redis.set(Q + "paused", "by the test")
    until(lambda: "queue paused" in w.log(), what="it has seen the pause")
    until(lambda: not system.redis.keys(Q + "slot:*"), what="nothing is left in its hands")
    assert system.stub.count() == system.results("translate")
    system.redis.delete(Q + "paused")
    system.reconcile("translate", 3000)
    assert system.stub.count() == 3000


@pytest.mark.core
def test_a_slot_that_nobody_lists_is_swept(system):
    """A wait of a dead worker that is carried out after it was struck off leaves a job where nobody would look."""
    dead = system.worker(lease_ms=1000)
    name = next(m for m in system.redis.zrange(Q + "workers", 0, -1)).decode()
    dead.kill()
    system.worker(lease_ms=1000)
    until(lambda: system.redis.zscore(Q + "workers", name) is None, 20, "it is struck off")
    system.redis.rpush(f"{Q}slot:{name}:3", json.dumps({"id": "late", "text": "x"}))
    assert system.result("translate", "late", 20)["status"] == "succeeded"
    system.reconcile("translate", 1)
    assert 0 < system.redis.ttl(Q + "gone") <= 86400


def test_a_clean_stop_leaves_nothing_to_sweep(system):
    w = system.worker()
    w.send(signal.SIGTERM)
    assert w.stop() == 0 and not system.redis.keys("adwuma:*")
