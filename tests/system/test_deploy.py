"""What runs it: the systemd unit, completion in a shell, the page about Kubernetes, and the monitoring. Tools that are missing fail their tests;
scripts/install-deps test installs them."""
import json
import os
import re
import shlex
import stat
import subprocess
import tempfile
import urllib.parse

import pytest
import yaml
from conftest import BUILD, ROOT, SLOW, start, until
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


def test_the_drop_ins_of_the_unit_are_right(tmp_path):
    """What its comments tell, all in one drop-in: for a second key, for TLS, and for audio_root, whose openat2 systemd forbids to a dynamic user."""
    examples = re.findall(r"^#   ([A-Z][A-Za-z]+=.*)$", read(UNIT), re.M)
    assert {"DynamicUser=no", "User=adwuma", "RestrictSUIDSGID=no", "UMask=0027"} <= set(examples) and unit_says("RestrictSUIDSGID") == ["yes"]
    (tmp_path / "adwumad.service").write_text(read(UNIT).replace("/usr/local/sbin", os.path.abspath(BUILD)))
    (tmp_path / "adwumad.service.d").mkdir()
    for wrong in (["Nonsense=yes"], []):
        (tmp_path / "adwumad.service.d" / "ours.conf").write_text("\n".join(["[Service]", *examples, *wrong, ""]))
        done = tool("systemd-analyze", "verify", "--man=no", tmp_path / "adwumad.service")
        assert ("ours.conf" in done.stderr) == bool(wrong), done.stderr
    loaded = dict(line.removeprefix("LoadCredential=").split(":", 1) for line in examples if line.startswith("LoadCredential="))
    read_by = dict(line.removeprefix("Environment=").split("=%d/") for line in examples if line.startswith("Environment="))
    assert sorted(loaded) == sorted(read_by.values()) and set(loaded) <= set(settings()) - set(unit_says("LoadCredential"))
    for name in loaded:
        (tmp_path / name).write_text("a-secret\n")
    done = tool(BUILD + "/adwumad", "--check", env={"PATH": "/bin", **{name: str(tmp_path / value) for name, value in read_by.items()}})
    assert done.returncode == 0 and all(re.search(rf"^{name} = (\*\*\*|{tmp_path}/.*)$", done.stdout, re.M) for name in loaded), done.stderr


@pytest.mark.release
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_audio_root_without_the_call_that_keeps_jobs_in_it_stops_the_start(tmp_path, error):
    """As under the unit without a drop-in: else each job with a path would be refused."""
    done = tool("strace", "-o", tmp_path / "calls", "-e", "trace=openat2", "-e", f"inject=openat2:error={error}", BUILD + "/adwumad", "--audio-root", tmp_path, env={"PATH": "/bin"})
    assert done.returncode == 78 and done.stderr.startswith("adwumad: --audio-root: openat2 is forbidden here") and "DynamicUser=no" in done.stderr, done.stderr


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
    offered = [word for word in done.stdout.split("\n") if word]
    assert len(set(offered)) == len(offered), (line, offered)
    return offered


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


# --- Containers ---


def test_secrets_of_compose_can_be_filled_in_and_read_in_a_container():
    """As a user who is not root: the owner writes what the script made, any user of a container reads it, and the folder keeps others of this host out."""
    user = 65534 if os.getuid() == 0 else os.getuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, user, -1)
        secrets = folder + "/secrets"

        def shell(command):
            done = tool("sh", "-euc", command, "sh", secrets, user=user, input=read("scripts/compose-secrets"))
            assert done.returncode == 0, done.stderr
            return done.stdout

        made = shell('sh -s "$1"')
        assert stat.S_IMODE(os.stat(secrets).st_mode) == 0o700
        files = yaml.safe_load(read("deploy/docker-compose.yml"))["secrets"]
        assert set(re.findall(r"^made (\w+)", made, re.M)) == set(files) == set(os.listdir(secrets))
        shell('echo a-key > "$1/khaya_api_key"; echo another > "$1/redis_password"')
        assert shell('sh -s "$1"; cat "$1/khaya_api_key" "$1/redis_password"') == "a-key\nanother\n"
        assert {stat.S_IMODE(os.stat(f"{secrets}/{name}").st_mode) for name in files} == {0o644}


# --- Kubernetes ---


def manifests():
    page = read("deploy/kubernetes.md")
    assert "Not tested on a cluster" in page
    return [m for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S) for m in yaml.safe_load_all(block)]


def of_kind(kind):
    found, = (m for m in manifests() if m["kind"] == kind)
    return found


def test_the_page_about_kubernetes_fits_itself_and_the_programs(tmp_path):
    assert [m["kind"] for m in manifests()] == ["Secret", "Deployment", "Service", "ScaledObject"]
    deployment, service, secret = of_kind("Deployment"), of_kind("Service"), of_kind("Secret")
    pod = deployment["spec"]["template"]
    container, = pod["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert of_kind("ScaledObject")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"] and "replicas" not in deployment["spec"]
    assert pod["spec"]["terminationGracePeriodSeconds"] >= int(env["ADWUMA_DRAIN_TIMEOUT_S"]) + 10
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"} and container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert f"user {env['ADWUMA_REDIS_USERNAME']} " in read("deploy/redis/users.acl")
    port = container["ports"][0]["containerPort"]
    assert env["ADWUMA_ADMIN_LISTEN"] == f"0.0.0.0:{port}" and service["spec"]["ports"][0]["port"] == port
    sd, = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"][0]["dns_sd_configs"]
    assert sd["names"] == [service["metadata"]["name"]] and sd["port"] == port
    folder = container["volumeMounts"][0]["mountPath"] + "/"
    files = {value[len(folder):] for name, value in env.items() if name.endswith("_FILE") and value.startswith(folder)}
    assert files == set(secret["stringData"]) and pod["spec"]["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"]
    for name in files:
        (tmp_path / name).write_text(secret["stringData"][name])
    done = tool(BUILD + "/adwumad", "--check", env={name: value.replace(folder, f"{tmp_path}/") for name, value in env.items()})
    assert done.returncode == 0 and not done.stderr, done.stderr
    holds = dict(re.findall(r"^(\w+) = (\d+)$", done.stdout, re.M))
    limit, = (int(v["emptyDir"]["sizeLimit"].removesuffix("Gi")) << 30 for v in pod["spec"]["volumes"] if "emptyDir" in v)
    assert limit >= 1.25 * int(holds["threads"]) * int(holds["max_audio_bytes"]), "what downloads may take, and a margin"


# --- Monitoring ---


def dashboard():
    return json.loads(read("deploy/grafana/dashboards/adwuma.json"))


def expressions():
    """All of PromQL that is deployed: of the dashboard, the alerts and the scaler, with the dashboard's variables filled in."""
    found = [t["expr"] for p in dashboard()["panels"] for t in p.get("targets", [])]
    found += [rule["expr"] for group in yaml.safe_load(read("deploy/prometheus/alerts.yml"))["groups"] for rule in group["rules"]]
    found += [t["metadata"]["query"] for t in of_kind("ScaledObject")["spec"]["triggers"]]
    return [e.replace("$queue", ".*").replace("$__rate_interval", "5m") for e in found]


def families(metrics):
    """What /metrics declares, with the suffixes of a histogram: {"adwuma_threads": {"adwuma_threads"}}."""
    return {name: {name + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
            for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.M)}


CONTRACT = {"adwuma_jobs_total", "adwuma_job_duration_seconds", "adwuma_api_duration_seconds", "adwuma_queue_latency_seconds", "adwuma_queue_jobs", "adwuma_threads",
            "adwuma_redis_up", "adwuma_api_errors_total", "adwuma_redis_reconnects_total", "adwuma_jobs_reaped_total", "adwuma_billed_units_total"}


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(system):
    there = families(get(admin(system.worker(admin_listen="127.0.0.1:0")) + "/metrics")[1])
    used = set(re.findall(r"\badwuma_\w+", " ".join(expressions())))
    assert used <= set().union(*there.values()) and CONTRACT <= set(there)
    on_dashboard = set(re.findall(r"\badwuma_\w+", json.dumps(dashboard()["panels"])))
    assert [name for name, names in there.items() if not names & on_dashboard] == []


def test_the_dashboard_is_whole():
    d = dashboard()
    places = [(p["gridPos"]["y"], p["gridPos"]["x"], p["gridPos"]["w"]) for p in d["panels"]]
    assert d["uid"] == "adwuma" and len({p["id"] for p in d["panels"]}) == len(d["panels"]) > 20 and places == sorted(places)
    assert all(x + w <= 24 for _, x, w in places) and all(p["type"] == "row" or p["targets"] and p["description"] for p in d["panels"])
    for kind in ("datasources/prometheus", "dashboards/adwuma"):
        assert yaml.safe_load(read(f"deploy/grafana/provisioning/{kind}.yml"))["apiVersion"] == 1


def test_rules_are_right_and_ring_when_they_should():
    folder = ROOT + "/deploy/prometheus"
    for command in ("check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"):
        done = tool("promtool", *command.split(), cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = [rule for group in yaml.safe_load(read("deploy/prometheus/alerts.yml"))["groups"] for rule in group["rules"]]
    assert [a["alert"] for a in alerts if set(a["annotations"]) != {"summary", "description"}] == [], "what is wrong, and what to do"
    rules = {a["alert"] for a in alerts}
    tests = yaml.safe_load(read("deploy/prometheus/alerts_test.yml"))["tests"]
    rings = {t["alertname"] for test in tests for t in test["alert_rule_test"] if t.get("exp_alerts")}
    silent = {t["alertname"] for test in tests if test["name"] == "all is well" for t in test["alert_rule_test"]}
    assert rules == rings == silent


@pytest.mark.release
def test_prometheus_scrapes_a_worker(system, tmp_path):
    """The deployed configuration, with this worker's address in place of the name "worker"; every expression of dashboard and alerts is asked of it."""
    worker = admin(system.worker(admin_listen="127.0.0.1:0", queues="translate,taskingai", threads=3)).removeprefix("http://")
    for i in range(5):
        assert system.do("translate", text="x" if i else "stub(status=400)")["status"] == ("succeeded" if i else "failed")
    config = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "1s"}
    config["rule_files"] = [ROOT + "/deploy/prometheus/alerts.yml"]
    del config["scrape_configs"][0]["dns_sd_configs"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [worker]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with open(tmp_path / "said", "w+", encoding="utf-8") as said:
        prometheus = start(["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", "--web.listen-address=127.0.0.1:0",
                            "--log.level=info"], stdout=said, stderr=said)
        try:
            port = until(lambda: re.search(r"Listening on\" address=127.0.0.1:(\d+)", (tmp_path / "said").read_text()), 30, "it listens")[1]

            def ask(query):
                code, text = get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}")
                return [float(r["value"][1]) for r in json.loads(text)["data"]["result"]] if code == 200 else text

            def says(query):
                return until(lambda: ask(query), 20, f"{query} is answered: {ask(query)}")

            until(lambda: ask('sum(adwuma_jobs_total{queue="translate",type="translate",outcome="succeeded"})') == [4], 20, "four jobs are counted")
            assert says('adwuma_jobs_total{outcome="failed",type="translate"}') == [1] and says("sum(adwuma_threads)") == [3]
            assert says("sum(adwuma_api_duration_seconds_count)") == [5] and says('up{job="adwuma"}') == [1]
            for expression in expressions():
                assert isinstance(ask(expression), list), (expression, ask(expression))
            for panel in (p for p in dashboard()["panels"] if p["type"] == "stat"):
                says(panel["targets"][0]["expr"].replace("$queue", ".*").replace("$__rate_interval", "1m"))
            rules = json.loads(get(f"http://127.0.0.1:{port}/api/v1/rules")[1])["data"]["groups"][0]["rules"]
            assert len(rules) > 10 and not [r["name"] for r in rules if r["state"] == "firing" or r["health"] == "err"]
        finally:
            prometheus.terminate()
            assert prometheus.wait(30) == 0, (tmp_path / "said").read_text()[-2000:]
