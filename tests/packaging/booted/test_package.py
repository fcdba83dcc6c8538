"""The package on a machine that systemd boots: installed twice, upgraded under a running station,
refused, on a full disk, without network.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted import BootedRoot, booted_copy, debian_root, small_disk
from tests.support.booted_station import configure, installed_version, newer_package, put, status_of
from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until
from tests.support.patience import HANG_S

pytestmark = pytest.mark.long
INSTALL_S = 120.0  # on a quiet machine
SMALL_MB = 700  # of disk: the package fits, its Python environment does not


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as version 99, with an environment of its own."""
    return newer_package(package, tmp_path_factory.mktemp("newer"))


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[BootedRoot]:
    """Debian without the package and without network, on."""
    with booted_copy([debian_root()], tmp_path / "bare", networked=False) as booted:
        yield booted


def test_apt_installs_it_twice_without_network(bare: BootedRoot, package: Path) -> None:
    path = put(bare, package)
    for _ in range(2):
        bare.run(f"apt-get install -y --no-install-recommends {path}", timeout_s=INSTALL_S)
        assert installed_version(bare).startswith("installed ")
        assert bare.run("edge --version").stdout
    bare.run(f"apt-get install -y --reinstall --no-install-recommends {path}", timeout_s=INSTALL_S)
    assert bare.run("edge --version").stdout
    assert bare.run("stat -c '%U %a' /var/lib/edge /etc/edge").stdout == "edge 755\nroot 755\n"
    said = bare.run("systemctl start edge", check=False)
    assert said.returncode != 0, "nothing is to be judged yet"
    assert "edge install" in bare.journal("edge"), "and it says what to do"


def test_a_running_station_is_upgraded_and_an_older_version_refused(
    station: BootedRoot, package: Path, newer: Path, broker: Broker, archive: Subscriber
) -> None:
    configure(station, broker.port)
    station.run("systemctl start edge")
    wait_until(lambda: archive.of("verdict"), HANG_S, "no verdict")
    before, seen = station.main_process("edge"), len(archive.of("verdict"))
    environment = station.run("readlink /opt/edge/venv").stdout
    station.run(f"dpkg -i {put(station, newer)}", timeout_s=INSTALL_S)
    assert installed_version(station) == "installed 99"
    assert station.run("readlink /opt/edge/venv").stdout != environment
    assert len(archive.of("verdict")) > seen, "it judged while the new environment was made"
    wait_until(lambda: station.main_process("edge") != before, HANG_S, "it was not restarted")
    seen = len(archive.of("verdict"))
    wait_until(lambda: len(archive.of("verdict")) > seen, HANG_S, "the new version does not judge")

    after = station.main_process("edge")
    refused = station.run(f"dpkg -i {put(station, package)}", check=False, timeout_s=INSTALL_S)
    assert refused.returncode != 0
    assert "refused to replace version 99 by the older" in refused.stderr
    assert installed_version(station) == "installed 99"
    assert station.main_process("edge") == after, "the station was left alone"
    station.run("systemctl stop edge")
    numbers = [record["seq"] for record in archive.records()]
    assert_archive_is_complete(archive.records(), list(range(1, max(numbers) + 1)))


def test_a_disk_that_fills_is_told_and_room_ends_what_was_begun(
    package: Path, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk", SMALL_MB) as disk,
        booted_copy([debian_root()], disk / "machine", networked=False) as booted,
    ):
        shutil.copy(package, tmp_path / "station.deb")
        path = put(booted, package)
        refused = booted.run(f"dpkg -i {path}", check=False, timeout_s=INSTALL_S)
        assert refused.returncode != 0
        assert "make room, then dpkg --configure -a" in refused.stderr
        assert booted.run("test -e /opt/edge/venv", check=False).returncode != 0
        subprocess.run(["mount", "-o", "remount,size=4g", disk], check=True)
        booted.run("dpkg --configure -a", timeout_s=INSTALL_S)
        assert installed_version(booted).startswith("installed ")
        assert booted.run("edge --version").stdout


def test_an_upgrade_on_a_full_disk_leaves_the_station_judging(
    ready: list[Path], newer: Path, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    with (
        small_disk(tmp_path / "disk", SMALL_MB) as disk,
        booted_copy(ready, disk / "machine") as station,
    ):
        configure(station, broker.port)
        station.run("systemctl start edge")
        wait_until(lambda: archive.of("verdict"), HANG_S, "no verdict")
        before = station.main_process("edge")
        path = put(station, newer)
        refused = station.run(f"dpkg -i {path}", check=False, timeout_s=INSTALL_S)
        assert refused.returncode != 0
        assert "dpkg --configure -a" in refused.stderr
        seen = len(archive.of("verdict"))
        wait_until(lambda: len(archive.of("verdict")) > seen, HANG_S, "it stopped judging")
        assert station.main_process("edge") == before
        station.run("systemctl restart edge")
        seen = len(archive.of("verdict"))
        wait_until(lambda: len(archive.of("verdict")) > seen, HANG_S, "it does not start again")
        subprocess.run(["mount", "-o", "remount,size=4g", disk], check=True)
        station.run("dpkg --configure -a", timeout_s=INSTALL_S)
        assert installed_version(station) == "installed 99"
        wait_until(lambda: status_of(station).get("ready"), HANG_S, "it does not judge")


def test_removing_keeps_what_the_station_knows(station: BootedRoot, package: Path) -> None:
    configure(station)
    station.run("systemctl enable --now edge")
    station.run("dpkg -r edge-station", timeout_s=INSTALL_S)
    assert station.run("systemctl is-active edge", check=False).stdout.strip() != "active"
    station.run("test -e /var/lib/edge/active -a -e /etc/edge/station.toml")
    station.run(f"dpkg -i {put(station, package)}", timeout_s=INSTALL_S)
    station.run("systemctl restart edge")
    wait_until(lambda: status_of(station).get("state"), HANG_S, "it does not judge again")
