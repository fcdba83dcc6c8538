"""The command lines of NVIDIA's flash tools, for each board and each place that its system goes to.

As NVIDIA's README of the initrd flash tool and its flashing guide give them: flash.sh writes what
is on the module or in its card slot; l4t_initrd_flash.sh everything else, and several boards at
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jetson.boards import Board, Storage
from jetson.bsp import CREATE_USER, FLASH, INITRD_FLASH, Bsp
from jetson.fleet import StationLine, User
from jetson.steps import Command

DEVICES: Mapping[Storage, str] = {"nvme": "nvme0n1p1", "usb": "sda1"}  # as the board names them
BOOT_FROM: Mapping[Storage, str] = {"nvme": "BootOrderNvme.dtbo", "usb": "BootOrderUsb.dtbo"}
OVERLAY = "ADDITIONAL_DTB_OVERLAY_OPT"  # what the firmware is to look at first
CABLE = ("--network", "usb0")  # Ethernet through the flashing cable: steadier than USB storage


def create_user(bsp: Bsp, user: User, station: StationLine, password: str) -> Command:
    """Make the account, so that the board starts without a screen and asks nothing.

    NVIDIA's tool takes the password as an argument only: other accounts of this machine can read it
    in the list of processes meanwhile.
    """
    words = (f"./{CREATE_USER}", "-u", user.name, "-p", password, "-n", station.host)
    return Command((*words, "--accept-license"), bsp.folder, secrets=(password,))


def flash(bsp: Bsp, board: Board, configuration: str, storage: Storage) -> Command:
    """Flash the one board that is in recovery mode."""
    if storage not in DEVICES:
        return Command((f"./{FLASH}", configuration, "internal"), bsp.folder)
    words = (f"./{INITRD_FLASH}", *_drive(bsp, board, storage), "--showlogs", *_network(board))
    target = (configuration, _root_device(board))
    return Command((*words, *target), bsp.folder, _variables(board, storage))


def make_images(
    bsp: Bsp, board: Board, configuration: str, storage: Storage, count: int
) -> Command:
    """Make the images for at most `count` boards, from the data of the one in recovery mode."""
    drive = _drive(bsp, board, storage) if storage in DEVICES else ()
    words = (f"./{INITRD_FLASH}", "--no-flash", "--massflash", str(count), *CABLE, *drive)
    target = (configuration, _root_device(board) if storage in DEVICES else "internal")
    return Command((*words, "--showlogs", *target), bsp.folder, _variables(board, storage))


def flash_images(bsp: Bsp, configuration: str, count: int) -> Command:
    """Flash every board that is in recovery mode with the images, `count` at most."""
    words = (f"./{INITRD_FLASH}", "--flash-only", "--massflash", str(count), *CABLE)
    return Command((*words, "--showlogs", configuration), bsp.folder)


def _drive(bsp: Bsp, board: Board, storage: Storage) -> Sequence[str]:
    words = ["--external-device", DEVICES[storage], "-c", bsp.first_there(board.external_layouts)]
    if board.firmware_layouts:
        words += ["-p", f"-c {bsp.first_there(board.firmware_layouts)}"]
    return words


def _network(board: Board) -> Sequence[str]:
    return CABLE if board.family == "Orin" else ()  # Thor's tool needs no network


def _root_device(board: Board) -> str:
    """internal: where the board's own configuration says. A module with flash memory of its own for
    a system would get a second one there: external.
    """
    return "external" if "emmc" in board.storages else "internal"


def _variables(board: Board, storage: Storage) -> Mapping[str, str]:
    """Where the firmware has a choice, it takes the drive that was flashed."""
    chooses = "emmc" in board.storages or board.family != "Orin"
    return {OVERLAY: BOOT_FROM[storage]} if chooses and storage in BOOT_FROM else {}
