"""What the heights of places find beside a detector, and what they cost: every group of test images
judged by a trained run with them, and by the same run without.

    python tests/benchmarks/heights.py RUNS... [--write]
    python tests/benchmarks/heights.py RUNS... --speed [--write]

RUNS are folders of `trainer train` of products that `trainer synthesize` made. With --write the
table goes to docs/figures/logical.json. --speed: the time of both whole graphs in onnxruntime, as
tests/benchmarks/adaptation_speed.py measures it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.frames.dataset import open_dataset
from tests.benchmarks.adaptation_speed import PARTS, ROUNDS, ratios_of, runner
from tests.benchmarks.figures import how, write_entry
from trainer.export.onnx_file import export_onnx
from trainer.metrics import image_auroc
from trainer.train.trained_run import TrainedRun, load_run

GROUPS = ("logical", "relief", "color", "both", "material")
COLUMNS = [
    "product",
    "system",
    "seed",
    "group",
    {"title": "I-AUROC without", "digits": 1},
    {"title": "I-AUROC with", "digits": 1},
    {"title": "good parts raised", "digits": 0},
    "of",
]

SPEED_COLUMNS = [
    "product",
    "system",
    {"title": "time, multiple", "digits": 3},
    {"title": "part by part", "digits": 3},
]
FOUND = (
    "Percent, of scores; float32 torch on the CPU, preset `compact`. Each group against all good"
    " test images. good parts raised: whose score the heights have raised at all."
)
SPEED = (
    "Time of the whole graph with heights of places over its time without, at p50; compact presets,"
    f" onnxruntime fp32, processor time of one thread; {ROUNDS} runs of both in turn, all of them"
    f" and in {PARTS} parts."
)


def scores(run: TrainedRun) -> tuple[list[str], NDArray[np.float64]]:
    """(group of every test image, "" for a good one; scores (2, n) without and with heights)."""
    data = Path(run.info.data)
    known = {one["name"]: one["group"] for one in json.loads((data / "defects.json").read_text())}
    tested = [sample for sample in open_dataset(data).samples if sample.split == "test"]
    heights, both = run.deployed.heights, []
    for sample in tested:
        feeds, pair = run.feeds(sample), []
        for run.deployed.heights in (None, heights):
            pair.append(float(run.deployed.run(feeds)["score"][0]))
        both.append(pair)
    groups = [known[one.name] if one.is_defective else "" for one in tested]
    return groups, np.array(both, np.float64).T


def rows_of(folder: Path) -> list[list[Any]]:
    """One row for every group that the product has."""
    run = load_run(folder)
    groups, (without, with_heights) = scores(run)
    good = np.array([group == "" for group in groups])
    raised = int((with_heights > without)[good].sum())
    rows = []
    for group in GROUPS:
        chosen = good | np.array([one == group for one in groups])
        if chosen.sum() == good.sum():
            continue
        aurocs = [100 * image_auroc(~good[chosen], one[chosen]) for one in (without, with_heights)]
        rows.append([Path(run.info.data).name, run.info.system, run.info.seed, group, *aurocs])
    return [[*row, raised, int(good.sum())] for row in rows]


def speed_of(folder: Path) -> list[Any]:
    """One row: the time with heights over that without."""
    run = load_run(folder)
    heights = run.deployed.heights
    with tempfile.TemporaryDirectory() as place:
        runners = []
        for run.deployed.heights in (heights, None):
            name = Path(place) / f"{len(runners)}.onnx"
            runners.append(runner(export_onnx(run.deployed, name)))
    return [Path(run.info.data).name, run.info.system, *ratios_of(runners)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rows, and with --write put them into docs/figures/logical.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args(arguments)
    rows = []
    for folder in asked.runs:
        found = [speed_of(folder)] if asked.speed else rows_of(folder)
        print(*found, sep="\n", flush=True)
        rows += found
    if not asked.write:
        return
    if asked.speed:
        entry = {"conditions": SPEED, "columns": SPEED_COLUMNS, "rows": rows}
        write_entry("logical.json", "speed", {**how(), **entry})
    else:
        entry = {"conditions": FOUND, "columns": COLUMNS, "rows": rows}
        write_entry("logical.json", "heights", {**how(), **entry})
        values = {row[1]: row[5] for row in rows if row[3] == "logical"}  # I-AUROC by system
        write_entry("logical.json", "found", {**how(), "values": values})


if __name__ == "__main__":
    main()
