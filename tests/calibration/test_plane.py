"""The plane fit: closed-form scenes, real boards, and what it must refuse."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.plane import fit_plane, fit_plane_to_frames, require_empty_table, standing_share
from edge.errors import CalibrationError
from edge.geometry import heights_m, normal_of, plane_for_crop, plane_from_normal, tilt_deg
from edge.types import Frame, Intrinsics

CAMERA = Intrinsics(320, 240, 300.0, 302.0, 158.0, 121.0)
UNIT = 0.0001
NORMAL = np.array([0.06, -0.1, 0.993]) / np.linalg.norm([0.06, -0.1, 0.993])


def table(distance_m: float = 0.4, noise: float = 0.004, seed: int = 0) -> NDArray[np.float64]:
    """(240, 320) depth in meters of the plane NORMAL .

    X = distance; noise: RMS at 1 m, growing with z squared.
    """
    v, u = np.mgrid[:240, :320].astype(float)
    rays = np.stack(
        [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], axis=-1
    )
    z = distance_m / (rays @ NORMAL)
    return np.asarray(z + np.random.default_rng(seed).normal(size=z.shape) * noise * z**2)


def counts(z_m: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.rint(z_m / UNIT).astype(np.uint16)


def test_noiseless_plane_is_recovered_with_the_documented_signs() -> None:
    fit = fit_plane([counts(table(noise=0))], UNIT, CAMERA)
    assert fit.plane == pytest.approx(plane_from_normal(NORMAL.tolist(), 0.4, CAMERA), abs=2e-5)
    assert fit.distance_m == pytest.approx(0.4, abs=1e-5)
    assert fit.tilt_deg == pytest.approx(np.degrees(np.arccos(NORMAL[2])), abs=0.01)
    assert fit.inlier_share == 1.0
    assert fit.rms_m < UNIT
    raised = counts(table(noise=0) - 0.01)  # everything 1 cm nearer along the rays
    assert np.nanmean(heights_m(raised, UNIT, fit.plane)) == pytest.approx(0.01, abs=3e-4)


def test_flat_part_covering_most_of_the_view_does_not_become_the_table() -> None:
    z = table()
    z[20:220, 20:260] -= 0.02  # 62 % of the view is the flat top of a part
    fit = fit_plane([counts(z)], UNIT, CAMERA)
    assert fit.distance_m == pytest.approx(0.4, abs=5e-4)
    heights = heights_m(counts(z), UNIT, fit.plane)
    assert np.median(heights[40:200, 40:240]) == pytest.approx(0.02, abs=5e-4)


def test_joint_fit_beats_one_frame_and_ignores_holes() -> None:
    frames = [counts(table(noise=0.015, seed=seed)) for seed in range(10)]
    for depth in frames:
        depth[:, :100] = 0
    single, joint = fit_plane(frames[:1], UNIT, CAMERA), fit_plane(frames, UNIT, CAMERA)
    truth = np.array(plane_from_normal(NORMAL.tolist(), 0.4, CAMERA))
    corner = np.array([319 * 0.4, 239 * 0.4, 0.4, -1.0])  # error of the height in the far corner
    assert abs(corner @ (joint.plane - truth)) < 3e-4
    assert abs(corner @ (joint.plane - truth)) <= abs(corner @ (single.plane - truth)) + 5e-5
    assert joint.reading_share == pytest.approx(220 / 320)
    assert joint.frames == 10


def test_region_keeps_a_clamp_out() -> None:
    z = table()
    z[:, 200:] += 0.3  # beyond the belt's edge: the floor
    region = np.zeros((240, 320), np.uint8)
    region[:, :200] = 1
    fit = fit_plane([counts(z)], UNIT, CAMERA, region=region)
    assert fit.distance_m == pytest.approx(0.4, abs=5e-4)
    assert fit.inlier_share > 0.98


def test_crop_moves_the_plane_with_the_pixels() -> None:
    depth = counts(table(noise=0))
    plane = plane_from_normal(NORMAL.tolist(), 0.4, CAMERA)
    moved = plane_for_crop(plane, 30, 17)
    cropped = CAMERA.cropped(30, 17, 100, 80)
    np.testing.assert_allclose(
        heights_m(depth[17:97, 30:130], UNIT, moved),
        heights_m(depth, UNIT, plane)[17:97, 30:130],
        atol=1e-7,
    )
    assert normal_of(moved, cropped) == pytest.approx(tuple(NORMAL))
    assert tilt_deg(moved, cropped) == pytest.approx(tilt_deg(plane, CAMERA))


def test_heights_are_nan_where_nothing_was_read() -> None:
    depth = counts(table(noise=0))
    depth[5, 7] = 0
    heights = heights_m(depth, UNIT, plane_from_normal(NORMAL.tolist(), 0.4, CAMERA))
    assert np.isnan(heights[5, 7])
    assert np.isnan(heights).sum() == 1


@pytest.mark.parametrize("scene", ["nothing", "few", "rubble", "wall"])
def test_views_without_a_table_are_refused_in_one_sentence(scene: str) -> None:
    depth = np.zeros((240, 320), np.uint16)
    if scene == "few":
        depth[:6] = 4000
    if scene == "rubble":
        depth = np.random.default_rng(0).integers(2000, 20000, depth.shape).astype(np.uint16)
    if scene == "wall":  # 85 degrees from facing the camera
        slope, facing = np.sin(np.radians(85)), np.cos(np.radians(85))
        across = slope * (np.arange(320) - 158.0) / 300 + facing
        depth[:, across > 0.02] = np.rint(0.05 / across[across > 0.02] / UNIT).astype(np.uint16)
    with pytest.raises(CalibrationError, match=r"^[^\n]+$"):
        fit_plane([depth], UNIT, CAMERA)


def test_occupied_table_is_refused_and_empty_one_is_not() -> None:
    empty = [counts(table(seed=seed)) for seed in range(5)]
    fit = fit_plane(empty, UNIT, CAMERA)
    require_empty_table(fit, standing_share(empty, UNIT, fit.plane, 0.003))
    z = table()
    z[100:120, 100:140] -= 0.01  # a part on 1 % of the view: the inliers alone do not show it
    occupied = [counts(z)] * 3
    fit = fit_plane(occupied, UNIT, CAMERA)
    assert fit.inlier_share > 0.9
    assert standing_share(occupied, UNIT, fit.plane, 0.003) == pytest.approx(800 / 76800, rel=0.02)
    with pytest.raises(CalibrationError, match="clear the table"):
        require_empty_table(fit, standing_share(occupied, UNIT, fit.plane, 0.003))
    z[50:150] -= 0.01
    fit = fit_plane([counts(z)], UNIT, CAMERA)
    with pytest.raises(CalibrationError, match="something stands on the table"):
        require_empty_table(fit, 0.0)


def test_frames_of_two_settings_or_without_depth_are_refused() -> None:
    color = np.zeros((240, 320, 3), np.uint8)
    frame = Frame(color, counts(table()), UNIT, CAMERA, "x", 1, 1)
    other = Frame(color, counts(table()), 0.001, CAMERA, "x", 2, 2)
    blind = Frame(color, None, UNIT, CAMERA, "x", 3, 3)
    for frames in ([], [frame, blind], [frame, other]):
        with pytest.raises(CalibrationError):
            fit_plane_to_frames(frames)
    assert fit_plane_to_frames([frame]).distance_m == pytest.approx(0.4, abs=5e-4)


def test_real_boards_lie_within_five_millimeters(real_data: Path) -> None:
    """Ten overhead views of one object on a green board (PrimeSense, 0.73 m), robot arms and floor
    in view too.

    The board is what is green and not in the object's mask; at least 90 % of its readings lie
    within 5 mm of the plane.
    """
    folder = real_data / "rgbd" / "gqcnn_single_primesense"
    info = json.loads((folder / "intrinsics.json").read_text())
    camera = Intrinsics(
        info["width"], info["height"], info["fx"], info["fy"], info["cx"], info["cy"]
    )
    shares = []
    for path in sorted(folder.glob("*_depth.png")):
        names = (str(path).replace("_depth", kind) for kind in ("_depth", "_color", "_mask"))
        depth, color, part = (cv2.imread(name, cv2.IMREAD_UNCHANGED) for name in names)
        hue, saturation, _ = cv2.split(cv2.cvtColor(color, cv2.COLOR_BGR2HSV))
        board = (part == 0) & (depth > 0) & (hue > 25) & (hue < 50) & (saturation > 150)
        assert board.mean() > 0.4
        fit = fit_plane([depth], info["depth_unit_m"], camera)
        heights = heights_m(depth, info["depth_unit_m"], fit.plane)
        shares.append(float(np.mean(np.abs(heights[board]) <= 0.005)))
        assert np.median(heights[(part > 0) & (depth > 0)]) > 0.005  # and the object stands on it
    assert len(shares) == 10
    assert min(shares) >= 0.9, shares
