"""`edge calibrate`: what a station finds out on site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import product_option, root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from calibration.session import ExpectedSession, PlaneSession, ThresholdSession

app = typer.Typer(
    help="Calibrate this station on site.",
    **GROUP,
    epilog=example(
        "edge calibrate plane",
        "edge calibrate expected --count 10",
        "edge calibrate threshold --false-rejects 2%",
    ),
)


@app.callback()
def _describe() -> None:
    """Calibrate this station on site."""


@app.command(
    short_help="Measure the empty table: heights start there.",
    epilog=example("edge calibrate plane", "edge calibrate plane --root ./station --frames 60"),
)
def plane(
    root: Path = root_option(),
    product: str | None = product_option(),
    frames: int = typer.Option(
        30, min=1, max=300, help="Frames of the empty table, fitted jointly.", metavar="N"
    ),
    source: Path | None = typer.Option(
        None,
        help="Images or a .db3 recording of the empty table instead of the camera.",
        readable=False,
        metavar="PATH",
    ),
    crop_x: int | None = typer.Option(
        None, min=0, help="Left edge of the crop in pixels; default: as it is now.", metavar="PX"
    ),
    crop_y: int | None = typer.Option(
        None, min=0, help="Top edge of the crop in pixels; default: as it is now.", metavar="PX"
    ),
) -> None:
    """Fit the plane of the empty table, from which heights are measured, for this product and this
    camera.

    Refused, with nothing changed, if something stands on the table, the table is not flat, or the
    camera is not the one that the product was trained for. A running `edge run` takes the new plane
    between two parts.
    """
    from calibration.session import Crop, calibrate_station_plane, table_camera
    from edge.config import read_config
    from edge.station.store import Store

    store = Store(root)
    installed = store.installed(product) if product is not None else store.active()
    camera = table_camera(read_config(root).camera, root, installed.manifest.camera, source)
    done = calibrate_station_plane(store, installed, camera, frames, Crop(crop_x, crop_y))
    _report_plane(installed.product, done)


@app.command(
    short_help="Learn where parts of a fixed pose have material.",
    epilog=example(
        "edge calibrate expected --count 10", "edge calibrate expected --source line.db3 --count 5"
    ),
)
def expected(
    root: Path = root_option(),
    product: str | None = product_option(),
    count: int = typer.Option(
        10, min=5, max=200, help="Normal parts, shown one after the other.", metavar="N"
    ),
    source: Path | None = typer.Option(
        None,
        help="A folder with one image per part, or a .db3 recording, instead of the camera.",
        readable=False,
        metavar="PATH",
    ),
) -> None:
    """Learn from a few normal parts where every part has material, so that missing material is
    found: only for parts that always lie in the same pose.

    Run `edge calibrate plane` first, then show the parts one after the other, the view empty
    between them. Refused, with nothing changed, if a part is not in view whole and alone, one lies
    apart from all others, or the parts lie in different poses: these need no expected silhouette. A
    running `edge run` takes it between two parts; a new plane drops it.
    """
    from calibration.session import calibrate_station_expected
    from edge.config import read_config
    from edge.station.store import Store

    store = Store(root)
    installed = store.installed(product) if product is not None else store.active()
    done = calibrate_station_expected(
        store, installed, read_config(root), count, source, lambda line: print(line, flush=True)
    )
    _report_expected(installed.product, done)


@app.command(
    short_help="Set the threshold for a rate of false rejects.",
    epilog=example("edge calibrate threshold --false-rejects 2%"),
)
def threshold(
    false_rejects: str = typer.Option(
        ..., help="Accepted rate of false rejects, such as 2% or 0.02.", metavar="RATE"
    ),
    root: Path = root_option(),
    product: str | None = product_option(),
) -> None:
    """Choose another operating point: the engine that judges gets the threshold for this rate of
    false rejects.

    The threshold is measured on the engine's own scores of the bundle's normal parts. A running
    `edge run` takes it between two parts.
    """
    from calibration.session import calibrate_station_threshold
    from edge.config import read_config
    from edge.proof.threshold import parse_rate
    from edge.station.store import Store

    rate = parse_rate(false_rejects)
    store = Store(root)
    installed = store.installed(product) if product is not None else store.active()
    done = calibrate_station_threshold(store, installed, rate, read_config(root).runtime)
    print(f"product      {installed.product} {installed.manifest.version}")
    _report_threshold(done)


def _report_plane(product: str, done: PlaneSession) -> None:
    fit = done.fit
    print(f"product      {product}")
    print(f"camera       {done.serial}")
    print(f"tilt         {fit.tilt_deg:.2f} degrees")
    print(f"distance     {1000 * fit.distance_m:.1f} mm")
    print(f"residual     {1000 * fit.rms_m:.2f} mm RMS")
    print(f"on the plane {fit.inlier_share:.1%} of the readings of {fit.frames} frames")
    print(f"no reading   {1 - fit.reading_share:.1%} of the pixels")
    if done.dropped is not None:
        print(
            f"expected     dropped: that of {done.dropped.parts} parts was of the view before, run"
            " `edge calibrate expected`"
        )
    print(f"saved        version {done.saved.version}, by {done.saved.who}, {done.saved.when}")
    print("next         `edge inspect` shows how the station judges, `edge run` starts it")


def _report_expected(product: str, done: ExpectedSession) -> None:
    found, kept = done.found, done.saved.expected
    assert kept is not None  # what was saved
    print(f"product      {product}")
    print(f"camera       {done.serial}")
    print(f"parts        {found.parts}")
    print(f"margin       {found.margin_px:.1f} px, {done.margin_mm:.1f} mm on the table")
    print(f"share        {found.share:.0%} of what one part alone would keep")
    print(f"saved        version {done.saved.version}, by {kept.who}, {kept.when}")
    print("next         `edge inspect` shows its outline and how the station judges")


def _report_threshold(done: ThresholdSession) -> None:
    saved = done.saved
    print(f"engine       {done.engine} {done.precision}")
    print(f"threshold    {done.own.value:.6g}; the bundle's rate gave {done.of_bundle.value:.6g}")
    print(f"guarantee    {done.own.guarantee}")
    print(f"saved        version {saved.version}, by {saved.who}, {saved.when}")
