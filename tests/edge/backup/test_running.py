"""A backup while `edge run` judges: every part that was committed before is in it, in order, and
the station misses none; and the restored one judges.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.archive.reading import has_table, reading
from edge.backup.restore import restore_backup
from edge.errors import BusyError
from edge.station.audit import PLACE as LINE
from edge.station.store import Store
from tests.support.backed_up import backed_up, rows
from tests.support.patience import patience_s
from tests.support.process import running_process
from tests.support.station import StationRoot, belt, make_station, write_belt


def last(root: Path) -> int:
    """The newest number in the database of a station."""
    with reading(root) as connection:
        if connection is None or not has_table(connection, "records"):
            return 0
        return int(connection.execute("SELECT max(seq) FROM records").fetchone()[0] or 0)


def until(is_so: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + patience_s(60)
    while not is_so():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_while_it_judges(tmp_path: Path) -> None:
    station = make_station(tmp_path / "station")
    images = write_belt(tmp_path / "belt", belt([6, 6, 6, 6], bad=[1]))
    station.configure("folder", images)
    with running_process(station, tmp_path / "log"):
        until(lambda: last(station.root) >= 3, (tmp_path / "log").read_text())
        before = last(station.root)
        path = backed_up(station.root)
        after = last(station.root)
        with pytest.raises(BusyError, match=r"run\.lock"):
            restore_backup(Store(station.root), path)
        until(lambda: last(station.root) > after, "it judges on")
    again = StationRoot(tmp_path / "again", station.key)
    restored = restore_backup(again.store, path)
    assert restored.after is not None
    numbers = [seq for seq, *_ in rows(again.root / LINE, "records")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert before <= len(numbers) <= after
    for _, fields, *_ in rows(again.root / LINE, "records"):
        assert json.loads(str(fields))["product"] == "washer"
    with running_process(again, tmp_path / "again.log"):
        until(lambda: last(again.root) > restored.after, (tmp_path / "again.log").read_text())
