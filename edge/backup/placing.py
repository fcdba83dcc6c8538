"""A staged backup becomes the content of a root.

Before `ready` is written nothing of the root has changed. Afterwards the restore can only be
finished: every step may be repeated, `active` disappears first and comes back last, and meanwhile
no command takes the root for a station (edge.station.restoring).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import escape
from pathlib import PurePosixPath

from edge.backup.contents import PARTS, STATION
from edge.backup.staging import Setting
from edge.errors import StorageError
from edge.files import (
    is_there,
    make_folder,
    read_bytes,
    remove_tree,
    sync_directory,
    write_atomically,
    write_json,
)
from edge.schema import Sha256, Strict, parse_json
from edge.station.lock import CHANGE, RUN
from edge.station.restoring import READY, STAGE
from edge.station.root import DATA, TRUST, RootFolder
from edge.station.switch import ACTIVE

READY_LIMIT = 64 << 10  # bytes


def require_one_disk(station: RootFolder) -> None:
    """Raises: StorageError if another disk is mounted where something staged belongs: no rename
    leads there.
    """
    for staged in (station.data / STAGE / DATA).iterdir():
        path = station.data / staged.name
        if path.is_mount():
            raise StorageError(
                f"another disk is mounted at {path}: unmount it, restore, move what lies in"
                f" {path} onto that disk, and mount it again"
            )


class Ready(Strict):
    """Says of which backup everything is staged. sha256: of its tar. name: of --as. names: what
    var/lib/edge will have.
    """

    sha256: Sha256
    name: str | None
    names: tuple[str, ...]


def find_ready(station: RootFolder) -> Ready | None:
    """Of a restore that was interrupted while it was put in place; None where there is none.

    Raises: StorageError if the file is damaged.
    """
    path = station.data / STAGE / READY
    if not is_there(path):
        return None
    try:
        return Ready.model_validate(parse_json(read_bytes(path, StorageError, READY_LIMIT)))
    except ValueError as error:
        raise StorageError(
            f"{path} is damaged, and {station.data} is half of two stations: move both away and"
            " restore again"
        ) from error


def mark_ready(station: RootFolder, sha256: str, name: str | None) -> Ready:
    """From now on the restore can only be finished. Raises: OSError."""
    names = sorted(path.name for path in (station.data / STAGE / DATA).iterdir())
    ready = Ready(sha256=sha256, name=name, names=tuple(names))
    write_json(station.data / STAGE / READY, ready.model_dump())
    return ready


def put_in_place(station: RootFolder, settings: Sequence[Setting], ready: Ready) -> None:
    """Replace what the root has by what is staged. Raises: OSError if the disk refuses."""
    with station.inside():
        if is_there(station.data / STAGE / DATA / ACTIVE) or ACTIVE not in ready.names:
            station.active_file.unlink(missing_ok=True)
            sync_directory(station.data)
    _put_settings(station, settings)
    with station.inside():
        _put_data(station, ready)


def _put_settings(station: RootFolder, settings: Sequence[Setting]) -> None:
    owner = station.data.stat()
    with station.inside(TRUST.parent):
        for one in settings:
            path = station.root / one.name
            if one.kind == "folder":
                make_folder(path)
                path.chmod(one.mode)
            else:
                make_folder(path.parent)
                for half in list(path.parent.glob(f".{escape(path.name)}.*")):
                    half.unlink()  # of an interrupted restore
                write_atomically(path, one.content, one.mode)
            if os.geteuid() == 0:
                uid, gid = (owner.st_uid, owner.st_gid) if one.owner == STATION else (0, 0)
                os.chown(path, uid, gid)
        known = {one.name for one in settings}
        for key in station.trust_folder.glob("*.pub"):
            if PurePosixPath(TRUST, key.name) not in known:
                key.unlink()  # this root trusts whom the station trusted, and nobody else
        if station.trust_folder.is_dir():
            sync_directory(station.trust_folder)


def _put_data(station: RootFolder, ready: Ready) -> None:
    staged = station.data / STAGE / DATA
    stays = {CHANGE, RUN, STAGE, PARTS.name, *ready.names}
    for path in [path for path in station.data.iterdir() if path.name not in stays]:
        remove_tree(path)  # the logs of a database before its successor comes
    for name in sorted(ready.names, key=lambda name: name == ACTIVE):
        if is_there(staged / name):  # else an interrupted restore has moved it
            remove_tree(station.data / name)
            (staged / name).replace(station.data / name)
            sync_directory(station.data)
    (station.data / STAGE / READY).unlink()
    sync_directory(station.data / STAGE)
    remove_tree(station.data / STAGE)
    sync_directory(station.data)
