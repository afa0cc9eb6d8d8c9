"""A producer that never stops, and the accounts at the end."""
import json
import threading
import time
from collections import Counter

import redis as redis_py

NOT_NOW = (redis_py.ConnectionError, redis_py.TimeoutError, redis_py.ResponseError)


def key(queue, rest):
    return f"adwuma:{{{queue}}}:{rest}"


class Load(threading.Thread):
    """Pushes so many small jobs a second in little heaps. A heap that was not accepted for sure is pushed again with the same ids.

    push(queue, payloads) returns when they are accepted, or raises what is in NOT_NOW."""

    def __init__(self, push, rate, queues=("translate",), make=None, heap=20):
        super().__init__(daemon=True)
        self.push, self.rate, self.queues, self.heap = push, rate, queues, heap
        self.make = make or (lambda n: {"text": f"job {n}", "reply": "all"})
        self.accepted = {q: {} for q in queues}  # id -> time.time() at which we knew
        self.tries = Counter()
        self.enough, self.error, self.began = threading.Event(), None, None
        self.longest_gap = 0.0  # during which nothing was accepted

    def run(self):
        try:
            self.produce()
        except Exception as e:  # told by end()
            self.error = e

    def produce(self):
        n, self.began, last = 0, time.time(), time.time()
        while not self.enough.is_set():
            queue = self.queues[n // self.heap % len(self.queues)]
            jobs = [{"id": f"j{i}", "type": "translate", **self.make(i)} for i in range(n, n + self.heap)]
            self.insist(queue, [json.dumps(j) for j in jobs])
            now = time.time()
            self.longest_gap, last = max(self.longest_gap, now - last), now
            for job in jobs:
                self.accepted[queue][job["id"]] = now
            n += self.heap
            time.sleep(max(0.0, self.began + n / self.rate - time.time()))  # this pace is what is tested

    def insist(self, queue, payloads):
        deadline = time.monotonic() + 60
        while True:
            self.tries[queue] += 1
            try:
                return self.push(queue, payloads)
            except NOT_NOW as e:
                if time.monotonic() > deadline:
                    raise AssertionError(f"nothing was accepted for a minute: {e!r}") from e
                time.sleep(0.02)

    def end(self):
        """Waits until what was begun is accepted; how many there are."""
        self.enough.set()
        self.join(90)
        if self.error:
            raise self.error
        assert not self.is_alive(), "the producer hangs"
        return sum(map(len, self.accepted.values()))

    def __len__(self):
        return sum(map(len, self.accepted.values()))


def results(r, queue):
    """id -> result; each list must have exactly one."""
    found, names = {}, [k.decode() for k in r.scan_iter(key(queue, "result:*"), 2000)]
    for i in range(0, len(names), 1000):
        pipe = r.pipeline(transaction=False)
        for name in names[i:i + 1000]:
            pipe.lrange(name, 0, -1)
        for name, held in zip(names[i:i + 1000], pipe.execute()):
            if held:  # else it has just expired
                assert len(held) == 1, f"{name} has {len(held)} results"
                found[name.split(":result:", 1)[1]] = json.loads(held[0])
    return found


def left(r, queue):
    """What has not ended: how many in each place."""
    slots = list(r.scan_iter(key(queue, "slot:*"), 2000))
    places = {"ready": r.llen(key(queue, "ready")), "delayed": r.zcard(key(queue, "delayed")), "slots": len(slots)}
    return {place: n for place, n in places.items() if n}


def replies(r, queue, name="all"):
    """id -> how often it is in the reply list."""
    return Counter(json.loads(x)["id"] for x in r.lrange(key(queue, f"reply:{name}"), 0, -1))


def stats(r, queue):
    return {k.decode(): int(v) for k, v in r.hgetall(key(queue, "stats")).items()}


def account(r, queue, accepted, replied=True):
    """Nothing is doubled, all results are right and counted once; the accepted ones that are lost, which are the caller's to judge."""
    found = results(r, queue)
    wrong = {i: x for i, x in found.items() if x["status"] != "succeeded" or x["id"] != i}
    assert not wrong, f"{len(wrong)} failed: {list(wrong.values())[:2]}"
    if replied:
        listed = replies(r, queue)
        twice = {i: n for i, n in listed.items() if n != 1}
        assert not twice, f"{len(twice)} results were replied more than once: {list(twice.items())[:5]}"
        assert set(listed) == set(found), f"replies without a result, or results without a reply: {sorted(set(listed) ^ set(found))[:5]}"
    assert stats(r, queue).get("succeeded") == len(found), (stats(r, queue), len(found))
    return set(accepted) - set(found)
