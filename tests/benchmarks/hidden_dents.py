"""Dents that color does not show: how well a run tells good parts with a dent in their height alone
from the same parts without it.

    python tests/benchmarks/hidden_dents.py runs/compact runs/compact-rgbd --write

On each good test part one round dent or bump is added to the height that the detector sees, in
sigma of the sensor's noise; color stays as it is. The same places and signs for every run of a
product. Prints a row per run and depth: I-AUROC of the detector's own map, and of the whole score,
with the outlines and heights that are judged beside it. --write: as the entry `SYSTEM_hidden_dents`
into docs/figures/rgbd.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.write_docs import table_of
from tests.benchmarks.figures import how, write_entry
from trainer.data.normal import prepare
from trainer.evaluate.judged import open_judged
from trainer.graph.prepared import Prepared
from trainer.layers.height import HeightEncoder
from trainer.metrics import image_auroc
from trainer.train.trained_run import TrainedRun, load_run

FILE = "rgbd.json"
SIGMAS = (2.0, 4.0, 8.0, 16.0)
RADIUS = 4.0  # in cells of a 128-cell image: where the dent has fallen to 1 / e of its depth
COLUMNS = ("product", "preset", "seed", "dent, sigma", "the map alone", "the whole score")
CONDITIONS = (
    "I-AUROC, percent. Each good test part once as it is and once with a dent or a bump in its"
    " height alone, in sigma of the sensor's noise; whole score: with outline and heights beside"
    " the detector."
)


def main() -> None:
    """Print the table; with --write, write the entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of one system")
    parser.add_argument("--write", action="store_true", help=f"into docs/figures/{FILE}")
    arguments = parser.parse_args()
    runs = [load_run(folder) for folder in arguments.runs]
    rows = [row for run in runs for row in rows_of(run)]
    made = {"conditions": CONDITIONS, "columns": list(COLUMNS)}
    entry = {**how(), **made, "rows": rows}
    print("\n".join(table_of(entry)))
    if arguments.write:
        write_entry(FILE, f"{runs[0].info.system}_hidden_dents", entry)


@torch.no_grad()
def rows_of(run: TrainedRun) -> Iterator[list[Any]]:
    """A row per depth of the dents."""
    judged = open_judged(run.info)
    good = [sample for sample in judged.samples if not sample.is_defective]
    parts = [prepare(run.deployed.preprocess, run.feeds(sample)) for sample in good]
    sigma = noise_of(parts)
    plain = [scores_of(run, part) for part in parts]
    for depth in SIGMAS:
        dented = [
            scores_of(run, with_dent(part, depth * sigma, number))
            for number, part in enumerate(parts)
        ]
        labels = np.repeat([False, True], len(parts))
        columns = zip(*plain, *dented, strict=True)
        aurocs = [100 * image_auroc(labels, np.array(scores)) for scores in columns]
        head = [judged.folder.name, run.info.preset, run.info.seed]
        yield [*head, depth, *aurocs]


def noise_of(parts: list[Prepared]) -> float:
    """Sigma of the height's noise, in meters."""
    encoder = HeightEncoder()
    height, foreground = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("height", "foreground")
    )
    encoder.measure(height, foreground)
    return float(encoder.sigma)


def with_dent(part: Prepared, deep_m: float, seed: int) -> Prepared:
    """The part with a round dent or bump where it lies on the foreground as a whole."""
    generator = torch.Generator().manual_seed(seed)
    foreground = part.foreground  # (1, 1, h, w)
    radius = RADIUS * max(foreground.shape[2:]) / 128
    row, column = (
        int(place)
        for place in np.unravel_index(
            int(torch.multinomial(inner(foreground, radius).flatten(), 1, generator=generator)),
            tuple(foreground.shape[2:]),
        )
    )
    down = torch.arange(foreground.shape[2]).sub(row).view(-1, 1)  # (h, 1)
    right = torch.arange(foreground.shape[3]).sub(column)  # (w,)
    shape = torch.exp(-(down.square() + right.square()) / radius**2)  # (h, w)
    sign = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    assert part.height is not None
    return part._replace(height=part.height + sign * deep_m * shape * foreground)


def inner(foreground: Tensor, radius: float) -> Tensor:
    """Cells that lie at least 1.5 radii from the part's edge, (1, 1, h, w), 0 or 1; all of the
    foreground where there are none.
    """
    size = 2 * round(1.5 * radius) + 1
    outside = functional.max_pool2d(1 - foreground, size, stride=1, padding=size // 2)
    return 1 - outside if bool((outside < 1).any()) else foreground


def scores_of(run: TrainedRun, part: Prepared) -> tuple[float, float]:
    """Score of the detector's own map, and the whole score, raw units."""
    deployed = run.deployed
    site = {
        spec.name: torch.full(spec.shape, float(spec.default or 0)) for spec in deployed.site_inputs
    }
    masked, foreground, _ = deployed.detected(part, site)
    own = float(deployed.score(masked, foreground))
    beside = sum(float(deployed.beside(judge, part)[1]) for judge in deployed.judges)
    return own, own + beside


if __name__ == "__main__":
    main()
