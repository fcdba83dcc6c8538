"""`trainer release`: the repository from which stations take their bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.update.ring import RingEntry, RingFile, RingPackage

app = typer.Typer(
    **GROUP,
    epilog=example(
        "trainer release init updates --keys keys",
        "trainer release add updates washer-1.1.0.bundle --trust line.pub --keys keys",
        "trainer release ring updates canary --product washer --version 1.1.0 --keys keys",
        "trainer release refresh updates --keys keys/online",
        "trainer release usb updates /media/stick --keys keys",
    ),
)


@app.callback()
def require_tuf() -> None:
    """A repository of bundles for `edge update`: a folder for any web server, signed by TUF's
    roles. Stations take from it what their ring says.
    """
    from edge.optional import optional_module
    from edge.update.roots import REMEDY

    optional_module("tuf", REMEDY)


REPOSITORY = typer.Argument(
    ..., help="Folder of the repository.", metavar="REPOSITORY", readable=False
)
KEYS = typer.Option(
    ...,
    help="Folder with the keys that sign, or one above `offline` and `online`; may be repeated.",
    metavar="FOLDER",
    readable=False,
)


@app.command(
    short_help="Make a repository and its keys.",
    epilog=example("trainer release init updates --keys keys"),
)
def init(
    repository: Path = REPOSITORY,
    keys: Path = typer.Option(
        ..., help="Folder for the new keys.", metavar="FOLDER", readable=False
    ),
) -> None:
    """Make a repository without bundles, and the keys of its roles.

    KEYS/offline belongs on media that are not connected: root (two of three must sign), targets,
    and those for sticks. KEYS/online stays with the machine that refreshes the repository.
    """
    from trainer.release.acts import begin

    roots = begin(repository, keys)
    typer.echo(f"wrote {repository}, and its keys in {keys}/offline and {keys}/online")
    for root in roots:
        typer.echo(f"next, on every station: edge update trust {root.name} (from {root})")


@app.command(
    short_help="Take a bundle in.",
    epilog=example("trainer release add updates washer-1.1.0.bundle --trust line.pub --keys keys"),
)
def add(
    repository: Path = REPOSITORY,
    bundle: Path = typer.Argument(
        ..., help="The .bundle file that `trainer export` wrote.", metavar="BUNDLE", readable=False
    ),
    trust: list[Path] = typer.Option(
        ...,
        help="A .pub file that the stations trust; may be repeated.",
        metavar="FILE",
        readable=False,
    ),
    keys: list[Path] = KEYS,
) -> None:
    """Take a bundle in: signed by the targets key, named by no ring yet. A bundle that stations
    would refuse is refused here.
    """
    from trainer.release.acts import add as add_bundle

    path = add_bundle(repository, bundle, trust, keys)
    typer.echo(f"{repository} has {path}; next: `trainer release ring` offers it to a ring")


@app.command(
    "package",
    short_help="Take a package edge-station in.",
    epilog=example(
        "trainer release package updates build/deb/edge-station_0.2.0_jammy_arm64.deb --keys keys"
    ),
)
def add_packages(
    repository: Path = REPOSITORY,
    files: list[Path] = typer.Argument(
        ..., help="The .deb files that `make deb` wrote.", metavar="FILE", readable=False
    ),
    keys: list[Path] = KEYS,
) -> None:
    """Take packages in, one for each distribution and processor: signed by the targets key, named
    by no ring yet.
    """
    from trainer.release.acts import add_package

    for file in files:
        typer.echo(f"{repository} has {add_package(repository, file, keys)}")
    typer.echo("next: `trainer release ring RING --package --version VERSION` offers it")


@app.command(
    short_help="Say which bundle or package a ring's stations run.",
    epilog=example(
        "trainer release ring updates canary --product washer --version 1.1.0 --keys keys/online",
        "trainer release ring updates stable --product washer --halt --keys keys/online",
    ),
)
def ring(
    repository: Path = REPOSITORY,
    name: str = typer.Argument(..., help="Such as canary or stable.", metavar="RING"),
    product: str | None = typer.Option(None, help="Name of the product.", metavar="NAME"),
    package: bool = typer.Option(
        False, "--package", help="The package edge-station, instead of a product."
    ),
    version: str | None = typer.Option(
        None, help="Version of a bundle or package that was added.", metavar="VERSION"
    ),
    halt: bool | None = typer.Option(
        None, "--halt/--go", help="Let stations wait that do not have it yet, or go on."
    ),
    remove: bool = typer.Option(
        False, "--remove", help="Say nothing of this product any more; stations keep theirs."
    ),
    keys: list[Path] = KEYS,
) -> None:
    """Say which bundle of a product, or which package, the stations of a ring run. Versions only go
    up on a station: to take a bundle back, halt the ring and release the old content under a new
    version.
    """
    from edge.errors import ConfigError
    from trainer.release.acts import set_ring, set_ring_package

    if package == (product is not None):
        raise ConfigError("say --product NAME or --package: a ring changes one of them at a time")
    if product is None:
        after = set_ring_package(repository, name, keys, version, halt, remove)
    else:
        after = set_ring(repository, name, product, keys, version, halt, remove)
    for line in _lines(after):
        typer.echo(line)


@app.command(
    short_help="Sign what expires soon; daily.",
    epilog=example("trainer release refresh updates --keys keys/online"),
)
def refresh(repository: Path = REPOSITORY, keys: list[Path] = KEYS) -> None:
    """Sign the timestamp anew, and rings and snapshot where half of their time is over. Run it
    daily: a repository that nobody refreshes is refused by the stations after 7 days.
    """
    from trainer.release.acts import refresh as refresh_repository

    for warning in refresh_repository(repository, keys):
        typer.echo(warning, err=True)
    typer.echo(f"{repository} is refreshed")


@app.command(
    short_help="Sign root and targets anew, or replace a key.",
    epilog=example(
        "trainer release renew updates --keys keys",
        "trainer release renew updates --replace timestamp --keys keys",
    ),
)
def renew(
    repository: Path = REPOSITORY,
    replace: str | None = typer.Option(
        None, help="Role whose keys are replaced by new ones: lost, or seen.", metavar="ROLE"
    ),
    keys: list[Path] = KEYS,
) -> None:
    """Sign root and targets anew before their time ends. With --replace, a role gets new keys;
    stations learn of them at their next check.
    """
    from trainer.release.acts import renew as renew_repository

    roots = renew_repository(repository, keys, replace)
    typer.echo(f"{repository} is renewed; {', '.join(str(root) for root in roots)} are the newest")


@app.command(
    short_help="Copy it to a stick.",
    epilog=example("trainer release usb updates /media/stick --keys keys"),
)
def usb(
    repository: Path = REPOSITORY,
    stick: Path = typer.Argument(
        ..., help="Folder on the stick.", metavar="FOLDER", readable=False
    ),
    keys: list[Path] = KEYS,
) -> None:
    """Copy what the rings name to a stick, for stations without a network. The stick's timestamp is
    valid for months; stations trust it by usb-root.json.
    """
    from trainer.release.stick import copy_to_stick

    until = copy_to_stick(repository, stick, keys)
    typer.echo(f"wrote {stick}, good until {until:%Y-%m-%d}; next: edge update --usb FOLDER")


@app.command(short_help="What every ring says.", epilog=example("trainer release show updates"))
def show(repository: Path = REPOSITORY) -> None:
    """What every ring says, and until when each role's metadata is good."""
    from trainer.release.repository import METADATA, Repository

    read = Repository.read(repository, {})
    for one in read.rings_there():
        for line in _lines(one):
            typer.echo(line)
    for name in METADATA:
        signed = read.of(name).signed
        typer.echo(f"{name:<10} version {signed.version}, good until {signed.expires:%Y-%m-%d}")


def _lines(ring: RingFile) -> list[str]:
    named: list[tuple[str, RingEntry | RingPackage]] = [*sorted(ring.products.items())]
    if ring.package is not None:
        named.append(("package edge-station", ring.package))
    return [
        f"ring {ring.ring}: {name} {one.version}{', halted' if one.halt else ''}"
        for name, one in named
    ] or [f"ring {ring.ring}: nothing"]
