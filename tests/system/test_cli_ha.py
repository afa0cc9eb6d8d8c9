"""The command line where Redis is more than one process, of which one is away, or where the URL is of another kind."""
import json
import re
import time

import pytest
from conftest import SLOW, until
from servers import Cluster, Node, Sentinels, free_ports
from test_cli import Cli

AWAY = "node {} cannot be reached (Connection refused); a failover may be under way\n"
QUEUES = ("translate", "transcribe", "synthesize", "taskingai")


@pytest.fixture(scope="module")
def torn(tmp_path_factory):
    """A cluster without replicas, whose node of translate is dead."""
    c = Cluster(tmp_path_factory.mktemp("cluster"), replicas=0, node_timeout_ms=60000)
    c.here, c.gone = [], []
    c.dead = c.master_of("translate")
    for queue in QUEUES:
        owner = c.master_of(queue)
        (c.gone if owner is c.dead else c.here).append(queue)
        prefix = f"adwuma:{{{queue}}}:"
        owner.client.rpush(prefix + "result:done-" + queue, json.dumps({"id": "done-" + queue, "status": "succeeded", "result": {"text": "of " + queue}}))
        owner.client.lpush(prefix + "ready", json.dumps({"id": "waits-" + queue}))
        owner.client.lpush(prefix + "dead", json.dumps({"job": {"id": "failed-" + queue}, "error": {"type": "APIError", "message": "m"}, "died_at_ms": 1}))
        owner.client.zadd(prefix + "workers", {"w1": 4e12})
    assert c.here, "not all queues are on one node"
    c.dead.kill()
    yield c
    c.stop()


@pytest.fixture
def ask(torn, system):
    def ask(*args, url=None, **more):
        return Cli(system)(*args, redis_url=url or torn.url, **more)
    return ask


def told_once_for_each(torn, err):
    return all(f": queue {q}: " + AWAY.format(torn.dead.address) in err for q in torn.gone) and err.count("cannot be reached") == len(torn.gone)


@pytest.mark.parametrize("args", [["pause", "translate"], ["submit"], ["translate", "x", "--timeout", "1"], ["stats", "-q", "translate"], ["cancel", "-q", "translate", "x"]],
                         ids=lambda args: args[0])
def test_the_node_that_is_away_is_named(torn, ask, args):
    done = ask(*args, stdin=b'{"id":"a","type":"translate","text":"x"}')
    assert done.code == 69 and AWAY.format(torn.dead.address) in done.err and "Try again in a moment" in done.err, done.err
    assert "CLUSTERDOWN" not in done.err and "It answers" not in done.err


@pytest.mark.parametrize("args,queue", [
    (["stats"], lambda line: line.split("\t")[0]), (["stats", "--json"], lambda line: json.loads(line)["queue"]), (["workers"], lambda line: line.split("\t")[0]),
    (["workers", "--json"], lambda line: json.loads(line)["queue"]), (["dead", "list"], lambda line: line.split("\t")[0]),
    (["dead", "list", "--json"], lambda line: json.loads(line)["queue"]),
])
def test_queues_that_answer_are_shown(torn, ask, args, queue):
    done = ask(*args)
    assert done.code == 69 and [queue(line) for line in done.lines if not line.startswith("queue\t")] == torn.here, done.out + done.err
    assert told_once_for_each(torn, done.err), done.err
    assert done.err.count("Try again in a moment") == 1


def test_who_watches_sees_the_queues_that_answer(torn, ask, system):
    p = Cli(system).start("stats", "--watch", "0.1", "--json", settings={"redis_url": torn.url})
    seen = [json.loads(p.stdout.readline())["queue"] for _ in range(3 * len(torn.here))]
    p.terminate()
    assert seen == torn.here * 3 and p.communicate(timeout=20 * SLOW)[1].decode().count("cannot be reached") == len(torn.gone)


def test_results_of_queues_that_answer_are_printed(torn, ask):
    here, gone = torn.here[0], torn.gone[0]
    done = ask("result", "done-" + here)
    assert (done.code, done.out, done.err) == (0, f"of {here}\n", "")
    done = ask("result", "done-" + here, "waits-" + here, "done-" + gone)
    assert done.code == 69 and done.out == f"of {here}\n\n\n" and done.err.count("cannot be reached") == len(torn.gone), done.err
    assert f"job waits-{here}: waiting in queue {here}\n" in done.err and f"job done-{gone}: neither a result nor the job is in the queues that answer\n" in done.err
    begin = time.monotonic()
    assert ask("result", "--wait", "1", "waits-" + here).code == 69 and 1 <= time.monotonic() - begin < 5 * SLOW
    assert ask("result", "--wait", "30", "done-" + here, "-q", here).out == f"of {here}\n"
    p = ask("result", "--wait", "1", "-q", gone, "done-" + gone)
    assert p.code == 69 and AWAY.format(torn.dead.address) in p.err


def test_jobs_of_queues_that_answer_are_cancelled(torn, ask):
    here = torn.here[0]
    done = ask("cancel", "waits-" + here)
    assert done.code == 0 and f"job waits-{here}: cancelled in queue {here}; it was waiting\n" in done.err and told_once_for_each(torn, done.err), done.err
    done = ask("cancel", "nowhere", "done-" + here, "waits-" + here)
    assert done.code == 69 and told_once_for_each(torn, done.err), done.err
    for said in ("job nowhere: unknown: no job of that id in any of the queues that answer; ", f"job done-{here}: it has its result already", f"job waits-{here}: cancelled"):
        assert said in done.err, done.err
    node = torn.master_of(here).client
    assert node.zcard(f"adwuma:{{{here}}}:cancelled") == 1
    node.delete(f"adwuma:{{{here}}}:cancelled")


def test_queues_that_answer_are_paused(torn, ask):
    for command, said in (("pause", "paused for 1h\n"), ("resume", "goes on\n")):
        done = ask(command, *QUEUES, *QUEUES, *(["--for", "1h"] if command == "pause" else []))
        assert done.code == 69 and told_once_for_each(torn, done.err), done.err
        assert [line.split(":")[1].split()[1] for line in done.err.splitlines(keepends=True) if line.endswith(said)] == torn.here, done.err
    assert not any(torn.master_of(q).client.exists(f"adwuma:{{{q}}}:paused") for q in torn.here)


@pytest.mark.parametrize("action", ["retry", "purge"])
def test_dead_jobs_of_queues_that_answer_are_taken(torn, ask, action):
    for queue in torn.here:
        torn.master_of(queue).client.rpush(f"adwuma:{{{queue}}}:dead", json.dumps({"job": {"id": "again-" + queue}, "error": {"type": "TranslationError", "message": "m"},
                                                                                  "died_at_ms": 1}))
    done = ask("dead", action, "--error", "TranslationError")
    n = len(torn.here)
    assert done.code == 69 and told_once_for_each(torn, done.err), done.err
    assert re.search(rf"^adwuma: {n} dead jobs? (is|are)? ?{'ready again' if action == 'retry' else 'deleted'}", done.err, re.M), done.err
    assert done.lines == (["again-" + q for q in torn.here] if action == "retry" else [])
    for queue in torn.here:
        node, prefix = torn.master_of(queue).client, f"adwuma:{{{queue}}}:"
        assert node.llen(prefix + "dead") == 1 and node.lrem(prefix + "ready", 1, json.dumps({"id": "again-" + queue})) in (0, 1)
        assert node.llen(prefix + "ready") == 1


def test_a_result_that_comes_while_another_node_is_away(torn, system):
    p = Cli(system).start("result", "--wait", "30", "comes", settings={"redis_url": torn.url})
    node = torn.master_of(torn.here[0]).client
    until(lambda: node.info("commandstats").get("cmdstat_blmove", {}).get("calls"), what="it waits there")
    node.rpush(f"adwuma:{{{torn.here[0]}}}:result:comes", json.dumps({"id": "comes", "status": "succeeded", "result": {"text": "T"}}))
    assert p.communicate(timeout=20 * SLOW) == (b"T\n", b"") and p.returncode == 0


def test_the_smaller_limit_holds_where_a_master_stays_away(ask):
    begin = time.monotonic()
    assert ask("translate", "hi", "--timeout", "2").code == 69 and 1.9 < time.monotonic() - begin < 6 * SLOW


def test_a_node_of_a_cluster_under_redis(torn, ask, tmp_path):
    node = next(n for n in torn.nodes if n is not torn.dead)
    (tmp_path / "in").write_text('{"id":"a","type":"translate","text":"x"}\n')
    for args in (["translate", "x"], ["submit"], ["stats"], ["pause", "translate"], ["workers"], ["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out")]):
        begin = time.monotonic()
        done = ask(*args, stdin=b'{"id":"a","type":"translate","text":"x"}', url=f"redis://{node.address}")
        assert done.code == 69 and "is one node of a cluster; redis_url must begin with redis+cluster:// to use it\n" in done.err, done.err
        assert "refuses" not in done.err and "Does Redis run there" not in done.err and time.monotonic() - begin < 5 * SLOW, done.err


def test_urls_of_another_kind_need_no_more_words(system, tmp_path):
    sentinel = Node(tmp_path, free_ports(1)[0], conf="sentinel monitor m 127.0.0.1 1 1\n")
    sentinel.wait()
    done = Cli(system)("stats", redis_url=f"redis://{sentinel.address}")
    sentinel.stop()
    assert done.code == 69 and "redis_url must begin with redis+sentinel:// to use it" in done.err and done.err.count("\n") == 1, done.err


def test_a_failover_may_be_why_nobody_answers(system, tmp_path):
    """Sentinels that name a master which is dead; and where not even they are there."""
    nobody = Cli(system)("stats", redis_url="redis+sentinel://127.0.0.1:1/m"), Cli(system)("stats", redis_url="redis+cluster://127.0.0.1:1,127.0.0.1:2")
    kept = Sentinels(tmp_path, replicas=0, sentinels=1, quorum=1, down_after_ms=60000)
    kept.nodes[0].kill()
    for done in (*nobody, Cli(system)("translate", "x", redis_url=kept.url)):
        assert done.code == 69 and "\n  A failover may be under way: try again in a moment. Does Redis run there, and let us in? --redis-url" in done.err, done.err
    kept.stop()
    assert "failover" not in Cli(system)("stats", redis_url="redis://127.0.0.1:1").err
