"""Rows 3 and 4: hundreds of threads that wait for a slow API, and what memory they and an idle worker take."""
import http.client
import json
import resource
import time

from bench import lab as L
from bench.figures import Figure, between, quotients

JOBS, THREADS, DELAY_MS = 20_000, 512, 200
IDLE_THREADS, IDLE_JOBS, SETTLE_S = 32, 3_000, 1.0
MANY_THREADS, MANY_JOBS, MANY_DELAY_MS = 4_096, 8_192, 50
FILES = 3 * MANY_THREADS  # a connection each, and as many in the stub


class Inside:
    """Looks at a worker's /status while it works: jobs that it holds and that no thread is calling the API for."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.stock, self.idle = [], []

    def look(self):
        self.connection.request("GET", "/status")
        queue = json.load(self.connection.getresponse())["queues"][0]
        self.stock.append(queue["waiting"])
        self.idle.append(max(0, queue["unsettled"] - queue["running"]))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def crowd(redis, stub, lab, jobs):
    L.push(redis, jobs)
    port = L.free_port()
    with lab.worker(redis, stub.url, threads=THREADS, admin_listen=f"127.0.0.1:{port}") as worker:
        inside = Inside(port)
        rate = jobs / L.measure(redis, [worker], jobs, look=inside.look)
        peak = worker.memory_kib("VmHWM")
        cpu_us = worker.cpu_us() / jobs
    L.check_results(redis, jobs)
    if len(inside.idle) < 5:
        raise L.Failed("the run was too short to look inside the worker")
    return {"rate": rate, "rss_kib": peak, "cpu_us": cpu_us, "stock_ms": percentile(inside.stock, 0.95) / rate * 1000,
            "idle_ms": percentile(inside.idle, 0.95) / rate * 1000}


def idle_mb(redis, stub, lab, jobs):
    """Anonymous memory of a worker that has nothing to do: fresh, and after work."""
    redis.client.flushall()
    with lab.worker(redis, stub.url, threads=IDLE_THREADS, admin_listen=f"127.0.0.1:{L.free_port()}") as worker:
        L.wait_idle(redis, [worker])
        time.sleep(SETTLE_S)
        fresh = worker.memory_kib("RssAnon")
        L.add(redis, range(jobs))
        L.wait_until(lambda: L.finished(redis) >= jobs, [worker], f"{jobs} jobs are done", 0.02)
        L.wait_idle(redis, [worker])
        time.sleep(SETTLE_S)
        after = worker.memory_kib("RssAnon")
    L.check_results(redis, jobs)
    return fresh * 1024 / 1e6, after * 1024 / 1e6


def many(redis, stub, lab, jobs):
    """As many threads as the setting allows: jobs done, jobs/s, MB at most."""
    L.push(redis, jobs)
    with lab.worker(redis, stub.url, threads=MANY_THREADS) as worker:
        rate = jobs / L.measure(redis, [worker], jobs)
        peak = worker.memory_kib("VmHWM")
        threads = worker.memory_kib("Threads")  # in the same file
    L.check_results(redis, jobs)
    return threads, rate, peak * 1024 / 1e6


def raise_file_limit():
    """For the children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        if hard != resource.RLIM_INFINITY and hard < FILES:
            raise L.Failed(f"{MANY_THREADS} threads need {FILES} files, but only {hard} are allowed: raise ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


def row(lab, rounds, scale):
    raise_file_limit()
    jobs = max(2 * THREADS, int(JOBS * scale))
    redis, stub, quick, slow = lab.redis(), lab.stub(DELAY_MS), lab.stub(), lab.stub(MANY_DELAY_MS)
    bases, ours, idle, crowds = [lab.bare(stub.url, THREADS, jobs)], [], [], []
    for _ in range(rounds):
        ours.append(crowd(redis, stub, lab, jobs))
        bases.append(lab.bare(stub.url, THREADS, jobs))
        idle.append(idle_mb(redis, quick, lab, max(300, int(IDLE_JOBS * min(scale, 1)))))
        crowds.append(many(redis, slow, lab, MANY_JOBS))

    def own(key):
        return [r[key] for r in ours]
    fresh, after = zip(*idle)
    threads, rate, peak = zip(*crowds)
    return [
        Figure(3, "200 ms, 512 threads: jobs/s over the bare loop's calls/s", quotients(own("rate"), between(bases, "rate")), low=0.98),
        Figure(3, "  adwumad", own("rate"), "jobs/s", digits=0),
        Figure(3, "  bare loop", between(bases, "rate"), "calls/s", digits=0),
        Figure(3, "work in the process that no thread is at", own("idle_ms"), "ms", high=50, digits=1, note="95th percentile of looks, done but unsettled too"),
        Figure(3, "  of it not yet begun", own("stock_ms"), "ms", digits=1),
        Figure(3, "CPU of adwumad a job over the bare loop's a call", quotients(own("cpu_us"), between(bases, "cpu_us"))),
        Figure(4, "512 threads: peak memory over the bare loop's", quotients(own("rss_kib"), between(bases, "rss_kib")), high=1.25),
        Figure(4, "  adwumad", [k * 1024 / 1e6 for k in own("rss_kib")], "MB", digits=1),
        Figure(4, "  bare loop", [k * 1024 / 1e6 for k in between(bases, "rss_kib")], "MB", digits=1),
        Figure(4, f"idle with {IDLE_THREADS} threads, fresh", fresh, "MB", high=3.0, note="anonymous; libraries are shared"),
        Figure(4, f"idle with {IDLE_THREADS} threads, after work", after, "MB", high=4.5, note="anonymous; libraries are shared"),
        Figure(4, f"{MANY_THREADS:,} threads start and work: threads that ran", threads, low=MANY_THREADS, digits=0),
        Figure(4, f"  {MANY_JOBS:,} jobs of {MANY_DELAY_MS} ms", rate, "jobs/s", digits=0),
        Figure(4, "  peak memory", peak, "MB", digits=1),
    ]
