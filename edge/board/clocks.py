"""The real clocks of GPU and processor cores, from the kernel: a power mode's name promises clocks
that the board may lack, as with super modes on a board that was flashed without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.board.reading import entries, read_number, read_small

DEVFREQ = Path("sys/class/devfreq")
GPU_NAMES = ("*.gpu", "*.ga10b", "gpu-gpc-*")  # Orin, older names, Thor
CPUS = Path("sys/devices/system/cpu")


@dataclass(frozen=True)
class Clock:
    """One clock in Hz; None where the kernel does not tell.

    least, most: what it may be set to now. ceiling: the highest that this hardware has.
    """

    name: str
    now_hz: int | None
    least_hz: int | None
    most_hz: int | None
    ceiling_hz: int | None

    @property
    def is_pinned(self) -> bool | None:
        """Whether it stays at the highest it may be, as jetson_clocks makes it; None if unknown."""
        if self.least_hz is None or self.most_hz is None:
            return None
        return self.least_hz >= self.most_hz


def gpu_clock(root: Path) -> Clock | None:
    """Of the GPU of a Jetson; None on another machine."""
    folder = next((path for name in GPU_NAMES for path in entries(root / DEVFREQ, name)), None)
    if folder is None:
        return None
    steps = [int(step) for step in (read_small(folder / "available_frequencies") or "").split()
             if step.isdecimal()]  # fmt: skip
    now, least, most = (read_number(folder / f"{name}_freq") for name in ("cur", "min", "max"))
    return Clock(folder.name, now, least, most, max(steps, default=most))


def cpu_clocks(root: Path) -> tuple[Clock, ...]:
    """Of the processor's cores that are on and have a clock of their own."""
    return tuple(_cpu_clock(folder) for folder in entries(root / CPUS, "cpu[0-9]*/cpufreq"))


def _cpu_clock(folder: Path) -> Clock:
    """The files count in kHz."""
    now, least, most = (
        read_number(folder / f"scaling_{name}_freq", 1000) for name in ("cur", "min", "max")
    )
    return Clock(
        folder.parent.name, now, least, most, read_number(folder / "cpuinfo_max_freq", 1000)
    )


def are_pinned(root: Path) -> bool | None:
    """Whether every clock stays at its highest; None where the kernel tells none."""
    gpu = gpu_clock(root)
    pinned = [one.is_pinned for one in (*([gpu] if gpu is not None else []), *cpu_clocks(root))]
    known = [one for one in pinned if one is not None]
    return all(known) if known else None
