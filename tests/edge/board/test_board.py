"""Facts of a board, read from a stand-in of a Jetson's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.board.clocks import are_pinned, cpu_clocks, gpu_clock
from edge.board.disk import disk_of, wear_of
from edge.board.memory import memory
from edge.board.model import board_model, is_jetson, machine_root, system_name
from edge.board.power_modes import current_mode, find_mode, power_modes
from edge.board.reading import run_program
from edge.board.thermal import throttled_by, zones
from edge.board.usb import camera_rules, usb_cameras
from tests.support.board_tree import CAMERA, GPU, THERMAL, lay_board, lay_disk, put


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return lay_board(tmp_path)


def test_modes_go_by_their_names(board: Path) -> None:
    modes = power_modes(board)
    assert [(one.number, one.name, one.gpu_limit_hz) for one in modes] == [
        (0, "15W", 612_000_000),
        (1, "25W", 918_000_000),
        (2, "MAXN_SUPER", None),
    ]
    assert [one.name for one in modes if one.is_default] == ["25W"]
    assert find_mode(board, "maxn_super") == modes[2]
    assert find_mode(board, "30W") is None


def test_the_present_mode_is_what_the_program_says_else_what_it_has_kept(board: Path) -> None:
    assert current_mode(board) == "MAXN_SUPER"
    put(board, "usr/sbin/nvpmodel", "#!/bin/sh\necho NV Power Mode: 25W\necho 1\nexit 3\n")
    assert current_mode(board) == "25W"
    put(board, "usr/sbin/nvpmodel", "#!/bin/sh\necho no rights\nexit 1\n")
    assert current_mode(board) == "MAXN_SUPER"
    put(board, "var/lib/nvpmodel/status", "pmode:0007")
    assert current_mode(board) is None


def test_programs_of_a_root_that_was_never_started_are_not_run(board: Path) -> None:
    put(board, "usr/sbin/nvpmodel", "#!/bin/sh\ntouch $(dirname $0)/ran\n")
    for name in ("meminfo", "swaps"):
        (board / "proc" / name).unlink()
    current_mode(board)
    assert not (board / "usr/sbin/ran").exists()


def test_a_program_that_asks_or_is_no_program_holds_nothing_up(board: Path) -> None:
    put(board, "usr/bin/asks", '#!/bin/sh\nread answer || echo "no answer"\n').chmod(0o755)
    put(board, "usr/bin/damaged", "\x7fELF").chmod(0o755)
    assert run_program(board, "usr/bin/asks") == (0, "no answer\n")
    assert run_program(board, "usr/bin/damaged") is None
    assert run_program(board, "usr/bin/absent") is None


def test_clocks(board: Path) -> None:
    gpu = gpu_clock(board)
    assert gpu is not None
    assert (gpu.now_hz, gpu.most_hz, gpu.ceiling_hz) == (306_000_000, 1_020_000_000, 1_020_000_000)
    assert [one.most_hz for one in cpu_clocks(board)] == [1_728_000_000]
    assert are_pinned(board) is False
    put(board, f"{GPU}/min_freq", "1020000000")
    assert are_pinned(board) is False  # a core is not yet
    put(board, "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq", "1728000")
    assert are_pinned(board) is True


def test_the_gpu_of_a_thor_is_found_and_its_video_decoder_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    for name, highest in (("gpu-nvd-0", 1_692_000_000), ("gpu-gpc-0", 1_575_000_000)):
        put(tmp_path, f"sys/class/devfreq/{name}/max_freq", str(highest))
    found = gpu_clock(tmp_path)
    assert found is not None
    assert (found.name, found.most_hz, found.is_pinned) == ("gpu-gpc-0", 1_575_000_000, None)


def test_sensors_limits_and_lowered_clocks(board: Path) -> None:
    (zone,) = zones(board)
    assert (zone.name, round(zone.now_c, 1), zone.limit_c) == ("cpu-thermal", 52.3, 99.0)
    assert throttled_by(board) == ()
    put(board, "sys/class/hwmon/hwmon3/oc3_event_cnt", "37")
    put(board, f"{THERMAL}/cooling_device1/cur_state", "1")
    assert throttled_by(board) == (
        "cpu-throttle-alert is on",
        "the current was too high for a moment 37 times",
    )


def test_memory_and_which_swap_takes_nothing_from_a_disk(board: Path) -> None:
    found = memory(board)
    assert found is not None
    assert found.total == 7_802_336 << 10
    assert found.available == 5_123_456 << 10
    assert found.swap == found.in_memory == 3_901_152 << 10
    put(board, "proc/swaps", "Filename Type Size Used Priority\n/swapfile file 4000000 0 -2\n")
    changed = memory(board)
    assert changed is not None
    assert changed.in_memory == 0


@pytest.mark.parametrize(
    ("partition", "disk"),
    [("mmcblk0p1", "mmcblk0"), ("nvme0n1p1", "nvme0n1"), ("nvme0n1", "nvme0n1"), ("sda2", "sda")],
)
def test_the_disk_of_a_partition(board: Path, partition: str, disk: str) -> None:
    lay_disk(board, partition)
    assert disk_of(board, board) == disk


@pytest.mark.parametrize(
    ("life", "used"), [("0x01 0x02", 0.2), ("0x00 0x00", None), ("0x0b 0x01", 1.1), ("", None)]
)
def test_the_wear_of_an_emmc_is_that_of_its_worse_memory(
    board: Path, life: str, used: float | None
) -> None:
    put(board, "sys/block/mmcblk0/device/life_time", f"{life}\n")
    assert wear_of("mmcblk0", board).used == used


def test_the_wear_of_an_nvme_disk_is_asked_of_its_program(board: Path) -> None:
    assert wear_of("nvme0n1", board).used is None
    program = put(board, "usr/sbin/nvme", "#!/bin/sh\necho '{\"percent_used\": 37}'\n")
    program.chmod(0o755)
    assert wear_of("nvme0n1", board).used == 0.37
    program.write_text("#!/bin/sh\necho Permission denied\nexit 1\n")
    assert wear_of("nvme0n1", board).used is None
    assert wear_of("sda", board).used is None


def test_a_camera_is_told_from_other_devices_of_its_vendor(board: Path) -> None:
    (camera,) = usb_cameras(board)
    assert (camera.port, camera.serial, camera.speed) == ("2-1.4", "243522071234", 5000)
    assert camera.may_sleep is False
    assert camera.node == board / "dev/bus/usb/002/003"
    put(board, f"{CAMERA}/power/control", "auto")
    assert [one.may_sleep for one in usb_cameras(board)] == [True]
    put(board, f"{CAMERA}/power/autosuspend_delay_ms", "-1")
    assert [one.may_sleep for one in usb_cameras(board)] == [False]
    assert [path.name for path in camera_rules(board)] == ["99-realsense.rules"]


def test_a_machine_is_a_jetson_by_its_system_or_its_device_tree(
    board: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert is_jetson(board)
    assert "Orin Nano" in (board_model(board) or "")
    assert "\0" not in (board_model(board) or "")
    assert system_name(board) == "Ubuntu 22.04.5 LTS"
    other = tmp_path_factory.mktemp("station")
    assert (is_jetson(other), board_model(other)) == (False, None)
    assert (machine_root(board), machine_root(other)) == (board, Path("/"))


def test_files_that_are_damaged_or_absent_are_facts_that_are_not_known(tmp_path: Path) -> None:
    put(tmp_path, "proc/meminfo", "MemTotal: \nnonsense\n\x00\xff")
    put(tmp_path, f"{THERMAL}/thermal_zone0/temp", "hot")
    (tmp_path / "sys/class/devfreq/17000000.gpu/max_freq").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("/nowhere")
    assert memory(tmp_path) is None
    assert zones(tmp_path) == ()
    gpu = gpu_clock(tmp_path)
    assert gpu is not None
    assert gpu.most_hz is None
    assert power_modes(tmp_path) == ()
    assert usb_cameras(tmp_path) == ()
    assert are_pinned(tmp_path) is None
