"""What people say of parts: only ever added, the last word counts, and nothing else changes."""

from __future__ import annotations

import hashlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.archive.labels import NOTE_LIMIT, PLACE, add_label, label_history, read_labels
from edge.archive.query import RecordFilter, find_record, read_records
from edge.errors import ConfigError, DataError, StorageError
from edge.station.audit import PLACE as LINE
from edge.station.audit import current_user
from tests.support.archive import judged, write_records


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_records(tmp_path, [judged(n, n) for n in range(1, 21)])
    return tmp_path


def test_the_last_word_counts_and_every_word_stays(root: Path) -> None:
    add_label(root, 12, "bad", "scratch", who="anna")
    add_label(root, 12, "good", "only dust", who="bert")
    add_label(root, 13, "bad")
    add_label(root, 13, "none")
    assert [(one.said, one.note, one.who) for one in label_history(root, 12)] == [
        ("bad", "scratch", "anna"),
        ("good", "only dust", "bert"),
    ]
    assert {seq: one.said for seq, one in read_labels(root).items()} == {12: "good"}
    assert label_history(root, 13)[0].who == current_user()
    row = find_record(root, 12)
    assert row is not None
    assert row.label is not None
    assert (row.label.said, row.label.who) == ("good", "bert")
    assert [row.seq for row in read_records(root, RecordFilter(labels=("good", "bad")))] == [12]


def test_the_records_are_not_touched(root: Path) -> None:
    before = hashlib.sha256((root / LINE).read_bytes()).hexdigest()
    add_label(root, 12, "good")
    assert hashlib.sha256((root / LINE).read_bytes()).hexdigest() == before


def test_a_label_cannot_be_changed_or_removed(root: Path) -> None:
    add_label(root, 12, "good")
    connection = sqlite3.connect(root / PLACE)
    for act in ("DELETE FROM labels", "UPDATE labels SET said = 'bad'"):
        with pytest.raises(sqlite3.IntegrityError, match="labels are only added"):
            connection.execute(act)
    connection.close()


def test_a_number_that_was_given_out_again_does_not_inherit_a_label(root: Path) -> None:
    add_label(root, 12, "good")
    for path in (root / LINE).parent.glob("line.*"):
        path.unlink()
    later = "2027-01-01T00:00:00.000Z"
    write_records(root, [judged(n, n, judged_at=later) for n in range(1, 21)])
    row = find_record(root, 12)
    assert row is not None
    assert row.label is None
    assert read_records(root, RecordFilter(labels=("good",))) == []
    assert len(read_records(root, RecordFilter(labels=("none",)))) == 20


def test_many_at_once(root: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seq: add_label(root, seq, "good"), range(1, 21)))
    assert len(read_labels(root)) == 20


@pytest.mark.parametrize(
    ("seq", "said", "note", "error", "words"),
    [
        (21, "good", "", DataError, "no record of a part with number 21.*edge records"),
        (1, "fine", "", ConfigError, "'fine'.*good, bad, none"),
        (1, "good", "x" * (NOTE_LIMIT + 1), ConfigError, "501 characters.*shorten"),
    ],
)
def test_what_is_refused(root: Path, seq: int, said: str, note: str, error, words: str) -> None:
    with pytest.raises(error, match=words):
        add_label(root, seq, said, note)
    assert not (root / PLACE).exists()


def test_a_root_without_records(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record of a part with number 1"):
        add_label(tmp_path, 1, "good")
    assert read_labels(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_one_sentence(root: Path) -> None:
    (root / PLACE).write_bytes(b"hello " * 1000)
    with pytest.raises(StorageError, match=r"cannot write to .*labels\.sqlite.*Move the file away"):
        add_label(root, 1, "good")
    with pytest.raises(StorageError, match=r"cannot read .*labels\.sqlite.*Move the file away"):
        read_labels(root)


def test_a_note_stays_on_its_line(root: Path) -> None:
    assert add_label(root, 1, "bad", "a\nb\x1b[31m").note == "a\\nb\\x1b[31m"
