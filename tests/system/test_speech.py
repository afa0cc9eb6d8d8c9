"""adwuma transcribe and synthesize for many files at once: what is written where, what is refused, and how far it is."""
import json
import os
import pty
import re
import subprocess
import threading

import pytest

from conftest import BUILD, SLOW
from test_cli import Cli


@pytest.fixture
def cli(system):
    return Cli(system)


@pytest.fixture
def recordings(cli, system, tmp_path):
    """in/one.wav to in/three.wav, which say so, and an empty folder beside them."""
    system.worker()
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for word in ("one", "two", "three"):
        assert cli("synthesize", word, "-o", str(tmp_path / "in" / (word + ".wav"))).code == 0
    return tmp_path


def names(folder):
    return sorted(os.listdir(folder))


def test_texts_into_files(cli, recordings):
    files = [str(recordings / "in" / (word + ".wav")) for word in ("one", "two", "three")]
    done = cli("transcribe", "-d", str(recordings / "out"), *files)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert names(recordings / "out") == ["one.txt", "three.txt", "two.txt"]
    assert (recordings / "out" / "three.txt").read_text() == "three\n"
    done = cli("transcribe", "--output-dir", str(recordings / "out") + "/", "--format", "json", files[0])
    assert (done.code, done.out) == (0, "")
    assert json.loads((recordings / "out" / "one.json").read_text())["text"] == "one"
    done = cli("transcribe", "-d", str(recordings / "out"), "--json", *files)
    assert [json.loads(line)["result"]["text"] for line in done.lines] == ["one", "two", "three"]


def test_a_file_is_named_like_its_recording(cli, recordings):
    source = (recordings / "in" / "one.wav").read_bytes()
    for name, wanted in (("a.b.wav", "a.b.txt"), ("plain", "plain.txt"), (".hidden", ".hidden.txt"), ("end.", "end.txt")):
        (recordings / "in" / name).write_bytes(source)
        assert cli("transcribe", "-d", str(recordings / "out"), str(recordings / "in" / name)).code == 0
        assert (recordings / "out" / wanted).read_text() == "one\n"


def test_a_failed_job_leaves_its_file_and_the_others_are_written(cli, recordings):
    (recordings / "in" / "bad.wav").write_bytes(b"no sound")
    (recordings / "out" / "bad.txt").write_text("old")
    done = cli("transcribe", "-d", str(recordings / "out"), str(recordings / "in" / "bad.wav"), str(recordings / "in" / "two.wav"))
    assert done.code == 1 and done.out == "" and "INVALID_AUDIO_FORMAT" in done.err
    assert (recordings / "out" / "bad.txt").read_text() == "old" and (recordings / "out" / "two.txt").read_text() == "two\n"


def test_what_cannot_be_written_is_told_before_anything_is_sent(cli, system, tmp_path):
    for name in ("a.wav", "a.mp3", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.txt").mkdir()
    a, a2, b, out = (str(tmp_path / n) for n in ("a.wav", "a.mp3", "b.wav", "out"))
    for args, told in (((a, a2, "-d", out), "two FILEs would both be written to " + out + "/a.txt"), ((a, a, "-d", out), "two FILEs"), ((a, "-d", a), "cannot be written"),
                       ((a, "-d", out + "/none"), "cannot be written"), ((b, "-d", out), "it is a directory"), (("-", "-d", out), "standard input has no name"),
                       ((a, "-d", out, "--no-wait"), "--no-wait"), ((a, "-d", ""), "cannot be written")):
        done = cli("transcribe", *args)
        assert (done.code, done.out) == (2, "") and told in done.err, (args, done.err)
    for args, told in (((*"ab", "-o", "x", ), "-d DIR takes that of several"), (("a", "-o", "x", "-d", out), "do not go together"), (("a", "-d", out, "--no-wait"), "--no-wait"),
                       (("a", "-d", out + "/none"), "cannot be written"), (("a", "--format", "flac"), "wav|mp3|ogg")):
        done = cli("synthesize", *args)
        assert (done.code, done.out) == (2, "") and told in done.err, (args, done.err)
    assert system.redis.keys("*") == [] and names(out) == ["b.txt"]


def test_subtitles(cli, system, recordings):
    file = str(recordings / "in" / "one.wav")
    done = cli("transcribe", "--format", "srt", file)
    assert (done.code, done.err) == (0, "") and re.fullmatch(r"1\n00:00:00,000 --> 00:00:\d\d,\d{3}\none\n(\n)?", done.out)
    done = cli("transcribe", "--format", "vtt", "--timestamps", "word", "-d", str(recordings / "out"), file, str(recordings / "in" / "two.wav"))
    assert (done.code, done.out, done.err) == (0, "", "") and names(recordings / "out") == ["one.vtt", "two.vtt"]
    assert re.match(r"WEBVTT\n\n(.*\n)?00:00.*\.\d{3} --> .*\ntwo\n", (recordings / "out" / "two.vtt").read_text())
    done = cli("transcribe", "--format", "srt", "-d", str(recordings / "out"), "--json", file)
    assert json.loads(done.out)["result"]["text"] == "one" and (recordings / "out" / "one.srt").read_text()
    asked = []
    for more in (["--format", "srt"], ["--format", "srt", "--timestamps", "word"], ["--format", "json"]):
        cli("transcribe", "--no-wait", "-q", "other", *more, file)
        asked.append(json.loads(system.redis.lindex("adwuma:{other}:ready", 0)).get("timestamps"))
    assert asked == ["segment", "word", None]


def test_without_timings_there_are_no_subtitles(cli, system, script, tmp_path):
    system.worker(KHAYA_BASE_URL=script.url, KHAYA_ASR_VERSION="v1")
    (tmp_path / "a.wav").write_bytes(b"RIFF....WAVE")
    script.says("text alone")
    done = cli("transcribe", "--format", "srt", "-d", str(tmp_path), str(tmp_path / "a.wav"))
    assert (done.code, done.out) == (1, "") and "a.wav: the result has no timings" in done.err and "version v1" in done.err and "adwuma result" in done.err and names(tmp_path).count("a.srt") == 0
    assert script.requests[0][0] == "/asr/v1/transcribe?language=twi&timestamps=segment"


def test_audio_of_several_texts_by_number(cli, system, tmp_path):
    system.worker()
    done = cli("synthesize", "-d", str(tmp_path / "."), "a")
    assert done.code == 0 and (tmp_path / "1.wav").read_bytes()[:4] == b"RIFF"
    (tmp_path / "out").mkdir()
    texts = [f"text {i}" for i in range(1, 11)]
    done = cli("synthesize", "-d", str(tmp_path / "out"), *texts)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert names(tmp_path / "out") == [f"{i:02}.wav" for i in range(1, 11)]
    heard = cli("transcribe", *[str(tmp_path / "out" / n) for n in names(tmp_path / "out")])
    assert heard.lines == texts


def test_the_format_is_asked_for_and_named(cli, system, script, tmp_path):
    script.says(b"ID3 sound", content_type="audio/mpeg")
    system.worker(KHAYA_BASE_URL=script.url, KHAYA_TTS_VERSION="v2")
    done = cli("synthesize", "--format", "mp3", "--speaker", "female", "-d", str(tmp_path), "a", "b")
    assert (done.code, done.err) == (0, "") and (tmp_path / "2.mp3").read_bytes() == b"ID3 sound"
    path, headers, body = script.requests[0]
    assert path == "/tts/v2/synthesize" and json.loads(body) in [{"text": t, "language": "twi", "speaker_id": "female", "format": "mp3"} for t in "ab"]
    result = json.loads(cli("synthesize", "--json", "--format", "ogg", "a").out)["result"]
    assert result["content_type"] == "audio/mpeg"  # what the API said, whatever was asked for


def test_another_format_needs_the_second_version(cli, system, tmp_path):
    system.worker()
    done = cli("synthesize", "--format", "mp3", "-o", str(tmp_path / "a.mp3"), "a")
    assert done.code == 1 and "TTSGenerationError (400): format other than wav needs version v2" in done.err and not (tmp_path / "a.mp3").exists()
    assert cli("synthesize", "--format", "wav", "-o", str(tmp_path / "a.wav"), "a").code == 0


def on_terminal(system, *args, also_output=False):
    """What a terminal on standard error sees, and the rest."""
    near, far = pty.openpty()
    p = subprocess.Popen([BUILD + "/adwuma", *args], env=system.env(), stdout=far if also_output else subprocess.PIPE, stderr=far)
    os.close(far)
    seen = b""
    reader = threading.Thread(target=lambda: p.stdout and p.stdout.read())
    reader.start()
    try:
        while piece := os.read(near, 4096):
            seen += piece
    except OSError:
        pass  # the other end is closed
    os.close(near)
    reader.join()
    assert p.wait(30 * SLOW) is not None
    if p.stdout:
        p.stdout.close()
    return p.returncode, seen.decode()


def test_a_terminal_sees_how_far_it_is(system, cli, recordings):
    files = [str(recordings / "in" / (word + ".wav")) for word in ("one", "two", "three")]
    (recordings / "in" / "bad.wav").write_bytes(b"no sound")
    code, seen = on_terminal(system, "transcribe", *files)
    assert code == 0 and "\r[....................] 0 of 3\x1b[K" in seen and seen.endswith("\r\x1b[K")
    code, seen = on_terminal(system, "transcribe", str(recordings / "in" / "bad.wav"), *files)
    assert code == 1 and re.search(r"\r\x1b\[Kadwuma: job \S+ failed: ", seen) and seen.endswith("\r\x1b[K")  # the line gave way
    assert re.search(r"\r\[#####\.{15}\] 1 of 4, 1 failed, [\d.]+/(s|min), \w+ left\x1b\[K", seen)
    # One needs none; nor do results that scroll by.
    assert on_terminal(system, "transcribe", files[0]) == (0, "")
    code, seen = on_terminal(system, "transcribe", *files, also_output=True)
    assert code == 0 and seen == "one\r\ntwo\r\nthree\r\n"
    code, seen = on_terminal(system, "transcribe", "-d", str(recordings / "out"), *files, also_output=True)
    assert code == 0 and seen.startswith("\r[") and seen.endswith("\r\x1b[K")


def test_audio_is_not_written_to_a_terminal(system, cli):
    code, seen = on_terminal(system, "synthesize", "-o", "-", "a", also_output=True)
    assert code == 2 and "it is a terminal, and this is audio" in seen and system.redis.keys("*") == []
