"""What goes out to TaskingAI: each operation's exact request, from least and from all of its parameters, through the queue and with --direct."""
import base64
import email.parser
import json
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import BUILD, SLOW, TASKING_KEY, RedisServer, Stub, System, until
from test_admin import admin

ID = "a/b c?é.~-_%\U0001f600"
IDS = "a%2Fb%20c%3F%C3%A9.~-_%25%F0%9F%98%80"
META = {"k": "ɛ", "n": 1}
PAGE = {"order": "asc", "limit": 7, "after": ID, "before": None}
PAGED, FIRST = f"?order=asc&limit=7&after={IDS}", "?order=desc&limit=20"
A, C, R, K = "/v1/assistants", f"/v1/assistants/{IDS}/chats", f"/v1/collections/{IDS}/records", f"/v1/collections/{IDS}/chunks"
CONFIGS = {"top_k": 3, "method": "user_message"}
WHO = {"assistant_id": ID}
CHAT = {"assistant_id": ID, "chat_id": ID}
TOOLS = {"name": "n", "description": "d", "system_prompt_template": ["p"], "tools": [{"type": "action", "id": "x"}], "retrievals": []}

# operation: method, path of the least and of the full request (without a query), [(params, query, body)]
OPERATIONS = {
    "list_assistants": ("GET", A, [({}, FIRST, None), (PAGE, PAGED, None)]),
    "get_assistant": ("GET", f"{A}/{IDS}", [(WHO, "", None)]),
    "create_assistant": ("POST", A, [
        ({"model_id": "TpAb12Cd", "memory": {"type": "zero"}}, "", {"model_id": "TpAb12Cd", "memory": {"type": "zero"}, "retrieval_configs": CONFIGS}),
        ({"model_id": "TpAb12Cd", "memory": {"type": "zero"}, **TOOLS, "retrieval_configs": {"a": 1}, "metadata": META}, "",
         {"model_id": "TpAb12Cd", "memory": {"type": "zero"}, **TOOLS, "retrieval_configs": {"a": 1}, "metadata": META})]),
    "update_assistant": ("POST", f"{A}/{IDS}", [
        (WHO, "", {}),
        ({**WHO, "model_id": "TpAb12Cd", "memory": {}, **TOOLS, "retrieval_configs": {}, "metadata": {}}, "",
         {"model_id": "TpAb12Cd", "memory": {}, **TOOLS, "retrieval_configs": {}, "metadata": {}})]),
    "delete_assistant": ("DELETE", f"{A}/{IDS}", [(WHO, "", None)]),
    "list_chats": ("GET", C, [(WHO, FIRST, None), ({**WHO, **PAGE}, PAGED, None)]),
    "get_chat": ("GET", f"{C}/{IDS}", [(CHAT, "", None)]),
    "create_chat": ("POST", C, [(WHO, "", {}), ({**WHO, "name": "n", "metadata": META}, "", {"name": "n", "metadata": META})]),
    "update_chat": ("POST", f"{C}/{IDS}", [(CHAT, "", {}), ({**CHAT, "name": "n", "metadata": META}, "", {"name": "n", "metadata": META})]),
    "delete_chat": ("DELETE", f"{C}/{IDS}", [(CHAT, "", None)]),
    "clean_chat_context": ("POST", f"{C}/{IDS}/clean_context", [(CHAT, "", {})]),
    "list_messages": ("GET", f"{C}/{IDS}/messages", [(CHAT, FIRST, None), ({**CHAT, **PAGE}, PAGED, None)]),
    "get_message": ("GET", f"{C}/{IDS}/messages/{IDS}", [({**CHAT, "message_id": ID}, "", None)]),
    "create_message": ("POST", f"{C}/{IDS}/messages", [
        ({**CHAT, "text": "Maakye"}, "", {"role": "user", "content": {"text": "Maakye"}, "metadata": {}}),
        ({**CHAT, "text": "", "metadata": META}, "", {"role": "user", "content": {"text": ""}, "metadata": META})]),
    "update_message": ("POST", f"{C}/{IDS}/messages/{IDS}", [({**CHAT, "message_id": ID, "metadata": META}, "", {"metadata": META})]),
    "generate_message": ("POST", f"{C}/{IDS}/generate", [
        (CHAT, "", {"system_prompt_variables": {}, "stream": False, "debug": False}),
        ({**CHAT, "system_prompt_variables": {"a": "b"}, "stream": False, "debug": False}, "", {"system_prompt_variables": {"a": "b"}, "stream": False, "debug": False})]),
    "list_collections": ("GET", "/v1/collections", [({}, FIRST, None), (PAGE, PAGED, None)]),
    "get_collection": ("GET", f"/v1/collections/{IDS}", [({"collection_id": ID}, "", None)]),
    "create_collection": ("POST", "/v1/collections", [
        ({"embedding_model_id": "TpEmb001"}, "", {"embedding_model_id": "TpEmb001", "capacity": 1000, "type": "text"}),
        ({"embedding_model_id": "TpEmb001", "capacity": 5, "name": "n", "type": "qa", "description": "d", "metadata": META}, "",
         {"embedding_model_id": "TpEmb001", "capacity": 5, "name": "n", "type": "qa", "description": "d", "metadata": META})]),
    "update_collection": ("POST", f"/v1/collections/{IDS}", [
        ({"collection_id": ID}, "", {}), ({"collection_id": ID, "name": "n", "description": "d", "metadata": META}, "", {"name": "n", "description": "d", "metadata": META})]),
    "delete_collection": ("DELETE", f"/v1/collections/{IDS}", [({"collection_id": ID}, "", None)]),
    "list_records": ("GET", R, [({"collection_id": ID}, FIRST, None), ({"collection_id": ID, **PAGE}, PAGED, None)]),
    "get_record": ("GET", f"{R}/{IDS}", [({"collection_id": ID, "record_id": ID}, "", None)]),
    "create_record": ("POST", R, [
        ({"collection_id": ID, "type": "text", "content": "c"}, "", {"type": "text", "content": "c"}),
        ({"collection_id": ID, "type": "web", "file_id": "f", "url": "https://x", "title": "t", "content": "c", "text_splitter": {"type": "token"}, "metadata": META}, "",
         {"type": "web", "file_id": "f", "url": "https://x", "title": "t", "content": "c", "text_splitter": {"type": "token"}, "metadata": META})]),
    "update_record": ("POST", f"{R}/{IDS}", [
        ({"collection_id": ID, "record_id": ID}, "", {}),
        ({"collection_id": ID, "record_id": ID, "type": "file", "file_id": "f", "url": "u", "title": "t", "content": "c", "text_splitter": {}, "metadata": {}}, "",
         {"type": "file", "file_id": "f", "url": "u", "title": "t", "content": "c", "text_splitter": {}, "metadata": {}})]),
    "delete_record": ("DELETE", f"{R}/{IDS}", [({"collection_id": ID, "record_id": ID}, "", None)]),
    "query_chunks": ("POST", f"{K}/query", [
        ({"collection_id": ID, "query_text": "q"}, "", {"query_text": "q", "top_k": 3}),
        ({"collection_id": ID, "query_text": "q", "top_k": 5, "score_threshold": 0.25, "max_tokens": 9, "rerank_model_id": "TpRer001"}, "",
         {"query_text": "q", "top_k": 5, "score_threshold": 0.25, "max_tokens": 9, "rerank_model_id": "TpRer001"})]),
    "list_chunks": ("GET", K, [({"collection_id": ID}, FIRST, None), ({"collection_id": ID, **PAGE}, PAGED, None)]),
    "get_chunk": ("GET", f"{K}/{IDS}", [({"collection_id": ID, "chunk_id": ID}, "", None)]),
    "create_chunk": ("POST", K, [({"collection_id": ID, "content": "c"}, "", {"content": "c"}),
                                 ({"collection_id": ID, "content": "c", "metadata": META}, "", {"content": "c", "metadata": META})]),
    "update_chunk": ("POST", f"{K}/{IDS}", [({"collection_id": ID, "chunk_id": ID}, "", {}),
                                            ({"collection_id": ID, "chunk_id": ID, "content": "c", "metadata": META}, "", {"content": "c", "metadata": META})]),
    "delete_chunk": ("DELETE", f"{K}/{IDS}", [({"collection_id": ID, "chunk_id": ID}, "", None)]),
    "chat_completion": ("POST", "/v1/inference/chat_completion", [
        ({"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "x"}]}, "", {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "x"}], "stream": False}),
        ({"model_id": "TpAb12Cd", "messages": [{"role": "x"}], "configs": {"seed": 1}, "function_call": "f", "functions": [{"name": "f"}], "stream": False}, "",
         {"model_id": "TpAb12Cd", "messages": [{"role": "x"}], "configs": {"seed": 1}, "function_call": "f", "functions": [{"name": "f"}], "stream": False})]),
    "text_embedding": ("POST", "/v1/inference/text_embedding", [
        ({"model_id": "TpEmb001", "input": "x"}, "", {"model_id": "TpEmb001", "input": "x"}),
        ({"model_id": "TpEmb001", "input": ["x"], "input_type": "query"}, "", {"model_id": "TpEmb001", "input": ["x"], "input_type": "query"})]),
    "rerank": ("POST", "/v1/inference/rerank", [({"model_id": "TpRer001", "query": "q", "documents": ["d"], "top_n": 1}, "",
                                                 {"model_id": "TpRer001", "query": "q", "documents": ["d"], "top_n": 1})]),
    "upload_file": ("POST", "/v1/files", []),  # of its own, below
    "list_actions": ("GET", "/v1/actions", [({}, FIRST, None), (PAGE, PAGED, None)]),
    "get_action": ("GET", f"/v1/actions/{IDS}", [({"action_id": ID}, "", None)]),
    "bulk_create_actions": ("POST", "/v1/actions/bulk_create", [
        ({"openapi_schema": {"a": 1}}, "", {"openapi_schema": {"a": 1}}),
        ({"openapi_schema": {"a": 1}, "authentication": {"type": "none"}}, "", {"openapi_schema": {"a": 1}, "authentication": {"type": "none"}})]),
    "update_action": ("POST", f"/v1/actions/{IDS}", [({"action_id": ID}, "", {}), ({"action_id": ID, "openapi_schema": {}, "authentication": {}}, "",
                                                                                 {"openapi_schema": {}, "authentication": {}})]),
    "delete_action": ("DELETE", f"/v1/actions/{IDS}", [({"action_id": ID}, "", None)]),
    "run_action": ("POST", f"/v1/actions/{IDS}/run", [({"action_id": ID}, "", {"parameters": {}}), ({"action_id": ID, "parameters": {"a": 1}}, "", {"parameters": {"a": 1}})]),
}


class Api:
    def __init__(self):
        self.requests = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                api.requests.append((self.command, self.path, dict(self.headers), body))
                data = [{"embedding": [1]}] if "embedding" in self.path else [] if self.is_list() else {"object": "X"}
                out = json.dumps({"status": "success", "data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_DELETE = answer

            def is_list(self):
                return "order=" in self.path or self.path.endswith(("/query", "/bulk_create"))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A worker, and the API that keeps what it was sent."""
    folder = tmp_path_factory.mktemp("requests")
    server, stub, api = RedisServer(folder), Stub(), Api()
    system = System(folder, stub, server)
    system.api = api
    try:
        system.worker(TASKINGAI_HOST=api.url + "/", queues="taskingai", audio_root=folder)
        yield system
    finally:
        system.finish()
        api.server.shutdown()
        api.server.server_close()
        stub.stop()
        server.stop()


def by_queue(world, operation, params, **more):
    return world.do("taskingai", type="taskingai." + operation, params=params, **more)


def by_hand(world, operation, params, *flags):
    env = world.env(TASKINGAI_HOST=world.api.url, redis_url="redis://127.0.0.1:1")
    done = subprocess.run([BUILD + "/adwuma", "call", "taskingai." + operation, "--direct", "--json", *flags, "-p", json.dumps(params)], env=env, capture_output=True,
                          timeout=30 * SLOW)
    return json.loads(done.stdout)


def test_every_operation_is_here():
    listed = subprocess.run([BUILD + "/adwuma", "operations", "--json"], capture_output=True, check=True, text=True).stdout.splitlines()
    rows = {json.loads(line)["name"]: json.loads(line) for line in listed}
    assert set(rows) == set(OPERATIONS)
    for name, row in rows.items():
        sent = [p for params, _, _ in OPERATIONS[name][2] for p in params]
        assert name == "upload_file" or {p["name"] for p in row["params"]} == set(sent), f"{name}: a parameter is not tried"
        assert name == "upload_file" or {p["name"] for p in row["params"] if p["required"]} <= set(OPERATIONS[name][2][0][0]), f"{name}: what is needed is not what is least"


@pytest.mark.parametrize("way", [by_queue, by_hand], ids=["queue", "direct"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_request(world, operation, way):
    method, path, cases = OPERATIONS[operation]
    for params, query, body in cases:
        world.api.requests.clear()
        r = way(world, operation, params)
        assert r["status"] == "succeeded", r
        (sent_method, sent_path, headers, sent_body), = world.api.requests
        assert (sent_method, sent_path) == (method, path + query)
        assert headers.pop("Authorization") == "Bearer " + TASKING_KEY and headers.pop("Accept") == "application/json"
        assert headers.pop("User-Agent").startswith("adwuma/") and headers.pop("Host")
        if body is None:
            assert sent_body == b"" and headers == {}
        else:
            assert json.loads(sent_body) == body and list(json.loads(sent_body)) == list(body)
            assert headers == {"Content-Type": "application/json", "Content-Length": str(len(sent_body))}


def test_values_go_as_the_text_they_were(world):
    world.api.requests.clear()
    text = '{"id":"text","type":"taskingai.chat_completion","params":{"configs":{"seed":9007199254740993,"t":1e-7,"u":"\\u00e9\\/"}, "model_id":"TpAb12Cd","messages":[{"role" : "user"}]}}'
    world.push("taskingai", text)
    world.result("taskingai", "text")
    assert world.api.requests[0][3] == b'{"model_id":"TpAb12Cd","messages":[{"role" : "user"}],"configs":{"seed":9007199254740993,"t":1e-7,"u":"\\u00e9\\/"},"stream":false}'


def test_the_last_of_a_name_counts_and_null_is_absent(world):
    world.api.requests.clear()
    world.push("taskingai", '{"id":"twice","type":"taskingai.list_actions","params":{"limit":5,"limit":1e1,"order":null,"after":"x","after":null}}')
    assert world.result("taskingai", "twice")["status"] == "succeeded"
    assert world.api.requests[0][1] == "/v1/actions?order=desc&limit=10"


def test_the_trace_goes_along(world):
    world.api.requests.clear()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    r = by_queue(world, "create_chat", WHO, traceparent=trace)
    headers = world.api.requests[0][2]
    assert headers["traceparent"] == trace == r["traceparent"] and headers["Content-Type"] == "application/json"


FILES = {"path": {"file_path": "my notes.txt"}, "path below": {"file_path": "sub/my notes.txt"}, "named": {"file_path": "my notes.txt", "file_name": "other \"name\".md"},
         "key": {"file_key": "adwuma:{elsewhere}:audio:notes", "file_name": "my notes.txt"}, "base64": {"file_base64": "", "file_name": "my notes.txt"},
         "purpose": {"file_path": "my notes.txt", "purpose": "qa_record_file"}}
CONTENT = "Maakye\r\n--not a border\r\nɛ\0".encode() + bytes(range(256)) * 400


@pytest.mark.parametrize("how", FILES)
def test_a_file_is_uploaded(world, how):
    params = dict(FILES[how])
    if "file_path" in params:
        path = world.folder + "/" + params["file_path"]
        subprocess.run(["mkdir", "-p", path.rsplit("/", 1)[0]], check=True)
        with open(path, "wb") as f:
            f.write(CONTENT)
    world.redis.set("adwuma:{elsewhere}:audio:notes", CONTENT, ex=60)
    if how == "base64":
        params["file_base64"] = base64.b64encode(CONTENT).decode()
    world.api.requests.clear()
    r = by_queue(world, "upload_file", params)
    assert r["status"] == "succeeded" and r["billed"] == {"request": 1}, r
    (method, path, headers, body), = world.api.requests
    assert (method, path) == ("POST", "/v1/files") and headers["Content-Type"].startswith("multipart/form-data; boundary=")
    form = email.parser.BytesParser().parsebytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    file, purpose = form.get_payload()
    assert file.get_param("name", header="content-disposition") == "file" and file.get_content_type() == "application/octet-stream"
    border = headers["Content-Type"].split("boundary=")[1].encode()
    assert body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--" + border)[0] == CONTENT
    wanted = 'filename="other %22name%22.md"' if how == "named" else 'filename="my notes.txt"'
    assert wanted in file["Content-Disposition"] or (how == "named" and 'filename="other \\"name\\".md"' in file["Content-Disposition"])
    assert purpose.get_payload() == ("qa_record_file" if how == "purpose" else "record_file") and purpose.get_filename() is None and "Content-Type" not in purpose
    # What follows on that connection is as if there had been no form.
    world.api.requests.clear()
    by_queue(world, "create_chat", WHO)
    by_queue(world, "get_assistant", WHO)
    assert [("multipart" in str(r[2]), r[3]) for r in world.api.requests] == [(False, b"{}"), (False, b"")]


def test_an_upload_by_hand(world, tmp_path):
    (tmp_path / "notes.txt").write_bytes(CONTENT)
    world.api.requests.clear()
    assert by_hand(world, "upload_file", {}, "--file", str(tmp_path / "notes.txt"))["status"] == "succeeded"
    assert CONTENT in world.api.requests[0][3] and b'filename="notes.txt"' in world.api.requests[0][3]


BAD = [
    ("get_assistant", {}, "params.assistant_id is missing"), ("get_assistant", None, "params.assistant_id is missing"),
    ("get_assistant", {"assistant_id": None}, "params.assistant_id is missing"), ("get_assistant", {"assistant_id": ""}, "params.assistant_id must be non-empty string, got \"\""),
    ("get_assistant", {"assistant_id": 5}, "params.assistant_id must be non-empty string, got 5"), ("get_assistant", {"assistant_id": ["x"]}, "params.assistant_id"),
    ("get_assistant", {"assistant_id": "a\0b"}, "params.assistant_id must be Unicode text"), ("get_assistant", {"assistant_id": ".."}, "params.assistant_id"),
    ("get_assistant", {"assistant_id": "."}, "params.assistant_id"),
    ("get_assistant", {"assistant_id": "a", "Assistant_id": "b"}, "params.Assistant_id is unknown to taskingai.get_assistant, which takes assistant_id"),
    ("list_assistants", {"limit": "5"}, "params.limit must be integer, got \"5\""), ("list_assistants", {"limit": 1.5}, "params.limit must be integer"),
    ("list_assistants", {"limit": True}, "params.limit"), ("list_assistants", {"order": 1}, "params.order must be string"),
    ("list_assistants", {"after": "a", "before": "b"}, "params.after and params.before exclude each other"),
    ("list_chats", {"assistant_id": "a", "after": "a", "before": "b"}, "exclude each other"),
    ("list_messages", {"assistant_id": "a", "chat_id": "c", "after": "a", "before": "b"}, "exclude each other"),
    ("list_chunks", {"collection_id": "a", "after": "a", "before": "b"}, "exclude each other"),
    ("create_assistant", {"model_id": "m"}, "params.memory is missing"), ("create_assistant", {"model_id": "m", "memory": []}, "params.memory must be object, got []"),
    ("create_assistant", {"model_id": "m", "memory": {}, "system_prompt_template": ["a", 1]}, "params.system_prompt_template must be array of strings"),
    ("create_assistant", {"model_id": "m", "memory": {}, "tools": ["a"]}, "params.tools must be array of objects"),
    ("chat_completion", {"model_id": "m", "messages": []}, "params.messages must be non-empty array of objects, got []"),
    ("chat_completion", {"model_id": "m", "messages": ["hi"]}, "params.messages"), ("chat_completion", {"model_id": "m", "messages": "hi"}, "params.messages"),
    ("chat_completion", {"model_id": "m", "messages": [{}], "stream": "yes"}, "params.stream must be true or false, got \"yes\""),
    ("chat_completion", {"model_id": "m", "messages": [{}], "function_call": {"name": "f"}}, "params.function_call must be string"),
    ("generate_message", {"assistant_id": "a", "chat_id": "c", "system_prompt_variables": {"a": 1}}, "params.system_prompt_variables must be object of strings"),
    ("text_embedding", {"model_id": "m", "input": 5}, "params.input must be string or array of strings"), ("text_embedding", {"model_id": "m", "input": [5]}, "params.input"),
    ("query_chunks", {"collection_id": "c", "query_text": "q", "score_threshold": "0.5"}, "params.score_threshold must be number"),
    ("create_record", {"collection_id": "c", "type": "text"}, "params.content is missing or empty"), ("create_record", {"collection_id": "c", "type": "text", "content": ""}, "params.content"),
    ("create_record", {"collection_id": "c", "type": "file"}, "params.file_id is missing or empty"),
    ("create_record", {"collection_id": "c", "type": "web", "url": "http://x"}, "params.url must be there and begin with https://"),
    ("update_record", {"collection_id": "c", "record_id": "r", "type": "text"}, "params.content"),
    ("upload_file", {}, "exactly one of"), ("upload_file", {"file_path": "a", "file_base64": "b"}, "exactly one of"),
    ("upload_file", {"file_base64": "YQ=="}, "params.file_name is missing"), ("upload_file", {"file_path": "nothing.txt"}, "File not found: nothing.txt"),
    ("upload_file", {"file_path": "../x"}, "params.file_path leads out of audio_root"), ("upload_file", {"file_base64": "?", "file_name": "n"}, "params.file_base64 is no base64"),
    ("upload_file", {"file_key": "other:key", "file_name": "n"}, "params.file_key must be the whole name of an audio key"),
    ("upload_file", {"file_key": "adwuma:{q}:audio:nobody", "file_name": "n"}, "params.file_key 'adwuma:{q}:audio:nobody' is empty, or does not exist"),
    ("upload_file", {"file_path": "nothing.txt", "purpose": "fun"}, "params.purpose must be record_file or qa_record_file"),
    ("a_list_assistants", {}, "is unknown to this version"), ("nothing", {}, "is unknown to this version"),
]


@pytest.mark.parametrize("i", range(len(BAD)))
def test_what_is_bad_is_refused_and_nothing_is_sent(world, i):
    operation, params, words = BAD[i]
    world.api.requests.clear()
    r = by_queue(world, operation, params) if params is not None else world.do("taskingai", type="taskingai." + operation)
    e = r["error"]
    assert (e["type"], e["status_code"], e["retryable"], r["attempts"]) == ("InvalidJobError", 0, False, 0) and words in e["message"], e
    assert world.api.requests == []


def test_the_key_comes_first(tmp_path, stub, server):
    s = System(tmp_path, stub, server)
    s.worker(TASKINGAI_API_KEY=None)
    e = s.do("taskingai", type="taskingai.upload_file", params={"file_path": "x"})["error"]
    assert (e["type"], e["status_code"], e["service"]) == ("AuthenticationError", 401, "taskingai") and stub.count() == 0
    s.finish()


def test_waits_and_tries_are_by_the_service(tmp_path, stub, server):
    """Settings of Khaya's say nothing about TaskingAI's jobs, and its own do."""
    s = System(tmp_path, stub, server)
    s.worker(KHAYA_RETRY_ATTEMPTS=1, KHAYA_TIMEOUT=30, TASKINGAI_TIMEOUT=1, max_attempts=2)
    r = s.do("taskingai", type="taskingai.get_assistant", params={"assistant_id": "X5lM"}, max_attempts=None)
    assert r["error"]["status_code"] == 404
    stub.fault("hang")
    r = s.do("taskingai", seconds=20, type="taskingai.list_actions", params={})
    assert r["error"]["code"] == "timeout" and r["attempts"] == 2
    stub.fault("")
    s.finish()


@pytest.mark.parametrize("kind,wanted", [("delete_assistant", "succeeded"), ("get_assistant", "failed")])
def test_a_deletion_that_a_dead_worker_may_have_done(tmp_path, stub, server, kind, wanted):
    """The first request is heard and never answered, its worker is killed; the second finds nothing."""
    heard, release = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            if not heard.is_set():
                heard.set()
                release.wait(60)
                return
            out = b'{"status":"error","error":{"code":"OBJECT_NOT_FOUND","message":"assistant a not found"}}'
            self.send_response(404)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        do_GET = do_DELETE = answer

        def log_message(self, *_):
            pass

    api = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.daemon_threads = True
    threading.Thread(target=api.serve_forever, daemon=True).start()
    s = System(tmp_path, stub, server)
    settings = {"TASKINGAI_HOST": f"http://127.0.0.1:{api.server_address[1]}", "queues": "taskingai", "lease_ms": 1000}
    victim = s.worker(**settings)
    s.push("taskingai", {"id": "d", "type": "taskingai." + kind, "params": {"assistant_id": "a"}})
    assert heard.wait(20)
    victim.kill()
    s.worker(**settings)
    r = s.result("taskingai", "d", 20)
    assert r["status"] == wanted and (wanted == "failed" or r["result"] == {"data": None}), r
    release.set()
    s.finish()
    api.shutdown()
    api.server_close()


def test_what_was_used_is_counted(tmp_path, stub, server):
    s = System(tmp_path, stub, server)
    w = s.worker(admin_listen="127.0.0.1:0")
    r = by_queue(s, "chat_completion", {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "hello there"}]})
    tokens = sum(r["result"]["data"]["usage"].values())
    assert r["billed"] == {"request": 1, "token": tokens}
    until(lambda: s.redis.hget("adwuma:{taskingai}:billed", "token"), 10, "it is counted")
    assert s.redis.hgetall("adwuma:{taskingai}:billed") == {b"request": b"1", b"token": str(tokens).encode()}
    with urllib.request.urlopen(admin(w) + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert f'adwuma_billed_units_total{{service="taskingai",unit="token"}} {tokens}\n' in text and 'adwuma_billed_units_total{service="khaya",unit="request"} 0\n' in text
    s.finish()
