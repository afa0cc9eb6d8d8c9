"""output "path": speech into files under audio_root. What cannot be written is said before the call where it can be known; and what audio_path may not read."""
import hashlib
import os
import signal
import stat
import threading

import pytest
from conftest import until

SAY = {"text": "hello there", "language": "eng", "output": "path"}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "audio"
    (folder / "deep" / "er").mkdir(parents=True)
    os.symlink("deep", folder / "inner")
    os.symlink(tmp_path, folder / "outer")
    os.symlink("/proc/self/cwd", folder / "magic")
    (folder / "a-file").write_bytes(b"x")
    (folder / "a-folder").mkdir()
    os.mkfifo(folder / "a-pipe")
    os.symlink("a-file", folder / "a-link")
    return folder


UNPRIVILEGED = "exec" if os.geteuid() else "exec setpriv --bounding-set=-dac_override,-dac_read_search"  # for root, too, a file's mode then counts


def hidden(folder):
    return [name for _, _, names in os.walk(folder) for name in names if name.startswith(".adwuma")]


def test_speech_becomes_a_file(system, root):
    """Whole, under its name alone, readable for all whom the umask lets; an existing file is replaced, not written into."""
    old = os.umask(0o007)
    try:
        system.worker(audio_root=root)
    finally:
        os.umask(old)
    os.link(root / "a-file", root / "other-name")
    for path in ("new.wav", "deep/er/new.wav", "inner/linked.wav", "deep/../up.wav", "./dot.wav", "a-file", "ɛdin \u00e9\n.wav"):
        made = system.do("synthesize", **SAY, output_path=path)["result"]
        assert set(made) == {"language", "content_type", "bytes", "sha256", "audio_path"} and made["audio_path"] == path
        written = root / path
        assert written.stat().st_size == made["bytes"] and hashlib.sha256(written.read_bytes()).hexdigest() == made["sha256"]
        assert stat.S_IMODE(written.stat().st_mode) == 0o640
        assert system.do("transcribe", audio_path=path)["result"]["text"] == "hello there"
    assert (root / "other-name").read_bytes() == b"x"
    assert (root / "deep" / "linked.wav").exists() and not hidden(root)
    assert not system.redis.keys("*:audio:*") and not system.redis.keys("*:stage:*")


BAD = [(None, "must name a file"), ("", "must name a file"), ("deep/", "must name a file"), (".", "must name a file"), ("..", "must name a file"), ("deep/..", "must name a file"),
       ("/etc/a.wav", "must be relative to audio_root"), ("//a.wav", "must be relative"), ("../a.wav", "leads out of audio_root"), ("deep/../../a.wav", "leads out of audio_root"),
       ("outer/a.wav", "leads out of audio_root"), ("magic/a.wav", "leads out of audio_root"), ("nowhere/a.wav", "has a folder that does not exist"),
       ("a-file/a.wav", "has a folder that does not exist"), ("a-folder", "is no regular file"), ("a-pipe", "is no regular file"), ("a-link", "is no regular file"),
       ("x" * 256, "has a name that is too long")]


def test_what_cannot_be_written_is_not_paid_for(system, root):
    system.worker(audio_root=root)
    before = sorted(os.listdir(root))
    for i, (path, _) in enumerate(BAD):
        system.push("synthesize", {"id": f"b{i}", **SAY, "output_path": path})
    for i, (path, message) in enumerate(BAD):
        r = system.result("synthesize", f"b{i}")
        e = r["error"]
        assert (e["type"], e["status_code"], e["retryable"], r["attempts"]) == ("TTSGenerationError", 400, False, 0), (path, e)
        assert message in e["message"], (path, e)
    # The SDK's own checks come first.
    assert "Unknown speaker" in system.do("synthesize", **SAY, output_path="/x", speaker="robot")["error"]["message"]
    assert system.stub.count() == 0 and sorted(os.listdir(root)) == before
    # Where the output is another, or the job is, the path is nobody's business.
    assert system.do("synthesize", text="x", language="twi", output="base64", output_path="/etc/x")["status"] == "succeeded"
    assert system.do("translate", text="x", output="path", output_path="/etc/x")["status"] == "succeeded"


def test_no_file_without_root(system):
    system.worker()
    r = system.do("synthesize", **SAY, output_path="a.wav")
    assert r["error"]["type"] == "TTSGenerationError" and r["error"]["status_code"] == 400 and "has no audio_root" in r["error"]["message"]
    assert system.stub.count() == 0


def test_modes_of_files_count(system, root, limited):
    limited(UNPRIVILEGED)
    (root / "secret.wav").write_bytes(b"RIFF"), (root / "secret.wav").chmod(0)
    (root / "closed").mkdir(0o000)
    (root / "deep").chmod(0o555)
    system.worker(audio_root=root)
    try:
        for job, message in (({"audio_path": "secret.wav"}, "may not be read"), ({"audio_path": "closed/a.wav"}, "may not be read")):
            e = system.do("transcribe", **job)["error"]
            assert e["type"] == "ASRTranscriptionError" and e["status_code"] == 400 and message in e["message"], e
        for path, message in (("deep/a.wav", "has a folder that may not be written to"), ("closed/a.wav", "cannot be looked at"), ("closed/in/a.wav", "may not be entered")):
            e = system.do("synthesize", **SAY, output_path=path)["error"]
            assert e["type"] == "TTSGenerationError" and e["status_code"] == 400 and not e["retryable"] and message in e["message"], e
        assert system.stub.count() == 0
    finally:
        (root / "deep").chmod(0o755), (root / "closed").chmod(0o755)


def lost(result, why):
    e = result["error"]
    assert (e["type"], e["status_code"], e["retryable"], result["attempts"]) == ("TTSGenerationError", 400, True, 1), e
    assert "the audio that was made is lost" in e["message"] and why in e["message"], e


def test_a_file_that_does_not_fit_is_a_fault(system, root, limited):
    """As on a full disk: the old file stays, nothing is left of the new one, the job is kept in dead, and the worker goes on."""
    limited("ulimit -f 64; exec")
    system.worker(audio_root=root, KHAYA_TTS_MAX_CHARS=2000)
    lost(system.do("synthesize", **{**SAY, "text": "hello " * 300}, output_path="a-file"), "File too large")
    assert (root / "a-file").read_bytes() == b"x" and not hidden(root) and len(system.dead("synthesize")) == 1
    assert system.stub.count() == 1
    assert system.do("synthesize", **SAY, output_path="a-file")["status"] == "succeeded"


def test_what_changes_during_the_call_is_seen_after_it(system, root):
    system.worker(audio_root=root)

    def meanwhile(path, change):
        seen = system.stub.count()
        system.push("synthesize", {"id": path.replace("/", "."), **SAY, "text": "slow stub(delay=500)", "output_path": path})
        until(lambda: system.stub.count() > seen, what="the call is under way")
        change()
        return system.result("synthesize", path.replace("/", "."))

    lost(meanwhile("new", lambda: (root / "new").mkdir()), "is no regular file")
    lost(meanwhile("deep/er/a.wav", lambda: (root / "deep" / "er").rmdir()), "No such file or directory")
    # The folder that was looked at is the one that is written into, wherever a link by its name leads by then.
    (root / "inside").mkdir()

    def swap():
        (root / "inside").rename(root / "moved")
        os.symlink("/", root / "inside")
    assert meanwhile("inside/a.wav", swap)["status"] == "succeeded"
    assert os.listdir(root / "moved") == ["a.wav"] and not os.path.exists("/a.wav")
    assert not hidden(root)


def test_readers_see_one_whole_file(system, root):
    """Many jobs write the same name at once."""
    system.worker(audio_root=root, threads=8)
    ends, sizes = threading.Event(), set()

    def read():
        while not ends.is_set():
            if (root / "same.wav").exists():
                body = (root / "same.wav").read_bytes()
                sizes.add((len(body), body[:4], len(body) == int.from_bytes(body[4:8], "little") + 8))
    reader = threading.Thread(target=read)
    reader.start()
    for i in range(100):
        system.push("synthesize", {"id": f"s{i}", **SAY, "text": "hello" * (1 + i % 7), "output_path": "same.wav"})
    made = [system.result("synthesize", f"s{i}")["result"] for i in range(100)]
    ends.set()
    reader.join()
    assert sizes and all(head == b"RIFF" and whole for _, head, whole in sizes), sizes
    assert hashlib.sha256((root / "same.wav").read_bytes()).hexdigest() in {m["sha256"] for m in made} and not hidden(root)


def test_a_killed_worker_leaves_no_half_file(system, root):
    """Its job is done again elsewhere."""
    w = system.worker(audio_root=root, lease_ms=1000)
    system.push("synthesize", {"id": "k", **SAY, "text": "slow stub(hang,times=1)", "output_path": "k.wav"})
    until(lambda: system.stub.count() == 1, what="the call is under way")
    w.send(signal.SIGKILL)
    w.expected = -signal.SIGKILL
    assert sorted(os.listdir(root)) == sorted(["deep", "inner", "outer", "magic", "a-file", "a-folder", "a-pipe", "a-link"])
    system.worker(audio_root=root, lease_ms=1000)
    assert system.result("synthesize", "k", 20)["result"]["audio_path"] == "k.wav" and (root / "k.wav").stat().st_size > 44
