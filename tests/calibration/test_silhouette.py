"""The expected silhouette against brute force in float64, and whether a further part lacks anything
of it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.silhouette import (
    CELL_PX,
    distance_inside,
    eroded,
    expected_silhouette,
    find_displaced,
    silhouette_of,
    surprises_px,
    without_specks,
)

Mask = NDArray[np.bool_]
HEIGHT, WIDTH = 96, 128
UNIT, PLANE, LIFT = 0.0001, (2e-5, -1e-5, 1.0, 0.5), 0.003
PARTS = 30  # drawn after the calibration, for each of a spread's sets


def blobs(seed: int, height: int = 24, width: int = 31) -> Mask:
    return np.random.default_rng(seed).random((height, width)) < 0.8


def shape(kind: str, du: float = 0.0, dv: float = 0.0, degrees: float = 0.0) -> Mask:
    """Plate, ring, bracket or arm, displaced and turned about the middle of the view, in whole
    cells as a silhouette has them.
    """
    v, u = np.mgrid[:HEIGHT, :WIDTH] - np.array([[[47.5 + dv]], [[63.5 + du]]])
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = np.abs(u * c + v * s), np.abs(v * c - u * s)
    r = np.hypot(u, v)
    pixels = {
        "plate": (x < 50) & (y < 30),
        "ring": (r < 44) & (r > 16),
        "bracket": (x < 50) & (y < 38) & ~((x < 26) & (y < 14)),
        "arm": (r < 34) | ((y < 12) & (x < 55)),
    }[kind]
    cells = pixels.reshape(HEIGHT // CELL_PX, CELL_PX, -1, CELL_PX).mean(axis=(1, 3)) > 0.3
    return cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)


def depth_of(material: Mask, height_m: float, noise: float = 0.001, seed: int = 0) -> NDArray:
    """Counts of a part with a flat top on the table of PLANE."""
    v, u = np.mgrid[: material.shape[0], : material.shape[1]]
    z = (PLANE[3] - height_m * material) / (PLANE[0] * u + PLANE[1] * v + PLANE[2])
    noisy = z + np.random.default_rng(seed).normal(0, noise, z.shape)
    return np.rint(noisy / UNIT).astype(np.uint16)


# --- the arithmetic against brute force ---


def brute_distance(inside: Mask) -> NDArray[np.float64]:
    """(H, W) to the nearest pixel center that is not inside; beyond the view none is."""
    around = np.argwhere(~np.pad(inside, 1)) - 1.0
    points = np.argwhere(np.ones_like(inside)).astype(np.float64)
    squares = ((points[:, None] - around[None]) ** 2).sum(axis=2)
    return np.sqrt(squares.min(axis=1)).reshape(inside.shape)


@pytest.mark.parametrize("inside", [blobs(0), blobs(1), blobs(2) | True, blobs(3) & False])
def test_distances_are_exact(inside: Mask) -> None:
    found = distance_inside(inside, np.ones_like(inside)).reshape(inside.shape)
    np.testing.assert_allclose(found, brute_distance(inside), rtol=1e-12)
    for limit in (1.0, 1.5, 3.0):
        np.testing.assert_array_equal(eroded(inside, limit), brute_distance(inside) > limit)


def test_surprises_and_mask_are_those_of_the_definition() -> None:
    parts = []
    for top, left, bottom, right in [(4, 3, 44, 56), (8, 4, 44, 58), (5, 5, 42, 57)]:
        parts.append(blobs(top, 48, 64) & False)
        parts[-1][top:bottom, left:right] = True
        parts[-1][top : top + left, left : left + 9] = False  # a corner is off
    surprises = []
    for index, one in enumerate(parts):
        others = np.logical_and.reduce(parts[:index] + parts[index + 1 :])
        surprises.append(brute_distance(others)[others & ~one].max(initial=0.0))
    assert len(set(surprises)) == 3
    np.testing.assert_allclose(surprises_px(parts), surprises)
    found = expected_silhouette(parts)
    assert found is not None
    assert found.margin_px == pytest.approx(CELL_PX + max(surprises))
    kept = brute_distance(np.logical_and.reduce(parts)) > found.margin_px
    np.testing.assert_array_equal(found.mask, np.where(kept, 255, 0))
    alone = np.mean([(brute_distance(one) > CELL_PX).sum() for one in parts])
    assert found.share == pytest.approx(kept.sum() / alone)
    assert found.parts == 3


def brute_silhouette(depth: NDArray, lift: float) -> Mask:
    """Cell by cell in float64, its unread cells filled by the known ones beside them."""
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float64)
    over = PLANE[3] - depth * UNIT * (PLANE[0] * u + PLANE[1] * v + PLANE[2])
    cells: dict[tuple[int, int], float] = {}
    size = tuple(-(-side // CELL_PX) for side in depth.shape)
    for row, column in np.ndindex(*size):
        at = np.s_[row * CELL_PX : (row + 1) * CELL_PX, column * CELL_PX : (column + 1) * CELL_PX]
        if depth[at].any():
            cells[row, column] = float(over[at][depth[at] > 0].mean())
    for _ in range(4):
        beside = {
            (row, column): [
                cells[row + dv, column + du]
                for dv in (-1, 0, 1)
                for du in (-1, 0, 1)
                if (row + dv, column + du) in cells
            ]
            for row, column in np.ndindex(*size)
            if (row, column) not in cells
        }
        cells |= {at: float(np.mean(near)) for at, near in beside.items() if near}
    found = np.zeros(size, bool)
    for at, value in cells.items():
        found[at] = value > lift
    return found.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[: depth.shape[0], : depth.shape[1]]


@pytest.mark.parametrize("kind", ["plate", "ring", "bracket", "arm"])
def test_a_silhouette_is_the_height_over_the_plane_averaged_over_cells(kind: str) -> None:
    material = shape(kind, 2.0, 1.0, 8.0)[:93, :126]  # sizes that are no multiple of a cell
    depth = depth_of(material, 0.01)
    depth[np.random.default_rng(1).random(depth.shape) < 0.1] = 0
    depth[40:60, 55:75] = 0  # a hole of 5 cells
    np.testing.assert_array_equal(
        silhouette_of(depth, UNIT, PLANE, LIFT), brute_silhouette(depth, LIFT)
    )
    region = np.full(depth.shape, 255, np.uint8)
    region[:, :64] = 0
    inside = silhouette_of(depth, UNIT, PLANE, LIFT, region)
    assert not inside[:, :64].any()
    np.testing.assert_array_equal(inside[:, 64:], brute_silhouette(depth, LIFT)[:, 64:])


def test_noise_of_the_sensor_does_not_stand_on_the_table() -> None:
    depth = depth_of(np.zeros((HEIGHT, WIDTH), bool), 0.0, noise=0.002)
    assert not silhouette_of(depth, UNIT, PLANE, LIFT).any()


def test_crumbs_far_from_the_part_are_no_material_and_pieces_of_it_are() -> None:
    cells = np.zeros((24, 32), bool)
    cells[8:18, 8:20] = True
    part = cells.copy()
    part[10, 22] = True  # apart by two cells without a reading
    part[19:24, 28:32] = True  # as large as a second piece of the part
    crumb = part.copy()
    crumb[1, 1:3] = True
    np.testing.assert_array_equal(without_specks(crumb), part)
    assert not without_specks(np.zeros((3, 4), bool)).any()


# --- what the margin promises ---


def drawn(kind: str, rng: np.random.Generator, px: float, degrees: float) -> Mask:
    return shape(kind, *rng.uniform(-px, px, 2), rng.uniform(-degrees, degrees))


@pytest.mark.parametrize("kind", ["plate", "ring", "bracket", "arm"])
@pytest.mark.parametrize("count", [5, 10])
def test_a_further_part_of_the_same_spread_lacks_almost_nothing(kind: str, count: int) -> None:
    """At most one further part in k + 1 may exceed the largest surprise; with the cell on top of
    it, far fewer lack a pixel, and those that do lack a sliver.
    """
    rng, lacking, most = np.random.default_rng(count), 0, 0.0
    for _ in range(PARTS):
        parts = [drawn(kind, rng, 3.0, 4.0) for _ in range(count + 1)]
        margin_px = CELL_PX + surprises_px(parts[:-1]).max()
        kept = eroded(np.logical_and.reduce(parts[:-1]), margin_px)
        lacks = float((kept & ~parts[-1]).sum() / parts[-1].sum())
        lacking, most = lacking + (lacks > 0), max(most, lacks)
    assert lacking <= PARTS // (2 * (count + 1))
    assert most <= 0.02


def test_parts_of_one_pose_are_not_called_displaced() -> None:
    rng = np.random.default_rng(0)
    sets = [[drawn("plate", rng, 4.0, 5.0) for _ in range(5)] for _ in range(PARTS)]
    assert sum(find_displaced(surprises_px(parts)) is not None for parts in sets) <= 1


@pytest.mark.parametrize("odd", [0, 3])
def test_a_displaced_or_broken_part_is_named(odd: int) -> None:
    rng = np.random.default_rng(1)
    parts = [drawn("plate", rng, 1.0, 1.0) for _ in range(6)]
    displaced = [*parts]
    displaced[odd] = shape("plate", 24.0)
    broken = [*parts]
    broken[odd] = parts[odd].copy()
    broken[odd][40:72, 30:70] = False
    assert find_displaced(surprises_px(displaced)) == odd
    assert find_displaced(surprises_px(broken)) == odd


# --- what is kept ---


@pytest.mark.parametrize(
    ("kind", "is_bore"), [("ring", True), ("bracket", True), ("plate", False), ("arm", False)]
)
def test_equal_parts_keep_all_but_a_cell_and_their_bores(kind: str, is_bore: bool) -> None:
    parts = [shape(kind)] * 5
    found = expected_silhouette(parts)
    assert found is not None
    assert (found.share, found.margin_px) == (1.0, CELL_PX)
    assert not found.mask[~parts[0]].any()
    assert (found.mask[47, 63] == 0) == is_bore
    if kind == "arm":
        assert found.mask[47, 14:30].all()  # of an arm 24 px wide


def test_parts_in_different_poses_have_none() -> None:
    assert expected_silhouette([shape("plate", degrees=30.0 * k) for k in range(6)]) is None


def test_parts_that_turn_and_are_round_keep_what_all_have() -> None:
    found = expected_silhouette([shape("ring", degrees=30.0 * k) for k in range(6)])
    assert found is not None
    assert found.share > 0.9


def test_parts_narrower_than_the_margin_have_none() -> None:
    narrow = np.zeros((HEIGHT, WIDTH), bool)
    narrow[40:48, 20:100] = True
    assert expected_silhouette([narrow] * 5) is None


def test_a_single_part_has_no_others() -> None:
    with pytest.raises(ValueError, match="at least two"):
        surprises_px([shape("plate")])
