"""`trainer synthesize`: synthetic RGB-D products with defects, to try everything out with."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from trainer.synthetic.meshes import MESHES
from trainer.synthetic.products import PRODUCTS
from trainer.synthetic.scene_change import KEYS, UNCHANGED, parse_scene


def synthesize(
    out: Path = typer.Argument(
        ..., metavar="OUT", help="Folder for the products, one sub-folder each.", readable=False
    ),
    products: str = typer.Option(
        ",".join(PRODUCTS),
        metavar="NAMES",
        help=f"Which products, separated by commas; meshes: {', '.join(MESHES)}.",
    ),
    train: int = typer.Option(60, min=1, metavar="N", help="Good parts to train on."),
    validation: int = typer.Option(
        20, min=1, metavar="N", help="Good parts to set the threshold with."
    ),
    test: int = typer.Option(20, min=1, metavar="N", help="Good parts to test with."),
    per_defect: int = typer.Option(5, min=1, metavar="N", help="Test parts of each defect."),
    belt: int = typer.Option(
        24, min=0, metavar="N", help="Parts on the recorded belt; 0: no belt."
    ),
    seed: int = typer.Option(0, min=0, metavar="N", help="Same seed, same files."),
    scene: str | None = typer.Option(
        None,
        metavar="CHANGES",
        help=(
            "The same parts in another scene: KEY=VALUE,..., or all. Keys:"
            f" {', '.join(KEYS)}; docs/data.md says what each means."
        ),
    ),
) -> None:
    """Make RGB-D parts with defects and masks, in MVTec 3D-AD's layout, to try things out.

    Beside the images of each product lie frames of the empty table and of a belt with parts, as a
    station's camera sees them.
    """
    from edge.errors import ConfigError
    from edge.files import require_folder_target
    from trainer.synthetic.products.write import Amounts, write_product

    change = UNCHANGED if scene is None else parse_scene(scene)
    names = [name.strip() for name in products.split(",") if name.strip()]
    unknown = [name for name in names if name not in (*PRODUCTS, *MESHES)]
    if unknown or not names:
        raise ConfigError(f"--products {products}: choose from {', '.join((*PRODUCTS, *MESHES))}")
    for name in names:
        require_folder_target(out / name)
    amounts = Amounts(train, validation, test, per_defect, belt)
    for name in names:
        for done in write_product(name, out / name, amounts, seed, change):
            typer.echo(f"{name}  {done}")
    noun = "product" if len(names) == 1 else "products"
    typer.echo(f"wrote {len(names)} {noun} into {out}")
    product, run = (shlex.quote(str(path)) for path in (out / names[0], Path("runs", names[0])))
    typer.echo(f"next: trainer train mats {product} --out {run}")
