"""Text over the API's limit goes out in pieces, one after the other, and comes back as one. A piece that was paid for is never paid again."""
import hashlib
import json
import re
import signal
import struct
import time
import urllib.request

import pytest
from conftest import SLOW, until

Q = "adwuma:{translate}:"
LIMIT = 1000
FILLER = "it says what it has to say, "


def piece(word, fault=""):
    """One sentence of about 900 characters: two of them never fit into one request."""
    return f"{word} begins, " + FILLER * 31 + (f"stub({fault}) " if fault else "") + f"{word} ends."


def texts(system):
    return [c["text"] for c in system.stub.calls()]


def words(system):
    return [t.split(" ", 1)[0] for t in texts(system)]


def test_pieces_are_joined_in_order_and_paragraphs_stay(system):
    system.worker()
    text = "  " + piece("A") + "\n\n" + piece("B") + "\r\n \n\t" + piece("Ɔ") + " " + piece("D") + "\n"
    r = system.do("translate", text=text, language_pair="en-ee")
    assert all(len(t) <= LIMIT for t in texts(system)) and words(system) == ["A", "B", "Ɔ", "D"]
    assert r["result"] == {"text": "  [ee] " + piece("A") + "\n\n[ee] " + piece("B") + "\r\n \n\t[ee] " + piece("Ɔ") + " [ee] " + piece("D") + "\n",
                           "source_language": "en", "target_language": "ee"}
    assert r["attempts"] == 1 and r["billed"] == {"request": 4, "character": sum(map(len, texts(system)))}
    assert not system.redis.keys("*pieces*")


@pytest.mark.parametrize("text,calls", [("x" * 1000, 1), ("x" * 1001, 2), ("ɛ" * 1000, 1), ("ɛ" * 1001, 2), ("\U0001f30d" * 1000, 1), ("\\\"" * 500, 1),
                                        (" " * 1000, 1), ("a" + " " * 2000 + "b", 2), ("e\u0301" * 600, 2)])
def test_the_limit_is_in_code_points(system, text, calls):
    system.worker()
    r = system.do("translate", text=text)
    assert system.stub.count() == calls and r["result"]["text"].replace("[tw] ", "") == text and r["billed"]["request"] == calls
    assert all(not t.startswith("\u0301") for t in texts(system))


def test_white_space_alone_is_no_text(system):
    system.worker()
    r = system.do("translate", text=" \n" * 600)
    assert r["error"]["type"] == "TranslationError" and r["error"]["status_code"] == 400 and system.stub.count() == 0
    assert r["billed"] == {} and r["attempts"] == 0


def test_only_the_piece_that_failed_is_sent_again(system):
    """An attempt that finished a piece does not count: even one attempt in all is enough."""
    system.worker()
    text = "\n".join([piece("A"), piece("B", "status=503,retry_after=0,times=1"), piece("C", "close,times=1"), piece("D")])
    r = system.do("translate", text=text, max_attempts=1, seconds=20)
    assert r["status"] == "succeeded", r
    assert words(system) == ["A", "B", "B", "C", "C", "D"] and r["billed"]["request"] == 6
    assert r["attempts"] == 1 and system.stats("translate")["retried"] == 2
    assert {k.decode(): int(v) for k, v in system.redis.hgetall(Q + "billed").items()} == r["billed"]
    assert not system.redis.keys("*pieces*")


def test_attempts_that_finish_nothing_count(system):
    system.worker()
    r = system.do("translate", text=piece("A") + " " + piece("B", "status=500,retry_after=0"), max_attempts=3, seconds=20)
    assert r["error"]["status_code"] == 500 and r["attempts"] == 3 and words(system) == ["A", "B", "B", "B", "B"]


def test_a_piece_that_fails_for_good_fails_the_job_but_what_was_paid_stays(system):
    system.worker()
    text = piece("A") + " " + piece("B", "status=400,times=1") + " " + piece("C")
    r = system.do("translate", id="x", text=text)
    assert r["error"]["status_code"] == 400 and words(system) == ["A", "B"] and r["billed"]["request"] == 2
    assert 0 < system.redis.pttl(Q + "pieces:x") <= 86400000
    entry = system.redis.rpop(Q + "dead")
    system.redis.delete(Q + "result:x")
    system.push("translate", json.loads(entry)["job"])
    assert system.result("translate", "x")["status"] == "succeeded" and words(system) == ["A", "B", "B", "C"]
    assert not system.redis.keys("*pieces*")


@pytest.mark.core
def test_another_worker_goes_on_where_a_dead_one_was(system):
    victim = system.worker(lease_ms=1000)
    system.push("translate", {"id": "x", "text": piece("A") + " " + piece("B") + " " + piece("C", "hang,times=1") + " " + piece("D")})
    until(lambda: system.stub.count() == 3, what="it is at the third piece")
    victim.kill()
    system.worker(lease_ms=1000)
    r = system.result("translate", "x", 20)
    assert r["status"] == "succeeded" and words(system) == ["A", "B", "C", "C", "D"]


def test_what_was_begun_does_not_expire(system):
    """Also where the try that was made did not count, because it finished a piece."""
    system.worker()
    text = piece("A") + " " + piece("B", "status=503,retry_after=2,times=1")
    r = system.do("translate", text=text, expires_at_ms=int(time.time() * 1000) + 1500, seconds=20)
    assert r["status"] == "succeeded" and words(system) == ["A", "B", "B"]


def test_a_stop_waits_for_one_piece_only(system):
    first = system.worker()
    system.push("translate", {"id": "x", "text": " ".join(piece(w, "delay=300") for w in "ABCDEFGHIJ")})
    until(lambda: system.stub.count() == 2, what="it is at the second piece")
    assert first.stop() == 0
    made = system.stub.count()
    assert made < 5 * SLOW and system.redis.llen(Q + "ready") == 1
    system.worker()
    assert system.result("translate", "x", 20)["status"] == "succeeded"
    assert words(system) == list("ABCDEFGHIJ"), "none was sent twice"


def test_a_second_stop_cuts_the_piece_off(system):
    first = system.worker()
    system.push("translate", {"id": "x", "text": piece("A") + " " + piece("B", "hang,times=1") + " " + piece("C")})
    until(lambda: system.stub.count() == 2, what="it is at the second piece")
    assert first.stop_at_once() == 0
    system.worker()
    assert system.result("translate", "x")["attempts"] == 1 and words(system) == ["A", "B", "B", "C"]


def test_cancelled_between_pieces(system):
    system.worker()
    system.push("translate", {"id": "x", "text": piece("A") + " " + piece("B", "hang") + " " + piece("C")})
    until(lambda: system.stub.count() == 2, what="it is at the second piece")
    system.redis.zadd(Q + "cancelled", {"x": 1 << 50})
    r = system.result("translate", "x")
    assert r["error"]["type"] == "CancelledError" and r["billed"]["request"] == 2 and words(system) == ["A", "B"]
    assert not system.redis.keys("*pieces*")


def test_hold_sends_nothing_twice_and_forgets_nothing(system):
    """A worker that dies between two pieces leaves nothing unsure behind; one that dies in a piece does."""
    victim = system.worker(lease_ms=1000)
    system.push("translate", {"id": "x", "if_unsure": "hold", "text": piece("A") + " " + piece("B", "hang")})
    until(lambda: system.stub.count() == 2, what="it is at the second piece")
    assert system.redis.keys("*sent*")
    victim.kill()
    system.worker(lease_ms=1000)
    assert system.result("translate", "x", 20)["error"]["type"] == "UnknownOutcomeError" and words(system) == ["A", "B"]
    assert system.do("translate", if_unsure="hold", text=piece("A") + " " + piece("C"))["status"] == "succeeded"
    assert not system.redis.keys("*sent*")


def test_equal_pieces_are_paid_once(system):
    system.worker()
    r = system.do("translate", text="\n".join([piece("A")] * 4))
    assert r["result"]["text"].count("[tw] A begins,") == 4 and system.stub.count() == 1 and r["billed"]["request"] == 1


def test_pieces_of_another_text_are_not_taken(system):
    """The same id, but another language: nothing of the first is used."""
    system.worker()
    system.do("translate", id="x", text=piece("A") + " " + piece("B", "status=400"), language_pair="en-tw")
    system.redis.delete(Q + "result:x")
    r = system.do("translate", id="x", text=piece("A") + " " + piece("C"), language_pair="en-ee")
    assert r["result"]["text"].startswith("[ee] A") and r["result"]["text"].count("[ee]") == 2 and system.stub.count() == 4


@pytest.mark.parametrize("kept", [b"", b"x", b"{}", b"[]", b'{"text":1}', b'{"text":null}', b'{"text":[",\\"x"]}', b'{"text":"no', b'{"text":"\xff"}',
                                  b'{"text":"\\ud800"}', b'{"text":"' + b"x" * 3000 + b'"}'])
def test_what_is_kept_and_is_no_piece_is_not_taken(system, kept):
    """Whoever may write to Redis may write there: the result is whole all the same."""
    system.worker(max_response_bytes=2500)
    request = json.dumps({"in": piece("A"), "lang": "en-tw"}, separators=(",", ":"))
    system.redis.hset(Q + "pieces:x", hashlib.sha1((request + "/v1/translate").encode()).hexdigest(), kept)
    r = system.do("translate", id="x", text=piece("A") + " " + piece("B"))
    assert r["result"]["text"] == f"[tw] {piece('A')} [tw] {piece('B')}" and words(system) == ["A", "B"]


def test_a_key_of_a_wrong_type_costs_only_the_keeping(system):
    w = system.worker()
    system.redis.set(Q + "pieces:x", "mine")
    r = system.do("translate", id="x", text=piece("A") + " " + piece("B"))
    assert r["status"] == "succeeded" and system.stub.count() == 2 and "piece not kept" in w.log()


def test_a_try_whose_pieces_are_not_kept_counts(system):
    """Else it would be paid for again and again: nothing that it finished serves the next."""
    system.worker()
    system.redis.set(Q + "pieces:x", "mine")
    r = system.do("translate", id="x", text=piece("A") + " " + piece("B", "status=503,retry_after=0"), max_attempts=3)
    assert r["error"]["status_code"] == 503 and r["attempts"] == 3 and words(system) == ["A", "B"] * 3


def test_pieces_that_vanish_are_not_paid_for_without_end(system):
    """As where Redis evicts them: a try with pieces is free only as long as they can have been kept."""
    system.worker()
    system.push("translate", {"id": "x", "max_attempts": 2, "text": piece("A") + " " + piece("B", "status=503,retry_after=0")})
    def swept():
        system.redis.delete(Q + "pieces:x")
        return system.results("translate")
    until(swept, 30, "it ends")
    r = system.result("translate", "x")
    assert r["error"]["status_code"] == 503 and r["billed"]["request"] == system.stub.count() <= 2 * 2 + 2 * (2 + 1)


def test_a_full_redis_keeps_pieces(system):
    system.worker()
    system.push("translate", {"id": "x", "text": piece("A", "delay=500") + " " + piece("B", "status=503,retry_after=0,delay=1000,times=1")})
    until(lambda: system.stub.count() == 1, what="it is at the first piece")
    system.redis.config_set("maxmemory", 1)
    until(lambda: system.redis.hlen(Q + "pieces:x") == 1, what="the piece is kept")
    system.redis.config_set("maxmemory", 0)
    assert system.result("translate", "x")["status"] == "succeeded" and words(system) == ["A", "B", "B"]


def test_redis_goes_away_between_pieces(durable):
    """What was paid for waits for Redis."""
    system = durable
    w = system.worker(lease_ms=10000)
    system.push("translate", {"id": "x", "text": piece("A") + " " + piece("B", "delay=500") + " " + piece("C")})
    until(lambda: system.stub.count() == 2, what="it is at the second piece")
    system.server.kill()
    time.sleep(1)  # the answer, due after 0.5 s, comes while there is no Redis: this is the case itself
    assert w.process.poll() is None and system.stub.count() == 2
    system.server.start()
    r = system.result("translate", "x", 30)
    assert r["status"] == "succeeded" and words(system) == ["A", "B", "C"]


@pytest.mark.parametrize("text", ["x" * 60000, "\u0301" * 30000, "\n" * 50000 + "a", "word " * 40000, ".!? " * 20000, "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 4000],
                         ids=["no cut", "one grapheme", "newlines", "words", "ends", "families"])
def test_odd_long_texts(system, text):
    system.worker()
    r = system.do("translate", text=text, seconds=40)
    assert r["result"]["text"].replace("[tw] ", "") == text and all(0 < len(t) <= LIMIT for t in texts(system))


def test_more_than_the_result_may_hold(system):
    """Stops paying as soon as it is clear that the whole cannot be delivered."""
    system.worker(max_response_bytes=2500)
    r = system.do("translate", text=" ".join(piece(w) for w in "ABCDEFGH"))
    assert "max_response_bytes" in r["error"]["message"] and system.stub.count() == 3


# --- Speech. ---------------------------------------------------------------------------------------------------------------------------------------


def frames(wav):
    """The samples of a file as the WAV format has them, its sizes checked to the byte."""
    assert wav[:4] == b"RIFF" and wav[8:12] == b"WAVE" and struct.unpack("<I", wav[4:8])[0] == len(wav) - 8
    at, found = 12, {}
    while at < len(wav):
        name, size = wav[at:at + 4], struct.unpack("<I", wav[at + 4:at + 8])[0]
        assert at + 8 + size <= len(wav)
        found[name] = wav[at + 8:at + 8 + size]
        at += 8 + size + size % 2
    assert struct.unpack("<I", found[b"fact"])[0] * 4 == len(found[b"data"])
    return found[b"data"]


def say(system, text, **more):
    r = system.do("synthesize", text=text, language="twi", seconds=30, **more)
    assert r["status"] == "succeeded", r
    wav = system.redis.get(r["result"]["audio_key"])
    assert r["result"]["bytes"] == len(wav) and r["result"]["sha256"] == hashlib.sha256(wav).hexdigest() and r["result"]["content_type"] == "audio/wav"
    return r, frames(wav)


def test_long_speech_is_one_file(system):
    system.worker(KHAYA_TTS_MAX_CHARS=100)
    sentences = [f"This is sentence number {i}, and it is spoken as one piece." for i in range(20)]
    r, whole = say(system, " ".join(sentences))
    assert texts(system) == sentences and r["billed"] == {"request": 20, "character": sum(map(len, sentences))}
    assert whole == b"".join(say(system, s)[1] for s in sentences)
    assert not system.redis.keys("*pieces*")


def test_a_failing_piece_of_speech_is_said_again_alone(system):
    system.worker(KHAYA_TTS_MAX_CHARS=100)
    text = "First it says what goes well and is quite long. Then stub(status=503,retry_after=0,times=2) it fails, which is long too, so to say. At last it goes well again, and is long."
    r, _ = say(system, text, max_attempts=2)
    assert words(system) == ["First", "Then", "Then", "Then", "At"] and r["attempts"] == 2


@pytest.mark.parametrize("more,words_of", [({"format": "mp3"}, "only wav can be joined"), ({"format": "ogg"}, "only wav can be joined")])
def test_long_speech_that_could_not_be_joined_is_not_begun(system, more, words_of):
    system.worker(KHAYA_TTS_MAX_CHARS=20, KHAYA_TTS_VERSION="v2")
    r = system.do("synthesize", text="This is longer than twenty.", language="twi", **more)
    assert r["error"]["type"] == "TTSGenerationError" and r["error"]["status_code"] == 400 and words_of in r["error"]["message"]
    assert system.stub.count() == 0 and r["billed"] == {}


def test_a_piece_that_is_no_wav_ends_the_job_before_the_next_is_paid(system):
    system.worker(KHAYA_TTS_MAX_CHARS=60)
    text = "The first is fine, and quite long as well, as you can see. " + "stub(body64=UklGRgAAAAA=,type=audio/wav) the second is broken. " + "The third is never said, because that would be a waste."
    r = system.do("synthesize", text=text, language="twi")
    assert r["error"]["type"] == "TTSGenerationError" and "cannot be joined" in r["error"]["message"] and system.stub.count() == 2


# --- What is billed. -------------------------------------------------------------------------------------------------------------------------------


def test_billed_seconds_are_those_of_the_header(system):
    w = system.worker(admin_listen="127.0.0.1:0")
    wav = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 32000 * 5 // 2, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 32000 * 5 // 2) + bytes(32000 * 5 // 2)
    system.redis.set("adwuma:{transcribe}:audio:in", wav)
    r = system.do("transcribe", audio_key="adwuma:{transcribe}:audio:in")
    assert r["billed"] == {"request": 1, "audio_second": 3}
    r = system.do("transcribe", audio_base64="SUQzBAAAAAAAAAAA")
    assert r["billed"] == {"request": 1}, "its header tells no length"
    assert {k: int(v) for k, v in system.redis.hgetall("adwuma:{transcribe}:billed").items()} == {b"request": 2, b"audio_second": 3}
    port = until(lambda: re.search(r'"admin listens" port=(\d+)', w.log()), what="the port is logged")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        told = dict(re.findall(r'^adwuma_billed_units_total\{service="khaya",unit="(\w+)"\} (\d+)$', page.read().decode(), re.M))
    assert told == {"request": "2", "character": "0", "audio_second": "3", "token": "0"}


def test_what_never_went_out_is_not_billed_and_what_did_is(system):
    system.worker(KHAYA_BASE_URL="http://127.0.0.1:1")
    r = system.do("translate", text="x", max_attempts=1)
    assert r["error"]["status_code"] == 0 and r["attempts"] == 1 and r["billed"] == {}
    system.workers[0].stop()
    system.worker()
    r = system.do("translate", text="gone stub(close)", max_attempts=1)
    assert r["error"]["status_code"] == 0 and r["billed"] == {"request": 1, "character": 16}
    r = system.do("translate", text="again stub(status=500,retry_after=0,times=2)")
    assert r["attempts"] == 3 and r["billed"] == {"request": 3, "character": 3 * 44}
    assert system.redis.hget(Q + "billed", "request") == b"4"


@pytest.mark.parametrize("answer,letter", [("", "succeeded"), ("status=503,retry_after=0,times=1,", "retried")])
def test_a_turn_whose_answer_got_lost_is_counted_once(wire, system, answer, letter):
    """Also where nothing is left of what it did: the result was taken away, the job that was to be tried again is at work elsewhere."""
    system.worker(redis_url="unix://" + wire.path, lease_ms=30000)
    system.push("translate", {"id": "x", "text": f"stub({answer}delay=300)"})
    until(lambda: system.stub.count() == 1, what="it is called")
    wire.lose_every = 1
    until(lambda: system.stats("translate").get(letter) == 1, what="it is settled, and nobody was told")
    if letter == "succeeded":
        assert system.redis.lpop(Q + "result:x")
    else:
        payload, = system.redis.zrange(Q + "delayed", 0, -1)
        system.redis.zrem(Q + "delayed", payload)
    wire.lose_every = 0
    assert system.do("translate", text="y", seconds=20)["status"] == "succeeded"
    assert int(system.redis.hget(Q + "billed", "request")) == system.stub.count() == 2
