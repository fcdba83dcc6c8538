"""README says that something ran on a Jetson only if a signed acceptance of a board says so, and on
an NVIDIA GPU only if a GPU check does.

The files that `edge doctor --acceptance` wrote lie in docs/figures/acceptance, those of
`scripts/gpu_check.sh` in docs/figures/gpu. Trainings on a GPU of before count where
docs/figures/benchmark.json names the card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import pytest

from edge.doctor.acceptance import CUT_STEP
from edge.doctor.acceptance_file import Acceptance, StepResult, read_acceptance, write_acceptance
from edge.doctor.acceptance_steps import STEPS
from edge.errors import DataError
from edge.station.station_key import open_signer
from edge.station.store import Store
from scripts.write_docs import ROOT
from trainer.gpu_check.checks import CHECKS
from trainer.gpu_check.report import CheckResult, GpuReport, read_report

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

GPU_FILES, BENCHMARK = ROOT / "docs/figures/gpu", ROOT / "docs/figures/benchmark.json"
GPU = re.compile(r"NVIDIA GPU|\b(?:[ABHL]\d{2,3}|RTX \d{4})\b")  # the kind of machine, or a card
DENIED = re.compile(r"never executed|compiled only|without a GPU|no GPU")
SYSTEMS = {"MATS": "mats", "NTSNet": "ntsnet", "AAND": "aand", "M3DM": "m3dm", "VMPFD-AD": "vmpfd"}
GPU_CHECK_OF = {  # likewise: the check that lets it name a GPU; None: the systems' trainings
    "The TensorRT runner": "tensorrt runner",
    "CUDA alignment and crop": "stage kernels",
    "Training, evaluation, export": None,
    "Metrics of accuracy": None,
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


def unbacked_on_gpus(readme: str, proven: Set[str]) -> list[str]:
    """Rows of which a sentence names a GPU that no check proves. proven: names of checks."""
    return [
        claim
        for claim, verified in rows(readme)
        for sentence in re.split(r"(?<!\d)\.(?!\d)|;", verified)
        if GPU.search(sentence) and not DENIED.search(sentence)
        if not needed(claim, sentence) <= proven
    ]


def needed(claim: str, sentence: str) -> Set[str]:
    """Checks that have to have passed; one that there is not, for a row that may name no GPU."""
    start = next((one for one in GPU_CHECK_OF if claim.startswith(one)), None)
    check = "none" if start is None else GPU_CHECK_OF[start]
    if check is not None:
        return {check}
    named = {name for title, name in SYSTEMS.items() if title in sentence}
    return {f"train {name}" for name in named or SYSTEMS.values()}


def trained_before() -> set[str]:
    """The trainings that the benchmark's table says ran on a GPU."""
    tables = [entry for entry in json.loads(BENCHMARK.read_text()).values() if "rows" in entry]
    on_gpus = [row for table in tables for row in table["rows"] if GPU.search(str(row[-1]))]
    return {f"train {SYSTEMS[row[1]]}" for row in on_gpus}


def test_readme_says_no_more_than_the_gpu_checks_prove() -> None:
    reports = [read_report(path) for path in sorted(GPU_FILES.glob("*.json"))]
    proven = trained_before().union(*(report.proves for report in reports))
    assert unbacked_on_gpus((ROOT / "README.md").read_text(encoding="utf-8"), proven) == []


def test_what_the_benchmark_says_is_what_readme_says_of_gpus() -> None:
    assert trained_before() == {"train ntsnet", "train aand"}
    assert {name for name in GPU_CHECK_OF.values() if name} <= {check.name for check in CHECKS}
    assert {f"train {name}" for name in SYSTEMS.values()} <= {check.name for check in CHECKS}


def checked(name: str, outcome: str = "passed", is_rehearsal: bool = False) -> GpuReport:
    check = CheckResult.model_validate({"name": name, "outcome": outcome, "said": ""})
    return GpuReport(
        is_rehearsal=is_rehearsal, machine="", gpu="NVIDIA H200", driver="", versions={}, began="",
        budget_s=1, checks=(check,),
    )  # fmt: skip


def test_a_planted_claim_of_a_gpu_is_found() -> None:
    readme = (
        "| claim | verified |\n|---|---|\n"
        "| CUDA alignment and crop (`stage.cu`) | ran on the target: one NVIDIA H200, sm_90 |\n"
        "| Training, evaluation, export | x86-64 CPU. On one H100 with `torch 2.11`: AAND; MATS on"
        " an NVIDIA GPU: never executed |\n"
    )
    kernels, training = "CUDA alignment and crop (`stage.cu`)", "Training, evaluation, export"
    assert unbacked_on_gpus(readme, set()) == [kernels, training]
    assert unbacked_on_gpus(readme, checked("stage kernels").proves) == [training]
    assert unbacked_on_gpus(readme, {"stage kernels", "train aand"}) == []
    rehearsed, failed = (
        checked("stage kernels", is_rehearsal=True),
        checked("stage kernels", "failed"),
    )
    for report in (rehearsed, failed):
        assert kernels in unbacked_on_gpus(readme, report.proves)
    other = readme.replace("Training, evaluation, export", "The page")
    assert "The page" in unbacked_on_gpus(other, {"stage kernels", "train aand"})


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
