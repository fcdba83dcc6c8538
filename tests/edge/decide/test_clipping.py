"""A dark, black, bright or white view is named; what normal parts show, black and white backgrounds
too, is not.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.decide.clipping import find_odd_brightness, measure_brightness, normal_brightness


def view(background: int, part: int, seed: int = 0) -> NDArray[np.uint8]:
    """A part on a quarter of a plain background, with noise."""
    picture = np.full((60, 80, 3), background, np.float32)
    picture[15:45, 20:60] = part
    picture += np.random.default_rng(seed).normal(0, 3, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def said(changed: NDArray[np.floating], background: int = 110, part: int = 180) -> str | None:
    normal = normal_brightness(
        measure_brightness(view(background, part, seed)) for seed in range(1, 6)
    )
    return find_odd_brightness(
        measure_brightness(np.clip(changed, 0, 255).astype(np.uint8)), normal
    )


def test_the_measures_are_what_they_are_called() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:3] = 255
    picture[3] = (255, 0, 0)  # red is neither
    measured = measure_brightness(picture)
    assert (measured.black, measured.white, measured.upper) == (0.6, 0.3, 255.0)
    assert measured.mean == pytest.approx(255 * 3.3333 / 10, abs=0.1)


@pytest.mark.parametrize(
    ("divisor", "sentence"),
    [
        (40, "100% of the view is black, at most 0% of a normal part's"),
        (20, "of the view is black"),
        (
            10,
            (
                r"much darker than every normal part \(mean 12, normal 12\d to 12\d of 255\): look"
                r" at lamp, lens and"
            ),
        ),
        (2, "much darker"),
    ],
)
def test_a_view_in_the_dark_is_named(divisor: float, sentence: str) -> None:
    assert re.search(sentence, said(view(110, 180).astype(np.float32) / divisor) or "")


@pytest.mark.parametrize(
    ("factor", "sentence"), [(3, "of the view is white"), (2, "much brighter"), (1.7, "brighter")]
)
def test_an_overexposed_view_is_named(factor: float, sentence: str) -> None:
    assert sentence in (said(view(110, 180) * np.float32(factor)) or "")


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.0, 1.1, 1.3])
def test_ordinary_changes_of_light_are_not(factor: float) -> None:
    assert said(view(110, 180) * np.float32(factor)) is None


def test_a_defect_on_the_part_is_not() -> None:
    for value in (0, 255):
        picture = view(110, 180)
        picture[20:30, 25:40] = value
        assert said(picture) is None


def test_a_black_belt_is_normal_and_its_failed_lamp_is_named_all_the_same() -> None:
    assert said(view(0, 120, seed=9), background=0, part=120) is None
    assert "black" in (said(view(0, 0), background=0, part=120) or "")
    assert "darker" in (said(view(0, 40), background=0, part=120) or "")
    assert "brighter" in (said(view(0, 250), background=0, part=120) or "")


def test_a_backlight_is_normal_and_the_part_that_it_drowns_is_named() -> None:
    assert said(view(255, 60, seed=9), background=255, part=60) is None
    assert "white" in (said(view(255, 255), background=255, part=60) or "")
    assert "darker" in (said(view(80, 20), background=255, part=60) or "")


def test_without_a_normal_view_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="max"):
        normal_brightness([])
