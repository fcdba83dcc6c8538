"""Power mode and clocks of a root file system before its first start.

NVIDIA's nvpmodel takes the mode that its configuration names as the default when a board starts for
the first time; which of the files in etc/nvpmodel counts is decided there, by the module. So the
default is set in every file that has a mode of this name. From then on edge-power.service sets what
the station was commissioned in, at every boot.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Literal

from edge.board.power import PLACE
from edge.errors import ConfigError
from edge.files import link_atomically, read_text, write_atomically
from edge.install.power import WantedPower, keep_power
from jetson.identity import folder_in, place_in

FILES = "etc/nvpmodel/*.conf"
MODE = re.compile(r"(?m)^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
DEFAULT = re.compile(r"(?m)^(<\s*PM_CONFIG\s+DEFAULT=)\d+(\s*>)")
POWER = "edge-power.service"  # of the Debian package, else of the first installation
UNITS = Path("etc/systemd/system")
UNIT_FOLDERS = (UNITS, Path("usr/lib/systemd/system"), Path("lib/systemd/system"))
WANTS = UNITS / "multi-user.target.wants"


def power_modes(text: str) -> dict[str, int]:
    """The modes of one file of nvpmodel: name to number. They differ from board to board."""
    return {name: int(number) for number, name in MODE.findall(text)}


def files_with_mode(rootfs: Path, mode: str) -> dict[Path, int]:
    """The files of nvpmodel that have a mode of this name, and its number in each.

    Raises: ConfigError naming the modes that there are, where no file has it.
    """
    texts = {path: read_text(path) for path in sorted(rootfs.glob(FILES)) if path.is_file()}
    known = {path: power_modes(text) for path, text in texts.items() if DEFAULT.search(text)}
    found = {path: modes[mode] for path, modes in known.items() if mode in modes}
    if not found:
        names = ", ".join(sorted({name for modes in known.values() for name in modes})) or "none"
        raise ConfigError(
            f"power_mode {mode!r} is not in {rootfs / FILES} (there: {names}): correct it in"
            " provision.toml"
        )
    return found


def set_default_mode(rootfs: Path, mode: str) -> None:
    """Make `mode` the one that a board starts in for the first time. Raises: as files_with_mode."""
    for path, number in files_with_mode(rootfs, mode).items():
        text = DEFAULT.sub(rf"\g<1>{number}\g<2>", read_text(path))
        write_atomically(place_in(rootfs, path.relative_to(rootfs)), text.encode())


def commission(rootfs: Path, mode: str, clocks: Literal["", "max"]) -> None:
    """Record power mode and clocks as those that the station is commissioned in, so that every boot
    sets them and `edge run` compares; blank for both: nothing is asked for.

    The bundle is installed already, and edge-power.service with it.
    """
    if not mode and not clocks:
        place_in(rootfs, PLACE).unlink(missing_ok=True)
        disable_unit(rootfs, POWER)
        return
    keep_power(rootfs, WantedPower(mode or None, clocks or None))
    enable_unit(rootfs, POWER)


def write_unit(rootfs: Path, name: str) -> None:
    """Write a unit of this package and have it started with the system."""
    data = resources.files("jetson").joinpath(name).read_bytes()
    write_atomically(place_in(rootfs, UNITS / name), data)
    enable_unit(rootfs, name)


def enable_unit(rootfs: Path, name: str) -> None:
    """Have a unit started with the system, as `systemctl enable` does.

    Raises: ConfigError if the system has no such unit.
    """
    folder = next((one for one in UNIT_FOLDERS if (rootfs / one / name).is_file()), None)
    if folder is None:
        raise ConfigError(f"{rootfs} has no {name}: its edge-station package is an older one")
    link_atomically(folder_in(rootfs, WANTS) / name, f"/{folder / name}")


def disable_unit(rootfs: Path, name: str) -> None:
    """Not start it with the system any more; does nothing where it is not."""
    (folder_in(rootfs, WANTS) / name).unlink(missing_ok=True)
