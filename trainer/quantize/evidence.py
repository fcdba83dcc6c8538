"""The frames that a precision is measured on, and what they tell about it: thresholds, verdicts,
noise, maps, ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.proof.certificate import AccuracyChange, Verdicts
from edge.proof.compare import (
    Responses,
    fit_noise,
    furthest,
    image_auroc,
    left_out_unlike,
    spread_of,
    unlike,
)
from edge.proof.measures import Count, Noise
from edge.proof.threshold import Threshold, expected_rate, threshold_at
from trainer.metrics import pixel_curve

# false positive rate up to which overlap is integrated, as everywhere in the reports
PRO_LIMIT = 0.3

Feeds = Mapping[str, NDArray[Any]]
Source = Callable[[], Feeds]  # reads one frame's graph inputs, from memory or from disk
Kind = Literal["normal", "good", "real", "drawn", "near"]
"""normal: sets the thresholds. good: normal, and nothing was chosen on it. real: with a real
defect. drawn: with a synthetic one. near: with one that was faded until it lies near the threshold.
"""


@dataclass(frozen=True)
class Rule:
    """How a precision's threshold follows from its normal scores.

    rank, false_rejects, left_out: as in Threshold. parts: n. spread: s, half the distance between
    the 16th and 84th percentile of float32's scores of all n, raw units. threshold: float32's, raw
    units.
    """

    rank: int
    parts: int
    false_rejects: float
    left_out: int
    spread: float
    threshold: float

    def rejects(self, score: float) -> bool:
        """Whether float32's threshold rejects a score, compared as the device does it."""
        return bool(np.float32(score) > np.float32(self.threshold))


@dataclass(frozen=True, eq=False)
class EvidenceFrame:
    """One frame of the certificate.

    source: reads its graph inputs. truth: mask (H, W) bool, None where the defective pixels are
    not known. searched: whether the choice of a plan may look at it.
    """

    source: Source
    kind: Kind
    truth: NDArray[np.bool_] | None
    searched: bool = True


@dataclass(frozen=True, eq=False)
class Evidence:
    """The k frames of the certificate, the reference frames first.

    reference: float32's answers, of every frame. golden: how many are reference frames.

    Of more normal parts than are carried in a bundle, those that may be searched are the highest
    and some of the rest, whose order statistic of the rule's rank is that of all.
    """

    frames: Sequence[EvidenceFrame]
    reference: Responses
    golden: int
    rule: Rule

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        """(k,) Kind of each frame."""
        return np.array([frame.kind for frame in self.frames])

    @property
    def sources(self) -> list[Source]:
        """What reads the graph inputs of each frame."""
        return [frame.source for frame in self.frames]

    def rows(self, *kinds: Kind) -> NDArray[np.intp]:
        """Indices of the frames of these kinds."""
        return np.flatnonzero(np.isin(self.kinds, kinds))

    def for_search(self) -> Evidence:
        """The frames that may be looked at while a plan is chosen."""
        rows = [row for row, frame in enumerate(self.frames) if frame.searched]
        frames = [self.frames[row] for row in rows]
        return replace(self, frames=frames, reference=self.reference.take(rows))

    def threshold(self, candidate: Responses) -> Threshold:
        """The candidate's own, of its own normal scores.

        Raises: CalibrationError if one is not finite.
        """
        rule, scores = self.rule, candidate.scores[self.rows("normal")]
        return threshold_at(scores, rule.rank, rule.false_rejects, rule.parts, rule.left_out)

    def noise(self, candidate: Responses) -> Noise:
        """Of the candidate's normal scores against float32's."""
        rows = self.rows("normal")
        return fit_noise(
            self.reference.scores[rows],
            candidate.scores[rows],
            self.rule.threshold,
            self.rule.spread,
        )

    def verdicts(self, candidate: Responses, threshold: float) -> Verdicts:
        """Counts of what the candidate decides with this threshold, and of what it decides unlike
        float32.
        """
        rule, (f, q) = self.rule, (self.reference.scores, candidate.scores)
        changed = unlike(f, q, (rule.threshold, threshold), rule.spread)
        normal = self.rows("normal")
        changed[normal] = left_out_unlike(f[normal], q[normal], rule.rank, rule.spread)
        good, near = self.rows("good"), self.rows("near")
        plain = (
            self.rows("good", "real", "drawn")
            if len(good)
            else self.rows("normal", "real", "drawn")
        )
        rejected = q > np.float32(threshold)

        def missed(kind: Kind) -> Count:
            rows = self.rows(kind)
            return Count(count=int((~rejected[rows]).sum()), of=len(rows))

        counted = np.union1d(plain, near)
        only = np.zeros(len(changed), bool)
        only[counted] = changed[counted]
        return Verdicts(
            good=Count(count=int(rejected[good].sum()), of=len(good)) if len(good) else None,
            expected=expected_rate(rule.parts, rule.rank),
            real=missed("real"),
            drawn=missed("drawn"),
            unlike=Count(count=int(changed[plain].sum()), of=len(plain)),
            near=Count(count=int(changed[near].sum()), of=len(near)),
            furthest=furthest(f, only, rule.threshold, rule.spread),
        )

    def plain(self) -> NDArray[np.intp]:
        """Frames that maps, ranks and AUROC are compared on: all but those near the threshold,
        whose order among the highest normal parts any noise changes.
        """
        return np.flatnonzero(self.kinds != "near")

    def image_change(self, candidate: Responses) -> AccuracyChange:
        """Change of I-AUROC alone; null without frames of both kinds."""
        rows = self.plain()
        labels = np.isin(self.kinds[rows], ("real", "drawn"))
        first, second = (
            image_auroc(labels, answers.scores[rows]) for answers in (self.reference, candidate)
        )
        return AccuracyChange(
            i_auroc=None if first is None or second is None else 100 * (second - first)
        )

    def change(self, candidate: Responses) -> AccuracyChange:
        """Change of every measure, of pixels where at least one frame with a defect has a mask."""
        images = self.image_change(candidate)
        truths = (frame.truth for frame in self.frames)
        if not any(truth is not None and truth.any() for truth in truths):
            return images
        p_auroc, overlap = self._pixel_metrics(candidate)
        first_auroc, first_overlap = self.float32_pixels
        return AccuracyChange(
            i_auroc=images.i_auroc,
            p_auroc=100 * (p_auroc - first_auroc),
            aupro=100 * (overlap - first_overlap),
        )

    @cached_property
    def float32_pixels(self) -> tuple[float, float]:
        """P-AUROC and AUPRO of float32, 0..1."""
        return self._pixel_metrics(self.reference)

    def _pixel_metrics(self, answers: Responses) -> tuple[float, float]:
        truths = [frame.truth for frame in self.frames]
        curve = pixel_curve(list(answers.maps), truths)
        return curve.auroc(), curve.aupro(PRO_LIMIT)


def rule_of(threshold: Threshold, scores: NDArray[Any]) -> Rule:
    """The rule behind float32's threshold. scores: (n,) of all normal parts, float32's."""
    return Rule(
        threshold.rank,
        threshold.parts,
        threshold.false_rejects,
        threshold.left_out,
        spread_of(scores),
        threshold.value,
    )
