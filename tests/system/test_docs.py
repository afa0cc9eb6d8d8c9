"""What the documents say of keys and scripts is what the code has."""
import os
import re

from conftest import ROOT


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
