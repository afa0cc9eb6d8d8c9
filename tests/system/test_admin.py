"""What the outside asks of a worker: the admin endpoints, and what it tells a service manager."""
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import pytest
from conftest import until


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


@pytest.mark.faults
def test_a_stuck_loop_is_told(system):
    """/healthz says so, and by the same look the watchdog gets no sign of life: the manager may restart it."""
    w = system.worker(admin_listen="127.0.0.1:0", lease_ms=1000, FAULT="tick:before=stall@4")
    at = admin(w)
    until(lambda: get(at + "/healthz")[0] == 503, 20, "the keeper is stuck")
    w.kill()
