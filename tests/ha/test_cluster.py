"""A cluster of three masters with a replica each: every queue lives on one of them; masters die, slots move, and the rest goes on."""
import json
import re
import subprocess
import threading
import time

import load
import programs
import pytest
import redis as redis_py
import servers
from conftest import BUILD, SLOW, Stub, System, start, until

RATE = 500  # on each queue
WITHIN_S = 10
BROKEN = (*servers.NOT_THERE, redis_py.ResponseError)


class NotReplicated(redis_py.ConnectionError):
    pass


class Spread(System):
    """Its queues are on different masters, and may be elsewhere a moment later."""

    @property
    def cluster(self):
        return self.server

    def push(self, queue, *jobs):
        raw = [j if isinstance(j, (bytes, str)) else json.dumps(j) for j in jobs]
        servers.repeat(lambda: self.cluster.ask(queue, ("LPUSH", load.key(queue, "ready"), *raw)), 20, "jobs are accepted", BROKEN)

    def ask(self, queue, *command):
        return servers.repeat(lambda: self.cluster.ask(queue, command)[0], 20, f"{command[0]} is answered", BROKEN)

    def result(self, queue, job_id, seconds=10):
        found = until(lambda: self.ask(queue, "LINDEX", load.key(queue, "result:" + job_id), 0), seconds,
                      f"a result of {job_id}; logs:\n" + "\n".join(w.log()[-3000:] for w in self.workers))
        return json.loads(found)

    def lists(self, worker):
        name = re.search(r'event"?[=:]"?started.*worker"?[=:]"?([\w.-]+)', worker.log())
        try:
            return name and any(m.startswith(name[1].encode()) for n in self.cluster.masters() for k in n.client.keys("*:workers") for m in n.client.zrange(k, 0, -1))
        except servers.NOT_THERE:
            return False

    def succeeded(self, queue):
        try:
            return int(self.cluster.ask(queue, ("HGET", load.key(queue, "stats"), "succeeded"))[0] or 0)
        except BROKEN:
            return 0

    def quiet(self, *queues, seconds=60):
        for queue in queues:
            until(lambda queue=queue: not load.left(self.cluster.client_of(queue), queue), seconds,
                  f"every job of {queue} has ended" + "".join("\n" + w.log()[-1500:] for w in self.workers))


@pytest.fixture
def cluster(tmp_path):
    c = servers.Cluster(tmp_path)
    yield c
    c.stop()


@pytest.fixture
def system(tmp_path, quick_stub, cluster):
    s = Spread(tmp_path, quick_stub, cluster)
    yield s
    s.finish()


@pytest.fixture
def spread(cluster):
    """One queue on each master, with its master: [(name, node)]."""
    return [(names[0], node) for node, names in cluster.queues(1).items()]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return programs.library_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def cli(system, tmp_path):
    def cli(*args, code=0, stdin=None, **settings):
        p = subprocess.run([BUILD + "/adwuma", *args], env=system.env(**settings), cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=60 * SLOW,
                           check=False)
        assert p.returncode == code, f"{args}: {p.returncode}\n{p.stdout}\n{p.stderr}"
        return p.stdout + p.stderr if code else p.stdout
    return cli


def redirects(node, word):
    """How many commands that node has sent elsewhere: MOVED or ASK."""
    told = node.client.execute_command("INFO", "errorstats")  # of which versions of redis-py make different things
    return int((re.search(rf"errorstat_{word}\D+(\d+)", str(told)) or [0, 0])[1])


def test_each_queue_goes_by_the_clock_of_its_master(tmp_path, quick_stub):
    """The first one's is a minute ahead. What is due, and what has expired, is judged where the job is."""
    cluster = servers.Cluster(tmp_path, replicas=0, prefix=programs.another_clock(tmp_path, 60))
    system = Spread(tmp_path, quick_stub, cluster)
    try:
        queues = {node: names[0] for node, names in cluster.queues(1).items()}
        system.worker(queues=",".join(queues.values()), lease_ms=1500, threads=2)
        for _ in range(20):
            for node, queue in queues.items():
                now = int(time.time() * 1000) + (60000 if node is cluster.nodes[0] else 0)
                name = f"{now}"
                system.push(queue, {"id": f"{name}-lives", "type": "translate", "text": "x", "expires_at_ms": now + 30000},
                            {"id": f"{name}-old", "type": "translate", "text": "x", "expires_at_ms": now - 30000},
                            {"id": f"{name}-later", "type": "translate", "text": "x", "not_before_ms": now + 30000})
                assert system.result(queue, f"{name}-lives")["status"] == "succeeded"
                assert system.result(queue, f"{name}-old")["error"]["type"] == "ExpiredError"
                assert not system.ask(queue, "EXISTS", load.key(queue, f"result:{name}-later"))
            time.sleep(0.1)  # 20 rounds are four ticks of each queue: whichever came last must not count for the others
        for queue in queues.values():
            assert system.ask(queue, "ZCARD", load.key(queue, "delayed")) == 20
    finally:
        system.finish()
        cluster.stop()


def loads(system, queues, wait):
    """A producer for each queue, so that one that waits holds up no other."""
    def push(queue, jobs):
        commands = [("LPUSH", load.key(queue, "ready"), *jobs)] + ([("WAIT", 1, 500)] if wait else [])
        if system.cluster.ask(queue, *commands)[-1] < 1:
            raise NotReplicated()
    made = [load.Load(push, RATE, queues=(q,)) for q in queues]
    for producer in made:
        producer.start()
    until(lambda: all(system.succeeded(q) > RATE for q in queues), 30, "the load is on")
    return made


class Pulse(threading.Thread):
    """The longest time in which a queue had no new result."""

    def __init__(self, system, queue):
        super().__init__(daemon=True)
        self.system, self.queue, self.over, self.longest = system, queue, threading.Event(), 0.0
        self.start()

    def run(self):
        last, count = time.monotonic(), -1
        while not self.over.wait(0.03):
            n = self.system.succeeded(self.queue)
            if n > count:
                last, count = time.monotonic(), n
            self.longest = max(self.longest, time.monotonic() - last)

    def stop(self):
        self.over.set()
        self.join()
        return self.longest


def accounts(system, producers):
    """{queue: ids that were accepted and are lost}; all else is right."""
    lost = {}
    for producer in producers:
        queue, = producer.queues
        producer.end()
    for producer in producers:
        queue, = producer.queues
        system.quiet(queue)
        lost[queue] = load.account(system.cluster.client_of(queue), queue, producer.accepted[queue])
    return lost


# --- All there is to do.

def test_all_kinds_of_jobs(system, spread, tmp_path, cli):
    """Speech made in one queue is heard in another, on another master; streams, replies, delays, cancellations."""
    (a, at_a), (b, at_b), (c, _) = spread
    assert at_a is not at_b
    queues = f"{a},{b},{c},translate,synthesize,transcribe,taskingai"
    system.worker(queues=queues)
    made = system.do(a, type="synthesize", text="Me ho yɛ", language="twi")["result"]
    assert made["audio_key"].startswith(f"adwuma:{{{a}}}:audio:")
    assert system.do(b, type="transcribe", audio_key=made["audio_key"])["result"]["text"] == "Me ho yɛ"
    chat = system.do(c, id="chat", type="taskingai.chat_completion",
                     params={"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": "one two three"}]})
    assert chat["result"]["data"]["message"]["content"] == "Echo: one two three"
    events = [e[1][b"event"] for e in system.ask(c, "XRANGE", load.key(c, "stream:chat"), "-", "+")]
    assert events.count(b"done") == 1 and events[-1] == b"done" and events.count(b"chunk") >= 3
    for queue in (a, b, c):
        system.push(queue, *({"id": f"r{n}", "type": "translate", "text": f"{queue} {n}", "reply": "mine"} for n in range(20)))
        system.push(queue, {"id": "later", "type": "translate", "text": "later", "not_before_ms": int(time.time() * 1000) + 800},
                    {"id": "long", "type": "translate", "text": "It says what it has to say, as it did before. " * 60},
                    {"id": "hold", "type": "translate", "text": "held", "if_unsure": "hold"}, {"id": "slow", "type": "translate", "text": "x stub(delay=20000)"})
    for queue in (a, b, c):
        for job in ("later", "long", "hold", "r19"):
            assert system.result(queue, job, 15)["status"] == "succeeded"
        until(lambda queue=queue: system.ask(queue, "LLEN", load.key(queue, "reply:mine")) == 20, 10, "all are replied")
        cli("cancel", "-q", queue, "slow")
        assert system.result(queue, "slow", 10)["error"]["type"] == "CancelledError"
    cli("synthesize", "Maakye", "-o", "a.wav")
    assert cli("transcribe", "a.wav") == "Maakye\n" and cli("translate", "a", "b") == "[tw] a\n[tw] b\n"
    assert cli("chat", "--model", "TpAb12Cd", "one two").strip() == "Echo: one two"
    assert cli("call", "taskingai.list_assistants", "--params", '{"limit":5}')
    system.quiet(a, b, c)


def test_the_command_line_looks_and_mends_everywhere(system, spread, cli, tmp_path):
    names = [q for q, _ in spread]
    listed = ",".join(names)
    worker = system.worker(queues=listed)
    for queue in names:
        system.push(queue, {"id": f"ok-{queue}", "type": "translate", "text": queue}, {"id": f"bad-{queue}", "type": "translate", "text": f"{queue} stub(status=401,times=1)"})
        assert system.result(queue, f"bad-{queue}")["status"] == "failed"
    stats = cli("stats", queues=listed)
    assert all(re.search(rf"{q}\b", stats) for q in names), stats
    rows = [json.loads(line) for line in cli("workers", "--json", queues=listed).splitlines()]
    assert {r["queue"] for r in rows} == set(names) and {r["pid"] for r in rows} == {worker.process.pid}
    for queue in names:  # which queue it is in is found
        assert cli("result", f"ok-{queue}", queues=listed) == f"[tw] {queue}\n"
    assert all(f"bad-{q}" in cli("dead", "list", queues=listed) for q in names)
    cli("pause", *names, "--reason", "test", queues=listed)
    cli("dead", "retry", *(f"bad-{q}" for q in names), queues=listed)
    assert all(system.ask(q, "LLEN", load.key(q, "ready")) == 1 for q in names)
    assert "waiting" in cli("result", f"bad-{names[0]}", code=75, queues=listed)
    cli("resume", *names, queues=listed)
    assert all(system.result(q, f"bad-{q}")["status"] == "succeeded" for q in names)
    doctor = cli("doctor", queues=listed)
    assert "BAD" not in doctor, doctor
    jobs = [{"type": "translate", "text": f"line {n}"} for n in range(300)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(j) + "\n" for j in jobs))
    for queue in names:
        cli("batch", "in.jsonl", "-o", f"{queue}.jsonl", "-q", queue)
        out = [json.loads(line) for line in (tmp_path / f"{queue}.jsonl").read_text().splitlines()]
        assert [r["result"]["text"] for r in out] == [f"[tw] line {n}" for n in range(300)]


def test_readiness_asks_the_master_of_each_queue(system, cluster, spread, cli):
    """While one has no master the worker is alive and not ready, and goes on with the queues of the others."""
    (_, master), *others = spread
    lost = [master, *cluster.replicas_of(master)]
    settings = {"admin_listen": f"127.0.0.1:{servers.free_ports(1)[0]}", "queues": ",".join(q for q, _ in spread)}
    system.worker(**settings)

    def ready():
        return subprocess.run([BUILD + "/adwuma", "health", "--ready"], env=system.env(**settings), capture_output=True, timeout=60, check=False).returncode == 0
    until(ready, what="it is ready")
    for node in lost:
        node.kill()
    until(lambda: not ready(), what="it is not ready")
    for queue, _ in others:
        system.push(queue, {"id": "x", "type": "translate", "text": "x"})
        assert system.result(queue, "x")["status"] == "succeeded"
    assert "(503)" in cli("health", "--ready", code=1, **settings) and cli("health", **settings) == "ok\n"
    for node in lost:
        node.restart()
    until(ready, 60, "it is ready again")


def test_a_seed_that_is_dead(system, cluster, spread, cli, driver):
    """The first of the URL, and a node at the same time, so that its slots are served by its replica."""
    names = [q for q, _ in spread]
    dead = cluster.kill_master_of(names[0])
    cluster.failed_over(names[0], dead)
    url = cluster.url_of(dead, next(n for n in cluster.nodes if n.runs))
    system.worker(queues=",".join([*names, "translate"]), redis_url=url)
    for queue in names:
        assert system.do(queue, 20, type="translate", text="x")["status"] == "succeeded"
    assert cli("translate", "x", redis_url=url) == "[tw] x\n"
    p = subprocess.run([driver, "gather", "200"], env=system.env(redis_url=url), capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert p.returncode == 0 and "all 200" in p.stdout, (p.stdout, p.stderr)
    nobody = f"redis+cluster://127.0.0.1:{servers.free_ports(1)[0]}"
    assert "refused" in cli("stats", code=69, redis_url=nobody)


def test_passwords(tmp_path, quick_stub, driver):
    """In the URL, or beside it, which beats it; at every node, also at the one that takes over; and never told."""
    cluster = servers.Cluster(tmp_path, password="sesame")
    system = Spread(tmp_path, quick_stub, cluster)
    try:
        names = [queues[0] for queues in cluster.queues(1).values()]
        worker = system.worker(queues=",".join([*names, "translate"]))
        bare = "redis+cluster://" + ",".join(n.address for n in cluster.nodes)
        for queue in names:
            assert system.do(queue, type="translate", text="x")["status"] == "succeeded"
        p = subprocess.run([driver, "gather", "100"], env=system.env(redis_url=bare, ADWUMA_REDIS_PASSWORD="sesame"), capture_output=True, text=True,
                           timeout=60 * SLOW, check=False)
        assert p.returncode == 0 and "all 100" in p.stdout, (p.stdout, p.stderr)
        old = cluster.kill_master_of(names[0])
        cluster.failed_over(names[0], old)
        assert system.do(names[0], 20, type="translate", text="y")["status"] == "succeeded"
        p = subprocess.run([BUILD + "/adwuma", "stats"], env=system.env(redis_url=bare, ADWUMA_REDIS_PASSWORD="sesam"), capture_output=True, text=True,
                           timeout=60 * SLOW, check=False)
        assert p.returncode == 69 and "WRONGPASS" in p.stderr and "sesam" not in p.stderr, (p.returncode, p.stderr)
        assert "sesame" not in worker.log()
    finally:
        try:
            system.finish()
        finally:
            cluster.stop()


# --- A master dies.

@pytest.mark.parametrize("wait", [False, True], ids=["plain", "wait"])
def test_a_master_dies_under_load(system, cluster, spread, wait):
    """kill -9 when its replica is 0.3 s behind: what that explains is lost, with WAIT nothing, nothing is doubled; the others' queues do not notice."""
    names = [q for q, _ in spread]
    workers = [system.worker(queues=",".join(names), threads=4) for _ in range(2)]
    producers = loads(system, names, wait)
    others = [Pulse(system, q) for q in names[1:]]
    old = cluster.master_of(names[0])
    replicas = cluster.replicas_of(old)
    servers.leave_behind(old, replicas)
    behind = time.time()
    threading.Event().wait(0.3)
    old.kill()
    killed = time.time()
    for replica in replicas:
        replica.thaw()
    new_at = cluster.failed_over(names[0], old)
    before = system.succeeded(names[0])
    until(lambda: system.succeeded(names[0]) > before, WITHIN_S + 20, "new results at the new master")
    went_on = time.time() - new_at
    threading.Event().wait(1)
    gaps = [p.stop() for p in others]
    old.restart()
    until(cluster.is_well, 40, "the cluster is whole again")
    lost = accounts(system, producers)
    print(f"another master {new_at - killed:.2f} s after the death, first result {went_on:.2f} s after that; lost {({q: len(x) for q, x in lost.items()})} of "
          f"{({p.queues[0]: len(p) for p in producers})}, {system.stub.count() - sum(system.succeeded(q) for q in names)} calls more than results; "
          f"longest pause of the other queues {max(gaps):.2f} s")
    assert went_on < WITHIN_S
    accepted = producers[0].accepted[names[0]]
    assert all(behind - 0.1 <= accepted[i] <= killed + 0.1 for i in lost[names[0]])
    assert bool(lost[names[0]]) != wait and not any(lost[q] for q in names[1:])
    assert max(gaps) < 1.5, "queues of other masters had to wait"
    logs = "".join(w.log() for w in workers)
    assert not re.search(rf"lease (lost|renewed late)\" queue=({'|'.join(names[1:])})\b", logs), logs


def test_a_master_hangs_and_goes_on(system, cluster, spread):
    """Until its replica has taken over, and then it wakes up and has to follow."""
    names = [q for q, _ in spread]
    system.worker(queues=",".join(names), threads=4)
    producers = loads(system, names, True)
    others = [Pulse(system, q) for q in names[1:]]
    old = cluster.master_of(names[0])
    old.freeze()
    frozen = time.time()
    new_at = cluster.failed_over(names[0], old)
    before = system.succeeded(names[0])
    until(lambda: system.succeeded(names[0]) > before, WITHIN_S + 20, "new results at the new master")
    went_on = time.time() - new_at
    gaps = [p.stop() for p in others]
    old.thaw()
    until(cluster.is_well, 40, "the cluster is whole again")
    lost = accounts(system, producers)
    print(f"another master {new_at - frozen:.2f} s after the stop, first result {went_on:.2f} s after that; lost {lost}, "
          f"longest pause of the other queues {max(gaps):.2f} s")
    assert not any(lost.values()) and max(gaps) < 1.5
    assert went_on < WITHIN_S + 5


def test_the_library_and_a_batch_through_a_failover(system, cluster, driver, tmp_path):
    """What they had handed over, and a replica had, is answered, and so is what they hand over meanwhile."""
    system.worker(queues="translate,bulk", threads=4)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"type": "translate", "text": f"line {n}"}) + "\n" for n in range(3000)))
    batch = start([BUILD + "/adwuma", "batch", "in.jsonl", "-o", "out.jsonl", "-q", "bulk"], cwd=tmp_path, env=system.env(), stdin=subprocess.DEVNULL,
                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p = start([driver, "steady", "4000"], env=system.env(submit_ms=40000), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "quarter\n"
    until(lambda: system.succeeded("translate") + system.ask("translate", "LLEN", load.key("translate", "ready")) >= 1000, 20, "they are handed over")
    cluster.ask("translate", ("WAIT", 1, 2000))
    old = cluster.kill_master_of("translate")
    out, err = p.communicate("\n", timeout=80 * SLOW)
    assert p.returncode == 0 and out == "all 4000\n" and err == "", (out, err)
    _, err = batch.communicate(timeout=80 * SLOW)
    if batch.returncode == 69:  # its own master was the one that died: the same command goes on
        batch = subprocess.run(batch.args, cwd=tmp_path, env=system.env(), capture_output=True, text=True, timeout=80 * SLOW, check=False)
        err = batch.stderr
    assert batch.returncode == 0, err
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["result"]["text"] for r in out] == [f"[tw] line {n}" for n in range(3000)]
    assert cluster.master_of("translate") is not old


# --- A slot moves.

def test_a_slot_moves_there_and_back_under_load(system, cluster, spread, cli, driver):
    """Step by step, key by key; nothing is lost, nothing doubled, and other queues do not notice."""
    queue, home = spread[0]
    names = [q for q, _ in spread]
    workers = [system.worker(queues=",".join(names), threads=4) for _ in range(2)]
    producers = loads(system, names, False)
    others = [Pulse(system, q) for q in names[1:]]
    pulse = Pulse(system, queue)
    began, steps = time.time(), 0
    for to in (spread[1][1], home):
        before = redirects(cluster.master_of(queue), "ASK") + redirects(cluster.master_of(queue), "MOVED")
        source = cluster.master_of(queue)
        steps += cluster.move_slot(servers.slot_of(queue), to, keys_at_once=100)
        at = system.succeeded(queue)
        until(lambda at=at: system.succeeded(queue) > at + 100, 20, "it goes on at the new master")
        assert redirects(source, "ASK") + redirects(source, "MOVED") > before
    took = time.time() - began
    gaps = [p.stop() for p in others]
    pause = pulse.stop()
    lost = accounts(system, producers)
    done = sum(system.succeeded(q) for q in names)
    print(f"{sum(map(len, producers))} jobs; there and back in {steps} steps and {took:.1f} s; longest pause of that queue {pause:.2f} s, of the others {max(gaps):.2f} s; "
          f"{system.stub.count() - done} calls more than results")
    assert not any(lost.values()) and max(gaps) < 1.5
    assert system.stub.count() == done, "a move is no reason to call anything twice"
    assert all(w.process.poll() is None for w in workers)


def test_a_slot_that_is_between_two_masters(system, cluster, cli, driver):
    """MIGRATING for long, with some keys here and some there: who asks for single keys is sent on by ASK, and later by MOVED."""
    queue = "translate"
    source = cluster.master_of(queue)
    to = next(n for n in cluster.masters() if n is not source)
    slot = servers.slot_of(queue)
    system.worker(queues=queue)
    for n in range(5):
        assert system.do(queue, id=f"j{n}", text=f"{n}")["status"] == "succeeded"
    to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(to))
    moved = load.key(queue, "result:j3")
    source.client.execute_command("MIGRATE", "127.0.0.1", to.port, moved, 0, 5000)
    before = redirects(source, "ASK")
    assert cli("result", "-q", queue, "j3") == "[tw] 3\n" and cli("result", "-q", queue, "j2") == "[tw] 2\n"
    assert redirects(source, "ASK") > before
    cli("submit", "-q", queue, stdin=json.dumps({"id": "between", "text": "between"}))
    p = start([driver, "gather", "50"], env=system.env(submit_ms=40000), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    threading.Event().wait(2)  # so long it stays between the two
    while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
        source.client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
    for node in (to, source, *(n for n in cluster.masters() if n not in (to, source))):
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(to))
    assert system.result(queue, "between", 20)["status"] == "succeeded"
    out, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and "all 50" in out, (out, err)
    assert redirects(source, "MOVED") > 0 and cluster.master_of(queue) is to
    assert cli("translate", "after") == "[tw] after\n"
    system.quiet(queue)
