"""The stub as TaskingAI: its store, the order of its checks, what it refuses, and its streams byte by byte."""
import http.client
import json
import re
import socket
import time

import pytest
from conftest import SLOW, TASKING_KEY, Stub

A, C, FILES = "/v1/assistants", "/v1/collections", "/v1/files"
COMPLETE, EMBED, RERANK = "/v1/inference/chat_completion", "/v1/inference/text_embedding", "/v1/inference/rerank"
ASSISTANT = {"model_id": "TpAb12Cd", "memory": {"type": "message_window", "max_messages": 20, "max_tokens": 2000}, "retrieval_configs": {"top_k": 3, "method": "memory"}}
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
        return [v for k, v in answer["data"].items() if k in OWN and str(v).startswith(OWN[k])][-1]  # what stands above comes first


OWN = {"assistant_id": "X5lM", "chat_id": "SdEL", "message_id": "Mah1", "collection_id": "DbgY", "record_id": "qpEa", "chunk_id": "LmK0"}


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
    ("POST", COMPLETE, {"model_id": "TpNoF123", "messages": [{"role": "user", "content": "x"}], "functions": [{}]}, {}, 422, "REQUEST_VALIDATION_ERROR", "cannot call functions"),
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
    data = api("POST", COMPLETE, {**say, "functions": [{"name": "add"}], "function_call": "add"})[1]["data"]
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
