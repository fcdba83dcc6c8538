"""All checks, one after the other, within the time there is; the report is on disk after each."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from trainer.gpu_check.bench import Bench
from trainer.gpu_check.checks import CHECKS, Check
from trainer.gpu_check.child import command_of, in_child
from trainer.gpu_check.machine import find_gpu, versions
from trainer.gpu_check.report import CheckResult, GpuReport, write_report

BUDGET_S = 480.0  # on a data-center card
SLOWER = 20.0  # a CPU that rehearses may take longer for a check
Tell = Callable[[str], None]
Execute = Callable[[Check, Bench, float], CheckResult]


def check_gpu(
    bench: Bench,
    out: Path,
    budget_s: float = BUDGET_S,
    tell: Tell = print,
    checks: Sequence[Check] = CHECKS,
    execute: Execute | None = None,
) -> GpuReport:
    """Run the checks on `bench.device` and write the report `out` after each of them.

    execute: None runs each check in a process of its own. Raises: OSError if `out` cannot be
    written.
    """
    start_s = time.monotonic()
    report, why_not = _begun(bench, budget_s)
    tell(_headline(report, why_not))
    for check in checks:
        left_s = budget_s - (time.monotonic() - start_s)
        if why_not:
            result = _not_executed(check, why_not)
        elif left_s < check.least_s:
            said = f"no time left: {max(left_s, 0):.0f} of {budget_s:.0f} s"
            result = _not_executed(check, said)
        else:
            result = (execute or _in_child)(check, bench, left_s)
        if not why_not:
            tell(f"{result.outcome:<13} {result.name:<20} {result.seconds:5.0f} s  {result.said}")
        seconds = time.monotonic() - start_s
        update = {"checks": (*report.checks, result), "seconds": seconds}
        report = report.model_copy(update=update)
        write_report(out, report)
    tell(f"{report.headline}; written to {out}")
    return report


def _begun(bench: Bench, budget_s: float) -> tuple[GpuReport, str]:
    """(report without checks, why nothing can be executed)."""
    gpu, driver, why_not = ("", "", "") if bench.is_rehearsal else find_gpu()
    report = GpuReport(
        is_rehearsal=bench.is_rehearsal,
        machine=platform.platform(),
        gpu=gpu,
        driver=driver,
        versions=versions(),
        began=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        budget_s=budget_s,
    )
    return report, f"no NVIDIA GPU can be used ({why_not})" if why_not else ""


def _headline(report: GpuReport, why_not: str) -> str:
    if report.is_rehearsal:
        return "rehearsal on the CPU: it says nothing about a GPU"
    return f"{why_not}: nothing is executed" if why_not else f"{report.gpu}, {report.driver}"


def _not_executed(check: Check, why: str) -> CheckResult:
    return CheckResult(name=check.name, outcome="not executed", said=why)


def _in_child(check: Check, bench: Bench, left_s: float) -> CheckResult:
    answer = bench.folder / f"{check.name.replace(' ', '-')}.json"
    answer.unlink(missing_ok=True)
    if bench.is_rehearsal:
        check = replace(check, limit_s=SLOWER * check.limit_s)
    return in_child(check, command_of(check, bench, answer), answer, left_s)
