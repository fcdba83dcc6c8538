"""README says that something ran on an NVIDIA GPU only if a GPU check says so.

The files that `scripts/gpu_check.sh` wrote lie in docs/figures/gpu. Trainings on a GPU of before
count where docs/figures/benchmark.json names the card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set

import pytest

pytest.importorskip("torch", reason="torch is not installed here: no GPU check either")

from scripts.write_docs import ROOT
from tests.docs.test_claims import rows
from trainer.gpu_check.checks import CHECKS
from trainer.gpu_check.report import CheckResult, GpuReport, read_report

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
