"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from edge.errors import ConfigError

PRODUCT_HELP = "An installed product; default: the active one."


def root_option(more: str = "") -> Any:
    """--root with its default; more: what else its help says.

    readable=False, here and at every other path: typer would answer with the usage instead of one
    sentence.
    """
    return typer.Option(
        Path("/"),
        help=f"Root of the station{more}.",
        callback=_checked,
        readable=False,
        metavar="FOLDER",
    )


def product_option() -> Any:
    """--product, for verbs that work on one product."""
    return typer.Option(None, help=PRODUCT_HELP, metavar="PRODUCT")


def parts_source_option() -> Any:
    """--source, for verbs to which parts are shown."""
    return typer.Option(
        None,
        help="A folder with one image per part, or a .db3 recording, instead of the camera.",
        readable=False,
        metavar="PATH",
    )


def stick_option() -> Any:
    """--usb, for verbs that take what is new."""
    return typer.Option(
        None,
        help="Folder of a stick that `trainer release usb` wrote, instead of [update]'s source.",
        readable=False,
        metavar="FOLDER",
    )


def _checked(root: Path) -> Path:
    if root.exists() and not root.is_dir():
        raise ConfigError(f"--root {root} is a file: name the folder of a station, on a device /")
    return root


def rectangle_of(text: str) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of an option such as --region; None where it is not given.

    Raises: ConfigError if they are not four whole numbers.
    """
    from edge.errors import ConfigError

    if not text:
        return None
    try:
        left, top, width, height = (int(one) for one in text.split(","))
    except ValueError:
        raise ConfigError(f"--region {text!a}: write four whole numbers: 20,10,600,400") from None
    return left, top, width, height
