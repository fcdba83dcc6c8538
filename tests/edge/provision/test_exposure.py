"""How much of the machine each unit could reach, as systemd itself rates it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[3] / "systemd"
LIMIT = 20  # tenths: an exposure of 2.0 on systemd's scale from 0 to 10
ALL = sorted(UNITS.glob("*.service"))
INSTALLS = {"edge-package-update.service": 37}  # it runs dpkg, and says why that needs more
SERVICES = [unit for unit in ALL if unit.name not in INSTALLS]


def rated(unit: Path, limit: int = LIMIT) -> subprocess.CompletedProcess[str]:
    """systemd-analyze ends with 1 if the unit is exposed more than `limit`."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={limit}"]
    return subprocess.run([*command, "--no-pager", unit], capture_output=True, text=True)


@pytest.mark.parametrize("unit", SERVICES, ids=[unit.name for unit in SERVICES])
def test_no_unit_is_exposed_more_than_2(unit: Path) -> None:
    found = rated(unit)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(("name", "limit"), INSTALLS.items())
def test_what_installs_a_package_is_exposed_no_more_than_it_says(name: str, limit: int) -> None:
    found = rated(UNITS / name, limit)
    assert found.returncode == 0, found.stdout
    assert f"rates this unit {limit / 10}" in (UNITS / name).read_text()


def test_a_unit_that_filters_no_system_calls_is_found(tmp_path: Path) -> None:
    lines = (UNITS / "edge.service").read_text().splitlines(keepends=True)
    bare = tmp_path / "edge.service"
    bare.write_text("".join(line for line in lines if not line.startswith("SystemCallFilter")))
    assert rated(bare).returncode == 1
