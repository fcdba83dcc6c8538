"""Restoring a backup into an empty or reflashed root: all of it, or nothing."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from edge.archive.labels import PLACE as LABELS
from edge.archive.reading import has_table, read_only
from edge.backup.naming import require_same_station
from edge.backup.placing import Ready, find_ready, mark_ready, put_in_place, require_one_disk
from edge.backup.seal import About, Verified, verified
from edge.backup.staging import doubts, prepare, read_settings, stage
from edge.bundle.key_files import PublicKey, read_public_key
from edge.bundle.versions import version_key
from edge.errors import ConfigError, DataError, StorageError
from edge.files import is_there, remove_tree, sentence_of
from edge.station.audit import PLACE
from edge.station.links import require_plain
from edge.station.lock import CHANGE, RUN, locked
from edge.station.restoring import READY, STAGE
from edge.station.root import DATA, RootFolder

USERS = DATA / "page/page.sqlite"  # of edge.page, whose users log in anew after a restore

SPARE_BYTES = 256 << 20  # that stay free where a backup is tried: records may lie on that disk

Step = Literal["staged", "ready", "placed"]


@dataclass(frozen=True)
class Restored:
    """What was, or would be, restored.

    name: of --as. after: the number of a part after which the station goes on, None where it has
    judged nothing. doubts: sentences about bundles that cannot judge. was_finished: an interrupted
    restore came to its end.
    """

    about: About
    key: PublicKey
    name: str | None
    after: int | None = None
    doubts: tuple[str, ...] = ()
    was_finished: bool = False


def restore_backup(
    station: RootFolder,
    path: Path,
    name: str | None = None,
    key: Path | None = None,
    dry_run: bool = False,
    reached: Callable[[Step], object] = lambda _: None,
) -> Restored:
    """Put everything that a backup holds under this root.

    Args:
        name: of the station from now on, where this board does the work of another one.
        key: a .pub file of the station that the backup should come from; None: of any.
        dry_run: do every check that changes nothing, and no more.
        reached: called at each step.
    Raises: DataError if it is no backup, was changed, or another key signed it; ConfigError if it
        is of another station, or the root has records of its own; BusyError if `edge run` or
        another command is at work; StorageError if the disk does not take it. The root is as it was
        then.
    """
    with verified(path) as backup:
        _require_key(backup, key)
        _require_version(backup.about)
        with _as_storage_error(station):
            if dry_run:
                with station.acting():  # SQLite changes the owner of files beside a database
                    return _tried(station, backup, name)
            with _alone(station):
                ready = find_ready(station)
                if ready is None:
                    return _restore(station, backup, name, reached)
                return _finish(station, backup, ready)


@contextmanager
def _alone(station: RootFolder) -> Iterator[None]:
    """Neither `edge run` nor a change of this root is at work."""
    who = "edge restore"
    with station.inside(), locked(station.data, RUN, who), locked(station.data, CHANGE, who):
        yield


def _restore(
    station: RootFolder, backup: Verified, name: str | None, reached: Callable[[Step], object]
) -> Restored:
    _require_fresh(station, backup, name)
    folder = station.data / STAGE
    remove_tree(folder)
    folder.mkdir(0o700)
    try:
        settings = read_settings(backup, name)
        stage(backup, folder, settings, name)
        require_one_disk(station)
        after = prepare(backup, folder, name)
        told = tuple(doubts(folder))
        reached("staged")
    except BaseException:
        remove_tree(folder)
        raise
    ready = mark_ready(station, backup.about.sha256, name)
    reached("ready")
    put_in_place(station, settings, ready)
    reached("placed")
    return Restored(backup.about, backup.key, name, after, told)


def _tried(station: RootFolder, backup: Verified, name: str | None) -> Restored:
    """What `_restore` would do, with every member of the backup laid into a folder that is removed
    again; of the pictures of parts, which may be many, each is read and not kept.
    """
    _require_fresh(station, backup, name)
    settings = read_settings(backup, name)
    with tempfile.TemporaryDirectory(dir=_place_to_try(), prefix="edge-restore-") as place:
        folder = Path(place)
        stage(backup, folder, settings, name, with_pictures=False, spare=SPARE_BYTES)
        after = prepare(backup, folder, name)
        return Restored(backup.about, backup.key, name, after, tuple(doubts(folder)))


def _place_to_try() -> Path | None:
    """A folder on a disk, since /tmp may be in memory, which `edge run` needs. Nobody but this
    account sees what is laid there, and nothing of it stays.
    """
    wanted = Path(os.environ.get("TMPDIR") or "/var/tmp")
    return wanted if wanted.is_dir() else None


def _finish(station: RootFolder, backup: Verified, ready: Ready) -> Restored:
    """The rest of a restore that was interrupted while it was put in place."""
    if ready.sha256 != backup.about.sha256:
        raise DataError(
            f"a restore of another backup than {backup.path} was interrupted under {station.root}:"
            " name that file, which finishes it"
        )
    put_in_place(station, read_settings(backup, ready.name), ready)
    return Restored(backup.about, backup.key, ready.name, was_finished=True)


def _require_key(backup: Verified, key: Path | None) -> None:
    if key is None:
        return
    wanted = read_public_key(key)
    if wanted.keyid != backup.key.keyid:
        raise DataError(
            f"{backup.path} is signed with key {backup.key.keyid[:12]}, {key} holds"
            f" {wanted.keyid[:12]}: it is of another station, or somebody has made it; name the"
            " right file or key"
        )


def _require_version(about: About) -> None:
    here = version("rgbd-inspection")
    if version_key(about.version) > version_key(here):
        raise DataError(
            f"the backup was made with version {about.version}, and here is {here}: install"
            f" {about.version} or a newer one first"
        )


def _require_fresh(station: RootFolder, backup: Verified, name: str | None) -> None:
    """Raises: ConfigError if the root is of another station, or holds what nothing can bring
    back.
    """
    require_same_station(station.root, backup.about, name)
    own = list(_own(station))
    if own:
        raise ConfigError(
            f"the station under {station.root} has {', '.join(own)} of its own, which a restore"
            f" would replace: back it up, move {station.data} away, and restore again"
        )


def _own(station: RootFolder) -> Iterator[str]:
    tables = {"records": PLACE, "labels": LABELS, "users": USERS}
    for table, place in tables.items():
        require_plain(files=[station.root / place])
        with read_only(station.root / place) as connection:
            if connection is not None and _has_rows(connection, table):
                yield f"{table} of the page" if place == USERS else table
    if any(station.products_folder.glob("*/site/*.json")):
        yield "calibrations"


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    """table: one of this module's own names."""
    if not has_table(connection, table):
        return False
    asked = f"SELECT 1 FROM {table} LIMIT 1"
    return connection.execute(asked).fetchone() is not None


@contextmanager
def _as_storage_error(station: RootFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot restore under {station.root}: {sentence_of(error)}"
        if is_there(station.data / STAGE / READY):
            what += ". Give the same command again, which finishes it"
        raise StorageError(what) from error
