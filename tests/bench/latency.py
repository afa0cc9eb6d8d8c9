"""Row 5: one job at a time through an idle queue. See latency.c."""
import json
import subprocess

from bench import lab as bench
from bench.figures import Figure

JOBS = 400
PICKUP_P50_MS, PICKUP_P99_MS, RESULT_P50_MS = 0.3, 2, 0.25


def once(lab, redis, jobs):
    """The figures of one fresh worker."""
    redis.client.flushall()
    probe = bench.Process([f"{bench.BUILD}/latency", redis.socket, str(jobs)], stdout=subprocess.PIPE, text=True)
    try:
        listening = probe.process.stdout.readline().split()
        if not listening:
            raise bench.Failed("latency did not start")
        with lab.worker(redis, listening[-1]) as worker:
            line = probe.process.stdout.readline()
            worker.still_runs()
    finally:
        probe.stop(None)
    if not line:
        raise bench.Failed("latency gave no figures")
    found = json.loads(line)
    if bench.finished(redis) < jobs:
        raise bench.Failed(f"of {jobs} jobs only {bench.finished(redis)} are counted")
    return found


def row(lab, rounds, scale):
    jobs = max(40, int(JOBS * scale))
    redis = lab.redis()
    found = [once(lab, redis, jobs) for _ in range(rounds)]

    def figure(what, which, name, high=None):
        return Figure(5, name, [f[what][which] for f in found], "ms", high=high, digits=3)

    ping = figure("ping", "p99", "a PING, 99th percentile")
    return [figure("pickup", "p50", "from LPUSH to the request at the API, median", PICKUP_P50_MS),
            figure("pickup", "p90", "from LPUSH to the request at the API, 90th percentile"),
            figure("pickup", "p99", "from LPUSH to the request at the API, 99th percentile", max(PICKUP_P99_MS, 2 * ping.median)),
            figure("result", "p50", "from the API's answer to the result, median", RESULT_P50_MS),
            figure("result", "p90", "from the API's answer to the result, 90th percentile"),
            figure("result", "p99", "from the API's answer to the result, 99th percentile"),
            figure("ping", "p50", "a PING, median"),
            ping]
