"""`edge records`, `edge audit` and `edge report` on a station's files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.archive import judged, unknown, write_records
from tests.support.mistakes import Run, refused
from tests.support.root import snapshot
from tests.support.station import make_station


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    station = make_station(tmp_path_factory.mktemp("made") / "station")
    station.configure("virtual", None)
    write_records(
        station.root,
        [*(judged(n, n / 10) for n in range(1, 101)), unknown(101), judged(102, 30.0, part="=1+1")],
    )
    return station.root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import shutil

    shutil.copytree(made, tmp_path / "root", symlinks=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "root"


def listed(run: Run, *line: object) -> list[str]:
    answer = run("edge", *line, "--root", "root")
    assert answer.code == 0, answer.err
    return answer.out.splitlines()


def test_a_list_with_filters(root: Path, run: Run) -> None:
    lines = listed(run, "records")
    assert len(lines) == 51
    assert lines[0].split() == [
        "102", "2026-11-30T02:35:20.000Z", "NG", "anomaly", "30", "=1+1"
    ]  # fmt: skip
    assert lines[1].split()[2:] == ["UNKNOWN", "no_depth", "-", "P101"]
    assert lines[-1] == "the newest 50: --limit shows more, --csv writes all"
    ng = listed(run, "records", "--code", "NG", "--code", "unknown")
    assert [line.split()[0] for line in ng] == ["102", "101", "100", "99", "98", "97", "96"]
    assert len(listed(run, "records", "--reason", "no_depth")) == 1
    assert len(listed(run, "records", "--part", "P1*", "--limit", "100")) == 13
    assert len(listed(run, "records", "--score-above", "9.9")) == 2
    assert listed(run, "records", "--product", "gear") == ["no such record under root"]
    assert len(listed(run, "records", "--since", "2026-11-30T02:30:20Z")) == 6
    assert listed(run, "records", "--until", "2026-11-29") == ["no such record under root"]


def test_a_day_is_a_whole_one(root: Path, run: Run, in_zone) -> None:
    in_zone("Europe/Berlin")
    day = ("records", "--since", "2026-11-30", "--until", "2026-11-30", "--limit", "200")
    assert len(listed(run, *day)) == 102
    in_zone("America/New_York")
    assert listed(run, *day) == ["no such record under root"]


def test_json_and_csv(root: Path, run: Run, tmp_path: Path) -> None:
    listed(run, "records", "label", "102", "bad", "--note", "scratch")
    (line,) = listed(run, "records", "--label", "bad", "--json")
    assert json.loads(line)["label"]["note"] == "scratch"
    assert json.loads(line)["seq"] == 102
    assert listed(run, "records", "--csv", "all.csv") == ["all.csv: 102 rows"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text("utf-8-sig"))))
    assert (len(rows), rows[0]["part"], rows[0]["label"]) == (102, "'=1+1", "bad")
    printed = listed(run, "records", "--csv", "-", "--limit", "2")
    assert len(printed) == 3


def test_a_label_shows_in_the_list(root: Path, run: Run) -> None:
    (said,) = listed(run, "records", "label", "96", "good", "--note", "dust")
    assert said.startswith("part 96 is labelled good by ")
    (line,) = listed(run, "records", "--label", "good")
    assert "dust)" in line


def test_the_audit_table(root: Path, run: Run) -> None:
    lines = listed(run, "audit")
    assert ": calibrate geometry {" in lines[0]
    assert all(len(line) < 300 for line in lines)
    assert all("install" in line for line in listed(run, "audit", "--act", "install"))
    told = [json.loads(line) for line in listed(run, "audit", "--json")]
    assert told[0]["act"] == "calibrate geometry"
    assert told[0]["detail"]["product"] == "washer"
    assert listed(run, "audit", "--csv", "audit.csv") == [f"audit.csv: {len(told)} rows"]
    assert listed(run, "audit", "--until", "2020-01-01") == ["no such row under root"]


def test_reports_from_their_making_to_their_proof(root: Path, run: Run, tmp_path: Path) -> None:
    (said,) = listed(run, "report", "commissioning", "washer.html")
    assert said.startswith("washer.html: Commissioning of washer, signed; ")
    lines = listed(run, "report", "verify", "washer.html")
    assert lines[0] == "washer.html is as it was signed"
    assert lines[2] == "station      site/line/s1"
    (said,) = listed(run, "report", "lot", "--since", "2026-11-30")
    name = said.partition(":")[0]
    assert name.startswith("lot-s1-")
    page = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(page.replace(b"102 parts", b"101 parts"))
    refused(
        run("edge", "report", "verify", name, "--root", "root"),
        "edge",
        name,
        "not as it was signed",
    )


def test_a_report_of_another_station(root: Path, run: Run, tmp_path: Path) -> None:
    listed(run, "report", "commissioning", "a.html")
    (tmp_path / "a.pub").write_text("\n".join(listed(run, "report", "key")) + "\n")
    elsewhere = ("report", "verify", "a.html", "--root", "elsewhere")
    refused(run("edge", *elsewhere), "edge", "a.html is signed with key", "has none yet", "--key")
    answer = run("edge", *elsewhere, "--key", "a.pub")
    assert answer.code == 0
    assert not (tmp_path / "elsewhere").exists()
    for name in ("station.key", "station.pub"):
        (root / "var/lib/edge" / name).unlink()
    listed(run, "report", "key")  # another one now
    refused(run("edge", "report", "verify", "a.html", "--root", "root"), "edge", "signed with key")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("records --code 4", ["--code 4", "OK, NG, UNKNOWN"]),
        ("records --reason bad", ["--reason bad", "anomaly"]),
        ("records --label fine", ["label 'fine'", "good, bad, none"]),
        ("records --since yesterday", ["--since yesterday", "2026-11-29"]),
        ("records --csv folder", ["--csv folder is a folder", "name the file"]),
        ("records --csv nowhere/a.csv", ["nowhere", "check the path"]),
        ("records label 999 good", ["number 999", "edge records"]),
        ("records label 1 fine", ["'fine'", "good, bad, none"]),
        ("audit --until later", ["--until later", "2026-11-29"]),
        ("report commissioning folder", ["folder is a folder"]),
        ("report commissioning --product gear", ["gear has no current bundle"]),
        ("report lot --until 2020-01-01", ["no part was judged", "edge records"]),
        ("report verify nowhere.html", ["nowhere.html does not exist"]),
        ("report verify root/etc/edge/station.toml", ["station.toml", "no report of a station"]),
    ],
)
def test_mistakes_are_one_sentence_and_change_nothing(
    root: Path, run: Run, tmp_path: Path, line: str, words: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    before = snapshot(tmp_path)
    refused(run("edge", *line.split(), "--root", "root"), "edge", *words)
    after = snapshot(tmp_path)
    beside = {name for name in after if name.endswith(("-shm", "-wal"))}
    assert set(after) - beside == set(before)
    assert [name for name in before if after[name][2] != before[name][2]] == []


def test_a_root_that_is_not_there_is_not_made(run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed(run, "records") == ["no such record under root"]
    assert listed(run, "audit") == ["no such row under root"]
    for line in ("report commissioning", "report lot", "report key", "records label 1 good"):
        assert run("edge", *line.split(), "--root", "root").code == 1
    assert list(tmp_path.iterdir()) == []
