"""How many defective images among the normal ones `trainer train` names, and how often it names a
clean one.

    python tests/benchmarks/suspects.py PRODUCT...        products with a test set, as `trainer
                                                          synthesize` writes them

Detection: of every defect type k test images are put among n - k normal ones. Clean: the product's
normal images, and random subsets of them, of each of which at most one in hundreds should be named.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from edge.frames.dataset import Dataset, open_dataset
from edge.frames.sample import Sample
from trainer.data.scene import Scene, measure_scene
from trainer.data.splits import candidates
from trainer.train.suspects import find_suspects

MIXED = ((12, 1), (60, 3), (60, 5))  # n images, k of them defective
SUBSETS, SIZES = 20, (8, 12, 20, 40)
DEPTH = (128, 128)


def named(scene: Scene, samples: Sequence[Sample]) -> tuple[int, int]:
    """(defective images named, normal images named)."""
    by_name = {sample.name: sample.is_defective for sample in samples}
    found = [by_name[suspect.name] for suspect in find_suspects(scene, samples).suspects]
    return sum(found), len(found) - sum(found)


def detection(dataset: Dataset, scene: Scene, normal: Sequence[Sample]) -> str:
    """Cells of the table: found of all, for each of MIXED."""
    kinds = sorted({sample.defect for sample in dataset.samples if sample.is_defective})
    cells, false = [], 0
    for images, defective in MIXED:
        hits = 0
        for kind in kinds:
            bad = [sample for sample in dataset.samples if sample.defect == kind][:defective]
            hit, wrong = named(scene, [*normal[: images - len(bad)], *bad])
            hits, false = hits + hit, false + wrong
        cells.append(f"{hits} of {defective * len(kinds)}")
    return " | ".join([*cells, str(false)])


def alarms(scene: Scene, normal: Sequence[Sample]) -> str:
    """Cells of the table: suspects in the whole set, then subsets with one, of SUBSETS, for each of
    SIZES.
    """
    cells = [f"{named(scene, normal)[1]} of {len(normal)} images"]
    for size in SIZES:
        drawn = [
            np.random.default_rng(seed).permutation(len(normal))[:size] for seed in range(SUBSETS)
        ]
        count = sum(named(scene, [normal[index] for index in indices])[1] > 0 for indices in drawn)
        cells.append(f"{count} of {SUBSETS}" if size < len(normal) else "-")
    return " | ".join(cells)


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("products", type=Path, nargs="+")
    parser.add_argument("--clean-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for product in arguments.products:
        dataset = open_dataset(product)
        train, validation = candidates(dataset)
        scene = measure_scene(
            dataset, train, dataset.has_depth, DEPTH if dataset.has_depth else None
        )
        if not arguments.clean_only:
            print(f"| {product.name} | {detection(dataset, scene, train)} |", flush=True)
        print(f"| {product.name}, clean | {alarms(scene, [*train, *validation])} |", flush=True)


if __name__ == "__main__":
    main()
