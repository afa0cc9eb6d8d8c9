"""The fixtures themselves do what they say."""
import time

import load
import redis as redis_py
import servers
from conftest import until


def test_sentinels_fail_over(tmp_path):
    s = servers.Sentinels(tmp_path, password="pw", sentinel_password="spw")
    try:
        old = s.named()
        old.client.set("a", 1)
        old.client.execute_command("WAIT", 2, 1000)
        old.kill()
        killed = time.time()
        print(f"another master after {s.failed_over(old) - killed:.1f} s")
        assert s.named().client.get("a") == b"1"
        old.restart()
        s.whole_again()
    finally:
        s.stop()


def test_a_cluster_fails_over_and_moves_slots(tmp_path):
    c = servers.Cluster(tmp_path)
    try:
        names = c.queues(2)
        assert len(names) == 3 and all(len(v) == 2 for v in names.values())
        queue = names[c.nodes[0]][0]
        for n in range(100):
            c.ask(queue, ("SET", load.key(queue, f"k{n}"), n))
        seen = []

        def between():
            seen.append(c.ask(queue, ("GET", load.key(queue, "k7")), ("SET", load.key(queue, f"new{len(seen)}"), 1)))

        assert c.move_slot(servers.slot_of(queue), c.nodes[1], between=between) >= 5 and all(s[0] == b"7" for s in seen)
        assert c.master_of(queue) is c.nodes[1] and c.ask(queue, ("GET", load.key(queue, "new0"))) == [b"1"]
        c.ask(queue, ("SET", load.key(queue, "b"), 1), ("WAIT", 1, 1000))
        old = c.kill_master_of(queue)
        killed = time.time()
        print(f"another master after {c.failed_over(queue, old) - killed:.1f} s")
        assert servers.repeat(lambda: c.ask(queue, ("GET", load.key(queue, "b"))), 10, "it answers", (*servers.NOT_THERE, redis_py.ResponseError)) == [b"1"]
        old.restart()
        until(c.is_well, 30, "the cluster is whole again")
    finally:
        c.stop()
