"""`trainer pretrain`: encoders that are trained without labels, one sub-command each."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.usage import GROUP, example

app = typer.Typer(name="pretrain", **GROUP, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _describe() -> None:
    """Pretrain an encoder on normal images, once, for `trainer train --pretrained`."""


@app.command(
    short_help="The point encoder of m3dm.",
    epilog=example("trainer pretrain pointmae parts --out points.pth"),
)
def pointmae(
    products: list[Path] = typer.Argument(
        ..., metavar="PRODUCTS...", help="Product folders with depth, or folders of such products."
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FILE",
        help="Weights file to write; the same command resumes an interrupted training.",
        readable=False,
    ),
    preset: str = typer.Option(
        "compact",
        metavar="PRESET",
        help="compact: for a small device. paper: Point-MAE as published.",
    ),
    epochs: int | None = typer.Option(None, metavar="N", help="Epochs; default: the preset's."),
    seed: int = typer.Option(0, metavar="N", min=0, help="Same seed, same result."),
    device: str = typer.Option(
        "cpu", metavar="DEVICE", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."
    ),
) -> None:
    """Pretrain m3dm's point encoder: groups of points of normal parts are hidden and reconstructed.

    Ctrl-C keeps what is done; the same command resumes.
    """
    from trainer.systems.m3dm.pretrain_command import PretrainOptions, pretrain_pointmae

    done = pretrain_pointmae(products, out, PretrainOptions(preset, epochs, seed, device))
    typer.echo(
        f"wrote {out}: trained on {done.parts} parts; loss on held-out parts {done.first:.4f} after"
        f" the first epoch, {done.last:.4f} after the last"
    )


@app.command(
    short_help="The patch descriptors of vmpfd.",
    epilog=example("trainer pretrain pdn photos --out pdn.pth"),
)
def pdn(
    folders: list[Path] = typer.Argument(
        ...,
        metavar="FOLDERS...",
        help="Folders of images. Of a product, only its normal training images are used.",
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        metavar="FILE",
        help="Weights file to write; the same command resumes an interrupted training.",
        readable=False,
    ),
    preset: str = typer.Option(
        "compact", metavar="PRESET", help="compact: for a small device. paper: EfficientAD's PDN-S."
    ),
    epochs: int | None = typer.Option(None, metavar="N", help="Epochs; default: the preset's."),
    weights: Path | None = typer.Option(
        None,
        metavar="FILE",
        help=(
            "Weights of the teacher's backbone: a state dict of timm's model (needed by the paper"
            " preset)."
        ),
        readable=False,
    ),
    seed: int = typer.Option(0, metavar="N", min=0, help="Same seed, same result."),
    device: str = typer.Option(
        "cpu", metavar="DEVICE", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."
    ),
) -> None:
    """Distill vmpfd's patch descriptors from a frozen backbone.

    Ctrl-C keeps what is done; the same command resumes.
    """
    from trainer.fit import FitControl
    from trainer.systems.vmpfd.pretrain_command import PdnOptions, pretrain_pdn

    count = pretrain_pdn(
        folders, out, PdnOptions(preset, epochs, weights, seed, device), FitControl()
    )
    typer.echo(f"wrote {out}: patch descriptors, distilled on {count} images")
