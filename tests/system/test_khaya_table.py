"""Every Khaya fault and what becomes of it, as a table: what the reference says an answer means, for all three services.

All rows are pushed at once to real workers before one stub, and each is then compared by itself: the whole error object or result, the tries, the
status of each call that the stub saw, and how long each new try was put off. Where xdist runs the rows in several processes, one plays the table
and the others read what came."""
import base64
import fcntl
import hashlib
import json
import os
import re
from types import SimpleNamespace

import pytest
from conftest import RedisServer, SLOW, Stub, System, until

T, A, S = SERVICES = "translate", "transcribe", "synthesize"
RETRIED = (429, 500, 502, 503, 504)
NOT_RETRIED = (400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 418, 422, 423, 425, 451, 499, 501, 505, 507, 511, *range(520, 528), 530, 599)
INPUT_ERROR = {T: "TranslationError", A: "ASRTranscriptionError", S: "TTSGenerationError"}
BACKOFF = (1000, 2000), (2000, 3000)  # before the second try and the third
HOUR_MS = 3_600_000
HEARD = "Me ho ye"  # in the audio that jobs send


def given(body, status=200, type_="application/json", more=""):
    """The directives for an answer of these very bytes. What would be tried again is tried again at once."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    at_once = ",retry_after=0" if status in RETRIED and "retry_after" not in more else ""
    return f"status={status},body64={base64.b64encode(raw).decode()},type={type_}{at_once}{more}"


def row(service, does, calls, waits=None, queue="table", **rest):
    """does: directives for the stub. calls: the status that it gives each call. waits: from and to in ms, for each new try. The rest: what is wanted, and fields of the job."""
    wanted = {k: rest.pop(k) for k in ("error", "result", "sent") if k in rest}
    return SimpleNamespace(service=service, does=does, calls=calls, waits=waits or [(0, 0)] * (len(calls) - 1), queue=queue, wanted=wanted, job=rest)


def fail(service, does, status, message, calls=None, code=None, details=(), activity_id=None, **rest):
    """A job that ends failed. A message that ends with … is compared up to there. Two tries are allowed where the row says nothing else."""
    kind = rest.pop("type_", {401: "AuthenticationError", 429: "RateLimitError"}.get(status, "APIError"))
    error = {"type": kind, "message": message, "status_code": status, "code": code, "details": list(details), "activity_id": activity_id,
             "retryable": rest.pop("retryable", status in RETRIED), "service": "khaya"}
    rest.setdefault("max_attempts", 2)
    return row(service, does, [status] * (2 if status in RETRIED else 1) if calls is None else calls, error=error, **rest)


def cut_off(service, does, calls, message="Transport error: …", **rest):
    """No whole answer came. It is one try: the wait for a second would be a second long."""
    return fail(service, does, 0, message, calls, retryable=rest.pop("retryable", True), **{"max_attempts": len(calls), **rest})


def refused(service, message, queue="table", **job):
    """What is seen to be wrong before any call."""
    rest = {"type_": job.pop("type_", INPUT_ERROR[service]), "retryable": False}
    return fail(service, None, job.pop("status", 400), message, [], queue=queue, **rest, **job)


def done(service, does, result=None, calls=(200,), **rest):
    """result: what differs from the answer that the stub gives where nothing is wrong with it."""
    rest.setdefault("max_attempts", 3)
    return row(service, does, list(calls), result=result or {}, **rest)


def right(service):
    """A right answer of that service, as bytes, and the result that it makes."""
    return (b"RIFF", spoken(b"RIFF", "audio/wav")) if service == S else (b'"Maakye"', {"text": "Maakye"})


def spoken(audio, type_):
    return {"content_type": type_, "bytes": len(audio), "sha256": hashlib.sha256(audio).hexdigest(), "audio_base64": base64.b64encode(audio).decode()}


def not_right(service, type_, snippet, status=200):
    """What is said of an answer with success status that is none."""
    if service == S:
        return {"type_": "TTSGenerationError", "status": status, "message": f"Expected audio but received '{type_ or 'an unknown content type'}': {snippet}"}
    return {"status": status, "message": f"Expected a JSON response but received '{type_ or 'unknown'}': {snippet}"}


# --- 3.1 and 3.5: the envelopes. ------------------------------------------------------------------------------------------

D, INVALID = {"code": "C", "target": "t", "message": "d"}, "The request payload contains invalid parameters."
PAGE = b"<!DOCTYPE html><html><head>%s</head><body><h1>Sorry</h1></body></html>"
BEHIND = " (non-JSON response from the API gateway)"
HTML, BAD_GATEWAY = "text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>The server is not there.</h1></body></html>"
# The body of a 400, and what the error says.
ENVELOPES = [
    # E1
    ({"error": {"code": "X", "message": "m", "details": [D]}}, {"message": "m", "code": "X", "details": [D]}),
    ({"error": {"code": "X", "message": "m", "details": [D, {"code": "E", "target": "u", "message": "e"}]}},
     {"message": "m", "code": "X", "details": [D, {"code": "E", "target": "u", "message": "e"}]}),
    ({"error": {"code": "X", "message": "m"}}, {"message": "m", "code": "X"}),
    ({"error": {"code": "X", "message": "m", "details": []}}, {"message": "m", "code": "X"}),
    ({"error": {"code": "X", "message": "m", "details": None}}, {"message": "m", "code": "X"}),
    ({"error": {"code": "X", "message": "m", "details": D}}, {"message": "m", "code": "X"}),
    ({"error": {"code": "X", "message": "m", "details": "d"}}, {"message": "m", "code": "X"}),
    ({"error": {"message": "m", "details": [{**D, "more": 1}]}}, {"message": "m", "details": [D]}),
    ({"error": {"message": "m", "details": [{"message": "only"}, {}]}},
     {"message": "m", "details": [{"code": None, "target": None, "message": "only"}, {"code": None, "target": None, "message": None}]}),
    ({"error": {"message": "m", "details": [7, None, "d", [D], D]}}, {"message": "m", "details": [D]}),  # 3.10
    ({"error": {"code": "X"}}, {"message": "HTTP 400", "code": "X"}),
    ({"error": {"code": "X", "message": ""}}, {"message": "HTTP 400", "code": "X"}),
    ({"error": {"code": "X", "message": None}}, {"message": "HTTP 400", "code": "X"}),
    ({"error": {"code": "X", "message": ""}, "message": "outer", "code": "O"}, {"message": "HTTP 400", "code": "X"}),
    ({"error": {"message": "m"}, "message": "outer", "code": "O", "details": [D]}, {"message": "m"}),
    ({"error": {"code": 7, "message": 8}}, {"message": "8", "code": "7"}),
    ({"error": {}}, {"message": "HTTP 400"}),
    ({"error": {"message": "m", "activityId": "inner"}}, {"message": "m", "activity_id": "inner"}),
    ({"error": {"message": "m", "activityId": "inner"}, "activityId": "outer"}, {"message": "m", "activity_id": "outer"}),
    ({"error": {"message": "m", "activityId": "inner"}, "activityId": None}, {"message": "m", "activity_id": "inner"}),
    # E2 and E3, and errors that are no objects
    ({"statusCode": 400, "message": "m", "activityId": "41d5"}, {"message": "m", "activity_id": "41d5"}),
    ({"statusCode": 400, "message": "m"}, {"message": "m"}),
    ({"message": "m", "code": "O", "details": [D], "type": "t"}, {"message": "m", "code": "O"}),
    ({"type": "validation_error", "message": "m"}, {"message": "m"}),
    ({"error": "a string", "message": "m", "code": "O"}, {"message": "m", "code": "O"}),
    ({"error": "a string"}, {"message": "HTTP 400"}),
    ({"error": None, "message": "m"}, {"message": "m"}),
    ({"error": [D], "message": "m", "activityId": "id"}, {"message": "m", "activity_id": "id"}),
    ({"error": 7}, {"message": "HTTP 400"}),
    ({"message": ""}, {"message": "HTTP 400"}),
    ({}, {"message": "HTTP 400"}),
    # JSON that is no object
    ("a JSON string", {"message": "a JSON string"}),
    ("\u025b \u201cq\u201d", {"message": "\u025b \u201cq\u201d"}),
    ("", {"message": "HTTP 400"}),
    ([1, 2], {"message": "[1, 2]"}),
    (b" [1,\t2]\n", {"message": "[1,\t2]"}),
    (7, {"message": "7"}),
    (None, {"message": "null"}),
    (True, {"message": "true"}),
    # around JSON
    (b"\xef\xbb\xbf" + b'{"message":"m"}', {"message": "m"}),
    (b"\xef\xbb\xbf" + b' "m" ', {"message": "m"}),
    (b'\r\n {"message":"m"}\n', {"message": "m"}),
    (b'{"message":"\xff m"}', {"message": "\ufffd m"}),
    (b'{"message":"\\u00e9 \\ud83d\\ude00 \\"q\\" \\u0000"}', {"message": "\u00e9 \U0001f600 \"q\" \ufffd"}),
    (b'{"message":"\\ud800"}', {"message": "\ufffd"}),
    (b'{"message":"cut of', {"message": 'HTTP 400: {"message":"cut of'}),
    (b'{"message":"m"} x', {"message": 'HTTP 400: {"message":"m"} x'}),
    (b"{'message':'m'}", {"message": "HTTP 400: {'message':'m'}"}),
    (b'"open', {"message": 'HTTP 400: "open'}),
    # E4
    (PAGE % b"<title>A page</title>", {"message": "HTTP 400: A page" + BEHIND}),
    (PAGE % b'<TITLE lang="en"\n data-x="1">\n Not \r\n\t found </Title>', {"message": "HTTP 400: Not found" + BEHIND}),
    (PAGE % b"<title>first</title><title>second</title>", {"message": "HTTP 400: first" + BEHIND}),
    (PAGE % b"<title>A &amp; B &lt;&#39;</title>", {"message": "HTTP 400: A &amp; B &lt;&#39;" + BEHIND}),
    (PAGE % "<title>\u0190te s\u025bn</title>".encode(), {"message": "HTTP 400: \u0190te s\u025bn" + BEHIND}),
    (PAGE % (b"<title>" + b"t" * 300 + b"</title>"), {"message": "HTTP 400: " + "t" * 300 + BEHIND}),
    (PAGE % b"<title> \n </title>", {"message": "HTTP 400: <!DOCTYPE html><html><head><title> </title></head><body><h1>Sorry</h1></body></html>"}),
    (PAGE % b"<title></title>", {"message": "HTTP 400: <!DOCTYPE html><html><head><title></title></head><body><h1>Sorry</h1></body></html>"}),
    (PAGE % b"<title>open", {"message": "HTTP 400: <!DOCTYPE html><html><head><title>open</head><body><h1>Sorry</h1></body></html>"}),
    (PAGE % b"", {"message": "HTTP 400: <!DOCTYPE html><html><head></head><body><h1>Sorry</h1></body></html>"}),
    # E5
    (b"upstream connect error", {"message": "HTTP 400: upstream connect error"}),
    (b" \n a \t\r\n b\x0b\x0c c \n", {"message": "HTTP 400: a b c"}),
    (b"a\xff\xfeb", {"message": "HTTP 400: a\ufffd\ufffdb"}),
    ("\u025b".encode() * 250, {"message": "HTTP 400: " + "\u025b" * 200}),
    ("\U0001f600".encode() * 130 + b"x" * 100, {"message": "HTTP 400: " + "\U0001f600" * 130 + "x" * 70}),
    (b"x " * 150, {"message": "HTTP 400: " + "x " * 100}),
    (b"x" * 200, {"message": "HTTP 400: " + "x" * 200}),
    (b"", {"message": "HTTP 400"}),
    (b" \r\n\t ", {"message": "HTTP 400"}),
]


def envelopes():
    for body, wanted in ENVELOPES:
        for s in SERVICES:
            yield fail(s, given(body, 400), 400, **wanted)
    for s in SERVICES:
        for type_ in ("text/html", "text/plain; charset=utf-8", "audio/wav", ""):  # what the body is, its bytes say
            yield fail(s, given({"error": {"code": "X", "message": "m"}}, 400, type_), 400, "m", code="X")
        for how in (",chunked", ",gzip", ",bom", ",escaped", ",gzip,chunked", ",connection=close", ",body_delay=20"):
            yield fail(s, given({"message": "m \u025b"}, 400, more=how), 400, "m \u025b")


# --- 3.2 to 3.4: what Khaya and the gateway say. --------------------------------------------------------------------------

CODES = {T: "UNSUPPORTED_LANGUAGE_CODE UNSUPPORTED_LANGUAGE_PAIR MISSING_TEXT MISSING_LANGUAGE_PAIR", S: "EMPTY_TEXT MISSING_LANGUAGE UNSUPPORTED_LANGUAGE INVALID_SPEAKER INVALID_REQUEST",
         A: "EMPTY_AUDIO UNSUPPORTED_LANGUAGE INVALID_AUDIO_FORMAT INVALID_TIMESTAMPS UNSUPPORTED_TIMESTAMPS"}


def codes():
    for s in SERVICES:
        for code in [*CODES[s].split(), "OF_TOMORROW"]:  # lists are open
            yield fail(s, f"detail={code}", 400, INVALID, code="VALIDATION_FAILED", details=[{"code": code, "target": "", "message": "The stub was asked to say so"}])
        yield fail(s, "status=500,retry_after=0", 500, "An unexpected error occurred.", code="SYSTEM_ERROR")
        yield fail(s, given({"error": {"code": "VALIDATION_FAILED", "message": "Invalid language provided. Use 'twi' instead."}}, 400), 400,
                   "Invalid language provided. Use 'twi' instead.", code="VALIDATION_FAILED")
    # Of the stub's own accord, as the API would.
    for pair, code, said in (("en-zz", "UNSUPPORTED_LANGUAGE_CODE", "Language code is not supported"),
                             ("twi-ewe", "UNSUPPORTED_LANGUAGE_PAIR", "Language combination twi-ewe cannot be used"), ("en", "UNSUPPORTED_LANGUAGE_CODE", "Language code is not supported")):
        yield fail(T, None, 400, INVALID, code="VALIDATION_FAILED", details=[{"code": code, "target": "language_pair", "message": said}], language_pair=pair)
    for s in (A, S):
        unknown = [{"code": "UNSUPPORTED_LANGUAGE", "target": "language", "message": "Language is not supported"}]
        yield fail(s, None, 400, INVALID, code="VALIDATION_FAILED", details=unknown, language="zz")
    yield fail(A, None, 400, INVALID, code="VALIDATION_FAILED", details=[{"code": "INVALID_AUDIO_FORMAT", "target": "audio", "message": "Audio format is not supported"}],
               audio_base64="AAAA")


def gateway():
    for s in SERVICES:
        yield fail(s, "status=401", 401, "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.")
        yield fail(s, None, 401, "Access denied due to invalid subscription key. Make sure to provide a valid key for an active subscription.", queue="badkey")
        said = "Access denied due to missing subscription key. Make sure to include subscription key when making requests to an API."
        yield fail(s, given({"statusCode": 401, "message": said}, 401), 401, said)
        yield fail(s, "status=401,retry_after=0,body=empty", 401, "HTTP 401")
        for does, wait in (("quota=600", "00:10:00"), ("quota=1235636", "14.07:13:56"), ("quota_days=183168", "2.12 days")):
            yield fail(s, does, 403, f"Out of call volume quota. Quota will be replenished in {wait}.", retryable=True)
        yield fail(s, "bandwidth=600", 403, "Out of bandwidth quota. Quota will be replenished in 00:10:00.", retryable=True)
        yield fail(s, given({"statusCode": 403, "message": "Forbidden"}, 403), 403, "Forbidden")
        yield fail(s, given({"statusCode": 400, "message": "Out of call volume quota."}, 400), 400, "Out of call volume quota.")
        yield fail(s, "status=404", 404, "Resource not found")
        yield fail(s, "rate=9,retry_after=0", 429, "Rate limit is exceeded. Try again in 9 seconds. (Retry-After: 0s)")
        yield fail(s, "rate=9", 429, "Rate limit is exceeded. Try again in 9 seconds. (Retry-After: 9s)", [429], max_attempts=1)
        yield fail(s, "status=500,body=e2,retry_after=0", 500, "Internal server error", activity_id="41d51993-e979-4d99-a8fd-eea93a3d0267")
        yield fail(s, "status=413", 413, "HTTP 413: Request Entity Too Large" + BEHIND)
        yield fail(s, given({"statusCode": 413, "message": "too large"}, 413), 413, "too large")
        # Pages that look like something else
        yield fail(s, "stopped", 403, "HTTP 403: Web App - Unavailable" + BEHIND)
        yield fail(s, "challenge", 403, "HTTP 403: Just a moment..." + BEHIND)
        yield fail(s, "challenge,status=503,retry_after=0", 503, "HTTP 503: Just a moment..." + BEHIND)
        for status, title in ((502, "Bad Gateway"), (503, "Service Unavailable"), (504, "Gateway Timeout")):
            yield fail(s, f"status={status},retry_after=0", status, f"HTTP {status}: {title}{BEHIND}")
        yield fail(s, "html200", **not_right(s, HTML, BAD_GATEWAY))


# --- 3.8: success, and what is none. --------------------------------------------------------------------------------------

def successes():
    for s in SERVICES:
        body, result = right(s)
        yield done(s, None)
        for status in (200, 201, 202, 206, 226, 299, 300, 302, 307, 308, 399):  # the body decides
            yield done(s, given(body, status), result, [status])
        for type_ in ("text/html", "application/problem+json", ""):
            yield done(s, given(body, 200, type_), result)
        for how in (",chunked", ",gzip", ",gzip,chunked", ",connection=close", ",body_delay=20", ",retry_after=86400"):
            yield done(s, given(body, more=how), result)
        yield done(s, given(body, 302, more=",location=http://127.0.0.1:1/"), result, [302])
        for status in (204, 301, 302, 303, 304, 307):
            yield fail(s, given(b"", status, "", ",location=http://127.0.0.1:1/"), **not_right(s, "", "", status))
        yield fail(s, given(b"", 200), **not_right(s, "application/json", ""))
        yield fail(s, given(b"", 200, ""), **not_right(s, "", ""))
        yield fail(s, given(b"moved", 302, "text/plain", ",location=http://127.0.0.1:1/"), **not_right(s, "text/plain", "moved", 302))
        yield fail(s, given(b" a \n\t b ", 200, "text/plain; charset=utf-8"), **not_right(s, "text/plain; charset=utf-8", "a b"))
        yield fail(s, given("\u025b".encode() * 250, 200, "x/y"), **not_right(s, "x/y", "\u025b" * 200))
        yield fail(s, "broken_json", **not_right(s, "application/json", '{"text": "cut of'))
        yield fail(s, given(b'"x" y'), **not_right(s, "application/json", '"x" y'))
        yield fail(s, given(b"'x'", 200, "it's/odd"), **not_right(s, "it's/odd", "'x'"))
        # An error's envelope with success status (3.10)
        yield fail(s, "e1_200", 200, "An unexpected error occurred.", code="SYSTEM_ERROR")
        hidden = {"error": {"code": "X", "message": "hidden", "details": [D], "activityId": "id"}}
        for type_ in ("application/json", "", "audio/wav", "text/html"):
            yield fail(s, given(hidden, 200, type_), 200, "hidden", code="X", details=[D], activity_id="id")
        yield fail(s, given(hidden, 302), 302, "hidden", code="X", details=[D], activity_id="id")
        yield fail(s, given({"error": {}}), 200, "HTTP 200")
    for raw, text in ((b'"a\\u0000b"', "a\0b"), (b'"\\u025b\\ud83d\\ude00 \\/ \\n"', "\u025b\U0001f600 / \n"), (b'\xef\xbb\xbf "x" \n', "x"), (b'"\xff x"', "\ufffd x"),
                      (b'""', ""), (b'"a\\ud800b"', "a\ufffdb"), ('"\u025b"'.encode(), "\u025b"), (b'" x "', " x ")):
        yield done(T, given(raw), {"text": text})
        heard = text.replace("\0", "\ufffd")  # no text of speech has a NUL
        yield done(A, given(raw), {"text": heard})
        yield done(A, given(b'{"text":' + raw.strip(b"\xef\xbb\xbf") + b"}"), {"text": heard})
    for pair, source, target in (("en-tw-x", "en", "tw-x"), ("en", "en", ""), ("xon_likoonli-eng", "xon_likoonli", "eng"), ("EN-tw", "EN", "tw"), ("-tw", "", "tw"), ("en-", "en", "")):
        yield done(T, given("x"), {"text": "x", "source_language": source, "target_language": target}, language_pair=pair)
    yield done(T, None, {"source_language": "eng", "target_language": "twi"}, language_pair="eng-twi")
    # Speech: audio/ or RIFF
    for audio, type_, kept in ((b"RIFFabc", "", "audio/wav"), (b"RIFFabc", "application/json", "audio/wav"), (b"RIFFabc", "text/html", "audio/wav"), (b"RIFFabc", "Audio/WAV", "audio/wav"),
                               (b"RIFFabc", "audio/x-wav", "audio/x-wav"), (b"ID3abc", "audio/mpeg", "audio/mpeg"), (b"ID3abc", "audio/mp3", "audio/mp3"), (b"OggS", "audio/ogg", "audio/ogg"),
                               (b"x", "audio/", "audio/"), (bytes(range(256)), "audio/wav; rate=16000", "audio/wav; rate=16000"), (b'"x"', "audio/wav", "audio/wav")):
        yield done(S, given(audio, 200, type_), spoken(audio, kept))
    for audio, type_, said in ((b"ID3abc", "application/octet-stream", "ID3abc"), (b"\xff\xfbab", "application/octet-stream", "\ufffd\ufffdab"), (b"ID3abc", "", "ID3abc"), (b"ID3", "Audio/WAV", "ID3"),
                               (b"riff", "", "riff"), (b"RIF", "", "RIF"), (b" RIFF", "", "RIFF"), (b"ID3", "x-audio/wav", "ID3"), (b"ID3", "audio", "ID3"), (b"OggS", "video/ogg", "OggS"),
                               (b"", "audio/wav", ""), (b"", "audio/mpeg", ""), (b"<html> x", "audio/wav", "<html> x"), (b" \n<p>", "audio/mpeg", "<p>"), (b'{"a":1}', "audio/wav", '{"a":1}'),
                               (b'{"error":1}', "application/json", '{"error":1}'), (b'"x"', "application/json", '"x"')):
        yield fail(S, given(audio, 200, type_), **not_right(S, type_, said))


# --- 2.3 and 3.10: recognition. -------------------------------------------------------------------------------------------

WORD, SEGMENT = {"word": "w", "start": 0, "end": 1.25}, {"text": "s", "start": 0.5, "end": 2}
LEGACY = "Language code 'tw' is a legacy code. Please update to 'twi' (ISO 639-3)"


def timed(unit="seconds", granularity="", words=(), segments=()):
    return {"unit": unit, "granularity": granularity, "words": list(words), "segments": list(segments)}


def recognitions():
    for body, result in [
            ("of v1", {"text": "of v1"}), ({"text": "x"}, {"text": "x"}), ({}, {"text": ""}), ({"text": None}, {"text": ""}), ({"text": "x", "more": 1}, {"text": "x"}),
            ({"text": "x", "warnings": None}, {"text": "x"}), ({"text": "x", "warnings": []}, {"text": "x"}), ({"text": "x", "warnings": "one"}, {"text": "x", "warnings": ["one"]}),
            ({"text": "x", "warnings": ["a", 7, None, {}, "b"]}, {"text": "x", "warnings": ["a", "b"]}), ({"text": "x", "warnings": {"a": "b"}}, {"text": "x"}),
            ({"text": "x", "warnings": 7}, {"text": "x"}), ({"text": "x", "timings": None}, {"text": "x"}), ({"text": "x", "timings": {}}, {"text": "x"}),
            ({"text": "x", "timings": []}, {"text": "x"}), ({"text": "x", "timings": "t"}, {"text": "x"}), ({"text": "x", "error": "none"}, {"text": "x"}),
            ({"text": "x", "error": None}, {"text": "x"}),
            ({"text": "x", "timings": {"words": [WORD]}}, {"text": "x", "timings": timed(words=[WORD])}),
            ({"text": "x", "timings": {"unit": "ms", "granularity": "word", "words": [WORD, WORD], "segments": []}}, {"text": "x", "timings": timed("ms", "word", [WORD, WORD])}),
            ({"text": "x", "timings": {"unit": "seconds", "granularity": "segment", "words": [], "segments": [SEGMENT]}},
             {"text": "x", "timings": timed("seconds", "segment", segments=[SEGMENT])}),
            ({"text": "x", "timings": {"words": None, "segments": None}}, {"text": "x", "timings": timed()}),
            ({"text": "x", "timings": {"unit": None, "granularity": None}}, {"text": "x", "timings": timed()}),
            ({"text": "x", "timings": {"words": [{**WORD, "confidence": 0.5}]}}, {"text": "x", "timings": timed(words=[WORD])}),
            ({"text": "x", "timings": {"words": [{"word": "w", "start": 0}, {"word": "w", "end": 1}, {"start": 0, "end": 1}, {**WORD, "start": "0"}, 7, None, WORD]}},
             {"text": "x", "timings": timed(words=[WORD])}),
            ({"text": "x", "timings": {"segments": [{"text": "s"}, SEGMENT, {**WORD}]}}, {"text": "x", "timings": timed(segments=[SEGMENT])}),
            ({"text": "x", "timings": {"words": WORD, "segments": "s"}}, {"text": "x", "timings": timed()})]:
        yield done(A, given(body), result)
        yield done(A, given(body), result, queue="first")  # either form may come from any version
    for body in (None, 7, 1.5, True, [], ["x"], {"text": 7}, {"text": []}, {"text": {"a": 1}}):
        yield fail(A, given(body), 200, "Unexpected JSON in a success response: " + json.dumps(body))
    for body in (None, 7, 1.5, True, [], ["x"], {}, {"text": "x"}, {"translatedText": "x"}, {"error": "x"}, {"message": "x"}):
        yield fail(T, given(body), 200, "Unexpected JSON in a success response: " + json.dumps(body))
    yield done(A, None, {"warnings": [LEGACY]}, language="tw")
    yield done(A, None, {"warnings": []}, language="twi")
    yield done(A, None, {"warnings": [LEGACY]}, language="tw", queue="second")
    yield done(A, None, {"warnings": []}, language="tw", queue="first")
    heard = [{"word": "Me", "start": 0, "end": 0.04}, {"word": "ho", "start": 0.06, "end": 0.1}, {"word": "ye", "start": 0.12, "end": 0.16}]
    yield done(A, None, {"timings": timed("seconds", "word", heard)}, timestamps="word", sent={"query": "language=twi&timestamps=word"})
    yield done(A, None, {"timings": timed("seconds", "segment", segments=[{"text": HEARD, "start": 0, "end": 0.16}])}, timestamps="segment")
    yield done(A, None, {}, timestamps="word", queue="first", sent={"query": "language=twi&timestamps=word"})  # sent all the same


# --- 3.6, 3.7 and 3.9: checks before the call, in their order. ------------------------------------------------------------

def checks():
    both, speech = "Text and language pair are required", "Text and language are required"
    speaker, stamps = "Unknown speaker '%s'. Supported speakers: female, male_high, male_low", "timestamps must be 'word' or 'segment', got '%s'"
    for text in ("", None):
        yield refused(T, both, text=text)
        yield refused(S, speech, text=text)
    yield refused(T, both, language_pair="")
    yield refused(T, both, text="", language_pair="")
    for language in ("", None):
        yield refused(S, speech, language=language)
        yield refused(S, speech, language=language, speaker="robot")
        yield refused(S, speech, language=language, format="mp3")
    yield refused(S, speech, text="", speaker="robot")
    for voice in ("robot", "", "Female", "female ", "twi_speaker_4"):
        yield refused(S, speaker % voice, speaker=voice)
    yield refused(S, speaker % "robot", speaker="robot", format="mp3")
    yield refused(S, speaker % "robot", speaker="robot", queue="second")
    for stamp in ("true", "", "Word", "words", "word "):
        yield refused(A, stamps % stamp, timestamps=stamp)
    yield refused(A, stamps % "true", timestamps="true", audio_base64=None, audio_path="none.wav")
    yield refused(A, stamps % "true", timestamps="true", audio_base64="!")
    for path, said in (("none.wav", "Audio file not found: none.wav"), ("folder/none.wav", "Audio file not found: folder/none.wav"), ("", "Audio file not found: "),
                       ("folder", "audio_path is no regular file: folder"), ("pipe", "audio_path is no regular file: pipe"), ("empty.wav", "the audio file is empty"),
                       ("../out.wav", "audio_path leads out of audio_root: ../out.wav")):
        yield refused(A, said, audio_base64=None, audio_path=path)
    yield refused(A, "audio_base64 is empty", audio_base64="")
    yield refused(T, "field 'text' must be a string, got 5", type_="InvalidJobError", status=0, text=5, language_pair="")
    yield refused(S, "field 'format' must be one of wav|mp3|ogg, got \"aiff\"", type_="InvalidJobError", status=0, format="aiff", speaker="robot")
    # No key wins over all of these, but not over a job that is none.
    for s, wrong in ((T, {}), (T, {"text": ""}), (T, {"language_pair": ""}), (A, {}), (A, {"timestamps": "true"}), (A, {"audio_base64": None, "audio_path": "none.wav"}),
                     (S, {}), (S, {"text": ""}), (S, {"speaker": "robot"}), (S, {"format": "mp3"})):
        yield refused(s, "API key is required", type_="AuthenticationError", status=401, queue="keyless", **wrong)
        if not wrong:
            yield refused(s, "field 'timeout_ms' must be an integer from 1 to 3600000, got \"x\"", type_="InvalidJobError", status=0, queue="keyless", timeout_ms="x")
    # Not checked: what the text and the codes are
    for text in (" ", "  x ", "\n", "\u3000"):
        yield done(T, None, {"text": f"[tw] {text}"}, text=text, sent={"text": text})
        yield done(S, None, text=text, sent={"text": text})
    for s in (A, S):
        yield done(s, given(right(s)[0]), {**right(s)[1]}, language="no such language")
    yield fail(A, None, 400, INVALID, code="VALIDATION_FAILED", details=[{"code": "UNSUPPORTED_LANGUAGE", "target": "language", "message": "Language is not supported"}],
               language="", sent={"query": "language="})
    for voice in ("female", "male_low", "male_high"):
        yield done(S, None, speaker=voice, sent={"speaker": voice, "speaker_id": None})
        yield done(S, None, speaker=voice, queue="second", sent={"speaker": None, "speaker_id": voice})
    for s in SERVICES:
        yield done(s, None, queue="second")


# --- 4: what is tried again, and when. ------------------------------------------------------------------------------------

# Retry-After, and for how long the next try is then put off
AT_ONCE = ["0", "0.0", "-5", "-0", "0e9", "  0 ", "\t0", "-1e9", "-inf", "1e-9", "+0", ".0", "0."]
SOON = [("0.2", 200, 220), ("2e-1", 200, 220), ("25E-2", 250, 275), (" +.3", 300, 330)]
IGNORED = ["", "soon", "nan", "NaN", "-nan", "5 s", "5s", "0x0", "0:00", "0 0", "--0", "1e", "i", "+", "-", ".", "Wed, 21 Oct 2015 07:28:00 GMT"]
LATER = [("86400", HOUR_MS), ("inf", HOUR_MS), ("+inf", HOUR_MS), ("Infinity", HOUR_MS), ("INF", HOUR_MS), ("1e400", HOUR_MS), ("99999999999999999999", HOUR_MS), ("3600", HOUR_MS),
         ("90", 90_000), ("1e2", 100_000), (" 61 ", 61_000)]


def tries():
    for s in SERVICES:
        for status in RETRIED:
            yield fail(s, f"status={status},body=empty,retry_after=0", status, f"HTTP {status}" + (" (Retry-After: 0s)" if status == 429 else ""))
            yield done(s, f"status={status},retry_after=0,times=1", calls=[status, 200])
        for status in NOT_RETRIED:
            yield fail(s, f"status={status},body=empty,retry_after=0", status, f"HTTP {status}")
        for most in (1, 3, None):
            yield fail(s, f"status=502,retry_after=0,body=empty,delay={most or 5}", 502, "HTTP 502", [502] * (most or 5), max_attempts=most)
        yield done(s, "status=500,retry_after=0,times=2,delay=1", calls=[500, 500, 200])
        # The last one counts.
        yield fail(s, "status=500,retry_after=0,times=1,then,status=400,body=text", 400, "HTTP 400: upstream connect error", [500, 400], max_attempts=5)
        yield fail(s, "status=429,retry_after=0,times=1,then,status=401,body=empty", 401, "HTTP 401", [429, 401], max_attempts=5)
        yield fail(s, "status=503,retry_after=0,times=1,then,status=403,body=stopped", 403, "HTTP 403: Web App - Unavailable" + BEHIND, [503, 403], max_attempts=5)
        yield fail(s, "status=500,body=e2,retry_after=0,times=1,then,status=502,body=empty,retry_after=0", 502, "HTTP 502", [500, 502])
        yield fail(s, "status=502,body=empty,retry_after=0,times=1,then,status=500,body=e2", 500, "Internal server error", [502, 500], activity_id="41d51993-e979-4d99-a8fd-eea93a3d0267")
        yield fail(s, "status=500,body=e1,retry_after=0,times=1,then,status=429,body=empty,retry_after=7", 429, "HTTP 429 (Retry-After: 7s)", [500, 429])
        yield fail(s, "status=504,retry_after=0,times=1,then,html200", calls=[504, 200], **not_right(s, HTML, BAD_GATEWAY))
        yield cut_off(s, "status=503,retry_after=0,times=1,then,close", [503, 0])
        yield cut_off(s, "status=500,retry_after=0,times=1,then,reset", [500, 0])
        # What a status is put off by is forgotten at the next.
        yield done(s, "status=500,retry_after=0,times=1,then,close,times=1", calls=[500, 0, 200], waits=[(0, 0), BACKOFF[1]])
        yield fail(s, "close,times=1,then,status=400,body=empty", 400, "HTTP 400", [0, 400], waits=[BACKOFF[0]], max_attempts=5)
        yield done(s, "status=429,times=1,delay=2", calls=[429, 200], waits=[BACKOFF[0]])
    asked = [(value, 0, 0) for value in AT_ONCE] + SOON + [(value, *BACKOFF[0]) for value in IGNORED]
    for status in RETRIED:
        for value, low, high in asked:
            shown = f" (Retry-After: {value.strip()}s)" if status == 429 and value else ""
            yield fail(T, f"status={status},body=empty,retry_after={value}", status, f"HTTP {status}{shown}", waits=[(low, high)])
        repeated = " (Retry-After: 0, 7s)" if status == 429 else ""
        yield fail(T, f"status={status},body=empty,retry_after=0,retry_after=7", status, f"HTTP {status}{repeated}", waits=[BACKOFF[0]])
    yield fail(T, "status=503,body=empty", 503, "HTTP 503", [503] * 3, waits=BACKOFF, max_attempts=3)


# --- 4 and 3.10: no whole answer. -----------------------------------------------------------------------------------------

# What the stub does, and what it thinks that it answered
CUT = [("close", 0), ("reset", 0), ("truncate", 200), ("truncate,chunked", 200), ("truncate,status=400,body=e1", 400), ("truncate,status=503,body=e1,retry_after=0", 503)]
SHORT_MS = 800 * SLOW  # longer than a busy machine needs to send the request
STALLED = [("hang", 0), ("dribble=300", 200), ("body_delay=60000", 200)]


def transport():
    unsure = "no answer came (…"
    for s in SERVICES:
        odd = ("encoding=gzip", "encoding=deflate", "encoding=x-odd", "encoding=gzip,status=400")
        for does, seen in [*CUT, *[(f"{does},body64=/////w==", int(does[-3:]) if "status" in does else 200) for does in odd]]:
            yield cut_off(s, does, [seen])
            yield cut_off(s, does, [seen], unsure, type_="UnknownOutcomeError", retryable=False, if_unsure="hold", max_attempts=5)
        for does, seen in STALLED:
            yield cut_off(s, does, [seen], timeout_ms=SHORT_MS)
            yield cut_off(s, does, [seen], unsure, type_="UnknownOutcomeError", retryable=False, if_unsure="hold", timeout_ms=SHORT_MS, max_attempts=5)
        yield done(s, "close,times=1,delay=3", calls=[0, 200], waits=[BACKOFF[0]])
        yield done(s, "truncate,times=1,delay=4", calls=[200, 200], waits=[BACKOFF[0]])
        # What was answered is known, whatever it was.
        for status in (500, 502, 503, 504):
            yield fail(s, f"status={status},body=empty,retry_after=0", status, f"HTTP {status}", [status], if_unsure="hold", max_attempts=5)
        yield fail(s, "status=400,body=empty", 400, "HTTP 400", if_unsure="hold")
        yield fail(s, "status=429,body=empty,retry_after=0", 429, "HTTP 429 (Retry-After: 0s)", if_unsure="hold")
        yield done(s, "status=429,retry_after=0,times=1,delay=5", calls=[429, 200], if_unsure="hold")
        # One thread, so that connections are reused: once more would be paid once more.
        yield done(s, None, queue="single")
        yield cut_off(s, "close,reused", [0], queue="single")
        yield done(s, None, queue="single")
        yield cut_off(s, "reset,reused", [0], queue="single")
        yield done(s, None, queue="single")
        yield done(s, "close,reused,delay=6", queue="single", if_unsure="hold")  # who must be sure takes a connection of his own


SECTIONS = {"3.5": envelopes, "3.2": codes, "3.3": gateway, "3.8": successes, "3.10": recognitions, "3.9": checks, "4": tries, "transport": transport}
ROWS = [(f"{name}-{i}-{r.service}", r) for name, rows in SECTIONS.items() for i, r in enumerate(rows())]


# --- Playing it. ----------------------------------------------------------------------------------------------------------

def trace(i):
    return f"00-{i + 1:032x}-{1:016x}-01"


def job_of(i, r, audio):
    """Directives stand in the text, and for audio in the language, which then differs from row to row only by them."""
    marker = f"stub({r.does})" if r.does else ""
    job = {"id": f"j{i}", "type": r.service, "traceparent": trace(i)}
    if r.service == A:
        job.update(audio_base64=audio, language=f"twi {marker}" if marker else "twi")
    else:
        job.update(text=f"{i} {marker}" if marker else f"{i}")
    if r.service == S:
        job.update(language="twi", output="base64")
    job.update(r.job)
    if r.service == A and marker and marker not in job["language"]:
        job["language"] += " " + marker
    return job


def start_workers(system, folder):
    root = folder / "audio"
    (root / "folder").mkdir(parents=True)
    (root / "empty.wav").touch()
    os.mkfifo(root / "pipe")
    (folder / "out.wav").write_bytes(b"RIFF")
    common = {"audio_root": root, "log_level": "debug", "KHAYA_TTS_MAX_CHARS": 2000}
    system.worker(queues="table", threads=32, **common)
    system.worker(queues="keyless", threads=1, KHAYA_API_KEY=None, **common)
    system.worker(queues="badkey", threads=1, KHAYA_API_KEY="0" * 32, **common)
    system.worker(queues="first", threads=1, KHAYA_ASR_VERSION="v1", **common)
    system.worker(queues="second", threads=1, KHAYA_TRANSLATION_VERSION="v2", KHAYA_ASR_VERSION="v2", KHAYA_TTS_VERSION="v2", **common)
    system.worker(queues="single", threads=1, **common)


def waits_of(system):
    """How long each new try was put off, in ms, by job, as the workers log it."""
    waits = {}
    for w in system.workers:
        for job, ms in re.findall(r"tried again later.* job=\"?([\w-]+).* in_ms=(\d+)", w.log()):
            waits.setdefault(job, []).append(int(ms))
    return waits


def play(folder):
    """What came of every row."""
    stub = Stub()
    server = RedisServer(folder)
    system = System(folder, stub, server)
    try:
        start_workers(system, folder)
        audio = system.do("table", type=S, text=HEARD, language="twi", output="base64")["result"]["audio_base64"]
        for i, (value, _) in enumerate(LATER):
            system.push("table", {"id": f"later{i}", "type": T, "text": f"later {i} stub(status=503,retry_after={value})"})
        for queue in {r.queue for _, r in ROWS}:
            system.push(queue, *[job_of(i, r, audio) for i, (_, r) in enumerate(ROWS) if r.queue == queue])
        results = [system.result(r.queue, f"j{i}", 30) for i, (_, r) in enumerate(ROWS)]
        until(lambda: not system.redis.keys("adwuma:*slot:*") and sum(j.startswith("later") for j in waits_of(system)) == len(LATER), 30, "what waits for long waits")
        calls = {}
        for c in stub.calls():
            calls.setdefault(c["traceparent"], []).append(c)
        came = {"results": results, "waits": waits_of(system), "calls": [calls.get(trace(i), []) for i in range(len(ROWS))], "count": stub.count(),
                "stats": {q: system.stats(q) for q in sorted({r.queue for _, r in ROWS})}}
        system.finish()
        return came
    finally:
        for w in system.workers:
            w.process.kill()
        server.stop()
        stub.stop()


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """Played once for all processes of a run: the first that has the lock plays."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "khaya_table.json"
    with open(f"{shared}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            played = play(tmp_path_factory.mktemp("khaya"))
            shared.write_text(json.dumps(played), encoding="utf-8")
        return json.loads(shared.read_text(encoding="utf-8"))


def usual_result(i, r, got):
    """What comes where nothing is wrong with the answer, or with what the row says nothing of."""
    job = job_of(i, r, "")
    if r.service == T:
        return {"text": f"[{'twi' if 'language_pair' in job else 'tw'}] {job['text']}", "source_language": "en", "target_language": "tw"}
    if r.service == A:
        return {"text": HEARD, "language": job["language"], "warnings": [], "timings": None}
    audio = base64.b64decode(got["audio_base64"])
    assert "bytes" in r.wanted["result"] or (audio[:4] == b"RIFF" and len(audio) > 58), got
    return {"language": job["language"], **spoken(audio, "audio/wav")}


@pytest.mark.parametrize("i", range(len(ROWS)), ids=[name for name, _ in ROWS])
def test_row(came, i):
    r, got, calls = ROWS[i][1], came["results"][i], came["calls"][i]
    shown = r.does, r.job, got
    if "error" in r.wanted:
        wanted = dict(r.wanted["error"])
        assert got["status"] == "failed" and "result" not in got, shown
        if wanted["message"].endswith("\u2026"):
            assert got["error"]["message"].startswith(wanted["message"][:-1]) and len(got["error"]["message"]) >= len(wanted["message"]), shown
            wanted["message"] = got["error"]["message"]
        assert got["error"] == wanted, shown
    else:
        assert got["status"] == "succeeded" and "error" not in got, shown
        assert got["result"] == {**usual_result(i, r, got["result"]), **r.wanted["result"]}, shown
    assert [c["status"] for c in calls] == r.calls, shown
    assert got["attempts"] == len(r.calls) and (got["started_at_ms"] is None) == (not r.calls), shown
    waits = came["waits"].get(f"j{i}", [])
    assert len(waits) == len(r.waits) and all(low <= ms <= high for ms, (low, high) in zip(waits, r.waits)), (waits, r.waits, shown)
    sent = r.wanted.get("sent", {})
    assert all({k: c.get(k) for k in sent} == sent for c in calls), (sent, calls)
    assert {c["path"] for c in calls} <= {PATHS.get(r.queue, PATHS["table"])[r.service]}, shown


PATHS = {"table": {T: "/v1/translate", A: "/asr/v3/transcribe", S: "/tts/v1/tts"}, "first": {A: "/asr/v1/transcribe"},
         "second": {T: "/v2/translate", A: "/asr/v2/transcribe", S: "/tts/v2/synthesize"}}


@pytest.mark.parametrize("value, ms", LATER)
def test_a_wait_that_was_asked_for(came, value, ms):
    """Never shorter, up to an hour, and at most a tenth or 5 s longer so that many do not come back at once."""
    waits = came["waits"]["later%d" % LATER.index((value, ms))]
    assert len(waits) == 1 and ms <= waits[0] <= ms + min(ms // 10, 5000), waits


def test_nothing_was_sent_that_no_row_explains(came):
    """One call made the audio, one each is behind what waits for long."""
    assert came["count"] == 1 + len(LATER) + sum(len(r.calls) for _, r in ROWS)
    for queue, stats in came["stats"].items():
        mine = [r for _, r in ROWS if r.queue == queue]
        failed, made, later = sum("error" in r.wanted for r in mine), int(queue == "table"), len(LATER) if queue == "table" else 0
        assert stats == {k: v for k, v in {"failed": failed, "succeeded": len(mine) - failed + made, "retried": sum(len(r.waits) for r in mine) + later}.items() if v}, queue
