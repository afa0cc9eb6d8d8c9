"""The programs of deploy/examples: each is started as their README says, and all answer alike, whatever they are written in.

Chats are answered by an API of the test's own, which holds each piece until it is told to send it."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import select
import shlex
import signal
import subprocess
import uuid

import pytest
from conftest import ROOT, SLOW, RedisServer, start, until
from servers import free_ports
from test_stream import FINAL, Api, piece

FOLDER = ROOT + "/deploy/examples"
Q = "adwuma:{translate}:"


def commands():
    with open(FOLDER + "/README.md", encoding="utf-8") as f:
        found = dict(re.findall(r"^\| (\w+) \|.*\| `([^`]*\b8000\b[^`]*)` \|$", f.read(), re.M))
    assert list(found) == ["FastAPI", "Django", "Flask", "Express", "PHP"], found
    return found


COMMANDS = commands()


def url_of(system):
    return f"redis://127.0.0.1:{system.server.flags[-1]}/0"


class Events:
    """An open stream of server-sent events."""

    def __init__(self, site, path, headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20 * SLOW)
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()
        self.status, self.comments, self.last = self.answer.status, 0, None

    def next(self):
        """(event, data) of the next one, None where the stream ended."""
        event = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            event[name] = value
        self.comments += "" in event
        if "event" in event:
            self.last = event.get("id")
            return event["event"], json.loads(event["data"])
        return self.next() if event else None

    def pieces(self, n):
        got = [self.next() for _ in range(n)]
        assert all(name == "chunk" for name, _ in got), got
        return [data["index"] for _, data in got]

    def close(self):
        self.answer.close()
        self.connection.close()


class Site:
    """One of the programs, running."""

    def __init__(self, name, system, wait_s):
        self.name, self.system, self.port = name, system, free_ports(1)[0]
        self.log = open(f"{system.folder}/{name}.log", "w+b")
        env = {**os.environ, "REDIS_URL": url_of(system), "WAIT_S": str(wait_s), "KEEPALIVE_S": "0.2",
               "NODE_PATH": ROOT + "/build/examples-express/node_modules", "PYTHONDONTWRITEBYTECODE": "1"}
        # A group of its own, since some have children that outlive them.
        self.process = start(["env", *shlex.split(COMMANDS[name].replace("8000", str(self.port)))], cwd=FOLDER, env=env, start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until(self.answers, 40, f"{name} answers")

    def answers(self):
        assert self.process.poll() is None, self.told()
        with contextlib.suppress(OSError):
            return self.ask("GET", "/")[0] == 200

    def told(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def ask(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        with contextlib.closing(connection):
            body = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, body, {**({} if body is None else {"Content-Type": "application/json"}), **dict(headers)})
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if "json" in answer.headers.get("Content-Type", "") else raw.decode()

    def accepted(self, *request):
        status, answer = self.ask(*request)
        assert status == 202 and list(answer) == ["id"], answer
        return answer["id"]

    def result(self, job_id):
        def there():
            status, answer = self.ask("GET", "/jobs/" + job_id)
            assert status in (200, 202), answer
            return status == 200 and answer
        return until(there, 15, f"result {job_id}")

    def events(self, job_id, query="", **headers):
        return Events(self, f"/chat/{job_id}/events{query}", {k.replace("_", "-"): v for k, v in headers.items()})

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.fixture
def server(tmp_path):
    """As everywhere, and at a port."""
    s = RedisServer(tmp_path, "--port", str(free_ports(1)[0]))
    yield s
    s.stop()


@pytest.fixture
def api():
    a = Api()
    yield a
    a.stop()


@pytest.fixture
def wait_s():
    """How long a request waits: with a worker there, longer than any machine takes."""
    return 60


def site_of(name, system, wait_s):
    site = Site(name, system, wait_s)
    try:
        yield site
    except BaseException:
        print(site.told())
        raise
    finally:
        site.stop()


@pytest.fixture(params=COMMANDS)
def site(request, system, wait_s):
    yield from site_of(request.param, system, wait_s)


@pytest.fixture
def fastapi(system, wait_s):
    yield from site_of("FastAPI", system, wait_s)


def test_jobs(site):
    """What goes well, and each kind of fault with the type that the worker gave it."""
    site.system.worker(max_attempts=1)
    assert "EventSource" in site.ask("GET", "/")[1]
    assert site.ask("POST", "/translate", {"text": "Good \"morning\" ɛ\n\U0001f600"}) == (200, {"text": "[tw] Good \"morning\" ɛ\n\U0001f600"})
    assert site.ask("POST", "/translate", {"text": "Good morning", "pair": "en-gaa"}) == (200, {"text": "[gaa] Good morning"})
    for text, status, kind, code in (("", 400, "TranslationError", 400), ("stub(status=401,body=e1)", 502, "AuthenticationError", 401),
                                     ("stub(status=503,body=html)", 503, "APIError", 503)):
        got, answer = site.ask("POST", "/translate", {"text": text})
        assert (got, answer["error"]["type"], answer["error"]["status_code"]) == (status, kind, code), answer
        assert answer["error"]["message"] and len(answer["error"]) == 8
    job_id = site.accepted("POST", "/jobs", {"type": "translate", "text": "Thank you", "language_pair": "en-tw"})
    assert site.result(job_id)["result"]["text"] == "[tw] Thank you"
    job_id = site.accepted("POST", "/jobs", {"type": "taskingai.chat_completion", "params": {"model_id": "TpAb12Cd", "messages": []}})
    assert site.result(job_id)["error"]["service"] == "taskingai"
    uuid.UUID(job_id.removeprefix("taskingai."))


@pytest.mark.parametrize("wait_s", [1])
def test_long_and_cancelled(site):
    """A request that waits too long ends with the id; what is asked for by it comes later, or is called off."""
    site.system.worker()
    site.system.redis.set(Q + "paused", "by the test")
    job_id = site.accepted("POST", "/translate", {"text": "Thank you"})
    assert site.ask("GET", "/jobs/" + job_id) == (202, {"id": job_id})
    site.system.redis.delete(Q + "paused")
    assert site.result(job_id)["result"]["text"] == "[tw] Thank you"
    job_id = site.accepted("POST", "/jobs", {"type": "translate", "text": "x stub(hang)"})
    until(lambda: site.system.stub.count() == 2, what="the call is running")
    assert site.accepted("DELETE", "/jobs/" + job_id) == job_id
    assert site.result(job_id)["error"]["type"] == "CancelledError"


def test_bad_input(site):
    """Never a page of the framework's, a stack, or a job."""
    big = b'{"text":"' + b"x" * (1 << 20) + b'"}'
    for method, path, body, status in (
            ("POST", "/translate", b"", 400), ("POST", "/translate", b"{", 400), ("POST", "/translate", b"[]", 400), ("POST", "/translate", b"null", 400),
            ("POST", "/translate", b"[" * 100000, 400), ("POST", "/translate", b'{"text":"\xff"}', 400), ("POST", "/translate", {"text": 1}, 400),
            ("POST", "/translate", {}, 400), ("POST", "/translate", {"text": "x", "pair": None}, 400), ("POST", "/translate", big, 413),
            ("POST", "/jobs", {"text": "x"}, 400), ("POST", "/jobs", {"type": ["translate"]}, 400), ("POST", "/jobs", {"type": "toString"}, 400),
            ("POST", "/jobs", {"type": "taskingai.delete_assistant", "params": {}}, 400), ("POST", "/jobs", {"type": "transcribe", "audio_path": "x"}, 400),
            ("POST", "/jobs", {"type": "translate", "text": "x", "id": "mine"}, 400), ("POST", "/jobs", b'{"type":"synthesize","text":NaN}', 400),
            ("POST", "/jobs", b'{"type":"taskingai.chat_completion","params":{"temperature":1e999}}', 400),
            ("POST", "/chat", {"model": "TpAb12Cd"}, 400), ("POST", "/chat", {"model": "TpAb12Cd", "message": ["x"]}, 400),
            ("GET", "/jobs/translate.a%7Db", None, 404), ("GET", "/jobs/elsewhere.1", None, 404), ("GET", "/jobs/translate." + "x" * 128, None, 404),
            ("DELETE", "/jobs/1", None, 404), ("GET", "/jobs/translate.a%0A", None, 404), ("GET", "/chat/x/events", None, 404), ("GET", "/no", None, 404),
            ("GET", "/chat/taskingai.x/events?last_event_id=%24", None, 400)):
        got, answer = site.ask(method, path, body)
        assert (got, answer["error"]["status_code"]) == (status, status), (method, path, body and body[:99] if isinstance(body, bytes) else body, answer)
        assert answer["error"]["type"] and answer["error"]["message"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert site.ask("POST", "/jobs", b'{"type":"translate","text":"x"}', {"Content-Type": kind})[0] == 415
    assert site.ask("POST", "/translate", {"text": 1}, {"Content-Type": "Application/JSON; charset=utf-8"})[0] == 400
    assert site.system.redis.keys("*") == []


def connections(system):
    """Those of the program: workers and tests come through the socket."""
    return [c for c in system.redis.client_list() if c["addr"].startswith("127.0.0.1:")]


def followers(system):
    """Connections that ask for more of a stream; one that went back into its pool has asked nothing for a second."""
    return sum(c["cmd"] in ("xread", "lindex") and c["idle"] == "0" for c in connections(system))


def test_stream(site, api):
    """Pieces come as they are sent; who went away in the middle goes on where it was, with neither gap nor repetition."""
    site.system.worker(TASKINGAI_HOST=api.url, max_attempts=2)
    job_id = site.accepted("POST", "/chat", {"model": "TpAb12Cd", "message": "Maakye"})
    reader, answer = site.events(job_id), api.answer()
    assert (reader.status, reader.answer.headers.get_content_type()) == (200, "text/event-stream")
    assert "no-store" in reader.answer.headers["Cache-Control"]
    answer.send(*(piece(i) for i in range(3)))
    assert reader.pieces(3) == [0, 1, 2]
    last = reader.last
    until(lambda: followers(site.system) == 1, what="it waits")
    reader.close()
    answer.send(*(piece(i) for i in range(3, 6)))
    until(lambda: followers(site.system) == 0, what="what the reader held is free")
    held = len(connections(site.system))

    reader = site.events(job_id, "?last_event_id=0-0", Last_Event_ID=last)  # the header is the newer of the two
    answer.send(piece(6))
    assert reader.pieces(4) == [3, 4, 5, 6]
    answer.cut()
    assert reader.next()[0] == "restart"
    api.answer(1).send(piece(10))
    assert reader.pieces(1) == [10]
    before = reader.last
    api.answer(1).finish()
    name, data = reader.next()
    assert (name, data["data"]) == ("done", FINAL) and data == site.result(job_id)["result"]
    assert reader.next() is None and reader.comments > 0
    with contextlib.closing(site.events(job_id, "?last_event_id=" + before)) as again:
        assert [again.next(), again.next()] == [("done", data), None]
    with contextlib.closing(site.events(job_id, Last_Event_ID=reader.last)) as again:
        assert again.status == 204  # a browser does not come again
    reader.close()
    until(lambda: len(connections(site.system)) <= held + 1, what="streams leave no connections behind")  # one more where a pool has one to spare


def test_stream_that_fails(site, api):
    """Called off while it runs; refused before it was begun; and a job that does not stream, which ends in the same words."""
    site.system.worker(TASKINGAI_HOST=api.url)
    job_id = site.accepted("POST", "/chat", {"model": "TpAb12Cd", "message": "Maakye"})
    reader = site.events(job_id)
    api.answer().send(piece(0))
    assert reader.pieces(1) == [0]
    site.accepted("DELETE", "/jobs/" + job_id)
    name, error = reader.next()
    assert (name, error["type"], reader.next()) == ("error", "CancelledError", None)
    reader.close()

    params = {"model_id": "TpAb12Cd", "messages": [], "stream": True}
    for fields, name, kind in (({"type": "taskingai.chat_completion", "params": params}, "error", "InvalidJobError"),
                               ({"type": "translate", "text": ""}, "error", "TranslationError"), ({"type": "translate", "text": "x"}, "done", None)):
        with contextlib.closing(site.events(site.accepted("POST", "/jobs", fields))) as reader:
            got, data = reader.next()
            assert (got, data.get("type"), reader.next()) == (name, kind, None)


def test_redis_comes_back(site):
    """A 503 without it, and all is well with it again; nobody starts anything anew."""
    site.system.worker()
    assert site.ask("POST", "/translate", {"text": "a"})[0] == 200
    site.system.server.kill()
    status, answer = site.ask("POST", "/translate", {"text": "b"})
    assert (status, answer["error"]["status_code"]) == (503, 503)
    site.system.server.start()
    until(lambda: site.ask("POST", "/translate", {"text": "c"}) == (200, {"text": "[tw] c"}), 20, "it works again")


def test_one_connection_for_many_requests(fastapi):
    """However many wait, their results come by one connection; each gets its own."""
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        told = [pool.submit(fastapi.ask, "POST", "/translate", {"text": f"t{i}"}) for i in range(200)]
        until(lambda: fastapi.system.redis.llen(Q + "ready") == 200, 30, "all wait")
        assert len(connections(fastapi.system)) <= 8
        assert sum(c["cmd"] == "blpop" for c in connections(fastapi.system)) == 1
        fastapi.system.worker()
        for i, future in enumerate(told):
            assert future.result() == (200, {"text": f"[tw] t{i}"})


def test_what_was_lost_with_the_connection_is_looked_up(fastapi):
    """A result that was taken from the reply list and never came is found under its own key."""
    redis = fastapi.system.redis
    with concurrent.futures.ThreadPoolExecutor() as pool:
        told = pool.submit(fastapi.ask, "POST", "/translate", {"text": "x"})
        job_id = json.loads(until(lambda: redis.lindex(Q + "ready", 0), what="it waits"))["id"]
        redis.lpush(Q + "result:" + job_id, json.dumps({"id": job_id, "status": "succeeded", "result": {"text": "found"}}))
        collector, = (c["id"] for c in connections(fastapi.system) if c["cmd"] == "blpop")
        redis.client_kill_filter(_id=collector)
        assert told.result() == (200, {"text": "found"})


PAGE = """
let shown = {}, form = {}, events
const listeners = {}
const script = require('fs').readFileSync('chat.html', 'utf8').match(/<script>(.*)<.script>/s)[1]
new Function('document', 'FormData', 'fetch', 'EventSource', script)({getElementById: () => shown, forms: [form]},
	class { *[Symbol.iterator]() { yield ['model', 'm'] } },
	async (path, request) => ({json: async () => JSON.parse(request.body).model === 'm' && {id: 'taskingai.1'}}),
	class { constructor(path) { events = this; this.path = path } addEventListener(name, f) { listeners[name] = f } close() { this.closed = true } })
form.onsubmit({preventDefault() {}, target: form}).then(() => console.log(JSON.stringify([events.path, ...JSON.parse(process.argv[1]).map(
	([name, data]) => { listeners[name](data ? {data: JSON.stringify(data)} : {}); return [shown.textContent, !!events.closed] })])))
"""


def test_page():
    """What it shows, and whether it is through, after each event of a chat."""
    said = [("chunk", piece(0)), ("chunk", piece(1)), ("error", None), ("restart", {"attempt": 2}), ("chunk", piece(2)), ("done", {"data": FINAL})]
    done = subprocess.run(["node", "-e", PAGE, json.dumps(said)], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    path, *shown = json.loads(done.stdout or done.stderr)
    assert path == "/chat/taskingai.1/events"
    assert shown == [["word 0 ", False], ["word 0 word 1 ", False], ["word 0 word 1 ", False], ["", False], ["word 2 ", False], ["Yaa ɛna", True]]


def shell(system, *words, **env):
    """redis-cli.sh: exit code, and what it printed."""
    env = {**os.environ, "REDIS_URL": url_of(system), "WAIT_S": "60", **env}
    done = subprocess.run(["./redis-cli.sh", *words], cwd=FOLDER, env=env, capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout, done.stderr


def test_shell(system, api):
    system.redis.set(Q + "ready", "no list")
    code, said, told = shell(system, "translate", "x")
    assert (code, said) == (1, "") and "WRONGTYPE" in told
    system.redis.delete(Q + "ready")
    system.worker(TASKINGAI_HOST=api.url)
    text = 'Good "morning" \\ ɛ\n{"status":"failed","error":{"type":"x"}}'
    code, said, told = shell(system, "translate", text)
    assert (code, json.loads(said)["result"]["text"], told) == (0, "[tw] " + text, "")
    code, said, told = shell(system, "translate", "x", "")
    assert (code, json.loads(said)["error"]["type"], told) == (1, "TranslationError", "failed: TranslationError\n")

    system.redis.set(Q + "paused", "by the test")
    code, said, _ = shell(system, "translate", "Thank you", "en-gaa", WAIT_S="0.1")
    assert code == 75
    job_id = said.strip()
    assert shell(system, "poll", job_id) == (75, "", "")
    system.redis.delete(Q + "paused")
    system.result("translate", job_id)
    code, said, _ = shell(system, "poll", job_id)
    assert (code, json.loads(said)["result"]["text"]) == (0, "[gaa] Thank you")

    code, said, _ = shell(system, "submit", "translate", '{"text":"stub(hang)"}')
    job_id = said.strip()
    until(lambda: system.stub.count() == 3, what="the call is running")
    assert shell(system, "cancel", job_id) == (0, "", "")
    assert system.result("translate", job_id)["error"]["type"] == "CancelledError"
    code, said, told = shell(system, "poll", job_id)
    assert (code, told) == (1, "failed: CancelledError\n")

    for words in ((), ("translate",), ("poll", "a b"), ("poll", "translate.a*"), ("submit", "translate", "text"), ("follow", "x"), ("chat", "TpAb12Cd")):
        code, said, told = shell(system, *words)
        assert (code, said) == (2, "") and "TEXT [PAIR]" in told, (words, told)
    assert shell(system, "translate", "x", REDIS_URL="redis://127.0.0.1:1/0")[0] == 1
    assert system.redis.llen(Q + "ready") == 0


def test_shell_follows(system, api):
    """Each event as it comes, and from any of them on."""
    system.worker(TASKINGAI_HOST=api.url)
    env = {**os.environ, "REDIS_URL": url_of(system)}
    follower = start(["./redis-cli.sh", "chat", "TpAb12Cd", "Maakye"], cwd=FOLDER, env=env, stdout=subprocess.PIPE, text=True)

    def line():
        assert select.select([follower.stdout], [], [], 10 * SLOW)[0], "no event"
        return follower.stdout.readline().rstrip().split(" ", 2)

    lines = []
    for i in range(3):
        api.answer().send(piece(i))
        lines.append(line())
        assert (lines[i][1], json.loads(lines[i][2])["index"]) == ("chunk", i)
    api.answer().finish()
    lines.append(line())
    assert lines[3][1] == "done" and json.loads(lines[3][2])["data"] == FINAL
    assert follower.wait(10 * SLOW) == 0
    job_id = system.redis.keys("adwuma:{taskingai}:result:*")[0].decode().split(":result:")[1]
    code, said, _ = shell(system, "follow", job_id, lines[1][0])
    assert code == 0 and [x.split(" ", 2) for x in said.splitlines()] == lines[2:]

    for fields, last in (('"messages":[],"stream":true', "error"), ('"messages":[]', None)):  # refused; and one that does not stream
        _, said, _ = shell(system, "submit", "taskingai.chat_completion", '{"params":{"model_id":"TpAb12Cd",%s}}' % fields)
        code, said, told = shell(system, "follow", said.strip())
        assert code == 1 and "InvalidJobError" in said and (said.split(" ")[1] == last if last else told == "failed: InvalidJobError\n")
