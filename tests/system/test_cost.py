"""What one job costs, in figures that do not depend on the machine or on its load: our own instructions, system calls, Redis commands. Whoever
changes one by a tenth or more, in either direction, should know it and record it anew."""
import os
import re
import subprocess

import pytest
from conftest import BUILD, start, until

# For each translate job of many that wait, 16 threads, the stub answers at once. Instructions: of adwumad itself, without its libraries, whose number
# differs between versions and with how often libcurl has to wait.
RECORDED = {"instructions": 9430, "system calls": 4.6, "commands": 4.45}
FEW, MANY = 500, 2500  # what the start and the end cost falls out in the difference
TOLERANCE = 0.10
TRIES = 12  # a loaded machine makes a call wait more often than once, which costs calls of poll; it never makes it wait less often

pytestmark = pytest.mark.release


def run(system, jobs, tool):
    """Does so many jobs under a tool. Returns how many commands Redis carried out for them, those of scripts too."""
    system.redis.flushall()
    system.push("translate", *[{"id": f"b{i}", "text": f"Good morning, number {i}", "language_pair": "en-tw"} for i in range(jobs)])
    env = system.env(queues="translate", threads=16, lease_ms=600000, log_level="warn")
    began = system.redis.info("stats")["total_commands_processed"]
    worker = start([*tool, BUILD + "/adwumad"], env=env)
    try:
        asked = 0

        def done():
            nonlocal asked
            asked += 2
            return system.stats("translate").get("succeeded") == jobs

        until(done, 60, "the jobs are done")
        commands = system.redis.info("stats")["total_commands_processed"] - began - asked // 2
    finally:
        # A tool does not hand signals on: its only child is meant, where there is one.
        children = subprocess.run(["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in children or [worker.pid]:
            os.kill(int(pid), 15)
        assert worker.wait(60) == 0
    assert system.results("translate") == jobs
    return commands


def per_job(few, many):
    return (many - few) / (MANY - FEW)


def assert_as_recorded(what, measure):
    recorded, found = RECORDED[what], []
    while len(found) < TRIES and not (found and abs(found[-1] - recorded) <= TOLERANCE * recorded):
        found.append(per_job(*[measure(jobs) for jobs in (FEW, MANY)]))
    assert abs(found[-1] - recorded) <= TOLERANCE * recorded, f"{what} for each job: {found}, recorded {recorded}"


def own_instructions(path):
    text = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", "--show-percs=no", path], capture_output=True, text=True, check=True).stdout
    return sum(int(n.replace(",", "")) for n in re.findall(r"^ *([\d,]+) .*\[.*/adwumad\]$", text, re.M))


def test_instructions(system, tmp_path):
    def measure(jobs):
        path = str(tmp_path / f"callgrind.{jobs}")
        run(system, jobs, ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={path}"])
        return own_instructions(path)

    assert_as_recorded("instructions", measure)


def test_system_calls(system, tmp_path):
    def measure(jobs):
        path = tmp_path / f"strace.{jobs}"
        run(system, jobs, ["strace", "-f", "--summary-only", "--summary-columns=calls,name", "-o", str(path)])
        return sum(int(n) for n, name in re.findall(r"^ *(\d+) +(\w+)$", path.read_text(), re.M) if name != "total")

    assert_as_recorded("system calls", measure)


def test_redis_commands(system):
    assert_as_recorded("commands", lambda jobs: run(system, jobs, []))
