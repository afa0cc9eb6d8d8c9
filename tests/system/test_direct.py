"""--direct: the same results and the same errors as by way of a worker, without Redis."""
import json
import os
import struct
import subprocess
import time

import pytest
from conftest import BUILD, SLOW

CASES = ["plain", "stub(status=500,retry_after=0,times=1) again", "stub(close,times=1) broken off", "stub(status=403) quota", "stub(status=401)", "stub(status=400)",
         "stub(status=404)", "stub(status=429,retry_after=0)", "stub(status=200,body=html)", "stub(status=200,body=empty)", "stub(status=302)", "stub(body=broken)", "", "\\ \" ɛ \U0001f30d",
         "One sentence that is long, " * 50 + "and ends. " + "Another one that is long, " * 50 + "and ends.",
         "One sentence that is long, " * 30 + "stub(status=503,retry_after=0,times=2) ends. " + "Another one that is long, " * 30 + "and ends."]


def same(r):
    """What does not depend on time and place. The stub counts times= for each text, so that the second asker would see fewer."""
    return {k: r[k] for k in ("status", "type", "result", "error", "attempts", "billed") if k in r}


@pytest.fixture
def direct(system):
    """Runs adwuma with an address of Redis at which nobody listens."""
    def run(*args, stdin=b"", cwd=None, **settings):
        env = system.env(redis_url="redis://127.0.0.1:1", **settings)
        done = subprocess.run([BUILD + "/adwuma", *args], env=env, input=stdin, cwd=cwd, capture_output=True, timeout=60 * SLOW)
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr
        return done
    return run


@pytest.mark.parametrize("number", range(len(CASES)))
def test_it_is_as_with_a_worker(system, direct, number):
    text = CASES[number]
    system.worker(KHAYA_RETRY_ATTEMPTS=3)
    queued = system.do("translate", text=text, language_pair="en-ee", seconds=20)
    calls = system.stub.count()
    system.stub.ask("DELETE", "/_stub/calls")
    done = direct("translate", "--direct", "--json", "--pair", "en-ee", text, KHAYA_RETRY_ATTEMPTS=3)
    assert same(json.loads(done.stdout)) == same(queued)
    assert system.stub.count() == calls
    assert done.returncode == {"succeeded": 0, "failed": 69 if queued.get("error", {}).get("status_code") == 0 and queued["attempts"] else 1}[queued["status"]]


def test_speech_there_and_back(system, direct, tmp_path):
    wav = tmp_path / "said.wav"
    assert direct("synthesize", "--direct", "Me ho yɛ", "-o", str(wav)).returncode == 0
    bytes_ = wav.read_bytes()
    assert bytes_[:4] == b"RIFF" and struct.unpack("<I", bytes_[4:8])[0] == len(bytes_) - 8
    assert direct("synthesize", "--direct", "Me ho yɛ", "-o", "-").stdout == bytes_
    done = direct("transcribe", "--direct", str(wav), "--json")
    r = json.loads(done.stdout)
    assert r["result"]["text"] == "Me ho yɛ" and r["billed"]["request"] == 1 and r["billed"]["audio_second"] >= 1
    assert direct("transcribe", "--direct", "-", stdin=bytes_).stdout.decode() == "Me ho yɛ\n"
    assert direct("transcribe", "--direct", "--format", "srt", str(wav)).stdout.decode().startswith("1\n00:00:00,000 --> ")
    assert direct("transcribe", "--direct", "said.wav", cwd=tmp_path).stdout.decode() == "Me ho yɛ\n", "a name within the folder we are in"


def test_a_file_whose_name_is_no_utf8(system, direct, tmp_path):
    """JSON cannot hold it; and the file whose name is what would come out is another one."""
    assert direct("synthesize", "--direct", "this", "-o", str(tmp_path / "this.wav")).returncode == 0
    assert direct("synthesize", "--direct", "another", "-o", str(tmp_path / "caf\ufffd.wav")).returncode == 0
    name = os.fsencode(tmp_path) + b"/caf\xff.wav"
    os.rename(tmp_path / "this.wav", name)
    assert direct("transcribe", "--direct", name).stdout == b"this\n"


def test_long_speech_is_one_file(system, direct, tmp_path):
    done = direct("synthesize", "--direct", "-o", str(tmp_path / "long.wav"), "This is one sentence of it. " * 10, KHAYA_TTS_MAX_CHARS=60)
    wav = (tmp_path / "long.wav").read_bytes()
    assert done.returncode == 0 and struct.unpack("<I", wav[4:8])[0] == len(wav) - 8


def test_several_in_order(system, direct, tmp_path):
    done = direct("translate", "--direct", "one", "two stub(status=400)", "three")
    assert done.stdout.decode() == "[tw] one\n\n[tw] three\n" and done.returncode == 1 and b"APIError (400)" in done.stderr
    assert direct("synthesize", "--direct", "one", "two", "-d", str(tmp_path)).returncode == 0
    assert sorted(p.name for p in tmp_path.glob("*.wav")) == ["1.wav", "2.wav"]


@pytest.mark.parametrize("args,words", [
    (["translate", "--direct", "--queue", "q", "x"], "--queue"), (["translate", "--direct", "--no-wait", "x"], "--no-wait"), (["synthesize", "--direct", "x"], "-o FILE"),
    (["transcribe", "--direct", "/nowhere.wav"], "/nowhere.wav"), (["transcribe", "--direct", "/"], "directory"),
])
def test_wrong_use_calls_nobody(system, direct, args, words):
    done = direct(*args)
    assert done.returncode == 2 and words in done.stderr.decode() and system.stub.count() == 0


def test_an_empty_file_is_not_paid_for(system, direct, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    done = direct("transcribe", "--direct", str(tmp_path / "empty.wav"))
    assert done.returncode in (1, 2) and b"empty" in done.stderr and system.stub.count() == 0


def test_nobody_there(system, direct):
    done = direct("translate", "--direct", "x", "y", KHAYA_BASE_URL="http://127.0.0.1:1", KHAYA_RETRY_ATTEMPTS=1)
    assert done.returncode == 69 and b"KHAYA_BASE_URL" in done.stderr


def test_the_time_is_kept(system, direct):
    began = time.monotonic()
    done = direct("translate", "--direct", "--timeout", "1", "x stub(hang)")
    assert done.returncode == 75 and time.monotonic() - began < 3 * SLOW
    done = direct("translate", "--direct", "--timeout", "1", "x stub(status=503,retry_after=30)")
    assert done.returncode == 75 and time.monotonic() - began < 6 * SLOW, "a pause that cannot end in time is not begun"


def test_what_is_too_late_is_not_sent(system, direct):
    """Nobody waits for it any more, and it would be paid for."""
    done = direct("translate", "--direct", "--timeout", "1", "x stub(hang)", "y", "z")
    assert done.returncode == 75 and system.stub.count() == 1


def test_an_answer_that_is_too_large_is_an_answer(system, direct):
    """The API was reached: what follows is done all the same."""
    done = direct("translate", "--direct", "One sentence that is long. " * 50, "y", ADWUMA_MAX_RESPONSE_BYTES=1024)
    assert done.returncode == 1 and b"max_response_bytes" in done.stderr and b"KHAYA_BASE_URL" not in done.stderr
    assert done.stdout == b"\n[tw] y\n"


def test_no_key(system, direct):
    done = direct("translate", "--direct", "x", KHAYA_API_KEY=None)
    assert done.returncode == 1 and b"AuthenticationError (401): API key is required" in done.stderr and b"  KHAYA_API_KEY or KHAYA_API_KEY_FILE gives the key\n" in done.stderr
    done = direct("translate", "--direct", "x", KHAYA_API_KEY=None, KHAYA_TRANSLATION_API_KEY="0" * 32)
    assert done.returncode == 1 and b"AuthenticationError (401)" in done.stderr and b"gives the key" not in done.stderr


def test_an_unknown_language_leads_to_the_list(system, direct):
    done = direct("translate", "--direct", "--pair", "en-xx", "x")
    assert done.returncode == 1 and b"  which codes there are: adwuma languages\n" in done.stderr
