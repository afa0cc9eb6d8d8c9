"""Hosts on one machine: network namespaces, joined by pairs of veth devices to one in the middle, where Redis and the API are.

All of it is gone with the processes that hold it. Where that is not allowed it is said, and nothing is tested."""
import json
import os
import subprocess

import pytest
from chaos import wires
from programs import RedisServer, Stub, start

PORT = 6379
API_PORT = 8089


def inside(holder):
    """What starts a command in its network; an unprivileged user is root there only."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    return ["nsenter", *user, "--net", "--target", str(holder.pid), "--"]


def hold(command):
    p = start([*command, "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=subprocess.PIPE)
    if not p.stdout.readline():
        pytest.fail("no network namespaces here: they need root, or user namespaces, and ip and iptables")
    return p


class StubThere(Stub):
    """The stub in a network that this process is not in."""

    def __init__(self, prefix):
        self.prefix = prefix
        super().__init__("--listen", f"0.0.0.0:{API_PORT}", prefix=prefix)
        self.url = f"http://127.0.0.1:{API_PORT}"

    def ask(self, method, path, body=None):
        text = "import sys, urllib.request as u; " \
            "sys.stdout.buffer.write(u.urlopen(u.Request(sys.argv[2], method=sys.argv[1], data=sys.stdin.buffer.read() or None), timeout=30).read())"
        command = [*self.prefix, "/usr/bin/python3", "-c", text, method, self.url + path]
        return json.loads(subprocess.run(command, input=(body or "").encode(), stdout=subprocess.PIPE, check=True).stdout)

    def calls(self):
        """All that are recorded: they come in pages."""
        calls = []
        while page := self.ask("GET", f"/_stub/calls?since={calls[-1]['seq'] if calls else 0}&limit=2000"):
            calls += page
        return calls


class Hosts:
    """N hosts; host i reaches Redis and the API at an address of its own, by which the stub's record tells who called."""

    def __init__(self, folder, n):
        self.holders, self.cuts = [hold(wires.unshare())], {}
        self.middle = inside(self.holders[0])
        for i in range(n):
            self.holders.append(hold([*self.middle, "unshare", "--net"]))
            pid = str(self.holders[-1].pid)
            wires.run(*self.middle, "ip", "link", "add", f"to{i}", "type", "veth", "peer", "name", "out", "netns", pid)
            wires.run(*self.middle, "ip", "addr", "add", f"{self.address(i)}/30", "dev", f"to{i}")
            wires.run(*self.middle, "ip", "link", "set", f"to{i}", "up")
            wires.run(*self.at(i), "ip", "addr", "add", f"10.98.{i}.2/30", "dev", "out")
            wires.run(*self.at(i), "ip", "link", "set", "out", "up")
        self.server = RedisServer(folder, "--port", str(PORT), "--bind", *map(self.address, range(n)), "--protected-mode", "no", prefix=self.middle)
        self.stub = StubThere(self.middle)

    @staticmethod
    def address(i):
        """Of the middle, as host i sees it."""
        return f"10.98.{i}.1"

    def at(self, i):
        return inside(self.holders[i + 1])

    def settings(self, i):
        """Where things are for who runs at host i."""
        api = f"http://{self.address(i)}:{API_PORT}"
        return {"redis_url": f"redis://{self.address(i)}:{PORT}/0", "KHAYA_BASE_URL": api, "TASKINGAI_HOST": api, "allow_http_hosts": self.address(i)}

    def cut(self, i, what):
        """Nothing passes any more, either way, and nobody is told: 'redis' alone, or 'all'."""
        port = ["-p", "tcp", "--dport", str(PORT)], ["-p", "tcp", "--sport", str(PORT)]
        near, far = port if what == "redis" else ([], [])
        self.cuts[i] = [("INPUT", "-i", f"to{i}", *near, "-j", "DROP"), ("OUTPUT", "-o", f"to{i}", *far, "-j", "DROP")]
        for rule in self.cuts[i]:
            wires.run(*self.middle, "iptables", "-w", "-A", *rule)

    def mend(self, i):
        for rule in self.cuts.pop(i):
            wires.run(*self.middle, "iptables", "-w", "-D", *rule)

    def stop(self):
        for p in (self.server, self.stub):
            p.stop()
        for holder in self.holders:
            holder.kill()
            holder.wait()
