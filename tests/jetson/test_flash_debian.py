"""A flash with the real package in the place of a board's system: Debian 12 for the same processor,
under qemu. NVIDIA's tools are the stand-in; its Ubuntu and a board were never there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.config import read_config
from edge.install.rootfs import prepare_rootfs
from jetson.flash import make_order, perform
from tests.jetson.conftest import WriteFleet
from tests.support.bsp import calls, make_bsp, plug_in
from tests.support.debian_roots import debian_root, find_package, mounts_below, run_inside

WANTS = Path("etc/systemd/system/multi-user.target.wants")


@pytest.mark.long
def test_a_system_for_the_board_gets_the_package_and_becomes_the_station(
    tmp_path: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    bsp = make_bsp(tmp_path)
    fleet = write_fleet('power_mode = "25W"', 'clocks = "max"', stations='{name = "Cell7"}')
    shutil.copy(find_package("arm64"), tmp_path / "edge-station.deb")
    with debian_root("arm64") as rootfs:
        shutil.rmtree(bsp / "rootfs/usr")  # the one program that stands for a system
        shutil.copytree(bsp / "rootfs/etc/nvpmodel", rootfs / "etc/nvpmodel")
        shutil.copy(bsp / "rootfs/etc/nv_tegra_release", rootfs / "etc")
        shutil.rmtree(bsp / "rootfs")
        (bsp / "rootfs").symlink_to(rootfs)
        order = make_order(bundle, "orin-nano", bsp, fleet, None, None)
        usb = plug_in(tmp_path / "usb", "7523")
        perform(order, prepare_rootfs, pytest.fail, lambda _: None, tmp_path / "logs", usb)
        assert mounts_below(rootfs) == []
        assert len(calls(bsp)) == 2
        assert read_config(rootfs).station.station == "Cell7"
        assert (rootfs / "etc/hostname").read_text() == "cell7\n"
        unit = (rootfs / WANTS / "edge-power.service").readlink()
        assert run_inside(rootfs, "test", "-f", str(unit)).returncode == 0
        status = run_inside(rootfs, "/opt/edge/bin/edge", "verify")
        assert status.returncode == 0, status.stdout + status.stderr
        first = run_inside(rootfs, "/opt/edge/bin/python", "-I", "-m", "jetson.first_boot")
        assert first.returncode == 1
        assert "stations.json" in first.stderr  # it has the module; there is nothing to take
