"""NVIDIA's board support package (BSP) as the user unpacked it: the folder Linux_for_Tegra.

Nothing of it is shipped with this software; it is read here and its tools are run as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError
from edge.provision.jetpack import OLDEST_TENSORRT, Release, known_releases, linux_release
from jetson.boards import Board

FLASH = "flash.sh"
INITRD_FLASH = "tools/kernel_flash/l4t_initrd_flash.sh"
CREATE_USER = "tools/l4t_create_default_user.sh"
APPLY = "apply_binaries.sh"
TOOLS = (FLASH, INITRD_FLASH, CREATE_USER, APPLY)
OLDEST_SUPER = (36, 4, 3)  # JetPack 6.2 brought NVIDIA's super configurations
OPEN_DRIVER = "Thor"  # the family whose binaries are applied with --openrm


@dataclass(frozen=True)
class Bsp:
    """folder: Linux_for_Tegra. linux: the release of its root file system, such as 36.4.3."""

    folder: Path
    linux: str
    release: Release

    @property
    def rootfs(self) -> Path:
        """The root file system that is flashed."""
        return self.folder / "rootfs"

    def first_there(self, places: Sequence[str]) -> str:
        """The first of these files that the BSP has, by its place in it. Raises: ConfigError."""
        for place in places:
            if (self.folder / place).is_file():
                return place
        raise ConfigError(
            f"{self.folder} has none of {', '.join(places)}: unpack NVIDIA's BSP of this release"
            " again"
        )


def read_bsp(folder: Path, board: Board, wanted: str = "") -> Bsp:
    """The BSP in `folder`, checked to be whole, prepared, and for this board.

    wanted: the JetPack that it must be, such as 6.2.1; blank: any that this software supports.
    Raises: ConfigError naming what is missing and NVIDIA's command that mends it.
    """
    missing = [tool for tool in TOOLS if not (folder / tool).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} is not NVIDIA's Linux_for_Tegra, {missing[0]} is missing: unpack"
            " Jetson_Linux_R..._aarch64.tbz2 and name the folder with --bsp"
        )
    linux = linux_release(folder / "rootfs")
    if linux is None:
        option = " --openrm" if board.family == OPEN_DRIVER else ""
        raise ConfigError(
            f"{folder / 'rootfs'} holds no Jetson Linux: unpack NVIDIA's sample root file system of"
            f" the same release there, then run `sudo ./{APPLY}{option}` in {folder}"
        )
    return Bsp(folder, linux, _release(linux, board, wanted))


def _release(linux: str, board: Board, wanted: str) -> Release:
    """The JetPack that `linux` belongs to. Raises: ConfigError where it does not fit."""
    known = known_releases()
    release = next((one for one in known if one.contains(linux)), None)
    if release is None:
        raise ConfigError(
            f"Jetson Linux {linux} belongs to no JetPack that this software knows"
            f" ({known[0].jetpack} to {known[-1].jetpack}): take the BSP of one of those"
        )
    if board.family not in release.boards:
        fitting = ", ".join(one.jetpack for one in known if board.family in one.boards)
        raise ConfigError(
            f"JetPack {release.jetpack} (Jetson Linux {linux}) does not run on {board.title}: take"
            f" the BSP of JetPack {fitting}"
        )
    if wanted and release.jetpack != wanted:
        raise ConfigError(
            f"the BSP is JetPack {release.jetpack} (Jetson Linux {linux}), and the fleet is to have"
            f" {wanted}: take its BSP, or change `jetpack`"
        )
    if tuple(int(number) for number in release.tensorrt.split(".")) < OLDEST_TENSORRT:
        oldest = ".".join(str(number) for number in OLDEST_TENSORRT)
        raise ConfigError(
            f"JetPack {release.jetpack} brings TensorRT {release.tensorrt}, and engines need"
            f" {oldest} or later: take a newer BSP"
        )
    return release


def configuration(bsp: Bsp, board: Board, super_clocks: bool) -> str:
    """NVIDIA's name of the board, which its tools take. Raises: ConfigError where there is none."""
    if not super_clocks:
        name = board.config
    elif board.super_config is None:
        raise ConfigError(f"{board.title} has no super clocks: set super_clocks = false")
    elif tuple(int(number) for number in bsp.linux.split(".")) < OLDEST_SUPER:
        raise ConfigError(
            f"super clocks need JetPack 6.2 or later, and the BSP is JetPack"
            f" {bsp.release.jetpack}: take a newer one, or set super_clocks = false"
        )
    else:
        name = board.super_config
    if not (bsp.folder / f"{name}.conf").is_file():
        raise ConfigError(
            f"{bsp.folder} has no {name}.conf, NVIDIA's configuration of {board.title}: unpack the"
            " BSP of this release again"
        )
    return name
