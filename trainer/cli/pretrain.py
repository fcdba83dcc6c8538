"""`trainer pretrain`: encoders that learn without labels, one sub-command each."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(
    name="pretrain",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _describe() -> None:
    """Pretrain an encoder on normal images, once, for `trainer train --pretrained`."""


@app.command()
def pointmae(
    products: list[Path] = typer.Argument(
        ..., help="Product folders with depth, or folders of such products."
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        help="Weights file to write. An interrupted pretraining of it goes on.",
        readable=False,
    ),
    preset: str = typer.Option(
        "compact", help="compact: for a small device. paper: Point-MAE as published."
    ),
    epochs: int | None = typer.Option(None, help="Epochs instead of the preset's."),
    seed: int = typer.Option(0, min=0, help="Same seed, same result."),
    device: str = typer.Option(
        "cpu", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."
    ),
) -> None:
    """Point-MAE's encoder for m3dm, by hiding groups of points of normal parts and rebuilding
    them.
    """
    from trainer.systems.m3dm.pretrain_command import PretrainOptions, pretrain_pointmae

    done = pretrain_pointmae(products, out, PretrainOptions(preset, epochs, seed, device))
    typer.echo(
        f"wrote {out}: {done.parts} parts; loss on held-out parts {done.first:.4f}, at the end"
        f" {done.last:.4f}"
    )


@app.command()
def pdn(
    folders: list[Path] = typer.Argument(
        ..., help="Folders of images; of product folders the normal training images."
    ),
    out: Path = typer.Option(
        ...,
        "--out",
        help="Weights file to write. An interrupted training of it goes on.",
        readable=False,
    ),
    preset: str = typer.Option(
        "compact", help="compact: for a small device. paper: EfficientAD's PDN-S."
    ),
    epochs: int | None = typer.Option(None, help="Epochs instead of the preset's."),
    weights: Path | None = typer.Option(
        None,
        help=(
            "Weights of the backbone that teaches: a state dict of timm's model (the paper preset"
            " needs one)."
        ),
        readable=False,
    ),
    seed: int = typer.Option(0, min=0, help="Same seed, same result."),
    device: str = typer.Option(
        "cpu", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."
    ),
) -> None:
    """Distil vmpfd's patch descriptors from a frozen backbone.

    Ctrl-C keeps what is done; the same command goes on.
    """
    from trainer.fit import FitControl
    from trainer.systems.vmpfd.pretrain_command import PdnOptions, pretrain_pdn

    count = pretrain_pdn(
        folders, out, PdnOptions(preset, epochs, weights, seed, device), FitControl()
    )
    typer.echo(f"wrote {out}: patch descriptors, distilled on {count} images")
