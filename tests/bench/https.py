"""Row 9: HTTPS with a CA bundle of the system's size: rate beside the bare loop, memory and CPU of cold threads, full handshakes."""
import os
import subprocess
import tempfile

from bench import lab as bench
from bench.figures import Figure

JOBS, THREADS = 20000, 64
COLD_THREADS = 512
COLD_DELAY_MS = 5000  # of the API: no call ends before every thread has made its own
RATE_GOAL, MEMORY_GOAL_KIB, CPU_GOAL_MS, FULL_GOAL_PERCENT = 0.90, 200, 5, 5
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

AT_ONCE = """return 200 '"Maakye"';"""


def openssl(folder, *args):
    done = subprocess.run(["openssl", *args], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise bench.Failed(f"openssl {args[0]}: {done.stderr}")


def make_certificates(folder):
    """A CA, and a server's certificate by it, with RSA keys as those of most APIs; the system's bundle with our CA in it."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=adwuma bench", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    with open(f"{folder}/names", "w", encoding="ascii") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names", "-out",
            "server.pem")
    with open(f"{folder}/bundle.pem", "wb") as to:
        for name in (SYSTEM_BUNDLE, f"{folder}/ca.pem"):
            with open(name, "rb") as f:
                to.write(f.read())


def nginx(lab, certificates, protocols="TLSv1.2 TLSv1.3", answer=AT_ONCE, log=None):
    """With a log of which connections resumed a session, where one is wanted."""
    tls = f"""ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
    ssl_protocols {protocols}; ssl_session_cache shared:all:4m;
    log_format handshakes '$connection $connection_requests $ssl_session_reused';"""
    log = f"access_log {log} handshakes buffer=256k;" if log else ""
    return lab.nginx(f"{log} location / {{ {answer} }}", tls, "ssl")


def full_handshakes(log):
    """Of the connections that carried requests, which were full ones, in the order in which they were made. The server has stopped."""
    with open(log, encoding="ascii") as f:
        lines = [line.split() for line in f]
    return [reused != "r" for _, reused in sorted((int(number), reused) for number, requests, reused in lines if requests == "1")]


def check_count(redis, count):
    """As many results as jobs; that all of them are good ones, the counter has said."""
    found = sum(1 for _ in redis.client.scan_iter("adwuma:{translate}:result:*", count=10000))
    if found != count:
        raise bench.Failed(f"{count} jobs have {found} results")


def rate_rows(lab, redis, certificates, rounds, scale):
    jobs = max(2000, int(JOBS * scale))
    server = nginx(lab, certificates)
    # A handle of the bare loop reads the whole bundle for itself; with our CA alone it does not, and that is the harder measure.
    bundle, small = ("--ca", f"{certificates}/bundle.pem"), ("--ca", f"{certificates}/ca.pem")

    def bare(ca):
        return lab.bare(server.url, THREADS, jobs, *ca)["rate"]

    rates, ratios, hard_ratios, cpu = [], [], [], []
    bare(small)
    for _ in range(rounds):
        before = bare(bundle), bare(small)
        bench.push(redis, jobs)
        with lab.worker(redis, server.url, threads=THREADS, api_ca_file=f"{certificates}/bundle.pem") as worker:
            rates.append(jobs / bench.measure(redis, [worker, server], jobs))
            cpu.append(worker.cpu_us() / jobs)
        check_count(redis, jobs)
        after = bare(bundle), bare(small)
        ratios.append(2 * rates[-1] / (before[0] + after[0]))
        hard_ratios.append(2 * rates[-1] / (before[1] + after[1]))
    server.stop()
    return [Figure(9, f"HTTPS, {THREADS} threads: jobs/s over the bare loop's calls/s", ratios, low=RATE_GOAL),
            Figure(9, "the same over a bare loop that reads one certificate only", hard_ratios),
            Figure(9, "adwumad", rates, "jobs/s", digits=0),
            Figure(9, "CPU of adwumad a job", cpu, "µs", digits=1)]


def cold(lab, redis, certificates, protocol, threads):
    """One call, then one of each thread at once: KiB of anonymous memory a thread, ms of CPU a connection, per cent of full handshakes."""
    stub, log = lab.stub(COLD_DELAY_MS), f"{certificates}/handshakes"
    server = nginx(lab, certificates, protocol, f"proxy_pass {stub.url};", log)
    redis.client.flushall()
    with lab.worker(redis, server.url, threads=threads, api_ca_file=f"{certificates}/bundle.pem") as worker:
        for first, last in ((0, 1), (1, 1 + threads)):
            memory, cpu = worker.memory_kib("RssAnon"), worker.cpu_us()
            redis.client.lpush("adwuma:{translate}:ready", *[bench.job(i) for i in range(first, last)])
            bench.wait_until(lambda end=last: bench.finished(redis) >= end, [worker, server, stub], f"{last} jobs are done", 0.05)
        memory, cpu = worker.memory_kib("RssAnon") - memory, worker.cpu_us() - cpu
    bench.check_results(redis, 1 + threads)
    server.stop()
    stub.stop()
    full = full_handshakes(log)
    os.unlink(log)
    # The first thread may have kept its connection.
    if not threads <= len(full) <= threads + 1:
        raise bench.Failed(f"{threads} threads made {len(full)} connections")
    return memory / threads, cpu / 1000 / threads, 100 * sum(full[1:]) / len(full[1:])


def cold_rows(lab, redis, certificates, rounds, scale):
    threads = min(COLD_THREADS, max(64, int(COLD_THREADS * scale)))
    lines = []
    for protocol, name, full_goal in (("TLSv1.3", "TLS 1.3", None), ("TLSv1.2", "TLS 1.2", FULL_GOAL_PERCENT)):
        found = [cold(lab, redis, certificates, protocol, threads) for _ in range(rounds)]
        memory, cpu, full = zip(*found)
        lines += [Figure(9, f"{name}, {threads} cold threads: anonymous memory a thread", memory, "KiB", high=MEMORY_GOAL_KIB, digits=0),
                  Figure(9, f"{name}, {threads} cold threads: CPU a connection", cpu, "ms", high=CPU_GOAL_MS),
                  Figure(9, f"{name}, {threads} cold threads: full handshakes", full, "%", high=full_goal, digits=1)]
    return lines


def row(lab, rounds, scale):
    certificates = tempfile.mkdtemp(dir=lab.folder)
    make_certificates(certificates)
    redis = lab.redis()
    return rate_rows(lab, redis, certificates, rounds, scale) + cold_rows(lab, redis, certificates, rounds, scale)
