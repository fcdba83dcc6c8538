"""`edge inspect`: judge images that are there already, without the line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from edge.cli.options import root_option
from edge.usage import example

if TYPE_CHECKING:
    from edge.runtime.inspection import Row
    from edge.schema import Precision


EXAMPLE = example(
    "edge inspect parts/washer/test --root ./station",
    "edge inspect photo.jpg --precision int8 --out overlays",
)


def inspect(
    path: Path | None = typer.Argument(
        None,
        help="Images of any known layout or a .db3 recording; default: the camera.",
        readable=False,
        metavar="PATH",
    ),
    root: Path = root_option(),
    out: Path = typer.Option(
        Path("overlays"), help="Folder for one picture per image.", readable=False, metavar="FOLDER"
    ),
    precision: str | None = typer.Option(
        None,
        help="Judge with this precision of the bundle: fp32, fp16 or int8.",
        metavar="PRECISION",
    ),
) -> None:
    """Judge each image as one part: print a table and write one picture per image.

    Nothing is published or recorded.

    Default: the engine that `edge run` would use. With --precision this machine's engine of that
    precision judges, with the threshold measured on its own scores, so that the counts in the
    bundle's certificate can be repeated.
    """
    from edge.files import require_folder_target
    from edge.runtime.inspection import (
        TABLE_HEAD,
        closing_line,
        hint_for,
        inspect_views,
        judge_line,
        opened_active,
        table_line,
        write_overlay,
    )

    wanted = parse_precision(precision)
    require_folder_target(out, "--out")
    rows: list[Row] = []
    with opened_active(root, wanted) as active:
        for one in inspect_views(active, path, print):
            if not rows:
                print(judge_line(active))
                print(TABLE_HEAD)
            print(table_line(one.row), flush=True)
            write_overlay(out, one)
            rows.append(one.row)
    hint = hint_for(rows, root)
    if hint is not None:
        print(f"hint: {hint}")
    print(closing_line(rows) + f"; pictures in {out}")


def parse_precision(text: str | None) -> Precision | None:
    """A precision as a user writes it. Raises: ConfigError for any other word."""
    from typing import get_args

    from edge.errors import ConfigError
    from edge.schema import Precision

    for known in get_args(Precision):
        if text == known:
            return cast("Precision", known)
    if text is None:
        return None
    raise ConfigError(f"--precision {text}: write {', '.join(get_args(Precision))}")
