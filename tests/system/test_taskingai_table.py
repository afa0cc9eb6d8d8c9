"""What answers of TaskingAI mean, row by row: errors, retries, what must not be repeated, streams. All rows at once through one worker, against an
API that answers each exactly what its row says.

A row's marker stands in the path or in a message. Its answers are given in order, the last again and again."""
import fcntl
import json
import os
import re
import socket
import struct
import threading
import time

import pytest
from conftest import RedisServer, Stub, System, until

Q = "adwuma:{taskingai}:"
GET, DELETE, CREATE = "get_assistant", "delete_assistant", "create_chat"  # repeatable; likewise, and gone is well; must not be repeated
OK = {"status": "success", "data": {"object": "X"}}
FINAL = {"object": "ChatCompletion", "finish_reason": "stop", "message": {"content": "Yaa ɛna", "role": "assistant"}, "usage": {"input_tokens": 9, "output_tokens": 4}}
MESSAGE = {"object": "Message", "message_id": "Mah1", "role": "assistant", "content": {"text": "Yaa"}}
CUT, RESET, SILENCE, END = "cut", "reset", "silence", "end"
ALL = "all of it"


def envelope(code, message, **more):
    return {"status": "error", "error": {"code": code, "message": message, **more}}


def answer(status, body=b"", content_type="application/json", *headers):
    body = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    head = [f"HTTP/1.1 {status} Said so", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return ["\r\n".join(head).encode() + b"\r\n\r\n" + body]


def page(status):
    return answer(status, "<html><head><title>Bad things</title></head><body>no</body></html>", "text/html")


def sse(*events, end="\n"):
    return b"".join(e if isinstance(e, bytes) else f"data: {json.dumps(e)}{end}{end}".encode() for e in events)


def stream(*parts, after=END, status=200, content_type="text/event-stream; charset=utf-8"):
    """Parts of a chunked body, each sent by itself, and what comes after them."""
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return [head, *(b"%x\r\n%s\r\n" % (len(p), p) for p in parts), b"0\r\n\r\n" if after == END else after]


def piece(i=0, delta="x", kind="ChatCompletionChunk"):
    return {"object": kind, "role": "assistant", "index": i, "delta": delta, "created_timestamp": 1}


DONE = b"data: [DONE]\n\n"
GOOD = stream(sse(piece(0), piece(1), FINAL, DONE))
EVERY_BYTE = stream(*(bytes([b]) for b in sse(piece(0, "ɛ\U0001f600"), FINAL, DONE)))


class Row:
    def __init__(self, name, *answers, op=GET, calls=1, error=None, words="", result=None, entries=None, params=None, attempts=None, **fields):
        self.name, self.answers, self.op, self.calls, self.error, self.words, self.result, self.entries = name, answers, op, calls, error, words, result, entries
        self.params, self.fields, self.attempts = params, fields, calls if attempts is None else attempts
        self.seen = []


def bad(name, reply, code, status, again=False, calls=None, kind="TaskingAIError", words="", **more):
    """A failure: at most two tries, so that what is tried again is told from what is not by the number of calls."""
    more.setdefault("max_attempts", 2)
    return Row(name, reply, error=(kind, code, status, again), calls=calls or (2 if again else 1), words=words, **more)


def once(name, reply, code, status, again=False, kind="TaskingAIError", words="", **more):
    """A failure of what must not be repeated: one call, whatever it is."""
    return Row(name, reply, op=more.pop("op", CREATE), error=(kind, code, status, again), calls=1, words=words, max_attempts=3, **more)


def streamed(name, reply, **more):
    return Row(name, *(reply if isinstance(reply, tuple) else (reply,)), op="chat_completion", params={"stream": True, **more.pop("params", {})}, **more)


def streamed_bad(name, reply, code, status=200, again=False, kind="TaskingAIError", words="", **more):
    more.setdefault("max_attempts", 1)
    return streamed(name, reply, error=(kind, code, status, again), words=words, **more)


def generated(name, reply, **more):
    return Row(name, reply, op="generate_message", params={"stream": True, **more.pop("params", {})}, **more)


ROWS = [
    # 3.1 to 3.3
    Row("object", answer(200, OK), result={"data": {"object": "X"}}),
    Row("status is missing", answer(200, {"data": {"a": 1}}), result={"data": {"a": 1}}),
    Row("more members", answer(200, {**OK, "x": [1], "usage": None}), result={"data": {"object": "X"}, "x": [1], "usage": None}),
    Row("list", answer(200, {"status": "success", "data": [{}, {}], "fetched_count": 2, "has_more": True}), op="list_assistants", params={"after": "M"},
        result={"data": [{}, {}], "fetched_count": 2, "has_more": True}),
    Row("deleted", answer(200, {"status": "success"}), op=DELETE, result={"data": None}),
    Row("blanks around it", answer(200, "\ufeff \n" + json.dumps(OK) + "\n"), result={"data": {"object": "X"}}),
    Row("numbers as they are", answer(200, '{"status":"success","data":{"n":9007199254740993,"e":1e-7,"z":-0.0,"f":1.50}}'),
        result='{"data":{"n":9007199254740993,"e":1e-7,"z":-0.0,"f":1.50}}'),
    Row("on one line", answer(200, '{\r\n "status": "success",\n "data": {\n  "n": 1.50,\n  "a": [\n   1\n  ]\n }\n}\n'), result='{"data":{   "n": 1.50,   "a": [    1   ]  }}'),
    Row("half a pair of surrogates", answer(200, '{"data":{"t":"a\\ud83db"}}'), result='{"data":{"t":"a\\ufffdb"}}'),
    Row("bytes that are no UTF-8", answer(200, b'{"data":{"t":"a\xffb"}}'), result={"data": {"t": "a\ufffdb"}}),
    Row("an escaped NUL", answer(200, '{"data":{"t":"a\\u0000b"}}'), result={"data": {"t": "a\0b"}}),
    bad("a page under 200", answer(200, "<html>hello</html>", "text/html"), "protocol", 200, words="hello"),
    bad("nothing under 200", answer(200, ""), "protocol", 200),
    bad("an array under 200", answer(200, "[1]"), "protocol", 200),
    bad("a list in place of an object", answer(200, {"data": []}), "protocol", 200, words="an object in data"),
    bad("no data", answer(200, {"status": "success"}), "protocol", 200),
    bad("an object in place of a list", answer(200, {"data": {}}), "protocol", 200, op="list_assistants", params={"after": "M"}),
    bad("broken JSON", answer(200, '{"data":{"a":'), "protocol", 200),
    bad("too deep", answer(200, '{"data":' + "[" * 300 + "]" * 300 + "}"), "protocol", 200),
    bad("an error under 200", answer(200, envelope("OBJECT_NOT_FOUND", "assistant x not found")), "OBJECT_NOT_FOUND", 200, words="assistant x not found"),
    bad("a limit under 200", answer(200, envelope("TOO_MANY_REQUESTS", "slower")), "TOO_MANY_REQUESTS", 200, True, kind="RateLimitError"),
    bad("a redirect", answer(307, "", "text/plain", "Location: http://127.0.0.1:1/"), "protocol", 307),
    bad("a redirect to there", answer(302, "", "text/plain", "Location: /v1/assistants"), "protocol", 302),
    # 3.4
    bad("envelope", answer(404, envelope("OBJECT_NOT_FOUND", "assistant x not found")), "OBJECT_NOT_FOUND", 404, words="assistant x not found"),
    bad("with debug", answer(422, envelope("REQUEST_VALIDATION_ERROR", "body/x: Field required", debug="[{}]")), "REQUEST_VALIDATION_ERROR", 422,
        words="body/x: Field required"),
    bad("message is an object", answer(422, envelope("REQUEST_VALIDATION_ERROR", {"code": "INNER", "message": "too hot", "debug": "d"})),
        "REQUEST_VALIDATION_ERROR", 422, words="too hot"),
    bad("message within a message", answer(422, envelope("A", {"error_code": "B", "message": {"message": "innermost"}})), "A", 422, words="innermost"),
    bad("the code is inside alone", answer(422, {"status": "error", "error": {"message": {"error_code": "B", "message": "m"}}}), "B", 422, words="m"),
    bad("message is an object of another kind", answer(422, envelope("A", {"why": "because"})), "A", 422, words='A'),
    bad("message is a list", answer(422, envelope("A", ["x", 1])), "A", 422, words='["x",1]'),
    bad("message is empty", answer(400, envelope("INVALID_REQUEST", "")), "INVALID_REQUEST", 400, words="HTTP 400: INVALID_REQUEST"),
    bad("message is null", answer(400, envelope("INVALID_REQUEST", None)), "INVALID_REQUEST", 400, words="HTTP 400: INVALID_REQUEST"),
    bad("code is missing", answer(400, {"status": "error", "error": {"message": "m"}}), "protocol", 400, words="m"),
    bad("error is a string", answer(400, {"error": "gone wrong"}), "protocol", 400, words="gone wrong"),
    bad("message has lines", answer(400, envelope("A", "one\ntwo\0three")), "A", 400, words="one\ntwo"),
    bad("message is long", answer(400, envelope("A", "x" * 40000)), "A", 400, words="x" * 16000),
    # 3.5
    bad("no such route", answer(404, {"detail": "Not Found"}), "protocol", 404, words="Not Found (TASKINGAI_HOST names another place"),
    bad("no such method", answer(405, {"detail": "Method Not Allowed"}, "application/json", "Allow: GET"), "protocol", 405, words="Method Not Allowed"),
    bad("body not decoded", answer(400, {"detail": "There was an error parsing the body"}), "protocol", 400, words="There was an error parsing the body"),
    bad("detail is a list", answer(422, {"detail": [{"msg": "m"}]}), "protocol", 422, words='[{"msg":"m"}]'),
    bad("too large", page(413), "protocol", 413, words="Bad things"),
    bad("gateway's page", page(502), "protocol", 502, True, words="Bad things"),
    bad("gateway is slow", page(504), "protocol", 504, True),
    bad("empty 404", answer(404, "", "text/plain"), "protocol", 404, words="HTTP 404"),
    bad("plain text", answer(503, "upstream connect error", "text/plain"), "protocol", 503, True, words="upstream connect error"),
    # 3.6, 3.7, 3.9
    bad("no key", answer(401, envelope("APIKEY_VALIDATION_FAILED", "API Key validation failed")), "APIKEY_VALIDATION_FAILED", 401, kind="AuthenticationError"),
    bad("wrong key", answer(401, envelope("TOKEN_VALIDATION_FAILED", "Invalid apikey")), "TOKEN_VALIDATION_FAILED", 401, kind="AuthenticationError"),
    bad("unknown key", answer(404, envelope("OBJECT_NOT_FOUND", "apikey 12345678 not found")), "OBJECT_NOT_FOUND", 404, kind="AuthenticationError"),
    bad("the model's credentials", answer(401, envelope("CREDENTIALS_VALIDATION_ERROR", "bad")), "CREDENTIALS_VALIDATION_ERROR", 401),
    bad("401 of a proxy", page(401), "protocol", 401, kind="AuthenticationError"),
    bad("forbidden", answer(403, envelope("A", "no")), "A", 403),
    bad("too many requests", answer(429, envelope("TOO_MANY_REQUESTS", "slower")), "TOO_MANY_REQUESTS", 429, True, kind="RateLimitError"),
    bad("429 of a proxy", page(429), "protocol", 429, True, kind="RateLimitError"),
    bad("full", answer(429, envelope("RESOURCE_LIMIT_REACHED", "capacity")), "RESOURCE_LIMIT_REACHED", 429),
    bad("duplicate", answer(409, envelope("DUPLICATE_OBJECT", "d")), "DUPLICATE_OBJECT", 409),
    bad("object locked", answer(423, envelope("OBJECT_LOCKED", "l")), "OBJECT_LOCKED", 423, True),
    bad("chat locked", answer(400, envelope("INVALID_REQUEST", "Chat is locked by another")), "INVALID_REQUEST", 400, True),
    bad("invalid request", answer(400, envelope("INVALID_REQUEST", "There is no user message")), "INVALID_REQUEST", 400),
    bad("provider is away", answer(400, envelope("PROVIDER_ERROR", "Model x failed to respond: Provider's service is unavailable")), "PROVIDER_ERROR", 400, True),
    bad("provider refuses", answer(400, envelope("PROVIDER_ERROR", "Model x failed to respond: no money")), "PROVIDER_ERROR", 400),
    bad("408", answer(408, ""), "protocol", 408, True),
    bad("501", answer(501, ""), "protocol", 501),
    Row("500 is tried twice, however often is allowed", answer(500, envelope("INTERNAL_SERVER_ERROR", "")), calls=2, max_attempts=5,
        error=("TaskingAIError", "INTERNAL_SERVER_ERROR", 500, True), words="HTTP 500: INTERNAL_SERVER_ERROR"),
    Row("generation error likewise", answer(500, envelope("GENERATION_ERROR", "{'a': 1}")), calls=2, max_attempts=5,
        error=("TaskingAIError", "GENERATION_ERROR", 500, True)),
    Row("520 of a CDN likewise", page(520), calls=2, max_attempts=5, error=("TaskingAIError", "protocol", 520, True)),
    Row("503, then 500: twice in all", page(503), answer(500, envelope("A", "a")), calls=2, max_attempts=5, error=("TaskingAIError", "A", 500, True)),
    Row("500, then well", answer(500, envelope("A", "a")), answer(200, OK), calls=2, result={"data": {"object": "X"}}),
    Row("429, then well", answer(429, envelope("A", "a"), "application/json", "Retry-After: 0"), answer(200, OK), calls=2, result={"data": {"object": "X"}}),
    Row("locked, then well", answer(400, envelope("INVALID_REQUEST", "is locked")), answer(200, OK), calls=2, result={"data": {"object": "X"}}),
    bad("cut before an answer", [CUT], "transport", 0, True),
    bad("reset", [RESET], "transport", 0, True),
    bad("cut in the head", [b"HTTP/1.1 200 OK\r\nContent-Type: app", CUT], "transport", 200, True),
    bad("cut in the body", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":", CUT], "transport", 200, True),
    bad("silence", [SILENCE], "timeout", 0, True, timeout_ms=400, max_attempts=1, calls=1, attempts=1),
    bad("no HTTP at all", [b"hello there\r\n\r\n", CUT], "transport", 0, True),
    # deletions
    Row("deleted by the first try", page(503), answer(404, envelope("OBJECT_NOT_FOUND", "assistant x not found")), op=DELETE, calls=2, result={"data": None}),
    Row("deleted, and the answer was lost", [CUT], answer(404, envelope("OBJECT_NOT_FOUND", "assistant x not found")), op=DELETE, calls=2, result={"data": None}),
    bad("was not there", answer(404, envelope("OBJECT_NOT_FOUND", "assistant x not found")), "OBJECT_NOT_FOUND", 404, op=DELETE),
    Row("gone, and the key is unknown", page(503), answer(404, envelope("OBJECT_NOT_FOUND", "apikey x not found")), op=DELETE, calls=2,
        error=("AuthenticationError", "OBJECT_NOT_FOUND", 404, False)),
    Row("gone, and there is no route", page(503), answer(404, {"detail": "Not Found"}), op=DELETE, calls=2, error=("TaskingAIError", "protocol", 404, False)),
    # what must not be repeated
    Row("created", answer(200, OK), op=CREATE, result={"data": {"object": "X"}}),
    once("not after a 500", answer(500, envelope("INTERNAL_SERVER_ERROR", "x")), "INTERNAL_SERVER_ERROR", 500, True),
    once("not after a 503", page(503), "protocol", 503, True),
    once("not after a cut", [CUT], "transport", 0, kind="UnknownOutcomeError", words="must not be sent twice"),
    once("not after half an answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", CUT], "transport", 200, kind="UnknownOutcomeError"),
    once("not after silence", [SILENCE], "timeout", 0, kind="UnknownOutcomeError", timeout_ms=400),
    once("nor where it is refused", answer(422, envelope("A", "a")), "A", 422),
    once("nor where it is full", answer(429, envelope("RESOURCE_LIMIT_REACHED", "chat")), "RESOURCE_LIMIT_REACHED", 429),
    Row("but after 429", answer(429, envelope("TOO_MANY_REQUESTS", "x")), answer(200, OK), op=CREATE, calls=2, result={"data": {"object": "X"}}),
    Row("but after 423", answer(423, envelope("OBJECT_LOCKED", "x")), answer(200, OK), op=CREATE, calls=2, result={"data": {"object": "X"}}),
    Row("but where it is locked", answer(400, envelope("INVALID_REQUEST", "the chat is locked")), answer(200, OK), op=CREATE, calls=2, result={"data": {"object": "X"}}),
    Row("but where the job says rerun", [CUT], answer(200, OK), op=CREATE, calls=2, if_unsure="rerun", result={"data": {"object": "X"}}),
    once("and where the job says hold", [CUT], "transport", 0, kind="UnknownOutcomeError", op=GET, if_unsure="hold"),
    once("an action's run", [CUT], "transport", 0, kind="UnknownOutcomeError", op="run_action"),
    once("actions", [CUT], "transport", 0, kind="UnknownOutcomeError", op="bulk_create_actions"),
    once("a context", [CUT], "transport", 0, kind="UnknownOutcomeError", op="clean_chat_context"),
    once("an assistant's answer", [CUT], "transport", 0, kind="UnknownOutcomeError", op="chat_completion", params={"model_id": "X5lMaaaaBBBBccccDDDD1234"}),
    Row("a model's answer may be", [CUT], answer(200, {"data": FINAL}), op="chat_completion", calls=2, result={"data": FINAL}),
    Row("an action whose target failed has run", answer(200, {"data": {"status": 503, "data": {"error": "x"}}}), op="run_action",
        result={"data": {"status": 503, "data": {"error": "x"}}}),
    # 7
    Row("vectors", answer(200, '{"status":"success","data":[{"index":0,"embedding":[0.1,1e-7]},{"index":0,"embedding":[1]}],"usage":{"input_tokens":2}}'),
        op="text_embedding", params={"input": ["a", "M"]}, result='{"data":[{"index":0,"embedding":[0.1,1e-7]},{"index":0,"embedding":[1]}],"usage":{"input_tokens":2}}'),
    Row("no inputs", answer(200, {"data": [], "usage": {"input_tokens": 0}}), op="text_embedding", params={"input": [], "input_type": "M"},
        result={"data": [], "usage": {"input_tokens": 0}}),
    bad("a vector is missing", answer(200, {"data": [{"index": 0, "embedding": [1]}]}), "protocol", 200, op="text_embedding", params={"input": ["a", "M"]}),
    bad("a vector is empty", answer(200, {"data": [{"index": 0, "embedding": []}]}), "protocol", 200, op="text_embedding", params={"input": "M"}),
    bad("no vectors at all", answer(200, {"data": []}), "protocol", 200, op="text_embedding", params={"input": "M"}),
    bad("a vector is null", answer(200, {"data": [{"index": 0, "embedding": None}]}), "protocol", 200, op="text_embedding", params={"input": "M"}),
    # 8
    streamed("stream", GOOD, result={"data": FINAL}, entries=[piece(0), piece(1)]),
    streamed("every byte by itself", EVERY_BYTE, result={"data": FINAL}, entries=[piece(0, "ɛ\U0001f600")]),
    streamed("lines end with CR LF", stream(sse(piece(0), FINAL, end="\r\n"), DONE), result={"data": FINAL}, entries=[piece(0)]),
    streamed("lines end with CR", stream(sse(piece(0), FINAL, end="\r"), b"data: [DONE]\r\r"), result={"data": FINAL}, entries=[piece(0)]),
    streamed("CR and LF apart", stream(b"data: " + json.dumps(piece(0)).encode() + b"\r", b"\n\r", b"\n", sse(FINAL, DONE)), result={"data": FINAL}, entries=[piece(0)]),
    streamed("a byte order mark", stream(b"\xef", b"\xbb\xbf" + sse(piece(0), FINAL, DONE)), result={"data": FINAL}, entries=[piece(0)]),
    streamed("comments, ids, names", stream(b": hello\nid: 1\nretry: 5\nevent: message\n", sse(piece(0)), b":\n\n\n\n", b"event: ping\ndata: not JSON\n\n", sse(FINAL, DONE)),
             result={"data": FINAL}, entries=[piece(0)]),
    streamed("data in two lines", stream(b'data: {"object": "ChatCompletionChunk",\ndata:  "delta": "x"}\n\n', sse(FINAL, DONE)), result={"data": FINAL},
             entries=[{"object": "ChatCompletionChunk", "delta": "x"}]),
    streamed("raw UTF-8", stream('data: {"object":"ChatCompletionChunk","delta":"ɛ😀\u2028\x85"}\n\n'.encode(), sse(FINAL, DONE)), result={"data": FINAL},
             entries=[{"object": "ChatCompletionChunk", "delta": "ɛ😀\u2028\x85"}]),
    streamed("half a pair of surrogates in it", stream(b'data: {"object":"ChatCompletionChunk","delta":"a\\ud83db"}\n\n', sse(FINAL, DONE)), result={"data": FINAL},
             entries=[{"object": "ChatCompletionChunk", "delta": "a\ufffdb"}]),
    streamed("a byte that is no UTF-8 in it", stream(b'data: {"object":"ChatCompletionChunk","delta":"a\xffb"}\n\n', sse(FINAL, DONE)), result={"data": FINAL},
             entries=[{"object": "ChatCompletionChunk", "delta": "a\ufffdb"}]),
    streamed("empty deltas", stream(sse(piece(0, ""), FINAL, DONE)), result={"data": FINAL}, entries=[piece(0, "")]),
    streamed("unknown objects", stream(sse({"object": "Weather"}, {"a": 1}, piece(0), FINAL, DONE)), result={"data": FINAL}, entries=[piece(0)]),
    streamed("no pieces", stream(sse(FINAL, DONE)), result={"data": FINAL}, entries=[]),
    streamed("no [DONE]", stream(sse(piece(0), FINAL)), result={"data": FINAL}, entries=[piece(0)]),
    streamed("no blank line at the end", stream(sse(piece(0)), b"data: " + json.dumps(FINAL).encode()), result={"data": FINAL}, entries=[piece(0)]),
    streamed("cut behind the last object", stream(sse(piece(0), FINAL), after=CUT), result={"data": FINAL}, entries=[piece(0)]),
    streamed("it does not hang up", stream(sse(piece(0), FINAL, DONE), after=SILENCE), result={"data": FINAL}, entries=[piece(0)]),
    streamed("events behind [DONE]", stream(sse(piece(0), FINAL, DONE, {"object": "Error", "code": "X", "message": "late"}, piece(9))), result={"data": FINAL}, entries=[piece(0)]),
    streamed("errors that are none", stream(sse({**piece(0), "error": None}, {**piece(1), "error": False}, {**piece(2), "error": 0}, {**piece(3), "error": ""}, FINAL, DONE)),
             result={"data": FINAL}, entries=[{**piece(0), "error": None}, {**piece(1), "error": False}, {**piece(2), "error": 0}, {**piece(3), "error": ""}]),
    streamed("JSON in place of a stream", answer(200, {"status": "success", "data": FINAL}), result={"data": FINAL}, entries=[]),
    streamed("another case of its type", stream(sse(piece(0), FINAL, DONE), content_type="Text/Event-Stream"), result={"data": FINAL}, entries=[piece(0)]),
    streamed("numbers in it as they are", stream(b'data: {"object":"ChatCompletion","n":9007199254740993,"e":1e-7}\n\n', DONE),
             result='{"data":{"object":"ChatCompletion","n":9007199254740993,"e":1e-7}}', entries=[]),
    streamed("cut, then well", (stream(sse(piece(0), piece(1)), after=CUT), GOOD), calls=2, result={"data": FINAL}, entries=[piece(0), piece(1), 2, piece(0), piece(1)]),
    streamed("503, then well", (page(503), GOOD), calls=2, result={"data": FINAL}, entries=[2, piece(0), piece(1)]),
    streamed("an error, then well", (stream(sse(piece(0), {"object": "Error", "code": "UNKNOWN_ERROR", "message": ""}, DONE)), GOOD), calls=2, result={"data": FINAL},
             entries=[piece(0), 2, piece(0), piece(1)]),
    streamed_bad("it ends too early", stream(sse(piece(0))), "truncated", again=True, words="ended early", entries=[piece(0)]),
    streamed_bad("[DONE], and no last object", stream(sse(piece(0), DONE)), "truncated", again=True, entries=[piece(0)]),
    streamed_bad("cut", stream(sse(piece(0)), after=CUT), "truncated", again=True, entries=[piece(0)]),
    streamed_bad("cut in a line", stream(sse(piece(0)), b'data: {"object": "ChatComp', after=CUT), "truncated", again=True, entries=[piece(0)]),
    streamed_bad("ended in a line", stream(sse(piece(0)), b'data: {"object": "ChatComp'), "truncated", again=True, entries=[piece(0)]),
    streamed_bad("reset", stream(sse(piece(0)), after=RESET), "truncated", again=True, entries=ALL),
    streamed_bad("nothing in it", stream(), "truncated", again=True, entries=[]),
    streamed_bad("silence in it", stream(sse(piece(0)), after=SILENCE), "timeout", again=True, timeout_ms=400, entries=[piece(0)], words="nothing came for 400 ms"),
    streamed_bad("silence before it", [SILENCE], "timeout", 0, again=True, timeout_ms=400, entries=[]),
    streamed_bad("no JSON in it", stream(sse(piece(0)), b"data: hello\n\n", sse(FINAL, DONE)), "protocol", entries=[piece(0)]),
    streamed_bad("a list in it", stream(b"data: [1]\n\n", sse(FINAL, DONE)), "protocol", entries=[]),
    streamed_bad("an error first", stream(sse({"object": "Error", "code": "INVALID_REQUEST", "message": "There is no user message"}, DONE)), "INVALID_REQUEST",
                 words="There is no user message", entries=[]),
    streamed_bad("an error after pieces", stream(sse(piece(0), {"object": "Error", "code": "PROVIDER_ERROR", "message": "no"}, DONE)), "PROVIDER_ERROR", words="no", entries=[piece(0)]),
    streamed_bad("an error without words", stream(sse({"object": "Error", "code": "UNKNOWN_ERROR", "message": ""}, DONE)), "UNKNOWN_ERROR", again=True,
                 words="HTTP 200: UNKNOWN_ERROR", entries=[]),
    streamed_bad("an error and no [DONE]", stream(sse({"object": "Error", "code": "A", "message": "m"}), after=CUT), "A", words="m", entries=[]),
    streamed_bad("an error before the last object", stream(sse({"object": "Error", "code": "A", "message": "m"}, FINAL, DONE)), "A", words="m", entries=[]),
    streamed_bad("a key named error", stream(sse({"error": {"code": "B", "message": "details"}}, DONE)), "B", words="details", entries=[]),
    streamed_bad("a key named error with words", stream(sse({"error": "broken"}, DONE)), "protocol", words="broken", entries=[]),
    streamed_bad("a limit in it", stream(sse({"object": "Error", "code": "TOO_MANY_REQUESTS", "message": "m"}, DONE)), "TOO_MANY_REQUESTS", again=True, kind="RateLimitError", entries=[]),
    streamed_bad("a lock in it", stream(sse({"object": "Error", "code": "INVALID_REQUEST", "message": "Chat is locked"}, DONE)), "INVALID_REQUEST", again=True, entries=[]),
    streamed_bad("a refused key in it", stream(sse({"object": "Error", "code": "TOKEN_VALIDATION_FAILED", "message": "m"}, DONE)), "TOKEN_VALIDATION_FAILED",
                 kind="AuthenticationError", entries=[]),
    streamed_bad("another status", answer(422, envelope("A", {"message": "inner"})), "A", 422, words="inner", entries=[]),
    streamed_bad("a stream under another status", stream(sse(piece(0), FINAL, DONE), status=500), "protocol", 500, again=True, entries=[]),
    streamed_bad("a page in place of a stream", page(200), "protocol", 200, entries=[]),
    streamed_bad("an error in place of a stream", answer(200, envelope("GENERATION_ERROR", "m")), "GENERATION_ERROR", again=True, words="m", entries=[]),
    generated("generated", stream(sse(piece(0, kind="MessageChunk"), MESSAGE, DONE)), result={"data": MESSAGE}, entries=[piece(0, kind="MessageChunk")]),
    generated("with logs", stream(sse({"object": "MessageGenerationLog", "event": "tool"}, piece(0, kind="MessageChunk"), MESSAGE, DONE)), result={"data": MESSAGE},
              params={"debug": True}, entries=[{"object": "MessageGenerationLog", "event": "tool"}, piece(0, kind="MessageChunk")]),
    generated("logs alone", stream(sse({"object": "MessageGenerationLog", "event": "tool"}, MESSAGE, DONE)), result={"data": MESSAGE}, params={"stream": False, "debug": True},
              entries=[{"object": "MessageGenerationLog", "event": "tool"}]),
    generated("generated, and cut", stream(sse(piece(0, kind="MessageChunk")), after=CUT), error=("UnknownOutcomeError", "truncated", 200, False), max_attempts=3,
              entries=[piece(0, kind="MessageChunk")]),
    generated("generated, and ended early", stream(sse(piece(0, kind="MessageChunk"), DONE)), error=("UnknownOutcomeError", "truncated", 200, False), max_attempts=3,
              entries=[piece(0, kind="MessageChunk")]),
    generated("generated, and refused", stream(sse({"object": "Error", "code": "GENERATION_ERROR", "message": "m"}, DONE)), error=("TaskingAIError", "GENERATION_ERROR", 200, True),
              max_attempts=3, entries=[]),
    Row("generated, and locked at first", stream(sse({"object": "Error", "code": "INVALID_REQUEST", "message": "Chat is locked"}, DONE)), stream(sse(MESSAGE, DONE)),
        op="generate_message", params={"stream": True}, calls=2, result={"data": MESSAGE}, entries=[2]),
]


def make_params(row, i):
    mark = f"row{i}x"
    params = {
        "get_assistant": {"assistant_id": mark}, "delete_assistant": {"assistant_id": mark}, "create_chat": {"assistant_id": mark}, "list_assistants": {},
        "run_action": {"action_id": mark}, "bulk_create_actions": {"openapi_schema": {"x": mark}}, "clean_chat_context": {"assistant_id": mark, "chat_id": "c"},
        "generate_message": {"assistant_id": mark, "chat_id": "c"}, "text_embedding": {"model_id": "TpEmb001"},
        "chat_completion": {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": mark}]},
    }[row.op]
    params = {**params, **(row.params or {})}
    return json.loads(json.dumps(params).replace('"M"', f'"{mark}"'))


class Api:
    """Speaks each row's bytes."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.held, self.ended = [], threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        while request := self.read(connection):
            row = ROWS[int(re.search(rb"row(\d+)x", request)[1])]
            row.seen.append(request)
            if not self.speak(connection, row.answers[min(len(row.seen), len(row.answers)) - 1]):
                return
        connection.close()

    @staticmethod
    def read(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            piece_ = connection.recv(65536)
            if not piece_:
                return None
            data += piece_
        length = re.search(rb"\r\nContent-Length: (\d+)", data)
        while length and len(data) - data.index(b"\r\n\r\n") - 4 < int(length[1]):
            data += connection.recv(65536)
        return data

    def speak(self, connection, parts):
        """False: the connection is of no more use."""
        for part in parts:
            if part == SILENCE:
                self.held.append(connection)
                return False
            if part == RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if part in (CUT, RESET):
                connection.close()
                return False
            try:
                connection.sendall(part)
            except OSError:  # the worker wants no more of it
                return False
            if len(parts) > 20:  # bytes by themselves
                time.sleep(0.0005)
        return True

    def stop(self):
        self.socket.close()


def play(folder):
    """Every row's job has ended: its result, what was asked, and the entries of its stream."""
    server, stub, api = RedisServer(folder), Stub(), Api()
    system = System(folder, stub, server)
    try:
        worker = system.worker(TASKINGAI_HOST=api.url, queues="taskingai", threads=48)
        system.push("taskingai", *[{"id": f"r{i}", "type": "taskingai." + row.op, "params": make_params(row, i), **row.fields} for i, row in enumerate(ROWS)])
        until(lambda: system.results("taskingai") == len(ROWS), 60, "all rows have ended")
        assert worker.stop() == 0
        return [{"text": system.redis.lindex(f"{Q}result:r{i}", 0).decode(), "calls": len(row.seen),
                 "entries": [[e[b"event"].decode(), e[b"data"].decode()] for _, e in system.redis.xrange(f"{Q}stream:r{i}")]} for i, row in enumerate(ROWS)]
    finally:
        system.finish()
        api.stop()
        stub.stop()
        server.stop()


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """Played once for all processes of a run: the first that has the lock plays."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "taskingai_table.json"
    with open(f"{shared}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            shared.write_text(json.dumps(play(tmp_path_factory.mktemp("table"))), encoding="utf-8")
        return json.loads(shared.read_text(encoding="utf-8"))


def test_there_are_enough():
    assert len(ROWS) >= 150 and len({r.name + r.op for r in ROWS}) == len(ROWS)


@pytest.mark.parametrize("i", range(len(ROWS)), ids=[re.sub(r"[^a-z0-9]+", "-", f"{r.op}-{r.name}".lower()) for r in ROWS])
def test_row(came, i):
    row, text = ROWS[i], came[i]["text"]
    result = json.loads(text)
    assert came[i]["calls"] == row.calls, (came[i]["calls"], result)
    if row.error:
        e = result["error"]
        assert (e["type"], e["code"], e["status_code"], e["retryable"]) == row.error and row.words in e["message"], e
        assert set(e) == {"type", "message", "status_code", "code", "details", "activity_id", "retryable", "service"} and e["service"] == "taskingai"
    elif isinstance(row.result, str):
        assert f'"status":"succeeded","result":{row.result},' in text
    else:
        assert result["status"] == "succeeded" and result["result"] == row.result, result
    assert result["attempts"] == row.attempts and result["billed"]["request"] == row.calls
    entries = [(event, json.loads(data)) for event, data in came[i]["entries"]]
    if row.entries is None:
        assert entries == []
        return
    assert entries[-1] == (("error", result["error"]) if row.error else ("done", result["result"]))
    if row.entries is not ALL:
        assert entries[:-1] == [("restart", {"attempt": e}) if isinstance(e, int) else ("chunk", e) for e in row.entries]
