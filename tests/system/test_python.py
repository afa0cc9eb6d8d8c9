"""The Python modules: programs written for the SDKs, over the queue, with real workers."""
import ast
import asyncio
import inspect
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import BUILD, KEY, ROOT, SLOW, System, until

sys.path.insert(0, ROOT + "/deploy/python")
import adwuma_khaya
import adwuma_taskingai as taskingai
from adwuma_khaya import KhayaClient, Settings
from adwuma_taskingai import TaskingAIClient
from servers import Pair
from test_taskingai_requests import OPERATIONS, Api

MODULES = ROOT + "/deploy/python/"


def url(server):
    return "unix://" + server.socket


def khaya(system, **options):
    return KhayaClient(redis_url=url(system.server), **{"wait_timeout": 20 * SLOW, **options})


def both(system, name, *args, **options):
    """What a call gives, or raises, plain and awaited; the same both times."""
    async def awaited():
        async with khaya(system, **options) as client:
            return await getattr(client, "a" + name)(*args)

    def outcome(call):
        try:
            return call()
        except adwuma_khaya.APIError as e:
            return e

    with khaya(system, **options) as client:
        plain = outcome(lambda: getattr(client, name)(*args))
    other = outcome(lambda: asyncio.run(awaited()))
    if isinstance(plain, Exception):
        assert type(plain) is type(other) and re.sub("[0-9]", "", str(plain)) == re.sub("[0-9]", "", str(other)) and plain.status_code == other.status_code
    else:
        assert plain == other
    return plain


def take_job(system, queue):
    """What a producer has submitted, while no worker is there."""
    until(lambda: system.redis.llen(f"adwuma:{{{queue}}}:ready"), what="it is submitted")
    return json.loads(system.redis.rpop(f"adwuma:{{{queue}}}:ready"))


class InBackground:
    """A call in a thread of its own, and what became of it."""

    def __init__(self, call):
        self.call, self.value, self.error = call, None, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.value = self.call()
        except Exception as e:
            self.error = e

    def ends(self):
        self.thread.join(30 * SLOW)
        assert not self.thread.is_alive(), "the call has not ended"
        return self.error or self.value


# --- Khaya. --------------------------------------------------------------------------------------------------------------------------------------


def test_every_call_both_ways(system, tmp_path):
    system.worker()
    r = both(system, "translate", "Good morning", "en-ee")
    assert r == adwuma_khaya.TranslationResult("[ee] Good morning", "en", "ee")
    assert both(system, "translate", "x").target_language == "tw"
    spoken = both(system, "synthesize", "Me ho yɛ", "twi", "female")
    assert spoken.language == "twi" and spoken.audio[:4] == b"RIFF" and KEY not in repr(spoken)
    spoken.save(tmp_path / "s.wav")
    assert (tmp_path / "s.wav").read_bytes() == spoken.audio
    heard = both(system, "transcribe", str(tmp_path / "s.wav"), "twi", "word")
    assert heard.text == "Me ho yɛ" and heard.language == "twi" and heard.warnings == []
    assert heard.timings.unit == "seconds" and heard.timings.granularity == "word" and heard.timings.segments == []
    assert [w.word for w in heard.timings.words] == ["Me", "ho", "yɛ"] and heard.timings.words[0].end > heard.timings.words[0].start
    segments = both(system, "transcribe", str(tmp_path / "s.wav"), "twi", "segment").timings
    assert segments.words == [] and segments.segments[0].text == "Me ho yɛ"
    legacy = both(system, "transcribe", str(tmp_path / "s.wav"), "tw")
    assert legacy.timings is None and "legacy" in legacy.warnings[0].lower()


def test_audio_in_three_forms(system, tmp_path):
    """Read where the program is, sent as it is, and gone from Redis when it was transcribed."""
    system.worker()
    with khaya(system) as client:
        audio = client.synthesize("Akwaaba", "twi").audio
    (tmp_path / "a.wav").write_bytes(audio)
    before = system.stub.count()
    for source in (lambda: str(tmp_path / "a.wav"), lambda: tmp_path / "a.wav", lambda: audio, lambda: bytearray(audio), lambda: io.BytesIO(audio), lambda: open(tmp_path / "a.wav", "rb")):
        with khaya(system) as client:
            assert client.transcribe(source()).text == "Akwaaba"

        async def awaited():
            async with khaya(system) as client:
                return await client.atranscribe(source())

        assert asyncio.run(awaited()).text == "Akwaaba"
    calls = system.stub.calls()[before:]
    assert len(calls) == 12 and len({c["body_sha256"] for c in calls}) == 1
    assert not system.redis.keys("adwuma:{transcribe}:audio:*")


def test_what_is_wrong_raises_what_the_sdk_raises(system, tmp_path):
    system.worker(max_attempts=1)
    e = both(system, "translate", "x stub(status=401,body=e2)")
    assert type(e) is adwuma_khaya.AuthenticationError and e.status_code == 401 and not e.retryable
    e = both(system, "translate", "x stub(rate=7)")
    assert type(e) is adwuma_khaya.RateLimitError and e.status_code == 429 and e.message.endswith("(Retry-After: 7s)") and e.retryable
    e = both(system, "translate", "x stub(detail=UNSUPPORTED_LANGUAGE_PAIR)")
    assert type(e) is adwuma_khaya.APIError and e.status_code == 400 and e.code == "VALIDATION_FAILED" and e.details[0]["code"] == "UNSUPPORTED_LANGUAGE_PAIR"
    assert " | code=VALIDATION_FAILED | " in str(e) and str(e).startswith(e.message) and e.activity_id is None
    e = both(system, "translate", "x stub(status=500,body=e2)")
    assert type(e) is adwuma_khaya.APIError and e.status_code == 500 and e.activity_id and f"activityId={e.activity_id}" in str(e)
    e = both(system, "translate", "x stub(hang)", timeout=0.2)
    assert type(e) is adwuma_khaya.APIError and e.status_code == 0 and e.message.startswith("Transport error: ") and e.retryable
    for name, args, kind, message in (
            ("translate", ("",), "TranslationError", "Text and language pair are required"),
            ("synthesize", ("x", "twi", "robot"), "TTSGenerationError", "Unknown speaker 'robot'. Supported speakers: female, male_high, male_low"),
            ("synthesize", ("", "twi"), "TTSGenerationError", "Text and language are required"),
            ("transcribe", (b"RIFF", "twi", "true"), "ASRTranscriptionError", "timestamps must be 'word' or 'segment', got 'true'"),
            ("transcribe", (str(tmp_path / "none.wav"),), "ASRTranscriptionError", f"Audio file not found: {tmp_path}/none.wav")):
        e = both(system, name, *args)
        assert type(e).__name__ == kind and e.status_code == 400 and e.message == message
    with khaya(system) as client, pytest.raises(adwuma_khaya.ASRTranscriptionError, match="empty"):
        client.transcribe(b"")
    assert "cannot be read" in both(system, "transcribe", str(tmp_path)).message
    e = both(system, "translate", 5)
    assert type(e) is adwuma_khaya.InvalidJobError and isinstance(e, ValueError) and e.status_code == 0
    # All are of the SDK's base, so that a program's `except APIError` goes on catching all.
    assert all(issubclass(getattr(adwuma_khaya, n), adwuma_khaya.APIError) for n in adwuma_khaya.__all__ if n.endswith("Error"))


def test_a_worker_without_a_key(system):
    system.worker(KHAYA_API_KEY=None)
    e = both(system, "translate", "x")
    assert type(e) is adwuma_khaya.AuthenticationError and (e.message, e.status_code) == ("API key is required", 401)


@pytest.mark.parametrize("how", ["plain", "awaited"])
def test_what_the_queue_itself_says(system, how):
    """Expired and cancelled jobs, and one that its worker died of."""
    client = khaya(system)

    def call(text):
        if how == "plain":
            return client.translate(text)

        async def awaited():
            async with khaya(system) as other:
                return await other.atranslate(text)
        return asyncio.run(awaited())

    expires, cancelled, crashes = (InBackground(lambda text=text: call(text)) for text in ("a", "b", "c stub(hang)"))
    jobs = {job["text"]: job for job in (take_job(system, "translate") for _ in range(3))}
    system.redis.zadd("adwuma:{translate}:cancelled", {jobs["b"]["id"]: int(time.time() * 1000)})
    system.push("translate", {**jobs["a"], "expires_at_ms": 1}, jobs["b"], jobs["c stub(hang)"])
    victim = system.worker(max_crashes=1, lease_ms=1000)
    e = expires.ends()
    assert type(e) is adwuma_khaya.ExpiredError and e.job_id == jobs["a"]["id"]
    assert type(cancelled.ends()) is adwuma_khaya.CancelledError and not isinstance(cancelled.error, asyncio.CancelledError)
    until(lambda: system.stub.count() == 1, what="the call runs")
    victim.kill()
    system.worker(max_crashes=1, lease_ms=1000)
    assert type(crashes.ends()) is adwuma_khaya.WorkerCrashError
    client.close()


def test_settings_go_into_jobs_and_a_key_does_not(system):
    """A job says what the program gave; the key is nowhere."""
    for config in (Settings(api_key="a-key-of-its-own", timeout=7, retry_attempts=2), None):
        options = {"config": config} if config else {"api_key": "a-key-of-its-own", "timeout": 7, "retry_attempts": 2}
        with KhayaClient(redis_url=url(system.server), key_prefix="other", queue="mine", result_ttl_s=60, wait_timeout=20, **options) as client:
            call = InBackground(lambda: client.translate("x", "en-ee"))
            until(lambda: system.redis.llen("other:{mine}:ready"), what="it is submitted")
            raw = system.redis.rpop("other:{mine}:ready")
            job = json.loads(raw)
            assert {k: v for k, v in job.items() if k not in ("id", "enqueued_at_ms")} == {"type": "translate", "text": "x", "language_pair": "en-ee", "timeout_ms": 7000, "max_attempts": 2, "result_ttl_s": 60}
            assert b"a-key-of-its-own" not in raw and "a-key-of-its-own" not in repr(vars(client)) + repr(client.config)
            system.redis.lpush(f"other:{{mine}}:result:{job['id']}", json.dumps({"id": job["id"], "status": "succeeded", "result": {"text": "y", "source_language": "en", "target_language": "ee"}}))
            assert call.ends().text == "y"


def connections(system):
    return sum(c["name"] == "adwuma-py" for c in system.redis.client_list())


def test_a_thousand_at_once_over_one_connection(system):
    """Right answers each, mixed with speech, over one connection; a second one only for what is sent while the first waits."""
    system.worker(threads=16)
    seen = []

    async def program():
        async with khaya(system) as client:
            texts = [f"text {i}" for i in range(900)]
            calls = [client.atranslate(t, "en-ee") for t in texts] + [client.asynthesize(f"word {i}", "twi") for i in range(100)]
            results = await asyncio.gather(*calls)
            seen.append(connections(system))
            assert [r.text for r in results[:900]] == ["[ee] " + t for t in texts]
            back = await asyncio.gather(*(client.atranscribe(r.audio) for r in results[900:]))
            assert [r.text for r in back] == [f"word {i}" for i in range(100)]
            seen.append(connections(system))
            slow = asyncio.ensure_future(client.atranslate("slow stub(delay=1500)"))
            while system.stub.count() < 1101:
                await asyncio.sleep(0.005)
            began = time.monotonic()
            assert (await client.atranslate("quick")).text == "[tw] quick"  # it does not wait for the other
            assert time.monotonic() - began < 1 * SLOW and not slow.done()
            await slow
            seen.append(connections(system))

    asyncio.run(program())
    assert seen == [1, 1, 2]
    until(lambda: connections(system) == 0, what="its connections are gone")
    assert system.stub.count() == 1102
    assert system.redis.keys("adwuma:*:reply:*") == []  # all were collected


def test_clients_in_several_loops_and_threads(system):
    system.worker()
    with khaya(system) as client:
        for i in range(2):  # a loop each
            assert asyncio.run(client.atranslate(f"loop {i}")).text == f"[tw] loop {i}"
        calls = [InBackground(lambda i=i: client.translate(f"thread {i}")) for i in range(8)]
        assert [c.ends().text for c in calls] == [f"[tw] thread {i}" for i in range(8)]


def test_redis_is_killed_and_restarted(durable):
    """Before the submission, while jobs wait, and while results come: calls go on, each text is asked once."""
    plain, other = khaya(durable, wait_timeout=60), khaya(durable, wait_timeout=60)

    async def many():
        async with other:
            return await asyncio.gather(*(other.atranslate(f"a {i}") for i in range(300)))

    durable.server.kill()
    one, all_ = InBackground(lambda: plain.translate("x")), InBackground(lambda: asyncio.run(many()))
    durable.server.start()
    until(lambda: durable.redis.llen("adwuma:{translate}:ready") == 301, 20, "all are submitted")
    durable.server.kill()
    durable.server.start()
    durable.worker()
    until(lambda: durable.stub.count() > 100, 20, "some are done")
    durable.server.kill()
    durable.server.start()
    assert one.ends().text == "[tw] x"
    assert [r.text for r in all_.ends()] == [f"[tw] a {i}" for i in range(300)]
    assert len({c["text"] for c in durable.stub.calls()}) == 301
    plain.close()


def test_lost_replies(system, wire):
    """What was carried out and told to nobody: submissions come again under their ids, results that were popped are found at their own keys."""
    system.worker()
    wire.lose_every = 7  # replies to connecting count, too
    client = KhayaClient(redis_url="unix://" + wire.path, wait_timeout=60)

    async def many():
        async with client:
            return [r.text for _ in range(5) for r in await asyncio.gather(*(client.atranslate(f"a {i}") for i in range(20)))]

    assert asyncio.run(many()) == [f"[tw] a {i}" for _ in range(5) for i in range(20)]
    assert [client.translate(f"b {i}").text for i in range(20)] == [f"[tw] b {i}" for i in range(20)]
    assert wire.lost > 5
    client.close()


def test_nobody_answers(system):
    """With no worker, with no Redis, and with one that refuses us."""
    e = both(system, "translate", "x", wait_timeout=0.3)
    assert type(e) is adwuma_khaya.WaitTimeoutError and e.message == "no answer within 0.3 s" and e.retryable
    for job in (take_job(system, "translate"), take_job(system, "translate")):
        assert job["text"] == "x"
    system.redis.set("adwuma:{translate}:ready", "no list")
    e = both(system, "translate", "a text that is nobody's business")
    assert type(e) is adwuma_khaya.APIError and e.message.startswith("Redis refuses: WRONGTYPE") and "business" not in str(e)
    system.redis.delete("adwuma:{translate}:ready")
    system.redis.config_set("requirepass", "a-password")
    e = both(system, "translate", "x")
    assert type(e) is adwuma_khaya.APIError and e.message.startswith("Redis refuses: ")
    with KhayaClient(redis_url=f"unix://:another-password@{system.server.socket}") as client, pytest.raises(adwuma_khaya.APIError, match="Redis refuses") as caught:
        client.translate("x")
    assert "another-password" not in str(caught.value)
    with KhayaClient(redis_url=f"unix://:a-password@{system.server.socket}", wait_timeout=0.3) as client, pytest.raises(adwuma_khaya.WaitTimeoutError):
        client.translate("let in")
    system.redis.auth("a-password")
    assert take_job(system, "translate")["text"] == "let in"
    with pytest.raises(ValueError, match="redis_url cannot be read") as caught:
        KhayaClient(redis_url="redis://:pass/word@h:6379")
    assert "pass" not in str(caught.value)
    system.server.kill()
    e = both(system, "translate", "x", wait_timeout=0.3)
    assert type(e) is adwuma_khaya.WaitTimeoutError and "Redis could not be reached" in e.message
    system.server.start()


def test_urls_of_several_hosts(monkeypatch):
    """What each part says, and that none that is wrong is quoted."""
    def where(url):
        with KhayaClient(redis_url=url) as client:
            wire = client._wire
            place = wire.places["translate"]
            assert len(set(wire.places.values())) == (3 if place.address.cluster else 1)
            return place.address, wire.clients["translate"].connection_pool.connection_kwargs

    a, options = where("redis+sentinel://us%65r:p%2Fw:@x@h1:1,[::1]:2,h3/a%20name/7")
    assert (a.points, a.name, a.tls, a.cluster) == ([("h1", 1), ("::1", 2), ("h3", 26379)], "a name", False, False)
    assert (options["username"], options["password"], options["db"]) == ("user", "p/w:@x", 7) and not any(o.startswith("ssl") for o in options)
    a, options = where("redis+sentinel:///main")
    assert a.points == [("127.0.0.1", 26379)] and (options["username"], options["password"], options["db"]) == (None, None, 0)
    monkeypatch.setenv("ADWUMA_REDIS_CA_FILE", "/ca")
    for url in ("rediss+cluster://:pw@h1,h2:7/", "rediss+cluster://:pw@h1,h2:7/0"):
        a, options = where(url)
        assert (a.points, a.tls, a.cluster) == ([("h1", 6379), ("h2", 7)], True, True) and options["password"] == "pw"
        assert options["ssl_ca_certs"] == "/ca" and options["ssl_certfile"] is None and options["ssl_check_hostname"] is True
    for url in ("redis+sentinel://u:secret@h,u:secret@i/n", "redis+sentinel://:secret@h", "redis+sentinel://:secret@h/", "redis+sentinel://:secret@h//1", "redis+sentinel://:secret@h/n/x", "redis+sentinel://:secret@h/n?db=1",
                "redis+sentinel://:secret@h,/n", "redis+sentinel://:secret@h:0/n", "redis+sentinel://:secret@h:65536/n", "redis+sentinel://:secret@h:x/n", "redis+sentinel://:secret@::1/n",
                "redis+cluster://:secret@h/1", "redis+cluster://:secret@h/name", "redis+other://:secret@h", "redis+cluster:/:secret@h"):
        with pytest.raises(ValueError, match="^redis_url cannot be read$") as caught:
            KhayaClient(redis_url=url)
        assert caught.value.__suppress_context__
        with pytest.raises(ValueError, match="^redis_url cannot be read$"):
            TaskingAIClient(url)


def test_a_call_that_is_cancelled_cancels_its_job(system):
    system.worker()

    async def program():
        async with khaya(system) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.atranslate("x stub(hang)"), 1 * SLOW)
            first = system.redis.zrange("adwuma:{translate}:cancelled", 0, -1)
            assert (await client.atranslate("y")).text == "[tw] y"
            return first
    asyncio.run(program())
    until(lambda: system.stats("translate").get("cancelled") == 1, what="it is cancelled")

    async def leaves_at_once():
        async with khaya(system) as client:
            task = asyncio.ensure_future(client.atranslate("z stub(hang)"))
            while system.stub.count() < 3:
                await asyncio.sleep(0.005)
            task.cancel()
            waits = asyncio.ensure_future(client.atranslate("w stub(delay=300)"))
            await asyncio.sleep(0)  # so that its task has begun
        with pytest.raises(adwuma_khaya.APIError, match="the client was closed"):
            await waits
    asyncio.run(leaves_at_once())
    until(lambda: system.stats("translate").get("cancelled") == 2, what="the other one, too")


# --- TaskingAI. ----------------------------------------------------------------------------------------------------------------------------------


def tasking(system, **options):
    return TaskingAIClient(url(system.server), **{"wait_timeout": 20 * SLOW, **options})


def awaited(system, use, **options):
    async def program():
        async with tasking(system, **options) as client:
            return await use(client)
    return asyncio.run(program())


def test_the_table_is_the_workers_own():
    listed = subprocess.run([BUILD + "/adwuma", "operations", "--json"], capture_output=True, check=True)
    table = subprocess.run([sys.executable, MODULES + "adwuma_taskingai.py", "--table"], input=listed.stdout, capture_output=True, check=True).stdout.decode()
    assert table.strip() == taskingai.OPERATIONS.strip(), "adwuma operations --json | python3 adwuma_taskingai.py --table prints the table as it should be"
    for line in listed.stdout.splitlines():
        row = json.loads(line)
        for form in (getattr(taskingai, row["name"]), getattr(taskingai, "a_" + row["name"]), getattr(TaskingAIClient, row["name"]), getattr(TaskingAIClient, "a_" + row["name"])):
            assert asyncio.iscoroutinefunction(form) == form.__name__.startswith("a_")
        params = inspect.signature(getattr(taskingai, row["name"])).parameters
        assert {p["name"] for p in row["params"]} == set(params) - {"file"}
        assert {p["name"] for p in row["params"] if p["required"]} == {n for n, p in params.items() if p.default is inspect.Parameter.empty}
        assert row["name"] in taskingai.__all__ and "a_" + row["name"] in taskingai.__all__


def test_both_modules_have_the_same_core():
    """Each is one file, so the part that speaks to Redis is there twice; whatever is mended is mended in both."""
    cores = []
    for name in ("adwuma_khaya.py", "adwuma_taskingai.py"):
        with open(MODULES + name, encoding="utf-8") as f:
            text = f.read()
        assert text.startswith("# SPDX-License-Identifier: MIT\n")
        imported = {alias.name.split(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
        assert imported - set(sys.stdlib_module_names) == {"redis"}
        cores.append(text.split("\n# --- The queue. ")[1].split("\n# --- End of what both have.")[0])
    assert cores[0] == cores[1] and len(cores[0]) > 5000


@pytest.mark.parametrize("how", ["plain", "awaited"])
def test_a_master_that_becomes_a_replica_is_left(tmp_path, stub, how):
    """At an address that leads to another then; nothing cuts off who is connected. One call is waiting, others come later."""
    pair = Pair(tmp_path)
    system = System(tmp_path, stub, pair)

    async def awaited():
        async with KhayaClient(redis_url=pair.url, wait_timeout=20 * SLOW) as client:
            first = asyncio.create_task(client.atranslate("a stub(delay=1500)"))
            await asyncio.to_thread(begun)
            pair.change()
            return [await client.atranslate("b"), await client.atranslate("c"), await first]

    def plain():
        with KhayaClient(redis_url=pair.url, wait_timeout=20 * SLOW) as client, ThreadPoolExecutor(1) as threads:
            first = threads.submit(client.translate, "a stub(delay=1500)")
            begun()
            pair.change()
            return [client.translate("b"), client.translate("c"), first.result()]

    def begun():
        until(lambda: stub.stats()["active"], what="the first is under way")
    try:
        system.worker(queues="translate")
        assert [r.text[:6] for r in (plain() if how == "plain" else asyncio.run(awaited()))] == ["[tw] b", "[tw] c", "[tw] a"]
    finally:
        system.finish()
        pair.stop()


def test_every_operation_by_name_both_ways(system):
    """What goes to the API, from least and from all parameters."""
    api = Api()
    system.worker(TASKINGAI_HOST=api.url, queues="taskingai")
    try:
        with tasking(system) as client:
            for name, (method, path, cases) in OPERATIONS.items():
                for params, query, body in cases:
                    api.requests.clear()
                    plain = getattr(client, name)(**params)
                    other = awaited(system, lambda c: getattr(c, "a_" + name)(**params))
                    assert plain == other and type(plain) is type(other)
                    assert [(m, p, json.loads(b) if b else None) for m, p, _, b in api.requests] == [(method, path + query, body)] * 2
    finally:
        api.server.shutdown()
        api.server.server_close()


def test_what_the_functions_give(system, tmp_path, monkeypatch):
    """A program of the SDK, with its shapes: objects, lists, vectors, None."""
    system.worker()
    taskingai.init(api_key="a-key-of-its-own", host="https://api.example.org", redis_url=url(system.server), wait_timeout=20 * SLOW)
    a = taskingai.assistant.create_assistant("TpAb12Cd", {"type": "naive"}, "Twi helper")
    assert isinstance(a, taskingai.Assistant) and a.name == a["name"] == "Twi helper" and a.memory.type == "naive" and json.loads(json.dumps(a)) == a
    with pytest.raises(AttributeError):
        a.nam
    taskingai.update_assistant(a.assistant_id, name="Other")
    assert taskingai.get_assistant(a.assistant_id).name == "Other"
    chats = [taskingai.create_chat(a.assistant_id, f"chat {i}") for i in range(3)]
    page = taskingai.list_chats(a.assistant_id, limit=2, order="asc")
    assert isinstance(page, list) and [c.name for c in page] == ["chat 0", "chat 1"] and page.has_more and page.envelope.fetched_count == 2
    assert not taskingai.list_chats(a.assistant_id, after=page[-1].chat_id, order="asc").has_more
    message = taskingai.create_message(a.assistant_id, chats[0].chat_id, "Maakye")
    assert isinstance(message, taskingai.Message) and message.content.text == "Maakye"
    assert taskingai.generate_message(a.assistant_id, chats[0].chat_id).content.text == "Echo: Maakye"
    assert taskingai.delete_chat(a.assistant_id, chats[2].chat_id) is None
    assert isinstance(taskingai.text_embedding("TpEmb001", "a"), list) and isinstance(taskingai.text_embedding("TpEmb001", "a")[0], (float, int))
    assert len(taskingai.inference.text_embedding("TpEmb001", ["a", "b"])) == 2
    done = taskingai.chat_completion("TpAb12Cd", [taskingai.SystemMessage("s"), taskingai.UserMessage("Maakye")])
    assert isinstance(done, taskingai.ChatCompletion) and done.message.content == "Echo: Maakye" and done.message.function_calls is None and done.usage.input_tokens > 0
    assert taskingai.rerank("TpRer001", "q", ["x", "q"], 1).results[0].document.text
    c = taskingai.create_collection("TpEmb001", name="faq")
    (tmp_path / "notes.txt").write_text("Accra is the capital of Ghana.")
    for i, upload in enumerate((str(tmp_path / "notes.txt"), open(tmp_path / "notes.txt", "rb"), io.BytesIO(b"Accra is the capital of Ghana."), b"Accra is the capital of Ghana.")):
        up = taskingai.upload_file(upload, file_name=None if i < 2 else "notes.txt")
        r = taskingai.create_record(c.collection_id, type="file", file_id=up.file_id, text_splitter={"type": "token", "chunk_size": 100, "chunk_overlap": 10})
        assert isinstance(r, taskingai.Record) and json.loads(r.content)["file_name"] == "notes.txt"
    assert not system.redis.keys("adwuma:{taskingai}:audio:*")
    found = taskingai.query_chunks(c.collection_id, "capital?", top_k=1)
    assert isinstance(found[0], taskingai.Chunk) and found[0].content == "Accra is the capital of Ghana." and isinstance(found[0].score, float)
    r = taskingai.create_record(c.collection_id, "text", content="x", text_splitter={"type": "token", "chunk_size": 100, "chunk_overlap": 10})
    assert taskingai.update_record(r.record_id, c.collection_id, metadata={"k": "v"}).metadata.k == "v"  # the SDK's order
    taskingai.client().close()
    # The same by the environment alone, as a program is started.
    monkeypatch.setenv("ADWUMA_REDIS_URL", url(system.server))
    taskingai.init()
    assert asyncio.run(taskingai.a_get_assistant(a.assistant_id)).name == "Other"
    assert "a-key-of-its-own" not in repr(vars(taskingai.client()))
    taskingai.client().close()


def test_a_thousand_operations_over_one_connection(system):
    system.worker(threads=16)

    async def use(client):
        vectors = await asyncio.gather(*(client.a_chat_completion("TpAb12Cd", [taskingai.UserMessage(f"m {i}")]) for i in range(1000)))
        assert [v.message.content for v in vectors] == [f"Echo: m {i}" for i in range(1000)]
        return connections(system)
    assert awaited(system, use) == 1


def test_what_is_wrong(system):
    system.worker(max_attempts=1)

    def both_raise(kind, operation, code=None, **params):
        with tasking(system) as client, pytest.raises(taskingai.TaskingAIError) as plain:
            getattr(client, operation)(**params)
        with pytest.raises(taskingai.TaskingAIError) as other:
            awaited(system, lambda c: getattr(c, "a_" + operation)(**params))
        for caught in (plain.value, other.value):
            assert type(caught).__name__ == kind and caught.code == code and caught.job_id, caught
        return plain.value

    assert both_raise("TaskingAIError", "get_assistant", "OBJECT_NOT_FOUND", assistant_id="X5lMzzzzzzzzzzzzzzzzzzzz").status_code == 404
    assert "exclude each other" in both_raise("InvalidJobError", "list_assistants", after="a", before="b").message
    assert isinstance(both_raise("InvalidJobError", "list_assistants", limit="many"), ValueError)
    assert both_raise("RateLimitError", "list_actions", "TOO_MANY_REQUESTS", after="stub(status=429,code=TOO_MANY_REQUESTS)").status_code == 429
    assert both_raise("AuthenticationError", "list_actions", "APIKEY_VALIDATION_FAILED", after="stub(status=401,code=APIKEY_VALIDATION_FAILED)").status_code == 401
    assert both_raise("UnknownOutcomeError", "create_collection", "transport", embedding_model_id="TpEmb001", name="stub(close)").retryable is False
    with tasking(system) as client, pytest.raises(TypeError):
        client.create_chat()  # what is needed is said by Python itself
    with tasking(system) as client, pytest.raises(TypeError, match="no place in a job"):
        client.create_chat("X5lM", metadata={"k": object()})
    assert all(issubclass(getattr(taskingai, n), taskingai.TaskingAIError) for n in taskingai.__all__ if n.endswith("Error"))


def read_stream(system, how, **params):
    """What a stream gives, and what it ends with."""
    params = {"model_id": "TpAb12Cd", "stream": True, **params}
    got, error = [], None
    if how == "plain":
        with tasking(system) as client:
            stream = client.chat_completion(**params)
            try:
                for event in stream:
                    got.append(event)
            except taskingai.TaskingAIError as e:
                error = e
            assert next(stream, None) is None  # it stays at its end
    else:
        async def use(client):
            nonlocal error
            stream = await client.a_chat_completion(**params)
            try:
                async for event in stream:
                    got.append(event)
            except taskingai.TaskingAIError as e:
                error = e
            assert [e async for e in stream] == []
            return stream
        stream = awaited(system, use)
    return got, error, stream


def said(text):
    return [taskingai.UserMessage(text)]


@pytest.mark.parametrize("how", ["plain", "awaited"])
def test_streams(system, how):
    system.worker(max_attempts=2)
    got, error, stream = read_stream(system, how, messages=said("one two three"))
    assert error is None and [type(e) for e in got] == [taskingai.ChatCompletionChunk] * (len(got) - 1) + [taskingai.ChatCompletion]
    assert "".join(e.delta for e in got[:-1]) == got[-1].message.content == "Echo: one two three" and len(got) > 3
    assert stream.result.data == got[-1]
    # The first try breaks off: what came before is void.
    got, error, _ = read_stream(system, how, messages=said("one two three stub(cut_after=2,times=1)"))
    at = [type(e) for e in got].index(taskingai.StreamRestart)
    assert error is None and at == 2 and got[at].attempt == 2 and got[-1].message.content == "Echo: one two three"
    assert "".join(e.delta for e in got[at + 1:-1]) == "Echo: one two three"
    # An error comes behind what came.
    got, error, stream = read_stream(system, how, messages=said("one two stub(stream_error=2,code=INVALID_REQUEST)"))
    assert len(got) == 1 and type(error) is taskingai.TaskingAIError and error.code == "INVALID_REQUEST" and error.job_id == stream.job_id and stream.result is None
    # One that was refused before it began.
    got, error, _ = read_stream(system, how, messages=[])
    assert got == [] and type(error) is taskingai.InvalidJobError
    # One whose stream is not there any more: its result ends it.
    with tasking(system) as client:
        finished = client.chat_completion("TpAb12Cd", said("x"), stream=True)
        list(finished)
        system.redis.delete(f"adwuma:{{taskingai}}:stream:{finished.job_id}")
        again = taskingai.Stream(client._wire, finished._job)
        assert [e.message.content for e in again] == ["Echo: x"]
    if how == "awaited":
        async def use(client):
            return [e async for e in taskingai.AsyncStream(client._wire, finished._job)]
        assert [e.message.content for e in awaited(system, use)] == ["Echo: x"]


def test_a_generation_streams_and_tells_its_log(system):
    system.worker()
    with tasking(system) as client:
        a = client.create_assistant("TpAb12Cd", {"type": "naive"})
        chat = client.create_chat(a.assistant_id)
        client.create_message(a.assistant_id, chat.chat_id, "Maakye")
        got = list(client.generate_message(a.assistant_id, chat.chat_id, stream=True, debug=True))
        assert {type(e) for e in got} == {taskingai.MessageGenerationLog, taskingai.MessageChunk, taskingai.Message}
        assert got[-1].content.text == "Echo: Maakye" == "".join(e.delta for e in got if isinstance(e, taskingai.MessageChunk))


def test_pieces_come_while_the_answer_is_made_and_leaving_early_cancels(system):
    """The API is silent after its pieces, so what is read was read before the end."""
    system.worker()
    hangs, got = "one two three stub(cut_after=2,end=hang)", []
    with tasking(system) as client:
        with client.chat_completion("TpAb12Cd", said(hangs), stream=True) as stream:
            assert next(stream).delta + next(stream).delta == "Echo: one "
            assert system.redis.keys("adwuma:{taskingai}:result:*") == []
        until(lambda: system.stats("taskingai").get("cancelled") == 1, what="it is cancelled")
    with tasking(system, wait_timeout=0.5) as client, client.chat_completion("TpAb12Cd", said(hangs), stream=True) as stream:
        assert (next(stream).delta, next(stream).delta) == ("Echo: ", "one ")
        with pytest.raises(taskingai.WaitTimeoutError, match="no answer within 0.5 s"):
            next(stream)

    async def use(client):
        async with await client.a_chat_completion("TpAb12Cd", said(hangs), stream=True) as stream:
            assert (await stream.__anext__()).delta == "Echo: "
        while system.stats("taskingai").get("cancelled") != 3:
            await asyncio.sleep(0.005)
        stream = await client.a_chat_completion("TpAb12Cd", said(hangs), stream=True)
        reads = asyncio.ensure_future(collect(stream))
        while len(got) < 2:
            await asyncio.sleep(0.005)
        reads.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reads

    async def collect(stream):
        async for event in stream:
            got.append(event)

    awaited(system, use)
    until(lambda: system.stats("taskingai").get("cancelled") == 4, what="a reader that is cancelled cancels")
    until(lambda: connections(system) == 0, what="its connections are gone")


@pytest.mark.parametrize("how", ["plain", "awaited"])
def test_redis_restarts_while_a_stream_is_read(durable, how):
    durable.worker(lease_ms=5000)
    reads = InBackground(lambda: read_stream(durable, how, messages=said("one two three four stub(pace=300)")))
    until(lambda: durable.redis.keys("adwuma:{taskingai}:stream:*"), what="it streams")
    durable.server.kill()
    durable.server.start()
    got, error, _ = reads.ends()
    assert error is None and "".join(e.delta for e in got[:-1]) == "Echo: one two three four" == got[-1].message.content
