"""Which block of the graph runs in which precision: measured, block by block, on the frames of the
certificate.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.proof.certificate import LIMITS
from edge.proof.compare import TINY, MapComparison, Responses, compare_maps, fit_noise
from edge.schema import Precision
from trainer.quantize.convert import NodePrecision, Plan, converted
from trainer.quantize.evidence import Evidence
from trainer.quantize.session import responses_of
from trainer.quantize.view import MAC_OPERATORS, View, scope_of

log = logging.getLogger(__name__)

# the module that may leave float32; sensor bytes to height, masks and score never do
DETECTOR = "detector"
MOST_BLOCKS = 20  # the detector is cut into at most about as many blocks
# normal parts of the evidence for a block's own error: noise is a residual of a line
QUICK_NORMAL = 12
QUICK_NEAR = 4  # ... and defects near the threshold, where noise decides
QUICK_OTHERS = 4  # ... and other defects
ENOUGH_NOISE = 0.10  # s: below this nothing more is given up for less noise
HALVED = 0.5  # a block goes if that leaves at most this share of the noise
BEARABLE = 1.0  # sum of costs (1 is a limit) at which it is worth trying the whole certificate


@dataclass(frozen=True)
class Block:
    """Nodes that change precision together: those of one module."""

    name: str
    nodes: tuple[str, ...]
    macs: int


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
            (("normal",), QUICK_NORMAL), (("near",), QUICK_NEAR), (("real", "drawn"), QUICK_OTHERS),
        )
    ]  # fmt: skip
    return sorted({row for rows in chosen for row in rows})


def _evenly(evidence: Evidence, kinds: tuple[Any, ...], count: int) -> list[int]:
    rows = evidence.rows(*kinds)
    if len(rows) == 0:
        return []
    rows = rows[np.argsort(evidence.reference.scores[rows], kind="stable")]
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(row) for row in rows[places]]


def low_precision_nodes(view: View) -> list[str]:
    """Nodes that may become float16: the detector's with a float result."""
    nodes = (node for node in view.nodes if scope_of(node).split(".")[0] == DETECTOR)
    return [node.name for node in nodes if any(view.is_float(name) for name in node.output)]


def int8_candidates(view: View, allowed: Collection[str]) -> list[str]:
    """Nodes that may become INT8: products of an activation and a constant weight, of those in
    `allowed`.
    """
    chosen = set(allowed)
    return [
        node.name
        for node in view.nodes
        if node.name in chosen and node.op_type in MAC_OPERATORS and node.input[1] in view.constants
        and node.input[0] not in view.constants
    ]  # fmt: skip


def blocks_of(view: View, names: Collection[str], most: int = MOST_BLOCKS) -> list[Block]:
    """Cut nodes into about `most` blocks by module: the block with the most multiply-accumulates is
    split first.
    """
    chosen = set(names)
    nodes = [node for node in view.nodes if node.name in chosen]
    groups: dict[tuple[str, ...], list[Any]] = {(): nodes} if nodes else {}
    final: set[tuple[str, ...]] = set()
    while len(groups) < most and (open_ := [key for key in groups if key not in final]):
        largest = max(open_, key=lambda key: sum(view.macs(node) for node in groups[key]))
        parts = defaultdict(list)
        for node in groups[largest]:
            parts[tuple(scope_of(node).split(".")[: len(largest) + 1])].append(node)
        if set(parts) == {largest}:
            final.add(largest)
            continue
        del groups[largest]
        if largest in parts:
            final.add(largest)
        groups.update(parts)
    return [
        Block(
            ".".join(key) or "graph",
            tuple(node.name for node in members),
            sum(view.macs(node) for node in members),
        )
        for key, members in groups.items()
    ]


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


def costs_of(
    bench: Bench,
    blocks: Sequence[Block],
    precision: Precision,
    plan_with: Callable[[Sequence[Block]], dict[str, Any]],
) -> dict[str, float]:
    """What each block costs when it alone runs in `precision`."""
    costs = {}
    for block in blocks:
        look = bench.quick(plan_with([block]))
        costs[block.name] = cost_of(look, precision)
        log.debug(
            "%s in %s alone: map error %.4f %%, noise %.3f s, rank correlation %.4f lower",
            block.name,
            precision,
            100 * look.measured.mean_map_error,
            look.noise,
            look.lost_rank,
        )
    return costs


def assigned(
    bench: Bench,
    blocks: Sequence[Block],
    precision: Precision,
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]],
    refusals: Callable[[Plan], tuple[str, ...]],
    hopeless: Callable[[Plan], bool],
) -> tuple[dict[str, NodePrecision], tuple[str, ...]]:
    """Give as many blocks as possible the precision: all, else without those that cost most for
    what they compute.

    A block without which the rest would be hopeless keeps it. Where that leaves no plan, those go
    first that cost most whatever they compute: many small blocks may otherwise use up what could
    have paid for a large one. Where the limits hold, a block more goes as long as that halves the
    noise of the scores.

    How many have to go is guessed from the sum of the costs, then raised by 1, 2, 4, ... while the
    limits do not hold.

    Args:
        plan_with: the plan in which the given blocks have the precision and all others the next
            higher one.
        refusals: what of the certificate does not hold for a plan, on every frame.
        hopeless: whether a plan leaves too little in the precision to be called by its name.
    Returns: the plan, and what still does not hold (empty: found).
    """
    plan, kept = plan_with(blocks), list(blocks)
    reasons = refusals(plan)
    if not reasons and bench.noise(plan) <= ENOUGH_NOISE:
        return plan, ()
    if reasons:
        log.info("%s everywhere: %s", precision, reasons[0])
    costs = costs_of(bench, blocks, precision, plan_with)
    dearest = {block.name: costs[block.name] / max(block.macs, 1) for block in blocks}
    for price in (dearest, costs) if reasons else ():
        order = sorted(blocks, key=lambda block: price[block.name], reverse=True)
        plan, higher, reasons = _without_the_first(order, costs, plan_with, refusals, hopeless)
        kept = [block for block in blocks if block not in higher]
        if not reasons:
            break
    if not reasons:
        plan, kept = _with_less_noise(bench, kept, costs, plan_with, refusals, hopeless)
    for block in [block for block in blocks if block not in kept]:
        log.info("%s stays higher than %s", block.name, precision)
    return plan, reasons


def _with_less_noise(
    bench: Bench,
    kept: list[Block],
    costs: Mapping[str, float],
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]],
    refusals: Callable[[Plan], tuple[str, ...]],
    hopeless: Callable[[Plan], bool],
) -> tuple[dict[str, NodePrecision], list[Block]]:
    """The plan without each block whose going halves the noise, the one that costs most first."""
    plan = plan_with(kept)
    noise = bench.noise(plan)
    for block in sorted(kept, key=lambda block: costs[block.name], reverse=True):
        if noise <= ENOUGH_NOISE:
            break
        fewer = [other for other in kept if other is not block]
        candidate = plan_with(fewer)
        if hopeless(candidate):
            continue
        less = bench.noise(candidate)
        if less > HALVED * noise or refusals(candidate):
            break
        log.info("%s goes too: noise %.2f s instead of %.2f s", block.name, less, noise)
        plan, kept, noise = candidate, fewer, less
    return plan, kept


def _without_the_first(
    order: Sequence[Block],
    costs: Mapping[str, float],
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]],
    refusals: Callable[[Plan], tuple[str, ...]],
    hopeless: Callable[[Plan], bool],
) -> tuple[dict[str, NodePrecision], list[Block], tuple[str, ...]]:
    """The plan without as few of the first blocks as the limits ask for, those blocks, and what
    does not hold.
    """
    kept, plans, higher = list(order), [plan_with(order)], list[Block]()
    left = [sum(costs.values())]
    for block in order:
        fewer = [other for other in kept if other is not block]
        candidate = plan_with(fewer)
        if hopeless(candidate):  # most of the work is this block's: it stays, a cheaper one may go
            continue
        kept = fewer
        plans.append(candidate)
        higher.append(block)
        left.append(sum(costs[other.name] for other in kept))
    most = len(higher)
    dropped = max(1, next((index for index, cost in enumerate(left) if cost <= BEARABLE), 1))
    step = 1
    while True:
        dropped = min(dropped, most)
        reasons = refusals(plans[dropped])
        if not reasons or dropped == most:
            break
        log.info("without %d blocks: %s", dropped, reasons[0])
        dropped, step = dropped + step, 2 * step
    return plans[dropped], higher[:dropped], reasons
