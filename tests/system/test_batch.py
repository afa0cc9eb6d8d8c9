"""adwuma batch: results in order, and nothing done twice, however often it is stopped."""
import json
import re
import subprocess
import time

import pytest
from conftest import BUILD, SLOW, until
from test_speech import on_terminal


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, jobs):
    path.write_text("".join((j if isinstance(j, str) else json.dumps(j)) + "\n" for j in jobs))


def translations(n, **more):
    return [{"type": "translate", "text": f"number {i}", **more} for i in range(n)]


def test_results_in_order(system, batch, tmp_path):
    system.worker()
    write(tmp_path / "in", ["", json.dumps({"id": "mine", "type": "translate", "text": "one stub(delay=200)"}), "  ", "no JSON", '{"type":"translate","text":"two"}',
                            '["x"]', '{"text":"no type"}', '{"type":"translate","text":""}', '{"type":"taskingai.list_assistants","params":{}}', '{"id":"a b","type":"translate"}'])
    p = batch("in", "-o", "out")
    got = lines(tmp_path / "out")
    assert [r["status"] for r in got] == ["succeeded", "failed", "succeeded", "failed", "failed", "failed", "succeeded", "failed"]
    assert got[0]["id"] == "mine" and got[0]["result"]["text"] == "[tw] one stub(delay=200)" and got[2]["result"]["text"] == "[tw] two" and got[6]["result"]["data"] == []
    assert got[1]["id"] is None and got[1]["error"]["type"] == "InvalidJobError" and got[1]["error"]["message"] == "the job is not JSON" and got[1]["line"] == 2
    assert set(got[1]["error"]) == set(got[5]["error"])
    assert p.returncode == 1 and "8 done: 3 succeeded, 5 failed: InvalidJobError 4, TranslationError 1" in p.err and "--retry-failed" in p.err
    system.stub.ask("DELETE", "/_stub/calls")
    again = batch("in", "-o", "out")
    assert again.returncode == 1 and lines(tmp_path / "out") == got and system.stub.count() == 0


def test_all_well_is_exit_0(system, batch, tmp_path):
    system.worker()
    write(tmp_path / "in", translations(3))
    assert batch("in", "-o", "out").returncode == 0 and len(lines(tmp_path / "out")) == 3
    write(tmp_path / "empty", [])
    assert batch("empty", "-o", "none").returncode == 0 and (tmp_path / "none").read_bytes() == b""


def test_killed_twenty_times(system, batch, tmp_path):
    """Whatever it was at: the output is that of a run that nobody disturbed, and every job was called once."""
    jobs = [*translations(2300), *translations(700, type="taskingai.chat_completion", text=None, params={"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": "x"}]})]
    for i, job in enumerate(jobs):
        if "params" in job:
            job["params"] = {"model_id": "TpAb12Cd", "messages": [{"role": "user", "content": f"number {i}"}]}
    jobs.insert(100, "no JSON")
    write(tmp_path / "in", jobs)
    system.worker(threads=8)
    system.stub.fault("delay=10")
    kills = batch.kills(20, "in", "-o", "out", pauses=(0.005, 0.02, 0.05, 0.1, 0.2, 0.3))
    assert kills == 20
    p = batch("in", "-o", "out")
    assert p.returncode == 1 and "3001 done: 3000 succeeded, 1 failed" in p.err
    got = lines(tmp_path / "out")
    for i, (job, r) in enumerate(zip(jobs, got)):
        if job == "no JSON":
            assert r["error"]["type"] == "InvalidJobError"
        elif "params" in job:
            assert r["result"]["data"]["message"]["content"] == "Echo: " + job["params"]["messages"][0]["content"]
        else:
            assert r["result"]["text"] == f"[tw] {job['text']}", i
    assert system.stub.count() == 3000
    for queue in ("translate", "taskingai"):
        assert system.stats(queue).get("fenced", 0) == 0, "nothing was submitted twice"


def test_half_a_line_is_written_anew(system, batch, tmp_path):
    system.worker()
    write(tmp_path / "in", translations(4))
    assert batch("in", "-o", "out").returncode == 0
    whole = (tmp_path / "out").read_bytes()
    for cut in (1, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "out").write_bytes(whole[:cut])
        assert batch("in", "-o", "out").returncode == 0 and (tmp_path / "out").read_bytes() == whole
    assert system.stub.count() == 4


def test_what_failed_is_done_once_more(system, batch, tmp_path):
    system.worker()
    jobs = translations(5)
    jobs[1]["text"] = "a stub(status=403,times=1)"
    jobs[3] = {"id": "mine", "type": "translate", "text": "b stub(status=403,times=2)", "x": 1}
    write(tmp_path / "in", jobs)
    assert batch("in", "-o", "out").returncode == 1
    first = lines(tmp_path / "out")
    p = batch("in", "-o", "out", "--retry-failed")
    second = lines(tmp_path / "out")
    assert p.returncode == 1 and "5 done: 4 succeeded, 1 failed: APIError 1" in p.err and not (tmp_path / "out.new").exists()
    assert [second[i] for i in (0, 2, 4)] == [first[i] for i in (0, 2, 4)] and second[1]["status"] == "succeeded" and second[3]["id"] == "mine.r"
    assert batch("in", "-o", "out", "--retry-failed").returncode == 0 and lines(tmp_path / "out")[3]["id"] == "mine.r.r"
    assert system.stub.count() == 8


def test_a_retry_goes_on_too(system, batch, tmp_path):
    system.worker()
    write(tmp_path / "in", [{"type": "translate", "text": f"{i} stub(status=403,times=1)"} for i in range(300)])
    assert batch("in", "-o", "out").returncode == 1
    system.stub.fault("delay=10")
    for _ in range(4):
        p = batch.start("in", "-o", "out", "--retry-failed")
        time.sleep(0.05 * SLOW)
        p.kill()
        p.communicate()
    assert batch("in", "-o", "out", "--retry-failed").returncode == 0
    assert {r["status"] for r in lines(tmp_path / "out")} == {"succeeded"} and system.stub.count() == 600


def test_redis_goes_away_and_comes_back(durable, tmp_path):
    durable.worker(lease_ms=5000)
    durable.stub.fault("delay=20")
    write(tmp_path / "in", translations(400))
    p = subprocess.Popen([BUILD + "/adwuma", "batch", "in", "-o", "out"], cwd=tmp_path, env=durable.env(), stderr=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").stat().st_size > 0, 20, "it is under way")
    durable.server.kill()
    durable.server.start()
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and len(lines(tmp_path / "out")) == 400 and durable.stub.count() == 400, err


def test_wrong_use(system, batch, tmp_path):
    write(tmp_path / "in", translations(2))
    for args, words in ((["in"], "-o OUT is needed"), (["in", "-o", "-"], "-o must name a file"), (["in", "-o", ""], "-o must name a file"),
                        (["in", "-o", "no/such/folder"], "no/such/"), (["nothing", "-o", "out2"], "nothing"), (["in", "-o", "x", "--retry-failed"], "x"),
                        (["in", "-o", "."], "cannot be written")):
        p = batch(*args)
        assert p.returncode == 2 and words in p.err, p.err
    (tmp_path / "longer").write_text('{"status":"succeeded"}\n' * 3)
    p = batch("in", "-o", "longer")
    assert p.returncode == 2 and "is it the output of another batch?" in p.err
    assert system.redis.keys("*") == []


def test_two_at_a_time_are_refused_and_a_stall_is_told(system, batch, tmp_path):
    write(tmp_path / "in", translations(2))
    first = batch.start("in", "-o", "out", "--timeout", "4")
    until(lambda: system.redis.llen("adwuma:{translate}:ready") == 2, 10, "it has submitted")
    second = batch("in", "-o", "out")
    assert second.returncode == 2 and "is being written by another batch" in second.err
    _, err = first.communicate(timeout=30 * SLOW)
    assert first.returncode == 75 and "no result for 4 s" in err and "no worker serves a queue translate now" in err
    system.worker()
    assert batch("in", "-o", "out").returncode == 0 and system.stub.count() == 2


def test_a_result_is_one_line(system, batch, tmp_path):
    """An API, or a worker of another make, may set its JSON over many."""
    write(tmp_path / "in", [{"id": "a", "type": "translate", "text": "x"}, {"id": "b", "type": "translate", "text": "y"}])
    for name, status in (("a", "succeeded"), ("b", "failed")):
        system.redis.rpush("adwuma:{translate}:result:" + name, json.dumps({"id": name, "status": status, "result": {"text": "x\ny"}, "error": {"type": "Odd"}}, indent=2))
    p = batch("in", "-o", "out")
    assert p.returncode == 1 and "1 succeeded, 1 failed: Odd 1" in p.err and [r["id"] for r in lines(tmp_path / "out")] == ["a", "b"]
    assert lines(tmp_path / "out")[0]["result"]["text"] == "x\ny"
    assert batch("in", "-o", "out").returncode == 1 and len(lines(tmp_path / "out")) == 2


def test_how_far_it_is_on_a_terminal(system, batch, tmp_path):
    """What an earlier run has done says nothing of how fast it is."""
    system.worker(threads=4)
    write(tmp_path / "in", [*translations(300), {"text": "no type"}, *translations(100)])
    assert batch("in", "-o", "out").returncode == 1
    whole = (tmp_path / "out").read_bytes().splitlines(keepends=True)
    (tmp_path / "out").write_bytes(b"".join(whole[:301]))
    for key in system.redis.keys("adwuma:{translate}:result:*"):
        system.redis.delete(key)
    system.stub.fault("delay=40")
    code, seen = on_terminal(system, "batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"))
    assert code == 1 and "401 done: 400 succeeded, 1 failed: InvalidJobError 1" in seen
    bars = re.findall(r"\[#+\.*\] (\d+) of 401, 1 failed, ([0-9.]+)/s, [0-9sm]+ left", seen)
    assert bars and all(float(rate) < 200 for _, rate in bars), seen


def test_from_standard_input(system, batch, tmp_path):
    system.worker()
    write(tmp_path / "in", translations(3))
    with open(tmp_path / "in", "rb") as f:
        assert batch("-", "-o", "out", stdin=f).returncode == 0
    assert [r["result"]["text"] for r in lines(tmp_path / "out")] == [f"[tw] number {i}" for i in range(3)]


@pytest.mark.release
def test_its_memory_is_that_of_a_window(system, batch, tmp_path):
    system.worker(threads=16)
    write(tmp_path / "in", translations(20000))
    p, peak = batch.peak("in", "-o", "out")
    assert p.returncode == 0 and 0 < peak < 32 * 1024, peak
    with open(tmp_path / "out", encoding="utf-8") as f:
        assert sum(1 for _ in f) == 20000
