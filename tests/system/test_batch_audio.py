"""adwuma batch of a folder of recordings: a transcript for each, whole or not there, and nothing paid twice."""
import json
import os

import pytest
from conftest import SLOW, Batch, lose_one, until


@pytest.fixture
def speak(system, tmp_path):
    """Puts recordings into a folder, each with a text that it says."""
    def speak(folder, **texts):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, text in texts.items():
            key = "spoken-" + name
            if not system.redis.exists(f"adwuma:{{synthesize}}:result:{key}"):
                system.push("synthesize", {"id": key, "text": text, "language": "twi"})
        for name in texts:
            assert system.result("synthesize", "spoken-" + name)["status"] == "succeeded"
            (tmp_path / folder / (name + ".wav")).write_bytes(system.redis.get(f"adwuma:{{synthesize}}:audio:spoken-{name}"))
        system.redis.delete(*system.redis.keys("adwuma:{synthesize}:*audio*"))
        system.stub.ask("DELETE", "/_stub/calls")
    return speak


def names(folder):
    return sorted(os.listdir(folder))


def no_audio_is_left(system):
    return not system.redis.keys("adwuma:{transcribe}:audio:*")


def test_a_folder_of_each_format(system, batch, speak, tmp_path):
    system.worker()
    speak("in", one="Maakye", two="Maaha")
    for fmt, ending, words in ((None, "txt", "Maakye\n"), ("json", "json", '"text":"Maakye"'), ("srt", "srt", "1\n00:00:00,000 --> "), ("vtt", "vtt", "WEBVTT\n")):
        p = batch("in", "-o", f"out/", *(["--format", fmt] if fmt else []))
        assert p.returncode == 0 and "2 done: 2 succeeded, 0 failed" in p.err, p.err
        text = (tmp_path / "out" / f"one.{ending}").read_text()
        assert words in text and "Maakye" in text and "Maaha" in (tmp_path / "out" / f"two.{ending}").read_text()
    assert names(tmp_path / "out") == [f"{n}.{e}" for n in ("one", "two") for e in ("json", "srt", "txt", "vtt")]
    assert system.stub.count() == 4, "srt and vtt are made of the same answers, and so are txt and json"
    assert no_audio_is_left(system)
    p = batch("in", "-o", "words", "--format", "json", "--timestamps", "word", "--language", "twi")
    assert p.returncode == 0 and json.loads((tmp_path / "words" / "one.json").read_text())["timings"]["words"]


def test_which_files_and_what_they_are_called(system, batch, speak, tmp_path):
    system.worker()
    speak("in", a="text a", b="text b", c="text c")
    folder = tmp_path / "in"
    for name, source in (("a.WAV", "b"), ("a.wav.flac", "c"), ("d.error.wav", "c"), ("e.f.Mp3", "c"), ("notes.txt", "a"), (".hidden.wav", "a"), ("wav", "a"), ("g\xff.wav", "a")):
        (folder / name).write_bytes((folder / f"{source}.wav").read_bytes())
    (folder / "sub.wav").mkdir()
    os.symlink("b.wav", folder / "link.ogg")
    p = batch("in", "-o", "out", "--format", "srt")
    assert p.returncode == 0 and "4 of 13 are passed over: recordings are files that end in .wav .mp3" in p.err, p.err
    assert names(tmp_path / "out") == sorted(["a.WAV.srt", "a.wav.srt", "a.wav.flac.srt", "b.srt", "c.srt", "d.error.wav.srt", "e.f.srt", "g\xff.srt", "link.srt"])
    assert "text a" in (tmp_path / "out" / "a.wav.srt").read_text() and "text b" in (tmp_path / "out" / "a.WAV.srt").read_text()
    assert "text c" in (tmp_path / "out" / "a.wav.flac.srt").read_text()


def test_what_failed_is_done_once_more_when_asked(system, batch, speak, tmp_path):
    system.worker(max_attempts=1)
    speak("in", good="x", a="one stub(path=/asr,status=403,times=1)", b="two stub(path=/asr,status=403,times=2)")
    (tmp_path / "in" / "empty.wav").write_bytes(b"")
    (tmp_path / "in" / "large.wav").write_bytes(b"x" * 3_000_000)
    (tmp_path / "in" / "noise.mp3").write_bytes(b"no sound")
    settings = {"max_audio_bytes": 2_000_000}
    p = batch("in", "-o", "out", "--format", "srt", **settings)
    assert p.returncode == 1 and "6 done: 1 succeeded, 5 failed: " in p.err and "InvalidJobError 2" in p.err, p.err
    assert names(tmp_path / "out") == ["a.error.json", "b.error.json", "empty.error.json", "good.srt", "large.error.json", "noise.error.json"]
    error = json.loads((tmp_path / "out" / "a.error.json").read_text())
    assert error["status"] == "failed" and error["error"]["status_code"] == 403 and error["id"].startswith("batch-")
    assert "max_audio_bytes is 2000000" in json.loads((tmp_path / "out" / "large.error.json").read_text())["error"]["message"]
    calls = system.stub.count()
    again = batch("in", "-o", "out", "--format", "srt", **settings)
    assert again.returncode == 1 and "6 done: 1 succeeded, 5 failed: " in again.err and system.stub.count() == calls
    p = batch("in", "-o", "out", "--format", "srt", "--retry-failed", **settings)
    assert p.returncode == 1 and "6 done: 2 succeeded, 4 failed: " in p.err and names(tmp_path / "out")[:2] == ["a.srt", "b.error.json"]
    assert json.loads((tmp_path / "out" / "b.error.json").read_text())["id"].endswith(".r")
    p = batch("in", "-o", "out", "--format", "srt", "--retry-failed", **settings)
    assert "6 done: 3 succeeded, 3 failed: " in p.err and "two" in (tmp_path / "out" / "b.srt").read_text()
    assert system.stub.count() == calls + 3 + 2 and no_audio_is_left(system), "the noise is asked for each time"


def test_a_recording_without_timings_is_told(system, batch, script, tmp_path):
    """What was paid for is kept beside the reason why it is no subtitles."""
    script.says({"text": "x"})
    system.worker(KHAYA_BASE_URL=script.url, KHAYA_ASR_VERSION="v1")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"RIFF")
    p = batch("in", "-o", "out", "--format", "srt")
    error = json.loads((tmp_path / "out" / "a.error.json").read_text())
    assert p.returncode == 1 and "ASRTranscriptionError 1" in p.err and "no timings" in error["error"]["message"] and error["result"]["text"] == "x"


def test_killed_and_started_again(system, batch, speak, tmp_path):
    system.worker(threads=4)
    speak("in", **{f"r{i}": f"number {i}" for i in range(60)})
    system.stub.fault("delay=40")
    kills = batch.kills(8, "in", "-o", "out", "--format", "vtt", pauses=(0.02, 0.04, 0.06, 0.08))
    p = batch("in", "-o", "out", "--format", "vtt")
    assert kills == 8 and p.returncode == 0 and "60 done: 60 succeeded" in p.err
    assert names(tmp_path / "out") == sorted(f"r{i}.vtt" for i in range(60))
    for i in range(60):
        text = (tmp_path / "out" / f"r{i}.vtt").read_text()
        assert text.startswith("WEBVTT\n") and text.endswith(f"number {i}\n")
    assert system.stub.count() == 60 and system.stats("transcribe").get("fenced", 0) == 0


def test_what_came_meanwhile_hides_nothing(system, batch, speak, tmp_path):
    """New recordings that come first do not keep those in flight from being found."""
    worker = system.worker(threads=4)
    speak("in", **{f"r{i}": f"number {i}" for i in range(20)})
    source = (tmp_path / "in" / "r1.wav").read_bytes()
    worker.stop()
    p = batch.start("in", "-o", "out")
    until(lambda: system.redis.llen("adwuma:{transcribe}:ready") == 16, 20, "the first are submitted")
    p.kill()
    p.communicate()
    for i in range(20):
        (tmp_path / "in" / f"a{i}.wav").write_bytes(source)
    p = batch.start("in", "-o", "out")
    until(lambda: system.redis.llen("adwuma:{transcribe}:ready") == 32, 20, "the new ones are submitted too")
    system.worker(threads=4)
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and len(names(tmp_path / "out")) == 40 and system.stub.count() == 40 and system.stats("transcribe").get("fenced", 0) == 0, err


def test_a_retry_goes_on_too(system, batch, speak, tmp_path):
    system.worker(threads=4, max_attempts=1)
    speak("in", **{f"r{i}": f"{i} stub(path=/asr,status=403,times=1)" for i in range(40)})
    assert batch("in", "-o", "out").returncode == 1
    system.stub.fault("delay=40")
    batch.kills(4, "in", "-o", "out", "--retry-failed", pauses=(0.06 * SLOW,))
    p = batch("in", "-o", "out", "--retry-failed")
    assert p.returncode == 0 and system.stub.count() == 80 and names(tmp_path / "out") == sorted(f"r{i}.txt" for i in range(40))


def test_few_are_in_redis_at_once(system, batch, speak, tmp_path):
    """And one that takes long holds up nobody: they go out as they come."""
    speak_worker = system.worker(threads=4)
    speak("in", **{f"r{i:02}": f"number {i}" for i in range(40)})
    speak_worker.stop()
    p = batch.start("in", "-o", "out")
    until(lambda: len(system.redis.keys("adwuma:{transcribe}:audio:*")) == 16, 20, "the first are there")
    until(lambda: system.redis.llen("adwuma:{transcribe}:ready") == 16, what="so are their jobs")
    for key in system.redis.keys("adwuma:{transcribe}:audio:*"):
        assert 0 < system.redis.ttl(key) <= 86400
    second = batch("in", "-o", "out")
    assert second.returncode == 2 and "is being written by another batch" in second.err
    first = json.loads(system.redis.rpop("adwuma:{transcribe}:ready"))
    system.worker(threads=4)
    until(lambda: len(names(tmp_path / "out")) == 39, 20, "all others are done")
    system.push("transcribe", first)
    _, err = p.communicate(timeout=30 * SLOW)
    assert p.returncode == 0 and len(names(tmp_path / "out")) == 40 and no_audio_is_left(system), err


def test_lost_replies_are_no_second_calls(system, batch, speak, wire, tmp_path):
    """What Redis has carried out without our knowing is looked for before it is sent again."""
    system.worker(threads=8)
    speak("in", **{f"r{i}": f"number {i}" for i in range(40)})
    system.stub.fault("delay=20")
    p = batch.start("in", "-o", "out", redis_url="unix://" + wire.path)
    until(lambda: system.stub.count() > 0, 20, "it is under way")
    for every in (1, 2, 3, 5, 8, 13):
        lose_one(wire, every)
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and "is back" in err and len(names(tmp_path / "out")) == 40, err
    assert system.stub.count() == 40 and wire.lost >= 6 and no_audio_is_left(system)


def test_redis_goes_away_and_comes_back(durable, tmp_path):
    durable.worker(lease_ms=5000)
    (tmp_path / "in").mkdir()
    durable.do("synthesize", id="s", text="spoken", language="twi")
    for i in range(60):
        (tmp_path / "in" / f"r{i}.wav").write_bytes(durable.redis.get("adwuma:{synthesize}:audio:s"))
    durable.stub.ask("DELETE", "/_stub/calls")
    durable.stub.fault("delay=100")
    p = Batch(durable, tmp_path).start("in", "-o", "out")
    until(lambda: (tmp_path / "out").exists() and len(os.listdir(tmp_path / "out")) > 5, 20, "it is under way")
    durable.server.kill()
    durable.server.start()
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and len(os.listdir(tmp_path / "out")) == 60 and durable.stub.count() == 60, err


def test_wrong_use(system, batch, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_text("")
    for args, words in ((("in",), "-o OUT is needed"), (("in", "-o", "-"), "-o must name a folder"), (("in", "-o", "file"), "cannot be used"), (("in", "-o", "no/such"), "cannot be made"),
                        (("in", "-o", "out", "--pair", "en-tw"), "--pair is not for recordings"), (("in", "-o", "out", "--format", "mp3"), "--format must be one of")):
        p = batch(*args)
        assert p.returncode == 2 and words in p.err, p.err
    p = batch("in", "-o", "out")
    assert p.returncode == 0 and "0 done: 0 succeeded, 0 failed" in p.err and names(tmp_path / "out") == []


@pytest.mark.release
def test_its_memory_is_not_that_of_recordings(system, batch, speak, tmp_path):
    system.worker(threads=4)
    speak("in", a="x")
    source = (tmp_path / "in" / "a.wav").read_bytes()
    for i in range(6):
        (tmp_path / "in" / f"r{i}.wav").write_bytes(source + bytes(20_000_000))
    p, peak = batch.peak("in", "-o", "out")
    assert p.returncode == 0 and 0 < peak < 32 * 1024, (peak, p.err)
