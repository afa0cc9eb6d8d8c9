"""adwuma languages and speakers: what they ask, print and return, against an API of a few lines. No Redis is there, and none is needed."""
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import BUILD, KEY, SLOW, until

TRANSLATE = {"languages": {"twi": "Twi", "eng": "English", "gaa": "Ga"}}
ASR = {"languages": [{"code": "twi", "name": "Twi"}, {"code": "xon_likpakpaanl", "name": "Konkomba, Likpakpaanl"}, {"code": "kin", "name": "Kinyarwanda"}]}
TTS = {"languages": {"Asante Twi": "twi", "Konkomba, Likpakpaanl": "xon", "Ga": "gaa"}}
SPEAKERS = {"speakers": {"Multilingual": ["male_low", "male_high", "female"]}}
GATEWAY_404 = '{ "statusCode": 404, "message": "Resource not found" }'


class Api:
    """Answers each path with what stands for it: the last of a list again and again."""

    def __init__(self):
        self.answers = {"/v1/languages": [TRANSLATE], "/asr/v3/languages": [ASR], "/tts/v1/languages": [TTS], "/tts/v1/speakers": [SPEAKERS]}
        self.asked = []  # (path, headers, when)
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                api.asked.append((self.path, self.headers, time.monotonic()))
                left = api.answers.get(self.path, [(404, GATEWAY_404)])
                answer = left.pop(0) if len(left) > 1 else left[0]
                status, body, headers = (*answer, {})[:3] if isinstance(answer, tuple) else (200, answer, {})
                body = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def env(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ADWUMA_", "KHAYA_"))}
        env.update({"KHAYA_BASE_URL": self.url, "KHAYA_API_KEY": KEY, "ADWUMA_ALLOW_HTTP_LOOPBACK": "on", "ADWUMA_REDIS_URL": "redis://127.0.0.1:1/0"}, **more)
        return {k: v for k, v in env.items() if v is not None}

    def __call__(self, *args, **env):
        done = subprocess.run([BUILD + "/adwuma", *args], env=self.env(**env), capture_output=True, text=True, timeout=60 * SLOW)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr and KEY not in done.stdout + done.stderr, done.stderr
        return done


@pytest.fixture
def api():
    a = Api()
    yield a
    a.server.shutdown()
    a.server.server_close()


def test_one_service_by_code(api):
    for service, wanted in (("translate", "code\tname\neng\tEnglish\ngaa\tGa\ntwi\tTwi\n"),
                            ("asr", "code\tname\nkin\tKinyarwanda\ntwi\tTwi\nxon_likpakpaanl\tKonkomba, Likpakpaanl\n"),
                            ("tts", "code\tname\ngaa\tGa\ntwi\tAsante Twi\nxon\tKonkomba, Likpakpaanl\n")):
        done = api("languages", service)
        assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    assert [json.loads(line) for line in api("languages", "tts", "--json").stdout.splitlines()][0] == {"code": "gaa", "name": "Ga"}
    for path, headers, _ in api.asked:
        assert headers["Ocp-Apim-Subscription-Key"] == KEY and "key" not in path


def test_all_services_in_one_table(api):
    done = api("languages")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["language\ttranslate\tasr\ttts", "English\teng\t-\t-", "Ga\tgaa\t-\tgaa", "Kinyarwanda\t-\tkin\t-",
                                        "Konkomba, Likpakpaanl\t-\txon_likpakpaanl\txon", "Twi\ttwi\ttwi\ttwi"]
    rows = [json.loads(line) for line in api("languages", "--json").stdout.splitlines()]
    assert rows[3] == {"name": "Konkomba, Likpakpaanl", "translate": None, "asr": "xon_likpakpaanl", "tts": "xon"}


def test_speakers(api):
    done = api("speakers")
    assert (done.returncode, done.stdout) == (0, "group\tspeaker\nMultilingual\tfemale\nMultilingual\tmale_high\nMultilingual\tmale_low\n")
    assert json.loads(api("speakers", "--json").stdout.splitlines()[0]) == {"group": "Multilingual", "speaker": "female"}


def test_the_settings_choose_the_version(api):
    api.answers = {"/v2/languages": [TRANSLATE], "/asr/v3/languages": [ASR], "/tts/v2/languages": [TTS], "/tts/v2/speakers": [SPEAKERS]}
    versions = {"KHAYA_TRANSLATION_VERSION": "v2", "KHAYA_ASR_VERSION": "v1", "KHAYA_TTS_VERSION": "v2"}
    assert api("languages", **versions).returncode == api("speakers", **versions).returncode == 0
    assert [path for path, _, _ in api.asked] == list(api.answers)


def test_names_from_a_server_do_not_reach_the_terminal_as_commands(api):
    api.answers["/v1/languages"] = [{"languages": {"twi": "Tw\x1b[31mi\n", "ewe": "Ɛʋɛ"}}]
    assert api("languages", "translate").stdout == "code\tname\newe\tƐʋɛ\ntwi\tTw?[31mi \n"
    near, far = pty.openpty()
    p = subprocess.Popen([BUILD + "/adwuma", "languages", "translate"], env=api.env(), stdout=far, stderr=far)
    os.close(far)
    assert p.wait(20 * SLOW) == 0
    assert os.read(near, 10000).decode() == "\x1b[1mcode  name\x1b[0m\r\newe   Ɛʋɛ\r\ntwi   Tw?[31mi \r\n"
    os.close(near)


def test_an_error_of_the_api_is_told_as_any_other(api):
    api.answers["/v1/languages"] = [(403, {"error": {"code": "C7", "message": f"no\x1b {KEY}", "details": [{"message": "d"}]}})]
    done = api("languages", "translate")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("adwuma: the languages of translate failed: APIError (403): no? ***\n") and "code: C7" in done.stderr and '"d"' in done.stderr
    for body in ("<title>Just a moment...</title>", "[]", '{"languages":7}', ""):
        api.answers["/v1/languages"] = [(200, body)]
        done = api("languages", "translate")
        assert (done.returncode, done.stdout) == (1, "") and "APIError (200)" in done.stderr
    assert len(api.asked) == 5  # none is asked again


def test_what_the_others_answered_is_printed(api):
    api.answers["/asr/v3/languages"] = [(404, GATEWAY_404)]
    done = api("languages")
    assert done.returncode == 1 and "the languages of asr failed: APIError (404): Resource not found" in done.stderr
    assert done.stdout.splitlines()[0] == "language\ttranslate\ttts" and "Twi\ttwi\ttwi" in done.stdout
    api.answers = {}
    done = api("languages")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("failed") == 3


def test_what_passes_is_tried_again(api):
    api.answers["/tts/v1/speakers"] = [(429, '{"message":"m"}', {"Retry-After": "0.4"}), (503, "", {"Retry-After": "0"}), SPEAKERS]
    done = api("speakers")
    assert done.returncode == 0 and "female" in done.stdout and done.stderr.count("again in") == 2
    times = [t for _, _, t in api.asked]
    assert len(times) == 3 and times[1] - times[0] >= 0.4
    api.answers["/tts/v1/speakers"] = [(500, '{"message":"m"}', {"Retry-After": "0"})]
    for attempts in (1, 3, None, 4):
        api.asked.clear()
        done = api("speakers", KHAYA_RETRY_ATTEMPTS=attempts and str(attempts))
        assert done.returncode == 1 and "the speakers failed: APIError (500): m" in done.stderr and len(api.asked) == (attempts or 3)


def test_a_long_wait_is_bounded_and_can_be_interrupted(api):
    api.answers["/tts/v1/speakers"] = [(503, "", {"Retry-After": "86400"})]
    p = subprocess.Popen([BUILD + "/adwuma", "speakers"], env=api.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stderr.readline() == "adwuma: the speakers: HTTP 503; again in 60.0 s\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(5 * SLOW) == -signal.SIGINT
    p.stdout.close()
    p.stderr.close()


def test_an_api_that_cannot_be_reached_is_69(api):
    with socket.create_server(("127.0.0.1", 0)) as s:
        nowhere = f"http://127.0.0.1:{s.getsockname()[1]}"
    for args in (["languages"], ["languages", "asr"], ["speakers"]):
        done = api(*args, KHAYA_BASE_URL=nowhere, KHAYA_RETRY_ATTEMPTS="1")
        assert (done.returncode, done.stdout) == (69, "") and done.stderr.count("Transport error") == 1 and "KHAYA_BASE_URL" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = api("speakers", KHAYA_BASE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}", KHAYA_RETRY_ATTEMPTS="1", KHAYA_TIMEOUT="1")
        assert done.returncode == 69
    begin = time.monotonic()
    done = api("speakers", KHAYA_BASE_URL=nowhere, KHAYA_RETRY_ATTEMPTS="2")
    assert done.returncode == 69 and 1 <= time.monotonic() - begin < 4 * SLOW
    # A pause of 1 to 2 s with its jitter, told to a tenth.
    assert len(re.findall(r"again in (1\.\d|2\.0) s", done.stderr)) == 1


def test_settings_and_use(api):
    for env in ({"KHAYA_API_KEY": None}, {"KHAYA_BASE_URL": "http://example.org"}, {"KHAYA_ASR_VERSION": "v9"}, {"KHAYA_API_KEY": None, "KHAYA_ASR_API_KEY": KEY},
                {"ADWUMA_API_CA_FILE": __file__}):
        done = api("languages", "tts", **env)
        assert (done.returncode, done.stdout) == (78, ""), done.stderr
    assert "KHAYA_API_KEY" in api("speakers", KHAYA_API_KEY=None).stderr
    assert api("languages", "asr", KHAYA_API_KEY=None, KHAYA_ASR_API_KEY=KEY).returncode == 0
    for args in (["languages", "tss"], ["languages", "asr", "tts"], ["speakers", "x"], ["languages", "--queue", "q"]):
        done = api(*args)
        assert (done.returncode, done.stdout) == (2, "") and "usage: adwuma " + args[0] in done.stderr


def test_a_reader_that_went_away_ends_it_quietly(api):
    api.answers["/v1/languages"] = [{"languages": {f"c{i}": "x" * 100 for i in range(5000)}}]
    p = subprocess.Popen([BUILD + "/adwuma", "languages", "translate"], env=api.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    assert until(lambda: p.poll() is not None) and (p.returncode, p.stderr.read()) == (0, b"")
    p.stderr.close()


def test_examples_of_the_help_run(api):
    env = {**api.env(), "PATH": f"{os.path.abspath(BUILD)}:{os.environ['PATH']}"}
    for page in ("languages", "speakers"):
        examples = [line.strip() for line in api("help", page).stdout.split("Examples:\n")[1].splitlines() if line.startswith("  ")]
        assert len(examples) >= 2
        for example in examples:
            done = subprocess.run(["/bin/sh", "-e", "-c", example], env=env, capture_output=True, timeout=60 * SLOW)
            assert (done.returncode, done.stderr) == (0, b"") and done.stdout, example
