"""`edge trust`: whose bundles this station accepts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from edge.cli.options import root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.bundle.key_files import PublicKey
    from edge.station.store import Store


class _AddByDefault(TyperGroup):
    """`edge trust FILE` is `edge trust add FILE`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Put `add` before arguments that name no command and do not ask for help."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["add", *args]
        return super().parse_args(context, args)


app = typer.Typer(
    cls=_AddByDefault,
    **GROUP,
    help="Keys whose bundles this station accepts. `edge trust FILE` is `edge trust add FILE`.",
    epilog=example("edge trust line.pub", "edge trust list", "edge trust remove line.pub"),
)
ROOT = root_option()


@app.command(
    short_help="Accept bundles signed with a key.",
    epilog=example("edge trust add line.pub", "edge trust line.pub --product washer"),
)
def add(
    public_key: Path = typer.Argument(
        ..., help="The .pub file that `trainer keygen` wrote.", readable=False, metavar="FILE"
    ),
    product: list[str] = typer.Option(
        [],
        metavar="PRODUCT",
        help=(
            "Accept from this key bundles of this product only; may be repeated. Default: of every"
            " product."
        ),
    ),
    force: bool = typer.Option(
        False, "--force", help="Trust the key although another installed product needs it."
    ),
    root: Path = ROOT,
) -> None:
    """Accept bundles signed with this key from now on. Compare the printed id with the one that
    `trainer keygen` printed.

    Trusting a key again replaces what it was trusted for. The products are checked at every
    installation and whenever a bundle is opened.
    """
    from edge.station.store import Store
    from edge.station.trust import trust

    key = trust(Store(root), public_key, product, force)
    print(f"{root} trusts key {key.keyid}{_limits(key)}. Next: `edge install BUNDLE`")


@app.command("list", short_help="One line per trusted key.", epilog=example("edge trust list"))
def list_keys(root: Path = ROOT) -> None:
    """One line per trusted key: its id, since when, by whom, for which products."""
    from edge.station.store import Store

    keys = Store(root).keys.all()
    if not keys:
        print(f"no key is trusted under {root}: run `edge trust FILE --root {root}`")
    for key in keys:
        since, by = (
            (key.trust.since, key.trust.by) if key.trust else ("not recorded", "not recorded")
        )
        print(f"{key.keyid}  since {since} by {by}, products: {', '.join(key.products) or 'all'}")


@app.command(
    short_help="Accept no more bundles from a key.", epilog=example("edge trust remove line.pub")
)
def remove(
    key: str = typer.Argument(
        ..., help="Its .pub file, or its id: at least the first 8 digits.", metavar="KEY"
    ),
    force: bool = typer.Option(
        False, "--force", help="Remove the key although it alone vouches for an installed bundle."
    ),
    root: Path = ROOT,
) -> None:
    """Accept no more bundles from a key. Bundles that it signed are refused from then on, installed
    ones included.

    A key that alone vouches for the current bundle of a product stays, unless --force: a running
    `edge run` keeps that bundle until it ends and does not start with it again.
    """
    from edge.station.store import Store
    from edge.station.trust import distrust

    store = Store(root)
    keyid = _id_of(key, store)
    orphans = distrust(store, keyid, force)
    print(f"{root} trusts key {keyid} no more")
    if orphans:
        print(
            f"not vouched for any more: {', '.join(orphans)}: `edge run` refuses to start with that"
            " until another bundle is installed"
        )


def _id_of(key: str, store: Store) -> str:
    """The id that is meant: the argument is one, or names a file that holds one."""
    from edge.bundle.key_files import read_public_key

    if Path(key).exists() or key.endswith(".pub"):
        return read_public_key(Path(key)).keyid
    return store.keys.find(key).keyid


def _limits(key: PublicKey) -> str:
    return f" for {', '.join(key.products)} only" if key.products else " for every product"
