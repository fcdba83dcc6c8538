"""Fixtures of a flash: a signed bundle, a stand-in of NVIDIA's BSP, a fleet's provision.toml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bsp import make_bsp
from tests.support.package import make_package
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGm0 factory"
WriteFleet = Callable[..., Path]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles"), key)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def bsp(tmp_path: Path) -> Path:
    return make_bsp(tmp_path)


@pytest.fixture
def write_fleet(tmp_path: Path, key: KeyPair, package: Path) -> WriteFleet:
    """Writes provision.toml with more lines at its top, and the files that it names."""

    def write(*more: str, stations: str = '{name = "cell7"}') -> Path:
        (tmp_path / "line.pub").write_bytes(key.public.read_bytes())
        (tmp_path / "factory.pub").write_text(SSH_KEY + "\n")
        (tmp_path / "edge-station.deb").write_bytes(package.read_bytes())
        lines = [
            *more,
            'ssh_key = "factory.pub"',
            'package = "edge-station.deb"',
            'trust = ["line.pub"]',
            f"stations = [{stations}]",
        ]
        path = tmp_path / "provision.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
