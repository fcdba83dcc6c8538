"""The counters of the shift agree with the records, whatever is restarted meanwhile."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edge.page import shift as shift_module
from edge.page.shift import ShiftCounts, began_at
from tests.support.recorded import add_record, record_parts

ZONE = timezone(timedelta(hours=1))
THREE = ("06:00", "14:00", "22:00")


@pytest.mark.parametrize(
    ("now", "begins", "began"),
    [
        ("2026-11-30T14:00", THREE, "2026-11-30T14:00"),
        ("2026-11-30T13:59", THREE, "2026-11-30T06:00"),
        ("2026-11-30T05:59", THREE, "2026-11-29T22:00"),
        ("2026-12-01T00:10", ("22:00", "06:00"), "2026-11-30T22:00"),
        ("2026-11-30T06:59", ("07:00",), "2026-11-29T07:00"),
    ],
)
def test_when_a_shift_began(now: str, begins: tuple[str, ...], began: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=ZONE)

    assert began_at(moment(now), begins) == moment(began)


class Station:
    """Counts as `edge run` does, and the records beside it."""

    def __init__(self, root: Path) -> None:
        self.root, self.pid = root, 1
        self.told = {"ok": 0, "ng": 0, "unknown": 0}
        self.seq = 0

    def restart(self) -> None:
        self.pid, self.told = self.pid + 1, dict.fromkeys(self.told, 0)

    def judge(self, code: int, at: datetime) -> None:
        text = at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.seq = add_record(self.root, code=code, judged_at=text)["seq"]
        self.told[("ok", "ng", "unknown")[code - 1]] += 1

    def said(self) -> dict[str, Any]:
        return {**self.told, "pid": self.pid, "seq": self.seq}


class Desk:
    """Asks for the counters, and knows how often the records were counted."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2026, 11, 30, 14, 5, tzinfo=ZONE)
        self.counts = ShiftCounts(root, THREE, lambda: self.now)
        self.counted = 0
        count = self.counts._counted

        def counting(*words: Any) -> dict[str, int] | None:
            self.counted += 1
            return count(*words)

        monkeypatch.setattr(self.counts, "_counted", counting)

    def ask(self, station: Station) -> tuple[int, int, int]:
        shift = asyncio.run(self.counts.of(station.said()))
        assert shift is not None
        return shift.ok, shift.ng, shift.unknown


def test_the_shift_is_counted_whatever_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_parts(tmp_path, 20, pictured=0)  # of days before
    station, desk = Station(tmp_path), Desk(tmp_path, monkeypatch)
    minute = timedelta(minutes=1)
    station.judge(1, desk.now - 6 * minute)  # the shift before
    station.judge(2, desk.now - 2 * minute)
    assert desk.ask(station) == (0, 1, 0)
    station.judge(1, desk.now)
    station.judge(3, desk.now)
    assert (desk.ask(station), desk.counted) == ((1, 1, 1), 1)
    station.restart()
    station.judge(1, desk.now)
    assert (desk.ask(station), desk.counted) == ((2, 1, 1), 2)
    station.told = dict.fromkeys(station.told, 0)  # by the command `reset`
    assert (desk.ask(station), desk.counted) == ((2, 1, 1), 3)
    desk.now += timedelta(hours=8)
    assert desk.ask(station) == (0, 0, 0)
    station.judge(2, desk.now)
    assert (desk.ask(station), desk.counted) == ((0, 1, 0), 4)
    monkeypatch.setattr(shift_module, "AGAIN_S", 0.0)
    assert (desk.ask(station), desk.counted) == ((0, 1, 0), 5)


def test_without_shifts_or_a_station_there_is_nothing_to_count(tmp_path: Path) -> None:
    assert asyncio.run(ShiftCounts(tmp_path, ()).of({"seq": 1})) is None
    assert asyncio.run(ShiftCounts(tmp_path, THREE).of({})) is None


def test_records_that_cannot_be_read_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "var/lib/edge/line.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    said = {"ok": 3, "ng": 0, "unknown": 0, "pid": 1, "seq": 9}
    assert asyncio.run(ShiftCounts(tmp_path, THREE).of(said)) is None, "and not 0 parts"
    assert "are not counted" in caplog.text
