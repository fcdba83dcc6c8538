"""The boards that `edge install --flash` knows, by NVIDIA's names for them.

Compiled from the README of NVIDIA's initrd flash tool, from its flashing guide (Jetson Linux R36.4
and R39.2) and from what makers of carrier boards publish of USB product numbers; not read on
boards. Every name of a board is the name of a file NAME.conf at the top of NVIDIA's BSP, and is
checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from edge.errors import ConfigError

Storage = Literal["nvme", "emmc", "sd", "usb"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
NVIDIA = "0955"  # USB vendor
RUNNING = "7020"  # USB product of a board that runs its system: not in recovery mode


@dataclass(frozen=True)
class Board:
    """One kind of board.

    name: for --flash. family: as jetson/releases.json names it. config: NVIDIA's name of it.
    super_config: the same with the clocks that NVIDIA calls super; None where there are none.
    recovery: USB product number in recovery mode to the module. storages: the usual one first.
    external_layouts, firmware_layouts: NVIDIA's partition layouts of a drive that is no part of the
    module, and of the module's own flash memory, by place in the BSP; the first that is there
    counts. firmware_layouts is empty where the board's own configuration names them.
    """

    name: str
    title: str
    family: str
    config: str
    super_config: str | None
    recovery: Mapping[str, str]
    storages: tuple[Storage, ...]
    external_layouts: tuple[str, ...]
    firmware_layouts: tuple[str, ...] = ()


ORIN_DRIVE = (
    "tools/kernel_flash/flash_l4t_t234_nvme.xml",  # from R36 on
    "tools/kernel_flash/flash_l4t_external.xml",
)
ORIN_FIRMWARE = (
    "bootloader/generic/cfg/flash_t234_qspi.xml",  # from R36 on
    "bootloader/t186ref/cfg/flash_t234_qspi.xml",
)
BOARDS = (
    Board(
        name="orin-nano",
        title="Jetson Orin Nano",
        family="Orin",
        config="jetson-orin-nano-devkit",
        super_config="jetson-orin-nano-devkit-super",
        recovery={"7523": "Orin Nano 8GB", "7623": "Orin Nano 4GB"},
        storages=("nvme", "sd", "usb"),
        external_layouts=ORIN_DRIVE,
        firmware_layouts=ORIN_FIRMWARE,
    ),
    Board(
        name="orin-nx",
        title="Jetson Orin NX",
        family="Orin",
        config="jetson-orin-nano-devkit",  # NVIDIA has no kit of its own for this module
        super_config="jetson-orin-nano-devkit-super",
        recovery={"7323": "Orin NX 16GB", "7423": "Orin NX 8GB"},
        storages=("nvme", "usb"),
        external_layouts=ORIN_DRIVE,
        firmware_layouts=ORIN_FIRMWARE,
    ),
    Board(
        name="agx-orin",
        title="Jetson AGX Orin",
        family="Orin",
        config="jetson-agx-orin-devkit",
        super_config=None,
        recovery={"7023": "AGX Orin 64GB", "7223": "AGX Orin 32GB"},
        storages=("emmc", "nvme", "usb"),
        external_layouts=ORIN_DRIVE,
    ),
    Board(
        name="thor",
        title="Jetson AGX Thor",
        family="Thor",
        config="jetson-agx-thor-devkit",
        super_config=None,
        recovery={"7026": "Thor T5000", "7226": "Thor T4000"},
        storages=("nvme", "usb"),
        external_layouts=("tools/kernel_flash/flash_l4t_t264_nvme.xml",),
    ),
)


def board_named(name: str) -> Board:
    """The board of --flash. Raises: ConfigError naming those there are."""
    for board in BOARDS:
        if board.name == name:
            return board
    known = ", ".join(board.name for board in BOARDS)
    raise ConfigError(f"--flash {name!r} is no board that this software knows: {known}")
