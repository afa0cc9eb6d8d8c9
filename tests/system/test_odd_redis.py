"""A Redis, a sentinel, a cluster that give answers which no real one should give, or only in its worst moments: what is not known is not taken for known."""
import json
import socketserver
import subprocess
import threading
import time

import pytest
from conftest import BUILD, SLOW, until


def bulk(text):
    text = str(text).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


def array(*parts):
    return b"*%d\r\n%s" % (len(parts), b"".join(parts))


def number(n):
    return b":%d\r\n" % n


def error(text):
    return f"-{text}\r\n".encode()


NIL = b"$-1\r\n"
INFO = "redis_version:7.0.0\r\nrole:master\r\nuptime_in_seconds:5\r\nredis_mode:cluster"


class Odd:
    """Speaks RESP. The test's says(words) gives the answer to a command, in pieces where it is no bytes, or None for the ordinary one."""

    def __init__(self, says):
        self.commands, self.sent = [], 0
        odd = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while line := self.rfile.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2].decode())
                    odd.commands.append(words)
                    answer = says(words) or odd.ordinary(words)
                    for piece in [answer] if isinstance(answer, bytes) else answer:
                        self.wfile.write(piece)
                        odd.sent += len(piece)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients hang up as they like
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def ordinary(self, words):
        match words[0].upper(), words[1].upper() if len(words) > 1 else "":
            case "INFO", _:
                return bulk(INFO)
            case "SCRIPT", _:
                return bulk("a" * 40)
            case "TIME", _:
                return array(bulk(1700000000), bulk(0))
            case "CLUSTER", "SLOTS":
                return array(array(number(0), number(16383), array(bulk("127.0.0.1"), number(self.port), bulk("x" * 40))))
            case ("AUTH" | "SELECT" | "CLIENT" | "ASKING" | "EXPIRE"), _:
                return b"+OK\r\n"
        return error("ERR what?")

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def odd():
    made = []

    def make(says):
        made.append(Odd(says))
        return made[-1]
    yield make
    for o in made:
        o.stop()


@pytest.fixture
def run(system):
    def call(url, *args, seconds=30):
        return subprocess.run([BUILD + "/adwuma", *args], env=system.env(redis_url=url), capture_output=True, text=True, timeout=seconds * SLOW, check=False)
    return call


# --- Errors that hide what is there. ----------------------------------------------------------------------------------------


def one_worker(slot):
    """A queue with one worker, whose slots give this answer; nothing is anywhere else."""
    def says(words):
        match words[0]:
            case "ZRANGE" if words[1].endswith(":workers"):
                return array(bulk("w1"))
            case "ZRANGE" | "ZRANGEBYSCORE" | "LRANGE":
                return array()
            case "ZCARD" | "ZCOUNT" | "LPUSH":
                return number(1)
            case "HGET":
                return bulk(2)
            case "EXISTS" | "LLEN":
                return number(0)
            case "LINDEX" if ":slot:" in words[1]:
                return slot
            case "LINDEX" | "BLMOVE":
                return NIL
        return None
    return says


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.parametrize("text", ["CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys", "LOADING Redis is loading"])
def test_a_job_whose_slot_cannot_be_read_is_not_called_unknown(odd, run, scheme, text):
    o = odd(one_worker(error(text)))
    done = run(f"{scheme}://127.0.0.1:{o.port}", "result", "x1", "--queue", "translate")
    assert done.returncode == 69 and text.split(" ", maxsplit=1)[0] in done.stderr and "unknown" not in done.stderr, done.stderr


def test_a_slot_that_can_be_read_is_found(odd, run):
    o = odd(one_worker(bulk(json.dumps({"id": "x1", "text": "a"}))))
    assert "running" in run(f"redis+cluster://127.0.0.1:{o.port}", "result", "x1", "--queue", "translate").stderr


def test_batch_does_not_push_what_it_cannot_find(odd, system, tmp_path):
    o = odd(one_worker(error("CLUSTERDOWN The cluster is down")))
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "x1", "type": "translate", "text": "a"}) + "\n")
    command = [BUILD + "/adwuma", "batch", "in.jsonl", "-o", "out.jsonl"]
    p = subprocess.Popen(command, cwd=tmp_path, env=system.env(redis_url=f"redis+cluster://127.0.0.1:{o.port}"), stderr=subprocess.DEVNULL)
    try:
        p.wait(3 * SLOW)
    except subprocess.TimeoutExpired:
        p.kill()
        p.wait()
    assert any(c[0] == "LINDEX" and ":slot:" in c[1] for c in o.commands), "it looked"
    assert not [c for c in o.commands if c[0] == "LPUSH"]


def test_a_key_of_another_type_in_the_place_of_a_slot_is_no_slot(odd, run):
    o = odd(one_worker(error("WRONGTYPE Operation against a key")))
    assert "unknown" in run(f"redis://127.0.0.1:{o.port}", "result", "x1", "--queue", "translate").stderr


@pytest.mark.parametrize("seconds, us", [(9223372036854775807, 0), (-1, 0), (1700000000, 1000000), ("", "")])
def test_a_time_that_is_none_is_told_as_such(odd, run, seconds, us):
    o = odd(lambda words: array(bulk(seconds), bulk(us)) if words[0] == "TIME" else None if words[0] == "INFO" else number(0))
    done = run(f"redis://127.0.0.1:{o.port}", "stats")
    assert done.returncode == 69 and "TIME has no time" in done.stderr, (done.stdout, done.stderr)


# --- Answers that do not end. -----------------------------------------------------------------------------------------------


def trickle():
    """A byte now and then, so that no read ever waits for long."""
    yield b"$1000\r\n"
    for _ in range(1000):
        time.sleep(0.5)
        yield b"x"


MANY = 64 << 20


def endless():
    yield b"$999999999\r\n"
    for _ in range(MANY >> 20):
        yield b"x" * (1 << 20)


def after(seconds, answer):
    time.sleep(seconds)
    yield answer


def names(master):
    return array(bulk("127.0.0.1"), bulk(master.port))


def pushed(o):
    return [c for c in o.commands if c[0] == "LPUSH"]


@pytest.mark.parametrize("answer", [trickle, endless])
@pytest.mark.parametrize("scheme,command", [("redis+sentinel", "SENTINEL"), ("redis+sentinel", "INFO"), ("redis+cluster", "CLUSTER")])
def test_whoever_does_not_end_an_answer_is_left_for_the_next(odd, run, scheme, command, answer):
    """One that is asked where the master is, or is named as the master."""
    well = odd(one_worker(NIL))
    sick = odd(lambda words: answer() if words[0] == command else None)
    liar = odd(lambda words: names(sick) if words[0] == "SENTINEL" else None)
    knows = odd(lambda words: names(well) if words[0] == "SENTINEL" else None)
    first, second = liar if command == "INFO" else sick, well if scheme == "redis+cluster" else knows
    tail = "" if scheme == "redis+cluster" else "/m"
    done = run(f"{scheme}://127.0.0.1:{first.port},127.0.0.1:{second.port}{tail}", "translate", "x", "--no-wait", seconds=15)
    assert done.returncode == 0 and pushed(well), done.stderr
    assert sick.commands and sick.sent < MANY // 2


def test_opening_has_one_limit_for_all_its_steps(odd, run):
    """Each answer comes within it, all of them do not."""
    late, well = odd(one_worker(NIL)), odd(one_worker(NIL))
    slow = odd(lambda words: after(1.2, names(late) if words[0] == "SENTINEL" else b"+PONG\r\n"))
    knows = odd(lambda words: names(well) if words[0] == "SENTINEL" else b"+PONG\r\n" if words[0] == "PING" else None)
    done = run(f"redis+sentinel://:p@127.0.0.1:{slow.port},127.0.0.1:{knows.port}/m", "translate", "x", "--no-wait")
    assert done.returncode == 0 and pushed(well) and not pushed(late), done.stderr
    assert [c[0] for c in slow.commands[:2]] == ["PING", "SENTINEL"]


def test_a_worker_that_starts_is_ended_though_an_answer_trickles(odd, system):
    sick = odd(lambda words: trickle() if words[0] == "SENTINEL" else None)
    w = system.worker(wait=False, redis_url=f"redis+sentinel://127.0.0.1:{sick.port}/m")
    until(lambda: sick.commands, 10, "it is asked")
    w.process.terminate()
    assert w.process.wait(5 * SLOW) == 0


def test_an_answer_that_trickles_is_no_answer(odd, run):
    says = one_worker(NIL)
    o = odd(lambda words: trickle() if words[0] == "LINDEX" else says(words))
    done = run(f"redis+cluster://127.0.0.1:{o.port}", "result", "x1", "--queue", "translate", seconds=15)
    assert done.returncode == 69 and "no answer in time" in done.stderr, done.stderr


def test_a_long_answer_over_a_slow_link_is_waited_for(odd, run):
    """For longer than the 5 s that an answer has to begin."""
    job = bulk(json.dumps({"id": "x1", "text": "a" * 600000}))

    def slowly():
        for i in range(0, len(job), 10000):
            time.sleep(0.1)
            yield job[i:i + 10000]
    says = one_worker(NIL)
    o = odd(lambda words: slowly() if words[0] == "LINDEX" and ":slot:" in words[1] else says(words))
    assert "running" in run(f"redis+cluster://127.0.0.1:{o.port}", "result", "x1", "--queue", "translate").stderr


# --- A cluster's odd answers. -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [
    array(number(7)), array(array(number(0), number(16384), array(bulk("127.0.0.1"), number(1)))), array(array(number(5), number(1), array(bulk("127.0.0.1"), number(1)))),
    array(array(number(0), number(16383))), array(array(number(0), number(16383), array(bulk("127.0.0.1"), number(0)))),
    array(array(number(0), number(16383), array(bulk("127.0.0.1"), number(70000)))), array(), bulk("no"),
], ids=["a number", "beyond the last slot", "backwards", "nobody", "port 0", "port 70000", "nothing", "text"])
def test_a_map_without_a_usable_range_is_told_as_such(odd, run, slots):
    o = odd(lambda words: slots if words[0] == "CLUSTER" else None)
    done = run(f"redis+cluster://127.0.0.1:{o.port}", "stats")
    assert done.returncode == 69 and "it knows of no slots yet" in done.stderr, done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["named", "the same host"])
def test_ask_is_followed_with_and_without_a_host(odd, run, host):
    there = odd(lambda words: bulk('{"id":"x1","status":"succeeded","result":{"text":"there"}}') if words[0] == "LINDEX" and ":result:" in words[1] else None)
    here = odd(lambda words: error(f"ASK 5 {host}:{there.port}") if words[0] == "LINDEX" else None)
    done = run(f"redis+cluster://127.0.0.1:{here.port}", "result", "x1", "--queue", "translate")
    assert "there" in done.stdout, done.stderr
    asking = [c[0] for c in there.commands].index("ASKING")
    assert there.commands[asking + 1][0] == "LINDEX"


def test_two_that_send_us_to_each_other_come_to_an_end(odd, run):
    ports = []
    pair = [odd(lambda words, other=1 - i: error(f"MOVED 5 127.0.0.1:{ports[other]}") if words[0] == "LINDEX" else None) for i in range(2)]
    ports += [o.port for o in pair]
    done = run(f"redis+cluster://127.0.0.1:{ports[0]}", "result", "x1", "--queue", "translate")
    assert done.returncode == 69 and "MOVED" in done.stderr, done.stderr
    assert sum(c[0] == "LINDEX" for o in pair for c in o.commands) < 100


# --- A sentinel's. ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [array(bulk("127.0.0.1"), bulk(0)), array(bulk("127.0.0.1"), bulk("junk")), array(bulk("127.0.0.1"), bulk(-5)), array(bulk("127.0.0.1"), bulk(65536 + 80)),
                                   array(bulk(""), bulk(6379)), array(bulk("x" * 300), bulk(6379)), array(bulk("127.0.0.1")), array(), number(1)],
                         ids=["port 0", "no number", "negative", "too large", "no host", "long host", "no port", "nothing", "a number"])
def test_a_sentinel_that_names_no_place_is_told_as_such(odd, run, named):
    o = odd(lambda words: named if words[0] == "SENTINEL" else None)
    done = run(f"redis+sentinel://127.0.0.1:{o.port}/m", "stats")
    assert done.returncode == 69 and "answer of another shape" in done.stderr, done.stderr
