"""Frames with a synthetic defect on a normal part: of every strength, and near the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.choose import spread
from trainer.export.shown import Answer, Mask, Shown, answered
from trainer.graph.deploy import Deployed
from trainer.progress import progress
from trainer.quantize.evidence import Kind, Rule
from trainer.synthetic.on_frames import draw_defect, part_of

# about as many defects are drawn: of fewer, one swapped pair would exceed an I-AUROC limit
DRAWN = 48
MOST_DRAWN_ON = 40  # normal parts that they are drawn on
SEEN = 0.05  # s: by this much a synthetic defect has to change its part's score
NEAR = 12  # defects near the threshold
NEAR_WITHIN = 1.5  # s: this near, noise may well change the verdict
NEAR_STRENGTHS = (0.1, 0.4, 1.0)  # of the defect that is faded: the first that is rejected
NEAR_STEPS = 6  # halvings of what is left of it
FIRST_NEAR, FIRST_STRONG = 20_000, 10_000  # seeds, apart from those of the first defects


class SyntheticDefects:
    """Draws defects on the parts that the graph itself sees, and lets float32 answer them."""

    def __init__(
        self, deployed: Deployed, answer: Answer, normal: Sequence[Shown], rule: Rule
    ) -> None:
        """Draw nothing yet.

        Args:
            deployed: tells where the part is in a frame. answer: the float32 graph.
            normal: answered normal parts to draw on, in memory. rule: threshold and spread.
        """
        self._deployed, self._answer = deployed, answer
        self._normal, self._rule = normal, rule
        self._part_in: dict[str, Mask] = {}  # name of a frame -> (H, W) bool

    def of_every_strength(self) -> list[Shown]:
        """Defects from barely there to plain, those that float32 itself answers.

        The others tie with the part they were drawn on, to the last bit: any rounding would order
        them anew, and say nothing about the precision.
        """
        on = spread(self._normal, MOST_DRAWN_ON)
        sources = [frame for frame in on for _ in range(max(1, round(DRAWN / len(on))))]
        strengths = [index / max(1, len(sources) - 1) for index in range(len(sources))]
        drawn = (
            self._drawn(source, strength, seed)
            for seed, (source, strength) in enumerate(zip(sources, strengths, strict=True))
        )
        shown = progress(drawn, "judging synthetic defects", total=len(sources))
        least = SEEN * self._rule.spread
        return [
            frame
            for frame, source in zip(answered(self._answer, shown), sources, strict=True)
            if abs(frame.value - source.value) > least
        ]

    def near_threshold(self) -> list[Shown]:
        """Defects that are faded until they lie near the threshold, each on another part that lies
        below it.
        """
        within = NEAR_WITHIN * self._rule.spread
        below = [one for one in self._normal if one.value < self._rule.threshold - within]
        chosen = progress(spread(below, NEAR), "fading synthetic defects to the threshold")
        found = [self._faded_to_threshold(one, seed) for seed, one in enumerate(chosen, FIRST_NEAR)]
        return [one for one in found if one is not None and self._distance(one) <= within]

    def strong(self) -> list[Shown]:
        """Plain defects, two on every normal part, answered."""
        sources = enumerate([*self._normal, *self._normal], FIRST_STRONG)
        return answered(self._answer, (self._drawn(source, 1.0, seed) for seed, source in sources))

    def _faded_to_threshold(self, source: Shown, seed: int) -> Shown | None:
        """The nearest of a bisection between the normal part and a defect on it that is rejected;
        None where none is.
        """
        strengths = (self._drawn(source, strength, seed, "near") for strength in NEAR_STRENGTHS)
        drawn = answered(self._answer, strengths)
        whole = next((frame for frame in drawn if self._rule.rejects(frame.value)), None)
        if whole is None:
            return None
        nearest, low, high = whole, 0.0, 1.0
        for _ in range(NEAR_STEPS):
            share = (low + high) / 2
            (frame,) = answered(self._answer, [_faded(source, whole, share)])
            nearest = min(nearest, frame, key=self._distance)
            low, high = (low, share) if self._rule.rejects(frame.value) else (share, high)
        return nearest

    def _distance(self, frame: Shown) -> float:
        return abs(frame.value - self._rule.threshold)

    def _drawn(self, source: Shown, strength: float, seed: int, kind: Kind = "drawn") -> Shown:
        """A defect on a normal part; strength: 0..1.

        Its name tells the seed, so that no two are the same.
        """
        feeds = source.source()
        if source.name not in self._part_in:
            self._part_in[source.name] = part_of(self._deployed, feeds)
        defect = draw_defect(feeds, self._part_in[source.name], strength, seed)
        name = f"{source.name} + {defect.kind} {seed}"
        return Shown(name, lambda: defect.feeds, kind, defect.mask)


def _faded(source: Shown, whole: Shown, share: float) -> Shown:
    """A synthetic defect of which `share` is left: every pixel and depth count lies that far from
    the normal part's.
    """
    clean, drawn = source.source(), whole.source()
    color = _mixed(clean["color"], drawn["color"], share)
    mixed = {**drawn, "color": color.astype(np.uint8)}
    if "depth" in clean:
        counts = _mixed(clean["depth"].view("<u2"), drawn["depth"].view("<u2"), share)
        mixed["depth"] = counts.astype("<u2").view(np.uint8)
    return replace(whole, source=lambda: mixed)


def _mixed(first: NDArray[Any], second: NDArray[Any], share: float) -> NDArray[np.float64]:
    return np.asarray(np.rint(first + share * (second.astype(np.float64) - first)), np.float64)
