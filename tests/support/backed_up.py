"""Stations compared with what was restored of them, and backups that nobody should accept."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge.backup.make import make_backup
from edge.backup.seal import About, seal_line, verified
from edge.station.station_key import open_signer
from edge.station.store import Store

# locks, and the powered-on seconds, which go on
LEFT_OUT = {f"var/lib/edge/{name}" for name in ("change.lock", "run.lock", "line.clock")}


def backed_up(root: Path, with_pictures: bool = True) -> Path:
    """A backup of the station under `root`, beside it."""
    path = root.parent / "cell.backup"
    make_backup(Store(root), path, with_pictures)
    return path


def contents(root: Path) -> dict[str, tuple[int, str]]:
    """Mode, and digest or link target, of all that a restored station must have as it was."""
    found = {}
    for place in ("etc/edge", "var/lib/edge"):
        for path in sorted((root / place).rglob("*")):
            name = path.relative_to(root).as_posix()
            if name not in LEFT_OUT and ".sqlite" not in name and not name.endswith(".seq"):
                found[name] = (path.lstat().st_mode, _said(path))
    return found


def _said(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def rows(database: Path, table: str, order: str = "1") -> list[tuple[object, ...]]:
    """All rows of a table of a database that nobody writes to."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()


def forged(root: Path, path: Path, add: Callable[[tarfile.TarFile], None], **told: object) -> Path:
    """A file that the station's own key has signed, with other content than a backup has. The
    station under `root` is backed up already.

    told: of About, in place of the real.
    """
    with verified(root.parent / "cell.backup") as backup:
        about = backup.about
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as tar:
        add(tar)
    data = body.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    said = {**about.model_dump(), "size": len(data), "sha256": digest, **told}
    path.write_bytes(data + seal_line(About.model_validate(said), open_signer(Store(root))))
    return path


def add_file(tar: tarfile.TarFile, name: str, data: bytes = b"x", **more: object) -> None:
    """One member. more: attributes of TarInfo."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for key, value in more.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
