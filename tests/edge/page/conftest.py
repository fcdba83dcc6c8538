"""A station's root with three users, its page, and what its station says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.page.roles import Role
from tests.support.played_socket import PlayedStation, played_station
from tests.support.served_page import Client, add_user, served_page, write_page_config


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anna administers, carl calibrates, lena looks; all have the same password."""
    root = tmp_path_factory.mktemp("station")
    write_page_config(root)
    for name, role in (("anna", Role.ADMINISTER), ("carl", Role.CALIBRATE), ("lena", Role.LOOK)):
        add_user(root, name, role)
    return root


@pytest.fixture(scope="module")
def port(shared_root: Path) -> Iterator[int]:
    with served_page(shared_root) as port:
        yield port


@pytest.fixture
def client(port: int) -> Client:
    """Not logged in."""
    return Client(port)


@pytest.fixture
def lena(client: Client) -> Client:
    """Logged in, and may look."""
    assert client.log_in("lena").status == 303
    return client


@pytest.fixture
def station(shared_root: Path) -> Iterator[PlayedStation]:
    with played_station(shared_root) as station:
        yield station
