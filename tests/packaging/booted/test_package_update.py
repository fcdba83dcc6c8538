"""The package that updates itself on a machine that systemd boots: published by `trainer release`,
taken by the station's timer unit and root's, on trial, kept or taken back.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="tuf is not installed: pip install 'rgbd-inspection[update]'")

from tests.support.booted import BootedRoot, wait_s
from tests.support.booted_station import configure, installed_version, status_of
from tests.support.broker import wait_until
from tests.support.patience import HANG_S
from tests.support.released import Server, serving
from trainer.release.acts import add_package, begin, set_ring_package

pytestmark = pytest.mark.long
INSTALL_S = 300.0  # on a quiet machine: fetched, kept, installed and tried
UNIT = "edge-package-update.service"


def remade(package: Path, folder: Path, version: str, postinst: str = "", breaks: str = "") -> Path:
    """The same package in another version, with an environment of its own.

    postinst: lines of its script, before all others. breaks: lines at the end of its unit's
    [Service], so that the station does not judge.
    """
    content = folder / f"content-{version}"
    subprocess.run(["dpkg-deb", "-R", package, content], check=True)
    control = content / "DEBIAN/control"
    old = next(line for line in control.read_text().splitlines() if line.startswith("Version:"))
    control.write_text(control.read_text().replace(old, f"Version: {version}"))
    with (content / "opt/edge/wheels/requirements.txt").open("a") as file:
        file.write(f"# {version}\n")
    script = content / "DEBIAN/postinst"
    script.write_text(script.read_text().replace("set -e\n", f"set -e\n{postinst}\n", 1))
    unit = content / "usr/lib/systemd/system/edge.service"
    unit.write_text(unit.read_text().replace("[Service]\n", f"[Service]\n{breaks}\n", 1))
    (content / "DEBIAN/md5sums").unlink()
    made = folder / f"edge-station_{version}_bookworm_amd64.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", content, made], check=True, capture_output=True)
    shutil.rmtree(content)
    return made


@dataclass
class Published:
    """A repository with packages, and a station that asks it."""

    folder: Path
    keys: Path
    server: Server
    station: BootedRoot

    def offer(self, package: Path) -> None:
        add_package(self.folder, package, [self.keys])
        set_ring_package(self.folder, "stable", [self.keys], package.name.split("_")[1])

    def update(self) -> str:
        """What the timer does when a check is due; what root's unit then said, once it has
        ended.
        """
        self.ask()
        self.await_root()
        return self.station.journal(UNIT)

    def ask(self) -> None:
        """Only the first half of it: the unit of the account edge."""
        self.station.run("rm -f /var/lib/edge/update/state.json")  # it was never asked before
        self.station.run("systemctl start edge-update.service", timeout_s=INSTALL_S)

    def await_root(self) -> None:
        wait_until(
            lambda: (
                self.station.show(UNIT, "ActiveState") not in ("activating", "active")
                and self.station.run("test -e /run/edge/package-update", check=False).returncode
                != 0
            ),
            INSTALL_S,
            "root's unit does not end",
        )

    def judges(self) -> bool:
        said = status_of(self.station)
        return bool(said.get("ready")) and not said.get("reason")


@pytest.fixture
def published(station: BootedRoot, tmp_path: Path) -> Iterator[Published]:
    folder, keys = tmp_path / "updates", tmp_path / "keys"
    begin(folder, keys)
    shutil.copy(folder / "root.json", station.root / "srv")
    station.run("edge update trust /srv/root.json")
    with serving(folder) as server:
        published = Published(folder, keys, server, station)
        set_up(published, "true")
        station.run("systemctl start edge")
        wait_until(published.judges, HANG_S, "it does not judge")
        yield published


def set_up(published: Published, package: str) -> None:
    more = f'[update]\nsource = "tuf"\nurl = "{published.server.url}"\npackage = {package}\n'
    configure(published.station, more=f"{more}trial_parts = 3\ntrial_min = 1\n")


@pytest.fixture(scope="module")
def make(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("newer")
    return lambda version, **more: remade(package, folder, version, **more)


def test_it_is_taken_where_that_is_asked_for_and_judges(
    published: Published, make: Callable[..., Path]
) -> None:
    station, newer = published.station, make("99")
    before = station.main_process("edge")
    published.offer(newer)
    set_up(published, "false")
    published.ask()
    shown = station.run("edge update --check").stdout
    assert "offered, and not taken by itself (package is false)" in shown
    assert installed_version(station) != "installed 99"
    set_up(published, "true")
    assert "would be taken" in station.run("edge update --check").stdout
    assert "the station is healthy with it" in published.update()
    assert installed_version(station) == "installed 99"
    assert station.main_process("edge") != before
    wait_until(published.judges, HANG_S, "it does not judge")
    assert station.run("ls /var/lib/edge-package/previous").stdout.count(".deb") == 1
    assert "edge-station 99: installed" in station.run("edge update status").stdout
    assert "package update installed" in station.run("edge audit").stdout
    owners = station.run("find /var/lib/edge-package ! -user root -o -perm -o+w ! -type l").stdout
    assert owners == ""


def test_one_that_cannot_be_configured_is_taken_back_and_not_taken_again(
    published: Published, make: Callable[..., Path]
) -> None:
    station, before = published.station, installed_version(published.station)
    published.offer(make("100", postinst="exit 3"))
    said = published.update()
    assert "it could not be installed" in said
    assert installed_version(station) == before
    assert station.run("dpkg --audit").stdout == ""
    wait_until(published.judges, HANG_S, "it does not judge")
    assert published.update() == said, "it was not even asked again"
    assert "it was rolled back here before" in station.run("edge update --check").stdout
    shown = station.run("edge doctor", check=False).stdout
    assert "100 was rolled back" in shown
    assert "1" in station.run("edge update forget edge-station").stdout
    assert "would be taken" in station.run("edge update --check").stdout


def test_one_with_which_the_station_does_not_judge_is_taken_back(
    published: Published, make: Callable[..., Path]
) -> None:
    before = installed_version(published.station)
    published.offer(make("101", breaks="ExecStartPre=/bin/false"))
    said = published.update()
    assert "101: rolled back: `edge run` has not" in said
    assert installed_version(published.station) == before
    published.station.run("systemctl reset-failed edge; systemctl start edge", check=False)
    wait_until(published.judges, HANG_S, "it does not judge")


@pytest.mark.parametrize("moment", ["fetched", "dpkg", "trial"])
def test_interrupted_the_next_one_goes_on(
    published: Published, make: Callable[..., Path], moment: str
) -> None:
    station = published.station
    published.offer(make("99"))
    before = installed_version(station)
    published.ask()
    marks = {"fetched": "fetched now", "dpkg": "it is installed now", "trial": "on trial for"}
    wait_until(lambda: marks[moment] in station.journal(UNIT), INSTALL_S, "it does not come there")
    station.reboot()
    station.run("systemctl start edge")
    wait_s(station, "edge.service", "active")
    for _ in range(2):
        published.update()
    assert installed_version(station) in ("installed 99", before)
    assert station.run("dpkg --audit").stdout == ""
    wait_until(published.judges, HANG_S, "it does not judge")


def test_what_is_not_signed_not_whole_or_for_another_processor_is_refused(
    published: Published, make: Callable[..., Path]
) -> None:
    station, before = published.station, installed_version(published.station)
    published.offer(make("99"))
    (target,) = (published.folder / "targets/packages").iterdir()
    whole = target.read_bytes()
    target.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "cannot be trusted" in published.update()
    target.write_bytes(whole)
    newest = max((published.folder / "metadata").glob("*.targets.json"))
    kept = newest.read_bytes()
    newest.write_bytes(kept.replace(b"amd64", b"arm64"))
    station.run("rm -rf /var/lib/edge/update/tuf /var/lib/edge-package/tuf")
    answer = station.run("edge update package", check=False)
    assert answer.returncode == 1
    assert "cannot be trusted" in answer.stderr
    newest.write_bytes(kept)
    assert installed_version(station) == before
    as_edge = "setpriv --reuid edge --regid edge --clear-groups edge update package"
    assert "only root" in station.run(as_edge, check=False).stderr
