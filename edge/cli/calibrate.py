"""`edge calibrate`: what this station has to find out about its own place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.root import root_option

if TYPE_CHECKING:
    from calibration.plane import PlaneFit
    from edge.camera.contract import CameraContract
    from edge.camera.protocol import Camera
    from edge.station.store import Store
    from edge.types import Frame

app = typer.Typer(
    help="Fit this station to its place.", no_args_is_help=True, rich_markup_mode=None
)

FRAME_TIMEOUT_S = 5.0
SOURCE_FPS = 120  # of files that are played: as fast as [camera] allows


@app.callback()
def _describe() -> None:
    """Fit this station to its place."""


@app.command()
def plane(
    root: Path = root_option(),
    frames: int = typer.Option(
        30, min=1, max=300, help="Frames of the empty table, fitted jointly."
    ),
    source: Path | None = typer.Option(
        None,
        help="Images or a recording of the empty table, instead of the camera.",
        readable=False,
    ),
    product: str | None = typer.Option(None, help="Default: the active product."),
    crop_x: int | None = typer.Option(
        None, min=0, help="Left edge of the crop in pixels; default: as it is now."
    ),
    crop_y: int | None = typer.Option(
        None, min=0, help="Top edge of the crop in pixels; default: as it is now."
    ),
) -> None:
    """Empty table to the plane that heights are measured from, for this product and this camera.

    Refused, and nothing changed, when something stands on the table, it is not flat, or the camera
    is not the one that the product was trained for. A running `edge run` takes the new plane
    between two parts.
    """
    from calibration.plane import calibrate_plane
    from edge.errors import CalibrationError
    from edge.station.store import Store
    from edge.types import Geometry

    store = Store(root)
    installed = store.installed(product) if product is not None else store.active()
    store.require_writable()
    contract = installed.manifest.camera
    lift = next((spec.default for spec in installed.manifest.inputs if spec.name == "lift"), None)
    if lift is None:
        raise CalibrationError(
            f"{installed.product} {installed.manifest.version} judges color only: it needs no plane"
        )
    views = list(_views(_camera(root, source, contract), contract, frames))
    whole = views[0]
    known = store.geometry(installed.product, whole.serial)
    x = _first(crop_x, known.crop_x if known else None, contract.crop_x)
    y = _first(crop_y, known.crop_y if known else None, contract.crop_y)
    region = known.region if known else None
    windows = [view.cropped(x, y, contract.crop_width, contract.crop_height) for view in views]
    if windows[0].color.shape[:2] != (contract.crop_height, contract.crop_width):
        raise CalibrationError(
            f"the crop at {x}, {y} leaves the image: choose --crop-x and --crop-y within it"
        )
    fit = calibrate_plane(windows, lift, contract.min_area, region)
    store.save_geometry(
        installed.product,
        whole.serial,
        Geometry(fit.plane, x, y, region),
        whole.intrinsics,
        len(views),
        fit.rms_m,
    )
    _report(store, installed.product, whole.serial, fit)


@app.command()
def threshold(
    false_rejects: str = typer.Option(
        ..., help="Rate of false rejects to accept, such as 2% or 0.02."
    ),
    root: Path = root_option(),
    product: str | None = typer.Option(None, help="Default: the active product."),
) -> None:
    """Another operating point of the bundle: the engine that judges gets the threshold for this
    rate of false rejects.

    Its own scores of the normal parts in the bundle set it. A running `edge run` takes it between
    two parts.
    """
    from calibration.threshold import calibrate_threshold
    from edge.config import read_config
    from edge.install.proven import open_proven_engine
    from edge.proof.golden import read_normal
    from edge.proof.threshold import parse_rate
    from edge.station.store import Store

    rate = parse_rate(false_rejects)
    store, runtime = Store(root), read_config(root).runtime
    installed = store.installed(product) if product is not None else store.active()
    store.require_writable()
    manifest = installed.manifest
    with store.inside():
        proven = open_proven_engine(store, installed, runtime.threads, runtime.precision)
    engine = proven.engine
    try:
        before = store.model_state(installed, engine.precision, engine.name)
        tensors = before.arrays() if before is not None else {}
        normal = read_normal(installed.normal, manifest.inputs)
        own = calibrate_threshold(engine, normal, rate, len(manifest.normal.left_out), tensors)
    finally:
        engine.close()
    state = store.save_model_state(
        installed,
        engine.precision,
        engine.name,
        own.parts,
        own.value,
        own.guarantee,
        tensors,
        rank=own.rank,
    )
    print(f"product      {installed.product} {manifest.version}")
    print(f"engine       {engine.name} {engine.precision}")
    print(f"threshold    {own.value:.6g}; the bundle's rate gave {proven.threshold.value:.6g}")
    print(f"guarantee    {own.guarantee}")
    print(f"saved        version {state.version}, by {state.who}, {state.when}")


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _camera(root: Path, source: Path | None, contract: CameraContract) -> Camera:
    """What station.toml names, or the files instead of it, under its serial."""
    from edge.camera.supervised import supervised_camera
    from edge.config import read_config

    config = read_config(root).camera
    if source is None:
        return supervised_camera(config, root, contract, empty=True)
    played = {
        "kind": "recording" if source.is_file() else "virtual",
        "path": str(source.absolute()),
        "fps": SOURCE_FPS,
    }
    return supervised_camera(config.model_copy(update=played), root, contract)


def _views(camera: Camera, contract: CameraContract, count: int) -> Iterator[Frame]:
    """`count` fresh frames of the whole stream, each as the contract says.

    Raises: CameraError, CalibrationError.
    """
    import time

    from edge.camera.contract import find_staleness, require_match
    from edge.camera.protocol import EndOfFrames, opened
    from edge.errors import CalibrationError, CameraLost

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


def _report(store: Store, product: str, serial: str, fit: PlaneFit) -> None:
    record = store.geometry_record(product, serial)
    print(f"product      {product}")
    print(f"camera       {serial}")
    print(f"tilt         {fit.tilt_deg:.2f} degrees")
    print(f"distance     {1000 * fit.distance_m:.1f} mm")
    print(f"residual     {1000 * fit.rms_m:.2f} mm RMS")
    print(f"on the plane {fit.inlier_share:.1%} of the readings of {fit.frames} frames")
    print(f"no reading   {1 - fit.reading_share:.1%} of the pixels")
    if record is not None:
        print(f"saved        version {record.version}, by {record.who}, {record.when}")
