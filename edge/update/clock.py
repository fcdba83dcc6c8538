"""What time it is at least, on a station whose clock may have no battery.

Metadata expires so that an old state of a repository cannot be shown forever. A clock that starts
in 1970 would let it: so the time is never taken to be before this software was built, before the
newest timestamp of the repository that was verified, or before the last record that was made while
the clock was synchronized.

    var/lib/edge/update/tuf/clock.json, usb/clock.json    the newest verified timestamp
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError

from edge.archive.reading import has_table, reading
from edge.built import built_at
from edge.errors import EdgeError
from edge.files import is_there, read_bytes, write_atomically
from edge.schema import Sha256, Strict, canonical_json, parse_json

MADE_AT = "x-edge-made-at"  # in a timestamp: when it was signed
FILE, LIMIT = "clock.json", 64 << 10
NEWEST_RECORDS = 1000  # that are looked through for one with a synchronized clock


class Seen(Strict):
    """The newest timestamp that was verified.

    keys: of the role then: with other keys, what the old ones said is void (a stolen key may have
    signed a date of the far future).
    """

    version: int = Field(ge=1)
    made_at: AwareDatetime
    keys: tuple[Sha256, ...]


def read_seen(folder: Path) -> Seen | None:
    """What was seen last; None where nothing was, or the file is damaged: then less is known."""
    path = folder / FILE
    try:
        if not is_there(path):
            return None
        return Seen.model_validate(parse_json(read_bytes(path, limit=LIMIT)))
    except (EdgeError, ValidationError, ValueError):
        return None


def write_seen(folder: Path, seen: Seen) -> None:
    """Keep it. Raises: OSError."""
    write_atomically(folder / FILE, canonical_json(seen.model_dump(mode="json")))


def wall_clock() -> datetime:
    """What this machine's clock says."""
    return datetime.now(timezone.utc)


def time_at_least(root: Path | None, seen: Seen | None) -> datetime:
    """The wall clock, or the newest moment that has certainly passed, whichever is later.

    root: whose records count; None where they do not: for root, since the station's account may
    write any date there.
    Raises: StorageError if the station's records cannot be read.
    """
    known = [wall_clock(), built_at()]
    if seen is not None:
        known.append(seen.made_at)
    if root is not None and (record := _last_synced_record(root)) is not None:
        known.append(record)
    return max(known)


def _last_synced_record(root: Path) -> datetime | None:
    query = (
        "SELECT json_extract(fields, '$.judged_at') FROM"
        " (SELECT fields FROM records ORDER BY seq DESC LIMIT ?)"
        " WHERE json_extract(fields, '$.clock_synced') LIMIT 1"
    )
    with reading(root) as connection:
        if connection is None or not has_table(connection, "records"):
            return None
        row = connection.execute(query, (NEWEST_RECORDS,)).fetchone()
    try:
        found = datetime.fromisoformat(str(row[0]).replace("Z", "+00:00")) if row else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
