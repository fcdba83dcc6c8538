"""`trainer pretrain`: weights that are trained once and reused for every product, by `trainer train --pretrained`."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _describe() -> None:
    """Train a part of a detector once, on any images, for `trainer train --pretrained FILE`."""


@app.command()
def pdn(
    folders: list[Path] = typer.Argument(..., help="Folders of images; of product folders the normal training images."),
    out: Path = typer.Option(..., "--out", help="Weights file to write. An interrupted training of it goes on."),
    preset: str = typer.Option("compact", help="compact: for a small device. paper: EfficientAD's PDN-S."),
    epochs: int | None = typer.Option(None, help="Epochs instead of the preset's."),
    weights: Path | None = typer.Option(
        None, help="Weights of the backbone that teaches: a state dict of timm's model (the paper preset needs one)."
    ),
    seed: int = typer.Option(0, min=0, help="Same seed, same result."),
    device: str = typer.Option("cpu", help="Where to train: cpu or cuda. Only cpu repeats bit for bit."),
) -> None:
    """Distil vmpfd's patch descriptors from a frozen backbone. Ctrl-C keeps what is done; the same command goes on."""
    from trainer.fit import FitControl
    from trainer.pretrain.pdn import PdnOptions, pretrain_pdn

    count = pretrain_pdn(folders, out, PdnOptions(preset, epochs, weights, seed, device), FitControl())
    typer.echo(f"wrote {out}: patch descriptors, distilled on {count} images")
