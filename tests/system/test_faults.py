"""What the API does wrong, and what becomes of the job."""
import base64
import time

import pytest


def given(body):
    return "body64=" + base64.b64encode(body).decode()


# directives, type, status, attempts, retryable, part of the message; max_attempts is 2 and Retry-After 0 where it is retried
FAULTS = [
    ("status=400", "APIError", 400, 1, False, "invalid parameters"),
    ("status=401", "AuthenticationError", 401, 1, False, "invalid subscription key"),
    ("status=403", "APIError", 403, 1, True, "Out of call volume quota"),
    ("status=403,body=stopped", "APIError", 403, 1, False, "HTTP 403: Web App - Unavailable (non-JSON response from the API gateway)"),
    ("status=403,body=challenge", "APIError", 403, 1, False, "HTTP 403: Just a moment..."),
    ("status=404", "APIError", 404, 1, False, "Resource not found"),
    ("status=413,body=empty", "APIError", 413, 1, False, "HTTP 413"),
    ("status=400,body=e3", "APIError", 400, 1, False, "Input text exceeds maximum length"),
    ("status=400,body=text", "APIError", 400, 1, False, "HTTP 400: upstream connect error"),
    ("status=501,body=text", "APIError", 501, 1, False, "HTTP 501"),
    ("status=429,retry_after=0", "RateLimitError", 429, 2, True, "Rate limit is exceeded. Try again in 9 seconds. (Retry-After: 0s)"),
    ("status=500,retry_after=0", "APIError", 500, 2, True, "An unexpected error occurred."),
    ("status=500,body=e2,retry_after=0", "APIError", 500, 2, True, "Internal server error"),
    ("status=502,retry_after=0", "APIError", 502, 2, True, "Bad Gateway"),
    ("status=503,retry_after=0,body=empty", "APIError", 503, 2, True, "HTTP 503"),
    ("status=504,retry_after=0,body=text", "APIError", 504, 2, True, "HTTP 504"),
    ("status=302,body=empty", "APIError", 302, 1, False, "Expected a JSON response but received"),
    ("html200", "APIError", 200, 1, False, "Expected a JSON response but received 'text/html; charset=utf-8': "),
    ("status=200,body=empty", "APIError", 200, 1, False, "Expected a JSON response but received 'unknown'"),
    ("broken_json", "APIError", 200, 1, False, "Expected a JSON response"),
    ("status=200,body=json", "APIError", 200, 1, False, "Unexpected JSON"),
    ("status=200,body=e1", "APIError", 200, 1, False, "An unexpected error occurred."),
    (given(b'{"error":{"code":"C","message":"of our own, (so)"}}') + ",type=application/json,status=409", "APIError", 409, 1, False, "of our own, (so)"),
    (given(b"<title>A page</title>") + ",status=507", "APIError", 507, 1, False, "HTTP 507: A page"),
    ("reset", "APIError", 0, 1, True, "Transport error: "),
    ("close", "APIError", 0, 1, True, "Transport error: "),
    ("truncate", "APIError", 0, 1, True, "Transport error: "),
    ("hang", "APIError", 0, 1, True, "Transport error: "),
    ("dribble=200", "APIError", 0, 1, True, "Transport error: "),
]


def test_each_fault_has_its_error(system):
    system.worker(threads=16)
    for i, (what, _kind, _status, attempts, *_rest) in enumerate(FAULTS):
        system.push("translate", {"id": f"f{i}", "text": f"{i} stub({what})", "max_attempts": attempts, "timeout_ms": 1500})
    for i, (what, kind, status, attempts, retryable, message) in enumerate(FAULTS):
        r = system.result("translate", f"f{i}", 15)
        e = r.get("error")
        assert r["status"] == "failed", (what, r)
        assert (e["type"], e["status_code"], e["retryable"], e["service"]) == (kind, status, retryable, "khaya"), (what, e)
        assert message in e["message"], (what, e["message"])
        assert r["attempts"] == attempts and r["started_at_ms"] > 0, (what, r)
    retried = sum(f[3] - 1 for f in FAULTS)
    assert system.stats("translate") == {"failed": len(FAULTS), "retried": retried}
    assert system.stub.count() == len(FAULTS) + retried  # not one call that is not explained
    assert len(system.dead("translate")) == len(FAULTS)
    assert system.do("translate", text="fine")["status"] == "succeeded"


def test_a_given_body_is_what_the_job_gets(system):
    """Right answers too: whatever the stub is told to say is what is read."""
    system.worker()
    audio = bytes(range(256))
    right = [("translate", given('"Me ho yɛ."'.encode()) + ",type=application/json", {}), ("synthesize", given(audio) + ",type=audio/wav", {"language": "twi", "output": "base64"})]
    for type_, list_, more in right:
        r = system.do(type_, text=f"stub({list_})", **more)
        assert r["status"] == "succeeded", r
        assert r["result"]["text"] == "Me ho yɛ." if type_ == "translate" else base64.b64decode(r["result"]["audio_base64"]) == audio


def test_details_and_activity_id(system):
    system.worker()
    e = system.do("translate", text="x", language_pair="en-zz")["error"]
    assert e["code"] == "VALIDATION_FAILED" and e["details"] == [
        {"code": "UNSUPPORTED_LANGUAGE_CODE", "target": "language_pair", "message": "Language code is not supported"}]
    e = system.do("translate", text="stub(status=500,body=e2)", max_attempts=1)["error"]
    assert e["activity_id"] == "41d51993-e979-4d99-a8fd-eea93a3d0267"


@pytest.mark.parametrize("what", ["not_audio", "html200", "status=200,body=empty"])
def test_speech_that_is_none(system, what):
    system.worker()
    r = system.do("synthesize", id="s", text=f"x stub({what})", language="twi")
    assert r["error"]["type"] == "TTSGenerationError" and r["error"]["status_code"] == 200 and "Expected audio but received" in r["error"]["message"]
    assert not system.redis.exists("adwuma:{synthesize}:audio:s")


def test_faults_of_recognition(system):
    system.worker()
    made = system.do("synthesize", text="stub(html200)", language="twi", output="base64")
    assert made["status"] == "failed"
    # The language carries the marker, because the audio must be made first.
    made = system.do("synthesize", text="hello", language="twi", output="base64")["result"]["audio_base64"]
    e = system.do("transcribe", audio_base64=made, language="twi stub(html200)")["error"]
    assert e["type"] == "APIError" and e["status_code"] == 200
    r = system.do("transcribe", audio_base64=made, language="twi stub(status=503,retry_after=0,times=2)", max_attempts=3)
    assert r["status"] == "succeeded" and r["attempts"] == 3 and r["result"]["text"] == "hello"


def arrivals(system, word):
    return [c["arrived_ms"] for c in system.stub.calls() if word in c["text"]]


def test_backoff_and_retry_after(system):
    """Waits are never shorter than asked or than the formula; a retry is served soon after it is due."""
    system.worker()
    system.push("translate", {"id": "formula", "text": "formula stub(status=500,times=2)"}, {"id": "asked", "text": "asked stub(status=429,retry_after=1.5,times=1)"},
                {"id": "date", "text": "date stub(status=503,retry_after=Wed,times=1)"})
    assert system.result("translate", "asked")["attempts"] == 2
    assert system.result("translate", "date")["attempts"] == 2
    assert system.result("translate", "formula")["attempts"] == 3
    a = arrivals(system, "asked")
    assert 1500 <= a[1] - a[0] < 2600
    a = arrivals(system, "date")
    assert 1000 <= a[1] - a[0] < 3000
    a = arrivals(system, "formula")
    assert 1000 <= a[1] - a[0] < 3000 and 2000 <= a[2] - a[1] < 4000
    assert system.stats("translate") == {"succeeded": 3, "retried": 4}
    assert system.redis.zcard("adwuma:{translate}:delayed") == 0


def test_attempts_and_job_survive_a_restart(system):
    """The job that waits in delayed is byte for byte what the producer wrote, but for attempt; another worker goes on with it."""
    first = system.worker()
    raw = '{ "id" : "r", "attempt":0, "text":"\\u0041 stub(status=500,retry_after=3,times=1)", "unknown" : 9007199254740993 }'
    system.push("translate", raw)
    from conftest import until
    until(lambda: system.redis.zcard("adwuma:{translate}:delayed"), what="job is delayed")
    first.stop()
    assert system.redis.zrange("adwuma:{translate}:delayed", 0, -1)[0].decode() == \
        '{ "id" : "r",  "text":"\\u0041 stub(status=500,retry_after=3,times=1)", "unknown" : 9007199254740993 ,"billed":{"request":1,"character":40},"attempt":1}'
    system.worker()
    assert system.result("translate", "r")["attempts"] == 2


def test_how_many_tries(system, tmp_path):
    conf = tmp_path / "w.conf"
    conf.write_text("queues = translate,few\nmax_attempts = 3\n[queue few]\nmax_attempts = 2\n")
    system.worker(flags=["--config", str(conf)])
    text = "stub(status=500,retry_after=0)"
    assert system.do("translate", text=text)["attempts"] == 3
    assert system.do("few", type="translate", text=text)["attempts"] == 2
    assert system.do("few", type="translate", text=text, max_attempts=4)["attempts"] == 4
    system.workers[0].stop()
    system.worker(flags=["--config", str(conf)], KHAYA_RETRY_ATTEMPTS=1)
    assert system.do("few", type="translate", text=text)["attempts"] == 1


def test_timeout_frees_the_thread_from_an_api_that_dribbles(system):
    system.worker(threads=1)
    began = time.monotonic()
    system.push("translate", {"id": "slow", "text": "stub(dribble=300)", "timeout_ms": 700, "max_attempts": 1}, {"id": "next", "text": "x"})
    assert system.result("translate", "slow")["error"]["type"] == "APIError"
    assert system.result("translate", "next")["status"] == "succeeded"
    assert time.monotonic() - began < 5


def test_expired_and_not_before(system):
    system.worker()
    now = int(time.time() * 1000)
    e = system.do("translate", id="late", text="x", expires_at_ms=now - 1)
    assert e["error"]["type"] == "ExpiredError" and e["attempts"] == 0
    assert system.do("translate", text="x", expires_at_ms=now + 60000)["status"] == "succeeded"
    r = system.do("translate", text="x", not_before_ms=now + 1500)
    assert r["started_at_ms"] >= now + 1500 and r["attempts"] == 1
    assert system.stats("translate") == {"succeeded": 2, "expired": 1} and system.dead("translate") == []


def test_hold_is_not_sent_again(system):
    system.worker()
    for what, kind, calls in (("close", "UnknownOutcomeError", 1), ("hang", "UnknownOutcomeError", 1), ("status=500", "APIError", 1)):
        before = system.stub.count()
        r = system.do("translate", text=f"hold {what} stub({what})", if_unsure="hold", timeout_ms=800)
        assert r["error"]["type"] == kind and r["attempts"] == 1, r
        assert system.stub.count() == before + calls
    r = system.do("translate", text="hold stub(status=429,retry_after=0,times=1)", if_unsure="hold")
    assert r["status"] == "succeeded" and r["attempts"] == 2


def test_a_reused_connection_that_dies_is_not_sent_twice(system):
    """libcurl would repeat the request by itself and call it one."""
    system.worker(threads=1)
    system.do("translate", text="warm")
    before = system.stub.count()
    r = system.do("translate", text="stub(close)", max_attempts=1)
    assert r["status"] == "failed" and system.stub.count() == before + 1


def test_no_server_at_all(system):
    system.worker(KHAYA_BASE_URL="http://127.0.0.1:1")
    e = system.do("translate", text="x", max_attempts=1)["error"]
    assert e["type"] == "APIError" and e["status_code"] == 0 and e["retryable"] and "Transport error" in e["message"]


def test_a_proxy_of_the_environment_is_used(system, script, monkeypatch):
    """As by the SDK and by curl; nobody listens at the API's own address."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", script.url)
    script.says("by way of the proxy")
    system.worker(KHAYA_BASE_URL="http://127.0.0.1:1")
    assert system.do("translate", text="x")["result"]["text"] == "by way of the proxy"
    system.workers[0].stop()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    system.worker(KHAYA_BASE_URL="http://127.0.0.1:1")
    assert system.do("translate", text="x", max_attempts=1)["error"]["status_code"] == 0
