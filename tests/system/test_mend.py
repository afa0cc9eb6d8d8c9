"""Mending: failed jobs looked at, tried again and deleted; jobs cancelled, queues paused; who works where; figures that go on."""
import base64
import getpass
import itertools
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis as redis_py
from conftest import SLOW, start, until
from test_cli import ADWUMA, Cli, give_result, on_terminal, slot_in

Q = "adwuma:{translate}:"
NOW = int(time.time() * 1000)


@pytest.fixture(autouse=True)
def now():
    """Ages count from the beginning of each test, not of the run."""
    global NOW
    NOW = int(time.time() * 1000)


@pytest.fixture
def cli(system):
    return Cli(system)


def fault(kind="APIError", message="the API broke", status=500, **more):
    return {"type": kind, "message": message, "status_code": status, "code": None, "details": [], "activity_id": None,
            "retryable": True, "service": "khaya", **more}


def entry(job, age_s=0, as_base64=False, **error):
    """As a worker writes it; job: its bytes as JSON, or a string that is none."""
    if as_base64:
        name, job = "job_base64", json.dumps(base64.b64encode(job).decode())
    else:
        name, job = "job", job if job.startswith("{") else json.dumps(job)
    return f'{{"{name}":{job},"error":{json.dumps(fault(**error))},"died_at_ms":{NOW - age_s * 1000}}}'


def bury(system, queue, *entries):
    """The last is the newest."""
    prefix = f"adwuma:{{{queue}}}:"
    for at in range(0, len(entries), 500):
        system.redis.lpush(prefix + "dead", *entries[at:at + 500])
    system.redis.incrby(prefix + "dead_bytes", sum(len(e.encode()) for e in entries))


def assert_bytes_agree(system, queue="translate"):
    prefix = f"adwuma:{{{queue}}}:"
    left = system.redis.lrange(prefix + "dead", 0, -1)
    told = system.redis.get(prefix + "dead_bytes")
    assert told == (str(sum(map(len, left))).encode() if left else None)


def ready(system, queue="translate"):
    """In the order in which they will be served."""
    return [j.decode() for j in reversed(system.redis.lrange(f"adwuma:{{{queue}}}:ready", 0, -1))]


def fill(system):
    bury(system, "translate",
         entry('{"id":"old","text":"x","attempt":3}', 7200, kind="RateLimitError", status=429),
         entry('{"id":"mid","type":"translate","text":"y"}', 600, message="two\nlines\x1b[31m \x9b é"),
         entry("no json \x00\x07é", 300, kind="InvalidJobError", message="the job is no JSON object", status=0),
         entry(b"\xff\xfe raw", 200, as_base64=True, kind="InvalidJobError", status=0),
         entry('{"text":"nobody"}', 100, kind="InvalidJobError", message="no usable id", status=0),
         entry('{"id":"new","text":"z","n":9007199254740993}', 10))
    bury(system, "bulk", entry('{"id":"syn","type":"synthesize","text":"s"}', 50))


QUEUES = {"queues": "translate,bulk"}


# --- list, show ----------------------------------------------------------------------------------------------------------


def ids(done):
    return [line.split("\t")[1] for line in done.lines[1:]]


def test_dead_list_shows_all_newest_first(system, cli):
    fill(system)
    done = cli("dead", "list", **QUEUES)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.lines]
    assert rows[0] == ["queue", "id", "type", "error", "status", "died", "message"]
    assert [r[1] for r in rows[1:]] == ["new", "-", "-", "-", "mid", "old", "syn"]
    assert rows[1][:5] == ["translate", "new", "translate", "APIError", "500"] and rows[7][:3] == ["bulk", "syn", "synthesize"]
    assert rows[1][5] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((NOW - 10000) // 1000))
    assert rows[5][6] == "two lines?[31m ? é" and "\x1b" not in done.out
    assert cli("dead", "list").lines[1:] == done.lines[1:7]  # bulk is none of the default queues
    code, out = on_terminal(system, "dead", "list")
    assert code == 0 and "\t" not in out and out.splitlines()[1].startswith("translate  new ")


@pytest.mark.parametrize("args, expected", [
    (["old"], ["old"]), (["new", "syn"], ["new", "syn"]), (["--type", "translate"], ["new", "-", "mid", "old"]), (["--type", "synthesize"], ["syn"]),
    (["--error", "APIError"], ["new", "mid", "syn"]), (["--error", "InvalidJobError", "--older-than", "2m"], ["-", "-"]),
    (["--older-than", "1h"], ["old"]), (["--older-than", "0.5h"], ["old"]), (["--newer-than", "55s"], ["new", "syn"]),
    (["--newer-than", "1d", "--older-than", "7m"], ["mid", "old"]), (["--limit", "2"], ["new", "-"]), (["-n", "7", "--queue", "bulk"], ["syn"]),
    (["--newer-than", "365d", "mid"], ["mid"]),
])
def test_dead_list_filters(system, cli, args, expected):
    fill(system)
    done = cli("dead", "list", *args, **QUEUES)
    assert done.code == 0 and ids(done) == expected
    shown = cli("dead", "show", "--json", *args, *(["--all"] if args[0] in ("-n", "--limit") else []), **QUEUES)
    assert shown.code == 0 and shown.out.count("\n") == len(expected)


def test_dead_list_of_unknown_ids_is_exit_1(system, cli):
    fill(system)
    done = cli("dead", "list", "old", "nobody-knows", "new", "--older-than", "1h")
    assert done.code == 1 and ids(done) == ["old"]
    assert done.err.count("not among the dead jobs") == 2 and "job nobody-knows:" in done.err and "job new:" in done.err


def test_dead_entries_as_json_are_the_bytes_that_stand_there(system, cli):
    fill(system)
    raw = [e.decode() for e in system.redis.lrange(Q + "dead", 0, -1)]
    for command in (("list",), ("show", "--all")):
        done = cli("dead", *command, "--json")
        assert done.code == 0 and done.out == "".join('{"queue":"translate",' + e[1:] + "\n" for e in raw)
        assert all(json.loads('{"queue":"translate",' + e[1:]) for e in raw)


def test_dead_show_tells_everything(system, cli):
    fill(system)
    done = cli("dead", "show", "new", "mid")
    assert done.code == 0 and done.out.count("job new\n") == done.out.count("\n\njob mid\n") == 1
    for line in ("  queue: translate", "  type: translate", "  error: APIError (500)", "  message: two lines?[31m ? é", "  retryable: true",
                 '  job: {"id":"new","text":"z","n":9007199254740993}'):
        assert line + "\n" in done.out, line
    odd = cli("dead", "show", "--error", "InvalidJobError").out
    assert odd.count("a job without a usable id\n") == 3 and '  job: {"text":"nobody"}\n' in odd
    assert '  job: "no json \\u0000\\u0007\\u00e9"\n' in odd and f'  job in base64: "{base64.b64encode(bytes([255, 254]) + b" raw").decode()}"\n' in odd


def test_a_list_that_others_have_written_into(system, cli):
    for junk in ("x", b"\xff\xfe\x00", "{}", '{"job":null}', '{"job":{"id":"a"}}', '{"job":{"id":7},"error":5,"died_at_ms":"x"}', '{"job":{"id":"b"},"error":{"type":3,"status_code":"y"}}', "",
                 '{"job":' + "[" * 199 + "]" * 199 + ',"error":{}}', '{"job":{"id":"deep","x":' + "[" * 199 + "]" * 199 + "}}"):
        system.redis.rpush(Q + "dead", junk)
    done = cli("dead", "list")
    assert done.code == 0 and ids(done) == ["-", "-", "-", "-", "a", "-", "b", "-", "-", "deep"]
    assert all(json.loads(line) for line in cli("dead", "list", "--json").lines)
    assert cli("dead", "show", "--all").code == 0
    assert ids(cli("dead", "list", "--older-than", "0s")) == ids(cli("dead", "list", "--newer-than", "365d")) == []
    done = cli("dead", "retry", "--all")
    assert done.code == 1 and done.lines == ["deep", "b", "a"] and "7" not in ready(system)
    assert system.redis.llen(Q + "dead") == 7 and len(ready(system)) == 3
    assert "3 dead jobs are ready again" in done.err and done.err.count("stays dead") == 7
    system.redis.set("adwuma:{bulk}:dead", "x")
    assert cli("dead", "list", "--queue", "bulk").code == 69


# --- retry ---------------------------------------------------------------------------------------------------------------


def test_retry_puts_a_job_back_as_new(system, cli):
    r = system.redis
    fill(system)
    give_result(system, "translate", "old", status="failed", error=fault())
    give_result(system, "translate", "mid", status="failed", error=fault())
    r.lpush(Q + "ready", '{"id":"waits"}')
    r.zadd(Q + "cancelled", {"old": 1, "mid": 1})
    sha = "echo -n '%s' | sha1sum | cut -d' ' -f1"
    crashes = [Q + "crashes:" + subprocess.check_output(sha % j, shell=True, text=True).strip()
               for j in ('{"id":"old","text":"x","attempt":3}', '{"id":"old","text":"x"}')]
    for key in crashes:
        r.set(key, 4)
    done = cli("dead", "retry", "old")
    assert (done.code, done.lines) == (0, ["old"]) and done.err == "adwuma: 1 dead job is ready again\n"
    assert ready(system) == ['{"id":"waits"}', '{"id":"old","text":"x"}']
    assert not r.exists(Q + "result:old", *crashes) and r.exists(Q + "result:mid")
    assert r.zrange(Q + "cancelled", 0, -1) == [b"mid"]
    assert r.llen(Q + "dead") == 5
    assert_bytes_agree(system)
    again = cli("dead", "retry", "old")
    assert again.code == 1 and "job old: not among" in again.err and "0 dead jobs are" in again.err and len(ready(system)) == 2


@pytest.mark.parametrize("died, back", [
    ('{"id":"a","text":"x","attempt":12}', '{"id":"a","text":"x"}'), ('{"attempt":1,"id":"a"}', '{"id":"a"}'),
    ('{"id":"a" , "attempt" : null , "n":[1.0, 2e5]}', '{"id":"a" ,  "n":[1.0, 2e5]}'), ('{ "id":"a" ,"attempt":1}', '{ "id":"a" }'),
    ('{"id":"a","\\u0061ttempt":1,"x":{"attempt":9}}', '{"id":"a","x":{"attempt":9}}'), ('{"id":"a","attempt":1,"attempt":2}', '{"id":"a"}'),
    ('{"id":"a","expires_at_ms":1000,"attempt":2}', '{"id":"a"}'), ('{"expires_at_ms":1,"attempt":2,"id":"a"}', '{"id":"a"}'),
    ('{"id":"a","expires_at_ms":9e15,"attempt":2}', '{"id":"a","expires_at_ms":9e15}'), ('{"id":"a","expires_at_ms":"1"}', '{"id":"a","expires_at_ms":"1"}'),
    ('{"id":"b","id":"a","t":"\\ud800 \\"attempt\\":3,"} ', '{"id":"b","id":"a","t":"\\ud800 \\"attempt\\":3,"}'),
])
def test_retry_keeps_every_other_byte(system, cli, died, back):
    bury(system, "translate", entry(died))
    assert cli("dead", "retry", "a").lines == ["a"]
    assert ready(system) == [back] and not system.redis.exists(Q + "dead", Q + "dead_bytes")


def test_retry_leaves_a_job_alone_that_has_succeeded_since(system, cli):
    """Its producer had pushed it anew: to do it once more would be a call paid twice, and the result gone meanwhile."""
    bury(system, "translate", *[entry(json.dumps({"id": i, "text": "x"})) for i in ("a", "b", "c")])
    give_result(system, "translate", "a", status="succeeded", result={"text": "y"})
    give_result(system, "translate", "b", status="failed", error=fault(details=['"status":"succeeded"', {"status": "succeeded"}]))
    done = cli("dead", "retry", "--all")
    assert (done.code, sorted(done.lines)) == (0, ["b", "c"]) and "job a has succeeded since" in done.err
    assert len(ready(system)) == 2 and system.redis.exists(Q + "result:a") and not system.redis.exists(Q + "result:b", Q + "dead", Q + "dead_bytes")


def test_retried_jobs_run_and_succeed(system, cli):
    """Through real workers, from dying to a result, with tries counted anew."""
    system.stub.fault("status=500")
    worker = system.worker(max_attempts=1)
    system.push("translate", *[{"id": f"j{i}", "text": f"t{i}"} for i in range(20)], "no json", b'{"id":"x\xff"}')
    until(lambda: system.redis.llen(Q + "dead") == 22, what="all have died")
    assert_bytes_agree(system)
    system.stub.fault("")
    done = cli("dead", "retry", "--all")
    assert done.code == 1 and sorted(done.lines) == sorted(f"j{i}" for i in range(20)) and done.err.count("stays dead: its job is no") == 2
    for i in range(20):
        result = system.result("translate", f"j{i}")
        assert (result["status"], result["attempts"], result["result"]["text"]) == ("succeeded", 1, f"[tw] t{i}")
    assert worker.process.poll() is None and system.redis.llen(Q + "dead") == 2
    assert_bytes_agree(system)


def test_retry_takes_the_oldest_first_and_those_that_die_again_once(system, cli):
    bury(system, "translate", *[entry(json.dumps({"id": f"j{i}", "text": "x"}), 1000 - i) for i in range(300)])
    done = cli("dead", "retry", "--all", "--limit", "100")
    assert done.code == 0 and done.lines == [f"j{i}" for i in range(100)]
    assert [json.loads(j)["id"] for j in ready(system)] == done.lines and system.redis.llen(Q + "dead") == 200
    system.stub.fault("status=400")
    system.worker()
    until(lambda: system.redis.llen(Q + "dead") == 300, 30, "they have died again")
    done = cli("dead", "retry", "--all")
    assert done.code == 0 and len(done.lines) == len(set(done.lines)) == 300
    until(lambda: system.redis.llen(Q + "dead") == 300, 30, "they have died again")
    assert_bytes_agree(system)


def test_retry_asks_for_a_choice(system, cli):
    fill(system)
    for command in ("retry", "purge", "show"):
        for args in ((), ("--queue", "translate"), ("--limit", "3"), ("--all", "old"), ("--all", "--error", "X")):
            done = cli("dead", command, *args)
            assert done.code == 2 and "--all" in done.err and done.out == ""
    assert system.redis.llen(Q + "dead") == 6 and not ready(system)


def many(system, n=2000):
    jobs = [json.dumps({"id": f"j{i}", "text": "x" * random.randrange(0, 3000), "attempt": 4}) for i in range(n)]
    bury(system, "translate", *[entry(j, n - i) for i, j in enumerate(jobs)])
    for i in range(n):
        system.redis.rpush(f"{Q}result:j{i}", "{}")


def reconcile(system, n):
    """Each job is dead with its result, or ready without; none is lost and none there twice."""
    look = system.redis.pipeline(transaction=True)  # one step: what a killed command had sent may still be carried out
    raw_ready, raw_dead, results, told = look.lrange(Q + "ready", 0, -1).lrange(Q + "dead", 0, -1).keys(Q + "result:*").get(Q + "dead_bytes").execute()
    back = [json.loads(j) for j in raw_ready]
    dead = [json.loads(e)["job"]["id"] for e in raw_dead]
    assert sorted([j["id"] for j in back] + dead) == sorted(f"j{i}" for i in range(n))
    assert all("attempt" not in j for j in back)
    assert {k.decode() for k in results} == {f"{Q}result:{i}" for i in dead}
    assert told == (str(sum(map(len, raw_dead))).encode() if raw_dead else None)
    return len(back)


def test_retry_killed_many_times_loses_and_doubles_nothing(system, cli):
    many(system)
    kills = moved = 0
    while system.redis.llen(Q + "dead") > 0:
        p = cli.start("dead", "retry", "--all")
        until(lambda: system.redis.llen(Q + "ready") > moved or p.poll() is not None, 20, "it moves")
        time.sleep(random.random() * 0.004)  # somewhere in the middle
        p.kill()
        p.communicate()
        kills += p.returncode == -signal.SIGKILL
        moved = reconcile(system, 2000)
    assert reconcile(system, 2000) == 2000 and kills >= 5


def test_retries_side_by_side(system, cli):
    many(system)
    running = [cli.start("dead", "retry", "--all") for _ in range(4)]
    outs = [p.communicate(timeout=60 * SLOW) for p in running]
    assert [p.returncode for p in running] == [0] * 4, outs
    told = [line for out, _ in outs for line in out.decode().splitlines()]
    assert len(told) == len(set(told)) == 2000
    assert reconcile(system, 2000) == 2000


def test_walks_while_entries_come_and_go(system, cli):
    """New ones on the left, the cap on the right, purges in the middle: what is there from beginning to end is met, and met once."""
    n, r = 4000, system.redis
    wanted = {f"j{i}" for i in range(0, n, 2)}
    bury(system, "translate", *[entry(json.dumps({"id": f"j{i}", "type": ("translate", "other")[i % 2], "text": "x" * 500}), n - i) for i in range(n)])
    stop, skipped, numbers = threading.Event(), [], itertools.count()

    def disturb():
        while not stop.is_set():
            r.lpush(Q + "dead", entry(json.dumps({"id": f"new{next(numbers)}", "text": "x"})))
            if r.llen(Q + "dead") > n // 4:
                skipped.extend(r.rpop(Q + "dead", 3) or [])
                for at in (50, n // 8):
                    found = r.lindex(Q + "dead", at)
                    if found and json.loads(found)["job"]["id"].startswith("j") and r.lrem(Q + "dead", 1, found):
                        skipped.append(found)

    def during(*args):
        stop.clear()
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            return cli(*args)
        finally:
            stop.set()
            thread.join()

    listed = during("dead", "list", "--type", "translate")
    gone = {json.loads(e)["job"]["id"] for e in skipped}
    assert listed.code == 0 and len(set(ids(listed))) == len(ids(listed))
    assert set(ids(listed)) >= wanted - gone and len(gone) > 20
    done = during("dead", "retry", "--type", "translate", "--error", "APIError")
    gone = {json.loads(e)["job"]["id"] for e in skipped}
    assert done.code == 0 and len(set(done.lines)) == len(done.lines)
    assert set(done.lines) >= wanted - gone and not set(done.lines) & gone
    assert [json.loads(j)["id"] for j in ready(system)] == done.lines


def test_retry_in_a_full_redis(system, cli):
    many(system, 500)
    used = system.redis.info("memory")["used_memory"]
    system.redis.config_set("maxmemory", used // 2)
    with pytest.raises(redis_py.ResponseError, match="maxmemory"):
        system.redis.lpush(Q + "ready", "x")
    done = cli("dead", "retry", "--all")
    assert done.code == 0 and len(done.lines) == 500, done.err
    system.redis.config_set("maxmemory", 0)
    assert reconcile(system, 500) == 500


def test_retry_where_a_key_has_a_wrong_type_changes_nothing(system, cli):
    fill(system)
    for key in ("ready", "cancelled", "dead_bytes"):
        before = system.redis.dump(Q + key)
        system.redis.delete(Q + key)
        system.redis.hset(Q + key, "f", "v")
        done = cli("dead", "retry", "old")
        assert done.code == 69 and "WRONGTYPE" in done.err and system.redis.llen(Q + "dead") == 6
        system.redis.delete(Q + key)
        if before:
            system.redis.restore(Q + key, 0, before)
    assert cli("dead", "retry", "old").code == 0


# --- purge ---------------------------------------------------------------------------------------------------------------


def test_purge_deletes_what_is_chosen(system, cli):
    fill(system)
    give_result(system, "translate", "old", status="failed", error=fault())
    done = cli("dead", "purge", "--error", "InvalidJobError", **QUEUES)
    assert (done.code, done.out, done.err) == (0, "", "adwuma: 3 dead jobs deleted\n")
    assert_bytes_agree(system)
    assert ids(cli("dead", "list", **QUEUES)) == ["new", "mid", "old", "syn"]
    assert cli("dead", "purge", "old", "nobody").code == 1
    assert "1 dead job deleted" in cli("dead", "purge", "--older-than", "5m").err
    assert system.redis.exists(Q + "result:old") and not ready(system)
    assert "2 dead jobs deleted" in cli("dead", "purge", "--all", **QUEUES).err
    assert not system.redis.keys("*:dead*")


# --- cancel --------------------------------------------------------------------------------------------------------------


def test_cancel_says_where_each_job_was(system, cli):
    r = system.redis
    later = json.dumps({"id": "later", "text": "x" * 2000, "z": "\u0000"})
    system.push("translate", {"id": "waits"})
    r.zadd("adwuma:{synthesize}:delayed", {later: NOW + 900000, '{"id":"other"}': NOW + 900000})
    slot_in(system, "translate", "h-1-a.0", '{"id":"runs"}')
    give_result(system, "transcribe", "ended")
    bury(system, "translate", entry('{"id":"gone"}'))
    begin = int(time.time() * 1000)
    done = cli("cancel", "waits", "later", "runs", "ended", "gone", "nowhere", "waits")
    assert done.code == 1 and done.out == ""
    told = done.err.splitlines()
    assert told[0] == told[6] == "adwuma: job waits: cancelled in queue translate; it was waiting"
    assert told[1] == "adwuma: job later: cancelled in queue synthesize; it was delayed"
    assert told[2] == "adwuma: job runs: cancelled in queue translate; it was running"
    assert "has its result already, in queue transcribe" in told[3] and "dead in queue translate" in told[4] and "job nowhere: unknown" in told[5]
    cancelled = dict(r.zrange(Q + "cancelled", 0, -1, withscores=True))
    assert set(cancelled) == {b"waits", b"runs"} and all(begin - 1000 <= s <= time.time() * 1000 + 1000 for s in cancelled.values())
    assert r.zrange("adwuma:{synthesize}:cancelled", 0, -1) == [b"later"]
    assert r.zscore("adwuma:{synthesize}:delayed", later) == 0 and r.zscore("adwuma:{synthesize}:delayed", '{"id":"other"}') == NOW + 900000
    assert len(r.keys("*:cancelled")) == 2
    in_advance = cli("cancel", "--queue", "bulk", "nowhere")
    assert in_advance.code == 0 and "not known yet" in in_advance.err and r.zrange("adwuma:{bulk}:cancelled", 0, -1) == [b"nowhere"]


def test_cancel_and_pause_tell_a_queue_that_nobody_serves(system, cli):
    system.push("bulk", {"id": "a"})
    system.redis.zadd("adwuma:{bulk}:workers", {"dead": 1})
    assert cli("cancel", "-q", "bulk", "a", "b").err.count("no worker serves a queue bulk") == 1
    assert "no worker serves a queue bulk" in cli("pause", "bulk").err
    system.redis.zadd("adwuma:{bulk}:workers", {"alive": NOW + 60000})
    for args in (["cancel", "-q", "bulk", "a"], ["pause", "bulk"]):
        done = cli(*args)
        assert done.code == 0 and "no worker" not in done.err


def test_cancelled_jobs_end_with_their_result(system, cli):
    """Waiting, delayed and running ones, with a real worker."""
    system.worker()
    system.push("translate", {"id": "runs", "text": "x stub(hang)"}, {"id": "later", "text": "y", "not_before_ms": int(time.time() * 1000) + 600000})
    until(lambda: system.stub.count() == 1 and system.redis.zcard(Q + "delayed") == 1, what="one runs and one is delayed")
    done = cli("cancel", "runs", "later")
    assert done.code == 0, done.err
    for job_id in ("runs", "later"):
        assert system.result("translate", job_id, 5)["error"]["type"] == "CancelledError"
    again = cli("cancel", "runs")
    assert again.code == 1 and "has its result already" in again.err
    assert not system.dead("translate")


# --- pause, resume -------------------------------------------------------------------------------------------------------


def test_pause_and_resume(system, cli):
    r = system.redis
    done = cli("pause", "translate", "bulk", "--reason", "the \x1b API\n rests")
    assert done.code == 0 and done.out == "" and "queue translate: paused\n" in done.err and done.err.count("no worker serves") == 2
    why = r.get(Q + "paused").decode()
    assert re.fullmatch(r"the \? API  rests \(" + re.escape(f"{getpass.getuser()}@{socket.gethostname()}") + r", \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)", why)
    assert r.ttl(Q + "paused") == -1 and r.get("adwuma:{bulk}:paused").decode() == why
    stats = json.loads(cli("stats", "--json", "-q", "translate").out)
    assert stats["paused"] is True and stats["paused_why"] == why
    again = cli("pause", "translate", "--for", "10m")
    assert again.code == 0 and "paused for 10m; it was paused already: the ? API" in again.err
    assert 590 < r.ttl(Q + "paused") <= 600 and r.get(Q + "paused").startswith(b"paused (")
    done = cli("resume", "translate", "transcribe")
    assert done.code == 0 and "queue translate: goes on\n" in done.err and "queue transcribe: was not paused\n" in done.err
    assert not r.exists(Q + "paused") and r.exists("adwuma:{bulk}:paused")
    r.hset(Q + "paused", "by", "hand")
    assert json.loads(cli("stats", "--json", "-q", "translate").out)["paused"] is True
    assert cli("pause", "translate").code == 69 and cli("resume", "translate").code == 0


def test_a_paused_queue_stands_still(system, cli):
    system.worker()
    assert "no worker" not in cli("pause", "translate", "--for", "3s").err
    begin = time.monotonic()
    assert cli("translate", "--timeout", "1", "a").code == 75
    assert cli("translate", "b").out == "[tw] b\n" and time.monotonic() - begin > 2
    cli("pause", "translate")
    cli("resume", "translate")
    assert cli("translate", "c").out == "[tw] c\n"


def test_who_waits_at_a_paused_queue_is_told_once(system, cli, tmp_path):
    system.worker()
    cli("pause", "translate", "--reason", "the API rests")
    cli("pause", "taskingai")
    (tmp_path / "in").write_text('{"id":"a","type":"translate","text":"x"}\n')
    for args, said in ((["translate", "--timeout", "1", "a", "b"], "queue translate is paused: the API rests ("), (["chat", "-m", "TpAb12Cd", "--timeout", "3", "a"], "queue taskingai is paused: paused ("),
                       (["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--timeout", "3"], "queue translate is paused: the API rests (")):
        done = cli(*args)
        assert done.code == 75 and done.err.count(f"adwuma: {said}") == 1 and f"Z) (adwuma resume {said.split()[1]})\n" in done.err, done.err
    system.redis.delete(Q + "paused")
    system.redis.hset(Q + "paused", "by", "hand")
    assert "adwuma: queue translate is paused (adwuma resume translate)\n" in cli("translate", "--timeout", "1", "a").err


@pytest.mark.parametrize("span,told", [("5", "5s"), ("0.25", "250ms"), ("1.5", "1s500ms"), ("90s", "1m30s"), ("60m", "1h"), ("36h", "1d12h"), ("7d", "7d")])
def test_spans_are_told_in_fitting_units(cli, span, told):
    assert f"queue q: paused for {told}\n" in cli("pause", "q", "--for", span).err


def test_help_and_errors_name_every_form_of_a_span(cli):
    for done in (cli("help", "pause"), cli("pause", "q", "--for", "soon"), cli("help", "dead", "list"), cli("dead", "list", "--older-than", "soon")):
        assert "a bare number is seconds" in done.out + done.err


def test_a_queue_named_twice_is_paused_and_resumed_once(system, cli):
    assert cli("pause", "q", "r", "q").err.count("queue q: paused\n") == 1 and cli("pause", "q", "q").err.count("it was paused already") == 1
    done = cli("resume", "q", "q", "r")
    assert done.err == "adwuma: queue q: goes on\nadwuma: queue r: goes on\n"


# --- workers -------------------------------------------------------------------------------------------------------------


def test_workers_shows_who_holds_what(system, cli):
    worker = system.worker(queues="translate,bulk")
    system.push("translate", {"id": "a", "text": "x stub(delay=20000)", "enqueued_at_ms": 5})
    system.push("bulk", {"id": "b", "type": "translate", "text": "x stub(delay=20000)"})
    until(lambda: system.stub.count() == 2, what="both run")
    slot_in(system, "translate", "h\x1b-2-b.0", "no json", slots=70, n=69)
    system.redis.zadd(Q + "workers", {"h\x1b-2-b.0": int(time.time() * 1000) - 5000})
    done = cli("workers", "--json", **QUEUES)
    seen = [json.loads(line) for line in done.lines]
    assert done.code == 0 and sorted((w["queue"], w["alive"]) for w in seen) == [("bulk", True), ("translate", False), ("translate", True)]
    live = next(w for w in seen if w["alive"] and w["queue"] == "translate")
    assert (live["host"], live["pid"], live["threads"]) == (socket.gethostname(), worker.process.pid, 8)
    assert live["version"] and 0 < live["lease_ms"] <= 2000 and live["slots"] >= 8 and live["started_at_ms"] > NOW - 600000
    job, = live["jobs"]
    assert (job["id"], job["type"], job["enqueued_at_ms"], job["attempts"]) == ("a", "translate", 5, 0)
    dead = next(w for w in seen if not w["alive"])
    assert dead["host"] is None and -60000 < dead["lease_ms"] <= -5000 and dead["jobs"] == [{"slot": 69, "id": None, "type": "translate", "attempts": 0, "enqueued_at_ms": None}]
    rows = [line.split("\t") for line in cli("workers", **QUEUES).lines]
    assert rows[0] == ["queue", "worker", "host", "pid", "version", "threads", "busy", "up", "lease", "jobs"]
    by = {(r[0], r[8] == "alive"): r for r in rows[1:]}
    assert by["translate", True][9] == "a" and by["bulk", True][9] == "b (translate)" and re.fullmatch(r"\d+s", by["bulk", True][7])
    assert by["translate", False][1] == "h?-2-b.0" and re.fullmatch(r"dead \d+s", by["translate", False][8])
    assert cli("workers", "--queue", "none").lines == ["\t".join(rows[0])]
    assert worker.stop_at_once() == 0


def test_workers_of_many_jobs_on_a_terminal(system):
    for n in range(9):
        slot_in(system, "translate", "h-1-a.0", json.dumps({"id": f"j{n}"}), slots=9, n=n)
    code, out = on_terminal(system, "workers")
    assert code == 0 and out.splitlines()[1].endswith("j0, j1, j2, j3 and 5 more")


# --- stats --watch -------------------------------------------------------------------------------------------------------


def watch(cli, *args):
    return cli.start("stats", "--watch", *args, "--queue", "translate")


def test_watch_gives_rates_as_json(system, cli):
    r = system.redis
    r.hset(Q + "stats", "succeeded", 100)
    p = watch(cli, "0.2", "--json")
    first = json.loads(p.stdout.readline())
    assert first["per_second"] is None and first["succeeded"] == 100 and first["at_ms"] > NOW - 600000
    r.hincrby(Q + "stats", "succeeded", 50)
    grown, tick = 0.0, first
    while tick["succeeded"] < 150:
        before, tick = tick, json.loads(p.stdout.readline())
        grown += tick["per_second"]["succeeded"] * (tick["at_ms"] - before["at_ms"]) / 1000
        assert tick["per_second"]["failed"] == 0
    assert 45 < grown < 55
    r.delete(Q + "stats")
    while tick["succeeded"]:
        tick = json.loads(p.stdout.readline())
    assert tick["per_second"]["succeeded"] == 0
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20 * SLOW)
    assert p.returncode == 0 and err == b"" and all(json.loads(line) for line in out.splitlines())


def test_watch_in_blocks(system, cli):
    p = watch(cli)
    block = [p.stdout.readline().decode().rstrip("\n") for _ in range(3)]
    head, row = block[0].split("\t"), block[1].split("\t")
    assert head[0] == "queue" and head[18:] == [n + "/s" for n in head[7:18]] and row[:2] == ["translate", "no worker"] and block[2] == "" and row[18:] == ["-"] * 11
    block = [p.stdout.readline().decode().rstrip("\n") for _ in range(3)]
    assert block[1].split("\t")[18:] == ["0.0"] * 11
    p.send_signal(signal.SIGTERM)
    p.communicate()
    assert p.returncode == 0
    gone = watch(cli, "0.1")
    gone.stdout.close()
    assert gone.wait(20 * SLOW) == 0
    gone.stderr.close()


def test_watch_on_a_terminal_ends_with_ctrl_c(system, cli):
    cli("pause", "translate", "--reason", "rest")
    master, slave = pty.openpty()
    p = start(["setsid", "--ctty", ADWUMA, "stats", "--watch=0.1", "-q", "translate"], env=system.env(), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    out = b""
    while out.count(b"\x1b[H\x1b[J") < 4:
        out += os.read(master, 65536)
    os.write(master, b"\x03")
    try:
        while os.read(master, 65536):
            pass
    except OSError:
        pass
    assert p.wait(20 * SLOW) == 0
    os.close(master)
    assert b"per second" in out and re.search(rb"\ntranslate +paused +0 ", out) and b"translate is paused: rest (" in out


def test_a_key_of_a_wrong_type_hides_no_other_queue(system, cli):
    system.redis.set("adwuma:{transcribe}:delayed", "x")
    cli("pause", "synthesize")
    for args, queue in ((["stats"], lambda line: line.split("\t")[0]), (["stats", "--json"], lambda line: json.loads(line)["queue"])):
        done = cli(*args)
        assert done.code == 69 and done.err.count("adwuma:{transcribe}:delayed: WRONGTYPE ") == 1 and "type it must be" in done.err
        assert [queue(line) for line in done.lines if not line.startswith("queue\t")] == ["translate", "synthesize", "taskingai"]
    p = cli.start("stats", "--watch", "0.1", "--json")
    seen = [json.loads(p.stdout.readline())["queue"] for _ in range(9)]
    assert seen == ["translate", "synthesize", "taskingai"] * 3
    system.redis.delete("adwuma:{transcribe}:delayed")
    assert any(json.loads(line)["queue"] == "transcribe" for line in p.stdout)
    p.send_signal(signal.SIGINT)
    assert p.communicate(timeout=20 * SLOW)[1].count(b"WRONGTYPE") == 1 and p.returncode == 0


def test_watch_goes_on_through_a_lost_connection(system, cli):
    p = watch(cli, "0.1", "--json")
    assert json.loads(p.stdout.readline())["ready"] == 0
    system.server.kill()
    assert re.fullmatch(r"adwuma: Redis at \S+: .+; trying again until it is back\n", p.stderr.readline().decode())
    time.sleep(0.3)  # some tries in vain
    system.server.start()
    system.push("translate", {"id": "a"})
    assert any(json.loads(line)["ready"] == 1 for line in p.stdout)
    p.send_signal(signal.SIGINT)
    err = p.communicate(timeout=20 * SLOW)[1].decode()
    assert p.returncode == 0 and re.fullmatch(r"adwuma: Redis at \S+: it is back\n", err)


# --- Wrong use -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [
    ["dead"], ["dead", "dig"], ["dead", "list", "a b"], ["dead", "list", "--older-than", "soon"], ["dead", "list", "--older-than", "-1s"],
    ["dead", "list", "--newer-than", "9999999d"], ["dead", "list", "--newer-than", "1w"], ["dead", "list", "--limit", "0"], ["dead", "list", "--limit", "x"],
    ["dead", "list", "--limit", "9" * 30], ["dead", "list", "--all"], ["dead", "retry", "--json", "x"], ["cancel"], ["cancel", "a b"], ["pause"],
    ["pause", "Q"], ["pause", "q", "--for", "0"], ["pause", "q", "--for", "x"], ["pause", "q", "--reason", "x" * 5000], ["resume"], ["resume", "Q"],
    ["resume", "q", "--for", "1m"], ["workers", "x"], ["stats", "--watch", "0.01"], ["stats", "--watch=x"], ["stats", "--watch", "x"],
])
def test_wrong_use_is_exit_2(cli, system, args):
    done = cli(*args)
    assert done.code == 2 and done.out == "" and "usage: adwuma" in done.err and done.err.count("\n") <= 7
    assert system.redis.keys("*") == []


def test_no_redis_is_exit_69(cli):
    for args in (["dead", "list"], ["dead", "show", "--all"], ["dead", "retry", "--all"], ["dead", "purge", "x"], ["cancel", "x"], ["pause", "q"], ["resume", "q"],
                 ["workers"], ["stats", "--watch"]):
        done = cli(*args, redis_url="redis://127.0.0.1:1/0")
        assert done.code == 69 and done.out == "" and "127.0.0.1:1" in done.err, args
