from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is not installed: pip install 'rgbd-inspection[update]'")

from edge.station.store import Store
from edge.update.dpkg import Dpkg
from tests.support.offered_package import lay_dpkg
from tests.support.package import make_package
from tests.support.released import Released, Server, make_released, serving


@pytest.fixture(scope="session")
def made_released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """To copy from; nothing may change it."""
    return make_released(tmp_path_factory.mktemp("released") / "made")


@pytest.fixture(scope="session")
def made_root(made_released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station with washer 1.0.0, to copy from."""
    root = tmp_path_factory.mktemp("station") / "root"
    made_released.station(root)
    return root


@pytest.fixture
def released(made_released: Released, tmp_path: Path) -> Released:
    return made_released.copied_to(tmp_path / "released")


@pytest.fixture
def station(made_root: Path, tmp_path: Path) -> Store:
    import shutil

    shutil.copytree(made_root, tmp_path / "root", symlinks=True)
    return Store(tmp_path / "root")


@pytest.fixture
def server(released: Released) -> Iterator[Server]:
    with serving(released.repository) as running:
        yield running


@pytest.fixture
def packages(tmp_path: Path) -> Callable[..., Path]:
    """Packages with one file, by version, named as `make deb` names them."""
    folder = tmp_path / "packages"

    def make(version: str, fails: bool = False) -> Path:
        here = Dpkg(Path("/")).processor()
        files = {"opt/edge/version": version}
        # a chroot without a shell: a script in it cannot be run, so that configuring fails
        script = "exit 1" if fails else ""
        place = folder / ("bad" if fails else "good")
        return make_package(place, version=version, architecture=here, files=files, postinst=script)

    return make


@pytest.fixture
def dpkg(station: Store, packages: Callable[..., Path]) -> Dpkg:
    """Of the station's root, on which edge-station 1.0 is installed."""
    dpkg = lay_dpkg(station.root)
    assert dpkg.install(packages("1.0")) == ""
    return dpkg
