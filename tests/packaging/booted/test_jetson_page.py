"""docs/jetson.md: its five commands, as printed, on a machine that stands in for a board."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted import REPOSITORY, BootedRoot, booted_copy, debian_root
from tests.support.booted_station import bring, status_of
from tests.support.broker import wait_until
from tests.support.patience import HANG_S, slowness
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle

pytestmark = pytest.mark.long
PAGE = REPOSITORY / "docs/jetson.md"
BROKER = ("mosquitto", "libmosquitto1", "libcjson1", "libdlt2", "libwrap0")  # as apt would
NOT_OURS = {"time"}  # the clock is that of this machine, which may not be synchronized
WHOLE_S = 600.0  # from the first command to the first verdict


def commands(block: str) -> list[str]:
    """The lines of a block of the page, without sudo: the machine's user is root."""
    found = re.search(rf"^```sh {block}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return [line.removeprefix("sudo ") for line in found[1].splitlines()]


@pytest.fixture
def board(package: Path, delivered: Path, key: KeyPair, tmp_path: Path) -> Iterator[BootedRoot]:
    """Debian with a broker in its archive and what somebody brings; without network."""
    (tmp_path / "debs").mkdir()
    fetched = subprocess.run(
        ["apt-get", "download", *BROKER], cwd=tmp_path / "debs", capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"apt gives no mosquitto: {fetched.stderr.strip().splitlines()[-1]}")
    with booted_copy([debian_root()], tmp_path / "board", networked=False) as booted:
        bring(booted, delivered)
        camera: dict[str, object] = {"belt": "/srv/belt", "empty": "/srv/empty"}
        make_tiny_bundle(booted.root / "srv", key, camera=camera)
        shutil.copy(package, booted.root / "srv")
        shutil.copytree(tmp_path / "debs", booted.root / "srv/debs")
        booted.run("dpkg -i /srv/debs/*.deb")
        (booted.root / "etc/apt/apt.conf.d/90quiet").write_text(
            'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'
        )
        yield booted


def test_five_commands_lead_to_a_verdict_and_a_doctor_without_complaints(
    board: BootedRoot, package: Path
) -> None:
    started_s = time.monotonic()
    words = commands("jetson")
    assert len(words) == 5
    for command in words:
        named = re.sub(r"edge-station_\S+\.deb", package.name, command)
        board.run(f"cd /srv && {named}", timeout_s=WHOLE_S)
    wait_until(lambda: status_of(board).get("ready"), HANG_S, "the station is not ready")
    wait_until(lambda: status_of(board).get("seq"), HANG_S, "no verdict")
    took_s = time.monotonic() - started_s
    print(f"first verdict {took_s:.0f} s after the first command")
    assert took_s < WHOLE_S * slowness()
    doctor, status = commands("jetson check")
    rows = json.loads(board.run(f"{doctor} --json", check=False).stdout)["rows"]
    wrong = {row["name"] for row in rows if row["state"] == "wrong"}
    assert wrong <= NOT_OURS, rows
    assert {"bundle", "engine", "service", "broker"} <= {
        row["name"] for row in rows if row["state"] == "right"
    }
    assert "last verdict" in board.run(status).stdout
    board.reboot()
    wait_until(lambda: status_of(board).get("ready"), HANG_S, "it does not judge after a boot")
