"""`edge calibrate plane`, from the camera to the geometry that is saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.plane import PlaneFit, calibrate_plane
from calibration.remote import RemoteCamera, find_camera
from calibration.shown_parts import FRAME_TIMEOUT_S, require_fresh
from calibration.station import SOURCE_FPS
from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD
from edge.camera.protocol import Camera, EndOfFrames, opened
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.errors import CalibrationError
from edge.runtime.run import camera_for_source
from edge.sections import CameraConfig
from edge.station.site import CameraGeometry, ExpectedState
from edge.station.store import Installed, Store
from edge.types import Frame, Geometry

LEAST_REGION_PX = 32  # of a side of the region of interest


@dataclass(frozen=True)
class Crop:
    """Top left corner of the crop in pixels of the whole stream; None: where it is now.

    region: of interest: left, top, width and height in pixels of the crop; None: as it is now.
    """

    x: int | None = None
    y: int | None = None
    region: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class PlaneSession:
    """What a calibration of the plane found, and what it saved; serial: of the camera.

    dropped: the expected silhouette that was set before, and is not any more.
    """

    serial: str
    fit: PlaneFit
    saved: CameraGeometry
    dropped: ExpectedState | None = None


def table_camera(
    config: CameraConfig,
    root: Path,
    contract: CameraContract,
    source: Path | None = None,
    who: str | None = None,
) -> Camera:
    """The camera that [camera] names, before an empty table; not open yet.

    A real camera can be opened once: where `edge run` has it, that gives the frames.

    source: images or a recording that are played instead, under the configured serial. who: for the
    state of a running station, as open_remote takes it.
    Raises: ControlError if this account may not ask the running station.
    """
    if source is None:
        remote = find_camera(root, "plane", who) if config.is_live else None
        return remote or supervised_camera(config, root, contract, empty=True)
    played = camera_for_source(config, source).model_copy(update={"fps": SOURCE_FPS})
    return supervised_camera(played, root, contract)


def calibrate_station_plane(
    store: Store,
    installed: Installed,
    camera: Camera,
    frames: int,
    crop: Crop = Crop(),
    who: str | None = None,
) -> PlaneSession:
    """Fit the plane of the empty table, and save it for this product and camera.

    Args:
        camera: not open yet; it is closed at the end. frames: how many of them are fitted jointly.
        who: for the audit, where it is not the account that runs this.
    Raises: CalibrationError if the product needs no plane, something stands on the table, the table
        is not flat, crop or region leave the image or too few frames come; CameraError,
        StorageError.
    """
    store.require_writable()
    contract = installed.manifest.camera
    lift = require_depth(installed, "plane")
    views = list(_views(camera, contract, frames))
    whole = views[0]
    serial = store.known_serial(installed.product, whole.serial)
    known = store.geometry(installed.product, serial)
    before = store.geometry_record(installed.product, serial)
    x = _first(crop.x, known.crop_x if known else None, contract.crop_x)
    y = _first(crop.y, known.crop_y if known else None, contract.crop_y)
    region = _region(crop, contract, known.region if known else None)
    windows = [view.cropped(x, y, contract.crop_width, contract.crop_height) for view in views]
    if windows[0].color.shape[:2] != (contract.crop_height, contract.crop_width):
        raise CalibrationError(
            f"the crop at {x}, {y} leaves the image: choose --crop-x and --crop-y within it"
        )
    fit = calibrate_plane(windows, lift, contract.min_area, region)
    geometry = Geometry(fit.plane, x, y, region)
    told = camera.facts if isinstance(camera, SupervisedCamera | RemoteCamera) else NOTHING_TOLD
    saved = store.save_geometry(
        installed.product,
        serial,
        geometry,
        whole.intrinsics,
        len(views),
        fit.rms_m,
        who=who,
        calibration=told.calibration,
    )
    return PlaneSession(serial, fit, saved, before.expected if before else None)


def _region(
    crop: Crop, contract: CameraContract, now: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """(h, w) of the crop, 0 = ignore; None: all of it is judged. now: as it is.

    Raises: CalibrationError if it is not within the crop, or too small to judge a part in it.
    """
    if crop.region is None:
        return now
    left, top, width, height = crop.region
    right, bottom = left + width, top + height
    is_within = (
        0 <= left < right <= contract.crop_width and 0 <= top < bottom <= contract.crop_height
    )
    if not is_within:
        raise CalibrationError(
            f"the region of interest {left},{top},{width},{height} leaves the crop of"
            f" {contract.crop_width} x {contract.crop_height} pixels: choose one within it"
        )
    if (width, height) == (contract.crop_width, contract.crop_height):
        return None
    if min(width, height) < LEAST_REGION_PX:
        raise CalibrationError(
            f"the region of interest has {width} x {height} pixels: it needs"
            f" {LEAST_REGION_PX} each, since nothing is judged outside of it: choose a larger one"
        )
    mask = np.zeros((contract.crop_height, contract.crop_width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _views(camera: Camera, contract: CameraContract, count: int) -> Iterator[Frame]:
    """`count` fresh frames of the whole stream, each as the contract says.

    Raises: CameraError, CalibrationError.
    """
    previous = None
    with opened(camera):
        for index in range(count):
            try:
                frame = camera.next_frame(FRAME_TIMEOUT_S)
            except EndOfFrames as error:
                raise CalibrationError(
                    f"{error}: {count} are needed, ask for --frames {index} or show more"
                ) from error
            require_fresh(previous, frame, contract)
            previous = frame
            yield frame


def require_depth(installed: Installed, what: str) -> float:
    """The height threshold in meters, which a product with depth has.

    Raises: CalibrationError for a color-only product, which needs no such thing.
    """
    lift = next((spec.default for spec in installed.manifest.inputs if spec.name == "lift"), None)
    if lift is None:
        raise CalibrationError(
            f"{installed.product} {installed.manifest.version} judges color only: it needs no"
            f" {what}"
        )
    return lift
