"""Writing a backup, while the station judges or while it does not.

Databases are copied by SQLite's own backup, as they were at one moment. Nothing is installed or
calibrated meanwhile: the change lock is held, but for the pictures of the parts, which nothing
changes.
"""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO

from edge.archive.reading import read_only
from edge.backup.contents import DATABASE, ETC, PARTS, ROOT, STATION, Found, Passed, find_contents
from edge.backup.elsewhere import files_elsewhere
from edge.backup.seal import About, Hashed, seal_line
from edge.config import read_config
from edge.errors import ConfigError, StorageError
from edge.files import replaced, require_file_target, sentence_of
from edge.station.audit import PLACE as LINE
from edge.station.audit import current_user, now_utc
from edge.station.root import DATA, RootFolder
from edge.station.station_key import open_signer

MODE = 0o600  # the station's keys are in it
OTHERS = stat.S_IRWXG | stat.S_IRWXO
IN_MEMORY = 4 << 20  # bytes; a smaller file is read at once, also one that is overwritten in place
TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
COPY = ".backup."  # begins the folder in which databases are copied


@dataclass(frozen=True)
class Made:
    """A backup that was written.

    files: how many. passed: what lies in the station's folders and is not in it. elsewhere: files
    that station.toml names outside of them. is_open: others than its owner may read it, because its
    disk knows no modes, such as that of a stick.
    """

    about: About
    files: int
    passed: tuple[Passed, ...]
    elsewhere: tuple[Path, ...]
    is_open: bool = False


def make_backup(station: RootFolder, path: Path, with_pictures: bool = True) -> Made:
    """Write everything that the station has into one signed file, readable for its owner alone
    where its disk knows owners.

    Raises: ConfigError if the file cannot lie there, BusyError if another command changes this
        root, StorageError if something cannot be read or the disk is full. Nothing is written then.
    """
    _require_target(station, path)
    station.require_writable()  # the change lock, and the station's key at its first use
    signer = open_signer(station)
    with _as_storage_error(), replaced(path, MODE) as file:
        body = Hashed(file)
        writer = _Writer(body, station)
        with writer.tar:
            with station.inside(), station.change("edge backup"):
                with station.inside(ETC):
                    writer.add_all(find_contents(station.root, ETC))
                writer.add_data()
            if with_pictures:
                with station.inside():
                    writer.add_all(find_contents(station.root, PARTS))
        about = _about(station, with_pictures, body)
        file.write(seal_line(about, signer))
    passed, elsewhere = tuple(writer.passed), tuple(files_elsewhere(station.root))
    is_open = path.stat().st_mode & OTHERS != 0
    return Made(about, writer.files, passed, elsewhere, is_open)


def _about(station: RootFolder, with_pictures: bool, body: Hashed) -> About:
    names = read_config(station.root).station
    return About(
        station=f"{names.site}/{names.line}/{names.station}",
        product=station.active_product(),
        version=version("rgbd-inspection"),
        has_pictures=with_pictures,
        who=current_user(),
        when=now_utc(),
        size=body.size,
        sha256=body.sha256,
    )


class _Writer:
    """The tar of one station.

    files: how many are in it. passed: what was not taken.
    """

    def __init__(self, body: Hashed, station: RootFolder) -> None:
        self.tar = tarfile.open(  # noqa: SIM115  the caller closes it
            fileobj=body, mode="w|", format=tarfile.PAX_FORMAT
        )
        self.files, self.passed = 0, list[Passed]()
        self._station, self._owner = station, station.data.stat().st_uid

    def add_all(self, found: Iterator[Found | Passed]) -> None:
        """Raises: OSError if something cannot be read."""
        for one in found:
            if isinstance(one, Passed):
                self.passed.append(one)
            elif one.kind == "file":
                self._add_file(one)
            else:
                self.tar.addfile(self._entry(one))

    def add_data(self) -> None:
        """var/lib/edge without the pictures.

        line.seq first: a record that waits in it may have moved into the database by the time that
        is copied, and must not be missing in both.
        """
        reserve = PurePosixPath(LINE.with_suffix(".seq"))
        root = self._station.root
        for one in find_contents(root, DATA, without=PARTS):
            if isinstance(one, Found) and one.name == reserve:
                self._add_file(one)
                break
        with tempfile.TemporaryDirectory(dir=self._station.data, prefix=COPY) as copies:
            for one in find_contents(root, DATA, without=PARTS):
                if isinstance(one, Found) and one.name.suffix == DATABASE:
                    self._add_database(one, Path(copies) / "copy.sqlite")
                elif one.name != reserve:
                    self.add_all(iter([one]))

    def _add_database(self, found: Found, copy: Path) -> None:
        with read_only(self._station.root / found.name) as source:
            if source is None:  # it was moved away just now
                return
            with closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        with copy.open("rb") as file:
            self._add(self._entry(found), file)
        copy.unlink()

    def _add_file(self, found: Found) -> None:
        try:
            descriptor = found.opened()
        except FileNotFoundError:  # pictures are removed for their age meanwhile
            return
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            small = io.BytesIO(file.read()) if size < IN_MEMORY else None
            self._add(self._entry(found), small or file)

    def _add(self, entry: tarfile.TarInfo, file: IO[bytes]) -> None:
        entry.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.tar.addfile(entry, file)
        self.files += 1

    def _entry(self, found: Found) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(found.name.as_posix())
        entry.type = TYPES[found.kind]
        entry.mode, entry.mtime, entry.linkname = found.mode, found.mtime_s, found.target
        entry.uname = entry.gname = STATION if found.uid == self._owner else ROOT
        return entry


def _require_target(station: RootFolder, path: Path) -> None:
    require_file_target(path)
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} does not exist: make the folder first")
    for place in (ETC, DATA):
        if (station.root / place).resolve() in path.resolve().parents:
            raise ConfigError(
                f"{path} lies in the station's own folder: name a file elsewhere, best on another"
                " disk"
            )


@contextmanager
def _as_storage_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of tarfile: a file became shorter while it was read
            raise StorageError(
                f"a file changed while it was copied ({error}): back up again"
            ) from error
        raise StorageError(f"cannot back up: {sentence_of(error)}") from error
