from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.station import StationRoot, make_station


@pytest.fixture
def station(tmp_path: Path) -> StationRoot:
    return make_station(tmp_path / "station")
