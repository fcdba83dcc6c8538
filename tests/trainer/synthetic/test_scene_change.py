"""What `--scene` takes, and what its numbers mean for light and camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge.errors import ConfigError
from trainer.synthetic.lens import distorting
from trainer.synthetic.scene_change import (
    KEYS,
    UNCHANGED,
    WHITE_BALANCE_K,
    SceneChange,
    parse_scene,
    white_balance_factors,
)

LENS = (440.0, 440.0, 320.8, 238.7)


def test_keys_with_and_without_a_value() -> None:
    assert parse_scene("light=-90, exposure=0.7") == SceneChange(light=-90, exposure=0.7)
    assert parse_scene("distance") == SceneChange(distance=KEYS["distance"].usual)
    assert parse_scene("table=3").table == 3


def test_all_changes_every_key_and_a_value_beside_it_overrides_it() -> None:
    together = parse_scene("all")
    assert all(getattr(together, name) != getattr(UNCHANGED, name) for name in KEYS)
    assert parse_scene("all,light=10").light == parse_scene("light=10,all").light == 10
    assert parse_scene("all,light=10").gain == together.gain
    assert together.exposure * together.gain == pytest.approx(KEYS["exposure"].usual)


def test_every_key_belongs_to_a_field_and_every_usual_value_is_within_its_limits() -> None:
    assert set(KEYS) == set(UNCHANGED.plain())
    for name, key in KEYS.items():
        assert key.least <= key.usual <= key.largest
        assert key.least <= getattr(UNCHANGED, name) <= key.largest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "changes nothing: choose from light"),
        (" , ", "changes nothing"),
        ("lamp=40", "there is no lamp to change: choose from light, elevation"),
        ("=40", "there is no key to change"),
        ("all=1", "there is no all to change"),
        ("exposure=9", "--scene exposure=9: write a number from 0.25 to 4, times"),
        ("exposure=bright", "--scene exposure=bright: write a number from 0.25 to 4"),
        ("exposure=", "--scene exposure=: write a number"),
        ("light=nan", "--scene light=nan: write a number from -180 to 180, degrees"),
        ("table=1.5", "--scene table=1.5: write a number from 0 to 999, as a number"),
        ("gain=2,gain=3", "gain stands there twice"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scene(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_camera_set_to_a_higher_color_temperature_shows_a_warmer_image() -> None:
    assert white_balance_factors(WHITE_BALANCE_K) == (1.0, 1.0, 1.0)
    red, green, blue = white_balance_factors(6500)
    assert red > 1.1 > green == 1.0 > 0.9 > blue
    red, green, blue = white_balance_factors(3200)
    assert red < 0.9 < green == 1.0 < 1.1 < blue


@pytest.mark.parametrize("k1", [-0.1, -0.03, 0.05])
def test_the_lens_distorts_as_opencv_projects_points(k1: float) -> None:
    """A point of the pinhole's image is where OpenCV's model of the lens sees it."""
    lens = distorting(LENS, (480, 640), k1)
    assert lens is not None
    fx, fy, cx, cy = LENS
    rows, columns = (axis.ravel() for axis in np.mgrid[20:460:40, 20:620:40])
    straight = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(rows.size)], 1)
    camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    seen, _ = cv2.projectPoints(straight, np.zeros(3), np.zeros(3), camera, np.array([k1, 0, 0, 0]))
    u, v = seen[:, 0].astype(np.float32).T
    inside = (u > 1) & (u < 638) & (v > 1) & (v < 478)
    for source, true in ((lens.u, columns), (lens.v, rows)):
        back = cv2.remap(source, u[None], v[None], cv2.INTER_LINEAR)[0]
        np.testing.assert_allclose(back[inside], true[inside], atol=0.02)


def test_a_lens_without_distortion_moves_nothing() -> None:
    assert distorting(LENS, (480, 640), 0.0) is None
