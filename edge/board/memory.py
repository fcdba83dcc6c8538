"""Memory and swap, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.board.reading import read_fields, read_small


@dataclass(frozen=True)
class Memory:
    """Bytes. available: what programs can get without swapping. in_memory: share of the swap that
    lies in compressed memory (zram) and takes nothing from a disk.
    """

    total: int
    available: int
    swap: int
    swap_free: int
    in_memory: int


def memory(root: Path) -> Memory | None:
    """None where the kernel does not tell."""
    found = read_fields(root / "proc/meminfo")
    if "MemTotal" not in found or "MemAvailable" not in found:
        return None
    total, available = found["MemTotal"] << 10, found["MemAvailable"] << 10
    swap, free = found.get("SwapTotal", 0) << 10, found.get("SwapFree", 0) << 10
    return Memory(total, available, swap, free, _zram(root) << 10)


def _zram(root: Path) -> int:
    """kB: of the lines of /proc/swaps (name, type, size, used, priority) whose name is a zram's."""
    lines = (line.split() for line in (read_small(root / "proc/swaps") or "").splitlines())
    return sum(int(line[2]) for line in lines if len(line) > 2 and line[0].startswith("/dev/zram"))
