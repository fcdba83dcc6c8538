"""The audit table for people: newest first, by time and act, without writing to its file."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.archive.acts import ActFilter, read_acts
from edge.errors import StorageError
from edge.station.audit import PLACE, append_audit, read_audit


def test_rows_as_the_station_wrote_them(tmp_path: Path) -> None:
    for number in range(5):
        append_audit(tmp_path, "select" if number % 2 else "install", {"n": number}, who="anna")
    before = hashlib.sha256((tmp_path / PLACE).read_bytes()).hexdigest()
    assert read_acts(tmp_path, ActFilter()) == read_audit(tmp_path)[::-1]
    assert [row.detail["n"] for row in read_acts(tmp_path, ActFilter(acts=("select",)))] == [3, 1]
    assert [row.detail["n"] for row in read_acts(tmp_path, ActFilter(limit=2))] == [4, 3]
    assert [row.id for row in read_acts(tmp_path, ActFilter(before_id=3))] == [2, 1]
    hour, now = timedelta(hours=1), datetime.now(timezone.utc)
    assert len(read_acts(tmp_path, ActFilter(since=now - hour, until=now + hour))) == 5
    assert read_acts(tmp_path, ActFilter(since=now + hour)) == []
    assert read_acts(tmp_path, ActFilter(until=now - hour)) == []
    assert hashlib.sha256((tmp_path / PLACE).read_bytes()).hexdigest() == before


def test_nothing_happened_yet_and_a_damaged_file(tmp_path: Path) -> None:
    assert read_acts(tmp_path, ActFilter()) == []
    assert list(tmp_path.iterdir()) == []
    append_audit(tmp_path, "trust", {})
    (tmp_path / PLACE).write_bytes(b"hello " * 1000)
    with pytest.raises(StorageError, match=r"cannot read .*Move the file away"):
        read_acts(tmp_path, ActFilter())
