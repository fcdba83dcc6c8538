"""What each part of MATS contributes: CAA, MDLA, mask, position encoding and student off, one at a time.

    python tests/benchmarks/ablation.py --parts parts --seeds 0,1,2 --work runs/ablation

Writes docs/ablation.md. The frozen features are computed once per product and seed and shared by all rows. A part that
does not help is reported as such. Without the student, the score is the flow's likelihood; without the mask, the
losses, the map and the score take in the background as well.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge.files import write_json
from edge.frames.dataset import find_products, open_dataset
from trainer.evaluate import evaluate_run
from trainer.fit import FitControl
from trainer.graph.preprocess import Prepared
from trainer.run import TrainedRun
from trainer.training import TrainOptions, train

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ablation.md"
ROWS: dict[str, dict[str, bool]] = {
    "complete": {},
    "without CAA": {"caa": False},
    "without MDLA": {"mdla": False},
    "without mask": {"mask": False},
    "without position encoding": {"position": False},
    "without student (likelihood)": {"student": False},
}
FIGURES = ("image_auroc", "pixel_auroc", "aupro_30")


class Everywhere(nn.Module):
    """In place of the graph's mask: every cell of the map is scored."""

    def __init__(self, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.map_size = map_size

    def forward(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """(foreground, scored), all ones."""
        ones = torch.ones(prepared.color.shape[0], 1, *self.map_size)
        return ones, ones


def main() -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, required=True, help="products, or one product folder")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, required=True, help="run folders and cached features")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, which share the processor's cores")
    arguments = parser.parse_args()
    products = find_products(arguments.parts)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    threads = max(1, (os.cpu_count() or 1) // arguments.workers)
    with ProcessPoolExecutor(arguments.workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        running = {
            name: [pool.submit(measure, product, seed, name, arguments.work) for seed in seeds for product in products]
            for name in ROWS
        }
        table = {name: [future.result() for future in futures] for name, futures in running.items()}
    page = "\n".join(report(table, [product.name for product in products], seeds)) + "\n"
    PAGE.write_text(page, encoding="utf-8")
    print(page)


def measure(product: Path, seed: int, name: str, work: Path) -> tuple[float, ...]:
    """Figures of one run in percent, trained unless its result is stored."""
    folder = work / f"{product.name}-{seed}-{name.replace(' ', '_')}"
    result = folder / "ablation.json"
    if not result.is_file():
        options = TrainOptions(seed=seed, cache=work / "cache", switches=ROWS[name])
        run = train("mats", product, folder, options, FitControl(tell=lambda _: None))
        if name == "without mask":
            run = scored_everywhere(run)
        overall = evaluate_run(run, open_dataset(product)).overall
        write_json(result, [100 * getattr(overall, figure) for figure in FIGURES])
        print(f"{folder.name}: {result.read_text().split()}", flush=True)
    return tuple(json.loads(result.read_text()))


def scored_everywhere(run: TrainedRun) -> TrainedRun:
    """The run with the graph's mask and the map's own foreground weights removed."""
    deployed = run.deployed
    detector = deployed.detector
    deployed.mask = Everywhere(detector.map_size)  # type: ignore[assignment, arg-type]  # stands in for MapMask
    detector.grid_mask = lambda prepared: torch.ones(len(prepared.color), 1, *detector.grid)  # type: ignore[assignment]  # as above
    return replace(run, deployed=deployed)


def report(table: dict[str, list[tuple[float, ...]]], products: Sequence[str], seeds: Sequence[int]) -> Iterable[str]:
    """The page."""
    complete = np.array(table["complete"])
    lines = [
        "# What each part of MATS contributes",
        "",
        f"Compact preset, products {', '.join(products)}, seeds {', '.join(map(str, seeds))}; mean over "
        f"{len(complete)} runs a row, percent; in brackets the difference to the complete system and the standard "
        "deviation of that difference over the runs. A difference smaller than its deviation is none.",
        f"Written by `python tests/benchmarks/ablation.py`, {datetime.now(timezone.utc):%Y-%m-%d}, CPU.",
        "",
        "| | I-AUROC | P-AUROC | AUPRO 0.3 |",
        "|---|---|---|---|",
    ]
    for name, rows in table.items():
        values = np.array(rows)
        gains, spreads = (values - complete).mean(axis=0), (values - complete).std(axis=0)
        cells = [f"{value:.1f}" for value in values.mean(axis=0)]
        if name != "complete":
            pairs = zip(cells, gains, spreads, strict=True)
            cells = [f"{cell} ({gain:+.1f}, s {spread:.1f})" for cell, gain, spread in pairs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
