"""What is no backup, was changed, or is of another station, changes nothing."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.backup.make import make_backup
from edge.backup.restore import SPARE_BYTES, restore_backup
from edge.bundle.key_files import PublicKey
from edge.errors import BusyError, ConfigError, DataError, EdgeError, StorageError
from edge.station.lock import CHANGE, RUN, locked
from edge.station.root import DATA
from edge.station.store import Store
from tests.support.backed_up import add_file, forged
from tests.support.root import snapshot
from tests.support.station import StationRoot
from tests.support.tiny_bundle import make_key


def refused(path: Path, root: Path, match: str, error: type[EdgeError], **options: object) -> None:
    """And the root is as it was."""
    before = snapshot(root)
    with pytest.raises(error, match=match):
        restore_backup(Store(root), path, **options)  # type: ignore[arg-type]
    after = snapshot(root)
    databases = ("line.sqlite", "labels.sqlite", "page/page.sqlite")
    ends = ("-wal", "-shm")  # a reader lays them there
    beside = {f"{DATA}/{name}{end}" for name in databases for end in ends} | {f"{DATA}/page"}
    made = {"var", "var/lib", f"{DATA}", f"{DATA}/{RUN}", f"{DATA}/{CHANGE}", *beside}
    assert {name: said for name, said in after.items() if name not in made} == {
        name: said for name, said in before.items() if name not in made
    }


@pytest.fixture
def path(backed: StationRoot, tmp_path: Path) -> Path:
    return Path(shutil.copy(backed.root.parent / "cell.backup", tmp_path))


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_one_changed_byte(path: Path, fresh: Path, where: float) -> None:
    data = bytearray(path.read_bytes())
    data[round((len(data) - 8) * where)] ^= 1
    path.write_bytes(data)
    refused(path, fresh, r"signed|signature|no backup", DataError)


@pytest.mark.parametrize("word", [b'"has_pictures": true', b'"station": "site/line/s1"'])
def test_what_it_says_of_itself_is_signed(path: Path, fresh: Path, word: bytes) -> None:
    data = path.read_bytes()
    assert word in data
    other = word.replace(b"true", b"false").replace(b"s1", b"s2")
    path.write_bytes(data.replace(word, other))
    refused(path, fresh, r"not as it was signed", DataError)


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.999])
def test_cut_short(path: Path, fresh: Path, kept: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * kept) if kept < 1 else -2])
    refused(path, fresh, r"no backup of a station, or was cut short", DataError)


def test_another_key_signed_it(
    path: Path, fresh: Path, tmp_path: Path, backed: StationRoot
) -> None:
    stranger = make_key(tmp_path, "stranger").public
    refused(path, fresh, r"is signed with key .* holds", DataError, key=stranger)
    own = backed.store.data / "station.pub"
    restored = restore_backup(Store(fresh), path, key=own)
    assert restored.key == PublicKey.model_validate_json(own.read_bytes())


def named(root: Path, name: str) -> None:
    (root / "etc/edge").mkdir(parents=True)
    (root / "etc/edge/station.toml").write_text(f'[station]\nstation = "{name}"\n')


def test_of_another_station(path: Path, fresh: Path) -> None:
    named(fresh, "cell8")
    refused(path, fresh, r"is of site/line/s1, .*site/line/cell8.*--as cell8", ConfigError)
    refused(path, fresh, r"named|names this station", ConfigError, name="cell9")
    refused(path, fresh, r"letters, digits", ConfigError, name="no/name")
    assert restore_backup(Store(fresh), path, name="cell8").name == "cell8"


def test_the_same_station_again(path: Path, fresh: Path) -> None:
    named(fresh, "s1")
    restore_backup(Store(fresh), path)
    refused(path, fresh, r"has records, labels, users of the page, calibrations", ConfigError)


def test_while_the_station_runs(path: Path, fresh: Path) -> None:
    with locked(fresh / DATA, RUN, "edge run"):
        refused(path, fresh, r"run.lock is held by", BusyError)


def test_of_newer_software(backed: StationRoot, fresh: Path, tmp_path: Path) -> None:
    path = forged(backed.root, tmp_path / "new.backup", lambda _: None, version="99.0")
    refused(path, fresh, r"made with version 99.0", DataError)


EVIL: dict[str, Callable[[tarfile.TarFile], None]] = {
    "above": lambda tar: add_file(tar, "var/lib/edge/../../../up"),
    "absolute": lambda tar: add_file(tar, "/var/lib/edge/x"),
    "elsewhere": lambda tar: add_file(tar, "etc/passwd"),
    "beside": lambda tar: add_file(tar, "var/lib/edgex/x"),
    "a line end": lambda tar: add_file(tar, "var/lib/edge/a\nb"),
    "link": lambda tar: add_file(
        tar, "var/lib/edge/x", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"
    ),
    "link out of the slots": lambda tar: add_file(
        tar,
        "var/lib/edge/products/washer/current",
        b"",
        type=tarfile.SYMTYPE,
        linkname="../../../../etc",
    ),
    "hard link": lambda tar: add_file(
        tar, "var/lib/edge/x", b"", type=tarfile.LNKTYPE, linkname="var/lib/edge/y"
    ),
    "device": lambda tar: add_file(tar, "var/lib/edge/x", b"", type=tarfile.CHRTYPE),
    "deep": lambda tar: add_file(tar, "var/lib/edge/" + "d/" * 1500 + "x"),
    "twice": lambda tar: [add_file(tar, "var/lib/edge/x") for _ in range(2)] and None,
}


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a backup is tried."""
    folder = tmp_path / "tried"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_trying_is_private_leaves_nothing_and_fills_no_disk(
    path: Path, fresh: Path, tried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, seen = shutil.disk_usage(tried), list[int]()

    def look(folder: Path) -> object:
        seen.append((tried / next(tried.iterdir()).name).stat().st_mode & 0o777)
        return usage._replace(free=SPARE_BYTES)

    monkeypatch.setattr(shutil, "disk_usage", look)
    refused(path, fresh, "trying the backup there needs", StorageError, dry_run=True)
    assert seen[0] == 0o700
    assert not list(tried.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    restore_backup(Store(fresh), path, dry_run=True)
    assert not list(tried.iterdir())


@pytest.mark.parametrize("how", EVIL)
def test_signed_by_somebody_who_means_harm(
    backed: StationRoot, fresh: Path, tmp_path: Path, tried: Path, how: str
) -> None:
    path = forged(backed.root, tmp_path / "evil.backup", EVIL[how])
    refused(path, fresh, "do not use it", DataError, dry_run=True)
    assert not list(tried.iterdir())
    refused(path, fresh, "do not use it", DataError)
    assert not list((fresh / DATA).glob(".restore"))


def test_trying_reads_what_restoring_would_read(
    backed: StationRoot, fresh: Path, tmp_path: Path
) -> None:
    """A database that was damaged before the station signed it, and a bundle's file."""

    def damaged(tar: tarfile.TarFile) -> None:
        with tarfile.open(backed.root.parent / "cell.backup") as whole:
            for entry in whole:
                content = whole.extractfile(entry)
                data = content.read() if content is not None else b""
                if entry.name.endswith(("/manifest.json", "parts.onnx", ".onnx")):
                    data = data.replace(data[:4], b"????", 1)
                tar.addfile(entry, io.BytesIO(data))

    path = forged(backed.root, tmp_path / "damaged.backup", damaged)
    before = snapshot(fresh)
    tried = restore_backup(Store(fresh), path, dry_run=True)
    assert snapshot(fresh) == before
    done = restore_backup(Store(fresh), path)
    assert tried.doubts
    assert (tried.after, len(tried.doubts)) == (done.after, len(done.doubts))


def test_no_report_passes_for_a_backup(fresh: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(b"<html>" * 2000)
    refused(page, fresh, "no backup of a station", DataError)
    refused(tmp_path, fresh, "is a folder", DataError)
    refused(tmp_path / "none", fresh, "does not exist", DataError)


def test_a_backup_is_not_written_into_the_station(station: StationRoot) -> None:
    for place in ("etc/edge/b", "var/lib/edge/parts/b"):
        with pytest.raises(ConfigError, match="own folder"):
            make_backup(station.store, station.root / place)


def test_a_file_that_cannot_be_had_leaves_no_half_backup(
    station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edge.backup.make as make

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make._Writer, "_add_database", refuse)
    path = tmp_path / "b"
    path.write_bytes(b"the one before")
    with pytest.raises(StorageError, match="no space left"):
        make_backup(station.store, path)
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.glob(".b*")) == []
    assert list(station.store.data.glob(".backup*")) == []
