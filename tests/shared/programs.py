"""What tests of whole systems are made of: real redis-server, real adwumad, the stub API, real sockets.

Programs come from $ADWUMA_BUILD (default build), Redis is $ADWUMA_REDIS_SERVER (default redis-server; valkey-server for Valkey). Nothing here sleeps to synchronise: conditions are polled with a deadline."""
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis as redis_py

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("ADWUMA_BUILD", "build"))
REDIS_SERVER = os.environ.get("ADWUMA_REDIS_SERVER", "redis-server")
FAULTS_BUILD = BUILD + "/faults"  # a worker with fault points (make FAULTS=1)
SANITIZED = any(s in BUILD for s in ("address", "thread", "undefined"))
SLOW = 6 if SANITIZED else 1  # sanitized programs get more time, never fewer checks
KEY = "0123456789abcdef-a-secret-key"
TASKING_KEY = "tk12345678abcdefghijklmnopqrstuv"


def start(command, **options):
    """Starts a program that dies with us, also where the run of tests is killed. By setpriv, since Python forks dearly where it must do more than start one."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], **options)


def until(condition, seconds=10, what="condition"):
    """Polls until condition() is true and returns its value."""
    deadline, pause = time.monotonic() + seconds * SLOW, 0.003
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * SLOW} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)  # what takes long need not be known at once


def sanitizer():
    flags = open(BUILD + "/flags", encoding="utf-8").read().split()
    return [f for f in flags if f.startswith("-fsanitize=")]


def library_driver(folder):
    """A program over the shared library, tests/system/library/driver.c, that does one act per run."""
    with contextlib.suppress(FileExistsError):  # tests at the same time make it, too
        os.symlink("libadwuma.so", BUILD + "/libadwuma.so.0")
    out = f"{folder}/driver"
    subprocess.run(["cc", "-std=c11", "-g", "-D_GNU_SOURCE", "-pthread", f"-I{ROOT}/include", *sanitizer(), ROOT + "/tests/system/library/driver.c", "-o", out,
                    f"-L{BUILD}", "-ladwuma", f"-Wl,-rpath,{BUILD}"], check=True)
    return out


SHIM = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *t)
{
	long rc = syscall(SYS_clock_gettime, id, t);
	if (rc == 0 && id == CLOCK_REALTIME)
		t->tv_sec += atol(getenv("CLOCK_OFF"));
	return (int)rc;
}
int gettimeofday(struct timeval *t, void *zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}
"""


def another_clock(folder, ahead_s):
    """What starts a program whose clock is so much ahead of ours."""
    shim = f"{folder}/shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", shim], input=SHIM, text=True, check=True)
    return ["env", f"CLOCK_OFF={ahead_s}", f"LD_PRELOAD={shim}"]


class RedisServer:
    def __init__(self, folder, *flags, prefix=()):
        self.folder, self.flags = str(folder), ("--port", "0", *flags)  # the last of two counts
        self.prefix = prefix  # what starts it somewhere else, as in a network of its own
        self.socket = self.folder + "/redis.sock"
        self.process = None
        self.start()

    @property
    def url(self):
        return "unix://" + self.socket

    def start(self):
        self.process = start([*self.prefix, REDIS_SERVER, "--unixsocket", self.socket, "--dir", self.folder, "--save", "", *self.flags], stdout=subprocess.DEVNULL)
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
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait()


class Stub:
    def __init__(self, *flags, cafile=None, prefix=()):
        self.tls = ssl.create_default_context(cafile=cafile) if cafile else None
        self.process = start([*prefix, BUILD + "/adwuma-stubapi", "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=body.encode() if body is not None else None)
        with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:
            return json.load(answer)

    def calls(self):
        return self.ask("GET", "/_stub/calls")

    def stats(self):
        return self.ask("GET", "/_stub/stats")

    def count(self):
        return self.stats()["calls"]

    def fault(self, directives):
        self.ask("PUT", "/_stub/fault", directives)

    def stop(self):
        self.process.terminate()
        try:
            assert self.process.wait(20) == 0
        finally:
            self.process.kill()


def hang_up(*ends):
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already


class Wire:
    """A wire between a worker and Redis that can be held, cut, or lose replies: everything before it was carried out, and nobody was told."""

    def __init__(self, folder, to):
        self.path, self.to = f"{folder}/wire.sock", to
        self.lose_every, self.replies, self.lost, self.cuts = 0, 0, 0, 0
        self.open = threading.Event()  # cleared: nothing passes
        self.served = threading.Event()  # cleared: what a waiting BLMOVE is served with is held back
        self.asked = threading.Event()  # cleared: a BLMOVE is held back on its way to Redis
        self.seen = b""  # what was sent to Redis so far, while asked is cleared
        self.hold_at = None  # bytes on their way to Redis at which the wire is held
        self.budgets = iter(())  # how many bytes each new connection carries, to Redis and from it by turns, before it is cut in the middle of one
        self.refused = None  # (words, reply): a command with them is not carried, and has that reply
        self.reply_as = lambda reply: reply  # what is carried instead of it
        self.age = 0  # raised by forget(): older connections stay open, and nothing passes any more
        for event in (self.open, self.served, self.asked):
            event.set()
        self.lock = threading.Lock()
        self.ends = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.to)
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            waits = threading.Event()  # this connection is one that waits
            budget = next(self.budgets, None)
            for source, sink, back in ((near, far, False), (far, near, True)):
                limit = budget[1] if budget and budget[0] == back else None
                threading.Thread(target=self.carry, args=(source, sink, back, waits, self.age, limit), daemon=True).start()

    def loses(self):
        with self.lock:
            self.replies += 1
            lost = self.lose_every and self.replies % self.lose_every == 0
            self.lost += bool(lost)
            return lost

    def forget(self):
        """Both sides think that they are connected, as after a power cut or in front of a firewall that forgot them."""
        self.age += 1

    def cut(self):
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already

    def carry(self, source, sink, back, waits, age, limit):
        try:
            while piece := source.recv(1 << 16):
                if age < self.age:
                    continue
                if limit is not None:
                    limit -= len(piece)
                    if limit <= 0:
                        self.cuts += 1
                        sink.sendall(piece[:limit or None])
                        break
                if not back and self.hold_at and self.hold_at in piece:
                    self.open.clear()
                self.open.wait()
                if not back and not self.asked.is_set():
                    with self.lock:
                        self.seen += piece
                if not back and self.refused and self.refused[0] in piece:
                    source.sendall(self.refused[1])
                    continue
                if b"BLMOVE" in piece:
                    waits.set()
                    self.asked.wait()
                if back and waits.is_set():
                    self.served.wait()
                if back and self.loses():
                    break
                sink.sendall(self.reply_as(piece) if back else piece)
        except OSError:
            pass
        hang_up(source, sink)

    def stop(self):
        for event in (self.open, self.served, self.asked):
            event.set()
        self.listener.close()
        for end in self.ends:
            end.close()


def lose_one(wire, number):
    """The connection that brings it ends instead of the reply of that number from now on."""
    lost, wire.replies, wire.lose_every = wire.lost, 0, number
    until(lambda: wire.lost > lost, 20, "a reply is lost")
    wire.lose_every = 0


class Script:
    """An API that answers what the test tells it to, byte by byte: for what the stub would never say."""

    def __init__(self):
        self.answer = 200, {}, b""
        self.requests = []  # (path, headers, body)
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                status, headers, body = script.answer
                script.requests.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a client that hangs up in the middle is what some tests are about
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def says(self, body, status=200, content_type="application/json", **headers):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if content_type:
            headers["Content-Type"] = content_type
        self.answer = status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Worker:
    """One adwumad. Its log goes to a file; a sanitizer's report in it, or a wrong exit code, fails the test."""

    def __init__(self, folder, number, env, flags=(), build=None, prefix=()):
        self.log_path = f"{folder}/worker{number}.log"
        self.expected = 0
        self.build = build or (FAULTS_BUILD if "ADWUMA_FAULT" in env else BUILD)
        with open(self.log_path, "wb") as log:
            self.process = start([*prefix, self.build + "/adwumad", *flags], env=env, stderr=log, stdout=log)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, sig=signal.SIGTERM, seconds=45):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(seconds * SLOW)

    def stop_at_once(self):
        """Two TERMs; the second only when the first was seen, since the kernel would merge them."""
        self.send(signal.SIGTERM)
        until(lambda: "stopping" in self.log(), what="it stops")
        return self.stop()

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
        assert KEY not in log and TASKING_KEY not in log


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
        env.update({"ADWUMA_REDIS_URL": self.server.url, "KHAYA_BASE_URL": self.stub.url, "KHAYA_API_KEY": KEY,
                    "TASKINGAI_HOST": self.stub.url, "TASKINGAI_API_KEY": TASKING_KEY,
                    "ADWUMA_ALLOW_HTTP_LOOPBACK": "on", "ADWUMA_ADMIN_LISTEN": "off", "ADWUMA_LEASE_MS": "2000", "ADWUMA_THREADS": "8",
                    "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=0:exitcode=66"})
        for name, value in settings.items():
            name = name if name.startswith(("KHAYA_", "TASKINGAI_", "ADWUMA_")) else "ADWUMA_" + name.upper()
            if value is None:
                env.pop(name, None)
            else:
                env[name] = str(value)
        return env

    def worker(self, wait=True, flags=(), build=None, prefix=(), **settings):
        """build: of another version. prefix: what starts it somewhere else, as in a network of its own."""
        w = Worker(self.folder, len(self.workers), self.env(**settings), flags, build, prefix)
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

    def reconcile(self, queue, jobs, without_id=0):
        """Every accepted job ended: one result each (those without an id: one dead entry each), nothing left anywhere."""
        prefix = f"adwuma:{{{queue}}}:"
        until(lambda: self.results(queue) >= jobs, 30, f"{jobs} results, have {self.results(queue)}")
        until(lambda: not self.redis.keys(prefix + "slot:*"), 10, "slots are empty")
        assert self.results(queue) == jobs
        assert sum(1 for d in self.dead(queue) if re.search("no usable id|no JSON object", d["error"]["message"])) == without_id
        assert self.redis.llen(prefix + "ready") == 0 and self.redis.zcard(prefix + "delayed") == 0
        pipe = self.redis.pipeline(transaction=False)
        for key in self.redis.keys(prefix + "result:*"):
            pipe.llen(key)
        assert set(pipe.execute()) == {1}
        stats = self.stats(queue)
        assert sum(stats.get(k, 0) for k in ("succeeded", "failed", "expired", "cancelled")) == jobs + without_id, stats
        for kind in ("stage", "sent", "crashes"):  # what a dead worker left goes by itself
            assert all(self.redis.ttl(key) > 0 for key in self.redis.keys(prefix + kind + ":*"))

    def finish(self):
        """Ends every worker, whatever is wrong with one of them; tells the first that failed."""
        failed = []
        for w in self.workers:
            try:
                w.finish()
            except AssertionError as e:
                failed.append(e)
        if failed:
            raise failed[0]
