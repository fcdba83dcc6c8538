"""Which block of the graph runs in which precision: measured, block by block, on the frames of the
certificate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge.schema import Precision
from trainer.quantize.bench import Bench, cost_of
from trainer.quantize.blocks import Block
from trainer.quantize.convert import NodePrecision, Plan

log = logging.getLogger(__name__)

ENOUGH_NOISE = 0.10  # s: below this nothing more is given up for less noise
HALVED = 0.5  # a block goes if that leaves at most this share of the noise
BEARABLE = 1.0  # sum of costs (1 is a limit) at which it is worth trying the whole certificate


@dataclass(frozen=True, eq=False)
class Task:
    """What is searched for: a plan in which as many blocks as possible have a precision.

    plan_with: the plan in which the given blocks have the precision and all others the next higher
    one. refusals: which limits of the certificate a plan breaks, on every frame. hopeless: whether
    a plan leaves too little in the precision to be called by its name.
    """

    bench: Bench
    precision: Precision
    plan_with: Callable[[Sequence[Block]], dict[str, NodePrecision]]
    refusals: Callable[[Plan], tuple[str, ...]]
    hopeless: Callable[[Plan], bool]


def assigned(
    task: Task, blocks: Sequence[Block]
) -> tuple[dict[str, NodePrecision], tuple[str, ...]]:
    """Give as many blocks as possible the precision: all, else without those that cost most for
    what they compute.

    A block without which the rest would be hopeless keeps it. Where that leaves no plan, those go
    first that cost most whatever they compute: many small blocks may otherwise use up what could
    have paid for a large one. Where the limits hold, a block more goes as long as that halves the
    noise of the scores.

    How many have to go is guessed from the sum of the costs, then raised by 1, 2, 4, ... while the
    limits do not hold.

    Returns: the plan, and which limits it breaks (empty: found).
    """
    plan, kept = task.plan_with(blocks), list(blocks)
    reasons = task.refusals(plan)
    if not reasons and task.bench.noise(plan) <= ENOUGH_NOISE:
        return plan, ()
    if reasons:
        log.info("%s everywhere: %s", task.precision, reasons[0])
    costs = costs_of(task, blocks)
    dearest = {block.name: costs[block.name] / max(block.macs, 1) for block in blocks}
    for price in (dearest, costs) if reasons else ():
        order = sorted(blocks, key=lambda block: price[block.name], reverse=True)
        plan, higher, reasons = _without_the_first(task, order, costs)
        kept = [block for block in blocks if block not in higher]
        if not reasons:
            break
    if not reasons:
        plan, kept = _with_less_noise(task, kept, costs)
    for block in [block for block in blocks if block not in kept]:
        log.info("%s stays higher than %s", block.name, task.precision)
    return plan, reasons


def costs_of(task: Task, blocks: Sequence[Block]) -> dict[str, float]:
    """What each block costs when it alone has the precision."""
    costs = {}
    for block in blocks:
        look = task.bench.quick(task.plan_with([block]))
        costs[block.name] = cost_of(look, task.precision)
        log.debug(
            "%s in %s alone: map error %.4f %%, noise %.3f s, rank correlation %.4f lower",
            block.name,
            task.precision,
            100 * look.measured.mean_map_error,
            look.noise,
            look.lost_rank,
        )
    return costs


def _with_less_noise(
    task: Task, kept: list[Block], costs: Mapping[str, float]
) -> tuple[dict[str, NodePrecision], list[Block]]:
    """The plan without each block whose going halves the noise, the one that costs most first."""
    plan = task.plan_with(kept)
    noise = task.bench.noise(plan)
    for block in sorted(kept, key=lambda block: costs[block.name], reverse=True):
        if noise <= ENOUGH_NOISE:
            break
        fewer = [other for other in kept if other is not block]
        candidate = task.plan_with(fewer)
        if task.hopeless(candidate):
            continue
        less = task.bench.noise(candidate)
        if less > HALVED * noise or task.refusals(candidate):
            break
        log.info("%s goes too: noise %.2f s instead of %.2f s", block.name, less, noise)
        plan, kept, noise = candidate, fewer, less
    return plan, kept


def _without_the_first(
    task: Task, order: Sequence[Block], costs: Mapping[str, float]
) -> tuple[dict[str, NodePrecision], list[Block], tuple[str, ...]]:
    """The plan without as few of the first blocks as the limits ask for, those blocks, and which
    limits it breaks.
    """
    kept, plans, higher = list(order), [task.plan_with(order)], list[Block]()
    left = [sum(costs.values())]
    for block in order:
        fewer = [other for other in kept if other is not block]
        candidate = task.plan_with(fewer)
        if task.hopeless(candidate):  # most of the work is this block's: a cheaper one may go
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
        reasons = task.refusals(plans[dropped])
        if not reasons or dropped == most:
            break
        log.info("without %d blocks: %s", dropped, reasons[0])
        dropped, step = dropped + step, 2 * step
    return plans[dropped], higher[:dropped], reasons
