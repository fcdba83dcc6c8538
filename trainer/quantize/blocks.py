"""Which nodes of a graph may leave float32, and in which blocks they do: those of one module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from trainer.quantize.view import MAC_OPERATORS, View, scope_of

# the module that may leave float32; sensor bytes to height, masks and score never do
DETECTOR = "detector"
# a module of the detector that never does: what a station sets is in float32, and so is what it
# measures for that (trainer.layers.adaptation)
ADAPTATION = "adaptation"
MOST_BLOCKS = 20  # the detector is cut into at most about as many blocks


@dataclass(frozen=True)
class Block:
    """Nodes that change precision together: those of one module."""

    name: str
    nodes: tuple[str, ...]
    macs: int


def low_precision_nodes(view: View) -> list[str]:
    """Nodes that may become float16: the detector's with a float result, without those of its
    adaptation.
    """
    nodes = (node for node in view.nodes if _may_leave_float32(scope_of(node).split(".")))
    return [node.name for node in nodes if any(view.is_float(name) for name in node.output)]


def _may_leave_float32(modules: list[str]) -> bool:
    """Whether a node may that lies in these modules, from the outermost in."""
    return modules[0] == DETECTOR and ADAPTATION not in modules


def int8_candidates(view: View, allowed: Collection[str]) -> list[str]:
    """Nodes that may become INT8: products of an activation and a constant weight, of those in
    `allowed`.
    """
    chosen = set(allowed)
    return [
        node.name
        for node in view.nodes
        if node.name in chosen
        and node.op_type in MAC_OPERATORS
        and node.input[1] in view.constants
        and node.input[0] not in view.constants
    ]


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
