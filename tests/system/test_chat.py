"""adwuma chat, call and operations: with workers and the stub, and alone."""
import json
import os
import select
import signal
import subprocess
import time

import pytest
from conftest import BUILD, SLOW, until

Q = "adwuma:{taskingai}:"
CHAT = ["chat", "--model", "TpAb12Cd"]


@pytest.fixture
def run(system):
    def run(*args, stdin=b"", **settings):
        done = subprocess.run([BUILD + "/adwuma", *args], env=system.env(**settings), input=stdin, capture_output=True, timeout=60 * SLOW)
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        return done
    return run


@pytest.fixture
def begin(system):
    """A command whose output is read while it runs."""
    begun = []

    def begin(*args, **settings):
        p = subprocess.Popen([BUILD + "/adwuma", *args], env=system.env(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        begun.append(p)
        return p
    yield begin
    for p in begun:
        p.kill()
        p.communicate()


def read(p, wanted, seconds=10):
    """What it prints, until that has come."""
    got, deadline = b"", time.monotonic() + seconds * SLOW
    while wanted.encode() not in got:
        assert select.select([p.stdout], [], [], max(0, deadline - time.monotonic()))[0], f"no {wanted!r}, only {got!r}"
        piece = os.read(p.stdout.fileno(), 4096)
        assert piece, f"no {wanted!r}, only {got!r}"
        got += piece
    return got.decode()


# --- chat ---

def test_an_answer_is_printed(system, run):
    system.worker()
    done = run(*CHAT, "Yaa ɛna \U0001f30d", "two")
    assert (done.returncode, done.out, done.err) == (0, "Echo: Yaa ɛna \U0001f30d\nEcho: two\n", "")
    assert [c["stream"] for c in system.stub.calls()] == [True, True]


def test_pieces_are_printed_as_they_come(system, begin):
    system.worker()
    p = begin(*CHAT, "one two three stub(pace=1500)")
    read(p, "Echo: ")
    assert not system.redis.keys(Q + "result:*"), "long before the end"
    p.communicate(timeout=20 * SLOW)
    assert p.returncode == 0


def test_an_attempt_that_breaks_off_is_told(system, run):
    system.worker()
    done = run(*CHAT, "a b stub(end=cut,times=1)")
    assert (done.returncode, done.out) == (0, "Echo: a b\nEcho: a b\n") and "adwuma: the attempt broke off; the answer begins anew" in done.err


@pytest.mark.parametrize("way", ["worker", "direct"])
def test_the_last_word_counts(system, run, way):
    system.worker()
    done = run(*CHAT, *(["--direct"] if way == "direct" else []), "a stub(astral)")
    assert done.returncode == 0 and done.out.endswith("\nEcho: a\n") and "\U0001f600" in done.out and "its last word is another" in done.err


@pytest.mark.parametrize("way", ["worker", "direct"])
def test_a_failure_is_told(system, run, way):
    system.worker()
    done = run(*CHAT, *(["--direct"] if way == "direct" else []), "a b stub(stream_error=2,code=PROVIDER_ERROR,message=no money)")
    assert done.returncode == 1 and done.out == "Echo: \n" and "failed: TaskingAIError (200): no money" in done.err and "code: PROVIDER_ERROR" in done.err


def test_json_and_no_stream(system, run):
    system.worker()
    r = json.loads(run(*CHAT, "--json", "x").out)
    assert r["type"] == "taskingai.chat_completion" and r["result"]["data"]["message"]["content"] == "Echo: x" and r["result"]["data"]["finish_reason"] == "stop"
    done = run(*CHAT, "--no-stream", "--system", "be short", "-", stdin=b"x\n")
    assert (done.returncode, done.out) == (0, "Echo: x\n")
    assert not system.stub.calls()[-1].get("stream") and "be short" in system.stub.calls()[-1]["text"]


def test_an_assistant_and_an_unknown_model(system, run):
    system.worker()
    assert "404" in run("chat", "--model", "X5lMzzzzzzzzzzzzzzzzzzzz", "x").err
    done = run("chat", "x")
    assert done.returncode == 2 and "--model M is needed" in done.err and not system.redis.keys(Q + "ready")


def test_ctrl_c_cancels(system, begin):
    system.worker()
    p = begin(*CHAT, "one two three stub(pace=60000)", "the second")
    read(p, "Echo: ")
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=20 * SLOW)
    assert p.returncode == -signal.SIGINT and err.decode().count("is cancelled") == 2
    until(lambda: len(system.redis.keys(Q + "result:*")) == 2, 10, "both have ended")
    kinds = {json.loads(system.redis.lindex(k, 0)).get("error", {}).get("type") for k in system.redis.keys(Q + "result:*")}
    assert "CancelledError" in kinds


def test_it_gives_up_in_time_and_hints_at_workers(run):
    done = run(*CHAT, "--timeout", "3", "x")
    assert done.returncode == 75 and "no worker serves a queue taskingai now" in done.err and "no result within 3 s" in done.err


def test_no_wait_prints_the_id(system, run):
    done = run(*CHAT, "--no-wait", "x")
    assert done.returncode == 0 and system.redis.llen(Q + "ready") == 1 and json.loads(system.redis.lindex(Q + "ready", 0))["id"] == done.out.strip()


def test_redis_goes_away_and_comes_back(durable):
    durable.worker(lease_ms=5000)
    p = subprocess.Popen([BUILD + "/adwuma", *CHAT, "one two three stub(pace=1500)"], env=durable.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    read(p, "Echo: ")
    durable.server.kill()
    durable.server.start()
    out, err = p.communicate(timeout=40 * SLOW)
    assert p.returncode == 0 and out.decode().endswith("three\n"), (out, err)


def test_direct_without_redis(system, run):
    done = run(*CHAT, "--direct", "Yaa ɛna", redis_url="redis://127.0.0.1:1")
    assert (done.returncode, done.out, done.err) == (0, "Echo: Yaa ɛna\n", "")
    done = run(*CHAT, "--direct", "a b stub(end=cut,times=1)", redis_url="redis://127.0.0.1:1")
    assert (done.returncode, done.out) == (0, "Echo: a b\nEcho: a b\n") and "begins anew" in done.err
    done = run(*CHAT, "--direct", "x", TASKINGAI_HOST="http://127.0.0.1:1", max_attempts=2)
    assert done.returncode == 69 and "does TASKINGAI_HOST name the right place" in done.err
    done = run(*CHAT, "--direct", "x", TASKINGAI_API_KEY=None)
    assert done.returncode == 1 and "AuthenticationError (401)" in done.err and "TASKINGAI_API_KEY or TASKINGAI_API_KEY_FILE gives the key" in done.err


# --- call ---

def make_assistant(run, *more):
    done = run("call", "taskingai.create_assistant", *more, "--params",
               '{"model_id":"TpAb12Cd","memory":{"type":"message_window","max_messages":20,"max_tokens":2000}}')
    assert done.returncode == 0, done.err
    return json.loads(done.out)["data"]["assistant_id"]


@pytest.mark.parametrize("way", ["worker", "direct"])
def test_a_conversation(system, run, way):
    system.worker()
    more = ["--direct"] if way == "direct" else []

    def call(operation, **params):
        done = run("call", "taskingai." + operation, *more, "-p", json.dumps(params))
        assert done.returncode == 0 and done.out.count("\n") == 1, done.err
        return json.loads(done.out)

    a = make_assistant(run, *more)
    c = call("create_chat", assistant_id=a, name="order 17")["data"]["chat_id"]
    assert call("create_message", assistant_id=a, chat_id=c, text="Maakye")["data"]["content"] == {"text": "Maakye"}
    assert call("generate_message", assistant_id=a, chat_id=c)["data"]["content"] == {"text": "Echo: Maakye"}
    page = call("list_messages", assistant_id=a, chat_id=c, limit=1)
    assert page["fetched_count"] == 1 and page["has_more"] is True
    assert call("delete_assistant", assistant_id=a) == {"data": None}


@pytest.mark.parametrize("way", ["worker", "direct"])
def test_a_file_becomes_a_record(system, run, tmp_path, way):
    system.worker()
    more = ["--direct"] if way == "direct" else []
    notes = tmp_path / "my notes.txt"
    notes.write_text("Accra is the capital of Ghana.")
    collection = json.loads(run("call", "taskingai.create_collection", *more, "-p", '{"embedding_model_id":"TpEmb001"}').out)["data"]["collection_id"]
    done = run("call", "taskingai.upload_file", *more, "--file", str(notes))
    assert done.returncode == 0, done.err
    file_id = json.loads(done.out)["data"]["file_id"]
    (tmp_path / "record.json").write_text(json.dumps({"collection_id": collection, "type": "file", "file_id": file_id,
                                                      "text_splitter": {"type": "token", "chunk_size": 200, "chunk_overlap": 20}}))
    done = run("call", "taskingai.create_record", *more, "-p", f"@{tmp_path}/record.json")
    assert done.returncode == 0 and json.loads(done.out)["data"]["type"] == "file", done.err
    done = run("call", "taskingai.query_chunks", *more, "-p", "-", stdin=json.dumps({"collection_id": collection, "query_text": "capital", "top_k": 1}).encode())
    assert json.loads(done.out)["fetched_count"] == 1


@pytest.mark.parametrize("args,words", [
    (["taskingai.nothing"], "is no type of job here"),
    (["translate"], "is no type of job here"),
    (["taskingai.get_chat", "-p", "[]"], "--params must be a JSON object"),
    (["taskingai.get_chat", "-p", "{"], "--params must be a JSON object"),
    (["taskingai.get_chat", "-p", "{}"], "params.assistant_id is missing"),
    (["taskingai.get_chat", "-p", '{"assistant_id":5}'], "params.assistant_id must be non-empty string, got 5"),
    (["taskingai.get_chat", "-p", '{"assistant_id":"a","chat_id":"b","x":1}'], "params.x is unknown to taskingai.get_chat"),
    (["taskingai.get_chat", "--file", "x"], "--file goes with taskingai.upload_file only"),
    (["taskingai.upload_file", "--file", "/does/not/exist"], "/does/not/exist"),
    (["taskingai.upload_file", "-p", "@/does/not/exist"], "/does/not/exist"),
])
def test_what_is_wrong_is_told_and_nothing_is_submitted(system, run, args, words):
    done = run("call", *args)
    assert done.returncode == 2 and words in done.err and done.out == "" and not system.redis.keys("*")


def test_a_call_that_fails(system, run):
    system.worker()
    done = run("call", "taskingai.get_assistant", "-p", '{"assistant_id":"X5lMzzzzzzzzzzzzzzzzzzzz"}')
    assert done.returncode == 1 and "TaskingAIError (404): assistant X5lMzzzzzzzzzzzzzzzzzzzz not found" in done.err
    r = json.loads(run("call", "taskingai.get_assistant", "--json", "-p", '{"assistant_id":"X5lMzzzzzzzzzzzzzzzzzzzz"}').out)
    assert r["status"] == "failed" and r["error"]["code"] == "OBJECT_NOT_FOUND"


def test_if_unsure_is_passed_on(system, run):
    run("call", "taskingai.create_chat", "--no-wait", "--if-unsure", "rerun", "-p", '{"assistant_id":"a"}')
    assert json.loads(system.redis.lindex(Q + "ready", 0))["if_unsure"] == "rerun"


# --- operations ---

def test_operations(run):
    done = run("operations", redis_url="redis://127.0.0.1:1")
    assert done.returncode == 0 and max(len(line) for line in done.out.splitlines()) <= 100
    assert "chat_completion         POST /v1/inference/chat_completion  hold with an assistant's id  streams\n" in done.out
    all_ = [json.loads(line) for line in run("operations", "--json").out.splitlines()]
    assert len(all_) == 42 and len({o["type"] for o in all_}) == 42
    create = next(o for o in all_ if o["name"] == "create_message")
    assert create["if_unsure"] == "hold" and {"name": "text", "in": "body", "kind": "string", "required": True, "default": None} in create["params"]
    one = run("operations", "taskingai.create_message").out
    assert "POST /v1/assistants/{assistant_id}/chats/{chat_id}/messages" in one and "text" in one and "string, needed" in one
    assert run("operations", "nothing").returncode == 2
