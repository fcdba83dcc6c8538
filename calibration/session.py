"""One calibration of a station, from its camera or its bundle to the state that is saved.

The steps are pure functions (calibration.plane, calibration.silhouette, calibration.threshold); a
session joins them with the camera that shows the empty table or the parts, and with the root that
keeps the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.plane import PlaneFit, calibrate_plane
from calibration.shown_parts import FRAME_TIMEOUT_S, Viewer, require_fresh, shown_parts
from calibration.silhouette import (
    ExpectedSilhouette,
    expected_silhouette,
    find_displaced,
    silhouette_of,
    surprises_px,
)
from calibration.threshold import calibrate_threshold
from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD
from edge.camera.protocol import Camera, EndOfFrames, opened
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.config import EdgeConfig
from edge.decide.verdict import DecisionRule
from edge.errors import CalibrationError
from edge.install.proven import open_proven_engine
from edge.proof.golden import read_normal
from edge.proof.threshold import Threshold
from edge.runtime.pipeline import SiteState, site_state
from edge.runtime.run import camera_for_source, plan_for
from edge.schema import Precision
from edge.sections import CameraConfig, RuntimeConfig
from edge.station.site import CameraGeometry, ExpectedState, ModelState
from edge.station.store import Installed, Store
from edge.types import Frame, Geometry

SOURCE_FPS = 120  # of files that are played: as fast as [camera] allows


@dataclass(frozen=True)
class Crop:
    """Top left corner of the crop in pixels of the whole stream; None: where it is now."""

    x: int | None = None
    y: int | None = None


@dataclass(frozen=True)
class PlaneSession:
    """What a calibration of the plane found, and what it saved; serial: of the camera.

    dropped: the expected silhouette that was set before, and is not any more.
    """

    serial: str
    fit: PlaneFit
    saved: CameraGeometry
    dropped: ExpectedState | None = None


@dataclass(frozen=True)
class ExpectedSession:
    """What a calibration of the expected silhouette found, and what it saved.

    serial: of the camera. margin_mm: on the table, in the middle of the view.
    """

    serial: str
    found: ExpectedSilhouette
    margin_mm: float
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
    lift = _require_depth(installed, "plane")
    views = list(_views(camera, contract, frames))
    whole = views[0]
    known = store.geometry(installed.product, whole.serial)
    before = store.geometry_record(installed.product, whole.serial)
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
    told = camera.facts if isinstance(camera, SupervisedCamera) else NOTHING_TOLD
    saved = store.save_geometry(
        installed.product,
        whole.serial,
        geometry,
        whole.intrinsics,
        len(views),
        fit.rms_m,
        calibration=told.calibration,
    )
    return PlaneSession(whole.serial, fit, saved, before.expected if before else None)


def calibrate_station_expected(
    store: Store,
    installed: Installed,
    config: EdgeConfig,
    count: int,
    source: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> ExpectedSession:
    """Find where every part of a fixed pose has material, and save it for this product and camera.

    Args:
        count: normal parts, shown one after the other. source: a folder of images, each of which
            shows one part, or a recording, in place of the camera.
        tell: is given one line for each part.
    Raises: CalibrationError if the product needs no expected silhouette, there is no plane for this
        camera, a part is not seen whole and alone, one lies apart from all others, or the poses
        differ too much; CameraError, EngineError, StorageError.
    """
    store.require_writable()
    _require_depth(installed, "expected silhouette")
    if source is not None:
        played = camera_for_source(config.camera, source).model_copy(update={"fps": SOURCE_FPS})
        config = config.model_copy(update={"camera": played})
    each_frame = plan_for(config, installed, store.root, count).each_frame
    each_frame = each_frame or (source is not None and source.is_dir())
    camera = supervised_camera(config.camera, store.root, installed.manifest.camera)
    with opened(camera):
        record = _record_with_plane(store, installed, camera.serial)
        with _viewer(store, installed, camera.serial, config.runtime) as viewer:
            views = shown_parts(camera, viewer, config.decision, count, each_frame, tell)
        found = _common_silhouette(views, viewer.site)
        serial = camera.serial
    saved = store.save_expected(
        installed.product,
        serial,
        found.mask,
        found.parts,
        found.margin_px,
        found.share,
        record.version,
    )
    margin_mm = 1000 * found.margin_px * _table_m_per_px(views[0], viewer.site)
    return ExpectedSession(serial, found, margin_mm, saved)


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


def _require_depth(installed: Installed, what: str) -> float:
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


def _record_with_plane(store: Store, installed: Installed, serial: str) -> CameraGeometry:
    """The calibrated geometry of this camera.

    Raises: CalibrationError if there is none; ConfigError if the file is damaged.
    """
    record = store.geometry_record(installed.product, serial)
    if record is None or record.plane is None:
        raise CalibrationError(
            f"no background plane for {installed.product} and camera {serial}: run `edge calibrate"
            " plane` on the empty table first"
        )
    return record


@contextmanager
def _viewer(
    store: Store, installed: Installed, serial: str, runtime: RuntimeConfig
) -> Iterator[Viewer]:
    """Looks at parts with the engine that judges, and expects no material anywhere."""
    contract, geometry = installed.manifest.camera, store.geometry(installed.product, serial)
    with store.inside():
        proven = open_proven_engine(store, installed, runtime.threads, runtime.precision)
    rule = DecisionRule(
        np.float32(proven.threshold.value),
        contract.min_area,
        contract.max_area,
        contract.min_valid,
        contract.max_border,
    )
    site = site_state(
        installed.manifest, None if geometry is None else replace(geometry, expected=None)
    )
    try:
        yield Viewer(proven.engine, rule, site, contract)
    finally:
        proven.engine.close()


def _common_silhouette(views: Sequence[Frame], site: SiteState) -> ExpectedSilhouette:
    """Where all parts shown have material.

    Raises: CalibrationError if one lies apart from all others, or their poses differ too much.
    """
    plane, lift = site.tensors["plane"].tolist(), float(site.tensors["lift"][0])
    region = site.tensors["region"][0, :, :, 0]
    silhouettes = [
        silhouette_of(view.depth, view.unit, plane, lift, region)
        for view in views
        if view.depth is not None
    ]
    surprises = surprises_px(silhouettes)
    odd = find_displaced(surprises)
    if odd is not None:
        raise CalibrationError(
            f"part {odd + 1} of {len(views)} (frame {views[odd].frame_number}) lacks"
            f" {surprises[odd]:.0f} px of what all others have, the next at most"
            f" {np.delete(surprises, odd).max():.0f} px: it looks displaced or defective, take it"
            " out and repeat"
        )
    found = expected_silhouette(silhouettes)
    if found is None:
        raise CalibrationError(
            "the parts lie in different poses: they need no expected silhouette. If they should lie"
            " alike, check the fixture and repeat"
        )
    return found


def _table_m_per_px(view: Frame, site: SiteState) -> float:
    """Meters on the table that one pixel covers in the middle of the view."""
    alpha, beta, gamma, delta = site.tensors["plane"].tolist()
    height, width = view.color.shape[:2]
    z_m = delta / (alpha * (width - 1) / 2 + beta * (height - 1) / 2 + gamma)
    return float(z_m / view.intrinsics.fx)


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
