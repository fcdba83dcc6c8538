"""A machine on which the package is installed, and one whose station is ready to judge. Both are
layers that are made once; each test gets a copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.files import sha256_of
from tests.support.booted import (
    ARCH,
    SUITE,
    BootedRoot,
    booted_copy,
    debian_root,
    installed_layer,
    require_nspawn,
)
from tests.support.booted_station import bring, configure
from tests.support.station import EMPTY, belt, write_belt
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle

PARTS, GAP = [8, 8, 8, 8], 12  # frames of each part, and between them


@pytest.fixture(scope="session")
def package(package_of: Callable[[str], Path]) -> Path:
    """The package for this root."""
    require_nspawn()
    return package_of(f"{SUITE}-{ARCH}")


@pytest.fixture(scope="session")
def installed(package: Path) -> list[Path]:
    """The layers of a machine on which it is installed."""
    return [installed_layer(package, sha256_of(package)), debian_root()]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    """What somebody brings to the machine: two bundles, the key, images of belt and empty table."""
    folder = tmp_path_factory.mktemp("delivered")
    for version in ("1.0.0", "2.0.0"):
        make_tiny_bundle(folder, key, version=version)
    shutil.copy(key.public, folder / "line.pub")
    write_belt(folder / "belt", belt(PARTS, gap=GAP, bad=[1]))
    write_belt(folder / "empty", [EMPTY] * 40)
    return folder


@pytest.fixture(scope="session")
def ready(
    installed: list[Path], delivered: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The layers of a machine whose station has a bundle, a plane and a proven engine."""
    folder = tmp_path_factory.mktemp("ready")
    with booted_copy(installed, folder) as booted:
        bring(booted, delivered)
        booted.run("edge trust add /srv/line.pub")
        booted.run("edge install /srv/washer-1.0.0.bundle --station cell7")
        configure(booted)
        booted.run("edge calibrate plane")
        booted.run("sync")
    return [folder / "upper", *installed]


@pytest.fixture
def station(ready: list[Path], tmp_path: Path) -> Iterator[BootedRoot]:
    """That machine, on; its station is off."""
    with booted_copy(ready, tmp_path / "station") as booted:
        yield booted


@pytest.fixture
def fresh(installed: list[Path], delivered: Path, tmp_path: Path) -> Iterator[BootedRoot]:
    """A machine on which the package was installed and nothing else was done yet, on."""
    with booted_copy(installed, tmp_path / "fresh") as booted:
        bring(booted, delivered)
        yield booted
