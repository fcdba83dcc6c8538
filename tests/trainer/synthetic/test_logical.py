"""Logical anomalies are what they are called: count and order by brute force, and nothing flawed
anywhere.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.synthetic.logical import NEIGHBORS, equipped, rearranged
from trainer.synthetic.noise import Image
from trainer.synthetic.products.fusebox import DECK_MM, PITCH_MM, PLACES, RATINGS, ROWS_MM, FuseBox
from trainer.synthetic.products.scene import HeightFieldStation
from trainer.synthetic.scene import Scene
from trainer.synthetic.surface import Counted, Grid, Layout

LOGICAL = ["absent", "extra", "swapped"]
LAYOUT = FuseBox.layout
FIXED = [place for place, kind in enumerate("".join(LAYOUT)) if kind != "?"]
SOCKET_MM = 2.8  # a socket's floor lies so much under the deck
SHADE_REACH_PX = 60  # shadows and dimmed sky of a fuse reach less far


@cache
def station() -> HeightFieldStation:
    return HeightFieldStation(FuseBox, seed=0)


@cache
def scene(defect: str, index: int = 0) -> Scene:
    return station().part(station().random("test", index), defect)


@cache
def anomalies(kind: str) -> list[tuple[Layout, Layout]]:
    """What each of many parts held, and what it holds with the anomaly."""
    rng = np.random.default_rng(0)
    held = [equipped(LAYOUT, rng) for _ in range(80)]
    return [(holding, rearranged(kind, LAYOUT, holding, rng)) for holding in held]


def changed_places(holding: Layout, changed: Layout) -> dict[int, tuple[str, str]]:
    """Place -> what it held, what it holds."""
    pairs = zip("".join(holding), "".join(changed), strict=True)
    return {place: pair for place, pair in enumerate(pairs) if pair[0] != pair[1]}


def test_good_parts_differ_in_their_options_alone_and_every_option_takes_every_kind() -> None:
    rng = np.random.default_rng(1)
    parts = ["".join(equipped(LAYOUT, rng)) for _ in range(100)]
    for place, kind in enumerate("".join(LAYOUT)):
        assert {part[place] for part in parts} == (set(RATINGS) if kind == "?" else {kind})


def test_absent_takes_one_element_that_every_good_part_has() -> None:
    for holding, changed in anomalies("absent"):
        ((place, (before, after)),) = changed_places(holding, changed).items()
        assert place in FIXED
        assert (before != ".", after) == (True, ".")


def test_extra_fills_one_place_that_is_empty_on_every_good_part() -> None:
    kinds: set[str] = set()
    for holding, changed in anomalies("extra"):
        ((place, (before, after)),) = changed_places(holding, changed).items()
        assert place in FIXED
        assert before == "."
        kinds.add(after)
    assert kinds == {"Y", "R", "B"}


def test_swapped_exchanges_two_different_elements_and_keeps_the_count() -> None:
    for holding, changed in anomalies("swapped"):
        (one, first), (other, second) = changed_places(holding, changed).items()
        assert {one, other} <= set(FIXED)
        assert first == second[::-1]
        assert "." not in first
        assert Counter("".join(holding)) == Counter("".join(changed))


@pytest.mark.parametrize("kind", LOGICAL)
def test_every_few_neighbors_are_as_on_some_good_part_in_the_same_row(kind: str) -> None:
    good: list[set[str]] = [set(), set()]  # by brute force over every good row there is
    for row, seen in zip(LAYOUT, good, strict=True):
        for filled in product(*(RATINGS if place == "?" else place for place in row)):
            ended = f"|{''.join(filled)}|"
            seen |= {
                ended[start : start + NEIGHBORS] for start in range(len(ended) - NEIGHBORS + 1)
            }
    for _, changed in anomalies(kind):
        for row, seen in zip(changed, good, strict=True):
            ended = f"|{row}|"
            assert {
                ended[start : start + NEIGHBORS] for start in range(len(ended) - NEIGHBORS + 1)
            } <= seen


@pytest.mark.parametrize(("kind", "at_least"), [("absent", 4), ("extra", 6), ("swapped", 5)])
def test_an_anomaly_is_not_always_the_same(kind: str, at_least: int) -> None:
    assert len({tuple(changed_places(*pair).items()) for pair in anomalies(kind)}) >= at_least


@pytest.mark.parametrize("kind", LOGICAL)
def test_a_layout_whose_every_change_shows_is_refused(kind: str) -> None:
    with pytest.raises(RuntimeError, match="looks like a good part"):
        rearranged(kind, ("RY.B",), ("RY.B",), np.random.default_rng(0))


def unposed() -> Grid:
    """Part coordinates of a part that lies straight in the middle, half a millimeter a pixel."""
    axis = (np.arange(600, dtype=np.float32) - 299.5) * np.float32(0.5)
    x, y = np.meshgrid(axis, axis)
    return Grid(x, y, 0.5, 0.0)


@cache
def drawn(layout: Layout, seed: int = 3) -> tuple[Image, Image, Image]:
    """Height, albedo and shine of a part with that layout."""
    product = station().product
    assert isinstance(product, Counted)
    surface = product.filled(unposed(), np.random.default_rng(seed), layout)
    return surface.height, surface.albedo, surface.shine


def pixel_of(place: int, dx_mm: float = 0.0, dy_mm: float = 0.0) -> tuple[int, int]:
    x = (place % PLACES - (PLACES - 1) / 2) * PITCH_MM + dx_mm
    return round(ROWS_MM[place // PLACES] / 0.5 + dy_mm / 0.5 + 299.5), round(x / 0.5 + 299.5)


def read_back(layout: Layout) -> str:
    """What every place holds, told from the height and the color of the surface alone."""
    height, albedo, _ = drawn(layout)
    kinds = ""
    for place in range(2 * PLACES):
        pixel = pixel_of(place, 4.0, 5.7)  # between the print and a blade
        kind = min(
            RATINGS,
            key=lambda kind: abs(DECK_MM + (RATINGS[kind].stands_mm or -SOCKET_MM) - height[pixel]),
        )
        if kind != ".":
            own = albedo[pixel] / albedo[pixel].sum()
            shades = {k: np.array(RATINGS[k].color) / sum(RATINGS[k].color) for k in "YRB"}
            assert min(shades, key=lambda k: float(np.abs(shades[k] - own).sum())) == kind
        kinds += kind
    return kinds


@pytest.mark.parametrize("kind", LOGICAL)
def test_count_and_order_can_be_read_from_height_and_from_color(kind: str) -> None:
    for holding, changed in anomalies(kind)[:4]:
        assert read_back(holding) == "".join(holding)
        assert read_back(changed) == "".join(changed)


def test_the_place_of_an_absent_fuse_is_the_box_as_it_is_without_any() -> None:
    holding, changed = anomalies("absent")[0]
    (place,) = changed_places(holding, changed)
    bare = tuple("." * PLACES for _ in ROWS_MM)
    row, column = pixel_of(place)
    window = slice(row - 26, row + 26), slice(column - 17, column + 17)
    for with_it, without, empty in zip(drawn(holding), drawn(changed), drawn(bare), strict=True):
        np.testing.assert_array_equal(without[window], empty[window])
        assert np.abs(with_it[window] - empty[window]).max() > 0.05
    height, albedo, _ = drawn(changed)
    rows = slice(row - 16, row + 16)
    floor, deck = (rows, slice(column + 6, column + 12)), (rows, slice(column + 22, column + 30))
    assert np.median(height[deck]) - np.median(height[floor]) == pytest.approx(SOCKET_MM, abs=0.15)
    np.testing.assert_allclose(
        np.median(albedo[floor], (0, 1)), np.median(albedo[deck], (0, 1)), rtol=0.05
    )


def test_a_fuse_looks_the_same_wherever_it_sits() -> None:
    """The same seat with the same fuse: in an option of a good part, or as an anomaly with other
    neighbors.
    """
    for holding, changed in anomalies("swapped")[:3]:
        place = next(iter(changed_places(holding, changed)))
        alone = ["." * PLACES, "." * PLACES]
        alone[place // PLACES] = (
            "." * (place % PLACES) + "".join(changed)[place] + "." * (PLACES - 1 - place % PLACES)
        )
        row, column = pixel_of(place)
        window = slice(row - 26, row + 26), slice(column - 17, column + 17)
        for one, other in zip(drawn(changed), drawn(tuple(alone)), strict=True):
            np.testing.assert_array_equal(one[window], other[window])


def grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    reach = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), reach) > 0)


@pytest.mark.parametrize("kind", LOGICAL)
@pytest.mark.parametrize("index", [0, 1])
def test_the_scene_differs_where_the_mask_says_in_height_and_in_color(
    kind: str, index: int
) -> None:
    good, bad = scene("good", index), scene(kind, index)
    rise = np.abs(bad.z_m - good.z_m)
    assert (rise[bad.mask] > 0.0002).all()
    assert (rise[~grown(bad.mask, 2)] < 1e-6).all()
    shown = np.abs(bad.color - good.color).max(axis=-1)
    # contacts are where blades were, and ink is on every fuse
    assert (shown[bad.mask] > 0.02).mean() > 0.7
    far = ~grown(bad.mask, SHADE_REACH_PX)
    np.testing.assert_array_equal(bad.color[far], good.color[far])
    pieces, _ = cv2.connectedComponents(bad.mask.astype(np.uint8))
    assert pieces - 1 == (2 if kind == "swapped" else 1)
    assert bad.truth is not None
    assert bad.truth.group == "logical"
    sigma_m = station().camera.sigma_m(station().view.distance_m - DECK_MM / 1000)
    assert bad.truth.height_sigma == pytest.approx(
        float(np.median(rise[bad.mask])) / sigma_m, rel=0.1
    )
