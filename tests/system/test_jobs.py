"""Each type of job from the list to its result, and what the API was really asked."""
import base64
import hashlib
import json
import os

import pytest

WHOLE = {"id", "queue", "type", "status", "attempts", "enqueued_at_ms", "started_at_ms", "finished_at_ms", "api_ms", "cached", "worker", "billed"}


@pytest.mark.core
def test_translate(system):
    system.worker()
    r = system.do("translate", id="42", text="Good morning", language_pair="en-tw", enqueued_at_ms=1)
    assert r["result"] == {"text": "[tw] Good morning", "source_language": "en", "target_language": "tw"}
    assert set(r) == WHOLE | {"result"}
    assert (r["id"], r["queue"], r["type"], r["status"], r["attempts"], r["cached"]) == ("42", "translate", "translate", "succeeded", 1, False)
    assert r["enqueued_at_ms"] == 1 and 1 < r["started_at_ms"] <= r["finished_at_ms"] and r["api_ms"] > 0
    call = system.stub.calls()[0]
    assert (call["method"], call["path"], call["content_type"], call["text"]) == ("POST", "/v1/translate", "application/json", "Good morning")
    assert system.stats("translate") == {"succeeded": 1}
    assert 86000 < system.redis.ttl("adwuma:{translate}:result:42") <= 86400


def test_text_passes_unchanged(system):
    system.worker()
    for text in ('quote " backslash \\ slash / tab \t newline \n', "Ɛte sɛn? 😀 \u200d é", "a" * 900, "\u0007\u001f", " "):
        assert system.do("translate", text=text)["result"]["text"] == "[tw] " + text


def test_defaults_and_pairs(system):
    system.worker()
    assert system.do("translate", text="x")["result"]["target_language"] == "tw"
    r = system.do("translate", text="x", language_pair=None)
    assert r["result"]["source_language"] == "en"
    r = system.do("translate", text="x", language_pair="twi-eng")
    assert r["result"] == {"text": "[eng] x", "source_language": "twi", "target_language": "eng"}


def test_circle_by_key(system):
    """Speech made from a text and transcribed gives the text back; the audio's bytes are those that were promised."""
    system.worker()
    text = "Me ho yɛ, na wo nso ɛ?"
    s = system.do("synthesize", id="s1", text=text, language="twi", speaker="female", result_ttl_s=500)
    made = s["result"]
    assert set(made) == {"language", "content_type", "bytes", "sha256", "audio_key"}
    assert made["audio_key"] == "adwuma:{synthesize}:audio:s1" and made["content_type"] == "audio/wav" and made["language"] == "twi"
    audio = system.redis.get(made["audio_key"])
    assert len(audio) == made["bytes"] and hashlib.sha256(audio).hexdigest() == made["sha256"]
    assert 400 < system.redis.ttl(made["audio_key"]) <= 500
    t = system.do("transcribe", audio_key=made["audio_key"], language="twi", timestamps="word")
    assert t["result"]["text"] == text and t["result"]["language"] == "twi" and t["result"]["warnings"] == []
    assert [w["word"] for w in t["result"]["timings"]["words"]] == text.split()
    call = system.stub.calls()[-1]
    assert call["body_sha256"] == made["sha256"] and call["content_type"] == "audio/wav"
    assert call["query"] == "language=twi&timestamps=word"
    assert system.redis.exists(made["audio_key"])  # workers never delete it


def test_circle_by_base64_and_path(system, tmp_path):
    (tmp_path / "audio" / "deep").mkdir(parents=True)
    system.worker(audio_root=str(tmp_path / "audio"))
    made = system.do("synthesize", text="hello there", language="eng", output="base64")["result"]
    audio = base64.b64decode(made["audio_base64"])
    assert len(audio) == made["bytes"] and hashlib.sha256(audio).hexdigest() == made["sha256"] and "audio_key" not in made
    r = system.do("transcribe", audio_base64=made["audio_base64"], language="tw")
    assert r["result"]["text"] == "hello there" and "legacy" in r["result"]["warnings"][0]
    assert r["result"]["timings"] is None
    (tmp_path / "audio" / "deep" / "a.wav").write_bytes(audio)
    for path in ("deep/a.wav", str(tmp_path / "audio" / "deep" / "a.wav"), "deep/../deep/a.wav"):
        assert system.do("transcribe", audio_path=path)["result"]["text"] == "hello there"
    os.symlink("deep/a.wav", tmp_path / "audio" / "link.wav")
    assert system.do("transcribe", audio_path="link.wav")["status"] == "succeeded"


def test_large_audio_is_streamed_whole(system, tmp_path):
    """Several pieces, and a size that is no multiple of a piece."""
    audio = b"RIFF\x00\x00\x00\x00WAVE" + os.urandom(3_000_017)
    (tmp_path / "big.wav").write_bytes(audio)
    system.worker(audio_root=str(tmp_path))
    system.redis.set("adwuma:{other}:audio:big", audio, ex=100)
    for source in ({"audio_path": "big.wav"}, {"audio_key": "adwuma:{other}:audio:big"}, {"audio_base64": base64.b64encode(audio).decode()}):
        assert system.do("transcribe", **source)["status"] == "succeeded"
        assert system.stub.calls()[-1]["body_sha256"] == hashlib.sha256(audio).hexdigest()


def test_any_type_in_any_queue_and_reply_lists(system):
    system.worker(queues="mixed:3,translate")
    system.push("mixed", {"id": "a", "type": "translate", "text": "x", "reply": "r1"}, {"id": "b", "type": "synthesize", "text": "y", "language": "twi", "reply": "r1"},
                {"id": "c", "type": "translate", "text": "", "reply": "r1"})
    got = {}
    for _ in range(3):
        r = json.loads(system.redis.blpop("adwuma:{mixed}:reply:r1", 10)[1])
        got[r["id"]] = r
    assert [got[i]["status"] for i in "abc"] == ["succeeded", "succeeded", "failed"]
    assert got["b"] == system.result("mixed", "b") and got["b"]["queue"] == "mixed" and got["b"]["type"] == "synthesize"
    system.push("mixed", {"id": "d", "type": "translate", "text": "x", "reply": "r2", "result_ttl_s": 77})
    system.result("mixed", "d")
    assert 70 < system.redis.ttl("adwuma:{mixed}:reply:r2") <= 77 and 70 < system.redis.ttl("adwuma:{mixed}:result:d") <= 77


def test_traceparent_goes_along(system):
    system.worker()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert system.do("translate", text="x", traceparent=trace)["traceparent"] == trace
    assert system.stub.calls()[0]["traceparent"] == trace


def test_first_in_first_out(system):
    system.push("translate", *[{"id": f"{i}", "text": f"n{i}"} for i in range(50)])
    system.worker(threads=1)
    system.reconcile("translate", 50)
    assert [c["text"] for c in system.stub.calls()] == [f"n{i}" for i in range(50)]


def test_threads_call_at_the_same_time(system):
    """Eight calls that each take a second are over in far less than eight."""
    system.push("translate", *[{"id": f"{i}", "text": f"{i} stub(delay=1000)"} for i in range(8)])
    system.worker(threads=8)
    system.reconcile("translate", 8)
    arrived = [c["arrived_ms"] for c in system.stub.calls()]
    assert max(arrived) - min(arrived) < 900


def test_max_concurrency_leaves_threads_to_others(system, tmp_path):
    conf = tmp_path / "w.conf"
    conf.write_text("queues = slow,translate\n[queue slow]\nmax_concurrency = 2\n")
    system.push("slow", *[{"id": f"s{i}", "type": "translate", "text": f"{i} stub(delay=700)"} for i in range(6)])
    system.worker(flags=["--config", str(conf)], threads=4)
    for i in range(20):
        assert system.do("translate", text=f"quick {i}")["status"] == "succeeded"
    system.reconcile("slow", 6)
    slow = sorted(c["arrived_ms"] for c in system.stub.calls() if "delay" in c["text"])
    assert all(later - earlier >= 600 for earlier, later in zip(slow, slow[2:]))


def test_weights_share_the_threads(system):
    """With all threads wanted, a queue of weight 3 gets about three times the calls of one of weight 1."""
    for q in ("heavy", "light"):
        system.push(q, *[{"id": f"{q}{i}", "type": "translate", "text": f"{q} {i} stub(delay=50)"} for i in range(160)])
    system.worker(queues="heavy:3,light:1", threads=8)
    system.reconcile("heavy", 160)
    calls = [c["text"].split()[0] for c in system.stub.calls()]
    last_heavy = max(i for i, q in enumerate(calls) if q == "heavy")
    share = calls[:last_heavy + 1].count("light") / (last_heavy + 1)
    assert 0.15 < share < 0.36, share
    system.reconcile("light", 160)


def test_duplicates_are_neither_called_nor_answered_twice(system):
    system.worker()
    system.do("translate", id="one", text="x", reply="r")
    calls = system.stub.count()
    system.push("translate", {"id": "one", "text": "x again", "reply": "r"})
    system.do("translate", id="two", text="y")
    system.workers[0].stop()
    assert system.stub.count() == calls + 1
    assert system.redis.llen("adwuma:{translate}:result:one") == 1 and system.redis.llen("adwuma:{translate}:reply:r") == 1
    assert system.stats("translate") == {"succeeded": 2, "fenced": 1}


def test_two_with_one_id_at_once_write_one_result(system):
    system.push("translate", *[{"id": "same", "text": f"{i} stub(delay=300)"} for i in range(6)])
    system.worker()
    system.result("translate", "same")
    system.workers[0].stop()
    assert system.redis.llen("adwuma:{translate}:result:same") == 1
    assert system.stats("translate") == {"succeeded": 1, "fenced": 5}
