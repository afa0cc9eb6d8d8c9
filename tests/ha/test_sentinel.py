"""A master with replicas, watched by sentinels: it fails, another is named, and the service goes on by itself."""
import json
import signal
import socket
import subprocess
import threading
import time

import load
import programs
import pytest
import redis as redis_py
import servers
from conftest import BUILD, SLOW, Stub, System, start, until

QUEUE = "translate"
RATE = 2000 if SLOW == 1 else 500  # jobs a second
WITHIN_S = 10  # of the moment at which the new master is named


class NotReplicated(redis_py.ConnectionError):
    """No replica has it yet, so it is pushed again under the same ids."""


@pytest.fixture
def make(tmp_path):
    """make(…) starts a set of servers; all are ended."""
    made = []

    def make(**how):
        made.append(servers.Sentinels(tmp_path, **how))
        return made[-1]
    yield make
    for s in made:
        s.stop()


@pytest.fixture
def fleet(make):
    return make()


@pytest.fixture
def system_of(tmp_path, quick_stub):
    systems = []

    def of(fleet):
        systems.append(Patient(tmp_path, quick_stub, fleet))
        return systems[-1]
    yield of
    for s in systems:
        s.finish()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return programs.library_driver(tmp_path_factory.mktemp("driver"))


class Patient(System):
    """Its own connections break, too, when the master changes."""

    def push(self, *args):
        servers.repeat(lambda: System.push(self, *args), 20, "jobs are accepted")

    def result(self, *args):
        return servers.repeat(lambda: System.result(self, *args), 20, "a result is read")


def cli(system, *args, code=0, **settings):
    p = subprocess.run([BUILD + "/adwuma", *args], env=system.env(**settings), capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert p.returncode == code, f"{args}: {p.returncode}\n{p.stdout}\n{p.stderr}"
    return p.stdout + p.stderr if code else p.stdout


class Pusher:
    """A producer's connection: asks the sentinels when it has none, and again whenever something is wrong."""

    def __init__(self, fleet, wait):
        """wait: for so many replicas; 0 for none."""
        self.fleet, self.wait, self.client = fleet, int(wait), None

    def __call__(self, queue, jobs):
        if not self.client:
            self.client = redis_py.Redis(port=self.fleet.named().port, password=self.fleet.password, socket_timeout=1, socket_connect_timeout=1)
        try:
            pipe = self.client.pipeline(transaction=False)
            pipe.lpush(load.key(queue, "ready"), *jobs)
            if self.wait:
                pipe.execute_command("WAIT", self.wait, 500)
            if pipe.execute()[-1] < self.wait:
                raise NotReplicated()
        except load.NOT_NOW as e:
            if not isinstance(e, NotReplicated) or self.fleet.named().port != self.client.connection_pool.connection_kwargs["port"]:
                self.client = None
            raise


def succeeded(r):
    try:
        return int(r.hget(load.key(QUEUE, "stats"), "succeeded") or 0)
    except servers.NOT_THERE:
        return 0


def measured_rate(r, seconds=3):
    began, before = time.monotonic(), succeeded(r)
    threading.Event().wait(seconds)
    return (succeeded(r) - before) / (time.monotonic() - began)


def quiet(fleet, system, queue=QUEUE, seconds=60):
    until(lambda: not load.left(fleet.client, queue), seconds, "every job has ended" + "".join("\n" + w.log()[-1500:] for w in system.workers))


def watch_going_on(fleet, named_at, before):
    """How long after the naming the first new result was there."""
    master = fleet.named()
    until(lambda: succeeded(master.client) > before, WITHIN_S + 20, "new results at the new master")
    return time.time() - named_at


def loaded(system, producer, rate=RATE):
    """4 threads have the whole load in hand."""
    producer.start()
    until(lambda: succeeded(system.redis) > rate, 20, "the load is on")
    had = measured_rate(system.redis)
    assert had > 0.9 * rate, f"only {had:.0f} jobs/s before the failover"
    return had


def check_losses(producer, lost, from_s, to_s):
    """Only what was accepted by a master that could not tell its replicas any more."""
    accepted = producer.accepted[QUEUE]
    strange = {i: accepted[i] for i in lost if not from_s <= accepted[i] <= to_s}
    assert not strange, f"{len(strange)} jobs are lost that were accepted at another time, such as {list(strange.items())[:3]}, not {from_s}…{to_s}"


@pytest.mark.parametrize("wait", [False, True], ids=["plain", "wait"])
def test_the_master_dies_under_load(fleet, system_of, wait):
    """kill -9 at 2,000 jobs/s, when the replicas are 0.3 s behind. It goes on by itself; what replication had not carried is lost, and no more; with
    WAIT nothing is."""
    system = system_of(fleet)
    workers = [system.worker(threads=4, queues=QUEUE)]
    producer = load.Load(Pusher(fleet, wait), RATE)
    rate = loaded(system, producer)
    old = fleet.named()
    replicas = [n for n in fleet.nodes if n is not old]
    servers.leave_behind(old, replicas)
    behind = time.time()
    threading.Event().wait(0.3)
    old.kill()
    killed = time.time()
    for replica in replicas:
        replica.thaw()
    named_at = fleet.failed_over(old)
    went_on = watch_going_on(fleet, named_at, succeeded(fleet.client))
    after = measured_rate(fleet.client)
    # The old one comes back, as a replica that nobody writes to.
    old.restart()
    fleet.whole_again()
    accepted = producer.end()
    quiet(fleet, system)
    assert old.role() == "slave" and "cmdstat_evalsha" not in old.info("commandstats"), "somebody runs scripts at the replica"
    lost = load.account(fleet.client, QUEUE, producer.accepted[QUEUE])
    done = succeeded(fleet.client)
    print(f"{accepted} jobs accepted, {rate:.0f}/s before and {after:.0f}/s after; named {named_at - killed:.2f} s after the death, first result {went_on:.2f} s after "
          f"that; {len(lost)} lost, {system.stub.count() - done} calls more than results, the producer was held for {producer.longest_gap:.2f} s")
    assert went_on < WITHIN_S
    assert after > 0.5 * RATE, "it does not do what it did before"
    check_losses(producer, lost, behind - 0.1, killed + 0.1)
    assert bool(lost) != wait, "with WAIT none may be lost, and without some are, else this shows nothing"
    assert system.stub.count() - done <= 0.5 * RATE, "more was called again than those 0.3 s explain"
    log = workers[0].log()
    assert log.count('"redis lost"') == log.count('"redis back"') == 1, log
    lost, back = (line for line in log.splitlines() if '"redis lost"' in line or '"redis back"' in line)
    assert old.address + " of " + fleet.NAME in lost and fleet.named().address + " of " + fleet.NAME in back, "it does not say whom it lost and found"


@pytest.mark.parametrize("frozen_s", [5, 14], ids=["shortly", "long"])
def test_the_master_hangs_and_goes_on(fleet, system_of, frozen_s):
    """SIGSTOP, and SIGCONT when another is the master. For a while there are two: what the old one takes then is lost, and no more."""
    system = system_of(fleet)
    system.worker(threads=4, queues=QUEUE)
    producer = load.Load(Pusher(fleet, True), RATE)
    loaded(system, producer)
    old = fleet.named()
    old.freeze()
    frozen = time.time()
    named_at = fleet.failed_over(old)
    before = succeeded(fleet.client)
    went_on = watch_going_on(fleet, named_at, before)
    threading.Event().wait(max(0.0, frozen + frozen_s - time.time()))
    old.thaw()
    evals = old.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    fleet.whole_again()
    producer_on = len(producer)
    until(lambda: len(producer) > producer_on + RATE, 20, "the load goes on")
    accepted = producer.end()
    quiet(fleet, system)
    lost = load.account(fleet.client, QUEUE, producer.accepted[QUEUE])
    evals = old.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0) - evals
    print(f"{accepted} jobs; named {named_at - frozen:.2f} s after the stop, first result {went_on:.2f} s after that; {evals} scripts run at the old one after it "
          f"went on; {len(lost)} lost, {system.stub.count() - succeeded(fleet.client)} calls more than results")
    assert not lost, f"WAIT had said that a replica has them: {sorted(lost)[:5]}"
    assert went_on < WITHIN_S and evals == 0


def planned(fleet, closed=True):
    """A master that is well is replaced; closed: in the way that README says. When that was."""
    if closed:
        fleet.client.config_set("min-replicas-to-write", 100)
    fleet.sentinels[-1].client.execute_command("SENTINEL", "FAILOVER", fleet.NAME)
    return time.time()


@pytest.mark.parametrize("closed", [False, True], ids=["plain", "closed"])
def test_a_planned_failover(fleet, system_of, closed):
    """SENTINEL FAILOVER of a master that is well: for some ten seconds there are two. Who works at the old one leaves it when the other is named; where it
    takes no more writes, as README says, nothing is lost, and nothing called again."""
    system = system_of(fleet)
    system.worker(threads=4, queues=QUEUE)
    producer = load.Load(Pusher(fleet, 0 if closed else 2), RATE)
    loaded(system, producer)
    old = fleet.named()
    asked = planned(fleet, closed)
    named_at = fleet.failed_over(old)
    went_on = watch_going_on(fleet, named_at, succeeded(fleet.client))
    was = old.role()
    accepted = producer.end()
    fleet.whole_again()
    quiet(fleet, system)
    lost = load.account(fleet.client, QUEUE, producer.accepted[QUEUE])
    print(f"{accepted} jobs; named {named_at - asked:.2f} s after it was asked for, first result {went_on:.2f} s after that; {len(lost)} lost, "
          f"{system.stub.count() - succeeded(fleet.client)} calls more than results; the producer was held for {producer.longest_gap:.2f} s")
    assert was == "master", "it was told already: this shows nothing"
    assert went_on < 4 * SLOW
    assert not lost, f"{sorted(lost)[:5]}: WAIT had said that both replicas have them, or they were pushed before it was closed"
    assert system.stub.count() - succeeded(fleet.client) <= (0 if closed else 4 * RATE)


def test_all_kinds_and_the_command_line(fleet, system_of, tmp_path):
    """Before, during and after a failover; what waits, is delayed, dead, paused stays what it is."""
    system = system_of(fleet)
    system.worker(threads=4, lease_ms=3000)
    assert cli(system, "translate", "before") == "[tw] before\n"
    (tmp_path / "a.wav").write_bytes(b"")
    cli(system, "synthesize", "Me ho yɛ", "-o", str(tmp_path / "a.wav"))
    system.push(QUEUE, {"id": "later", "text": "later", "not_before_ms": int(time.time() * 1000) + 4000}, {"id": "bad", "text": "x stub(status=401,times=1)"})
    assert system.result(QUEUE, "bad")["status"] == "failed"
    cli(system, "pause", "transcribe", "--reason", "test")
    job = cli(system, "transcribe", "--no-wait", str(tmp_path / "a.wav")).strip()
    fleet.client.execute_command("WAIT", 2, 2000)
    old = fleet.named()
    fleet.patience(60000)
    old.kill()
    refused = cli(system, "translate", "during", code=69)  # the command line does not wait for a master
    assert fleet.NAME in refused and "refused" in refused, refused
    fleet.patience()
    fleet.failed_over(old)
    assert cli(system, "translate", "after", "--timeout", "40") == "[tw] after\n"
    assert "waiting" in cli(system, "result", job, code=75)
    cli(system, "resume", "transcribe")
    assert cli(system, "result", job, "--wait", "20") == "Me ho yɛ\n"
    cli(system, "dead", "retry", "-q", QUEUE, "bad")
    assert system.result(QUEUE, "bad", 20)["status"] == "succeeded" and system.result(QUEUE, "later", 20)["status"] == "succeeded"
    assert [json.loads(line)["alive"] for line in cli(system, "workers", "--json", "-q", QUEUE).splitlines()] == [True]
    assert QUEUE in cli(system, "stats")
    doctor = cli(system, "doctor", code=0)
    assert "BAD" not in doctor, doctor


@pytest.mark.parametrize("how", ["dies", "is replaced"])
def test_the_library_gathers_through_a_failover(fleet, system_of, driver, how):
    """What it had handed over, and a replica had, is answered; so is what it hands over while there is no master, or one that takes nothing."""
    system = system_of(fleet)
    system.worker(threads=4, lease_ms=3000)
    p = start([driver, "steady", "4000"], env=system.env(submit_ms=40000), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "quarter\n"
    until(lambda: succeeded(fleet.client) + fleet.client.llen(load.key(QUEUE, "ready")) >= 1000, 20, "they are handed over")
    if how == "dies":
        fleet.client.execute_command("WAIT", 2, 2000)
        fleet.named().kill()
    else:
        planned(fleet)
    out, err = p.communicate("\n", timeout=80 * SLOW)
    assert p.returncode == 0 and out == "all 4000\n" and err == "", (out, err)
    quiet(fleet, system)


def test_a_stream_through_a_failover(fleet, system_of):
    """Pieces that no replica had are gone with the old master, and no other; the rest goes on in order, and ends once, with the whole."""
    system = system_of(fleet)
    system.worker(lease_ms=10000)
    said = " ".join(f"word{n}" for n in range(200))
    system.push("taskingai", {"id": "s", "type": "taskingai.chat_completion",
                              "params": {"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": f"{said} stub(pace=30)"}]}})
    stream = load.key("taskingai", "stream:s")
    until(lambda: fleet.client.xlen(stream) >= 20, 20, "pieces come")
    old = fleet.named()
    replicas = [n for n in fleet.nodes if n is not old]
    servers.leave_behind(old, replicas)
    had = old.client.xlen(stream)
    until(lambda: old.client.xlen(stream) >= had + 10, 10, "more pieces have come")
    gone_to = old.client.xlen(stream) + 10  # some may come until it is dead
    old.kill()
    for replica in replicas:
        replica.thaw()
    fleet.failed_over(old)
    result = system.result("taskingai", "s", 40)
    assert result["result"]["data"]["message"]["content"] == f"Echo: {said}"
    entries = [(e[b"event"].decode(), json.loads(e[b"data"])) for _, e in fleet.client.xrange(stream)]
    names = [name for name, _ in entries]
    assert names[-1] == "done" and set(names[:-1]) == {"chunk"} and entries[-1][1] == result["result"], names
    pieces = [d["index"] for name, d in entries[:-1]]
    assert pieces == sorted(set(pieces)), "a piece came twice, or out of order"
    missing = set(range(201)) - set(pieces)
    print(f"{len(pieces)} pieces, {len(missing)} went with the old master; {system.stub.count()} calls")
    assert missing and all(had - 5 <= i <= gone_to for i in missing), sorted(missing)
    assert system.stub.count() == 1


# --- Sentinels that are away, hang, or say what is not so.

def test_one_sentinel_is_enough(fleet, system_of):
    """The last of the list; the others are dead, and with them the chance of a failover, but not the service."""
    system = system_of(fleet)
    w = system.worker(queues=QUEUE)
    for s in fleet.sentinels[:2]:
        s.kill()
    assert system.do(QUEUE, text="a")["status"] == "succeeded"
    fleet.client.client_kill_filter(_type="normal", skipme=True)
    assert system.do(QUEUE, 20, text="b")["status"] == "succeeded"
    assert cli(system, "translate", "c") == "[tw] c\n"
    assert w.stop() == 0
    system.worker(queues=QUEUE)  # starts anew through the one


def test_the_first_sentinel_hangs(fleet, system_of):
    """It takes connections and says nothing."""
    system = system_of(fleet)
    fleet.sentinels[0].freeze()
    system.worker(queues=QUEUE)
    began = time.monotonic()
    fleet.client.client_kill_filter(_type="normal", skipme=True)
    assert system.do(QUEUE, 30, text="a")["status"] == "succeeded"
    assert time.monotonic() - began < WITHIN_S
    old = fleet.named()
    old.kill()
    named_at = fleet.failed_over(old)
    assert system.do(QUEUE, 30, text="b")["status"] == "succeeded"
    print(f"a result {time.time() - named_at:.2f} s after the naming")
    assert time.time() - named_at < WITHIN_S
    fleet.sentinels[0].thaw()


class Liar:
    """A sentinel that has heard nothing for long: it names a master of the past."""

    def __init__(self, port):
        self.port, self.asked = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection, connection.makefile("rwb") as f:
            while (head := f.readline()).startswith(b"*"):
                words = [f.read(int(f.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]
                if words[0].upper() == b"SENTINEL":
                    self.asked += 1
                    f.write(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(self.port)), self.port))
                else:
                    f.write(b"+PONG\r\n")
                f.flush()


@pytest.mark.parametrize("names", ["a replica", "nobody"])
def test_a_sentinel_that_is_wrong_is_not_believed_for_ever(fleet, system_of, names):
    """It is the first in the list, and names a replica, or a port where nobody is: the others are asked, too."""
    port = next(n for n in fleet.nodes if n is not fleet.named()).port if names == "a replica" else servers.free_ports(1)[0]
    liar = Liar(port)
    system = system_of(fleet)
    url = fleet.url_of(where=f"{liar.address},{fleet.where}")
    w = system.worker(wait=False, queues=QUEUE, redis_url=url)
    system.push(QUEUE, {"id": "a", "text": "x"})
    until(lambda: liar.asked, 10, "it is asked")
    assert system.result(QUEUE, "a", WITHIN_S)["status"] == "succeeded"
    assert cli(system, "translate", "x", "--timeout", "20", redis_url=url) == "[tw] x\n"
    assert w.stop(signal.SIGTERM) == 0


def test_a_name_that_nobody_watches(fleet, system_of):
    system = system_of(fleet)
    url = fleet.url_of(name="nobody")
    for said in (cli(system, "stats", code=69, redis_url=url), cli(system, "translate", "x", code=69, redis_url=url)):
        assert "nobody" in said and "sentinel" in said, said
    w = system.worker(wait=False, queues=QUEUE, redis_url=url)
    w.expected = 69
    assert w.process.wait(20 * SLOW) == 69
    assert "nobody" in w.log() and "sentinel" in w.log(), w.log()


@pytest.mark.parametrize("sentinel_password", [None, "sesame"], ids=["of-the-master", "of-both"])
def test_passwords(make, system_of, sentinel_password):
    """In the URL, or beside it, which beats it; through a failover, and never told."""
    fleet = make(password="sesame", sentinel_password=sentinel_password)
    system = system_of(fleet)
    worker = system.worker(queues=QUEUE)
    assert system.do(QUEUE, text="a")["status"] == "succeeded"
    bare = f"redis+sentinel://{fleet.where}/{fleet.NAME}/0"
    assert cli(system, "translate", "b", redis_url=bare, ADWUMA_REDIS_PASSWORD="sesame") == "[tw] b\n"
    fleet.client.execute_command("WAIT", 2, 2000)
    old = fleet.named()
    old.kill()
    fleet.failed_over(old)
    assert system.do(QUEUE, 30, text="c")["status"] == "succeeded"
    wrong = cli(system, "stats", code=69, redis_url=bare, ADWUMA_REDIS_PASSWORD="sesam")
    assert "sesam" not in wrong and "sesame" not in worker.log()
