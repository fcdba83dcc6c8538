"""Records for people: every filter against a plain reference, paging, counts, damaged files, and
reading beside an outbox that writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.archive import query
from edge.archive.filters import RecordFilter, parse_moment
from edge.archive.labels import add_label
from edge.archive.query import (
    count_by,
    count_records,
    find_record,
    histogram,
    iterate_records,
    read_numbers,
    read_records,
)
from edge.errors import ConfigError, StorageError
from edge.line.outbox import Outbox
from edge.station.audit import PLACE, append_audit
from edge.types import Reason
from tests.support.archive import (
    BEGAN_S,
    THRESHOLD,
    damage,
    judged,
    record_of,
    unknown,
    write_records,
)
from tests.support.line import build

REPOSITORY = Path(__file__).resolve().parents[3]
COUNT = 120
NAMES = ["A17", "A*7", "a17", "B[1]", "B?", "A1", "*", "B1"]
DAMAGED = {7: "{torn", 30: b"\xff\x00", 31: "[1, 2]", 90: "", 95: "[" * 200_000, 110: '{"code": 2'}
LABELS = {3: "good", 4: "bad", 5: "good", 60: "bad", 61: "none"}


def planted() -> Iterator[dict[str, Any]]:
    """Records of every kind, also of what no station writes."""
    for seq in range(1, COUNT + 1):
        changed = {"part": NAMES[seq % len(NAMES)], "product": "gear" if seq % 5 == 0 else "washer"}
        if seq % 11 == 0:
            yield unknown(seq, [Reason.NO_PART, Reason.LATE][seq % 2], **changed)
        elif seq % 13 == 0:
            yield record_of(seq, score="high", judged_at=5, judge_ms=10**400, **changed)
        else:
            yield judged(seq, (seq * 37 % 200) / 10, **changed)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_records(root, planted())
    for seq, said in LABELS.items():
        add_label(root, seq, said)
    for seq, text in DAMAGED.items():
        damage(root, seq, text)
    return root


@pytest.fixture(scope="module", autouse=True)
def small_windows() -> Iterator[None]:
    """So that a hundred records take many of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "WINDOW", 16)
        yield


def expected(asked: RecordFilter) -> list[int]:
    """The numbers that match, from the list of records alone."""
    whole = [record for record in planted() if record["seq"] not in DAMAGED]
    found = [record["seq"] for record in whole if matches(record, asked)]
    return sorted(found, reverse=True)[: asked.limit]


def matches(record: dict[str, Any], asked: RecordFilter) -> bool:
    score, said = record["score"], LABELS.get(record["seq"], "none")
    is_scored = isinstance(score, float)
    name = "" if asked.part is None else ".*".join(map(re.escape, asked.part.split("*")))
    return all([
        not asked.codes or record["code"] in asked.codes,
        not asked.reasons or record["reason"] in asked.reasons,
        asked.product in (None, record["product"]),
        asked.part is None or re.fullmatch(name, record["part"]) is not None,
        not asked.labels or said in asked.labels,
        asked.min_score is None or (is_scored and score >= asked.min_score),
        asked.max_score is None or (is_scored and score <= asked.max_score),
        asked.before_seq is None or record["seq"] < asked.before_seq,
        is_within(record["judged_at"], asked),
    ])  # fmt: skip


def is_within(judged_at: object, asked: RecordFilter) -> bool:
    if asked.since is None and asked.until is None:
        return True
    if not isinstance(judged_at, str):
        return False
    at = datetime.fromisoformat(judged_at.replace("Z", "+00:00"))
    return (asked.since is None or at >= asked.since) and (asked.until is None or at < asked.until)


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


moments = st.integers(-10, COUNT + 10).map(
    lambda minutes: datetime.fromtimestamp(BEGAN_S + 60 * minutes, timezone(timedelta(hours=5)))
)
scores = st.sampled_from([-1.0, 0.0, 3.7, THRESHOLD, 19.9, 30.0])
filters = st.builds(
    RecordFilter,
    since=some(moments),
    until=some(moments),
    codes=st.sets(st.sampled_from([1, 2, 3])).map(tuple),
    reasons=st.sets(st.sampled_from(["normal", "anomaly", "late", "blind"])).map(tuple),
    part=some(st.sampled_from([*NAMES, "A*", "*1*", "?", "[AB]*", "B[*", ""])),
    product=some(st.sampled_from(["washer", "gear", "other"])),
    labels=st.sets(st.sampled_from(["good", "bad", "none"])).map(tuple),
    min_score=some(scores),
    max_score=some(scores),
    before_seq=some(st.integers(-3, COUNT + 3) | st.just(10**30)),
    limit=some(st.integers(1, COUNT)),
)


@settings(deadline=None, max_examples=150)
@given(asked=filters)
def test_every_filter_gives_what_a_plain_list_gives(root: Path, asked: RecordFilter) -> None:
    found = expected(asked)
    assert [row.seq for row in read_records(root, asked)] == found
    every = expected(replace(asked, limit=None))
    assert count_records(root, asked).total == len(every)
    read = read_numbers(root, asked, "seq", "score")
    assert read[:, 0].tolist() == found


def test_a_damaged_row_hides_no_other(root: Path) -> None:
    """The newest of a window is damaged: the limit must not count it."""
    assert [row.seq for row in read_records(root, RecordFilter(before_seq=111, limit=1))] == [109]
    assert find_record(root, 110) is None
    assert find_record(root, 109) is not None
    assert find_record(root, 10**9) is None


def test_a_number_that_no_float_holds_is_none(root: Path) -> None:
    row = find_record(root, 13)
    assert row is not None
    assert row.fields["judge_ms"] == 10**400
    assert row.number("judge_ms") is None


def test_pages_show_every_record_once(root: Path) -> None:
    seen: list[int] = []
    page = RecordFilter(limit=7)
    while rows := read_records(root, page):
        assert len(rows) <= 7
        seen += [row.seq for row in rows]
        page = replace(page, before_seq=rows[-1].seq)
    assert seen == expected(RecordFilter(limit=None))


def test_counts_by_code_reason_and_day(root: Path, in_zone: Callable[[str], None]) -> None:
    in_zone("Asia/Kolkata")  # UTC + 5:30
    whole = [record for record in planted() if record["seq"] not in DAMAGED]
    counts = count_records(root, RecordFilter())
    assert counts.by_code == Counter(record["code"] for record in whole)
    assert counts.by_reason == Counter(record["reason"] for record in whole)
    assert counts.unreadable == len(DAMAGED)
    dated = [record for record in whole if isinstance(record["judged_at"], str)]
    first = datetime.fromtimestamp(BEGAN_S, timezone(timedelta(hours=5, minutes=30)))
    days = Counter(
        (first + timedelta(minutes=record["seq"])).date().isoformat() for record in dated
    )
    assert {day: sum(counts.by_day[day].values()) for day in days} == days


def test_a_day_is_one_of_this_station(tmp_path: Path, in_zone: Callable[[str], None]) -> None:
    """Before and after midnight in Pune, which is one day in UTC; and a night in which Berlin puts
    its clocks back.
    """
    times = ["2026-10-24T18:29:59.999Z", "2026-10-24T18:30:00.000Z", "2026-10-24T22:30:00.000Z",
             "2026-10-25T22:59:59.000Z", "2026-10-25T23:00:00.000Z"]  # fmt: skip
    write_records(tmp_path, [record_of(n, judged_at=at) for n, at in enumerate(times, 1)])
    in_zone("Asia/Kolkata")
    by_day = count_records(tmp_path, RecordFilter()).by_day
    assert list(by_day.items())[:2] == [("2026-10-24", {1: 1}), ("2026-10-25", {1: 2})]
    in_zone("Europe/Berlin")
    by_day = count_records(tmp_path, RecordFilter()).by_day
    assert by_day == {"2026-10-24": {1: 2}, "2026-10-25": {1: 2}, "2026-10-26": {1: 1}}
    day = RecordFilter(
        parse_moment("2026-10-25", "--since"), parse_moment("2026-10-25", "--until", is_end=True)
    )
    assert [row.seq for row in read_records(tmp_path, day)] == [4, 3]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-29", "2026-11-29T00:00:00+01:00"),
        ("2026-11-29T06:00", "2026-11-29T06:00:00+01:00"),
        ("2026-11-29T06:00:00Z", "2026-11-29T06:00:00+00:00"),
        ("2026-11-29T06:00:00+05:30", "2026-11-29T06:00:00+05:30"),
    ],
)
def test_times_are_of_this_station_unless_they_say_otherwise(
    in_zone: Callable[[str], None], text: str, moment: str
) -> None:
    in_zone("Europe/Berlin")
    assert parse_moment(text, "--since") == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "29.11.2026", "0001-01-01Z"])
def test_a_time_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--since.*2026-11-29T06:00"):
        parse_moment(text, "--since")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"codes": (0,)}, "code 0: use 1"),
        ({"labels": ("fine",)}, "label 'fine': use one of good, bad, none"),
        ({"limit": 0}, "at least 1 record"),
        ({"since": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_a_filter_that_is_not_possible(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RecordFilter(**wrong)


def test_histogram_of_scores(root: Path) -> None:
    scores = {
        code: [r["score"] for r in planted()
               if r["seq"] not in DAMAGED and r["code"] == code and isinstance(r["score"], float)]
        for code in (1, 2, 3)
    }  # fmt: skip
    found = histogram(root, RecordFilter(limit=None), bins=10)
    assert found is not None
    assert {code: sum(bins) for code, bins in found.counts.items()} == {
        code: len(values) for code, values in scores.items()
    }
    assert found.edges[0] == min(map(min, filter(None, scores.values())))
    assert found.thresholds == (THRESHOLD,)
    split = sum(edge <= THRESHOLD for edge in found.edges) - 1
    assert not any(found.counts[1][split + 1 :])
    assert not any(found.counts[2][:split])
    newest = histogram(root, RecordFilter(limit=10), bins=4)
    assert newest is not None
    assert sum(map(sum, newest.counts.values())) + newest.unscored == 10


def test_one_enormous_score_does_not_hide_the_others(tmp_path: Path) -> None:
    write_records(tmp_path, [judged(n, score) for n, score in enumerate([1.0, 2.0, 9e9], 1)])
    found = histogram(tmp_path, RecordFilter(), bins=10)
    assert found is not None
    assert found.edges[-1] == 3 * THRESHOLD
    assert found.counts[2][-1] == 1
    assert sum(found.counts[1]) == 2


def test_groups_by_any_key(root: Path) -> None:
    groups = count_by(root, RecordFilter(codes=(1,)), "product", "thr")
    whole = [r for r in planted() if r["seq"] not in DAMAGED and r["code"] == 1]
    assert groups == Counter((r["product"], r["thr"]) for r in whole)
    with pytest.raises(ValueError, match="no key of a record"):
        count_by(root, RecordFilter(), "a') FROM records --")


def test_nothing_was_recorded_yet(tmp_path: Path) -> None:
    assert read_records(tmp_path, RecordFilter()) == []
    assert count_records(tmp_path, RecordFilter()).total == 0
    assert histogram(tmp_path, RecordFilter()) is None
    assert list(tmp_path.iterdir()) == []
    append_audit(tmp_path, "trust", {})  # the file is there, and has no records
    assert read_records(tmp_path, RecordFilter()) == []
    (tmp_path / PLACE).unlink()
    (tmp_path / PLACE).touch()
    assert read_records(tmp_path, RecordFilter()) == []


def test_an_older_file_without_the_newer_columns(tmp_path: Path) -> None:
    path = tmp_path / PLACE
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE records (seq INTEGER PRIMARY KEY, fields TEXT NOT NULL, committed_at REAL)"
    )
    rows = [(n, json.dumps({"part": f"P{n}", "code": 1}), 0.0) for n in (1, 2)]
    connection.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    newest, _ = read_records(tmp_path, RecordFilter(codes=(1,)))
    assert (newest.text("part"), newest.text("judged_at"), newest.number("score")) == (
        "P2",
        "",
        None,
    )
    assert count_records(tmp_path, RecordFilter()).by_day == {"unknown": {1: 2}}


def whole_file(tmp_path: Path) -> Path:
    write_records(tmp_path, [judged(n, 1.0) for n in range(1, 400)])
    return tmp_path / PLACE


@pytest.mark.parametrize("kind", ["text", "cut", "zeros", "folder"])
def test_a_file_that_is_no_database_any_more(tmp_path: Path, kind: str) -> None:
    path = whole_file(tmp_path)
    data = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        middle = len(data) // 2
        path.write_bytes({
            "text": b"hello " * 1000,
            "cut": data[:middle],
            "zeros": data[:4096] + bytes(middle) + data[4096 + middle :],
        }[kind])  # fmt: skip
    with pytest.raises(StorageError) as refused:
        read_records(tmp_path, RecordFilter(limit=None))
    said = str(refused.value)
    assert said.startswith(f"cannot read {path}: ")
    assert re.search("Move the file away|check the path", said)
    assert "\n" not in said


def test_reading_changes_nothing(root: Path) -> None:
    def digest() -> str:
        return hashlib.sha256((root / PLACE).read_bytes()).hexdigest()

    before = digest()
    read_records(root, RecordFilter(labels=("good",)))
    count_records(root, RecordFilter())
    assert digest() == before
    with query.reading(root) as connection:
        assert connection is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM records")


READER = """
import sys
from pathlib import Path
from edge.archive.query import RecordFilter, count_records, read_records
root, stop = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
seen = -1
while True:
    is_last = stop.exists()
    total = count_records(root, RecordFilter()).total
    newest = [row.seq for row in read_records(root, RecordFilter(limit=50))]
    assert total >= seen, (total, seen)
    assert newest == sorted(newest, reverse=True), newest
    assert len(newest) == min(50, max(newest, default=0)), newest
    seen = total
    if is_last:
        break
print(seen)
"""


def test_another_process_reads_while_an_outbox_writes(tmp_path: Path) -> None:
    """Every record of which the reader is told is there, and no commit is refused."""
    outbox, stop = Outbox(tmp_path / PLACE), tmp_path / "stop"
    words = [sys.executable, "-c", READER, str(tmp_path), str(stop)]
    with subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(400):
            outbox.commit(build)
            if number % 50 == 0:
                outbox.mark_sent([one.seq for one in outbox.unsent(0, 100)])
                outbox.checkpoint()
        stop.touch()
        out, err = reader.communicate(timeout=60)
    outbox.close()
    assert reader.returncode == 0, err
    assert int(out) == 400


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from edge.archive.query import RecordFilter, count_records, read_records
root = Path(sys.argv[1])
count_records(root, RecordFilter())  # everything is imported by now
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(len(read_records(root, RecordFilter())), count_records(root, RecordFilter()).total)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another account")
@pytest.mark.parametrize("at_work", [False, True], ids=["at rest", "beside an outbox"])
def test_an_account_that_may_only_read(at_work: bool, tmp_path: Path) -> None:
    write_records(tmp_path, [judged(n, 1.0) for n in range(1, 6)])
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    outbox = Outbox(tmp_path / PLACE) if at_work else None
    words = [sys.executable, "-c", UNPRIVILEGED, str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    if outbox is not None:
        outbox.close()
    assert done.stdout == "5 5\n", done.stderr


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """8,000 records are 8 MB of text; a window of them is in memory at a time."""
    write_records(tmp_path, (judged(n, n % 20 / 2) for n in range(1, 8_001)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "WINDOW", 1000)
        tracemalloc.start()
        assert sum(1 for _ in iterate_records(tmp_path, RecordFilter(limit=None))) == 8_000
        assert count_records(tmp_path, RecordFilter(part="P1*")).total == 1_111
        assert not math.isnan(read_numbers(tmp_path, RecordFilter(limit=None), "score").sum())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5e6
