"""The baseline sees what it should: a change in color, a change in height, not a missing
reading.
"""

from __future__ import annotations

import numpy as np

from edge.types import Frame, Intrinsics
from tests.support.baseline import Sense, fit_reference

SIDE = 40


def frame(seed: int, *, with_depth: bool = True) -> Frame:
    rng = np.random.default_rng(seed)
    color = rng.integers(98, 103, (SIDE, SIDE, 3)).astype(np.uint8)
    depth = rng.integers(2995, 3006, (SIDE, SIDE)).astype(np.uint16) if with_depth else None
    return Frame(color, depth, 0.0001, Intrinsics(SIDE, SIDE, 50, 50, 20, 20), "t", seed, 0)


def test_color_and_height_raise_the_score_and_holes_do_not() -> None:
    reference = fit_reference([frame(seed) for seed in range(9)])
    normal = reference.score(frame(20))
    stained, dented, holed = frame(20), frame(20), frame(20)
    stained.color[5:10, 5:10] = 160
    assert dented.depth is not None
    assert holed.depth is not None
    dented.depth[5:10, 5:10] += 40
    holed.depth[5:10, 5:10] = 0
    assert reference.score(stained) > 3 * normal
    assert reference.score(dented) > 2 * normal
    assert reference.score(holed) <= 1.05 * normal
    apart: tuple[tuple[Sense, Frame, Frame], ...] = (
        ("color", stained, dented),
        ("height", dented, stained),
    )
    for sense, seen, unseen in apart:
        alone = reference.score(frame(20), sense)
        assert reference.score(seen, sense) > 2 * alone
        assert reference.score(unseen, sense) == alone


def test_color_only_data_has_a_baseline_too() -> None:
    reference = fit_reference([frame(seed, with_depth=False) for seed in range(3)])
    assert reference.depth is None
    assert reference.score(frame(5, with_depth=False)) > 0
