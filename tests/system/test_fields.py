"""Every field of a job: wrong types, borders, null, repeated names; and every field of a result, and how long it stays."""
import json
import time

import pytest
from conftest import until

ALL_TYPES = {"string": "x", "number": 7, "fraction": 1.5, "true": True, "list": [], "object": {}}
STRINGS = {"translate": ["language_pair", "text"], "synthesize": ["text", "language", "speaker", "output_path"],
           "transcribe": ["audio_path", "audio_key", "audio_url", "audio_base64", "language", "timestamps"]}
NUMBERS = {"timeout_ms": (1, 3_600_000), "max_attempts": (1, 100), "not_before_ms": (0, None), "expires_at_ms": (0, None), "result_ttl_s": (1, None), "enqueued_at_ms": (0, None),
           "attempt": (0, None)}
GOOD = {"translate": {"text": "x"}, "synthesize": {"text": "x", "language": "twi"}, "transcribe": {"audio_base64": "UklGRgAAAABXQVZF"}}


def bad_jobs():
    """(queue, job, field) for every field and every JSON type that it does not take."""
    for queue, fields in STRINGS.items():
        for field in fields:
            base = {} if field.startswith("audio_") else GOOD[queue]
            for kind, value in ALL_TYPES.items():
                if kind != "string":
                    yield queue, {**base, field: value}, field
            yield queue, {**base, field: "a\u0000b"}, field
    for field, (low, high) in NUMBERS.items():
        for value in ["7", 1.5, True, [], {}, low - 1, -(1 << 63), 1 << 64, 1e300] + ([high + 1] if high else []):
            yield "translate", {"text": "x", field: value}, field
    for field, takes in {"if_unsure": (), "cache": ("true",), "reply": (), "traceparent": ("string",), "type": ()}.items():
        for kind, value in ALL_TYPES.items():
            if kind not in takes and not (field in ("reply", "type") and kind == "string"):
                yield "translate", {"text": "x", field: value}, field
    for value in ("", "a b", "x" * 129, "ü", "a/b", "a\u0000"):
        yield "translate", {"text": "x", "reply": value}, "reply"
    for queue, field in (("synthesize", "format"), ("synthesize", "output")):
        for value in ("", "WAV", "wav|mp3", "key|base64", 7, [], True):
            yield queue, {**GOOD[queue], field: value}, field


def test_each_field_of_a_wrong_kind_is_named(system):
    system.worker()
    bad = list(bad_jobs())
    assert len(bad) > 150
    for i, (queue, job, _) in enumerate(bad):
        system.push(queue, {"id": f"b{i}", **job})
    for i, (queue, job, field) in enumerate(bad):
        r = system.result(queue, f"b{i}")
        assert r["status"] == "failed", (job, r)
        e = r["error"]
        assert (e["type"], e["status_code"], e["retryable"], e["code"], e["details"], e["activity_id"]) == ("InvalidJobError", 0, False, None, [], None), (job, e)
        assert f"'{field}'" in e["message"], (job, e["message"])
        assert e["service"] == (None if field == "type" else "khaya"), (job, e)
        assert r["attempts"] == 0 and r["started_at_ms"] is None and r["queue"] == queue, (job, r)
    assert system.stub.count() == 0
    for queue in GOOD:
        system.reconcile(queue, sum(1 for b in bad if b[0] == queue))


def test_what_strict_readers_refuse_does_not_reach_the_result(system):
    system.worker()
    for field in ("traceparent", "type"):
        for i, value in enumerate(('"\\ud800"', '"' + "x" * 17_000 + '"')):
            system.push("translate", '{"id":"%s%d","text":"x","%s":%s}' % (field, i, field, value))
            r = system.result("translate", f"{field}{i}")
            assert r["error"]["type"] == "InvalidJobError" and r.get(field) is None, ascii(r)


def test_null_is_absent_and_borders_are_taken(system):
    system.worker()
    now = int(time.time() * 1000)
    jobs = [("translate", {"text": "x", **{f: None for f in [*NUMBERS, "type", "reply", "if_unsure", "cache", "traceparent", "language_pair"]}}),
            ("synthesize", {**GOOD["synthesize"], **{f: None for f in ("speaker", "format", "output", "output_path")}}),
            ("transcribe", {**GOOD["transcribe"], **{f: None for f in ("audio_path", "audio_key", "audio_url", "language", "timestamps")}})]
    jobs += [("translate", {"text": "x", field: value}) for field, (low, high) in NUMBERS.items() for value in (low, high)
             if value is not None and (field, value) not in (("timeout_ms", 1), ("expires_at_ms", 0))]
    jobs += [("translate", {"text": "x", **more}) for more in (
        {"expires_at_ms": 1 << 53}, {"enqueued_at_ms": 1 << 53}, {"not_before_ms": now}, {"cache": True}, {"cache": False}, {"if_unsure": "rerun"}, {"if_unsure": "hold"},
        {"reply": "A-Za-z0-9._:-"}, {"type": "translate"}, {"traceparent": ""}, {"id": "x" * 128}, {"id": "-._:Aa0"})]
    for i, (queue, job) in enumerate(jobs):
        r = system.do(queue, **{"id": f"n{i}", **job})
        if queue == "transcribe":  # no audio that the stub could hear anything in, but the job was fine
            assert r["result"]["language"] == "twi" and r["result"]["timings"] is None
        assert r["status"] == "succeeded" and r["type"] == queue, (job, r)


RAW = [  # the payload as written, and what becomes of it
    (b'{"id":"r0","text":"first","text":"last"}', "r0", "[tw] last"),
    (b' \n{ "id" : "r1" , "text" : "x" } \r\n\t', "r1", "[tw] x"),
    (b'{"text":"x","id":"\\u0072\\u0032"}', "r2", "[tw] x"),
    (b'{"id":"r3","t\\u0065xt":"x"}', "r3", "[tw] x"),
    (b'{"id":"r4","text":"x","ID":"other","Text":7,"TYPE":9}', "r4", "[tw] x"),
    (b'{"id":"r5","text":"x","timeout_ms":1e4}', "r5", "[tw] x"),
    (b'{"id":"r6","text":"x","timeout_ms":10000.0}', "r6", "[tw] x"),
    (b'{"id":"first","id":"r7","text":"x"}', "r7", "[tw] x"),
    (b'{"id":"r8","text":"\xf0\x9f\x98\x80\xc9\x9b"}', "r8", "[tw] \U0001f600\u025b"),
    (b'\xef\xbb\xbf{"id":"r9","text":"x"}', None, None),  # a byte order mark is no JSON
    (b'{"id":"ra","text":"x",}', None, None), (b"{'id':'rb'}", None, None), (b'{"id":"rc","text":"x"}{}', None, None), (b'{"id":"rd","text":"x\ny"}', None, None),
    (b'{"id":"re","text":"x","n":NaN}', None, None), (b'{"id":"rf","text":"x","n":1.}', None, None), (b'{"id":"rg","text":"x"', None, None),
    (b'{"id":"rh","text":"\xc0\x80"}', "rh", "UTF-8"), (b'{"id":"ri","text":"\xed\xa0\x80"}', "ri", "UTF-8"), (b'{"id":"rj","text":"x","o":"\xf5"}', "rj", "UTF-8"),
]


def test_json_as_it_is_written(system):
    system.worker()
    system.push("translate", *[raw for raw, _, _ in RAW])
    for raw, job_id, wanted in RAW:
        if job_id:
            r = system.result("translate", job_id)
            said = r["result"]["text"] if r["status"] == "succeeded" else r["error"]["message"]
            assert said == wanted if wanted.startswith("[tw]") else wanted in said, (raw, r)
    system.reconcile("translate", sum(1 for _, i, _ in RAW if i), sum(1 for _, i, _ in RAW if not i))


def test_a_queue_that_is_no_type_needs_one(system):
    system.worker(queues="bulk")
    e = system.do("bulk", text="x")["error"]
    assert (e["type"], e["service"]) == ("InvalidJobError", None) and "'bulk' is no type" in e["message"]
    r = system.do("bulk", text="x", type="translate")
    assert (r["queue"], r["type"], r["status"]) == ("bulk", "translate", "succeeded")
    r = system.do("bulk", text="x", type="dance")
    assert r["type"] == "dance" and r["error"]["service"] is None


def test_max_job_bytes_to_the_byte(system):
    system.worker(max_job_bytes="64K")
    frame = len(b'{"id":"a","text":"x","pad":""}')
    for job_id, size, status in (("a", 65536, "succeeded"), ("b", 65537, "failed")):
        system.push("translate", b'{"id":"%s","text":"x","pad":"%s"}' % (job_id.encode(), b"p" * (size - frame)))
        assert system.result("translate", job_id)["status"] == status
    # What is too large is kept too, whole.
    assert len(system.dead("translate")[0]["job"]["pad"]) == 65537 - frame


def test_sixteen_mebibytes_are_taken(system):
    system.worker()
    head, tail = b'{"id":"a","text":"x","pad":"', b'"}'
    system.push("translate", head + b"p" * (16 * 1024 * 1024 - len(head + tail)) + tail)
    assert system.result("translate", "a", 30)["status"] == "succeeded"


# --- Results. ---------------------------------------------------------------------------------------------------------------

KINDS = {"id": str, "queue": str, "type": str, "status": str, "attempts": int, "started_at_ms": int, "finished_at_ms": int, "api_ms": (int, float), "cached": bool, "worker": str, "billed": dict}


def test_fields_of_results(system):
    system.worker()
    began = int(time.time() * 1000)
    ok = system.do("translate", id="ok", text="x stub(delay=100)", unknown=1)
    bad = system.do("translate", id="bad", text="x stub(status=400)")
    never = system.do("translate", id="never", text="")
    ended = int(time.time() * 1000)
    for r in (ok, bad):
        assert all(type(r[k]) in (v if isinstance(v, tuple) else (v,)) for k, v in KINDS.items()), r
        assert began <= r["started_at_ms"] <= r["finished_at_ms"] <= ended and r["enqueued_at_ms"] is None
    assert set(ok) == set(KINDS) | {"enqueued_at_ms", "result"} and set(bad) == set(never) == set(KINDS) | {"enqueued_at_ms", "error"}
    assert 100 <= ok["api_ms"] <= ended - began and ok["finished_at_ms"] - ok["started_at_ms"] >= 100
    assert never["started_at_ms"] is None and never["attempts"] == 0 and never["api_ms"] == 0
    assert ok["worker"] == bad["worker"] == system.redis.zrange("adwuma:{translate}:workers", 0, -1)[0].decode()
    assert set(system.dead("translate")[0]) == {"job", "error", "died_at_ms"}
    assert [d["error"] for d in system.dead("translate")] == [never["error"], bad["error"]]
    assert [d["job"] for d in system.dead("translate")] == [{"id": "never", "text": ""}, {"id": "bad", "text": "x stub(status=400)"}]
    assert began <= system.dead("translate")[0]["died_at_ms"] <= ended


def test_results_replies_and_audio_expire(system):
    """By the job, else by the setting; a reply list so long after its last result."""
    system.worker(result_ttl_s=1)
    made = system.do("synthesize", id="s", text="x", language="twi")["result"]
    system.do("translate", id="long", text="x", reply="r", result_ttl_s=1000)
    system.do("translate", id="short", text="x", reply="r")
    system.do("translate", id="bad", text="")
    assert 0 < system.redis.pttl(made["audio_key"]) <= 1000 and 0 < system.redis.pttl("adwuma:{translate}:reply:r") <= 1000
    until(lambda: not system.redis.exists(made["audio_key"], "adwuma:{synthesize}:result:s", "adwuma:{translate}:result:short", "adwuma:{translate}:result:bad",
                                          "adwuma:{translate}:reply:r"), 5, "all that is short-lived is gone")
    assert system.redis.ttl("adwuma:{translate}:result:long") > 900
    assert system.redis.llen("adwuma:{translate}:dead") == 1  # what failed stays for a second try


def test_an_id_runs_anew_once_its_result_is_gone(system):
    system.worker()
    for n in range(2):
        assert system.do("translate", id="again", text=f"run {n}")["result"]["text"] == f"[tw] run {n}"
        system.redis.delete("adwuma:{translate}:result:again")
    assert system.stub.count() == 2 and system.stats("translate") == {"succeeded": 2}


def test_a_taken_reply_is_whole_and_in_order_of_completion(system):
    system.worker()
    delays = {"slow": 600, "middle": 300, "quick": 0}
    system.push("translate", *[{"id": i, "text": f"x stub(delay={ms})", "reply": "r"} for i, ms in delays.items()])
    order = [json.loads(system.redis.blpop("adwuma:{translate}:reply:r", 10)[1]) for _ in delays]
    assert [r["id"] for r in order] == ["quick", "middle", "slow"]
    assert all(r == system.result("translate", r["id"]) for r in order)
    assert order == sorted(order, key=lambda r: r["finished_at_ms"])


def test_threads_call_all_at_once_and_never_more(system):
    system.stub.fault("delay=150")
    system.push("translate", *[{"id": f"{i}", "text": f"{i}"} for i in range(96)])
    system.worker(threads=24)
    system.reconcile("translate", 96)
    assert system.stub.stats()["max_active"] == 24
