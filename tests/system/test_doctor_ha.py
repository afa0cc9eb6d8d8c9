"""adwuma doctor where Redis is more than one process: the master that sentinels name, a cluster."""
import hashlib
import json
import re
import subprocess
import time

import pytest
from conftest import BUILD, ROOT, SLOW, until
from servers import Cluster, Node, Sentinels, free_ports
from test_doctor import Found
from test_odd_redis import Odd, array, bulk

QUEUES = "translate,transcribe,synthesize,taskingai".split(",")
CARRIED_OUT = {"lpush", "rpush", "zadd", "lmove", "blmove", "hset", "hincrby", "incr", "xadd", "rename", "unlink", "zremrangebyscore"}  # by a worker or a producer; never by doctor


@pytest.fixture
def doctor(system):
    """Runs it with a redis_url."""
    def run(url, *args, **settings):
        env = system.env(ADWUMA_REDIS_URL=url, **settings)
        done = subprocess.run([BUILD + "/adwuma", "doctor", "--json", *args], env=env, capture_output=True, text=True, timeout=60 * SLOW)
        return Found(done, nodes="cluster://" in url)
    return run


def by_shell(line, stdin=""):
    """Runs what mends something, as it stands."""
    done = subprocess.run(["/bin/sh", "-c", line], input=stdin, capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 0 and not done.stdout.startswith("ERR"), (line, done)
    return done.stdout


def url_of(line):
    """The redis_url that a mend gives."""
    assert line.startswith("export ADWUMA_REDIS_URL="), line
    return line.split("    #")[0].split("=", 1)[1]


def told(found, check, words):
    """The one thing that a check found with these words in it."""
    one, = [o for o in found[check] if words in o["message"]]
    return one


def counts(nodes):
    return {(n.port, name): stats["calls"] for n in nodes for name, stats in ((k.removeprefix("cmdstat_"), v) for k, v in n.info("commandstats").items())}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One that tests leave as it is."""
    s = Sentinels(tmp_path_factory.mktemp("sentinels"), replicas=1)
    yield s
    s.stop()


@pytest.fixture
def sentinels(tmp_path):
    made = []

    def make(**options):
        made.append(Sentinels(tmp_path, **{"replicas": 1, **options}))
        return made[-1]
    yield make
    for s in made:
        s.stop()


# --- Sentinels ---------------------------------------------------------------------------------------------------------------


def test_the_master_that_they_name(kept, doctor):
    found = doctor(kept.url)
    assert found.code == 0 and not [o for o in found.all if o["state"] != "ok" and o["check"] != "workers"], found.all
    assert [o["message"].split(" ")[0] for o in found["sentinels"]] == ["3", "a", "1"]
    assert f"3 of 3 name {kept.named().address} as the master {kept.NAME}" in found["sentinels"][0]["message"]
    found.only("redis", "ok", f"answers at {kept.named().address}, whom the sentinels name, database 0")
    found.only("role", "ok", "master")
    found.only("writes", "ok", "in 4 queues")
    assert kept.named().client.dbsize() == 0 and not [k for k in counts(kept.nodes) if k[1] in CARRIED_OUT]


def test_it_is_the_masters_settings_that_are_looked_at(kept, doctor):
    kept.named().client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        line = doctor(kept.url).only("eviction", "warn", "allkeys-lru")
        assert line.startswith(f"redis-cli -h 127.0.0.1 -p {kept.named().port} CONFIG SET maxmemory-policy noeviction ")
        by_shell(line)
        assert doctor(kept.url).state("eviction") == ["ok"]
    finally:
        kept.named().client.config_set("maxmemory-policy", "noeviction")


def test_a_name_that_none_of_them_knows(kept, doctor):
    found = doctor(kept.url_of(name="nobody"))
    line = found.only("sentinels", "bad", f"there is no master 'nobody': sentinel {kept.where} watches {kept.NAME}")
    assert found.code == 69 and not found["redis"] and not found["writes"] and found.state("api translate") == ["ok"]
    assert url_of(line) == kept.url and doctor(url_of(line)).state("sentinels") == ["ok"] * 3


def test_not_all_are_named(kept, doctor):
    found = doctor(kept.url_of(where=kept.sentinels[1].address))
    one = told(found, "sentinels", "redis_url does not name all: there is ")
    assert one["state"] == "warn" and found.code == 0
    assert sorted(url_of(one["mend"]).split("/")[2].split(",")) == sorted(kept.where.split(",")) and doctor(url_of(one["mend"])).state("sentinels") == ["ok"] * 3


def test_another_name_for_the_same_sentinel(kept, doctor):
    assert doctor(kept.url_of(where=kept.where.replace("127.0.0.1", "localhost"))).state("sentinels") == ["ok"] * 3


def test_a_password_of_the_url_is_not_printed(kept, doctor):
    found = doctor(kept.url_of(name="nobody").replace("://", "://u:sesame@"))
    assert found.only("sentinels", "bad", "no master").endswith("; with user and password before the host, as now")
    assert told(doctor(kept.url.replace("://", "://:sesame@")), "redis", "without any password")["mend"] == f"export ADWUMA_REDIS_URL={kept.url}    # this Redis asks for no password"


def test_urls_of_another_kind(kept, doctor):
    """Sentinels under redis://, an ordinary Redis under redis+sentinel:// and redis+cluster://: the URL that is told is the right one."""
    sentinel, master = kept.sentinels[0].address, kept.named().address
    for url, check, words, right in [
            (f"redis://{sentinel}/0", "role", f"{sentinel} is a sentinel: it watches {kept.NAME}, and takes no jobs itself", kept.url_of(where=sentinel)),
            (f"redis+cluster://{sentinel}", "cluster", f"{sentinel} is a sentinel", kept.url_of(where=sentinel)),
            (f"redis+sentinel://{master}/x/0", "sentinels", f"{master} is a Redis that stands alone", f"redis://{master}/0"),
            (f"redis+cluster://{master}", "cluster", f"{master} is a Redis that stands alone", f"redis://{master}/0")]:
        found = doctor(url)
        assert found.code == 69 and url_of(found.only(check, "bad", words)) == right, found.all
        assert not found["writes"] and not found["persistence"] and len([o for o in found.all if o["state"] == "bad"]) == 1, found.all
        assert doctor(right).state("writes") == ["ok"]
    assert doctor(f"redis://{sentinel}/3").only("redis", "bad", "what answers is probably a sentinel").endswith("=redis+sentinel://HOST:PORT/NAME/0")


def test_one_and_two_that_are_dead(sentinels, doctor):
    s = sentinels()
    s.sentinels[0].kill()
    found = doctor(s.url)
    one = told(found, "sentinels", f"sentinel {s.sentinels[0].address}: Connection refused")
    assert one["state"] == "warn" and one["mend"].startswith("systemctl start redis-sentinel ") and found.code == 0 and found.state("writes") == ["ok"]
    assert told(found, "sentinels", f"2 of 3 name {s.nodes[0].address}")["state"] == "ok"
    s.sentinels[1].kill()
    until(lambda: "NOQUORUM" in str([o["message"] for o in doctor(s.url)["sentinels"]]), 20)
    found = doctor(s.url)
    one = told(found, "sentinels", "NOQUORUM")
    assert one["state"] == "bad" and "the next failover would not happen" in one["message"] and found.code == 1 and found.state("writes") == ["ok"]
    for dead in s.sentinels[:2]:
        assert one["mend"].startswith("systemctl start redis-sentinel    # at ") and dead.address in one["mend"]
        dead.restart()
    until(lambda: doctor(s.url).state("sentinels") == ["ok"] * 3, 20)
    for dead in s.sentinels:
        dead.kill()
    found = doctor(s.url)
    assert found.code == 69 and found.state("sentinels") == ["bad"] * 3 and not found["redis"] and not found["workers"]


def test_a_quorum_larger_than_their_number(sentinels, doctor):
    s = sentinels()
    for one in s.sentinels:
        one.client.execute_command("SENTINEL", "SET", s.NAME, "quorum", 4)
    line = told(doctor(s.url), "sentinels", "NOQUORUM")["mend"]
    assert line == f"redis-cli -h 127.0.0.1 -p {s.sentinels[0].port} SENTINEL SET {s.NAME} quorum 2    # at each sentinel: there are 3"
    by_shell(line)
    assert doctor(s.url).state("sentinels") == ["ok"] * 3


def test_they_do_not_agree(sentinels, doctor, tmp_path):
    s = sentinels()
    other = Node(tmp_path, free_ports(1)[0])
    other.wait()
    try:
        odd = s.sentinels[1].client
        odd.execute_command("SENTINEL", "REMOVE", s.NAME)
        found = doctor(s.url)
        one = told(found, "sentinels", f"sentinel {s.sentinels[1].address} watches no master '{s.NAME}', but nothing")
        assert one["state"] == "bad" and found.code == 1
        odd.execute_command("SENTINEL", "MONITOR", s.NAME, "127.0.0.1", other.port, 2)
        found = doctor(s.url)
        line = told(found, "sentinels", f"sentinel {s.sentinels[1].address} names {other.address} as the master {s.NAME}, {s.sentinels[0].address} names {s.nodes[0].address}")["mend"]
        assert found.code == 1 and not [o for o in found["sentinels"] if "of 3 name" in o["message"]]
        by_shell(line)
        until(lambda: doctor(s.url).state("sentinels") == ["ok"] * 3, 20)
        odd.execute_command("SENTINEL", "REMOVE", s.NAME)
        by_shell(told(doctor(s.url), "sentinels", "watches no master")["mend"])
        until(lambda: doctor(s.url).state("sentinels") == ["ok"] * 3, 20)
    finally:
        other.stop()


def test_nobody_who_could_take_over(sentinels, doctor):
    s = sentinels(replicas=2)
    s.nodes[1].kill()
    until(lambda: told(doctor(s.url), "sentinels", "could take over")["state"] == "warn", 20)
    one = told(doctor(s.url), "sentinels", f"1 of 2 replicas could take over; away: {s.nodes[1].address}")
    assert one["mend"].startswith(f"systemctl start redis-server    # at {s.nodes[1].address}; ")
    s.nodes[2].kill()
    until(lambda: [o for o in doctor(s.url)["sentinels"] if "none of 2 replicas could" in o["message"]], 20)
    for one in s.sentinels:
        one.client.execute_command("SENTINEL", "RESET", s.NAME)
    line = told(doctor(s.url), "sentinels", f"no replica: nobody could take over from {s.nodes[0].address}")["mend"]
    assert line.startswith(f"redis-server --replicaof 127.0.0.1 {s.nodes[0].port} ")


def test_a_replica_that_must_not_take_over(sentinels, doctor):
    s = sentinels(flags=("--replica-priority", "0"))
    assert told(doctor(s.url), "sentinels", "none of 1 replica could")["mend"].startswith(f"redis-cli -h 127.0.0.1 -p {s.sentinels[0].port} SENTINEL REPLICAS {s.NAME} ")


def test_a_replica_that_is_cut_off(sentinels, doctor):
    """As each is for seconds after a failover, since a replica syncs anew."""
    s = sentinels(replicas=2)
    s.nodes[1].client.config_set("masterauth", "sesame")  # which its master does not take
    s.nodes[0].client.execute_command("CLIENT", "KILL", "TYPE", "replica")
    words = f"1 of 2 replicas could take over; cut off from the master, or syncing: {s.nodes[1].address}"
    found = until(lambda: (lambda f: [o for o in f["sentinels"] if o["message"] == words] and f)(doctor(s.url)), 30)
    assert told(found, "sentinels", words)["mend"].startswith(f"redis-cli -h 127.0.0.1 -p {s.sentinels[0].port} SENTINEL REPLICAS {s.NAME} ") and found.code == 0
    s.nodes[2].client.config_set("replica-priority", 0)
    words = f"none of 2 replicas could take over; cut off from the master, or syncing: {s.nodes[1].address}; of priority 0: {s.nodes[2].address}"
    until(lambda: [o for o in doctor(s.url)["sentinels"] if o["message"] == words], 30)


def rights_at_a_sentinel():
    """Those that deploy/redis/README.md gives a user there: ["on", "#HASH", …]."""
    with open(ROOT + "/deploy/redis/README.md", encoding="utf-8") as f:
        line, = re.findall(r"`ACL SETUSER adwuma-worker (on #HASH [^`]*)`", f.read())
    return line.replace("HASH", hashlib.sha256(b"sesame").hexdigest()).split()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Sentinels at which our user has the rights of the page."""
    s = Sentinels(tmp_path_factory.mktemp("guarded"), replicas=2, password="sesame", sentinel_password="sesame")
    for n in s.nodes:
        n.client.execute_command("ACL", "SETUSER", "adwuma-worker", "on", ">sesame", "~*", "+@all")
    for n in s.sentinels:
        n.client.execute_command("ACL", "SETUSER", "ADMIN", "on", ">sesame-of-admin", "+@all")
    s.url_of_worker = s.url.replace("://:", "://adwuma-worker:")
    yield s
    s.stop()


def test_the_rights_of_the_page_are_those_that_it_needs_at_a_sentinel(guarded, doctor):
    """What it may not ask is not said to be missing."""
    rights = rights_at_a_sentinel()

    def run(without=(), url=guarded.url_of_worker):
        for n in guarded.sentinels:
            n.client.execute_command("ACL", "SETUSER", "adwuma-worker", "reset", *(r for r in rights if r not in without))
        return doctor(url)

    found = run()
    assert found.code == 0 and found.state("sentinels") == ["ok"] * 3 and found.state("writes") == ["ok"], found.all
    looks = [r for r in rights if r.startswith("+sentinel|") and r not in ("+sentinel|get-master-addr-by-name", "+sentinel|masters")]
    for less in [*([r] for r in looks), looks]:
        found = run(less)
        one, = [o for o in found["sentinels"] if o["state"] != "ok"]
        assert one["state"] == "warn" and found.code == 0 and "user adwuma-worker may not ask sentinel " in one["message"], found.all
        assert set(one["message"].split(" for ")[1].split(", ")) == {r[1:] for r in less}
        assert one["mend"].startswith(f"redis-cli -h 127.0.0.1 -p {guarded.sentinels[0].port} --user ADMIN --askpass ACL SETUSER adwuma-worker '+sentinel|")
        for n in guarded.sentinels:
            by_shell(re.sub(r"-p \d+", f"-p {n.port}", one["mend"]), "sesame-of-admin\n")
        assert doctor(guarded.url_of_worker).state("sentinels") == ["ok"] * 3
    nobody = guarded.url_of_worker.replace(guarded.NAME, "nobody")
    assert told(run(url=nobody), "sentinels", "there is no master 'nobody'")["message"].endswith(" watches " + guarded.NAME)
    assert told(run(["+sentinel|masters"], nobody), "sentinels", "there is no master 'nobody'")["message"].endswith(" watches what our user may not ask")


def test_a_sentinel_keeps_its_users_as_the_page_says(guarded, doctor):
    one = guarded.sentinels[2]
    one.client.execute_command("ACL", "SETUSER", "adwuma-worker", "reset", *rights_at_a_sentinel())
    one.client.execute_command("SENTINEL", "FLUSHCONFIG")
    one.kill()
    one.restart()
    assert "user adwuma-worker on" in str(one.client.execute_command("ACL", "LIST"))


def test_after_a_failover(sentinels, doctor):
    s = sentinels()
    old = s.named()
    old.kill()
    s.failed_over(old)
    found = doctor(s.url)
    assert s.named() is not old and f"answers at {s.named().address}" in found["redis"][0]["message"] and found.state("writes") == ["ok"]


class Telling(Odd):
    """A sentinel of kept's that tells such flags of the master, from the first time it is asked and for so long."""

    def __init__(self, kept, flags, lasts_s):
        self.kept, self.flags, self.lasts_s, self.looks = kept, flags, lasts_s, []
        super().__init__(self.says)

    @property
    def url(self):
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.kept.NAME}/0"

    def says(self, words):
        if words[:2] == ["SENTINEL", "MASTER"]:
            self.looks.append(time.monotonic())
            flags = self.flags if time.monotonic() - self.looks[0] < self.lasts_s else "master"
            return array(bulk("flags"), bulk(flags), bulk("quorum"), bulk(2))
        if words[0] == "SENTINEL":
            return {"GET-MASTER-ADDR-BY-NAME": array(bulk("127.0.0.1"), bulk(self.kept.named().port)), "CKQUORUM": b"+OK\r\n", "MYID": bulk("x" * 40)}.get(
                words[1].upper(), array())
        return b"+PONG\r\n" if words[0] == "PING" else None


@pytest.fixture
def telling(kept):
    made = []

    def telling(*how):
        made.append(Telling(kept, *how))
        return made[-1]
    yield telling
    for odd in made:
        odd.stop()


def test_a_sentinel_that_is_connecting_again(telling, doctor):
    """A new master cuts off all its clients, sentinels too, which wait for a second before they connect again: that passes, and is nothing to mend."""
    odd = telling("master,disconnected", 1)
    found = doctor(odd.url)
    assert found.code == 0 and "does not reach" not in str(found.all), found.all
    assert odd.looks[-1] - odd.looks[0] >= 1


def test_a_failover_that_goes_on(telling, doctor):
    """The sentinel that leads it names the new master, and tells the flags of the old one until its end: nothing is wrong with the new one."""
    for lasts_s in (0.5, 1e9):
        found = doctor(telling("master,s_down,o_down,disconnected,failover_in_progress", lasts_s).url)
        assert "bad" not in found.state("sentinels") and found.code == 0, found.all
        told = [o for o in found["sentinels"] if "is carrying out a failover" in o["message"]]
        assert len(told) == (lasts_s > 1) and all(o["state"] == "warn" and "sleep 10" in o["mend"] for o in told)


def test_a_sentinel_that_stays_cut_off(sentinels, doctor):
    s = sentinels(down_after_ms=600000)
    s.named().kill()
    found = doctor(s.url)
    assert "(master,disconnected)" in told(found, "sentinels", "does not reach the master")["message"] and found.code == 69


def test_passwords(sentinels, doctor):
    """That of the master serves a sentinel that asks for one; a sentinel that does not know the master's cannot watch it."""
    s = sentinels(password="sesame", sentinel_password="sesame")
    found = doctor(s.url.replace(":sesame@", ""), redis_password="sesame")
    assert found.code == 0 and found.state("sentinels") == ["ok"] * 3 and found.state("writes") == ["ok"]
    assert told(doctor(s.url_of(name="x")), "sentinels", "no master 'x'")["mend"].endswith("with user and password before the host, as now")
    found = doctor(s.url.replace(":sesame@", ""))
    assert found.code == 69 and all("NOAUTH" in o["message"] and o["mend"].startswith("export ADWUMA_REDIS_PASSWORD=") for o in found["sentinels"])
    for one in s.sentinels:
        one.client.execute_command("SENTINEL", "SET", s.NAME, "auth-pass", "wrong")
        one.client.execute_command("SENTINEL", "SET", s.NAME, "failover-timeout", 600000)
    s.nodes[0].client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    found = until(lambda: (lambda f: [o for o in f["sentinels"] if "does not reach the master" in o["message"]] and f)(doctor(s.url)), 30)
    line = told(found, "sentinels", "does not reach the master")["mend"]
    assert line.startswith(f"redis-cli -h 127.0.0.1 -p {s.sentinels[0].port} --askpass SENTINEL MASTER {s.NAME} ") and "auth-pass PASSWORD" in line


# --- A cluster ---------------------------------------------------------------------------------------------------------------


def knows_replicas(c):
    return all(sum("slave" in one["flags"] for one in c.view(n).values()) == 3 for n in c.nodes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One with a replica for each master, that tests leave as it is."""
    c = Cluster(tmp_path_factory.mktemp("cluster"))
    until(lambda: knows_replicas(c), 20, "every node knows who is a replica")
    yield c
    c.stop()


@pytest.fixture
def cluster(tmp_path):
    c = Cluster(tmp_path, replicas=0)
    yield c
    c.stop()


def is_left(c):
    return {n.port: n.client.dbsize() for n in c.nodes if n.runs}


def test_a_cluster_that_is_well(whole, doctor):
    found = doctor(whole.url)
    assert found.code == 0 and not [o for o in found.all if o["state"] != "ok" and o["check"] != "workers"], found.all
    assert "16384 slots at 3 masters, with 3 replicas" in found["cluster"][0]["message"]
    has = {whole.master_of(q).address for q in QUEUES}
    assert len(has) > 1
    for check in ("redis", "version", "role", "persistence", "eviction", "memory", "clients", "replicas", "slots", "latency", "clock", "rights"):
        assert {o["node"] for o in found[check]} == has and len(found[check]) == len(has), check
    for one in found["redis"]:
        assert one["message"].endswith("; it has " + ",".join(q for q in QUEUES if whole.master_of(q).address == one["node"]))
    for check, words in (("writes", "in 4 queues"), ("key types", "in 4 queues"), ("dead jobs", "none in 4 queues"), ("cluster", "ok, as ")):
        assert found.only(check, "ok", words) is None and found[check][0]["node"] is None


def test_for_people(whole, system):
    done = subprocess.run([BUILD + "/adwuma", "doctor", "-q", "translate"], env=system.env(ADWUMA_REDIS_URL=whole.url), capture_output=True, text=True, timeout=60 * SLOW)
    assert f"\nok    role            {whole.master_of('translate').address}: master\n" in done.stdout and "\nok    writes          a key written" in done.stdout


def test_rights_are_asked_and_nothing_is_carried_out(whole, doctor):
    before = counts(whole.nodes)
    for _ in range(3):
        assert {o["state"] for o in doctor(whole.url)["rights"]} == {"ok"}
    after = counts(whole.nodes)
    assert not [k for k in after if k[1] in CARRIED_OUT and after[k] != before.get(k, 0)] and set(is_left(whole).values()) == {0}
    asked = {port for port, name in after if name == "multi" and after[port, name] != before.get((port, name), 0)}
    assert asked == {whole.master_of(q).port for q in QUEUES}


def test_rights_of_one_node(whole, doctor):
    """Each node has users of its own."""
    lacks = whole.master_of("translate")
    for n in whole.nodes:
        n.client.execute_command("ACL", "SETUSER", "w", "reset", "on", ">sesame", "~*", "+@all", *(["-rpush"] if n is lacks else []))
    found = doctor(whole.url, redis_username="w", redis_password="sesame")
    one, = [o for o in found["rights"] if o["state"] != "ok"]
    assert one["node"] == lacks.address and "rpush" in one["message"] and found.code == 1
    assert one["mend"].startswith(f"redis-cli -c -h 127.0.0.1 -p {lacks.port} --user ADMIN --askpass ACL SETUSER w +rpush ")
    lacks.client.execute_command("ACL", "SETUSER", "ADMIN", "reset", "on", ">sesame-of-admin", "~*", "+@all")
    by_shell(one["mend"], "sesame-of-admin\n")
    assert doctor(whole.url, redis_username="w", redis_password="sesame").code == 0


def test_each_queue_is_asked_at_its_node(whole, doctor, system):
    queues = {names[0]: node for node, names in whole.queues(1).items()}
    assert len(queues) == 3
    names = ",".join(queues)
    job = {"id": "d", "type": "translate", "text": "x"}
    try:
        for q, node in queues.items():
            node.client.sadd(f"adwuma:{{{q}}}:stats", "x")
        found = doctor(whole.url, queues=names)
        assert {o["node"] for o in found["key types"]} == {n.address for n in queues.values()} and {o["state"] for o in found["key types"]} == {"bad"}
        for one in found["key types"]:
            by_shell(one["mend"])
        for q, node in queues.items():
            node.client.lpush(f"adwuma:{{{q}}}:dead", json.dumps({"job": job, "error": {"type": "APIError", "message": "m", "status_code": 500}, "died_at_ms": 1}))
            node.client.lpush(f"adwuma:{{{q}}}:ready", json.dumps(job))
            node.client.set(f"adwuma:{{{q}}}:paused", "rests")
            node.client.zadd(f"adwuma:{{{q}}}:workers", {"ghost-1-aa.1": int(time.time() * 1000) - 3000})
            node.client.hset(f"adwuma:{{{q}}}:worker:ghost-1-aa.1", "slots", 4)
        found = doctor(whole.url, queues=names)
        found.only("key types", "ok", "in 3 queues")
        found.only("writes", "ok", "in 3 queues")
        for check, words in (("pauses", "{} is paused: rests"), ("leases", "{}: the lease of ghost"), ("dead jobs", "{}: 1 failed job")):
            for q, node in queues.items():
                one = told(found, check, words.format(q))
                assert one["node"] == node.address and one["state"] in ("warn", "bad")
        found.only("workers", "bad", f"no living worker serves {names}; jobs wait there: " + ", ".join(f"1 in {q}" for q in queues))
        assert not [o for o in found.all if "MOVED" in o["message"]]
    finally:
        for n in whole.masters():
            n.client.flushall()


ROLES = ["producer", "worker", "viewer", "operator"]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_ask_a_cluster_what_doctor_asks(whole, doctor, role):
    """What it may not ask is not said to be missing; without a right it is told once, with what mends it."""
    with open(ROOT + "/deploy/redis/users.acl", encoding="ascii") as f:
        line, = re.findall(f"^user adwuma-{role} (.*)$", f.read(), re.M)

    def run(without=None):
        for n in whole.nodes:
            n.client.execute_command("ACL", "SETUSER", "ADMIN", "reset", "on", ">sesame-of-admin", "+@all")
            n.client.execute_command("ACL", "SETUSER", "w", "reset", ">sesame", *(r for r in re.findall(r"\([^)]*\)|\S+", line) if r != without))
        return doctor(whole.url, redis_username="w", redis_password="sesame")

    found = run()
    assert found.code == 0 and found.state("cluster") == ["ok"] and {o["state"] for o in found["slots"]} == {"ok"}, found.all
    assert {o["message"] for o in found["slots"]} == {"cluster_state ok"} and not [o for o in found["replicas"] if "none needs" in o["message"]]
    for right in ("cluster|info", "cluster|keyslot", "cluster|nodes"):
        found = run("+" + right)
        one, = [o for o in found["cluster"] if o["state"] != "ok"]
        assert found.code == 0 and one["state"] == "warn" and "cannot be told in full: user w may not ask 127.0.0.1:" in one["message"] and right in one["message"], found.all
        for n in whole.nodes:
            by_shell(re.sub(r"-p \d+", f"-p {n.port}", one["mend"]), "sesame-of-admin\n")
        assert doctor(whole.url, redis_username="w", redis_password="sesame").state("cluster") == ["ok"]


def test_a_node_of_a_cluster_under_another_url(whole, doctor):
    node = whole.nodes[0].address
    found = doctor(f"redis://{node}/0")
    line = found.only("role", "bad", f"{node} is one node of a cluster")
    assert found.code == 1 and found.state("persistence") == ["ok"] and not found["writes"] and not [o for o in found.all if "MOVED" in o["message"]]
    one = told(doctor(url_of(line)), "cluster", "redis_url names one node")
    assert one["state"] == "warn" and {o["state"] for o in doctor(url_of(one["mend"]))["cluster"]} == {"ok"}
    found = doctor(f"redis+sentinel://{node}/x/0")
    assert found.code == 69 and url_of(found.only("sentinels", "bad", "one node of a cluster")) == f"redis+cluster://{node}"


def test_a_node_that_is_down(cluster, doctor):
    dead = cluster.master_of("translate")
    lost = [q for q in QUEUES if cluster.master_of(q) is dead]
    dead.kill()
    found = until(lambda: (lambda f: [o for o in f["cluster"] if "does not answer the others" in o["message"]] and f)(doctor(cluster.url)), 20)
    assert told(found, "cluster", f"master {dead.address} does not answer the others, and what it has stands still")["state"] == "bad" and found.code == 69
    assert told(found, "cluster", f"node {dead.address} of redis_url: Connection refused")["state"] == "warn"
    one, = [o for o in found["redis"] if o["state"] == "bad"]
    assert one["node"] == dead.address and one["message"] == "Connection refused; " + ",".join(lost) + ": not looked at"
    assert one["mend"].startswith(f"redis-cli -c -h 127.0.0.1 -p {dead.port} PING ")
    found.only("writes", "ok", f"in {4 - len(lost)} queue")
    assert dead.address not in {o["node"] for o in found["version"]} and found["version"]
    for node in cluster.nodes:
        if node.runs:
            node.kill()
    found = doctor(cluster.url)
    assert found.code == 69 and found.state("cluster") == ["bad"] * 3 and not found["redis"] and not found["writes"]


def test_a_master_that_has_none_of_our_queues(cluster, doctor):
    dead = next(n for n in cluster.nodes if n is not cluster.master_of("translate"))
    dead.kill()
    found = until(lambda: (lambda f: [o for o in f["cluster"] if "has none of our queues" in o["message"]] and f)(doctor(cluster.url, "-q", "translate")), 20)
    assert found.code == 0 and told(found, "cluster", f"master {dead.address}")["state"] == "warn" and found.state("writes") == ["ok"]


def test_no_replica(cluster, doctor):
    found = doctor(cluster.url, "-q", "translate")
    node = cluster.master_of("translate").address
    line = found.only("replicas", "warn", f"none at {node} (translate): when such a node is lost, its queues stand still")
    assert line.startswith("redis-cli --cluster add-node HOST:PORT " + cluster.master_of("translate").address + " --cluster-slave ")
    found.only("slots", "ok", "slots that nobody serves would not stop these queues")


@pytest.mark.parametrize("full", ["no", "yes"])
def test_no_replicas_anywhere_are_told_at_once(cluster, doctor, full):
    for n in cluster.nodes:
        n.client.config_set("cluster-require-full-coverage", full)
    found = doctor(cluster.url)
    has = {cluster.master_of(q).address: ",".join(other for other in QUEUES if cluster.master_of(other) is cluster.master_of(q)) for q in QUEUES}
    assert len(has) > 1
    found.only("replicas", "warn", "none at " + ", ".join(f"{node} ({queues})" for node, queues in has.items()) + ": when such a node is lost, its queues stand still")
    assert found["replicas"][0]["node"] is None and ("cluster-require-full-coverage is yes" in found["replicas"][0]["message"]) == (full == "yes")
    assert [o["check"] for o in found.all if o["state"] != "ok" and o["check"] not in ("workers", "persistence")] == ["replicas"]


def test_a_master_of_others_without_a_replica(whole, doctor):
    """With full coverage it takes our queues with it."""
    node = whole.master_of("translate")
    bare = next(n for n in whole.masters() if n is not node)
    follower = next(n for n in whole.nodes if n.client.info("replication").get("master_port") == bare.port)
    node.client.config_set("cluster-require-full-coverage", "yes")
    follower.client.execute_command("CLUSTER", "REPLICATE", whole.id_of(node))
    try:
        words = f"none at {bare.address}, which has no queues of ours: when such a node is lost, all queues stand still, since cluster-require-full-coverage is yes"
        found = until(lambda: (lambda f: [o for o in f["replicas"] if o["message"] == words] and f)(doctor(whole.url, "-q", "translate")), 20)
        one = told(found, "replicas", words)
        assert one["mend"].startswith(f"redis-cli --cluster call {node.address} CONFIG SET cluster-require-full-coverage no    # ")
        by_shell(one["mend"])
        assert {o["state"] for o in doctor(whole.url, "-q", "translate")["replicas"]} == {"ok"}
    finally:
        node.client.config_set("cluster-require-full-coverage", "no")
        follower.client.execute_command("CLUSTER", "REPLICATE", whole.id_of(bare))
        until(lambda: {o["state"] for o in doctor(whole.url)["cluster"]} == {"ok"} and bare.client.info("replication")["connected_slaves"] == 1, 20)


def test_a_dead_master_is_not_said_to_have_no_replica(tmp_path, doctor):
    """It was said to be dead, and has queues of ours; nor is it what answers when something is to be mended."""
    c = Cluster(tmp_path)
    try:
        until(lambda: knows_replicas(c), 20, "every node knows who is a replica")
        dead = c.master_of("translate")
        follower, other = c.replicas_of(dead)[0], next(n for n in c.masters() if n is not dead)
        follower.client.execute_command("CLUSTER", "REPLICATE", c.id_of(other))
        for n in c.nodes:
            n.client.config_set("cluster-require-full-coverage", "yes")
        until(lambda: all(c.view(n)[c.id_of(follower)]["master"] == c.id_of(other) for n in c.nodes), 20)
        dead.kill()
        found = until(lambda: (lambda f: [o for o in f["cluster"] if f"master {dead.address} does not answer the others" in o["message"]] and f)(doctor(c.url)), 20)
        assert found.state("replicas") == ["ok"] * len(found["replicas"]) != [] and found.code == 69, found.all
        for replica in c.replicas_of(other):
            replica.kill()
        found = until(lambda: (lambda f: [o for o in f["replicas"] if o["state"] == "warn"] and f)(doctor(c.url)), 20)
        one, = [o for o in found["replicas"] if o["state"] == "warn"]
        assert dead.address not in one["message"] + one["mend"], one
    finally:
        c.stop()


def test_slots_that_nobody_has(cluster, doctor):
    """Without full coverage only what is in them stands still; with it all does."""
    queues = {node: names[0] for node, names in cluster.queues(1).items()}
    mine, other = list(queues)[:2]
    (first, last), = next(v["slots"] for v in cluster.view(mine).values() if v["port"] == mine.port)
    for n in cluster.nodes:
        n.client.execute_command("CLUSTER", "DELSLOTSRANGE", first, last)
    found = doctor(f"redis+cluster://{mine.address}", "-q", queues[mine])
    one = told(found, "cluster", f"{last - first + 1} of 16384 slots are nobody's, and with them the queues {queues[mine]}")
    assert one["state"] == "bad" and found.code == 69 and not found["redis"] and not found["writes"]
    found = doctor(f"redis+cluster://{mine.address}", "-q", queues[other])
    one = told(found, "cluster", "slots are nobody's; none of our queues is in them")
    assert one["state"] == "warn" and found.code == 0 and found.state("writes") == ["ok"]
    assert one["mend"].startswith(f"redis-cli --cluster fix {mine.address} ")
    by_shell(one["mend"], "yes\n")
    until(lambda: all(cluster.state(n)["cluster_slots_assigned"] == "16384" for n in cluster.nodes), 20)
    assert {o["state"] for o in doctor(cluster.url)["cluster"]} == {"ok"}


def test_full_coverage(cluster, doctor):
    mine = cluster.master_of("translate")
    dead = next(n for n in cluster.nodes if n is not mine)
    mine.client.config_set("cluster-require-full-coverage", "yes")
    url = cluster.url
    doctor(url, "-q", "translate").only("replicas", "warn", "its queues stand still, and all others with them: cluster-require-full-coverage is yes")
    dead.kill()
    until(lambda: cluster.state(mine)["cluster_state"] == "fail", 20)
    found = doctor(url, "-q", "translate")
    line = found.only("slots", "bad", "it holds the cluster for down, and takes no jobs: there are slots that nobody serves")
    assert found.code == 1 and line.startswith(f"redis-cli -c -h 127.0.0.1 -p {mine.port} CONFIG SET cluster-require-full-coverage no ")
    by_shell(line)
    until(lambda: cluster.state(mine)["cluster_state"] == "ok", 20)
    assert doctor(url, "-q", "translate").state("writes") == ["ok"]


def test_a_slot_that_is_on_its_way(cluster, doctor):
    source = cluster.master_of("translate")
    to = next(n for n in cluster.nodes if n is not source)
    slot = source.client.execute_command("CLUSTER", "KEYSLOT", "adwuma:{translate}:ready")
    to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(to))
    found = doctor(cluster.url, "-q", "translate")
    one = told(found, "slots", f"slot {slot} is on its way to another node")
    assert one["state"] == "warn" and one["mend"].startswith(f"redis-cli --cluster fix {source.address} ")
    assert [o for o in found.all if o["message"].startswith("translate: ASK ")][0]["mend"].startswith("sleep 10; adwuma doctor")
    by_shell(one["mend"], "yes\n")
    assert doctor(cluster.url, "-q", "translate").state("writes") == ["ok"]


def test_a_password_of_the_cluster(tmp_path, doctor):
    c = Cluster(tmp_path, replicas=0, password="sesame")
    try:
        found = doctor(c.url.replace(":sesame@", ""))
        assert found.code == 69 and all("NOAUTH" in o["message"] and o["mend"].startswith("export ADWUMA_REDIS_PASSWORD=") for o in found["cluster"]) and len(found["cluster"]) == 3
        found = doctor(c.url)
        assert found.code == 0 and found.state("writes") == ["ok"]
        assert found["replicas"][0]["mend"].startswith("redis-cli --askpass --cluster add-node ")
        for n in c.nodes:
            n.client.execute_command("ACL", "SETUSER", "w", "on", ">sesame", "~*", "+@all")
        c.nodes[0].kill()
        found = until(lambda: (lambda f: f.code == 69 and f)(doctor(c.url.replace("://:", "://w:"))), 20)
        for one in found.all:
            assert "redis-cli" not in (one["mend"] or "") or " --user ADMIN --askpass " in one["mend"], one
    finally:
        c.stop()
