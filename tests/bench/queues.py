"""Rows 6, 7 and 10: long queues, several processes, several queues."""
import collections
import contextlib
import itertools
import json
import os
import time

from bench import lab as L
from bench.figures import Figure, quotients

LONG, SHORT, LONG_THREADS, PAIRS = 1_000_000, 10_000, 16, 3  # runs are short: some pairs a round
BACK_MAX = 1_000  # a worker hands back fewer
FLEET_JOBS, FLEET, FLEET_THREADS, FLEET_DELAY_MS = 8_000, 4, 8, 20
LANE_JOBS, LANE_THREADS, SLOW_MS, FAST_MS = 20_000, 32, 1_000, 1
LANES = "threads = {threads}\nqueues = fast, slow\n\n[queue fast]\nmax_concurrency = {half}\n\n[queue slow]\nmax_concurrency = {half}\n"


# --- 6 ---

def done_from(redis, begin):
    """Numbers of the jobs that are done, after the worker's end. What its threads had taken and not begun went back then, though younger jobs were
    done: these are dropped, so that what waits begins behind what is done."""
    ready, finished = "adwuma:{translate}:ready", L.finished(redis)
    waiting = {int(json.loads(job)["id"].lstrip("b")): job for job in redis.client.lrange(ready, -BACK_MAX, -1)}
    numbers = list(itertools.islice((i for i in itertools.count(begin) if i not in waiting), finished))
    for i in range(begin, numbers[-1]):
        if i in waiting:
            redis.client.lrem(ready, -1, waiting[i])
    return numbers


def first_jobs(redis, stub, lab, begin, count):
    """The rate over the first count jobs from number begin on, and what the worker took at most; then nothing but the waiting jobs is left."""
    with lab.worker(redis, stub.url, threads=LONG_THREADS) as worker:
        done, took = L.timed(redis, [worker], count)
        peak = worker.memory_kib("VmHWM")
    numbers = done_from(redis, begin)
    for _ in L.results(redis, numbers):
        pass
    for at in range(0, len(numbers), 5000):
        redis.client.unlink(*[f"adwuma:{{translate}}:result:b{i}" for i in numbers[at:at + 5000]])
    redis.client.unlink("adwuma:{translate}:stats")
    return done / took, peak, numbers[-1] + 1


def backlog(lab, rounds, scale):
    waiting, count = max(20_000, int(LONG * scale)), max(1_000, int(SHORT * min(scale * 10, 1)))
    long, short, stub = lab.redis(), lab.redis(), lab.stub()
    L.push(long, waiting)
    begin, end = 0, waiting
    first_jobs_of = {"long": [], "short": []}
    for _ in range(rounds * PAIRS):
        rate, peak, begin = first_jobs(long, stub, lab, begin, count)
        first_jobs_of["long"].append((rate, peak))
        L.add(long, range(end, begin + waiting))
        end = begin + waiting
        L.push(short, count)
        first_jobs_of["short"].append(first_jobs(short, stub, lab, 0, count)[:2])
    (long_rate, long_peak), (short_rate, short_peak) = (zip(*first_jobs_of[k]) for k in ("long", "short"))
    return [
        Figure(6, f"jobs/s with {waiting:,} waiting over with {count:,}", quotients(long_rate, short_rate), low=0.95),
        Figure(6, f"  first {count:,} of {waiting:,}", long_rate, "jobs/s", digits=0),
        Figure(6, f"  {count:,} of {count:,}", short_rate, "jobs/s", digits=0),
        Figure(6, f"peak memory with {waiting:,} waiting over with {count:,}", quotients(long_peak, short_peak), high=1.05,
               note="the same, but for what runs differ by"),
        Figure(6, "  peak memory", [k * 1024 / 1e6 for k in long_peak], "MB", digits=1),
    ]


# --- 7 ---

def fleet_run(redis, stub, lab, jobs, threads):
    """Workers with so many threads each, all there before the jobs come in one piece: jobs/s, and each worker's share in percent."""
    redis.client.flushall()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(lab.worker(redis, stub.url, threads=n)) for n in threads]
        L.wait_idle(redis, workers)
        began = time.monotonic()
        L.add(redis, range(jobs), at_once=jobs)
        rate = jobs / L.until_done(redis, workers, jobs, began)[1]
    of_worker = collections.Counter(result["worker"] for result in L.results(redis, range(jobs)))
    L.check_results(redis, jobs)
    return rate, [n * 100 / jobs for n in of_worker.values()] + [0.0] * (len(threads) - len(of_worker))


def fleet(lab, rounds, scale):
    jobs = max(1_000, int(FLEET_JOBS * scale))
    redis, stub = lab.redis(), lab.stub(FLEET_DELAY_MS)
    one, four, shares = [], [], []
    for _ in range(rounds):
        one.append(fleet_run(redis, stub, lab, jobs, [FLEET * FLEET_THREADS])[0])
        rate, found = fleet_run(redis, stub, lab, jobs, [FLEET_THREADS] * FLEET)
        four.append(rate)
        shares.append(found)
    fair = 100 / FLEET
    return [
        Figure(7, f"jobs/s of {FLEET} x {FLEET_THREADS} over 1 x {FLEET * FLEET_THREADS} threads", quotients(four, one), low=0.95),
        Figure(7, f"  {FLEET} processes", four, "jobs/s", digits=0),
        Figure(7, "  1 process", one, "jobs/s", digits=0),
        Figure(7, f"share of the process farthest from {fair:g} %", [max(s, key=lambda x: abs(x - fair)) for s in shares], "%", low=fair - 3,
               high=fair + 3, digits=1),
    ]


# --- 10 ---

def lane_job(kind, ms):
    """The id tells the two kinds of jobs apart."""
    if kind == "slow":
        return lambda i: f'{{"id":"s{i}","type":"translate","text":"x stub(delay={ms})"}}'
    return lambda i: f'{{"id":"b{i}","type":"translate","text":"Good morning, number {i}"}}'


def lane_run(redis, stub, lab, config, jobs, slow_jobs):
    """Jobs/s of the fast queue while the slow one holds so many."""
    redis.client.flushall()
    with lab.worker(redis, stub.url, config=config, queues="fast,slow") as worker:
        L.wait_idle(redis, [worker], "fast")
        if slow_jobs:
            L.add(redis, range(slow_jobs), "slow", lane_job("slow", SLOW_MS))
            L.wait_until(lambda: redis.client.llen("adwuma:{slow}:ready") <= slow_jobs - LANE_THREADS // 2, [worker], "slow calls run")
        began = time.monotonic()
        L.add(redis, range(jobs), "fast", lane_job("fast", FAST_MS), at_once=jobs)
        rate = jobs / L.until_done(redis, [worker], jobs, began, "fast")[1]
        if slow_jobs and redis.client.llen("adwuma:{slow}:ready") == 0:
            raise L.Failed("the slow queue ran empty")
    L.check_results(redis, jobs, "fast")
    return rate


def lanes(lab, rounds, scale):
    jobs, slow_jobs = max(2_000, int(LANE_JOBS * scale)), 2_000
    redis, stub = lab.redis(), lab.stub(FAST_MS)
    config = os.path.join(lab.folder, "lanes.conf")
    with open(config, "w", encoding="ascii") as f:
        f.write(LANES.format(threads=LANE_THREADS, half=LANE_THREADS // 2))
    empty, full = [], []
    for _ in range(rounds):
        empty.append(lane_run(redis, stub, lab, config, jobs, 0))
        full.append(lane_run(redis, stub, lab, config, jobs, slow_jobs))
    return [
        Figure(10, "fast queue's jobs/s: slow one full over empty", quotients(full, empty), low=0.95),
        Figure(10, f"  slow queue full of {SLOW_MS} ms calls", full, "jobs/s", digits=0),
        Figure(10, "  slow queue empty", empty, "jobs/s", digits=0),
    ]
