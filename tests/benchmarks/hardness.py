"""How hard the defects of a product are without learning: the distance of color and of height from
the per-pixel median of its training parts, and what that finds of every group of defects.

    python tests/benchmarks/hardness.py parts/washer parts/biscuit --out docs/figures/hardness.json

Prints a table and writes it as the entry `hardness` of the file, in the form of docs/figures. The
map is the distance in color, in height, or their sum, each divided by its mean over the training
parts; the score is the mean of the map's largest 1 %. No part is aligned to another: of a part that
turns freely or lies anywhere, the median is that of every pose, and the distances are those of the
pose as much as of the defect. `overlap` says how much that matters: the mean IoU of a training
part's silhouette (the pixels over the table) with the silhouette of half of all of them; near 1 in
a fixed pose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from calibration.plane import fit_plane_to_frames
from edge.frames.dataset import Dataset, open_dataset
from edge.geometry import Plane, heights_m
from edge.types import Frame
from tests.benchmarks.compared import answer, by_group, tested, view
from tests.benchmarks.figures import how, write_entry
from tests.support.baseline import SENSES, Reference, Sense, fit_reference, top_mean
from trainer.data.scene import JOINT_FRAMES, plane_of
from trainer.metrics import Metrics

ENTRY = "hardness"
OVER_TABLE_M = 0.001
CONDITIONS = (
    "Without learning: distance of color, of height, or of both from the per-pixel median of the"
    " training parts, score: mean of the largest `1 %`. Percent. Each group against all good test"
    " images. No part is aligned: overlap is the mean IoU of a training part's silhouette with the"
    " median silhouette; where it is low, parts turn or lie in different places, and the median is"
    " that of all their poses."
)
COLUMNS = (
    "product",
    "overlap",
    "group",
    "images",
    *(f"I-AUROC, {sense}" for sense in SENSES),
    *(f"AUPRO 0.3, {sense}" for sense in SENSES),
)


def main() -> None:
    """Measure every product, print the table, write the entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("products", type=Path, nargs="+", help="product folders")
    parser.add_argument("--out", type=Path, required=True, help="JSON in the form of docs/figures")
    arguments = parser.parse_args()
    rows = [row for product in arguments.products for row in hardness(open_dataset(product))]
    for line in [list(COLUMNS), *rows]:
        print(" ".join(f"{_cell(value):>16}" for value in line))
    columns = [{"title": name, "digits": 2} if name == "overlap" else name for name in COLUMNS]
    entry = {**how(), "conditions": CONDITIONS, "columns": columns, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_entry(arguments.out.name, ENTRY, entry, arguments.out.parent)


def hardness(dataset: Dataset) -> list[list[Any]]:
    """A row per group of the product's defects and one of all, as COLUMNS names the cells; None
    where there is no depth. Raises: DataError without good and defective test images.
    """
    senses: Sequence[Sense] = SENSES if dataset.has_depth else ("color",)
    normal = [view(dataset, sample) for sample in dataset.split("train")]
    reference, overlap = fit_reference(normal), silhouette_overlap(normal, dataset.camera.fixed)
    found = {sense: found_by(reference, dataset, sense) for sense in senses}
    product = dataset.root.resolve().name
    rows = []
    for group, row in found["color"].items():
        own = [found[sense][group] if sense in found else None for sense in SENSES]
        metrics = [row and row.image_auroc for row in own] + [row and row.aupro_30 for row in own]
        rows.append([product, overlap, group, row.defective, *map(_percent, metrics)])
    return rows


def found_by(reference: Reference, dataset: Dataset, sense: Sense) -> dict[str, Metrics]:
    """What one distance finds, by group of defects, and of all of them."""
    answers = []
    for sample in tested(dataset):
        distance = reference.map(view(dataset, sample), sense)
        answers.append(answer(dataset, sample, top_mean(distance), distance))
    return {row.name: row for row in by_group(dataset.root, answers)}


def silhouette_overlap(frames: Sequence[Frame], fixed: bool) -> float | None:
    """Mean IoU of each part's silhouette with the median one, 0..1; None without depth.

    fixed: whether one plane is the table of all frames.
    """
    if frames[0].depth is None:
        return None
    plane = fit_plane_to_frames(frames[:JOINT_FRAMES]).plane if fixed else None
    silhouettes = np.stack([_silhouette(frame, plane or plane_of(frame)) for frame in frames])
    middle = silhouettes.mean(axis=0) >= 0.5
    shared = (silhouettes & middle).sum(axis=(1, 2))
    either = (silhouettes | middle).sum(axis=(1, 2))
    return round(float((shared / np.maximum(1, either)).mean()), 2)


def _silhouette(frame: Frame, plane: Plane) -> NDArray[np.bool_]:
    """(H, W) what is over the table by a millimeter; a pixel without a reading is not."""
    depth = cast(NDArray[np.uint16], frame.depth)
    return heights_m(depth, frame.unit, plane) > OVER_TABLE_M


def _percent(share: float | None) -> float | None:
    return None if share is None or np.isnan(share) else round(100 * share, 1)


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
