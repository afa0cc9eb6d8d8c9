"""Row 8: eight recordings of 32 MiB at once, by path and by key, and what memory they take."""
import json
import os
import tempfile
import urllib.request

from bench import lab as bench
from bench.figures import Figure

JOBS = 8
SIZE = 32 << 20
GOAL_MIB = 8
DELAY_MS = 2000  # of every answer: all of them run at once, and the stub can say so


def recording(number, size):
    """A WAV file's head, and samples that differ from recording to recording."""
    head = b"RIFF" + (size - 8).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little") + bytes.fromhex("01000100803e0000007d000002001000")
    head += b"data" + (size - 44).to_bytes(4, "little")
    block = bytes([number]) + os.urandom(65535)
    return (head + block * (size // len(block) + 1))[:size]


def by_path(_, root, number, audio):
    with open(f"{root}/recording{number}.wav", "wb") as f:
        f.write(audio)
    return "audio_path", f"recording{number}.wav"


def by_key(redis, _, number, audio):
    key = f"adwuma:{{transcribe}}:audio:recording{number}"
    redis.client.set(key, audio)
    return "audio_key", key


def once(lab, redis, stub, root, place, size):
    """MiB that a fresh worker takes at its peak over what it has while it waits for its first job."""
    redis.client.flushall()
    jobs = []
    for i in range(JOBS):
        field, value = place(redis, root, i, recording(i, size))
        jobs.append(json.dumps({"id": f"b{i}", "language": "twi", field: value}))
    with lab.worker(redis, stub.url, queues="transcribe", audio_root=root) as worker:
        bench.wait_until(lambda: redis.client.info("clients")["blocked_clients"] > 0, [worker], "the worker waits for jobs")
        with open(f"/proc/{worker.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")  # the peak begins here
        idle = worker.memory_kib("VmRSS")
        redis.client.lpush("adwuma:{transcribe}:ready", *jobs)
        bench.wait_until(lambda: bench.finished(redis, "transcribe") >= JOBS, [worker, stub], f"{JOBS} recordings are transcribed")
        peak = worker.memory_kib("VmHWM")
    for i in range(JOBS):
        found = json.loads(redis.client.lindex(f"adwuma:{{transcribe}}:result:b{i}", 0))
        if found["result"]["text"] != f"audio of {size} bytes":
            raise bench.Failed(f"result b{i} is wrong: {found}")
    return (peak - idle) / 1024


def row(lab, rounds, scale):
    size = max(1 << 20, int(SIZE * scale))
    redis = lab.redis()
    root = tempfile.mkdtemp(dir=lab.folder)
    lines = []
    for name, place in (("path", by_path), ("key", by_key)):
        stub = lab.stub(DELAY_MS)
        found = [once(lab, redis, stub, root, place, size) for _ in range(rounds)]
        with urllib.request.urlopen(stub.url + "/_stub/stats", timeout=10) as answer:
            stats = json.load(answer)
        if stats["max_active"] != JOBS or stats["calls"] != JOBS * rounds:
            raise bench.Failed(f"not {JOBS} calls at once, or not one for each job: {stats}")
        stub.stop()
        lines.append(Figure(8, f"{JOBS} recordings of {size >> 20} MiB at once by {name}, memory over idle", found, "MiB", high=GOAL_MIB))
    redis.client.flushall()
    return lines
