"""`edge calibrate expected`, from parts in a fixed pose to the silhouette that is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.plane_session import require_depth
from calibration.remote import find_camera
from calibration.shown_parts import PartSource, Sight, Viewer, best_sight, next_of, why_not_judged
from calibration.silhouette import (
    ExpectedSilhouette,
    expected_silhouette,
    find_displaced,
    silhouette_of,
    surprises_px,
)
from calibration.station import SOURCE_FPS
from edge.camera.protocol import Camera, opened
from edge.camera.supervised import supervised_camera
from edge.config import EdgeConfig
from edge.decide.gate import Gate
from edge.decide.gate_factory import new_gate
from edge.decide.verdict import DecisionRule
from edge.errors import CalibrationError
from edge.install.proven import open_proven_engine
from edge.runtime.pipeline import SiteState, site_state
from edge.runtime.run import camera_for_images, plan_for, require_normal_source
from edge.sections import CameraConfig, RuntimeConfig
from edge.station.site import CameraGeometry
from edge.station.store import Installed, Store
from edge.types import Frame


@dataclass(frozen=True)
class ExpectedSession:
    """What a calibration of the expected silhouette found, and what it saved.

    serial: of the camera. margin_mm: on the table, in the middle of the view.
    """

    serial: str
    found: ExpectedSilhouette
    margin_mm: float
    saved: CameraGeometry


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
        differ too much; BusyError if a part, or another calibration, is open in a running station;
        CameraError, ControlError, EngineError, StorageError.
    """
    store.require_writable()
    require_depth(installed, "expected silhouette")
    require_normal_source(source, installed)
    if source is not None:
        played = camera_for_images(store, installed, config.camera, source).model_copy(
            update={"fps": SOURCE_FPS}
        )
        config = config.model_copy(update={"camera": played})
    each_frame = plan_for(config, installed, store.root, count).each_frame
    each_frame = each_frame or (source is not None and source.is_dir())
    camera = _parts_camera(config.camera, store, installed, source)
    with opened(camera):
        record = _record_with_plane(store, installed, camera.serial)
        with _viewer(store, installed, camera.serial, config.runtime) as viewer:
            gate: Gate[Sight] = new_gate(
                viewer.rule, config.decision, each_frame, starts_unsure=False
            )
            views = _views(PartSource(camera, viewer, gate), count, tell)
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


def _parts_camera(
    config: CameraConfig, store: Store, installed: Installed, source: Path | None
) -> Camera:
    """Not open yet. A real camera can be opened once: where `edge run` has it, that gives the
    frames. The engine is this process's own: with an expected silhouette of another crop the
    station judges no frame.

    Raises: ControlError if this account may not ask the running station.
    """
    remote = find_camera(store.root, "expected") if source is None and config.is_live else None
    return remote or supervised_camera(config, store.root, installed.manifest.camera)


def _views(source: PartSource, count: int, tell: Callable[[str], None]) -> list[Frame]:
    """The crop of one frame of each of `count` parts.

    Raises: CalibrationError if a part is not seen whole and alone, or fewer than count come;
        CameraError.
    """
    found: list[Frame] = []
    while len(found) < count:
        part, number = next_of(source, len(found), count), len(found) + 1
        why_not = why_not_judged(part)
        if why_not is not None:
            raise CalibrationError(f"part {number}: {why_not}, and repeat")
        found.append(best_sight(part).window)
        tell(f"part {number} of {count}: frame {found[-1].frame_number}")
    return found


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
    """Looks at parts with the engine that judges, and expects no material anywhere. A part that
    reaches the border is not shown whole, also where production knows no limit for it.
    """
    contract, geometry = installed.manifest.camera, store.geometry(installed.product, serial)
    with store.inside():
        proven = open_proven_engine(store, installed, runtime.threads, runtime.precision)
    rule = DecisionRule(
        np.float32(proven.threshold.value),
        contract.min_area,
        contract.max_area,
        contract.min_valid,
        contract.max_border if contract.max_border < 1.0 else 0.0,
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
