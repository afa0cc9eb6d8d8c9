"""Rows 1 and 2: what the queue costs when nothing else takes time. An API that answers at once, more jobs than threads by far."""
from bench import lab as L
from bench.figures import Figure, between, quotients
from bench.lab import Lab

JOBS, THREADS = 100_000, 16
NGINX_ANSWER = """location / { return 200 '"[tw] Good morning, number 50000"'; }"""


def queued(redis, stub, lab, jobs):
    """One adwumad over the jobs, all results looked at: jobs/s and what it costs."""
    L.push(redis, jobs)
    called = stub.calls()
    redis_us, stub_us, (commands, trips) = redis.cpu_us(), stub.cpu_us(), redis.commands()
    with lab.worker(redis, stub.url, threads=THREADS) as worker:
        took = L.measure(redis, [worker], jobs)
        used = {"cpu_us": worker.cpu_us(), "redis_us": redis.cpu_us() - redis_us, "stub_us": stub.cpu_us() - stub_us}
        used["commands"], used["trips"] = (after - before for after, before in zip(redis.commands(), (commands, trips)))
    L.check_results(redis, jobs)
    if stub.calls() - called != jobs:
        raise L.Failed(f"{jobs} jobs made {stub.calls() - called} calls")
    return {"rate": jobs / took, **{k: v / jobs for k, v in used.items()}}


def queued_at(nginx, redis, lab, jobs):
    """The same jobs at an API that costs less than ours; its answer is always the same."""
    L.push(redis, jobs)
    with lab.worker(redis, nginx.url, threads=THREADS) as worker:
        took = L.measure(redis, [worker, nginx], jobs)
    if L.finished(redis) != jobs:
        raise L.Failed(f"{jobs} jobs, {L.finished(redis)} have succeeded")
    return jobs / took


def with_aof(stub, jobs):
    """The same with a Redis that writes; a fresh one each time, so that its file stays small."""
    with Lab() as lab:
        redis = lab.redis("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
        return queued(redis, stub, lab, jobs)


def loops(lab, server, calls):
    """The bare loop, plain and tuned, and what the API spends on a request of the plain one."""
    before = server.cpu_us()
    plain = lab.bare(server.url, THREADS, calls)
    api_us = (server.cpu_us() - before) / calls
    tuned = lab.bare(server.url, THREADS, calls, "--tuned")
    return {"rate": plain["rate"], "cpu_us": plain["cpu_us"], "tuned_rate": tuned["rate"], "tuned_cpu_us": tuned["cpu_us"], "api_us": api_us}


def row(lab, rounds, scale):
    jobs = max(1000, int(JOBS * scale))
    redis, stub, nginx = lab.redis(), lab.stub(), lab.nginx(NGINX_ANSWER)
    lab.bare(stub.url, THREADS, jobs // 10 + 1)  # warms up
    lab.bare(nginx.url, THREADS, jobs // 10 + 1)
    bases, ours, aof, at_nginx = [], [], [], []
    for _ in range(rounds):
        bases.append([loops(lab, stub, jobs)])
        ours.append(queued(redis, stub, lab, jobs))
        bases[-1].append(loops(lab, stub, jobs))
        aof.append(with_aof(stub, jobs))
        at_nginx.append(loops(lab, nginx, jobs))
        at_nginx[-1]["queued"] = queued_at(nginx, redis, lab, jobs)

    def own(key, runs=ours):
        return [r[key] for r in runs]

    def base(key):
        return [x for pair in bases for x in between(pair, key)]
    nginx_us = Figure(1, "  nginx: CPU of a request, constant answer", own("api_us", at_nginx), "us", digits=1)
    return [
        Figure(1, "at once, 16 threads: jobs/s over the bare loop's calls/s", quotients(own("rate"), base("rate")), low=0.80, note="0.85 is the wish"),
        Figure(1, "  over those of a bare loop tuned alike", quotients(own("rate"), base("tuned_rate"))),
        Figure(1, "  with AOF everysec, over the bare loop's", quotients(own("rate", aof), base("rate"))),
        Figure(1, "  with nginx as the API, over the bare loop's there", quotients(own("queued", at_nginx), own("rate", at_nginx))),
        Figure(1, "  adwumad", own("rate"), "jobs/s", digits=0),
        Figure(1, "  bare loop", base("rate"), "calls/s", digits=0),
        Figure(1, "  bare loop tuned alike", base("tuned_rate"), "calls/s", digits=0),
        Figure(1, "stub: CPU of a request", base("api_us"), "us", high=nginx_us.median, digits=1, note="else it is the limit; goal: nginx's"),
        nginx_us,
        Figure(2, "CPU of adwumad a job over the bare loop's a call", quotients(own("cpu_us"), base("cpu_us")), high=1.20),
        Figure(2, "  over that of a bare loop tuned alike", quotients(own("cpu_us"), base("tuned_cpu_us"))),
        Figure(2, "  adwumad", own("cpu_us"), "us", digits=1),
        Figure(2, "  bare loop", base("cpu_us"), "us", digits=1),
        Figure(2, "  bare loop tuned alike", base("tuned_cpu_us"), "us", digits=1),
        Figure(2, "CPU of redis-server a job, without AOF", own("redis_us"), "us", high=15, digits=1),
        Figure(2, "CPU of redis-server a job, AOF everysec", own("redis_us", aof), "us", high=20, digits=1),
        Figure(2, "CPU of the stub a job", own("stub_us"), "us", digits=1),
        Figure(2, "Redis commands a job, those in scripts too", own("commands")),
        Figure(2, "Redis round trips a job", own("trips"), digits=3),
    ]
