"""A few of many: evenly over a list, or one of each kind in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items (at least 2), evenly over the list."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def in_turn(items: Iterable[Item], kind: Callable[[Item], str], count: int) -> list[Item]:
    """At most `count` of the items, one of each kind in turn."""
    kinds: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        kinds[kind(item)].append(item)
    rounds = max((len(members) for members in kinds.values()), default=0)
    return [
        members[index]
        for index in range(rounds)
        for members in kinds.values()
        if index < len(members)
    ][:count]
