"""`edge inspect`: judge images that are there already, without the line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edge.runtime.inspection import Row


def inspect(
    path: Path | None = typer.Argument(None, help="Images of any known layout, or a .db3; without it, the camera."),
    root: Path = typer.Option(Path("/"), help="Root of the station."),
    out: Path = typer.Option(Path("overlays"), help="Folder for one picture per image."),
) -> None:
    """Judge each image as one part: a table and overlays. Nothing is published or recorded."""
    from edge.runtime.inspection import TABLE_HEAD, closing_line, hint_for, inspect_views, table_line, write_overlay

    rows: list[Row] = []
    for one in inspect_views(root, path):
        if not rows:
            print(TABLE_HEAD)
        print(table_line(one.row), flush=True)
        write_overlay(out, one)
        rows.append(one.row)
    hint = hint_for(rows, root)
    if hint is not None:
        print(f"hint: {hint}")
    print(closing_line(rows) + f"; pictures in {out}")
