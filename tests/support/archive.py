"""Records, labels and pictures of a station that has judged parts, without judging any."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.clock import Stamp
from edge.line.message import record_fields, utc_ms
from edge.line.outbox import Outbox
from edge.line.tables import Unwritten, insert
from edge.station.audit import PLACE
from edge.types import Code, Reason
from tests.support.line import RECORD

BEGAN_S = 1_796_000_000.0  # 2026-11-30, 00:53:20 UTC
THRESHOLD = 9.5


def record_of(seq: int, **changed: Any) -> dict[str, Any]:
    """A record as the station commits it: OK, a minute after the one before.

    changed: keys of the record.
    """
    at = utc_ms(BEGAN_S + 60.0 * seq)
    record = replace(RECORD, threshold=np.float32(THRESHOLD), captured_at=at, judged_at=at)
    return {**record_fields(record, "s1", seq), "part": f"P{seq}", **changed}


def judged(seq: int, score: float, **changed: Any) -> dict[str, Any]:
    """The record of a part with this score."""
    is_bad = score > THRESHOLD
    code, reason = (Code.NG, Reason.ANOMALY) if is_bad else (Code.OK, Reason.NORMAL)
    return record_of(seq, score=score, code=int(code), reason=reason.value, **changed)


def unknown(seq: int, reason: Reason = Reason.NO_DEPTH, **changed: Any) -> dict[str, Any]:
    """The record of a part that was not judged."""
    return record_of(seq, score=None, code=3, reason=reason.value, **changed)


def write_records(root: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """All of them in one transaction, in the tables that a real outbox has made."""
    outbox = Outbox(root / PLACE)
    rows = [Unwritten(one["seq"], dict(one), Stamp(1.0, BEGAN_S, True)) for one in records]
    with outbox._database.transaction() as connection:
        insert(connection, rows, attempted=False)
    outbox.close()


def damage(root: Path, seq: int, text: str | bytes) -> None:
    """Replace what the row of a record says."""
    connection = sqlite3.connect(root / PLACE)
    connection.execute("UPDATE records SET fields = ? WHERE seq = ?", (text, seq))
    connection.commit()
    connection.close()


def keep_picture(root: Path, record: Mapping[str, Any], data: bytes, name: str) -> Path:
    """A kept image of a part."""
    folder = root / "var/lib/edge" / str(record["images"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    (folder / "record.json").write_text(json.dumps(record))
    return folder / name
