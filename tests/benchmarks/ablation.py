"""What each component of a system contributes, in the form of its paper's table.

    python tests/benchmarks/ablation.py --system mats --parts parts --seeds 0,1,2 --work
    runs/ablation

Writes an entry of docs/figures/ablation-SYSTEM.json, named by --entry. The frozen features are
computed once per product and seed and shared by all rows. A component that does not help is
reported as such. MATS without the student scores by the flow's likelihood; without the mask the
losses, the map and the score take in the background as well. AAND's rows are those of its table 5,
with the floor of the distance, which is ours, apart; NTSNet's are those of its table 3, with plain
convolutions beside. M3DM's bank rows are the complete run judging by those banks alone, with the
weights that its one-class machine gave them. VMPFD-AD's are those of its tables 5 (encoder), 6
(branches) and 7 (sources of the mixture's features), with the plain error and patches of 16 pixels
beside. Both take a pretrained file that every run starts from with --pretrained, or each run trains
its own. Products with synthetic logical defects have a column for those.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.files import write_json
from edge.frames.dataset import find_products
from tests.benchmarks.figures import how, write_entry
from trainer.evaluate.evaluation import evaluate_run
from trainer.evaluate.judged import open_judged
from trainer.fit import FitControl
from trainer.graph.prepared import Prepared
from trainer.train.options import TrainOptions
from trainer.train.run_folder import RUN_FILE
from trainer.train.trained_run import TrainedRun, load_run
from trainer.train.training import train

COMPLETE = "complete"
ROWS: dict[str, dict[str, dict[str, bool]]] = {
    "mats": {
        COMPLETE: {},
        "without CAA": {"caa": False},
        "without MDLA": {"mdla": False},
        "without mask": {"mask": False},
        "without position encoding": {"position": False},
        "without student (likelihood)": {"student": False},
    },
    "aand": {
        COMPLETE: {},
        "plain reverse distillation": {
            "gate": False,
            "generator": False,
            "hard": False,
            "floor": False,
        },
        "base: with the floor": {"gate": False, "generator": False, "hard": False},
        "(a) gate alone as score": {"student": False},
        "(b) blind residuals": {"gate": False, "hard": False},
        "(c) gate and generator": {"hard": False},
        "(d) hard loss": {"gate": False, "generator": False},
        "all, without the floor": {"floor": False},
        "all, teacher features standardized": {"standardized": True},
    },
    "ntsnet": {
        COMPLETE: {},
        "symmetric": {"symmetric": True},
        "symmetric + EMAN": {"symmetric": True, "eman": True},
        "CoT + EMAN": {"eman": True},
        "plain convolutions": {"cot": False},
        "maps multiplied": {"product": True},
    },
    "m3dm": {
        COMPLETE: {},
        "Point-MAE alone as points": {"relief": False},
        "farthest point sampling": {"farthest": True},
        "full banks": {"distilled": False},
    },
    "vmpfd": {
        COMPLETE: {},
        "CNN as encoder": {"cnn_encoder": True},
        "as published": {"as_published": True},
        "as published with a CNN": {"as_published": True, "cnn_encoder": True},
        "local branch alone": {"global": False},
        "global branch alone": {"local": False},
        "PDN features alone": {"vim_features": False},
        "ViM features alone": {"pdn_features": False},
        "global error as it is": {"plain_error": True},
        "patches of 16 pixels": {"patch16": True},
    },
}
BANKS = {  # rows of m3dm: the banks that judge
    "RGB": ("rgb",),
    "points": ("points",),
    "fusion": ("fused",),
    "RGB + points": ("rgb", "points"),
}
FIGURES = ("image_auroc", "pixel_auroc", "aupro_30")
COLUMNS = ("I-AUROC", "P-AUROC", "AUPRO 0.3", "I-AUROC, logical")


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
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=sorted(ROWS), default="mats")
    parser.add_argument(
        "--parts",
        type=Path,
        nargs="+",
        required=True,
        help="folders of products, or product folders",
    )
    parser.add_argument(
        "--rows", help="some of the rows, separated by commas, beside the complete system"
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--entry", required=True, help="name of the table in docs/figures")
    parser.add_argument("--work", type=Path, required=True, help="run folders and cached features")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="trainings at once, which share the processor's cores",
    )
    parser.add_argument("--device", default="cpu", help="where to train: cpu or cuda")
    parser.add_argument(
        "--pretrained", type=Path, help="a file of `trainer pretrain` that every run starts from"
    )
    arguments = parser.parse_args()
    products = [product for folder in arguments.parts for product in find_products(folder)]
    rows = [
        name
        for name in (*ROWS[arguments.system], *banks_of(arguments.system))
        if asked(name, arguments.rows)
    ]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    threads = max(1, len(os.sched_getaffinity(0)) // arguments.workers)
    with ProcessPoolExecutor(
        arguments.workers, initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        running = {  # seed by seed, so that an interrupted ablation has whole columns first
            (name, seed, product): pool.submit(
                measure,
                arguments.system,
                product,
                name,
                arguments.work,
                TrainOptions(seed=seed, device=arguments.device, pretrained=arguments.pretrained),
            )
            for seed in seeds
            for product in products
            for name in rows
            if name not in BANKS
        }
        found = {key: future.result() for key, future in running.items()}
    for name in (row for row in rows if row in BANKS):
        for seed in seeds:
            found |= {
                (name, seed, one): measure_banks(one, seed, name, arguments.work)
                for one in products
            }
    table = {name: [found[name, seed, one] for seed in seeds for one in products] for name in rows}
    names = [product.name for product in products]
    entry = {**how(arguments.device), **table_of(table, names, seeds)}
    write_entry(f"ablation-{arguments.system}.json", arguments.entry, entry)


def banks_of(system: str) -> Iterable[str]:
    """Rows that are m3dm's complete run, judging by some of its banks."""
    return BANKS if system == "m3dm" else ()


def asked(name: str, rows: str | None) -> bool:
    """Whether `--rows` lets a row in."""
    return rows is None or name == COMPLETE or name in rows.split(",")


def folder_of(system: str, product: Path, seed: int, name: str, work: Path) -> Path:
    """Where a row's run lies."""
    return work / system / f"{product.name}-{seed}-{name.replace(' ', '_')}"


def measure(
    system: str, product: Path, name: str, work: Path, options: TrainOptions
) -> tuple[float, ...]:
    """Figures of one run in percent, trained unless its result is stored."""
    folder = folder_of(system, product, options.seed, name, work)
    result = folder / "ablation.json"
    if not result.is_file():
        options = replace(options, cache=work / "cache", switches=ROWS[system][name])
        finished = (folder / RUN_FILE).is_file()
        run = (
            load_run(folder)
            if finished
            else train(system, product, folder, options, FitControl(tell=lambda _: None))
        )
        if name == "without mask":
            run = scored_everywhere(run)
        write_figures(run, product, result)
    return figures_in(result)


def measure_banks(product: Path, seed: int, name: str, work: Path) -> tuple[float, ...]:
    """Figures of m3dm's complete run, judging by the banks of row `name` alone."""
    folder = folder_of("m3dm", product, seed, COMPLETE, work)
    result = folder / f"ablation-{name.replace(' ', '_')}.json"
    if not result.is_file():
        run = load_run(folder)
        detector = run.deployed.detector
        kept = torch.tensor([float(bank in BANKS[name]) for bank, _ in detector.named_banks()])
        detector.map_weights.mul_(kept)
        write_figures(run, product, result)
    return figures_in(result)


def write_figures(run: TrainedRun, product: Path, result: Path) -> None:
    """Evaluate and store."""
    evaluation = evaluate_run(run, open_judged(run.info, product))
    logical = [100 * group.image_auroc for group in evaluation.groups if group.name == "logical"]
    write_json(
        result, [*(100 * getattr(evaluation.overall, figure) for figure in FIGURES), *logical]
    )
    print(f"{result.parent.name} {result.name}: {result.read_text().split()}", flush=True)


def figures_in(result: Path) -> tuple[float, ...]:
    """As they were stored, in the order of COLUMNS; NaN: the product has none."""
    values = json.loads(result.read_text())
    return (*values, *[np.nan] * (len(COLUMNS) - len(values)))


def scored_everywhere(run: TrainedRun) -> TrainedRun:
    """The run with the graph's mask and the map's own foreground weights removed."""
    deployed = run.deployed
    detector = deployed.detector
    # stands in for MapMask
    deployed.mask = Everywhere(detector.map_size)  # type: ignore[assignment, arg-type]

    # as above
    def ones(prepared: Prepared) -> torch.Tensor:
        return torch.ones(len(prepared.color), 1, *detector.grid)

    detector.grid_mask = ones  # type: ignore[assignment]
    return replace(run, deployed=deployed)


def table_of(
    found: dict[str, list[tuple[float, ...]]], products: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Conditions, columns and rows: means, differences to the complete system, their deviations."""
    complete = np.array(found[COMPLETE])
    shown = np.isfinite(complete).any(axis=0)
    rows = [
        [name, *cells_of(np.array(values)[:, shown], complete[:, shown], name != COMPLETE)]
        for name, values in found.items()
    ]
    return {
        "conditions": (
            f"Compact preset; {', '.join(products)}; seeds {', '.join(map(str, seeds))}; mean over"
            f" {len(complete)} runs a row, percent. In brackets the difference to the complete"
            " system and the standard deviation of that difference over the runs; a difference"
            " smaller than its deviation is none."
        ),
        "columns": ["", *np.array(COLUMNS)[shown].tolist()],
        "rows": rows,
    }


def cells_of(values: np.ndarray, complete: np.ndarray, compared: bool) -> list[Any]:
    """A row: each column's mean; `compared`: with its difference to the complete system."""
    means = np.nanmean(values, axis=0).tolist()
    if not compared:
        return means
    apart = values - complete
    cells: list[Any] = [
        {"mean": mean, "difference": difference, "deviation": deviation}
        for mean, difference, deviation in zip(
            means,
            np.nanmean(apart, axis=0).tolist(),
            np.nanstd(apart, axis=0).tolist(),
            strict=True,
        )
    ]
    for cell, several in zip(cells, np.isfinite(apart).sum(axis=0) > 1, strict=True):
        if not several:  # one difference has no deviation
            del cell["deviation"]
    return cells


if __name__ == "__main__":
    main()
