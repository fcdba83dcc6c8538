"""Faults one after the other, what each of them cost, and the table of it.

What is counted comes from outside the station: its database, what the archive kept, what the PLC
heard and acted on.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.endurance.faults import Fault
from tests.endurance.rig import Rig
from tests.support.plant import DEADLINE_S, Acted

SETTLE_S = 0.3  # frames that were on their way when the lens was covered
JUMP_S = 3600.0  # of more than that, the clock jumped while it was believed
# the record's moments are whole milliseconds, and its clocks are read one after the other
TOLERANCE_S = 0.05


@dataclass(frozen=True)
class Episode:
    """One fault. Its parts have the numbers above `before` and up to `after`.

    recovery_s: from its end.
    """

    fault: Fault
    before: int
    after: int
    recovery_s: float


@dataclass
class Row:
    """What one kind of fault cost, all episodes together."""

    kind: str
    faults: int = 0
    decided: int = 0
    on_disk: int = 0
    delivered: int = 0
    lost: int = 0
    doubled: int = 0
    late: int = 0
    acted_late: int = 0
    recoveries_s: list[float] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        p50, worst = (f"{pick(self.recoveries_s):.1f}" for pick in (statistics.median, max))
        counts = (
            self.faults,
            self.decided,
            self.on_disk,
            self.delivered,
            self.lost,
            self.doubled,
            self.late,
            self.acted_late,
        )
        return [self.kind, *(str(count) for count in counts), p50, worst]


HEADER = [
    "kind",
    "faults",
    "decided",
    "on disk",
    "delivered",
    "lost",
    "doubled",
    "late",
    "acted on late",
    "p50 s",
    "max s",
]


def inject(rig: Rig, fault: Fault) -> Episode:
    """Do it, wait until the line runs again, and until the archive has what the disk has."""
    before = rig.last_seq()
    fault.inject(rig)
    ended_s = time.time()
    rig.wait_for_part(ended_s)
    recovery_s, after = rig.plc.acted[-1].at_s - ended_s, rig.last_seq()
    rig.wait_for_archive()
    return Episode(fault, before, after, recovery_s)


def rows_of(rig: Rig, episodes: Sequence[Episode]) -> list[Row]:
    """By kind, in the order of their first episode."""
    stored = {record["seq"] for record in rig.records()}
    doubled = [int(name.rsplit("-", 1)[1]) for name in rig.archive.doubled]
    late, acted_late = late_verdicts(rig)
    rows: dict[str, Row] = {}
    for episode in episodes:
        row = rows.setdefault(episode.fault.name, Row(episode.fault.name))
        numbers = set(range(episode.before + 1, episode.after + 1))
        row.faults += 1
        row.decided += len(numbers)
        row.on_disk += len(numbers & stored)
        row.delivered += len(numbers & rig.archive.kept.keys())
        row.lost += len(numbers - rig.archive.kept.keys())
        row.doubled += sum(number in numbers for number in doubled)
        row.late += len(numbers & late)
        row.acted_late += len(numbers & acted_late)
        row.recoveries_s.append(episode.recovery_s)
    return list(rows.values())


def late_verdicts(rig: Rig) -> tuple[set[int], set[int]]:
    """Numbers of verdicts that reached the PLC after their deadline, and of those among them that
    it acted on.
    """
    late = {one.verdict["seq"] for one in [*rig.plc.acted, *rig.plc.ignored] if _is_late(rig, one)}
    acted = {one.verdict["seq"] for one in rig.plc.acted if _is_late(rig, one)}
    return late, acted


def _is_late(rig: Rig, one: Acted) -> bool:
    """By the record's own account, where its clock could be believed."""
    record = rig.archive.kept.get(one.verdict["seq"])
    if record is None or not record["clock_synced"]:
        return False
    return DEADLINE_S + TOLERANCE_S < one.at_s - completed_s(record) < JUMP_S


def completed_s(record: dict[str, Any]) -> float:
    """UTC seconds at which the frame that completed the part was captured: `judge_ms` before it was
    judged.
    """
    judged = datetime.fromisoformat(record["judged_at"].replace("Z", "+00:00"))
    return judged.timestamp() - record["judge_ms"] / 1000.0


def wrongs_of(rig: Rig, last: int) -> list[str]:
    """Every broken promise about the parts up to number `last`, in one sentence each; empty where
    all were kept.
    """
    archive, stored = (
        rig.archive,
        {record["seq"] for record in rig.records() if record["seq"] <= last},
    )
    heard = [one for one in [*rig.plc.acted, *rig.plc.ignored] if one.verdict["seq"] <= last]
    told = {one.verdict["seq"]: one.verdict for one in heard}
    return [
        *rig.complaints,
        *_sentences("records on disk never reached the archive", stored - archive.kept.keys()),
        *_sentences("verdicts were told that no record has", told.keys() - archive.kept.keys()),
        *_sentences("numbers are missing", set(range(1, last + 1)) - archive.kept.keys()),
        *_sentences("records came twice and were not marked", archive.doubled),
        *_sentences("numbers stand for two contents", archive.changed),
        *_sentences("records came out of order", _out_of_order(archive.order)),
        *_sentences("verdicts say something else than their records", _unlike(told, archive.kept)),
        *_sentences("verdicts were told twice", _repeated(heard)),
        *_sentences("verdicts were acted on late", late_verdicts(rig)[1]),
        *_sentences("parts were OK while the lens was covered", _ok_in_the_dark(rig)),
    ]


def _sentences(what: str, found: Iterable[object]) -> list[str]:
    shown = sorted(found, key=str)
    return [f"{len(shown)} {what}: {shown[:10]}"] if shown else []


def _out_of_order(order: Sequence[int]) -> list[int]:
    return [later for earlier, later in itertools.pairwise(order) if later < earlier]


def _unlike(told: dict[int, dict[str, Any]], records: dict[int, dict[str, Any]]) -> list[int]:
    same = ("id", "part", "code", "reason", "score", "thr")
    return [
        seq
        for seq, verdict in told.items()
        if seq in records and any(verdict[k] != records[seq][k] for k in same)
    ]


def _repeated(heard: Sequence[Acted]) -> list[int]:
    numbers = [one.verdict["seq"] for one in heard]
    return [number for number in set(numbers) if numbers.count(number) > 1]


def _ok_in_the_dark(rig: Rig) -> list[int]:
    def is_dark(record: dict[str, Any]) -> bool:
        at_s = completed_s(record)
        return any(start_s + SETTLE_S < at_s < end_s for start_s, end_s in rig.dark)

    return [
        record["seq"]
        for record in rig.archive.kept.values()
        if record["code"] == 1 and is_dark(record)
    ]


def table_of(rows: Sequence[Row]) -> str:
    """As printed."""
    lines = [HEADER, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def worst_recoveries(rows: Sequence[Row]) -> dict[str, float]:
    """The longest recovery of each kind, in seconds."""
    return {row.kind: max(row.recoveries_s, default=math.nan) for row in rows}
