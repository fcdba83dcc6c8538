"""The normal validation frames that a bundle carries (normal/), on which a station measures the
threshold of its own engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.proof.golden import NormalIndex, carried_ranks, write_normal
from edge.schema import Precision, TensorSpec
from trainer.export.proof import Proof
from trainer.export.shown import Shown
from trainer.quantize import Quantized

MORE = 16  # normal frames that are carried besides, where a precision orders them otherwise


@dataclass(frozen=True, eq=False)
class RankedNormals:
    """The n normal validation parts by falling score of the float32 file, and each shipped
    precision's scores (n,) in that order.
    """

    frames: list[Shown]
    scores: dict[Precision, NDArray[np.float32]]


def ranked_normals(
    proof: Proof,
    normal: Sequence[Shown],
    made: Mapping[Precision, Quantized],
    shipped: Sequence[Precision],
) -> RankedNormals:
    """Every shipped precision's scores of all n parts, in the order of the float32 file's."""
    row_of = {frame.name: row for row, frame in enumerate(proof.frames)}
    rows = np.array([row_of[frame.name] for frame in normal])
    order = np.argsort(-made["fp32"].responses.scores[rows], kind="stable")
    scores = {name: made[name].responses.scores[rows][order] for name in shipped}
    return RankedNormals([normal[place] for place in order], scores)


def write_normal_frames(
    folder: Path,
    normal: Sequence[Shown],
    scores: Mapping[Precision, NDArray[np.float32]],
    rank: int,
    inputs: Sequence[TensorSpec],
) -> NormalIndex:
    """Write normal/: as many of the highest as every precision needs to find its threshold among
    them.

    Args:
        normal: all n parts by falling float32 score. scores: (n,) of each shipped precision, in the
            same order.
        rank: of the threshold. inputs: of the graph, with the manifest's defaults.
    """
    more = 0
    while True:
        ranks, highest = carried_ranks(len(normal), rank, more)
        rows = [one - 1 for one in ranks]
        if all(_ranked(values[rows], rank) == _ranked(values, rank) for values in scores.values()):
            break
        more += MORE
    frames = [(normal[row].name, row + 1, normal[row].source) for row in rows]
    return write_normal(folder, frames, len(normal), highest, inputs)


def _ranked(scores: NDArray[np.float32], rank: int) -> float:
    return float(np.sort(scores)[::-1][rank - 1])
