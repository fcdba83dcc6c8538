"""Accuracy of the compact preset over products and seeds, written to docs/figures/accuracy.json.

    python tests/benchmarks/accuracy.py --parts parts --data DATA --seeds 0,1,2 --flat --work
    runs/accuracy

Synthetic products are trained with depth and, with --flat, once more without it, so that what depth
contributes is measured and not believed; cookies and screw are color-only. Runs found in --work are
not trained again, so that a long measurement can be taken in pieces. Every score comes from the
deployed graph.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.frames.dataset import find_products
from tests.benchmarks.figures import how, write_entry
from trainer.evaluate.evaluation import evaluate_run
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.judged import open_judged
from trainer.evaluate.rows import GROUPS
from trainer.fit import FitControl
from trainer.synthetic.scene_defects import group_called
from trainer.train.options import TrainOptions
from trainer.train.trained_run import load_run
from trainer.train.training import train

COLUMNS = ("I-AUROC", "P-AUROC", "AUPRO 0.3", "AUPRO 0.05", "AUPRO 0.01", *GROUPS)
KEYS = ("image_auroc", "pixel_auroc", "aupro_30", "aupro_05", "aupro_01")


@dataclass(frozen=True)
class Measured:
    """One run, in percent; after the first four, the image AUROC of each group of defects.

    seconds: of training.
    """

    product: str
    with_depth: bool
    seed: int
    figures: tuple[float | None, ...]
    seconds: float


def main() -> None:
    """Train what is missing, evaluate, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", type=Path, help="synthetic products, made by `trainer synthesize`"
    )
    parser.add_argument("--data", type=Path, help="folder with cookies and screw")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--flat", action="store_true", help="also train the synthetic products without depth"
    )
    parser.add_argument("--work", type=Path, required=True, help="run folders and cached features")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="trainings at once, which share the processor's cores",
    )
    parser.add_argument(
        "--only-stored", action="store_true", help="train nothing, report the runs found in --work"
    )
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    products = find_products(arguments.parts) if arguments.parts else []
    jobs = [(product, True, seed) for seed in seeds for product in products]
    jobs += [(product, False, seed) for seed in seeds for product in products if arguments.flat]
    real = [arguments.data / name for name in ("cookies", "screw")] if arguments.data else []
    jobs += [(product, False, seed) for seed in seeds for product in real]
    jobs = [job for job in jobs if not arguments.only_stored or stored(*job, arguments.work)]
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    with ProcessPoolExecutor(
        arguments.workers, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        measured = [
            future.result()
            for future in [pool.submit(measure, *job, arguments.work) for job in jobs]
        ]
    write_entry("accuracy.json", "means", {**how(), **means(measured)})
    write_entry("accuracy.json", "runs", {**how(), **runs(measured)})


def folder_of(product: Path, with_depth: bool, seed: int, work: Path) -> Path:
    """Where the run of one job lies."""
    return work / f"{product.name}{'' if with_depth else '-flat'}-{seed}"


def stored(product: Path, with_depth: bool, seed: int, work: Path) -> bool:
    """Whether the job has been evaluated before."""
    return (folder_of(product, with_depth, seed, work) / "evaluate.json").is_file()


def measure(product: Path, with_depth: bool, seed: int, work: Path) -> Measured:
    """Train and evaluate one job unless it is there, and read its figures."""
    folder = folder_of(product, with_depth, seed, work)
    if not stored(product, with_depth, seed, work):
        options = TrainOptions(
            seed=seed, with_depth=with_depth, cache=work / "cache", overwrite=True
        )
        train("mats", product, folder, options, FitControl(tell=lambda _: None))
        run = load_run(folder)
        judged = open_judged(run.info)
        write_evaluation(run, judged, evaluate_run(run, judged))
        print(f"{folder.name} done", flush=True)
    summary = json.loads((folder / "evaluate.json").read_text())
    overall = summary["rows"][-1]
    groups = {group_called(row["name"]): row["image_auroc"] for row in summary["groups"]}
    # stored before AUPRO 0.01 was: it has none
    values = [overall.get(key) for key in KEYS]
    values += [groups.get(name) for name in GROUPS]
    seconds = json.loads((folder / "run.json").read_text())["train_seconds"]
    return Measured(
        product.name,
        with_depth,
        seed,
        tuple(None if v is None else 100 * v for v in values),
        seconds,
    )


def means(measured: Sequence[Measured]) -> dict[str, Any]:
    """A table with the means of each product, and of the synthetic ones with and without depth."""
    kinds = list(dict.fromkeys((run.product, run.with_depth) for run in measured))
    rows = []
    for kind in kinds:
        own = [run for run in measured if (run.product, run.with_depth) == kind]
        rows.append([titled(own[0]), len(own), *means_of(own)])
    deep = [run for run in measured if run.with_depth]
    with_depth = {run.product for run in deep}
    flat = [run for run in measured if not run.with_depth and run.product in with_depth]
    for name, own in (("**synthetic, with depth**", deep), ("**synthetic, color only**", flat)):
        if own:
            rows.append([name, f"{len(own)} runs", *means_of(own)])
    seeds = sorted({run.seed for run in measured})
    return {
        "conditions": (
            f"MATS, compact preset, means of seeds {', '.join(map(str, seeds))}; percent. relief,"
            " color, both: I-AUROC of the synthetic defects that change only height, only color, or"
            " both; material: of absent, extra and displaced material; logical: of flawless"
            " elements in the wrong places."
        ),
        "columns": ["product", "seeds", *COLUMNS],
        "rows": rows,
    }


def runs(measured: Sequence[Measured]) -> dict[str, Any]:
    """A table with every run."""
    return {
        "conditions": "MATS, compact preset, every run; percent, the last column in seconds.",
        "columns": ["product", "seed", *COLUMNS, "training s"],
        "rows": [[titled(run), run.seed, *means_of([run]), round(run.seconds)] for run in measured],
    }


def titled(run: Measured) -> str:
    """The product, and whether depth was used."""
    return run.product if run.with_depth else f"{run.product}, color only"


def means_of(measured: Sequence[Measured]) -> list[float | None]:
    """Mean of each column, None where there is none."""
    means = []
    for column in zip(*(run.figures for run in measured), strict=True):
        known = [value for value in column if value is not None]
        means.append(float(np.mean(known)) if known else None)
    return means


if __name__ == "__main__":
    main()
