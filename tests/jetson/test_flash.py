"""A board from the carton becomes a station, on a stand-in of NVIDIA's BSP (tests/support/bsp.py):
the command lines, the root file system, and what is left when a tool fails.

Never executed here: NVIDIA's own tools, and a board.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.board.power import read_power
from edge.config import read_config
from edge.errors import ConfigError
from edge.install.proof_file import read_proof
from edge.install.rootfs import prepare_rootfs
from edge.station.store import Store
from jetson.first_boot import become_station
from jetson.flash import make_order, perform
from jetson.steps import FlashError
from tests.jetson.conftest import SSH_KEY, WriteFleet
from tests.support.bsp import apply_binaries, calls, make_bsp, plug_in
from tests.support.root import run_edge, snapshot

ORIN_NVME = (
    "l4t_initrd_flash.sh [--external-device] [nvme0n1p1]"
    " [-c] [tools/kernel_flash/flash_l4t_t234_nvme.xml]"
    " [-p] [-c bootloader/generic/cfg/flash_t234_qspi.xml] [--showlogs] [--network] [usb0]"
)
AGX_NVME = (
    "l4t_initrd_flash.sh [--external-device] [nvme0n1p1]"
    " [-c] [tools/kernel_flash/flash_l4t_t234_nvme.xml] [--showlogs] [--network] [usb0]"
)
THOR_NVME = (
    "l4t_initrd_flash.sh [--external-device] [nvme0n1p1]"
    " [-c] [tools/kernel_flash/flash_l4t_t264_nvme.xml] [--showlogs]"
)
COMMAND_LINES = {
    ("orin-nano", "36.4.4", ""): f"{ORIN_NVME} [jetson-orin-nano-devkit] [internal] overlay=",
    ("orin-nano", "36.4.4", "super_clocks = true"): (
        f"{ORIN_NVME} [jetson-orin-nano-devkit-super] [internal] overlay="
    ),
    ("orin-nano", "36.4.4", 'storage = "sd"'): (
        "flash.sh [jetson-orin-nano-devkit] [internal] overlay="
    ),
    ("orin-nx", "39.2.0", 'storage = "usb"'): (
        f"{ORIN_NVME.replace('nvme0n1p1', 'sda1')} [jetson-orin-nano-devkit] [internal] overlay="
    ),
    ("agx-orin", "36.4.4", ""): "flash.sh [jetson-agx-orin-devkit] [internal] overlay=",
    ("agx-orin", "36.5", 'storage = "nvme"'): (
        f"{AGX_NVME} [jetson-agx-orin-devkit] [external] overlay=BootOrderNvme.dtbo"
    ),
    ("thor", "38.4.0", ""): (
        f"{THOR_NVME} [jetson-agx-thor-devkit] [internal] overlay=BootOrderNvme.dtbo"
    ),
}
RECOVERY = {"orin-nano": "7523", "orin-nx": "7323", "agx-orin": "7023", "thor": "7026"}


def prepare(
    rootfs: Path, package: Path | None, bundle: Path, trust: Sequence[Path], station: str | None
) -> None:
    """All but the package, for which the root would have to be a system that runs."""
    prepare_rootfs(rootfs, None, bundle, trust, station)


def flash(bundle: Path, board: str, bsp: Path, fleet: Path, station: str | None = None) -> Path:
    """Flash one board that waits in recovery mode; returns the log."""
    usb, logs = bsp.parent / "usb", bsp.parent / "logs"
    if not usb.exists():
        plug_in(usb, RECOVERY[board])
    order = make_order(bundle, board, bsp, fleet, station, None)
    return perform(order, prepare, pytest.fail, lambda _: None, logs, usb)


@pytest.mark.parametrize(("board", "linux", "setting"), COMMAND_LINES)
def test_a_board_is_flashed_by_nvidias_tool_for_it(
    tmp_path: Path, bundle: Path, write_fleet: WriteFleet, board: str, linux: str, setting: str
) -> None:
    bsp = make_bsp(tmp_path, linux)
    flash(bundle, board, bsp, write_fleet(setting))
    user, flashed = calls(bsp)
    assert user.startswith("l4t_create_default_user.sh [-u] [inspector] [-p] [")
    assert user.endswith("] [-n] [cell7] [--accept-license] overlay=")
    assert flashed == COMMAND_LINES[board, linux, setting]


def test_the_root_file_system_is_the_station(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    (bsp.parent / "cell.toml").write_text(
        '[station]\nsite = "plant"\nline = "line"\nstation = "station"\n'
    )
    station = (
        '{name = "Cell_7", site = "pune", line = "press2", address = "10.0.0.7/24",'
        ' gateway = "10.0.0.1", dns = ["10.0.0.2", "10.0.0.3"]}'
    )
    lines = ('station_toml = "cell.toml"', 'power_mode = "25W"', 'clocks = "max"')
    flash(bundle, "orin-nano", bsp, write_fleet(*lines, stations=station))
    rootfs, store = bsp / "rootfs", Store(bsp / "rootfs")
    named = read_config(rootfs).station
    assert (named.site, named.line, named.station) == ("pune", "press2", "Cell_7")
    assert (rootfs / "etc/hostname").read_text() == "cell-7\n"
    assert (rootfs / "etc/hosts").read_text() == "127.0.0.1 localhost\n127.0.1.1\tcell-7\n"
    connection = rootfs / "etc/NetworkManager/system-connections/edge.nmconnection"
    assert connection.stat().st_mode & 0o777 == 0o600
    assert "address1=10.0.0.7/24,10.0.0.1\ndns=10.0.0.2;10.0.0.3;\n" in connection.read_text()
    keys = rootfs / "home/inspector/.ssh/authorized_keys"
    assert (keys.read_text(), keys.stat().st_uid) == (SSH_KEY + "\n", os.geteuid() or 1000)
    sudoers = rootfs / "etc/sudoers.d/edge-inspector"
    assert sudoers.read_text() == "inspector ALL=(ALL) NOPASSWD: ALL\n"
    assert sudoers.stat().st_mode & 0o777 == 0o440
    proof = read_proof(store, store.active())
    assert proof is not None
    assert proof.state == "pending"  # the board builds and proves its engine
    power = read_power(rootfs)
    assert power is not None
    assert (power.mode, power.clocks) == ("25W", "max")
    enabled = rootfs / "etc/systemd/system/multi-user.target.wants/edge-power.service"
    assert enabled.readlink() == Path("/etc/systemd/system/edge-power.service")


def test_the_power_mode_is_the_default_where_there_is_one_of_that_name(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    flash(bundle, "orin-nano", bsp, write_fleet('power_mode = "MAXN_SUPER"'))
    for path in (bsp / "rootfs/etc/nvpmodel").glob("*.conf"):
        assert path.read_text().endswith("< PM_CONFIG DEFAULT=2 >\n")
    with pytest.raises(
        ConfigError, match=r"'40W' is not in .* \(there: 15W, 25W, 7W, MAXN_SUPER\)"
    ):
        flash(bundle, "orin-nano", bsp, write_fleet('power_mode = "40W"'))
    flash(bundle, "orin-nano", bsp, write_fleet('power_mode = "25W"'))
    texts = {path.name: path.read_text() for path in (bsp / "rootfs/etc/nvpmodel").glob("*.conf")}
    assert texts["nvpmodel_p3767_0003_super.conf"].endswith("< PM_CONFIG DEFAULT=1 >\n")
    assert texts["nvpmodel_p3767_0003.conf"].endswith("< PM_CONFIG DEFAULT=2 >\n")


def test_the_next_station_has_nothing_of_the_one_before(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    stations = '{name = "cell1", address = "10.0.0.1/24"}, {name = "cell2"}'
    fleet = write_fleet('clocks = "max"', stations=stations)
    flash(bundle, "orin-nano", bsp, fleet, "cell1")
    assert (bsp / "rootfs/etc/edge/power.json").exists()
    fleet.write_text(fleet.read_text().replace('clocks = "max"', ""))
    flash(bundle, "orin-nano", bsp, fleet, "cell2")
    rootfs = bsp / "rootfs"
    assert not (rootfs / "etc/edge/power.json").exists()
    assert list((rootfs / "etc/systemd/system/multi-user.target.wants").iterdir()) == []
    assert read_config(rootfs).station.station == "cell2"
    assert (rootfs / "etc/hostname").read_text() == "cell2\n"
    assert "cell1" not in (rootfs / "etc/hosts").read_text()
    assert not (rootfs / "etc/NetworkManager/system-connections/edge.nmconnection").exists()
    assert [line.split()[0] for line in calls(bsp)].count("l4t_create_default_user.sh") == 1


def test_a_dry_run_shows_what_a_run_does_and_changes_nothing(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, capsys, monkeypatch
) -> None:
    (bsp.parent / "password").write_text("correct horse\n")
    fleet = write_fleet("user = {password_file = 'password'}")
    before = snapshot(bsp)
    answer = run_edge(
        capsys, monkeypatch, "install", bundle, "--flash", "orin-nano", "--bsp", bsp,
        "--provision", fleet, "--dry-run",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert snapshot(bsp) == before
    assert "JetPack 6.2.1 for Orin" in answer.out
    assert "in recovery mode: none" in answer.out
    shown = [line.split(". ", 1)[1] for line in answer.out.splitlines() if line[0].isdigit()]
    assert (
        f"cd {bsp} && sudo ./tools/l4t_create_default_user.sh -u inspector -p ********"
        in answer.out
    )
    log = flash(bundle, "orin-nano", bsp, fleet).read_text()
    assert [line for line in shown if line not in log] == []
    assert len(calls(bsp)) == len([line for line in shown if line.startswith("cd ")]) == 2
    assert "[correct horse]" in calls(bsp)[0]
    assert "correct horse" not in log + answer.out + answer.err


def test_a_tool_that_fails_is_told_and_the_same_command_goes_on(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    fleet = write_fleet()
    flash(bundle, "orin-nano", bsp, fleet)  # the account is there now
    (bsp / "fail").touch()
    with pytest.raises(
        FlashError, match=r"l4t_initrd_flash\.sh ended with 3: .*logs/cell7-.*\.log"
    ):
        flash(bundle, "orin-nano", bsp, fleet)
    logs = sorted(
        (bsp.parent / "logs").glob("cell7-*Z*.log"), key=lambda path: path.stat().st_mtime
    )
    failed = next(log for log in logs if "not flashed" in log.read_text())
    assert "ERROR: might be timeout in USB write." in failed.read_text()
    assert flash(bundle, "orin-nano", bsp, fleet).read_text().endswith("flashed\n")


def test_without_the_license_nothing_is_done(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, capsys, monkeypatch
) -> None:
    before = snapshot(bsp)
    answer = run_edge(
        capsys, monkeypatch, "install", bundle, "--flash", "orin-nano", "--bsp", bsp,
        "--provision", write_fleet(),
    )  # fmt: skip
    assert answer.code == 1
    assert "license of Jetson Linux is yours to accept" in answer.err
    assert snapshot(bsp) == before


@pytest.mark.parametrize(
    ("plugged", "said"),
    [
        ((), "no Jetson Orin Nano in recovery mode"),
        (("7020",), "but a board that runs its system is"),
        (("7023",), "but the module AGX Orin 64GB is: name it with --flash agx-orin"),
        (("7523", "7523"), r"2 boards are in recovery mode \(USB ports 1-0, 1-1\)"),
    ],
)
def test_only_one_board_of_the_kind_may_wait(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, plugged: tuple[str, ...], said: str
) -> None:
    plug_in(bsp.parent / "usb", *plugged)
    (bsp.parent / "usb").mkdir(exist_ok=True)
    plug_in(bsp.parent / "other", "7523", vendor="8086")
    before = snapshot(bsp)
    with pytest.raises(ConfigError, match=said):
        flash(bundle, "orin-nano", bsp, write_fleet())
    assert snapshot(bsp) == before


def test_boards_that_are_flashed_together_find_their_lines(
    tmp_path: Path, bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    fleet = write_fleet(
        stations='{name = "cell1", serial = "1421"}, {name = "cell2", serial = "1422", site = "b"}'
    )
    asked: list[str] = []
    order = make_order(bundle, "orin-nano", bsp, fleet, None, 5)
    usb = plug_in(tmp_path / "usb", "7523")
    perform(order, prepare, asked.append, lambda _: None, tmp_path / "logs", usb)
    assert asked == ["Put all 2 boards into recovery mode, the first one again"]
    images, flashed = calls(bsp)[1:]
    assert images.startswith(
        "l4t_initrd_flash.sh [--no-flash] [--massflash] [2] [--network] [usb0]"
        " [--external-device] [nvme0n1p1]"
    )
    assert images.endswith("[--showlogs] [jetson-orin-nano-devkit] [internal] overlay=")
    assert flashed == (
        "l4t_initrd_flash.sh [--flash-only] [--massflash] [2] [--network] [usb0] [--showlogs]"
        " [jetson-orin-nano-devkit] overlay="
    )
    assert len(list((tmp_path / "logs").glob("together-*-flash_1-*.log"))) == 2  # one per board
    rootfs = bsp / "rootfs"
    assert read_config(rootfs).station.station == "station"  # `edge run` refuses this name
    serial = rootfs / "proc/device-tree/serial-number"
    serial.parent.mkdir(parents=True)
    serial.write_bytes(b"1499\0")
    with pytest.raises(ConfigError, match="serial number '1499' is in no line"):
        become_station(rootfs)
    serial.write_bytes(b"1422\0")
    become_station(rootfs)
    named = read_config(rootfs).station
    assert (named.site, named.station) == ("b", "cell2")
    assert (rootfs / "etc/hostname").read_text() == "cell2\n"
    assert not (rootfs / "etc/edge/stations.json").exists()


def test_a_person_confirms_before_boards_are_flashed_together(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, monkeypatch
) -> None:
    from edge.cli.flash import _ask

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ConfigError, match="nobody can confirm it here"):
        _ask("Put all boards into recovery mode")


def test_a_root_that_trusts_another_key_is_refused(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, tmp_path_factory
) -> None:
    from edge.station.trust import trust
    from tests.support.tiny_bundle import make_key

    other = make_key(tmp_path_factory.mktemp("other"))
    trust(Store(bsp / "rootfs"), other.public)
    with pytest.raises(ConfigError, match="which is not in `trust`"):
        make_order(bundle, "orin-nano", bsp, write_fleet(), None, None)


def test_nothing_secret_of_a_station_is_in_the_image(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    """Each station makes its own key, or all of one fleet would have the same."""
    flash(bundle, "orin-nano", bsp, write_fleet())
    assert not [
        path
        for path in (bsp / "rootfs").rglob("*")
        if "key" in path.name.lower() and path.name != "authorized_keys"
    ]


def test_a_board_that_would_wait_for_a_screen_is_not_flashed(
    bsp: Path, bundle: Path, write_fleet: WriteFleet
) -> None:
    fleet = write_fleet()
    flash(bundle, "orin-nano", bsp, fleet)
    before = calls(bsp)
    apply_binaries(bsp)
    with pytest.raises(ConfigError, match=r"default\.target starts NVIDIA's setup on a screen"):
        flash(bundle, "orin-nano", bsp, fleet)
    assert calls(bsp) == before


def test_a_link_does_not_lead_out_of_the_root(
    bsp: Path, bundle: Path, write_fleet: WriteFleet, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (bsp / "rootfs/etc/sudoers.d").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="leads out of"):
        flash(bundle, "orin-nano", bsp, write_fleet())
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bsp", "x"), "--bsp belongs to --flash BOARD"),
        (("--accept-license",), "--accept-license belongs to --flash BOARD"),
        (("--flash", "orin-nano"), "--flash needs --bsp"),
        (("--flash", "orin-nano", "--bsp", "x", "--provision", "y", "--clocks", "max"), "leave"),
        (
            (
                "--flash",
                "orin-nano",
                "--bsp",
                "x",
                "--provision",
                "y",
                "--mass",
                2,
                "--station",
                "a",
            ),
            "--mass flashes every station of the fleet",
        ),
        (("--flash", "nano", "--bsp", "x", "--provision", "y"), "'nano' is no board that this"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    bundle: Path, capsys, monkeypatch, arguments: tuple[object, ...], said: str
) -> None:
    answer = run_edge(capsys, monkeypatch, "install", bundle, *arguments)
    assert answer.code == 1
    assert said in answer.err
