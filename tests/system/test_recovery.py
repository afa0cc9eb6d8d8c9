"""Kill, stop, cut and restart: nothing is lost, nothing is answered twice."""
import base64
import json
import signal
import subprocess
import threading
import time

import pytest
from conftest import BUILD, SANITIZED, SLOW, System, Wire, every_kind_of_key, start, until

WAV = b"RIFF\0\0\0\0WAVE"
JOBS = 10_000 if not SANITIZED else 1_500


def jobs(n, text="job", **more):
    return [{"id": f"{i}", "text": f"{text} {i}", **more} for i in range(n)]


@pytest.mark.core
def test_many_jobs_one_result_each(system):
    system.push("translate", *jobs(2000))
    system.worker(threads=16)
    system.reconcile("translate", 2000)
    assert system.stats("translate") == {"succeeded": 2000}
    assert system.stub.count() == 2000
    for i in range(0, 2000, 97):
        assert system.result("translate", str(i))["result"]["text"] == f"[tw] job {i}"
    system.workers[0].stop()
    assert not system.redis.keys("adwuma:*worker*")


@pytest.mark.core
def test_kill_one_of_two_in_the_middle(system):
    """kill -9 in full flight: every result appears, once, within lease + 10 s."""
    system.stub.fault("delay=2")
    system.push("translate", *jobs(JOBS))
    victim, survivor = system.worker(threads=16), system.worker(threads=16)
    until(lambda: system.stats("translate").get("succeeded", 0) > JOBS // 4, 60, "a quarter is done")
    assert system.redis.keys("adwuma:*slot*")
    victim.kill()
    killed = time.monotonic()
    until(lambda: system.results("translate") == JOBS, 60, "all results")
    if not SANITIZED:
        assert time.monotonic() - killed < 2 + 10
    system.reconcile("translate", JOBS)
    stats = system.stats("translate")
    assert stats["succeeded"] == JOBS
    # The victim's calls were made once more, nothing else: 16 that ran, and ended ones that were gathered or on their way.
    assert JOBS <= system.stub.count() <= JOBS + 16 + 32 + 64
    until(lambda: system.redis.zcard("adwuma:{translate}:workers") == 1, 10, "the dead worker is off the list")
    assert survivor.process.poll() is None


@pytest.mark.core
def test_dead_workers_jobs_run_elsewhere_in_time(system):
    system.push("translate", *jobs(8, "x stub(hang)", max_attempts=1))
    victim = system.worker(threads=8)
    until(lambda: system.stub.count() == 8, what="all are called")
    system.worker(threads=8)
    victim.kill()
    began = time.monotonic()
    until(lambda: system.stub.count() == 16, 30, "all are called again")
    assert time.monotonic() - began < (2 + 3) * (3 if SANITIZED else 1)
    assert system.workers[1].stop_at_once() == 0
    assert system.redis.llen("adwuma:{translate}:ready") == 8


def test_a_new_worker_takes_over_from_the_only_one(system):
    system.push("translate", *jobs(20, "x stub(delay=400)"))
    system.worker(threads=4)
    until(lambda: system.stub.count() >= 4, what="calls run")
    system.workers[0].kill()
    system.worker(threads=4)
    system.reconcile("translate", 20)


def test_a_job_that_kills_its_workers_is_given_up(system):
    for n in range(2):
        system.push("translate", *([{"id": "poison", "text": "x stub(hang)"}] if n == 0 else []))
        w = system.worker(max_crashes=2, lease_ms=1000)
        until(lambda n=n: system.stub.count() == n + 1, 20, "it is called")
        w.kill()
    system.worker(max_crashes=2, lease_ms=1000)
    r = system.result("translate", "poison", 20)
    assert r["error"]["type"] == "WorkerCrashError" and not r["error"]["retryable"]
    assert system.stub.count() == 2 and system.dead("translate")[0]["job"]["id"] == "poison"


def test_hold_and_a_dead_worker(system):
    """What had been sent is not sent again; what had not begun is simply done."""
    system.push("translate", {"id": "sent", "text": "x stub(hang)", "if_unsure": "hold"})
    w = system.worker(threads=1, lease_ms=1000)
    until(lambda: system.stub.count() == 1, what="it is sent")
    w.kill()
    assert system.redis.ttl(system.redis.keys("adwuma:{translate}:sent:*")[0]) > 7 * 86400  # nobody may look for days
    system.push("translate", {"id": "fresh", "text": "y", "if_unsure": "hold"})
    system.worker(threads=1, lease_ms=1000)
    assert system.result("translate", "sent", 20)["error"]["type"] == "UnknownOutcomeError"
    assert system.result("translate", "fresh")["status"] == "succeeded"
    assert system.stub.count() == 2


def test_hold_is_not_sent_by_who_lost_the_lease_before_the_mark(wire, system):
    """The mark comes too late for whoever took the job from us: it was simply done elsewhere."""
    cut = system.worker(redis_url="unix://" + wire.path, lease_ms=1000)
    wire.hold_at = b"sent:"
    system.push("translate", {"id": "a", "text": "x", "if_unsure": "hold"})
    until(lambda: not wire.open.is_set(), what="the mark is on its way")
    wire.hold_at = None
    system.worker(lease_ms=1000)
    assert system.result("translate", "a", 20)["status"] == "succeeded"
    wire.open.set()
    until(lambda: "lease" in cut.log(), what="it has seen what happened")
    assert system.do("translate", text="next")["status"] == "succeeded"
    assert cut.stop() == 0
    assert system.stub.count() == 2


def test_hold_whose_staged_audio_is_lost_is_not_sent_again(system):
    """What was paid for is lost between the answer and the result; only rerun may pay again."""
    w = system.worker()
    for unsure in ("hold", "rerun"):
        result = f"adwuma:{{synthesize}}:result:{unsure}"
        system.redis.set(result, "in the way")
        system.push("synthesize", {"id": unsure, "text": unsure, "language": "twi", "if_unsure": unsure})
        until(lambda: system.redis.keys("adwuma:{synthesize}:stage:*") and "wrong type" in w.log(), what="the result waits")
        system.redis.delete(*system.redis.keys("adwuma:{synthesize}:stage:*"), result)
    assert system.result("synthesize", "hold")["error"]["type"] == "UnknownOutcomeError"
    assert system.result("synthesize", "rerun")["status"] == "succeeded"
    assert system.stub.count() == 3
    assert [d["job"]["id"] for d in system.dead("synthesize")] == ["hold"]


@pytest.mark.core
def test_stopped_beyond_its_lease_is_fenced(system):
    """SIGSTOP in a call, another does the job, SIGCONT: one result, and the late one is refused and counted."""
    sleeper = system.worker(threads=2, lease_ms=1000)
    system.push("translate", {"id": "a", "text": "x stub(delay=600)"})
    until(lambda: system.stub.count() == 1, what="it is called")
    sleeper.send(signal.SIGSTOP)
    other = system.worker(threads=2, lease_ms=1000)
    first = system.result("translate", "a", 20)
    sleeper.send(signal.SIGCONT)
    until(lambda: system.stats("translate").get("fenced"), 10, "the late commit is refused")
    assert system.result("translate", "a") == first and system.redis.llen("adwuma:{translate}:result:a") == 1
    assert system.stub.count() == 2
    # It goes on under a new id.
    until(lambda: system.redis.zcard("adwuma:{translate}:workers") == 2, 10, "it is listed again")
    other.stop()
    assert system.do("translate", text="y")["worker"].endswith(".1")


@pytest.mark.core
@pytest.mark.parametrize("late", ["result", "large", "retry", "failure"])
def test_a_late_settlement_does_not_touch_what_another_worker_does(system, late):
    """The sleeper wakes up while another has the job in hand: whatever it has to say of it is refused, and the other's result counts."""
    system.stub.fault({"retry": "status=500,delay=300", "failure": "status=400,delay=300"}.get(late, "delay=300"))
    sleeper = system.worker(threads=1, lease_ms=1000)
    system.push("translate", {"id": "a", "text": "x", "pad": "p" * (5000 if late == "large" else 1)})
    until(lambda: system.stub.count() == 1, what="it is called")
    sleeper.send(signal.SIGSTOP)
    until(lambda: system.stub.stats()["active"] == 0, what="its answer is there")
    system.stub.fault("hang")
    other = system.worker(threads=1, lease_ms=1000)
    until(lambda: system.stub.count() == 2, 20, "the other calls")
    sleeper.send(signal.SIGCONT)
    until(lambda: "lease " in sleeper.log(), 20, "the sleeper knows")
    if late in ("result", "large", "failure"):
        until(lambda: system.stats("translate") == {"fenced": 1}, 20, "its result is refused")
    assert not system.results("translate") and not system.dead("translate") and system.redis.zcard("adwuma:{translate}:delayed") == 0
    assert len(system.redis.keys("adwuma:{translate}:slot:*")) == 1
    assert sleeper.stop() == 0
    system.stub.fault("")
    assert other.stop_at_once() == 0  # its call hangs: the job goes back, untouched
    system.worker()
    assert system.result("translate", "a")["attempts"] == 1
    system.reconcile("translate", 1)


@pytest.mark.core
def test_graceful_stop_finishes_what_runs(system):
    system.push("translate", *jobs(60, "x stub(delay=300)"))
    w = system.worker(threads=8)
    until(lambda: system.stub.count() >= 8, what="calls run")
    assert w.stop() == 0
    done = system.results("translate")
    assert done >= 8 and system.redis.llen("adwuma:{translate}:ready") == 60 - done
    assert system.stub.count() == done  # no paid call was wasted
    assert not system.redis.keys("adwuma:*slot*") and not system.redis.keys("adwuma:*worker*")
    system.worker(threads=8)
    system.reconcile("translate", 60)
    assert system.stub.count() == 60


@pytest.mark.core
@pytest.mark.parametrize("how", ["second signal", "drain timeout"])
def test_stop_hands_back_what_does_not_end(system, how):
    system.push("translate", *jobs(3, "x stub(hang)"), {"id": "h", "text": "x stub(hang)", "if_unsure": "hold"})
    w = system.worker(threads=4, drain_timeout_s=1 if how == "drain timeout" else 60)
    until(lambda: system.stub.count() == 4, what="calls run")
    if how == "drain timeout":
        w.send(signal.SIGTERM)
    if how == "second signal":
        assert w.stop_at_once() == 0
    assert w.process.wait(20) == 0
    assert system.redis.llen("adwuma:{translate}:ready") == 3
    assert system.result("translate", "h")["error"]["type"] == "UnknownOutcomeError"
    assert not system.redis.keys("adwuma:*slot*") and not system.redis.keys("adwuma:*worker*")
    assert b'"attempt"' not in b"".join(system.redis.lrange("adwuma:{translate}:ready", 0, -1))


def test_quiet_and_go_on(system):
    w = system.worker()
    w.send(signal.SIGTSTP)
    until(lambda: "taking no more jobs" in w.log(), what="quiet")
    system.push("translate", *jobs(5))
    w.send(signal.SIGUSR1)
    until(lambda: w.log().count("event=thread") == 8, what="threads are logged")
    assert system.stub.count() == 0
    w.send(signal.SIGCONT)
    system.reconcile("translate", 5)


def test_pause_and_resume(system):
    system.worker()
    system.redis.set("adwuma:{translate}:paused", "maintenance")
    until(lambda: "queue paused" in system.workers[0].log(), what="pause is seen")
    system.push("translate", *jobs(5))
    assert system.do("synthesize", text="x", language="twi")["status"] == "succeeded"
    assert system.stub.count() == 1
    system.redis.delete("adwuma:{translate}:paused")
    system.reconcile("translate", 5)


def test_a_pause_takes_effect_at_once(system):
    """From the moment at which the key stands, nothing more leaves the list."""
    system.stub.fault("delay=2")
    system.push("translate", *jobs(3000))
    system.worker(threads=8, lease_ms=60000)
    until(lambda: system.stats("translate").get("succeeded", 0) > 200, what="jobs run")
    with system.redis.pipeline() as both:
        left = both.set("adwuma:{translate}:paused", "now").llen("adwuma:{translate}:ready").execute()[1]
    assert left > 500
    until(lambda: not system.redis.keys("adwuma:{translate}:slot:*"), what="what was taken is done")
    assert system.redis.llen("adwuma:{translate}:ready") >= left
    system.redis.delete("adwuma:{translate}:paused")
    system.reconcile("translate", 3000)


@pytest.mark.parametrize("lease_ms,call_ms", [
    (2000, 3500),
    pytest.param(1000, 3000, id="long calls")])
def test_nobody_is_taken_for_dead_when_redis_was_away(durable, lease_ms, call_ms):
    """An outage longer than the lease: all leases have run out, and still no call is made twice."""
    durable.stub.fault(f"delay={call_ms}")
    durable.push("translate", *jobs(8))
    workers = [durable.worker(threads=4, lease_ms=lease_ms) for _ in range(2)]
    until(lambda: durable.stub.count() == 8, what="calls run")
    durable.server.kill()
    time.sleep(1.25 * lease_ms / 1000)  # longer than the lease: this is the case itself
    durable.server.start()
    durable.reconcile("translate", 8)
    assert durable.stub.count() == 8 and durable.stats("translate") == {"succeeded": 8}
    assert not any("dead worker" in w.log() for w in workers)


def test_nobody_is_taken_for_dead_by_one_who_comes_while_redis_hangs(system):
    """Leases run out while nobody can renew them; the newcomer is served first when Redis goes on, and must not take that for death."""
    system.stub.fault("delay=6000")
    system.push("translate", *jobs(4))
    old = system.worker(threads=4, lease_ms=1000)
    until(lambda: system.stub.count() == 4, what="calls run")
    old.send(signal.SIGSTOP)  # so that it is served last, for certain
    system.server.process.send_signal(signal.SIGSTOP)
    new = system.worker(wait=False, threads=4, lease_ms=1000)
    time.sleep(2 * SLOW)  # longer than the lease: this is the case itself
    system.server.process.send_signal(signal.SIGCONT)
    until(lambda: system.lists(new), what="the newcomer is listed")
    time.sleep(0.7)  # nearly a round of its keeper, in which it would take the others for dead; that nothing happens cannot be polled for
    old.send(signal.SIGCONT)
    system.reconcile("translate", 4)
    assert system.stub.count() == 4 and "dead worker" not in new.log()


def test_redis_restarts_under_load(durable):
    system = durable
    system.stub.fault("delay=3")
    w = system.worker(threads=8)
    for round_ in range(2):
        system.push("translate", *({**job, "id": f"{round_}-{job['id']}"} for job in jobs(750)))
        done = system.stats("translate").get("succeeded", 0)
        until(lambda done=done: system.stats("translate").get("succeeded", 0) > done + 200, 60, "some are done")
        system.server.kill()
        until(lambda n=round_ + 1: w.log().count("redis lost") == n, what="the loss is seen")
        system.server.start()
        until(lambda: w.log().count("redis back") == w.log().count("redis lost"), what="the return is seen")
    system.reconcile("translate", 1500)
    log = w.log()
    assert system.stats("translate")["succeeded"] == 1500
    assert log.count("redis lost") == log.count("redis back") == 2, log


def test_answers_are_kept_while_redis_is_away(durable):
    """Calls that end during an outage are written afterwards, not made again."""
    system = durable
    system.push("translate", *jobs(8, "x stub(delay=600)"))
    system.worker(threads=8, lease_ms=10000)
    until(lambda: system.stub.count() == 8, what="calls run")
    system.server.kill()
    until(lambda: "redis lost" in system.workers[0].log(), what="the loss is seen")
    until(lambda: system.stub.stats()["active"] == 0, what="the calls have ended")
    system.server.start()
    system.reconcile("translate", 8)
    assert system.stub.count() == 8


@pytest.mark.parametrize("queue, job", [
    ("translate", {"text": "x stub(delay=600)"}),
    ("translate", {"text": "Said once, stub(delay=600) " + "and again, " * 120 + "to the end."}),
    ("synthesize", {"text": "x stub(delay=600)", "language": "twi"})], ids=["text", "long text", "audio"])
def test_answers_are_kept_while_redis_is_away_and_the_worker_is_stopped_at_once(durable, queue, job):
    """Until its last word is over, what was answered is waited for, also what is written before the result."""
    system = durable
    system.push(queue, {"id": "a", **job})
    w = system.worker(lease_ms=10000)
    until(lambda: system.stub.count() >= 1, what="the call runs")
    system.server.kill()
    until(lambda: "redis lost" in w.log(), what="the loss is seen")
    until(lambda: system.stub.stats()["active"] == 0, what="the call has ended")
    w.send(signal.SIGTERM)
    until(lambda: "stopping" in w.log(), what="it stops")
    w.send(signal.SIGTERM)
    until(lambda: "handing running jobs back" in w.log(), what="it hurries")
    time.sleep(1)  # so long Redis stays away
    system.server.start()
    assert w.process.wait(20) == 0
    calls = system.stub.count()
    system.worker(lease_ms=10000)
    assert system.result(queue, "a")["status"] == "succeeded"
    texts = [c["text"] for c in system.stub.calls()]
    assert calls == 1 and len(texts) == len(set(texts))


def test_connections_killed_and_scripts_flushed_under_load(system):
    system.stub.fault("delay=2")
    system.push("translate", *jobs(3000))
    system.redis.execute_command("ACL", "SETUSER", "theirs", "on", ">p", "~*", "&*", "+@all")
    system.worker(threads=8, redis_username="theirs", redis_password="p")
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            system.redis.script_flush()
            system.redis.execute_command("CLIENT", "KILL", "USER", "theirs")
            stop.wait(0.05)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        until(lambda: system.results("translate") == 3000, 60, "all results")
    finally:
        stop.set()
        thread.join()
    system.reconcile("translate", 3000)
    assert system.stub.count() == 3000  # adopted, not called again


def test_full_redis_refuses_claims_but_no_result(system):
    system.push("translate", *jobs(4, "x stub(delay=500)"))
    system.worker(threads=4)
    until(lambda: system.stub.count() == 4, what="calls run")
    system.redis.config_set("maxmemory", "1")
    until(lambda: system.results("translate") == 4, what="results are written")
    system.redis.config_set("maxmemory", "0")
    system.push("translate", {"id": "after", "text": "x"})
    assert system.result("translate", "after")["status"] == "succeeded"
    assert system.stats("translate") == {"succeeded": 5}


def test_a_full_redis_does_not_look_like_a_dead_fleet(system):
    """Leases are renewed though Redis refuses to take more; what was in hand is written."""
    system.push("translate", *jobs(4, "x stub(delay=2500)"))
    w = system.worker(threads=4, lease_ms=1000)
    until(lambda: system.stub.count() == 4, what="calls run")
    system.redis.config_set("maxmemory", "1")
    until(lambda: system.results("translate") == 4, what="results are written")
    assert "lease lost" not in w.log() and system.stats("translate") == {"succeeded": 4}
    system.redis.config_set("maxmemory", "0")


def test_staged_audio_passes_a_full_redis(system):
    system.push("synthesize", {"id": "s", "text": "x stub(delay=500)", "language": "twi"})
    system.worker()
    until(lambda: system.stub.count() == 1, what="call runs")
    system.redis.config_set("maxmemory", "1")
    until(lambda: system.redis.llen("adwuma:{synthesize}:result:s"), what="result is written")
    system.redis.config_set("maxmemory", "0")
    r = system.result("synthesize", "s")
    assert system.redis.strlen(r["result"]["audio_key"]) == r["result"]["bytes"]
    assert not system.redis.keys("adwuma:*stage*")


def refused_audio(system):
    """A worker with a job whose audio Redis does not take: a right is missing, for this kind of key only."""
    system.redis.execute_command("ACL", "SETUSER", "w", "on", ">p", "~*", "&*", "+@all")
    w = system.worker(redis_username="w", redis_password="p")
    kinds = [kind for kind in every_kind_of_key() if kind != "stage:*"]
    assert len(kinds) > 10
    system.redis.execute_command("ACL", "SETUSER", "w", "resetkeys", *("~*:" + kind for kind in kinds))
    system.push("synthesize", {"id": "a", "text": "x", "language": "twi"})
    until(lambda: "audio refused" in w.log(), what="it is told")
    return w


def test_audio_that_redis_refuses_is_told_once(system):
    """Nothing else would say why the job does not end."""
    w = refused_audio(system)
    time.sleep(1)
    refused = [line for line in w.log().splitlines() if "audio refused" in line]
    assert len(refused) == 1 and "NOPERM" in refused[0] and "job=a" in refused[0] and "audio taken" not in w.log()
    system.redis.execute_command("ACL", "SETUSER", "w", "allkeys")
    assert system.result("synthesize", "a")["status"] == "succeeded" and w.log().count("audio taken") == 1


def test_a_stop_hands_back_the_job_whose_audio_redis_refuses(system):
    """Waiting for the answer to be taken ends before the time for handing back does."""
    w = refused_audio(system)
    assert w.stop_at_once() == 0
    assert system.redis.llen("adwuma:{synthesize}:ready") == 1 and not system.redis.keys("*slot*")
    system.worker()
    assert system.result("synthesize", "a")["status"] == "succeeded"


def test_redis_absent_at_start(system):
    system.server.stop()
    w = system.worker(wait=False)
    until(lambda: "redis lost" in w.log(), what="it waits")
    system.server.start()
    assert system.do("translate", text="x")["status"] == "succeeded"
    until(lambda: "redis back" in w.log(), what="all connections are back")
    assert w.log().count("redis lost") == 1 and w.log().count("redis back") == 1


def test_redis_absent_and_stopped(system):
    system.server.stop()
    w = system.worker(wait=False)
    until(lambda: "redis lost" in w.log(), what="it waits")
    assert w.stop() == 0
    system.server.start()


def test_stop_without_redis_is_69_and_loses_nothing(durable):
    system = durable
    system.push("translate", *jobs(2, "x stub(hang)"))
    w = system.worker(threads=2, drain_timeout_s=1, lease_ms=1000)
    until(lambda: system.stub.count() == 2, what="calls run")
    system.server.kill()
    assert w.stop(seconds=40) == 69
    w.expected = 69
    system.server.start()
    system.stub.fault("")
    system.worker(threads=2, lease_ms=1000)
    until(lambda: system.stub.count() == 4, 20, "both are called again")
    assert system.workers[1].stop_at_once() == 0


def test_flushall_under_way(system):
    system.worker(lease_ms=1000)
    system.do("translate", text="x")
    system.redis.flushall()
    assert system.do("translate", text="y", seconds=15)["status"] == "succeeded"


def test_a_job_left_in_an_own_slot_is_adopted(system):
    """As a claim would leave it that was carried out after its connection had broken."""
    w = system.worker(lease_ms=1000)
    worker = system.redis.zrange("adwuma:{translate}:workers", 0, 0)[0].decode()
    system.redis.lpush(f"adwuma:{{translate}}:slot:{worker}:77", '{"id":"stray","text":"x"}')
    assert system.result("translate", "stray", 20)["status"] == "succeeded"
    assert w.stop() == 0


def test_a_job_in_any_own_slot_is_found(system):
    """Also in the one that the running wait is to fill, where a wait of a broken connection may have been served late."""
    system.worker(lease_ms=1000, queues="translate")
    worker = system.redis.zrange("adwuma:{translate}:workers", 0, -1)[0].decode()
    until(lambda: any(c["cmd"] == "blmove" for c in system.redis.client_list()), what="it waits")
    slots = int(system.redis.hget("adwuma:{translate}:worker:" + worker, "slots"))
    pipe = system.redis.pipeline()
    for n in range(slots):
        pipe.rpush(f"adwuma:{{translate}}:slot:{worker}:{n}", json.dumps({"id": f"s{n}", "text": "x"}))
    pipe.execute()
    system.reconcile("translate", slots)
    assert system.stub.count() == slots



def test_wrong_type_at_a_result_key_waits_and_goes_on(system):
    system.redis.set("adwuma:{translate}:result:w", "in the way")
    system.worker()
    # EXISTS says that there is a result: the job counts as a duplicate only while the key is a list; here it waits.
    system.push("translate", {"id": "w", "text": "x stub(delay=200)"})
    assert system.do("translate", text="others go on")["status"] == "succeeded"
    system.redis.delete("adwuma:{translate}:result:w")
    until(lambda: system.redis.llen("adwuma:{translate}:result:w") == 1, 10, "it is written once the key is gone")


@pytest.mark.release
def test_1000_jobs_under_valgrind(system):
    """Of all kinds and fates, with a lost connection in the middle: no leak, no use of what is not ours. No audio_root: valgrind knows no openat2."""
    system.redis.set("adwuma:{translate}:audio:a", WAV * 50_000)
    shapes = [{"text": "plain"}, {"text": "ɛ stub(status=500,retry_after=0,times=1)", "traceparent": "00-ab-cd-01"}, {"text": "stub(status=400,body=e1)"}, {"text": 5}, {"text": "stub(reset)", "max_attempts": 1},
              {"type": "synthesize", "text": "say", "language": "twi", "output": "base64"}, {"type": "synthesize", "text": "say", "language": "twi"},
              {"type": "transcribe", "audio_path": "a.wav"}, {"type": "transcribe", "audio_key": "adwuma:{translate}:audio:a", "timestamps": "word"},
              {"type": "transcribe", "audio_base64": base64.b64encode(WAV).decode()}, {"text": "careful", "if_unsure": "hold", "reply": "r"}, {"type": "transcribe", "audio_path": "../a.wav"},
              {"text": "late", "expires_at_ms": 1}]
    for i in range(1000):
        shape = shapes[i % len(shapes)] if i % 2 else shapes[0]
        system.push("translate", {"id": f"{i}", **shape, **({"text": f"{shape['text']} {i}"} if isinstance(shape.get("text"), str) else {})})
    log = f"{system.folder}/valgrind.log"
    p = start(["valgrind", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--errors-for-leak-kinds=definite,indirect,possible",
               "--error-exitcode=9", "--log-file=" + log, BUILD + "/adwumad"], env=system.env(threads=4, lease_ms=30000), stderr=subprocess.DEVNULL)
    until(lambda: system.results("translate") > 500, 90, "half the results")
    system.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    system.push("translate", "no json", '{"id":"same","text":"x"}', '{"id":"same","text":"x"}')
    until(lambda: system.results("translate") == 1001, 90, "all results")
    p.terminate()
    assert p.wait(60) == 0, open(log).read()[-4000:]
    system.reconcile("translate", 1001, without_id=1)


def test_a_large_dead_worker_does_not_cost_the_keeper_its_own_lease(tmp_path, stub, server):
    """Each job of a dead worker takes a few trips. Far from Redis many of them take longer than a lease, and others would then empty the keeper's own slots."""
    class Far(Wire):
        def loses(self):
            time.sleep(0.005)
            return False

    wire, system, dead = Far(tmp_path, server.socket), System(tmp_path, stub, server), "gone-1-aaaaaaaa.0"
    try:
        w = system.worker(redis_url="unix://" + wire.path, queues="translate")
        pipe = system.redis.pipeline(transaction=False)
        pipe.hset("adwuma:{translate}:worker:" + dead, "slots", 300)
        for i in range(300):
            pipe.rpush(f"adwuma:{{translate}}:slot:{dead}:{i}", json.dumps({"id": f"{i}", "text": f"left behind {i}"}))
        pipe.zadd("adwuma:{translate}:workers", {dead: 1})
        pipe.execute()
        until(lambda: system.results("translate") == 300, 40, "all are done")
        until(lambda: system.redis.zscore("adwuma:{translate}:workers", dead) is None, 10, "it is struck off")
        assert stub.count() == 300 and "lease" not in w.log(), w.log()[-2000:]
    finally:
        system.finish()
        wire.stop()
