"""`edge calibrate`: what a station finds out on site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import parts_source_option, product_option, rectangle_of, root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from calibration.challenge import ChallengeResult
    from calibration.expected_session import ExpectedSession
    from calibration.parts_session import PartsCalibration
    from calibration.plane_session import PlaneSession
    from calibration.threshold_session import ThresholdSession
    from edge.station.store import Installed, Store

app = typer.Typer(
    help="Calibrate this station on site.",
    **GROUP,
    epilog=example(
        "edge calibrate plane",
        "edge calibrate expected --count 10",
        "edge calibrate parts --count 10",
        "edge calibrate challenge --count 5",
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
    region: str = typer.Option(
        "",
        help="What is judged of the crop: left, top, width, height in its pixels; default: as it is"
        " now.",
        metavar="X,Y,W,H",
    ),
) -> None:
    """Fit the plane of the empty table, from which heights are measured, for this product and this
    camera.

    Refused, with nothing changed, if something stands on the table, the table is not flat, or the
    camera is not the one that the product was trained for. A running `edge run` takes the new plane
    between two parts.
    """
    from calibration.plane_session import Crop, calibrate_station_plane, table_camera
    from edge.config import read_config

    store, installed = _chosen(root, product)
    camera = table_camera(read_config(root).camera, root, installed.manifest.camera, source)
    crop = Crop(crop_x, crop_y, rectangle_of(region))
    done = calibrate_station_plane(store, installed, camera, frames, crop)
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
    source: Path | None = parts_source_option(),
) -> None:
    """Learn from a few normal parts where every part has material, so that missing material is
    found: only for parts that always lie in the same pose.

    Run `edge calibrate plane` first, then show the parts one after the other, the view empty
    between them. Refused, with nothing changed, if a part is not in view whole and alone, one lies
    apart from all others, or the parts lie in different poses: these need no expected silhouette. A
    running `edge run` takes it between two parts; a new plane drops it.
    """
    from calibration.expected_session import calibrate_station_expected
    from edge.config import read_config

    store, installed = _chosen(root, product)
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
    from calibration.threshold_session import calibrate_station_threshold
    from edge.config import read_config
    from edge.proof.threshold import parse_rate

    rate = parse_rate(false_rejects)
    store, installed = _chosen(root, product)
    done = calibrate_station_threshold(store, installed, rate, read_config(root).runtime)
    print(f"product      {installed.product} {installed.manifest.version}")
    _report_threshold(done)


@app.command(
    short_help="Adapt to this site with a few normal parts.",
    epilog=example(
        "edge calibrate parts --count 10",
        "edge calibrate parts --count 20 --split --false-rejects 2%",
        "edge calibrate parts --source ./good --count 10 --leave-out 7",
    ),
)
def parts(
    root: Path = root_option(),
    product: str | None = product_option(),
    count: int = typer.Option(
        10, min=3, max=99, help="Normal parts, shown one after the other.", metavar="N"
    ),
    source: Path | None = parts_source_option(),
    false_rejects: str = typer.Option(
        "5%", help="Accepted rate of false rejects, such as 2% or 0.02.", metavar="RATE"
    ),
    split: bool = typer.Option(
        False, "--split", help="Half of the parts fit, the other half prove the threshold."
    ),
    leave_out: list[int] = typer.Option(
        [], min=1, help="Number of a part that is not normal; may be repeated.", metavar="N"
    ),
    keep: list[int] = typer.Option(
        [], min=1, help="Number of a part that is normal although it stands apart.", metavar="N"
    ),
) -> None:
    """Bring the features back to where they were in training, and set the threshold, with a few
    normal parts of this site. Nothing is built anew.

    Show the parts one after the other, each once, the view empty between them. Refused, with the
    picture and nothing changed: a part shown twice, too little depth, a part that looks defective,
    another product or light than can be corrected. A running `edge run` takes the result between
    two parts; `edge calibrate undo` goes back.
    """
    from calibration.parts import Asked
    from calibration.parts_session import calibrate_station_parts
    from edge.config import read_config
    from edge.proof.threshold import parse_rate

    asked = Asked(count, parse_rate(false_rejects), split, tuple(leave_out), tuple(keep))
    store, installed = _chosen(root, product)
    done = calibrate_station_parts(
        store, installed, read_config(root), asked, source, lambda line: print(line, flush=True)
    )
    _report_parts(installed, done)


@app.command(
    short_help="Show known-bad parts: which are caught?",
    epilog=example("edge calibrate challenge --count 5"),
)
def challenge(
    root: Path = root_option(),
    product: str | None = product_option(),
    count: int = typer.Option(
        5, min=1, max=99, help="Known-bad parts, shown one after the other.", metavar="N"
    ),
    source: Path | None = parts_source_option(),
) -> None:
    """Show known-bad parts to the station as it judges now, and say what it proves that so many of
    them are caught. Nothing about the judging is changed.
    """
    from calibration.challenge import challenge_station
    from edge.config import read_config

    store, installed = _chosen(root, product)
    done = challenge_station(
        store, installed, read_config(root), count, source, lambda line: print(line, flush=True)
    )
    _report_challenge(installed, done)


@app.command(
    hidden=True,
    short_help="One step for the page: `edge run` starts it.",
    epilog=example("edge calibrate guided"),
)
def guided(root: Path = root_option()) -> None:
    """Carry out one step that a person is guided through by the page. `edge run` starts this, and
    speaks to it by JSON lines.
    """
    import sys

    from calibration.guided import guide
    from edge.station.store import Store

    guide(Store(root), sys.stdin, sys.stdout)


@app.command(
    short_help="Go back to the threshold and site inputs before the last ones.",
    epilog=example("edge calibrate undo"),
)
def undo(root: Path = root_option(), product: str | None = product_option()) -> None:
    """Bring back what the last `edge calibrate parts` or `threshold` replaced.

    Plane and expected silhouette stay as they are. One step back only: an undo cannot be undone. A
    running `edge run` takes it between two parts.
    """
    from calibration.undo import undo_calibration

    store, installed = _chosen(root, product)
    state = undo_calibration(store, installed)
    print(f"product      {installed.product} {installed.manifest.version}")
    print(f"engine       {state.runtime} {state.precision}")
    if state.threshold is None:
        print("threshold    the one that was measured on the bundle's normal parts")
    else:
        print(f"threshold    {state.threshold:.6g}")
        print(f"guarantee    {state.guarantee}")
    print(f"saved        version {state.version}, by {state.who}, {state.when}")


def _chosen(root: Path, product: str | None) -> tuple[Store, Installed]:
    """The station, and the bundle of this product or else of the active one."""
    from edge.station.store import Store

    store = Store(root)
    return store, store.installed(product) if product is not None else store.active()


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
    print(f"threshold    {saved.threshold:.6g}; the bundle's rate gave {done.of_bundle.value:.6g}")
    print(f"guarantee    {saved.guarantee}")
    print(f"saved        version {saved.version}, by {saved.who}, {saved.when}")


def _report_parts(installed: Installed, done: PartsCalibration) -> None:
    kept, result, saved = done.evidence, done.result, done.saved
    print(f"product      {installed.product} {installed.manifest.version}")
    print(f"camera       {kept.serial}")
    print(f"engine       {kept.engine} {kept.precision}")
    print(f"adapted      {_adapted(done)}")
    trainer = done.trainer.scores
    print(
        f"scores       {min(result.scores):.4g} to {max(result.scores):.4g} of these"
        f" {kept.count}, {min(trainer):.4g} to {max(trainer):.4g} in training"
    )
    print(f"threshold    {kept.threshold:.6g}; until now it was {done.before:.6g}")
    print(f"guarantee    {kept.guarantee}")
    print(f"             {kept.next_parts}")
    print(f"             {kept.to_prove}")
    if kept.note:
        print(f"note         {kept.note}")
    print(f"saved        version {saved.version}, by {saved.who}, {saved.when}")
    print("next         `edge calibrate challenge` with known-bad parts")


def _adapted(done: PartsCalibration) -> str:
    """What was adapted, or why the threshold alone was set."""
    kept = done.evidence
    if not kept.channels:
        return (
            "the threshold alone: this bundle has no statistics of its channels, export it again"
            " with this version to adapt its features too"
        )
    rows = f", {kept.spare_rows} rows for the memory banks" if kept.spare_rows else ""
    fitted = len(done.result.fitted)
    return f"shift and scale of {kept.channels} channels, fitted on {fitted} parts{rows}"


def _report_challenge(installed: Installed, done: ChallengeResult) -> None:
    kept = done.challenge
    print(f"product      {installed.product} {installed.manifest.version}")
    for part, path in done.missed:
        print(f"MISSED       part {part.number}, score {part.score:.4g}: {path}")
    print(f"threshold    {kept.threshold:.6g}")
    print(f"proven       {kept.sentence}")
    print(f"kept         by {kept.who}, {kept.when}")
