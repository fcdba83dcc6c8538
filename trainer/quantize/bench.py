"""What a plan costs: its answers on the frames of the evidence, all of them or a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.proof.certificate import LIMITS
from edge.proof.compare import TINY, Responses, compare_maps, fit_noise
from edge.proof.measures import MapComparison
from edge.schema import Precision
from trainer.quantize.convert import NodePrecision, Plan, converted
from trainer.quantize.evidence import Evidence
from trainer.quantize.session import responses_of
from trainer.quantize.view import View

# normal parts of the evidence for a block's own error: noise is a residual of a line
QUICK_NORMAL = 12
QUICK_NEAR = 4  # ... and defects near the threshold, where noise decides
QUICK_OTHERS = 4  # ... and other defects


@dataclass(frozen=True)
class QuickLook:
    """A plan on a few frames.

    noise: of scores in units of s, see Bench.quick. lost_rank: what the rank correlation over all
    frames would lose, see `lost_rank`.
    """

    measured: MapComparison
    noise: float
    lost_rank: float


@dataclass(frozen=True, eq=False)
class Bench:
    """Frames with float32's answers, and the arithmetic that runs a plan on them.

    quick_rows: the few frames of a quick look. scales: of activations, for INT8. tried: called
    after every plan that was run. known: answers of plans that were run on every frame.
    """

    view: View
    evidence: Evidence
    quick_rows: list[int]
    scales: Mapping[str, float]
    tried: Callable[[], None] = lambda: None
    known: dict[frozenset[tuple[str, NodePrecision]], Responses] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def on(cls, view: View, evidence: Evidence, tried: Callable[[], None] = lambda: None) -> Bench:
        """A bench without scales yet."""
        return cls(view, evidence, quick_rows(evidence), {}, tried)

    def responses(self, plan: Plan) -> Responses:
        """The plan's answers for every frame; computed once."""
        key = frozenset(plan.items())
        if key not in self.known:
            model = converted(self.view, plan, self.scales, emulate=True)
            self.known[key] = responses_of(model, self.evidence.sources)
            self.tried()
        return self.known[key]

    def noise(self, plan: Plan) -> float:
        """Of the plan's normal scores, units of s; infinite if they are not finite."""
        answers = self.responses(plan)
        return (
            self.evidence.noise(answers).rms if np.isfinite(answers.scores).all() else float("inf")
        )

    def quick(self, plan: Plan) -> QuickLook:
        """The plan on a few frames.

        Noise is what is left of the scores when the line that normal scores lie on is taken off,
        over normal parts and defects near the threshold: a shift alone changes no verdict, since
        the threshold shifts with it.
        """
        evidence, rows = self.evidence, self.quick_rows
        model = converted(self.view, plan, self.scales, emulate=True)
        candidate = responses_of(model, [evidence.frames[row].source for row in rows])
        self.tried()
        reference = evidence.reference.take(rows)
        measured = compare_maps(reference, candidate, evidence.reference.map_span)
        if not measured.finite:
            return QuickLook(measured, float("inf"), 0.0)
        kinds, rule = evidence.kinds[rows], evidence.rule
        f, q = reference.scores.astype(np.float64), candidate.scores.astype(np.float64)
        normal, decided = kinds == "normal", np.isin(kinds, ("normal", "near"))
        line = fit_noise(f[normal], q[normal], rule.threshold, rule.spread)
        residuals = (q - line.slope * f - line.offset)[decided] / max(
            abs(line.slope) * rule.spread, TINY
        )
        noise = float(np.sqrt(np.mean(residuals * residuals)))
        return QuickLook(
            measured,
            noise,
            lost_rank(evidence.reference.scores, reference.scores, candidate.scores),
        )


def quick_rows(evidence: Evidence) -> list[int]:
    """Few frames that stand for all: normal parts and defects evenly by score."""
    chosen = [
        _evenly(evidence, kinds, count)
        for kinds, count in (
            (("normal",), QUICK_NORMAL),
            (("near",), QUICK_NEAR),
            (("real", "drawn"), QUICK_OTHERS),
        )
    ]
    return sorted({row for rows in chosen for row in rows})


def _evenly(evidence: Evidence, kinds: tuple[Any, ...], count: int) -> list[int]:
    rows = evidence.rows(*kinds)
    if len(rows) == 0:
        return []
    rows = rows[np.argsort(evidence.reference.scores[rows], kind="stable")]
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(row) for row in rows[places]]


def lost_rank(population: NDArray[Any], reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    """Expected loss of Spearman's correlation among a population of scores, from the few that were
    computed.

    The correlation is 1 - 6 mean(d^2) for ranks in 0..1. A rank among a few scores is too coarse to
    tell blocks apart; so both scores of a frame are ranked among the whole population, between two
    of which ranks are interpolated. A strong defect's score is hundreds of times a normal one's: an
    error that is nothing beside it can reorder every normal part, and only this measure shows it.

    Args:
        population: (n,) float32's scores of all frames. reference, candidate: (m,) float32's and
            the plan's of a few.
    """
    ordered = np.sort(np.asarray(population, np.float64))
    places = (np.arange(len(ordered)) + 0.5) / len(ordered)
    moved = np.interp(candidate, ordered, places) - np.interp(reference, ordered, places)
    return float(6 * np.mean(moved * moved))


def cost_of(look: QuickLook, precision: Precision) -> float:
    """One number for an error, of second order, so that those of blocks add up.

    1 is a mean map error or a noise of the scores at its limit, or a loss of rank correlation at
    its limit.
    """
    measured, limits = look.measured, LIMITS[precision]
    if not measured.finite:
        return float("inf")
    first_order = max(measured.mean_map_error / limits.mean_map_error, look.noise / limits.noise)
    return max(first_order**2, look.lost_rank / (1 - limits.rank_correlation))
