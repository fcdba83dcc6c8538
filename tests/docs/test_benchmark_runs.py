"""Runs of `trainer benchmark` become the tables of docs/figures/benchmark.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.write_docs import table_of
from tests.benchmarks.benchmark_runs import by_group, every_run, means, read_runs


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two seeds of a product with depth, one run without, one that failed."""
    jobs = (
        ("rope", True, 0, 98.0, ""),
        ("rope", True, 1, 97.0, ""),
        ("screw", False, 0, 63.0, ""),
        ("screw", False, 1, None, "no memory"),
    )
    for number, (product, depth, seed, auroc, error) in enumerate(jobs):
        folder = tmp_path / f"runs/set/{product}/mats-{number}"
        folder.mkdir(parents=True)
        info = {"product": product, "system": "mats", "seed": seed, "with_depth": depth}
        result = {"image_auroc": auroc, "pixel_auroc": 99.0, "aupro": 90.0, "error": error}
        result |= {"groups": {"depth": auroc} if depth else None, "seconds": 12.4, "machine": "CPU"}
        (folder / "run.json").write_text(json.dumps(info))
        (folder / "result.json").write_text(json.dumps(result))
    return tmp_path


def test_tables_are_those_of_the_runs(out: Path) -> None:
    runs = read_runs(out)
    assert table_of(means(runs, ["rope"]))[2:] == [
        "| rope, with depth | 97.5 / 99.0 / 90.0 |",
        "| screw, color only | 63.0 / 99.0 / 90.0 |",
        "| **mean of 1** | **97.5 / 99.0 / 90.0** |",
    ]
    assert table_of(by_group(runs, ["rope"]))[2] == "| relief | 97.5 |"
    assert table_of(every_run(runs))[2] == (
        "| rope | MATS | 0 | 98.0 | 99.0 | 90.0 | 98.0 | - | - | - | - | 12 | CPU |"
    )
