"""SIGKILL and power cuts at every call of a restore.

Whatever is left is the root of before, the restored station, or no station at all for every
command, until the same restore is given again; and that always ends with the whole station.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.backup.make import make_backup
from edge.backup.restore import restore_backup
from edge.errors import BundleError, BusyError, ConfigError
from edge.install.install import install_bundle
from edge.station.restoring import READY, STAGE
from edge.station.settle import settle
from edge.station.store import Store
from edge.station.trust import trust
from tests.support.backed_up import contents
from tests.support.cuts.cuts import Cut, Recording, record, workplace
from tests.support.cuts.disk import Builder
from tests.support.cuts.restore import ACTS, BACKUP
from tests.support.cuts.summary import counted_cuts
from tests.support.recorded import record_parts
from tests.support.tiny_bundle import make_key, make_tiny_bundle

pytestmark = [pytest.mark.endurance, pytest.mark.xdist_group("cuts of a restore")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with workplace(tmp_path_factory.mktemp("cuts")) as folder:
        files = folder / "files"
        files.mkdir()
        (folder / "work").mkdir()
        key, other = make_key(files), make_key(files, "other")
        make_tiny_bundle(files, other, "washer", "0.9.0")
        station = Store(folder / "station")
        trust(station, key.public)
        install_bundle(make_tiny_bundle(files, key), station.root)
        record_parts(station.root, count=3, pictured=0)
        make_backup(station, files / BACKUP)
        restore_backup(Store(folder / "whole"), files / BACKUP)
        yield folder


@pytest.fixture(scope="module")
def recordings(place: Path) -> dict[str, Recording]:
    return record("tests.support.cuts.restore", list(ACTS), place / "work", place / "files")


def check(cut: Cut, builder: Builder, place: Path, before: str | None) -> None:
    """before: the slot that was current."""
    root = builder.build(cut.tree, place / "root")
    store = Store(root)
    whole = contents(place / "whole")
    is_placed = _looked_at(store, before, whole)
    assert is_placed or "returned" not in cut.told
    if (store.data / STAGE / READY).exists() or not is_placed:
        restore_backup(store, place / "files" / BACKUP)
    else:
        with pytest.raises(ConfigError, match="records"):
            restore_backup(store, place / "files" / BACKUP)
    with store.change("test"):
        settle(store)
    assert contents(root) == whole
    assert not list(store.data.glob(".*"))


def _looked_at(store: Store, before: str | None, whole: dict[str, tuple[int, str]]) -> bool:
    """Whether it is the restored station; if not, it is what was there before, or no station."""
    try:
        slot = store.active().slot
    except (BundleError, BusyError):
        return False
    if slot == before:
        store.verify(store.active())
        return False
    found = contents(store.root)
    assert {name: found.get(name) for name in whole} == whole
    return True


@pytest.mark.parametrize("name", ACTS)
def test_every_cut_leaves_one_station_or_none(
    name: str,
    recordings: dict[str, Recording],
    builder: Builder,
    place: Path,
    record_property: Callable[[str, object], None],
) -> None:
    recording = recordings[name]
    cuts = counted_cuts(recording, name, record_property)
    before = Store(builder.build(recording.before_tree(), place / "before")).link(
        "washer", "current"
    )
    for cut in cuts:
        try:
            check(cut, builder, place, before)
        except Exception as error:
            raise AssertionError(f"{name}, {cut.where}, told {cut.told}") from error
