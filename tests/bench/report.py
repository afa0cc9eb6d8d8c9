"""What was measured, against its goals: a table, a JSON file, a chart."""
import contextlib
import json
import os
import platform
import shutil
import subprocess

from bench import lab

NAME_WIDTH, VALUE_WIDTH, SPREAD_WIDTH, GOAL_WIDTH = 62, 18, 24, 15
SCORE_MAX = 4.0  # bars end there


def output_of(*command):
    """The first line that a command prints, or that it is not there."""
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=10).stdout
    except OSError:
        return "not there"
    return (out.splitlines() or [""])[0].strip()


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())


def memory_gb():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def machine():
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    redis = output_of("redis-server", "--version").split("v=")
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "memory_gb": memory_gb(), "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "adwuma": output_of(f"{lab.BUILD}/adwumad", "--version"), "redis": redis[-1].split()[0], "curl": output_of("pkg-config", "--modversion", "libcurl"),
            "compiler": output_of("gcc", "--version"), "nginx": output_of(nginx or "nginx", "-v").split("/")[-1]}


def spread(f):
    return f"({f.text(min(f.values))} – {f.text(max(f.values))})" if len(f.values) > 1 else ""


def verdict(f):
    return {True: "reached", False: "missed", None: ""}[f.reached()]


def value(f):
    return f"{f.text(f.median)} {f.unit}".rstrip()


def table(runs, about, rounds, scale, to):
    print(f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB; Linux {about['kernel']}, Redis {about['redis']}, curl {about['curl']}, "
          f"{about['compiler']}, nginx {about['nginx']}", file=to)
    print(f"load {about['load_before']:.1f} before; medians of {rounds} rounds (lowest – highest)"
          + ("" if scale == 1 else f"; {scale:g} times the jobs that the goals are about"), file=to)
    for run in runs:
        print(f"\n{', '.join(map(str, run['rows']))}: {run['title']}   [{run['seconds']:.0f} s]", file=to)
        for f in run["figures"]:
            goal = f"goal {f.goal_text()}" if f.has_goal() else ""
            line = f"{f.row:4}  {f.name:<{NAME_WIDTH}} {value(f):>{VALUE_WIDTH}} {spread(f):<{SPREAD_WIDTH}} {goal:<{GOAL_WIDTH}} {verdict(f):<8} {f.note}"
            print(line.rstrip(), file=to)
        if run["error"]:
            print(f"      could not be measured: {run['error']}", file=to)
    goals = [f for run in runs for f in run["figures"] if f.has_goal()]
    lost = [n for run in runs if run["error"] for n in run["rows"]]
    print(f"\n{sum(f.reached() for f in goals)} of {len(goals)} goals reached"
          + (f"; not measured: rows {', '.join(map(str, lost))}" if lost else ""), file=to)


def write_json(path, runs, about, rounds, scale):
    rows = [{**run, "figures": [f.as_json() for f in run["figures"]]} for run in runs]
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"machine": about, "rounds": rounds, "scale": scale, "rows": rows}, out, indent=1, ensure_ascii=False)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', "'") + '"'


def clamped(score):
    return min(max(score, 1 / SCORE_MAX), SCORE_MAX)


def plot_text(figures, about, path):
    """A bar for each figure with a goal, from the goal's line to where the median is, with a whisker from the lowest to the highest. Bounds from above and
    from below are drawn alike: to the right is better, by that factor."""
    n = len(figures)
    data, names, labels = [], [], []
    for i, f in enumerate(figures):
        y = n - i
        ends = sorted(clamped(f.score(v)) for v in (min(f.values), max(f.values)))
        data.append(f"{y} {clamped(f.score(f.median)):.4f} {ends[0]:.4f} {ends[1]:.4f} {int(f.reached())}")
        names.append(f"{quoted(f'{f.name.strip()}   {f.row:>2}').replace('%', '%%')} {y}")  # names of tics are formats
        labels.append(f"set label {quoted(value(f))} at graph 1.02, first {y}")
        labels.append(f"set label {quoted(f.goal_text())} at graph 1.23, first {y} textcolor rgb '#666666'")
    height = 24 * n + 130
    return "\n".join([
        f"set terminal svg size 1280,{height} dynamic noenhanced font 'sans,13' background 'white'", f"set output {quoted(path)}", "set encoding utf8",
        f"set title {quoted('measured against its goal: ' + about['cpu'] + ', ' + str(about['cores']) + ' cores')}",
        "set lmargin at screen 0.44", "set rmargin at screen 0.79", f"set tmargin at screen {1 - 62 / height:.4f}", f"set bmargin at screen {52 / height:.4f}",
        "unset key", "set border 1 lc rgb '#888888'", "set logscale x 2", f"set xrange [{1 / SCORE_MAX}:{SCORE_MAX}]", f"set yrange [0.3:{n + 0.7}]",
        "set xtics nomirror ('4 times off' 0.25, '2 times off' 0.5, 'goal' 1, '2 times better' 2, '4 times' 4) textcolor rgb 'black'",
        f"set ytics scale 0 ({', '.join(names)}) textcolor rgb 'black'",
        "set grid xtics lt 1 lw 0.7 lc rgb '#cccccc'", "set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#333333' front",
        f"set label 'measured' at graph 1.02, first {n + 0.95}", f"set label 'goal' at graph 1.23, first {n + 0.95} textcolor rgb '#666666'",
        *labels, "$figures << END", *data, "END",
        "plot $figures using 2:1:(1.0):2:($1-0.34):($1+0.34):($5 == 1 ? 0x3a9b52 : 0xc8503c) with boxxyerror fill solid 0.9 noborder fc rgb variable, \\",
        "     $figures using 2:1:3:4 with xerrorbars pt -1 lw 1.3 lc rgb '#222222'", ""])


def chart(path, runs, about):
    """Returns what went wrong, or None."""
    figures = [f for run in runs for f in run["figures"] if f.has_goal()]
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)  # that of an earlier run would be taken for this one's
    if not figures:
        return "nothing to draw"
    try:
        out = subprocess.run(["gnuplot"], input=plot_text(figures, about, path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                             timeout=60)
    except OSError as e:
        return f"gnuplot: {e.strerror}"
    return f"gnuplot: {out.stdout.strip()}" if out.returncode or out.stdout.strip() else None
