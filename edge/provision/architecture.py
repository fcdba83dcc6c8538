"""The processor that a root file system is for: engines are built and proven on the machine that
judges.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}  # e_machine of an ELF file


def architecture(root: Path) -> str | None:
    """The processor that the system under `root` is for, from one of its programs; None where it
    holds no system.
    """
    for name in ("usr/bin/env", "bin/sh", "usr/bin/bash", "usr/lib/systemd/systemd"):
        program = file_inside(root, name)
        if program is None:
            continue
        with program.open("rb") as file:
            header = file.read(20)
        if len(header) == 20 and header[:4] == b"\x7fELF":
            return MACHINES.get(
                struct.unpack("<H" if header[5] == 1 else ">H", header[18:20])[0], "unknown"
            )
    return None


def file_inside(root: Path, name: str) -> Path | None:
    """The file `name` of the system under `root`; None where there is none.

    A link is followed only within `root`: an absolute one would lead to this machine's own file.
    """
    path = (root / name).resolve()
    return path if root.resolve() in path.parents and path.is_file() else None


def is_of_this_machine(root: Path) -> bool:
    """Whether programs under `root` run on this machine; also where it holds no system."""
    return architecture(root) in (None, architecture(Path("/")), platform.machine())
