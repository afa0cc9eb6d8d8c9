"""What every row of the bench needs: a Redis, an API, workers, the bare loop; their CPU time and memory; jobs in, results checked."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

import redis as redis_py

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("ADWUMA_BUILD", "build"))
RUN_MAX_S = 300
STOP_MAX_S = 60
LOOK_MAX_S = 0.05
SETTINGS = ("ADWUMA_", "KHAYA_", "TASKINGAI_")


class Failed(Exception):
    """The bench cannot say anything: a process ended, a result was wrong, something was left over."""


def clean_env():
    """Nothing of the caller's reaches what is measured: no settings of his, and no proxy before an API on loopback."""
    return {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS) and not k.lower().endswith("_proxy")}


def cpu_us(pid):
    """User and system time of a process so far, all its threads, those that ended too."""
    return time.clock_gettime(~pid << 3 | 2) * 1e6  # the kernel's number for the CPU-time clock of another process


def memory_kib(pid, name):
    """VmHWM, VmRSS, RssAnon ... of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(f.read().split(name + ":")[1].split()[0])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Process:
    """A program that dies with us, in a session of its own, so that Ctrl-C reaches us alone and we end all in order."""

    def __init__(self, command, **options):
        self.name = os.path.basename(command[0])
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL, start_new_session=True,
                                        **{"env": clean_env(), **options})
        self.pid = self.process.pid

    def still_runs(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.name} ended with {self.process.returncode}")

    def stop(self, wanted=0):
        """wanted: the exit code; None: any, there is a failure already, so hurry."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(STOP_MAX_S if wanted is not None else 5)
        except BaseException as e:  # also a signal to us
            self.process.kill()
            self.process.wait()
            if not isinstance(e, subprocess.TimeoutExpired):
                raise
            if wanted is None:
                return
            raise Failed(f"{self.name} did not stop") from None
        if wanted is not None and code != wanted:
            raise Failed(f"{self.name} ended with {code}")

    def cpu_us(self):
        return cpu_us(self.pid)

    def memory_kib(self, name):
        return memory_kib(self.pid, name)

    def wait_ready(self, ready, what, limit_s=10):
        deadline = time.monotonic() + limit_s
        while not ready():
            self.still_runs()
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: not within {limit_s} s: {what}")
            time.sleep(0.01)


class Redis(Process):
    def __init__(self, folder, *flags):
        self.socket = f"{folder}/redis.sock"
        super().__init__(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", str(folder), *flags],
                         stdout=subprocess.DEVNULL)
        self.url = "unix://" + self.socket
        self.client = redis_py.Redis(unix_socket_path=self.socket, decode_responses=True)

    def answers(self):
        try:
            return self.client.ping()
        except redis_py.ConnectionError:
            return False

    def commands(self):
        """How many commands were carried out but for our own looks, those within scripts too; and how many trips workers made: calls of
        scripts and BLMOVEs."""
        calls = {name[len("cmdstat_"):]: s["calls"] for name, s in self.client.info("commandstats").items()}
        ours = sum(calls.get(name, 0) for name in ("llen", "hget", "info", "ping"))
        return sum(calls.values()) - ours, calls.get("evalsha", 0) + calls.get("blmove", 0)


class Stub(Process):
    """Our API. It answers at once, or after delay_ms."""

    def __init__(self, delay_ms=0, *flags):
        super().__init__([f"{BUILD}/adwuma-stubapi", "--listen", "127.0.0.1:0", "--no-record", "--delay", str(delay_ms), *flags],
                         stdout=subprocess.PIPE, text=True)
        self.url = ""

    def read_url(self):
        line = self.process.stdout.readline().split()
        if not line:
            raise Failed("adwuma-stubapi did not start")
        self.url = line[-1]

    def calls(self):
        with urllib.request.urlopen(self.url + "/_stub/stats", timeout=10) as answer:
            return json.load(answer)["calls"]


NGINX_CONF = """daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off; default_type application/json; keepalive_requests 100000000; keepalive_timeout 600s;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} backlog=8192 {listen};
        {server}
    }}
}}
"""


class Nginx(Process):
    """One worker, all in the folder. server, http: more lines of its configuration; listen: what listen takes more, like ssl."""

    def __init__(self, folder, server, http="", listen=""):
        self.port = free_port()
        path = f"{folder}/nginx.conf"
        with open(path, "w", encoding="ascii") as f:
            f.write(NGINX_CONF.format(folder=folder, port=self.port, server=server, http=http, listen=listen))
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if not program:
            raise Failed("nginx is not there: scripts/install-deps bench installs it")
        super().__init__([program, "-p", str(folder), "-c", path, "-e", "stderr"])
        self.url = f"http{'s' if 'ssl' in listen else ''}://127.0.0.1:{self.port}"

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


def job(number):
    return f'{{"id":"b{number}","text":"Good morning, number {number}","language_pair":"en-tw"}}'


def translation(number):
    """What the result of job(number) holds."""
    return f"[tw] Good morning, number {number}"


class Lab:
    """Everything that was started in it ends with it, the last first."""

    def __init__(self):
        self.processes = []
        self.folder = tempfile.mkdtemp(prefix="adwuma-bench-")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        failed = None
        for process in reversed(self.processes):
            try:
                process.stop(0 if kind is None and not failed else None)
            except Failed as e:
                failed = e
        shutil.rmtree(self.folder, ignore_errors=True)
        if failed:
            raise failed

    def start(self, process):
        self.processes.append(process)
        return process

    def redis(self, *flags):
        r = self.start(Redis(tempfile.mkdtemp(dir=self.folder), *flags))
        r.wait_ready(r.answers, "an answer")
        return r

    def stub(self, delay_ms=0, *flags):
        s = self.start(Stub(delay_ms, *flags))
        s.read_url()
        return s

    def nginx(self, server, http="", listen=""):
        n = self.start(Nginx(tempfile.mkdtemp(dir=self.folder), server, http, listen))
        n.wait_ready(n.answers, "a connection")
        return n

    def env(self, redis, api_url, **settings):
        env = clean_env()
        env.update(ADWUMA_REDIS_URL=redis.url, KHAYA_BASE_URL=api_url, KHAYA_API_KEY="bench", ADWUMA_ALLOW_HTTP_LOOPBACK="on",
                   ADWUMA_QUEUES="translate", ADWUMA_ADMIN_LISTEN="off", ADWUMA_LOG_LEVEL="warn")
        if "taskingai" in settings:
            env.update(TASKINGAI_HOST=settings.pop("taskingai"), TASKINGAI_API_KEY="tkbench000000000000000000000000x")
        env.update({f"ADWUMA_{name.upper()}": str(value) for name, value in settings.items()})
        return env

    @contextlib.contextmanager
    def worker(self, redis, api_url, config=os.devnull, **settings):
        """One adwumad as it is released, for the time of a with block."""
        w = Process([f"{BUILD}/adwumad", "--config", config], env=self.env(redis, api_url, **settings))
        try:
            yield w
        except BaseException:
            w.stop(None)
            raise
        w.stop()

    def bare(self, url, threads, calls, *flags, path="/v1/translate"):
        """The loop without a queue: calls/s, CPU us a call, peak memory in KiB."""
        out = subprocess.run([f"{BUILD}/bare", *flags, url + path, str(threads), str(calls)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                             check=False, env=clean_env(), timeout=RUN_MAX_S)
        if out.returncode:
            raise Failed(f"the bare loop ended with {out.returncode}: {out.stdout}")
        return json.loads(out.stdout)


def add(redis, numbers, queue="translate", make=job, at_once=5000):
    """Lets jobs wait, the first to be served first."""
    key = f"adwuma:{{{queue}}}:ready"
    for begin in range(0, len(numbers), at_once):
        redis.client.lpush(key, *[make(i) for i in numbers[begin:begin + at_once]])


def push(redis, count, queue="translate", make=job):
    """Empties Redis and lets count jobs wait."""
    redis.client.flushall()
    add(redis, range(count), queue, make)


def wait_until(condition, processes, what, pause_s=0.002):
    deadline = time.monotonic() + RUN_MAX_S
    while not condition():
        for p in processes:
            p.still_runs()
        if time.monotonic() > deadline:
            raise Failed(f"not within {RUN_MAX_S} s: {what}")
        time.sleep(pause_s)


def wait_idle(redis, workers, queue="translate"):
    """Until all workers are on the list and wait for a job."""
    def idle():
        return redis.client.zcard(f"adwuma:{{{queue}}}:workers") == len(workers) and redis.client.info("clients")["blocked_clients"] >= len(workers)
    wait_until(idle, workers, "the workers wait for a job", 0.01)


def finished(redis, queue="translate"):
    return int(redis.client.hget(f"adwuma:{{{queue}}}:stats", "succeeded") or 0)


def until_done(redis, workers, count, began, queue="translate", look=None):
    """Until at least count jobs are done: how many are done then, and seconds since began.

    Few looks, since each takes time from what is measured: the nearer the end, the more. look() is called with them, but not so often."""
    looked = 0.0
    while True:
        done, took = finished(redis, queue), time.monotonic() - began
        if done >= count:
            return done, took
        for p in workers:
            p.still_runs()
        if took > RUN_MAX_S:
            raise Failed(f"not within {RUN_MAX_S} s: {count} jobs are done, only {done} are")
        if look and took - looked > LOOK_MAX_S / 2:
            looked = took
            look()
        left_s = (count - done) * took / done if done else LOOK_MAX_S
        time.sleep(min(max(left_s / 2, 0.001, took / 2000), LOOK_MAX_S))


def timed(redis, workers, count, queue="translate", look=None):
    """From the first of the waiting jobs that is taken until at least count are done: how many are done then, and seconds."""
    ready = f"adwuma:{{{queue}}}:ready"
    waiting = redis.client.llen(ready)
    wait_until(lambda: redis.client.llen(ready) < waiting, workers, "the first job is taken", 0.0005)
    return until_done(redis, workers, count, time.monotonic(), queue, look)


def measure(redis, workers, count, queue="translate", look=None):
    """From the first of count waiting jobs that is taken to the last result that is written: seconds."""
    return timed(redis, workers, count, queue, look)[1]


def results(redis, numbers, queue="translate", name="b"):
    """The results, read a few thousand at a time; each is there, is right, and is one."""
    prefix = f"adwuma:{{{queue}}}:result:{name}"
    for begin in range(0, len(numbers), 10000):
        pipe = redis.client.pipeline(transaction=False)
        part = numbers[begin:begin + 10000]
        for i in part:
            pipe.lrange(f"{prefix}{i}", 0, -1)
        for i, found in zip(part, pipe.execute()):
            result = json.loads(found[0]) if len(found) == 1 else {}
            if result.get("status") != "succeeded" or result["result"]["text"] != translation(i):
                raise Failed(f"result {name}{i} is wrong: {found}")
            if result["attempts"] != 1:
                raise Failed(f"job {name}{i} was tried {result['attempts']} times, so this is not its speed: {found}")
            yield result


def check_results(redis, count, queue="translate"):
    """Every result is there, is right, and is one; nothing else is left."""
    for _ in results(redis, range(count), queue):
        pass
    prefix = f"adwuma:{{{queue}}}:"
    allowed = {prefix + "stats", prefix + "billed", prefix + "workers"}
    left = [k for k in redis.client.scan_iter(prefix + "*", count=10000) if ":result:" not in k and ":worker:" not in k and k not in allowed]
    if left:
        raise Failed(f"left over: {left[:10]}")
