"""The Python modules where a master fails: calls go on at the next one. With the redis-py of the machine."""
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import load
import pytest
import servers
from conftest import ROOT, SLOW, System, until
from servers import Node
from test_sentinel import Liar

sys.path.insert(0, ROOT + "/deploy/python")
import adwuma_khaya
import adwuma_taskingai as taskingai
from adwuma_khaya import KhayaClient

QUEUES = "translate,transcribe,synthesize"
HOW = pytest.mark.parametrize("how", ["plain", "awaited"])
TEXTS = [f"text {i} stub(delay=40)" for i in range(200)]
MEANT = [f"[tw] text {i} stub(delay=40)" for i in range(200)]


@pytest.fixture
def make(tmp_path):
    """make(servers.Sentinels, …) starts a set of servers; all are ended."""
    made = []

    def make(kind, **how):
        made.append(kind(tmp_path, **how))
        return made[-1]
    yield make
    for s in made:
        s.stop()


@pytest.fixture
def fleet(make):
    return make(servers.Sentinels)


@pytest.fixture
def cluster(make):
    return make(servers.Cluster)


@pytest.fixture
def system_of(tmp_path, stub):
    systems = []

    def of(fleet):
        systems.append(System(tmp_path, stub, fleet))
        return systems[-1]
    yield of
    for s in systems:
        s.finish()


def gathered(url, use, module=KhayaClient, **options):
    """What use(client) gives, in a loop of its own."""
    async def program():
        async with module(redis_url=url, **{"wait_timeout": 60 * SLOW, **options}) as client:
            return await use(client)
    return asyncio.run(program())


class Calls(threading.Thread):
    """Many translations: plain ones from eight threads, or awaited ones all at once."""

    def __init__(self, how, url):
        super().__init__(daemon=True)
        self.how, self.url, self.got, self.error = how, url, None, None
        self.start()

    def run(self):
        try:
            self.got = [r.text for r in self.call()]
        except Exception as e:  # told by ends()
            self.error = e

    def call(self):
        if self.how == "awaited":
            return gathered(self.url, lambda client: asyncio.gather(*map(client.atranslate, TEXTS)))
        with KhayaClient(redis_url=self.url, wait_timeout=60 * SLOW) as client, ThreadPoolExecutor(8) as threads:
            return list(threads.map(client.translate, TEXTS))

    def ends(self):
        self.join(90 * SLOW)
        if self.error:
            raise self.error
        assert self.got == MEANT


def check(client_of, stub):
    """Every text was asked for, and has one result."""
    until(lambda: not load.left(client_of("translate"), "translate"), 20, "every job has ended")
    r = client_of("translate")
    assert not load.account(r, "translate", (), replied=False) and len(load.results(r, "translate")) == len(TEXTS)
    again = stub.count() - len({c["text"] for c in stub.calls()})
    print(f"{again} of {len(TEXTS)} were asked for again, their results being lost with the master")
    assert len({c["text"] for c in stub.calls()}) == len(TEXTS) and again <= 16


@HOW
def test_the_master_dies(fleet, system_of, stub, how):
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    calls = Calls(how, fleet.url)
    until(lambda: stub.count() > 60, 20, "some are done")
    fleet.client.execute_command("WAIT", 2, 2000)
    old = fleet.named()
    old.kill()
    killed = time.monotonic()
    fleet.failed_over(old)
    named = time.monotonic()
    calls.ends()
    print(f"another master after {named - killed:.1f} s, all answers {time.monotonic() - named:.1f} s after that")
    check(lambda _: fleet.client, stub)


@HOW
def test_another_is_made_master(fleet, system_of, stub, how):
    """In peace: whoever waits is told so by the old one, which goes on as a replica."""
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    calls = Calls(how, fleet.url)
    until(lambda: stub.count() > 60, 20, "some are done")
    old = fleet.named()
    fleet.client.execute_command("WAIT", 2, 2000)
    fleet.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", fleet.NAME)
    fleet.failed_over(old)
    fleet.whole_again()
    calls.ends()
    # Where nobody did anything while it happened, too.
    with KhayaClient(redis_url=fleet.url, wait_timeout=30 * SLOW) as client:
        assert client.translate("a").text == "[tw] a"
        fleet.named().client.client_kill_filter(_type="normal", skipme=True)
        assert client.translate("b").text == "[tw] b"


def follower_of(client):
    """What knows where the master is, and the thread that asks."""
    place = client._wire.places["translate"]
    return place, place.follower


@HOW
def test_one_that_is_well_is_replaced(fleet, system_of, how):
    """For some ten seconds the old one goes on taking jobs, which it forgets then. Who is connected, or waits there, leaves it before."""
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    old = fleet.named()

    def replace(client):
        fleet.client.execute_command("WAIT", 2, 2000)
        fleet.sentinels[-1].client.execute_command("SENTINEL", "FAILOVER", fleet.NAME)
        fleet.failed_over(old)
        until(lambda: follower_of(client)[0].found == ("127.0.0.1", fleet.named().port), 4, "it knows the new one")

    def plain():
        with KhayaClient(redis_url=fleet.url, wait_timeout=30 * SLOW) as client, ThreadPoolExecutor(1) as threads:
            assert client.translate("a").text == "[tw] a"
            waits = threads.submit(client.translate, "waits stub(delay=2000)")
            until(lambda: system.stub.count() == 2, what="it runs")
            replace(client)
            got = client.translate("b").text, waits.result().text
            return got, old.role(), follower_of(client)[1]

    async def awaited(client):
        assert (await client.atranslate("a")).text == "[tw] a"
        waits = asyncio.ensure_future(client.atranslate("waits stub(delay=2000)"))
        aside = asyncio.get_running_loop().run_in_executor  # the loop goes on meanwhile
        await aside(None, until, lambda: system.stub.count() == 2, 10, "it runs")
        await aside(None, replace, client)
        got = (await client.atranslate("b")).text, (await waits).text
        return got, old.role(), follower_of(client)[1]

    got, was, follower = plain() if how == "plain" else gathered(fleet.url, awaited)
    assert got == ("[tw] b", "[tw] waits stub(delay=2000)")
    assert was == "master", "it was told already: this shows nothing"
    follower.join(5 * SLOW)
    assert not follower.is_alive(), "closed, nobody asks any more"


def test_one_that_is_named_and_no_master_is_not_followed(fleet, system_of):
    """A sentinel of the past: a connection that works is kept. Who was only dropped asks nobody any more, and one that was forked asks for itself."""
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    liar = Liar(fleet.named().port)
    client = KhayaClient(redis_url=fleet.url_of(where=liar.address), wait_timeout=20 * SLOW)
    assert client.translate("a").text == "[tw] a"
    place, follower = follower_of(client)
    kept = [c["id"] for c in fleet.client.client_list() if c["name"] == "adwuma-py"]
    liar.port = next(n.port for n in fleet.nodes if n is not fleet.named())
    asked = liar.asked
    until(lambda: liar.asked >= asked + 3, 10, "it was asked again and again")
    assert client.translate("b").text == "[tw] b"
    assert [c["id"] for c in fleet.client.client_list() if c["name"] == "adwuma-py"] == kept
    child = os.fork()
    if child == 0:
        signal.alarm(int(30 * SLOW))
        try:
            os._exit(0 if client.translate("c").text == "[tw] c" and follower_of(client)[1] not in (None, follower) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    del place, client
    follower.join(5 * SLOW)
    assert not follower.is_alive()


@HOW
def test_the_master_hangs(fleet, system_of, how):
    """Connections stay open, and nobody answers on them."""
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    old = fleet.named()

    def freeze():
        fleet.client.execute_command("WAIT", 2, 2000)
        old.freeze()

    def plain():
        with KhayaClient(redis_url=fleet.url, wait_timeout=60 * SLOW) as client:
            assert client.translate("a").text == "[tw] a"
            freeze()
            return client.translate("b")

    async def awaited(client):
        assert (await client.atranslate("a")).text == "[tw] a"
        freeze()
        return await client.atranslate("b")

    assert (plain() if how == "plain" else gathered(fleet.url, awaited)).text == "[tw] b"
    assert fleet.named() is not old


@HOW
def test_a_stream_is_read_while_the_master_dies(fleet, system_of, how):
    system = system_of(fleet)
    system.worker(queues="taskingai")
    message = [taskingai.UserMessage("one two three four five six stub(pace=300)")]

    def stop_it(event):
        if isinstance(event, taskingai.ChatCompletionChunk) and event.delta == "one ":
            fleet.client.execute_command("WAIT", 2, 2000)
            fleet.named().kill()

    def plain():
        got = []
        with taskingai.TaskingAIClient(fleet.url) as client:
            for event in client.chat_completion("TpAb12Cd", message, stream=True):
                got.append(event)
                stop_it(event)
        return got

    async def awaited(client):
        got = []
        async for event in await client.a_chat_completion("TpAb12Cd", message, stream=True):
            got.append(event)
            stop_it(event)
        return got

    got = plain() if how == "plain" else gathered(fleet.url, awaited, taskingai.TaskingAIClient)
    assert got[-1].message.content == "Echo: one two three four five six" and len(got) > 3
    assert taskingai.ChatCompletion in map(type, got)


def raised(how, url, wait_timeout=4):
    """What a call raises, and after what time."""
    began = time.monotonic()
    with pytest.raises(adwuma_khaya.APIError) as caught:
        if how == "awaited":
            gathered(url, lambda client: client.atranslate("x"), wait_timeout=wait_timeout)
        else:
            with KhayaClient(redis_url=url, wait_timeout=wait_timeout) as client:
                client.translate("x")
    return caught.value, time.monotonic() - began


@HOW
def test_who_is_asked_does_not_know(fleet, how):
    e, seconds = raised(how, fleet.url_of(name="nobody"), 30)
    assert type(e) is adwuma_khaya.APIError and str(e) == "Redis refuses: a sentinel watches no master 'nobody'" and seconds < 3 * SLOW
    # One that is away may know better.
    fleet.sentinels[1].kill()
    e, seconds = raised(how, fleet.url_of(name="nobody"))
    assert type(e) is adwuma_khaya.WaitTimeoutError and "watches no master 'nobody'" in str(e) and f"{fleet.sentinels[1].address}: ConnectionError" in str(e)
    assert seconds < 6 * SLOW
    # No one is there: neither refusing nor answering.
    fleet.sentinels[0].freeze()
    fleet.sentinels[2].kill()
    e, seconds = raised(how, fleet.url.replace("//", "//user:a-password@"))
    assert type(e) is adwuma_khaya.WaitTimeoutError and e.retryable and str(e).startswith("no answer within 4 s; no sentinel says where the master is (")
    assert f"{fleet.sentinels[0].address}: TimeoutError" in str(e) and "password" not in str(e) and seconds < 8 * SLOW
    ports = servers.free_ports(2)
    e, seconds = raised(how, f"redis+cluster://:a-password@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}")
    assert type(e) is adwuma_khaya.WaitTimeoutError and "; no node of the cluster says where" in str(e) and "password" not in str(e) and seconds < 6 * SLOW
    e, seconds = raised(how, f"redis+cluster://{fleet.nodes[0].address}", 30)
    assert type(e) is adwuma_khaya.APIError and "cluster support disabled" in str(e) and seconds < 3 * SLOW


@HOW
def test_sentinels_that_hang_or_are_wrong(fleet, system_of, how):
    """The first takes connections and says nothing, the second names a replica, the third knows."""
    system = system_of(fleet)
    system.worker(queues=QUEUES)
    liar = Liar(next(n for n in fleet.nodes if n is not fleet.named()).port)
    fleet.sentinels[0].freeze()
    url = fleet.url_of(where=f"{fleet.sentinels[0].address},{liar.address},{fleet.sentinels[1].address}")
    for _ in range(2):
        if how == "awaited":
            assert gathered(url, lambda client: client.atranslate("x"), wait_timeout=20 * SLOW).text == "[tw] x"
        else:
            with KhayaClient(redis_url=url, wait_timeout=20 * SLOW) as client:
                assert client.translate("x").text == "[tw] x"
    assert liar.asked


@HOW
@pytest.mark.parametrize("sentinel_password", [None, "se/same"], ids=["of-the-master", "of-both"])
def test_passwords(make, system_of, sentinel_password, how):
    fleet = make(servers.Sentinels, password="se/same", sentinel_password=sentinel_password)
    url = fleet.url.replace("se/same", "se%2Fsame")
    system = system_of(fleet)
    system.worker(queues=QUEUES, redis_url=url)

    def call(client_url):
        if how == "awaited":
            return gathered(client_url, lambda client: client.atranslate("x"), wait_timeout=30 * SLOW).text
        with KhayaClient(redis_url=client_url, wait_timeout=30 * SLOW) as client:
            return client.translate("x").text

    assert call(url) == "[tw] x"
    e, _ = raised(how, url.replace("%2F", "%2F-"), 30)
    assert type(e) is adwuma_khaya.APIError and "se/" not in repr(e) and "%2F" not in repr(e)
    fleet.client.execute_command("WAIT", 2, 2000)
    old = fleet.named()
    old.kill()
    fleet.failed_over(old)
    assert call(url) == "[tw] x"


# --- A cluster: each queue is on a master of its own.

def mixed(client):
    """Calls of three queues at the same time."""
    async def spoken(i):
        made = await client.asynthesize(f"word {i}", "twi")
        return (await client.atranscribe(made.audio, "twi")).text
    return asyncio.gather(*map(client.atranslate, TEXTS), *map(spoken, range(20)))


@HOW
def test_a_master_of_the_cluster_dies(cluster, system_of, stub, how):
    """The one that has one of three queues; the others go on meanwhile. Told only one node, clients know the others soon."""
    system = system_of(cluster)
    system.worker(wait=False, queues=QUEUES)
    assert len({cluster.master_of(q).port for q in QUEUES.split(",")}) > 1
    url = cluster.url_of(cluster.master_of("translate"))
    calls = Calls(how, url)
    until(lambda: stub.count() > 60, 20, "some are done")
    cluster.ask("translate", ("GET", load.key("translate", "nothing")), ("SET", load.key("translate", "x"), 1), ("WAIT", 1, 2000))
    old = cluster.kill_master_of("translate")
    killed = time.monotonic()
    cluster.failed_over("translate", old)
    named = time.monotonic()
    calls.ends()
    print(f"another master after {named - killed:.1f} s, all answers {time.monotonic() - named:.1f} s after that")
    check(cluster.client_of, stub)
    old.restart()
    until(cluster.is_well, 30, "the cluster is whole again")
    assert gathered(url, lambda client: client.atranslate("x")).text == "[tw] x"  # the node of the URL is a replica now


def test_all_queues_of_a_cluster_at_once(cluster, system_of, stub):
    """With one connection for each queue in a loop."""
    system = system_of(cluster)
    system.worker(wait=False, queues=QUEUES)
    got = gathered(cluster.url, mixed)
    assert [r.text for r in got[:len(TEXTS)]] == MEANT and got[len(TEXTS):] == [f"word {i}" for i in range(20)]
    with KhayaClient(redis_url=cluster.url, wait_timeout=30 * SLOW) as client:
        assert client.transcribe(client.synthesize("word", "twi").audio, "twi").text == "word" and client.translate("x").text == "[tw] x"
    for queue in QUEUES.split(","):
        keys = [k for n in cluster.masters() for k in n.client.keys(load.key(queue, "*"))]
        assert not [k for k in keys if b":reply:" in k], "all replies were collected"
    with taskingai.TaskingAIClient(cluster.url, queue="tasks", wait_timeout=30 * SLOW) as client:
        system.worker(wait=False, queues="tasks")
        events = list(client.chat_completion("TpAb12Cd", [taskingai.UserMessage("one two")], stream=True))
        assert events[-1].message.content == "Echo: one two" and len(events) > 2


@HOW
def test_a_slot_moves_while_it_is_used(cluster, system_of, stub, how):
    """Calls wait for the end of the move, as workers do, and are done once."""
    system = system_of(cluster)
    system.worker(wait=False, queues=QUEUES)
    calls = Calls(how, cluster.url)
    until(lambda: stub.count() > 60, 20, "some are done")
    source = cluster.master_of("translate")
    to = next(n for n in cluster.masters() if n is not source)
    assert cluster.move_slot(servers.slot_of("translate"), to, keys_at_once=5, between=lambda: threading.Event().wait(0.05)) >= 5
    calls.ends()
    assert cluster.master_of("translate") is to
    check(cluster.client_of, stub)


@HOW
def test_another_node_is_made_master(cluster, system_of, stub, how):
    system = system_of(cluster)
    system.worker(wait=False, queues=QUEUES)
    calls = Calls(how, cluster.url)
    until(lambda: stub.count() > 60, 20, "some are done")
    old = cluster.master_of("translate")
    replica = next(n for n in cluster.nodes if n.role() == "slave" and n.info("replication")["master_port"] == old.port)
    replica.client.execute_command("CLUSTER", "FAILOVER")
    cluster.failed_over("translate", old)
    calls.ends()
    assert cluster.master_of("translate") is replica
    check(cluster.client_of, stub)


# --- TLS.

@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, and certificates by it: of 127.0.0.1, and of another host."""
    folder = str(tmp_path_factory.mktemp("tls"))

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA")
    for name, of in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:redis.example.org")):
        with open(f"{folder}/{name}.ext", "w", encoding="ascii") as f:
            f.write(f"subjectAltName={of}\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=test")
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", name + ".crt", "-days", "2", "-extfile", name + ".ext")
    return folder


def tls(folder, port, name="here"):
    return ("--tls-port", str(port), "--tls-replication", "yes", "--tls-cert-file", f"{folder}/{name}.crt", "--tls-key-file", f"{folder}/{name}.key",
            "--tls-ca-cert-file", folder + "/ca.crt")


@HOW
@pytest.mark.parametrize("kind", ["alone", "sentinel", "cluster"])
def test_tls(tmp_path, stub, certificates, monkeypatch, kind, how):
    """Everything speaks it, shows a certificate that is asked for, and believes no other host's."""
    plain_port, tls_port, sentinel_port = servers.free_ports(3)
    nodes = [Node(tmp_path, plain_port, *tls(certificates, tls_port), *(("--cluster-enabled", "yes", "--tls-cluster", "yes") if kind == "cluster" else ()))]
    try:
        nodes[0].wait()
        url = f"rediss://127.0.0.1:{tls_port}/0"
        if kind == "cluster":
            nodes[0].client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: servers.Cluster.state(nodes[0])["cluster_state"] == "ok", 10, "the cluster is up")
            url = f"rediss+cluster://127.0.0.1:{tls_port}"
        if kind == "sentinel":
            port = servers.free_ports(1)[0]
            nodes.append(Node(tmp_path, port, conf=f"sentinel monitor main 127.0.0.1 {tls_port} 1\n" + "".join(
                f"{a[2:]} {b}\n" for a, b in zip(*[iter(tls(certificates, sentinel_port))] * 2))))
            nodes[1].wait()
            url = f"rediss+sentinel://127.0.0.1:{sentinel_port}/main"
        nodes[0].url = f"redis+cluster://{nodes[0].address}" if kind == "cluster" else f"redis://{nodes[0].address}/0"
        system = System(tmp_path, stub, nodes[0])
        worker = system.worker(wait=False, queues=QUEUES)

        def call():
            e = raised(how, url)[0]
            assert type(e) is adwuma_khaya.WaitTimeoutError
            return str(e)

        assert "CERTIFICATE_VERIFY_FAILED" in call()
        monkeypatch.setenv("ADWUMA_REDIS_CA_FILE", certificates + "/ca.crt")
        call()  # it wants a certificate of ours
        monkeypatch.setenv("ADWUMA_REDIS_CERT_FILE", certificates + "/here.crt")
        monkeypatch.setenv("ADWUMA_REDIS_KEY_FILE", certificates + "/here.key")
        if how == "awaited":
            assert gathered(url, lambda client: client.atranslate("x")).text == "[tw] x"
        else:
            with KhayaClient(redis_url=url, wait_timeout=30 * SLOW) as client:
                assert client.translate("x").text == "[tw] x"
        assert worker.stop(signal.SIGTERM) == 0
        nodes[0].client.execute_command("CONFIG", "SET", "tls-cert-file", certificates + "/elsewhere.crt", "tls-key-file", certificates + "/elsewhere.key")
        assert "CERTIFICATE_VERIFY_FAILED" in call()
    finally:
        for n in nodes:
            n.stop()
