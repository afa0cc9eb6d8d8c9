"""TLS to Redis: rediss:// where the build has it, with certificates that are accepted and such that are not; where it has not, a clear refusal."""
import contextlib
import json
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis as redis_py
from conftest import BUILD, SLOW, RedisServer, System, until
from servers import free_ports

HAS_TLS = subprocess.run(["pkg-config", "--exists", "hiredis_ssl"], check=False).returncode == 0


def openssl(*args, **options):
    subprocess.run(["openssl", *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


class Authority:
    """A CA of the test's own, and what it signs."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = str(folder), name
        self.cert, self.key = f"{folder}/{name}.crt", f"{folder}/{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def sign(self, name, alternative, *valid):
        """A certificate and its key, made out to that."""
        key, request, cert = (f"{self.folder}/{name}.{end}" for end in ("key", "csr", "crt"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        with open(f"{self.folder}/{name}.ext", "w", encoding="ascii") as f:
            f.write(f"subjectAltName={alternative}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-set_serial", "7", *(valid or ("-days", "2")), "-extfile", f.name, "-out", cert)
        return cert, key


class Secured:
    """A Redis that speaks TLS on a port beside its socket."""

    def __init__(self, folder, stub, *flags, alternative="IP:127.0.0.1,DNS:localhost"):
        self.ca = Authority(folder)
        self.cert, self.key = self.ca.sign("redis", alternative)
        self.port = free_ports(1)[0]
        self.server = RedisServer(folder, "--tls-port", str(self.port), "--tls-cert-file", self.cert, "--tls-key-file", self.key, "--tls-ca-cert-file", self.ca.cert,
                                  *(flags or ("--tls-auth-clients", "no")))
        self.system = System(folder, stub, self.server)

    def settings(self, **more):
        return {"redis_url": f"rediss://127.0.0.1:{self.port}/0", "redis_ca_file": self.ca.cert, **more}

    def run(self, *args, seconds=30, **settings):
        return subprocess.run([BUILD + "/adwuma", *args], env=self.system.env(**self.settings(**settings)), capture_output=True, text=True, timeout=seconds * SLOW, check=False)

    def stop(self):
        try:
            self.system.finish()
        finally:
            self.server.stop()


@pytest.fixture
def secured(tmp_path, stub):
    s = Secured(tmp_path, stub)
    yield s
    s.stop()


class Dripping:
    """A way to a port on which so many bytes come back freely, and the others one by one."""

    def __init__(self, port, freely):
        self.to, self.freely = port, freely
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.to))
                threading.Thread(target=self.pass_on, args=(client, server, 1 << 30), daemon=True).start()
                threading.Thread(target=self.pass_on, args=(server, client, self.freely), daemon=True).start()

    @staticmethod
    def pass_on(source, target, freely):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(max(1, min(freely, 16384))):
                time.sleep(0 if freely > 0 else 0.2)
                freely -= len(data)
                target.sendall(data)


def check(system, *args, program="adwumad", **settings):
    command = [BUILD + "/" + program, *args]
    return subprocess.run(command, env=system.env(**settings), capture_output=True, text=True, timeout=20 * SLOW, check=False)


# --- Where there is none. ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["rediss://127.0.0.1:1/0", "rediss+sentinel://127.0.0.1:1/m", "rediss+cluster://127.0.0.1:1"])
def test_a_build_without_it_says_so_before_it_connects_and_one_with_it_takes_the_address(system, scheme):
    for program, args in (("adwumad", ["--check"]), ("adwuma", ["stats"])):
        done = check(system, *args, program=program, redis_url=scheme)
        if HAS_TLS:
            assert done.returncode == (0 if program == "adwumad" else 69), done.stderr
        else:
            assert done.returncode == 78 and "speaks no TLS" in done.stderr and "redis_url" in done.stderr.lower() and "hiredis" in done.stderr, done.stderr


# --- The way there. ---------------------------------------------------------------------------------------------------------

if HAS_TLS:

    def test_jobs_of_every_kind(secured, tmp_path):
        w = secured.system.worker(**secured.settings())
        assert secured.system.do("translate", text="x")["status"] == "succeeded"
        done = secured.run("translate", "one", "two")
        assert done.stdout == "[tw] one\n[tw] two\n", done.stderr
        sound = tmp_path / "made.wav"
        assert secured.run("synthesize", "good morning " * 30, "-o", str(sound)).returncode == 0
        assert sound.read_bytes()[:4] == b"RIFF"
        assert "good morning" in secured.run("transcribe", str(sound)).stdout
        secured.system.push("translate", *({"id": f"{i}", "text": "long " * 150} for i in range(2000)))
        secured.system.reconcile("translate", 2003, 0)
        assert secured.run("stats").returncode == 0
        assert "redis lost" not in w.log()

    def test_what_is_larger_than_a_record_comes_whole(secured):
        """16 KiB are in one record: results and payloads of many, one after the other on the connection that waits."""
        secured.system.worker(**secured.settings())
        for n in (16383, 16384, 16385, 300_000, 3_000_000):
            text = "x" * n
            done = secured.system.do("translate", text=text, note="y" * n, seconds=60)
            assert done["status"] == "succeeded" and len(done["result"]["text"]) >= n

    def test_a_streamed_answer_and_the_library(secured, tmp_path):
        secured.system.worker(**secured.settings())
        lines = "".join(json.dumps({"id": f"b{i}", "type": "translate", "text": f"text {i}"}) + "\n" for i in range(500))
        (tmp_path / "in.jsonl").write_text(lines)
        done = secured.run("batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"))
        assert done.returncode == 0 and len((tmp_path / "out.jsonl").read_text().splitlines()) == 500
        secured.system.push("taskingai", {"id": "s", "type": "taskingai.chat_completion", "params": {"model_id": "TpIIdLFe", "messages": [{"role": "user", "content": "hi"}], "stream": True}})
        assert secured.system.result("taskingai", "s")["id"] == "s"
        assert secured.system.redis.xlen("adwuma:{taskingai}:stream:s") >= 1

    def test_it_comes_back_after_a_restart(secured):
        w = secured.system.worker(**secured.settings())
        assert secured.system.do("translate", text="x")["status"] == "succeeded"
        secured.server.kill()
        until(lambda: "redis lost" in w.log(), what="the loss is told")
        secured.server.start()
        assert secured.system.do("translate", text="y", seconds=20)["status"] == "succeeded"

    def test_a_worker_killed_in_mid_call_is_replaced(secured):
        first = secured.system.worker(**secured.settings())
        secured.system.push("translate", {"id": "a", "text": "x [[delay=3000]]"})
        until(lambda: secured.system.stub.count() == 1, what="the call is made")
        first.kill()
        secured.system.worker(**secured.settings())
        assert secured.system.result("translate", "a", 30)["status"] == "succeeded"

    # --- Certificates. ------------------------------------------------------------------------------------------------------

    def start_refused(secured, *words, **settings):
        w = secured.system.worker(wait=False, **secured.settings(**settings))
        w.expected = 69
        assert w.process.wait(20 * SLOW) == 69, w.log()
        for word in words:
            assert word in w.log(), w.log()
        done = secured.run("stats", **settings)
        assert done.returncode == 69 and all(word in done.stderr for word in words), done.stderr

    def test_one_signed_by_another_is_not_accepted(secured, tmp_path):
        other = Authority(tmp_path, "other")
        start_refused(secured, "certificate of 127.0.0.1 is not accepted", "redis_ca_file", redis_ca_file=other.cert)

    def test_the_systems_authorities_do_not_know_it(secured):
        start_refused(secured, "is not accepted", redis_ca_file=None)

    @pytest.mark.parametrize("alternative, host, good", [
        ("DNS:redis.example,IP:10.1.2.3", "127.0.0.1", False), ("IP:127.0.0.1", "localhost", False), ("DNS:localhost", "127.0.0.1", False),
        ("DNS:localhost", "localhost", True), ("IP:127.0.0.1", "127.0.0.1", True), ("DNS:*.example", "localhost", False)])
    def test_the_name_is_looked_at(tmp_path, stub, alternative, host, good):
        secured = Secured(tmp_path, stub, alternative=alternative)
        try:
            url = {"redis_url": f"rediss://{host}:{secured.port}/0"}
            if good:
                secured.system.worker(**secured.settings(**url))
                assert secured.system.do("translate", text="x")["status"] == "succeeded"
            else:
                start_refused(secured, f"certificate of {host} is not accepted", "another name", **url)
        finally:
            secured.stop()

    def test_one_that_has_expired(tmp_path, stub):
        secured = Secured(tmp_path, stub)
        try:
            cert, key = secured.ca.sign("old", "IP:127.0.0.1", "-not_before", "20200101000000Z", "-not_after", "20210101000000Z")
            secured.server.stop()
            secured.server.flags = tuple(cert if f == secured.cert else key if f == secured.key else f for f in secured.server.flags)
            secured.server.start()
            start_refused(secured, "expired")
        finally:
            secured.stop()

    def test_the_client_shows_its_own_where_it_is_asked(tmp_path, stub):
        secured = Secured(tmp_path, stub, "--tls-auth-clients", "yes")
        try:
            cert, key = secured.ca.sign("client", "DNS:client")
            mine = {"redis_cert_file": cert, "redis_key_file": key}
            secured.system.worker(**secured.settings(**mine))
            assert secured.system.do("translate", text="x")["status"] == "succeeded"
            assert secured.run("translate", "hello", **mine).stdout == "[tw] hello\n"
            done = secured.run("stats")  # without one
            assert done.returncode == 69 and "does it want a certificate (redis_cert_file)?" in done.stderr, done.stderr
            foreign = Authority(tmp_path, "foreign").sign("stranger", "DNS:client")
            done = secured.run("stats", redis_cert_file=foreign[0], redis_key_file=foreign[1])
            assert done.returncode == 69 and "does it accept our certificate (redis_cert_file)?" in done.stderr, done.stderr
        finally:
            secured.stop()

    @pytest.mark.parametrize("settings, words", [
        ({"redis_cert_file": "CERT"}, "redis_cert_file and redis_key_file go together"), ({"redis_key_file": "KEY"}, "go together"),
        ({"redis_cert_file": "CERT", "redis_key_file": "OTHER"}, "redis_key_file holds no key"), ({"redis_cert_file": "KEY", "redis_key_file": "KEY"}, "redis_cert_file holds no certificate"),
        ({"redis_ca_file": "KEY"}, "redis_ca_file holds no certificates"), ({"redis_ca_file": "/nowhere"}, "/nowhere"), ({"redis_key_file": "/nowhere"}, "/nowhere")])
    def test_files_that_cannot_be_used_stop_the_start(secured, settings, words):
        cert, key = secured.ca.sign("client", "DNS:client")
        files = {"CERT": cert, "KEY": key, "OTHER": secured.key}
        done = check(secured.system, "--check", **secured.settings(**{k: files.get(v, v) for k, v in settings.items()}))
        assert done.returncode == 78 and words in done.stderr, done.stderr

    # --- What doctor says of it. --------------------------------------------------------------------------------------------

    def found(secured, check, **settings):
        """What the check found, which is one thing; and the exit code."""
        done = secured.run("doctor", "--json", **settings)
        one, = (o for o in json.loads(done.stdout) if o["check"] == check)
        return one, done.returncode

    def test_doctor_tells_how_long_the_certificate_is_valid(tmp_path, stub):
        secured = Secured(tmp_path, stub)
        try:
            one, _ = found(secured, "tls")
            assert one["state"] == "warn" and one["message"].startswith("TLSv1.3, TLS_") and one["message"].endswith(" days from now"), one
            cert, key = secured.ca.sign("longer", "IP:127.0.0.1", "-days", "30")
            secured.server.client.config_set("tls-key-file", key, "tls-cert-file", cert)
            one, code = found(secured, "tls")
            assert one["state"] == "ok" and one["mend"] is None and "its certificate is valid until 20" in one["message"] and code == 1, one
            mend = found(secured, "persistence")[0]["mend"]
            assert mend.startswith(f"redis-cli -h 127.0.0.1 -p {secured.port} --tls --cacert {secured.ca.cert} CONFIG SET "), mend
            assert subprocess.run(["/bin/sh", "-c", mend], capture_output=True, text=True, check=True).stdout == "OK\n"
            until(lambda: not secured.server.client.info("persistence")["aof_rewrite_in_progress"], what="a first append-only file is written: before, Redis does not end")
            assert not [o for o in json.loads(secured.run("doctor", "--json", redis_url="unix://" + secured.server.socket).stdout) if o["check"] == "tls"]
        finally:
            secured.stop()

    def test_doctor_mends_the_way_there(secured, tmp_path):
        one, code = found(secured, "redis", redis_ca_file=Authority(tmp_path, "other").cert)
        assert code == 69 and one["state"] == "bad" and one["mend"].startswith("export ADWUMA_REDIS_CA_FILE=FILE"), one
        secured.server.client.config_set("tls-auth-clients", "yes")
        one, code = found(secured, "redis")
        assert code == 69 and one["mend"].startswith("export ADWUMA_REDIS_CERT_FILE=FILE ADWUMA_REDIS_KEY_FILE=FILE"), one  # whether its alert arrives before the end is a matter of luck
        cert, key = Authority(tmp_path, "foreign").sign("stranger", "DNS:client")
        one, code = found(secured, "redis", redis_cert_file=cert, redis_key_file=key)
        assert code == 69 and one["mend"].endswith("# of a CA that it trusts (its tls-ca-cert-file)"), one
        done = secured.run("doctor", "--json", "--redis-cert-file", cert, "--redis-key-file", key)
        one, = (o for o in json.loads(done.stdout) if o["check"] == "redis")
        assert one["mend"].startswith("adwuma doctor ") and " --redis-cert-file=FILE --redis-key-file=FILE    # of a CA " in one["mend"], one  # the environment would not beat it
        port = free_ports(1)[0]
        (tmp_path / "plain").mkdir()
        plain = RedisServer(tmp_path / "plain", "--port", str(port))
        try:
            one, code = found(secured, "redis", redis_url=f"rediss://127.0.0.1:{port}/0")
            assert code == 69 and one["mend"].endswith("that port speaks no TLS"), one
        finally:
            plain.stop()
        one, code = found(secured, "redis", redis_url=f"redis://127.0.0.1:{secured.port}/0")
        assert code == 69 and one["mend"].startswith("export ADWUMA_REDIS_URL=rediss…"), one

    # --- The wrong door. ----------------------------------------------------------------------------------------------------

    def test_plain_where_tls_is_spoken_and_the_other_way_round(secured, tmp_path):
        done = secured.run("stats", redis_url=f"redis://127.0.0.1:{secured.port}/0")
        assert done.returncode == 69, done.stderr
        port = free_ports(1)[0]
        (tmp_path / "plain").mkdir()
        plain = RedisServer(tmp_path / "plain", "--port", str(port))
        try:
            done = secured.run("stats", redis_url=f"rediss://127.0.0.1:{port}/0")
            assert done.returncode == 69 and "TLS" in done.stderr and "does it speak TLS?" in done.stderr, done.stderr
        finally:
            plain.stop()

    def test_one_that_takes_the_connection_and_says_nothing(secured):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(8)
            done = secured.run("stats", redis_url=f"rediss://127.0.0.1:{s.getsockname()[1]}/0", seconds=40)
        assert done.returncode == 69, done.stderr

    @pytest.mark.parametrize("freely", [0, 3000], ids=["handshake", "a record"])
    def test_what_comes_byte_by_byte_is_not_waited_for(secured, freely):
        """No byte is late, but the message of TLS that they make is."""
        way = Dripping(secured.port, freely)
        done = secured.run("stats", redis_url=f"rediss://127.0.0.1:{way.port}/0", seconds=20)
        way.listener.close()
        assert done.returncode == 69 and "no answer" in done.stderr, done.stderr

    def test_no_secret_is_told(secured):
        secured.system.redis.execute_command("CONFIG", "SET", "requirepass", "hush-hush")
        secured.server.client = redis_py.Redis(unix_socket_path=secured.server.socket, password="hush-hush")
        w = secured.system.worker(**secured.settings(redis_password="hush-hush"))
        assert secured.system.do("translate", text="x")["status"] == "succeeded"
        done = secured.run("stats", redis_password="wrong-hush")
        assert done.returncode == 69 and "hush" not in done.stderr + w.log()
        w.stop(signal.SIGTERM)
