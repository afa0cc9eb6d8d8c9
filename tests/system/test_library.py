"""libadwuma, by a program that links it (tests/system/library/driver.c): shared and static, C and C++, against real servers."""
import contextlib
import os
import re
import signal
import subprocess
import wave

import pytest
from conftest import BUILD, KEY, ROOT, SANITIZED, SLOW, TASKING_KEY, System, start, until
from servers import Pair
from test_odd_redis import Odd, array, bulk, error, number
from programs import sanitizer

SOURCE = ROOT + "/tests/system/library/driver.c"
WARN = ["-Wall", "-Wextra", "-Wshadow", "-Wno-missing-field-initializers", "-Werror", "-g", "-D_GNU_SOURCE", f"-I{ROOT}/include", "-pthread"]


def sh(*command):
    p = subprocess.run(command, capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
    return p.stdout


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The program over the shared library, as most would use it."""
    out = str(tmp_path_factory.mktemp("driver") / "driver")
    sh("cc", "-std=c11", "-Wpedantic", *WARN, *sanitizer(), SOURCE, "-o", out, f"-L{BUILD}", "-ladwuma", f"-Wl,-rpath,{BUILD}")
    return out


@pytest.fixture
def run(system, driver):
    """Lines of its output; or the process, with wait=False."""
    def run(*args, wait=True, code=0, program=driver, **settings):
        p = start([program, *map(str, args)], env=system.env(**settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not wait:
            return p
        out, err = p.communicate(timeout=90 * SLOW)
        assert p.returncode == code and err == "", (p.returncode, out, err)
        return out.splitlines()
    return run


@pytest.fixture(scope="module")
def soname(tmp_path_factory):
    """The library under the name that programs look for at run time."""
    with contextlib.suppress(FileExistsError):  # tests at the same time make it, too
        os.symlink("libadwuma.so", BUILD + "/libadwuma.so.0")


pytestmark = pytest.mark.usefixtures("soname")


def test_the_header_is_c_and_cxx(tmp_path):
    (tmp_path / "a.c").write_text('#include "adwuma.h"\n#include "adwuma.h"\nint main(void) { return adwuma_abi() - ADWUMA_ABI; }\n')
    for command in (["cc", "-std=c11", "-Wpedantic", "-Wconversion"], ["g++", "-std=c++17", "-Wpedantic", "-x", "c++"], ["clang", "-std=c11", "-Weverything", "-Wno-padded"]):
        sh(*command, "-Wall", "-Wextra", "-Wshadow", "-Werror", f"-I{ROOT}/include", "-fsyntax-only", str(tmp_path / "a.c"))


def test_only_its_own_names_are_seen():
    shared = [line.split() for line in sh("nm", "-D", "--defined-only", BUILD + "/libadwuma.so").splitlines()]
    static = [line.split() for line in sh("nm", "-g", "--defined-only", BUILD + "/libadwuma.a").splitlines() if len(line.split()) == 3]
    declared = set(re.findall(r"\b(adwuma_[a-z_]+)\(", re.sub(r"/\*.*?\*/", "", open(ROOT + "/include/adwuma.h", encoding="utf-8").read(), flags=re.S))) - {"adwuma_piece_fn"}
    for names in (shared, static):
        assert {n[-1].split("@")[0] for n in names if not n[-1].startswith(("__asan", "__odr_asan", "__ubsan", "__tsan"))} == declared
    assert "libadwuma.so.0" in sh("objdump", "-p", BUILD + "/libadwuma.so")


def test_thousands_are_gathered_over_one_connection(system, run):
    """Each answer is compared, in the program; results come by one list, whose connection and the submitting one are all there are."""
    system.worker(threads=16)
    p = run("steady", 4000, wait=False)
    assert p.stdout.readline() == "quarter\n"
    until(lambda: system.redis.exists("adwuma:{translate}:result:x") or system.results("translate") >= 500)
    mine = [c for c in system.redis.client_list() if c["cmd"] in ("blpop", "lpush", "lpop", "lindex")]
    assert 1 <= len(mine) <= 2, mine
    out, err = p.communicate("\n", timeout=60 * SLOW)
    assert p.returncode == 0 and out == "all 4000\n" and err == ""
    assert system.stub.count() == 4000 and not system.redis.keys("*reply*")


@pytest.mark.release
def test_its_memory_beside_the_results(system, run):
    system.worker(threads=16)
    kib = int(re.search(r"kib (\d+)", "\n".join(run("gather", 10000)))[1])
    assert kib < 2000, kib


@pytest.mark.core
def test_many_threads_use_one_client_in_all_ways(system, run):
    system.worker(threads=16)
    assert run("threads", 8, 30) == ["bad 0"]


def test_the_first_of_many(system, run):
    system.worker(threads=4)
    assert run("first", "a stub(delay=900)", "b", "c stub(delay=400)") == ["1", "2", "0"]


def test_an_event_loop(system, run):
    system.worker(threads=16)
    assert run("loop", 1000) == ["seen 1000", "left 0"]


@pytest.mark.parametrize("job, words", [
    ('{"text":"hi","language_pair":"en-tw"}', "text [tw] hi"),
    ('{"text":""}', "fault TranslationError|400|-|[]|-|0|khaya|Text and language pair are required"),
    ('{"text":"stub(status=500)","max_attempts":1}', "fault APIError|500|"),
    ('{"text":"stub(status=429)","max_attempts":1}', "fault RateLimitError|429|"),
    ('{"text":"stub(reset)","max_attempts":1}', "fault APIError|0|-|[]|-|1|khaya|Transport error: "),
    ('{"text":5}', "fault InvalidJobError|0|"),
])
def test_both_forms_say_the_same(system, run, job, words):
    system.worker()
    out = run("both", "translate", job)
    half = len(out) // 2
    assert out[:half] == out[half:] and out[0].startswith(words), out


@pytest.mark.parametrize("kind, members, words", [
    ("taskingai.list_assistants", '{"params":{}}', 'value {"data":[]'),
    ("taskingai.get_assistant", '{"params":{"assistant_id":"X5lMnone"}}', "fault TaskingAIError|404|OBJECT_NOT_FOUND|"),
    ("taskingai.nothing", "{}", "fault InvalidJobError|0|"),
    ("taskingai.get_assistant", '{"params":{}}', "fault InvalidJobError|0|"),
])
def test_both_forms_say_the_same_of_taskingai(system, run, kind, members, words):
    system.worker()
    out = run("both", kind, members)
    half = len(out) // 2
    assert out[:half] == out[half:] and words in "\n".join(out[:half]), out


def test_audio_in_both_forms(system, run, tmp_path):
    system.worker(threads=4)
    with wave.open(str(tmp_path / "a.wav"), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(bytes(8000))
    out = run("audio", tmp_path / "a.wav")
    assert len(out) == 11 and out[0:2] == out[2:4] == out[4:6] == out[6:8] and out[0].startswith("text ") and '"timings":{' in out[1], out
    assert out[8] == out[9] and out[8].startswith("made RIFF"), out
    assert out[10].startswith("two 2 the audio must have exactly one of path, bytes, key and url, not 2")


def test_a_stream_piece_by_piece(system, run):
    system.worker(threads=4)
    job = {"id": "s", "type": "taskingai.chat_completion", "params": {"model_id": "TpAb12Cd", "stream": True, "messages": [{"role": "user", "content": "Tell me"}]}}
    system.push("taskingai", job)
    out = run("stream", "taskingai", "s")
    entries = [(i.decode(), e[b"event"].decode(), e[b"data"].decode()) for i, e in system.redis.xrange("adwuma:{taskingai}:stream:s")]
    assert len(entries) > 3 and [tuple(line.split(" ", 2)) for line in out] == entries and entries[-1][1] == "done"
    assert [tuple(line.split(" ", 2)) for line in run("stream", "taskingai", "s", entries[1][0])] == entries[2:]
    assert run("stream", "taskingai", "s", "x", code=1) == ["open 2 'x' is no entry of a stream, like 1700000000000-0"]
    system.push("translate", {"id": "t", "text": "x"})
    assert run("stream", "translate", "t") == []
    direct = run("chat", "TpAb12Cd", '[{"role":"user","content":"Tell me"}]')
    assert [line.split(" ")[0] for line in direct[:-2]] == ["chunk"] * (len(entries) - 1) and direct[-2].startswith("text ")


def test_one_id_has_one_result(system, run):
    system.worker()
    assert run("twice", "mine") == ["[tw] once"] * 3 and system.stub.count() <= 2  # the second may begin before the first has ended


def test_a_job_is_cancelled(system, run):
    p = run("cancel", wait=False)
    assert p.stdout.readline() == "cancelled\n"
    system.worker()
    out, _ = p.communicate(timeout=30 * SLOW)
    assert out.startswith("fault CancelledError|0|") and system.stub.count() == 0


@pytest.mark.core
def test_redis_dies_and_comes_back(durable, driver):
    """A quarter of the jobs is handed over, some are done; then the rest of them, and all results."""
    durable.worker(threads=8)
    p = start([driver, "steady", "2000"], env=durable.env(submit_ms=40000), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "quarter\n"
    for _ in range(2):
        durable.server.kill()
        if p.stdin.closed is False and _ == 0:
            p.stdin.write("\n")
            p.stdin.flush()
        durable.server.start()
    out, err = p.communicate(timeout=80 * SLOW)
    assert p.returncode == 0 and out == "all 2000\n" and err == "", (out, err)
    durable.reconcile("translate", 2000)
    # What was not acknowledged was pushed again, and both may be under way at once: then the second call is in vain.
    assert durable.stub.count() <= 2000 + 300


def test_lost_replies_and_cut_wires(system, wire, driver):
    """What was popped and did not arrive is found by its name; what was pushed and not acknowledged is pushed again."""
    system.worker(threads=8)
    wire.lose_every = 3
    env = system.env(ADWUMA_REDIS_URL="unix://" + wire.path, submit_ms=60000)
    p = subprocess.run([driver, "gather", "300"], env=env, capture_output=True, text=True, timeout=80 * SLOW, check=False)
    assert p.returncode == 0 and p.stdout.endswith("all 300\n") and wire.lost >= 3, (p.stdout, p.stderr, wire.lost)
    system.reconcile("translate", 300)
    # A job that was pushed again while the first copy of it was under way is called twice; the later answer is in vain.
    assert 300 <= system.stub.count() < 600


def test_nobody_is_there(system, run):
    system.server.kill()
    out = run("nobody", submit_ms=1200, code=0)
    where = "Redis at " + system.server.socket
    assert out[0].startswith(f"wait 69 {where}: ") and out[1] == "error -1 result 0" and out[2].startswith(f"submit 69 {where}: "), out
    assert 2.3 <= float(out[3].split()[1]) < 6 * SLOW


@pytest.fixture
def pair(tmp_path):
    p = Pair(tmp_path)
    yield p
    p.stop()


@pytest.fixture
def moving(tmp_path, stub, pair):
    s = System(tmp_path, stub, pair)
    yield s
    s.finish()


def test_a_master_that_becomes_a_replica_is_left(moving, pair, driver):
    """Nothing cuts off its clients, and it answers them: that it takes nothing. Both forms find the new one at the old address, and what goes with them."""
    moving.worker()
    p = start([driver, "pipes"], env=moving.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "round\n"
    pair.change()
    out, err = p.communicate(5 * "\n", timeout=60 * SLOW)
    assert p.returncode == 0 and out == 4 * "round\n" + "kept 1 0\n" and err == "", (p.returncode, out, err)


def test_a_batch_leaves_a_master_that_becomes_a_replica(moving, pair, tmp_path):
    moving.worker(threads=2)
    (tmp_path / "in.jsonl").write_text("".join(f'{{"type":"translate","text":"line {n} stub(delay=20)"}}\n' for n in range(200)))
    p = start([BUILD + "/adwuma", "batch", "in.jsonl", "-o", "out.jsonl"], cwd=tmp_path, env=moving.env(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: moving.results("translate") >= 50, what="some are done")
    pair.change()
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and "200 succeeded" in err and len((tmp_path / "out.jsonl").read_text().splitlines()) == 200, err


@pytest.mark.parametrize("setting, value, word", [("maxmemory", 1, "OOM"), ("min-replicas-to-write", 1, "NOREPLICAS")])
def test_a_redis_that_takes_nothing_is_waited_for(system, run, setting, value, word):
    """Both forms tell why when the time is over; nobody need fear that a job is done that was refused."""
    def refused():
        told = system.redis.execute_command("INFO", "errorstats")  # of which versions of redis-py make different things
        return int((re.search(rf"errorstat_{word}\D+(\d+)", str(told)) or [0, 0])[1])
    system.redis.config_set(setting, value)
    out = run("nobody", submit_ms=1200)
    where = "Redis at " + system.server.socket
    assert out[0].startswith(f"wait 69 {where}: {word} ") and out[2].startswith(f"submit 69 {where}: {word} ") and "may be done" not in out[0], out
    assert 2.3 <= float(out[3].split()[1]) < 6 * SLOW and refused() > 4
    for act in ("hand", "submit"):
        system.redis.config_set(setting, value)
        p, before = run(act, 1, wait=False, submit_ms=60000), refused()
        until(lambda before=before: refused() > before + 1, what="it was refused, twice")
        system.redis.config_set(setting, 0)
        out, err = p.communicate(timeout=30 * SLOW)
        assert p.returncode == 0 and out.startswith("rate ") and err == "", (out, err)
    assert system.redis.llen("adwuma:{translate}:ready") == 2


@pytest.mark.parametrize("scheme, says, maybe", [
    ("redis", ["OOM x"], False), ("redis", [None, "OOM x"], True), ("redis", ["WRONGTYPE x"], False), ("redis", [None, "WRONGTYPE x"], True),
    ("redis+cluster", ["CLUSTERDOWN x"], True),  # also said where a node broke off
])
def test_what_may_be_done_all_the_same_is_told_as_such(run, scheme, says, maybe):
    """None: the connection ends instead of an answer. The last is said from then on."""
    left = list(says)

    def answer(words):
        if words[0] == "LPUSH":
            now = left.pop(0) if len(left) > 1 else left[0]
            if now is None:
                raise ConnectionError
            return error(now)
        return {"BLPOP": array(bulk(words[-1]), bulk("")), "LINDEX": b"$-1\r\n", "LPOP": b"*-1\r\n", "UNLINK": number(1)}.get(words[0])
    odd = Odd(answer)
    try:
        told = run("nobody", redis_url=f"{scheme}://127.0.0.1:{odd.port}", submit_ms=300)[0]
    finally:
        odd.stop()
    assert told.startswith("wait 69 ") and says[-1] in told and ("may be done all the same" in told) == maybe, told


def test_a_node_that_lost_its_cluster_is_left(run):
    """It answers that nobody serves the slot, for as long as it is asked; its replica was made the master, and says so."""
    def node(pushed):
        def says(words):
            if words[:2] == ["CLUSTER", "SLOTS"]:
                me, other = [array(bulk("127.0.0.1"), number(o.port), bulk("x" * 40)) for o in nodes[::1 if pushed == error(down) else -1]]
                return array(array(number(0), number(16383), me, other))
            return pushed if words[0] == "LPUSH" else None
        return Odd(says)
    down = "CLUSTERDOWN The cluster is down"
    nodes = alone, there = node(error(down)), node(number(1))
    try:
        for act in ("hand", "submit"):
            assert run(act, 1, redis_url=f"redis+cluster://127.0.0.1:{alone.port}", submit_ms=20000)[0].startswith("rate ")
    finally:
        there.stop()
        alone.stop()


def test_redis_does_not_answer(system, run):
    """What is put down is bounded: then there is no room, and the caller hears of it in time."""
    system.server.process.send_signal(signal.SIGSTOP)
    try:
        p = run("hand", 100000, wait=False, submit_ms=300)
        line = p.stdout.readline()
        p.kill()
    finally:
        system.server.process.send_signal(signal.SIGCONT)
    assert re.fullmatch(rf"hand 69 Redis at {system.server.socket} takes no jobs: \d+ wait to be handed over, and there is no room for more\n", line)


def test_redis_refuses_us(system, run):
    system.redis.config_set("requirepass", "sesame")
    try:
        out = run("nobody", submit_ms=30000)
        assert out[0].startswith("wait 69 ") and "NOAUTH" in out[0] and float(out[3].split()[1]) < 10 * SLOW, out
        assert "sesame" not in "".join(run("hand", 1, code=1, ADWUMA_REDIS_PASSWORD="sesam"))
    finally:
        system.redis.execute_command("AUTH", "sesame")
        system.redis.config_set("requirepass", "")


def test_no_sigpipe_reaches_the_host(system, run):
    system.worker()
    p = run("pipes", wait=False)
    for _ in range(5):
        assert p.stdout.readline() == "round\n"
        mine = [c["id"] for c in system.redis.client_list() if c["cmd"] in ("blpop", "lpush", "lpop", "lindex", "set", "blmove") and "adwumad" not in c["name"]]
        for client in mine:
            system.redis.client_kill_filter(_id=client)
        p.stdin.write("\n")
        p.stdin.flush()
    out, err = p.communicate(timeout=30 * SLOW)
    assert p.returncode == 0 and out == "kept 1 0\n" and err == "", (p.returncode, out, err)


def test_what_is_wrong_is_told_at_once(run):
    out = run("wrong", ADWUMA_REDIS_URL="redis://127.0.0.1:1", submit_ms=500)
    assert [line.split(" ", 2)[:2] for line in out] == [[n, "2"] for n in ("id", "queue", "operation", "params", "messages", "members", "parse", "client", "handle", "utf8", "clients")], out
    assert run("wrong", ADWUMA_REDIS_URL="nonsense://x", code=1)[0].startswith("open 78 ")


def write_wav(path, seconds):
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(bytes(16000 * seconds))


def test_a_second_job_of_an_id_leaves_the_first_ones_audio(system, run, tmp_path):
    write_wav(tmp_path / "a.wav", 1)
    write_wav(tmp_path / "b.wav", 2)
    p = run("voices", tmp_path / "a.wav", tmp_path / "b.wav", wait=False)
    assert p.stdout.readline() == "there\n"
    assert all(86000 < system.redis.ttl(k) <= 86400 for k in system.redis.keys("*audio*")) and len(system.redis.keys("*audio*")) == 2
    system.worker(threads=1)
    out, _ = p.communicate("\n", timeout=30 * SLOW)
    assert out.startswith("text ")
    assert system.stub.calls()[0]["body_bytes"] == (tmp_path / "a.wav").stat().st_size


def test_children_of_the_host(system, run):
    system.worker()
    assert run("children") == ["child 0", "0", "inherits 0", "text [tw] x", 'value {"text":"[tw] x","source_language":"en","target_language":"tw"}']


@pytest.mark.release
def test_what_is_forgotten_leaves_nothing(system, run):
    system.worker()
    grew, left = run("husks", 3000)
    assert int(grew.split()[1]) < 200 and left == "left 0"


def test_redis_hangs(system, run):
    p = run("hangs", wait=False, submit_ms=500)
    assert p.stdout.readline() == "go\n"
    system.server.process.send_signal(signal.SIGSTOP)
    try:
        p.stdin.write("\n")
        p.stdin.flush()
        took = [float(p.stdout.readline().split()[1]) for _ in range(2)]
    finally:
        system.server.process.send_signal(signal.SIGCONT)
    p.communicate(timeout=30 * SLOW)
    assert took[0] < 4 * SLOW and took[1] < 14, took  # the second makes a connection, which may take 10 s


def test_a_wait_says_what_is_wrong_meanwhile(system, run):
    """The results cannot be taken, and whoever waits for them hears why."""
    system.redis.execute_command("ACL", "SETUSER", "default", "-blpop")
    out = run("first", "a", code=1, first_ms=1500)
    assert "meanwhile: " in out[0] and "BLPOP" in out[0].upper(), out


def test_closing_hands_over_what_is_left(system, run):
    """A program that puts jobs down and ends at once loses none of them."""
    run("hand", 2000)
    assert system.redis.llen("adwuma:{translate}:ready") == 2000


def test_more_results_than_were_asked_for_do_no_harm(run):
    """The library asks for 100 at a time; whoever ignores that must not write beyond them."""
    many = array(*[bulk(f'{{"id":"z{i}"}}') for i in range(5000)])
    answers = {"LPUSH": number(1), "ZADD": number(1), "BLPOP": array(bulk("x"), bulk("")), "LPOP": many, "LINDEX": b"$-1\r\n", "UNLINK": number(1)}

    def says(words):
        return array(bulk(words[1]), bulk("")) if words[0] == "BLPOP" else answers.get(words[0])
    odd = Odd(says)
    try:
        p = run("cancel", wait=False, redis_url=f"redis://127.0.0.1:{odd.port}")
        assert p.stdout.readline() == "cancelled\n"
        until(lambda: p.poll() is not None or sum(c[0] == "LPOP" for c in odd.commands) > 2, what="results are taken")
        assert p.poll() is None
        p.kill()
        p.communicate()
    finally:
        odd.stop()


def test_no_secret_is_told(system, run):
    system.stub.fault("status=401")
    system.worker()
    out = "\n".join(run("both", "translate", '{"text":"x"}') + run("both", "taskingai.list_assistants", '{"params":{}}'))
    assert "AuthenticationError|401" in out and KEY not in out and TASKING_KEY not in out


def test_signals_go_to_the_host(system, run):
    """Our threads take none of its signals, so that its handlers run where it wants them."""
    p = run("steady", 100, wait=False)
    assert p.stdout.readline() == "quarter\n"
    blocked = {}
    for task in os.listdir(f"/proc/{p.pid}/task"):
        status = open(f"/proc/{p.pid}/task/{task}/status", encoding="ascii").read()
        blocked[re.search("Name:\t(.*)", status)[1]] = int(re.search("SigBlk:\t(.*)", status)[1], 16)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10 * SLOW) == -signal.SIGTERM
    for name in ("adwuma-send", "adwuma-take"):
        assert blocked[name] & 1 << signal.SIGTERM - 1 and blocked[name] & 1 << signal.SIGPIPE - 1, blocked
    assert SANITIZED or sum(1 for name in blocked if name.startswith("adwuma-")) == 2


def declarations():
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", open(ROOT + "/include/adwuma.h", encoding="utf-8").read(), flags=re.S | re.M)
    for kind, name, args in re.findall(r"ADWUMA_API\s+([^;(]*?)\b(adwuma_\w+)\(([^;]*)\);", text):
        yield " ".join(kind.split()), name, [" ".join(a.split()) for a in args.split(",")]


def test_the_manual_has_every_function():
    """As the header has it, but for arrays, whose size the page leaves out."""
    page = open(ROOT + "/deploy/man/adwuma.3", encoding="utf-8").read()
    told = {m[1]: (m[0].strip('"'), re.findall(r'"([^"]*)"', m[2]) or [m[2].strip()]) for m in re.findall(r"^\.Ft (.*)\n\.Fn (\w+) ?(.*)$", page, re.M)}
    declared = {name: (kind, [re.sub(r"char id\[.*\]", "char *id", a) for a in args]) for kind, name, args in declarations()}
    assert told == declared and len(declared) > 40


def test_the_examples_of_the_manual_run(system, tmp_path):
    system.worker(threads=16)
    page = open(ROOT + "/deploy/man/adwuma.3", encoding="utf-8").read()
    examples = [e.replace("\\e", "\\") for e in re.findall(r"^\.Bd -literal\n(.*?)^\.Ed", page, re.M | re.S)]
    outputs = []
    for i, text in enumerate(examples):
        (tmp_path / f"{i}.c").write_text(text)
        sh("cc", "-std=c11", "-Wpedantic", *WARN, *sanitizer(), str(tmp_path / f"{i}.c"), "-o", str(tmp_path / f"{i}"), f"-L{BUILD}", "-ladwuma", f"-Wl,-rpath,{BUILD}")
        outputs.append(subprocess.run([tmp_path / f"{i}"], env=system.env(), capture_output=True, text=True, timeout=60 * SLOW, check=True))
    assert all(o.stderr == "" for o in outputs)
    assert outputs[0].stdout.splitlines() == [f"[tw] Sentence number {i}" for i in range(2000)]
    assert outputs[1].stdout.startswith('chunk: {"object": "ChatCompletionChunk"')
