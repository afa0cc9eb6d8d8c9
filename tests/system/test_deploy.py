"""What runs it: the systemd unit, completion in a shell, the page about Kubernetes, and the monitoring. Tools that are missing fail their tests;
scripts/install-deps test installs them."""
import json
import os
import re
import shlex
import subprocess

import pytest
import yaml
from conftest import BUILD, ROOT, SLOW, TASKING_KEY, until
from test_admin import admin, get

UNIT = ROOT + "/deploy/systemd/adwumad.service"
EXPOSURE_MAX = 1.5  # of systemd-analyze security; 10 is a service that may do anything


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def tool(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60 * SLOW, **options)


def ours(system, **settings):
    """The environment of tests, and the programs in PATH."""
    return {**system.env(**settings), "PATH": os.path.abspath(BUILD) + ":" + os.environ["PATH"]}


# --- systemd ---


def unit_says(name):
    return [line.split("=", 1)[1] for line in read(UNIT).splitlines() if line.startswith(name + "=")]


@pytest.mark.release
def test_the_unit_is_right_and_shut_in(tmp_path, capsys):
    (tmp_path / "adwumad.service").write_text(read(UNIT).replace("/usr/local/sbin", os.path.abspath(BUILD)))
    done = tool("systemd-analyze", "verify", "--man=no", tmp_path / "adwumad.service")
    assert done.returncode == 0 and "adwumad.service" not in done.stderr, done.stderr
    done = tool("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
    score, = re.findall(r"Overall exposure level for adwumad.service: ([\d.]+)", done.stdout)
    with capsys.disabled():
        print(f"\nsystemd-analyze security adwumad.service: {score} (at most {EXPOSURE_MAX})")
    assert float(score) <= EXPOSURE_MAX, done.stdout


def test_the_unit_gives_a_stop_the_time_it_takes():
    drain, = re.findall(r"^drain_timeout_s = (\d+)$", tool(BUILD + "/adwumad", "--check", env={"PATH": "/bin"}).stdout, re.M)
    assert int(unit_says("TimeoutStopSec")[0].rstrip("s")) >= int(drain) + 10
    assert unit_says("Type") == ["notify"] and unit_says("Restart") == ["on-failure"] and unit_says("DynamicUser") == ["yes"]


def test_secrets_of_the_unit_are_settings(system, tmp_path):
    """Every credential has a file, a setting that reads it, and an empty stand-in, which counts as unset."""
    loaded = dict(line.split(":", 1) for line in unit_says("LoadCredential"))
    read_by = dict(line.split("=%d/") for line in unit_says("Environment"))
    assert sorted(loaded) == sorted(read_by.values()) == sorted(s.split(":")[0] for s in unit_says("SetCredential"))
    assert all(path == "/etc/adwuma/" + name for name, path in loaded.items()) and len(loaded) >= 3
    check = {}
    for text in ("\n", "a-secret\n"):
        for name in loaded:
            (tmp_path / name).write_text(text)
        env = {"PATH": "/bin", **{name: str(tmp_path / value) for name, value in read_by.items()}}
        check[text] = tool(BUILD + "/adwumad", "--check", env=env)
        assert check[text].returncode == 0, check[text].stderr
    for setting in loaded:
        assert f"\n{setting} = \n" in check["\n"].stdout and f"\n{setting} = ***\n" in check["a-secret\n"].stdout
    assert "no API key is set" in check["\n"].stderr and "no API key" not in check["a-secret\n"].stderr


def allowed_calls():
    """The system calls that SystemCallFilter= leaves, by systemd's own lists."""
    def expand(name):
        lines = tool("systemd-analyze", "syscall-filter", "--no-pager", name).stdout.splitlines()[1:]
        names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        return set().union(*(expand(n) if n.startswith("@") else {n} for n in names))

    allowed = set()
    for line in unit_says("SystemCallFilter"):
        sets = set().union(*(expand(name) for name in line.lstrip("~").split()))
        allowed = allowed - sets if line.startswith("~") else allowed | sets
    assert len(allowed) > 200
    return allowed


@pytest.mark.release
def test_the_worker_needs_no_more_than_the_unit_leaves_it(system, tmp_path, limited):
    """Every system call and address family of a worker's life, from strace, is one that the unit allows. Memory is never writable and executable."""
    limited(f"exec strace -D -f -q -o {tmp_path}/calls")
    w = system.worker(audio_root=str(tmp_path), admin_listen="127.0.0.1:0")
    assert system.do("translate", text="Good morning")["status"] == "succeeded"
    assert system.do("synthesize", text="Maakye", language="twi", output="path", output_path="m.wav")["status"] == "succeeded"
    assert system.do("transcribe", audio_path="m.wav")["status"] == "succeeded"
    assert system.do("transcribe", audio_url="https://127.0.0.1/x.wav")["status"] == "failed"
    assert get(admin(w) + "/readyz")[0] in (200, 503)
    w.stop()
    until(lambda: "exit_group(0" in (tmp_path / "calls").read_text(errors="replace"), what="all is written down")
    with open(tmp_path / "calls", encoding="utf-8", errors="replace") as f:
        lines = [line.split(None, 1)[1] for line in f if re.match(r"\d+ +\w+\(", line)]
    used = {line.split("(")[0] for line in lines}
    assert {"sendto", "mmap"} <= used or {"write", "mmap"} <= used
    assert used - allowed_calls() - {"execve", "exit_group"} == set()
    families = {line.split("(")[1].split(",")[0] for line in lines if line.startswith("socket(")}
    assert families <= set(" ".join(unit_says("RestrictAddressFamilies")).split()) | {"AF_NETLINK"}  # glibc's getaddrinfo does without the last
    assert not [line for line in lines if re.match(r"(mmap|mprotect)\(", line) and "PROT_WRITE" in line and "PROT_EXEC" in line]


def test_the_example_of_a_settings_file_is_right():
    done = tool(BUILD + "/adwumad", "--check", "--config", "deploy/adwumad.conf.example", cwd=ROOT, env={"PATH": "/bin"})
    assert done.returncode == 0 and "max_concurrency = 24" in done.stdout and "queues = translate:3,transcribe," in done.stdout, done.stderr


# --- Completion ---


def complete(system, line):
    """What bash offers at the end of the line."""
    words = re.findall(r"=|[^\s=]+", line) + ([""] if line.endswith(" ") else [])
    script = "\n".join((f". {ROOT}/deploy/bash-completion/adwuma", "COMP_WORDS=(" + " ".join(map(shlex.quote, words)) + ")", f"COMP_CWORD={len(words) - 1}",
                        f"_{words[0]} {words[0]} {shlex.quote(words[-1])} {shlex.quote(words[-2])}", 'printf "%s\\n" "${COMPREPLY[@]}"'))
    done = tool("bash", "-euc", script, env=ours(system))
    assert done.returncode == 0 and not done.stderr, (line, done.stderr)
    return [word for word in done.stdout.split("\n") if word]


def commands():
    """Every command of the table, with its options: {"dead retry": ["queue", …]}."""
    names = re.findall(r'^\t\{"([a-z ]+)", "', read("src/cli/commands.c"), re.M)
    found = {}
    for name in names:
        page = tool(BUILD + "/adwuma", "help", *name.split()).stdout
        found[name] = re.findall(r"^  (?:-\w, |    )--([a-z-]+)", page.split("\nOptions:\n")[1], re.M)
    assert len(found) > 17 and "dead purge" in found
    return found


def settings():
    """Every setting of the table, by name: what --help says of it."""
    rows = re.findall(r'^\t\{"([a-z_]+)", [A-Z_]+, ', read("src/settings/settings.c"), re.M)
    assert len(rows) > 35 and rows[0] == "redis_url"
    return rows


def test_completion_knows_every_command_and_option(system):
    offered = complete(system, "adwuma ")
    assert set(offered) == {name.split()[0] for name in commands()} | {"help"}
    assert complete(system, "adwuma dead ") == ["list", "purge", "retry", "show"] and complete(system, "adwuma help dead p") == ["purge"]
    assert complete(system, "adwuma tr") == ["transcribe", "translate"] and "settings" in complete(system, "adwuma help ")
    for name, options in commands().items():
        offered = complete(system, f"adwuma {name} --")
        assert {"--" + option for option in options} <= set(offered), name
    flags = ["--" + name.replace("_", "-") for name in settings() if not re.search("password|api_key", name)]
    assert set(complete(system, "adwumad ")) == {*flags, "--check", "--config", "--help", "--version"}
    assert set(flags) <= set(complete(system, "adwuma stats --"))


@pytest.mark.parametrize("line,offers", [
    ("adwuma transcribe --format ", {"text", "json", "srt", "vtt"}),
    ("adwuma transcribe --format=s", {"srt"}),
    ("adwuma synthesize --format ", {"wav", "mp3", "ogg"}),
    ("adwuma transcribe --timestamps w", {"word"}),
    ("adwuma transcribe --json deploy/prom", {"deploy/prometheus"}),
    ("adwuma batch deploy/adwumad.conf.example -o deploy/sys", {"deploy/systemd"}),
    ("adwuma synthesize -d deploy/sys", {"deploy/systemd"}),
    ("adwuma stats -q t", {"translate", "transcribe", "taskingai"}),
    ("adwuma --log-format json stats -q synth", {"synthesize"}),
    ("adwuma pause ", {"translate", "transcribe", "synthesize", "taskingai"}),
    ("adwuma call taskingai.list_a", {"taskingai.list_assistants", "taskingai.list_actions"}),
    ("adwuma operations create_rec", {"create_record"}),
    ("adwuma languages t", {"translate", "tts"}),
    ("adwuma dead retry --ol", {"--older-than"}),
    ("adwuma stats --watch --js", {"--json"}),
    ("adwuma translate --config deploy/systemd/a", {"deploy/systemd/adwumad.service"}),
    ("adwumad --log-level ", {"debug", "info", "warn", "error"}),
    ("adwumad --log-format=j", {"json"}),
    ("adwumad --config deploy/systemd/a", {"deploy/systemd/adwumad.service"}),
    ("adwumad --allow-http-loopback o", {"on", "off"}),
])
def test_completion_of_values(system, line, offers):
    assert set(complete(system, line)) == offers
