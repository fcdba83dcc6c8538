"""What the choice of the score's share by synthetic defects is worth: the test images of trained
runs, judged under every share.

    python tests/benchmarks/score_share.py RUNS... [--most N] [--write]

RUNS are folders of `trainer train`. Each row: the share that synthetic defects choose
(trainer.train.top_k), the largest one whose score is about as steady among normal validation parts
as the steadiest (the rule of before, among the same shares), the best one, which only the test
images know, and the I-AUROC of the detector's map under each. --most: defective test images, evenly
spread. With --write the table goes to docs/figures/score_share.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.frames.dataset import open_dataset
from edge.frames.sample import Sample
from tests.benchmarks.figures import how, write_entry
from trainer.data.choose import spread
from trainer.metrics import image_auroc
from trainer.train.top_k import SHARES, choose_top_k
from trainer.train.trained_run import TrainedRun, load_run
from trainer.train.validation import JudgedPart, judge_drawn, judge_normal

COLUMNS = [
    *("product", "system", "seed"),
    {"title": "synthetic defects: share, %", "digits": 2},
    {"title": "I-AUROC", "digits": 1},
    {"title": "steady score: share, %", "digits": 2},
    {"title": "I-AUROC", "digits": 1},
    {"title": "best: share, %", "digits": 2},
    {"title": "I-AUROC", "digits": 1},
]
CONDITIONS = (
    "Percent, of the detector's map alone, without outline and heights; float32 torch on the CPU,"
    " preset `compact`; all test images of a product, or {} defective ones, evenly spread, and all"
    " good ones."
)


def steadiest(normal: Sequence[JudgedPart]) -> float:
    """The largest share whose scores spread, relative to their mean, as little as the best's, up to
    what a spread of n parts is uncertain by, 1 / sqrt(2 (n - 1)) of itself.
    """
    scores = {share: np.array([part.detector_score(share) for part in normal]) for share in SHARES}
    spreads = {share: of.std() / max(of.mean(), 1e-12) for share, of in scores.items()}
    allowed = min(spreads.values()) * (1 + (2 * (len(normal) - 1)) ** -0.5)
    return max(share for share, of in spreads.items() if of <= allowed)


def row_of(folder: Path, most: int | None) -> list[Any]:
    """One run's."""
    run = load_run(folder)
    dataset = open_dataset(Path(run.info.data))
    validation = _named(run, dataset.samples)
    normal = judge_normal(run.deployed, run.info.scene(), validation)
    drawn = judge_drawn(run.deployed, run.info.scene(), validation)
    tested = dataset.split("test")
    defective = [sample for sample in tested if sample.is_defective]
    kept = defective if most is None else spread(defective, most)
    good = [sample for sample in tested if not sample.is_defective]
    judged = judge_normal(run.deployed, run.info.scene(), [*good, *kept])
    labels = np.arange(len(judged)) >= len(good)
    aurocs = {
        share: 100 * image_auroc(labels, np.array([part.detector_score(share) for part in judged]))
        for share in SHARES
    }
    shares = (
        choose_top_k(normal, drawn)[0],
        steadiest(normal),
        max(SHARES, key=aurocs.__getitem__),
    )
    pairs = [value for share in shares for value in (100 * share, aurocs[share])]
    return [Path(run.info.data).name, run.info.system, run.info.seed, *pairs]


def _named(run: TrainedRun, samples: Sequence[Sample]) -> list[Sample]:
    """The normal validation parts of the run."""
    names = set(run.info.validation)
    return [sample for sample in samples if sample.name in names]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rows, and with --write put them into docs/figures/score_share.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--most", type=int)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args(arguments)
    rows = []
    for folder in asked.runs:
        rows.append(row_of(folder, asked.most))
        print(*rows[-1], flush=True)
    if asked.write:
        conditions = CONDITIONS.format(asked.most or "all")
        entry = {**how(), "conditions": conditions, "columns": COLUMNS, "rows": rows}
        write_entry("score_share.json", "shares", entry)


if __name__ == "__main__":
    main()
