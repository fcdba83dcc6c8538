"""SIGKILL and power cuts before, within and after every call of the outbox.

What was committed is there with its record, no number is given out twice, and what was handed to
the line comes again only as a replay. An acknowledgement survives SIGKILL; a power cut may undo it
(docs/mqtt.md), as a replay.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.line.outbox import Outbox
from tests.support.cuts.cuts import Cut, Recording, record, workplace
from tests.support.cuts.disk import Builder
from tests.support.cuts.line import ACTS, PLACE, LineAct, fields
from tests.support.cuts.summary import counted_cuts

pytestmark = [pytest.mark.endurance, pytest.mark.xdist_group("cuts of the outbox")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workplace(tmp_path_factory.mktemp("cuts")) as folder:
        (folder / "work").mkdir()
        yield folder


@pytest.fixture(scope="module")
def recordings(place: Path) -> dict[str, Recording]:
    return record("tests.support.cuts.line", list(ACTS), place / "work", place)


def _numbers(cut: Cut, word: str) -> set[int]:
    return {int(told.split()[1]) for told in cut.told if told.startswith(f"{word} ")}


def _records_of(database: Path) -> dict[int, str]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(connection.execute("SELECT seq, fields FROM records").fetchall())


def check(cut: Cut, root: Path, act: LineAct) -> None:
    outbox = Outbox(root / PLACE)
    told = set(range(1, act.before + 1)) | _numbers(cut, "committed") | _numbers(cut, "reserved")
    waiting = {one.seq: one for one in outbox.unsent(0, 1000)}
    following = outbox.commit(fields)["seq"]
    assert following > max(told, default=0), "a number is given out twice"
    outbox.close()
    records = _records_of(root / PLACE)
    assert {seq for seq in told if seq >= act.kept} <= set(records), (
        "a record that was told is lost"
    )
    assert sorted(records) == list(range(min(records), following + 1)), "a number is left out"
    assert all(json.loads(text) == fields(seq) for seq, text in records.items())
    for seq in _numbers(cut, "handed") & set(waiting):
        assert waiting[seq].replay, f"{seq} is sent twice and is no replay"
    if cut.is_kill:
        assert not _numbers(cut, "sent") & set(waiting), "an acknowledgement is forgotten"
    assert told - act.acknowledges <= set(waiting), "a record is never sent"


@pytest.mark.parametrize("name", ACTS)
def test_every_cut_keeps_what_was_told(
    name: str,
    recordings: dict[str, Recording],
    builder: Builder,
    place: Path,
    record_property: Callable[[str, object], None],
) -> None:
    recording = recordings[name]
    cuts = counted_cuts(recording, f"outbox, {name}", record_property)
    for cut in cuts:
        try:
            check(cut, builder.build(cut.tree, place / "root"), ACTS[name])
        except Exception as error:
            raise AssertionError(f"{name}, {cut.where}, told {cut.told}") from error
