"""What `edge bench` measured, and in which conditions: without power mode and clocks a time says
nothing of a Jetson.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field

from edge.board.clocks import Clock, cpu_clocks, gpu_clock
from edge.board.memory import memory
from edge.board.model import is_jetson, machine_root, system_name
from edge.board.power_modes import current_mode
from edge.board.thermal import throttled_by, zones
from edge.config import read_config
from edge.engine.machine import this_machine
from edge.provision.jetpack import describe_jetpack
from edge.schema import Precision, Strict
from edge.station.audit import now_utc
from edge.station.store import Installed

FEWEST = 100  # samples of which the 99th percentile is not simply the largest


class StageTimes(Strict):
    """Milliseconds of one stage. samples: how many they were."""

    samples: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> StageTimes:
        """Of at least one sample."""
        p50, p99, most = np.percentile(values_ms, [50, 99, 100])
        return cls(
            samples=len(values_ms),
            p50_ms=round(float(p50), 4),
            p99_ms=round(float(p99), 4),
            max_ms=round(float(most), 4),
        )


class ClockRead(Strict):
    """One clock. is_pinned: whether it stays at the highest that the power mode allows."""

    name: str
    now_mhz: float | None
    most_mhz: float | None
    is_pinned: bool | None


class Conditions(Strict):
    """The machine at one moment; None where it does not tell.

    power_mode: by NVIDIA's name. throttled: why clocks are lowered, or were since it was switched
    on. load: processes that want to run, mean of a minute.
    """

    power_mode: str | None
    clocks: tuple[ClockRead, ...]
    hottest_c: float | None
    throttled: tuple[str, ...]
    available_mb: float | None
    load: float


class EngineTimes(Strict):
    """One engine. judges: whether `edge run` would take it. opening_s: to open it once more.

    during: read when the last frame was through. why_not: why it gave no times.
    """

    engine: str
    precision: Precision
    judges: bool = False
    is_proven: bool = False
    digest: str | None = None
    opening_s: float | None = None
    warm_up: int = 0
    stages: dict[str, StageTimes] = Field(default_factory=dict)
    during: Conditions | None = None
    why_not: str = ""


class BenchReport(Strict):
    """The file that `edge bench` writes. commit: a record to the station's disk.

    jetpack: None on a machine that is no Jetson.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    at: str
    software: str
    machine: str
    is_jetson: bool
    system: str
    jetpack: str | None
    cores: int
    threads: int
    product: str
    bundle: str
    before: Conditions
    engines: tuple[EngineTimes, ...]
    commit: StageTimes

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def lines(self) -> Iterator[str]:
        """For people."""
        told = self.engines[0].during or self.before
        mode = told.power_mode or ("not told by the board" if self.is_jetson else "no Jetson")
        yield f"{self.machine}, {self.system}, {self.jetpack or 'no JetPack'}"
        yield f"{self.product} {self.bundle}, power mode: {mode}, {_clocks_said(told.clocks)}"
        yield f"{'engine':<32} {'stage':<8} {'p50 ms':>10} {'p99 ms':>10} {'max ms':>10}"
        for engine in self.engines:
            yield from _rows(engine)
        yield _row("disk", "commit", self.commit)
        if self.commit.samples < FEWEST:
            yield f"{self.commit.samples} samples: take --count {FEWEST} or more for a p99"
        if told.throttled:
            yield f"clocks are lowered, or were: {', '.join(told.throttled)}"


def report_of(
    root: Path,
    installed: Installed,
    engines: Sequence[EngineTimes],
    commit: StageTimes,
    before: Conditions,
) -> BenchReport:
    """The report of what was measured on this machine just now."""
    machine = machine_root(root)
    return BenchReport(
        at=now_utc(),
        software=version("rgbd-inspection"),
        machine=this_machine(),
        is_jetson=is_jetson(machine),
        system=system_name(machine),
        jetpack=describe_jetpack(machine),
        cores=os.cpu_count() or 1,
        threads=read_config(root).runtime.threads,
        product=installed.product,
        bundle=installed.slot,
        before=before,
        engines=tuple(engines),
        commit=commit,
    )


def conditions(root: Path) -> Conditions:
    """The machine as it is now."""
    machine = machine_root(root)
    gpu, free = gpu_clock(machine), memory(machine)
    clocks = [*([] if gpu is None else [gpu]), *cpu_clocks(machine)]
    return Conditions(
        power_mode=current_mode(machine),
        clocks=tuple(_read(clock) for clock in clocks),
        hottest_c=max((zone.now_c for zone in zones(machine)), default=None),
        throttled=throttled_by(machine),
        available_mb=None if free is None else round(free.available / 1e6, 1),
        load=round(os.getloadavg()[0], 2),
    )


def _read(clock: Clock) -> ClockRead:
    now, most = (None if hz is None else hz / 1e6 for hz in (clock.now_hz, clock.most_hz))
    return ClockRead(name=clock.name, now_mhz=now, most_mhz=most, is_pinned=clock.is_pinned)


def _clocks_said(clocks: Sequence[ClockRead]) -> str:
    pinned = [clock.is_pinned for clock in clocks if clock.is_pinned is not None]
    if not pinned:
        return "clocks: not told"
    return "clocks: at their highest" if all(pinned) else "clocks: they follow the load"


def _rows(engine: EngineTimes) -> Iterator[str]:
    if engine.why_not:
        yield f"{engine.engine:<32} {engine.why_not}"
    for stage, times in engine.stages.items():
        yield _row(engine.engine, stage, times)


def _row(name: str, stage: str, times: StageTimes) -> str:
    values = " ".join(f"{value:10.2f}" for value in (times.p50_ms, times.p99_ms, times.max_ms))
    return f"{name:<32} {stage:<8} {values}"
