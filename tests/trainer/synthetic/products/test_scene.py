"""What is rendered keeps the promises of the data: limits of defects, groups, repeatability, fixed
camera.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from itertools import product as pairs

import cv2
import numpy as np
import pytest

from trainer.synthetic import scene_defects as defects
from trainer.synthetic.products import PRODUCTS
from trainer.synthetic.products.scene import HeightFieldStation
from trainer.synthetic.products.stations import STATIONS, open_station
from trainer.synthetic.products.washer import Washer
from trainer.synthetic.scene import (
    CROP,
    FARTHEST_M,
    HEIGHT,
    LARGEST_TILT,
    LEAST_TILT,
    NEAREST_M,
    WIDTH,
    Scene,
)
from trainer.synthetic.scene_defects import GROUPS, LARGEST_SIGMA, LEAST_SIGMA, SHARES

ALL_PRODUCTS = sorted(PRODUCTS)
LOCAL = [kind for kind, group in GROUPS.items() if group != "logical"]
MATERIAL = [kind for kind, group in GROUPS.items() if group == "material"]
LOGICAL = ["absent", "extra", "swapped"]
COUNTED = ["fusebox"]


@cache
def station(product: str) -> HeightFieldStation:
    made = open_station(product, seed=0)
    assert isinstance(made, HeightFieldStation)
    return made


@cache
def scene(product: str, defect: str) -> Scene:
    made = station(product)
    return made.part(made.random("test", 0), defect)


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_a_part_lies_in_the_crop_and_fills_a_fifth_to_half_of_it(product: str) -> None:
    good = scene(product, "good")
    assert good.truth is not None
    assert 0.18 <= good.truth.part_share <= 0.5
    assert not good.mask.any()
    empty = station(product).empty(np.random.default_rng(0))
    raised = empty.z_m - good.z_m > 0.002
    x, y, width, height = CROP
    border = np.ones((HEIGHT, WIDTH), bool)
    border[y + 3 : y + height - 3, x + 3 : x + width - 3] = False
    assert not raised[border].any()


@pytest.mark.parametrize(
    ("defect", "product"), [*pairs(LOCAL, ALL_PRODUCTS), *pairs(LOGICAL, COUNTED)]
)
def test_defects_keep_within_the_limits_of_area_and_height(defect: str, product: str) -> None:
    truth = scene(product, defect).truth
    assert truth is not None
    least, largest = SHARES[defect]
    assert least <= truth.area_share <= largest
    if GROUPS[defect] == "color":
        assert truth.height_sigma == 0
    elif GROUPS[defect] == "logical":  # as high as the element is: it does not hide
        assert truth.height_sigma > LEAST_SIGMA
    elif GROUPS[defect] == "material":  # as high as the part is at the place
        assert truth.height_sigma > (0.5 if defect == "bent" else LEAST_SIGMA)
    else:
        assert LEAST_SIGMA <= truth.height_sigma <= LARGEST_SIGMA


def test_a_defect_too_large_for_the_limit_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(defects.SHARES, "dent", (0.0005, 0.009))
    made = station("washer")
    truths = [made.part(made.random("limit", index), "dent").truth for index in range(3)]
    assert max(truth.area_share for truth in truths if truth is not None) <= 0.009


@pytest.mark.parametrize("defect", LOCAL)
def test_a_group_changes_what_its_name_says(defect: str) -> None:
    """The same part with and without the defect: same generator, same pose, texture and light."""
    good, bad = scene("biscuit", "good"), scene("biscuit", defect)
    color_changed = np.abs(good.color - bad.color).max(axis=-1) > 0.004
    depth_changed = np.abs(good.z_m - bad.z_m) > 0.0002
    group = GROUPS[defect]
    assert color_changed.any()
    assert depth_changed.any() == (group != "color")
    changed = color_changed if group == "color" else depth_changed
    assert (changed & bad.mask).sum() > 0.5 * bad.mask.sum()


@pytest.mark.parametrize("defect", ["dent", "bump", "gouge"])
def test_the_height_of_a_defect_in_relief_is_its_sigmas(defect: str) -> None:
    good, bad = scene("washer", "good"), scene("washer", defect)
    assert bad.truth is not None
    change_m = np.abs(good.z_m - bad.z_m)
    where = np.unravel_index(change_m.argmax(), change_m.shape)
    sigma_m = station("washer").camera.sigma_m(float(good.z_m[where]))
    assert change_m.max() / sigma_m == pytest.approx(bad.truth.height_sigma, rel=0.12)


def test_parts_differ_in_pose_texture_and_light() -> None:
    made = station("washer")
    first, second = (made.part(made.random("test", index)) for index in (0, 1))
    assert np.abs(first.z_m - second.z_m).max() > 0.005
    assert abs(first.color[5, 5].mean() - second.color[5, 5].mean()) > 1e-4


@pytest.mark.parametrize(("product", "kind"), [("rope", "crack"), ("fusebox", "swapped")])
def test_a_scene_depends_on_seed_product_purpose_and_index_alone(product: str, kind: str) -> None:
    made = open_station(product, seed=3)
    made.part(made.random("test", 7), "stain")
    again = open_station(product, seed=3)
    for index, defect in ((0, kind), (1, "good")):
        one, other = (s.part(s.random("test", index), defect) for s in (made, again))
        np.testing.assert_array_equal(one.color, other.color)
        np.testing.assert_array_equal(one.z_m, other.z_m)
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_logical_defects_occur_where_elements_are_counted_and_nowhere_else(product: str) -> None:
    made = station(product)
    assert made.defects() == (LOGICAL + LOCAL if product in COUNTED else LOCAL)
    if product not in COUNTED:
        with pytest.raises(TypeError, match=f"nothing on a {product} is counted"):
            made.part(made.random("test", 0), "swapped")


def test_the_table_is_a_plane_slightly_tilted() -> None:
    z_m = station("connector").empty(np.random.default_rng(0)).z_m
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    inverse = np.linalg.lstsq(
        np.stack([u.ravel(), v.ravel(), np.ones(u.size)], 1), 1 / z_m.ravel(), rcond=None
    )
    assert np.sqrt(inverse[1][0] / u.size) < 1e-4  # 1 / z is linear in u and v on a plane
    assert 0.9 * NEAREST_M < z_m[HEIGHT // 2, WIDTH // 2] < 1.1 * FARTHEST_M
    assert np.ptp(z_m) > 0.002


def test_every_product_has_a_station() -> None:
    assert tuple(STATIONS) == PRODUCTS


def test_every_seed_has_its_own_distance_tilt_lamp_and_table() -> None:
    made = [HeightFieldStation(Washer, seed) for seed in range(3)]
    for one in made:
        assert NEAREST_M <= one.view.distance_m <= FARTHEST_M
        tilt = np.degrees(np.arccos(one.view.normal[2]))
        assert LEAST_TILT - 1e-6 <= tilt <= LARGEST_TILT + 1e-6
        assert 35 <= np.degrees(one.lamp.elevation) <= 65
    for first, second in pairwise(made):
        assert abs(first.view.distance_m - second.view.distance_m) > 1e-4
        assert abs(first.lamp.azimuth - second.lamp.azimuth) > 0.01
        shown = [one.empty(np.random.default_rng(0)) for one in (first, second)]
        assert np.abs(shown[0].color.mean((0, 1)) - shown[1].color.mean((0, 1))).max() > 0.005
        assert np.abs(shown[0].z_m - shown[1].z_m).max() > 0.001


@pytest.mark.parametrize("defect", ["dent", "bump"])
def test_shading_follows_the_height(defect: str) -> None:
    """The side of a bump that faces the lamp is brighter than on the good part, the other darker;
    of a dent the other way round.
    """
    made, good, bad = station("biscuit"), scene("biscuit", "good"), scene("biscuit", defect)
    change = (bad.color - good.color).mean(axis=-1)
    rows, columns = np.nonzero(bad.mask)
    lamp = made.lamp.azimuth
    side = (columns - columns.mean()) * np.cos(lamp) + (rows - rows.mean()) * np.sin(lamp)
    slope = np.polyfit(side, change[bad.mask], 1)[0]
    assert slope * (1 if defect == "bump" else -1) > 0.001


@pytest.mark.parametrize("product", ["washer", "rope"])
@pytest.mark.parametrize("defect", ["chip", "broken", "short_shot"])
def test_absent_material_shows_the_table_in_color_and_in_depth(product: str, defect: str) -> None:
    made, bad = station(product), scene(product, defect)
    empty = made.empty(made.random("test", 0))
    bare = bad.mask & (np.abs(bad.z_m - empty.z_m) < 0.0005)
    # of a small chip the slanted face of the break is the larger share
    assert bare.sum() > (0.25 if defect == "chip" else 0.6) * bad.mask.sum()
    # the table's own color, darker where the part's shadow falls
    ratio = bad.color[bare] / np.maximum(empty.color[bare], 1e-4)
    assert np.median(ratio) < 1.05
    hue = ratio / ratio.mean(axis=-1, keepdims=True)
    assert np.abs(np.median(hue, axis=0) - 1).max() < 0.05


def test_a_burr_stands_beside_the_part_at_least_half_as_high_as_its_rim() -> None:
    for product in ("washer", "connector"):
        good, bad = scene(product, "good"), scene(product, "burr")
        empty_z = station(product).empty(np.random.default_rng(0)).z_m
        part = empty_z - good.z_m > 0.001
        assert (bad.mask & ~part).sum() > 0.4 * bad.mask.sum()  # it laps over the chamfer
        beside = cv2.dilate(bad.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        rim = np.percentile((empty_z - good.z_m)[beside & part], 80)
        burr = np.percentile((empty_z - bad.z_m)[bad.mask], 70)
        assert burr > 0.5 * rim


def test_a_bent_rim_moves_what_is_there_and_keeps_its_area() -> None:
    good, bad = scene("fusebox", "good"), scene("fusebox", "bent")
    empty_z = station("fusebox").empty(np.random.default_rng(0)).z_m
    areas = [int((empty_z - shown.z_m > 0.002).sum()) for shown in (good, bad)]
    assert areas[1] == pytest.approx(areas[0], rel=0.02)
    assert (np.abs(bad.z_m - good.z_m) > 0.002).sum() > 20


def test_the_table_stands_out_from_the_part() -> None:
    for product in ALL_PRODUCTS:
        made, good = station(product), scene(product, "good")
        empty = made.empty(made.random("test", 0))
        part = empty.z_m - good.z_m > 0.003
        encoded = [np.clip(shown, 0, 1) ** (1 / 2.2) for shown in (good.color, empty.color)]
        apart = [np.median(image[part], axis=0) for image in encoded]
        assert np.linalg.norm(apart[0] - apart[1]) > 0.1
