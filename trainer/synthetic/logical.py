"""Logical defects: an element absent, one too many, two swapped, each element normal by itself.

The distinction is MVTec LOCO AD's (Bergmann et al., Beyond Dents and Scratches, IJCV 2022): a
structural anomaly shows what no good part shows anywhere; a logical one breaks a rule of what
belongs where. A detector that remembers what good patches look like, and not where they belong,
should be blind to the latter. So that it is not told by the neighbors either, only such changes
are made that leave every few places in a row as they are somewhere on good parts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

import numpy as np

from trainer.synthetic.surface import EMPTY, OPTION, Layout

NEIGHBORS = 3  # this many places in a row look as on a good part, wherever they are looked at
END = "|"


def equipped(layout: Layout, rng: np.random.Generator) -> Layout:
    """The layout of one good part: an option holds an element of any kind or none, all equally
    likely.
    """
    kinds = _kinds(layout)
    choices = rng.integers(len(kinds), size=(len(layout), len(layout[0]))).tolist()
    return tuple(
        "".join(
            kinds[choice] if kind == OPTION else kind for kind, choice in zip(row, own, strict=True)
        )
        for row, own in zip(layout, choices, strict=True)
    )


def rearranged(kind: str, layout: Layout, holding: Layout, rng: np.random.Generator) -> Layout:
    """A logical anomaly of a part, in a place that is no option.

    Args:
        kind: absent, extra or swapped. layout: of good parts. holding: of this part, its options
            decided.
    Returns: what it holds instead, one of all changes that leave any NEIGHBORS places of a row,
        its ends included, with what the same number of places hold somewhere in that row of good
        parts.
    Raises: RuntimeError if the layout has no such change.
    """
    known = [_runs(row, _kinds(layout)) for row in layout]
    changes = [
        changed
        for changed in _CHANGES[kind](layout, holding)
        if all(_runs(row, "") <= runs for row, runs in zip(changed, known, strict=True))
    ]
    if not changes:
        raise RuntimeError(
            f"{kind}: no change of {' '.join(layout)} looks like a good part everywhere"
        )
    return changes[int(rng.integers(len(changes)))]


def _kinds(layout: Layout) -> str:
    """What a place may hold: every kind of element that the layout names, or none."""
    return "".join(sorted({EMPTY, *"".join(layout)} - {OPTION}))


def _runs(row: str, kinds: str) -> set[str]:
    """What any NEIGHBORS places of the row may hold; its ends count as places, options hold one of
    `kinds`.
    """
    places = [kinds if kind == OPTION else kind for kind in (END, *row, END)]
    windows = [places[start : start + NEIGHBORS] for start in range(len(places) - NEIGHBORS + 1)]
    return {"".join(run) for window in windows for run in product(*window)}


def _absent(layout: Layout, holding: Layout) -> list[Layout]:
    return [_with(holding, {place: EMPTY}) for place, _ in _due(layout)]


def _extra(layout: Layout, holding: Layout) -> list[Layout]:
    empty = [place for place, kind in enumerate("".join(layout)) if kind == EMPTY]
    return [
        _with(holding, {place: kind}) for place in empty for kind in _kinds(layout) if kind != EMPTY
    ]


def _swapped(layout: Layout, holding: Layout) -> list[Layout]:
    pairs = [(one, other) for one, other in combinations(_due(layout), 2) if one[1] != other[1]]
    return [_with(holding, {one[0]: other[1], other[0]: one[1]}) for one, other in pairs]


_CHANGES: dict[str, Callable[[Layout, Layout], list[Layout]]] = {
    "absent": _absent,
    "extra": _extra,
    "swapped": _swapped,
}


def _due(layout: Layout) -> list[tuple[int, str]]:
    """The places, numbered row by row, that hold an element in every good part, and its kind."""
    return [
        (place, kind) for place, kind in enumerate("".join(layout)) if kind not in (EMPTY, OPTION)
    ]


def _with(holding: Layout, changes: dict[int, str]) -> Layout:
    """The layout with other contents in some places."""
    columns = len(holding[0])
    kinds = [changes.get(place, kind) for place, kind in enumerate("".join(holding))]
    return tuple("".join(kinds[start : start + columns]) for start in range(0, len(kinds), columns))
