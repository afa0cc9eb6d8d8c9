"""The manual pages: right mdoc, complete against the code, and their examples run.

In a literal block a line that begins with "$ " is a command, and what follows up to the next one is what it prints, "..." standing for anything.
Blocks without commands are text. All blocks of a page run in one folder, one after the other, beside a worker, the stub and a Redis."""
import glob
import os
import re
import subprocess

import pytest
from conftest import BUILD, ROOT, SLOW, every_kind_of_key
from test_admin import admin, get
from test_deploy import commands, families, ours, read, settings, tool

PAGES = sorted(os.path.basename(path) for path in glob.glob(ROOT + "/deploy/man/*.[1-8]"))


def page(name):
    return read("deploy/man/" + name)


def plain(text):
    """What a literal block shows."""
    for escape, shown in (("\\&", ""), ("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ti", "~"), ("\\(ha", "^"), ("\\e", "\\")):
        text = text.replace(escape, shown)
    return text


def section(name, title):
    return re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page(name), re.M | re.S)[1]


def tags(text):
    """The words of all items: {"id", "type", …}."""
    return {plain(word).strip("\"") for word in re.findall(r"^\.It (?:Ic|Ql) (\S+)", text, re.M)}


def test_all_pages_are_there():
    assert {"adwuma.1", "adwumad.conf.5", "adwuma-protocol.7", "adwumad.8"} <= set(PAGES)
    for name in PAGES:
        for other, number in re.findall(r"^\.Xr (adwuma\S*) (\d)", page(name), re.M):
            assert f"{other}.{number}" in {*PAGES, "adwuma.3"}, f"{name} names {other}({number})"


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_right_mdoc(name):
    done = tool("mandoc", "-Tlint", "-Wwarning", f"{ROOT}/deploy/man/{name}")
    assert done.returncode == 0 and not done.stdout, done.stdout
    assert len(tool("mandoc", "-Tutf8", f"{ROOT}/deploy/man/{name}").stdout.splitlines()) > 80


def test_every_setting_is_told_with_its_default():
    text = section("adwumad.conf.5", "SETTINGS")
    told = {name: plain(default) for name, default in re.findall(r"^\.It Ic (\w+)(?: No = (.*))?$", text, re.M)}
    said = tool(BUILD + "/adwumad", "--help").stdout
    meant = {}
    for name in settings():
        flag = "--" + name.replace("_", "-")
        entry = re.search(rf"^  (?:{flag} (\S+)   or (\S+)|(\S*{name.upper()}) or \3_FILE .*)\n      .*?(?: \[([^\]]+)\])?$", said, re.M)
        meant[name] = entry[4] or ""
        about = plain(re.search(rf"^\.It Ic {name}(?: No = [^\n]*)?\n(.*?)(?=^\.(?:It|El))", text, re.M | re.S)[1])
        assert entry[3] or not entry[1].count("|") or entry[1] == "on|off" or "One of " + entry[1].replace("|", ", ") + "." in about, name
        env = entry[2] or entry[3]
        assert env.startswith("ADWUMA_") or env in about, name
        if not entry[3]:
            bad = tool(BUILD + "/adwumad", flag, "-1", "--check", env={"PATH": "/bin"}).stderr
            limits = re.search(r"must be a whole number from (\d+) to (\d+)", bad)
            assert not limits or f"From {limits[1]} to {limits[2]}." in about, (name, bad)
        else:
            assert f"{env}, {env}_FILE, or {name}_file here" in about.replace("\n", " "), name
    assert told == meant
    assert tags(section("adwumad.conf.5", "SECTIONS")) == {"max_concurrency", "timeout_ms", "max_attempts"}
    for name in ("max_concurrency", "timeout_ms", "max_attempts"):
        assert f'"{name}' in read("src/settings/row.c")


def test_the_settings_file_of_the_page_is_right(tmp_path):
    block, = (b for b in blocks("adwumad.conf.5") if not b.startswith("$ "))
    (tmp_path / "adwumad.conf").write_text(block)
    done = tool(BUILD + "/adwumad", "--check", "--config", tmp_path / "adwumad.conf", env={"PATH": "/bin"})
    assert done.returncode == 0 and "[queue bulk]\nmax_concurrency = 8\nmax_attempts = 10\n" in done.stdout and "queues = urgent:9,bulk\n" in done.stdout


def test_every_command_and_option_is_told():
    text = section("adwuma.1", "COMMANDS")
    told = {}
    for item in re.findall(r"^\.It Xo\n(.*?)^\.Xc$", text, re.M | re.S):
        name = re.match(r"\.Cm (.*)\n", item)[1]
        told[name] = sorted(re.findall(r"Fl -([a-z-]+)", item) + ["output"] * item.count("Op Fl o Ar") + ["output-dir"] * item.count("Op Fl d Ar"))
    meant = {name: sorted(set(options) - {"redis-url", "khaya-base-url", "admin-listen"}) for name, options in commands().items()}
    assert told == meant
    items = re.findall(r"^\.It (.*)$", section("adwuma.1", "OPTIONS"), re.M)
    explained = {option for item in items for option in re.findall(r"Fl -([a-z-]+)", item)}
    assert explained == {option for options in meant.values() for option in options} | {"config", "help", "version"}
    for letter, name in re.findall(r"^  -(\w), --([a-z-]+)", "".join(tool(BUILD + "/adwuma", "help", *c.split()).stdout for c in meant), re.M):
        assert any(item.startswith(f"Fl {letter} ") and f"Fl -{name}" in item for item in items), (letter, name)


def test_every_metric_and_page_of_a_worker_is_told(system):
    metrics = get(admin(system.worker(admin_listen="127.0.0.1:0")) + "/metrics")[1]
    text = section("adwumad.8", "HEALTH AND METRICS")
    told = {name: set(labels.split(", ")) - {""} for name, labels in re.findall(r"^\.It Ic (\w+)(?: Ns Brq Ar (.*))?$", text, re.M)}
    names = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", metrics, re.M):
        family = next(f for f, all_names in families(metrics).items() if name in all_names)
        names.setdefault(family, set()).update(set(re.findall(r"(\w+)=", labels)) - {"le"})
    assert told == names
    assert set(re.findall(r"^\.It Pa (/\w+)$", text, re.M)) == set(re.findall(r'\{"(/\w+)", say_', read("src/worker/admin.c")))
    outcomes = re.search(r"outcomes\[\] = \{(.*?)\}", read("src/worker/metrics.c"))[1]
    stats = page("adwuma.1").split("\n.Cm stats\n")[1].split(".It Xo")[0]
    assert all(word in text and word in stats for word in re.findall(r'"(\w+)"', outcomes))


def test_every_key_and_field_is_told(system):
    keys = {re.sub("<.*", "*", key.split("}:")[1]) for key in tags(section("adwuma-protocol.7", "KEYS"))}
    assert keys == set(every_kind_of_key())
    table = re.search(r"\{\n(.*?)\n\};", read("src/job/job.c").split("[JOB_FIELDS] =")[1], re.S)[1]
    assert tags(section("adwuma-protocol.7", "JOBS")) == set(re.findall(r'\] = \{"(\w+)"', table))
    system.worker()
    good = system.do("translate", text="x", traceparent="00-1-2-03")
    bad = system.do("translate", text="stub(status=400)")
    assert tags(section("adwuma-protocol.7", "RESULTS")) == set(good) | set(bad)
    assert tags(section("adwuma-protocol.7", "FAULTS")) == set(bad["error"])
    assert tags(section("adwuma-protocol.7", "STREAMS")) == {"chunk", "restart", "done", "error"}
    types = set(re.findall(r'"([A-Z][A-Za-z]+Error)"', "".join(read("src/" + f) for f in ("worker/runner.c", "worker/reap.c", "api/khaya_read.c", "api/taskingai_read.c", "job/job.c"))))
    assert len(types) > 6 and all(name in section("adwuma-protocol.7", "FAULTS") for name in types), types


def blocks(name):
    return [plain(block) for block in re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", page(name), re.M | re.S)]


@pytest.mark.parametrize("name", PAGES)
def test_examples_of_the_pages_do_what_they_say(system, tmp_path, name):
    steps = [step for block in blocks(name) for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block if block.startswith("$ ") else "", re.M)]
    assert steps or name == "adwuma.3"
    system.worker(queues="translate,transcribe,synthesize,taskingai")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-cli").write_text(f'#!/bin/sh\nexec /usr/bin/redis-cli -s {system.server.socket} "$@"\n')
    (tmp_path / "bin" / "redis-cli").chmod(0o755)
    env = ours(system, threads=None)
    env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    for command, output in steps:
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60 * SLOW)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        wanted = re.escape(output.rstrip("\n")).replace(r"\.\.\.", ".*")
        assert re.fullmatch(wanted, done.stdout.rstrip("\n"), re.S), f"{command}\nprints\n{done.stdout}{done.stderr}\nnot\n{output}"
