"""What people say of single parts: "this was good", "this was bad". Rows are only ever added; the
last one of a part counts.

They lie in labels.sqlite beside line.sqlite, which is never touched: a label changes no verdict, no
record and no threshold. It is counted (edge/archive/statistics.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.archive.reading import has_table, read_only, reading
from edge.database import make_empty, open_database, remedy_for
from edge.errors import ConfigError, DataError, StorageError, on_one_line
from edge.files import sentence_of
from edge.line.tables import read_fields
from edge.station.account import acting_for
from edge.station.audit import PLACE as LINE
from edge.station.audit import current_user, now_utc
from edge.station.links import require_plain

PLACE = LINE.with_name("labels.sqlite")
SAID = ("good", "bad", "none")  # none: what was said before is taken back
NOTE_LIMIT = 500  # characters
BUSY_S = 10.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, judged_at TEXT NOT NULL,
    said TEXT NOT NULL, note TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS labels_stay BEFORE UPDATE ON labels
    BEGIN SELECT RAISE(ABORT, 'labels are only added'); END;
CREATE TRIGGER IF NOT EXISTS labels_remain BEFORE DELETE ON labels
    BEGIN SELECT RAISE(ABORT, 'labels are only added'); END;
"""
COLUMNS = "seq, judged_at, said, note, who, at"


@dataclass(frozen=True)
class Label:
    """What one person said of one part.

    judged_at: of the record that was labelled; a number is given out again after the database was
    deleted, and such a label is then of another part. at: UTC, ISO 8601 with milliseconds.
    """

    seq: int
    judged_at: str
    said: str
    note: str
    who: str
    at: str


def add_label(root: Path, seq: int, said: str, note: str = "", who: str | None = None) -> Label:
    """Note what somebody says of the part with this number; on disk when this returns.

    who: by default the account that runs this.
    Raises: DataError if there is no record of that number, ConfigError for anything but good, bad
        or none and for a note that is too long, StorageError if the disk does not take it.
    """
    if said not in SAID:
        raise ConfigError(f"{said!r} says nothing of a part: use one of {', '.join(SAID)}")
    if len(note) > NOTE_LIMIT:
        raise ConfigError(
            f"the note has {len(note)} characters, at most {NOTE_LIMIT} are kept: shorten it"
        )
    judged_at = _judged_at(root, seq)
    label = Label(seq, judged_at, said, on_one_line(note), who or current_user(), now_utc())
    row = (label.seq, label.judged_at, label.said, label.note, label.who, label.at)
    with _writing(root) as connection:
        connection.executescript(SCHEMA)
        connection.execute(f"INSERT INTO labels ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
    return label


def read_labels(root: Path) -> dict[int, Label]:
    """What was said last, by the number of the part; parts of which it was taken back are left out.

    Raises: StorageError if the file is damaged.
    """
    last = {label.seq: label for label in _read(root, "", ())}
    return {seq: label for seq, label in last.items() if label.said != "none"}


def label_history(root: Path, seq: int) -> list[Label]:
    """All that was said of one part, oldest first. Raises: StorageError if the file is damaged."""
    return _read(root, "WHERE seq = ?", (seq,))


def _read(root: Path, where: str, values: tuple[int, ...]) -> list[Label]:
    require_plain(files=_files(root))
    with read_only(root / PLACE) as connection:
        if connection is None or not has_table(connection, "labels"):
            return []
        asked = f"SELECT {COLUMNS} FROM labels {where} ORDER BY id"
        return [Label(*row) for row in connection.execute(asked, values)]


def _judged_at(root: Path, seq: int) -> str:
    """When the part was judged. Raises: DataError if there is no record of that number."""
    with reading(root) as connection:
        is_known = connection is not None and has_table(connection, "records")
        row = (
            connection.execute("SELECT fields FROM records WHERE seq = ?", (seq,)).fetchone()
            if connection is not None and is_known
            else None
        )
    fields = None if row is None else read_fields(row[0])
    if fields is None:
        raise DataError(
            f"there is no record of a part with number {seq} under {root}: `edge records --root"
            f" {root}` lists them, the oldest are deleted after a time"
        )
    return str(fields.get("judged_at", ""))


@contextmanager
def _writing(root: Path) -> Iterator[sqlite3.Connection]:
    path = root / PLACE
    try:
        with acting_for(root, PLACE.parent):
            require_plain(files=_files(root))
            make_empty(path)
            with closing(open_database(path, BUSY_S)) as connection:
                yield connection
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {sentence_of(error)}") from error
    except sqlite3.Error as error:
        raise StorageError(f"cannot write to {path}: {error}. {remedy_for(error)}") from error


def _files(root: Path) -> list[Path]:
    path = root / PLACE
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]
