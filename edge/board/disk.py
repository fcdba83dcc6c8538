"""The disk that the station writes on: which it is, and how far it is worn."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge.board.reading import read_small, run_program

WHOLE = re.compile(r"(mmcblk\d+|nvme\d+n\d+|[a-z]+)(?:p?\d+)?")  # the disk in a partition's name
NVME, EMMC = re.compile(r"nvme\d+"), re.compile(r"mmcblk\d+")
TENTHS = 10  # of its life, the steps in which an eMMC counts (JESD84-B51, EXT_CSD 268 and 269)


@dataclass(frozen=True)
class Wear:
    """disk: its name in /sys/block. used: share of its life, 0..1, may exceed 1 (NVMe); None where
    it does not tell.
    """

    disk: str
    used: float | None


def disk_of(folder: Path, root: Path) -> str | None:
    """The name of the disk that holds a folder; None where it lies on none: in memory, on an
    overlay or a network.
    """
    try:
        device = folder.stat().st_dev
    except OSError:
        return None
    place = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    found = WHOLE.fullmatch(os.path.realpath(place).rpartition("/")[2])
    return found[1] if found is not None and place.exists() else None


def wear_of(disk: str, root: Path) -> Wear:
    """From the kernel for an eMMC, from nvme-cli for an NVMe disk, which needs the rights of root;
    other disks do not tell.
    """
    if EMMC.fullmatch(disk):
        return Wear(disk, _emmc_used(read_small(root / f"sys/block/{disk}/device/life_time") or ""))
    if NVME.match(disk):
        return Wear(disk, _nvme_used(root, disk))
    return Wear(disk, None)


def _emmc_used(life_time: str) -> float | None:
    """Two numbers, such as "0x01 0x02", of two kinds of memory: the worse counts. 1 stands for up
    to a tenth, 11 for all of it, 0 for not told.
    """
    try:
        steps = [int(word, 16) for word in life_time.split()]
    except ValueError:
        return None
    return max(steps) / TENTHS if steps and max(steps) > 0 else None


def _nvme_used(root: Path, disk: str) -> float | None:
    answer = run_program(root, "usr/sbin/nvme", "smart-log", f"/dev/{disk}", "-o", "json")
    if answer is None or answer[0] != 0:
        return None
    try:
        log = json.loads(answer[1])
        return float(log.get("percent_used", log.get("percentage_used"))) / 100
    except (ValueError, TypeError, AttributeError):
        return None
