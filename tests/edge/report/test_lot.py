"""The report of a lot counts what was judged, and shows what was not OK."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.archive.filters import RecordFilter
from edge.archive.labels import add_label
from edge.errors import DataError, StorageError
from edge.report.lot import PARTS_LISTED, PICTURES_SHOWN
from edge.report.reports import lot_report
from edge.station.audit import PLACE
from edge.types import Reason
from tests.support.archive import (
    BEGAN_S,
    damage,
    judged,
    keep_picture,
    record_of,
    unknown,
    write_records,
)
from tests.support.reported import png, read_page
from tests.support.station import StationRoot


def report_of(station: StationRoot, asked: RecordFilter) -> str:
    return read_page(lot_report(station.store, asked)).text


def test_a_lot(station: StationRoot) -> None:
    root = station.root
    records = [
        *(judged(n, 5.0, judge_ms=20) for n in range(1, 81)),
        *(judged(n, 20.0, images=f"parts/2026-11-30/s1-{n}") for n in range(81, 91)),
        *(unknown(n, Reason.NO_DEPTH) for n in range(91, 96)),
        judged(96, 5.0, product="gear"),
        judged(97, 5.0, clock_synced=False),
    ]
    write_records(root, records)
    for record in records[80:83]:
        keep_picture(root, record, png(90), "overlay.png")
    for seq, said in ((81, "good"), (82, "bad"), (83, "good"), (1, "good"), (2, "bad")):
        add_label(root, seq, said, who="anna")
    said = report_of(station, RecordFilter(product="washer"))
    for words in (
        "96 parts: 81 OK (84.38%), 10 NG (10.42%), 5 UNKNOWN (5.21%).",
        "normal 81 anomaly 10 no_depth 5",
        "2 false rejects in 82 good parts: 2.44%",
        "7 NG parts without a label",
        "1 miss: judged OK, labelled bad (1 labelled good)",
        "5 parts without a score",
        "The clock was not synchronized for 1 parts",
        "washer washer-1.0.0",
        "81 P81",
        "good (anna)",
    ):
        assert words in said, words
    page = lot_report(station.store, RecordFilter(product="washer")).decode()
    assert len(re.findall('<img src="data:image/jpeg', page)) == 3
    assert "Pictures of the newest 3 of which one is kept." in page


def test_only_the_time_that_is_asked_for(station: StationRoot) -> None:
    write_records(station.root, [judged(n, 5.0) for n in range(1, 101)])
    began = datetime.fromtimestamp(BEGAN_S, timezone.utc)
    asked = RecordFilter(began + timedelta(minutes=10), began + timedelta(minutes=20))
    assert "10 parts: 10 OK" in report_of(station, asked)


def test_a_lot_of_bad_parts_stays_readable(station: StationRoot) -> None:
    write_records(station.root, [judged(n, 20.0) for n in range(1, 1001)])
    page = lot_report(station.store, RecordFilter())
    assert page.decode().count("<figure") == 2
    assert b"No picture of these parts is kept any more." in page
    assert f"The newest {PARTS_LISTED} are listed" in read_page(page).text
    assert len(page) < 400_000


def test_only_some_pictures_are_shown(station: StationRoot) -> None:
    records = [judged(n, 20.0, images=f"parts/2026-11-30/s1-{n}") for n in range(1, 41)]
    write_records(station.root, records)
    for record in records:
        keep_picture(station.root, record, png(90), "color.png")
    page = lot_report(station.store, RecordFilter()).decode()
    assert page.count("<img ") == PICTURES_SHOWN
    assert page.index("40: P40") < page.index("17: P17")


def test_damaged_records_are_said(station: StationRoot) -> None:
    write_records(station.root, [judged(n, 5.0) for n in range(1, 11)])
    damage(station.root, 4, "{")
    said = report_of(station, RecordFilter())
    assert "1 records of this station are damaged and in no count." in said
    assert "9 parts: 9 OK" in said


def test_records_that_say_anything(station: StationRoot) -> None:
    """The database belongs to the service's account, which may write what it likes."""
    strange = [
        record_of(1, part="<b>", reason='"><script>', product=7, engine=None, thr="x", score=1e300),
        record_of(2, judged_at="<i>", images="../..", guarantee=["a"], code=2, thr=-1.0),
        {"seq": 3, "code": 2},
    ]
    write_records(station.root, strange)
    said = report_of(station, RecordFilter())
    assert '"><script>' in said
    assert "3 parts" in said


def test_no_part_is_no_report(station: StationRoot) -> None:
    write_records(station.root, [judged(1, 5.0)])
    late = RecordFilter(since=datetime(2030, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(DataError, match=r"no part was judged in this time.*edge records"):
        lot_report(station.store, late)
    assert not (station.store.data / "station.key").exists()


def test_a_damaged_database(station: StationRoot) -> None:
    (station.root / PLACE).write_bytes(b"hello " * 1000)
    for path in Path(station.root / "var/lib/edge").glob("line.sqlite-*"):
        path.unlink()
    with pytest.raises(StorageError, match="Move the file away"):
        lot_report(station.store, RecordFilter())
