from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.machine import Machine, set_clocks
from tests.support.tiny_bundle import KeyPair, make_key


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose clocks the test sets, in place of this one."""
    yield from set_clocks(monkeypatch)
