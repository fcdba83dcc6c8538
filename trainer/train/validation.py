"""What the trained graph says of the normal validation parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.sample import Sample
from trainer.data.normal import prepare
from trainer.data.scene import Scene
from trainer.graph.deploy import Deployed, TopKMean
from trainer.layers.typed import required
from trainer.progress import progress


def counted_parts(count: int, verb: str = "") -> str:
    """`1 normal validation part`, `20 normal validation parts`. verb: of one part and of several,
    as in `is are`; empty: none.
    """
    one, _, several = verb.partition(" ")
    words = ("part", one) if count == 1 else ("parts", several)
    return " ".join([str(count), "normal validation", *words]).strip()


@dataclass(frozen=True, eq=False)
class NormalPart:
    """What the graph says of one normal validation part.

    own: the score, of a system that gives one itself. map: (h, w) float32, the detector's own, raw
    units, in the pose that it sees. foreground: (h, w) float32, 0 or 1, likewise. beside: what the
    outline and the heights add to the score. area, valid, border: shares, as in the graph's
    outputs.
    """

    own: float | None
    map: NDArray[np.float32]
    foreground: NDArray[np.float32]
    beside: float
    area: float
    valid: float
    border: float

    def score(self, top_k: float) -> float:
        """The graph's score, raw units, with the mean over this share of the foreground."""
        if self.own is not None:
            return self.own
        height, width = self.map.shape
        mean = TopKMean(top_k, (height, width))
        batch = (torch.from_numpy(image)[None, None] for image in (self.map, self.foreground))
        return float(mean(*batch)) + self.beside


def judge_normal(deployed: Deployed, scene: Scene, samples: Sequence[Sample]) -> list[NormalPart]:
    """Judge the normal validation parts.

    Raises: DataError for an image that shows no part.
    """
    shown = progress(samples, "judging the normal validation parts")
    return [_judged(deployed, scene, sample) for sample in shown]


@torch.no_grad()
def _judged(deployed: Deployed, scene: Scene, sample: Sample) -> NormalPart:
    prepared = prepare(deployed.preprocess, scene.feeds_of(sample))
    if float(prepared.area) <= 0:
        raise DataError(
            f"no part stands above the background in {sample.name}: check camera.json (unit,"
            " intrinsics, fixed)"
        )
    site = {
        spec.name: torch.from_numpy(np.full(spec.shape, spec.default, spec.dtype))
        for spec in deployed.site_inputs
    }
    masked, foreground, answer = deployed.detected(prepared, site)
    beside = sum(float(deployed.beside(judge, prepared)[1]) for judge in deployed.judges)
    return NormalPart(
        own=None if answer.score is None else float(answer.score) + beside,
        map=masked[0, 0].numpy(),
        foreground=foreground[0, 0].numpy(),
        beside=beside,
        area=float(prepared.area),
        valid=float(prepared.valid),
        border=float(required(prepared.place)[0, 5]),
    )
