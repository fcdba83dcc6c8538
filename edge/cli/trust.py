"""`edge trust`: whose bundles this station takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from edge.cli.root import root_option

if TYPE_CHECKING:
    from edge.bundle.key_files import PublicKey
    from edge.station.store import Store


class _AddByDefault(TyperGroup):
    """`edge trust FILE` is `edge trust add FILE`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """The arguments with `add` before them, where they name no command and do not ask for
        help.
        """
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["add", *args]
        return super().parse_args(context, args)


app = typer.Typer(
    cls=_AddByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keys whose bundles this station takes: `edge trust FILE` adds one, list, remove.",
)
ROOT = root_option()


@app.command()
def add(
    public_key: Path = typer.Argument(
        ..., help="The .pub file that `trainer keygen` wrote.", readable=False
    ),
    product: list[str] = typer.Option(
        [],
        help="Take bundles of this product only from this key; repeat. Default: of every product.",
    ),
    force: bool = typer.Option(
        False, "--force", help="Also where another product that is installed needs this key."
    ),
    root: Path = ROOT,
) -> None:
    """Accept bundles signed with this key from now on. Compare the key's number with the one the
    trainer printed.

    Trusting a key again replaces what it was trusted for. The products are checked at every
    installation and whenever a bundle is opened.
    """
    from edge.station.store import Store
    from edge.station.trust import trust

    key = trust(Store(root), public_key, product, force)
    print(f"{root} trusts key {key.keyid}{_limits(key)}")


@app.command("list")
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


@app.command()
def remove(
    key: str = typer.Argument(
        ..., help="Its .pub file, or its id: at least the first 8 digits.", metavar="KEY"
    ),
    force: bool = typer.Option(
        False, "--force", help="Also a key that alone vouches for what is installed."
    ),
    root: Path = ROOT,
) -> None:
    """Take no more bundles from a key. What it signed is refused from then on, also what is
    installed.

    A key that alone vouches for the current bundle of a product stays, unless --force: a running
    `edge run` goes on with that bundle until it ends, and does not start with it again.
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
