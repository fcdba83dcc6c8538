"""`trainer export`: a signed bundle from a run folder."""

from __future__ import annotations

from pathlib import Path

import typer


def export(
    run: Path = typer.Argument(..., help="Run folder that `trainer train` wrote and `trainer evaluate` reported on."),
    product: str = typer.Option(..., help="Name of the product on the station."),
    version: str = typer.Option(..., help="Version of this bundle, such as 1.0.0."),
    key: Path = typer.Option(..., help="Private key that signs it, from `trainer keygen`."),
    precision: str = typer.Option("fp16,int8", help="Precisions to try besides fp32, separated by commas."),
    out: Path | None = typer.Option(None, help="Bundle file, by default PRODUCT-VERSION.bundle here."),
    data: Path | None = typer.Option(None, help="Product folder, if it has moved since the training."),
) -> None:
    """Export, quantise, prove against float32, compile, sign, pack. A precision beyond its limits is left out."""
    from edge.errors import ConfigError
    from trainer.bundle import ExportRequest, export_bundle, parity_table

    wanted = tuple(name.strip() for name in precision.split(",") if name.strip())
    unknown = [name for name in wanted if name not in ("fp32", "fp16", "int8")]
    if unknown:
        raise ConfigError(f"--precision {unknown[0]!r}: there are fp32, fp16 and int8")
    target = out or Path(f"{product}-{version}.bundle")
    request = ExportRequest(run, product, version, wanted, key, target, data)  # type: ignore[arg-type]  # checked above
    done = export_bundle(request, typer.echo)
    for line in parity_table(done.certificate):
        typer.echo(line)
    how = f"every file compiled by {done.compiler}" if done.compiler else "nothing compiled"
    size = done.path.stat().st_size / 1e6
    typer.echo(f"wrote {done.path} ({size:.1f} MB): {', '.join(done.shipped)}; {how}; signed with {key}")
