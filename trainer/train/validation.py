"""What the trained graph says of the normal validation parts, and of defects drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from trainer.synthetic.on_frames import draw_defect, part_of

DRAWN = 120  # synthetic defects that the score is chosen by
DRAWN_STRENGTH = 0.3  # of the strongest: plain ones are found by every score
FIRST_SEED = 30_000  # apart from those of other synthetic defects

Feeds = Mapping[str, NDArray[Any]]


def counted_parts(count: int, verb: str = "") -> str:
    """`1 normal validation part`, `20 normal validation parts`. verb: of one part and of several,
    as in `is are`; empty: none.
    """
    one, _, several = verb.partition(" ")
    words = ("part", one) if count == 1 else ("parts", several)
    return " ".join([str(count), "normal validation", *words]).strip()


@dataclass(frozen=True, eq=False)
class JudgedPart:
    """What the graph says of one validation part, as it is or with a defect drawn on it.

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
        return self.own if self.own is not None else self.detector_score(top_k) + self.beside

    def detector_score(self, top_k: float) -> float:
        """What the map alone gives for it."""
        height, width = self.map.shape
        mean = TopKMean(top_k, (height, width))
        batch = (torch.from_numpy(image)[None, None] for image in (self.map, self.foreground))
        return float(mean(*batch))


def judge_normal(deployed: Deployed, scene: Scene, samples: Sequence[Sample]) -> list[JudgedPart]:
    """Judge the normal validation parts.

    Raises: DataError for an image that shows no part.
    """
    shown = progress(samples, "judging the normal validation parts")
    return [_judged(deployed, scene.feeds_of(sample), sample.name) for sample in shown]


def judge_drawn(deployed: Deployed, scene: Scene, samples: Sequence[Sample]) -> list[JudgedPart]:
    """Judge DRAWN synthetic defects, from barely visible to DRAWN_STRENGTH, on the normal
    validation parts in turn.
    """
    drawn = []
    for number in progress(range(DRAWN), "judging synthetic defects for the score"):
        sample = samples[number % len(samples)]
        feeds = scene.feeds_of(sample)
        strength = DRAWN_STRENGTH * number / (DRAWN - 1)
        defect = draw_defect(feeds, part_of(deployed, feeds), strength, FIRST_SEED + number)
        drawn.append(_judged(deployed, defect.feeds, sample.name))
    return drawn


@torch.no_grad()
def _judged(deployed: Deployed, feeds: Feeds, name: str) -> JudgedPart:
    prepared = prepare(deployed.preprocess, feeds)
    if float(prepared.area) <= 0:
        raise DataError(
            f"no part stands above the background in {name}: check camera.json (unit,"
            " intrinsics, fixed)"
        )
    site = {
        spec.name: torch.from_numpy(np.full(spec.shape, spec.default, spec.dtype))
        for spec in deployed.site_inputs
    }
    masked, foreground, answer = deployed.detected(prepared, site)
    beside = sum(float(deployed.beside(judge, prepared)[1]) for judge in deployed.judges)
    return JudgedPart(
        own=None if answer.score is None else float(answer.score) + beside,
        map=masked[0, 0].numpy(),
        foreground=foreground[0, 0].numpy(),
        beside=beside,
        area=float(prepared.area),
        valid=float(prepared.valid),
        border=float(required(prepared.place)[0, 5]),
    )
