"""adwuma doctor: what it finds, and that what it says mends it does."""
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import BUILD, KEY, ROOT, SLOW, TASKING_KEY, RedisServer, until
from programs import hang_up
from servers import free_ports

STATES = {"ok", "warn", "bad"}


class Found:
    """What one run found; a check may have told several things."""

    def __init__(self, done, nodes=False):
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        for secret in (KEY, TASKING_KEY, "sesame"):
            assert secret not in done.stdout + done.stderr
        self.code, self.err, self.all = done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else []
        assert done.stdout.count("\n") == (1 if self.all else 0)
        for one in self.all:
            assert set(one) == {"check", "state", "message", "mend"} | ({"node"} if nodes else set()) and one["state"] in STATES
            assert (one["mend"] is None) == (one["state"] == "ok"), one

    def __getitem__(self, check):
        return [one for one in self.all if one["check"] == check]

    def state(self, check):
        return [one["state"] for one in self[check]]

    def only(self, check, state, words):
        """What a check found, which is one thing, in this state, with these words in its message. Returns what mends it."""
        one, = self[check]
        assert one["state"] == state and words in one["message"], one
        return one["mend"]


@pytest.fixture
def doctor(system):
    """Runs it, and sees that nothing of it is left in Redis."""
    def keys():
        return sorted(k for k in system.redis.keys("*") if not k.endswith(b":probe")) if system.redis else []

    def run(*args, look=True, **settings):
        before = keys() if look else None
        done = subprocess.run([BUILD + "/adwuma", "doctor", "--json", *args], env=system.env(**settings), capture_output=True, text=True, timeout=60 * SLOW)
        if look and not system.workers:
            assert keys() == before
        return Found(done)

    yield run
    until(lambda: not system.redis.info("persistence")["aof_rewrite_in_progress"], what="a first append-only file is written: before, Redis does not end")


@pytest.fixture
def mend(system):
    """Runs what mends something, as it stands; where it asks for a password, it gets that of the user ADMIN."""
    def run(line, **settings):
        env = system.env(**settings)
        done = subprocess.run(["/bin/sh", "-c", line], input="sesame-of-admin\n", env={**env, "PATH": os.path.abspath(BUILD) + ":" + env["PATH"]},
                              capture_output=True, text=True, timeout=30 * SLOW)
        assert done.returncode == 0 and not done.stdout.startswith("ERR"), (line, done)
        return done.stdout
    return run


def test_all_is_well(system, doctor):
    system.redis.config_set("appendonly", "yes")
    system.worker()
    found = doctor()
    assert found.code == 0 and {one["state"] for one in found.all} == {"ok"}, found.all
    assert found.err == f"adwuma: {len(found.all)} well, 0 to look at, 0 wrong\n"
    assert [c for c in found.all if re.search("redis|version|role", c["check"])][1]["message"].startswith(("Redis ", "Valkey "))


def test_for_people(system):
    done = subprocess.run([BUILD + "/adwuma", "doctor", "-q", "translate"], env=system.env(), capture_output=True, text=True, timeout=60 * SLOW)
    lines = done.stdout.splitlines()
    found = [line for line in lines if not line.startswith(" ")]
    assert all(re.match(r"(ok  |warn|BAD )  [a-z ]{14}  \S", line) for line in found), done.stdout
    at = next(i for i, line in enumerate(lines) if line.startswith("BAD   persistence     none: "))
    assert lines[at + 1].startswith("      mend: redis-cli -s ") and done.returncode == 1
    assert len(lines) - len(found) == sum(not line.startswith("ok") for line in found)
    assert "workers         no living worker serves translate; nothing waits there" in done.stdout


# --- The server ----------------------------------------------------------------------------------------------------------

SERVER = [
    ({}, "persistence", "bad", "none: when Redis ends, all jobs and results are lost", "CONFIG SET appendonly yes"),
    ({"save": "3600 1"}, "persistence", "warn", "snapshots alone (save 3600 1)", "CONFIG SET appendonly yes"),
    ({"appendonly": "yes", "appendfsync": "no"}, "persistence", "warn", "appendfsync no", "CONFIG SET appendfsync everysec"),
    ({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, "eviction", "bad", "jobs and results may be evicted", "CONFIG SET maxmemory-policy noeviction"),
    ({"maxmemory": "1gb", "maxmemory-policy": "volatile-ttl"}, "eviction", "bad", "volatile-ttl: results may be evicted", "CONFIG SET maxmemory-policy noeviction"),
    ({"maxmemory-policy": "allkeys-lru"}, "eviction", "warn", "would be, if there were a maxmemory", "CONFIG SET maxmemory-policy noeviction"),
    ({"min-replicas-to-write": "2"}, "replicas", "bad", "0 of the 2 that must follow", "CONFIG SET min-replicas-to-write 0"),
    ({"maxclients": "2"}, "clients", "warn", "2 connections of 2", "CONFIG SET maxclients 4"),
]


@pytest.mark.parametrize("config,check,state,words,command", SERVER, ids=lambda x: "-".join(x) if isinstance(x, dict) else None)
def test_the_server_is_mended(system, doctor, mend, config, check, state, words, command):
    for name, value in config.items():
        system.redis.config_set(name, value)
    line = doctor().only(check, state, words)
    assert line.startswith(f"redis-cli -s {system.server.socket} {command}    # and for good, in its redis.conf: ")
    mend(line)
    assert doctor().state(check) == ["ok"]


@pytest.mark.parametrize("share,state", [(0.98, "bad"), (0.87, "warn")])
def test_a_full_one(system, doctor, mend, share, state):
    system.redis.set("ballast", b"x" * (32 << 20))
    system.redis.config_set("maxmemory", int(system.redis.info("memory")["used_memory"] / share))
    line = doctor().only("memory", state, "a full Redis takes no jobs")
    mend(line)
    assert doctor().state("memory") == ["ok"]


def test_a_full_one_refuses_the_write(system, doctor):
    system.redis.config_set("maxmemory", 1)
    found = doctor("-q", "translate")
    assert "OOM" in found["writes"][0]["message"] and "CONFIG SET maxmemory BYTES" in found["writes"][0]["mend"] and found.code == 1


def test_a_disk_that_fails(system, doctor, tmp_path):
    (tmp_path / "dump.rdb").mkdir()
    system.redis.bgsave()
    until(lambda: system.redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    one = doctor()["persistence"][1]
    assert (one["state"], one["message"]) == ("bad", "saving a snapshot failed the last time") and one["mend"].startswith(f"df -h {tmp_path} ")
    (tmp_path / "dump.rdb").rmdir()
    system.redis.save()
    assert len(doctor()["persistence"]) == 1


def test_a_replica(system, doctor, tmp_path):
    (tmp_path / "master").mkdir()
    port = free_ports(1)[0]
    master = RedisServer(tmp_path / "master", "--port", str(port), "--repl-diskless-sync-delay", "0")
    try:
        system.redis.replicaof("127.0.0.1", port)
        found = doctor()
        line = found.only("role", "bad", f"its master is 127.0.0.1:{port}")
        assert line == f"export ADWUMA_REDIS_URL=redis://127.0.0.1:{port}/0" and found.code == 1 and not found["writes"] and found["rights"]
        there = doctor(look=False, ADWUMA_REDIS_URL=line.split("=", 1)[1])
        assert there.state("role") == ["ok"] and there.state("writes") == ["ok"] and there.state("replicas") == ["ok"]
        assert master.client.dbsize() == 0
    finally:
        master.stop()


class Liar:
    """Stands between us and Redis, and changes what it says."""

    def __init__(self, folder, to, change):
        self.path = f"{folder}/liar.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(4)
        threading.Thread(target=self.serve, args=(to, change), daemon=True).start()

    def serve(self, to, change):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(to)
            threading.Thread(target=self.carry, args=(near, far, lambda x: x), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, change), daemon=True).start()

    @staticmethod
    def carry(source, sink, change):
        try:
            while piece := source.recv(1 << 16):
                sink.sendall(change(piece))
        except OSError:
            pass
        hang_up(source, sink)


def older(piece):
    return re.sub(rb"redis_version:\d\.\d", b"redis_version:6.0", piece)


def later(seconds):
    return lambda piece: re.sub(rb"(?<=\*2\r\n\$10\r\n)\d+", lambda m: b"%d" % (int(m[0]) + seconds), piece)


def slow(piece):
    time.sleep(0.008)  # a distant Redis: what the check is about
    return piece


def valkey(piece):
    if b"valkey_version:" in piece:  # it is one
        return re.sub(rb"valkey_version:\d\.\d\.\d", b"valkey_version:8.0.1", piece)
    return re.sub(rb"tcp_port:\d+\r\nserver_time_usec:\d+\r\n", lambda m: b"valkey_version:8.0.1\r\n".ljust(len(m[0]) - 2, b"#") + b"\r\n", piece)


def cluster(piece):
    return re.sub(rb"(redis|server)_mode:standalone", rb"\1_mode:cluster   ", piece)


@pytest.mark.parametrize("change,check,state,words,command", [
    (older, "version", "bad", "is too old: 6.2 or newer is needed", "apt-get install redis-server"),
    (valkey, "version", "ok", "Valkey 8.0.1", None),
    (later(5), "clock", "warn", "ahead of ours", "timedatectl set-ntp true"), (later(-40), "clock", "bad", "behind of ours", "timedatectl set-ntp true"),
    (slow, "latency", "warn", "each job takes several", "SLOWLOG GET"),
    (cluster, "role", "bad", "cluster", "ADWUMA_REDIS_URL"),
], ids=["older", "valkey", "later", "earlier", "slow", "cluster"])
def test_what_cannot_be_had_here(system, doctor, tmp_path, change, check, state, words, command):
    liar = Liar(tmp_path, system.server.socket, change)
    line = doctor("-q", "translate", ADWUMA_REDIS_URL="unix://" + liar.path).only(check, state, words)
    assert command is None or command in line
    liar.listener.close()


@pytest.mark.parametrize("again", [True, False])
def test_a_connection_that_breaks(system, doctor, tmp_path, again):
    """What it broke is told, and what comes after is looked at over a new one, where there is one."""
    cuts = []

    def cut(piece):
        if b"QUEUED" in piece and not cuts:
            cuts.append(1)
            if not again:
                os.unlink(liar.path)
            raise OSError
        return piece

    liar = Liar(tmp_path, system.server.socket, cut)
    found = doctor(ADWUMA_REDIS_URL="unix://" + liar.path)
    assert found.state("rights") == (["bad"] if again else ["bad", "bad"]) and found.state("api taskingai") == ["ok"]
    assert found.code == (1 if again else 69) and found.state("dead jobs") == (["ok"] if again else [])
    liar.listener.close()


@pytest.mark.parametrize("settings,words,command", [
    ({"redis_url": "redis://127.0.0.1:1/0"}, "127.0.0.1:1: Connection refused", "systemctl start redis-server    # or redis_url must name another place"),
    ({"redis_url": "unix:///nowhere.sock"}, "/nowhere.sock", "systemctl start redis-server"),
    ({"redis_url": "redis://no-such-host.invalid/0"}, "no-such-host.invalid", "export ADWUMA_REDIS_URL="),
    ({"redis_password": "sesame-2"}, "WRONGPASS", "export ADWUMA_REDIS_PASSWORD=…    # ADWUMA_REDIS_USERNAME gives the name"),
    ({}, "NOAUTH", "export ADWUMA_REDIS_PASSWORD=…    # or ADWUMA_REDIS_PASSWORD_FILE=FILE; ADWUMA_REDIS_USERNAME gives the name"),
], ids=["port", "socket", "name", "password", "no-password"])
def test_no_way_in(system, doctor, settings, words, command):
    """Settings, files and APIs are looked at all the same."""
    system.redis.config_set("requirepass", "sesame-1")
    try:
        found = doctor(look=False, **settings)
        bad, = (one for one in found.all if one["state"] == "bad")
        assert found.code == 69 and bad["check"] == "redis" and words in bad["message"] and bad["mend"].startswith(command)
        assert found.state("settings") == ["ok"] and found.state("api translate") == ["ok"] and not found["persistence"]
        assert doctor(look=False, redis_password="sesame-1").state("writes") == ["ok"]
    finally:
        system.redis.execute_command("AUTH", "sesame-1")
        system.redis.config_set("requirepass", "")


def test_one_that_hangs(system, doctor):
    system.server.process.send_signal(signal.SIGSTOP)
    try:
        found = doctor(look=False)
    finally:
        system.server.process.send_signal(signal.SIGCONT)
    assert found.code == 69 and found.only("redis", "bad", "no answer in time; what is in it was not looked at").startswith("redis-cli -s ")


def test_one_that_still_reads_its_data(system, doctor, tmp_path):
    liar = Liar(tmp_path, system.server.socket, lambda piece: piece.replace(b"\nloading:0", b"\nloading:1"))
    found = doctor(ADWUMA_REDIS_URL="unix://" + liar.path)
    assert found.code == 69 and found.state("redis") == ["ok", "bad"] and found["version"] and not found["writes"]
    liar.listener.close()


# --- What doctor was given -----------------------------------------------------------------------------------------------


def test_what_mends_it_is_about_the_same_redis(system, doctor, mend, tmp_path):
    """Not about the one that the environment names."""
    conf = tmp_path / "it's.conf"
    conf.write_text("key_prefix = mine\n")
    flags = ["--config", str(conf), f"--redis-url=unix://{system.server.socket}?db=3"]
    repeated = f"--config {shlex.quote(str(conf))} --redis-url 'unix://{system.server.socket}?db=3'".replace("'\"'\"'", "'\\''")
    mend(f"adwuma pause {repeated} translate bulk")
    other = system.redis.__class__(unix_socket_path=system.server.socket, db=3)
    assert other.dbsize() == 2
    other.lpush("mine:{bulk}:dead", "x")
    found = doctor(*flags, "-q", "bulk", look=False)
    assert found.only("pauses", "warn", "bulk is paused") == f"adwuma resume {repeated} bulk"
    assert found.only("dead jobs", "warn", "bulk: 1 failed job").startswith(f"adwuma dead list {repeated} --queue bulk    # ")
    assert " -n 3 " in found["persistence"][0]["mend"]
    mend(doctor(*flags, "--queues", "translate", look=False).only("pauses", "warn", "translate is paused"))
    assert other.keys() and not other.exists("mine:{translate}:paused") and other.exists("mine:{bulk}:paused")
    assert doctor(*flags, thred="1", look=False)["settings"][1]["mend"] == "unset ADWUMA_THRED    # the names there are: adwuma help settings"
    system.stub.fault("status=503")
    again = doctor(*flags, "--queues", "a,b", "-q", "bulk", look=False).only("api translate", "warn", "(503)")
    assert again.startswith(f"sleep 60; adwuma doctor {repeated} --queues a,b --queue bulk    # ")
    system.stub.fault("")


@pytest.fixture
def tcp(system):
    """It listens at a port, too: a URL with a password names one."""
    port = free_ports(1)[0]
    system.redis.config_set("port", port)
    yield f"127.0.0.1:{port}"
    system.redis.config_set("port", 0)


def test_a_flag_is_mended_where_it_stands(system, doctor, mend, tcp):
    """The environment would not beat it. Its password is not repeated."""
    system.redis.config_set("save", "3600 1")
    line = doctor("--redis-url", f"redis://w:sesame@{tcp}/0", "-q", "translate", "--threads=1", look=False).only("redis", "bad", "WRONGPASS")
    assert line.startswith("export ADWUMA_REDIS_PASSWORD=…    # or ADWUMA_REDIS_PASSWORD_FILE=FILE; ")
    line = doctor("--redis-url", f"redis://:sesame@{tcp}/0", "-q", "translate", "--threads=1", look=False).only("redis", "bad", "without any password")
    assert line == f"adwuma doctor --threads 1 --queue translate --redis-url=redis://{tcp}/0    # this Redis asks for no password"
    assert "a key written, read and deleted in 1 queue" in mend(line)
    system.stub.fault("status=503")
    one, = doctor("--redis-url", f"redis://:sesame@{tcp}/0", look=False)["api translate"]
    assert one["mend"].startswith(f"sleep 60; adwuma doctor --redis-url 'redis://:…@{tcp}/0'    # ")
    system.stub.fault("")


def test_certificates_are_mended_where_they_stand(system, doctor, tmp_path):
    liar = Liar(tmp_path, system.server.socket, lambda piece: re.sub(rb"\*2\r\n\$10\r\n\d+\r\n\$\d+\r\n\d+\r\n", b"-ERR alert bad certificate\r\n", piece))
    url, cert, key = "unix://" + liar.path, tmp_path / "c.pem", tmp_path / "k.pem"
    cert.touch(), key.touch()
    line = doctor(ADWUMA_REDIS_URL=url, redis_cert_file=cert, redis_key_file=key).only("clock", "bad", "bad certificate")
    assert line.startswith("export ADWUMA_REDIS_CERT_FILE=FILE ADWUMA_REDIS_KEY_FILE=FILE    # of a CA ")
    line = doctor(f"--redis-cert-file={cert}", "--redis-key-file", str(key), ADWUMA_REDIS_URL=url).only("clock", "bad", "bad certificate")
    assert line.startswith(f"adwuma doctor --redis-key-file {key} --redis-cert-file=FILE --redis-key-file=FILE    # of a CA "), "a variable would not win"
    liar.listener.close()


@pytest.mark.parametrize("way", ["variable", "settings", "settings-file", "settings-text"])
def test_a_wrong_password_is_mended_where_it_stands(system, doctor, mend, tmp_path, way):
    """Another source of it beside that one would be an error, or not count."""
    secret, conf, editor = tmp_path / "a password", tmp_path / "adwumad.conf", tmp_path / "editor"
    secret.write_text("sesame-2\n")
    conf.write_text({"settings-file": f"redis_password_file = {secret}\n", "settings-text": "redis_password = sesame-2\n"}.get(way, ""))
    editor.write_text('#!/bin/sh\nsed -i s/sesame-2/sesame-1/ "$1"\n')
    for path in (secret, conf, editor):
        path.chmod(0o700)
    settings = {"ADWUMA_REDIS_PASSWORD_FILE": str(secret)} if way in ("variable", "settings") else {}
    if way == "settings":  # what stands in the file is not in use
        conf.write_text("redis_password = sesame-3\n")
    flags = ["--config", str(conf)] if way != "variable" else []
    system.redis.config_set("requirepass", "sesame-1")
    try:
        line = subprocess.run([BUILD + "/adwuma", "doctor", *flags], env=system.env(**settings), capture_output=True, text=True, timeout=60 * SLOW).stdout
        line = re.search(r"^BAD   redis  .* WRONGPASS .*\n      mend: (.*)$", line, re.M)[1]
        file = conf if way == "settings-text" else secret
        assert line == f"${{EDITOR:-vi}} {shlex.quote(str(file))}    # redis_password is read from there; ADWUMA_REDIS_USERNAME gives the name"
        mend(f"EDITOR={shlex.quote(str(editor))}; {line}")
        assert doctor(*flags, look=False, **settings).state("writes") == ["ok"]
    finally:
        system.redis.execute_command("AUTH", "sesame-1")
        system.redis.config_set("requirepass", "")


def test_a_password_that_nobody_asks_for(doctor, tcp, tmp_path):
    secret, conf = tmp_path / "secret", tmp_path / "adwumad.conf"
    secret.write_text("sesame\n")
    conf.write_text(f"redis_password_file = {secret}\n")
    for args, settings, line in (([], {"redis_password": "sesame"}, "unset ADWUMA_REDIS_PASSWORD    # "), ([], {"ADWUMA_REDIS_PASSWORD_FILE": secret}, "unset ADWUMA_REDIS_PASSWORD_FILE    # "),
                                 (["--config", str(conf)], {}, f"${{EDITOR:-vi}} {conf}    # without redis_password and redis_password_file: "),
                                 ([], {"ADWUMA_REDIS_URL": f"redis://:sesame@{tcp}/0"}, f"export ADWUMA_REDIS_URL=redis://{tcp}/0    # this Redis asks for no password")):
        found = doctor(*args, **settings)
        assert found.code == 69 and found.only("redis", "bad", "without any password configured").startswith(line)


def test_a_key_in_a_file(system, doctor, tmp_path):
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    system.stub.fault("status=401")
    found = doctor(KHAYA_API_KEY=None, KHAYA_API_KEY_FILE=key)
    assert found["api translate"][0]["mend"] == f"${{EDITOR:-vi}} {key}    # khaya_api_key is read from there; this key is not valid there"
    system.stub.fault("")


# --- Rights --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def user(system):
    """Makes a user w, and the settings that log in as it; and the one who is told to mend what w may not."""
    def make(*rights):
        system.redis.execute_command("ACL", "SETUSER", "ADMIN", "reset", "on", ">sesame-of-admin", "~*", "+@all")
        system.redis.execute_command("ACL", "SETUSER", "w", "reset", "on", ">sesame", *rights)
        return {"redis_username": "w", "redis_password": "sesame"}
    return make


@pytest.mark.parametrize("rights,words,command", [
    (["~*", "+@all", "-lmove", "-zadd", "-script|load"], "producers and workers need: zadd, script|load, lmove", "ACL SETUSER w +zadd '+script|load' +lmove "),
    (["~*", "+@all", "-rename"], "all that workers need (producers' rights are there): rename", "ACL SETUSER w +rename "),
    (["~*", "+@all", "-multi", "-rename"], "(producers' rights are there): rename", "ACL SETUSER w +rename "),  # by ACL DRYRUN
    (["~*", "+@all", "-discard", "-rename"], "(producers' rights are there): rename", "ACL SETUSER w +rename "),
    (["~adwuma:{translate}:*", "+@all"], "keys of queue transcribe, keys of queue synthesize, keys of queue taskingai",
     "ACL SETUSER w '~adwuma:{transcribe}:*' '~adwuma:{synthesize}:*' '~adwuma:{taskingai}:*' "),
], ids=["commands", "worker", "dryrun", "no-discard", "keys"])
def test_rights_that_lack(system, doctor, mend, user, rights, words, command):
    as_w = user(*rights)
    line = doctor(**as_w).only("rights", "bad", words)
    assert line.startswith(f"redis-cli -s {system.server.socket} --user ADMIN --askpass {command}   # ")
    mend(line)
    assert doctor(**as_w).only("rights", "ok", "user w may do") is None


def test_what_our_user_may_not_an_administrator_mends(system, doctor, mend, user):
    """Not our user, whose rights are the least."""
    with open(ROOT + "/deploy/redis/users.acl", encoding="ascii") as f:
        line, = re.findall("^user adwuma-worker on (.*)$", f.read(), re.M)
    as_w, cli = user(*line.split()), f"redis-cli -s {system.server.socket} --user ADMIN --askpass "
    system.redis.config_set("maxmemory-policy", "allkeys-lru")
    system.redis.sadd("adwuma:{translate}:ready", "x")
    found = doctor(**as_w)
    for check, state, words, command in (("persistence", "warn", "snapshots alone", "CONFIG SET appendonly yes "), ("eviction", "warn", "allkeys-lru", "CONFIG SET maxmemory-policy noeviction "),
                                         ("key types", "bad", "is a set", "RENAMENX 'adwuma:{translate}:ready' ")):
        told = found.only(check, state, words)
        assert told.startswith(cli + command) and "adwuma-worker" not in told and " w " not in told
        mend(told)
    assert [one["check"] for one in doctor(**as_w).all if one["state"] != "ok"] == ["workers"]


def test_a_workers_own_user_is_told_what_workers_need_alone(doctor, mend, user):
    with open(ROOT + "/deploy/redis/users.acl", encoding="ascii") as f:
        line, = re.findall("^user adwuma-worker on (.*)$", f.read(), re.M)
    as_w = user(*(word for word in line.split() if word not in ("+rename", "+zscore")))
    command = doctor(**as_w).only("rights", "bad", "user w may not do all that workers need: rename, zscore")
    assert "ACL SETUSER w +rename +zscore    #" in command and "users.acl" in command
    mend(command)
    assert doctor(**as_w).only("rights", "ok", "user w may do what workers need") is None


@pytest.mark.parametrize("command,check", [("type", "key types"), ("set", "writes"), ("zcount", "workers")])
def test_what_is_refused_in_each_queue_is_told_once(doctor, user, command, check):
    found = doctor(**user("~*", "+@all", "-" + command))
    assert f"'{command}' command" in found[check][0]["message"]
    found.only(check, "bad", "translate,transcribe,synthesize,taskingai: NOPERM ")


def test_rights_that_cannot_be_told(doctor, mend, user):
    as_w = user("~*", "+@all", "-multi", "-acl|dryrun")
    mend(doctor(**as_w).only("rights", "warn", "neither MULTI nor ACL DRYRUN"))
    assert doctor(**as_w).state("rights") == ["ok"]


def test_a_user_with_nothing_but_what_mends_it_works(system, doctor, mend, user):
    """The table of rights is whole: a worker and a producer live by it."""
    as_w = user("+multi", "+discard")
    mend(doctor(**as_w).only("rights", "bad", "info, time, client|setname, lpush, blmove"))
    mend(doctor(**as_w).only("rights", "bad", "keys of queue translate"))  # of keys Redis tells only where the command may be used
    assert doctor(**as_w).only("rights", "ok", "user w may do") is None
    worker = system.worker(**as_w)
    assert system.do("translate", text="x")["status"] == "succeeded"
    assert system.do("translate", text="stub(status=503,retry_after=0,times=1) x", language_pair="en-ee")["status"] == "succeeded"
    assert system.do("translate", text="stub(status=400)")["status"] == "failed"
    assert system.do("translate", text="One sentence that is long, " * 50 + "and ends. " + "Another one that is long, " * 50)["status"] == "succeeded"
    made = system.do("synthesize", text="x", language="twi")["result"]["audio_key"]
    assert system.do("transcribe", audio_key=made, reply="r")["result"]["text"] == "x"
    chat = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "x"}], "stream": True}
    assert system.do("taskingai", type="taskingai.chat_completion", params=chat)["status"] == "succeeded"
    assert system.do("taskingai", type="taskingai.create_assistant", params={"model_id": "TpAb12Cd", "memory": {"type": "naive"}})
    assert system.redis.ping() and "NOPERM" not in worker.log()
    worker.kill()
    second = system.worker(**as_w)
    until(lambda: "reaped" in second.log() or system.redis.zcard("adwuma:{translate}:workers") == 1, 20)
    assert "NOPERM" not in second.log()
    done = subprocess.run([BUILD + "/adwuma", "translate", "y"], env=system.env(**as_w), capture_output=True, text=True, timeout=30 * SLOW)
    assert done.stdout == "[tw] y\n"


def test_every_command_of_the_scripts_stands_in_the_table():
    with open(ROOT + "/src/cli/doctor_rights.c", encoding="utf-8") as f:
        named = set(re.findall(r'^\t\{"([a-z|]+)", ', f.read(), re.M))
    called = set()
    for name in os.listdir(ROOT + "/src/lua"):
        with open(f"{ROOT}/src/lua/{name}", encoding="utf-8") as f:
            called |= {c.lower() for c in re.findall(r"call\('([A-Z]+)'", f.read())}
    assert len(called) > 20 and called <= named, called - named


# --- Queues --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key,type_", [("ready", "list"), ("delayed", "zset"), ("dead", "list"), ("workers", "zset"), ("stats", "hash"), ("cancelled", "zset")])
def test_a_key_of_a_wrong_type(system, doctor, mend, key, type_):
    name = f"adwuma:{{translate}}:{key}"
    system.redis.sadd(name, "x")
    found = doctor()
    line = found.only("key types", "bad", f"{name} is a set and must be a {type_}")
    assert found["workers"] and found.code == 1 and not [o for o in found.all if "WRONGTYPE" in o["message"]]
    mend(line)
    assert system.redis.smembers(name + ".wrong") == {b"x"} and doctor().state("key types") == ["ok"]


def test_a_pause(system, doctor, mend):
    mend("adwuma pause translate --for 10m --reason 'the API rests'")
    line = doctor().only("pauses", "warn", "translate is paused for ")
    shape = r"translate is paused for \d+m(?:\d+s)?: {} \(\S+@\S+, \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)"
    assert line == "adwuma resume translate" and re.fullmatch(shape.format("the API rests"), doctor()["pauses"][0]["message"])
    with open(ROOT + "/README.md", encoding="utf-8") as f:
        assert re.search("^warn  pauses          " + shape.format("maintenance") + "$", f.read(), re.M)
    mend(line)
    assert doctor().only("pauses", "ok", "none in 4 queues") is None


def test_dead_jobs(system, doctor, mend):
    entry = {"job": {"id": "d1", "type": "translate", "text": "x"}, "error": {"type": "APIError", "message": "m", "status_code": 500}, "died_at_ms": 1}
    system.redis.lpush("adwuma:{translate}:dead", json.dumps(entry))
    found = doctor(dead_max_jobs=1)
    line = found.only("dead jobs", "warn", "translate: 1 failed job ")
    assert "dead_max_jobs" in found["dead jobs"][0]["message"] and "d1" in mend(line) and "dead_max_jobs" not in doctor()["dead jobs"][0]["message"]
    mend("adwuma dead purge --all --queue translate")
    assert doctor().state("dead jobs") == ["ok"]


def runs_until_well(system, doctor, line, check):
    """What mends it is a worker, which stays: a unit of systemd's, or the command that is told."""
    assert line.startswith("systemctl start adwumad    # ")
    words = shlex.split(line.split("or: ")[1])
    assert words[0] == "adwumad"
    worker = system.worker(flags=words[1:])
    until(lambda: doctor("-q", "translate").state(check) == ["ok"], 20)
    return worker


def test_jobs_without_a_worker(system, doctor):
    system.push("translate", {"id": "w1", "text": "x"}, {"id": "w2", "text": "y"})
    found = doctor("-q", "translate")
    line = found.only("workers", "bad", "no living worker serves translate; jobs wait there: 2 in translate")
    assert line == "systemctl start adwumad    # or: adwumad --queues translate" and found.code == 1
    runs_until_well(system, doctor, line, "workers")
    assert system.result("translate", "w1")["status"] == "succeeded"


def test_queues_without_a_worker_are_told_at_once(system, doctor):
    system.worker(queues="transcribe")
    system.push("translate", {"id": "w1", "text": "x"})
    system.push("taskingai", {"id": "w2", "type": "taskingai.list_assistants"}, {"id": "w3", "type": "taskingai.list_assistants"})
    line = doctor("--lease-ms=9000").only("workers", "bad", "no living worker serves translate,synthesize,taskingai; jobs wait there: 1 in translate, 2 in taskingai")
    assert line == "systemctl start adwumad    # or: adwumad --lease-ms 9000 --queues translate,synthesize,taskingai"


def test_a_dead_workers_jobs(system, doctor):
    prefix = "adwuma:{translate}:"
    system.redis.zadd(prefix + "workers", {"ghost-1-aa.1": int(time.time() * 1000) - 3000})
    system.redis.hset(prefix + "worker:ghost-1-aa.1", "slots", 4)
    system.redis.lpush(prefix + "slot:ghost-1-aa.1:2", '{"id":"g1","text":"x"}')
    line = doctor("-q", "translate").only("leases", "bad", "the lease of ghost-1-aa.1 ran out ")
    assert "holds 1 job, and nobody takes it back" in doctor("-q", "translate")["leases"][0]["message"]
    runs_until_well(system, doctor, line, "leases")
    assert system.result("translate", "g1")["status"] == "succeeded"


def test_other_names(system, doctor):
    """--queue, its own prefix, a database other than 0."""
    settings = {"key_prefix": "mine", "ADWUMA_REDIS_URL": f"unix://{system.server.socket}?db=3"}
    other = system.redis.__class__(unix_socket_path=system.server.socket, db=3)
    other.lpush("mine:{bulk}:ready", "x")
    line = doctor("-q", "bulk", **settings).only("workers", "bad", "no living worker serves bulk; jobs wait there: 1 in bulk")
    assert line.endswith("# or: adwumad --queues bulk")
    assert doctor("--queues", "a,b", **settings).only("workers", "warn", "no living worker serves a,b; nothing waits there").endswith("# or: adwumad --queues a,b")
    other.set("mine:{bulk}:dead", "x")
    assert " -n 3 RENAMENX 'mine:{bulk}:dead' 'mine:{bulk}:dead.wrong'" in doctor("-q", "bulk", **settings).only("key types", "bad", "is a string")
    assert other.dbsize() == 2


# --- The APIs ------------------------------------------------------------------------------------------------------------

SERVICES = ["translate", "transcribe", "synthesize", "taskingai"]


@pytest.mark.parametrize("fault,state,words,command", [
    ("status=401", "bad", "the key is refused: ", "_API_KEY=…"), ("status=403", "bad", "(403)", ""), ("status=429", "warn", "does no work now: ", "sleep 60; adwuma doctor"),
    ("status=503", "warn", "(503)", "sleep 60; adwuma doctor"), ("status=404,body=html", "bad", "not as this API does: ", "https://…"),
], ids=["401", "403", "429", "503", "404"])
def test_what_an_api_answers(system, doctor, fault, state, words, command):
    system.stub.fault(fault)
    found = doctor()
    for service in SERVICES:
        one, = found["api " + service]
        assert one["state"] == state and words in one["message"] and command in one["mend"], one
        assert ("TASKINGAI_" in one["mend"]) == (service == "taskingai" and "export" in one["mend"])
    assert found.code == 1  # for want of persistence at least
    system.stub.fault("")
    assert [doctor().state("api " + service) for service in SERVICES] == [["ok"]] * 4


def test_a_services_own_key(system, doctor):
    system.stub.fault("status=401")
    found = doctor(KHAYA_ASR_API_KEY="0" * 32)
    assert found["api transcribe"][0]["mend"] == "export KHAYA_ASR_API_KEY=…    # this key is not valid there"
    assert found["api translate"][0]["mend"] == "export KHAYA_API_KEY=…    # this key is not valid there"


def test_an_api_that_is_not_there(system, doctor):
    system.redis.config_set("appendonly", "yes")
    found = doctor(KHAYA_BASE_URL="http://127.0.0.1:1")
    assert found.only("api translate", "bad", "no answer: ").startswith("export KHAYA_BASE_URL=https://…") and found.code == 69
    assert found.only("api synthesize", "warn", "not asked") and found.state("api taskingai") == ["ok"]
    assert doctor(TASKINGAI_HOST="http://127.0.0.1:1").only("api taskingai", "bad", "no answer: ").startswith("export TASKINGAI_HOST=https://…")


def test_no_keys(system, doctor):
    calls = system.stub.count()
    found = doctor(KHAYA_API_KEY=None, TASKINGAI_API_KEY=None)
    for service in SERVICES:
        line = found.only("api " + service, "warn", f"no key, so not asked: {service} jobs fail with AuthenticationError")
        name = "TASKINGAI_API_KEY" if service == "taskingai" else "KHAYA_API_KEY"
        assert line == f"export {name}=…    # or {name}_FILE=FILE; where such jobs are wanted"
    assert system.stub.count() == calls


def test_calls_cost_nothing(system, doctor):
    system.stub.ask("DELETE", "/_stub/calls")
    doctor()
    asked = [call["path"].split("?")[0] for call in system.stub.calls()]
    assert len(asked) == 4 and all(path.endswith(("languages", "/assistants")) for path in asked), asked


def test_plain_http(doctor):
    found = doctor(TASKINGAI_HOST="http://tasking.invalid", ADWUMA_ALLOW_HTTP_HOSTS="tasking.invalid", TASKINGAI_API_KEY=None)
    assert found.only("api urls", "warn", "TASKINGAI_HOST speaks plain http") == "export TASKINGAI_HOST=https://…    # and no allow_http_hosts"


# --- Settings, files, limits ---------------------------------------------------------------------------------------------


def test_files_of_secrets(doctor, mend, tmp_path):
    key, conf = tmp_path / "it's a key", tmp_path / "adwumad.conf"
    key.write_text(KEY + "\n")
    conf.write_text("redis_url = redis://:sesame@127.0.0.1:1/0\n")
    for path in (key, conf):
        path.chmod(0o644)
    settings = {"KHAYA_API_KEY": None, "KHAYA_API_KEY_FILE": key}
    found = doctor("--config", str(conf), **settings)
    assert found["settings"][0]["message"].startswith(f"read from {conf}; ")
    assert found.state("secret files") == ["warn", "warn"]
    for one in found["secret files"]:
        assert "everybody on this machine may read it" in one["message"] and one["mend"].startswith("chmod o= ")
        mend(one["mend"])
    assert doctor("--config", str(conf), **settings).only("secret files", "ok", "2, not open to everybody") is None
    assert key.stat().st_mode & 0o777 == 0o640


def test_a_variable_that_is_no_setting(doctor):
    found = doctor(thred="1")
    assert found["settings"][1] == {"check": "settings", "state": "warn", "message": "environment ADWUMA_THRED: is no setting, ignored",
                                    "mend": "unset ADWUMA_THRED    # the names there are: adwuma help settings"}


def test_few_open_files(system):
    def run(limit):
        line = f"{limit}; {BUILD}/adwuma doctor --json"
        done = subprocess.run(["/bin/sh", "-c", line], env=system.env(threads=300), capture_output=True, text=True, timeout=60 * SLOW)
        return Found(done)

    line = run("ulimit -S -n 500").only("open files", "bad", "a process may have 500; a worker of 300 threads may need ")
    assert run("ulimit -S -n 500; " + line.split("  ")[0]).state("open files") == ["ok"]


def test_bad_settings_and_wrong_use(doctor):
    found = doctor(threads="many")
    assert found.code == 78 and not found.all and "ADWUMA_THREADS" in found.err
    assert doctor("x").code == 2 and doctor("--queue", "A").code == 2


def test_a_ca_file_that_is_none(doctor, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate\n")
    found = doctor(api_ca_file=tmp_path / "ca.pem")
    assert found.code == 78 or found.only("certificates", "bad", "ca.pem").startswith("unset ADWUMA_API_CA_FILE")
