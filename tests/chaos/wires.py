"""The wires between workers and Redis, one for each seat, that can be cut and slowed.

Namespaces: this process has a network of its own (enter() starts it anew in one), Redis has another, and between them is one pair of veth
devices a seat; iptables in Redis's network cuts, tbf slows. All of it is gone with the last process. Proxy: where that is not allowed, a relay
between unix sockets."""
import asyncio
import os
import shutil
import subprocess
import sys
import threading

PORT = 6379
FLAG = "CHAOS_INSIDE"
SLOW_RATE = "2mbit"


def run(*command, check=True):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stdout.strip()}")
    return done.returncode == 0


def unshare():
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


def namespaces_work():
    """Tries the very things that will be needed."""
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip", "tc", "iptables")):
        return False
    probe = "ip link set lo up && ip link add near0 type veth peer name far0 && tc qdisc add dev near0 root tbf rate 1mbit burst 16kb latency 1s && " \
        "iptables -w -A INPUT -i near0 -p tcp -j REJECT --reject-with tcp-reset && iptables -w -A OUTPUT -o near0 -j DROP && unshare --net true"
    return run(*unshare(), "sh", "-c", probe, check=False)


def enter(wanted):
    """Starts this program anew in a network of its own, where that is allowed and wanted; tells which wires there will be."""
    if os.environ.get(FLAG):
        return NamespaceWires
    if wanted == "proxy" or not namespaces_work():
        if wanted == "namespaces":
            sys.exit("chaos: network namespaces with iptables and tbf are not allowed here")
        return ProxyWires
    command = [*unshare(), sys.executable, *sys.argv]
    os.execvpe(command[0], command, {**os.environ, FLAG: "1"})


class NamespaceWires:
    name = "network namespaces, veth, iptables and tbf"

    def __init__(self, seats, _folder, start):
        self.seats = seats
        run("ip", "link", "set", "lo", "up")
        self.holder = start(unshare()[:1] + ["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"], stdout=subprocess.PIPE)
        if not self.holder.stdout.readline():
            raise OSError("no network namespace for Redis")
        for i in range(seats):
            run("ip", "link", "add", f"near{i}", "type", "veth", "peer", "name", f"far{i}", "netns", str(self.holder.pid))
            run("ip", "addr", "add", f"10.99.{i}.1/30", "dev", f"near{i}")
            run("ip", "link", "set", f"near{i}", "up")
            self.inside("ip", "addr", "add", f"10.99.{i}.2/30", "dev", f"far{i}")
            self.inside("ip", "link", "set", f"far{i}", "up")

    def inside(self, *command):
        run(*self.redis_prefix(), *command)

    def redis_prefix(self):
        return ["nsenter", "--net", "--target", str(self.holder.pid), "--"]

    def redis_flags(self):
        return ["--port", str(PORT), "--bind", *(f"10.99.{i}.2" for i in range(self.seats)), "--protected-mode", "no"]

    def url(self, seat):
        return f"redis://10.99.{seat}.2:{PORT}/0"

    def rules(self, seat, how):
        if how == "reset":
            return [("INPUT", "-i", f"far{seat}", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")]
        ways = [("OUTPUT", "-o", f"far{seat}", "-j", "DROP")]
        return ways if how == "replies" else [("INPUT", "-i", f"far{seat}", "-j", "DROP"), *ways]

    def cut(self, seat, how):
        for rule in self.rules(seat, how):
            self.inside("iptables", "-w", "-A", *rule)

    def mend(self, seat, how):
        for rule in self.rules(seat, how):
            self.inside("iptables", "-w", "-D", *rule)

    def slow(self, seat):
        self.shape("replace", seat, "tbf", "rate", SLOW_RATE, "burst", "16kb", "latency", "400ms")

    def fast(self, seat):
        self.shape("del", seat)

    def shape(self, verb, seat, *how):
        """Both directions. That it is fast already is no fault: two blows may overlap."""
        inside = self.redis_prefix()
        run("tc", "qdisc", verb, "dev", f"near{seat}", "root", *how, check=bool(how))
        run(*inside, "tc", "qdisc", verb, "dev", f"far{seat}", "root", *how, check=bool(how))

    def stop(self):
        self.holder.kill()


class Relay:
    """One seat's proxy. Runs on the thread of ProxyWires."""

    def __init__(self, path, to):
        self.path, self.to = path, to
        self.held = {"silent": 0, "replies": 0, "reset": 0}
        self.delay = 0.0
        self.moved = asyncio.Event()  # set anew whenever something changed
        self.ends = set()

    def blocked(self, back):
        return self.held["silent"] or (back and self.held["replies"])

    def change(self, how, by):
        self.held[how] += by
        if self.held["reset"]:
            for writer in list(self.ends):
                writer.transport.abort()
        self.moved.set()
        self.moved = asyncio.Event()

    async def serve(self):
        await asyncio.start_unix_server(self.accept, self.path)

    async def accept(self, reader, writer):
        self.ends.add(writer)
        far = None
        try:
            if self.held["reset"]:
                return
            far_reader, far = await asyncio.open_unix_connection(self.to)
            self.ends.add(far)
            await asyncio.wait([asyncio.ensure_future(self.carry(reader, far, False)), asyncio.ensure_future(self.carry(far_reader, writer, True))],
                               return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            for end in (writer, far):
                if end:
                    self.ends.discard(end)
                    end.close()

    async def carry(self, reader, writer, back):
        try:
            while piece := await reader.read(1 << 16):
                while self.blocked(back):
                    await self.moved.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass


class ProxyWires:
    name = "a proxy between unix sockets (namespaces are not allowed here, or not wanted)"

    def __init__(self, seats, folder, _start):
        self.relays = []
        self.loop = asyncio.new_event_loop()
        self.folder = folder
        for i in range(seats):
            self.relays.append(Relay(f"{folder}/wire{i}.sock", f"{folder}/redis.sock"))
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        for relay in self.relays:
            asyncio.run_coroutine_threadsafe(relay.serve(), self.loop).result(5)

    def redis_prefix(self):
        return []

    def redis_flags(self):
        return ["--port", "0"]

    def url(self, seat):
        return f"unix://{self.relays[seat].path}"

    def cut(self, seat, how):
        self.loop.call_soon_threadsafe(self.relays[seat].change, how, 1)

    def mend(self, seat, how):
        self.loop.call_soon_threadsafe(self.relays[seat].change, how, -1)

    def slow(self, seat):
        self.relays[seat].delay = 0.08

    def fast(self, seat):
        self.relays[seat].delay = 0.0

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.drop_all(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def drop_all(self):
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
