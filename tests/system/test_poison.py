"""One bad key, one bad entry, one bad clock: what it must not do to all the rest."""
import json
import re
import signal
import time

import pytest
from conftest import until
from programs import another_clock

Q = "adwuma:{translate}:"


def lines(worker, event):
    return [line for line in worker.log().splitlines() if f'"{event}"' in line or f"event={event} " in line]


def jobs(n, **more):
    return [{"id": f"j{i}", "text": f"text {i}", **more} for i in range(n)]


def dead_worker(system, **settings):
    """One that holds jobs and dies."""
    w = system.worker(**settings)
    until(lambda: system.stub.stats()["active"] == settings["threads"], what="its calls run")
    w.kill()
    return w


def worker_id(w):
    return re.search(r"worker=([\w.-]+)", w.log())[1]


def test_refused_leases_do_not_make_the_living_reap_each_other(system):
    """None could renew; the first that can again must not take the others for dead, whose calls run."""
    system.push("translate", *jobs(8, if_unsure="hold"))
    system.stub.fault("delay=6000")
    until(lambda: system.redis.info("server")["uptime_in_seconds"] >= 4, what="the grace after a start of Redis is over")
    for _ in range(2):
        system.worker(threads=4, queues="translate", lease_ms=1000)
    until(lambda: system.stub.stats()["active"] == 8, what="calls run on both")
    system.redis.set(Q + "cancelled", "of a wrong type")  # every tick is refused
    until(lambda: all(lines(w, "redis refuses the keeper") for w in system.workers), what="both see it")
    until(lambda: all(float(lease) < time.time() * 1000 - 1000 for _, lease in system.redis.zrange(Q + "workers", 0, -1, withscores=True)), what="all leases ran out")
    system.redis.delete(Q + "cancelled")
    system.reconcile("translate", 8)
    assert system.stub.count() == 8 and system.stats("translate") == {"succeeded": 8}
    assert not any(lines(w, "jobs of a dead worker put back") for w in system.workers)


def test_a_dead_job_that_cannot_end_keeps_no_other_from_ending(system):
    """Its result key has a wrong type; other dead workers, of this queue and another, are reaped, and Redis counts as well."""
    system.stub.fault("hang")
    system.push("translate", {"id": "bad", "text": "x", "if_unsure": "hold"}, {"id": "same", "text": "x"})
    dead_worker(system, threads=2, queues="translate", lease_ms=1000)
    system.push("translate", {"id": "younger", "text": "x"})
    dead_worker(system, threads=1, queues="translate", lease_ms=1000)
    system.push("other", {"id": "o", "type": "translate", "text": "x"})
    dead_worker(system, threads=1, queues="other", lease_ms=1000)
    system.stub.fault("")
    system.redis.set(Q + "result:bad", "x")
    w = system.worker(threads=2, queues="translate,other", lease_ms=1000)
    for queue, job_id in (("translate", "same"), ("translate", "younger"), ("other", "o")):
        assert system.result(queue, job_id, 15)["status"] == "succeeded"
    until(lambda: lines(w, "a dead worker cannot be reaped"), what="it is told")
    assert "job bad must end" in w.log() and not lines(w, "redis lost")
    system.redis.delete(Q + "result:bad")
    assert system.result("translate", "bad")["error"]["type"] == "UnknownOutcomeError"
    until(lambda: system.redis.zcard(Q + "workers") == 1, what="the dead are struck off")
    assert len(lines(w, "a dead worker cannot be reaped")) == 1


def test_bad_entries_among_the_workers_do_not_keep_the_dead_from_being_reaped(system):
    r = system.redis
    r.zadd(Q + "workers", {"x" * 200 + str(i): 1 for i in range(70)})
    r.zadd(Q + "workers", {b"nul\x00%d" % i: 1 for i in range(20)})
    r.zadd(Q + "workers", {"string.0": 2, "slot.0": 3})
    r.set(Q + "worker:string.0", "x")
    r.set(Q + "slot:slot.0:0", "x")
    r.set(Q + "worker:slot.0", "x")
    system.stub.fault("hang")
    system.push("translate", {"id": "a", "text": "x"})
    dead_worker(system, threads=1, queues="translate", lease_ms=1000)
    system.stub.fault("")
    w = system.worker(threads=1, queues="translate", lease_ms=1000)
    assert system.result("translate", "a", 15)["status"] == "succeeded"
    until(lambda: {m for m in r.zrange(Q + "workers", 0, -1)} == {b"slot.0", f"{worker_id(w)}.0".encode()}, what="only what may hold a job is left")
    assert len(lines(w, "a dead worker cannot be reaped")) == 1 and not lines(w, "redis refuses the keeper")
    r.delete(Q + "slot:slot.0:0")
    until(lambda: r.zcard(Q + "workers") == 1, what="the last is struck off")


def commands(system):
    return system.redis.info("stats")["total_commands_processed"]


def test_a_bad_reply_list_does_not_stop_the_queue(system):
    system.redis.set(Q + "reply:bad", "x")
    w = system.worker(threads=2, queues="translate")
    slots = int(system.redis.hget(Q + f"worker:{worker_id(w)}.0", "slots"))
    n = slots + 50
    system.push("translate", *jobs(n, reply="bad"))
    until(lambda: system.results("translate") >= n - slots // 4, what="all but some have their results")
    assert system.do("translate", text="good")["status"] == "succeeded"
    until(lambda: lines(w, "a key has a wrong type") and lines(w, "a reply list has a wrong type"), what="it is told")
    before = commands(system)
    time.sleep(1)
    assert commands(system) - before < 200, "it waits without asking again and again"
    held = n + 1 - system.results("translate")
    assert 0 < held <= slots // 4
    system.redis.delete(Q + "reply:bad")
    system.reconcile("translate", n + 1)
    assert system.redis.llen(Q + "reply:bad") == held
    assert system.stub.count() == n + 1 and len(lines(w, "a key has a wrong type")) == len(lines(w, "a reply list has a wrong type")) == 1


def test_a_bad_ready_list_does_not_hold_back_answers(system):
    system.stub.fault("delay=300")
    system.push("translate", *jobs(30))
    w = system.worker(threads=8, queues="translate", lease_ms=1000)
    until(lambda: system.results("translate") >= 8, what="jobs run")
    kept = system.redis.lrange(Q + "ready", 0, -1)
    system.redis.pipeline().delete(Q + "ready").set(Q + "ready", "x").execute()
    until(lambda: system.stub.stats()["active"] == 0 and not system.redis.keys(Q + "slot:*"), what="what was taken ends")
    assert system.results("translate") == system.stub.count() == 30 - len(kept)
    system.redis.delete(Q + "ready")
    if kept:
        system.redis.rpush(Q + "ready", *kept)
    system.reconcile("translate", 30)
    assert system.stub.count() == 30 and len(lines(w, "redis refuses a command")) == 1


def test_a_stray_job_in_a_free_slot_is_not_begun_while_quiet(system):
    """A slot under suspicion is looked into by claiming it, and nothing may be claimed now."""
    system.stub.fault("delay=4000")
    w = system.worker(threads=2, queues="translate", lease_ms=1000)
    system.push("translate", {"id": "runs", "text": "x"})
    until(lambda: system.stub.stats()["active"] == 1, what="its call runs")
    w.send(signal.SIGTSTP)
    until(lambda: lines(w, "taking no more jobs"), what="it is quiet")
    slots = int(system.redis.hget(Q + f"worker:{worker_id(w)}.0", "slots"))
    free = next(i for i in range(slots) if not system.redis.exists(Q + f"slot:{worker_id(w)}.0:{i}"))
    system.redis.lpush(Q + f"slot:{worker_id(w)}.0:{free}", json.dumps({"id": "stray", "text": "x"}))
    system.push("translate", *jobs(5))
    assert system.result("translate", "runs")["status"] == "succeeded"
    assert system.stub.count() == 1 and system.redis.llen(Q + "ready") == 5
    system.stub.fault("")
    w.send(signal.SIGCONT)
    system.reconcile("translate", 7)
    assert system.stub.count() == 7


def test_cancelled_while_a_call_fails_that_would_be_tried_again(system):
    """The keeper has not looked yet: the job is then not left to wait for its next try."""
    system.stub.fault("delay=150,status=503,retry_after=300")
    system.worker(threads=8, queues="translate")
    for i in range(6):
        system.push("translate", {"id": f"a{i}", "text": "x"})
        until(lambda: system.stub.stats()["active"] == 1, what="its call runs")
        system.redis.zadd(Q + "cancelled", {f"a{i}": int(time.time() * 1000)})
        r = system.result("translate", f"a{i}", 3)
        assert r["error"]["type"] == "CancelledError" and r["attempts"] == 1
    until(lambda: not system.redis.exists(Q + "cancelled", Q + "delayed"), what="nothing is left")


def test_a_cancellation_that_came_too_late_does_not_outlive_its_job(system):
    """Its id may be used anew."""
    system.worker(threads=2, queues="translate")
    for outcome in ("", "status=400"):
        system.stub.fault(f"delay=100,{outcome}" if outcome else "delay=100")
        system.push("translate", {"id": "a", "text": "x"})
        until(lambda: system.stub.stats()["active"] == 1, what="its call runs")
        system.redis.zadd(Q + "cancelled", {"a": int(time.time() * 1000), "b": int(time.time() * 1000)})
        first = system.result("translate", "a")
        until(lambda: system.redis.zrange(Q + "cancelled", 0, -1) == [b"b"], what="it is struck off")
        system.redis.delete(Q + "result:a")
        if first["status"] == "succeeded":
            assert system.do("translate", id="a", text="x")["status"] == "succeeded"
            system.redis.delete(Q + "result:a")


@pytest.mark.release  # a sanitizer wants to be the first library
@pytest.mark.parametrize("off", [-30, 30], ids=["behind", "ahead"])
def test_due_times_go_by_the_clock_of_redis(system, tmp_path, off):
    w = system.worker(wait=False, prefix=another_clock(tmp_path, off), threads=2, queues="translate")
    until(lambda: system.lists(w), what="it is listed")
    now = int(time.time() * 1000)
    due = now + 1500
    system.push("translate", {"id": "due", "text": "x", "not_before_ms": due}, {"id": "old", "text": "x", "expires_at_ms": now - 1000},
                {"id": "new", "text": "x", "expires_at_ms": now + 20000})
    assert system.result("translate", "old")["error"]["type"] == "ExpiredError"
    assert system.result("translate", "new")["status"] == "succeeded"
    before = commands(system)
    assert system.result("translate", "due")["status"] == "succeeded"
    assert due <= time.time() * 1000 < due + 1000 and commands(system) - before < 200


def test_a_clean_stop_leaves_no_marks(system):
    w = system.worker(threads=4, queues="translate")
    system.push("translate", *jobs(12, if_unsure="hold"))
    system.reconcile("translate", 12)
    assert system.redis.keys(Q + "sent:*")
    assert w.stop() == 0 and not system.redis.keys(Q + "sent:*")


def test_counters_that_are_no_numbers_hold_nothing_up(system):
    system.redis.hset(Q + "stats", "succeeded", "many")
    system.redis.set(Q + "dead_bytes", "many")
    system.stub.fault("")
    system.push("translate", *jobs(200), *[{"id": f"d{i}", "text": "stub(status=400)"} for i in range(20)])
    w = system.worker(threads=4, queues="translate")
    until(lambda: system.results("translate") == 220, what="all are done")
    assert system.stub.count() == 220 and not lines(w, "redis refuses a command")
    assert system.redis.hgetall(Q + "stats") == {b"succeeded": b"many", b"failed": b"20"}
    assert int(system.redis.get(Q + "dead_bytes")) == sum(len(x) for x in system.redis.lrange(Q + "dead", 0, -1))
