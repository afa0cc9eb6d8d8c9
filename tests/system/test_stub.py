"""The stub API by itself: what it answers, what it does wrong when asked to, and what it tells about its calls.

Other tests believe what the stub says, so everything here is looked at from outside, at the wire where that matters. Only the standard library."""
import base64
import gzip
import hashlib
import http.client
import io
import json
import math
import os
import re
import resource
import selectors
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.parse
import wave

import pytest
from conftest import BUILD, SLOW, until

PROGRAM = BUILD + "/adwuma-stubapi"
KEY = "5ecret5ecret5ecret5ecret5ecret5e"
TRANSLATE, TRANSCRIBE, SYNTHESIZE = "/v1/translate", "/asr/v3/transcribe", "/tts/v1/tts"
MISSING = ('{ "statusCode": 401, "message": "Access denied due to missing subscription key. '
           'Make sure to include subscription key when making requests to an API." }')
INVALID = ('{ "statusCode": 401, "message": "Access denied due to invalid subscription key. '
           'Make sure to provide a valid key for an active subscription." }')
NOT_FOUND = '{ "statusCode": 404, "message": "Resource not found" }'


JSON = "application/json"


class Answer:
    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers["Content-Type"]

    @property
    def detail(self):
        """(code, target) of a 400's only detail."""
        error = self.json["error"]
        assert self.status == 400 and self.type == "application/json" and error["code"] == "VALIDATION_FAILED", self.text
        assert error["message"] == "The request payload contains invalid parameters." and len(error["details"]) == 1
        return error["details"][0]["code"], error["details"][0]["target"]


class Server:
    def __init__(self, folder, *flags):
        self.tls = ssl.create_default_context(cafile=flags[flags.index("--tls-cert") + 1]) if "--tls-cert" in flags else None
        self.errors_path = f"{folder}/stub{time.monotonic_ns()}.err"
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen([PROGRAM, "--listen", "127.0.0.1:0", *flags], stdout=subprocess.PIPE, stderr=errors)
        line = self.process.stdout.readline().decode()
        assert re.fullmatch(rf"listening on {'https' if self.tls else 'http'}://127\.0\.0\.1:\d+\n", line), line
        self.port = int(line.rsplit(":", 1)[1])

    def ask(self, method, target, body=b"", headers=None):
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30 * SLOW, context=self.tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)
        try:
            connection.request(method, target, body.encode() if isinstance(body, str) else body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def call(self, path, body, key=KEY, **headers):
        if isinstance(body, dict):
            body = json.dumps(body)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            headers["Ocp-Apim-Subscription-Key"] = key
        return self.ask("POST", path, body, headers)

    def get(self, path, key=KEY):
        return self.ask("GET", path, headers={"Ocp-Apim-Subscription-Key": key} if key else {})

    def translate(self, text="Hello", pair="en-tw", **more):
        return self.call(TRANSLATE, {"in": text, "lang": pair}, **more)

    def synthesize(self, text="Hello", language="twi", path=SYNTHESIZE, X_Stub="", **more):
        return self.call(path, {"text": text, "language": language, **more}, X_Stub=X_Stub)

    def transcribe(self, audio, language="twi", timestamps=None, **more):
        query = {"language": language, **({"timestamps": timestamps} if timestamps else {})}
        return self.call(TRANSCRIBE + "?" + urllib.parse.urlencode(query), audio, Content_Type="audio/wav", **more)

    def fault(self, directives):
        return self.ask("PUT", "/_stub/fault", directives)

    def calls(self, query=""):
        return self.ask("GET", "/_stub/calls" + query).json

    def stats(self):
        return self.ask("GET", "/_stub/stats").json

    def raw(self, text="Hello", pair="en-tw", header=None, receive=4096):
        """A socket on which one whole translate call was sent."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.settimeout(20 * SLOW)
        s.connect(("127.0.0.1", self.port))
        if self.tls:
            s = self.tls.wrap_socket(s, server_hostname="127.0.0.1")
        s.sendall(request_bytes(text, pair, header))
        return s

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(20 * SLOW)
        rest = b"" if self.process.stdout.closed else self.process.stdout.read()
        self.process.stdout.close()
        with open(self.errors_path, encoding="utf-8", errors="replace") as f:
            errors = f.read()
        assert (code, rest, errors) == (0, b"", "")  # exactly one line on stdout; no sanitizer has anything to say


def request_bytes(text="Hello", pair="en-tw", header=None):
    body = json.dumps({"in": text, "lang": pair}).encode()
    more = f"X-Stub: {header}\r\n" if header else ""
    head = f"POST {TRANSLATE} HTTP/1.1\r\nHost: stub\r\nOcp-Apim-Subscription-Key: {KEY}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_all(s):
    """Every piece that came, each with the time, until the other side ended the connection in order."""
    pieces = []
    while True:
        piece = s.recv(65536)
        if not piece:
            s.close()
            return pieces
        pieces.append((time.monotonic(), piece))


def read_answer(s):
    """The same, but ends with the Content-Length."""
    pieces, got = [], b""
    while True:
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if length and len(body) >= int(length[1]):
            s.close()
            return pieces, body
        piece = s.recv(65536)
        assert piece, got
        pieces.append((time.monotonic(), piece))
        got += piece


@pytest.fixture
def start(tmp_path):
    """Starts stubs with flags of the test's choice; stops all of them, which must end well."""
    running = []

    def run(*flags):
        running.append(Server(tmp_path, *flags))
        return running[-1]

    yield run
    for s in running:
        s.stop()


@pytest.fixture
def api(start):
    return start()


# --- What it answers when all is well. ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["Hello", "Ɛte sɛn?", "two\nlines \"quoted\" \\ \t", "😀 𝒳", "x" * 1000, "ɛ" * 1000, "</script>"])
def test_translation_is_a_bare_string(api, text):
    a = api.translate(text, "eng-twi")
    assert (a.status, a.type, a.json) == (200, "application/json", "[twi] " + text)


@pytest.mark.parametrize("pair", ["en-tw", "eng-twi", "en-twi", "tw-en", "ewe-eng", "en-ki", "en-kus", "yo-en"])
def test_pairs_in_both_spellings(api, pair):
    assert api.translate("x", pair).json == f"[{pair.split('-')[1]}] x"


def chunks(data):
    found = []
    while data:
        size = struct.unpack("<I", data[4:8])[0]
        assert len(data) >= 8 + size
        found.append((data[:4], data[8:8 + size]))
        data = data[8 + size + size % 2:]
    return found


@pytest.mark.parametrize("text", ["Maakye", "odd", "even", "a"])
def test_speech_has_the_layout_of_the_real_one(api, text):
    a = api.synthesize(text)
    assert (a.status, a.type) == (200, "audio/wav")
    riff, size, kind = struct.unpack("<4sI4s", a.body[:12])
    assert (riff, size, kind) == (b"RIFF", len(a.body) - 8, b"WAVE") and len(a.body) % 2 == 0
    found = chunks(a.body[12:])
    assert [name for name, _ in found] == [b"fmt ", b"fact", b"data", b"LIST"]
    assert a.body[50:54] == b"data"  # so samples begin at byte 58
    fmt, fact, data, info = (content for _, content in found)
    assert struct.unpack("<HHIIHHH", fmt) == (3, 1, 16000, 64000, 4, 32, 0)
    assert struct.unpack("<I", fact)[0] == len(data) // 4
    assert info[:4] == b"INFO" and chunks(info[4:]) == [(b"ICMT", text.encode() + b"\0")]
    samples = struct.unpack(f"<{len(data) // 4}f", data)
    loudness = math.sqrt(sum(x * x for x in samples) / len(samples))
    assert max(map(abs, samples)) <= 0.5 and loudness > 0.05  # heard, and soft


def data_bytes(wav):
    return len(dict(chunks(wav[12:]))[b"data"])


def test_speech_is_as_long_as_its_text(start):
    api = start("--tts-limit", "100000")
    one = data_bytes(api.synthesize("x").body)
    assert one >= 64000 // 100  # at least 10 ms a letter
    assert data_bytes(api.synthesize("x" * 500).body) == 500 * one
    assert data_bytes(api.synthesize("x" * 100000).body) <= 64000 * 60  # and never longer than a minute


def test_speech_is_the_same_for_the_same_input(api):
    inputs = [{"text": "a b c", "language": "twi"}, {"text": "a b c", "language": "ewe"}, {"text": "a b c", "language": "twi", "speaker": "female"},
              {"text": "a b c", "language": "twi", "speaker": "male_low"}, {"text": "a b d", "language": "twi"}]
    made = [api.synthesize(**i).body for i in inputs]
    assert made == [api.synthesize(**i).body for i in inputs]
    assert len(set(made)) == len(inputs)


@pytest.mark.parametrize("text", ["Hello", "Me ho yɛ.", "x", "two\nlines", " blanks ", "😀", "a \"quote\" \\ \x7f", "ɛ" * 2000, "LISTICMTINFO data RIFF"])
def test_the_circle(api, text):
    """Synthesize, transcribe: the text is back."""
    assert api.transcribe(api.synthesize(text).body).json == {"text": text, "warnings": []}


def pcm(frames):
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16000)
        w.writeframes(bytes(2 * frames))
    return out.getvalue()


@pytest.mark.parametrize("audio", [pcm(800), b"fLaC....", b"OggS....", b"ID3.....", b"\xff\xfb\x90\x00" + bytes(20),
                                   pcm(10)[:40] + b"\xff\xff\xff\xff" + bytes(7),  # a streamed header: the size is too large
                                   b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVELIST\x04\0\0\0INFO", b"RIFF\0\0\0\0WAVELIST\x0c\0\0\0INFOICMT\xff\0\0\0"])
def test_audio_that_is_not_ours(api, audio):
    assert api.transcribe(audio).json["text"] == f"audio of {len(audio)} bytes"


def test_large_audio(api):
    audio = pcm(4 << 20)
    assert api.transcribe(audio).json["text"] == f"audio of {len(audio)} bytes"
    assert api.calls()[0]["body_sha256"] == hashlib.sha256(audio).hexdigest()


def test_timings(api):
    audio = api.synthesize("Me ho yɛ.").body
    assert "timings" not in api.transcribe(audio).json
    t = api.transcribe(audio, timestamps="word").json["timings"]
    assert (t["unit"], t["granularity"], t["segments"]) == ("seconds", "word", [])
    assert [w["word"] for w in t["words"]] == ["Me", "ho", "yɛ."]
    assert all(0 <= w["start"] < w["end"] for w in t["words"])
    assert all(a["end"] <= b["start"] for a, b in zip(t["words"], t["words"][1:]))
    t = api.transcribe(audio, timestamps="segment").json["timings"]
    assert (t["unit"], t["granularity"], t["words"]) == ("seconds", "segment", []) and [s["text"] for s in t["segments"]] == ["Me ho yɛ."]
    assert 0 <= t["segments"][0]["start"] < t["segments"][0]["end"]


@pytest.mark.parametrize("text, words, segments", [
    ("One two. Three! Is 3.5 four? yes", ["One", "two.", "Three!", "Is", "3.5", "four?", "yes"], ["One two.", "Three!", "Is 3.5 four?", "yes"]),
    ("  a \n\n b ", ["a", "b"], ["a \n\n b "]),
    ("Wait... what?!", ["Wait...", "what?!"], ["Wait...", "what?!"]),
    ("...", ["..."], ["..."]),
])
def test_timings_follow_the_sound(api, text, words, segments):
    """Every unit is where its letters are, 20 ms each, and the last ends before the sound does."""
    audio = api.synthesize(text).body
    for stamps, name, found, wanted in (("word", "word", "words", words), ("segment", "text", "segments", segments)):
        units, at = api.transcribe(audio, timestamps=stamps).json["timings"][found], 0
        assert [u[name] for u in units] == wanted
        for unit in units:
            at = text.index(unit[name], at)
            assert abs(unit["start"] - at * 0.02) < 1e-9 and abs(unit["end"] - (at + len(unit[name])) * 0.02) < 1e-9
            at += len(unit[name])
        assert units[-1]["end"] <= data_bytes(audio) / 64000 + 1e-9


def transcribe_path(version, **query):
    return f"/asr/{version}/transcribe?" + urllib.parse.urlencode(query)


@pytest.mark.parametrize("timestamps", [{}, {"timestamps": "word"}, {"timestamps": "nonsense"}])
def test_recognition_v1_is_a_bare_string(api, timestamps):
    a = api.call(transcribe_path("v1", language="tw", **timestamps), api.synthesize("Me ho yɛ.").body)
    assert (a.status, a.type, a.json) == (200, JSON, "Me ho yɛ.")
    assert api.call(transcribe_path("v1", language="tw"), b"text").detail[0] == "INVALID_AUDIO_FORMAT"


def test_each_version_answers_the_same(api):
    for path in (TRANSLATE, "/v2/translate"):
        assert api.call(path, {"in": "x", "lang": "en-tw"}).json == "[tw] x"
    audio = {path: api.call(path, {"text": "x", "language": "twi"}).body for path in (SYNTHESIZE, "/tts/v1/synthesize", "/tts/v2/synthesize")}
    assert len(set(audio.values())) == 1 and audio[SYNTHESIZE].startswith(b"RIFF")
    for version in ("v2", "v3"):
        answer = api.call(transcribe_path(version, language="twi", timestamps="word"), audio[SYNTHESIZE]).json
        assert answer["text"] == "x" and answer["timings"]["words"][0]["word"] == "x"


# Code, and what each service calls it in its catalogue (None: not offered), in one line of the reference each.
LANGUAGES = """
eng English|African English|English    fra -|African French|French   atw -|Akuapem Twi|Akuapem Twi  twi Twi|Twi|Asante Twi        fat Fante|Fante|Fante
ewe Ewe|Ewe|Ewe                        gaa Ga|Ga|Ga                  ada -|Dangme|Dangme            dag Dagbani|Dagbani|Dagbani   dga -|Dagaare|Dagaare
gur Gurene|Gurune|Gurune               kus Kusaal|Kusaal|Kusaal      maw -|Mampruli|Mampruli        wlx -|Wali|Wali               bwu -|Buli|-
xsm -|Kasem|Kasem                      gjn -|Gonja|Gonja             xon_likoonli -|Konkomba, Likoonli|-                          nzi -|Nzema|Nzema
xon_likpakpaanl -|Konkomba, Likpakpaanl|-                            lxn -|-|Konkomba, Likoonli     xon -|-|Konkomba, Likpakpaanl
hau -|Hausa|Hausa                      ibo -|Igbo|Igbo               yor Yoruba|Yoruba|Yoruba       pcm -|Naija Pidgin|Pidgin     kri -|Krio|Krio
men -|Mende|Mende                      tem -|Temne|Temne             wol -|Wolof|Wolof              swa -|Swahili|Swahili         kik Kikuyu|Kikuyu|Kikuyu
luo Luo|Luo|Luo                        mer Kimeru|Meru|Meru          kin -|Kinyarwanda|-            sna -|Shona|Shona
"""
NAMES = [(m[1], [n if n != "-" else None for n in m[2].split("|")]) for m in re.finditer(r"(\w+) (\S[^|]*\|[^|]*\|.*?)(?:  |\n)", LANGUAGES)]
OFFERED = [{code: names[service] for code, names in NAMES if names[service]} for service in range(3)]


def test_catalogues(api):
    translation, asr, tts = OFFERED
    assert [len(o) for o in OFFERED] == [12, 34, 32]
    wanted = {"/v1/languages": {"languages": translation}, "/v2/languages": {"languages": translation},
              "/asr/v3/languages": {"languages": [{"code": c, "name": n} for c, n in asr.items()]},
              "/tts/v1/languages": {"languages": {n: c for c, n in tts.items()}}, "/tts/v2/languages": {"languages": {n: c for c, n in tts.items()}},
              "/tts/v1/speakers": {"speakers": {"Multilingual": ["male_low", "male_high", "female"]}},
              "/tts/v2/speakers": {"speakers": {"Multilingual": ["male_low", "male_high", "female"]}}}
    for path, body in wanted.items():
        a = api.get(path)
        found = a.json
        if isinstance(found.get("languages"), list):
            found["languages"].sort(key=lambda e: e["code"])
            body["languages"].sort(key=lambda e: e["code"])
        assert (a.status, a.type, found) == (200, JSON, body), path
        assert (api.get(path, None).text, api.get(path, "0" * 32).text) == (MISSING, INVALID), path
        assert api.ask("GET", path, headers={"Ocp-Apim-Subscription-Key": KEY, "X-Stub": "status=418"}).status == 418, path
    assert api.calls("?limit=1")[0]["text"] == ""


def pair_of(code, spelled=None):
    return (spelled or code) + "-eng" if code != "eng" else (spelled or code) + "-twi"


def ask_language(api, service, code, spelled=None):
    if service == 0:
        return api.translate("x", pair_of(code, spelled))
    return api.transcribe(pcm(1), spelled or code) if service == 1 else api.synthesize("x", spelled or code)


def test_each_language_of_each_service(api, start):
    """Codes of today are taken in either mode, without a word; those of other services are not."""
    for server in (api, start("--codes", "strict")):
        for code, names in NAMES:
            for service in range(3):
                a = ask_language(server, service, code)
                if not names[service]:
                    assert a.detail[0] == ("UNSUPPORTED_LANGUAGE" if service else "UNSUPPORTED_LANGUAGE_CODE")
                else:
                    assert a.status == 200 and (service != 1 or a.json["warnings"] == []), (code, service)


SPEECH_LEGACY = {"tw": "twi", "ee": "ewe", "ha": "hau", "ig": "ibo", "ki": "kik", "sn": "sna", "sw": "swa", "yo": "yor"}
LEGACY = [{"en": "eng", "tw": "twi", "ee": "ewe", "yo": "yor", "ki": "kik"}, SPEECH_LEGACY, SPEECH_LEGACY]
REJECTED = {"en_gh": "eng", "mam": "maw", "wal": "wlx", "kas": "xsm", "gon": "gjn", "kon_k": "xon_likoonli", "kon_l": "xon_likpakpaanl", "pid": "pcm", "wo": "wol"}


def assert_names_the_new_code(a, service, code):
    assert a.detail == (("UNSUPPORTED_LANGUAGE", "language") if service else ("UNSUPPORTED_LANGUAGE_CODE", "language_pair"))
    assert a.json["error"]["details"][0]["message"] == f"Invalid language provided. Use '{code}' instead."


def test_older_codes(api, start):
    strict = start("--codes", "strict")
    for service in range(3):
        for old, code in LEGACY[service].items():
            a = ask_language(api, service, code, old)
            assert a.status == 200, (old, service)
            if service == 1:
                assert a.json["warnings"] == [f"Language code '{old}' is a legacy code. Please update to '{code}' (ISO 639-3)"]
            assert_names_the_new_code(ask_language(strict, service, code, old), service, code)
    for old, code in REJECTED.items():
        for server in (api, strict):
            assert_names_the_new_code(ask_language(server, 1, code, old), 1, code)
    assert strict.translate("x", "eng-tw").json["error"]["details"][0]["message"] == "Invalid language provided. Use 'twi' instead."
    for service, code in ((1, "en"), (2, "en"), (0, "ha")):
        assert ask_language(api, service, code).detail[0].startswith("UNSUPPORTED_LANGUAGE")


# --- The checks, in their order. ------------------------------------------------------------------------------------------


def test_keys(api, start):
    for path in (TRANSLATE, TRANSCRIBE, SYNTHESIZE):
        for key, body in ((None, MISSING), ("", MISSING), ("0" * 32, INVALID)):
            a = api.call(path, "not even JSON", key=key)
            assert (a.status, a.text, a.type) == (401, body, "application/json")
            assert re.fullmatch(r'AzureApiManagementKey realm="https://[^"]+",name="Ocp-Apim-Subscription-Key",type="header"', a.headers["WWW-Authenticate"])
    assert api.ask("POST", TRANSLATE + "?subscription-key=" + KEY, '{"in":"x","lang":"en-tw"}').json == "[tw] x"
    two = start("--key", "one", "--key", "two")
    assert [two.translate(key=k).status for k in ("one", "two", "three", KEY)] == [200, 200, 401, 401]
    # The key comes before what was asked to go wrong, and before validation.
    assert api.translate("stub(status=503)", "nothing", key=None).status == 401


@pytest.mark.parametrize("method, path", [("POST", "/"), ("POST", "/tts/v2/tts"), ("POST", "/v1/translate/"), ("GET", "/v1/translate"), ("PUT", "/tts/v1/tts"),
                                          ("POST", "//v1/translate"), ("GET", "/asr/v1/languages"), ("GET", "/asr/v2/languages"), ("POST", "/v1/languages"), ("POST", "/v3/translate"),
                                          ("POST", "/asr/v4/transcribe"), ("POST", "/tts/v3/synthesize"), ("GET", "/speakers"), ("GET", "/asr/v3/transcribe"), ("GET", "/nothing?x=1"), ("DELETE", "/" + "x" * 3000)])
def test_anything_else_is_not_found(api, method, path):
    a = api.ask(method, path, b"")
    assert (a.status, a.text, a.type) == (404, NOT_FOUND, "application/json")


@pytest.mark.parametrize("body, code, target", [
    ({"lang": "en-tw"}, "MISSING_TEXT", "in"),
    ({"in": "", "lang": "en-tw"}, "MISSING_TEXT", "in"),
    ({"in": 7, "lang": "en-tw"}, "MISSING_TEXT", "in"),
    ("not JSON", "MISSING_TEXT", "in"),
    ("", "MISSING_TEXT", "in"),
    ("[" * 5000, "MISSING_TEXT", "in"),
    ({"in": "x"}, "MISSING_LANGUAGE_PAIR", "language_pair"),
    ({"in": "x", "lang": ""}, "MISSING_LANGUAGE_PAIR", "language_pair"),
    ({"in": "x", "lang": "en-zz"}, "UNSUPPORTED_LANGUAGE_CODE", "language_pair"),
    ({"in": "x", "lang": "entw"}, "UNSUPPORTED_LANGUAGE_CODE", "language_pair"),
    ({"in": "x", "lang": "en-"}, "UNSUPPORTED_LANGUAGE_CODE", "language_pair"),
    ({"in": "x", "lang": "en-hau"}, "UNSUPPORTED_LANGUAGE_CODE", "language_pair"),  # speech only
    ({"in": "x", "lang": "EN-TW"}, "UNSUPPORTED_LANGUAGE_CODE", "language_pair"),
    ({"in": "x", "lang": "twi-ewe"}, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair"),
    ({"in": "x", "lang": "en-eng"}, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair"),
])
def test_what_translation_refuses(api, body, code, target):
    a = api.call(TRANSLATE, body)
    assert a.detail == (code, target)
    if code == "UNSUPPORTED_LANGUAGE_PAIR":
        assert a.json["error"]["details"][0]["message"] == f"Language combination {body['lang']} cannot be used"


def test_translation_counts_letters(api, start):
    assert api.translate("ɛ" * 1000).status == 200
    a = api.translate("ɛ" * 1001)
    assert a.detail == ("TEXT_TOO_LONG", "in") and a.json["error"]["details"][0]["message"] == E3["message"]
    assert api.translate("ɛ" * 1001, "en-zz").detail[0] == "UNSUPPORTED_LANGUAGE_CODE"
    older = start("--too-long", "e3")
    assert older.translate("ɛ" * 1000).status == 200
    a = older.translate("ɛ" * 1001)
    assert (a.status, a.type, a.json) == (400, JSON, E3)


@pytest.mark.parametrize("flags, limit", [((), 2000), (("--tts-limit", "7"), 7)])
def test_synthesis_counts_letters(start, flags, limit):
    api = start(*flags)
    for path in (SYNTHESIZE, "/tts/v2/synthesize"):
        assert api.call(path, {"text": "ɛ" * limit, "language": "twi"}).status == 200
        a = api.call(path, {"text": "ɛ" * (limit + 1), "language": "twi"})
        assert a.detail == ("TEXT_TOO_LONG", "text") and str(limit) in a.json["error"]["details"][0]["message"]


@pytest.mark.parametrize("audio, query, code, target", [
    (b"", "language=twi", "EMPTY_AUDIO", "audio"),
    (pcm(10), "", "UNSUPPORTED_LANGUAGE", "language"),
    (pcm(10), "language=", "UNSUPPORTED_LANGUAGE", "language"),
    (pcm(10), "language=wal", "UNSUPPORTED_LANGUAGE", "language"),
    (pcm(10), "language=lxn", "UNSUPPORTED_LANGUAGE", "language"),  # of synthesis only
    (pcm(10), "language=twi&timestamps=true", "INVALID_TIMESTAMPS", "timestamps"),
    (b"text", "language=twi&timestamps=x", "INVALID_TIMESTAMPS", "timestamps"),
    (b"text", "language=twi", "INVALID_AUDIO_FORMAT", "audio"),
    (b"RIFF\0\0\0\0AVI ", "language=twi", "INVALID_AUDIO_FORMAT", "audio"),
    (b"\0", "language=twi", "INVALID_AUDIO_FORMAT", "audio"),
])
def test_what_recognition_refuses(api, audio, query, code, target):
    assert api.call(f"{TRANSCRIBE}?{query}", audio).detail == (code, target)


@pytest.mark.parametrize("body, code, target", [
    ("not JSON", "INVALID_REQUEST", "body"),
    ("[]", "INVALID_REQUEST", "body"),
    ({"language": "twi"}, "EMPTY_TEXT", "text"),
    ({"text": "", "language": "twi"}, "EMPTY_TEXT", "text"),
    ({"text": "x"}, "MISSING_LANGUAGE", "language"),
    ({"text": "x", "language": "kin"}, "UNSUPPORTED_LANGUAGE", "language"),  # of recognition only
    ({"text": "x", "language": "xon_likoonli"}, "UNSUPPORTED_LANGUAGE", "language"),
    ({"text": "x", "language": "twi", "speaker_id": "robot"}, "INVALID_SPEAKER", "speaker_id"),
])
def test_what_synthesis_refuses(api, body, code, target):
    a = api.call(SYNTHESIZE, body)
    assert a.detail == (code, target)
    if code == "INVALID_SPEAKER":
        assert a.json["error"]["details"][0]["message"] == "Speaker 'robot' not found. Available speakers are ['male_low', 'male_high', 'female']"


def test_synthesis_ignores_what_it_does_not_know(api):
    for more in ({"speaker": "robot"}, {"speaker_id": "female"}, {"format": "mp3", "x": [1]}, {"format": "pdf", "stream": True}):
        for path in (SYNTHESIZE, "/tts/v1/synthesize"):  # v1 knows neither formats nor streams
            a = api.call(path, {"text": "x", "language": "lxn", **more})
            assert a.type == "audio/wav" and a.headers["Content-Length"] == str(len(a.body))


# --- Synthesis v2: formats and streams. -----------------------------------------------------------------------------------


def speak(api, text="Hello", **more):
    return api.synthesize(text, path="/tts/v2/synthesize", **more)


@pytest.mark.parametrize("format_", ["pdf", "WAV", "", 7, True, ["mp3"], None])
def test_formats_that_are_refused(api, format_):
    assert speak(api, format=format_).detail == ("INVALID_REQUEST", "format")
    assert speak(api, format=format_, speaker_id="robot").detail[0] == "INVALID_SPEAKER"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("format_, kind, begin", [("wav", "audio/wav", b"RIFF"), ("mp3", "audio/mpeg", b"ID3"), ("ogg", "audio/ogg", b"OggS")])
@pytest.mark.parametrize("text", ["a", "Me ho yɛ. 😀", "x" * 2000, "y" * (255 - 28), "TITLE=OpusTags TIT2 OggS"])
def test_formats(api, format_, kind, begin, stream, text):
    """The circle is closed in each of them."""
    a = speak(api, text, format=format_, stream=stream)
    assert (a.status, a.type, a.body[:len(begin)]) == (200, kind, begin)
    assert (a.headers["Content-Length"], a.headers["Transfer-Encoding"]) == ((None, "chunked") if stream else (str(len(a.body)), None))
    assert api.transcribe(a.body).json["text"] == text


def mp3_frames(body):
    """Walks an MP3 from its tag to its end by the lengths that it tells itself."""
    tag = sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(body[6:10]))
    at, n = 10 + tag, 0
    while at < len(body):
        assert body[at:at + 4] == b"\xff\xf3\x48\xc0"  # MPEG-2 layer III, 32 kbit/s, 16 kHz, mono
        at, n = at + 72 * 32000 // 16000, n + 1
    assert at == len(body)
    return n


def ogg_packets(body):
    """Walks the pages of an Ogg file, each with its checksum; (packets, time at the end in samples)."""
    packets, piece, number = [], b"", 0
    while body:
        mark, version, flags, granule, _, page, checksum, n = struct.unpack("<4sBBqIIIB", body[:27])
        assert (mark, version, page) == (b"OggS", 0, number)
        sizes = body[27:27 + n]
        end, crc = 27 + n + sum(sizes), 0
        for byte in body[:22] + bytes(4) + body[26:end]:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
        assert crc == checksum
        at = 27 + n
        for size in sizes:
            piece += body[at:at + size]
            at += size
            if size < 255:
                packets.append(piece)
                piece = b""
        body, number = body[end:], number + 1
        assert flags == (2 if number == 1 else 0 if body else 4)
    return packets, granule


@pytest.mark.parametrize("n", [1, 9, 255, 256, 900])
def test_formats_are_as_long_as_the_text(api, n):
    assert mp3_frames(speak(api, "x" * n, format="mp3").body) == -(-n * 20 // 36)
    packets, end = ogg_packets(speak(api, "x" * n, format="ogg").body)
    assert packets[0][:8] == b"OpusHead" and packets[1][:8] == b"OpusTags" and packets[1].endswith(b"TITLE=" + b"x" * n)
    assert packets[2:] == [b"\x08"] * n and end == n * 960


def test_a_stream_has_placeholders_for_sizes(api):
    """The samples reach to the end of the body, whatever the head says."""
    whole, body = speak(api, "Maakye").body, speak(api, "Maakye", stream=True).body
    largest = b"\xff" * 4
    assert body[4:8] == largest and body[46:50] == largest
    assert [name for name, _ in chunks(body[12:38])] == [b"fmt "]
    samples = body.index(b"data") + 8
    assert body[samples - 4:samples] == largest and body[samples:] == dict(chunks(whole[12:]))[b"data"]


@pytest.mark.parametrize("audio", [b"ID3\4\0\0\0\0\0\x0bTIT2\0\0\0\0\0\0\3", b"ID3\4\0\0\0\0\0\x0bTIT2\x7f\x7f\x7f\x7f\0\0\3a", b"OggS" + bytes(30) +
                                   b"OpusTags\x0e\0\0\0adwuma-stubapi\1\0\0\0", b"OggSOpusTags\x0e\0\0\0adwuma-stubapi\1\0\0\0\xff\xff\xff\xffTITLE=x",
                                   b"OggSOpusTags\x0e\0\0\0adwuma-stubapi\1\0\0\0\5\0\0\0TITLE=x"])
def test_cut_audio(api, audio):
    assert api.transcribe(audio).json["text"] == f"audio of {len(audio)} bytes"


# --- Directives: bodies. --------------------------------------------------------------------------------------------------

QUOTA = '{ "statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 00:10:00." }'
RATE = '{ "statusCode": 429, "message": "Rate limit is exceeded. Try again in 9 seconds." }'
INTERNAL = '{ "statusCode": 500, "message": "Internal server error", "activityId": "41d51993-e979-4d99-a8fd-eea93a3d0267" }'
SYSTEM = {"error": {"code": "SYSTEM_ERROR", "message": "An unexpected error occurred.", "details": []}}
E3 = {"type": "validation_error", "message": "Input text exceeds maximum length of 1000 characters"}
HTML = "text/html; charset=utf-8"

# directives; status, content type, and the body: all of it, a JSON value, or a pattern that it holds
BODIES = [
    ("status=401", 401, JSON, INVALID),
    ("status=403", 403, JSON, QUOTA),
    ("status=404", 404, JSON, NOT_FOUND),
    ("status=429", 429, JSON, RATE),
    ("status=500", 500, JSON, SYSTEM),
    ("status=500,body=e1", 500, JSON, SYSTEM),
    ("status=500,body=e2", 500, JSON, INTERNAL),
    ("status=400,body=e3", 400, JSON, E3),
    ("body=e3", 200, JSON, E3),
    ("status=403,body=stopped", 403, HTML, re.compile("<title>Web App - Unavailable</title>.*Error 403 - This web app is stopped.")),
    ("status=503,body=challenge", 503, HTML, re.compile("<title>Just a moment...</title>")),
    ("status=502", 502, HTML, re.compile("<title>.+</title>")),
    ("status=504,body=text", 504, "text/plain", "upstream connect error"),
    ("status=413,body=empty", 413, None, ""),
    ("status=200,body=empty", 200, None, ""),
    ("status=204,body=empty", 204, None, ""),
    ("status=302,body=empty", 302, None, ""),
    ("status=200,body=e1", 200, JSON, SYSTEM),
    ("body=json", 200, JSON, {"unexpected": [1, 2, 3]}),
    ("not_audio", 200, JSON, {"unexpected": [1, 2, 3]}),
    ("html200", 200, HTML, re.compile("<html")),
    ("status=503,body=json", 503, JSON, {"unexpected": [1, 2, 3]}),
    ("status=204", 204, None, ""),
    ("status=302", 302, None, ""),
    ("status=405", 405, JSON, '{ "statusCode": 405, "message": "Method Not Allowed" }'),
    ("status=405,body=html", 405, HTML, re.compile("<title>Method Not Allowed</title>")),
    ("status=413", 413, HTML, re.compile("<title>Request Entity Too Large</title>")),
    ("status=502,body=e2", 502, JSON, INTERNAL.replace("500", "502")),
    ("status=418", 418, JSON, INTERNAL.replace("500", "418")),
    ("stopped", 403, HTML, re.compile("<title>Web App - Unavailable</title>.*Error 403 - This web app is stopped.")),
    ("challenge", 403, HTML, re.compile("<title>Just a moment...</title>")),
    ("challenge,status=503", 503, HTML, re.compile("<title>Just a moment...</title>")),
    ("e1_200", 200, JSON, SYSTEM),
    ("html200,type=audio/wav", 200, "audio/wav", re.compile("<html")),
    ("html200,type=", 200, None, re.compile("<html")),
]


@pytest.mark.parametrize("path", [TRANSLATE, TRANSCRIBE, SYNTHESIZE])
def test_each_body(api, path):
    for directives, status, kind, body in BODIES:
        a = api.call(path, "", X_Stub=directives)
        assert (a.status, a.type, int(a.headers["Content-Length"] or 0)) == (status, kind, len(a.body)), directives
        if isinstance(body, re.Pattern):
            assert body.search(a.text), directives
        else:
            assert (a.json if isinstance(body, dict) else a.text) == body, directives
    a = api.call(path, "", X_Stub="broken_json")
    assert a.status == 200 and a.type == JSON and a.text.startswith("{")
    with pytest.raises(ValueError):
        a.json
    a = api.call(path, "", X_Stub="status=400")
    assert a.detail == ("UNSUPPORTED_LANGUAGE_PAIR", "language_pair")


# directives; status, words of the message, Retry-After
LIMITS = [
    ("quota=600", 403, "Out of call volume quota. Quota will be replenished in 00:10:00.", "600"),
    ("quota=1235636", 403, "Out of call volume quota. Quota will be replenished in 14.07:13:56.", "1235636"),
    ("quota=0", 403, "Out of call volume quota. Quota will be replenished in 00:00:00.", "0"),
    ("quota=86399", 403, "Out of call volume quota. Quota will be replenished in 23:59:59.", "86399"),
    ("quota_days=183168", 403, "Out of call volume quota. Quota will be replenished in 2.12 days.", None),
    ("bandwidth=86400", 403, "Out of bandwidth quota. Quota will be replenished in 1.00:00:00.", "86400"),
    ("rate=9", 429, "Rate limit is exceeded. Try again in 9 seconds.", "9"),
    ("rate=9,retry_after=5", 429, "Rate limit is exceeded. Try again in 9 seconds.", "5"),
]


def test_limits(api):
    for directives, status, message, retry_after in LIMITS:
        a = api.translate(X_Stub=directives)
        assert (a.status, a.type, a.headers["Retry-After"]) == (status, JSON, retry_after), directives
        assert a.text == f'{{ "statusCode": {status}, "message": "{message}" }}'


def test_a_detail_of_choice(api):
    a = api.transcribe(pcm(1), X_Stub="detail=UNSUPPORTED_TIMESTAMPS")
    assert a.detail == ("UNSUPPORTED_TIMESTAMPS", "")
    assert api.translate(X_Stub="detail=X,status=422").status == 422


def test_headers_of_choice(api):
    a = api.translate(X_Stub="status=503,retry_after=5,retry_after=7")
    assert a.headers.get_all("Retry-After") == ["5", "7"]
    a = api.translate(X_Stub="status=302,location=/elsewhere?a=b")
    assert (a.status, a.headers["Location"], a.body) == (302, "/elsewhere?a=b", b"")
    a = api.translate(X_Stub="encoding=gzip")
    assert (a.headers["Content-Encoding"], a.json) == ("gzip", "[tw] Hello")  # which it is not
    assert api.translate(X_Stub="status=401").headers["WWW-Authenticate"].startswith("AzureApiManagementKey ")
    a = api.synthesize("x", X_Stub="type=")
    assert a.type is None and a.body.startswith(b"RIFF")
    a = api.synthesize("x", X_Stub="type=Audio/WAV")
    assert a.headers.get_all("Content-Type") == ["Audio/WAV"] and a.body.startswith(b"RIFF")


@pytest.mark.parametrize("directive, raw", [
    ("escaped", rb'"[tw] \u0190te s\u025bn? \ud83d\ude00 \"a\""'), ("nul", '"[tw] Ɛte sɛn? 😀 \\"a\\"\\u0000"'.encode()),
    ("surrogates", '"[tw] Ɛte sɛn? 😀 \\"a\\"\\ud83d\\ude00"'.encode()), ("lone_surrogate", '"[tw] Ɛte sɛn? 😀 \\"a\\"\\ud83d"'.encode()),
    ("not_utf8", '"[tw] Ɛte sɛn? 😀 \\"a\\"'.encode() + b'\xff"'), ("bom", b"\xef\xbb\xbf" + '"[tw] Ɛte sɛn? 😀 \\"a\\""'.encode()),
    ("escaped,nul", rb'"[tw] \u0190te s\u025bn? \ud83d\ude00 \"a\"\u0000"'), ("escaped,not_utf8", rb'"[tw] \u0190te s\u025bn? \ud83d\ude00 \"a\"' + b'\xff"'),
])
def test_odd_json(api, directive, raw):
    text = 'Ɛte sɛn? 😀 "a"'
    a = api.translate(text, X_Stub=directive)
    assert (a.status, a.type, a.body) == (200, JSON, raw)
    audio = api.synthesize(text, X_Stub="escaped,nul").body
    assert audio == api.synthesize(text).body  # they are of JSON alone
    for version, around in (("v1", b"%s"), ("v3", b'{"text":%s,"warnings":[]}')):
        wanted = raw.replace(b"[tw] ", b"")
        wanted = b"\xef\xbb\xbf" + around % wanted[3:] if directive == "bom" else around % wanted
        assert api.call(transcribe_path(version, language="twi"), audio, X_Stub=directive).body == wanted


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 200000])
def test_gzip(api, size):
    body = os.urandom(size)
    api.fault(given(body, "gzip"))
    a = api.translate()
    assert a.headers["Content-Encoding"] == "gzip" and gzip.decompress(a.body) == body
    api.fault("gzip,escaped")
    assert json.loads(gzip.decompress(api.translate("ɛ").body)) == "[tw] ɛ"


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 100000])
def test_sizes_in_a_wav(api, size):
    whole = api.synthesize("Maakye").body
    for ask in (api.synthesize, lambda *a, **k: speak(api, *a, stream=True, **k)):
        body = ask("Maakye", X_Stub=f"wav_size={size}").body
        samples = body.index(b"data") + 8
        assert [struct.unpack("<I", body[at:at + 4])[0] for at in (4, 46, samples - 4)] == [size] * 3
        assert body[samples:] == dict(chunks(whole[12:]))[b"data"]


@pytest.mark.parametrize("value", ["9", "1.5", "0", "-3", "86400", "1e400", "nan", "soon", "", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_is_given_as_it_is(api, value):
    for directives in (f"status=503,retry_after={value}", f"retry_after={value},status=503"):
        a = api.translate(X_Stub=directives)
        assert (a.status, (a.headers["Retry-After"] or "").strip()) == (503, value)
    assert api.translate(X_Stub="status=503").headers["Retry-After"] is None


def given(body, *more):
    return ",".join(["body64=" + base64.b64encode(body).decode(), *more])


@pytest.mark.parametrize("body", [b"x", b'{"error":{"code":"A,B)","message":"m"}}', bytes(range(256)), "\u0190te s\u025bn?".encode(), b""])
def test_a_given_body_arrives_as_it_is(api, body):
    """In every place where directives are taken, under the status and the type that are given with it."""
    list_ = given(body, "status=418", "type=text/x-given; charset=utf-8")
    audio = api.synthesize("x").body
    assert api.fault(list_).status == 200
    everywhere = [api.translate(), api.transcribe(audio), api.synthesize()]
    assert api.fault(b"").status == 200 and api.translate().status == 200
    for a in (*everywhere, api.translate(f"x stub({list_})"), api.synthesize(f"stub({list_}) x"), api.translate("x", f"en-tw stub({list_})"),
              api.transcribe(audio, f"twi stub({list_})"), api.translate(X_Stub=list_)):
        assert (a.status, a.type, a.body) == (418, "text/x-given; charset=utf-8", body)
    a = api.translate(X_Stub=given(body))
    assert (a.status, a.type, a.body) == (200, None, body)


def test_a_given_body_by_flag_and_of_any_size(start):
    assert start("--fault", given(b"by flag", "status=503")).translate().body == b"by flag"
    api, large = start(), os.urandom(1 << 20)
    assert api.fault(given(large)).status == 200
    assert api.translate().body == large


def test_a_type_goes_with_any_body(api):
    for list_, body in (("type=a/b", b'"[tw] Hello"'), ("status=504,body=text,type=a/b", b"upstream connect error")):
        a = api.translate(X_Stub=list_)
        assert (a.headers.get_all("Content-Type"), a.body) == (["a/b"], body)


@pytest.mark.parametrize("value", ["=x", "=eA", "=e A=", "=eA=\t", "=====", "=eA==e", "", "=eA-_"])
def test_what_is_no_base64_is_told(api, value):
    assert api.fault("status=503,body64" + value).status == 400
    assert api.translate(X_Stub="body64" + value).status == 400 and api.translate().status == 200


# --- Directives at the wire. ----------------------------------------------------------------------------------------------


def test_reset(api):
    """The very first thing a client sees is the reset, not an orderly end."""
    s = api.raw(header="reset")
    with pytest.raises(ConnectionResetError):
        s.recv(1)
    s.close()


def test_close(api):
    """The whole request is read first, then comes an orderly end and not one byte."""
    whole = request_bytes(header="close")
    s = socket.create_connection(("127.0.0.1", api.port))
    s.sendall(whole[:-5])
    s.settimeout(0.2)
    with pytest.raises(TimeoutError):
        s.recv(1)
    s.settimeout(20 * SLOW)
    s.sendall(whole[-5:])
    assert read_all(s) == []


@pytest.mark.parametrize("text", ["Hello", "x", "y" * 900])
def test_truncate(api, text):
    got = b"".join(piece for _, piece in read_all(api.raw(text, header="truncate")))
    head, _, body = got.partition(b"\r\n\r\n")
    announced = int(re.search(rb"Content-Length: (\d+)", head)[1])
    right = json.dumps("[tw] " + text).encode()
    assert head.startswith(b"HTTP/1.1 200 ") and announced == len(right) and 0 < len(body) < announced and right.startswith(body)


def test_truncated_speech(api):
    with pytest.raises(http.client.IncompleteRead) as cut:
        api.synthesize("stub(truncate)" + "x" * 500)
    assert len(cut.value.partial) > 100000 and cut.value.expected > 100000


def test_leave(api):
    """The whole answer, which says nothing of an end, and the end."""
    for text in ("Hello", "y" * 900):
        got = b"".join(piece for _, piece in read_all(api.raw(text, header="leave")))
        head, _, body = got.partition(b"\r\n\r\n")
        assert json.loads(body) == "[tw] " + text and int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)
        assert b"connection" not in head.lower()


def test_a_close_that_is_announced(api):
    got = b"".join(piece for _, piece in read_all(api.raw(header="connection=close")))
    assert got.endswith(b'\r\n\r\n"[tw] Hello"') and b"\r\nConnection: close\r\n" in got


def test_chunked(api):
    a = api.translate("ɛ" * 900, X_Stub="chunked")
    assert (a.headers["Transfer-Encoding"], a.headers["Content-Length"], a.json) == ("chunked", None, "[tw] " + "ɛ" * 900)
    assert api.translate(X_Stub="chunked,dribble=1").json == "[tw] Hello"
    assert api.translate(X_Stub="chunked,body_delay=1").json == "[tw] Hello"
    a = api.translate(X_Stub="chunked,status=503,body=empty")
    assert (a.status, a.body) == (503, b"")
    with pytest.raises(http.client.IncompleteRead) as cut:
        api.translate("y" * 900, X_Stub="chunked,truncate")
    assert 0 < len(cut.value.partial) < 900


def test_delay(api):
    began = time.monotonic()
    pieces, body = read_answer(api.raw(header="delay=300"))
    assert pieces[0][0] - began >= 0.3 and body == b'"[tw] Hello"'


def test_body_delay(api):
    """Head and half of the body at once, the rest later."""
    pieces, body = read_answer(api.raw(header="body_delay=400"))
    assert body == b'"[tw] Hello"'
    gaps = [b[0] - a[0] for a, b in zip(pieces, pieces[1:])]
    widest = gaps.index(max(gaps))
    assert gaps[widest] >= 0.35
    before = b"".join(p for _, p in pieces[:widest + 1]).partition(b"\r\n\r\n")[2]
    assert 0 < len(before) < len(body)


def test_dribble(api):
    pieces, body = read_answer(api.raw(header="dribble=20"))
    assert body == b'"[tw] Hello"'
    assert pieces[-1][0] - pieces[0][0] >= 0.02 * (len(body) - 1)  # the head comes at once
    if SLOW == 1:
        assert len(pieces) > len(body) // 2  # a busy machine may put some together, never all


def test_hang(api):
    s = api.raw(header="hang")
    s.settimeout(1.2)
    with pytest.raises(TimeoutError):
        s.recv(1)
    assert api.translate("meanwhile").status == 200
    assert api.stats()["active"] == 1
    s.close()
    until(lambda: api.stats()["active"] == 0, 5, "the stub noticed that the client went")


def test_stop_ends_what_hangs_and_waits(start):
    api = start()
    sockets = [api.raw(header=h) for h in ["hang", "delay=600000", "dribble=600000", "body_delay=600000"] * 25]
    until(lambda: api.stats()["active"] == 100)
    began = time.monotonic()
    api.stop()
    assert time.monotonic() - began < 5 * SLOW
    for s in sockets:
        try:
            got = b"".join(p for _, p in read_all(s))
        except ConnectionResetError:
            got = b""
        assert b"Hello" not in got  # a wait that is cut short brings no answer


def test_a_fault_can_be_late(api):
    for fault, ends in (("reset", ConnectionResetError), ("close", None)):
        began = time.monotonic()
        s = api.raw(header=fault + ",delay=200")
        if ends:
            with pytest.raises(ends):
                s.recv(1)
            s.close()
        else:
            assert read_all(s) == []
        assert time.monotonic() - began >= 0.2


# --- Directives: where they are given. ------------------------------------------------------------------------------------


def test_in_the_text(api):
    assert api.translate("before stub(status=418) after").status == 418
    assert api.synthesize("x stub(status=418)").status == 418
    assert api.translate("nothing (status=418)").status == 200
    for text in ("stub()", "stub(", "stub(status=banana)", "stub(what)", "call stub(3) here", "stub(status=99)"):
        assert api.translate(text).json == "[tw] " + text  # a text like any other


def test_in_the_language(api):
    assert api.translate("x", "en-tw stub(status=418)").status == 418
    assert api.translate("x", "en-tw stub(delay=1)").json == "[tw] x"
    a = api.translate("x", "stub(type=a/b,retry_after=7,nul)en-tw")  # what comes behind it does not get into its values
    assert (a.status, a.type, a.headers["Retry-After"], a.json) == (200, "a/b", "7", "[tw] x\0")
    assert api.synthesize("x", "twi stub(status=418)").status == 418
    audio = api.synthesize("x", "twi stub(delay=1)")
    assert audio.type == "audio/wav"
    assert api.transcribe(audio.body, "twi stub(status=418)").status == 418
    assert api.transcribe(audio.body, "twi stub(delay=1)").json == {"text": "x", "warnings": []}
    assert api.translate("x", "stub(status=200,body=e3)").json == E3  # nothing is left of it, and the directive comes first
    assert api.translate("x", "stub(delay=1)").detail[0] == "MISSING_LANGUAGE_PAIR"


def test_in_the_audio(api):
    audio = api.synthesize("carried stub(status=418,times=2)", "twi stub(delay=1)")
    assert audio.status == 418  # once for synthesis ...
    audio = api.synthesize("carried stub(delay=1,status=418,times=1)")
    audio = api.synthesize("carried stub(delay=1,status=418,times=1)")
    assert audio.type == "audio/wav"
    assert api.transcribe(audio.body).json["text"] == "carried stub(delay=1,status=418,times=1)"  # ... and over for recognition
    made = api.synthesize("stub(body=e3,times=1) ").status, api.synthesize("stub(body=e3,times=1) ")
    assert api.ask("DELETE", "/_stub/calls").status == 200  # forgets what it has seen
    assert made[0] == 200 and api.transcribe(made[1].body).json == E3


def test_everywhere(api, start):
    assert api.fault("status=418").status == 200
    assert [api.translate().status, api.synthesize().status, api.transcribe(pcm(1)).status] == [418] * 3
    assert api.stats()["statuses"] == {"418": 3}  # control is never struck
    assert api.fault("").status == 200
    assert api.translate().status == 200
    assert start("--fault", "status=418,retry_after=7").translate().headers["Retry-After"] == "7"


def test_the_nearest_counts(api):
    api.fault("status=501")
    assert api.translate().status == 501
    assert api.translate(X_Stub="status=502").status == 502
    assert api.translate("x", "en-tw stub(status=503)", X_Stub="status=502").status == 503
    assert api.translate("stub(status=504)", "en-tw stub(status=503)", X_Stub="status=502").status == 504
    # One whose times are over gives way to the next.
    answers = [api.translate("stub(status=504,times=1)", X_Stub="status=502,times=2").status for _ in range(4)]
    assert answers == [504, 502, 501, 501]


def test_delay_of_every_answer(start):
    api = start("--delay", "250")

    def took(**more):
        began = time.monotonic()
        api.translate(**more)
        return time.monotonic() - began

    assert took() >= 0.25
    assert took(text="stub(status=500)") >= 0.25  # with faults too
    api.fault("")
    assert took() >= 0.25
    assert took(text="stub(delay=1)") < 0.25 * SLOW  # a call may say otherwise


def test_times(api):
    def statuses(ask, n=4):
        return [ask().status for _ in range(n)]

    assert statuses(lambda: api.translate("a stub(status=500,times=2)")) == [500, 500, 200, 200]
    assert statuses(lambda: api.translate("b stub(status=500,times=2)")) == [500, 500, 200, 200]  # each text for itself
    assert statuses(lambda: api.translate("c", "en-tw stub(status=500,times=3)")) == [500, 500, 500, 200]
    assert statuses(lambda: api.translate("d", "en-tw stub(status=500,times=3)")) == [200] * 4  # the same language
    assert statuses(lambda: api.translate("e", X_Stub="status=500,times=1")) == [500, 200, 200, 200]
    assert statuses(lambda: api.translate("f", X_Stub="times=1,status=500")) == [500, 200, 200, 200]
    assert [api.translate(text, X_Stub="status=500,times=2").status for text in "ghi"] == [500, 500, 200]  # the same header
    for _ in range(2):  # each order counts anew
        api.fault("status=500,times=2")
        assert statuses(api.translate) == [500, 500, 200, 200]


def test_after(api):
    def statuses(directives, n=5):
        return [api.translate(X_Stub=directives).status for _ in range(n)]

    assert statuses("status=500,after=3") == [200, 200, 200, 500, 500]
    assert statuses("status=500,after=1,times=2") == [200, 500, 500, 200, 200]
    api.fault("quota=600,after=2")  # a quota of two calls
    assert [api.translate(str(i)).status for i in range(4)] == [200, 200, 403, 403]


def test_rules_in_a_row(api):
    """A sequence of different faults; each rule counts only the calls that the rules before it let pass."""
    def statuses(n=5):
        return [api.translate(f"{i}").status for i in range(n)]

    api.fault("status=500,times=2,then,status=429,times=1,then,status=503,after=1,times=1")
    assert statuses() == [500, 500, 429, 200, 503] and statuses(1) == [200]
    assert [api.translate("a stub(status=500,times=1,then,status=429,times=1)").status for _ in range(3)] == [500, 429, 200]
    assert [api.translate(X_Stub="status=500,times=1, then, status=429").status for _ in range(3)] == [500, 429, 429]
    api.fault(",then,".join(f"status={500 + i},times=1" for i in range(8)))
    assert statuses(9) == [500, 501, 502, 503, 504, 505, 506, 507, 200]
    assert api.fault(",then,".join(["status=500"] * 9)).status == 400


def test_one_piece_of_a_text(api):
    """The third piece fails twice and then succeeds; the others know of nothing."""
    api.fault("status=503,word=third piece,times=2")
    pieces = ["The first piece.", "The second piece.", "The third piece."]
    assert [[api.translate(p).status for p in pieces] for _ in range(4)] == [[200, 200, 503]] * 2 + [[200] * 3] * 2
    audio = api.synthesize(pieces[1]).body
    api.fault("status=503,word=second")
    assert api.transcribe(audio).status == 503 and api.synthesize(pieces[1]).status == 503 and api.synthesize(pieces[0]).status == 200


def test_each_piece_of_a_text(api):
    for _ in range(2):  # each order counts anew
        api.fault("status=503,times=1,each")
        assert [[api.translate(t).status for t in "abc"] for _ in range(2)] == [[503] * 3, [200] * 3]
    api.fault("")
    found = [[api.translate(t, X_Stub="status=502,times=2,each").status for t in "ab"] for _ in range(3)]
    assert found == [[502] * 2, [502] * 2, [200] * 2]
    found = [[api.translate(t, "en-tw stub(status=504,times=1,each)").status for t in "ab"] for _ in range(2)]
    assert found == [[504] * 2, [200] * 2]


def test_one_route(api):
    api.fault("status=503,path=/tts/,times=1,then,status=502,path=/asr/v3")
    assert [api.translate().status, api.synthesize().status, api.synthesize().status, api.transcribe(pcm(1)).status] == [200, 503, 200, 502]
    assert api.call(transcribe_path("v2", language="twi"), pcm(1)).status == 200


def test_reused_connections_only(api):
    """What a client meets whose connection was closed while it was idle: the first call is answered, the second is not."""
    api.fault("close,reused")
    assert api.translate().status == api.translate().status == 200  # a connection each
    one = socket.create_connection(("127.0.0.1", api.port))
    one.settimeout(20 * SLOW)
    one.sendall(request_bytes())
    got = b""
    while not got.endswith(b'"[tw] Hello"'):
        got += one.recv(4096)
    one.sendall(request_bytes())
    assert read_all(one) == []


def test_times_for_many_inputs(api):
    """More inputs than any table begins with; none is forgotten."""
    def statuses(n):
        s = socket.create_connection(("127.0.0.1", api.port))
        s.settimeout(20 * SLOW)
        found = []
        for first in range(0, n, 100):
            s.sendall(b"".join(request_bytes(f"{i} stub(body=e3,status=418,times=1)") for i in range(first, first + 100)))
            got = b""
            while len(found) < first + 100:
                got += s.recv(1 << 20)
                ends = [m.end() for m in re.finditer(rb"HTTP/1.1 (\d+) ", got)]
                found += [int(x) for x in re.findall(rb"HTTP/1.1 (\d+) ", got)]
                got = got[ends[-1]:] if ends else got
        s.close()
        return set(found)

    assert statuses(5000) == {418}
    assert statuses(5000) == {200}


@pytest.mark.parametrize("directives", ["nonsense", "status", "status=banana", "status=99", "status=600", "body=", "body=pdf", "delay=", "delay=-1", "delay=1s",
                                        "delay=99999999999", "dribble=99999999999999999999", "hang=1", "html200=1", "status=503,oops,times=1", "=5",
                                        "retry_after=" + "x" * 200, "type=" + "x" * 128, ",".join(["retry_after=1"] * 5), "word=", "path=", "word", "quota=", "quota=soon",
                                        "quota", "rate=-1", "wav_size=4294967296", "gzip=1", "nul=", "then=1", "times=", "body64", "detail="])
def test_what_is_not_understood_is_told(api, directives):
    assert api.fault(directives).status == 400
    assert api.translate().json == "[tw] Hello"
    a = api.translate(X_Stub=directives)
    assert a.status == 400 and "not understood" in a.text
    ended = subprocess.run([PROGRAM, "--fault", directives], capture_output=True, text=True, timeout=20 * SLOW, check=False)
    assert ended.returncode == 2 and ended.stdout == "" and "--fault" in ended.stderr


# --- What it tells. -------------------------------------------------------------------------------------------------------


def test_calls(api):
    before = int(time.time() * 1000)
    api.translate("Ɛte sɛn?", traceparent="00-1-2-03", User_Agent="tester/1", Content_Type="application/json")
    audio = api.synthesize("Hi").body
    api.transcribe(audio, "tw", "word")
    api.ask("POST", f"{TRANSLATE}?subscription-key={KEY}&x=a%20b%26c", '{"in":"x","lang":"en-tw"}')
    api.translate(key=None)
    api.ask("GET", "/nowhere")
    listed = api.ask("GET", "/_stub/calls")
    assert listed.status == 200 and listed.type == JSON and KEY not in listed.text
    calls = listed.json
    assert [c["seq"] for c in calls] == [1, 2, 3, 4, 5, 6]
    assert [c["status"] for c in calls] == [200, 200, 200, 200, 401, 404]
    assert [(c["method"], c["path"]) for c in calls] == [("POST", TRANSLATE), ("POST", SYNTHESIZE), ("POST", TRANSCRIBE), ("POST", TRANSLATE), ("POST", TRANSLATE),
                                                         ("GET", "/nowhere")]
    assert [c["text"] for c in calls] == ["Ɛte sɛn?", "Hi", "Hi", "x", "", ""]
    assert [c["query"] for c in calls] == ["", "", "language=tw&timestamps=word", "subscription-key=***&x=a b&c", "", ""]
    assert all(before <= c["arrived_ms"] <= time.time() * 1000 + 1 for c in calls)
    assert calls[2]["body_bytes"] == len(audio) and calls[2]["body_sha256"] == hashlib.sha256(audio).hexdigest()
    assert calls[2]["content_type"] == "audio/wav" and calls[5]["body_sha256"] == hashlib.sha256(b"").hexdigest()
    first = calls[0]["headers"]
    assert first["Ocp-Apim-Subscription-Key"] == "***" and first["User-Agent"] == "tester/1" and first["traceparent"] == "00-1-2-03"
    assert first["Content-Length"] == str(calls[0]["body_bytes"]) and calls[0]["traceparent"] == "00-1-2-03"
    assert "Ocp-Apim-Subscription-Key" not in calls[4]["headers"]


def test_what_was_asked_is_listed(api):
    """Both fields for the voice, of which the service knows one, and no field that was not sent."""
    speak(api, "a", speaker="robot", speaker_id="female", format="mp3", stream=True)
    api.synthesize("b", "ewe stub(delay=1)", speaker="male_low")
    api.synthesize("c", "twi stub(status=418)", speaker_id="robot")
    api.transcribe(pcm(1), "xon_likoonli", "segment")
    api.call("/v2/translate", {"in": "e", "lang": "en-tw", "speaker": "no"})
    api.get("/tts/v2/speakers")
    fields = ("path", "query", "content_type", "language", "speaker", "speaker_id", "format", "stream")
    assert [{f: c[f] for f in fields if f in c and c[f] != ""} for c in api.calls()] == [
        {"path": "/tts/v2/synthesize", "language": "twi", "speaker": "robot", "speaker_id": "female", "format": "mp3", "stream": True},
        {"path": SYNTHESIZE, "language": "ewe", "speaker": "male_low"},
        {"path": SYNTHESIZE, "language": "twi", "speaker_id": "robot"},
        {"path": TRANSCRIBE, "query": "language=xon_likoonli&timestamps=segment", "content_type": "audio/wav", "language": "xon_likoonli"},
        {"path": "/v2/translate", "language": "en-tw"},
        {"path": "/tts/v2/speakers"},
    ]


def test_connections_are_told_apart(api):
    api.translate()  # number 1, and each of the others one of its own
    s = socket.create_connection(("127.0.0.1", api.port))
    s.settimeout(20 * SLOW)
    for _ in range(2):
        s.sendall(request_bytes())
        got = b""
        while not got.endswith(b'"[tw] Hello"'):
            got += s.recv(4096)
    api.translate()
    s.close()
    assert [c["connection"] for c in api.calls()] == [1, 2, 2, 3]


def test_calls_without_an_answer_have_no_status(api):
    for fault in ("close", "reset"):
        with pytest.raises(OSError):
            api.translate(X_Stub=fault)
    s = api.raw(header="hang")
    until(lambda: len(api.calls()) == 3)
    s.close()
    assert [c["status"] for c in api.calls()] == [0, 0, 0]
    assert api.stats()["statuses"] == {"0": 3}


def test_long_text_is_listed_whole(start):
    api = start("--tts-limit", "6000")
    api.translate("😀" * 1000)
    api.synthesize("x" + "ɛ" * 5000)
    api.synthesize("xxx" + "😀" * 5000)
    # Cut at 4,096 bytes, and never within a letter.
    assert [c["text"] for c in api.calls()] == ["😀" * 1000, "x" + "ɛ" * 2047, "xxx" + "😀" * 1023]


def test_part_of_the_calls(api):
    for i in range(5):
        api.translate(str(i))

    def listed(query):
        return [c["text"] for c in api.calls(query)]

    assert listed("?since=3") == ["3", "4"]
    assert listed("?limit=2") == ["0", "1"]
    assert listed("?since=1&limit=2") == ["1", "2"]
    assert listed("?since=5") == listed("?since=9223372036854775807") == listed("?limit=0") == []
    assert listed("?since=-7") == listed("?since=") == list("01234")
    assert api.ask("DELETE", "/_stub/calls").status == 200
    assert api.calls() == [] and api.stats() == {"calls": 0, "routes": {}, "statuses": {}, "active": 0, "max_active": 0, "gone": 0}
    api.translate("anew")
    assert [(c["seq"], c["text"]) for c in api.calls()] == [(1, "anew")]


def pour(api, n, batch=500, text="x", mark=b'"[tw] x"'):
    """n calls on one connection, without looking at the answers but for their number: each holds the mark once."""
    s = socket.create_connection(("127.0.0.1", api.port))
    s.settimeout(30 * SLOW)
    one = request_bytes(text)
    for _ in range(n // batch):
        s.sendall(one * batch)
        got = b""
        while got.count(mark) < batch:
            piece = s.recv(1 << 20)
            assert piece
            got += piece
    s.close()


def test_the_ring_keeps_the_last_calls_and_counts_all(api):
    pour(api, 66000)
    assert api.stats()["calls"] == 66000
    kept = api.calls("?limit=1")[0]["seq"]
    assert 66000 - 65536 <= kept <= 66000 - 65536 + 1
    assert [c["seq"] for c in api.calls("?since=65997")] == [65998, 65999, 66000]


def test_the_ring_is_bounded_in_bytes_too(api):
    pour(api, 18000, 100, "x" * 4096, b"VALIDATION_FAILED")
    assert api.stats()["calls"] == 18000
    kept = 18001 - api.calls("?limit=1")[0]["seq"]
    assert (32 << 20) / 4096 < kept <= (64 << 20) / 4096 < 18000


def test_it_takes_all_the_files_it_may(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        api = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with open(f"/proc/{api.process.pid}/limits", encoding="ascii") as f:
        assert re.search(r"Max open files +(\d+)", f.read())[1] == str(hard)


def test_stats(api):
    for _ in range(3):
        api.translate()
    api.translate(X_Stub="status=503")
    api.synthesize()
    api.ask("GET", "/nowhere")
    assert api.stats() == {"calls": 6, "routes": {TRANSLATE: 4, SYNTHESIZE: 1, "/nowhere": 1}, "statuses": {"200": 4, "404": 1, "503": 1},
                           "active": 0, "max_active": 1, "gone": 0}


def test_no_record(start):
    api = start("--no-record")
    api.translate()
    assert api.calls() == [] and api.stats()["calls"] == 1 and api.stats()["statuses"] == {"200": 1}
    assert api.ask("DELETE", "/_stub/calls").status == 200 and api.stats()["calls"] == 0


def test_unknown_control_requests(api):
    for method, path in (("GET", "/_stub/"), ("POST", "/_stub/calls"), ("GET", "/_stub/fault"), ("PUT", "/_stub/stats")):
        assert api.ask(method, path, b"").status == 404
    assert api.stats()["calls"] == 0


# --- HTTPS. ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two certificates that stand for themselves, with their keys."""
    folder = tmp_path_factory.mktemp("tls")
    for name in "ab":
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=stub", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"], check=True, capture_output=True)
    return str(folder)


@pytest.fixture
def secure(start, certificates):
    return start("--tls-cert", certificates + "/a.pem", "--tls-key", certificates + "/a.key")


def test_https(secure, certificates):
    audio = secure.synthesize("Me ho yɛ.").body
    assert secure.transcribe(audio).json["text"] == "Me ho yɛ." and secure.translate().json == "[tw] Hello"
    assert secure.synthesize("x" * 1000).body == secure.synthesize("x" * 1000, X_Stub="chunked").body  # more than a record of TLS
    assert secure.get("/v1/languages").status == 200 and secure.calls()[0]["text"] == "Me ho yɛ."
    secure.tls = ssl.create_default_context(cafile=certificates + "/b.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.translate()
    secure.tls = None
    with pytest.raises((http.client.HTTPException, OSError)):
        secure.translate()  # no HTTP on that port


def test_faults_over_https(secure):
    beneath = socket.socket(fileno=secure.raw(header="reset").detach())  # of TLS, which would tell of an end
    beneath.settimeout(20 * SLOW)
    with beneath, pytest.raises(ConnectionResetError):
        while beneath.recv(4096):
            pass
    with pytest.raises((http.client.HTTPException, OSError)):
        secure.translate(X_Stub="close")
    with pytest.raises((http.client.HTTPException, OSError)):
        secure.translate("y" * 900, X_Stub="truncate")
    for late in ("delay=50", "body_delay=50", "dribble=2", "chunked", "leave"):
        _, body = read_answer(secure.raw(header=late)) if late not in ("chunked", "leave") else (None, secure.translate(X_Stub=late).body)
        assert body == b'"[tw] Hello"'
    s = secure.raw(header="hang")
    until(lambda: secure.stats()["active"] == 1)
    s.close()
    until(lambda: secure.stats()["active"] == 0, 5, "the stub noticed that the client went")


def test_a_hanging_client_that_says_goodbye(secure, api):
    """What it leaves behind unread - the end of TLS, half a request - does not make it look present."""
    for server, last in ((secure, None), (api, b"POST")):
        s = server.raw(header="hang")
        until(lambda: server.stats()["active"] == 1)
        if last:
            s.sendall(last)
            s.close()
        else:
            s.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                s.unwrap()
            s.close()
        until(lambda: server.stats()["active"] == 0, 5, "the stub noticed that the client went")


@pytest.mark.parametrize("cert, key, words", [
    ("nowhere.pem", "a.key", ["nowhere.pem", "No such file"]), ("a.pem", "nowhere.key", ["nowhere.key", "No such file"]),
    ("a.key", "a.key", ["a.key", "CERTIFICATE"]), ("a.pem", "a.pem", ["a.pem", "PRIVATE KEY"]), ("a.pem", "b.key", ["not of each other"]),
    ("cut.pem", "a.key", ["damaged"]), ("a.pem", "cut.key", ["damaged"]), ("/dev/zero", "a.key", ["/dev/zero"]),
])
def test_files_that_make_no_https(certificates, cert, key, words):
    for name in ("a.pem", "a.key"):
        with open(f"{certificates}/{name}", encoding="ascii") as whole, open(f"{certificates}/cut.{name[2:]}", "w", encoding="ascii") as cut:
            cut.write(whole.read()[:120])
    ended = run("--listen", "127.0.0.1:0", "--tls-cert", os.path.join(certificates, cert), "--tls-key", os.path.join(certificates, key),
                ASAN_OPTIONS="detect_leaks=0")  # GnuTLS forgets a certificate that breaks off
    assert ended.returncode == 69 and ended.stdout == "" and all(w in ended.stderr for w in words), ended.stderr


def test_https_on_a_port_in_use(api, certificates):
    ended = run("--listen", f"127.0.0.1:{api.port}", "--tls-cert", certificates + "/a.pem", "--tls-key", certificates + "/a.key")
    assert ended.returncode == 69 and "in use" in ended.stderr


# --- Many at once. --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [500, 3500])  # with what else is open below 4,096, the kernel's own limit
def test_many_delayed_calls_at_once(api, n):
    """All wait at the same time, in a handful of threads, and none comes early."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= n + 200, f"this machine allows {hard} open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    delay_s = 0.5 if n <= 500 else 3 * SLOW  # long enough for the last to be sent before the first is answered
    sockets, sent, came = [], {}, {}
    try:
        for i in range(n):
            sockets.append(socket.create_connection(("127.0.0.1", api.port)))
            sent[i] = time.monotonic()
            sockets[i].sendall(request_bytes(f"{i} stub(delay={delay_s * 1000:.0f})"))
        with selectors.DefaultSelector() as waiting:
            for i, s in enumerate(sockets):
                waiting.register(s, selectors.EVENT_READ, i)
            threads = len(os.listdir(f"/proc/{api.process.pid}/task"))
            while len(came) < n:
                ready = waiting.select(10 * SLOW)
                assert ready, f"{n - len(came)} answers do not come"
                for key, _ in ready:
                    i = key.data
                    answer = sockets[i].recv(4096)
                    assert answer.endswith(f'"[tw] {i} stub(delay={delay_s * 1000:.0f})"'.encode()), answer
                    came[i] = time.monotonic()
                    waiting.unregister(sockets[i])
    finally:
        for s in sockets:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert min(came[i] - sent[i] for i in came) >= delay_s - 0.005
    assert max(came.values()) - max(sent.values()) < delay_s + 3 * SLOW  # all together, not one after the other
    assert threads <= 4
    stats = api.stats()
    assert stats["calls"] == n and stats["max_active"] == n and stats["active"] == 0


def test_delays_end_in_their_order(api):
    """The later asked may be the earlier due."""
    wanted = [700, 100, 500, 300, 900, 0]
    sockets = {ms: api.raw(f"stub(delay={ms})") for ms in wanted}
    order = []
    with selectors.DefaultSelector() as waiting:
        for ms, s in sockets.items():
            waiting.register(s, selectors.EVENT_READ, ms)
        while len(order) < len(wanted):
            for key, _ in waiting.select(20 * SLOW):
                order.append(key.data)
                waiting.unregister(sockets[key.data])
                sockets[key.data].close()
    assert order == sorted(wanted)


def test_connections_are_kept(api):
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=20 * SLOW)
    own = None
    for i in range(20):
        fault = ["status=500", "delay=1", "html200", "body_delay=1", "times=1"][i % 5]
        connection.request("POST", TRANSLATE, json.dumps({"in": str(i), "lang": "en-tw"}), {"Ocp-Apim-Subscription-Key": KEY, "X-Stub": fault})
        connection.getresponse().read()
        own = own or connection.sock.getsockname()
        assert connection.sock.getsockname() == own
    connection.close()


@pytest.mark.release
def test_a_body_too_large(api):
    """Read to its end, so that the client sees the answer, and not kept."""
    piece = bytes(1 << 20)
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    connection.request("POST", TRANSCRIBE + "?language=twi", (piece for _ in range(129)), {"Ocp-Apim-Subscription-Key": KEY, "Content-Length": str(129 << 20)})
    assert connection.getresponse().status == 413
    connection.close()
    assert api.translate().status == 200


def test_junk_on_the_wire(api):
    for junk in (b"\0" * 100, b"POST\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/translate HTTP/1.1\r\nContent-Length: banana\r\n\r\n", b"x" * 100000):
        s = socket.create_connection(("127.0.0.1", api.port))
        s.settimeout(0.3)
        try:
            s.sendall(junk)
            read_all(s)
        except OSError:
            pass
        s.close()
    half = socket.create_connection(("127.0.0.1", api.port))
    half.sendall(request_bytes()[:-3])
    half.close()
    assert api.translate().status == 200
    assert api.stats()["statuses"] == {"200": 1}


# --- The program. ---------------------------------------------------------------------------------------------------------


def run(*flags, **env):
    return subprocess.run([PROGRAM, *flags], capture_output=True, text=True, timeout=20 * SLOW, check=False, env={**os.environ, **env})


@pytest.mark.parametrize("flags, words", [
    (["--nonsense", "1"], ["--nonsense", "unknown flag"]), (["--nonsense"], ["--nonsense"]), (["word", "word"], ["word", "unknown flag"]), (["--listen"], ["--listen", "value"]),
    (["--key"], ["--key", "value"]), (["--delay", "soon"], ["--delay", "milliseconds"]), (["--delay", "-1"], ["--delay"]), (["--delay", "5,hang"], ["--delay"]),
    (["--delay", ""], ["--delay"]), (["--no-record", "--what"], ["--what"]), (["--key", "k"] * 17, ["--key", "too many"]), (["--codes", "loose"], ["--codes", "lenient", "strict"]), (["--codes", ""], ["--codes"]),
    (["--tts-limit", "many"], ["--tts-limit", "number"]), (["--tts-limit", "1000001"], ["--tts-limit"]), (["--too-long", "e2"], ["--too-long", "e1 or e3"]),
    (["--tls-cert", "x"], ["--tls-key"]), (["--tls-key", "x"], ["--tls-cert"]), (["--tls-key"], ["--tls-key", "value"]),
])
def test_bad_flags(flags, words):
    ended = run(*flags)
    assert ended.returncode == 2 and ended.stdout == "" and ended.stderr.startswith("adwuma-stubapi: ") and "--help" in ended.stderr
    assert all(w in ended.stderr for w in words), ended.stderr


def api_takes(directive):
    """Whether a directive of the help is one: with a value or without; the other flag is what is complained of."""
    return any("--fault" not in run("--fault", directive + value, "--bad").stderr for value in ("", "=418", "=json", "=eA==", "=cut", "=text"))


def test_help():
    version = run("--version")
    assert version.returncode == 0 and re.fullmatch(r"adwuma-stubapi \d+\.\d+\.\d+\n", version.stdout) and version.stderr == ""
    ended = run("--help")
    assert ended.returncode == 0 and ended.stderr == ""
    for word in ("--listen", "--key", "--delay", "--fault", "--codes", "--tts-limit", "--too-long", "--tls-cert", "--tls-key", "--no-record", "status=", "body=", "retry_after=", "body_delay=", "dribble=", "times=", "hang", "reset",
                 "close", "truncate", "broken_json", "not_audio", "html200", "X-Stub", "/_stub/calls", "/_stub/stats", "/_stub/fault", "127.0.0.1:8089"):
        assert word in ended.stdout, word
    directives = re.findall(r"^  (\w+)(?==|  )", ended.stdout, re.M)
    assert len(directives) >= 43 and all(map(api_takes, directives))
    for kind in re.search(r"body=KIND.*?: (.*)", ended.stdout)[1].split():
        subprocess.run([PROGRAM, "--fault", f"body={kind}", "--bad"], capture_output=True, timeout=20, check=False)
        assert "--fault" not in run("--fault", f"body={kind}", "--bad").stderr, kind


@pytest.mark.parametrize("where", ["nowhere", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", ":0", "192.0.2.1:0"])
def test_where_it_cannot_listen(where):
    ended = run("--listen", where)
    assert ended.returncode == 69 and ended.stdout == "" and where in ended.stderr


def test_port_in_use(api):
    ended = run("--listen", f"127.0.0.1:{api.port}")
    assert ended.returncode == 69 and "in use" in ended.stderr


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly(start, sig):
    start("--no-record").stop(sig)
    api = start()
    api.translate()
    idle = socket.create_connection(("127.0.0.1", api.port))
    api.stop(sig)
    idle.close()
