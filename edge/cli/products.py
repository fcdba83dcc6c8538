"""`edge products`: the installed products and their numbers."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.options import root_option
from edge.usage import GROUP, example

app = typer.Typer(
    help="Installed products and their numbers, for a PLC that has no strings.",
    **GROUP | {"no_args_is_help": False, "invoke_without_command": True},
    epilog=example("edge products", "edge products number washer 7"),
)


@app.callback()
def products(context: typer.Context, root: Path = root_option()) -> None:
    """One line per installed product: its number, name and current bundle; `*` is the active one.

    A PLC chooses a product by name or number with the command `select`.
    """
    if context.invoked_subcommand is not None:
        return
    from edge.station.numbers import read_numbers
    from edge.station.store import Store

    store = Store(root)
    active, numbers = store.active_product(), read_numbers(store)
    if not store.products():
        print(f"no bundle is installed under {root}")
    for product in sorted(store.products(), key=lambda name: (numbers.get(name, 1 << 16), name)):
        mark = "*" if product == active else " "
        print(f"{mark} {numbers.get(product, '-'):>5} {product} {store.link(product, 'current')}")


@app.command(
    short_help="Give a product its number.", epilog=example("edge products number washer 7")
)
def number(
    product: str = typer.Argument(..., help="An installed product.", metavar="NAME"),
    value: int = typer.Argument(..., help="1 to 65535, of no other product.", metavar="N"),
    root: Path = root_option(),
) -> None:
    """Give an installed product another number. `edge install` has given it the first free one."""
    from edge.station.numbers import number_product
    from edge.station.store import Store

    number_product(Store(root), product, value)
    print(f"{product} has number {value}")
