"""Row 12: two hundred streams at once, each of fifty pieces a second, from the API's byte to the entry in Redis.

Each piece carries the microsecond in which the stub gave it to its socket; Redis names an entry by the millisecond of its writing, so a delay is known
to a millisecond, and the end of that millisecond counts."""
import json
import re

from bench import lab as L
from bench.figures import Figure

STREAMS, PIECES, PACE_MS = 200, 500, 20
MEDIAN_MS, P99_MS = 5, 25
Q = "adwuma:{taskingai}:"


def job(number):
    text = f"number {number} stub(stamp,pieces={PIECES},pace={PACE_MS})"
    return json.dumps({"id": f"b{number}", "type": "taskingai.chat_completion",
                       "params": {"model_id": "TpBench1", "stream": True, "messages": [{"role": "user", "content": text}]}})


def delays_ms(redis, streams, pieces):
    """Of every piece of every stream; that they are all there, in order, is seen too."""
    delays = []
    for number in range(streams):
        entries = redis.client.xrange(f"{Q}stream:b{number}")
        kinds = [e["event"] for _, e in entries]
        if kinds != ["chunk"] * pieces + ["done"]:
            raise L.Failed(f"stream b{number} has {kinds.count('chunk')} pieces, and ends with {kinds[-1:]}")
        for i, (name, entry) in enumerate(entries[:-1]):
            piece = json.loads(entry["data"])
            if piece["index"] != i:
                raise L.Failed(f"stream b{number}: piece {piece['index']} came as number {i}")
            delays.append(int(name.split("-")[0]) + 1 - int(re.search(r"@(\d+)$", piece["delta"])[1]) / 1000)
    return sorted(delays)


def once(redis, stub, lab, streams):
    redis.client.flushall()
    with lab.worker(redis, stub.url, threads=streams, queues="taskingai", taskingai=stub.url) as worker:
        L.wait_until(lambda: redis.client.zcard(Q + "workers") == 1, [worker], "the worker is listed", 0.01)
        before = worker.cpu_us(), redis.cpu_us(), stub.cpu_us()
        L.add(redis, range(streams), "taskingai", job)
        L.wait_until(lambda: L.finished(redis, "taskingai") >= streams, [worker], "all streams have ended", 0.05)
        after = worker.cpu_us(), redis.cpu_us(), stub.cpu_us()
    n = streams * PIECES
    delays = delays_ms(redis, streams, PIECES)
    return {"p50": delays[n // 2], "p99": delays[n * 99 // 100], "max": delays[-1], "cpu": [(b - a) / n for a, b in zip(before, after)]}


def row(lab, rounds, scale):
    streams = max(20, int(STREAMS * min(1, scale * 5)))
    redis, stub = lab.redis(), lab.stub()
    found = [once(redis, stub, lab, streams) for _ in range(rounds)]
    return [
        Figure(12, f"{streams} streams of {1000 // PACE_MS} pieces/s: from the API's byte to the entry, median", [f["p50"] for f in found], "ms", high=MEDIAN_MS),
        Figure(12, "the same, 99th percentile", [f["p99"] for f in found], "ms", high=P99_MS),
        Figure(12, "  the latest of all", [f["max"] for f in found], "ms", digits=1),
        *(Figure(12, f"  CPU of {who} a piece", [f["cpu"][i] for f in found], "µs", digits=1) for i, who in enumerate(("adwumad", "redis-server", "the stub")))]
