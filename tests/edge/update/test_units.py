"""edge-update.service and its timer: the station's account, few rights, and behind the verdict."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from edge.provision.first_files import UNIT_NAMES
from edge.update import package_step
from edge.update.package_request import REQUEST

UNITS = Path(str(resources.files("edge.provision").joinpath("systemd")))
EXPOSURE = 20  # tenths, on systemd's scale from 0 to 10


def settings(name: str) -> configparser.ConfigParser:
    # some keys of systemd stand several times and add up
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # they are case sensitive
    parser.read_string((UNITS / name).read_text())
    return parser


def test_the_service_works_as_the_station_and_comes_after_it_in_everything() -> None:
    assert {"edge-update.service", "edge-update.timer"} <= set(UNIT_NAMES)
    service, station = (
        settings("edge-update.service")["Service"],
        settings("edge.service")["Service"],
    )
    assert service["ExecStart"].split()[1:] == ["update", "--if-due", "--root", "/"]
    assert (service["User"], service["Type"]) == (station["User"], "oneshot")
    assert set(service["SupplementaryGroups"].split()) <= set(
        station["SupplementaryGroups"].split()
    )
    assert int(service["Nice"]) > 0
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "")
    assert service["ProtectSystem"] == "strict"
    assert "ProcSubset" not in service, "it hides /proc/locks, which tells whether `edge run` works"
    timer = settings("edge-update.timer")
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert "RandomizedDelaySec" in timer["Timer"]


def test_it_may_ask_for_a_package_and_do_no_more_about_it() -> None:
    service = settings("edge-update.service")
    assert service["Service"]["ReadWritePaths"] == f"-/{REQUEST.parent}"
    assert "edge-package-update.path" in service["Unit"]["Wants"].split()
    assert settings("edge-package-update.path")["Path"]["PathExists"] == f"/{REQUEST}"
    package = settings("edge-package-update.service")
    assert package["Service"]["ExecStart"].split()[1:] == ["-I", "-m", package_step.__name__]
    # a request that comes again and again starts it a few times, no more
    limit = (package["Unit"]["StartLimitIntervalSec"], package["Unit"]["StartLimitBurst"])
    assert limit == ("600", "5")


def test_systemd_rates_its_exposure_at_most_2() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}"]
    found = subprocess.run(
        [*command, "--no-pager", UNITS / "edge-update.service"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout
