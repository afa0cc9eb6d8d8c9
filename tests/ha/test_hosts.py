"""Three hosts, one Redis: they share the load, and one that is cut off costs a few calls and no job."""
import signal
import threading
import time
from collections import Counter

import hosts
import load
import pytest
from conftest import SLOW, System, until

N = 3
THREADS = 8
CUT_OFF = 0  # which host it befalls


@pytest.fixture
def network(tmp_path):
    h = hosts.Hosts(tmp_path, N)
    yield h
    h.stop()


@pytest.fixture
def system(tmp_path, network):
    s = System(tmp_path, network.stub, network.server)
    yield s
    s.finish()


def start_workers(system, network, lease_ms):
    workers = []
    for i in range(N):
        settings = {**network.settings(i), "lease_ms": lease_ms, "threads": THREADS, "queues": "translate"}
        workers.append(system.worker(prefix=network.at(i), **settings))
    return workers


def host_of(call):
    return int(call["headers"]["Host"].split(".")[2])


def calls_by_text(network):
    by_text = {}
    for call in network.stub.calls():
        by_text.setdefault(call["text"], []).append((host_of(call), call["arrived_ms"] / 1000))
    return by_text


def test_they_share_the_load(system, network):
    """A backlog for all of them: each does about a third."""
    start_workers(system, network, 2000)
    network.stub.fault("delay=30")
    system.push("translate", *({"id": f"j{n}", "text": f"job {n}"} for n in range(3000)))
    system.reconcile("translate", 3000)
    shares = Counter(host_of(c) for c in network.stub.calls())
    print("shares", dict(shares))
    assert sum(shares.values()) == 3000  # none was called twice
    assert all(0.25 * 3000 < shares[i] < 0.42 * 3000 for i in range(N)), shares


@pytest.mark.parametrize("what, cut_s, lease_ms, rate", [("redis", 7, 2000, 300), ("all", 7, 2000, 300), ("redis", 60, 15000, 100)],
                         ids=["from-redis", "from-all", "for-a-minute"])
def test_one_is_cut_off_and_comes_back(system, network, what, cut_s, lease_ms, rate):
    """Longer than its lease: nothing is lost, nothing doubled, and what was called twice was in its hands. It works on by itself."""
    workers = start_workers(system, network, lease_ms)
    network.stub.fault("delay=50")
    producer = load.Load(lambda queue, jobs: system.redis.lpush(load.key(queue, "ready"), *jobs), rate, heap=10)
    producer.start()
    until(lambda: len(producer) > 2 * rate, 20, "the load is on")
    cut_at = time.time()
    network.cut(CUT_OFF, what)
    lease_out = until(lambda: system.redis.zcard(load.key("translate", "workers")) == N - 1 and time.time(), lease_ms / 1000 + 10, "it is struck off")
    taken_over = until(lambda: taken_over_by_others(system, workers) and time.time(), 10, "its jobs are taken over")
    threading.Event().wait(max(0.0, cut_at + cut_s - time.time()))  # the time is what is tested
    assert all(w.process.poll() is None for w in workers)
    assert system.redis.llen(load.key("translate", "ready")) < rate, "the other hosts do not keep up"
    mended_at = time.time()
    network.mend(CUT_OFF)
    back = until(lambda: system.redis.zcard(load.key("translate", "workers")) == N and time.time(), 15, "it is listed again")
    again = until(lambda: works(network, CUT_OFF, back) and time.time(), 15, "it has jobs again")
    accepted = producer.end()
    system.reconcile("translate", accepted)
    assert not load.account(system.redis, "translate", producer.accepted["translate"])

    by_text = calls_by_text(network)
    twice = {text: calls for text, calls in by_text.items() if len(calls) > 1}
    print(f"{accepted} jobs; cut for {mended_at - cut_at:.1f} s; struck off after {lease_out - cut_at:.1f} s, its jobs taken over after "
          f"{taken_over - cut_at:.1f} s; listed again {back - mended_at:.2f} s after the cut, called again {again - mended_at:.2f} s after; "
          f"{len(twice)} jobs called twice; by host {dict(Counter(host for calls in by_text.values() for host, _ in calls))}; stats {system.stats('translate')}")
    for text, calls in twice.items():
        assert len(calls) == 2 and any(host == CUT_OFF and cut_at - 1 <= at <= mended_at + 1 for host, at in calls), f"{text}: called at {calls}"
    assert len(twice) <= 4 * THREADS, "it had more in its hands than it should"  # its slots: threads, and as many that wait for one at most
    assert sum(len(c) for c in by_text.values()) == accepted + len(twice)
    log = workers[CUT_OFF].log()
    lost, returned = log.count('"redis lost"'), log.count('"redis back"')
    assert lost == returned and lost in ((1,) if cut_s > 20 else (0, 1)), log  # told once; a short cut may not be seen at all
    assert all("redis lost" not in w.log() for i, w in enumerate(workers) if i != CUT_OFF)
    assert workers[CUT_OFF].stop(signal.SIGTERM, 30 * SLOW) == 0


def taken_over_by_others(system, workers):
    """No slot but of the workers that are there."""
    others = [w.process.pid for i, w in enumerate(workers) if i != CUT_OFF]
    return all(int(k.decode().split(":slot:")[1].rsplit("-", 2)[1]) in others for k in system.redis.scan_iter(load.key("translate", "slot:*"), 1000))


def works(network, host, since):
    calls = network.stub.ask("GET", f"/_stub/calls?since={max(0, network.stub.count() - 200)}&limit=2000")
    return any(host_of(c) == host and c["arrived_ms"] / 1000 > since for c in calls)
