"""Row 13: a program over the library, and a batch: how much longer than the workers it takes, how fast it submits, what memory it takes."""
import json
import os
import re
import subprocess

from bench import lab as L
from bench.figures import Figure, quotients

JOBS, SUBMITTED, LINES, THREADS = 10_000, 200_000, 1_000_000, 16


def answered(number):
    """A job as the library makes it: its result goes to a reply list, too."""
    return json.dumps({**json.loads(L.job(number)), "type": "translate", "enqueued_at_ms": 1, "reply": "lib-0123456789abcdef01234567"})


def produce(lab, redis, stub, *args):
    done = subprocess.run([f"{L.BUILD}/producer", *map(str, args)], capture_output=True, text=True, check=False, env=lab.env(redis, stub.url), timeout=L.RUN_MAX_S)
    if done.returncode:
        raise L.Failed(f"the producer ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def once(redis, stub, lab, jobs, submitted):
    with lab.worker(redis, stub.url, threads=THREADS) as worker:
        L.push(redis, jobs, make=answered)
        alone = L.measure(redis, [worker], jobs)
    redis.client.flushall()
    with lab.worker(redis, stub.url, threads=THREADS) as worker:
        L.wait_until(lambda: redis.client.zcard("adwuma:{translate}:workers") == 1, [worker], "the worker is listed", 0.01)
        gathered = produce(lab, redis, stub, "gather", jobs)
    redis.client.flushall()
    return {"alone": alone, "seconds": gathered["seconds"], "kib": gathered["kib"] / 1024, "rate": submitted / produce(lab, redis, stub, "submit", submitted)["seconds"]}


def batch(redis, stub, lab, lines):
    """The largest memory of a batch of so many lines, in MiB, and lines a second."""
    redis.client.flushall()
    with open(lab.folder + "/in.jsonl", "w", encoding="utf-8") as f:
        f.writelines(f'{{"type":"translate","text":"number {i}","result_ttl_s":60}}\n' for i in range(lines))
    with lab.worker(redis, stub.url, threads=THREADS):
        began = os.times().elapsed
        done = subprocess.run(["/usr/bin/time", "-v", f"{L.BUILD}/adwuma", "batch", "in.jsonl", "-o", "out.jsonl"], cwd=lab.folder, capture_output=True, text=True,
                              check=False, env=lab.env(redis, stub.url), timeout=3 * L.RUN_MAX_S)
        took = os.times().elapsed - began
    with open(lab.folder + "/out.jsonl", encoding="utf-8") as f:
        right = sum(json.loads(line)["result"]["text"] == f"[tw] number {i}" for i, line in enumerate(f))
    if done.returncode or right != lines:
        raise L.Failed(f"the batch ended with {done.returncode}, {right} of {lines} answers are right: {done.stderr[-500:]}")
    return int(re.search(r"Maximum resident.*: (\d+)", done.stderr)[1]) / 1024, lines / took


def row(lab, rounds, scale):
    redis, stub = lab.redis(), lab.stub()
    jobs, lines = max(500, int(JOBS * min(1, scale * 5))), max(2000, int(LINES * scale))
    found = [once(redis, stub, lab, jobs, max(1000, int(SUBMITTED * scale))) for _ in range(rounds)]
    peak, speed = batch(redis, stub, lab, lines)

    def all_of(key):
        return [f[key] for f in found]
    return [
        Figure(13, f"a program gathers {jobs:,} translations: its time over the workers'", quotients(all_of("seconds"), all_of("alone")), high=1.2),
        Figure(13, "  the program", all_of("seconds"), "s"),
        Figure(13, "  the workers alone, the jobs waiting", all_of("alone"), "s"),
        Figure(13, "anonymous memory of the library beside the results", all_of("kib"), "MiB", high=2.0),
        Figure(13, "jobs submitted, pipelined", all_of("rate"), "jobs/s", low=100_000, digits=0),
        Figure(13, f"batch of {lines:,} lines: largest resident memory", [peak], "MiB", high=64, digits=1),
        Figure(13, "  lines", [speed], "lines/s", digits=0)]
