"""The roles of deploy/redis/users.acl: Redis runs with that very file, real programs do all that each role is for, and nothing else passes.

A role's programs reach Redis through a tap that notes what they send; what scripts run inside Redis, MONITOR tells. So it is known which commands a
role really uses, and each right is taken away in turn: Redis must then refuse at least one of them. A right that nobody would miss fails the test."""
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading

import pytest
import redis as redis_py
import yaml
from conftest import BUILD, ROOT, SLOW, RedisServer, System, every_kind_of_key, start, until
from programs import REDIS_SERVER, hang_up
from test_library import driver, soname  # noqa: F401: fixtures

sys.path.insert(0, ROOT + "/deploy/python")
import adwuma_khaya

ROLES = ["producer", "worker", "viewer", "operator"]
PASSWORD = {role: f"secret-of-{role}" for role in [*ROLES, "admin"]}
ADMIN = "user admin on >%s ~* &* +@all\n" % PASSWORD["admin"]
CLUSTERED = {"asking", "cluster|info", "cluster|keyslot", "cluster|nodes", "cluster|slots"}  # asked by the programs where they find a Cluster, which these tests have not
Q = "adwuma:{translate}:"
LONG = "A sentence that is quite long, " * 40 + "and ends. " + "Another one that is as long, " * 40


def lines(form="users.acl"):
    """{"adwuma-worker": "on resetchannels -@all …"}; the other form is users-6.2.acl, for Redis 6.2."""
    with open(f"{ROOT}/deploy/redis/{form}", encoding="ascii") as f:
        return dict(re.fullmatch(r"user (\S+) (.*)\n", line).groups() for line in f)


def groups(line):
    """The rights of a user, those outside of parentheses first: [["+info", …], ["+lpush", "%W~adwuma:{*}:ready"], …]."""
    selectors = re.findall(r"\(([^()]*)\)", line)
    words = re.sub(r"\([^()]*\)", "", line).split()
    assert words[:3] == ["on", "resetchannels", "-@all"] and not re.search(r"nopass|[>#]|allkeys|\+@| \*", line), line
    return [words[3:], *(s.split() for s in selectors)]


def rules(rights):
    """As ACL SETUSER takes them."""
    return ["reset", "on", "-@all", *rights[0], *("(" + " ".join(["-@all", *g]) + ")" for g in rights[1:])]


def commands_of(role):
    return {w[1:] for g in groups(lines()["adwuma-" + role]) for w in g if w[0] == "+"}


# --- A Redis with these users --------------------------------------------------------------------------------------------


class Guarded(RedisServer):
    """One whose ACL file is ours, with the passwords and a user for the test's own questions."""

    def __init__(self, folder, form="users.acl"):
        with open(f"{folder}/users.acl", "w", encoding="ascii") as f:
            f.write(ADMIN)
            for name, line in lines(form).items():
                secret = PASSWORD.get(name.removeprefix("adwuma-"))
                f.write(f"user {name} {line}{' #' + hashlib.sha256(secret.encode()).hexdigest() if secret else ''}\n")
        super().__init__(folder, "--aclfile", f"{folder}/users.acl", "--acllog-max-len", "1000")

    def start(self):
        self.process = start([REDIS_SERVER, "--unixsocket", self.socket, "--dir", self.folder, "--save", "", *self.flags], stdout=subprocess.DEVNULL)
        self.client = self.as_role("admin", name="admin")
        until(self.answers, what="redis answers")

    def as_role(self, role, name=None, path=None):
        return redis_py.Redis(unix_socket_path=path or self.socket, username=name or "adwuma-" + role, password=PASSWORD[role])

    def denied(self):
        """What was refused: {"adwuma-viewer set", …}."""
        return {f"{e['username']} {e['object']}".replace("b'", "") for e in map(decoded, self.client.execute_command("ACL", "LOG", "1000"))}

    def allows(self, user, *command):
        said = self.client.execute_command("ACL", "DRYRUN", user, *command)
        assert b"unknown" not in said.lower() and b"wrong number" not in said, (said, command)
        return said == b"OK"


def decoded(entry):
    flat = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2]))
    return {k.decode() if isinstance(k, bytes) else k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in flat.items()}


class Tap:
    """A role's way to Redis, which keeps what was sent."""

    def __init__(self, folder, role, to):
        self.path, self.to, self.seen = f"{folder}/{role}.sock", to, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.to)
            threading.Thread(target=self.carry, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, False), daemon=True).start()

    def carry(self, source, sink, asks):
        pending = b""
        try:
            while piece := source.recv(1 << 18):
                if asks:
                    pending = self.note(pending + piece)
                sink.sendall(piece)
        except OSError:
            pass
        hang_up(source, sink)

    def note(self, data):
        """Keeps the commands that are whole; returns the rest."""
        while data:
            at, args = data.find(b"\r\n") + 2, []
            for _ in range(int(data[1:at - 2]) if at > 1 else 1):
                end = data.find(b"\r\n", at) + 2
                n = int(data[at + 1:end - 2]) if end > 1 else 0
                if end < 2 or len(data) < end + n + 2:
                    return data
                args.append(data[end:end + n])
                at = end + n + 2
            self.seen.append(args)
            data = data[at:]
        return data

    def stop(self):
        self.listener.close()


class Monitor:
    """What scripts call, by whether the script is the one that only adwuma dead runs."""

    def __init__(self, server):
        self.wire = socket.socket(socket.AF_UNIX)
        self.wire.connect(server.socket)
        self.wire.sendall(f"AUTH admin {PASSWORD['admin']}\r\nMONITOR\r\n".encode())
        self.seen = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        script = None
        with self.wire.makefile("rb") as f:
            for line in f:
                # Valkey 8.1 puts no backslash before quotes, so the words are told apart by what stands between them.
                words = line.rstrip().removesuffix(b'"').partition(b'] "')[2]
                args = [re.sub(rb'\\(["\\])', rb"\1", a) for a in words.split(b'" "')] if words else []
                if args and args[0].lower() == b"evalsha":
                    script = args[1]
                elif args and b" lua] " in line:
                    self.seen.append((script, args))

    def stop(self):
        self.wire.shutdown(socket.SHUT_RDWR)
        self.thread.join()


class Cast(System):
    """A system in which everybody plays a role."""

    def __init__(self, folder, stub, server):
        super().__init__(folder, stub, server)
        self.taps = {role: Tap(folder, role, server.socket) for role in ROLES}

    def as_(self, role, **settings):
        return self.env(redis_url="unix://" + self.taps[role].path, redis_username="adwuma-" + role, redis_password=PASSWORD[role], **settings)

    def worker(self, **settings):
        return super().worker(redis_url="unix://" + self.taps["worker"].path, redis_username="adwuma-worker", redis_password=PASSWORD["worker"],
                              lease_ms=1000, dead_max_jobs=2, **settings)

    def cli(self, role, *args, code=0, text=None):
        """What adwuma prints; what it says is .said."""
        done = subprocess.run([BUILD + "/adwuma", *args], env=self.as_(role), input=text, cwd=self.folder, capture_output=True, text=True, timeout=60 * SLOW)
        assert done.returncode == code, (args, done)
        self.said = done.stderr
        return done.stdout

    def python(self, role):
        return self.server.as_role(role, path=self.taps[role].path)


@pytest.fixture
def cast(tmp_path, stub):
    server = Guarded(tmp_path)
    s = Cast(tmp_path, stub, server)
    yield s
    try:
        s.finish()
    finally:
        for tap in s.taps.values():
            tap.stop()
        server.stop()


# --- What each role is for, by the real programs --------------------------------------------------------------------------


def produce_by_commands(cast):
    """adwuma as a producer's user. Where a job is it may not look; what it has to say of one it can."""
    def say(*args, **more):
        return cast.cli("producer", *args, **more)
    assert say("translate", "x") == "[tw] x\n"
    say("synthesize", LONG, "-o", "long.wav")
    say("synthesize", "Maakye", "-o", "m.wav")
    assert say("transcribe", "m.wav") == "Maakye\n"
    assert "Echo: hi" in say("chat", "--model", "TpAb12Cd", "hi")
    assert say("submit", text='{"id":"s1","type":"translate","text":"y"}\n') == "s1\n" and say("result", "s1", "--wait", "20") == "[tw] y\n"
    with open(cast.folder + "/in.jsonl", "w", encoding="utf-8") as f:
        f.write('{"type":"translate","text":"a"}\n{"type":"translate","text":"b"}\n')
    say("batch", "in.jsonl", "-o", "out.jsonl")
    os.mkdir(cast.folder + "/recordings")
    for n in range(20):  # more than are in flight at once; the first is too much to be sent in one piece
        with open(cast.folder + "/m.wav", "rb") as f, open(f"{cast.folder}/recordings/{n}.wav", "wb") as g:
            g.write(f.read() + bytes(0 if n else 1300000))
    say("batch", "recordings/", "-o", "texts/")
    with open(cast.folder + "/in.jsonl", "a", encoding="utf-8") as f:
        f.write('{"type":"translate","text":"c"}\n')
    say("batch", "in.jsonl", "-o", "out.jsonl", code=69)  # an earlier run may have left it in the queue
    assert "NOPERM" in cast.said and "users.acl" in cast.said
    assert cast.said.endswith("lines are done; the same command goes on as a user who may look for what was submitted before: adwuma-operator\n")
    cast.push("translate", {"id": "later", "text": "x", "not_before_ms": 1 << 42})
    until(lambda: cast.redis.zcard(Q + "delayed"))
    say("result", "later", code=75)
    assert "job later: no result; where it is, this user may not look" in cast.said
    say("cancel", "later", code=69)
    assert "NOPERM" in cast.said and cast.said.endswith("where the queue is named it may cancel without looking: adwuma cancel --queue QUEUE ID\n")
    say("cancel", "-q", "translate", "later")
    assert "job later: cancelled in queue translate; where it was, this user may not look" in cast.said
    cast.cli("operator", "cancel", "later")
    assert "CancelledError" in cast.result("translate", "later")["error"]["type"] and "it was delayed" in cast.said


def produce_by_library(cast, program):
    def run(*args):
        done = subprocess.run([program, *args], env=cast.as_("producer"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * SLOW)
        assert done.returncode == 0 and not done.stderr, (args, done)
        return done.stdout
    assert run("gather", "200").endswith("all 200\n")
    assert run("audio", cast.folder + "/m.wav").count("text Maakye") == 4
    assert run("twice", "one-id").count("[tw] once") == 3
    assert run("cancel").startswith("cancelled\n") and run("lanes") == "first other\n"
    cast.push("taskingai", {"id": "streams", "type": "taskingai.chat_completion",
                            "params": {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "a b"}], "stream": True}})
    assert " done " in run("stream", "taskingai", "streams")


def produce_by_hand(cast):
    """What the examples and a bare client send; and the module for Python."""
    r = cast.python("producer")
    r.lpush(Q + "ready", '{"id":"h1","text":"x","reply":"mine"}', '{"id":"h2","text":"x","reply":"mine"}', '{"id":"h3","text":"x","reply":"mine"}')
    assert json.loads(r.blmove(Q + "result:h1", Q + "result:h1", 20, "LEFT", "LEFT"))["result"]["text"] == "[tw] x" and r.lindex(Q + "result:h1", 0)
    assert r.blpop(Q + "result:h1", 20) and not r.exists(Q + "result:h1")
    cast.result("translate", "h2"), cast.result("translate", "h3")
    assert r.blpop([Q + "reply:mine", "adwuma:{synthesize}:reply:mine"], 20) and len(r.lpop(Q + "reply:mine", 10)) == 2
    r.set("adwuma:{transcribe}:audio:mine", open(cast.folder + "/m.wav", "rb").read(), ex=60)
    assert cast.do("transcribe", audio_key="adwuma:{transcribe}:audio:mine")["result"]["text"] == "Maakye"
    assert r.xrevrange("adwuma:{taskingai}:stream:streams", count=1) and r.xread({"adwuma:{taskingai}:stream:streams": "0"})
    r.zadd(Q + "cancelled", {"h4": 1})
    with adwuma_khaya.KhayaClient(redis_url=f"unix://adwuma-producer:{PASSWORD['producer']}@{cast.taps['producer'].path}", wait_timeout=20 * SLOW) as khaya:
        assert khaya.translate("x").text == "[tw] x" and khaya.synthesize("Maakye", "twi").audio[:4] == b"RIFF"
        assert khaya.transcribe(cast.folder + "/m.wav").text == "Maakye"


def work_hard(cast):
    """What jobs make of a worker beside plain success."""
    assert cast.do("translate", text="stub(status=503,retry_after=0,times=1) x", language_pair="en-ee")["status"] == "succeeded"
    for n in range(3):  # more than are kept
        assert cast.do("translate", id=f"bad{n}", text="stub(status=400)")["status"] == "failed"
    assert cast.do("translate", text=LONG)["status"] == "succeeded"
    assert cast.do("taskingai", type="taskingai.create_assistant", params={"model_id": "TpAb12Cd", "memory": {"type": "naive"}})["status"] == "succeeded"
    chat = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "one two stub(end=cut,times=1)"}], "stream": True}
    assert cast.do("taskingai", type="taskingai.chat_completion", params=chat)["status"] == "succeeded"
    cast.push("translate", {"id": "runs", "text": "x stub(delay=20000)"})
    until(lambda: cast.stub.count() and cast.redis.keys(Q + "slot:*"))
    cast.cli("operator", "cancel", "runs")
    assert cast.result("translate", "runs")["error"]["type"] == "CancelledError"


def look(cast, role):
    """What only looks. translate is paused."""
    assert "paused" in cast.cli(role, "stats") and cast.cli(role, "workers")
    assert cast.cli(role, "result", "s1") == "[tw] y\n"
    cast.cli(role, "result", "held", code=75)
    assert "job held: waiting in queue translate" in cast.said
    assert "bad2" in cast.cli(role, "dead", "list") and "bad2" in cast.cli(role, "dead", "show", "bad2")


def mend(cast):
    """What an operator does, while a viewer looks on."""
    cast.cli("operator", "pause", "translate", "--for", "10m", "--reason", "a test")
    cast.push("translate", {"id": "held", "text": "x"})
    look(cast, "viewer")
    look(cast, "operator")
    cast.cli("operator", "resume", "translate")
    assert cast.result("translate", "held")["status"] == "succeeded"
    cast.cli("operator", "batch", "in.jsonl", "-o", "out.jsonl")
    cast.cli("operator", "batch", "recordings/", "-o", "texts-again/")
    assert cast.cli("operator", "transcribe", "m.wav") == "Maakye\n"
    assert "Echo: hi" in cast.cli("operator", "chat", "--model", "TpAb12Cd", "hi")
    cast.cli("operator", "dead", "retry", "bad2")
    cast.result("translate", "bad2")
    cast.cli("operator", "dead", "purge", "--all")
    assert not cast.dead("translate")


def die_and_be_reaped(cast, first):
    calls = cast.stub.count()
    cast.push("translate", {"id": "orphan", "text": "x stub(delay=3000,times=1)"}, {"id": "unsure", "text": "y stub(delay=3001,times=1)", "if_unsure": "hold"})
    until(lambda: cast.stub.count() == calls + 2, what="both are called")
    first.kill()
    second = cast.worker()
    assert cast.result("translate", "orphan", 30)["status"] == "succeeded"
    assert cast.result("translate", "unsure", 30)["error"]["type"] == "UnknownOutcomeError"
    until(lambda: cast.redis.zcard(Q + "workers") == 1 and cast.redis.zcard(Q + "gone") == 1, 20, "the dead one is struck off")
    looks = len(cast.taps["worker"].seen)
    until(lambda: any(c[:2] == [b"ZRANGE", Q.encode() + b"gone"] for c in cast.taps["worker"].seen[looks:]), 20, "the gone are looked at")
    return second


# --- Which rights were needed --------------------------------------------------------------------------------------------


def samples(commands):
    """One of each command with each kinds of keys; nobody reads what it carries."""
    found = {}
    for args in commands:
        words = [a[:300].decode("latin1") for a in args]
        kinds = tuple(dict.fromkeys(re.sub(r"\{[^}]*\}:(\w+).*", r"\1", w) for w in words if w.startswith("adwuma:{")))
        name = words[0].lower()
        found.setdefault((name, words[1].lower() if name in ("client", "script", "cluster") else "", kinds), words)
    return list(found.values())


def carried_out(commands):
    """Without what doctor asks for between MULTI and DISCARD, which nobody needs."""
    asked, kept = False, []
    for args in commands:
        asked = asked and args[0] != b"DISCARD"
        kept += [] if asked else [args]
        asked = asked or args[0] == b"MULTI"
    return kept


def idle_rights(server, role, used):
    """Takes each right away in turn, and looks whether Redis then refuses something of what was used; a pattern that both reads and writes is also made
    one that does only one of them."""
    rights = groups(lines()["adwuma-" + role])

    def refuses(changed):
        server.client.execute_command("ACL", "SETUSER", "mutant", *rules(changed))
        return any(not server.allows("mutant", *args) for args in used)

    assert not refuses(rights)
    idle = []
    for g, group in enumerate(rights):
        for i, word in enumerate(group):
            if word[1:] in CLUSTERED:
                continue
            weaker = [[]] + ([["%R" + word], ["%W" + word]] if word[0] == "~" else [])
            for less in weaker:
                if not refuses([*rights[:g], [*group[:i], *less, *group[i + 1:]], *rights[g + 1:]]):
                    idle.append((role, group, word, less))
    return idle


def doctor(cast, role):
    """{check: state} of what it finds. It asks for what it may not have, too, so ACL LOG is no witness."""
    done = subprocess.run([BUILD + "/adwuma", "doctor", "--json", "-q", "translate"], env=cast.as_(role), capture_output=True, text=True, timeout=60 * SLOW)
    return {one["check"]: one["state"] for one in json.loads(done.stdout)}


def test_each_role_does_its_work_and_needs_each_of_its_rights(cast, driver, soname):  # noqa: F811
    server, monitor = cast.server, Monitor(cast.server)
    first = cast.worker()
    produce_by_commands(cast)
    produce_by_library(cast, driver)
    produce_by_hand(cast)
    work_hard(cast)
    mend(cast)
    second = die_and_be_reaped(cast, first)
    # Whoever asks where a job is asks first for what is delayed; a producer may not look.
    # Newer versions of redis-py tell their name, and do without where they may not. A wait that takes long asks whether the queue is paused.
    assert server.denied() - {"adwuma-producer client|setinfo", "adwuma-producer pttl"} == {"adwuma-producer zrange"}
    assert doctor(cast, "worker")["rights"] == doctor(cast, "worker")["writes"] == "ok"
    for role in ("producer", "viewer", "operator"):
        states = doctor(cast, role)
        assert "bad" not in states.values() and states["rights"] == "warn" and states.get("writes") == ("ok" if role == "operator" else None)
    server.client.execute_command("ACL", "LOG", "RESET")
    assert second.stop() == 0
    assert server.denied() == set() and not any("NOPERM" in w.log() for w in cast.workers)
    monitor.stop()
    seen = {role: carried_out(cast.taps[role].seen) for role in ROLES}
    exhume, = {args[1] for args in seen["operator"] if args[0] == b"EVALSHA"}
    for role in ("worker", "operator"):  # what scripts call counts as what who runs them calls
        seen[role] += [args for script, args in monitor.seen if (script == exhume) == (role == "operator")]
    for role in ROLES:
        used = [s for s in samples(seen[role]) if server.allows("adwuma-" + role, *s)]
        assert idle_rights(server, role, used) == []


# --- What is refused -----------------------------------------------------------------------------------------------------

# With which kinds of keys a role may use a command; what does not stand here it may use with all of a queue.
KINDS = {
    "producer": {"append": "audio", "blmove": "result", "blpop": "reply result", "del": "audio", "exists": "audio result", "expire": "reply", "get": "audio",
                 "getrange": "audio", "lindex": "result", "lpop": "reply", "lpush": "ready", "rpush": "reply", "set": "audio", "unlink": "audio reply",
                 "xread": "stream", "xrevrange": "stream", "zadd": "cancelled", "zcount": "workers"},
    "operator": {"append": "audio", "blmove": "result", "del": "audio crashes dead_bytes doctor paused result", "lpush": "ready", "lrem": "dead",
                 "evalsha": "cancelled crashes dead dead_bytes ready result", "set": "audio dead_bytes doctor paused", "zadd": "cancelled delayed", "zrem": "cancelled"},
    "worker": {}, "viewer": {},
}
KEYLESS = {"client|id", "client|setname", "client|unblock", "discard", "info", "multi", "script|load", "time"} | CLUSTERED
EVERYBODYS = {"auth", "hello", "quit", "reset"}  # Redis asks no rights for them
FORMS = {"blmove": "K K LEFT LEFT 1", "evalsha": "x 1 K", "lmove": "K K LEFT LEFT", "rename": "K K", "xadd": "K * f v", "xread": "STREAMS K 0"}


class Known:
    """The commands of this Redis: {"client|id": (fewest words after its name, flags)}."""

    def __init__(self, client):
        names = {n.decode() for c in client.execute_command("ACL", "CAT") for n in client.execute_command("ACL", "CAT", c)}
        connection = client.connection_pool.make_connection()  # whose replies redis-py does not bend
        connection.send_command("COMMAND", "INFO", *sorted(names))
        self.all = {info[0].decode(): (abs(info[1]) - len(info[0].split(b"|")), info[2]) for info in connection.read_response() if not info[9]}
        connection.disconnect()

    def form(self, name, key):
        words = FORMS[name].split() if name in FORMS else ["K", *["1"] * self.all[name][0]][:self.all[name][0]]
        return [*name.split("|"), *[key if word == "K" else word for word in words]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    server = Guarded(tmp_path_factory.mktemp("guarded"))
    yield server
    server.stop()


@pytest.mark.parametrize("role", ROLES)
def test_all_else_is_refused(guarded, role):
    """Every command that Redis knows, and each that a role has with every kind of key and with keys of others."""
    known, user, mine = Known(guarded.client), "adwuma-" + role, commands_of(role)
    assert len(known.all) > 250 and mine <= set(known.all)
    for name in set(known.all) - mine - EVERYBODYS:
        assert not guarded.allows(user, *known.form(name, "x")), name
    assert set(KINDS[role]) <= mine and (role != "producer" or set(KINDS[role]) == mine - KEYLESS)
    for name in mine - KEYLESS:
        allowed = KINDS[role].get(name, " ".join(every_kind_of_key()).replace(":*", "")).split()
        for kind in every_kind_of_key():
            key = Q + kind.replace("*", "x")
            assert guarded.allows(user, *known.form(name, key)) == (kind.split(":")[0] in allowed), (name, key)
        for key in ("x", "adwuma", "adwuma:x", "adwuma:{translate}", "other:{translate}:ready", "xadwuma:{translate}:ready", "adwuma:translate:ready"):
            assert not guarded.allows(user, *known.form(name, key)), (name, key)
    if role == "viewer":
        assert all(b"write" not in known.all[name][1] for name in mine)
    if role == "producer":  # what is taken from one place cannot be put down in another
        assert not guarded.allows(user, "BLMOVE", Q + "result:a", Q + "reply:b", "LEFT", "LEFT", "1")
        assert not guarded.allows(user, "BLMOVE", Q + "ready", Q + "result:a", "LEFT", "LEFT", "1")


def test_what_a_producer_is_told(guarded):
    r = guarded.as_role("producer")
    for command in (["LRANGE", Q + "ready", "0", "-1"], ["RPOP", Q + "ready"], ["DEL", Q + "ready"], ["LINDEX", Q + "slot:w:0", "0"], ["DEL", Q + "worker:w"],
                    ["SET", Q + "paused", "1"], ["LPUSH", Q + "dead", "x"], ["EVAL", "return 1", "0"], ["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"],
                    ["ACL", "SETUSER", "adwuma-producer", "+@all"], ["SUBSCRIBE", "x"], ["MONITOR"], ["SELECT", "1"], ["SWAPDB", "0", "1"]):
        with pytest.raises(redis_py.exceptions.NoPermissionError):
            r.execute_command(*command)
    for login in ({}, {"username": "adwuma-producer", "password": ""}, {"username": "adwuma-producer", "password": PASSWORD["worker"]}):
        with pytest.raises(redis_py.RedisError, match="Authentication required|WRONGPASS|invalid username-password"):
            redis_py.Redis(unix_socket_path=guarded.socket, **login).ping()


# --- What else says what a role may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["producer", "viewer", "operator"])
def test_a_worker_that_may_not_work_is_told_whose_rights_it_has(guarded, role):
    env = {"PATH": os.environ["PATH"], "ADWUMA_REDIS_URL": "unix://" + guarded.socket, "ADWUMA_ADMIN_LISTEN": "off", "ADWUMA_REDIS_USERNAME": "adwuma-" + role,
           "ADWUMA_REDIS_PASSWORD": PASSWORD[role]}
    done = subprocess.run([BUILD + "/adwumad"], env=env, capture_output=True, text=True, timeout=20 * SLOW)
    assert done.returncode == 69 and "NOPERM" in done.stderr, done.stderr
    assert f"does not let user adwuma-{role} do that; ADWUMA_REDIS_USERNAME names another, users.acl says what each may" in done.stderr, done.stderr


def test_who_may_not_look_is_told_nothing_of_a_pause(guarded):
    guarded.client.set(Q + "paused", "rest")
    env = {"PATH": os.environ["PATH"], "ADWUMA_REDIS_URL": "unix://" + guarded.socket}
    said = {}
    for role in ("producer", "operator"):
        done = subprocess.run([BUILD + "/adwuma", "translate", "--timeout", "0.1", "x"], env={**env, "ADWUMA_REDIS_USERNAME": "adwuma-" + role, "ADWUMA_REDIS_PASSWORD": PASSWORD[role]},
                              capture_output=True, text=True, timeout=20 * SLOW)
        assert done.returncode == 75, done.stderr
        said[role] = done.stderr
    guarded.client.delete(Q + "paused", Q + "ready")
    assert "adwuma: queue translate is paused: rest (adwuma resume translate)\n" in said["operator"] and "paused" not in said["producer"] and "NOPERM" not in said["producer"]


def test_the_file_for_redis_6_is_the_other_one_without_what_it_does_not_know():
    """Commands and keys of all parentheses, in one; keys for reading as for writing. So it lets through whatever the other does, but for one look of a
    producer's: with its DEL it could strike off all workers."""
    flat, left_out = {}, {"adwuma-producer": {"+zcount", "~adwuma:{*}:workers"}}
    for name, line in lines().items():
        words = [re.sub(r"^%R?W?~", "~", w) for w in re.sub(r"[()]", "", line).split()]
        words = [w for w in words if w not in left_out.get(name, ())]
        keys = sorted({w for w in words if "~" in w})
        flat[name] = " ".join([*[w for w in words if "~" not in w and w[0] != "+"], *sorted({w for w in words if w[0] == "+"}),
                               *(keys if "~adwuma:{*}:*" not in keys else ["~adwuma:{*}:*"])])
    assert lines("users-6.2.acl") == flat
    assert all(not re.search(r"[()%]", line) for line in flat.values())


def test_that_file_is_taken(tmp_path):
    server = Guarded(tmp_path, "users-6.2.acl")
    assert server.as_role("worker").hlen(Q + "stats") == 0
    server.stop()


def test_doctor_asks_for_the_same_rights(guarded):
    """src/cli/doctor_rights.c has what each role needs, command by command and with the keys that it is needed for."""
    with open(ROOT + "/src/cli/doctor_rights.c", encoding="utf-8") as f:
        rows = re.findall(r'^\t\{"([a-z|]+)", ([A-Z| ]+), "([^"]+)"\},$', f.read(), re.M)
    rows = [(name, who.replace("PEOPLE", "VIEWER | OPERATOR").split(" | "), words) for name, who, words in rows]
    named = {role: {name for name, who, _ in rows if role.upper() in who} for role in ROLES}
    assert named["worker"] == commands_of("worker") - CLUSTERED - {"multi", "discard", "pttl", "zcount"}, "but for what doctor itself asks on a worker's host"
    for role in ("producer", "viewer", "operator"):
        assert named[role] == commands_of(role) - CLUSTERED - {"multi", "discard"}, "but for what it asks with"
    for name, who, words in rows:
        for role in ROLES:
            if role.upper() in who:
                assert guarded.allows("adwuma-" + role, *[Q + w[1:] if w[0] == ":" else w for w in words.split()]), (role, words)


@pytest.mark.parametrize("form", ["users.acl", "users-6.2.acl"])
def test_doctor_says_whose_rights_they_are(tmp_path, form):
    """Who only pushes jobs, looks, or mends, is not told to take the rights of a worker. What it asks in vain leaves room for others in ACL LOG, which
    keeps 128 entries."""
    server = Guarded(tmp_path, form)
    for role, words in (("producer", "a producer: it may push jobs and take results, but neither look nor work"),
                        ("viewer", "a viewer: it may look, but neither push jobs nor work"), ("operator", "an operator: it may look, mend and push jobs, but not work")):
        env = {"PATH": os.environ["PATH"], "ADWUMA_REDIS_URL": "unix://" + server.socket, "ADWUMA_REDIS_USERNAME": "adwuma-" + role, "ADWUMA_REDIS_PASSWORD": PASSWORD[role]}
        server.client.execute_command("ACL", "LOG", "RESET")
        done = subprocess.run([BUILD + "/adwuma", "doctor", "--json"], env=env, capture_output=True, text=True, timeout=60 * SLOW)
        found = json.loads(done.stdout)
        log = [(e["context"], e["object"]) for e in map(decoded, server.client.execute_command("ACL", "LOG", "1000"))]
        assert len(log) < 64 and {what for context, what in log if context != "multi"} <= {"acl|whoami", "config|get", "acl", "config"}, log
        rights, = (one for one in found if one["check"] == "rights")
        assert done.returncode == 0 and rights["state"] == "warn" and f"user adwuma-{role} has the rights of {words}" in rights["message"], found
        assert rights["mend"].startswith("export ADWUMA_REDIS_USERNAME=adwuma-worker    # ") and not [one for one in found if one["state"] == "bad" or "SETUSER" in (one["mend"] or "")]
        assert [one["message"] for one in found if one["check"] == "writes"] == (["a key written, read and deleted in 4 queues"] if role == "operator" else [])
    server.stop()


@pytest.mark.parametrize("form", ["users.acl", "users-6.2.acl"])
def test_a_producer_of_one_queue_is_not_told_to_take_all_of_another(tmp_path, form):
    server = Guarded(tmp_path, form)
    line = lines(form)["adwuma-producer"].replace("{*}", "{translate}")
    server.client.execute_command("ACL", "SETUSER", "tenant", "reset", *rules([*groups(line)]), ">" + PASSWORD["producer"])
    env = {"PATH": os.environ["PATH"], "ADWUMA_REDIS_URL": "unix://" + server.socket, "ADWUMA_REDIS_USERNAME": "tenant", "ADWUMA_REDIS_PASSWORD": PASSWORD["producer"]}
    for flags, state, words in ((["-q", "translate"], "warn", "has the rights of a producer"), ([], "bad", "may not do all that producers need: keys of queue transcribe, ")):
        done = subprocess.run([BUILD + "/adwuma", "doctor", "--json", *flags], env=env, capture_output=True, text=True, timeout=60 * SLOW)
        rights, = (one for one in json.loads(done.stdout) if one["check"] == "rights")
        assert rights["state"] == state and words in rights["message"] and "SETUSER" not in rights["mend"], rights
    server.stop()


def test_the_page_tells_what_each_right_is_for():
    """An ACL file takes no comments, so the reasons stand beside it: a row for each command, a cell for each role that has it."""
    with open(ROOT + "/deploy/redis/README.md", encoding="utf-8") as f:
        rows = re.findall(r"^\| `([a-z|\\]+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", f.read(), re.M)
    told = {name.replace("\\", ""): {role for role, cell in zip(ROLES, cells) if cell.strip()} for name, *cells in rows}
    meant = {name: {role for role in ROLES if name in commands_of(role)} for role in ROLES for name in commands_of(role)}
    assert told == meant


def page_blocks():
    with open(ROOT + "/deploy/redis/README.md", encoding="utf-8") as f:
        return re.findall(r"^```\n(.*?)^```$", f.read(), re.M | re.S)


def test_a_redis_of_its_own_as_the_page_says(tmp_path):
    """The commands of the page make the file and the passwords."""
    make, = (b for b in page_blocks() if "redis-users.acl" in b and "openssl" in b)
    shutil.copy(ROOT + "/deploy/redis/users.acl", tmp_path)
    subprocess.run(["sh", "-ec", make], cwd=tmp_path, check=True)
    assert (tmp_path / "redis-users.acl").stat().st_mode & 0o077 == 0
    server = RedisServer.__new__(RedisServer)
    server.folder, server.socket = str(tmp_path), f"{tmp_path}/redis.sock"
    server.process = start([REDIS_SERVER, "--port", "0", "--unixsocket", server.socket, "--save", "", "--dir", str(tmp_path),
                            "--aclfile", f"{tmp_path}/redis-users.acl"], stdout=subprocess.DEVNULL)

    def login(name):
        return redis_py.Redis(unix_socket_path=server.socket, username=name, password=(tmp_path / f"{name}.password").read_text())
    server.client = login("admin")
    until(server.answers, what="redis answers")
    for role in ROLES:
        assert login("adwuma-" + role).time()
    assert server.client.execute_command("ACL", "SAVE") == b"OK" and server.client.execute_command("ACL", "LOAD") == b"OK"
    assert login("adwuma-worker").set(Q + "probe", 1)
    server.stop()


def test_a_redis_that_runs_as_the_page_says(server, tmp_path):
    lines_, passwords = (b for b in page_blocks() if "| redis-cli" in b)
    shutil.copy(ROOT + "/deploy/redis/users.acl", tmp_path)
    for block in (lines_, passwords):
        done = subprocess.run(["sh", "-ec", block.replace("redis-cli", f"redis-cli -s {server.socket}")], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stdout == "OK\n" * len(ROLES), done
    for role in ROLES:
        assert redis_py.Redis(unix_socket_path=server.socket, username="adwuma-" + role, password=(tmp_path / f"adwuma-{role}.password").read_text()).time()
        told = subprocess.run(["redis-cli", "-s", server.socket, "ACL", "GETUSER", "adwuma-" + role], capture_output=True, text=True, timeout=60).stdout
        assert all(word in told for word in commands_of(role))
    assert server.client.ping(), "default is as it was"


def test_the_page_tells_of_other_names(tmp_path):
    """Its lines for another prefix and for one queue do what they say."""
    with open(ROOT + "/deploy/redis/README.md", encoding="utf-8") as f:
        prefix, queue = re.findall(r"`(sed 's/[^`]*)`", f.read())
    for command, wanted in ((prefix.replace("PREFIX", "mine"), "~mine:{*}:ready"), (queue, "~adwuma:{translate}:ready")):
        done = subprocess.run(["sh", "-c", command + f" {ROOT}/deploy/redis/users.acl"], capture_output=True, text=True, check=True)
        assert f"(+lpush %W{wanted})" in done.stdout and done.stdout.count(wanted.removesuffix("ready")) == sum(line.count("~adwuma:{*}:") for line in lines().values())


def test_in_containers(tmp_path):
    """What the file for compose makes of Redis and of its health, by its own words."""
    with open(ROOT + "/deploy/redis/docker-compose.acl.yml", encoding="utf-8") as f:
        compose = yaml.safe_load(f)
    server = Guarded(tmp_path)
    server.stop()
    (tmp_path / "redis_password").write_text(PASSWORD["worker"])
    shell, flag, script = compose["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("/run/secrets/redis_users", f"{tmp_path}/users.acl").replace("dir /data", f"dir {tmp_path}\nport 0\nunixsocket {server.socket}")
    server.process = start([shell, flag, script], stdout=subprocess.DEVNULL)
    until(server.answers, what="redis answers")
    assert server.client.config_get("appendonly") == {"appendonly": "yes"}
    kind, health = compose["services"]["redis"]["healthcheck"]["test"]
    health = health.replace("$$", "$").replace("/run/secrets", str(tmp_path)).replace("redis-cli", f"redis-cli -s {server.socket}")
    assert kind == "CMD-SHELL" and subprocess.run(["sh", "-c", health], check=False).returncode == 0
    server.stop()
    assert subprocess.run(["sh", "-c", health], stderr=subprocess.DEVNULL, check=False).returncode != 0
    with open(ROOT + "/deploy/docker-compose.yml", encoding="utf-8") as f:
        base = yaml.safe_load(f)
    assert set(compose["services"]) <= set(base["services"]) and base["services"]["redis"]["command"][2].count("\n") == compose["services"]["redis"]["command"][2].count("\n")
    assert compose["services"]["worker"] == {"environment": {"ADWUMA_REDIS_USERNAME": "adwuma-worker"}}
