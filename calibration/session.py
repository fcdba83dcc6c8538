"""One calibration of a station, from its camera or its bundle to the state that is saved.

The steps are pure functions (calibration.plane, calibration.threshold); a session joins them with
the camera that shows the empty table and with the root that keeps the result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from calibration.plane import PlaneFit, calibrate_plane
from calibration.threshold import calibrate_threshold
from edge.camera.contract import CameraContract, find_staleness, require_match
from edge.camera.protocol import Camera, EndOfFrames, opened
from edge.camera.supervised import supervised_camera
from edge.config import CameraConfig, RuntimeConfig
from edge.errors import CalibrationError, CameraLost
from edge.install.proven import open_proven_engine
from edge.proof.golden import read_normal
from edge.proof.threshold import Threshold
from edge.schema import Precision
from edge.station.site import CameraGeometry, ModelState
from edge.station.store import Installed, Store
from edge.types import Frame, Geometry

FRAME_TIMEOUT_S = 5.0
SOURCE_FPS = 120  # of files that are played: as fast as [camera] allows


@dataclass(frozen=True)
class Crop:
    """Top left corner of the crop in pixels of the whole stream; None: where it is now."""

    x: int | None = None
    y: int | None = None


@dataclass(frozen=True)
class PlaneSession:
    """What a calibration of the plane found, and what it saved; serial: of the camera."""

    serial: str
    fit: PlaneFit
    saved: CameraGeometry


@dataclass(frozen=True)
class ThresholdSession:
    """The engine that judges, its thresholds, and what was saved.

    of_bundle: at the rate that the bundle was exported with. own: at the rate of this station.
    """

    engine: str
    precision: Precision
    of_bundle: Threshold
    own: Threshold
    saved: ModelState


def table_camera(
    config: CameraConfig, root: Path, contract: CameraContract, source: Path | None = None
) -> Camera:
    """The camera that [camera] names, before an empty table; not open yet.

    source: images or a recording that are played instead, under the configured serial.
    """
    if source is None:
        return supervised_camera(config, root, contract, empty=True)
    played = {
        "kind": "recording" if source.is_file() else "virtual",
        "path": str(source.absolute()),
        "fps": SOURCE_FPS,
    }
    return supervised_camera(config.model_copy(update=played), root, contract)


def calibrate_station_plane(
    store: Store, installed: Installed, camera: Camera, frames: int, crop: Crop = Crop()
) -> PlaneSession:
    """Fit the plane of the empty table, and save it for this product and camera.

    Args:
        camera: not open yet; it is closed at the end. frames: how many of them are fitted jointly.
    Raises: CalibrationError if the product needs no plane, something stands on the table, the table
        is not flat, the crop leaves the image or too few frames come; CameraError, StorageError.
    """
    store.require_writable()
    contract = installed.manifest.camera
    lift = next((spec.default for spec in installed.manifest.inputs if spec.name == "lift"), None)
    if lift is None:
        raise CalibrationError(
            f"{installed.product} {installed.manifest.version} judges color only: it needs no plane"
        )
    views = list(_views(camera, contract, frames))
    whole = views[0]
    known = store.geometry(installed.product, whole.serial)
    x = _first(crop.x, known.crop_x if known else None, contract.crop_x)
    y = _first(crop.y, known.crop_y if known else None, contract.crop_y)
    region = known.region if known else None
    windows = [view.cropped(x, y, contract.crop_width, contract.crop_height) for view in views]
    if windows[0].color.shape[:2] != (contract.crop_height, contract.crop_width):
        raise CalibrationError(
            f"the crop at {x}, {y} leaves the image: choose --crop-x and --crop-y within it"
        )
    fit = calibrate_plane(windows, lift, contract.min_area, region)
    geometry = Geometry(fit.plane, x, y, region)
    saved = store.save_geometry(
        installed.product, whole.serial, geometry, whole.intrinsics, len(views), fit.rms_m
    )
    return PlaneSession(whole.serial, fit, saved)


def calibrate_station_threshold(
    store: Store, installed: Installed, false_rejects: float, runtime: RuntimeConfig
) -> ThresholdSession:
    """Give the engine that judges the threshold for another rate of false rejects, and save it.

    The engine's own scores of the bundle's normal parts set it, under this station's site inputs.
    Raises: CalibrationError if the bundle does not carry enough normal parts for this rate;
        EngineError, StorageError.
    """
    store.require_writable()
    manifest = installed.manifest
    with store.inside():
        proven = open_proven_engine(store, installed, runtime.threads, runtime.precision)
    engine = proven.engine
    try:
        kept = store.model_state(installed, engine.precision, engine.name)
        tensors = kept.arrays() if kept is not None else {}
        normal = read_normal(installed.normal, manifest.inputs)
        left_out = len(manifest.normal.left_out)
        own = calibrate_threshold(engine, normal, false_rejects, left_out, tensors)
    finally:
        engine.close()
    saved = store.save_model_state(
        installed,
        engine.precision,
        engine.name,
        own.parts,
        own.value,
        own.guarantee,
        tensors,
        rank=own.rank,
    )
    return ThresholdSession(engine.name, engine.precision, proven.threshold, own, saved)


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
            require_match(frame, contract)
            stale = find_staleness(previous, frame, time.monotonic_ns(), 1000 * FRAME_TIMEOUT_S)
            if stale is not None:
                raise CameraLost(
                    f"camera {frame.serial}: {stale}: check the USB 3 cable, then repeat"
                )
            previous = frame
            yield frame
