"""The storm itself: programs, blows, the producer, and the wait for quiet. Programs are started by the main thread only, because they die with
the thread that started them."""
import base64
import heapq
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request

import redis

from chaos import plan
from chaos.reconcile import Troubles

KEY = "0123456789abcdef-a-secret-key"
PASSWORD = "fedcba9876543210-a-password"
MARK = "chaos:batch"  # goes up with each batch of jobs, in the same transaction: so a lost reply leaves no doubt
REDIS_SERVER = os.environ.get("ADWUMA_REDIS_SERVER", "redis-server")
REDIS_DOWN = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)


def now_ms():
    return time.time() * 1000


def start(command, **options):
    """A program that dies with us, in a session of its own, so that Ctrl-C reaches us alone."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL, start_new_session=True, **options)


class Worker:
    def __init__(self, number, seat, command, env, folder):
        self.name, self.seat = f"w{number}", seat
        self.log_path = f"{folder}/{self.name}.log"
        self.born_ms = now_ms()
        self.killed = self.stopped = False
        self.term_ms = self.first_term_ms = None
        self.may_exit_with = {0}  # once asked to
        with open(self.log_path, "wb") as log:
            self.process = start(command, env=env, stdout=log, stderr=log)


class Campaign:
    def __init__(self, options, wires, folder):
        self.o, self.folder = options, folder
        self.breaches, self.done = [], {}
        self.troubles = Troubles()
        self.breakers = []  # [from, to]: what explains no rerun, but may delay a recovery
        self.calls, self.last_seq, self.stub_lock = [], 0, threading.Lock()
        self.seats, self.leaving, self.born = [None] * options.workers, [], 0
        self.redis_process, self.redis_away, self.stub = None, None, None
        self.actions, self.order = [], 0
        self.stop_event, self.produced = threading.Event(), threading.Event()
        self.errors = []
        self.wires = wires(options.workers, folder, start)
        self.redis = None

    def connect(self):
        return redis.Redis(unix_socket_path=self.folder + "/redis.sock", password=PASSWORD, socket_timeout=20)

    # --- Programs.

    def set_up(self):
        os.makedirs(self.folder + "/audio")
        os.makedirs(self.folder + "/redis")
        self.start_redis()
        self.redis = self.connect()
        until(self.answers, 20, "redis answers")
        self.stub = start([f"{self.o.build}/adwuma-stubapi", "--listen", "127.0.0.1:0", "--delay", "25"], stdout=subprocess.PIPE, text=True)
        listening = self.stub.stdout.readline().split()
        if not listening:
            raise AssertionError("adwuma-stubapi did not start")
        self.stub_url = listening[-1]
        self.stub_port = self.stub_url.rsplit(":", 1)[1]
        for seat in range(self.o.workers):
            self.start_worker(seat)

    def start_redis(self):
        flags = ["--unixsocket", self.folder + "/redis.sock", "--dir", self.folder + "/redis", "--save", "", "--appendonly", "yes", "--appendfsync",
                 "always", "--requirepass", PASSWORD, "--logfile", self.folder + "/redis.log"]
        self.redis_process = start([*self.wires.redis_prefix(), REDIS_SERVER, *self.wires.redis_flags(), *flags])

    def answers(self):
        if self.redis_process.poll() is not None:
            raise AssertionError(f"{REDIS_SERVER} ended with {self.redis_process.returncode}; {tail(self.folder + '/redis.log')}")
        try:
            return self.redis.ping()
        except REDIS_DOWN:
            return False

    def start_worker(self, seat):
        self.born += 1
        name = f"w{self.born}"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ADWUMA_", "KHAYA_", "TASKINGAI_", "CHAOS_"))}
        env.update({
            "ADWUMA_REDIS_URL": self.wires.url(seat), "ADWUMA_REDIS_PASSWORD": PASSWORD, "KHAYA_API_KEY": KEY,
            "TASKINGAI_HOST": f"http://{name}.localhost:{self.stub_port}", "TASKINGAI_API_KEY": KEY,
            # A name of its own for each worker, so that the stub's record tells who called: all of localhost is this machine.
            "KHAYA_BASE_URL": f"http://{name}.localhost:{self.stub_port}", "ADWUMA_ALLOW_HTTP_HOSTS": f"{name}.localhost",
            "ADWUMA_QUEUES": ",".join(plan.QUEUES), "ADWUMA_ADMIN_LISTEN": "off", "ADWUMA_THREADS": str(self.o.threads),
            "ADWUMA_LEASE_MS": str(self.o.lease_ms), "ADWUMA_AUDIO_ROOT": self.folder + "/audio", "ADWUMA_DRAIN_TIMEOUT_S": "10",
            "ADWUMA_DEAD_MAX_JOBS": "1000000", "ADWUMA_DEAD_MAX_BYTES": "1G", "ADWUMA_MAX_CRASHES": "100",
            "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=0:exitcode=66"})
        self.troubles.seat_of[name] = seat
        self.seats[seat] = Worker(self.born, seat, [f"{self.o.build}/adwumad", "--config", os.devnull], env, self.folder)
        self.troubles.name_of[str(self.seats[seat].process.pid)] = name

    # --- Actions in time: the main thread carries them out, each may ask for another.

    def later(self, seconds, action, *args):
        self.order += 1
        heapq.heappush(self.actions, (time.monotonic() + seconds, self.order, action, args))

    def storm(self, blows):
        for at, kind, seat, parameter in blows:
            self.later(at, self.strike, kind, seat, parameter)
        while self.actions or self.unfinished():
            self.look_after()
            if self.actions and self.actions[0][0] <= time.monotonic():
                _, _, action, args = heapq.heappop(self.actions)
                action(*args)
            else:
                time.sleep(0.01)

    def unfinished(self):
        """Whether a blow is still under way."""
        return self.redis_away

    def look_after(self):
        """Programs that end by themselves, and a Redis that has come back."""
        if self.errors:
            raise self.errors[0]
        if self.redis_away and self.redis_away["started"] and self.answers():
            self.redis_away["entry"][1] = now_ms()
            self.breakers.append([self.redis_away["entry"][0], now_ms() + 2 * self.o.lease_ms])
            self.redis_away = None
        for w in [*self.seats, *self.leaving]:
            if w and w.process.poll() is not None:
                self.ended(w)
        if self.stub.poll() is not None:
            raise AssertionError(f"adwuma-stubapi ended with {self.stub.returncode}")

    def ended(self, w):
        code = w.process.returncode
        if w.killed:
            wanted = {-signal.SIGKILL}
        elif w.term_ms is None:
            wanted = set()
        else:
            wanted = {0}
            if set(self.troubles.during(w.name, w.first_term_ms - 3000, now_ms(), "*")) & {"cut", "Redis away", "master died", "machine stalled"}:
                wanted.add(69)  # Redis could not be reached to hand jobs back
        if code not in wanted:
            self.breaches.append(f"{w.name} ended with {code}, wanted {wanted or 'it to go on'}; its log ends with: {tail(w.log_path)}")
        elif code == 69:
            self.count("exits with 69")
        self.read_log(w)
        if w in self.leaving:
            self.leaving.remove(w)
        else:
            self.seats[w.seat] = None
            self.start_worker(w.seat)

    def read_log(self, w):
        with open(w.log_path, encoding="utf-8", errors="replace") as f:
            log = f.read()
        if "Sanitizer" in log or "runtime error" in log:
            self.breaches.append(f"{w.name}: a sanitizer's report in {w.log_path}: {log[-1500:]}")
        for secret in (KEY, PASSWORD):
            if secret in log:
                self.breaches.append(f"{w.name}: a secret in its log")
        for event in ("redis lost", "lease lost", "lease renewed late", "jobs of a dead worker put back", "jobs found in slots that nobody listed",
                      "staged audio is gone", "redis refuses a command", "redis refuses new claims"):
            self.count(f"logged: {event}", log.count(f'"{event}"'))

    def count(self, what, n=1):
        self.done[what] = self.done.get(what, 0) + n

    # --- Blows.

    def strike(self, kind, seat, parameter):
        self.count(kind)
        getattr(self, "strike_" + kind.replace(" ", "_"))(seat, parameter)

    def strike_kill(self, seat, _):
        w = self.seats[seat]
        before = now_ms()
        w.killed = True
        w.process.kill()
        w.process.wait()
        self.troubles.at(w.name, "kill", before, now_ms())

    def strike_stop(self, seat, seconds):
        w = self.seats[seat]
        entry = self.troubles.begin(w.name, "stop", now_ms())
        w.process.send_signal(signal.SIGSTOP)
        self.later(seconds, self.go_on, w, entry)

    def strike_short_stop(self, seat, seconds):
        """Not even worth noting: a stop within the lease costs no call."""
        w = self.seats[seat]
        w.process.send_signal(signal.SIGSTOP)
        began = now_ms()
        self.later(seconds, self.go_on, w, [began, 0, None])

    def go_on(self, w, entry):
        w.process.send_signal(signal.SIGCONT)
        entry[1] = now_ms()
        if entry[2] is None and entry[1] - entry[0] > self.o.lease_ms / 2:  # we came too late for it to be short
            self.troubles.at(w.name, "stop", *entry[:2])

    def strike_term(self, seat, second):
        w = self.seats[seat]
        w.term_ms = w.first_term_ms = now_ms()
        w.process.send_signal(signal.SIGTERM)
        self.leaving.append(w)
        self.start_worker(seat)
        if second is not None:
            self.later(second, self.term_again, w)

    def term_again(self, w):
        if w.process.poll() is None:
            self.count("second term")
            self.troubles.at(w.name, "second TERM", now_ms(), now_ms() + 2000)
            w.process.send_signal(signal.SIGTERM)

    def strike_restart(self, _, parameter):
        how, down_s = parameter
        if self.redis_away:
            self.later(1, self.strike_restart, None, parameter)
            return
        self.redis_away = {"entry": self.troubles.begin(None, "Redis away", now_ms()), "started": False}
        if how == "SHUTDOWN":
            self.redis_process.terminate()  # saves what there is to save, as SHUTDOWN does
        else:
            self.redis_process.kill()
        self.redis_process.wait()
        self.later(down_s, self.redis_again)

    def redis_again(self):
        self.start_redis()
        self.redis_away["started"] = True

    def strike_cut(self, seat, parameter):
        how, seconds = parameter
        entry = self.troubles.begin(seat, "cut", now_ms())
        self.wires.cut(seat, how)
        self.later(seconds, self.mend, seat, how, entry)

    def mend(self, seat, how, entry):
        self.wires.mend(seat, how)
        entry[1] = now_ms() + self.o.lease_ms / 4  # TCP tries again with growing pauses

    def strike_slow(self, seat, seconds):
        self.wires.slow(seat)
        self.later(seconds, self.fast_again, seat, self.troubles.begin(seat, "slow wire", now_ms()))

    def fast_again(self, seat, entry):
        self.wires.fast(seat)
        entry[1] = now_ms()

    def tell_redis(self, *command):
        """True when it was done; a Redis that is away, or full, is tried again by whoever needs it."""
        try:
            self.redis.execute_command(*command)
            return True
        except REDIS_DOWN:
            return False
        except redis.ResponseError as e:
            if "maxmemory" in str(e):  # newer redis-py leaves the word OOM out
                return False
            raise

    def strike_flush(self, *_):
        self.tell_redis("SCRIPT", "FLUSH", "SYNC")

    def strike_client_kill(self, *_):
        self.breakers.append([now_ms(), now_ms() + 2 * self.o.lease_ms])
        self.tell_redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def strike_full(self, _, seconds):
        self.breakers.append([now_ms(), now_ms() + 1000 * seconds + 2000])
        self.tell_redis("CONFIG", "SET", "maxmemory", "1")
        self.later(seconds, self.roomy)

    def roomy(self):
        if not self.tell_redis("CONFIG", "SET", "maxmemory", "0"):
            self.later(0.2, self.roomy)

    def strike_pause(self, _, parameter):
        queue, ms = parameter
        self.breakers.append([now_ms(), now_ms() + ms + 2000])
        self.tell_redis("SET", f"adwuma:{{{queue}}}:paused", "chaos", "PX", ms)

    # --- The producer, a thread.

    def produce(self, jobs):
        try:
            self.push_all(jobs)
        except Exception as e:  # whatever it is, the main thread must not wait for ever
            self.errors.append(e)

    def push_all(self, jobs):
        r = self.connect()
        first_hand = [j for j in jobs if j.parent is None]
        waiting = [j for j in jobs if j.parent]
        cancels, began, at, batch, next_look = [], time.monotonic(), 0, 0, 0
        while (at < len(first_hand) or waiting or cancels) and not self.stop_event.is_set():
            clock = time.monotonic() - began
            due = []
            while at < len(first_hand) and first_hand[at].at <= clock and len(due) < 100:
                due.append(first_hand[at])
                at += 1
            if clock >= next_look:
                ready = self.find_parents(r, waiting)
                waiting = [j for j in waiting if j not in ready]
                due += ready
                next_look = clock + 0.2
            if due:
                batch += 1
                self.push(r, batch, due)
                for job in due:
                    if job.cancel_at is not None:
                        heapq.heappush(cancels, (clock + job.cancel_at / 1000, job.number, job))
            while cancels and cancels[0][0] <= clock:
                _, _, job = heapq.heappop(cancels)
                self.insist(lambda job=job: r.zadd(f"adwuma:{{{job.queue}}}:cancelled", {job.id: now_ms()}))
            time.sleep(0.01)
        self.produced.set()

    def insist(self, action):
        """Until Redis takes it: it may be away, or full."""
        while not self.stop_event.is_set():
            try:
                return action()
            except (*REDIS_DOWN, redis.ResponseError) as e:
                if isinstance(e, redis.ResponseError) and not re.search("maxmemory|EXECABORT|LOADING", str(e)):
                    raise
                time.sleep(0.05)
        return None

    def push(self, r, batch, jobs):
        pushed_ms = int(now_ms())
        payloads = [(f"adwuma:{{{j.queue}}}:ready", j.payload(pushed_ms)) for j in jobs]

        def once():
            if int(r.get(MARK) or 0) >= batch:
                return  # the reply was lost, but not the jobs
            pipe = r.pipeline(transaction=True)
            pipe.set(MARK, batch)
            for key, payload in payloads:
                pipe.lpush(key, payload)
            pipe.execute()

        for job in jobs:
            job.pushed_ms = pushed_ms
        self.insist(once)

    def find_parents(self, r, waiting):
        """Transcriptions whose audio has been made by now."""
        asked = [j for j in waiting if j.parent.pushed_ms][:300]
        ready = []

        def look():
            ready.clear()
            pipe = r.pipeline(transaction=False)
            for j in asked:
                pipe.lindex(f"adwuma:{{{j.parent.queue}}}:result:{j.parent.id}", 0)
            for j, held in zip(asked, pipe.execute()):
                if held is None:
                    continue
                made = json.loads(held).get("result")
                if not made:
                    raise AssertionError(f"{j.parent.id} should have made audio, but: {held[:500]}")
                if "sha256" in made:
                    audio = r.get(made["audio_key"]) if "audio_key" in made else base64.b64decode(made["audio_base64"])
                    plan.source_of(j, made, audio, self.folder + "/audio")
                    ready.append(j)
            self.make_sure(r, {j.parent.queue for j in ready})

        if asked:
            self.insist(look)
        return ready

    def make_sure(self, r, queues):
        """What was read of these queues will not be undone. One Redis keeps what it has said."""

    # --- Watching, threads too.

    def ask_stub(self, path):
        with urllib.request.urlopen(self.stub_url + path, timeout=30) as answer:
            return json.load(answer)

    def fetch_calls(self):
        """Before the stub's ring of records is full."""
        with self.stub_lock:
            while new := self.ask_stub(f"/_stub/calls?since={self.last_seq}&limit=2000"):
                if new[0]["seq"] != self.last_seq + 1:
                    raise AssertionError("the stub has forgotten calls before we saw them")
                self.last_seq = new[-1]["seq"]
                for c in new:
                    self.calls.append({"arrived_ms": c["arrived_ms"], "status": c["status"], "path": c["path"], "text": c["text"],
                                       "worker": c["headers"]["Host"].split(".")[0]})

    def watch(self):
        """Fetches calls, and notes when the machine itself stood still: then leases may run out with nobody to blame."""
        last, n = now_ms(), 0
        while not self.stop_event.wait(0.02):
            now = now_ms()
            if now - last > self.o.lease_ms / 4:
                self.troubles.at(None, "machine stalled", last, now)
                self.count("machine stalled")
            n += 1
            if n % 50 == 0:
                try:
                    self.fetch_calls()
                except Exception as e:
                    self.errors.append(e)
                    return
            last = now_ms() if n % 50 == 0 else now

    # --- The whole.

    def run(self, jobs, blows):
        threads = [threading.Thread(target=self.produce, args=(jobs,), daemon=True), threading.Thread(target=self.watch, daemon=True)]
        for thread in threads:
            thread.start()
        self.storm(blows)
        self.calm_ms = now_ms()
        self.wait_for_quiet(jobs)
        self.fetch_calls()

    def wait_for_quiet(self, jobs):
        """Until every job is pushed and has ended; gives up when nothing has moved for a while."""
        wanted = len({(j.queue, j.id) for j in jobs if j.nameless is None}) + sum(1 for j in jobs if j.nameless is not None)
        patience_s = 20 + 6 * self.o.lease_ms / 1000
        last, moved = None, time.monotonic()
        while True:
            self.look_after()
            state = self.state()
            if state != last:
                last, moved = state, time.monotonic()
            if self.produced.is_set() and state["ended"] == wanted and not state["unfinished"] and not state["strange"] and not self.leaving:
                return
            if time.monotonic() - moved > patience_s:
                self.breaches.append(f"not quiet after {patience_s:.0f} s without a change: {state}, {wanted} wanted, "
                                     f"{'all' if self.produced.is_set() else 'not all'} pushed, leaving {[w.name for w in self.leaving]}")
                return
            time.sleep(0.1)

    def state(self):
        """ended: by the counters. strange: workers on the lists that are no living process of ours."""
        ours = {str(w.process.pid) for w in [*self.seats, *self.leaving] if w}
        ended, unfinished, strange = 0, {}, []
        for queue in plan.QUEUES:
            stem = f"adwuma:{{{queue}}}:"
            stats = self.redis.hgetall(stem + "stats")
            ended += sum(int(stats.get(k, 0)) for k in (b"succeeded", b"failed", b"expired", b"cancelled"))
            slots = list(self.redis.scan_iter(stem + "slot:*", 1000))
            for name, n in (("ready", self.redis.llen(stem + "ready")), ("delayed", self.redis.zcard(stem + "delayed")), ("slots", len(slots))):
                if n:
                    unfinished[queue, name] = n
            names = [m.decode() for m in self.redis.zrange(stem + "workers", 0, -1)]
            names += [k.decode()[len(stem) + 7:] for k in self.redis.scan_iter(stem + "worker:*", 1000)]
            strange += [n for n in names if n.rsplit(".", 1)[0].rsplit("-", 2)[1] not in ours]
        return {"ended": ended, "unfinished": unfinished, "strange": sorted(strange)}

    def end(self):
        """All workers stop cleanly."""
        for w in self.seats:
            w.term_ms = w.first_term_ms = now_ms()
            w.process.send_signal(signal.SIGTERM)
        for w in self.seats:
            try:
                w.process.wait(30)
            except subprocess.TimeoutExpired:
                self.breaches.append(f"{w.name} did not stop within 30 s; its log ends with: {tail(w.log_path)}")
                w.process.kill()
                w.process.wait()
                w.killed = True
        self.leaving += self.seats
        for w in list(self.leaving):
            if w.process.poll() is not None:
                self.ended(w)

    def secrets_in_redis(self):
        """Nothing that Redis wrote down may hold a key of the API."""
        for base, _, names in os.walk(self.folder + "/redis"):
            for name in names:
                with open(os.path.join(base, name), "rb") as f:
                    tail_of_piece = b""
                    while piece := f.read(1 << 20):
                        if KEY.encode() in tail_of_piece + piece:
                            self.breaches.append(f"the API key is in {os.path.join(base, name)}")
                            break
                        tail_of_piece = piece[-len(KEY):]

    def clean_up(self):
        self.stop_event.set()
        programs = [w.process for w in [*self.seats, *self.leaving] if w] + [p for p in (self.stub, self.redis_process) if p]
        for p in programs:
            if p.poll() is None:
                p.kill()
                p.wait()
        self.wires.stop()


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def tail(path, size=1500):
    with open(path, "rb") as f:
        return f.read()[-size:].decode(errors="replace")
