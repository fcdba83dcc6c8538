"""The steps of an acceptance on a board, but for the power cuts. Each says first what it lacks.

Verified: steps that need no board run in the tests on this software's own engines; the board and
its power modes are stand-ins there, the kernels of the image stage are compiled only. On a Jetson:
never executed.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edge.board.clocks import are_pinned
from edge.board.model import board_model, is_jetson
from edge.board.power_modes import PowerMode, current_mode, find_mode, power_modes
from edge.board.set_power import set_clocks, set_mode
from edge.doctor.acceptance_bench import NO_JETSON, STOP, Bench, Done, Step, StepFailed
from edge.doctor.acceptance_hands import (
    lacks_camera,
    lacks_lines,
    lacks_person_and_camera,
    loop,
    unplug,
    watch,
)
from edge.doctor.checks import CHECKS, rows_of
from edge.engine.order import ONNXRUNTIME, TENSORRT, tensorrt_is_installed
from edge.errors import ConfigError
from edge.install.consistency import checked_proof_data
from edge.install.proving import measure_engines
from edge.station.store import Installed


def _nothing(_bench: Bench) -> str:
    return ""


def _examine(bench: Bench) -> Done:
    """Every row of the doctor's table but those of the service, which stands still."""
    checks = [check for check in CHECKS if check.name != "service"]
    rows = list(rows_of(bench.subject, checks))
    wrong = [row.name for row in rows if row.finding.state == "wrong"]
    if wrong:
        raise StepFailed(f"wrong: {', '.join(wrong)}; `edge doctor` has the remedies")
    unknown = [row.name for row in rows if row.finding.state == "unknown"]
    return Done(f"nothing is wrong; unknown: {', '.join(unknown) or 'nothing'}")


# --- engines ---


def _lacks_engines(bench: Bench) -> str:
    if bench.runs:
        return STOP
    if not bench.subject.store.products():
        return "no bundle is installed"
    if bench.is_target and not tensorrt_is_installed():
        return "TensorRT or pycuda cannot be found"
    return ""


def _engines(bench: Bench) -> Done:
    """Build, prove and time every precision of every installed product, from an empty cache."""
    store, systems = bench.subject.store, set()
    numbers: dict[str, float] = {}
    for product in store.products():
        installed = store.installed(product)
        systems.add(f"{installed.manifest.system} {installed.manifest.preset}")
        with tempfile.TemporaryDirectory(prefix="edge-acceptance-") as cache:
            numbers |= _times(bench, installed, Path(cache))
    return Done(f"engines proven: {len(numbers)}, of {', '.join(sorted(systems))}", numbers)


def _times(bench: Bench, installed: Installed, cache: Path) -> dict[str, float]:
    """Milliseconds by engine. Raises: StepFailed naming an engine that is not proven here."""
    bench.subject.store.verify(installed)
    threads = bench.subject.config.runtime.threads
    wanted = TENSORRT if bench.is_target else ONNXRUNTIME
    times = {}
    for entry in measure_engines(checked_proof_data(installed), cache, threads):
        name = f"{installed.product} {entry.name} ms"
        if entry.section is None or not entry.is_proven:
            raise StepFailed(f"{name.removesuffix(' ms')} is not proven: {entry.why_not}")
        if not entry.runtime.startswith(wanted):
            raise StepFailed(f"{name.removesuffix(' ms')} is not of {wanted}")
        times[name] = round(entry.section.time_ms, 3)
    return times


# --- power modes ---


def _lacks_modes(bench: Bench) -> str:
    if not is_jetson(bench.subject.machine):
        return NO_JETSON
    if bench.is_target and os.geteuid() != 0:
        return "it needs the rights of root: use sudo"
    return _lacks_engines(bench)


def _power_modes(bench: Bench) -> Done:
    """Time the active bundle's engines in every mode that needs no reboot, then go back."""
    store, machine = bench.subject.store, bench.subject.machine
    before = find_mode(machine, current_mode(machine) or "")
    if before is None:
        raise StepFailed("the board does not tell its power mode")
    was_pinned = are_pinned(machine)
    numbers: dict[str, float] = {}
    refused = []
    with tempfile.TemporaryDirectory(prefix="edge-acceptance-") as cache:
        try:
            for mode in power_modes(machine):
                if not _is_set(machine, mode):
                    refused.append(mode.name)
                    continue
                times = _times(bench, store.active(), Path(cache))
                numbers |= {f"{mode.name}: {name}": ms for name, ms in times.items()}
        finally:
            set_mode(machine, before)
            if was_pinned:
                set_clocks(machine, "max")
    left = f"; not without a reboot: {', '.join(refused)}" if refused else ""
    return Done(f"{len(power_modes(machine)) - len(refused)} modes{left}", numbers)


def _is_set(machine: Path, mode: PowerMode) -> bool:
    """Whether the board changes to it without a reboot."""
    try:
        set_mode(machine, mode)
    except ConfigError:
        return False
    return True


# --- the kernels of the image stage ---


def _lacks_stage(bench: Bench) -> str:
    if not bench.is_target:
        return NO_JETSON
    return STOP if bench.runs else ""


def _stage(_bench: Bench) -> Done:
    """Alignment and crop on the GPU give the very bytes that they give on the processor."""
    from edge.doctor.stage_check import compare_stage

    pixels = compare_stage()
    return Done(f"{pixels} pixels of depth and color, each as on the processor")


def _lacks_board(bench: Bench) -> str:
    return "" if bench.is_target else NO_JETSON


def _board(bench: Bench) -> Done:
    machine = bench.subject.machine
    return Done(f"{board_model(machine)}, power mode {current_mode(machine) or 'not told'}")


STEPS: tuple[Step, ...] = (
    Step("board", _lacks_board, _board),
    Step("doctor", _nothing, _examine),
    Step("engines", _lacks_engines, _engines),
    Step("stage kernels", _lacks_stage, _stage),
    Step("camera", lacks_camera, watch),
    Step("unplug", lacks_person_and_camera, unplug),
    Step("lines", lacks_lines, loop),
    Step("power modes", _lacks_modes, _power_modes),
)
