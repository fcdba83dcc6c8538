"""A restore that is cut short anywhere has changed nothing, or the same command finishes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from edge.backup.restore import Step, restore_backup
from edge.errors import BusyError, DataError, StorageError
from edge.station.root import DATA
from edge.station.settle import settle
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.backed_up import backed_up, contents
from tests.support.root import run_edge, snapshot
from tests.support.station import StationRoot, make_station
from tests.support.tiny_bundle import make_key


class Pulled(BaseException):
    """The plug."""


def pull_at(wanted: Step) -> Any:
    def reached(step: Step) -> None:
        if step == wanted:
            raise Pulled

    return reached


def test_before_everything_is_staged_nothing_has_changed(station: StationRoot, fresh: Path) -> None:
    path = backed_up(station.root)
    trust(Store(fresh), make_key(fresh.parent, "other").public)
    before = snapshot(fresh)
    with pytest.raises(Pulled):
        restore_backup(Store(fresh), path, reached=pull_at("staged"))
    changed = snapshot(fresh).items() ^ before.items()
    beside = {f"{DATA}/line.sqlite{end}" for end in ("-wal", "-shm")}  # a reader lays them there
    assert {name for name, _ in changed} <= {f"{DATA}", f"{DATA}/run.lock", *beside}


def test_what_a_killed_one_staged_is_cleared(station: StationRoot, fresh: Path) -> None:
    staged = fresh / DATA / ".restore"
    (staged / "var/lib/edge").mkdir(parents=True)
    (staged / "var/lib/edge/left").write_text("from before")
    restore_backup(Store(fresh), backed_up(station.root))
    assert not staged.exists()
    assert not (fresh / DATA / "left").exists()


def test_meanwhile_it_is_no_station(
    station: StationRoot,
    fresh: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = backed_up(station.root)
    with pytest.raises(Pulled):
        restore_backup(Store(fresh), path, reached=pull_at("ready"))
    for verb in (
        ["run"],
        ["trust", str(make_key(tmp_path, "k").public)],
        ["backup", tmp_path / "b"],
    ):
        said = run_edge(capsys, monkeypatch, *verb, "--root", fresh)
        assert (said.code, "same command again, which finishes it" in said.err) == (1, True), verb
    other = backed_up(station.root, with_pictures=False)
    with pytest.raises(DataError, match="a restore of another backup"):
        restore_backup(Store(fresh), other)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.long)])
def test_cut_at_every_step_and_finished(
    station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    """Each rename, removal and change of an owner while it is put in place is the last one once."""
    path, staged = backed_up(station.root), tmp_path / "staged"
    named = make_station(tmp_path / "other", calibrated=False, defects=(1.0, 2.0, 3.0)).root
    with pytest.raises(Pulled):
        restore_backup(Store(named), path, name="cell8", reached=pull_at("ready"))
    shutil.copytree(named, staged, symlinks=True)
    restore_backup(Store(named), path)
    whole, step = contents(named), 0
    while _cut(tmp_path / f"{step}", staged, path, step, monkeypatch):
        root = tmp_path / f"{step}"
        if step and (root / DATA / ".restore" / DATA / "active").exists():
            with pytest.raises(BusyError):
                Store(root).active()
        if (root / DATA / ".restore/ready").exists():
            again = restore_backup(Store(root), path)
            assert (again.was_finished, again.name) == (True, "cell8")
        with Store(root).change("test"):
            settle(Store(root))
        assert contents(root) == whole, step
        assert Store(root).active().product == "washer"
        step += stride
    assert step > 20


def _cut(root: Path, staged: Path, path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Put what is staged in place, and pull the plug before the change of the disk with that
    number; False where it ended earlier.
    """
    shutil.copytree(staged, root, symlinks=True)
    left = [step]

    def counted(change: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Pulled
            return change(*args, **options)

        return wrapped

    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    for name in ("unlink", "chown"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    try:
        restore_backup(Store(root), path)
    except Pulled:
        return True
    finally:
        monkeypatch.undo()
    return False


def test_a_disk_that_refuses_is_said(
    station: StationRoot, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = backed_up(station.root)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("edge.backup.staging.shutil.copyfileobj", refuse)
        with pytest.raises(StorageError, match="no space left"):
            restore_backup(Store(fresh), path)
    assert not (fresh / DATA / ".restore").exists()
    restore_backup(Store(fresh), path)
