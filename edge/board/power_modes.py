"""The power modes of a Jetson by name, and the one that it is in.

The numbers of the modes are another list on each board (2 is MAXN_SUPER on an Orin Nano, 30 W on an
AGX Orin), so nothing here or above counts on a number. /etc/nvpmodel.conf has lines such as

    < POWER_MODEL ID=2 NAME=MAXN_SUPER >
    GPU MAX_FREQ -1
    < PM_CONFIG DEFAULT=1 >

and `nvpmodel -q` answers `NV Power Mode: MAXN_SUPER`, then the number; without the rights of root
it adds complaints, which change nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge.board.model import is_booted
from edge.board.reading import read_small, run_program
from edge.provision.architecture import file_inside

CONFIG, PROGRAM = "etc/nvpmodel.conf", "usr/sbin/nvpmodel"
STATUS = Path("var/lib/nvpmodel/status")  # "pmode:0002", which nvpmodel keeps across a reboot
MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
DEFAULT = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>")
GPU_LIMIT = re.compile(r"GPU\s+MAX_FREQ\s+(-?\d+)")
ANSWER = re.compile(r"^NV Power Mode:\s*(\S+)", re.MULTILINE)
KEPT = re.compile(r"pmode:(\d+)")


@dataclass(frozen=True)
class PowerMode:
    """One mode. gpu_limit_hz: to which it caps the GPU's clock; None where it names no cap."""

    number: int
    name: str
    gpu_limit_hz: int | None = None
    is_default: bool = False  # what the board boots in when nobody has chosen


def power_modes(root: Path) -> tuple[PowerMode, ...]:
    """The modes of this board; none on another machine, and in a root that was never booted."""
    path = file_inside(root, CONFIG)
    text = None if path is None else read_small(path)
    if text is None:
        return ()
    default = DEFAULT.search(text)
    heads = list(MODE.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return tuple(
        PowerMode(
            int(head[1]),
            head[2],
            _gpu_limit(text[head.end() : end]),
            default is not None and int(default[1]) == int(head[1]),
        )
        for head, end in zip(heads, ends, strict=True)
    )


def _gpu_limit(settings: str) -> int | None:
    """-1 and 0 stand for no cap."""
    found = GPU_LIMIT.search(settings)
    return int(found[1]) if found is not None and int(found[1]) > 0 else None


def current_mode(root: Path) -> str | None:
    """The name of the mode that the board is in, as its own program says; else as the program has
    kept it. None where neither tells.
    """
    answer = run_program(root, PROGRAM, "-q") if is_booted(root) else None
    told = None if answer is None else ANSWER.search(answer[1])
    if told is not None:
        return told[1]
    kept = KEPT.search(read_small(root / STATUS) or "")
    if kept is None:
        return None
    return next((one.name for one in power_modes(root) if one.number == int(kept[1])), None)


def find_mode(root: Path, name: str) -> PowerMode | None:
    """The mode of this name, in capitals or not; None where the board has none."""
    modes = power_modes(root)
    return next((one for one in modes if one.name.lower() == name.lower()), None)
