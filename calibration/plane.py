"""The background plane from depth readings: RANSAC, then least squares. Pure: no camera, no disk,
no clock.

Readings are fitted in inverse depth. With r = ((u - cx) / fx, (v - cy) / fy, 1), a plane n . X =
delta is 1 / z = m . r with m = n / delta: linear in m, and stereo noise, constant in disparity, is
constant in 1 / z, so that plain least squares is the maximum-likelihood fit. The consensus search
is RANSAC (Fischler and Bolles, 1981) with one change: a reading behind a plane counts against it as
much as a reading on the plane counts for it, because parts stand on the table and nothing lies
behind it. So the table wins over a part whose flat top fills more of the view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import CalibrationError
from edge.geometry import Plane, heights_m, plane_for_crop, plane_from_normal, tilt_deg
from edge.types import Frame, Intrinsics

__all__ = [
    "PlaneFit",
    "calibrate_plane",
    "fit_plane",
    "fit_plane_to_frames",
    "heights_m",
    "plane_for_crop",
    "require_empty_table",
    "standing_share",
]

# three readings each: with a quarter of the readings on the table, one in 64 hits it
HYPOTHESES = 600
SCORED_READINGS = 4_000  # enough to rank hypotheses
FITTED_READINGS = 400_000
CELL_PX = 4
# of the readings of an empty table: the rest are flying pixels and reflections
MIN_INLIER_SHARE = 0.9
MAX_STANDING = 0.005  # share of an empty view that may stand over the plane
# of the distance; a D435 keeps 0.5 % at 1 m, readings spread over the tolerance give 0.9 %
MAX_RMS = 0.006
MAX_TILT_DEG = 75.0  # steeper than that is a wall, not a table under a camera


@dataclass(frozen=True)
class PlaneFit:
    """A fitted plane and how far to trust it.

    plane: alpha, beta, gamma, delta for the pixels of the fitted window.
    tilt_deg: between its normal and the optical axis. distance_m: from the camera's center, along
    the normal.
    rms_m: root mean square height of the inliers. inlier_share: of all readings, within the
    tolerance.
    reading_share: of all pixels in the region, those with a reading. frames: how many were fitted
    jointly.
    """

    plane: Plane
    tilt_deg: float
    distance_m: float
    rms_m: float
    inlier_share: float
    reading_share: float
    frames: int


@dataclass(frozen=True)
class _Readings:
    """rays: (P, 3) float64, z component 1. z_m: (P,) float64.

    share: of the pixels in the region, those with a reading.
    """

    rays: NDArray[np.float64]
    z_m: NDArray[np.float64]
    share: float


def fit_plane(
    depths: Sequence[NDArray[np.uint16]],
    unit: float,
    intrinsics: Intrinsics,
    region: NDArray[np.uint8] | None = None,
    tolerance: float = 0.005,
    min_inlier_share: float = 0.2,
    seed: int = 0,
) -> PlaneFit:
    """The table under a fixed camera, from one depth image or jointly from many; parts may stand on
    it.

    Args:
        depths: (H, W) uint16 counts each, 0 = no reading, all of one size.
        unit: meters per count.
        intrinsics: of these images (after a crop: of the crop).
        region: (H, W), 0 = ignore; None looks at every pixel.
        tolerance: a reading at z meters is on the plane within max(3 counts, tolerance * z) meters,
            or up to three times that where the camera is so noisy.
        min_inlier_share: below this share of the readings there is no table.
        seed: of the random draws; the same readings and seed give the same plane.
    Raises: CalibrationError when fewer than 5 % of the pixels have a reading, or no plane holds
        enough of them.
    """
    rng = np.random.default_rng(seed)
    readings = _gather(depths, unit, intrinsics, region, rng)
    allowed_m = np.maximum(3 * unit, tolerance * readings.z_m)
    m = _best_hypothesis(readings, allowed_m, rng)
    for _ in range(5):
        on_plane = _on_plane(_heights(m, readings), allowed_m)
        if np.count_nonzero(on_plane) < 3:
            break
        m = _least_squares(readings, on_plane)
    residuals = _heights(m, readings)
    on_plane = _on_plane(residuals, allowed_m)
    inlier_share = float(on_plane.mean())
    if inlier_share < min_inlier_share:
        raise CalibrationError(
            f"no flat table in view: the best plane holds {inlier_share:.0%} of the depth readings,"
            f" {min_inlier_share:.0%} are needed. Point the camera at the empty, flat table"
        )
    distance_m = 1.0 / float(np.linalg.norm(m))
    plane = plane_from_normal([float(value) for value in m * distance_m], distance_m, intrinsics)
    rms_m = float(np.sqrt(np.mean(residuals[on_plane] ** 2)))
    return PlaneFit(
        plane,
        tilt_deg(plane, intrinsics),
        distance_m,
        rms_m,
        inlier_share,
        readings.share,
        len(depths),
    )


def fit_plane_to_frames(
    frames: Sequence[Frame], region: NDArray[np.uint8] | None = None
) -> PlaneFit:
    """`fit_plane` over frames of one fixed camera.

    Raises: CalibrationError also when there is no frame, one has no depth, or units or intrinsics
    differ between them.
    """
    depths = [frame.depth for frame in frames if frame.depth is not None]
    if not frames or len(depths) != len(frames):
        raise CalibrationError(
            f"{len(depths)} of {len(frames)} frames have depth: a plane needs a depth camera"
        )
    first = frames[0]
    if any(frame.unit != first.unit or frame.intrinsics != first.intrinsics for frame in frames):
        raise CalibrationError(
            "the frames differ in depth unit or intrinsics: fit one camera in one setting"
        )
    return fit_plane(depths, first.unit, first.intrinsics, region)


def standing_share(
    depths: Sequence[NDArray[np.uint16]],
    unit: float,
    plane: Sequence[float],
    lift_m: float,
    region: NDArray[np.uint8] | None = None,
) -> float:
    """Share of the region that stands higher than lift_m over the plane: what the station would
    call a part.

    As the graph does, heights are averaged over cells before they are compared, and first each
    pixel's median is taken over the frames that read it: neither noise nor a passing speckle stands
    on the table.
    """
    stack = np.stack(depths)
    counts = np.where(stack > 0, stack, np.nan).astype(np.float32)
    read = (stack > 0).any(axis=0)
    median = np.zeros(read.shape, np.float32)
    median[read] = np.nanmedian(counts[:, read], axis=0)
    heights = heights_m(np.rint(median).astype(np.uint16), unit, plane)
    inside = np.ones(read.shape, bool) if region is None else region > 0
    counted = _cell_sums(inside & read)
    standing = _cell_sums(np.where(inside & read, heights, 0.0)) > lift_m * np.maximum(counted, 1)
    looked_at = _cell_sums(inside)
    return float((looked_at * standing).sum() / max(1.0, float(looked_at.sum())))


def _cell_sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """(H, W) to (H / CELL_PX, W / CELL_PX), a rim that fills no cell left out."""
    height, width = (size // CELL_PX for size in values.shape)
    cells = (
        values[: height * CELL_PX, : width * CELL_PX]
        .astype(np.float64)
        .reshape(height, CELL_PX, width, CELL_PX)
    )
    sums: NDArray[np.float64] = cells.sum(axis=(1, 3))
    return sums


def calibrate_plane(
    frames: Sequence[Frame], lift_m: float, min_area: float, region: NDArray[np.uint8] | None = None
) -> PlaneFit:
    """The plane of an empty table, or a refusal.

    Args:
        frames: views of the crop, nothing standing in it.
        lift_m: height from which the product's graph sees a part. min_area: the share of the region
            it takes for one.
        region: (h, w), 0 = ignore.
    Raises: CalibrationError when there is no table in view, it is uneven, or something stands on
        it.
    """
    fit = fit_plane_to_frames(frames, region)
    depths = [frame.depth for frame in frames if frame.depth is not None]
    standing = standing_share(depths, frames[0].unit, fit.plane, lift_m, region)
    require_empty_table(
        fit,
        standing,
        max_standing=min(MAX_STANDING, min_area / 2) if min_area > 0 else MAX_STANDING,
    )
    return fit


def require_empty_table(fit: PlaneFit, standing: float, max_standing: float = MAX_STANDING) -> None:
    """Refuse a plane fitted while something stood on the table, or to a table that is not flat.

    Args:
        fit: the plane. standing: `standing_share` at the product's lift.
    Raises: CalibrationError, naming what is wrong and what to do.
    """
    if fit.inlier_share < MIN_INLIER_SHARE:
        raise CalibrationError(
            f"{fit.inlier_share:.1%} of the depth readings lie on the table plane,"
            f" {MIN_INLIER_SHARE:.0%} are needed: something stands on the table, or it is not flat."
            " Clear it, or mask its edge with the region, and repeat"
        )
    if standing > max_standing:
        raise CalibrationError(
            f"{standing:.1%} of the view stands above the table plane, at most {max_standing:.1%}"
            " may: clear the table and repeat"
        )
    if fit.rms_m > MAX_RMS * fit.distance_m:
        raise CalibrationError(
            f"the depth readings scatter {1000 * fit.rms_m:.1f} mm about the table plane, at this"
            f" distance at most {1000 * MAX_RMS * fit.distance_m:.1f} mm may: check exposure and"
            " laser, and that the table is flat"
        )


def _gather(
    depths: Sequence[NDArray[np.uint16]],
    unit: float,
    intrinsics: Intrinsics,
    region: NDArray[np.uint8] | None,
    rng: np.random.Generator,
) -> _Readings:
    """Up to FITTED_READINGS readings, the same share of every image."""
    if not depths:
        raise CalibrationError("no depth image: a plane needs at least one")
    i = intrinsics
    budget = FITTED_READINGS // len(depths)
    rays, z_m, looked_at, read = [], [], 0, 0
    for depth in depths:
        inside = np.ones(depth.shape, bool) if region is None else region > 0
        pixels = np.flatnonzero((depth > 0) & inside)
        looked_at += int(inside.sum())
        read += len(pixels)
        if len(pixels) > budget:
            pixels = rng.choice(pixels, budget, replace=False)
        v, u = np.divmod(pixels, depth.shape[1])
        rays.append(np.stack([(u - i.cx) / i.fx, (v - i.cy) / i.fy, np.ones(len(pixels))], axis=1))
        z_m.append(depth.reshape(-1)[pixels] * unit)
    share = read / max(1, looked_at)
    if share < 0.05 or read < 100:
        raise CalibrationError(
            f"{share:.1%} of the pixels have a depth reading, 5 % are needed: "
            "check distance, laser and exposure of the camera"
        )
    return _Readings(np.concatenate(rays), np.concatenate(z_m), share)


def _heights(m: NDArray[np.float64], readings: _Readings) -> NDArray[np.float64]:
    """(P,) heights in meters over the plane 1 / z = m . r.

    delta - n . X = delta (1 - z m . r), delta = 1 / |m|.
    """
    heights: NDArray[np.float64] = (1.0 - readings.z_m * (readings.rays @ m)) / np.linalg.norm(m)
    return heights


def _on_plane(heights: NDArray[np.float64], allowed_m: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(P,) which readings lie on the plane, within three sigma of the noise measured behind it,
    where no part can be.

    The noise widens the tolerance up to three times and never narrows it.
    """
    behind = heights[heights < 0]
    sigma = 1.4826 * float(np.median(-behind)) if len(behind) else 0.0
    return np.asarray(np.abs(heights) <= np.clip(3 * sigma, allowed_m, 3 * allowed_m))


def _least_squares(readings: _Readings, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(3,) m that minimizes the sum of (1 / z - m . r)^2 over the chosen readings."""
    rays = readings.rays[chosen]
    solution: NDArray[np.float64] = np.linalg.lstsq(
        rays.T @ rays, rays.T @ (1.0 / readings.z_m[chosen]), rcond=None
    )[0]
    return solution


def _best_hypothesis(
    readings: _Readings, allowed_m: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(3,) m of the plane through three readings with the most readings on it, less those behind
    it.
    """
    triples = rng.integers(0, len(readings.z_m), (HYPOTHESES, 3))
    triples = triples[np.abs(np.linalg.det(readings.rays[triples])) > 1e-6]
    if not len(triples):
        raise CalibrationError("the depth readings lie on one line: nothing flat is in view")
    solved = np.linalg.solve(readings.rays[triples], 1.0 / readings.z_m[triples][..., None])[..., 0]
    steep = math.cos(math.radians(MAX_TILT_DEG))
    facing = solved[solved[:, 2] > steep * np.linalg.norm(solved, axis=1)]
    if not len(facing):
        raise CalibrationError(
            f"every plane in view tilts over {MAX_TILT_DEG:.0f} degrees: turn the camera to it"
        )
    scored = rng.integers(0, len(readings.z_m), SCORED_READINGS)
    sample = _Readings(readings.rays[scored], readings.z_m[scored], readings.share)
    scores = [_support(_heights(m, sample), allowed_m[scored]) for m in facing]
    best: NDArray[np.float64] = facing[int(np.argmax(scores))]
    return best


def _support(heights: NDArray[np.float64], allowed_m: NDArray[np.float64]) -> int:
    """Readings on the plane less readings behind it."""
    return int(np.count_nonzero(np.abs(heights) <= allowed_m)) - int(
        np.count_nonzero(heights < -allowed_m)
    )
