"""The unit that `edge install` lays down."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from edge.camera import process, supervised
from edge.install.install import install_bundle
from edge.provision.first_files import UNIT_PLACE
from edge.runtime import capture
from tests.support.root import trusting_root
from tests.support.tiny_bundle import make_key, make_tiny_bundle


@pytest.fixture
def unit() -> str:
    return resources.files("edge.provision").joinpath("systemd/edge.service").read_text()


def settings(unit: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # systemd's keys are case sensitive
    parser.read_string(unit)
    return parser


def test_it_notifies_is_watched_and_comes_back(unit: str) -> None:
    service = settings(unit)["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) == 30
    assert service["Restart"] == "always"
    assert settings(unit)["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["ExecStart"].split()[1:] == ["run", "--root", "/"]


def test_it_runs_with_least_rights_and_can_still_write_its_state(unit: str) -> None:
    service = settings(unit)["Service"]
    assert service["User"] == "edge"
    # /var/lib/edge stays writable under ProtectSystem=strict
    assert service["StateDirectory"] == "edge"
    assert service["ProtectSystem"] == "strict"
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "")
    # they hide the GPU
    assert not {"MemoryDenyWriteExecute", "DevicePolicy", "PrivateDevices"} & set(service)
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} == set(
        service["RestrictAddressFamilies"].split()
    )


def test_systemd_itself_understands_it(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was parsed only")
    path = tmp_path / "edge.service"
    path.write_text(unit.replace("/opt/edge/bin/edge", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_it_lies_where_systemd_looks(unit: str, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    store = trusting_root(tmp_path / "station", key)
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    assert (store.root / UNIT_PLACE).read_text() == unit


def test_the_watchdog_waits_longer_than_every_step_that_a_lost_camera_takes(unit: str) -> None:
    """A camera that is unplugged is no reason to start the station anew, however long it stays
    away.
    """
    steps_s = [
        supervised.HELLO_S,
        supervised.OPEN_S,
        capture.FIRST_FRAME_S,
        capture.LOST_S + capture.RETRY_S,
        supervised.CLOSE_S + process.KILL_S,
    ]
    assert max(steps_s) < int(settings(unit)["Service"]["WatchdogSec"])
