"""Bad input: the error that the contract names for each, and the worker goes on."""
import base64
import json
import os

import pytest

BAD = [  # queue, job, type of error, status, part of the message
    ("translate", {"text": 5}, "InvalidJobError", 0, "'text' must be a string, got 5"),
    ("translate", {"text": "x", "type": "dance"}, "InvalidJobError", 0, "type \"dance\" is unknown"),
    ("translate", {"text": "x", "type": "taskingai.chat"}, "InvalidJobError", 0, "unknown"),
    ("translate", {"text": "x", "type": 7}, "InvalidJobError", 0, "'type' must be a string"),
    ("translate", {"text": "x", "timeout_ms": "soon"}, "InvalidJobError", 0, "'timeout_ms' must be an integer from 1 to 3600000"),
    ("translate", {"text": "x", "timeout_ms": 0}, "InvalidJobError", 0, "timeout_ms"),
    ("translate", {"text": "x", "timeout_ms": 3600001}, "InvalidJobError", 0, "timeout_ms"),
    ("translate", {"text": "x", "timeout_ms": 1.5}, "InvalidJobError", 0, "timeout_ms"),
    ("translate", {"text": "x", "max_attempts": 101}, "InvalidJobError", 0, "max_attempts"),
    ("translate", {"text": "x", "max_attempts": True}, "InvalidJobError", 0, "max_attempts"),
    ("translate", {"text": "x", "result_ttl_s": 0}, "InvalidJobError", 0, "result_ttl_s"),
    ("translate", {"text": "x", "expires_at_ms": -1}, "InvalidJobError", 0, "expires_at_ms"),
    ("translate", {"text": "x", "not_before_ms": []}, "InvalidJobError", 0, "not_before_ms"),
    ("translate", {"text": "x", "if_unsure": "maybe"}, "InvalidJobError", 0, "one of rerun|hold"),
    ("translate", {"text": "x", "cache": "yes"}, "InvalidJobError", 0, "true or false"),
    ("translate", {"text": "x", "reply": "no spaces"}, "InvalidJobError", 0, "'reply'"),
    ("translate", {"text": "x", "traceparent": 1}, "InvalidJobError", 0, "traceparent"),
    ("translate", {"text": "x", "enqueued_at_ms": "1"}, "InvalidJobError", 0, "enqueued_at_ms"),
    ("translate", {"text": "x", "language_pair": {}}, "InvalidJobError", 0, "language_pair"),
    ("translate", {"text": "a\u0000b"}, "InvalidJobError", 0, "U+0000"),
    ("translate", {"text": ""}, "TranslationError", 400, "Text and language pair are required"),
    ("translate", {}, "TranslationError", 400, "Text and language pair are required"),
    ("translate", {"text": None}, "TranslationError", 400, "Text and language pair are required"),
    ("translate", {"text": "x", "language_pair": ""}, "TranslationError", 400, "Text and language pair are required"),
    ("synthesize", {"text": "x"}, "TTSGenerationError", 400, "Text and language are required"),
    ("synthesize", {"text": "", "language": "twi"}, "TTSGenerationError", 400, "Text and language are required"),
    ("synthesize", {"text": "x", "language": "twi", "speaker": "robot"}, "TTSGenerationError", 400,
     "Unknown speaker 'robot'. Supported speakers: female, male_high, male_low"),
    ("synthesize", {"text": "x", "language": "twi", "speaker": ""}, "TTSGenerationError", 400, "Unknown speaker ''"),
    ("synthesize", {"text": "x", "language": "twi", "format": "mp3"}, "TTSGenerationError", 400, "v2"),
    ("synthesize", {"text": "x", "language": "twi", "format": "aiff"}, "InvalidJobError", 0, "wav|mp3|ogg"),
    ("synthesize", {"text": "x", "language": "twi", "output": "fax"}, "InvalidJobError", 0, "key|base64|path"),
    ("transcribe", {}, "InvalidJobError", 0, "exactly one of audio_path"),
    ("transcribe", {"audio_path": "a", "audio_key": "b"}, "InvalidJobError", 0, "got 2"),
    ("transcribe", {"audio_path": "a.wav", "timestamps": "true"}, "ASRTranscriptionError", 400, "timestamps must be 'word' or 'segment', got 'true'"),
    ("transcribe", {"audio_path": "a.wav", "timestamps": ""}, "ASRTranscriptionError", 400, "got ''"),
    ("transcribe", {"audio_path": "nope.wav"}, "ASRTranscriptionError", 400, "Audio file not found: nope.wav"),
    ("transcribe", {"audio_path": ""}, "ASRTranscriptionError", 400, "not found"),
    ("transcribe", {"audio_path": "../outside.wav"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "sub/../../outside.wav"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "/etc/passwd"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "out-link.wav"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "out-dir/passwd"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "sub"}, "ASRTranscriptionError", 400, "no regular file"),
    ("transcribe", {"audio_path": "pipe"}, "ASRTranscriptionError", 400, "no regular file"),
    ("transcribe", {"audio_path": "null"}, "ASRTranscriptionError", 400, "no regular file"),
    ("transcribe", {"audio_path": "null-link"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "proc-link/status"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "endless-link"}, "ASRTranscriptionError", 400, "leads out of audio_root"),
    ("transcribe", {"audio_path": "sub/"}, "ASRTranscriptionError", 400, "no regular file"),
    ("transcribe", {"audio_path": "empty.wav/"}, "ASRTranscriptionError", 400, "not found"),
    ("transcribe", {"audio_path": "."}, "ASRTranscriptionError", 400, "no regular file"),
    ("transcribe", {"audio_path": "x" * 300}, "ASRTranscriptionError", 400, "cannot be opened"),
    ("transcribe", {"audio_path": "empty.wav"}, "ASRTranscriptionError", 400, "empty"),
    ("transcribe", {"audio_path": "large.wav"}, "ASRTranscriptionError", 400, "max_audio_bytes"),
    ("transcribe", {"audio_key": "secrets"}, "ASRTranscriptionError", 400, "whole name of an audio key"),
    ("transcribe", {"audio_key": "adwuma:{translate}:stats"}, "ASRTranscriptionError", 400, "whole name of an audio key"),
    ("transcribe", {"audio_key": "adwuma:{transcribe}:audio:none"}, "ASRTranscriptionError", 400, "does not exist"),
    ("transcribe", {"audio_key": "adwuma:{transcribe}:audio:list"}, "ASRTranscriptionError", 400, "holds no string"),
    ("transcribe", {"audio_base64": "!!!"}, "ASRTranscriptionError", 400, "no base64"),
    ("transcribe", {"audio_base64": "YWJj\nYWJj"}, "ASRTranscriptionError", 400, "no base64"),
    ("transcribe", {"audio_base64": ""}, "ASRTranscriptionError", 400, "empty"),
    ("transcribe", {"audio_url": "https://example.org/a.wav"}, "ASRTranscriptionError", 400, "audio_url is refused"),
]


@pytest.fixture
def audio_root(tmp_path):
    root = tmp_path / "audio"
    (root / "sub").mkdir(parents=True)
    (root / "empty.wav").touch()
    (root / "large.wav").write_bytes(b"x" * 200_000)
    os.symlink("/etc/passwd", root / "out-link.wav")
    os.symlink("/etc", root / "out-dir")
    os.mkfifo(root / "pipe")
    os.symlink("/dev/zero", root / "null-link")
    os.symlink("/proc/self", root / "proc-link")
    os.symlink("endless-link", root / "endless-link")
    try:
        os.mknod(root / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except PermissionError:  # not root: a socket is as good a thing that is no file
        os.mkfifo(root / "null")
    (tmp_path / "outside.wav").write_bytes(b"RIFF")
    return root


def test_each_bad_job_gets_its_error_and_no_call(system, audio_root):
    system.redis.rpush("adwuma:{transcribe}:audio:list", "x")
    system.worker(audio_root=str(audio_root), max_audio_bytes="100K")
    for i, (queue, job, *_rest) in enumerate(BAD):
        system.push(queue, {"id": f"bad{i}", **job})
    for i, (queue, job, kind, status, message) in enumerate(BAD):
        r = system.result(queue, f"bad{i}")
        assert r["status"] == "failed", (job, r)
        e = r["error"]
        assert set(e) == {"type", "message", "status_code", "code", "details", "activity_id", "retryable", "service"}
        assert (e["type"], e["status_code"], e["retryable"]) == (kind, status, False), (job, e)
        assert message in e["message"], (job, e["message"])
        assert r["attempts"] == 0 and r["started_at_ms"] is None
    assert system.stub.count() == 0
    for queue in ("translate", "synthesize", "transcribe"):
        n = sum(1 for b in BAD if b[0] == queue)
        assert system.stats(queue) == {"failed": n}
        assert {d["job"]["id"] for d in system.dead(queue)} == {f"bad{i}" for i, b in enumerate(BAD) if b[0] == queue}
    assert system.do("translate", text="still here")["status"] == "succeeded"


def test_no_path_without_root(system):
    system.worker()
    e = system.do("transcribe", audio_path="a.wav")["error"]
    assert e["type"] == "ASRTranscriptionError" and e["status_code"] == 400 and "audio_root" in e["message"]


NO_ID = [b"not json", b"", b"42", b'"text"', b"[1,2]", b"null", b"{", b'{"text":"no id"}', b'{"id":7,"text":"x"}', b'{"id":"","text":"x"}', b'{"id":"a b","text":"x"}',
         b'{"id":"' + b"x" * 129 + b'","text":"x"}', b'{"id":"a","text":"x"} trailing', b'{"id":"a","n":01}', b'{"id":"a","t":"\x01"}', b"\xff\xfe\x00", b'{"id":null,"text":"x"}',
         b"#looks-like-a-hash", b'{"id":"x\\u0000y","text":"x"}', b'{"id":"\xc3\x28","text":"x"}']


def test_without_a_usable_id_only_dead(system):
    system.worker()
    system.push("translate", *NO_ID)
    system.do("translate", text="still here")
    from conftest import until
    until(lambda: len(system.dead("translate")) == len(NO_ID), what="all in dead")
    assert system.results("translate") == 1 and system.stub.count() == 1
    seen = []
    for d in system.dead("translate"):
        assert d["error"]["type"] == "InvalidJobError" and d["error"]["status_code"] == 0 and d["died_at_ms"] > 0
        if "job_base64" in d:
            seen.append(base64.b64decode(d["job_base64"]))
        elif isinstance(d["job"], str):
            seen.append(d["job"].encode())
    for raw in NO_ID:
        try:
            parsed = json.loads(raw.decode())
        except ValueError:
            assert raw in seen, raw
        else:
            assert any(d.get("job") in (parsed, raw.decode()) for d in system.dead("translate")), raw
    assert not system.redis.keys("adwuma:*slot*")


def test_large_deep_and_broken_text(system):
    system.worker()
    system.push("translate", b'{"id":"large","text":"' + b"x" * (17 * 1024 * 1024) + b'"}')
    system.push("translate", b'{"id":"deep","text":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    system.push("translate", b'{"id":"deep200","text":"x","a":' + b"[" * 199 + b"]" * 199 + b"}")
    system.push("translate", b'{"id":"bytes","text":"\xff\xfe"}')
    system.push("translate", b'{"id":"surrogate","text":"\\ud800"}')
    assert "16777216" in system.result("translate", "large", 30)["error"]["message"]
    assert "nested deeper than 200" in system.result("translate", "deep")["error"]["message"]
    assert system.result("translate", "deep200")["status"] == "succeeded"
    assert "UTF-8" in system.result("translate", "bytes")["error"]["message"]
    assert "surrogate" in system.result("translate", "surrogate")["error"]["message"]
    for i in ("large", "deep", "bytes", "surrogate"):
        e = system.result("translate", i)["error"]
        assert e["type"] == "InvalidJobError" and e["status_code"] == 0
    assert system.stub.count() == 1
    raw = [d for d in system.dead("translate") if "job_base64" in d]
    assert [base64.b64decode(d["job_base64"]) for d in raw] == [b'{"id":"bytes","text":"\xff\xfe"}']
    assert not system.redis.keys("adwuma:*slot*")


def test_unknown_fields_and_types_of_others_are_ignored(system):
    system.worker()
    r = system.do("translate", text="x", speaker=5, audio_path=7, unknown={"a": ["\u0000", 9007199254740993]})
    assert r["status"] == "succeeded"


def test_no_key_wins_over_every_other_check(system):
    system.worker(KHAYA_API_KEY=None)
    for queue, job in (("translate", {"text": ""}), ("transcribe", {"audio_path": "x", "timestamps": "bad"}), ("synthesize", {"text": "x"})):
        e = system.do(queue, **job)["error"]
        assert (e["type"], e["status_code"], e["message"]) == ("AuthenticationError", 401, "API key is required")
    assert system.stub.count() == 0


def test_a_key_for_one_service_only(system):
    system.worker(KHAYA_API_KEY=None, KHAYA_TTS_API_KEY="tts-key")
    assert system.do("synthesize", text="x", language="twi")["status"] == "succeeded"
    assert system.do("translate", text="x")["error"]["type"] == "AuthenticationError"


def test_dead_list_is_capped(system):
    system.worker(dead_max_jobs=5)
    for i in range(12):
        system.do("translate", id=f"d{i}", text="")
    assert [d["job"]["id"] for d in system.dead("translate")] == [f"d{i}" for i in range(11, 6, -1)]
    system.workers[0].stop()
    system.worker(dead_max_bytes="4K")
    for i in range(5):
        system.do("translate", id=f"e{i}", text="", padding="x" * 1500)
    dead = system.redis.lrange("adwuma:{translate}:dead", 0, -1)
    assert sum(len(d) for d in dead) <= 4096 and json.loads(dead[0])["job"]["id"] == "e4"
    assert int(system.redis.get("adwuma:{translate}:dead_bytes")) == sum(len(d) for d in dead)
