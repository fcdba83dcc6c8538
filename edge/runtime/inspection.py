"""`edge inspect`: each image is a part. Nothing is published, committed or kept."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.camera.contract import CameraContract, find_mismatch, reading_of
from edge.camera.protocol import EndOfFrames, opened
from edge.camera.supervised import supervised_camera
from edge.config import read_config
from edge.decide.clipping import find_odd_brightness, measure_brightness
from edge.decide.verdict import unjudged
from edge.frames.camera_info import names_no_camera
from edge.frames.dataset import open_images
from edge.frames.recording import RECORDING_SUFFIXES
from edge.install.proven import ProvenEngine, open_for_inspection, open_proven_engine
from edge.overlay import draw_inspection, write_png
from edge.runtime.active import ActiveBundle, resolve_active
from edge.runtime.pipeline import SiteState, inspect
from edge.schema import Precision
from edge.sections import CameraConfig
from edge.station.store import Installed, Store
from edge.types import Code, Frame, Judgment, Reason

log = logging.getLogger(__name__)

CAMERA_FRAME_S = 10.0
PLAYED_FPS = 120  # of a recording: as fast as [camera] allows
SETTLE_FRAMES = 5  # a camera's first frames are taken while its exposure settles


@dataclass(frozen=True, eq=False)
class View:
    """One image before it is judged. defect: "good", a type, "" if nobody said.

    mask: (H, W) the true defect.
    """

    name: str
    defect: str
    frame: Frame
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Row:
    """One image in the table: without pixels, so that any number of images fits in memory."""

    name: str
    defect: str
    serial: str
    code: Code
    reason: Reason
    score: np.float32 | None
    note: str

    @property
    def is_right(self) -> bool | None:
        """Whether the verdict agrees with the truth; None without truth, or for UNKNOWN."""
        if not self.defect or self.code is Code.UNKNOWN:
            return None
        return (self.code is Code.NG) == (self.defect != "good")


@dataclass(frozen=True, eq=False)
class Inspected:
    """One image and its verdict.

    note: what is wrong with the view, whatever the verdict, in one sentence.
    """

    view: View
    judgment: Judgment
    site: SiteState
    note: str = ""

    @property
    def row(self) -> Row:
        """Its line in the table."""
        view, judgment = self.view, self.judgment
        told = judgment.code, judgment.reason, judgment.score
        return Row(view.name, view.defect, view.frame.serial, *told, self.note)


@contextmanager
def opened_active(root: Path, precision: Precision | None = None) -> Iterator[ActiveBundle]:
    """The active bundle of the station under `root` with the engine that judges, closed at the end.

    precision: judge with this file of the bundle, on this machine's engine for it and by that
    engine's own threshold.
    Raises: BundleError, ParityError, EngineError, ConfigError.
    """
    store = Store(root)
    runtime = read_config(root).runtime

    def load_engine(installed: Installed) -> ProvenEngine:
        with store.inside():  # proves it where that has not been done
            if precision is not None:
                return open_for_inspection(store, installed, precision, runtime.threads)
            return open_proven_engine(store, installed, runtime.threads, runtime.precision)

    active = resolve_active(store, load_engine)
    try:
        yield active
    finally:
        active.engine.close()


def inspect_views(
    active: ActiveBundle, path: Path | None, tell: Callable[[str], None] = log.info
) -> Iterator[Inspected]:
    """Judge every image at `path`, or what the station's camera sees now.

    Args:
        path: a folder of any known layout, an image or a recording; None for the camera.
        tell: is given the notes on what was found in a folder.
    Raises: EngineError, ConfigError, DataError, CameraError.
    """
    configured = read_config(active.store.root).camera.serial
    for number, view in enumerate(_views(active, path, tell)):
        shown = _of_station(view, configured)
        if number == 0 and path is not None:
            _tell_camera(shown.frame.serial, active, tell)
        yield judge_view(shown, active)


def judge_line(active: ActiveBundle) -> str:
    """Which engine judges, by which threshold."""
    m, guarantee = active.manifest, active.guarantee
    origin = "this station's own" if guarantee.source == "site" else "measured on its own scores"
    head = (
        f"{m.product} {m.version}: {active.engine_name} judges, threshold {guarantee.value:.6g},"
        f" {origin}"
    )
    return f"{head}. {guarantee.sentence}" if guarantee.sentence else head


def judge_view(view: View, active: ActiveBundle) -> Inspected:
    """Judge as `edge run` does, except that an image may be of any age."""
    site = active.site(view.frame.serial)
    mismatch = find_mismatch(view.frame, active.manifest.camera)
    if mismatch is not None:
        return Inspected(
            view, unjudged(Reason.CAMERA_MISMATCH, active.rule.threshold), site, mismatch
        )
    judgment = inspect(view.frame, site, active.engine, active.rule)
    return Inspected(
        view, judgment, site, _odd_brightness(view.frame, site, active.manifest.camera)
    )


def _odd_brightness(frame: Frame, site: SiteState, contract: CameraContract) -> str:
    """How the brightness of the crop differs from that of every normal part; empty where it does
    not, or where theirs is not known.
    """
    x, y, width, height = site.crop
    window = frame.cropped(x, y, width, height).color
    if contract.brightness is None or window.shape[:2] != (height, width):
        return ""
    return find_odd_brightness(measure_brightness(window), contract.brightness) or ""


def write_overlay(folder: Path, one: Inspected) -> Path:
    """Verdict, heatmap, part and height of one image as PNG in `folder`; returns its path. Raises:
    OSError.

    A name such as test/dent/003 becomes test_dent_003.png: one folder to page through.
    """
    path = folder / f"{one.view.name.replace('/', '_')}.png"
    folder.mkdir(parents=True, exist_ok=True)
    x, y, width, height = one.site.crop
    window = one.view.frame.cropped(x, y, width, height)
    plane, lift = one.site.tensors.get("plane"), one.site.tensors.get("lift")
    mask, expected = one.view.mask, one.site.tensors.get("expected")
    picture = draw_inspection(
        window,
        one.judgment,
        title=f"{one.view.name} ({one.view.defect})" if one.view.defect else one.view.name,
        plane=None if plane is None else plane.tolist(),
        lift_m=None if lift is None else float(lift[0]),
        truth=None if mask is None else mask[y : y + height, x : x + width],
        region=one.site.tensors["region"][0, :, :, 0],
        expected=None if expected is None else expected[0, :, :, 0],
    )
    write_png(path, picture)
    return path


TABLE_HEAD = f"{'image':<32} {'truth':<18} {'verdict':<8} {'reason':<16} {'score':>10}"


def table_line(row: Row) -> str:
    """Image, truth, verdict, reason, score; then a mark if the verdict is wrong, and what is wrong
    with a view that was judged.
    """
    score = "-" if row.score is None else f"{float(row.score):.4f}"
    mark = "  <-- wrong" if row.is_right is False else ""
    note = f"  {row.note}" if row.note and row.reason is not Reason.CAMERA_MISMATCH else ""
    return (
        f"{row.name:<32} {row.defect or '?':<18} {row.code.name:<8} {row.reason.value:<16}"
        f" {score:>10}{mark}{note}"
    )


def closing_line(rows: Sequence[Row]) -> str:
    """The sums of the table, compared with the truth where there is one."""
    codes = Counter(row.code for row in rows)
    images = "1 image" if len(rows) == 1 else f"{len(rows)} images"
    line = f"{images}: {codes[Code.OK]} OK, {codes[Code.NG]} NG, {codes[Code.UNKNOWN]} UNKNOWN"
    good = [row for row in rows if row.defect == "good"]
    bad = [row for row in rows if row.defect not in ("good", "")]
    if not good and not bad:
        return line
    missed = sum(row.code is Code.OK for row in bad)
    rejected = sum(row.code is not Code.OK for row in good)
    return (
        f"{line}; missed {missed} of {len(bad)} defective, rejected {rejected} of {len(good)} good"
    )


def hint_for(rows: Sequence[Row], root: Path) -> str | None:
    """What to do about images that were not judged, or that differ from those of the training; None
    if there is nothing to do.
    """
    serial = next((row.serial for row in rows if row.reason is Reason.UNCALIBRATED), None)
    if serial is not None:
        return _hint_for_plane(serial, root)
    mismatch = next(
        (row.note for row in rows if row.note and row.reason is Reason.CAMERA_MISMATCH), None
    )
    if mismatch is not None:
        return mismatch
    odd = [row for row in rows if row.note]
    return f"{len(odd)} of {len(rows)} images: {odd[0].name}: {odd[0].note}" if odd else None


def _hint_for_plane(serial: str, root: Path) -> str:
    """What to do where images have no background plane."""
    store = Store(root)
    cameras = ", ".join(store.geometry_records(store.active().product))
    if names_no_camera(serial) and cameras:
        return (
            f"the files name no camera, and there are planes for several ({cameras}): set serial in"
            " [camera] of station.toml, or lay a camera.json with its serial beside the images"
        )
    return (
        f"no background plane for camera {serial}: run `edge calibrate plane --root {root}` on its"
        " empty table"
    )


def _views(active: ActiveBundle, path: Path | None, tell: Callable[[str], None]) -> Iterator[View]:
    if path is None:
        return _camera_view(active)
    if path.is_file() and path.suffix.lower() in RECORDING_SUFFIXES:
        return _recorded_views(path)
    return _dataset_views(path, active.manifest.camera, tell)


def _of_station(view: View, configured: str) -> View:
    """The view under the serial that station.toml names, where its files name no camera."""
    if not configured or not names_no_camera(view.frame.serial):
        return view
    return replace(view, frame=replace(view.frame, serial=configured))


def _tell_camera(serial: str, active: ActiveBundle, tell: Callable[[str], None]) -> None:
    """Which camera's plane judges files that name no camera."""
    known = active.store.known_serial(active.installed.product, serial)
    if known != serial:
        tell(f"note: the files name no camera: judged with the plane of camera {known}")


def _recorded_views(path: Path) -> Iterator[View]:
    """Played in a process of its own, as every camera: a damaged file may crash librealsense."""
    played = CameraConfig(kind="recording", path=str(path.absolute()), fps=PLAYED_FPS)
    with opened(supervised_camera(played, path.parent)) as camera:
        for index in count():
            try:
                yield View(f"{index:04d}", "", camera.next_frame(CAMERA_FRAME_S))
            except EndOfFrames:
                return


def _dataset_views(
    path: Path, contract: CameraContract, tell: Callable[[str], None]
) -> Iterator[View]:
    dataset = open_images(path, reading_of(contract))
    for note in dataset.notes:
        tell(f"note: {note}")
    parts = [sample for sample in dataset.samples if sample.split in ("test", "")] or list(
        dataset.samples
    )
    for sample in parts:
        yield View(
            sample.name,
            sample.defect,
            sample.load(),
            sample.load_mask() if sample.is_defective else None,
        )


def _camera_view(active: ActiveBundle) -> Iterator[View]:
    root = active.store.root
    with opened(
        supervised_camera(read_config(root).camera, root, active.manifest.camera, loop=True)
    ) as camera:
        for _ in range(SETTLE_FRAMES):
            frame = camera.next_frame(CAMERA_FRAME_S)
        yield View(f"camera-{frame.frame_number}", "", frame)
