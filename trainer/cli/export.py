"""`trainer export`: a signed bundle from a run folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from trainer.export.bundle import Exported


def export(
    run: Path = typer.Argument(
        ..., metavar="RUN", help="Run folder that `trainer train` wrote.", readable=False
    ),
    product: str = typer.Option(..., metavar="NAME", help="Name of the product on the station."),
    version: str = typer.Option(
        ..., metavar="VERSION", help="Version of this bundle, such as 1.0.0."
    ),
    key: Path = typer.Option(
        ...,
        metavar="FILE",
        help="Private key that signs it, from `trainer keygen`.",
        readable=False,
    ),
    out: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Bundle file to write; default: PRODUCT-VERSION.bundle here.",
        readable=False,
    ),
    precision: str = typer.Option(
        "fp16,int8", metavar="LIST", help="Precisions to try besides fp32, separated by commas."
    ),
    false_rejects: str | None = typer.Option(
        None,
        "--false-rejects",
        metavar="RATE",
        help="Share of normal parts that may be rejected, such as 5%; default: as trained.",
    ),
    leave_out: list[str] = typer.Option(
        [],
        "--leave-out",
        metavar="PART",
        help=(
            "A validation part that is not normal after all, such as validation/good/007; may be"
            " repeated."
        ),
    ),
    keep: list[str] = typer.Option(
        [],
        "--keep",
        metavar="PART",
        help=("A validation part that is normal although its score stands apart; may be repeated."),
    ),
    defects: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help="Defective images that count too; default: as evaluated, or as trained.",
        readable=False,
    ),
    data: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help="The product's images, if they were moved since the training.",
        readable=False,
    ),
) -> None:
    """Make a signed bundle: the float32 graph, and FP16 and INT8 where they decide as it does.

    A run without a report is evaluated first. Each precision gets a threshold from its own scores
    of the normal validation parts. Their frames go into the bundle, so that the station can measure
    the threshold of its own engine. A precision beyond its limits is left out.

    Where the score of a normal part stands apart, the export stops until --keep or --leave-out
    says what it is.
    """
    from edge.proof.threshold import parse_rate
    from trainer.export.bundle import export_bundle
    from trainer.export.request import ExportRequest, precisions_of

    request = ExportRequest(
        run=run,
        product=product,
        version=version,
        precisions=precisions_of(precision),
        key=key,
        out=out or Path(f"{product}-{version}.bundle"),
        data=data,
        false_rejects=None if false_rejects is None else parse_rate(false_rejects),
        left_out=tuple(leave_out),
        kept=tuple(keep),
        defects=defects,
    )
    _tell(export_bundle(request, typer.echo), key)


def _tell(done: Exported, key: Path) -> None:
    """What the thresholds were chosen from, how the precisions compare, and what to do next."""
    from trainer.export.certificate import parity_table
    from trainer.train.operating_points import operating_lines

    manifest = done.manifest
    chosen = manifest.thresholds["fp32"].rank
    for line in (
        *operating_lines(manifest.operating_points, chosen),
        *parity_table(done.certificate),
    ):
        typer.echo(line)
    how = f"every file compiled by {done.compiler}" if done.compiler else "nothing compiled"
    size = done.path.stat().st_size / 1e6
    typer.echo(
        f"wrote {done.path} ({size:.1f} MB): {', '.join(done.shipped)}; {how}; signed with {key}"
    )
    public, bundle = (shlex.quote(str(path)) for path in (key.with_suffix(".pub"), done.path))
    typer.echo(f"next, on the station: edge trust {public}, then edge install {bundle}")
