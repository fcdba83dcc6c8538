"""Whose signature a report carries, and whether that is the right one."""

from __future__ import annotations

from pathlib import Path

from edge.bundle.key_files import PublicKey, read_public_key
from edge.errors import DataError, on_one_line
from edge.files import read_bytes
from edge.report.seal import REPORT_LIMIT, verify_report
from edge.station.station_key import find_station_key
from edge.station.store import Store


def verify_file(path: Path, key: Path | None, root: Path) -> list[str]:
    """What can be said of a report that is as it was signed, one line each.

    Args:
        key: a .pub file of the station that it should come from; None: the station under `root`.
    Raises: DataError if it was changed, is no report, or another key signed it; ConfigError if the
        key cannot be read.
    """
    data = read_bytes(path, DataError, REPORT_LIMIT)
    try:
        verified = verify_report(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    about = verified.about
    _require_key(path, verified.key, key, root)
    told = [
        f"{path} is as it was signed",
        f"report       {about.title}",
        f"station      {about.station}",
        f"made by      {about.who}, {about.when}",
        f"key          {verified.key.keyid}",
    ]
    return [on_one_line(line) for line in told]


def _require_key(path: Path, signed: PublicKey, key: Path | None, root: Path) -> None:
    wanted = read_public_key(key) if key is not None else find_station_key(Store(root))
    if wanted is not None and wanted.keyid == signed.keyid:
        return
    whose = f"{key} holds" if key is not None else f"the station under {root} has"
    has = "none yet" if wanted is None else wanted.keyid[:12]
    raise DataError(
        f"{path} is signed with key {signed.keyid[:12]}, {whose} {has}: if it comes from another"
        " station, get that station's key from `edge report key` there, and name it with --key"
    )
