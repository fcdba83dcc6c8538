"""The units that `edge install` lays down."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from edge.camera import hardware_reset, process, remedies, supervised, usb_reset
from edge.camera.usb_reset import REQUEST
from edge.dialect_sections import OpcUaConfig
from edge.install.install import install_bundle
from edge.provision.first_files import UNIT_NAMES, UNIT_PLACE
from edge.runtime import capture
from edge.units import has_unit
from tests.support.root import trusting_root
from tests.support.tiny_bundle import make_key, make_tiny_bundle


@pytest.fixture
def unit() -> str:
    return resources.files("edge.provision").joinpath("systemd/edge.service").read_text()


def settings(unit: str) -> configparser.ConfigParser:
    # some keys of systemd stand several times and add up
    parser = configparser.ConfigParser(strict=False, interpolation=None)
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
    # the first forbids the GPU's runtime to compile, the second hides the GPU
    assert not {"MemoryDenyWriteExecute", "PrivateDevices"} & set(service)
    assert (service["DevicePolicy"], service["DeviceAllow"]) == ("closed", "char-* rw")
    assert service["SupplementaryGroups"].split() == ["video", "render", "plugdev", "gpio"]
    assert {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"} == set(
        service["RestrictAddressFamilies"].split()
    )


def shipped(name: str) -> str:
    return resources.files("edge.provision").joinpath(f"systemd/{name}").read_text()


def test_systemd_itself_understands_them(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was parsed only")
    paths = [tmp_path / name for name in UNIT_NAMES]
    for path in paths:
        path.write_text(re.sub("/opt/edge/bin/[a-z]+", "/bin/true", shipped(path.name)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_it_lies_where_systemd_looks(unit: str, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    store = trusting_root(tmp_path / "station", key)
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    assert (store.root / UNIT_PLACE).read_text() == unit
    for name in UNIT_NAMES:
        assert (store.root / UNIT_PLACE.with_name(name)).read_text() == shipped(name)
    assert has_unit(store.root, remedies.PATH_UNIT)


def test_the_station_asks_for_its_usb_port_and_another_unit_with_few_rights_restarts_it(
    unit: str,
) -> None:
    assert "edge-usb-reset.path" in settings(unit)["Unit"]["Wants"].split()
    asked = settings(shipped("edge-usb-reset.path"))["Path"]
    assert asked["PathExists"] == f"/{REQUEST}"
    service = settings(shipped("edge-usb-reset.service"))["Service"]
    assert service["Type"] == "oneshot"
    assert service["ExecStart"].split()[1:] == ["-I", "-m", "edge.camera.usb_reset"]
    assert "User" not in service, "only root may write `authorized`"
    assert service["CapabilityBoundingSet"] == "CAP_DAC_OVERRIDE"
    assert "ProtectKernelTunables" not in service, "it makes /sys read-only"
    # the station's own folder, which its RuntimeDirectory= makes
    assert service["ReadWritePaths"] == f"-/{REQUEST.parent}"


def test_the_opcua_server_has_less_rights_than_the_station_and_its_account(unit: str) -> None:
    station, server = settings(unit)["Service"], settings(shipped("edge-opcua.service"))["Service"]
    assert server["ExecStart"].split()[1:] == ["opcua", "--root", "/"]
    assert (server["User"], server["Restart"]) == (station["User"], "always")
    hardening = {key for key in station if key.startswith(("Protect", "Restrict", "Lock", "NoNew"))}
    for key in hardening - {"RestrictAddressFamilies"}:
        assert server[key] == station[key], key
    assert set(server["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert (server["PrivateDevices"], server["CapabilityBoundingSet"]) == ("yes", "")
    assert server["MemoryMax"] == "300M"
    assert server["StateDirectory"] == OpcUaConfig().certificates.removeprefix("var/lib/")
    # a station without [opcua] does not start it
    assert "edge-opcua" not in settings(unit)["Unit"]["Wants"]


def test_the_root_program_imports_the_standard_library_alone() -> None:
    source = Path(usb_reset.__file__).read_text()
    names = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= sys.stdlib_module_names


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
        hardware_reset.LIMIT_S + capture.RETRY_S,
        remedies.LEAVE_S + remedies.RETURN_S,
        remedies.TAKEN_S + remedies.SETTLE_S + remedies.RETURN_S,
    ]
    assert max(steps_s) < int(settings(unit)["Service"]["WatchdogSec"])
