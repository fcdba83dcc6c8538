"""`trainer train`: normal images of a product in, a run folder out."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer


def train(
    system: str = typer.Argument(
        ..., metavar="SYSTEM", help="Detector: mats, ntsnet, aand, m3dm or vmpfd."
    ),
    product: Path = typer.Argument(
        ...,
        metavar="PRODUCT",
        help=(
            "Folder of photos of good parts, or a product: MVTec AD, MVTec 3D-AD, VisA, BTAD,"
            " frames."
        ),
        readable=False,
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="RUN",
        help="Run folder to write. A training that was interrupted in it goes on.",
        readable=False,
    ),
    preset: str = typer.Option(
        "compact",
        metavar="PRESET",
        help=(
            "compact: for a small device. paper: the publication's settings. compact-rgbd: compact,"
            " judging depth as well (ntsnet, vmpfd)."
        ),
    ),
    depth: bool = typer.Option(
        True, "--depth/--no-depth", help="Use depth where the product has it."
    ),
    defects: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help=(
            "Defective images, or a sub-folder of them for each defect type. Never trained on:"
            " they show what each threshold would find."
        ),
        readable=False,
    ),
    false_rejects: str = typer.Option(
        "5%",
        metavar="RATE",
        help=(
            "Share of normal parts that the threshold may reject, such as 5% or 0.05; few"
            " validation parts may not reach it."
        ),
    ),
    size: str | None = typer.Option(
        None,
        metavar="WIDTHxHEIGHT",
        help="Letterbox images of differing sizes to this one, in pixels, such as 640x480.",
    ),
    epochs: int | None = typer.Option(
        None, metavar="N", help="Epochs of every phase; default: the preset's."
    ),
    seed: int = typer.Option(0, min=0, metavar="N", help="Same seed, same result."),
    device: str = typer.Option(
        "cpu",
        metavar="DEVICE",
        help="Where to train: cpu, cuda or cuda:N. Only cpu repeats bit for bit.",
    ),
    weights: Path | None = typer.Option(
        None,
        metavar="FILE",
        help=(
            "Weights of the backbone, a state dict of timm's model; default: the packaged ones"
            " (the paper preset has none)."
        ),
        readable=False,
    ),
    backbone: str | None = typer.Option(
        None,
        metavar="NAME",
        help="timm's name of another CNN or vision transformer, with its --weights (m3dm only).",
    ),
    pretrained: Path | None = typer.Option(
        None,
        metavar="FILE",
        help=(
            "Encoder of `trainer pretrain`: pointmae for m3dm, pdn for vmpfd; default: trained on"
            " these images."
        ),
        readable=False,
    ),
    textures: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help=(
            "Images that synthetic anomalies are made of (aand, m3dm); default: procedural"
            " textures."
        ),
        readable=False,
    ),
    top_k: float | None = typer.Option(
        None,
        "--top-k",
        metavar="SHARE",
        help=(
            "Share of the foreground averaged into the score, 0.01 is 1 %; default: chosen by"
            " synthetic defects on normal validation parts."
        ),
    ),
    cache: Path | None = typer.Option(
        None,
        metavar="FOLDER",
        help="Where features of the frozen backbone are kept; default: in the run folder.",
        readable=False,
    ),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace the finished run in the run folder."
    ),
) -> None:
    """Train a detector on images of good parts, and set its threshold on those that validate.

    Ctrl-C keeps what is done; the same command goes on from there.
    """
    from edge.proof.threshold import parse_rate
    from trainer.train.options import TrainOptions, parse_size
    from trainer.train.training import train as train_run

    options = TrainOptions(
        preset=preset,
        epochs=epochs,
        seed=seed,
        with_depth=depth,
        weights=weights,
        top_k=top_k,
        device=device,
        cache=cache,
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
    typer.echo(f"next: trainer evaluate {shlex.quote(str(run.folder))}")
