from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is not installed: pip install 'rgbd-inspection[update]'")

from edge.station.store import Store
from tests.support.released import Released, make_released


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
