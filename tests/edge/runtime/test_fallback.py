"""A bundle that cannot be opened leaves the previous one judging: when the station starts, and
while it runs.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import BundleError, ConfigError, EngineError, ParityError
from edge.install.install import install_bundle
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.runtime.changes import close_engine
from edge.runtime.run import run_station
from edge.station.audit import read_audit
from edge.station.store import Installed, Store
from tests.support.broker import wait_until
from tests.support.fakes import Step, committed, frames_of
from tests.support.service import new_service
from tests.support.station import EMPTY, GOOD, HEIGHT, WIDTH, StationRoot, make_station, write_belt
from tests.support.tiny_bundle import make_tiny_bundle

PART = frames_of([EMPTY] * 4 + [GOOD] * 8 + [EMPTY] * 5, first=0)


@pytest.fixture(scope="module")
def two(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """A calibrated station on which 2.0.0 has replaced 1.0.0."""
    station = made_station.copied_to(tmp_path_factory.mktemp("two") / "station")
    install_second(station)
    return station


@pytest.fixture(scope="module")
def third(two: StationRoot) -> Path:
    return make_tiny_bundle(two.root.parent, two.key, version="3.0.0", height=HEIGHT, width=WIDTH)


@pytest.fixture
def station(two: StationRoot, tmp_path: Path) -> StationRoot:
    return StationRoot(shutil.copytree(two.root, tmp_path / "root", symlinks=True), two.key)


def install_second(station: StationRoot) -> None:
    folder = station.root.parent
    install_bundle(
        make_tiny_bundle(folder, station.key, version="2.0.0", height=HEIGHT, width=WIDTH),
        station.root,
    )


def damage(name: str) -> Callable[[Path], None]:
    def flip(slot: Path) -> None:
        data = bytearray((slot / name).read_bytes())
        data[len(data) // 2] ^= 0xFF
        (slot / name).write_bytes(data)

    return flip


def forget(slot: Path) -> None:
    """Its proof is gone, and what judged then does not any more."""
    digest = slot.name.rsplit("-", 1)[1]
    (slot.parents[3] / f"engines/{digest}.json").unlink(missing_ok=True)
    damage("model/fp32.onnx")(slot)


BREAKAGES: dict[str, Callable[[Path], None]] = {
    "manifest gone": lambda slot: (slot / "manifest.json").unlink(),
    "manifest of nothing": lambda slot: (slot / "manifest.json").write_text(""),
    "manifest nested": lambda slot: (slot / "manifest.json").write_text("[" * 100_000),
    "manifest of other types": lambda slot: (slot / "manifest.json").write_text('{"schema": [1]}'),
    "signature gone": lambda slot: (slot / "signature.json").unlink(),
    "graph damaged": damage("model/fp32.onnx"),
    "graph gone": lambda slot: (slot / "model/fp32.onnx").unlink(),
    "reference frame damaged": damage("golden/0003.npz"),
    "proof forgotten": forget,
    "everything gone": shutil.rmtree,
}


def slot_of(store: Store) -> Path:
    return (store.products_folder / "washer" / "current").resolve()


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_station_starts_with_the_bundle_before_the_one_that_broke(
    station: StationRoot, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    BREAKAGES[name](slot_of(station.store))
    service = new_service(station, PART)
    service.run()
    (record,) = committed(station.root)
    assert (record["code"], record["bundle"][:6]) == (1, "1.0.0-")
    assert service.health.state() == ("degraded", "bundle", True)
    assert "THE PREVIOUS BUNDLE JUDGES, 1.0.0-" in caplog.text
    row = read_audit(station.root)[-1]
    assert (row.act, row.detail["version"]) == ("fallback", "1.0.0")
    assert row.detail["why"]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("map"),
        zipfile.BadZipFile("no archive"),
        MemoryError(),
        RecursionError("too deep"),
        ValueError("\n\nodd"),
        TypeError("factory function returned nullptr"),
        EngineError("no device"),
        ParityError("not proven"),
    ],
)
def test_whatever_opening_raises(station: StationRoot, error: Exception) -> None:
    new_service(station, PART, load_engine=loader_that_raises(station, error)).run()
    assert [one["bundle"][:6] for one in committed(station.root)] == ["1.0.0-"]
    assert "\n" not in read_audit(station.root)[-1].detail["why"]


def loader_that_raises(
    station: StationRoot, error: Exception
) -> Callable[[Installed], ProvenEngine]:
    """Opens every bundle but 2.0.0."""

    def load(installed: Installed) -> ProvenEngine:
        if installed.manifest.version == "2.0.0":
            raise error
        return open_proven_engine(station.store, installed)

    return load


def test_what_is_no_fault_of_the_bundle_stops_the_start(station: StationRoot) -> None:
    load_engine = loader_that_raises(station, ConfigError("runtime.precision is int8"))
    service = new_service(station, PART, load_engine=load_engine)
    with pytest.raises(ConfigError, match="int8"):
        service.run()
    assert committed(station.root) == []


def test_without_a_bundle_to_fall_back_on_the_first_error_is_the_answer(tmp_path: Path) -> None:
    station = make_station(tmp_path / "one")
    damage("golden/0003.npz")(slot_of(station.store))
    with pytest.raises(BundleError, match=r"golden/0003\.npz is damaged"):
        new_service(station, PART).run()


def test_a_previous_bundle_that_tells_parts_apart_otherwise_is_no_way_out(tmp_path: Path) -> None:
    station = make_station(tmp_path / "colors", presence=False)
    install_second(station)
    damage("golden/0003.npz")(slot_of(station.store))
    with pytest.raises(BundleError, match=r"golden/0003\.npz is damaged"):
        new_service(station, PART).run()


def test_the_whole_command_with_a_manifest_that_is_gone(
    station: StationRoot, tmp_path: Path
) -> None:
    (slot_of(station.store) / "manifest.json").unlink()
    belt = write_belt(tmp_path / "belt", [EMPTY] * 5 + [GOOD] * 8 + [EMPTY] * 5)
    station.configure("folder", belt)
    assert run_station(station.root, once=True) == 1
    assert [one["bundle"][:6] for one in committed(station.root)] == ["1.0.0-"]


WHILE_IT_RUNS = (
    "manifest gone",
    "manifest nested",
    "graph damaged",
    "reference frame damaged",
    "proof forgotten",
    "everything gone",
    "active",
    "unforeseen",
)


@pytest.mark.parametrize("name", WHILE_IT_RUNS)
def test_a_running_station_goes_on_and_says_so_until_a_sound_bundle_comes(
    station: StationRoot, third: Path, name: str
) -> None:
    store = station.store
    store.rollback("washer")
    script: list[Step] = []
    service = new_service(station, script)
    seen: list[tuple[str, str, bool]] = []

    def break_it() -> None:
        """2.0.0 is active again and broken, before the station has noticed either."""
        changes = service.at_work.changes
        changes.follow = lambda: None
        store.rollback("washer")
        if name == "active":
            store.active_file.write_text("../../nonsense")
        elif name == "unforeseen":
            changes._load_engine = loader_that_raises(station, KeyError("map"))
        else:
            BREAKAGES[name](slot_of(store))
        del changes.follow
        wait_until(lambda: service.health.state()[1] == "bundle", 60, "the state does not say it")
        seen.append(service.health.state())

    def mend() -> None:
        store.activate("washer")
        install_bundle(third, station.root)
        wait_until(
            lambda: service.at_work.current.latest.bundle.startswith("3.0.0"),
            60,
            "the sound bundle is not taken",
        )

    numbered = frames_of(([EMPTY] * 4 + [GOOD] * 8 + [EMPTY] * 5) * 2, first=0)
    script += [*numbered[:4], break_it, *numbered[4:17], mend, *numbered[17:]]
    service.run()
    assert seen == [("degraded", "bundle", True)]
    assert [one["bundle"][:6] for one in committed(station.root)] == ["1.0.0-", "3.0.0-"]
    assert service.health.state()[0] == "online"


def test_an_engine_that_cannot_be_closed_does_not_end_the_run() -> None:
    class Stuck:
        name, precision = "stuck", "fp32"

        def close(self) -> None:
            raise RuntimeError("context is destroyed")

    close_engine(Stuck())
