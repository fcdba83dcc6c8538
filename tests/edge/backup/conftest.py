from __future__ import annotations

from pathlib import Path

import pytest

from edge.archive.labels import add_label
from edge.page.roles import Role
from edge.page.users import Users
from edge.page.vault import open_vault
from tests.support.backed_up import backed_up
from tests.support.recorded import record_parts
from tests.support.station import StationRoot, make_station

PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """A station that has judged, with pictures, labels, a user and a password; to copy from."""
    station = make_station(tmp_path_factory.mktemp("lived") / "station")
    station.configure("virtual", None)
    record_parts(station.root, count=30, pictured=3)
    add_label(station.root, 7, "bad", "a crack", who="quality")
    vault = open_vault(station.root)
    users = Users(vault)
    users.add("anna", Role.CALIBRATE)
    users.choose_password("anna", PASSWORD)
    vault.close()
    secret = station.root / "etc/edge/broker.password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    return station


@pytest.fixture(scope="session")
def backed(lived: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """A copy of it, with its backup beside it (`cell.backup`); nothing may change either."""
    copy = lived.copied_to(tmp_path_factory.mktemp("backed") / "station")
    backed_up(copy.root)
    return copy


@pytest.fixture
def station(lived: StationRoot, tmp_path: Path) -> StationRoot:
    return lived.copied_to(tmp_path / "station")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """An empty root."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    return folder
