"""What does not fit is said before anything is done: the BSP, the fleet's file, the board."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.errors import ConfigError
from jetson.boards import BOARDS, board_named
from jetson.bsp import configuration, read_bsp
from jetson.flash import make_order
from jetson.fleet import read_fleet
from tests.jetson.conftest import WriteFleet
from tests.support.bsp import CALLS, make_bsp
from tests.support.package import lay_python, make_package


@pytest.mark.parametrize(
    ("board", "linux", "said"),
    [
        ("orin-nano", "38.4.0", r"JetPack 7\.1 .* does not run on Jetson Orin Nano: take .* 6\.0"),
        ("thor", "36.4.4", r"does not run on Jetson AGX Thor: take .*JetPack 7\.0, 7\.1, 7\.2"),
        ("orin-nano", "36.3.0", r"brings TensorRT 8\.6, and engines need 10\.3 or later"),
        ("orin-nano", "99.1", "belongs to no JetPack that this software knows"),
    ],
)
def test_a_release_that_does_not_fit_is_refused(
    tmp_path: Path, board: str, linux: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_bsp(make_bsp(tmp_path, linux), board_named(board))


def test_the_fleets_release_is_required(bsp: Path) -> None:
    board = board_named("orin-nano")
    assert read_bsp(bsp, board, "6.2.1").linux == "36.4.4"
    with pytest.raises(ConfigError, match=r"the BSP is JetPack 6\.2\.1 .* to have 6\.1"):
        read_bsp(bsp, board, "6.1")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("flash.sh", "is not NVIDIA's Linux_for_Tegra, flash.sh is missing"),
        ("rootfs/etc/nv_tegra_release", r"then run `sudo ./apply_binaries\.sh` in"),
    ],
)
def test_a_bsp_that_is_not_whole_is_refused(bsp: Path, missing: str, said: str) -> None:
    (bsp / missing).unlink()
    with pytest.raises(ConfigError, match=said):
        read_bsp(bsp, board_named("orin-nano"))


def test_thors_binaries_are_applied_with_the_open_driver(tmp_path: Path) -> None:
    bsp = make_bsp(tmp_path, "38.4.0")
    (bsp / "rootfs/etc/nv_tegra_release").unlink()
    with pytest.raises(ConfigError, match=r"apply_binaries\.sh --openrm"):
        read_bsp(bsp, board_named("thor"))


def test_super_clocks_need_a_board_and_a_release_that_have_them(tmp_path: Path) -> None:
    nano, agx = board_named("orin-nano"), board_named("agx-orin")
    old, new = make_bsp(tmp_path / "old", "36.4.0"), make_bsp(tmp_path / "new", "36.4.3")
    assert configuration(read_bsp(new, nano), nano, True) == "jetson-orin-nano-devkit-super"
    with pytest.raises(ConfigError, match=r"super clocks need JetPack 6\.2 or later"):
        configuration(read_bsp(old, nano), nano, True)
    with pytest.raises(ConfigError, match="Jetson AGX Orin has no super clocks"):
        configuration(read_bsp(new, agx), agx, True)


def test_a_usb_number_means_one_kind_of_board() -> None:
    products = [product for board in BOARDS for product in board.recovery]
    assert len(products) == len(set(products))


@pytest.mark.parametrize(
    ("line", "stations", "said"),
    [
        ("colour = 1", '{name = "a"}', "colour: Extra inputs are not permitted"),
        ("", '{name = "a"}, {name = "a"}', "two stations have the name a"),
        ("", '{name = "A"}, {name = "a"}', "two stations have the hostname a"),
        ("", '{name = "a", address = "10.0.0.7"}', r"stations\.0\.address: write an address with"),
        ("", '{name = "a", gateway = "10.0.0.1"}', "gateway or dns is set but address is not"),
        ("", '{name = "a b"}', r"stations\.0\.name"),
        ("stations =", "", "is not TOML"),
    ],
)
def test_a_mistake_in_the_fleets_file_is_named(
    write_fleet: WriteFleet, line: str, stations: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_fleet(write_fleet(line, stations=stations))


@pytest.mark.parametrize(
    ("line", "arguments", "said"),
    [
        ('storage = "emmc"', (None, None), "Jetson Orin Nano has nvme, sd, usb"),
        ("", ("cell9", None), "there is no station cell9: the fleet has cell7"),
        ("", (None, 4), "station cell7 has no serial"),
        ('station_toml = "absent.toml"', (None, None), r"absent\.toml"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, line: str, arguments: tuple, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_order(bundle, "orin-nano", bsp, write_fleet(line), *arguments)


def test_a_package_for_another_system_is_refused_before_anything_is_done(
    tmp_path: Path, bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    """Of JetPack 7 on the BSP of JetPack 6, and of another processor."""
    lay_python(bsp / "rootfs", "3.10.6-1~22.04")
    fleet = write_fleet()
    for folder, fault, said in (
        (
            "python",
            {"needs": "python3 (>= 3.12), python3 (<< 3.13)"},
            r"for Python 3\.12, .* 3\.10",
        ),
        ("processor", {"architecture": "armhf"}, "is for armhf, .*rootfs is for arm64"),
    ):
        package = make_package(tmp_path / folder, **fault)
        (fleet.parent / "edge-station.deb").write_bytes(package.read_bytes())
        with pytest.raises(ConfigError, match=said):
            make_order(bundle, "orin-nano", bsp, fleet, None, None)
    assert not (bsp / CALLS).exists()


def test_a_private_key_is_not_taken_for_a_public_one(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    fleet = write_fleet()
    (fleet.parent / "factory.pub").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    with pytest.raises(ConfigError, match="is not one public key of ssh"):
        make_order(bundle, "orin-nano", bsp, fleet, None, None)


def test_the_printed_fleet_is_read(bsp: Path, bundle: Path, write_fleet: WriteFleet) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/flash.md").read_text(encoding="utf-8")
    printed = page.partition("```toml provision\n")[2].partition("```")[0]
    fleet = write_fleet()
    (fleet.parent / "cell.toml").write_text("[broker]\nenabled = false\n")
    fleet.write_text(printed)
    order = make_order(bundle, "orin-nano", bsp, fleet, "cell1", None)
    assert order.configuration == "jetson-orin-nano-devkit-super"
    assert [station.name for station in order.fleet.stations] == ["cell1", "cell2"]
    assert set(type(order.fleet).model_fields) <= set(re.findall(r"(?m)^(\w+) = ", printed))


def test_the_page_shows_every_board() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/flash.md").read_text(encoding="utf-8")
    for board in BOARDS:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{board.name}` |"))
        super_config = "" if board.super_config is None else f"`{board.super_config}` "
        storages = ", ".join(f"`{storage}`" for storage in board.storages)
        assert f"| `{board.config}` | {super_config}| {storages} |" in row


def test_the_first_start_has_few_rights() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    unit = Path(__file__).resolve().parents[2] / "jetson/edge-first-boot.service"
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(words, capture_output=True).returncode == 0
