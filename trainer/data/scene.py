"""Geometry of a data set: the crop, the background plane, and the height above it from which a
pixel is foreground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from calibration.plane import fit_plane, fit_plane_to_frames
from calibration.silhouette import expected_silhouette, silhouette_of
from edge.errors import CalibrationError, DataError
from edge.frames.clouds import FARTHEST_M, NEAREST_M
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.geometry import Plane
from edge.types import Frame
from trainer.graph.preprocess import ANY, Preprocess
from trainer.progress import progress

JOINT_FRAMES = 30  # of a fixed camera, fitted together: a station's own calibration takes as many
LEAST_READ = 0.01  # of the pixels of a depth image
LIFT_SIGMAS = 5.0
SPECK_MOST = 0.03  # of the square around a cell: a crumb far from the part has less
SPECK_PIECE = 0.05  # of the largest piece of a normal part: smaller ones may be crumbs
LEAST_EXPECTED = 5  # parts that an expected silhouette is made from
LIFT_LEAST_M = 0.0003  # below this a table's own unevenness and dust stand above the plane


@dataclass(frozen=True, eq=False)
class Scene:
    """Geometry that the graph inputs of one product need.

    crop: x, y, width, height in pixels of the stream. fixed: one plane for all images. plane: of
    the crop; None color-only or where each image has its own. lift: height threshold of the
    foreground, meters; None color-only. speck: share of the view around a cell that must stand
    above lift as well, or the cell is a crumb on the table; 0 where nothing is known of that.
    expected: (H, W) of the crop, 255 = where the parts of a fixed pose have material; None where
    they lie in different poses or the camera does.
    """

    crop: tuple[int, int, int, int]
    with_depth: bool
    fixed: bool
    plane: Plane | None
    lift: float | None
    speck: float = 0.0
    expected: NDArray[np.uint8] | None = None

    def feeds_of(self, sample: Sample) -> dict[str, NDArray[np.generic]]:
        """As `feeds`, of an image on disk.

        Raises: DataError naming the file that cannot be used.
        """
        frame = sample.load()
        if self.with_depth and frame.depth is not None:
            require_readings(frame.depth, sample.path, frame.unit)
        try:
            return self.feeds(frame)
        except CalibrationError as error:
            raise DataError(f"{sample.path}: {error}") from error

    def feeds(self, frame: Frame) -> dict[str, NDArray[np.generic]]:
        """Graph inputs by name for a whole-stream frame.

        Raises: DataError if it is smaller than the crop or lacks depth.
        """
        cropped = crop_frame(frame, self.crop)
        region = np.ones((1, *cropped.color.shape[:2], 1), np.uint8)
        if not self.with_depth:
            return {"color": cropped.tensors()["color"], "region": region}
        if cropped.depth is None:
            raise DataError(
                f"frame {frame.frame_number} has no depth, and the run was trained with it"
            )
        plane = self.plane if self.plane is not None else plane_of(cropped)
        known = {} if self.expected is None else {"expected": self.expected[None, :, :, None]}
        return {
            **cropped.tensors(),
            **known,
            "region": region,
            "plane": np.array(plane, np.float32),
            "lift": np.array([self.lift], np.float32),
        }


def crop_frame(frame: Frame, crop: tuple[int, int, int, int]) -> Frame:
    """The window of a whole-stream frame. Raises: DataError if the frame is smaller."""
    x, y, width, height = crop
    if x + width > frame.intrinsics.width or y + height > frame.intrinsics.height:
        raise DataError(
            f"the crop {width}x{height} at ({x}, {y}) does not fit into an image of "
            f"{frame.intrinsics.width}x{frame.intrinsics.height} pixels"
        )
    return frame.cropped(x, y, width, height)


def require_readings(depth: NDArray[np.uint16], path: Path, unit: float) -> None:
    """Raises: DataError for a depth image (H, W) without readings, or at a distance that cannot be.

    unit: meters per count.
    """
    if np.count_nonzero(depth) < LEAST_READ * depth.size:
        raise DataError(
            f"{path} has a depth image with hardly a reading: was the projector off or the lens"
            " covered? Record it again, or leave it out"
        )
    distance = float(np.median(depth[depth > 0])) * unit
    if not NEAREST_M <= distance <= FARTHEST_M:
        raise DataError(
            f"{path} shows a scene {distance:.3g} m away: the depth unit of {unit:g} m per count is"
            " wrong"
        )


def plane_of(cropped: Frame) -> Plane:
    """The plane of one image whose camera moved: fitted to it alone, the part on the table
    included.
    """
    assert cropped.depth is not None  # the caller looked
    return fit_plane([cropped.depth], cropped.unit, cropped.intrinsics).plane


def measure_scene(
    dataset: Dataset,
    normal: Sequence[Sample],
    with_depth: bool,
    depth_working: tuple[int, int] | None,
) -> Scene:
    """Crop, plane and height threshold from normal training parts.

    lift: five sigma of the height of background cells (each the mean of many pixels), measured
    behind the plane, where no part can be; never below the deepest such cell in a thousand, or
    LIFT_LEAST_M. Raises: CalibrationError if no plane is in view.
    """
    camera = dataset.camera
    crop = camera.crop or (0, 0, camera.width, camera.height)
    if not with_depth or depth_working is None:
        return Scene(crop, False, camera.fixed, None, None)
    frames = [crop_frame(sample.load(), crop) for sample in normal[:JOINT_FRAMES]]
    plane = fit_plane_to_frames(frames).plane if camera.fixed else None
    behind = np.concatenate(
        [_depths_behind(frame, plane or plane_of(frame), depth_working) for frame in frames]
    )
    sigma = 1.4826 * float(np.median(behind)) if len(behind) else 0.0
    deepest = float(np.quantile(behind, 0.999)) if len(behind) else 0.0
    lift = max(LIFT_SIGMAS * sigma, deepest, LIFT_LEAST_M)
    speck = _speck_share(frames, plane, lift, depth_working)
    scene = Scene(crop, True, camera.fixed, plane, lift, speck)
    return replace(scene, expected=_expected(scene, normal))


def _expected(scene: Scene, normal: Sequence[Sample]) -> NDArray[np.uint8] | None:
    """Where all normal parts have material, less a margin; None where they do not lie alike."""
    if scene.plane is None or scene.lift is None or len(normal) < LEAST_EXPECTED:
        return None
    silhouettes = []
    for sample in progress(normal, "finding where the parts lie"):
        frame = crop_frame(sample.load(), scene.crop)
        assert frame.depth is not None  # measure_scene has fitted a plane to it
        silhouettes.append(silhouette_of(frame.depth, frame.unit, scene.plane, scene.lift))
    found = expected_silhouette(silhouettes)
    return None if found is None else found.mask


def _speck_share(
    frames: Sequence[Frame], plane: Plane | None, lift: float, depth_working: tuple[int, int]
) -> float:
    """Half of the least share of foreground around a cell of a normal part, at most SPECK_MOST.

    Pieces of the foreground below SPECK_PIECE of the largest one do not count: they may be crumbs.
    """
    least = 2 * SPECK_MOST
    for frame in frames:
        assert frame.depth is not None  # fit_plane_to_frames refuses frames without
        preprocess = Preprocess(
            frame.depth.shape[0], frame.depth.shape[1], depth_working, depth_working
        )
        named: dict[str, NDArray[np.generic]] = {
            **frame.tensors(),
            "region": np.ones((1, *frame.depth.shape, 1), np.uint8),
            "plane": np.array(plane or plane_of(frame), np.float32),
            "lift": np.array([lift], np.float32),
        }
        tensors = {name: torch.from_numpy(values) for name, values in named.items()}
        prepared = preprocess.prepared(tensors)
        around = preprocess.near_rows @ prepared.foreground @ preprocess.near_columns
        large = _large_pieces(prepared.foreground[0, 0].numpy())
        least = min(least, float(around[0, 0].numpy()[large].min(initial=least)))
    return least / 2


def _large_pieces(foreground: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(hd, wd) without its pieces below SPECK_PIECE of the largest."""
    mask = (foreground > 0).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = np.array(stats[:, cv2.CC_STAT_AREA])
    areas[0] = 0
    return np.isin(labels, np.flatnonzero(areas > SPECK_PIECE * areas.max()))


def _depths_behind(
    cropped: Frame, plane: Plane, depth_working: tuple[int, int]
) -> NDArray[np.float32]:
    """Meters by which cells lie behind the plane, as positive numbers: noise alone puts them
    there.
    """
    assert cropped.depth is not None  # fit_plane_to_frames refuses frames without
    preprocess = Preprocess(
        cropped.depth.shape[0], cropped.depth.shape[1], depth_working, depth_working
    )
    tensors = cropped.tensors()
    height, read = preprocess.average_height(
        torch.from_numpy(tensors["depth"]),
        torch.from_numpy(tensors["unit"]),
        torch.tensor([plane], dtype=torch.float32),
    )
    values = height[(read > 0.5) & (read > ANY)].numpy()
    return -values[values < 0]
