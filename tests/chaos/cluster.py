"""Redis as a cluster of three masters with a replica each: the campaign's servers and wires, and a client that finds the node of a key."""
import re
import time
import types

import redis
import servers

from chaos import campaign, plan

BEHIND_S = 0.25  # how long before its death a master's replicas hear nothing of it


class NotReplicated(redis.ConnectionError):
    """No replica has it yet: it does not count as accepted."""


def queue_of(key):
    key = key.decode() if isinstance(key, bytes) else key
    return re.search(r"\{(.*?)\}", key)[1]


class Client:
    """As redis.Redis, as far as the campaign needs it. What the cluster says of a move or a failover is a lost connection here."""

    def __init__(self, cluster):
        self.cluster, self.known = cluster, {}

    def node(self, key):
        queue = queue_of(key)
        if queue not in self.known:
            owner = self.cluster.owner(servers.slot_of(queue))
            if not owner:
                raise redis.ConnectionError(f"nobody serves {queue}")
            self.known[queue] = owner
        return self.known[queue].impatient

    def guard(self, action):
        try:
            return action()
        except (redis.ConnectionError, redis.TimeoutError):
            self.known.clear()
            raise
        except redis.ResponseError as e:
            self.known.clear()
            if isinstance(e, redis.ReadOnlyError) or re.search("^(.* caused error: )?(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|UNBLOCKED)", str(e)):
                raise redis.ConnectionError(str(e)) from e
            raise

    def __getattr__(self, name):
        return lambda key, *args, **more: self.guard(lambda: getattr(self.node(key), name)(key, *args, **more))

    def ping(self):
        return all(n.client.ping() for n in self.cluster.nodes if n.runs)

    def execute_command(self, *command):
        """Of one key where it is SET, else at every master."""
        if command[0] == "SET":
            return self.guard(lambda: self.node(command[1]).execute_command(*command))
        return [self.guard(lambda n=n: n.impatient.execute_command(*command)) for n in self.cluster.masters()]

    def scan_iter(self, pattern, count):
        nodes = [self.node(pattern)] if "{" in pattern else [n.impatient for n in self.cluster.masters()]
        for node in nodes:
            yield from node.scan_iter(pattern, count)

    def pipeline(self, transaction=False):
        return Pipeline(self)


class Pipeline:
    def __init__(self, client):
        self.client, self.commands = client, []

    def __getattr__(self, name):
        return lambda key, *args: self.commands.append((name, key, args))

    def execute(self):
        """In the order of the commands; each queue's in one trip."""
        queues, answers = {}, [None] * len(self.commands)
        for i, (_, key, _) in enumerate(self.commands):
            queues.setdefault(queue_of(key), []).append(i)
        for which in queues.values():
            def trip(which=which):
                pipe = self.client.node(self.commands[which[0]][1]).pipeline(transaction=False)
                for i in which:
                    name, key, args = self.commands[i]
                    getattr(pipe, name)(key, *args)
                return pipe.execute()
            for i, answer in zip(which, self.client.guard(trip)):
                answers[i] = answer
        self.commands = []
        return answers


class Wires:
    """Nothing between workers and the cluster can be cut: they find its nodes by themselves."""
    name = "none: workers find the nodes of a cluster by themselves"

    def __init__(self, cluster):
        self.cluster = cluster

    def url(self, _seat):
        return "redis+cluster://" + ",".join(n.address for n in self.cluster.nodes)

    def stop(self):
        self.cluster.stop()


class ClusterCampaign(campaign.Campaign):
    """Masters are killed one after the other. Only what a replica has counts as accepted, so nothing that was accepted may be lost."""

    def __init__(self, options, folder):
        super().__init__(options, lambda *_: None, folder)
        self.failover = None

    def start_redis(self):
        self.cluster = servers.Cluster(self.folder + "/redis", password=campaign.PASSWORD)
        self.wires = Wires(self.cluster)
        self.done["masters with queues"] = len({self.cluster.owner(servers.slot_of(q)) for q in plan.QUEUES})

    def answers(self):
        return True

    def connect(self):
        return Client(self.cluster)

    def clean_up(self):
        if not self.wires:
            self.wires = types.SimpleNamespace(stop=lambda: None)
        super().clean_up()

    # --- Blows.

    def strike_failover(self, seat, parameter):
        queue, down_s = parameter
        if self.failover or not self.cluster.is_well():  # one at a time: else both that have a slot could be gone
            self.done["failover"] -= 1
            self.later(0.5, self.strike, "failover", seat, parameter)
            return
        node = self.cluster.master_of(queue)
        queues = [q for q in plan.QUEUES if self.cluster.owner(servers.slot_of(q)) is node]
        replicas = self.cluster.replicas_of(node)
        now = campaign.now_ms()
        entries = [self.troubles.begin(("queue", q), "master died", now) for q in queues]
        servers.leave_behind(node, replicas)  # so that something is undone
        self.failover = types.SimpleNamespace(node=node, replicas=replicas, queue=queue, entries=entries, began=now, started=False, looked=0.0)
        self.later(BEHIND_S, self.node_dies, down_s)

    def node_dies(self, down_s):
        self.failover.node.kill()
        for replica in self.failover.replicas:
            replica.thaw()
        self.later(down_s, self.node_again)

    def node_again(self):
        self.failover.node.start()
        self.failover.started = True

    def unfinished(self):
        return self.failover

    def look_after(self):
        super().look_after()
        f = self.failover
        if not f or time.monotonic() - f.looked < 0.1:
            return
        f.looked = time.monotonic()
        well = f.started and self.cluster.is_well()  # it may have been back before anybody missed it
        if f.entries and (well or self.cluster.owner(servers.slot_of(f.queue)) not in (None, f.node)):
            now = campaign.now_ms()
            for entry in f.entries:
                entry[1] = now + 2000  # so long a worker may wait before it tries again
            self.breakers.append([f.began, now + 2000 + 2 * self.o.lease_ms])
            self.count("ms without a master, in all", round(now - f.began))
            f.entries = []
            self.count("masters that were back before another took over", self.cluster.owner(servers.slot_of(f.queue)) is f.node)
        if well:
            self.failover = None

    def state(self):
        """Our own connections find out late, too, who has what."""
        return servers.repeat(super().state, 20, "the cluster tells how it is", (*campaign.REDIS_DOWN, redis.ResponseError))

    # --- The producer.

    def push(self, r, batch, jobs):
        pushed_ms = int(campaign.now_ms())
        for queue in sorted({j.queue for j in jobs}):
            payloads = [j.payload(pushed_ms) for j in jobs if j.queue == queue]
            self.insist(lambda queue=queue, payloads=payloads: self.push_once(r, batch, queue, payloads))
        for job in jobs:
            job.pushed_ms = pushed_ms

    def push_once(self, r, batch, queue, payloads):
        """Mark and jobs in one transaction, so that a replica has both or none."""
        mark = f"{campaign.MARK}:{{{queue}}}"
        there = int(r.get(mark) or 0) >= batch  # the reply was lost, or no replica had them yet
        pushes = [("LPUSH", f"adwuma:{{{queue}}}:ready", payload) for payload in ([] if there else payloads)]
        self.replicate(r, mark, ("SET", mark, batch), *pushes)

    def replicate(self, r, key, *commands):
        """Done when a replica has it, and with it all that came before."""
        def trip():
            pipe = r.node(key).pipeline(transaction=False)  # WAIT is about its own connection
            for command in (("MULTI",), *commands, ("EXEC",), ("WAIT", 1, 500)):
                pipe.execute_command(*command)
            answers = pipe.execute(raise_on_error=False)
            for answer in answers:  # the first says why the others failed
                if isinstance(answer, Exception):
                    raise answer
            if answers[-1] < 1:
                raise NotReplicated(key)
        r.guard(trip)

    def make_sure(self, r, queues):
        """What was read of these is what a failover keeps."""
        for queue in queues:
            mark = f"{campaign.MARK}-read:{{{queue}}}"
            self.replicate(r, mark, ("SET", mark, 1))
