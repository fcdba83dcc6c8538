"""A clock that starts in 1970 lets nobody show an old state of the repository."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edge.built import built_at
from edge.errors import UpdateError
from edge.line.tables import RECORDS
from edge.station.store import Store
from edge.update import clock
from edge.update.clock import Seen, read_seen, time_at_least, write_seen
from edge.update.factory import make_source
from edge.update.state import update_folder
from edge.update_sections import UpdateConfig
from tests.support.released import Released, ends
from trainer.release.stick import copy_to_stick

NO_BATTERY = datetime(1970, 1, 1, tzinfo=timezone.utc)
KEYS = ("0" * 64,)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    return lambda when: monkeypatch.setattr(clock, "wall_clock", lambda: when)


def add_record(store: Store, seq: int, judged_at: str, synced: bool) -> None:
    with closing(sqlite3.connect(store.data / "line.sqlite")) as connection, connection:
        connection.execute(RECORDS)
        fields = json.dumps({"judged_at": judged_at, "clock_synced": synced})
        insert = "INSERT INTO records (seq, fields, committed_at) VALUES (?, ?, 0)"
        connection.execute(insert, (seq, fields))


def test_it_is_never_before_what_has_certainly_passed(station: Store, set_clock) -> None:
    assert time_at_least(station.root, None) >= datetime.now(timezone.utc) - timedelta(minutes=5)
    set_clock(NO_BATTERY)
    assert time_at_least(station.root, None) == built_at()
    later = built_at() + timedelta(days=100)
    assert time_at_least(station.root, Seen(version=1, made_at=later, keys=KEYS)) == later
    add_record(station, 1, "2027-04-01T12:00:00.000Z", True)
    add_record(station, 2, "2031-01-01T12:00:00.000Z", False)  # nobody knows when that was
    assert time_at_least(station.root, None) == datetime(2027, 4, 1, 12, tzinfo=timezone.utc)
    ahead = datetime(2028, 1, 1, tzinfo=timezone.utc)
    set_clock(ahead)
    assert time_at_least(station.root, None) == ahead


def test_this_software_was_not_built_in_the_future() -> None:
    assert datetime.now(timezone.utc) >= built_at()


@pytest.mark.parametrize("text", ["", "{}", "nothing", '{"version": 0}'])
def test_a_damaged_memory_knows_less(tmp_path: Path, text: str) -> None:
    assert read_seen(tmp_path) is None
    write_seen(tmp_path, Seen(version=3, made_at=built_at(), keys=KEYS))
    assert read_seen(tmp_path) == Seen(version=3, made_at=built_at(), keys=KEYS)
    (tmp_path / clock.FILE).write_text(text)
    assert read_seen(tmp_path) is None


def find(store: Store, released: Released) -> list[Any]:
    """From a stick, whose timestamp is good for months."""
    stick = released.folder / "stick"
    return list(make_source(store, UpdateConfig(), stick).find({}))


def test_metadata_expires_by_that_time_and_not_by_the_wall_clock(
    released: Released, station: Store, set_clock
) -> None:
    until = copy_to_stick(released.repository, released.folder / "stick", [released.keys])
    set_clock(NO_BATTERY)
    assert find(station, released)
    add_record(station, 1, f"{until + timedelta(days=1):%Y-%m-%dT%H:%M:%S.000Z}", True)
    with pytest.raises(UpdateError, match=r"expired, and it is 2027-\S+ .* own is earlier"):
        find(station, released)


def test_what_ended_before_this_software_was_written_is_refused_in_1970(
    released: Released, station: Store, set_clock
) -> None:
    copy_to_stick(released.repository, released.folder / "stick", [released.keys])
    stick = Released(released.folder)
    timestamp = released.folder / "stick/metadata/timestamp.json"
    from tuf.api.metadata import Metadata

    from tests.support.released import signer_of

    metadata: Metadata[Any] = Metadata.from_file(str(timestamp))
    ends(built_at() - timedelta(days=1))(metadata.signed)
    metadata.sign(signer_of(stick.keys / "offline/usb-1.key"))
    metadata.to_file(str(timestamp))
    set_clock(NO_BATTERY)
    with pytest.raises(UpdateError, match="expired"):
        find(station, released)


def test_the_newest_verified_timestamp_moves_the_clock_on(
    released: Released, station: Store, set_clock
) -> None:
    copy_to_stick(released.repository, released.folder / "stick", [released.keys])
    find(station, released)
    seen = read_seen(update_folder(station) / "usb")
    assert seen is not None
    set_clock(NO_BATTERY)
    now = datetime.now(timezone.utc)
    assert abs(time_at_least(station.root, seen) - now) < timedelta(minutes=5)
