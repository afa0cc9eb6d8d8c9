"""Several Redis: a master with replicas and sentinels, and a cluster. Real processes on loopback ports, with AOF."""
import os
import random
import signal
import socket
import threading
import time

import redis as redis_py
from programs import REDIS_SERVER, SLOW, RedisServer, Wire, start, until

NOT_THERE = (redis_py.ConnectionError, redis_py.TimeoutError, redis_py.BusyLoadingError)
SLOTS = 16384  # of a cluster
BUS = 10000  # how far a cluster node's second port is from its first


OURS = []  # sockets that hold our ports against other runners, in which the same numbers may come up


def free_ports(n):
    """Below those that the kernel gives to outgoing connections, so that a server that was killed finds its own free again; and ours until we end."""
    found = []
    while len(found) < n:
        port = random.randrange(11000, 21000)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0adwuma-test-port-{port}")
            for p in (port, port + BUS):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", p))
        except OSError:
            mark.close()
            continue
        OURS.append(mark)
        found.append(port)
    return found


class Node:
    """One Redis, or sentinel, that may be killed, frozen, and started again with what it has on its disk."""

    def __init__(self, folder, port, *flags, password=None, conf=None, prefix=()):
        self.port, self.flags, self.password = port, flags, password
        self.prefix = prefix  # what starts it
        self.folder = f"{folder}/{port}"
        os.makedirs(self.folder, exist_ok=True)
        self.conf = None
        if conf:  # a sentinel, which writes into its file what it has learned
            self.conf = self.folder + "/sentinel.conf"
            with open(self.conf, "w", encoding="ascii") as f:
                f.write(conf)
        self.client = redis_py.Redis(port=port, password=password, socket_timeout=60, socket_connect_timeout=1)
        self.impatient = redis_py.Redis(port=port, password=password, socket_timeout=2, socket_connect_timeout=1)
        self.process = None
        self.frozen = False
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--logfile", self.folder + "/log", *self.flags]
        if self.password:
            options += ["--requirepass", self.password]
        self.process = start([REDIS_SERVER, self.conf, "--sentinel", *options[:6], *options[8:]] if self.conf else [*self.prefix, REDIS_SERVER, *options])

    def answers(self):
        assert self.process.poll() is None, f"the server at {self.port} ended; {self.folder}/log"
        try:
            return self.client.ping()
        except NOT_THERE:
            return False

    def wait(self):
        until(self.answers, 20, f"the server at {self.port} answers")

    def kill(self):
        """As kill -9 and as a power cut of the machine: nothing is said, nothing is saved."""
        self.process.kill()
        self.process.wait()
        self.frozen = False

    def restart(self):
        self.start()
        self.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    @property
    def runs(self):
        return self.process.poll() is None and not self.frozen

    def info(self, section):
        return self.client.info(section)

    def role(self):
        """'master', 'slave'; None where it is not there."""
        try:
            return self.client.execute_command("ROLE")[0].decode() if self.runs else None
        except NOT_THERE:
            return None

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Pair:
    """A master, its replica, and the address of the one that is the master; whoever is connected stays so when they change places."""

    def __init__(self, folder):
        self.servers = []
        for name, port in zip("ab", free_ports(2)):
            os.mkdir(f"{folder}/{name}")
            self.servers.append(RedisServer(f"{folder}/{name}", "--port", str(port), "--repl-diskless-sync-delay", "0"))
        self.port = port
        self.wire = Wire(folder, self.servers[0].socket)
        self.servers[1].client.replicaof("127.0.0.1", self.servers[0].client.config_get("port")["port"])
        until(lambda: self.servers[1].client.info("replication")["master_link_status"] == "up", what="the replica follows")

    @property
    def url(self):
        return "unix://" + self.wire.path

    @property
    def client(self):
        return next(s.client for s in self.servers if s.socket == self.wire.to)

    def change(self):
        old = self.client
        self.wire.to = self.servers[1].socket
        old.execute_command("FAILOVER", "TO", "127.0.0.1", self.port)
        until(lambda: old.info("replication")["role"] == "slave" and self.client.info("replication")["role"] == "master", what="they have changed places")

    def stop(self):
        self.wire.stop()
        for s in self.servers:
            s.stop()


def leave_behind(master, replicas):
    """From now on replicas hear nothing of what the master takes; thaw them when it is dead. Short, else they are thought dead, too."""
    for r in replicas:
        r.freeze()
    master.client.execute_command("CLIENT", "KILL", "TYPE", "replica")  # what is in the wire already would be read later


DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


DOWN_AFTER_MS = 2000  # with 1000 a busy machine's sentinels miss the new master, too, whose clients were just cut off, and replace it at once


class Sentinels:
    """One master, replicas, and sentinels that watch them under a name."""

    NAME = "adwuma-main"

    def __init__(self, folder, replicas=2, sentinels=3, quorum=2, down_after_ms=DOWN_AFTER_MS, failover_timeout_ms=6000, password=None, sentinel_password=None, flags=()):
        ports = free_ports(1 + replicas + sentinels)
        auth = ("--masterauth", password) if password else ()
        self.password, self.sentinel_password = password, sentinel_password
        self.nodes = [Node(folder, ports[0], *DURABLE, *auth, *flags, password=password)]
        self.nodes[0].wait()
        for port in ports[1:1 + replicas]:
            self.nodes.append(Node(folder, port, *DURABLE, *auth, *flags, "--replicaof", f"127.0.0.1 {ports[0]}", password=password))
        until(lambda: all(self.follows(n) for n in self.nodes[1:]), 20, "replicas follow the master")
        conf = f"sentinel monitor {self.NAME} 127.0.0.1 {ports[0]} {quorum}\nsentinel down-after-milliseconds {self.NAME} {down_after_ms}\n" \
            f"sentinel failover-timeout {self.NAME} {failover_timeout_ms}\nsentinel parallel-syncs {self.NAME} 2\n"
        if password:
            conf += f"sentinel auth-pass {self.NAME} {password}\n"
        if sentinel_password:
            conf += f"requirepass {sentinel_password}\nsentinel sentinel-pass {sentinel_password}\n"
        self.sentinels = [Node(folder, port, conf=conf) for port in ports[1 + replicas:]]
        for s in self.sentinels:
            s.client = redis_py.Redis(port=s.port, password=sentinel_password, socket_timeout=5, decode_responses=True)
            s.wait()
        until(lambda: all(self.knows_all(s) for s in self.sentinels), 30, "each sentinel knows the others and the replicas")

    @staticmethod
    def follows(node):
        try:
            return node.info("replication").get("master_link_status") == "up"
        except NOT_THERE:
            return False

    def master_at(self, sentinel):
        """What a sentinel knows of the master."""
        state = sentinel.client.execute_command("SENTINEL", "MASTER", self.NAME)
        return state if isinstance(state, dict) else dict(zip(state[::2], state[1::2]))

    def knows_all(self, sentinel):
        state = self.master_at(sentinel)
        return int(state["num-other-sentinels"]) == len(self.sentinels) - 1 and int(state["num-slaves"]) == len(self.nodes) - 1 and state["flags"] == "master"

    @property
    def where(self):
        return ",".join(s.address for s in self.sentinels)

    @property
    def url(self):
        return self.url_of()

    def url_of(self, where=None, name=None):
        """As redis_url; the password is that of the master."""
        user = f":{self.password}@" if self.password else ""
        return f"redis+sentinel://{user}{where or self.where}/{name or self.NAME}/0"

    @property
    def client(self):
        """Of who is the master now."""
        return self.named().client

    def named(self):
        """The master that the sentinels name now: most of those that run."""
        names = []
        for s in self.sentinels:
            if s.runs:
                try:
                    names.append(int(s.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)[1]))
                except NOT_THERE:
                    pass
        return next(n for n in self.nodes if n.port == max(names, key=names.count))

    def patience(self, ms=DOWN_AFTER_MS):
        """How long a master may be silent from now on."""
        for s in self.sentinels:
            s.client.execute_command("SENTINEL", "SET", self.NAME, "down-after-milliseconds", ms)

    def failed_over(self, old, seconds=30):
        """Waits until the sentinels name another that says so itself; the moment of time.time() at which both was so first."""
        until(lambda: self.named() is not old and self.named().role() == "master", seconds, "the sentinels name another master")
        return time.time()

    def whole_again(self, seconds=30):
        """Every node runs and follows the one master."""
        until(lambda: all(n.runs and (n is self.named() and n.role() == "master" or self.follows(n) and n.role() == "slave") for n in self.nodes), seconds,
              "all follow one master")

    def stop(self):
        for n in self.sentinels + self.nodes:
            n.stop()


def slot_of(queue, prefix="adwuma"):
    return redis_py.crc.key_slot(f"{prefix}:{{{queue}}}:ready".encode())


class Cluster:
    """Masters with a replica each."""

    def __init__(self, folder, masters=3, replicas=3, node_timeout_ms=1500, password=None, flags=(), prefix=()):
        """prefix: what starts the first of them."""
        ports = free_ports(masters + replicas)
        auth = ("--masterauth", password) if password else ()
        self.password = password
        self.nodes = [Node(folder, p, *DURABLE, *auth, *flags, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout",
                           str(node_timeout_ms), "--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no", password=password,
                           prefix=prefix if p == ports[0] else ())
                      for p in ports]
        self.known = {}  # slot -> node, as last learned
        self.lock = threading.Lock()
        for n in self.nodes:
            n.wait()
        self.ids = {n.client.execute_command("CLUSTER", "MYID").decode(): n for n in self.nodes}
        for i, n in enumerate(self.nodes):
            n.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            if i < masters:
                n.client.execute_command("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // masters, SLOTS * (i + 1) // masters - 1)
            if i:
                self.nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", n.port)
        until(lambda: all(len(self.view(n)) == len(self.nodes) and not any("handshake" in v["flags"] for v in self.view(n).values()) for n in self.nodes), 20,
              "all nodes have met")
        for i, n in enumerate(self.nodes[masters:]):
            n.client.execute_command("CLUSTER", "REPLICATE", self.id_of(self.nodes[i % masters]))
        until(self.is_well, 30, "the cluster is up, with all replicas")

    def id_of(self, node):
        return next(i for i, n in self.ids.items() if n is node)

    def replicas_of(self, master):
        return [self.ids[i] for i, v in self.view(master).items() if v["master"] == self.id_of(master) and "fail" not in v["flags"]]

    @staticmethod
    def view(node):
        """What that node thinks: {id: {"port", "flags", "master", "slots"}}."""
        seen = {}
        for line in node.client.execute_command("CLUSTER", "NODES").decode().splitlines() if node.runs else []:
            parts = line.split()
            seen[parts[0]] = {"port": int(parts[1].split("@")[0].rsplit(":", 1)[1]), "flags": parts[2].split(","), "master": parts[3], "up": parts[7] == "connected",
                              "slots": [tuple(map(int, (s + "-" + s).split("-")[:2])) for s in parts[8:] if not s.startswith("[")]}
        return seen

    @staticmethod
    def state(node):
        return dict(line.split(":", 1) for line in node.client.execute_command("CLUSTER", "INFO").decode().split())

    def is_well(self):
        try:
            for n in self.nodes:
                view = self.view(n).values()
                if self.state(n)["cluster_state"] != "ok" or any("fail" in f for v in view for f in v["flags"]):
                    return False
                if sum(b - a + 1 for v in view for a, b in v["slots"]) != SLOTS:  # it has not heard of all masters' yet, and without full coverage is well so
                    return False
            return all(n.role() == "master" or Sentinels.follows(n) for n in self.nodes)
        except NOT_THERE:
            return False

    def owner(self, slot):
        """The master of a slot, by the newest of what the nodes that run say of themselves."""
        best = None
        for n in self.nodes:
            try:
                if not n.runs:
                    continue
                me = next(v for v in self.view(n).values() if "myself" in v["flags"])
                if "master" in me["flags"] and any(a <= slot <= b for a, b in me["slots"]):
                    epoch = int(self.state(n)["cluster_my_epoch"])
                    if best is None or epoch > best[0]:
                        best = epoch, n
            except NOT_THERE:
                pass
        return best and best[1]

    def master_of(self, queue):
        return until(lambda: self.owner(slot_of(queue)), 30, f"somebody serves {queue}")

    def client_of(self, queue):
        return self.master_of(queue).client

    def node_at(self, port):
        return next(n for n in self.nodes if n.port == int(port))

    def ask(self, queue, *commands):
        """Commands about one queue's keys in one trip, wherever they are now: what they answer. Raises what NOT_THERE names, or an error reply."""
        slot = slot_of(queue)
        with self.lock:
            node = self.known.get(slot)
        node = node or self.master_of(queue)
        answers, open_at, redirects, asking = [None] * len(commands), range(len(commands)), 0, False
        try:
            while open_at:
                pipe = node.impatient.pipeline(transaction=False)
                for i in open_at:
                    if asking:
                        pipe.execute_command("ASKING")
                    pipe.execute_command(*commands[i])
                for i, answer in zip(open_at, pipe.execute(raise_on_error=False)[asking::1 + asking]):
                    answers[i] = answer
                open_at = [i for i in open_at if isinstance(answers[i], redis_py.ResponseError)]
                if open_at:
                    word, _, where = (str(answers[open_at[0]]) + "  ").split(" ", 2)
                    redirects += 1
                    if word not in ("MOVED", "ASK") or redirects > 5:
                        raise answers[open_at[0]]
                    asking, node = word == "ASK", self.node_at(where.strip().rsplit(":", 1)[1])
        except Exception:
            with self.lock:
                self.known.pop(slot, None)
            raise
        if not asking:
            with self.lock:
                self.known[slot] = node
        return answers

    @property
    def url(self):
        return self.url_of(*self.nodes)

    def url_of(self, *seeds):
        user = f":{self.password}@" if self.password else ""
        return "redis+cluster://" + user + ",".join(s.address for s in seeds)

    def queues(self, each, stem="q"):
        """Names of queues, so many for each master: {node: [name, …]}."""
        names, n = {m: [] for m in self.masters()}, 0
        while any(len(have) < each for have in names.values()):
            owner = self.owner(slot_of(f"{stem}{n}"))
            if len(names[owner]) < each:
                names[owner].append(f"{stem}{n}")
            n += 1
        return names

    def masters(self):
        return [n for n in self.nodes if n.role() == "master"]

    def kill_master_of(self, queue):
        node = self.master_of(queue)
        node.kill()
        return node

    def failed_over(self, queue, old, seconds=30):
        """Waits until another serves that queue; the moment."""
        def served():
            try:
                owner = self.owner(slot_of(queue))
                return owner and owner is not old and owner.client.exists(f"adwuma:{{{queue}}}:nothing") == 0
            except (*NOT_THERE, redis_py.ResponseError):
                return False
        until(served, seconds, f"another master serves {queue}")
        return time.time()

    def move_slot(self, slot, to, keys_at_once=20, between=lambda: None):
        """Step by step, while it is used; between() is called while its keys are in two places. How many steps it took."""
        source = self.owner(slot)
        if source is to:
            return 0
        steps = 0
        to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        auth = ("AUTH", self.password) if self.password else ()
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, keys_at_once):
            source.client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, *auth, "KEYS", *keys)
            steps += 1
            between()
        for node in [to, source, *(n for n in self.masters() if n not in (to, source))]:  # the new one first, so that it is never nobody's
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))
        with self.lock:
            self.known.pop(slot, None)
        return steps

    def stop(self):
        for n in self.nodes:
            n.stop()


def repeat(action, seconds, what, errors=NOT_THERE):
    """Until it goes through; what it gives."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        try:
            return action()
        except errors as e:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}: {e!r}") from e
            time.sleep(0.02)
