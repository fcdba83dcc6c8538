"""`trainer train`: normal images of a product in, a run folder out."""

from __future__ import annotations

from pathlib import Path

import typer


def train(
    system: str = typer.Argument(..., help="Detector: mats, ntsnet, aand, m3dm or vmpfd."),
    product: Path = typer.Argument(
        ...,
        help=(
            "Folder of photos of good parts, or a product: MVTec AD, MVTec 3D-AD, VisA, BTAD,"
            " frames."
        ),
        readable=False,
    ),
    out: Path = typer.Option(
        ..., "--out", help="Run folder. An interrupted training in it goes on.", readable=False
    ),
    preset: str = typer.Option(
        "compact", help="compact: for a small device. paper: the publication's settings."
    ),
    epochs: int | None = typer.Option(None, help="Epochs of every phase instead of the preset's."),
    seed: int = typer.Option(0, min=0, help="Same seed, same result."),
    depth: bool = typer.Option(
        True, "--depth/--no-depth", help="Use depth where the product has it."
    ),
    weights: Path | None = typer.Option(
        None,
        help="Backbone weights: a state dict of timm's model (the paper preset needs one).",
        readable=False,
    ),
    backbone: str | None = typer.Option(
        None, help="timm's name of any CNN or vision transformer, with its --weights (m3dm only)."
    ),
    pretrained: Path | None = typer.Option(
        None,
        help=(
            "Weights of `trainer pretrain`: pointmae for m3dm, pdn for vmpfd; default: trained on"
            " these images."
        ),
        readable=False,
    ),
    top_k: float | None = typer.Option(
        None,
        "--top-k",
        help="Share of the foreground in the score, 0.01 = 1 %; default: chosen on normal parts.",
    ),
    device: str = typer.Option(
        "cpu", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."
    ),
    textures: Path | None = typer.Option(
        None,
        help=(
            "Folder of images that drawn anomalies are made of (aand, m3dm); default: procedural"
            " ones."
        ),
        readable=False,
    ),
    false_rejects: str = typer.Option(
        "5%",
        help=(
            "Rate of normal parts that the threshold may reject, such as 5% or 0.05; few parts may"
            " reach less."
        ),
    ),
    size: str | None = typer.Option(
        None,
        help=(
            "WIDTHxHEIGHT in pixels, such as 640x480, that images of differing sizes are"
            " letterboxed to."
        ),
    ),
    defects: Path | None = typer.Option(
        None,
        help=(
            "A folder of defective images, or of one sub-folder for each defect type: never"
            " trained on."
        ),
        readable=False,
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace the finished run in the run folder."
    ),
    cache: Path | None = typer.Option(
        None, help="Folder for frozen features; default: inside the run folder.", readable=False
    ),
) -> None:
    """Train a detector on images of good parts.

    Ctrl-C keeps what is done; the same command goes on from there.
    """
    from edge.proof.threshold import parse_rate
    from trainer.train.options import TrainOptions, parse_size
    from trainer.train.training import train as train_run

    options = TrainOptions(
        preset,
        epochs,
        seed,
        depth,
        weights,
        top_k,
        device,
        cache,
        textures=textures,
        pretrained=pretrained,
        backbone=backbone,
        false_rejects=parse_rate(false_rejects),
        size=None if size is None else parse_size(size),
        defects=defects,
        overwrite=overwrite,
    )
    run = train_run(system, product, out, options)
    typer.echo(f"wrote {run.folder} ({run.info.train_seconds:.0f} s)")
