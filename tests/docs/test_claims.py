"""README says that something ran on a Jetson only if a signed acceptance of a board says so.

The files that `edge doctor --acceptance` wrote lie in docs/figures/acceptance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from edge.doctor.acceptance import CUT_STEP
from edge.doctor.acceptance_file import Acceptance, StepResult, read_acceptance, write_acceptance
from edge.doctor.acceptance_steps import STEPS
from edge.errors import DataError
from edge.station.station_key import open_signer
from edge.station.store import Store
from scripts.write_docs import ROOT

FILES = ROOT / "docs/figures/acceptance"
RAN, BOARD = "ran on the target", re.compile(r"Jetson|Orin|Thor")
STEP_OF = {  # how a row of README's table begins: the step that lets it name a board
    "The TensorRT runner": "engines",
    "CUDA alignment and crop": "stage kernels",
    "RealSense capture": "camera",
    "Hardware reset of a lost camera": "unplug",
    "Trigger and verdict on [discrete lines]": "lines",
    "Records, installations, site state": CUT_STEP,
    "Power mode and clocks": "power modes",
}


def rows(readme: str) -> Iterator[tuple[str, str]]:
    """(claim, verified) of the table."""
    _, _, table = readme.partition("| claim | verified |")
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 2 and not cells[0].startswith("---"):
            yield cells[0], cells[1]


def unbacked(readme: str, reports: Iterable[Acceptance]) -> list[str]:
    """Rows that say more than the acceptances prove."""
    proven: Mapping[str, str] = {name: report.board for report in reports for name in report.proves}
    return [
        claim
        for claim, verified in rows(readme)
        if names_a_board(verified)
        and proven.get(next((STEP_OF[one] for one in STEP_OF if claim.startswith(one)), "")) is None
    ]


def names_a_board(verified: str) -> bool:
    """Whether one of its sentences says that something ran on a Jetson."""
    after = verified.partition(RAN)[2]
    return BOARD.search(re.split(r"[.;]", after)[0]) is not None if after else False


def test_readme_says_no_more_than_the_acceptances_prove() -> None:
    reports = [read_acceptance(path).report for path in sorted(FILES.glob("*.json"))]
    assert unbacked((ROOT / "README.md").read_text(encoding="utf-8"), reports) == []


def test_every_step_that_a_row_needs_is_one() -> None:
    known = {step.name for step in STEPS} | {CUT_STEP}
    assert set(STEP_OF.values()) <= known
    claims = [claim for claim, _ in rows((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert len(claims) > 20


README = """
| claim | verified |
|---|---|
| Training | ran on the target: x86-64 CPU. On a Jetson: never executed |
| RealSense capture, in a process of its own | %s |
| Anything else | %s |
"""
STAND_IN = "ran on a stand-in: recordings. On a Jetson: never executed"
ON_BOARD = "ran on the target: Jetson Orin Nano, D435, 300 frames"


def accepted(outcome: str, is_target: bool = True) -> Acceptance:
    step = StepResult(name="camera", outcome=outcome, said="", at="", seconds=1)
    return Acceptance(
        is_target=is_target, board="NVIDIA Jetson Orin Nano", system="JetPack 6.2", version="0",
        station="a/b/c", began="", steps=(step,),
    )  # fmt: skip


def test_a_planted_claim_is_found() -> None:
    planted = README % (ON_BOARD, STAND_IN)
    claim = ["RealSense capture, in a process of its own"]
    assert unbacked(README % (STAND_IN, STAND_IN), []) == []
    assert unbacked(planted, []) == claim
    assert unbacked(planted, [accepted("failed")]) == claim
    assert unbacked(planted, [accepted("left out")]) == claim
    assert unbacked(planted, [accepted("passed", is_target=False)]) == claim
    assert unbacked(planted, [accepted("passed")]) == []
    assert unbacked(README % (STAND_IN, ON_BOARD), [accepted("passed")]) == ["Anything else"]


def test_an_acceptance_that_was_made_by_hand_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    write_acceptance(path, accepted("failed"), open_signer(Store(tmp_path)))
    assert read_acceptance(path).report == accepted("failed")
    path.write_text(path.read_text().replace('"failed"', '"passed"'))
    with pytest.raises(DataError, match="was changed"):
        read_acceptance(path)
