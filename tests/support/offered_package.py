"""Packages that a repository offers to a station whose root has a dpkg of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge.station.store import Store
from edge.update.dpkg import Dpkg
from edge.update.factory import make_source
from edge.update.package_offer import offered_package
from edge.update.package_pass import PackagePass
from edge.update.package_state import package_folder
from edge.update_sections import UpdateConfig
from tests.support.released import Released, Server
from trainer.release.acts import add_package, set_ring_package

CODENAME = "bookworm"
needs_dpkg = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dpkg") is None, reason="only root installs with dpkg"
)


def config_of(server: Server, package: bool = True) -> UpdateConfig:
    return UpdateConfig(source="tuf", url=server.url, package=package)


def publish(released: Released, package: Path, ring: str = "stable") -> None:
    add_package(released.repository, package, [released.keys])
    set_ring_package(released.repository, ring, [released.keys], package.name.split("_")[1])


def step(
    station: Store, server: Server, dpkg: Dpkg, by_hand: bool = False, package: bool = True
) -> tuple[str | None, list[str]]:
    """What root's program decides and says."""
    told: list[str] = []
    program = PackagePass(station, config_of(server, package), told.append, dpkg)
    package_folder(station.root).mkdir(exist_ok=True)
    return program.run(by_hand), told


def offered(station: Store, server: Server, package: bool = True, **more: bool) -> str:
    config = config_of(server, package)
    return offered_package(station, make_source(station, config), config, True, **more)


def version(dpkg: Dpkg) -> str:
    installed = dpkg.installed()
    assert installed is not None
    assert installed.is_whole
    return installed.version


def lay_dpkg(root: Path) -> Dpkg:
    """An empty dpkg under this root, of Debian 12."""
    for folder in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / folder).mkdir(parents=True)
    for file in ("status", "available"):
        (root / "var/lib/dpkg" / file).touch()
    (root / "etc/os-release").write_text(f"ID=debian\nVERSION_CODENAME={CODENAME}\n")
    return Dpkg(root)
