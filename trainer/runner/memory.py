"""Which jobs fit into memory beside each other.

A job counts with the peak that was measured of its kind, or that its task expects. One whose peak
nobody knows counts as half of the memory, and a second one of its kind waits until it has been
measured.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.runner.protocol import Task

MARGIN = 1.15  # between two jobs of a kind
KIB = 1024
PARENT, RESIDENT = 1, 21  # fields of /proc/PID/stat after the name, see proc(5)
CGROUPS = Path("/sys/fs/cgroup")


class Memory:
    """What is known of peaks. available_mb: memory that is free now, in MiB (tests)."""

    def __init__(self, available_mb: Callable[[], float] | None = None) -> None:
        self._available_mb = available_mb or free_mb
        self._measured: dict[str, float] = {}

    def learn(self, kind: str, peak_mb: float) -> None:
        """One more job of this kind has ended."""
        self._measured[kind] = max(peak_mb, self._measured.get(kind, 0.0))

    def expected_mb(self, task: Task) -> float | None:
        """The peak that a task counts with, in MiB; None if nothing is known."""
        known = [self._measured[task.kind] * MARGIN] if task.kind in self._measured else []
        if task.memory_mb is not None:
            known.append(task.memory_mb)
        return max(known, default=None)

    def fits(self, task: Task, running: Sequence[tuple[Task, float]]) -> bool:
        """Whether a task may start beside those that run. A task alone always may.

        running: each with the memory that it takes now, in MiB.
        """
        if not running:
            return True
        expected = self.expected_mb(task)
        if expected is None and any(other.kind == task.kind for other, _ in running):
            return False
        total = self._available_mb() + sum(taken for _, taken in running)
        needs = [self._counted(other, total) for other, _ in running]
        return sum(needs) + self._counted(task, total) <= total

    def _counted(self, task: Task, total_mb: float) -> float:
        expected = self.expected_mb(task)
        return total_mb / 2 if expected is None else expected


def free_mb() -> float:
    """Memory that new processes may take, in MiB: of the machine, or of this process's control
    group where that is less.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    machine = int(fields["MemAvailable"].split()[0]) / KIB
    return max(0.0, min([machine, *_free_in_groups()]))


def _free_in_groups() -> list[float]:
    """Of each control group above this process that has a limit, in MiB."""
    free = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers == "memory":
            folder = CGROUPS / "memory" / inside.lstrip("/")
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        elif not controllers:
            folder = CGROUPS / inside.lstrip("/")
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            continue
        for group in (folder, *folder.parents):
            free += [] if (left := _free_in(group, *names)) is None else [left]
    return free


def _free_in(group: Path, limit: str, usage: str, cached: str) -> float | None:
    """None where the group has no limit, or is not seen from here."""
    try:
        allowed = int((group / limit).read_text())
        used = int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return (allowed - used + int(stat.get(cached, 0))) / KIB**2
    except (OSError, ValueError):  # ValueError: "max"
        return None


def taken_mb(root: int) -> float:
    """Memory of a process and all that descend from it, in MiB."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it has just ended
            continue
        children.setdefault(int(fields[PARENT]), []).append(int(folder.name))
        pages[int(folder.name)] = int(fields[RESIDENT])
    tree, total = [root], 0
    while tree:
        process = tree.pop()
        total += pages.get(process, 0)
        tree += children.get(process, [])
    return total * resource.getpagesize() / KIB**2
