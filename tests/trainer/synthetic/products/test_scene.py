"""What is rendered keeps the promises of the data: limits of defects, groups, repeatability, fixed
camera.
"""

from __future__ import annotations

from functools import cache
from itertools import product as pairs

import numpy as np
import pytest

from trainer.synthetic import scene_defects as defects
from trainer.synthetic.products import PRODUCTS
from trainer.synthetic.products.scene import CROP, HEIGHT, WIDTH, Scene, Station
from trainer.synthetic.scene_defects import (
    GROUPS,
    LARGEST_SHARE,
    LARGEST_SIGMA,
    LEAST_SHARE,
    LEAST_SIGMA,
    defects_of,
)

ALL_PRODUCTS = sorted(PRODUCTS)
LOCAL = [kind for kind, group in GROUPS.items() if group != "logical"]
LOGICAL = ["absent", "extra", "swapped"]
COUNTED = ["fusebox"]


@cache
def station(product: str) -> Station:
    return Station(product, seed=0)


@cache
def scene(product: str, defect: str) -> Scene:
    made = station(product)
    return made.part(made.random("test", 0), defect)


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_a_part_lies_in_the_crop_and_fills_a_quarter_to_half_of_it(product: str) -> None:
    good = scene(product, "good")
    assert good.truth is not None
    assert 0.22 <= good.truth.part_share <= 0.5
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
    assert LEAST_SHARE <= truth.area_share <= LARGEST_SHARE
    if GROUPS[defect] == "color":
        assert truth.height_sigma == 0
    elif GROUPS[defect] == "logical":  # as high as the element is: it does not hide
        assert truth.height_sigma > LEAST_SIGMA
    else:
        assert LEAST_SIGMA <= truth.height_sigma <= LARGEST_SIGMA


def test_a_defect_too_large_for_the_limit_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defects, "LARGEST_SHARE", 0.009)
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
    assert color_changed.any() == (group != "depth")
    assert depth_changed.any() == (group != "color")
    changed = color_changed if group == "color" else depth_changed
    assert (changed & bad.mask).sum() > 0.5 * bad.mask.sum()


@pytest.mark.parametrize("defect", ["dent", "bump", "missing"])
def test_the_height_of_a_depth_defect_is_its_sigmas(defect: str) -> None:
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
    made = Station(product, seed=3)
    made.part(made.random("test", 7), "stain")
    again = Station(product, seed=3)
    for index, defect in ((0, kind), (1, "good")):
        one, other = (s.part(s.random("test", index), defect) for s in (made, again))
        np.testing.assert_array_equal(one.color, other.color)
        np.testing.assert_array_equal(one.z_m, other.z_m)
        np.testing.assert_array_equal(one.mask, other.mask)
    rng = np.random.default_rng(0)
    assert np.abs(Station(product, seed=4).empty(rng).z_m - made.empty(rng).z_m).max() > 0


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_logical_defects_occur_where_elements_are_counted_and_nowhere_else(product: str) -> None:
    made = station(product)
    assert defects_of(made.product) == (LOGICAL + LOCAL if product in COUNTED else LOCAL)
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
    assert 0.28 < z_m[HEIGHT // 2, WIDTH // 2] < 0.32
    assert np.ptp(z_m) > 0.005
