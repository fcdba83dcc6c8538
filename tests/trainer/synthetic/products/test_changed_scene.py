"""The same parts in another scene: what changes is what was asked for, by as much, and nothing
else.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from trainer.synthetic.lens import distorting
from trainer.synthetic.products.stations import open_station
from trainer.synthetic.scene import CROP, WHITE, CameraStation, Scene
from trainer.synthetic.scene_change import UNCHANGED, SceneChange, white_balance_factors

FLAT = (slice(40, 440), slice(10, 60))  # of the table, beside the crop
MOVED = SceneChange(distance=1.05, focal=1.02)
SPOILED = SceneChange(table=1, depth_noise=2.0)


@cache
def station(change: SceneChange = UNCHANGED) -> CameraStation:
    made = open_station("washer", 0, change)
    assert isinstance(made, CameraStation)
    return made


@cache
def seen(change: SceneChange, defect: str = "good") -> Scene:
    made = station(change)
    return made.part(made.random("test", 0), defect)


def captured(change: SceneChange, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What the unchanged station's camera makes of its own scene with other settings."""
    made = station()
    made.change = change
    try:
        return made.capture(seen(UNCHANGED), np.random.default_rng(draw))
    finally:
        made.change = UNCHANGED


def linear(color: np.ndarray) -> np.ndarray:
    """Gray levels back to light, full scale at 1."""
    return np.power(color.astype(np.float64) / 255, 2.2)


def plain(color: np.ndarray) -> np.ndarray:
    """Pixels that are far from black and white."""
    return ((color > 40) & (color < 200)).all(axis=-1)


def heights_mm(scene: Scene, made: CameraStation) -> np.ndarray:
    """Heights over the table that the view's plane and the true distances give."""
    return (made.view.distance_m - scene.z_m * made.view.slope()) * 1000


def test_another_lamp_changes_shading_and_nothing_of_the_part() -> None:
    made, before = station(), seen(UNCHANGED)
    made.change = SceneChange(light=180)
    try:
        turned = made.part(made.random("test", 0))
    finally:
        made.change = UNCHANGED
    np.testing.assert_array_equal(turned.z_m, before.z_m)
    height = cv2.GaussianBlur(heights_mm(before, made).astype(np.float32), (0, 0), 1)
    along = np.cos(made.lamp.azimuth), np.sin(made.lamp.azimuth)
    falling = -(np.gradient(height, axis=1) * along[0] + np.gradient(height, axis=0) * along[1])
    change = (turned.color - before.color).mean(axis=-1)
    assert change[falling > 0.3].mean() < -0.02  # what faced the lamp is darker now
    assert change[falling < -0.3].mean() > 0.02


def test_exposure_multiplies_the_light_and_saturates() -> None:
    (before, _), (after, _) = captured(UNCHANGED), captured(SceneChange(exposure=1.4))
    usable = plain(before) & plain(after)
    ratio = linear(after)[usable].mean() / linear(before)[usable].mean()
    assert ratio == pytest.approx(1.4, rel=0.01)
    glaring, _ = captured(SceneChange(exposure=4.0))
    light = seen(UNCHANGED).color * WHITE * 4
    assert (glaring[(light > 1.2).all(axis=-1)] > 240).all()
    assert (light > 1.2).all(axis=-1).mean() > 0.01


def test_white_balance_multiplies_each_channel_before_the_curve() -> None:
    (before, _), (after, _) = captured(UNCHANGED), captured(SceneChange(white_balance=6500))
    usable = plain(before) & plain(after)
    ratio = linear(after)[usable].mean(axis=0) / linear(before)[usable].mean(axis=0)
    np.testing.assert_allclose(ratio, white_balance_factors(6500), rtol=0.01)


def test_gain_brings_noise_with_the_root_of_it() -> None:
    def noise(change: SceneChange) -> tuple[float, float]:
        one, other = (captured(change, draw)[0].astype(np.float64) for draw in (1, 2))
        usable = plain(one) & plain(other)
        return float((one - other)[usable].std()), float(one[usable].mean())

    (quiet, level), (loud, same) = noise(UNCHANGED), noise(SceneChange(gain=4.0, exposure=0.25))
    assert loud / quiet == pytest.approx(2.0, rel=0.06)
    assert same == pytest.approx(level, rel=0.01)


@pytest.mark.parametrize("defect", ["good", "dent", "chip"])
def test_further_away_with_a_longer_lens_lies_the_same_part(defect: str) -> None:
    home, moved = station(), station(MOVED)
    near, far = seen(UNCHANGED, defect), seen(MOVED, defect)
    assert np.median(far.z_m[FLAT]) / np.median(near.z_m[FLAT]) == pytest.approx(1.05, abs=0.002)
    assert moved.intrinsics[0] == pytest.approx(1.02 * home.intrinsics[0])
    pixels = [(heights_mm(s, m) > 3).sum() for s, m in ((near, home), (far, moved))]
    assert pixels[1] / pixels[0] == pytest.approx((1.02 / 1.05) ** 2, rel=0.01)
    there = moved.view.looking_as(home.home, 1)
    off = there.zeroed(heights_mm(near, home).astype(np.float32)) - heights_mm(far, moved)
    assert np.quantile(np.abs(off), 0.98) < 0.1  # mm, but for steep edges
    expected = there.zeroed(near.mask.astype(np.float32)) >= 0.5
    assert (expected ^ far.mask).sum() <= 0.08 * expected.sum()
    assert near.truth is not None
    assert far.truth is not None
    assert far.truth.area_share == pytest.approx(near.truth.area_share, rel=0.05)
    worse = moved.camera.sigma_m(moved.view.distance_m) / home.camera.sigma_m(home.view.distance_m)
    assert far.truth.height_sigma == pytest.approx(near.truth.height_sigma / worse, rel=0.01)


def test_the_table_shrinks_around_the_middle_of_the_crop() -> None:
    near, far = (
        station(change).empty(np.random.default_rng(1)).color[..., 1]
        for change in (UNCHANGED, MOVED)
    )
    middle = (CROP[0] + (CROP[2] - 1) / 2, CROP[1] + (CROP[3] - 1) / 2)
    smaller = cv2.getRotationMatrix2D(middle, 0, 1.02 / 1.05)
    expected = cv2.warpAffine(near, smaller, near.shape[::-1])
    around = (slice(120, 360), slice(200, 440))  # the tilt of the camera shows further out
    alike, as_before = (
        np.corrcoef(image[around].ravel(), far[around].ravel())[0, 1] for image in (expected, near)
    )
    assert alike > 0.95
    assert as_before < 0.9


def test_another_table_and_more_noise_leave_the_part() -> None:
    before, after = seen(UNCHANGED), seen(SPOILED)
    np.testing.assert_array_equal(before.z_m, after.z_m)
    height = heights_mm(before, station())
    inside = cv2.erode((height > 8).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    np.testing.assert_allclose(before.color[inside], after.color[inside], atol=1e-5)
    assert np.abs(before.color - after.color)[FLAT].mean() > 0.01
    noise = []
    for change in (UNCHANGED, SPOILED):
        made, scene = station(change), seen(change)
        counts = made.capture(scene, np.random.default_rng(3))[1][FLAT].astype(np.float64)
        error = counts * made.camera.unit - scene.z_m[FLAT]
        noise.append(error[counts > 0].std())
    assert noise[1] / noise[0] == pytest.approx(2.0, rel=0.05)


def test_the_lens_bends_image_and_depth_alike() -> None:
    made = station()
    bent = open_station("washer", 0, SceneChange(distortion=-0.05))
    before, after = seen(UNCHANGED, "dent"), bent.part(bent.random("test", 0), "dent")
    assert bent.intrinsics == made.intrinsics  # nobody tells the software
    lens = distorting(made.intrinsics, before.mask.shape, -0.05)
    assert lens is not None
    np.testing.assert_array_equal(after.mask, lens.mirrored(before.mask.astype(np.float32)) >= 0.5)
    np.testing.assert_allclose(after.z_m, lens.mirrored(before.z_m), atol=2e-4)
    assert np.abs(after.color - lens.mirrored(before.color)).mean() < 0.004
    assert np.abs(after.color - before.color).mean() > 0.01
