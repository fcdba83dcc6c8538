"""station.toml and the unit of a root that has none."""

from __future__ import annotations

from pathlib import Path

from edge.config import read_config
from edge.install.install import install_bundle
from edge.station.store import Store
from edge.units import PACKAGED_UNITS, UNITS
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle


def test_virtual_camera_plays_the_folders_of_the_trainer(
    store: Store, key: KeyPair, tmp_path: Path
) -> None:
    for name in ("empty", "belt"):
        (tmp_path / "station-files" / name).mkdir(parents=True)
    folders = {name: str(tmp_path / "station-files" / name) for name in ("empty", "belt")}
    install_bundle(make_tiny_bundle(tmp_path, key, camera=folders), store.root)
    camera = read_config(store.root).camera
    assert (camera.kind, camera.path, camera.empty) == (
        "virtual",
        folders["belt"],
        folders["empty"],
    )


def test_virtual_camera_whose_folders_are_elsewhere_is_left_blank(
    store: Store, key: KeyPair, tmp_path: Path
) -> None:
    bundle = make_tiny_bundle(
        tmp_path, key, camera={"belt": "/nowhere/belt", "empty": "/nowhere/empty"}
    )
    result = install_bundle(bundle, store.root)
    camera = read_config(store.root).camera
    assert (camera.kind, camera.path, camera.empty) == ("virtual", "", "")
    assert any("camera.path" in note for note in result.notes)


def test_real_camera(store: Store, key: KeyPair, tmp_path: Path) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key, camera={"model": "D405", "fps": 15}), store.root)
    assert (read_config(store.root).camera.kind, read_config(store.root).camera.fps) == (
        "realsense",
        15,
    )


def test_what_the_integrator_wrote_is_never_overwritten(
    store: Store, key: KeyPair, tmp_path: Path
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key, version="1.0.0"), store.root)
    for path in (
        store.root / "etc/edge/station.toml",
        store.root / "etc/systemd/system/edge.service",
    ):
        path.write_text(path.read_text() + "# mine\n")
    install_bundle(make_tiny_bundle(tmp_path, key, version="2.0.0"), store.root)
    assert (store.root / "etc/edge/station.toml").read_text().endswith("# mine\n")
    assert (store.root / "etc/systemd/system/edge.service").read_text().endswith("# mine\n")


def test_units_that_the_package_brought_are_not_shadowed(
    store: Store, key: KeyPair, tmp_path: Path
) -> None:
    packaged = store.root / PACKAGED_UNITS / "edge.service"
    packaged.parent.mkdir(parents=True)
    packaged.write_text("# of the package\n")
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    assert not (store.root / UNITS / "edge.service").exists()
    assert packaged.read_text() == "# of the package\n"
