"""`trainer export`: a signed bundle from a run folder."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    run: Path = typer.Argument(..., help="Run folder that `trainer train` wrote.", readable=False),
    product: str = typer.Option(..., help="Name of the product on the station."),
    version: str = typer.Option(..., help="Version of this bundle, such as 1.0.0."),
    key: Path = typer.Option(
        ..., help="Private key that signs it, from `trainer keygen`.", readable=False
    ),
    precision: str = typer.Option(
        "fp16,int8", help="Precisions to try besides fp32, separated by commas."
    ),
    out: Path | None = typer.Option(
        None, help="Bundle file, by default PRODUCT-VERSION.bundle here.", readable=False
    ),
    data: Path | None = typer.Option(
        None, help="Product folder, if it has moved since the training.", readable=False
    ),
    defects: Path | None = typer.Option(
        None,
        help="A folder of defective images that count too; default: as evaluated, or as trained.",
        readable=False,
    ),
    false_rejects: str | None = typer.Option(
        None,
        "--false-rejects",
        help="Share of normal parts that may be rejected, such as 5%; default: as trained.",
    ),
    leave_out: list[str] = typer.Option(
        [],
        "--leave-out",
        help=(
            "A normal validation part that is none after all, such as validation/good/007; repeat."
        ),
    ),
    keep: list[str] = typer.Option(
        [],
        "--keep",
        help=(
            "A normal validation part whose score stands apart and that is normal all the same;"
            " repeat."
        ),
    ),
) -> None:
    """Export, quantize, prove against float32, compile, sign, pack. A precision beyond its limits
    is left out.

    A run without a report is evaluated first. Every precision takes its threshold from its own
    scores of the normal validation parts, whose frames go into the bundle, so that the station can
    measure its own engine's. Stops at a normal part whose score stands apart, until --leave-out or
    --keep says what it is.
    """
    from edge.errors import ConfigError
    from edge.proof.threshold import parse_rate
    from trainer.export.bundle import export_bundle
    from trainer.export.certificate import parity_table
    from trainer.export.request import ExportRequest
    from trainer.train.operating_points import operating_lines

    wanted = tuple(name.strip() for name in precision.split(",") if name.strip())
    unknown = [name for name in wanted if name not in ("fp32", "fp16", "int8")]
    if unknown:
        raise ConfigError(f"--precision {unknown[0]!r}: there are fp32, fp16 and int8")
    target = out or Path(f"{product}-{version}.bundle")
    request = ExportRequest(
        run, product, version, wanted, key, target, data,  # type: ignore[arg-type]  # checked above
        None if false_rejects is None else parse_rate(false_rejects), tuple(leave_out), tuple(keep),
        defects,
    )  # fmt: skip
    done = export_bundle(request, typer.echo)
    for line in operating_lines(
        done.manifest.operating_points, done.manifest.thresholds["fp32"].rank
    ):
        typer.echo(line)
    for line in parity_table(done.certificate):
        typer.echo(line)
    how = f"every file compiled by {done.compiler}" if done.compiler else "nothing compiled"
    size = done.path.stat().st_size / 1e6
    typer.echo(
        f"wrote {done.path} ({size:.1f} MB): {', '.join(done.shipped)}; {how}; signed with {key}"
    )
