"""What the outside asks of a worker: the admin endpoints, and what it tells a service manager."""
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import BUILD, SLOW, until


def get(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def admin(worker):
    found = until(lambda: re.search(r"admin listens\" port=(\d+)", worker.log()), what="it listens")
    return f"http://127.0.0.1:{found[1]}"


def test_what_each_endpoint_says(system):
    w = system.worker(admin_listen="127.0.0.1:0", queues="translate,right")
    at = admin(w)
    until(lambda: get(at + "/readyz") == (200, "ok\n"), what="it is ready")
    assert get(at + "/healthz") == (200, "ok\n")
    system.push("translate", {"id": "a", "text": "x stub(hang)"}, {"id": "b"})
    system.result("translate", "b")
    until(lambda: json.loads(get(at + "/status")[1])["queues"][0]["dead"] == 1, what="figures come")
    status = json.loads(get(at + "/status")[1])
    assert status["state"] == "running" and status["threads"] == {"busy": 1, "idle": 7} and status["redis"]["up"]
    assert 0 <= status["redis"]["last_answer_age_ms"] < 5000 and status["worker"] in w.log()
    assert [q["queue"] for q in status["queues"]] == ["translate", "right"] and status["queues"][0]["running"] == 1
    code, text = get(at + "/metrics")
    metrics = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert code == 200 and metrics['adwuma_queue_jobs{queue="translate",state="dead"}'] == "1" and metrics["adwuma_redis_up"] == "1"
    assert metrics['adwuma_threads{state="busy"}'] == "1" and float(metrics["adwuma_redis_last_answer_age_seconds"]) < 5
    assert get(at + "/nothing")[0] == 404 and get(at + "/healthz", "POST")[0] == 405 and get(at + "/healthz", "HEAD") == (200, "")
    w.send(signal.SIGTSTP)
    until(lambda: get(at + "/readyz")[0] == 503, what="quiet is not ready")
    assert get(at + "/healthz")[0] == 200 and json.loads(get(at + "/status")[1])["state"] == "quiet"
    w.send(signal.SIGCONT)
    until(lambda: get(at + "/readyz")[0] == 200, what="ready again")
    system.redis.zadd("adwuma:{translate}:cancelled", {"a": time.time() * 1000})


def figures(at):
    """Every sample of /metrics: {'adwuma_threads{state="busy"}': 1.0}; each is declared, and stands there once."""
    lines = get(at + "/metrics")[1].splitlines()
    declared = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    assert len({name for name, _ in samples}) == len(samples)
    assert {re.sub("_(bucket|sum|count)$", "", name.split("{")[0]) if "_seconds_" in name else name.split("{")[0] for name, _ in samples} <= declared
    return {name: float(value) for name, value in samples}


def counted(at, queue):
    """What became of jobs of the queue, over all types."""
    sums = {}
    for name, value in figures(at).items():
        found = re.match(rf'adwuma_jobs_total{{queue="{queue}",type="[^"]+",outcome="(\w+)"}}', name)
        if found and value:
            sums[found[1]] = sums.get(found[1], 0) + value
    return sums


def test_metrics_count_what_redis_counts(system):
    """Outcomes as in stats, histograms over all that ended, calls and faults as the API saw them."""
    at = admin(system.worker(admin_listen="127.0.0.1:0", queues="translate,taskingai"))
    assert figures(at)['adwuma_jobs_total{queue="translate",type="translate",outcome="failed"}'] == 0
    now = time.time() * 1000
    system.redis.zadd("adwuma:{translate}:cancelled", {"gone": now})
    texts = {"a": "x", "b": "stub(status=500,retry_after=0,times=1)", "c": "stub(status=400)", "d": "stub(html200)", "gone": "x", "e": 5}
    for name, text in texts.items():
        system.do("translate", id=name, text=text, enqueued_at_ms=int(now) - 2000)
    system.do("translate", id="late", text="x", expires_at_ms=1)
    system.do("translate", id="odd", type="nothing")
    system.do("taskingai", id="t", type="taskingai.list_assistants", params={})
    system.push("translate", {"id": "a", "text": "x"})
    until(lambda: system.stats("translate").get("fenced"), what="an id has one result")
    until(lambda: counted(at, "translate") == system.stats("translate"), what=f"{counted(at, 'translate')} is {system.stats('translate')}")
    assert {"succeeded", "failed", "retried", "fenced", "cancelled", "expired"} == set(counted(at, "translate")) and counted(at, "taskingai") == {"succeeded": 1}
    seen = figures(at)
    assert seen['adwuma_job_duration_seconds_count{queue="translate",type="translate"}'] == 7
    assert seen['adwuma_job_duration_seconds_count{queue="translate",type="unknown"}'] == 1
    assert seen['adwuma_jobs_total{queue="taskingai",type="taskingai.list_assistants",outcome="succeeded"}'] == 1
    assert seen['adwuma_queue_latency_seconds_count{queue="translate"}'] == 4 and seen['adwuma_queue_latency_seconds_sum{queue="translate"}'] >= 8
    assert seen['adwuma_queue_latency_seconds_bucket{queue="translate",le="1"}'] == 0 and seen['adwuma_queue_latency_seconds_bucket{queue="translate",le="60"}'] == 4
    calls = {'service="khaya",operation="translate"': 5, 'service="taskingai",operation="list_assistants"': 1}
    assert {labels: seen[f"adwuma_api_duration_seconds_count{{{labels}}}"] for labels in calls} == calls and system.stub.count() == 6
    errors = {name.split("status=")[1]: value for name, value in seen.items() if name.startswith("adwuma_api_errors_total{service=\"khaya\"")}
    assert errors == {'"0"}': 0, '"200"}': 1, '"400"}': 1, '"500"}': 1}
    for name in {name for name in seen if "_bucket{" in name}:
        base, labels = name.split("_bucket{")
        assert seen[name] <= seen[f"{base}_count{{{re.sub(',le=.*', '', labels)}}}"]


def test_jobs_that_are_given_up_are_counted_where_that_is_done(system):
    system.redis.zadd("adwuma:{translate}:workers", {"gone-1-0.0": 1})
    system.redis.hset("adwuma:{translate}:worker:gone-1-0.0", "slots", 1)
    system.redis.lpush("adwuma:{translate}:slot:gone-1-0.0:0", '{"id":"a","text":"x"}')
    at = admin(system.worker(admin_listen="127.0.0.1:0", queues="translate", max_crashes=1))
    assert system.result("translate", "a", 20)["error"]["type"] == "WorkerCrashError"
    until(lambda: counted(at, "translate") == {"failed": 1} == system.stats("translate"), what="it is counted")
    until(lambda: figures(at)["adwuma_jobs_reaped_total"] == 1, what="the job is counted as reaped")


def test_log_lines_of_a_job_name_its_trace(system):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    w = system.worker(log_format="json", log_level="debug")
    for name, text in {"good": "x", "again": "stub(status=500,retry_after=0,times=1)", "bad": "stub(status=400)"}.items():
        assert system.do("translate", id=name, text=text, traceparent=trace)["traceparent"] == trace
    system.do("translate", id="none", text="stub(status=400)")
    lines = [json.loads(line) for line in w.log().splitlines()]
    told = {(line["job"], line["event"]): line for line in lines if "job" in line}
    for job in (("good", "job succeeded"), ("again", "job tried again later"), ("again", "job succeeded"), ("bad", "job failed")):
        assert told[job]["traceparent"] == trace and told[job]["queue"] == "translate"
    assert "traceparent" not in told["none", "job failed"]
    assert [c["traceparent"] for c in system.stub.calls()[:4]] == [trace] * 4


def health(system, *flags, **settings):
    done = subprocess.run([BUILD + "/adwuma", "health", *flags], env=system.env(**settings), capture_output=True, text=True, timeout=20 * SLOW)
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_says_how_a_worker_is(system):
    """The health check of a container: by the worker's own setting, also where that means every address, and past any proxy."""
    w = system.worker(admin_listen="0.0.0.0:0")
    port = admin(w).rsplit(":", 1)[1]
    everywhere = {"admin_listen": "0.0.0.0:" + port}
    assert health(system, admin_listen="127.0.0.1:" + port) == health(system, "--admin-listen", "localhost:" + port) == (0, "ok\n", "")
    assert health(system, **everywhere) == (0, "ok\n", "")
    until(lambda: health(system, "--ready", **everywhere) == (0, "ok\n", ""), what="it is ready")
    assert subprocess.run([BUILD + "/adwuma", "health"], env={**system.env(**everywhere), "http_proxy": "http://127.0.0.1:1"}, timeout=20 * SLOW).returncode == 0
    w.send(signal.SIGTSTP)
    until(lambda: health(system, "--ready", **everywhere) == (1, "", "adwuma: no jobs are taken now: the worker is quiet or stopping (503)\n"), what="quiet is not ready")
    assert health(system, **everywhere) == (0, "ok\n", "")
    w.send(signal.SIGSTOP)
    code, out, err = health(system, **everywhere)  # stopped by somebody, or stuck altogether
    assert (code, out) == (69, "") and "no worker answers at 0.0.0.0:" + port in err
    w.send(signal.SIGCONT)
    code, out, err = health(system, admin_listen="127.0.0.1:1")
    assert (code, out) == (69, "") and "no worker answers at 127.0.0.1:1" in err
    assert health(system, admin_listen="off") == (78, "", "adwuma: admin_listen is off: the worker listens nowhere\n")
    assert health(system, "now")[0] == 2


def test_is_alive_while_redis_was_never_there(system, tmp_path):
    """Else a manager would restart a worker again and again that only waits."""
    w = system.worker(wait=False, admin_listen="127.0.0.1:0", redis_url=f"unix://{tmp_path}/later.sock")
    at = admin(w)
    until(lambda: "redis lost" in w.log(), what="it waits")
    assert get(at + "/healthz") == (200, "ok\n") and get(at + "/readyz") == (503, "redis cannot be reached\n")
    assert json.loads(get(at + "/status")[1])["redis"]["up"] is False and get(at + "/metrics")[0] == 200
    os.symlink(system.server.socket, tmp_path / "later.sock")
    until(lambda: get(at + "/readyz") == (200, "ok\n"), what="it is ready")


def test_ready_is_a_real_write_and_health_is_not(durable):
    """PING would say that all is well."""
    w = durable.worker(admin_listen="127.0.0.1:0", queues="translate")
    at = admin(w)
    until(lambda: get(at + "/readyz")[0] == 200, what="it is ready")
    durable.redis.config_set("maxmemory", 1)
    until(lambda: get(at + "/readyz")[0] == 503, what="a full Redis is no place to work with")
    assert get(at + "/healthz")[0] == 200
    durable.redis.config_set("maxmemory", 0)
    until(lambda: get(at + "/readyz")[0] == 200, what="ready again")
    durable.redis.replicaof("127.0.0.1", "1")
    until(lambda: get(at + "/readyz")[0] == 503, what="a replica takes no writes")
    durable.redis.replicaof("no", "one")
    until(lambda: get(at + "/readyz")[0] == 200, what="ready again")
    durable.server.kill()
    until(lambda: get(at + "/readyz")[0] == 503, what="there is no Redis")
    age = json.loads(get(at + "/status")[1])["redis"]["last_answer_age_ms"]
    until(lambda: json.loads(get(at + "/status")[1])["redis"]["last_answer_age_ms"] > age + 500, what="the last answer grows old")
    assert get(at + "/healthz")[0] == 200 and 'adwuma_redis_up 0' in get(at + "/metrics")[1]
    durable.server.start()
    until(lambda: get(at + "/readyz")[0] == 200, what="ready again")
    assert json.loads(get(at + "/status")[1])["redis"]["reconnects"] >= 1


def test_an_ipv6_address_stands_in_brackets(system):
    probe = socket.socket(socket.AF_INET6)
    try:
        probe.bind(("::1", 0))
        there = True
    except OSError:
        there = False  # a machine without IPv6: then it must be the binding that fails
    probe.close()
    w = system.worker(wait=False, admin_listen="[::1]:0")
    if there:
        assert get(admin(w).replace("127.0.0.1", "[::1]") + "/healthz") == (200, "ok\n")
        until(lambda: system.lists(w), what="worker is listed")
    else:
        w.expected = w.process.wait(20)
        assert w.expected == 78 and "cannot listen on [::1]:0: " in w.log()


def test_an_address_in_use(system):
    """The default one is worth a warning, a chosen one stops the start."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    w = system.worker(wait=False, admin_listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert w.process.wait(20) == 78 and "admin_listen: cannot listen on" in w.log()
    assert "a second worker on a host needs another admin_listen, or off" in w.log()
    w.expected = 78
    default = socket.socket()
    default.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        default.bind(("127.0.0.1", 9464))
        default.listen()
    except OSError:
        pass  # somebody else has it: as good
    w = system.worker(admin_listen=None)
    assert "admin does not listen" in w.log() and system.do("translate", text="x")["status"] == "succeeded"
    default.close()


class Manager:
    """A service manager's end of sd_notify."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)
        self.told = []

    def heard(self, what):
        try:
            while True:
                self.told += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return self.told.count(what)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told(system, tmp_path, abstract):
    path = f"\0adwuma-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager(path)
    system.server.kill()
    env = {"NOTIFY_SOCKET": path.replace("\0", "@"), "WATCHDOG_USEC": "300000"}
    os.environ.update(env)
    try:
        w = system.worker(wait=False)
    finally:
        for name in env:
            del os.environ[name]
    until(lambda: manager.heard("EXTEND_TIMEOUT_USEC=60000000"), what="it asks for time while it waits for Redis")
    assert not manager.heard("READY=1")
    system.server.start()
    until(lambda: manager.heard("READY=1"), what="it is ready")
    signs = manager.heard("WATCHDOG=1")
    until(lambda: manager.heard("WATCHDOG=1") > signs + 3, what="signs of life")
    system.push("translate", {"id": "a", "text": "x stub(delay=2000)"})
    until(lambda: system.stub.count() == 1, what="it runs")
    w.send(signal.SIGTERM)
    until(lambda: manager.heard("STOPPING=1"), what="it says that it stops")
    signs = manager.heard("WATCHDOG=1")
    assert w.process.wait(20) == 0
    assert manager.heard("WATCHDOG=1") > signs + 3  # it drains, and is alive


def test_a_stuck_loop_is_told(system):
    """/healthz says so, and by the same look the watchdog gets no sign of life: the manager may restart it."""
    w = system.worker(admin_listen="127.0.0.1:0", lease_ms=1000, FAULT="tick:before=stall@4")
    at = admin(w)
    until(lambda: get(at + "/healthz")[0] == 503, 20, "the keeper is stuck")
    w.kill()
