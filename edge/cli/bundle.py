"""`edge bundle`: what is installed, and going back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import PRODUCT_HELP, root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.station.store import Installed, Store

app = typer.Typer(
    help="Installed bundles: list, show, select a product, roll back.",
    **GROUP,
    epilog=example("edge bundle list", "edge bundle select washer", "edge bundle rollback"),
)
ROOT = root_option()
PRODUCT = typer.Argument(None, help=PRODUCT_HELP, metavar="PRODUCT")


@app.command(
    "list", short_help="One line per installed bundle.", epilog=example("edge bundle list")
)
def list_bundles(root: Path = ROOT) -> None:
    """One line per installed bundle: `*` is the active one, `-` the previous of its product."""
    from edge.station.store import Store

    store = Store(root)
    active = store.active_product()
    if not store.products():
        print(f"no bundle is installed under {root}")
    for product in store.products():
        current = store.link(product, "current")
        for bundle in store.slots(product):
            mark = "-" if bundle.slot != current else "*" if product == active else " "
            m = bundle.manifest
            print(
                f"{mark} {product:<20} {bundle.slot:<32} {m.system} {m.preset}"
                f" {','.join(m.precisions)}"
            )


@app.command(
    short_help="What an auditor asks about a bundle.", epilog=example("edge bundle show washer")
)
def show(product: str | None = PRODUCT, root: Path = ROOT) -> None:
    """What an auditor asks about a product's current bundle: digest, engines, threshold, data."""
    from edge.station.store import Store

    store = Store(root)
    for line in _describe(store, store.installed(_chosen(store, product))):
        print(line)


@app.command(
    short_help="Make a product the active one.", epilog=example("edge bundle select washer")
)
def select(
    product: str = typer.Argument(..., help="An installed product.", metavar="PRODUCT"),
    root: Path = ROOT,
) -> None:
    """Make a product the active one; a running `edge run` takes it between two parts."""
    from edge.station.store import Store

    chosen = Store(root).select(product)
    print(f"active product: {chosen.product} {chosen.manifest.version}")


@app.command(
    short_help="Go back to a product's previous bundle.", epilog=example("edge bundle rollback")
)
def rollback(product: str | None = PRODUCT, root: Path = ROOT) -> None:
    """Put a product's previous bundle back; doing it twice undoes it."""
    from edge.station.store import Store

    store = Store(root)
    back = store.rollback(_chosen(store, product))
    print(
        f"{back.product} is back to {back.slot}, previous is {store.link(back.product, 'previous')}"
    )


def _chosen(store: Store, product: str | None) -> str:
    return product if product is not None else store.active().product


def _describe(store: Store, bundle: Installed) -> list[str]:
    """The lines of `edge bundle show`."""
    from edge.install.summary import engine_lines

    m = bundle.manifest
    unknown = [name for name, value in m.camera if value is None and name not in ("empty", "belt")]
    return [
        f"product      {m.product} {m.version}, system {m.system} {m.preset}",
        f"digest       {bundle.digest}",
        f"folder       {bundle.folder}",
        f"active       {'yes' if store.active_product() == m.product else 'no'}",
        f"previous     {store.link(m.product, 'previous') or 'none'}",
        f"precisions   {', '.join(m.precisions)}",
        f"judges       {m.judged_by}",
        *engine_lines(store, bundle),
        (
            f"camera       {m.camera.model} {m.camera.width}x{m.camera.height}, crop"
            f" {m.camera.crop_width}x{m.camera.crop_height}, not known:"
            f" {', '.join(unknown) or 'nothing'}"
        ),
        (
            f"trained on   {m.provenance.train_parts} parts of {m.provenance.data},"
            f" {m.provenance.created_at}"
        ),
        f"code         {m.provenance.code}",
    ]
