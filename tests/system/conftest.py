"""Whole-system tests: real redis-server, real adwumad, the stub API, real sockets.

Every test has a Redis of its own, on a socket in its temporary folder. Programs come from $ADWUMA_BUILD (default build). Nothing here sleeps to
synchronise: conditions are polled with a deadline."""
import json
import os
import re
import signal
import subprocess
import time
import urllib.request

import pytest
import redis as redis_py

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("ADWUMA_BUILD", "build"))
SANITIZED = any(s in BUILD for s in ("address", "thread", "undefined"))
SLOW = 6 if SANITIZED else 1  # sanitized programs get more time, never fewer checks
KEY = "0123456789abcdef-a-secret-key"


def pytest_configure(config):
    config.addinivalue_line("markers", "core: claims, commits, stop, kill: the choice that also runs under the thread sanitizer")


def until(condition, seconds=10, what="condition"):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * SLOW} s: {what}")
        time.sleep(0.005)


class RedisServer:
    def __init__(self, folder, *flags):
        self.folder, self.flags = str(folder), flags
        self.socket = self.folder + "/redis.sock"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "", *self.flags],
                                        stdout=subprocess.DEVNULL)
        self.client = redis_py.Redis(unix_socket_path=self.socket)
        until(self.answers, what="redis answers")

    def answers(self):
        try:
            return self.client.ping()
        except (redis_py.ConnectionError, redis_py.BusyLoadingError):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


class Stub:
    def __init__(self, *flags):
        self.process = subprocess.Popen([BUILD + "/adwuma-stubapi", "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=body.encode() if body is not None else None)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def calls(self):
        return self.ask("GET", "/_stub/calls")

    def count(self):
        return self.ask("GET", "/_stub/stats")["calls"]

    def fault(self, directives):
        self.ask("PUT", "/_stub/fault", directives)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(20) == 0


class Worker:
    """One adwumad. Its log goes to a file; a sanitizer's report in it, or a wrong exit code, fails the test."""

    def __init__(self, folder, number, env, flags=()):
        self.log_path = f"{folder}/worker{number}.log"
        self.expected = 0
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([BUILD + "/adwumad", *flags], env=env, stderr=log, stdout=log)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, sig=signal.SIGTERM, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(seconds * SLOW)

    def kill(self):
        self.expected = -signal.SIGKILL
        self.process.kill()
        self.process.wait()

    def finish(self):
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
            code = self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("adwumad did not stop:\n" + self.log())
        log = self.log()
        assert "Sanitizer" not in log and "runtime error" not in log, log[-8000:]
        assert code == self.expected, f"exit code {code}, expected {self.expected}\n{log[-4000:]}"
        assert KEY not in log


class System:
    """A Redis, a stub, and workers, with the few verbs that tests need."""

    def __init__(self, folder, stub, server):
        self.folder, self.stub, self.server = str(folder), stub, server
        self.workers = []

    @property
    def redis(self):
        return self.server.client

    def env(self, **settings):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ADWUMA_", "KHAYA_", "TASKINGAI_"))}
        env.update({"ADWUMA_REDIS_URL": "unix://" + self.server.socket, "KHAYA_BASE_URL": self.stub.url, "KHAYA_API_KEY": KEY,
                    "ADWUMA_ALLOW_HTTP_LOOPBACK": "on", "ADWUMA_ADMIN_LISTEN": "off", "ADWUMA_LEASE_MS": "2000", "ADWUMA_THREADS": "8",
                    "ASAN_OPTIONS": "detect_leaks=1", "TSAN_OPTIONS": "halt_on_error=0:exitcode=66"})
        for name, value in settings.items():
            name = name if name.startswith(("KHAYA_", "TASKINGAI_", "ADWUMA_")) else "ADWUMA_" + name.upper()
            if value is None:
                env.pop(name, None)
            else:
                env[name] = str(value)
        return env

    def worker(self, wait=True, flags=(), **settings):
        w = Worker(self.folder, len(self.workers), self.env(**settings), flags)
        self.workers.append(w)
        if wait:
            until(lambda: w.process.poll() is not None or self.lists(w), what="worker is listed")
            assert w.process.poll() is None, w.log()
        return w

    def lists(self, worker):
        """Whether the worker stands in the lists of Redis, under the name it logged at its start."""
        name = re.search(r'event"?[=:]"?started.*worker"?[=:]"?([\w.-]+)', worker.log())
        try:
            return name and any(m.startswith(name[1].encode()) for k in self.redis.keys("*:workers") for m in self.redis.zrange(k, 0, -1))
        except redis_py.RedisError:
            return False

    def push(self, queue, *jobs):
        raw = [j if isinstance(j, (bytes, str)) else json.dumps(j) for j in jobs]
        for i in range(0, len(raw), 1000):
            self.redis.lpush(f"adwuma:{{{queue}}}:ready", *raw[i:i + 1000])

    def result(self, queue, job_id, seconds=10):
        key = f"adwuma:{{{queue}}}:result:{job_id}"
        found = self.redis.blmove(key, key, seconds * SLOW, "LEFT", "LEFT")
        assert found, f"no result {job_id}; logs:\n" + "\n".join(w.log()[-3000:] for w in self.workers)
        return json.loads(found)

    def do(self, queue, seconds=10, **job):
        job.setdefault("id", f"j{time.monotonic_ns()}")
        self.push(queue, job)
        return self.result(queue, job["id"], seconds)

    def dead(self, queue):
        return [json.loads(x) for x in self.redis.lrange(f"adwuma:{{{queue}}}:dead", 0, -1)]

    def stats(self, queue):
        return {k.decode(): int(v) for k, v in self.redis.hgetall(f"adwuma:{{{queue}}}:stats").items()}

    def results(self, queue):
        return len(self.redis.keys(f"adwuma:{{{queue}}}:result:*"))

    def reconcile(self, queue, jobs):
        """Every accepted job ended: one result each, nothing left anywhere."""
        prefix = f"adwuma:{{{queue}}}:"
        until(lambda: self.results(queue) >= jobs, 30, f"{jobs} results, have {self.results(queue)}")
        until(lambda: not self.redis.keys(prefix + "slot:*"), 10, "slots are empty")
        assert self.results(queue) == jobs
        assert self.redis.llen(prefix + "ready") == 0 and self.redis.zcard(prefix + "delayed") == 0
        pipe = self.redis.pipeline(transaction=False)
        for key in self.redis.keys(prefix + "result:*"):
            pipe.llen(key)
        assert set(pipe.execute()) == {1}
        stats = self.stats(queue)
        assert sum(stats.get(k, 0) for k in ("succeeded", "failed", "expired", "cancelled")) == jobs, stats

    def finish(self):
        for w in self.workers:
            w.finish()


@pytest.fixture
def stub():
    s = Stub()
    yield s
    s.stop()


@pytest.fixture
def server(tmp_path):
    s = RedisServer(tmp_path)
    yield s
    s.stop()


@pytest.fixture
def system(tmp_path, stub, server):
    s = System(tmp_path, stub, server)
    yield s
    s.finish()
