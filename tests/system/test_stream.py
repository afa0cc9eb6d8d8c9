"""Streams on their way from the API into Redis, piece by piece: as they come, in order, once, whoever dies in between.

The API here is of a few lines: each request is held by the test, which says byte by byte what it is answered."""
import json
import queue
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import BUILD, SLOW, System, until

Q = "adwuma:{taskingai}:"
FINAL = {"object": "ChatCompletion", "finish_reason": "stop", "message": {"role": "assistant", "content": "Yaa ɛna"}, "usage": {"input_tokens": 9, "output_tokens": 4}}
DONE = b"data: [DONE]\n\n"


def event(data):
    return f"data: {json.dumps(data)}\n\n".encode()


def piece(i):
    return {"object": "ChatCompletionChunk", "role": "assistant", "index": i, "delta": f"word {i} ", "created_timestamp": i}


class Answer:
    """One request, and what it is told."""

    def __init__(self, path, body):
        self.path, self.body = path, body
        self.orders, self.gone = queue.Queue(), threading.Event()

    def send(self, *events):
        self.orders.put(b"".join(e if isinstance(e, bytes) else event(e) for e in events))

    def end(self):
        self.orders.put("end")

    def cut(self):
        self.orders.put("cut")

    def finish(self, final=FINAL):
        self.send(final, DONE)
        self.end()


class Api:
    def __init__(self):
        self.answers = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                answer = Answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                api.answers.append(answer)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                threading.Thread(target=self.watch, args=(answer,), daemon=True).start()
                self.obey(answer)

            def watch(self, answer):
                """A peer that is gone is told by the end of what it sends."""
                try:
                    if not self.connection.recv(1, socket.MSG_PEEK):
                        answer.gone.set()
                except OSError:
                    answer.gone.set()

            def obey(self, answer):
                while (order := answer.orders.get()) not in ("end", "cut"):
                    try:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(order), order))
                        self.wfile.flush()
                    except OSError:
                        answer.gone.set()
                if order == "end":
                    try:
                        self.wfile.write(b"0\r\n\r\n")
                    except OSError:
                        answer.gone.set()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR) if order == "cut" else None

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, i=0):
        until(lambda: len(self.answers) > i, 20, f"request {i} came")
        return self.answers[i]

    def stop(self):
        for a in self.answers:
            a.cut()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api():
    a = Api()
    yield a
    a.stop()


class Streams:
    """A system whose workers do TaskingAI jobs against the API of the test."""

    def __init__(self, system, api):
        self.system, self.redis, self.api = system, system.redis, api

    def worker(self, **settings):
        return self.system.worker(**{"TASKINGAI_HOST": self.api.url, "queues": "taskingai", "lease_ms": 1000, "threads": 4, **settings})

    def push(self, job_id="s", operation="chat_completion", more=None, **fields):
        params = {"chat_completion": {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "hi"}]},
                  "generate_message": {"assistant_id": "X5lM", "chat_id": "SdEL"}}[operation]
        self.system.push("taskingai", {"id": job_id, "type": "taskingai." + operation, "params": {**params, "stream": True, **(more or {})}, **fields})

    def entries(self, job_id="s"):
        return [(e[b"event"].decode(), json.loads(e[b"data"])) for _, e in self.redis.xrange(Q + "stream:" + job_id)]

    def events(self, job_id="s"):
        """Pieces by their number, the others by their name."""
        return [data["index"] if name == "chunk" else name for name, data in self.entries(job_id)]

    def await_events(self, wanted, job_id="s", seconds=10):
        until(lambda: self.events(job_id) == wanted, seconds, f"{wanted}, got {self.events(job_id)}")

    def result(self, job_id="s", seconds=15):
        return self.system.result("taskingai", job_id, seconds)


@pytest.fixture
def streams(tmp_path, stub, server, api):
    s = System(tmp_path, stub, server)
    yield Streams(s, api)
    s.finish()


@pytest.fixture
def durable_streams(durable, api):
    return Streams(durable, api)


@pytest.mark.core
def test_pieces_come_as_they_come_and_the_result_ends_them(streams):
    streams.worker()
    streams.push(result_ttl_s=500)
    a = streams.api.answer()
    for i in range(3):
        a.send(piece(i))
        streams.await_events(list(range(i + 1)))
    assert streams.redis.get(Q + "cursor:s").endswith(b" 3") and 0 < streams.redis.ttl(Q + "cursor:s") <= 500
    assert 0 < streams.redis.ttl(Q + "stream:s") <= 500 and not streams.redis.exists(Q + "result:s")
    a.finish()
    r = streams.result()
    assert r["status"] == "succeeded" and r["result"] == {"data": FINAL} and r["attempts"] == 1 and r["billed"] == {"request": 1, "token": 13}
    assert streams.entries() == [*(("chunk", piece(i)) for i in range(3)), ("done", {"data": FINAL})]
    assert not streams.redis.exists(Q + "cursor:s") and 0 < streams.redis.ttl(Q + "stream:s") <= 500
    assert streams.redis.hget(Q + "billed", "token") == b"13"


@pytest.mark.core
def test_many_pieces_at_once_take_few_trips_and_the_stream_is_trimmed(streams):
    streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    before = streams.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    a.send(*(piece(i) for i in range(1, 25001)))
    until(lambda: streams.redis.xrevrange(Q + "stream:s", count=1)[0][1][b"data"] == json.dumps(piece(25000)).encode(), 30, "all are there")
    trips = streams.redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert trips < 5000, trips
    a.finish()
    assert streams.result()["status"] == "succeeded"
    got = streams.events()
    assert 20000 <= len(got) < 20500 and got[:-1] == list(range(25001 - len(got) + 1, 25001)) and got[-1] == "done"


@pytest.mark.core
def test_an_attempt_that_breaks_off_restarts(streams):
    streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0), piece(1))
    streams.await_events([0, 1])
    a.cut()
    streams.await_events([0, 1, "restart"])
    assert streams.entries()[-1] == ("restart", {"attempt": 2}) and streams.redis.zcard(Q + "delayed") == 1
    b = streams.api.answer(1)
    b.send(piece(0))
    b.finish()
    assert streams.result()["attempts"] == 2
    assert streams.events() == [0, 1, "restart", 0, "done"]


def test_the_last_attempt_ends_in_one_error(streams):
    streams.worker()
    streams.push(max_attempts=1)
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    a.cut()
    r = streams.result()
    assert (r["error"]["type"], r["error"]["code"], r["error"]["status_code"], r["error"]["retryable"]) == ("TaskingAIError", "truncated", 200, True)
    assert streams.entries()[1:] == [("error", r["error"])]


@pytest.mark.core
def test_a_worker_dies_in_the_middle(streams):
    victim = streams.worker()
    streams.push()
    streams.api.answer().send(piece(0), piece(1))
    streams.await_events([0, 1])
    victim.kill()
    streams.worker()
    b = streams.api.answer(1)
    b.send(piece(0))
    streams.await_events([0, 1, "restart", 0])
    assert streams.entries()[2] == ("restart", {"attempt": 1})  # the try that was cut off does not count
    b.finish()
    assert streams.result()["status"] == "succeeded" and streams.events() == [0, 1, "restart", 0, "done"]


@pytest.mark.core
def test_a_worker_that_was_thought_dead_writes_no_more_pieces(streams):
    sleeper = streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    sleeper.send(signal.SIGSTOP)
    streams.worker()
    b = streams.api.answer(1)
    b.send(piece(10))
    streams.await_events([0, "restart", 10])
    sleeper.send(signal.SIGCONT)
    a.send(piece(1))
    a.finish()
    until(lambda: streams.system.stats("taskingai").get("fenced"), 20, "its result is refused")
    assert streams.events() == [0, "restart", 10] and not streams.redis.exists(Q + "result:s")
    b.send(piece(11))
    b.finish()
    assert streams.result()["status"] == "succeeded" and streams.events() == [0, "restart", 10, 11, "done"]


def test_redis_restarts_in_the_middle_and_no_piece_is_missing_or_there_twice(durable_streams):
    s = durable_streams
    s.worker(lease_ms=5000)
    s.push()
    a = s.api.answer()
    a.send(piece(0))
    s.await_events([0])
    s.system.server.kill()
    a.send(*(piece(i) for i in range(1, 50)))
    s.system.server.start()
    a.send(piece(50))
    s.await_events(list(range(51)), seconds=30)
    s.system.server.kill()
    a.send(piece(51))
    a.finish()
    s.system.server.start()
    r = s.result(seconds=30)
    assert r["status"] == "succeeded" and r["attempts"] == 1 and s.events() == [*range(52), "done"] and len(s.api.answers) == 1


def test_a_lost_reply_writes_no_piece_twice(tmp_path, stub, server, api):
    from conftest import Wire
    system = System(tmp_path, stub, server)
    wire = Wire(tmp_path, server.socket)
    s = Streams(system, api)
    try:
        s.worker(ADWUMA_REDIS_URL="unix://" + wire.path, lease_ms=5000)
        s.push()
        a = api.answer()
        wire.lose_every = 29
        for i in range(60):
            a.send(piece(i))
            until(lambda i=i: s.events()[-1:] == [i], 20, f"piece {i}, got {s.events()[-3:]}")
        wire.lose_every = 0
        a.finish()
        assert s.result(seconds=30)["status"] == "succeeded" and s.events() == [*range(60), "done"] and wire.lost > 1 and len(api.answers) == 1
    finally:
        system.finish()
        wire.stop()


def test_a_full_redis_takes_the_pieces_of_what_is_paid_for(streams):
    streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    streams.redis.config_set("maxmemory", 1)
    a.send(piece(1))
    streams.await_events([0, 1])
    a.finish()
    until(lambda: streams.redis.exists(Q + "result:s"), 10, "its result is there")
    assert streams.events() == [0, 1, "done"]
    streams.redis.config_set("maxmemory", 0)
    assert streams.result()["status"] == "succeeded"


@pytest.mark.core
def test_cancelling_stops_the_stream(streams):
    streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    begin = time.monotonic()
    streams.redis.zadd(Q + "cancelled", {"s": int(time.time() * 1000)})
    r = streams.result()
    assert time.monotonic() - begin < 2 * SLOW and a.gone.wait(5)
    assert r["error"]["type"] == "CancelledError" and streams.entries()[1:] == [("error", r["error"])] and len(streams.api.answers) == 1


def test_what_must_not_be_repeated_is_not(streams):
    streams.worker()
    streams.push(operation="generate_message")
    a = streams.api.answer()
    assert a.path == "/v1/assistants/X5lM/chats/SdEL/generate"
    a.send({"object": "MessageChunk", "role": "assistant", "index": 0, "delta": "x", "created_timestamp": 1})
    streams.await_events([0])
    a.cut()
    r = streams.result()
    assert (r["error"]["type"], r["error"]["retryable"], r["error"]["status_code"], r["error"]["code"]) == ("UnknownOutcomeError", False, 200, "truncated")
    assert streams.events() == [0, "error"] and len(streams.api.answers) == 1


def test_a_death_in_the_middle_of_what_must_not_be_repeated(streams):
    victim = streams.worker()
    streams.push(operation="generate_message")
    streams.api.answer().send(piece(0))
    streams.await_events([0])
    victim.kill()
    streams.worker()
    r = streams.result()
    assert r["error"]["type"] == "UnknownOutcomeError" and streams.entries()[1:] == [("error", r["error"])] and len(streams.api.answers) == 1


def test_the_job_that_kills_its_workers_ends_its_stream_too(streams):
    for i in range(2):
        victim = streams.worker(max_crashes=2)
        streams.push() if i == 0 else None
        streams.api.answer(i)
        victim.kill()
    streams.worker(max_crashes=2)
    r = streams.result()
    assert r["error"]["type"] == "WorkerCrashError" and streams.entries() == [("error", r["error"])]


def test_a_second_term_gives_the_job_to_another(streams):
    w = streams.worker(drain_timeout_s=60)
    streams.push()
    streams.api.answer().send(piece(0))
    streams.await_events([0])
    w.send(signal.SIGTERM)
    until(lambda: "stopping" in w.log(), 10, "it stops")
    w.send(signal.SIGTERM)
    until(lambda: w.process.poll() is not None, 10, "it is gone")
    streams.worker()
    b = streams.api.answer(1)
    b.finish()
    r = streams.result()
    assert r["status"] == "succeeded" and r["attempts"] == 1 and streams.events() == [0, "restart", "done"]


def test_a_second_term_while_redis_is_away_loses_no_piece_of_a_whole_answer(durable_streams):
    s = durable_streams
    w = s.worker(lease_ms=10000)
    s.push()
    a = s.api.answer()
    a.send(piece(0))
    s.await_events([0])
    s.system.server.kill()
    a.send(*(piece(i) for i in range(1, 50)), FINAL, DONE)
    until(a.gone.is_set, 10, "the answer is read: who has it hangs up")
    w.send(signal.SIGTERM)
    until(lambda: "stopping" in w.log(), 10, "it stops")
    w.send(signal.SIGTERM)
    until(lambda: "handing running jobs back" in w.log(), 10, "it hurries")
    time.sleep(1)  # so long Redis stays away
    s.system.server.start()
    assert w.process.wait(20) == 0
    assert s.result()["status"] == "succeeded" and s.events() == [*range(50), "done"] and len(s.api.answers) == 1


def test_a_stream_key_of_a_wrong_type_holds_the_result(streams):
    w = streams.worker()
    streams.redis.set(Q + "stream:s", "mine")
    streams.push()
    a = streams.api.answer()
    a.send(piece(0))
    a.finish()
    until(lambda: "a key has a wrong type" in w.log(), 10, "it is told")
    assert streams.redis.get(Q + "stream:s") == b"mine" and not streams.redis.exists(Q + "result:s")
    streams.redis.delete(Q + "stream:s")
    assert streams.result()["status"] == "succeeded" and streams.events() == ["done"]


@pytest.mark.core
def test_silence_is_bounded_and_not_the_whole_time(streams):
    streams.worker()
    streams.push(timeout_ms=600 * SLOW, max_attempts=1)
    a = streams.api.answer()
    begin = time.monotonic()
    i = 0
    while time.monotonic() - begin < 1.5 * 0.6 * SLOW:  # longer than the limit, but never silent for as long
        a.send(piece(i))
        i += 1
        streams.await_events(list(range(i)))
    r = streams.result()
    assert (r["error"]["code"], r["error"]["status_code"]) == ("timeout", 200) and streams.events() == [*range(i), "error"] and a.gone.wait(5)


def test_a_dead_job_that_is_tried_again_restarts_its_stream(streams):
    streams.worker()
    streams.push(max_attempts=1)
    a = streams.api.answer()
    a.send(piece(0))
    streams.await_events([0])
    a.cut()
    assert streams.result()["status"] == "failed"
    subprocess.run([BUILD + "/adwuma", "dead", "retry", "s", "--queue", "taskingai"], env=streams.system.env(), check=True, timeout=20 * SLOW, stdout=subprocess.DEVNULL)
    b = streams.api.answer(1)
    b.finish()
    until(lambda: streams.redis.exists(Q + "result:s"), 10, "its result is there")
    assert streams.result()["status"] == "succeeded" and streams.events() == [0, "error", "restart", "done"]


def test_a_server_that_does_not_hang_up_after_the_end_holds_nobody(streams):
    streams.worker()
    streams.push()
    a = streams.api.answer()
    a.send(piece(0), FINAL, DONE)  # and no end
    begin = time.monotonic()
    assert streams.result()["status"] == "succeeded" and time.monotonic() - begin < 3 * SLOW


def test_a_job_that_is_refused_ends_its_stream_too(streams):
    streams.worker()
    streams.push(more={"nonsense": 1})
    r = streams.result()
    assert r["error"]["type"] == "InvalidJobError" and streams.entries() == [("error", r["error"])]
