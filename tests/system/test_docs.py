"""What the documents say of keys and scripts is what the code has, and the commands of README.md run."""
import os
import re
import shlex
import signal
import socket
import stat
import subprocess

import pytest
from conftest import BUILD, ROOT, SLOW, start


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def squeezed(text):
    return " ".join(text.split())


def test_scripts_stand_in_the_protocol_as_they_are():
    protocol = squeezed(read("src/queue/PROTOCOL.md"))
    scripts = sorted(os.listdir(ROOT + "/src/lua"))
    assert 4 <= len(scripts) <= 9
    for name in scripts:
        lines = [line[2:] for line in read("src/lua/" + name).split("\n") if line.startswith("--")]
        start = next(i for i, line in enumerate(lines) if line.startswith(" KEYS"))
        end = next((i for i in range(start, len(lines)) if "RETURNS" in lines[i]), start)
        while end + 1 < len(lines) and lines[end + 1].startswith("  "):
            end += 1
        assert squeezed(" ".join(lines[start:end + 1])) in protocol, f"{name}: its head is not in PROTOCOL.md"
        assert f"`{name[:-4]}`" in protocol


def test_every_key_stands_in_the_protocol():
    protocol, keys = read("src/queue/PROTOCOL.md"), read("src/queue/keys.c")
    words = set(re.findall(r'(?:join|numbered)\(k, "([a-z_]+):?"', keys))
    assert len(words) > 12
    for word in words:
        assert re.search(rf"^\| `{word}[:`]", protocol, re.M), f"key {word} has no row in PROTOCOL.md"


def blocks():
    """The text of each code block of README.md."""
    return re.findall(r"^```\n(.*?)^```$", read("README.md"), re.M | re.S)


@pytest.mark.parametrize("page", ["README.md", "src/README.md", "src/queue/PROTOCOL.md"])
def test_tables_are_whole(page):
    """A row behind an empty line is no row: what begins with a bar is a table's head, its rule or below them."""
    text = re.sub("^```\n.*?^```$", "", read(page), flags=re.M | re.S)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert re.match(r"\|.*\|\n\|(---\|)+\n", table), table


def test_what_hosts_must_share_is_told_in_both_places():
    readme = read("README.md").split("\n## Upgrade, and more hosts\n")[1].split("\n## ")[0]
    page = re.search(r"^\.Sh UPGRADE, AND MORE HOSTS\n(.*?)^\.Sh ", read("deploy/man/adwumad.8"), re.M | re.S)[1]
    names = {"key_prefix", "audio_root", "lease_ms", "admin_listen", *(f"khaya_{kind}_version" for kind in ("translation", "asr", "tts"))}
    assert names <= set(re.findall(r"`(\w+)`", readme)) and all(re.search(rf"\b{name}\b", page) for name in names)


def test_commands_of_the_readme_exist():
    lines = [line for block in blocks() for line in block.splitlines() if line.startswith("build/adwuma ")]
    assert len(lines) > 12
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        page = subprocess.run([BUILD + "/adwuma", "help", *words[:2]], capture_output=True, text=True)
        assert page.returncode == 0 and page.stdout.startswith("usage: adwuma " + words[0]), line
        for flag in (w for w in words if w.startswith("-")):
            assert re.search(rf"^ +(-\w, +)?{flag}\b|^ +{flag}, ", page.stdout, re.M), (line, flag)


def test_what_the_readme_tries_without_a_key_runs(system, tmp_path):
    """With the commands for producers after it, in a folder in which nothing is there yet."""
    block, = (b for b in blocks() if "build/adwuma-stubapi" in b)
    push, = (b for b in blocks() if b.startswith("redis-cli LPUSH 'adwuma:{translate}"))
    commands, = (b for b in blocks() if "build/adwuma transcribe morning.wav" in b)
    commands = re.sub(r"^(build/adwuma stats --watch).*$", r"timeout 2 \1 || [ $? = 124 ]", commands, flags=re.M)
    commands = re.sub(r"^(build/adwuma doctor).*$", r"\1 || [ $? = 1 ]", commands, flags=re.M)
    assert "timeout" in commands and "= 1 ]" in commands
    block += push.replace("redis-cli", f"redis-cli -s {system.server.socket}") + commands
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    script = block.replace("8089", str(port)).replace("build/", os.path.abspath(BUILD) + "/")
    env = system.env(KHAYA_BASE_URL=None, KHAYA_API_KEY=None, allow_http_loopback=None)
    with open(tmp_path / "said", "w+", encoding="utf-8") as said:
        shell = start(["/bin/sh", "-ec", script], env=env, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
        try:
            code = shell.wait(30 * SLOW)
        finally:
            os.killpg(shell.pid, signal.SIGKILL)  # its own session: the programs that it has put into the background
        said.seek(0)
        text = said.read()
    assert code == 0 and "\n[tw] Good morning\n[tw] Thank you\n" in text and '"id":"42"' in text, text
    assert {"1.mp3", "2.mp3"} == set(os.listdir(tmp_path / "speech")) and "Maaha" in (tmp_path / "subtitles" / "2.srt").read_text()


@pytest.mark.release
def test_the_steps_of_the_readme_for_systemd(system, tmp_path):
    """In a folder in place of the host, with sudo and systemctl played: who may read what, whether the worker takes it, and the command line with it."""
    steps, looks = (b for b in blocks() if "/etc/adwuma/redis_password" in b)
    host, played = tmp_path / "host", tmp_path / "played"
    played.mkdir()
    for name, does in (("sudo", 'exec env "$@"'), ("systemctl", 'echo "$@"'), ("make", f'[ $# -eq 0 ] || exec /usr/bin/make -s -C {ROOT} -o all "$@" B={os.path.abspath(BUILD)} PREFIX={host}')):
        (played / name).write_text(f"#!/bin/sh\n{does}\n")
        (played / name).chmod(0o755)
    env = {k: v for k, v in system.env(threads=None, khaya_api_key=None).items() if not k.startswith(("MAKE", "MFLAGS", "KHAYA_API_KEY", "TASKINGAI_API_KEY"))}
    env["PATH"] = f"{played}:{host}/bin:{host}/sbin:{env['PATH']}"

    def run(line):
        line = line.replace("/usr/local", str(host)).replace("/etc/adwuma", f"{host}/etc")
        done = subprocess.run(["sh", "-ec", line], env=env, cwd=ROOT, input="a-secret\n", capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 or "doctor" in line, (line, done.stderr)
        return done.stdout
    said = "".join(map(run, steps.splitlines()))
    assert "daemon-reload\nenable --now adwumad\n" in said
    with open(ROOT + "/deploy/systemd/adwumad.service", encoding="utf-8") as f:
        loaded = set(re.findall("^LoadCredential=([a-z_]+):", f.read(), re.M))
    assert set(os.listdir(host / "etc")) == {"adwumad.conf", *loaded}
    assert {name: stat.S_IMODE((host / "etc" / name).stat().st_mode) for name in loaded | {"adwumad.conf"}} == {"adwumad.conf": 0o644, **dict.fromkeys(loaded, 0o600)}
    assert run("adwumad --check --config /etc/adwuma/adwumad.conf").startswith(f"; settings file: {host}/etc/adwumad.conf\n")
    system.redis.config_set("requirepass", "a-secret")
    try:
        stats, doctor = map(run, looks.splitlines())
    finally:
        system.redis.config_set("requirepass", "")
    assert stats.startswith("queue\t") and re.search(r"^ok +secret files +3, not open to everybody$", doctor, re.M) and re.search("^ok +redis +answers", doctor, re.M), doctor


def test_the_settings_file_of_the_readme_is_right(tmp_path):
    block, = (b for b in blocks() if "[queue bulk]" in b)
    (tmp_path / "adwumad.conf").write_text(block)
    env = {k: v for k, v in os.environ.items() if not k.startswith("ADWUMA_")}
    done = subprocess.run([BUILD + "/adwumad", "--check", "--config", tmp_path / "adwumad.conf"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in block.replace("urgent:9, bulk:1", "urgent:9,bulk").splitlines():
        assert line in done.stdout.replace("bulk:1\n", "bulk\n")
