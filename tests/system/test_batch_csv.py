"""adwuma batch --csv: a table with a column of translations, all else byte for byte, however often it is stopped."""
import csv
import io
import random

import pytest
from conftest import SLOW, Batch, lose_one, until

COLUMNS = ("--csv", "--text-column", "english", "--out-column", "twi")


def run(batch, *more, columns=COLUMNS, **settings):
    return batch("in.csv", "-o", "out.csv", *columns, *more, **settings)


def table(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig", "surrogateescape"), newline="")))


def error_of(row):
    return row[-1].split(":")[0]


@pytest.mark.parametrize("given, got", [
    (b"id,english\n1,Good morning\n", b"id,english,twi,twi_error\n1,Good morning,[tw] Good morning,\n"),
    (b"id,english\r\n1,Good morning\r\n", b"id,english,twi,twi_error\r\n1,Good morning,[tw] Good morning,\r\n"),
    (b"id,english\n1,one\r\n2,two\n", b"id,english,twi,twi_error\n1,one,[tw] one,\r\n2,two,[tw] two,\n"),
    (b"\xef\xbb\xbfenglish\n\"x\"\n", b"\xef\xbb\xbfenglish,twi,twi_error\n\"x\",[tw] x,\n"),
    (b"\xef\xbb\xbf\"english\",b\r\nx,y\r\n", b"\xef\xbb\xbf\"english\",b,twi,twi_error\r\nx,y,[tw] x,\r\n"),
    (b"english,id\nlast,1", b"english,id,twi,twi_error\nlast,1,[tw] last,\n"),
    (b"english,id", b"english,id,twi,twi_error\n"),
    (b"a,english\n\"say \"\"hi\"\"\",\"one, \"\"two\"\"\"\n", b"a,english,twi,twi_error\n\"say \"\"hi\"\"\",\"one, \"\"two\"\"\",\"[tw] one, \"\"two\"\"\",\n"),
    (b"a,english\n\"x\r\ny\",\"one\ntwo\"\n", b"a,english,twi,twi_error\n\"x\r\ny\",\"one\ntwo\",\"[tw] one\ntwo\",\n"),
    (b"twi,english,b\nold,x,2\n", b"twi,english,b,twi_error\n[tw] x,x,2,\n"),
    (b"twi_error,english,twi\nold,x,y\n", b"twi_error,english,twi\n,x,[tw] x\n"),
    (b"english,b\n,1\n\"  \",2\n\"\",3\n", b"english,b,twi,twi_error\n,1,,\n\"  \",2,,\n\"\",3,,\n"),
    (b"english,b\n\nx,1\n\r\n", b"english,b,twi,twi_error\n\nx,1,[tw] x,\n\r\n"),
    (b"english\n\nx\n", b"english,twi,twi_error\n\nx,[tw] x,\n"),
    (b"\"odd\"x, \"y\" ,english\na\"b,c\rd,M\xc9\x94 \xf0\x9f\x98\x80\n",
     b"\"odd\"x, \"y\" ,english,twi,twi_error\na\"b,c\rd,M\xc9\x94 \xf0\x9f\x98\x80,[tw] M\xc9\x94 \xf0\x9f\x98\x80,\n"),
    (b"english,latin\nx,caf\xe9\n", b"english,latin,twi,twi_error\nx,caf\xe9,[tw] x,\n"),
])
def test_all_else_stays_byte_for_byte(system, batch, tmp_path, given, got):
    system.worker()
    (tmp_path / "in.csv").write_bytes(given)
    p = run(batch)
    assert p.returncode == 0, p.err
    assert (tmp_path / "out.csv").read_bytes() == got
    calls = system.stub.count()
    assert run(batch).returncode == 0 and (tmp_path / "out.csv").read_bytes() == got and system.stub.count() == calls


def test_columns_by_number_and_delimiters(system, batch, tmp_path):
    system.worker()
    (tmp_path / "in.csv").write_text("2;english\nno;Maakye\n")
    p = run(batch, "--delimiter", ";", "--pair", "en-ee", columns=("--csv", "--text-column", "2", "--out-column", "ewe"))
    assert p.returncode == 0 and (tmp_path / "out.csv").read_text() == "2;english;ewe;ewe_error\nno;Maakye;[ee] no;\n", "a name counts before a number"
    (tmp_path / "in.csv").write_text("a\tenglish\tc\n1\tx y\t3\n")
    p = batch("in.csv", "-o", "tab.csv", "--csv", "--delimiter", "tab", "--text-column", "2", "--out-column", "3")
    assert p.returncode == 0 and (tmp_path / "tab.csv").read_text() == "a\tenglish\tc\tc_error\n1\tx y\t[tw] x y\t\n"


def test_rows_that_fail_say_why_and_are_done_once_more(system, batch, tmp_path):
    system.worker(max_job_bytes=2000)
    rows = ["id,english,note", "1,fine,x", "2,\"a stub(status=403,times=1)\",\"y,z\"", "3,short", "4,too,many,cells", "5,\"b stub(status=403,times=2)\",", "6,\"" + "long " * 400 + "\",x",
            "7,fine too,z"]
    (tmp_path / "in.csv").write_bytes("\n".join(rows).encode() + b"\n8,\xff\xfe,n\n9,\"never closed,\n")
    p = run(batch, max_job_bytes=1900)
    got = table(tmp_path / "out.csv")
    assert p.returncode == 1 and "9 done: 2 succeeded, 7 failed: APIError 2, InvalidJobError 5" in p.err, p.err
    first = (tmp_path / "out.csv").read_bytes()
    assert [len(r) for r in got] == [5, 5, 5, 5, 6, 5, 5, 5, 5, 5]
    assert [r[0] for r in got] == ["id", "1", "2", "3", "4", "5", "", "7", "8", "9"]
    assert got[2][:4] == ["2", "a stub(status=403,times=1)", "y,z", ""] and error_of(got[2]) == "APIError"
    assert got[3] == ["3", "short", "", "", "InvalidJobError: the row has 2 cells and the header 3"] and error_of(got[4]) == "InvalidJobError"
    assert "longer than max_job_bytes" in got[6][4] and "not UTF-8" in got[8][4] and "quoted cell" in got[9][4]
    assert system.stub.count() == 4
    again = run(batch, max_job_bytes=1900)
    assert again.returncode == 1 and "7 failed: APIError 2, InvalidJobError 5" in again.err and (tmp_path / "out.csv").read_bytes() == first and system.stub.count() == 4
    p = run(batch, "--retry-failed", max_job_bytes=1900)
    second = table(tmp_path / "out.csv")
    assert p.returncode == 1 and "9 done: 3 succeeded, 6 failed: InvalidJobError 5, APIError 1" in p.err and not (tmp_path / "out.csv.new").exists()
    assert second[2] == ["2", "a stub(status=403,times=1)", "y,z", "[tw] a stub(status=403,times=1)", ""] and second[5][4].endswith("(try 2)") and second[1] == got[1]
    p = run(batch, "--retry-failed", max_job_bytes=1900)
    assert "4 succeeded, 5 failed: InvalidJobError 5" in p.err and system.stub.count() == 7 and table(tmp_path / "out.csv")[5][3:] == ["[tw] b stub(status=403,times=2)", ""]


def big(rows, seed=3):
    """A table of cells of every kind."""
    chance = random.Random(seed)
    out = ["id,note,english\r\n"]
    for i in range(rows):
        note = chance.choice(['""', "x", '"a, ""b"""', '"line\nline"', '"' + "w" * 200 + '"', ""])
        text = chance.choice([f"number {i}", f'"number {i}, ""quoted"""', f'"number {i}\r\nand more"', f"number {i} ɛ"])
        cells = [""] if i == 50 else [str(i), note] if i == 70 else [str(i), note, "" if i % 100 == 9 else text]
        out.append(",".join(cells) + chance.choice(("\r\n", "\n")))
    return "".join(out).encode()


def test_killed_twenty_times(system, batch, tmp_path):
    """The output is that of a run that nobody disturbed, byte for byte, and every row was called once."""
    (tmp_path / "in.csv").write_bytes(big(3000))
    system.worker(threads=8)
    assert batch("in.csv", "-o", "whole.csv", *COLUMNS).returncode == 1
    calls = system.stub.count()
    assert calls == 3000 - 30 - 2
    system.stub.ask("DELETE", "/_stub/calls")
    system.stub.fault("delay=10")
    assert batch.kills(20, "in.csv", "-o", "out.csv", *COLUMNS, pauses=(0.005, 0.02, 0.05, 0.1, 0.2)) == 20
    p = run(batch)
    assert p.returncode == 1 and "3000 done: 2999 succeeded, 1 failed: InvalidJobError 1" in p.err
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert system.stub.count() == calls and system.stats("translate").get("fenced", 0) == 0


def test_half_a_record_is_written_anew(system, batch, tmp_path):
    system.worker()
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbfid,english\r\n" + b"".join(b'%d,"text\r\n""%d"""\r\n' % (i, i) for i in range(4)))
    assert run(batch).returncode == 0
    whole = (tmp_path / "out.csv").read_bytes()
    for cut in (0, 1, 3, 10, 28, 29, 30, 31, 32, 33, 40, 60, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        (tmp_path / "out.csv").write_bytes(whole[:cut])
        p = run(batch)
        assert p.returncode == 0 and (tmp_path / "out.csv").read_bytes() == whole, (cut, p.err)
    assert system.stub.count() == 4


def test_a_retry_goes_on_too(system, batch, tmp_path):
    system.worker()
    (tmp_path / "in.csv").write_text("english\n" + "".join(f'"{i} stub(status=403,times=1)"\n' for i in range(300)))
    assert run(batch).returncode == 1
    system.stub.fault("delay=10")
    batch.kills(4, "in.csv", "-o", "out.csv", *COLUMNS, "--retry-failed", pauses=(0.05 * SLOW,))
    assert run(batch, "--retry-failed").returncode == 0
    assert all(r[1].startswith("[tw]") and r[2] == "" for r in table(tmp_path / "out.csv")[1:]) and system.stub.count() == 600


def test_lost_replies_are_no_second_calls(system, batch, wire, tmp_path):
    """What Redis has carried out without our knowing is looked for before it is sent again."""
    system.worker(threads=8)
    (tmp_path / "in.csv").write_text("english\n" + "".join(f"number {i}\n" for i in range(2500)))
    system.stub.fault("delay=20")
    p = batch.start("in.csv", "-o", "out.csv", *COLUMNS, redis_url="unix://" + wire.path)
    until(lambda: system.stub.count() > 0, 20, "it is under way")
    for every in (1, 2, 3, 5, 8, 13):
        lose_one(wire, every)
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and "is back" in err and [r[1] for r in table(tmp_path / "out.csv")[1:]] == [f"[tw] number {i}" for i in range(2500)], err
    assert system.stub.count() == 2500 and wire.lost >= 6


def test_redis_goes_away_and_comes_back(durable, tmp_path):
    durable.worker(lease_ms=5000)
    durable.stub.fault("delay=20")
    (tmp_path / "in.csv").write_text("english\n" + "".join(f"number {i}\n" for i in range(400)))
    p = Batch(durable, tmp_path).start("in.csv", "-o", "out.csv", *COLUMNS)
    until(lambda: (tmp_path / "out.csv").exists() and (tmp_path / "out.csv").stat().st_size > 100, 20, "it is under way")
    durable.server.kill()
    durable.server.start()
    _, err = p.communicate(timeout=60 * SLOW)
    assert p.returncode == 0 and table(tmp_path / "out.csv")[400][1] == "[tw] number 399" and durable.stub.count() == 400, err


def test_wrong_use(system, batch, tmp_path):
    (tmp_path / "in.csv").write_text("id,english,x,x\n1,a,b,c\n")
    (tmp_path / "none.csv").write_text("")
    (tmp_path / "other.csv").write_text("id,french\n")
    for args, words in (((*COLUMNS[:2], "French", *COLUMNS[3:]), "has no column 'French'"), ((*COLUMNS[:2], "French", *COLUMNS[3:]), "its columns: id, english, x, x"),
                        ((*COLUMNS[:2], "x", *COLUMNS[3:]), "several columns 'x'"), ((*COLUMNS[:2], "5", *COLUMNS[3:]), "no column '5'"),
                        ((*COLUMNS[:4], "9"), "no column '9'"), ((*COLUMNS[:4], "2"), "are one column"), (COLUMNS[:1], "--csv needs --text-column and --out-column"),
                        ((*COLUMNS, "--delimiter", "xy"), "--delimiter must be"), ((*COLUMNS, "--delimiter", '"'), "--delimiter must be"),
                        ((*COLUMNS, "--format", "srt"), "--format is not for rows"), (COLUMNS[1:], "is not for lines"),
                        ((*COLUMNS, "--retry-failed"), "out.csv cannot be read")):
        p = batch("in.csv", "-o", "out.csv", *args)
        assert p.returncode == 2 and words in p.err, (args, p.err)
    for given, into, words in (("none.csv", "out.csv", "has no header"), ("in.csv", "other.csv", "another header"), ("in.csv", "in.csv", "input and output at once"),
                               (".", "out.csv", "it is a directory")):
        p = batch(given, "-o", into, *COLUMNS)
        assert p.returncode == 2 and words in p.err, p.err
    (tmp_path / "longer.csv").write_text("id,english,x,x,twi,twi_error\n1,a,b,c,d,\n1,a,b,c,d,\n")
    p = batch("in.csv", "-o", "longer.csv", *COLUMNS)
    assert p.returncode == 2 and "has 2 rows and the input only 1" in p.err
    assert system.redis.keys("*") == []


def test_from_standard_input(system, batch, tmp_path):
    system.worker()
    (tmp_path / "in.csv").write_text("english\none\ntwo\n")
    with open(tmp_path / "in.csv", "rb") as f:
        assert batch("-", "-o", "out.csv", *COLUMNS, stdin=f).returncode == 0
    assert (tmp_path / "out.csv").read_text() == "english,twi,twi_error\none,[tw] one,\ntwo,[tw] two,\n"


@pytest.mark.release
def test_its_memory_is_that_of_a_window(system, batch, tmp_path):
    """Also where the rows are large: 200 MB in all."""
    system.worker(threads=16)
    with open(tmp_path / "in.csv", "w", encoding="utf-8") as f:
        f.write("english,ballast\n")
        for i in range(20000):
            f.write(f"number {i},{'x' * 10000}\n")
    p, peak = batch.peak("in.csv", "-o", "out.csv", *COLUMNS)
    assert p.returncode == 0 and 0 < peak < 64 * 1024, (peak, p.err)
    with open(tmp_path / "out.csv", encoding="utf-8") as f:
        assert sum(1 for _ in f) == 20001
