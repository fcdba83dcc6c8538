"""Depth noise follows the formula, grows with the square of distance, and readings fail where they
should.
"""

from __future__ import annotations

import numpy as np
import pytest

from trainer.synthetic.stereo import GLARE, StereoCamera, StereoImager

SIDE = 200


def imager() -> StereoImager:
    return StereoImager(StereoCamera(), np.random.default_rng(0), tile_px=400)


def plate(distance_m: float) -> np.ndarray:
    return np.full((SIDE, SIDE), distance_m, np.float32)


def rms_m(distance_m: float) -> float:
    depth = imager().read(
        plate(distance_m), np.zeros((SIDE, SIDE), np.float32), np.random.default_rng(1)
    )
    z = depth[depth > 0] * 0.0001
    return float(np.sqrt(np.mean((z - distance_m) ** 2)))


@pytest.mark.parametrize("distance_m", [0.2, 0.3, 0.45])
def test_noise_has_the_modeled_rms(distance_m: float) -> None:
    assert rms_m(distance_m) == pytest.approx(StereoCamera().sigma_m(distance_m), rel=0.15)


def test_noise_grows_with_the_square_of_distance() -> None:
    assert rms_m(0.4) / rms_m(0.2) == pytest.approx(4, rel=0.12)


def test_neighbors_share_noise_but_distant_pixels_do_not() -> None:
    depth = (
        imager()
        .read(plate(0.3), np.zeros((SIDE, SIDE), np.float32), np.random.default_rng(1))
        .astype(float)
    )
    error = np.where(depth > 0, depth - 3000, 0)

    def correlation(shift: int) -> float:
        return float(np.corrcoef(error[:, shift:].ravel(), error[:, :-shift].ravel())[0, 1])

    assert correlation(1) > 0.4
    assert abs(correlation(12)) < 0.1


def test_disparity_is_quantized() -> None:
    depth = imager().read(plate(0.3), np.zeros((SIDE, SIDE), np.float32), np.random.default_rng(1))
    levels = np.unique(depth[depth > 0])
    assert np.diff(levels).min() >= 3  # 1/32 pixel is 0.36 mm, 3.6 counts, at 0.30 m


def test_readings_fail_left_of_a_step_and_in_glare_and_hardly_elsewhere() -> None:
    z = plate(0.3)
    z[:, 100:] = 0.27
    glare = np.zeros((SIDE, SIDE), np.float32)
    glare[20:40, 140:180] = GLARE + 0.4
    depth = imager().read(z, glare, np.random.default_rng(1))
    assert (depth[20:40, 140:180] == 0).mean() > 0.95
    assert (depth[60:, 98:100] == 0).mean() > 0.9
    assert (depth[60:, :90] == 0).mean() < 0.005
    assert (depth[60:, 110:] == 0).mean() < 0.005
