"""The record of a trigger: on disk before its answer is known, handed over when it is final."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StorageError
from edge.line.outbox import Outbox
from tests.support.line import fields


def open_record(outbox: Outbox) -> dict[str, Any]:
    return outbox.open(lambda seq: {**fields(seq), "code": 3})


def on_disk(outbox: Outbox) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(outbox.path)) as reader:
        rows = reader.execute("SELECT fields FROM records ORDER BY seq").fetchall()
    return [json.loads(row[0]) for row in rows]


def handed_over(outbox: Outbox) -> list[tuple[int, int | None]]:
    return [(one.seq, one.fields.get("code")) for one in outbox.unsent(0, 10)]


def test_an_open_record_holds_back_itself_and_later_ones(outbox: Outbox) -> None:
    other = outbox.consumer("other")
    outbox.commit(fields)
    opened = open_record(outbox)
    outbox.commit(fields)
    assert [one["seq"] for one in on_disk(outbox)] == [1, 2, 3]
    assert handed_over(outbox) == [(1, None)]
    assert [one.seq for one in other.unsent(0, 10)] == [1]
    outbox.settle({**opened, "code": 1})
    assert handed_over(outbox) == [(1, None)]
    outbox.release(2)
    assert handed_over(outbox) == [(1, None), (2, 1), (3, None)]
    assert [one.fields.get("code") for one in other.unsent(0, 10)] == [None, 1, None]


def test_none_of_them_counts_as_sent_twice(outbox: Outbox) -> None:
    opened = open_record(outbox)
    outbox.commit(fields)
    outbox.settle({**opened, "code": 1})
    outbox.release(1)
    assert [one.replay for one in outbox.unsent(0, 10)] == [False, False]
    outbox.mark_sent([1, 2])
    assert outbox.counts() == {"seq": 2, "waiting": 0, "dropped": 0}


def test_a_process_that_ends_leaves_the_answer_that_was_committed_first(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "line.sqlite")
    open_record(first)
    first.close()
    second = Outbox(tmp_path / "line.sqlite")
    assert handed_over(second) == [(1, 3)]
    second.close()


def test_where_the_disk_takes_nothing_no_number_is_given_out(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_record(outbox)

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("edge.line.outbox.insert", full)
        patch.setattr("edge.line.outbox.replace_fields", full)
        with pytest.raises(StorageError):
            open_record(outbox)
        with pytest.raises(StorageError):
            outbox.settle({**opened, "code": 1})
    assert outbox.is_failing
    outbox.release(1)
    assert handed_over(outbox) == [(1, 3)]
    assert open_record(outbox)["seq"] == 2
