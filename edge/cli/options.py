"""Options that several verbs have, and how every verb's help is laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from edge.errors import ConfigError

# No rich markup: `edge --help` must answer at once.
GROUP: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}
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


def example(*commands: str) -> str:
    """The end of a verb's help: commands to copy."""
    return "\b\n" + "\n".join(
        [f"Example{'s' if len(commands) > 1 else ''}:", *(f"  {one}" for one in commands)]
    )


def _checked(root: Path) -> Path:
    if root.exists() and not root.is_dir():
        raise ConfigError(f"--root {root} is a file: name the folder of a station, on a device /")
    return root
