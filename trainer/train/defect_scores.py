"""Scores of defective parts, real or synthetic, at the end of a training.

All scores are those of float32 torch. Defects describe the operating points; no defect ever moves
the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.schema import Strict
from trainer.data.choose import in_turn
from trainer.data.scene import Scene
from trainer.graph.deploy import Deployed
from trainer.progress import progress
from trainer.synthetic.on_frames import draw_defect, part_of

REAL = "real"
STRENGTHS = {"faint": 0.1, "medium": 0.4, "strong": 1.0}  # of draw_defect
DRAWN_PARTS = 16  # normal parts that a synthetic defect of every strength is drawn on
MOST_REAL = 200  # real defects that are judged

Feeds = Mapping[str, NDArray[Any]]
Tell = Callable[[str], None]


class DefectScores(Strict):
    """Raw scores of defective parts, kept so that the table of operating points needs no images.

    kind: real parts of the data set, or synthetic defects on normal validation parts. groups:
    scores by REAL, or by name of the strength.
    """

    kind: Literal["real", "synthetic"]
    groups: dict[str, tuple[float, ...]]


def measure_defects(
    deployed: Deployed, scene: Scene, dataset: Dataset, normal: Sequence[Sample], tell: Tell
) -> DefectScores:
    """Judge the data set's defective parts, MOST_REAL of them in turn by kind; without any,
    synthetic defects.

    A defective image that cannot be read is told and left out: the training does not depend on it.

    Args:
        normal: validation parts to draw on, DRAWN_PARTS of them, evenly spread.
    """
    defective = [sample for sample in dataset.samples if sample.is_defective]
    real = _real_scores(deployed, scene, defective, tell)
    if real:
        return DefectScores(kind="real", groups={REAL: tuple(real)})
    return DefectScores(kind="synthetic", groups=_synthetic_scores(deployed, scene, normal))


def _real_scores(
    deployed: Deployed, scene: Scene, defective: Sequence[Sample], tell: Tell
) -> list[float]:
    scores = []
    chosen = in_turn(defective, lambda sample: sample.defect, MOST_REAL)
    for sample in progress(chosen, "judging the defective images"):
        try:
            feeds = scene.feeds_of(sample)
        except DataError as error:
            tell(f"{sample.name} is not counted among the defects: {error}")
        else:
            scores.append(_score(deployed, feeds))
    return scores


def _synthetic_scores(
    deployed: Deployed, scene: Scene, normal: Sequence[Sample]
) -> dict[str, tuple[float, ...]]:
    """Scores of synthetic defects of every strength, each on the same parts."""
    places = np.linspace(0, len(normal) - 1, min(DRAWN_PARTS, len(normal))).round().astype(int)
    chosen = [normal[place] for place in places]
    scores: dict[str, list[float]] = {name: [] for name in STRENGTHS}
    for seed, sample in enumerate(progress(chosen, "judging synthetic defects")):
        feeds = scene.feeds_of(sample)
        part = part_of(deployed, feeds)
        for name, strength in STRENGTHS.items():
            scores[name].append(_score(deployed, draw_defect(feeds, part, strength, seed).feeds))
    return {name: tuple(values) for name, values in scores.items()}


def _score(deployed: Deployed, feeds: Feeds) -> float:
    return float(deployed.run(feeds)["score"].reshape(-1)[0])
