"""Every `paper` preset is trained, evaluated and exported once, at its own sizes.

Random weights of the backbone and few parts: it says nothing about accuracy. What it takes:
docs/gpu.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paper_run import CASES, paper_run, write_small_product
from trainer.export.onnx_file import AGREEMENT
from trainer.systems.registry import SYSTEM_MODULES


def test_every_system_is_among_them() -> None:
    assert {system for system, _ in CASES} == set(SYSTEM_MODULES)


@pytest.mark.long
@pytest.mark.parametrize(
    ("system", "with_depth"),
    CASES,
    ids=[f"{name}-{'depth' if d else 'color'}" for name, d in CASES],
)
def test_a_paper_preset_is_trained_evaluated_and_exported(
    system: str, with_depth: bool, tmp_path: Path
) -> None:
    done = paper_run(system, with_depth, write_small_product(tmp_path / "product"), tmp_path)
    assert done.run.info.preset == "paper"
    assert done.run.info.with_depth == with_depth
    assert done.images == 4
    assert done.agreement.map < AGREEMENT
