"""Whole-system tests, with the programs of shared/programs.py. Every test has a Redis of its own, on a socket in its temporary folder."""
import random
import re
import signal
import subprocess
import time

import programs
import pytest
from fixtures import server, stub, system  # noqa: F401
from programs import (  # noqa: F401 (tests take them from here)
    BUILD, KEY, ROOT, SANITIZED, SLOW, TASKING_KEY, RedisServer, Script, Stub, System, Wire, Worker, lose_one, start, until)
from skipped import pytest_runtest_makereport  # noqa: F401


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell; programs that tests interrupt would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "core: claims, commits, stop, kill: the choice that also runs under the thread sanitizer")
    config.addinivalue_line("markers", "release: means something for released programs only (memory, valgrind); sanitized runs leave it out by name")


def pytest_collection_modifyitems(items):
    """Pytest-xdist hands out stretches of neighbours: whoever got a file whose tests all wait for a lease would end long after the others. So tests are
    shuffled, always in the same way, but for those of modules that make something once for all of theirs."""
    def shares(item):
        return any(defs[-1].scope == "module" for defs in item._fixtureinfo.name2fixturedefs.values())

    together, alone = [i for i in items if shares(i)], [i for i in items if not shares(i)]
    random.Random(0).shuffle(alone)
    items[:] = together + alone


def every_kind_of_key():
    """What may stand after adwuma:{Q}: as a pattern, from PROTOCOL.md, whose table a test holds against the code."""
    with open(ROOT + "/src/queue/PROTOCOL.md", encoding="utf-8") as f:
        table = f.read().split("\n## Keys of a queue")[1].split("\n## ")[0]
    return [re.sub("<.*", "*", kind) for kind in re.findall(r"^\| `([a-z_]+(?::[^`]*)?)` \| ", table, re.M)]


@pytest.fixture
def durable(tmp_path, stub):
    """A system whose Redis keeps its data through its own death."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    s = System(tmp_path, stub, server)
    yield s
    try:
        s.finish()
    finally:
        server.stop()


@pytest.fixture
def wire(tmp_path, server):
    w = Wire(tmp_path, server.socket)
    yield w
    w.stop()


@pytest.fixture
def script():
    s = Script()
    yield s
    s.stop()


class Batch:
    """Starts adwuma batch with files of the test's folder."""

    def __init__(self, system, folder):
        self.system, self.folder = system, folder

    def start(self, *args, stdin=None, **settings):
        return start([BUILD + "/adwuma", "batch", *args], cwd=self.folder, env=self.system.env(**settings), stdin=stdin or subprocess.DEVNULL,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, *args, **more):
        """Until its end; what it said is .err."""
        p = self.start(*args, **more)
        out, p.err = p.communicate(timeout=120 * SLOW)
        assert out == "" and "Sanitizer" not in p.err and "runtime error" not in p.err, p.err
        return p

    def kills(self, times, *args, pauses, seed=7):
        """Starts it again and again, and kills it after one of these pauses; how often it had to be killed."""
        chance = random.Random(seed)
        for n in range(times):
            p = self.start(*args)
            try:
                p.communicate(timeout=chance.choice(pauses))
                return n
            except subprocess.TimeoutExpired:
                p.kill()
                p.communicate()
        return times

    def peak(self, *args):
        """Until its end, and the largest memory it had, in KiB."""
        p, peak = self.start(*args), 0
        while p.poll() is None:
            try:
                with open(f"/proc/{p.pid}/status", encoding="ascii") as f:
                    peak = max(peak, int(f.read().split("VmHWM:")[1].split()[0]))
            except (OSError, IndexError):
                pass  # it has just ended
            time.sleep(0.02)
        _, p.err = p.communicate()
        return p, peak


@pytest.fixture
def batch(system, tmp_path):
    return Batch(system, tmp_path)


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """Workers start through a shell that takes something from them first."""
    def limit(line):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "adwumad").write_text(f'#!/bin/sh\n{line} {BUILD}/adwumad "$@"\n')
        (tmp_path / "bin" / "adwumad").chmod(0o755)
        monkeypatch.setattr(programs, "BUILD", str(tmp_path / "bin"))
    return limit
