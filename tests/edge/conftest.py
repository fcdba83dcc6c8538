"""Fixtures of the device's tests: a key, bundles that it signed, a root that trusts it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from edge.station.store import Store
from tests.support.machine import Machine, set_clocks
from tests.support.root import Bundles, trusting_root
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Bundles:
    """Tiny bundles by product and version; each is made once."""
    folder = tmp_path_factory.mktemp("bundles")

    @cache
    def make(product: str = "washer", version: str = "1.0.0") -> Path:
        return make_tiny_bundle(folder, key, product=product, version=version)

    return make


@pytest.fixture
def store(tmp_path: Path, key: KeyPair) -> Store:
    """A root that trusts the key and has nothing installed."""
    return trusting_root(tmp_path / "station", key)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose clocks the test sets, in place of this one."""
    yield from set_clocks(monkeypatch)


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets this process live in another time zone."""

    def move(zone: str) -> None:
        monkeypatch.setitem(os.environ, "TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()
