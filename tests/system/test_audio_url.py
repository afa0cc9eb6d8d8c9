"""audio_url: what is fetched, from where alone, and what is left of it. Files come from servers on this machine, which a list must name; whatever is not
listed is tried by redirects, spellings and names."""
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import BUILD, KEY, SLOW, until

WAV = b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256)) * 4


class Files:
    """A server of files: each path is answered by a function of the handler. Counts what it was asked."""

    def __init__(self, tls=None, host="127.0.0.1"):
        self.paths, self.requests, self.hung_up, self.closed = {}, [], threading.Event(), 0
        files = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                files.requests.append((self.path, dict(self.headers)))
                try:
                    files.paths[self.path.split("?")[0]](self)
                except (BrokenPipeError, ConnectionResetError):
                    files.hung_up.set()

            def finish(self):
                files.closed += 1
                super().finish()

            def give(self, body, status=200, length=None, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if length != "none":
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.close_connection = length is not None  # it ends where the body does, whatever was said
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self.server = Server((host, 0), Handler)
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_address[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "server.pem", tls / "server.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, path, body, status=200, **how):
        self.paths[path] = lambda h: h.give(body, status, **how)

    def redirect(self, path, to, status=302):
        self.paths[path] = lambda h: h.give(b"moved", status, Location=to)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def files():
    f = Files()
    f.put("/a.wav", WAV)
    yield f
    f.stop()


@pytest.fixture
def certificates(tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", "server.key", "-out", "server.pem"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def refused(result, message, attempts=1):
    e = result["error"]
    assert (e["type"], e["status_code"], e["retryable"], e["service"]) == ("ASRTranscriptionError", 400, False, "khaya"), e
    assert message in e["message"], e
    assert result["attempts"] == attempts and bool(result["started_at_ms"]) == bool(attempts)
    return e["message"]


def test_a_file_arrives_as_it_is(system, files):
    """All of its bytes, in an API call like any other; the file's server gets none of our headers."""
    big = b"RIFF\x00\x00\x00\x00WAVE" + os.urandom(3_000_017)
    files.put("/big.wav", big)
    files.put("/unknown", WAV[:99], length="none")
    files.put("/zipped", WAV, Content_Encoding="gzip")  # nobody asked for it, and it is the API's to judge
    system.worker(audio_url_allow="127.0.0.1", threads=1)
    for path, body in (("/a.wav", WAV), ("/big.wav?token=s3cret", big), ("/unknown", WAV[:99]), ("/zipped", WAV)):
        r = system.do("transcribe", audio_url=files.url + path, timestamps="word", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        assert r["status"] == "succeeded" and r["attempts"] == 1, r
        call = system.stub.calls()[-1]
        assert call["body_sha256"] == hashlib.sha256(body).hexdigest() and call["content_type"] == "audio/wav"
    assert [p for p, _ in files.requests] == ["/a.wav", "/big.wav?token=s3cret", "/unknown", "/zipped"]
    for _, headers in files.requests:
        assert set(headers) == {"Host", "User-Agent", "Accept"} and headers["User-Agent"].startswith("adwuma/") and KEY not in str(headers)
    assert "s3cret" not in system.workers[0].log()


def test_https_is_checked_like_the_apis(system, certificates):
    """The same CA bundle serves both."""
    files = Files(tls=certificates)
    files.put("/a.wav", WAV)
    system.worker(audio_url_allow="localhost", api_ca_file=certificates / "server.pem")
    assert system.do("transcribe", audio_url=files.url + "/a.wav")["status"] == "succeeded"
    system.workers[0].stop()
    system.worker(audio_url_allow="localhost")
    e = system.do("transcribe", audio_url=files.url + "/a.wav", max_attempts=1)["error"]
    assert e["type"] == "ASRTranscriptionError" and e["retryable"] and "certificate" in e["message"], e
    assert len(files.requests) == 1
    files.stop()


SPELLINGS = ["http://127.0.0.1:{p}/a", "http://2130706433:{p}/a", "http://0x7f000001:{p}/a", "http://0177.0.0.1:{p}/a", "http://127.1:{p}/a", "http://0:{p}/a",
             "http://[::1]:{p}/a", "http://[::ffff:127.0.0.1]:{p}/a", "http://[0:0:0:0:0:ffff:7f00:1]:{p}/a", "http://localhost:{p}/a", "http://LOCALHOST:{p}/a",
             "http://localhost.:{p}/a", "http://a.localhost:{p}/a", "http://127.0.0.1.:{p}/a", "http://%6c%6f%63alhost:{p}/a", "https://\uff11\uff12\uff17.0.0.1:{p}/a",
             "http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/latest", "https://127.0.0.1:{p}/a", "//127.0.0.1:{p}/a", "file:///etc/passwd",
             "ftp://127.0.0.1:{p}/a", "gopher://127.0.0.1:{p}/_", "dict://127.0.0.1:{p}/x", "scp://127.0.0.1/a", "data:audio/wav,RIFF", "http://user@127.0.0.1:{own}/a.wav",
             "http://user:pw@127.0.0.1:{own}/a.wav", "http://:pw@127.0.0.1:{own}/a.wav", "http://127.0.0.1:{own}@127.0.0.1:{p}/a", "http://127.0.0.1:{p}\\@127.0.0.1:{own}/a",
             "http://127.0.0.1:0/a", "http://127.0.0.1:99999/a", "http://"]


def test_no_spelling_leads_elsewhere(system, files):
    """Neither as the job's URL nor as a redirect's target; the forbidden server, on another port, is never asked."""
    forbidden = Files()
    forbidden6 = Files(host="::1")
    forbidden.put("/a", WAV), forbidden6.put("/a", WAV)
    system.worker(audio_url_allow=f"127.0.0.1:{files.port}", allow_http_hosts="2130706433 0x7f000001 0177.0.0.1 127.1 0 a.localhost 169.254.169.254")
    said = set()
    for spelling in SPELLINGS:
        for port in (forbidden.port, forbidden6.port):
            url = spelling.format(p=port, own=files.port)
            direct = not url.startswith("//")  # a relative reference is a redirect's only
            if direct:
                said.add(refused(system.do("transcribe", audio_url=url), "audio_url: ", attempts=0))
            files.redirect("/r", url.encode("utf-8").decode("latin-1"))
            said.add(refused(system.do("transcribe", audio_url=files.url + "/r"), "audio_url: ", attempts=1))
    assert not forbidden.requests and not forbidden6.requests and system.stub.count() == 0
    assert {p for p, _ in files.requests} == {"/r"}
    words = "\n".join(said)
    for part in ("is not in audio_url_allow", "names no host (in ASCII)", "must begin with https://", "holds credentials", "redirected by 127.0.0.1: "):
        assert part in words
    assert words.isascii() and "pw" not in words and "latest" not in words and "passwd" not in words
    forbidden.stop(), forbidden6.stop()


def test_a_listed_name_must_not_lead_inside(system, files):
    """*.localhost resolves to this machine: a name like those of rebinding attacks. The address itself must be listed, too; localhost is what it says."""
    port = files.port
    cases = [("files.localhost", "files.localhost", False), ("*.localhost", "files.localhost", False), (f"files.localhost 127.0.0.1:{port + 1}", "files.localhost", False),
             (f"files.localhost 127.0.0.1:{port}", "files.localhost", True), ("files.localhost 127.0.0.0/8", "files.localhost", True),
             ("localhost", "localhost", True), (f"LOCALHOST:{port}", "LocalHost", True), ("127.0.0.1", "127.0.0.1", True), ("127.0.0.0/8", "127.0.0.1", True),
             ("127.0.0.1", "2130706433", True)]
    for allow, host, right in cases:
        w = system.worker(audio_url_allow=allow, allow_http_hosts="files.localhost LocalHost")
        r = system.do("transcribe", audio_url=f"http://{host}:{port}/a.wav")
        if right:
            assert r["status"] == "succeeded", (allow, r)
        else:
            refused(r, "host 'files.localhost' has an address that is not public")
        w.stop()
    assert len(files.requests) == sum(right for _, _, right in cases) == system.stub.count()


def test_no_proxy_is_asked(system, files):
    """It would connect for us, wherever a name leads."""
    proxy = Files()
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        os.environ[name] = "127.0.0.1" if name == "no_proxy" else proxy.url
    try:
        system.worker(audio_url_allow="files.localhost,127.0.0.1", allow_http_hosts="files.localhost")
    finally:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            del os.environ[name]
    assert system.do("transcribe", audio_url=f"http://files.localhost:{files.port}/a.wav")["status"] == "succeeded"
    assert not proxy.requests and len(files.requests) == 1
    proxy.stop()


def test_redirects(system, files):
    """Up to five, relative ones too; every status that says so; each with a connection of its own."""
    system.worker(audio_url_allow="127.0.0.1")
    for i in range(7):
        files.redirect(f"/{i}", f"/{i - 1}" if i > 1 else "a.wav", status=(301, 302, 303, 307, 308)[i % 5])
    assert system.do("transcribe", audio_url=files.url + "/5")["status"] == "succeeded"
    assert [p for p, _ in files.requests] == ["/5", "/4", "/3", "/2", "/1", "/a.wav"]
    refused(system.do("transcribe", audio_url=files.url + "/6"), "more than 5 redirects")
    files.redirect("/loop", files.url + "/loop")
    refused(system.do("transcribe", audio_url=files.url + "/loop"), "more than 5 redirects")
    files.redirect("/space", files.url + "/a file")
    files.put("/a%20file", WAV)
    assert system.do("transcribe", audio_url=files.url + "/space")["status"] == "succeeded"
    files.redirect("/nowhere", "http://[")
    refused(system.do("transcribe", audio_url=files.url + "/nowhere"), "redirects to what is no URL")
    for status in (300, 304, 305):
        files.redirect("/s", "/a.wav", status)
        refused(system.do("transcribe", audio_url=files.url + "/s"), f"127.0.0.1: answered HTTP {status}")
    files.put("/n", b"", 302)
    refused(system.do("transcribe", audio_url=files.url + "/n"), "answered HTTP 302")
    assert system.stub.count() == 2


def test_https_is_not_left(system, certificates, files):
    secure = Files(tls=certificates)
    secure.redirect("/a", "http://example.org/a.wav")
    secure.redirect("/b", files.url + "/a.wav")
    system.worker(audio_url_allow="localhost,example.org,127.0.0.1", api_ca_file=certificates / "server.pem")
    refused(system.do("transcribe", audio_url="http://example.org/a.wav"), "must begin with https://", attempts=0)
    refused(system.do("transcribe", audio_url=secure.url + "/a"), "redirected by localhost: must begin with https://")
    assert system.do("transcribe", audio_url=secure.url + "/b")["status"] == "succeeded"  # where a setting makes the exception
    secure.stop()


def endless(h):
    h.send_response(200)
    h.end_headers()
    h.close_connection = True
    for _ in range(10000):
        h.wfile.write(b"RIFF" * 4096)


def drip(h):
    h.send_response(200)
    h.send_header("Content-Length", "100000")
    h.end_headers()
    for _ in range(3000):
        h.wfile.write(b"x")
        time.sleep(0.02)  # the server is slow: only the job's time limit can end it


def test_no_more_than_is_allowed(system, files):
    system.worker(audio_url_allow="127.0.0.1", max_audio_bytes="1M")
    files.put("/just", WAV[:12] + bytes((1 << 20) - 12))
    assert system.do("transcribe", audio_url=files.url + "/just")["status"] == "succeeded"
    files.put("/over", bytes((1 << 20) + 1))
    refused(system.do("transcribe", audio_url=files.url + "/over"), "larger than max_audio_bytes allows (1048576)")
    files.put("/over", bytes((1 << 20) + 1), length="none")
    refused(system.do("transcribe", audio_url=files.url + "/over"), "larger than max_audio_bytes allows (1048576)")

    def large(h):  # says so at once: nothing is waited for
        h.give(b"RIFF", length=1 << 40)
        time.sleep(30)  # the server keeps the connection open: only the length it announced can have ended the download

    files.paths["/large"] = large
    began = time.monotonic()
    refused(system.do("transcribe", audio_url=files.url + "/large"), "larger than max_audio_bytes allows (1048576)")
    assert time.monotonic() - began < 5 * SLOW
    files.paths["/endless"] = endless
    refused(system.do("transcribe", audio_url=files.url + "/endless"), "larger than max_audio_bytes allows (1048576)")
    until(files.hung_up.is_set, what="the connection was cut")
    files.put("/error", b"<html>" * 200000, 404)
    refused(system.do("transcribe", audio_url=files.url + "/error"), "answered HTTP 404")
    files.put("/none", b"")
    refused(system.do("transcribe", audio_url=files.url + "/none"), "the audio at audio_url is empty")
    files.put("/part", WAV, 206)
    refused(system.do("transcribe", audio_url=files.url + "/part"), "answered HTTP 206")
    assert system.stub.count() == 1


def test_what_may_pass_is_tried_again(system, files):
    """And what it took to get there counts as tries."""
    system.worker(audio_url_allow="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as s:
        free = s.getsockname()[1]
    files.put("/short", WAV, length=len(WAV) + 1)
    files.put("/head", b"", 503), files.put("/many", b"", 429), files.put("/late", b"", 408)
    files.paths["/drip"] = drip
    files.paths["/cut"] = lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le") and setattr(h, "close_connection", True)
    cases = [(files.url + "/short", "127.0.0.1: "), (files.url + "/head", "answered HTTP 503"), (files.url + "/many", "answered HTTP 429"), (files.url + "/late", "answered HTTP 408"),
             (f"http://127.0.0.1:{free}/", "127.0.0.1: Failed to connect"), (files.url + "/drip?s3cret", "127.0.0.1: Operation timed out"), (files.url + "/cut", "127.0.0.1: ")]
    for i, (url, message) in enumerate(cases):
        system.push("transcribe", {"id": f"f{i}", "audio_url": url, "max_attempts": 2, "timeout_ms": 500 * SLOW if "drip" in url else 30000})
    for i, (url, message) in enumerate(cases):
        r = system.result("transcribe", f"f{i}", 20)
        e = r["error"]
        assert (e["type"], e["status_code"], e["retryable"], r["attempts"]) == ("ASRTranscriptionError", 400, True, 2), (url, r)
        assert e["message"].startswith("audio_url: ") and message in e["message"] and "s3cret" not in e["message"], e
    assert system.stub.count() == 0 and system.stats("transcribe")["retried"] == len(cases)
    system.push("transcribe", {"id": "later", "audio_url": files.url + "/later"})
    files.paths["/later"] = lambda h: (files.put("/later", WAV), h.give(b"", 500))[1]
    r = system.result("transcribe", "later")
    assert r["status"] == "succeeded" and 2 <= r["attempts"] <= 3  # a busy machine may refuse a connection of its own


def test_a_name_that_does_not_resolve_may_some_day(system):
    system.worker(audio_url_allow="*.invalid")
    e = system.do("transcribe", audio_url="https://nobody.invalid/a?s3cret", max_attempts=1, timeout_ms=20000, seconds=25)["error"]
    assert e["retryable"] and e["message"].startswith("audio_url: nobody.invalid: ") and "s3cret" not in e["message"], e


def test_a_download_can_be_cancelled(system, files):
    files.paths["/drip"] = drip
    system.worker(audio_url_allow="127.0.0.1")
    system.push("transcribe", {"id": "c", "audio_url": files.url + "/drip"})
    until(lambda: files.requests, what="it downloads")
    system.redis.zadd("adwuma:{transcribe}:cancelled", {"c": int(time.time() * 1000)})
    r = system.result("transcribe", "c")
    assert r["error"]["type"] == "CancelledError" and r["attempts"] == 1
    until(files.hung_up.is_set, what="the connection was cut")
    assert system.stub.count() == 0


def test_a_second_term_cuts_a_download_off(system, files):
    """And its job goes back as it was, also one that says hold: nothing was sent yet."""
    files.paths["/drip"] = drip
    w = system.worker(audio_url_allow="127.0.0.1")
    jobs = [{"id": "a", "audio_url": files.url + "/drip"}, {"id": "b", "audio_url": files.url + "/drip", "if_unsure": "hold"}]
    system.push("transcribe", *jobs)
    until(lambda: len(files.requests) == 2, what="they download")
    w.send(signal.SIGTERM)
    until(lambda: "event=stopping" in w.log() or "stop" in w.log(), what="it drains")
    w.send(signal.SIGTERM)
    assert w.process.wait(10 * SLOW) == 0
    left = [json.loads(x) for x in system.redis.lrange("adwuma:{transcribe}:ready", 0, -1)]
    assert sorted(left, key=lambda j: j["id"]) == jobs and not system.redis.keys("*:sent:*")


def test_a_kept_connection_to_the_api_stays(system, files, script):
    """Downloads in between neither use nor close it."""
    script.says({"text": "heard"})
    ports = []
    script.server.RequestHandlerClass.setup, setup = lambda h: (ports.append(h.client_address[1]), setup(h)), script.server.RequestHandlerClass.setup
    system.worker(audio_url_allow="127.0.0.1", threads=1, KHAYA_BASE_URL=script.url)
    for _ in range(4):
        assert system.do("transcribe", audio_url=files.url + "/a.wav")["status"] == "succeeded"
    assert len(script.requests) == 4 and len(ports) == 1
    until(lambda: files.closed == 4, what="their own connections are closed")

    gave = []

    def give(h):  # a file on the API's own host and port
        gave.append(h.client_address[1])
        h.send_response(200)
        h.send_header("Content-Length", str(len(WAV)))
        h.end_headers()
        h.wfile.write(WAV)
    script.server.RequestHandlerClass.do_GET = give
    assert system.do("transcribe", audio_url=script.url + "/a.wav")["status"] == "succeeded"
    assert len(script.requests) == 5 and len(ports) == 2 and gave == ports[1:]


@pytest.mark.parametrize("value,reason", [("https://example.org", "without scheme and path"), ("example.org:x", "port from 1 to 65535"), ("good.org, *", "'*' is neither"),
                                          ("10.0.0.0/2", "between 8 and 32 bits"), ("user@example.org", "neither a host's name nor an address")])
def test_a_bad_list_stops_the_start(system, value, reason, tmp_path):
    (tmp_path / "a.conf").write_text(f"audio_url_allow = {value}\n")
    for flags, env, place in ((["--audio-url-allow", value], {}, "--audio-url-allow: "), ([], {"audio_url_allow": value}, "environment ADWUMA_AUDIO_URL_ALLOW: "),
                              (["--config", str(tmp_path / "a.conf")], {}, f"{tmp_path}/a.conf:1: audio_url_allow: ")):
        done = subprocess.run([BUILD + "/adwumad", "--check", *flags], env=system.env(**env), capture_output=True, text=True, timeout=30)
        assert done.returncode == 78 and place in done.stderr and reason in done.stderr, done.stderr
    done = subprocess.run([BUILD + "/adwumad", "--check", "--audio-url-allow", "example.org *.b.org:8443,[::1]:80"], env=system.env(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "audio_url_allow = example.org *.b.org:8443,[::1]:80" in done.stdout


def peak_kib(worker):
    with open(f"/proc/{worker.process.pid}/status", encoding="ascii") as f:
        return int(next(line.split()[1] for line in f if line.startswith("VmHWM:")))


@pytest.mark.release
@pytest.mark.parametrize("source", ["audio_path", "audio_url"])
def test_large_audio_does_not_grow_the_worker(system, files, tmp_path, source):
    """60 MiB go through it; the same jobs with little before, so that all its buffers are there."""
    big = b"RIFF\x00\x00\x00\x00WAVE" + os.urandom(60 << 20)
    files.put("/big.wav", big), files.put("/small.wav", big[:1 << 20])
    (tmp_path / "big.wav").write_bytes(big), (tmp_path / "small.wav").write_bytes(big[:1 << 20])
    w = system.worker(audio_url_allow="127.0.0.1", audio_root=tmp_path, threads=1)
    at = files.url + "/" if source == "audio_url" else ""
    for _ in range(3):
        assert system.do("transcribe", **{source: at + "small.wav"})["status"] == "succeeded"
    before = peak_kib(w)
    assert system.do("transcribe", **{source: at + "big.wav"}, seconds=60)["status"] == "succeeded"
    assert system.stub.calls()[-1]["body_sha256"] == hashlib.sha256(big).hexdigest()
    assert peak_kib(w) - before <= 2048


@pytest.mark.parametrize("folder", ["there", "nowhere"])
def test_where_the_file_is_kept(system, files, tmp_path, folder):
    """Without a name, so that nothing is left of it; in memory, where no folder takes it."""
    (tmp_path / "there").mkdir()
    os.environ["TMPDIR"] = str(tmp_path / folder)
    try:
        w = system.worker(audio_url_allow="127.0.0.1", threads=1)
    finally:
        del os.environ["TMPDIR"]
    files.paths["/drip"] = drip
    system.push("transcribe", {"id": "x", "audio_url": files.url + "/drip", "timeout_ms": 60000})
    until(lambda: files.requests, what="it downloads")
    wanted = f"{tmp_path}/there/" if folder == "there" else "/memfd:adwuma-audio"
    until(lambda: any(wanted in target and "(deleted)" in target for target in descriptors(w)), what="the file is open")
    assert not os.listdir(tmp_path / "there")
    w.kill()
    assert not os.listdir(tmp_path / "there")


def test_a_file_without_room_may_find_some_later(system, files, limited):
    limited("ulimit -f 64; exec")
    files.put("/big.wav", WAV[:12] + bytes(100000))
    system.worker(audio_url_allow="127.0.0.1")
    r = system.do("transcribe", audio_url=files.url + "/big.wav", max_attempts=2)
    assert r["attempts"] == 2 and r["error"]["retryable"] and "the file cannot be kept: File too large" in r["error"]["message"], r
    assert system.do("transcribe", audio_url=files.url + "/a.wav")["status"] == "succeeded"


def descriptors(worker):
    folder = f"/proc/{worker.process.pid}/fd"
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{name}"))
        except OSError:
            pass  # closed meanwhile
    return found
