"""Which part of the graph runs in which precision: measured, block by block, on the frames of the certificate."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.engine.parity import FLIP_BAND, LIMITS, Comparison, Responses, compare
from trainer.quantise.convert import NodePrecision, converted
from trainer.quantise.session import responses_of
from trainer.quantise.view import MAC_OPERATORS, View, scope_of

log = logging.getLogger(__name__)

DETECTOR = "detector"      # the module that may leave float32; sensor bytes to height, masks and score never do
MOST_BLOCKS = 20           # the detector is cut into at most about as many blocks
QUICK_FRAMES = 8           # of the evidence, for a block's own error
BEARABLE = 1.0             # sum of costs (1 is a limit) at which it is worth trying the whole certificate


@dataclass(frozen=True)
class Block:
    """Nodes that change precision together: those of one module."""

    name: str
    nodes: tuple[str, ...]
    macs: int


@dataclass(frozen=True)
class QuickLook:
    """A plan on a few frames. lost_rank: what the rank correlation over all frames would lose, see `lost_rank`."""

    measured: Comparison
    lost_rank: float


@dataclass(frozen=True, eq=False)
class Bench:
    """Frames with float32's answers, and the arithmetic that runs a candidate on them."""

    view: View
    feeds: Sequence[Mapping[str, NDArray[Any]]]
    reference: Responses
    threshold: float
    scales: Mapping[str, float]
    known: dict[frozenset[tuple[str, NodePrecision]], Responses] = field(default_factory=dict, repr=False)

    def responses(self, plan: Mapping[str, NodePrecision]) -> Responses:
        """The plan's answers for every frame; computed once."""
        key = frozenset(plan.items())
        if key not in self.known:
            self.known[key] = responses_of(converted(self.view, plan, self.scales, emulate=True), self.feeds)
        return self.known[key]

    def quick(self, plan: Mapping[str, NodePrecision]) -> QuickLook:
        """The plan on a few frames, evenly chosen."""
        step = max(1, len(self.feeds) // QUICK_FRAMES)
        rows = list(range(0, len(self.feeds), step))
        model = converted(self.view, plan, self.scales, emulate=True)
        candidate = responses_of(model, [self.feeds[row] for row in rows])
        measured = compare(self.reference.take(rows), candidate, self.threshold, self.reference.spans)
        return QuickLook(measured, lost_rank(self.reference.scores, self.reference.scores[rows], candidate.scores))


def low_precision_nodes(view: View) -> list[str]:
    """Nodes that may become float16: the detector's with a float result."""
    nodes = (node for node in view.nodes if scope_of(node).split(".")[0] == DETECTOR)
    return [node.name for node in nodes if any(view.is_float(name) for name in node.output)]


def int8_candidates(view: View, allowed: Collection[str]) -> list[str]:
    """Nodes that may become INT8: products of an activation and a constant weight, of those in `allowed`."""
    chosen = set(allowed)
    return [
        node.name
        for node in view.nodes
        if node.name in chosen and node.op_type in MAC_OPERATORS and node.input[1] in view.constants
        and node.input[0] not in view.constants
    ]  # fmt: skip


def blocks_of(view: View, names: Collection[str], most: int = MOST_BLOCKS) -> list[Block]:
    """Cut nodes into about `most` blocks by module: the block with the most multiply-accumulates is split first."""
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
        Block(".".join(key) or "graph", tuple(node.name for node in members), sum(view.macs(node) for node in members))
        for key, members in groups.items()
    ]


def lost_rank(population: NDArray[Any], reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    """Expected loss of Spearman's correlation among a population of scores, from the few that were computed.

    The correlation is 1 - 6 mean(d^2) for ranks in 0..1. A rank among a few scores is too coarse to tell blocks apart;
    so both scores of a frame are ranked among the whole population, between two of which ranks are interpolated.
    A strong defect's score is hundreds of times a normal one's: an error that is nothing beside it can reorder
    every normal part, and only this figure shows it.

    Args:
        population: (n,) float32's scores of all frames. reference, candidate: (m,) float32's and the plan's of a few.
    """
    ordered = np.sort(np.asarray(population, np.float64))
    places = (np.arange(len(ordered)) + 0.5) / len(ordered)
    moved = np.interp(candidate, ordered, places) - np.interp(reference, ordered, places)
    return float(6 * np.mean(moved * moved))


def cost_of(look: QuickLook, precision: Precision) -> float:
    """One figure for an error, of second order, so that those of blocks add up.

    1 is a mean map error at its limit, a score error as wide as the band in which verdicts may flip, or a loss of rank
    correlation at its limit.
    """
    measured, limits = look.measured, LIMITS[precision]
    if not measured.finite:
        return float("inf")
    first_order = max(measured.mean_map_error / limits.mean_map_error, measured.largest_score_error / FLIP_BAND)
    return max(first_order**2, look.lost_rank / (1 - limits.rank_correlation))


def costs_of(
    bench: Bench, blocks: Sequence[Block], precision: Precision, plan_with: Callable[[Sequence[Block]], dict[str, Any]]
) -> dict[str, float]:
    """What each block costs when it alone runs in `precision`."""
    costs = {}
    for block in blocks:
        look = bench.quick(plan_with([block]))
        costs[block.name] = cost_of(look, precision)
        log.debug("%s in %s alone: map error %.4f %%, score error %.3f %%, rank correlation %.4f lower", block.name,
                  precision, 100 * look.measured.mean_map_error, 100 * look.measured.largest_score_error,
                  look.lost_rank)  # fmt: skip
    return costs


def assigned(
    bench: Bench,
    blocks: Sequence[Block],
    precision: Precision,
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]],
    refusals: Callable[[Mapping[str, NodePrecision]], tuple[str, ...]],
    hopeless: Callable[[Mapping[str, NodePrecision]], bool],
) -> tuple[dict[str, NodePrecision], tuple[str, ...]]:
    """Give as many blocks as possible the precision: all, else without those that cost most for what they compute.

    A block without which the rest would be hopeless keeps it. Where that leaves no plan, those go first that cost most
    whatever they compute: many small blocks may otherwise use up what could have paid for a large one.

    How many have to go is guessed from the sum of the costs, then raised by 1, 2, 4, ... while the limits do not hold.

    Args:
        plan_with: the plan in which the given blocks have the precision and all others the next higher one.
        refusals: what of the certificate does not hold for a plan, on every frame.
        hopeless: whether a plan leaves too little in the precision to be called by its name.
    Returns: the plan, and what still does not hold (empty: found).
    """
    plan = plan_with(blocks)
    reasons = refusals(plan)
    if not reasons:
        return plan, ()
    log.info("%s everywhere: %s", precision, reasons[0])
    costs = costs_of(bench, blocks, precision, plan_with)
    dearest = {block.name: costs[block.name] / max(block.macs, 1) for block in blocks}
    for price in (dearest, costs):
        order = sorted(blocks, key=lambda block: price[block.name], reverse=True)
        plan, higher, reasons = _without_the_first(order, costs, plan_with, refusals, hopeless)
        if not reasons:
            break
    for block in higher:
        log.info("%s stays higher than %s", block.name, precision)
    return plan, reasons


def _without_the_first(
    order: Sequence[Block],
    costs: Mapping[str, float],
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]],
    refusals: Callable[[Mapping[str, NodePrecision]], tuple[str, ...]],
    hopeless: Callable[[Mapping[str, NodePrecision]], bool],
) -> tuple[dict[str, NodePrecision], list[Block], tuple[str, ...]]:
    """The plan without as few of the first blocks as the limits ask for, those blocks, and what does not hold."""
    kept, plans, higher = list(order), [plan_with(order)], list[Block]()
    left = [sum(costs.values())]
    for block in order:
        fewer = [other for other in kept if other is not block]
        candidate = plan_with(fewer)
        if hopeless(candidate):  # too much of the work is this block's: it has to stay, a cheaper one may go
            continue
        kept = fewer
        plans.append(candidate)
        higher.append(block)
        left.append(sum(costs[other.name] for other in kept))
    most = len(higher)
    dropped, step = max(1, next((index for index, cost in enumerate(left) if cost <= BEARABLE), 1)), 1
    while True:
        dropped = min(dropped, most)
        reasons = refusals(plans[dropped])
        if not reasons or dropped == most:
            break
        log.info("without %d blocks: %s", dropped, reasons[0])
        dropped, step = dropped + step, 2 * step
    return plans[dropped], higher[:dropped], reasons
