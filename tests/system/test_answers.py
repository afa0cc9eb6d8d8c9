"""Answers that no well-behaved API gives, byte by byte; what was really sent; and that secrets and texts stay where they belong."""
import base64
import hashlib
import json
import os
import re
import resource
import signal

import pytest
from conftest import KEY, until

HUGE = "m" * 100_000
DETAILS = [{"code": "C", "target": "t", "message": "d"}]
# body, how it comes, then: type, status, retryable, message (or the result), and fields beside
FAILED = [
    ({"error": {"code": "X", "message": "m" * 17_000, "details": DETAILS}}, {"status": 400}, "APIError", 400, False, "m" * 16384, {"code": "X", "details": DETAILS}),
    ({"error": {"code": "X", "message": "", "details": "none"}, "activityId": "guid"}, {"status": 500}, "APIError", 500, True, "HTTP 500", {"code": "X", "activity_id": "guid"}),
    ({"error": {"activityId": "inner", "details": [7, None, {"message": "only"}]}}, {"status": 404}, "APIError", 404, False, "HTTP 404",
     {"activity_id": "inner", "details": [{"code": None, "target": None, "message": "only"}]}),
    ({"error": "a string", "message": "top", "code": "T"}, {"status": 400}, "APIError", 400, False, "top", {"code": "T"}),
    ({"statusCode": 429, "message": "slow"}, {"status": 429, "Retry_After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "RateLimitError", 429, True,
     "slow (Retry-After: Wed, 21 Oct 2026 07:28:00 GMTs)", {}),
    ("a JSON string", {"status": 500}, "APIError", 500, True, "a JSON string", {}),
    ([1, 2], {"status": 500}, "APIError", 500, True, "[1, 2]", {}),
    (b"<html><TITLE lang=x>\n Not\n found </Title>", {"status": 404, "content_type": "text/html"}, "APIError", 404, False,
     "HTTP 404: Not found (non-JSON response from the API gateway)", {}),
    (b" plain \n text " + b"x" * 300, {"status": 400, "content_type": None}, "APIError", 400, False, "HTTP 400: plain text " + "x" * 189, {}),
    (b"", {"status": 418}, "APIError", 418, False, "HTTP 418", {}),
    (b'{"message":"\xff a\\u0000b"}', {"status": 409}, "APIError", 409, False, "\ufffd a\ufffdb", {}),
    ({"message": "no"}, {"status": 401}, "AuthenticationError", 401, False, "no", {}),
    (b"", {"status": 204, "content_type": None}, "APIError", 204, False, "Expected a JSON response but received 'unknown': ", {}),
    (b"", {"status": 301, "content_type": None, "Location": "http://127.0.0.1:1/"}, "APIError", 301, False, "Expected a JSON response but received 'unknown': ", {}),
    (b'"broken', {}, "APIError", 200, False, "Expected a JSON response but received 'application/json': \"broken", {}),
    (b'"x" trailing', {}, "APIError", 200, False, "Expected a JSON response", {}),
    (b"[" * 10_000 + b"]" * 10_000, {}, "APIError", 200, False, "Expected a JSON response", {}),
    ({"text": "x"}, {}, "APIError", 200, False, "Unexpected JSON in a success response: {\"text\": \"x\"}", {}),
    (None, {}, "APIError", 200, False, "Unexpected JSON in a success response: null", {}),
    ({"error": {"code": "E", "message": "hidden", "details": DETAILS}}, {}, "APIError", 200, False, "hidden", {"code": "E", "details": DETAILS}),
    (b'"x"', {"Content_Encoding": "gzip"}, "APIError", 0, True, "Transport error: ", {}),
    (b'"' + b"x" * 40_000 + b'"', {}, "APIError", 0, False, "Transport error: the answer is larger than max_response_bytes", {}),
]


@pytest.fixture
def odd(system, script):
    """A worker whose API is the script."""
    system.worker(KHAYA_BASE_URL=script.url, max_response_bytes="32K", threads=1)
    return system


def test_failures(odd, script):
    for i, (body, how, kind, status, retryable, message, more) in enumerate(FAILED):
        script.says(body, **how)
        e = odd.do("translate", id=f"f{i}", text="x", max_attempts=1)["error"]
        assert (e["type"], e["status_code"], e["retryable"]) == (kind, status, retryable), (body, e)
        assert e["message"].startswith(message) if message.endswith((": ", "response")) else e["message"] == message, (body, e["message"])
        for name in ("code", "activity_id"):
            assert e[name] == more.get(name), (body, e)
        assert e["details"] == more.get("details", []), (body, e)
    assert len(script.requests) == len(FAILED)


@pytest.mark.parametrize("body", [{"error": {"code": "X", "message": HUGE}}, HUGE, [HUGE]], ids=["envelope", "string", "array"])
def test_a_huge_message_is_cut(system, script, body):
    system.worker(KHAYA_BASE_URL=script.url)
    script.says(body, 400)
    message = system.do("translate", text="x")["error"]["message"]
    assert len(message) == 16384 and message.strip('["') == "m" * len(message.strip('["'))


TRANSLATIONS = [(b'"a\\u0000b"', "a\0b"), (b'"\\ud83d\\ude00 \\u025b\xc9\x9b \\/ \\n"', "😀 ɛɛ / \n"), (b'\xef\xbb\xbf "x" \n', "x"), (b'"\xff\xfe x"', "\ufffd\ufffd x"), (b'""', "")]


def test_translations(odd, script):
    for body, text in TRANSLATIONS:
        for content_type in ("application/json", "text/html", None):
            script.says(body, content_type=content_type)
            assert odd.do("translate", text="x", language_pair="a-b-c")["result"] == {"text": text, "source_language": "a", "target_language": "b-c"}


@pytest.mark.release
def test_small_values_in_great_number_do_not_fill_the_memory(system, script):
    """20 MB that would be a tree of 800."""
    w = system.worker(KHAYA_BASE_URL=script.url, threads=1)
    script.says(b"[" + b"0," * 10_000_000 + b"0]")
    assert system.do("translate", text="x")["error"]["message"].startswith("Unexpected JSON in a success response: [0,0,")
    peak = int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{w.process.pid}/status", encoding="ascii").read())[1])
    assert peak < 200 * 1024, peak


def test_a_lone_surrogate_does_not_reach_the_result(odd, script):
    script.says(b'"a\\ud800b"')
    assert ascii(odd.do("translate", text="x")["result"]["text"]) == ascii("a\ufffdb")  # the report of a failure must be printable


NONE = {"warnings": [], "timings": None}
WORD, SEGMENT = {"word": "w", "start": 0, "end": 1.25}, {"text": "s", "start": 1e-3, "end": 2}
RECOGNISED = [
    ("of v1", {"text": "of v1", **NONE}), ({"text": "x"}, {"text": "x", **NONE}), ({}, {"text": "", **NONE}), ({"text": None, "warnings": None, "timings": None}, {"text": "", **NONE}),
    ({"text": "x", "warnings": "one", "timings": {}}, {"text": "x", "warnings": ["one"], "timings": None}),
    ({"text": "x", "warnings": ["a", 7, "b"]}, {"text": "x", "warnings": ["a", "b"], "timings": None}),
    ({"text": "x", "timings": {"words": [WORD, {**WORD, "extra": 1}, {"word": "no times"}, 5], "segments": None}},
     {"text": "x", "warnings": [], "timings": {"unit": "seconds", "granularity": "", "words": [WORD, WORD], "segments": []}}),
    ({"text": "x", "timings": {"unit": "ms", "granularity": "segment", "words": [], "segments": [SEGMENT]}},
     {"text": "x", "warnings": [], "timings": {"unit": "ms", "granularity": "segment", "words": [], "segments": [SEGMENT]}}),
]
AUDIO = {"RIFF\0\0\0\0WAVE": "audio/wav", "ID3...": "audio/mpeg", "fLaC": "audio/flac", "OggS": "audio/ogg", "RIFF": "application/octet-stream"}


def test_recognitions(odd, script):
    wav = base64.b64encode(b"RIFF\0\0\0\0WAVE").decode()
    for body, result in RECOGNISED:
        script.says(body)
        assert odd.do("transcribe", audio_base64=wav, language="xon_likoonli")["result"] == {"language": "xon_likoonli", **result}
    for body in (None, [], 5, True):
        script.says(body)
        e = odd.do("transcribe", audio_base64=wav)["error"]
        assert (e["type"], e["status_code"]) == ("APIError", 200) and e["message"].startswith("Unexpected JSON")


def test_speech(odd, script):
    for body, content_type, kept in [(b"ID3abc", "audio/mpeg", "audio/mpeg"), (b"RIFFabc", None, "audio/wav"), (b"RIFFabc", "application/json", "audio/wav"), (b"x", "audio/ogg", "audio/ogg")]:
        script.says(body, content_type=content_type)
        r = odd.do("synthesize", text="x", language="twi", output="base64")["result"]
        assert r == {"language": "twi", "content_type": kept, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "audio_base64": base64.b64encode(body).decode()}
    for body, content_type in [(b"ID3abc", "application/octet-stream"), (b"xxxx", "Audio/WAV"), (b"", "audio/wav"), (b"<html>", "audio/wav"), (b'{"a":1}', None)]:
        script.says(body, content_type=content_type)
        e = odd.do("synthesize", id="none", text="x", language="twi")["error"]
        assert (e["type"], e["status_code"]) == ("TTSGenerationError", 200) and e["message"].startswith("Expected audio but received '" + (content_type or "an unknown content type"))
        odd.redis.delete("adwuma:{synthesize}:result:none")
    assert not odd.redis.keys("adwuma:{synthesize}:audio:*")


def test_speech_too_large(system, script):
    """For base64 the job's limit counts, for a key that of audio; neither leaves anything behind."""
    system.worker(KHAYA_BASE_URL=script.url, max_audio_bytes="1M", max_job_bytes="64K")
    speech = b"RIFF" + os.urandom(300_000)
    script.says(speech, content_type="audio/wav")
    e = system.do("synthesize", text="x", language="twi", output="base64")["error"]
    assert (e["type"], e["status_code"], e["retryable"]) == ("TTSGenerationError", 400, False) and "max_job_bytes" in e["message"]
    r = system.do("synthesize", text="x", language="twi")["result"]
    assert hashlib.sha256(system.redis.get(r["audio_key"])).hexdigest() == hashlib.sha256(speech).hexdigest() == r["sha256"]
    script.says(b"RIFF" + bytes(1024 * 1024 - 3), content_type="audio/wav")
    assert system.do("synthesize", id="over", text="x", language="twi")["error"]["status_code"] == 0
    assert len(script.requests) == 3 and not system.redis.exists("adwuma:{synthesize}:audio:over") and not system.redis.keys("*stage*")


def test_what_is_sent(odd, script):
    script.says("x")
    odd.do("translate", text='q"\\\u0007ɛ😀', language_pair="en-tw", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    path, headers, body = script.requests[-1]
    assert path == "/v1/translate" and json.loads(body) == {"in": 'q"\\\u0007ɛ😀', "lang": "en-tw"}
    assert headers["Ocp-Apim-Subscription-Key"] == KEY and headers["Content-Type"] == "application/json" and headers["Cache-Control"] == "no-cache"
    assert headers["traceparent"].startswith("00-0af7651916cd") and headers["Content-Length"] == str(len(body)) and "Expect" not in headers
    for bad in ("00-aa\r\nX-Evil: 1", "x" * 300, "", "ü"):
        assert odd.do("translate", text="x", traceparent=bad)["traceparent"] == bad
        assert not {"X-Evil", "traceparent"} & set(script.requests[-1][1])
    script.says(b"RIFF", content_type="audio/wav")
    odd.do("synthesize", text="t", language="l&=%", speaker="male_low")
    assert script.requests[-1][0] == "/tts/v1/tts" and json.loads(script.requests[-1][2]) == {"text": "t", "language": "l&=%", "speaker": "male_low"}
    odd.do("synthesize", text="t", language="twi")
    assert json.loads(script.requests[-1][2]) == {"text": "t", "language": "twi"}
    script.says({"text": "x"})
    for head, kind in AUDIO.items():
        odd.do("transcribe", audio_base64=base64.b64encode(head.encode()).decode(), language="a b&c=d/é?#", timestamps="segment")
        path, headers, body = script.requests[-1]
        assert path == "/asr/v3/transcribe?language=a%20b%26c%3Dd%2F%C3%A9%3F%23&timestamps=segment"
        assert body == head.encode() and headers["Content-Type"] == kind and headers["Content-Length"] == str(len(body)) and "Expect" not in headers


def test_each_service_gets_its_own_key(system, script):
    system.worker(KHAYA_BASE_URL=script.url + "///", KHAYA_ASR_API_KEY="asr-key", KHAYA_TTS_API_KEY="tts-key")
    script.says({"text": "x"})
    system.do("transcribe", audio_base64="UklGRg==")
    system.do("synthesize", text="x", language="twi")
    system.do("translate", text="x")
    assert [(path.split("?")[0], headers["Ocp-Apim-Subscription-Key"]) for path, headers, _ in script.requests] == [
        ("/asr/v3/transcribe", "asr-key"), ("/tts/v1/tts", "tts-key"), ("/v1/translate", KEY)]


def everything(redis):
    read = {b"string": redis.get, b"list": lambda k: redis.lrange(k, 0, -1), b"hash": redis.hgetall, b"zset": lambda k: redis.zrange(k, 0, -1)}
    found = [(k, redis.type(k)) for k in redis.keys("*")]
    return repr([(k, read[kind](k)) for k, kind in found if kind != b"none"])  # probes come and go


def test_secrets_and_texts_stay_where_they_belong(system, script, tmp_path):
    """At the most talkative level no log line carries a key, a password or a text; nor does Redis, the command line, a thread's name."""
    secret = tmp_path / "key"
    secret.write_text(KEY + "\r\n")
    system.redis.config_set("requirepass", "p4ssw0rd-of-redis")
    w = system.worker(wait=False, KHAYA_BASE_URL=script.url, KHAYA_API_KEY=None, KHAYA_API_KEY_FILE=secret, redis_password="p4ssw0rd-of-redis", log_level="debug")
    until(lambda: "started" in w.log(), what="it starts")
    for status in (200, 400, 401, 429, 500):
        script.says("the-answer" if status == 200 else {"message": "no"}, status, Retry_After="0")
        system.do("translate", text="the-text", max_attempts=2)
    assert script.requests[-1][1]["Ocp-Apim-Subscription-Key"] == KEY
    shown = everything(system.redis)
    for path in ["cmdline", "comm", *(f"task/{t}/comm" for t in os.listdir(f"/proc/{w.process.pid}/task"))]:
        shown += open(f"/proc/{w.process.pid}/{path}").read()
    assert KEY not in shown + w.log() and "p4ssw0rd" not in shown + w.log()
    assert "the-text" not in w.log() and "the-answer" not in w.log()


@pytest.mark.parametrize("glue", [" ", "="], ids=["apart", "glued"])
def test_a_password_in_a_flag_is_struck_from_the_command_line(system, glue):
    """Anybody on the machine may look with ps."""
    url = "redis://:p4ssw0rd-of-redis@127.0.0.1:1/0"
    w = system.worker(wait=False, redis_url=None, flags=f"--redis-url{glue}{url}".split())
    until(lambda: "127.0.0.1:1" in w.log(), what="it waits for Redis")
    shown = open(f"/proc/{w.process.pid}/cmdline").read()
    assert "--redis-url" in shown and "@127.0.0.1:1/0" in shown and "p4ssw0rd" not in shown + w.log()


def test_no_core_file(system):
    """It would hold the keys."""
    w = system.worker()
    resource.prlimit(w.process.pid, resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    w.send(signal.SIGABRT)
    status = os.waitpid(w.process.pid, 0)[1]
    assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)


def test_a_server_that_echoes_the_key_does_not_get_it_into_the_result(odd, script):
    script.says({"message": f"the key {KEY} is bad"}, 401)
    assert KEY not in json.dumps(odd.do("translate", text="x")) + everything(odd.redis)
