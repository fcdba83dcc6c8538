from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.station import StationRoot, make_station


@pytest.fixture(scope="session")
def made_station(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from; nothing may change it."""
    made = make_station(tmp_path_factory.mktemp("made") / "station")
    made.configure("virtual", None)
    return made


@pytest.fixture
def station(made_station: StationRoot, tmp_path: Path) -> StationRoot:
    return made_station.copied_to(tmp_path / "station")
