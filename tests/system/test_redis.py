"""Redis as it may be: far away, behind a password, slow, read-only, busy, refusing, cut off; and what an idle worker costs it."""
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis as redis_py
from conftest import BUILD, SANITIZED, RedisServer, System, until
from servers import Node, Pair, free_ports


def jobs(n, text="job", **more):
    return [{"id": f"{i}", "text": f"{text} {i}", **more} for i in range(n)]


def lines(w, event):
    return [line for line in w.log().splitlines() if f'event="{event}"' in line]


def commands(system):
    return system.redis.info("stats")["total_commands_processed"]


def cpu_ms(w):
    fields = open(f"/proc/{w.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10


# --- Where it is. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["in the URL", "apart", "apart beats the URL"])
def test_tcp_with_user_password_and_database(tmp_path, stub, how):
    port = free_ports(1)[0]
    server = RedisServer(tmp_path, "--port", str(port))
    try:
        system = System(tmp_path, stub, server)
        server.client.execute_command("ACL", "SETUSER", "kofi", "on", ">p@ss:w/rd", "~*", "+@all")
        server.client.execute_command("ACL", "SETUSER", "default", "resetpass", ">other")
        server.client = redis_py.Redis(unix_socket_path=server.socket, db=3, username="kofi", password="p@ss:w/rd")
        logins = {"in the URL": "kofi:p%40ss%3aw%2Frd@", "apart": "", "apart beats the URL": "ama:wrong@"}
        apart = {} if how == "in the URL" else {"redis_username": "kofi", "redis_password": "p@ss:w/rd"}
        w = system.worker(redis_url=f"redis://{logins[how]}127.0.0.1:{port}/3", **apart)
        assert system.do("translate", text="x")["status"] == "succeeded"
        assert "p@ss" not in w.log() and "p%40ss" not in w.log()
        system.finish()
    finally:
        server.stop()


def test_socket_with_database(system):
    system.server.client = redis_py.Redis(unix_socket_path=system.server.socket, db=2)
    system.worker(redis_url=f"unix://{system.server.socket}?db=2")
    assert system.do("translate", text="x")["status"] == "succeeded"
    assert system.redis.info("keyspace").keys() == {"db2"}


# --- Who answers. -----------------------------------------------------------------------------------------------------------


def test_a_user_without_our_commands_stops_the_start(system):
    system.redis.execute_command("ACL", "SETUSER", "weak", "on", ">p", "~*", "+@all", "-@scripting")
    w = system.worker(wait=False, redis_username="weak", redis_password="p")
    w.expected = 69
    assert w.process.wait(20) == 69 and "NOPERM" in w.log() and "cannot start" in w.log()


@pytest.mark.parametrize("rights", [["~*", "+@all", "-blmove"], ["~other*", "+@all"]])
def test_a_user_without_our_keys_stops_the_start(system, rights):
    system.redis.execute_command("ACL", "SETUSER", "weak", "on", ">p", *rights)
    w = system.worker(wait=False, redis_username="weak", redis_password="p")
    try:
        w.expected = w.process.wait(3)
        assert w.expected == 69
    except subprocess.TimeoutExpired:
        assert False, "still runs"


@pytest.fixture
def kinds(tmp_path):
    """A Redis alone, and a sentinel, by their ports."""
    ports = free_ports(2)
    nodes = [Node(tmp_path, ports[0]), Node(tmp_path, ports[1], conf=f"sentinel monitor other 127.0.0.1 {ports[0]} 1\n")]
    for node in nodes:
        node.wait()
    yield dict(zip(("redis", "sentinel"), ports))
    for node in nodes:
        node.stop()


@pytest.mark.parametrize("url,message", [
    ("redis://127.0.0.1:{sentinel}", "what answers is a sentinel: redis_url must begin with redis+sentinel://"),
    ("redis://127.0.0.1:{sentinel}/3", "what answers is probably a sentinel: redis_url must begin with redis+sentinel://"),
    ("redis+cluster://127.0.0.1:{sentinel}", "what answers is probably a sentinel: redis_url must begin with redis+sentinel://"),
    ("redis+cluster://127.0.0.1:{redis}", "what answers is no node of a cluster but a Redis alone: redis_url must begin with redis://"),
    ("redis+sentinel://127.0.0.1:{redis}/mine/0", "what answers is no sentinel but a Redis: redis_url must begin with redis:// or redis+cluster://"),
    ("redis+sentinel://127.0.0.1:{sentinel}/mine/0", "it watches no master 'mine'")])
def test_another_kind_of_redis_than_the_url_says_is_named(kinds, url, message):
    done = subprocess.run([BUILD + "/adwuma", "--redis-url", url.format(**kinds), "stats"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 69 and message in done.stderr and done.stdout == ""


class Pretender:
    """Something that speaks a little RESP, and says in INFO what the test wants."""

    def __init__(self, folder, info):
        self.path, self.info = f"{folder}/pretender.sock", info
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                end, _ = self.listener.accept()
            except OSError:
                return
            while data := end.recv(65536):
                info = self.info.encode()
                end.sendall(b"$%d\r\n%s\r\n" % (len(info), info) if b"INFO" in data else b"+OK\r\n")


@pytest.mark.parametrize("info,message", [
    ("redis_version:6.0.16\r\nrole:master\r\n", "Redis 6.0 is too old: 6.2 or newer is needed"), ("redis_version:5.0.1\r\n", "too old"), ("something:else\r\n", "no Redis")])
def test_too_old_or_no_redis_stops_the_start(system, info, message):
    pretender = Pretender(system.folder, info)
    w = system.worker(wait=False, redis_url="unix://" + pretender.path)
    w.expected = 69
    assert w.process.wait(20) == 69 and message in w.log()
    pretender.listener.close()


# --- What it does to us. ----------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(system):
    """A worker in the middle of 2,000 jobs."""
    system.stub.fault("delay=2")
    system.push("translate", *jobs(2000))
    system.worker(threads=8, lease_ms=1000)
    until(lambda: system.results("translate") > 200, what="jobs run")
    return system


def whole(system, jobs_in_all=2000):
    system.reconcile("translate", jobs_in_all)
    assert system.stats("translate") == {"succeeded": jobs_in_all}
    assert system.stub.count() == jobs_in_all  # not one call was made twice


def test_hangs_for_longer_than_a_lease(loaded):
    """An answer that comes late is no lost connection; leases have run out, are renewed, and no call is made twice."""
    loaded.server.process.send_signal(signal.SIGSTOP)
    until(lambda: loaded.stub.stats()["active"] == 0, what="no call runs")
    time.sleep(1.3)  # longer than the lease: this is the case itself
    loaded.server.process.send_signal(signal.SIGCONT)
    whole(loaded)
    until(lambda: len(lines(loaded.workers[0], "lease renewed late")) == 4, what="one for each queue")


def test_becomes_a_replica_and_a_master_again(loaded):
    loaded.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    until(lambda: lines(loaded.workers[0], "redis lost"), what="the loss is seen")
    loaded.redis.execute_command("REPLICAOF", "NO", "ONE")
    whole(loaded)
    until(lambda: lines(loaded.workers[0], "redis back"), what="all connections are back")
    assert len(lines(loaded.workers[0], "redis lost")) == len(lines(loaded.workers[0], "redis back")) == 1


def test_is_busy_with_a_script(loaded):
    loaded.redis.config_set("busy-reply-threshold", 10)
    other = redis_py.Redis(unix_socket_path=loaded.server.socket)

    def occupy():
        with pytest.raises(redis_py.ResponseError):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=occupy)
    thread.start()
    until(lambda: lines(loaded.workers[0], "redis lost"), what="BUSY is seen")
    loaded.redis.script_kill()
    thread.join()
    whole(loaded)
    assert len(lines(loaded.workers[0], "redis lost")) == 1 and "BUSY" in loaded.workers[0].log()


def lost_and_back(w, reason, times=1):
    until(lambda: len(lines(w, "redis back")) == times, what="all connections are back")
    assert len(lines(w, "redis lost")) == times and reason in lines(w, "redis lost")[-1]


def test_cannot_save_and_refuses_writes(tmp_path, stub):
    """MISCONF: the folder of its dumps is gone."""
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    server = RedisServer(tmp_path, "--dir", str(dumps), "--save", "3600 1000000")
    s = System(tmp_path, stub, server)
    try:
        s.push("translate", *jobs(400, "x stub(delay=20)"))
        w = s.worker(threads=8)
        until(lambda: s.results("translate") > 20, what="jobs run")
        dumps.rmdir()
        s.redis.bgsave()
        until(lambda: lines(w, "redis lost"), what="the refusal is seen")
        seen = s.redis.info("stats")["total_connections_received"]
        until(lambda: s.redis.info("stats")["total_connections_received"] > seen + 10, what="it is tried again and again")
        s.redis.config_set("stop-writes-on-bgsave-error", "no")
        whole(s, 400)
        lost_and_back(w, "MISCONF")
    finally:
        s.finish()
        server.kill()  # asked to stop, it would want to save


@pytest.fixture
def two(tmp_path, stub):
    """A master and its replica, behind a name that leads to the first: its new connections go where wire.to says."""
    pair = Pair(tmp_path)
    system = System(tmp_path, stub, pair.servers[0])
    yield system, pair.wire, *pair.servers
    system.finish()
    pair.stop()


def follow(server, other):
    server.client.execute_command("REPLICAOF", "127.0.0.1", other.flags[3])
    until(lambda: server.client.info("replication").get("master_link_status") == "up", what="it is a replica")


def as_of_6_2(reply):
    """How Redis 6.2 tells what a command met that a script called."""
    if not reply.startswith(b"-READONLY"):
        return reply
    return b"-ERR Error running script (call to f_0123): @user_script:95: @user_script: 95: -READONLY You can't write against a read only replica.\r\n"


@pytest.mark.parametrize("reply_as", [lambda reply: reply, as_of_6_2], ids=["now", "6.2"])
@pytest.mark.parametrize("doing", ["waits", "is paused", "has a result"])
def test_becomes_a_replica_and_keeps_its_clients(two, reply_as, doing):
    """FAILOVER, REPLICAOF, a managed service: no connection ends, and the name leads to another now."""
    system, wire, first, second = two
    wire.reply_as = reply_as
    w = system.worker(redis_url="unix://" + wire.path, lease_ms=3000, queues="translate")
    assert system.do("translate", text="a")["status"] == "succeeded"
    if doing == "is paused":  # no wait is there that Redis would end
        first.client.set("adwuma:{translate}:paused", '{"reason":"test"}')
        until(lambda: not [c for c in first.client.client_list() if "b" in c["flags"]], what="nothing is waited for")
    if doing == "has a result":
        system.push("translate", {"id": "b", "text": "b stub(delay=1000)"})
        until(lambda: stub_has(system), what="it runs")
    first.client.execute_command("WAIT", 1, 1000)
    second.client.execute_command("REPLICAOF", "NO", "ONE")
    wire.to = second.socket
    follow(first, second)
    system.server = second
    second.client.delete("adwuma:{translate}:paused")
    system.push("translate", {"id": "c", "text": "c"})
    for job in ("b", "c") if doing == "has a result" else ("c",):
        assert system.result("translate", job, 20)["status"] == "succeeded"
    until(lambda: len(lines(w, "redis back")) == len(lines(w, "redis lost")), what="it is back")
    assert "out of memory" not in w.log() and not lines(w, "redis refuses a command") and not lines(w, "redis refuses the keeper")


def stub_has(system):
    return system.stub.stats()["active"] > 0


def test_ends_connections_that_are_idle(system):
    """Its setting timeout: those that nobody uses while the queue is empty, or paused, are made anew, and that is no loss to tell."""
    system.redis.config_set("timeout", 2)
    w = system.worker(queues="translate", lease_ms=1000)
    try:
        for paused in (False, True):
            if paused:
                system.redis.set("adwuma:{translate}:paused", "")
            before = system.redis.info("stats")["total_connections_received"]
            until(lambda: system.redis.info("stats")["total_connections_received"] >= before + 2, 20, "they were made anew, twice")
        system.redis.delete("adwuma:{translate}:paused")
        assert system.do("translate", 20, text="a")["status"] == "succeeded"
        assert not lines(w, "redis lost")
    finally:
        system.redis.config_set("timeout", 0)


@pytest.mark.parametrize("cut", ["all but the wait", "the keeper", "the line", "the wait"])
def test_who_is_elsewhere_comes_along(two, cut):
    """A name leads elsewhere, and some connections to the one that was there hold. Nobody waits where no job comes any more, or renews a lease there. And
    CLIENT IDs begin anew in each server: the one of a wait at the first is a stranger's at the second."""
    system, wire, first, second = two
    second.client.execute_command("REPLICAOF", "NO", "ONE")
    w = system.worker(redis_url="unix://" + wire.path, queues="translate")
    assert system.do("translate", text="a")["status"] == "succeeded"

    def at_first():
        """{who: id}, by the last command of each; a round of the keeper ends with its probe."""
        found = [(c["cmd"], c["id"]) for c in first.client.client_list() if c["cmd"] != "client|list"]
        return {{"blmove": "the wait", "set": "the keeper"}.get(command, "the line"): client for command, client in found}

    until(lambda: len(at_first()) == 3, what="it waits, between two rounds")
    wire.to = second.socket
    for who, client in at_first().items():
        if who == cut or (cut == "all but the wait" and who != "the wait"):
            first.client.client_kill_filter(_id=client)
    system.server = second
    assert system.do("translate", 20, text="b")["status"] == "succeeded"
    until(lambda: not at_first(), what="all have left the first")
    assert w.stop() == 0
    assert "cmdstat_client|unblock" not in first.client.info("commandstats")


@pytest.mark.parametrize("error", [b"-NOREPLICAS Not enough good replicas to write.\r\n", b"-MOVED 1 127.0.0.1:1\r\n"], ids=["NOREPLICAS", "MOVED"])
def test_refuses_only_the_wait(wire, system, error):
    """As Redis 6.2 does, which lets scripts write without replicas. It is tried at growing intervals, and jobs are done all the same."""
    w = system.worker(redis_url="unix://" + wire.path, queues="translate")
    wire.refused = (b"BLMOVE", error)
    before = system.redis.info("stats")["total_connections_received"]
    for n in range(3):
        assert system.do("translate", 20, text=f"a{n}")["status"] == "succeeded"
    until(lambda: len(lines(w, "redis lost")) >= 4, what="it has tried some times")
    tries, began = system.redis.info("stats")["total_connections_received"] - before, time.monotonic()
    assert tries < 40, f"{tries} connections"
    until(lambda: time.monotonic() - began > 2, what="two more seconds")
    more = system.redis.info("stats")["total_connections_received"] - before - tries
    assert more < 10, f"{more} connections in two seconds"
    wire.refused = None
    until(lambda: lines(w, "redis lost") and len(lines(w, "redis lost")) == len(lines(w, "redis back")), what="it is back")


def test_wants_another_password(loaded):
    """NOAUTH: it got a password that this worker does not have, and lost it again."""
    loaded.redis.config_set("requirepass", "new")
    loaded.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
    until(lambda: "NOAUTH" in loaded.workers[0].log(), what="the refusal is told")
    other = redis_py.Redis(unix_socket_path=loaded.server.socket, password="new")
    until(lambda: loaded.stub.stats()["active"] == 0, what="no call runs")
    other.config_set("requirepass", "")
    whole(loaded)
    lost_and_back(loaded.workers[0], "")


def test_loads_its_data_for_a_while(tmp_path, stub):
    """LOADING: it is there, and answers everything with an error."""
    server = RedisServer(tmp_path, "--save", "3600 1000000")  # saves when it is asked to stop
    s = System(tmp_path, stub, server)
    try:
        s.redis.mset({f"other:{i}": "x" * 100 for i in range(1000)})
        stub.fault("delay=2")
        s.push("translate", *jobs(2000))
        w = s.worker(threads=8, lease_ms=1000)
        until(lambda: s.results("translate") > 200, what="jobs run")
        server.stop()
        until(lambda: lines(w, "redis lost"), what="the loss is seen")
        server.flags = (*server.flags, "--key-load-delay", "3000", "--loading-process-events-interval-bytes", "1024")
        server.start()
        assert "LOADING" in "".join(lines(w, "redis still lost"))
        whole(s, 2000)
        lost_and_back(w, "")
    finally:
        s.finish()
        server.kill()


def test_forgets_its_connections(wire, system):
    """Half-open: nothing comes, not even an end. Finite waits find it, and what was claimed meanwhile is done."""
    w = system.worker(threads=4, redis_url="unix://" + wire.path)
    assert system.do("translate", text="first")["status"] == "succeeded"
    until(lambda: system.redis.client_list(_type="normal") and "blmove" in str(system.redis.client_list()), what="it waits for jobs")
    wire.forget()
    system.push("translate", *jobs(8))
    system.reconcile("translate", 9)
    assert system.stub.count() == 9
    lost_and_back(w, "")


@pytest.mark.parametrize("back", [False, True], ids=["to Redis", "from Redis"])
def test_connections_break_at_any_byte(wire, system, back):
    """In the middle of a command, of a reply, of a number in it: carried out or not, nothing is lost and nothing done twice."""
    system.stub.fault("delay=1")
    system.push("translate", *jobs(12000))
    system.worker(threads=8, redis_url="unix://" + wire.path)
    until(lambda: system.results("translate") > 50, what="jobs run")
    wire.budgets = ((back, 97 * i + (i % 5 > 0) * 60000) for i in range(1, 80))  # 60,000: past the scripts and one turn
    wire.cut()
    whole(system, 12000)
    assert wire.cuts >= 8


@pytest.mark.core
def test_replies_get_lost(wire, system):
    """Claims and commits that were carried out, but nobody was told: repeated, and nothing is done twice."""
    system.stub.fault("delay=1")
    system.push("translate", *jobs(1000))
    system.worker(threads=8, redis_url="unix://" + wire.path)
    until(lambda: system.results("translate") > 100, what="jobs run")
    wire.lose_every = 25  # a connection's greeting alone takes seven
    until(lambda: wire.lost >= 10, 60, "replies are lost")
    wire.lose_every = 0
    whole(system, 1000)


def test_replies_get_lost_and_results_are_taken_away(wire, system):
    """A commit is repeated after its result was read and removed: it is still no second result, and no fencing."""
    system.stub.fault("delay=1")
    taken = []
    stop = threading.Event()

    def consume():
        redis = redis_py.Redis(unix_socket_path=system.server.socket)
        for i in range(1000):
            while not stop.is_set() and not (got := redis.blpop(f"adwuma:{{translate}}:result:{i}", 1)):
                pass
            taken.append(got)

    consumer = threading.Thread(target=consume)
    consumer.start()
    try:
        system.push("translate", *jobs(1000))
        system.worker(threads=8, redis_url="unix://" + wire.path)
        until(lambda: len(taken) > 50, what="results come")
        wire.lose_every = 25
        until(lambda: wire.lost >= 10, 60, "replies are lost")
        wire.lose_every = 0
        until(lambda: len(taken) == 1000, 60, "all are taken")
    finally:
        stop.set()
        consumer.join()
    until(lambda: not system.redis.keys("adwuma:{translate}:slot:*"), what="slots are empty")
    assert system.stats("translate") == {"succeeded": 1000} and system.results("translate") == 0


@pytest.mark.core
def test_cut_off_for_longer_than_the_lease(wire, system):
    """Calls end on the far side of a cut wire, others do the jobs; what comes back is refused, and the worker goes on."""
    text = "x stub(delay=700)"
    system.push("translate", *jobs(4, text))
    cut = system.worker(threads=4, redis_url="unix://" + wire.path, lease_ms=1000)
    until(lambda: system.stub.count() == 4, what="calls run")
    wire.open.clear()
    other = system.worker(threads=4, lease_ms=1000)
    results = [system.result("translate", str(i), 20) for i in range(4)]
    wire.open.set()
    until(lambda: system.stats("translate").get("fenced") == 4, 20, "late results are refused")
    system.reconcile("translate", 4)
    assert [system.result("translate", str(i)) for i in range(4)] == results
    assert system.stub.count() == 8
    other.stop()
    assert system.do("translate", text="y", seconds=20)["worker"].endswith(".1") and cut.process.poll() is None


def test_a_job_that_came_while_the_lease_was_lost(wire, system):
    """It was moved to a slot of the former id, and the worker hears of it under its new one."""
    w = system.worker(queues="translate", lease_ms=60000, redis_url="unix://" + wire.path)
    former = system.redis.zrange("adwuma:{translate}:workers", 0, -1)[0]
    wire.served.clear()
    until(lambda: system.redis.info("clients")["blocked_clients"] == 1, what="it waits")
    with system.redis.pipeline() as both:
        both.zrem("adwuma:{translate}:workers", former).lpush("adwuma:{translate}:ready", '{"id":"a","text":"x"}').execute()
    until(lambda: lines(w, "lease lost"), what="the worker knows")
    assert system.redis.llen("adwuma:{translate}:ready") == 0 and not system.results("translate")
    wire.served.set()
    assert system.result("translate", "a", 3)["status"] == "succeeded"
    system.reconcile("translate", 1)


@pytest.mark.parametrize("unsure", ["rerun", "hold"])
def test_lost_while_audio_is_read_costs_no_try(wire, system, unsure):
    """The audio comes from Redis piece by piece while it is sent; its loss is none of the job's, which has only one try."""
    key = "adwuma:{transcribe}:audio:long"
    system.redis.set(key, b"RIFF\0\0\0\0WAVEfmt " + bytes(600_000), ex=600)
    system.worker(redis_url="unix://" + wire.path)
    wire.hold_at = b"\r\n262144\r\n"  # the second piece is asked for
    system.push("transcribe", {"id": "a", "audio_key": key, "max_attempts": 1, "if_unsure": unsure})
    until(lambda: not wire.open.is_set(), what="the second piece is asked for")
    wire.hold_at = None
    system.redis.client_kill_filter(_type="normal", skipme=True)
    wire.open.set()
    result = system.result("transcribe", "a", 20)
    assert result["status"] == "succeeded" and result["attempts"] == 1, result
    assert system.stub.count() == 1
    assert not system.redis.keys("*:sent:*") or unsure == "hold"


def test_threads_that_get_no_connection_do_not_spin(system):
    """Redis takes no more clients: the line works, what needs a connection of its own waits."""
    system.worker(queues="translate")
    until(lambda: len(system.redis.client_list()) == 4, what="keeper, line and its wait are connected, and we")
    system.redis.config_set("maxclients", 4)
    system.push("translate", {"id": "a", "text": "x", "if_unsure": "hold"})
    until(lambda: system.redis.keys("adwuma:{translate}:slot:*"), what="it is taken")
    system.redis.config_resetstat()
    time.sleep(1)  # what is measured is this time
    assert system.redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] < 50
    system.redis.config_set("maxclients", 1000)
    assert system.result("translate", "a")["status"] == "succeeded"


WRONG = ["ready", "delayed", "stats", "dead", "workers"]


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_type_in_one_queue_is_told_once_and_others_go_on(system, key):
    w = system.worker(lease_ms=1000)
    system.do("translate", text="first")
    name = "adwuma:{translate}:" + key
    system.redis.delete(name)
    system.redis.set(name, "in the way")
    if key != "ready":
        system.push("translate", {"id": "held", "text": "x"})
    try:
        until(lambda: "WRONGTYPE" in w.log(), what="it is told")
        began, n = cpu_ms(w), commands(system)
        for _ in range(3):
            assert system.do("synthesize", text="x", language="twi", seconds=3)["status"] == "succeeded"
            time.sleep(0.5)  # what is measured is this time
        told, spent, used = w.log().count("WRONGTYPE"), cpu_ms(w) - began, commands(system) - n
    finally:
        system.redis.delete(name)
    assert system.do("translate", text="last")["status"] == "succeeded"
    if key != "ready":
        assert system.result("translate", "held")["status"] == "succeeded"
    assert told <= 4 and spent < 150 and used < 6000, (told, spent, used)


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_type_loses_nothing(system, key):
    system.worker(lease_ms=1000)
    system.do("translate", id="first", text="first")
    name = "adwuma:{translate}:" + key
    system.redis.delete(name)
    if key != "ready":
        system.push("translate", *jobs(20, "x stub(delay=200)"))
        until(lambda: system.stub.count() > 1, what="jobs run")
    system.redis.delete(name)
    system.redis.set(name, "in the way")
    until(lambda: "WRONGTYPE" in system.workers[0].log(), what="it is told")
    system.redis.delete(name)
    if key == "ready":
        system.push("translate", *jobs(20))
    until(lambda: system.results("translate") == 21, 20, "all are done")


def test_a_wrong_type_beside_dead_does_not_cut_a_turn_short(system):
    """Scripts are not rolled back: what is refused is refused before the first write, and counted in full afterwards."""
    w = system.worker()
    system.redis.lpush("adwuma:{translate}:dead", "{}")
    system.redis.lpush("adwuma:{translate}:dead_bytes", "in the way")
    system.push("translate", {"id": "a", "text": ""})
    until(lambda: "WRONGTYPE" in w.log(), what="it is told")
    assert not system.results("translate") and system.redis.llen("adwuma:{translate}:dead") == 1
    system.redis.delete("adwuma:{translate}:dead_bytes")
    system.result("translate", "a")
    assert system.stats("translate") == {"failed": 1}


def test_stop_while_redis_is_hung(system):
    """A stop must not wait for ever for a Redis that does not answer: the job waits in its slot, and another worker does it."""
    system.push("translate", {"id": "a", "text": "x stub(hang,times=1)"})
    w = system.worker(threads=1, lease_ms=1000, drain_timeout_s=0)
    until(lambda: system.stub.count() == 1, what="the call runs")
    system.server.process.send_signal(signal.SIGSTOP)
    w.send(signal.SIGTERM)
    w.expected = w.process.wait(40)
    assert w.expected == 69
    system.server.process.send_signal(signal.SIGCONT)
    system.worker(threads=1, lease_ms=1000)
    assert system.result("translate", "a", 20)["status"] == "succeeded"


# --- What we do to it. ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "paused", "quiet"])
def test_waiting_costs_next_to_nothing(system, state):
    w = system.worker(lease_ms=4000)
    if state == "paused":
        system.redis.set("adwuma:{translate}:paused", "lunch")
        until(lambda: lines(w, "queue paused"), what="pause is seen")
    if state == "quiet":
        w.send(signal.SIGTSTP)
        until(lambda: lines(w, "taking no more jobs"), what="quiet")
    if state != "idle":
        system.push("translate", *jobs(100))
    cpu, sent = cpu_ms(w), commands(system)
    time.sleep(1)  # what is measured is this time
    assert cpu_ms(w) - cpu < (50 if not SANITIZED else 500)
    assert commands(system) - sent < 800  # the audit looks into each own slot once per lease
    assert system.stub.count() == 0


def test_waiting_for_redis_costs_next_to_nothing(system):
    w = system.worker(lease_ms=1000)
    system.server.kill()
    until(lambda: lines(w, "redis lost"), what="the loss is seen")
    cpu = cpu_ms(w)
    time.sleep(1)  # what is measured is this time
    assert cpu_ms(w) - cpu < (100 if not SANITIZED else 500)
    system.server.start()
    assert system.do("translate", text="x")["status"] == "succeeded"
    until(lambda: lines(w, "redis back"), what="all connections are back")
    assert len(lines(w, "redis lost")) == len(lines(w, "redis back")) == 1


def test_a_worker_tells_who_it_is(system):
    w = system.worker(threads=3)
    system.push("translate", {"id": "a", "text": "x stub(hang)"})
    until(lambda: system.stub.count() == 1, what="the call runs")
    name = system.redis.zrange("adwuma:{translate}:workers", 0, -1)[0].decode()
    until(lambda: system.redis.hget(f"adwuma:{{translate}}:worker:{name}", "busy") == b"1", what="busy is told")
    who = {k.decode(): v.decode() for k, v in system.redis.hgetall(f"adwuma:{{translate}}:worker:{name}").items()}
    assert {"slots", "host", "pid", "version", "threads", "started_at_ms", "busy"} <= set(who)
    assert who["pid"] == str(w.process.pid) and who["threads"] == "3" and who["host"] == socket.gethostname() and int(who["slots"]) >= 3
    assert abs(int(who["started_at_ms"]) - time.time() * 1000) < 60000
    slots = [k for k in system.redis.keys("adwuma:{translate}:slot:*")]
    assert len(slots) == 1 and slots[0].decode().startswith(f"adwuma:{{translate}}:slot:{name}:")
    assert int(slots[0].rsplit(b":", 1)[1]) < int(who["slots"])
    lease = system.redis.zscore("adwuma:{translate}:workers", name) - time.time() * 1000
    assert 0 < lease <= 2100
    w.send(signal.SIGTERM)
    until(lambda: "stopping" in w.log(), what="it stops")
    w.send(signal.SIGTERM)


def test_two_workers_share_and_both_leave(system):
    workers = [system.worker(threads=4), system.worker(threads=4)]
    system.push("translate", *jobs(40, "x stub(delay=50)"))
    system.reconcile("translate", 40)
    names = {system.result("translate", str(i))["worker"] for i in range(40)}
    assert len(names) == 2
    for w in workers:
        assert w.stop() == 0
    assert not system.redis.keys("adwuma:*worker*") and not system.redis.keys("adwuma:*slot*")
    assert subprocess.run([BUILD + "/adwumad", "--version"], check=True, capture_output=True).stdout
