"""A backup's content, laid beside what a root has: var/lib/edge/.restore is a root of its own, so
that it can be checked before anything is replaced.

What goes below etc/edge stays in memory: that folder is root's, and the service's account, which
owns var/lib/edge, could change what is staged there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge.archive.reading import has_table, read_only
from edge.backup.contents import ETC, PARTS
from edge.backup.members import Member, members
from edge.backup.naming import is_renamed, renamed
from edge.backup.seal import Verified
from edge.config import PLACE
from edge.errors import DataError, EdgeError, StorageError
from edge.files import decode_text, make_folder, sync_directory, write_atomically
from edge.line.outbox import Outbox
from edge.station import audit
from edge.station.root import DATA, TRUST
from edge.station.station_key import FILE, PUBLIC
from edge.station.store import Store

ETC_LIMIT = 16 << 20  # bytes of all files below etc/edge together
# Numbers of parts that are passed over: what the station judged after the backup had them, and the
# archive knows them. 115 days at one part each second.
SKIPPED = 10_000_000
OWN_KEY = {PurePosixPath(DATA, name) for name in (FILE, PUBLIC)}


@dataclass(frozen=True)
class Setting:
    """One file or folder below etc/edge. owner: "edge" or "root"."""

    name: PurePosixPath
    kind: str
    mode: int
    owner: str
    content: bytes


def read_settings(backup: Verified, name: str | None) -> list[Setting]:
    """What a backup has below etc/edge, with another name of the station where --as gives one.

    Raises: DataError if the backup is not what `edge backup` writes, ConfigError if the station
        cannot be renamed.
    """
    settings = list[Setting]()
    left = ETC_LIMIT
    for member in members(backup):
        if _is_setting(member):
            content = member.content.read(left + 1)
            left -= len(content)
            if left < 0:
                raise DataError(
                    f"{backup.path} has more than {ETC_LIMIT >> 20} MiB below {ETC}: do not use it"
                )
            if name is not None and member.name == PurePosixPath(PLACE):
                content = renamed(decode_text(content, PLACE), name).encode()
            settings.append(Setting(member.name, member.kind, member.mode, member.owner, content))
    return settings


def _is_setting(member: Member) -> bool:
    return PurePosixPath(ETC) in (member.name, *member.name.parents)


def stage(
    backup: Verified,
    folder: Path,
    settings: Sequence[Setting],
    name: str | None,
    with_pictures: bool = True,
    spare: int | None = None,
) -> None:
    """Write a backup's content into the empty `folder` as into a root, synced. The caller works
    with the rights of the station's account.

    settings: of which it gets what `doubts` needs. name: of --as, or None. with_pictures: those of
    parts too; False reads them only. spare: bytes that stay free on the disk of `folder`, which is
    a place for trying; None: as full as it gets.
    Raises: DataError if the backup is not what `edge backup` writes, OSError if the disk refuses,
        StorageError if less than `spare` would be left.
    """
    left_out = OWN_KEY if is_renamed(backup.about, name) else set[PurePosixPath]()
    folders = [(folder / ETC, 0o755)]
    for member in members(backup):
        if not with_pictures and PurePosixPath(PARTS) in member.name.parents:
            while member.content.read(1 << 20):
                pass
        elif not _is_setting(member) and member.name not in left_out:
            if spare is not None:
                _require_room(folder, member.size + spare)
            _lay(member, folder / member.name)
            if member.kind == "folder":
                folders.append((folder / member.name, member.mode))
    for setting in settings:
        if setting.kind == "file" and setting.name.parent == PurePosixPath(TRUST):
            make_folder((folder / setting.name).parent)
            write_atomically(folder / setting.name, setting.content)
    for path, mode in reversed(folders):  # the innermost first
        make_folder(path)
        path.chmod(mode)
        sync_directory(path)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the disk of {folder} has {free / 1e6:.0f} MB free, trying the backup there needs"
            f" {needed / 1e6:.0f} MB: make room, or name a folder on another disk in TMPDIR"
        )


def _lay(member: Member, path: Path) -> None:
    """Write one member; its folder may not be there yet."""
    make_folder(path if member.kind == "folder" else path.parent)
    if member.kind == "link":
        path.symlink_to(member.target)
    if member.kind != "file":
        return
    with path.open("xb") as file:
        shutil.copyfileobj(member.content, file, 1 << 20)
        file.flush()
        os.fchmod(file.fileno(), member.mode)
        os.utime(file.fileno(), (member.mtime_s, member.mtime_s))
        os.fsync(file.fileno())


def prepare(backup: Verified, folder: Path, name: str | None) -> int | None:
    """What a restored station has to know: the parts judged after the backup have numbers already,
    and the audit table tells of the restore. Returns the number after which it goes on; None where
    it has judged nothing.

    Raises: StorageError.
    """
    database = folder / audit.PLACE
    after = None
    if _has_records(database):
        outbox = Outbox(database)
        try:
            after = outbox.take_number(SKIPPED)
        finally:
            outbox.close()
    about = {"station": backup.about.station, "made": backup.about.when, "keyid": backup.key.keyid}
    more = {"as": name} if is_renamed(backup.about, name) else {}
    audit.append_audit(folder, "restore", {**about, **more, "after": after})
    return after


def _has_records(database: Path) -> bool:

    with read_only(database) as connection:
        return connection is not None and has_table(connection, "records")


def doubts(folder: Path) -> Iterator[str]:
    """What keeps the staged station from judging with a bundle, a sentence each."""
    store = Store(folder)
    for product in store.products():
        try:
            store.verify(store.installed(product))
        except EdgeError as error:
            yield f"{product} was not whole when it was backed up: {error}"
