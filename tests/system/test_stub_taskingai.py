"""The stub as TaskingAI: its store, the order of its checks, what it refuses, and its streams byte by byte."""
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import re
import socket
import time

import pytest
from conftest import SLOW, TASKING_KEY, Stub, until

A, C, FILES = "/v1/assistants", "/v1/collections", "/v1/files"
COMPLETE, EMBED, RERANK = "/v1/inference/chat_completion", "/v1/inference/text_embedding", "/v1/inference/rerank"
ASSISTANT = {"model_id": "TpAb12Cd", "memory": {"type": "message_window", "max_messages": 20, "max_tokens": 2000}, "retrieval_configs": {"top_k": 3, "method": "memory"}}
ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}
SPLITTER = {"type": "token", "chunk_size": 200, "chunk_overlap": 20}


class Client:
    def __init__(self, stub, key=TASKING_KEY):
        self.place, self.key = stub.url.split("//")[1], key
        self.stub = stub

    def raw(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.place, timeout=20 * SLOW)
        sent = {"Authorization": "Bearer " + self.key, **({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}
        connection.request(method, path, body, {k: v for k, v in sent.items() if v is not None})
        return connection.getresponse()

    def __call__(self, method, path, body=None, **headers):
        answer = self.raw(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, {k.replace("_", "-"): v for k, v in headers.items()})
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text.decode()

    def make(self, path, body):
        status, answer = self("POST", path, body)
        assert status == 200 and answer["status"] == "success", answer
        return answer["data"][path.rsplit("/", 1)[1][:-1] + "_id"]


@pytest.fixture(scope="module")
def shared():
    s = Stub()
    yield s
    s.stop()


@pytest.fixture
def api(shared):
    shared.ask("DELETE", "/_stub/store")
    shared.ask("DELETE", "/_stub/calls")
    return Client(shared)


def refused(answer, status, code, words):
    assert answer[0] == status and answer[1]["error"]["code"] == code and words in answer[1]["error"]["message"], answer


# --- The store. ---

def test_what_is_created_can_be_changed_listed_and_deleted(api):
    ids = [api.make(A, {**ASSISTANT, "name": f"n{i}"}) for i in range(5)]
    assert len(set(ids)) == 5 and all(re.fullmatch("X5lM[0-9A-Za-z]{20}", i) for i in ids)

    def page(query):
        _, answer = api("GET", A + query)
        return [o["name"] for o in answer["data"]], answer["has_more"]

    assert page("") == (["n4", "n3", "n2", "n1", "n0"], False)
    assert page("?limit=2&order=asc") == (["n0", "n1"], True) and page(f"?limit=2&order=asc&after={ids[1]}") == (["n2", "n3"], True)
    assert page(f"?limit=2&order=asc&after={ids[3]}") == (["n4"], False) and page(f"?limit=2&order=asc&before={ids[4]}") == (["n2", "n3"], True)
    assert page(f"?order=asc&after={ids[0]}&before={ids[3]}") == (["n1", "n2"], False)
    assert api("POST", f"{A}/{ids[2]}", {"name": "other"})[1]["data"]["name"] == "other" and api("GET", f"{A}/{ids[2]}")[1]["data"]["model_id"] == "TpAb12Cd"
    chat = api.make(f"{A}/{ids[2]}/chats", {})
    assert api("DELETE", f"{A}/{ids[2]}") == (200, {"status": "success"})
    refused(api("GET", f"{A}/{ids[2]}"), 404, "OBJECT_NOT_FOUND", f"assistant {ids[2]} not found")
    refused(api("GET", f"{A}/{ids[1]}/chats/{chat}"), 404, "OBJECT_NOT_FOUND", f"chat {chat} not found")


def test_a_conversation(api):
    a = api.make(A, ASSISTANT)
    c = api.make(f"{A}/{a}/chats", {"name": "order 17", "metadata": {"job": "17"}})
    place = f"{A}/{a}/chats/{c}"
    refused(api("POST", place + "/generate", {}), 400, "INVALID_REQUEST", "There is no user message")
    m = api.make(place + "/messages", {"role": "user", "content": {"text": "Maakye"}, "metadata": {}})
    assert api("POST", place + "/generate", {})[1]["data"]["content"] == {"text": "Echo: Maakye"}
    refused(api("POST", place + "/generate", {}), 400, "INVALID_REQUEST", "another assistant message after an assistant message")
    assert [o["role"] for o in api("GET", place + "/messages?order=asc")[1]["data"]] == ["user", "assistant"]
    assert api("POST", f"{place}/messages/{m}", {"metadata": {"a": "b"}})[1]["data"]["metadata"] == {"a": "b"}
    assert api("DELETE", f"{place}/messages/{m}") == (405, {"detail": "Method Not Allowed"})
    assert api("POST", place + "/clean_context", {}) == (404, {"detail": "Not Found"})
    api.make(place + "/messages", {"role": "user", "content": {"text": "again"}})
    refused(api("POST", place + "/generate", {}, X_Stub="locked"), 400, "INVALID_REQUEST", "is locked")


def test_records_chunks_files_and_queries(api):
    c = api.make(C, {"embedding_model_id": "TpEmb001", "capacity": 1000})
    r = api.make(f"{C}/{c}/records", {"type": "text", "content": "Accra is the capital of Ghana.", "text_splitter": SPLITTER})
    api.make(f"{C}/{c}/chunks", {"content": "Kumasi is a city."})
    found = api("POST", f"{C}/{c}/chunks/query", {"query_text": "Accra is the capital of Ghana.", "top_k": 2})[1]
    assert [h["content"] for h in found["data"]][0] == "Accra is the capital of Ghana." and found["data"][0]["score"] > found["data"][1]["score"]
    assert found["fetched_count"] == 2 and found["total_count"] is None and found["data"][0]["record_id"] == r
    assert api("GET", f"{C}/{c}")[1]["data"]["num_chunks"] == 2
    form = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nrecord_file\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="a.HTM"\r\n\r\nhello\r\n--x--\r\n'
    status, answer = api("POST", FILES, form, Content_Type="multipart/form-data; boundary=x")
    file_id = answer["data"]["file_id"]
    assert status == 200 and re.fullmatch("html_Jde5[0-9A-Za-z]{20}", file_id)
    make = {"type": "file", "file_id": file_id, "text_splitter": SPLITTER}
    record = api.make(f"{C}/{c}/records", make)
    refused(api("POST", f"{C}/{c}/records", make), 404, "OBJECT_NOT_FOUND", "not found")  # it is used up
    refused(api("POST", f"{C}/{c}/records/{record}", {"title": "t", "text_splitter": SPLITTER}), 422, "REQUEST_VALIDATION_ERROR", "file")
    refused(api("POST", FILES, form.replace(b"purpose", b"other"), Content_Type="multipart/form-data; boundary=x"), 422, "REQUEST_VALIDATION_ERROR", "body/purpose")
    refused(api("POST", FILES, form.replace(b".HTM", b".exe"), Content_Type="multipart/form-data; boundary=x"), 422, "REQUEST_VALIDATION_ERROR", "not supported")


def test_actions(api):
    schema = {"servers": [{"url": "http://x"}], "paths": {"/a": {"get": {"operationId": "get_a", "summary": "s"}, "post": {"operationId": "post_a", "description": "d"}}}}
    status, answer = api("POST", "/v1/actions/bulk_create", {"openapi_schema": schema, "authentication": {"type": "bearer", "secret": "secret-secret"}})
    assert status == 200 and [a["operation_id"] for a in answer["data"]] == ["get_a", "post_a"] and "fetched_count" not in answer and "secret-secret" not in str(answer["data"])
    action = "/v1/actions/" + answer["data"][0]["action_id"]
    assert api("POST", action + "/run", {"parameters": {"a": 1}})[1]["data"] == {"status": 200, "data": {"parameters": {"a": 1}}}
    assert api("POST", action + "/run", {}, X_Stub="target_status=503")[1]["data"]["status"] == 503
    refused(api("POST", action, {}), 500, "INTERNAL_SERVER_ERROR", "cannot be empty")
    assert api("DELETE", action) == (200, {"status": "success"})
    refused(api("DELETE", action), 404, "OBJECT_NOT_FOUND", "action")


# --- Checks, in the server's order. ---

@pytest.mark.parametrize("method,path,body,headers,status,code,words", [
    ("GET", "/v1/nothing_here", None, {}, 404, None, None),
    ("POST", A, "{", {"Authorization": None}, 422, "REQUEST_VALIDATION_ERROR", "JSON decode error"),
    ("POST", A, "{}", {"Authorization": None}, 401, "APIKEY_VALIDATION_FAILED", ""),
    ("POST", A, "{}", {"Authorization": "bearer " + TASKING_KEY}, 401, "APIKEY_VALIDATION_FAILED", ""),
    ("GET", A, None, {"Authorization": "Bearer " + "0" * 32}, 404, "OBJECT_NOT_FOUND", "apikey 00000000 not found"),
    ("POST", A, "{}", {}, 422, "REQUEST_VALIDATION_ERROR", "body/model_id: Field required"),
    ("POST", A, "{}", {"Content-Type": "application/x-www-form-urlencoded"}, 422, "REQUEST_VALIDATION_ERROR", "body: "),
    ("POST", A, {**ASSISTANT, "model_id": "short"}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/model_id"),
    ("POST", A, {**ASSISTANT, "name": 5}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/name: Input should be a valid string"),
    ("POST", A, {**ASSISTANT, "memory": {"type": "odd"}}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/memory/type"),
    ("POST", A, {**ASSISTANT, "memory": {"type": "message_window"}}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/memory/max_messages"),
    ("POST", A, {**ASSISTANT, "model_id": "TpEmb001"}, {}, 422, "REQUEST_VALIDATION_ERROR", "not a chat completion model"),
    ("POST", A, {**ASSISTANT, "model_id": "Xx123456"}, {}, 404, "OBJECT_NOT_FOUND", "model Xx123456 not found"),
    ("GET", A + "?limit=0", None, {}, 422, "REQUEST_VALIDATION_ERROR", "query/limit"),
    ("GET", A + "?limit=x", None, {}, 422, "REQUEST_VALIDATION_ERROR", "query/limit"),
    ("GET", A + "?order=up", None, {}, 422, "REQUEST_VALIDATION_ERROR", "query/order"),
    ("GET", A + "?prefix_filter=x", None, {}, 422, "REQUEST_VALIDATION_ERROR", "prefix_filter"),
    ("GET", A + "?after=X5lM0", None, {}, 404, "OBJECT_NOT_FOUND", "assistant X5lM0 not found"),
    ("GET", A + "/a-b", None, {}, 422, "REQUEST_VALIDATION_ERROR", "Invalid path parameter: assistant_id"),
    ("GET", A + "/short/chats", None, {}, 422, "REQUEST_VALIDATION_ERROR", "assistant_id: String should have 24"),
    ("GET", A + "/" + "a" * 51, None, {}, 422, "REQUEST_VALIDATION_ERROR", "at most 50"),
    ("GET", A + "/unknown", None, {}, 404, "OBJECT_NOT_FOUND", "assistant unknown not found"),
    ("POST", C, {"embedding_model_id": "TpEmb001", "capacity": 5}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/capacity"),
    ("POST", C, {"embedding_model_id": "TpAb12Cd", "capacity": 1000}, {}, 422, "REQUEST_VALIDATION_ERROR", "text embedding"),
    ("POST", EMBED, {"model_id": "TpEmb001", "input": 5}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/input"),
    ("POST", EMBED, {"model_id": "Xx123456", "input": "x"}, {}, 404, "OBJECT_NOT_FOUND", "model"),
    ("POST", RERANK, {"model_id": "TpRer001", "query": "q"}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/documents"),
    ("POST", COMPLETE, {"model_id": "TpAb12Cd", "messages": []}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/messages"),
    ("POST", COMPLETE, {"model_id": "TpAb12Cd", "messages": ["x"]}, {}, 500, "INTERNAL_SERVER_ERROR", ""),
    ("POST", COMPLETE, {"model_id": "odd", "messages": [{}]}, {}, 422, "REQUEST_VALIDATION_ERROR", "Invalid model_id"),
    ("POST", COMPLETE, {"model_id": "X5lM" + "0" * 20, "messages": [{"role": "user", "content": "x"}]}, {}, 404, "OBJECT_NOT_FOUND", "assistant"),
    ("POST", COMPLETE, {"model_id": "TpAb12Cd", "messages": [{"role": "tool", "content": "x"}]}, {}, 422, "REQUEST_VALIDATION_ERROR", "body/messages/role"),
    ("POST", COMPLETE, {"model_id": "TpNoF123", "messages": [{"role": "user", "content": "x"}], "functions": [ADD]}, {}, 422, "REQUEST_VALIDATION_ERROR", "cannot call functions"),
])
def test_what_is_refused(api, method, path, body, headers, status, code, words):
    answer = api.raw(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
    text = json.loads(answer.read())
    assert answer.status == status
    if code:
        assert text["status"] == "error" and text["error"]["code"] == code and words in text["error"]["message"], text


def test_what_is_no_envelope(api):
    for path in ("/v1/assistants/a/b/c", "/v1/actions/x/y"):
        assert api("GET", path) == (404, {"detail": "Not Found"})
    answer = api.raw("GET", A + "/")
    assert answer.status == 307 and answer.headers["Location"].endswith(A) and answer.read() == b""
    assert api.raw("PUT", A, "{}").headers["Allow"] and api("POST", A, b'{"x":"\xff"}')[0] == 400
    assert api("GET", "/v1/health_check") == (200, {"status": "success"})


def test_keys():
    stub = Stub("--key", TASKING_KEY, "--key", "a key of Khaya's")
    try:
        assert Client(stub)("GET", A)[0] == 200
        refused(Client(stub, TASKING_KEY[:12] + "x")("GET", A), 401, "TOKEN_VALIDATION_FAILED", "Invalid apikey")
        refused(Client(stub, "tkOTHERKEYxyz")("GET", A), 404, "OBJECT_NOT_FOUND", "apikey OTHERKEY not found")
    finally:
        stub.stop()


def test_the_hosted_edition_cleans_contexts():
    stub = Stub("--edition", "hosted")
    try:
        api = Client(stub)
        a = api.make(A, ASSISTANT)
        c = api.make(f"{A}/{a}/chats", {})
        data = api("POST", f"{A}/{a}/chats/{c}/clean_context", {})[1]["data"]
        assert data["role"] == "system" and data["content"] == {"text": "context_cleaned"}
    finally:
        stub.stop()


def test_faults_in_the_apis_own_form(api):
    say = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "x"}]}
    refused(api("POST", COMPLETE, say, X_Stub="status=429"), 429, "TOO_MANY_REQUESTS", "Too many")
    refused(api("POST", COMPLETE, say, X_Stub="status=429,code=RESOURCE_LIMIT_REACHED,message=full"), 429, "RESOURCE_LIMIT_REACHED", "full")
    refused(api("POST", COMPLETE, say, X_Stub="status=400,code=PROVIDER_ERROR,empty_message"), 400, "PROVIDER_ERROR", "")
    status, answer = api("POST", COMPLETE, say, X_Stub="status=422,message=inner,message_object")
    assert status == 422 and answer["error"]["message"]["message"] == "inner"
    assert "<html>" in api("POST", COMPLETE, say, X_Stub="status=502")[1] and api("POST", COMPLETE, say, X_Stub="status=500,body=empty") == (500, "")
    assert api("POST", COMPLETE, {**say, "messages": [{"role": "user", "content": "a stub(status=503,times=1)"}]})[0] == 503
    assert api("POST", COMPLETE, {**say, "messages": [{"role": "user", "content": "a stub(status=503,times=1)"}]})[1]["data"]["message"]["content"] == "Echo: a"
    assert api("GET", A, X_Stub="status=404")[1]["error"]["code"] == "OBJECT_NOT_FOUND"
    assert api("POST", EMBED, {"model_id": "TpEmb001", "input": ["a", "b"]}, X_Stub="no_vectors")[1]["data"][1]["embedding"] == []
    record = api.stub.calls()[-1]
    assert record["path"] == EMBED and record["headers"]["Authorization"] == "***" and TASKING_KEY not in json.dumps(api.stub.calls())


def test_completions(api):
    say = {"model_id": "TpAb12Cd", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "112 + 22?"}]}
    data = api("POST", COMPLETE, say)[1]["data"]
    assert data["message"] == {"content": "Echo: 112 + 22?", "role": "assistant", "function_calls": None} and data["finish_reason"] == "stop" and data["fallback_index"] is None
    data = api("POST", COMPLETE, {**say, "functions": [ADD], "function_call": "add"})[1]["data"]
    assert data["finish_reason"] == "function_calls" and data["message"]["content"] is None and data["message"]["function_calls"][0]["arguments"] == {"a": 112, "b": 22}
    refused((422, {"error": {**api("POST", COMPLETE, {**say, "configs": {"temperature": 7}})[1]["error"], "message": "m"}}), 422, "REQUEST_VALIDATION_ERROR", "m")
    vectors = api("POST", EMBED, {"model_id": "TpEmb001", "input": ["a", "b", "a"]})[1]["data"]
    assert vectors[0]["embedding"] == vectors[2]["embedding"] != vectors[1]["embedding"] and abs(sum(x * x for x in vectors[0]["embedding"]) - 1) < 1e-3
    ranked = api("POST", RERANK, {"model_id": "TpRer001", "query": "capital of Ghana", "documents": ["fish", "the capital of Ghana"], "top_n": 1})[1]["data"]["results"]
    assert [r["index"] for r in ranked] == [1]


# --- Streams. ---

def stream(api, text, directives="", **more):
    """The head, and the body's chunks as they came; whether its end came."""
    body = json.dumps({"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": text}], **more}).encode()
    host, port = api.place.split(":")
    with socket.create_connection((host, int(port)), timeout=20 * SLOW) as s:
        s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nX-Stub: %s\r\nContent-Length: %d\r\n\r\n"
                  % (COMPLETE.encode(), TASKING_KEY.encode(), directives.encode(), len(body)) + body)
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n") and (piece := s.recv(65536)):
            data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    chunks = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return head.decode(), chunks, True
        chunks.append(rest[:int(size, 16)])
        rest = rest[int(size, 16) + 2:]
    return head.decode(), chunks, False


def events(chunks):
    text = b"".join(chunks).decode()
    assert re.fullmatch(r"(data: [^\n]*\n\n)*", text), text
    return [line[6:] if line.startswith("data: [") else json.loads(line[6:]) for line in text.split("\n\n")[:-1]]


def test_a_stream_is_exact(api):
    head, chunks, ended = stream(api, "ɛ \U0001f600")
    assert "Content-Type: text/event-stream; charset=utf-8" in head and "chunked" in head and ended
    text = b"".join(chunks)
    assert text.isascii() and b"\\u025b" in text and b"\\ud83d\\ude00" in text
    got = events(chunks)
    assert [e["delta"] for e in got[:-2]] == ["Echo: ", "ɛ ", "\U0001f600"] and list(got[0]) == ["object", "role", "index", "delta", "created_timestamp"]
    assert got[-2]["object"] == "ChatCompletion" and got[-2]["message"]["content"] == "Echo: ɛ \U0001f600" and got[-1] == "[DONE]"
    assert b'data: {"object": "ChatCompletionChunk", "role": "assistant", "index": 0, "delta": "Echo: ", "created_timestamp": ' in text


@pytest.mark.parametrize("directives,check", [
    ("pieces=4", lambda c, e: len(events(c)) == 6 and e),
    ("pieces=40", lambda c, e: len(events(c)) == 42 and "".join(x["delta"] for x in events(c)[:40]) == "Echo: a b"),
    ("say=hello you", lambda c, e: events(c)[-2]["message"]["content"] == "hello you"),
    ("split=5", lambda c, e: e and all(len(x) <= 5 for x in c) and len(c) > 50),
    ("crlf", lambda c, e: b"".join(c).endswith(b"data: [DONE]\r\n\r\n") and b"\n\n" not in b"".join(c)),
    ("cr", lambda c, e: b"".join(c).endswith(b"data: [DONE]\r\r") and b"\n" not in b"".join(c)),
    ("comments", lambda c, e: b"".join(c).startswith(b": nothing to see\nid: 7\nretry: 10\ndata: ")),
    ("multiline", lambda c, e: b"".join(c).startswith(b'data: {"object": "ChatCompletionChunk",\ndata: ')),
    ("bom", lambda c, e: b"".join(c).startswith(b"\xef\xbb\xbfdata: ")),
    ("raw_utf8,astral", lambda c, e: "\U0001f600".encode() in b"".join(c)),
    ("bad_unicode", lambda c, e: b'\\ud83d"' in b"".join(c)),
    ("raw_utf8,bad_unicode", lambda c, e: b'\xff"' in b"".join(c)),
    ("empty_deltas", lambda c, e: [x["delta"] for x in events(c)[:4]] == ["Echo: ", "", "a ", ""]),
    ("unknown_object", lambda c, e: events(c)[1] == {"object": "Weather", "sun": True}),
    ("after_done", lambda c, e: events(c)[-2] == "[DONE]" and events(c)[-1]["object"] == "Error"),
    ("not_json", lambda c, e: b"data: no JSON\n\n" in b"".join(c)),
    ("end=nofinal", lambda c, e: e and events(c)[-1] == "[DONE]" and events(c)[-2]["object"] == "ChatCompletionChunk"),
    ("end=nodone", lambda c, e: e and events(c)[-1]["object"] == "ChatCompletion"),
    ("end=cut", lambda c, e: not e and events(c)[-1]["delta"] == "b"),
    ("end=midline", lambda c, e: not e and b"".join(c).endswith(b'{"object": "ChatComp')),
    ("stream_error=1,code=A,message=m", lambda c, e: events(c) == [{"object": "Error", "code": "A", "message": "m"}, "[DONE]"]),
    ("stream_error=3,empty_message", lambda c, e: [x if x == "[DONE]" else x["object"] for x in events(c)] == ["ChatCompletionChunk"] * 2 + ["Error", "[DONE]"] and events(c)[2]["message"] == ""),
])
def test_streams_on_demand(api, directives, check):
    _, chunks, ended = stream(api, "a b", directives)
    assert check(chunks, ended), (chunks, ended)


def test_a_stream_has_its_pace_and_its_stamps(api):
    begin = time.time()
    _, chunks, _ = stream(api, "a b", "pace=60,stamp")
    stamps = [int(e["delta"].rsplit("@", 1)[1]) / 1e6 for e in events(chunks)[:3]]
    assert time.time() - begin >= 0.18 and begin - 0.1 <= stamps[0] and all(b - a >= 0.055 for a, b in zip(stamps, stamps[1:]))


def test_a_stream_that_hangs(api):
    body = json.dumps({"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": "a"}]})
    answer = api.raw("POST", COMPLETE, body, {"X-Stub": "end=hang"})
    assert b"Echo" in answer.fp.readline() + answer.fp.readline()
    answer.close()


def test_a_model_that_cannot_stream(api):
    status, answer = api("POST", COMPLETE, {"model_id": "TpNoS123", "stream": True, "messages": [{"role": "user", "content": "x"}]})
    assert status == 422 and answer["error"]["message"]["message"] == "The model cannot stream."


# --- Objects, as they are shown and changed. ---

def collection(api, **more):
    return f"{C}/" + api.make(C, {"embedding_model_id": "TpEmb001", "capacity": 1000, **more})


def chat_of(api, **assistant):
    a = api.make(A, {**ASSISTANT, **assistant})
    return f"{A}/{a}/chats/" + api.make(f"{A}/{a}/chats", {})


def speak(api, place, text, role="user"):
    return api("POST", place + "/messages", {"role": role, "content": {"text": text}})


def test_objects_have_the_members_of_the_reference_in_its_order(api):
    _, answer = api("POST", A, {**ASSISTANT, "memory": {"type": "naive", "max_messages": None}, "name": "Twi ɛ", "x": 1})
    assistant = answer["data"]
    assert list(assistant) == ["object", "assistant_id", "model_id", "name", "description", "system_prompt_template", "memory", "tools", "retrievals",
                               "retrieval_configs", "metadata", "created_timestamp", "updated_timestamp"]
    assert assistant["object"] == "Assistant" and assistant["memory"] == {"type": "naive"} and assistant["created_timestamp"] == assistant["updated_timestamp"] > 1.7e12
    place = chat_of(api)
    chat = api("GET", place)[1]["data"]
    assert list(chat) == ["object", "assistant_id", "chat_id", "metadata", "memory", "name", "created_timestamp", "updated_timestamp"]
    assert chat["memory"] == {"type": "message_window", "messages": [], "max_messages": 20, "max_tokens": 2000}
    message = speak(api, place, "Maakye")[1]["data"]
    assert list(message) == ["object", "assistant_id", "chat_id", "message_id", "role", "content", "num_tokens", "metadata", "created_timestamp", "updated_timestamp"]
    assert api("GET", place)[1]["data"]["memory"]["messages"] == [{"role": "user", "content": "Maakye"}]
    c = collection(api)
    assert list(api("GET", c)[1]["data"]) == ["object", "collection_id", "name", "description", "num_records", "num_chunks", "capacity", "embedding_model_id", "embedding_size",
                                              "status", "metadata", "updated_timestamp", "created_timestamp"]
    record = api("POST", c + "/records", {"type": "text", "content": "x", "text_splitter": SPLITTER})[1]["data"]
    assert list(record) == ["object", "record_id", "collection_id", "title", "status", "num_chunks", "type", "content", "metadata", "updated_timestamp", "created_timestamp"]
    chunk = api("GET", c + "/chunks")[1]["data"][0]
    assert sorted(chunk) == ["chunk_id", "collection_id", "content", "created_timestamp", "metadata", "num_tokens", "record_id", "updated_timestamp"] and chunk["record_id"] == record["record_id"]


def test_answers_are_compact_and_raw(api):
    answer = api.raw("POST", A, json.dumps({**ASSISTANT, "name": "ɛ"}))
    text = answer.read()
    assert '"name":"ɛ"'.encode() in text and int(answer.headers["Content-Length"]) == len(text) and answer.headers["Content-Type"] == "application/json"


def test_null_empty_and_absent_in_updates(api):
    def updated(place, body):
        status, answer = api("POST", place, body)
        return answer["data"]["metadata"] if status == 200 else status

    a = f"{A}/" + api.make(A, {**ASSISTANT, "metadata": {"a": "b"}})
    assert [updated(a, b) for b in ({}, {"name": None}, {"metadata": None}, {"metadata": {}}, {"metadata": {"c": "d"}})] == [{"a": "b"}] * 4 + [{"c": "d"}]
    chat = chat_of(api)
    message = f"{chat}/messages/" + speak(api, chat, "x")[1]["data"]["message_id"]
    for place in (chat, message, collection(api)):
        assert updated(place, {"metadata": {"a": "b"}}) == {"a": "b"} and updated(place, {}) == updated(place, {"metadata": None}) == 500
        assert updated(place, {"metadata": {}}) == {}
    refused(api("POST", chat, {}), 500, "INTERNAL_SERVER_ERROR", "pdate dict cannot be empty")
    c = collection(api)
    record = f"{c}/records/" + api.make(c + "/records", {"type": "text", "content": "x", "text_splitter": SPLITTER, "metadata": {"a": "b"}})
    chunk = f"{c}/chunks/" + api.make(c + "/chunks", {"content": "x", "metadata": {"a": "b"}})
    for place in (record, chunk):
        assert [updated(place, b) for b in ({}, {"metadata": None}, {"metadata": {}})] == [{"a": "b"}] * 2 + [{}]


def test_pages_of_each_kind_and_below_another_parent(api):
    one, other, place = collection(api), collection(api), chat_of(api)
    for where, bodies in ((one + "/chunks", [{"content": f"c{i}"} for i in range(25)]), (one + "/records", [{"type": "text", "content": "t", "text_splitter": SPLITTER}] * 3),
                          (place + "/messages", [{"role": "user", "content": {"text": "t"}}] * 3)):
        for body in bodies:
            api.make(where, body)
        _, answer = api("GET", where)
        assert answer["fetched_count"] == len(answer["data"]) == min(20, len(answer["data"]))
        key = where.rsplit("/", 1)[1][:-1] + "_id"
        ids, query = [], "?limit=2&order=asc"
        while True:
            _, page = api("GET", where + query)
            ids += [o[key] for o in page["data"]]
            if not page["has_more"]:
                break
            query = f"?limit=2&order=asc&after={ids[-1]}"
        assert len(ids) == len(set(ids)) >= len(bodies) and ids == sorted(ids)
        before = api("GET", f"{where}?limit=1&order=desc&before={ids[0]}")[1]
        assert [o[key] for o in before["data"]] == [ids[1]] and before["has_more"]
    chunk = api("GET", one + "/chunks?limit=1")[1]["data"][0]["chunk_id"]
    refused(api("GET", f"{other}/chunks?after={chunk}"), 404, "OBJECT_NOT_FOUND", f"chunk {chunk} not found")
    refused(api("GET", f"{other}/chunks/{chunk}"), 404, "OBJECT_NOT_FOUND", f"chunk {chunk} not found")


def test_texts_are_cut_and_found(api):
    c = collection(api)
    text = " ".join(f"word{i}" for i in range(100))
    record = api("POST", c + "/records", {"type": "text", "content": text, "text_splitter": {"type": "token", "chunk_size": 50, "chunk_overlap": 10}})[1]["data"]
    chunks = [x["content"] for x in api("GET", c + "/chunks?order=asc&limit=100")[1]["data"]]
    assert record["num_chunks"] == len(chunks) == 5 and all(len(x) <= 200 for x in chunks) and text.startswith(chunks[0]) and text.endswith(chunks[-1]) and chunks[0][160:] == chunks[1][:40]
    place = f"{c}/records/{record['record_id']}"
    cut = {"type": "separator", "separators": ["\n\n", "."]}
    again = api("POST", place, {"content": "Accra lies at the sea.\n\nKumasi does not.Tamale", "type": "text", "text_splitter": cut})[1]["data"]
    assert again["num_chunks"] == 3 and api("GET", c)[1]["data"]["num_chunks"] == 3 and api("GET", c)[1]["data"]["num_records"] == 1
    found = api("POST", c + "/chunks/query", {"query_text": "Kumasi does not", "top_k": 20})[1]["data"]
    assert found[0]["content"] == "Kumasi does not" and found[0]["score"] == pytest.approx(1) and [f["score"] for f in found] == sorted((f["score"] for f in found), reverse=True)
    assert [f["content"] for f in api("POST", c + "/chunks/query", {"query_text": "Kumasi does not", "top_k": 20, "score_threshold": 0.999})[1]["data"]] == ["Kumasi does not"]
    assert [f["content"] for f in api("POST", c + "/chunks/query", {"query_text": "Kumasi does not", "top_k": 20, "max_tokens": 2})[1]["data"]] == ["Tamale"]
    refused(api("POST", c + "/chunks/query", {"query_text": "x", "top_k": 1, "rerank_model_id": "TpAb12Cd"}), 404, "OBJECT_NOT_FOUND", "model TpAb12Cd")
    refused(api("GET", place + "/chunks"), 422, "REQUEST_VALIDATION_ERROR", "query/prefix_filter")
    assert len(api("GET", place + "/chunks?prefix_filter=")[1]["data"]) == 3
    assert api("DELETE", place) == (200, {"status": "success"}) and api("GET", c + "/chunks")[1]["data"] == []
    big = {"type": "text", "content": ".".join("x" for _ in range(1200)), "text_splitter": {"type": "separator", "separators": ["."]}}
    refused(api("POST", c + "/records", big), 429, "RESOURCE_LIMIT_REACHED", "capacity")
    assert api("GET", c + "/records")[1]["data"] == []
    web = api("POST", c + "/records", {"type": "web", "url": "https://example.org/ɛ", "text_splitter": SPLITTER})[1]["data"]
    assert json.loads(web["content"]) == {"url": "https://example.org/ɛ"}


def test_the_store_can_be_emptied(api):
    api.make(A, ASSISTANT)
    api.stub.ask("DELETE", "/_stub/store")
    assert api("GET", A)[1] == {"status": "success", "data": [], "fetched_count": 0, "has_more": False}


# --- Conversations. ---

def test_a_reply_is_stored_when_its_stream_is_over(api):
    place = chat_of(api)
    speak(api, place, "Maakye")
    answer = api.raw("POST", place + "/generate", json.dumps({"stream": True, "system_prompt_variables": {"x": "stub(pace=300)"}}))
    assert b"MessageChunk" in answer.readline()
    assert [m["role"] for m in api("GET", place + "/messages")[1]["data"]] == ["user"]
    refused(api("POST", place + "/generate", {}), 400, "INVALID_REQUEST", "is locked")
    text = answer.read().decode()
    final = json.loads(text.split("data: ")[-2])
    assert final["object"] == "Message" and final["content"] == {"text": "Echo: Maakye"} and text.endswith("data: [DONE]\n\n")
    assert api("GET", f"{place}/messages/{final['message_id']}")[1]["data"] == final


@pytest.mark.parametrize("directive", ["end=cut", "end=nofinal", "stream_error=2", "cut_after=1"])
def test_a_reply_whose_stream_fails_is_not_stored(api, directive):
    place = chat_of(api)
    speak(api, place, "Maakye")
    with contextlib.suppress(http.client.IncompleteRead):
        api.raw("POST", place + "/generate", json.dumps({"stream": True}), {"X-Stub": directive}).read()
    assert [m["role"] for m in api("GET", place + "/messages")[1]["data"]] == ["user"]
    assert api("POST", place + "/generate", {})[1]["data"]["role"] == "assistant"


def test_a_message_brings_directives_for_its_reply(api):
    place = chat_of(api)
    speak(api, place, "Maakye stub(path=/generate,status=500,code=GENERATION_ERROR,times=1,then,say=Yaa ɛna)")
    refused(api("POST", place + "/generate", {}), 500, "GENERATION_ERROR", "")
    assert api("POST", place + "/generate", {})[1]["data"]["content"] == {"text": "Yaa ɛna"}
    speak(api, place, "a b c stub(pieces=2)")
    assert api.raw("POST", place + "/generate", json.dumps({"stream": True})).read().count(b'"MessageChunk"') == 2


def test_a_client_that_goes_away_is_told_of(api):
    place = chat_of(api)
    speak(api, place, "a b c d")
    answer = api.raw("POST", place + "/generate", json.dumps({"stream": True}), {"X-Stub": "pace=200"})
    assert b"Echo: " in answer.fp.readline() + answer.fp.readline()
    answer.close()
    until(lambda: api.stub.stats()["gone"] == 1, 20, "the stub has seen it")
    record = [c for c in api.stub.calls() if c["path"].endswith("/generate")][0]
    assert record["gone"] is True and 1 <= record["sent_pieces"] <= 3 and record["sent_bytes"] > 50
    assert [m["role"] for m in api("GET", place + "/messages")[1]["data"]] == ["user"]
    status, _ = api("POST", place + "/generate", {})
    assert status == 200, "its lock went with it"


def test_what_a_chat_remembers(api):
    zero = chat_of(api, memory={"type": "zero"})
    speak(api, zero, "a")
    assert api("POST", zero + "/generate", {})[0] == 200
    refused(api("POST", zero + "/generate", {}), 400, "INVALID_REQUEST", "There is no user message")
    window = chat_of(api, memory={"type": "message_window", "max_messages": 2, "max_tokens": 100})
    for text in "abc":
        speak(api, window, text)
    assert [m["content"] for m in api("GET", window)[1]["data"]["memory"]["messages"]] == ["b", "c"]
    naive = chat_of(api, memory={"type": "naive"})
    refused(speak(api, naive, "x" * 65536), 429, "RESOURCE_LIMIT_REACHED", "65535")
    assert len(api("GET", naive + "/messages")[1]["data"]) == 1, "it was stored all the same"
    broken = chat_of(api, memory={"type": "message_window", "max_messages": 2})
    speak(api, broken, "a")
    refused(api("POST", broken + "/generate", {}), 500, "INTERNAL_SERVER_ERROR", "")
    assert [m["role"] for m in api("GET", broken + "/messages")[1]["data"]] == ["assistant", "user"], "it was stored all the same"


def test_generation_fails_within_its_stream(api):
    place = chat_of(api, model_id="TpNoS123")

    def objects(body):
        answer = api.raw("POST", place + "/generate", json.dumps(body))
        assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return [e if e == "[DONE]" else json.loads(e) for e in answer.read().decode()[6:-2].split("\n\ndata: ")]

    assert objects({"stream": True}) == [{"object": "Error", "code": "INVALID_REQUEST", "message": "There is no user message in the chat context."}, "[DONE]"]
    speak(api, place, "Maakye")
    assert objects({"stream": True})[0]["message"] == "The model cannot stream."
    logs = objects({"debug": True})
    assert [e["object"] for e in logs[:-1]] == ["MessageGenerationLog"] * 2 + ["Message"] and [e["event_step"] for e in logs[:2]] == ["input", "output"]
    assert logs[0]["event_id"] == logs[1]["event_id"] and logs[1]["content"]["message"]["content"] == "Echo: Maakye"
    refused(api("POST", f"{A}/unknown/chats/unknown/generate", {}), 404, "OBJECT_NOT_FOUND", "assistant unknown not found")


def test_an_assistant_completes_chats_without_storing_them(api):
    a = api.make(A, {**ASSISTANT, "model_id": "TpNoS123"})
    say = {"model_id": a, "messages": [{"role": "user", "content": "x"}], "configs": {"temperature": 7}}
    data = api("POST", COMPLETE, say)[1]["data"]
    assert data["message"]["content"] == "Echo: x" and "fallback_index" not in data
    refused(api("POST", COMPLETE, {**say, "messages": [{"role": "user", "content": ""}]}), 500, "GENERATION_ERROR", "message")
    text = api.raw("POST", COMPLETE, json.dumps({**say, "stream": True})).read()
    assert text == b'data: {"object": "Error", "code": "INVALID_REQUEST", "message": "The model cannot stream."}\n\ndata: [DONE]\n\n'


CALL = {"role": "assistant", "content": None, "function_calls": [{"id": "i", "name": "add", "arguments": {}}]}
USER, RESULT = {"role": "user", "content": "x"}, {"role": "function", "id": "i", "content": "134"}


@pytest.mark.parametrize("messages,words", [
    ([USER, {"role": "system", "content": "s"}], "system message"), ([USER, CALL], "no function message"), ([USER, CALL, USER], "before anything else"),
    ([USER, CALL, CALL, RESULT], "before anything else"), ([USER, RESULT], "needs a function call"), ([USER, CALL, RESULT, RESULT], "needs a function call"),
    ([USER, CALL, RESULT, USER], "No text may follow"), ([{"role": "user", "content": ""}], "no message"), ([USER, CALL, RESULT], None), ([USER, CALL, RESULT, CALL, RESULT], None),
])
def test_the_model_services_rules(api, messages, words):
    status, answer = api("POST", COMPLETE, {"model_id": "TpAb12Cd", "messages": messages})
    if words:
        assert status == 422 and words in answer["error"]["message"]["message"], answer
    else:
        assert answer["data"]["message"]["content"] == "Echo: 134"


@pytest.mark.parametrize("name,value", [("temperature", 1.1), ("top_p", -1), ("top_k", 11), ("top_k", 1.5), ("max_tokens", 0), ("stop", "x"), ("stop", ["a"] * 5), ("stop", [""]), ("presence_penalty", "1"),
                                        ("frequency_penalty", 2), ("seed", 4294967296), ("response_format", "xml")])
def test_configs_that_do_not_conform(api, name, value):
    say = {"model_id": "TpAb12Cd", "messages": [USER]}
    status, answer = api("POST", COMPLETE, {**say, "configs": {name: value}})
    assert status == 422 and answer["error"]["code"] == "REQUEST_VALIDATION_ERROR" and f"{name}" in answer["error"]["message"]["message"]
    assert api("POST", COMPLETE, {**say, "configs": {"unknown": value, "temperature": 0.5, "seed": 4294967295, "stop": ["a"] * 4}})[0] == 200


def test_calls_of_functions(api):
    search = {"name": "search", "description": "d", "parameters": {"type": "object", "properties": {"what": {"type": "string"}, "deep": {"type": "boolean"}, "in": {"type": "array", "items": {"type": "string"}}}}}
    say = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "112 + 22?"}], "functions": [ADD, search]}
    assert api("POST", COMPLETE, say)[1]["data"]["message"]["function_calls"] is None
    data = api("POST", COMPLETE, say, X_Stub="call")[1]["data"]
    assert data["message"]["function_calls"] == [{"id": "P3lf00000000000000000001", "name": "add", "arguments": {"a": 112, "b": 22}}] and data["fallback_index"] is None
    data = api("POST", COMPLETE, {**say, "function_call": "search"})[1]["data"]
    assert data["message"]["function_calls"][0]["arguments"] == {"what": "112 + 22?", "deep": True, "in": []}
    _, chunks, _ = stream(api, "1 2", **{k: v for k, v in say.items() if k == "functions"}, function_call="add")
    assert [e if e == "[DONE]" else e["object"] for e in events(chunks)] == ["ChatCompletion", "[DONE]"] and events(chunks)[0]["fallback_index"] is None
    for wrong in ({"function_call": {"name": "add"}}, {"functions": [{"name": "add"}]}, {"functions": [{**ADD, "parameters": {"type": "object", "properties": {"a": {"type": "any"}}}}]}):
        refused(api("POST", COMPLETE, {**say, **wrong}), 422, "REQUEST_VALIDATION_ERROR", "body/function")


def test_embeddings_on_demand(api):
    ask = {"model_id": "TpEmb001", "input": ["a", "b"]}

    def embedded(how):
        answer = api.raw("POST", EMBED, json.dumps(ask), {"X-Stub": "embedding=" + how})
        return answer.read().decode()

    assert '[{"index":0},{"index":1,"embedding":[' in embedded("missing") and '"embedding":null' in embedded("null") and '"embedding":"' in embedded("text") and "1e999" in embedded("not_finite")
    assert [len(v["embedding"]) for v in json.loads(embedded("short"))["data"]] == [7, 8] and [v["index"] for v in json.loads(embedded("dropped"))["data"]] == [1]
    assert api("POST", EMBED, {**ask, "input": []})[1]["data"] == [] and len(api("POST", EMBED, {**ask, "input": "one"})[1]["data"]) == 1
    status, answer = api("POST", EMBED, {**ask, "model_id": "TpAb12Cd"})
    assert status == 422 and "text embedding" in answer["error"]["message"]["message"]
    refused(api("POST", EMBED, {**ask, "input": ["a", 5]}), 422, "REQUEST_VALIDATION_ERROR", "body/input/1: Input should be a valid string")
    status, answer = api("POST", RERANK, {"model_id": "TpEmb001", "query": "q", "documents": ["d"], "top_n": 1})
    assert status == 422 and "rerank" in answer["error"]["message"]["message"]


# --- Files. ---

def form(*parts, boundary="x"):
    return b"".join(b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (boundary.encode(), head.encode(), data) for head, data in parts) + b"--%s--\r\n" % boundary.encode()


PURPOSE = ('name="purpose"', b"record_file")


def upload(api, body, boundary="x", to=FILES, **headers):
    return api("POST", to, body, **{"Content_Type": f"multipart/form-data; boundary={boundary}", **headers})


@pytest.mark.parametrize("body,words", [
    (form(('name="file"; filename="a.txt"', b"x")), "body/purpose: Field required"), (form(PURPOSE), "body/file: Field required"), (form(PURPOSE, ('name="file"', b"x")), "body/file"),
    (form(('name="purpose"', b"qa_record_file"), ('name="file"; filename="a.txt"', b"x")), "body/purpose: Input should be 'record_file'"),
    (form(PURPOSE, ('name="file"; filename="txt"', b"x")), "not supported"), (form(PURPOSE, ('name="file"; filename="a.csv"', b"x")), "not supported"),
    (form(PURPOSE, ('name="file"; filename="a.txt"', b"x" * (15 * 1048576 + 1))), "File size is too large."),
])
def test_uploads_that_are_refused(api, body, words):
    refused(upload(api, body), 422, "REQUEST_VALIDATION_ERROR", words)


def test_forms(api):
    good = form(PURPOSE, ('filename="b c;\\".PDF"; name="file"', b"\r\n--y\0\r\n"), boundary="a'b")
    assert upload(api, good, boundary='"a\'b"')[1]["data"]["file_id"].startswith("pdf_Jde5")
    assert upload(api, form(PURPOSE, ('name="file"; filename="a.txt"', b"x" * 15 * 1048576)))[0] == 200
    assert upload(api, form(PURPOSE, ('name="file"; filename="a.md"', b"")))[0] == 200
    for bad in (good[:-4], b"x" + good, good.replace(b"name=", b"nam="), good.replace(b"\r\n\r\n", b"\r\n"), form(*[PURPOSE] * 17), b""):
        assert upload(api, bad, boundary="a'b") == (400, {"detail": "There was an error parsing the body"}), bad[:60]
    refused(upload(api, good, Content_Type="application/json"), 422, "REQUEST_VALIDATION_ERROR", "body/purpose: Field required")
    image = form(('name="purpose"', b"user_message_image"), ('name="image"; filename="a.png"', b"\x89PNG"))
    assert upload(api, image, to="/v1/images")[1]["data"]["url"].endswith(".png")


def test_a_file_is_used_up_even_by_a_record_that_fails(api):
    c = collection(api)

    def make(data):
        file_id = upload(api, form(PURPOSE, ('name="file"; filename="notes \u025b.txt"', data)))[1]["data"]["file_id"]
        return file_id, api("POST", c + "/records", {"type": "file", "file_id": file_id, "text_splitter": SPLITTER})

    file_id, (_, answer) = make(b"Accra")
    assert json.loads(answer["data"]["content"]) == {"file_id": file_id, "file_name": "notes \u025b.txt", "file_size": 5} and api("GET", c + "/chunks")[1]["data"][0]["content"] == "Accra"
    file_id, answer = make(b" \n")
    refused(answer, 400, "INVALID_REQUEST", "no text")
    refused(api("POST", c + "/records", {"type": "file", "file_id": file_id, "text_splitter": SPLITTER}), 404, "OBJECT_NOT_FOUND", f"file {file_id} not found")
    refused(api("POST", c + "/records", {"type": "file", "text_splitter": SPLITTER}), 500, "INTERNAL_SERVER_ERROR", "NoneType")


# --- Actions. ---

def document(**operations):
    return {"openapi": "3.1.0", "servers": [{"url": "https://x.example/api/"}], "paths": {"/" + name: {"get": {"operationId": name, "summary": "s", **more}} for name, more in operations.items()}}


def actions(api, schema, **more):
    return api("POST", "/v1/actions/bulk_create", {"openapi_schema": schema, **more})


def test_actions_are_made_of_documents(api):
    parameters = [{"name": "city", "in": "path", "required": True, "schema": {"type": "string"}}, {"name": "day", "in": "query", "schema": {"type": "integer"}}]
    action = actions(api, document(getWeather={"parameters": parameters}), authentication={"type": "custom", "content": {"X-Key": "secretsecret", "Y": "abcd"}})[1]["data"][0]
    assert list(action) == ["object", "action_id", "name", "operation_id", "description", "url", "method", "path_param_schema", "query_param_schema", "body_param_schema", "body_type",
                            "function_def", "openapi_schema", "authentication", "created_timestamp", "updated_timestamp"] or set(action) >= {"function_def", "authentication"}
    assert action["name"] == "get_weather" and action["url"] == "https://x.example/api/getWeather" and action["method"] == "GET" and action["body_type"] == "NONE"
    assert action["path_param_schema"] == {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]} and action["query_param_schema"]["required"] == []
    assert action["authentication"] == {"encrypted": False, "type": "custom", "secret": None, "content": {"X-Key": "se****et", "Y": "abcd"}}
    assert list(action["openapi_schema"]["paths"]["/getWeather"]) == ["get"]
    place = "/v1/actions/" + action["action_id"]
    refused(api("POST", place + "/run", {}), 500, "INTERNAL_SERVER_ERROR", "NoneType")
    for how, want in (("text", {"status": 200, "data": {"result": "The stub's text."}}), ("unreachable", {"status": 500, "error": {"error": "Failed to make the API call"}}),
                      ("too_large", {"status": 200, "data": {"error": "The response is too large."}})):
        assert api("POST", place + "/run", {"parameters": {}}, X_Stub="target=" + how)[1]["data"] == want
    changed = api("POST", place, {"openapi_schema": document(other={}), "authentication": {"type": "bearer", "secret": "abcdefgh"}})[1]["data"]
    assert changed["operation_id"] == "other" and changed["path_param_schema"] is None and changed["authentication"]["secret"] == "ab****gh" and changed["action_id"] == action["action_id"]
    refused(api("POST", place, {"openapi_schema": document(a={}, b={})}), 422, "REQUEST_VALIDATION_ERROR", "Exactly one path")
    for name in ("openapi_schema", "authentication"):
        refused(api("POST", place, {name: None}), 422, "REQUEST_VALIDATION_ERROR", "body/" + name)
    refused(api("POST", "/v1/actions/a-b/run", {}), 404, "OBJECT_NOT_FOUND", "action a-b not found")
    refused(api("DELETE", "/v1/actions/a-b"), 422, "REQUEST_VALIDATION_ERROR", "Invalid path parameter: action_id")


@pytest.mark.parametrize("schema,words", [
    ({**document(a={}), "servers": []}, "one server"), ({**document(a={}), "servers": [{"url": "a"}, {"url": "b"}]}, "one server"), (document(), "one path"), (document(a={"operationId": "a b"}), "operationId"),
    (document(a={"operationId": "a" * 129}), "operationId"), (document(a={"summary": None}), "description"), (document(a={"description": "d" * 513}), "512"),
])
def test_documents_that_are_refused(api, schema, words):
    refused(actions(api, schema), 422, "REQUEST_VALIDATION_ERROR", words)
    assert api("GET", "/v1/actions")[1]["data"] == []


def test_an_assistants_parts_must_be_there(api):
    action = actions(api, document(a={}))[1]["data"][0]["action_id"]
    one, other = collection(api).rsplit("/", 1)[1], collection(api, embedding_model_id="TpEmb002").rsplit("/", 1)[1]

    def make(**more):
        return api("POST", A, {**ASSISTANT, **more})

    tool, retrieval = [{"type": "action", "id": action}], [{"type": "collection", "id": one}]
    assert make(tools=tool + [{"type": "plugin", "id": "a/b"}], retrievals=retrieval)[0] == 200
    refused(make(tools=[{"type": "action", "id": "bFBdx"}]), 404, "OBJECT_NOT_FOUND", "action bFBdx not found")
    refused(make(tools=[{"type": "plugin", "id": "ab"}]), 422, "REQUEST_VALIDATION_ERROR", "plugin id")
    refused(make(tools=[{"type": "other", "id": "ab"}]), 422, "REQUEST_VALIDATION_ERROR", "body/tools/0/type: Input should be 'action' or 'plugin'")
    refused(make(tools=tool, model_id="TpNoF123"), 422, "REQUEST_VALIDATION_ERROR", "does not support function call")
    refused(make(retrievals=[{"type": "collection", "id": "DbgYx"}]), 404, "OBJECT_NOT_FOUND", "collection DbgYx not found")
    refused(make(retrievals=retrieval + [{"type": "collection", "id": other}]), 422, "REQUEST_VALIDATION_ERROR", "same embedding model")
    refused(make(retrievals=retrieval, retrieval_configs={"method": "function_call"}, model_id="TpNoF123"), 422, "REQUEST_VALIDATION_ERROR", "does not support function call")


# --- The order of checks, family by family. ---

@pytest.mark.parametrize("path,body,words", [
    (A, {**ASSISTANT, "model_id": None}, "body/model_id: Input should be a valid string"), (A, {**ASSISTANT, "name": "x" * 128}, "body/name: String should have at most 127 characters"),
    (A, {**ASSISTANT, "metadata": {str(i): "" for i in range(17)}}, "body/metadata: Dictionary should have at most 16 items"), (A, {**ASSISTANT, "system_prompt_template": ["a", 1]}, "body/system_prompt_template/1"),
    (A, {**ASSISTANT, "memory": {"type": "message_window", "max_messages": 1025}}, "body/memory/max_messages: Input should be less than or equal to 1024"),
    (A, {k: v for k, v in ASSISTANT.items() if k != "retrieval_configs"}, "body/retrieval_configs: Field required"), (A, {**ASSISTANT, "retrieval_configs": {"top_k": 3}}, "body/retrieval_configs/method: Field required"),
    (A, {**ASSISTANT, "retrieval_configs": {"method": "memory", "top_k": 21}}, "body/retrieval_configs/top_k"), (A, {**ASSISTANT, "retrieval_configs": {"method": "memory", "score_threshold": 1.5}}, "score_threshold"),
    (A, "[]", "body: Input should be a valid dictionary"), (A, "", "body: Field required"), (C, {"embedding_model_id": "TpEmb001", "capacity": None}, "body/capacity: Input should be a valid integer"),
    (f"{A}/%s/chats/%s/messages", {"role": "system", "content": {"text": "x"}}, "body/role: Input should be 'user' or 'assistant'"), (f"{A}/%s/chats/%s/messages", {"role": "user", "content": {}}, "body/content/text: Field required"),
    (f"{A}/%s/chats/%s/generate", {"system_prompt_variables": {"a": 1}}, "body/system_prompt_variables/a: Input should be a valid string"), (f"{A}/%s/chats/%s/generate", {"stream": "x"}, "body/stream: Input should be a valid boolean"),
    (f"{C}/%s/records", {"type": "text", "content": "x"}, "body/text_splitter: Field required"), (f"{C}/%s/records", {"type": "qa_sheet", "file_id": "x", "text_splitter": SPLITTER}, "body/type"),
    (f"{C}/%s/records", {"type": "text", "text_splitter": SPLITTER}, "body/content"), (f"{C}/%s/records", {"type": "web", "url": "http://x", "text_splitter": SPLITTER}, "body/url"),
    (f"{C}/%s/records", {"type": "text", "content": "x", "text_splitter": {"type": "token", "chunk_size": 100}}, "body/text_splitter/chunk_overlap: Field required"),
    (f"{C}/%s/records", {"type": "text", "content": "x", "text_splitter": {"type": "token", "chunk_size": 100, "chunk_overlap": 51}}, "body/text_splitter/chunk_overlap"),
    (f"{C}/%s/records", {"type": "text", "content": "x", "text_splitter": {"type": "separator", "separators": ["a", "ba"]}}, "body/text_splitter/separators"),
    (f"{C}/%s/records", {"type": "text", "content": "x", "text_splitter": {"type": "separator", "separators": ["a" * 50]}}, "body/text_splitter/separators"),
    (f"{C}/%s/chunks", {"content": ""}, "body/content: String should have at least 1 character"), (f"{C}/%s/chunks/query", {"query_text": "x"}, "body/top_k: Field required"),
    (f"{C}/%s/chunks/query", {"query_text": "x", "top_k": 21}, "body/top_k"), (f"{C}/%s/chunks/query", {"query_text": "x", "top_k": 1, "max_tokens": 0}, "body/max_tokens"),
    (EMBED, {"model_id": "TpEmb01", "input": "x"}, "body/model_id: String should have at least 8 characters"), (EMBED, {"model_id": "TpEmb001", "input": "x", "input_type": "y"}, "body/input_type: Input should be 'document' or 'query'"),
    (RERANK, {"model_id": "TpRer001", "query": "q", "documents": ["d", None], "top_n": 1}, "body/documents/1"), (RERANK, {"model_id": "TpRer001", "query": "q", "documents": [], "top_n": 0}, "body/top_n"),
    ("/v1/actions/bulk_create", {"openapi_schema": {}, "authentication": {"type": "bearer"}}, "body/authentication/secret: Field required"), ("/v1/actions/%s/run", {"parameters": []}, "body/parameters"),
])
def test_a_schema_comes_before_ids_and_objects(api, path, body, words):
    text = json.dumps(body) if isinstance(body, dict) else body
    path = path.replace("%s", "no-such-id")
    refused(api("POST", path, text), 422, "REQUEST_VALIDATION_ERROR", words)
    refused(api("POST", path, text, Authorization="Bearer " + "0" * 32), 404, "OBJECT_NOT_FOUND", "apikey")
    if isinstance(body, dict):
        assert "debug" in api("POST", path, text)[1]["error"] and api("POST", path, text[:-1], Authorization="none")[1]["error"]["message"].endswith("JSON decode error")


def test_the_order_of_checks(api):
    missing, bad = f"{C}/DbgY0/records", f"{C}/a-b/records"
    good = {"type": "text", "content": "x", "text_splitter": SPLITTER}
    refused(api("POST", bad, good), 422, "REQUEST_VALIDATION_ERROR", "Invalid path parameter: collection_id")
    refused(api("POST", missing, good), 404, "OBJECT_NOT_FOUND", "collection DbgY0 not found")
    refused(api("GET", missing + "?limit=101"), 422, "REQUEST_VALIDATION_ERROR", "query/limit: Input should be less than or equal to 100")
    refused(api("GET", A + "?after=" + "a" * 51), 422, "REQUEST_VALIDATION_ERROR", "query/after")
    assert api("PUT", missing, "{", Authorization=None) == (405, {"detail": "Method Not Allowed"}) and api("POST", missing + "/x/y", "{") == (404, {"detail": "Not Found"})
    answer = api.raw("POST", A + "/?a=b%20c", "{")
    assert answer.status == 307 and answer.headers["Location"] == api.stub.url + A + "?a=b%20c" and answer.read() == b""
    assert api("GET", "/v1/nowhere/")[0] == 404 and api("GET", A + "//") == (404, {"detail": "Not Found"})
    assert api("GET", "/v1/version", Authorization=None)[1]["data"]["version"] == "v0.3.0" and api("GET", "/v1/health_check", Authorization=None) == (200, {"status": "success"})


def test_the_hosted_edition():
    stub = Stub("--edition", "hosted")
    try:
        api = Client(stub)
        a = api.make(A, {"model_id": "TpAb12Cd", "memory": {"type": "message_window", "max_tokens": 100}})
        chat = f"{A}/{a}/chats/" + api.make(f"{A}/{a}/chats", {})
        assert "memory" not in api("GET", chat)[1]["data"] and "num_tokens" not in speak(api, chat, "x")[1]["data"]
        assert api("POST", chat + "/generate", {})[0] == 200 and api("POST", chat + "/clean_context", {})[0] == 200
        refused(api("POST", chat + "/generate", {}), 400, "INVALID_REQUEST", "no user message")
        c = collection(api, type="qa")
        shown = api("GET", c)[1]["data"]
        assert shown["type"] == "qa" and "num_chunks" not in shown
        sheet = form(('name="purpose"', b"qa_record_file"), ('name="file"; filename="a.csv"', b"q,a"))
        record = api("POST", c + "/records", {"type": "qa_sheet", "file_id": upload(api, sheet)[1]["data"]["file_id"], "text_splitter": SPLITTER})[1]["data"]
        assert record["status"] == "creating" and api("GET", f"{c}/records/{record['record_id']}")[1]["data"]["status"] == "ready"
    finally:
        stub.stop()


# --- The record. ---

def test_what_was_sent_is_told(api):
    api("GET", f"{A}/a%2Db?after=%C9%9B%20x&limit=5", Accept="application/json", traceparent="00-a-b-01")
    api("POST", f"{C}/unknown/chunks/query", '{"query_text": "\\u025b", "top_k": 1}')
    upload(api, form(PURPOSE, ('name="file"; filename="a.txt"', "ɛ".encode())), boundary="x")
    upload(api, form(PURPOSE, ('name="file"; filename="a.pdf"', b"\xff\0")))
    listed, asked, text, binary = api.stub.calls()
    assert listed["method"] == "GET" and listed["path"] == A + "/a-b" and listed["target"] == A + "/a%2Db?after=%C9%9B%20x&limit=5" and listed["traceparent"] == "00-a-b-01"
    assert listed["headers"]["Accept"] == "application/json" and listed["headers"]["Authorization"] == "***" and "body" not in listed and "target" not in asked
    assert asked["text"] == "ɛ" and asked["body"] == '{"query_text": "\\u025b", "top_k": 1}' and asked["content_type"] == "application/json"
    assert text["parts"][0] == {"name": "purpose", "filename": None, "content_type": None, "bytes": 11, "sha256": hashlib.sha256(b"record_file").hexdigest(), "text": "record_file"}
    assert text["parts"][1]["filename"] == "a.txt" and text["parts"][1]["text"] == "ɛ" and "body" not in text
    assert "text" not in binary["parts"][1] and binary["parts"][1]["sha256"] == hashlib.sha256(b"\xff\0").hexdigest()
    assert api.stub.stats()["routes"] == {A + "/{}": 1, C + "/{}/chunks/query": 1, FILES: 2}


def test_a_key_in_a_query_is_not_told(api):
    api.stub.ask("GET", "/v1/languages?subscription-key=tkSECRET&x=%20y")
    assert api.stub.calls()[-1]["target"] == "/v1/languages?subscription-key=***&x=%20y"


def test_directives_stand_anywhere(api):
    assert api("POST", A, {**ASSISTANT, "name": "n stub(status=503)"})[0] == 503 and api("GET", A + "?after=stub(status%3D418)")[0] == 418
    assert api("GET", A + "/stub(status=418)")[0] == 418 and upload(api, form(PURPOSE, ('name="file"; filename="stub(status=418).txt"', b"\xff")))[0] == 418
    say = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": 'stub(say=ɛ "x" \\)'}]}
    assert api("POST", COMPLETE, say)[1]["data"]["message"]["content"] == 'ɛ "x" \\'
    c = collection(api)
    assert api("POST", c + "/chunks/query", {"query_text": "stub(status=500,code=UNKNOWN_ERROR,message=m)", "top_k": 1}) == (500, {"status": "error", "error": {"code": "UNKNOWN_ERROR", "message": "m"}})
    say["messages"] = [USER]
    for manner in ("close", "reset"):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            api("POST", COMPLETE, {**say, "stream": True}, X_Stub=manner)
    with pytest.raises(http.client.IncompleteRead):
        api("POST", COMPLETE, {**say, "stream": True}, X_Stub="truncate")
    answer = api.raw("POST", COMPLETE, json.dumps({**say, "stream": True}), {"X-Stub": "type=text/plain,retry_after=7"})
    assert answer.headers["Content-Type"] == "text/plain" and answer.headers["Retry-After"] == "7" and answer.read().endswith(b"[DONE]\n\n")
    for bad in ("end=never", "embedding=x", "target=y", "cut_after=x"):
        assert api("GET", A, X_Stub=bad)[0] == 400


@pytest.mark.parametrize("directives,check", [
    ("cut_after=2", lambda c, e: not e and [x["delta"] for x in events(c)] == ["Echo: ", "a "]),
    ("cut_after=9", lambda c, e: e and events(c)[-1] == "[DONE]"),
    ("cut_after=1,end=nofinal", lambda c, e: e and [x if x == "[DONE]" else x["delta"] for x in events(c)] == ["Echo: ", "[DONE]"]),
    ("say= padded ,delay=0", lambda c, e: "".join(x["delta"] for x in events(c)[:-2]) == " padded " and events(c)[-2]["message"]["content"] == "padded"),
    ("dribble=1,say=x", lambda c, e: e and all(len(x) == 1 for x in c)),
    ("split=1,raw_utf8,astral,say=x", lambda c, e: e and all(len(x) == 1 for x in c) and b"\xf0\x9f\x98\x80" in b"".join(c)),
    ("lone_surrogate", lambda c, e: b'Echo: a b\\ud83d"' in b"".join(c)),
])
def test_more_streams_on_demand(api, directives, check):
    _, chunks, ended = stream(api, "a b", directives)
    assert check(chunks, ended), (chunks, ended)


def test_many_streams_at_once(api):
    n, pieces = 200, 20
    began = time.time()
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        ended = list(pool.map(lambda i: stream(api, f"{i}", f"pace=20,pieces={pieces}"), range(n)))
    assert all(e and len(events(c)) == pieces + 2 for _, c, e in ended) and time.time() - began < 20 * SLOW
    assert api.stub.stats()["gone"] == 0 and all(c["sent_pieces"] == pieces and not c["gone"] for c in api.stub.calls())


def test_streams_without_a_record():
    stub = Stub("--no-record", "--delay", "1")
    try:
        api = Client(stub)
        assert events(stream(api, "a b")[1])[-1] == "[DONE]" and api.stub.calls() == [] and api.stub.stats()["calls"] == 1
    finally:
        stub.stop()
