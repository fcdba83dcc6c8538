"""The package in a Debian root: killed at moments of installing and upgrading, removed, purged.

Its wheels are tiny; maintainer scripts and files are those of the real one. Killed means SIGKILL of
dpkg and all it started; a power cut is another thing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.changed_root import ChangedRoot, changed_root
from tests.support.tiny_deb import make_tiny_deb

pytestmark = pytest.mark.long
OLD, NEW = "1.0.0", "1.1.0"
PACKAGE = "srv/station.deb"
INSTALL = f"dpkg -i /{PACKAGE}"
FIRST_S, TIMES = 0.05, 1.8  # when the first kill comes, and how much later each next one


def put(station: ChangedRoot, package: Path) -> None:
    shutil.copy(package, station.root / PACKAGE)


def environments(station: ChangedRoot) -> set[str]:
    folder = station.root / "opt/edge/venvs"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def shown_status(station: ChangedRoot) -> str:
    return station.run("dpkg-query -W -f '${db:Status-Status} ${Version}' edge-station", code=None)


def assert_whole(station: ChangedRoot, version: str) -> None:
    """The package of this version is installed, and its environment is the only one."""
    assert shown_status(station) == f"installed {version}"
    assert station.run("edge --version") == f"edge {version}\n"
    used = (station.root / "opt/edge/venv").readlink().name
    assert environments(station) == {used}
    assert station.run("dpkg --audit") == ""
    assert station.run("dpkg --verify edge-station") == ""


def finish(station: ChangedRoot, version: str) -> None:
    """What the documentation says after an interruption."""
    station.run("dpkg --configure -a", code=None)
    if shown_status(station) != f"installed {version}":
        station.run(INSTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_deb(tmp_path_factory.mktemp("deb"), OLD)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_deb(tmp_path_factory.mktemp("newer"), NEW)


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer of a root in which the package was installed."""
    folder = tmp_path_factory.mktemp("installed")
    with changed_root(folder) as station:
        put(station, package)
        station.run(INSTALL)
    return folder / "upper"


@pytest.fixture
def station(installed: Path, tmp_path: Path) -> Iterator[ChangedRoot]:
    with changed_root(tmp_path / "station", installed) as station:
        yield station


def ended_moments(folder: Path, package: Path, *above: Path) -> Iterator[ChangedRoot]:
    """A root in which dpkg was killed, at moments ever later, until it ends by itself."""
    delay_s = FIRST_S
    for number in count():
        with changed_root(folder / str(number), *above) as station:
            put(station, package)
            if not station.kill_after(INSTALL, delay_s):
                assert number > 3, "too few moments"
                return
            yield station
        delay_s *= TIMES


def test_installing_that_was_killed_is_ended_as_the_documentation_says(
    package: Path, tmp_path: Path
) -> None:
    for station in ended_moments(tmp_path, package):
        finish(station, OLD)
        assert_whole(station, OLD)


def test_a_package_for_another_python_is_not_even_unpacked(
    station: ChangedRoot, tmp_path: Path
) -> None:
    put(station, make_tiny_deb(tmp_path, NEW, python=(3, 12)))
    station.run(INSTALL, code=1)
    assert_whole(station, OLD)


def test_an_upgrade_that_was_killed_leaves_a_program_that_works(
    installed: Path, newer: Path, tmp_path: Path
) -> None:
    for station in ended_moments(tmp_path, newer, installed):
        assert station.run("edge --version") in (f"edge {OLD}\n", f"edge {NEW}\n")
        finish(station, NEW)
        assert_whole(station, NEW)


def test_what_the_station_knows_outlives_removal_and_purge_unless_somebody_asks(
    station: ChangedRoot, package: Path
) -> None:
    kept = [station.root / name for name in ("var/lib/edge/active", "etc/edge/station.toml")]
    for path in kept:
        path.write_text("x")
    enabled = station.root / "etc/systemd/system/multi-user.target.wants/edge.service"
    enabled.symlink_to("/usr/lib/systemd/system/edge.service")
    station.run("dpkg -r edge-station")
    assert not (station.root / "opt/edge").exists()
    assert all(path.exists() for path in kept)
    assert "/var/lib/edge and /etc/edge stay" in station.run("dpkg -P edge-station")
    assert all(path.exists() for path in kept)
    station.run(INSTALL)
    assert_whole(station, OLD)
    (station.root / "var/lib/edge/.purge").touch()
    assert "are deleted" in station.run("dpkg -P edge-station")
    assert not any(path.parent.exists() for path in kept)
    assert not enabled.is_symlink()
    assert not list((station.root / "usr/lib/systemd/system").glob("edge*"))


def test_purging_asks_by_a_variable_too(station: ChangedRoot) -> None:
    station.run("dpkg -r edge-station")
    assert "are deleted" in station.run("EDGE_PURGE=yes dpkg -P edge-station")
    assert not (station.root / "var/lib/edge").exists()


def test_an_older_version_is_refused_unless_forced(
    station: ChangedRoot, package: Path, newer: Path
) -> None:
    put(station, newer)
    station.run(INSTALL)
    put(station, package)
    assert f"refused to replace version {NEW}" in station.run(INSTALL, code=1)
    assert_whole(station, NEW)
    station.run(f"EDGE_DOWNGRADE=yes {INSTALL}")
    assert_whole(station, OLD)


def test_nobody_but_root_can_change_the_program(station: ChangedRoot) -> None:
    root = station.root / "opt/edge"
    loose = [
        path for path in [root, *root.rglob("*")]
        if not path.is_symlink() and (path.stat().st_uid != 0 or path.stat().st_mode & 0o022)
    ]  # fmt: skip
    assert loose == []
    groups = station.run("id -nG edge").split()
    assert {"edge", "video", "render", "plugdev", "gpio"} <= set(groups)
    assert os.access(root / "bin/environment", os.X_OK)
