"""SIGKILL and power cuts at every call while a station verifies what a repository says.

Whatever is left, the next question is answered as if nothing had happened; and what was seen once,
and told, is never shown an older state again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is not installed: pip install 'rgbd-inspection[update]'")

from edge.errors import UpdateError
from edge.station.store import Store
from edge.update.state import update_folder
from tests.support.cuts.cuts import Cut, Recording, record, workplace
from tests.support.cuts.disk import Builder
from tests.support.cuts.summary import counted_cuts
from tests.support.cuts.update import ACTS, NEW, OLD, ask
from tests.support.released import make_released
from trainer.release.stick import copy_to_stick

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("cuts of an update")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    released = make_released(tmp_path_factory.mktemp("released") / "made")
    with workplace(tmp_path_factory.mktemp("cuts")) as folder:
        for name in ("files", "work"):
            (folder / name).mkdir()
        copy_to_stick(released.repository, folder / "files" / OLD, [released.keys])
        released.release("1.2.0")
        copy_to_stick(released.repository, folder / "files" / NEW, [released.keys])
        shutil.copy(released.repository / "usb-root.json", folder / "files")
        yield folder


@pytest.fixture(scope="module")
def recordings(place: Path) -> dict[str, Recording]:
    return record("tests.support.cuts.update", list(ACTS), place / "work", place / "files")


def versions(root: Path, stick: Path) -> list[str]:
    return [offer.version for offer in ask(root, stick)]


def require_whole(root: Path) -> None:
    """What a client reads first is whole: it would forget what it has seen with a damaged file."""
    for path in (update_folder(Store(root)) / "usb/current").resolve().rglob("*.json"):
        json.loads(path.read_bytes())


def check(cut: Cut, builder: Builder, place: Path) -> None:
    files = place / "files"
    if "returned" in cut.told:
        with pytest.raises(UpdateError):
            ask(builder.build(cut.tree, place / "root"), files / OLD)
    root = builder.build(cut.tree, place / "root")
    require_whole(root)
    assert versions(root, files / NEW) == ["1.2.0"]
    with pytest.raises(UpdateError):
        ask(root, files / OLD)


@pytest.mark.parametrize("name", ACTS)
def test_every_cut_leaves_a_station_that_goes_on_and_not_back(
    name: str,
    recordings: dict[str, Recording],
    builder: Builder,
    place: Path,
    record_property: Callable[[str, object], None],
) -> None:
    recording = recordings[name]
    cuts = counted_cuts(recording, name, record_property)
    for cut in cuts:
        try:
            check(cut, builder, place)
        except Exception as error:
            raise AssertionError(f"{name}, {cut.where}, told {cut.told}") from error
