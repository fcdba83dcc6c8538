"""Whether the same part was shown twice: on pictures with a sensor's noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.repeated import find_same, look_of
from calibration.shown_parts import Sight
from edge.types import Code, Frame, Judgment, Reason
from tests.support.site_parts import SitePart, draw_site_part
from tests.support.station import INTRINSICS, SERIAL
from tests.support.tiny_bundle import UNIT


def sights(part: SitePart, frames: int, seed: int, moves: float = 0.0) -> list[Sight]:
    """A part at rest: of each frame, the noise is another, and its center is known to 0.03 px.

    moves: pixels per frame.
    """
    rng = np.random.default_rng(seed)
    place = np.random.default_rng(part.at).uniform(40, 80, 2)
    found = []
    for number in range(frames):
        color, depth = draw_site_part(part, noise_seed=1000 * seed + number)
        u, v = place + rng.normal(0, 0.03, 2) + (moves * number, 0)
        judgment = Judgment(
            Code.OK, Reason.NORMAL, np.float32(1), np.float32(2), 0.3, 1.0,
            place=(u, v, 100.0, 100.0, 0.0, 0.0),
        )  # fmt: skip
        window = Frame(color, depth, UNIT, INTRINSICS, SERIAL, number, 0)
        found.append(Sight(window, judgment))
    return found


PART = SitePart(at=3)


@pytest.mark.parametrize("frames", [3, 6, 20])
def test_a_part_that_stayed_is_found(frames: int) -> None:
    for seed in range(10):
        first, again = (look_of(sights(PART, frames, seed=2 * seed + i)) for i in (1, 2))
        assert find_same(again, [None, first]) == 1


@pytest.mark.parametrize(
    "other",
    [
        SitePart(at=4),  # elsewhere
        replace(PART, defect=PART.defect + 2),  # at the same place, of a slightly other color
        replace(PART, stripes=2.0),  # with another surface
    ],
)
@pytest.mark.parametrize("frames", [3, 6, 20])
def test_another_part_is_another_also_in_a_fixture(other: SitePart, frames: int) -> None:
    for seed in range(10):
        first = look_of(sights(PART, frames, seed=2 * seed + 1))
        assert find_same(look_of(sights(other, frames, seed=2 * seed + 2)), [first]) is None


def test_a_single_frame_is_the_same_only_if_it_is_that_file() -> None:
    first = look_of(sights(PART, 1, seed=1))
    assert find_same(look_of(sights(PART, 1, seed=1)), [first]) == 0
    assert find_same(look_of(sights(PART, 1, seed=2)), [first]) is None


def test_on_a_belt_no_part_stays() -> None:
    moving = look_of(sights(PART, 10, seed=1, moves=3.0))
    assert moving is None
    assert find_same(moving, [look_of(sights(PART, 10, seed=2))]) is None


def test_frames_while_it_is_laid_down_do_not_count() -> None:
    laid = [*sights(SitePart(at=9), 2, seed=5), *sights(PART, 8, seed=6)]
    first = look_of(sights(PART, 8, seed=7))
    assert find_same(look_of(laid), [first]) == 0
