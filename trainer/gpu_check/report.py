"""The file of a GPU check: which machine, and of every check whether it passed, failed, or was not
executed and why.

    {"report": {...}, "digest": "..."}

The digest shows that somebody touched the report up; it is no signature.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edge.errors import DataError
from edge.files import read_bytes, write_atomically
from edge.schema import Sha256, Strict, canonical_json, parse_json

LIMIT = 1 << 20  # bytes

Outcome = Literal["passed", "failed", "not executed"]


class CheckResult(Strict):
    """One check. said: what was found, why it failed, or why it was not executed. numbers: by name,
    with their unit at the end of it.
    """

    name: str
    outcome: Outcome
    said: str
    seconds: float = Field(ge=0, default=0.0)
    numbers: dict[str, float] = Field(default_factory=dict)


class GpuReport(Strict):
    """The report. is_rehearsal: everything ran on the CPU, so that it says nothing about a GPU.

    gpu, driver: empty where there is none. versions: of what takes part, by name.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    is_rehearsal: bool
    machine: str
    gpu: str
    driver: str
    versions: dict[str, str]
    began: str
    budget_s: float
    seconds: float = Field(ge=0, default=0.0)
    checks: tuple[CheckResult, ...] = ()

    @property
    def proves(self) -> frozenset[str]:
        """The checks that passed on a GPU: nothing in a rehearsal."""
        passed = frozenset(one.name for one in self.checks if one.outcome == "passed")
        return frozenset() if self.is_rehearsal or not self.gpu else passed

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(one.name for one in self.checks if one.outcome == "failed")

    @property
    def headline(self) -> str:
        """How many passed, failed and were not executed."""
        count = dict.fromkeys(("passed", "failed", "not executed"), 0)
        for one in self.checks:
            count[one.outcome] += 1
        if count["not executed"] == len(self.checks):
            return "nothing executed"
        return ", ".join(f"{number} {name}" for name, number in count.items())


class Sealed(Strict):
    """The file."""

    report: GpuReport
    digest: Sha256


def write_report(path: Path, report: GpuReport) -> None:
    """Replace the file at once. Raises: OSError if the disk refuses."""
    told = {"report": report.model_dump(by_alias=True, mode="json"), "digest": _digest(report)}
    write_atomically(path, canonical_json(told))


def read_report(path: Path) -> GpuReport:
    """A report that is as it was written. Raises: DataError if it is none, or was changed."""
    try:
        sealed = Sealed.model_validate(parse_json(read_bytes(path, DataError, LIMIT)))
    except (ValidationError, ValueError) as error:
        raise DataError(f"{path} is no report of scripts/gpu_check.sh: name another") from error
    if sealed.digest != _digest(sealed.report):
        raise DataError(f"{path} was changed since it was written: run scripts/gpu_check.sh again")
    return sealed.report


def _digest(report: GpuReport) -> str:
    told = canonical_json(report.model_dump(by_alias=True, mode="json"))
    return hashlib.sha256(told).hexdigest()
