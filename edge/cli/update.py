"""`edge update`: new bundles from a repository, a stick or a fleet server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import root_option, stick_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.errors import ConfigError
    from edge.station.store import Store
    from edge.update.source import Source
    from edge.update_sections import UpdateConfig

app = typer.Typer(
    help="New bundles: fetched, verified, proven, on trial, and rolled back by itself.",
    **GROUP | {"no_args_is_help": False, "invoke_without_command": True},
    epilog=example(
        "edge update",
        "edge update --check",
        "edge update --usb /media/stick",
        "edge update trust root.json",
        "edge update status",
    ),
)


@app.callback()
def update(
    context: typer.Context,
    check: bool = typer.Option(
        False, "--check", help="Say what is offered and what would be done; install nothing."
    ),
    usb: Path | None = stick_option(),
    if_due: bool = typer.Option(
        False, "--if-due", help="Only if interval_min of [update] has passed: for the timer."
    ),
    root: Path = root_option(),
) -> None:
    """Take the bundles that this station's source offers, as [update] of station.toml says.

    Each is verified, its engines are proven here, a running `edge run` takes it between two parts,
    and it is on trial: if the station is not healthy with it, the previous bundle judges again, and
    that one is never taken by itself again. Exit code 1 if a bundle was refused, rolled back or not
    to be had.
    """
    if context.invoked_subcommand is not None:
        return
    from edge.config import read_config
    from edge.station.store import Store
    from edge.update.apply import preview, update_once
    from edge.update.factory import is_at_hand
    from edge.update.package_offer import is_on_trial, offered_package
    from edge.update.state import is_due, read_update_state

    store, config = Store(root), read_config(root).update
    state = read_update_state(store)
    is_off = usb is None and (config.source == "off" or (if_due and not is_at_hand(store, config)))
    has_trial = state.trial is not None or is_on_trial(root)
    if if_due and not has_trial and (is_off or not is_due(state, 60.0 * config.interval_min)):
        return
    source, trouble = _source(store, config, usb, is_off, has_trial and not check)
    if check:
        lines = preview(store, source, config)
        package = offered_package(store, source, config, usb is None, only_shown=True)
        print("\n".join([*lines, package] if package else lines) or "nothing is offered")
        return
    decided = update_once(store, source, config, lambda line: print(line, flush=True))
    package = offered_package(store, source, config, usb is None)
    if package:
        print(package, flush=True)
    if trouble is not None:
        raise trouble
    if any(one.outcome not in ("installed", None) for one in decided):
        raise typer.Exit(1)
    if not decided and not package:
        print("nothing new")


def _source(
    store: Store, config: UpdateConfig, usb: Path | None, is_off: bool, has_trial: bool
) -> tuple[Source, ConfigError | None]:
    """The source to ask; and why it cannot be asked, where only a trial goes on.

    Raises: ConfigError if there is none, and no trial.
    """
    from edge.errors import ConfigError
    from edge.update.factory import NoSource, make_source

    if is_off and has_trial:
        return NoSource(), None
    try:
        return make_source(store, config, usb), None
    except ConfigError as error:
        if not has_trial:
            raise
        return NoSource(), error


@app.command(
    short_help="Trust a repository of updates.", epilog=example("edge update trust root.json")
)
def trust(
    file: Path = typer.Argument(
        ...,
        help="root.json or usb-root.json that `trainer release` wrote.",
        readable=False,
        metavar="FILE",
    ),
    root: Path = root_option(),
) -> None:
    """Begin to trust a repository by its root metadata: root.json for the one behind an address,
    usb-root.json for its copies on sticks. Bundles are still taken only from keys of `edge trust`.
    """
    from edge.station.store import Store
    from edge.update.roots import trust_root

    kind = trust_root(Store(root), file)
    print(f"{root} trusts this repository of updates ({kind}). Next: [update] in station.toml")


@app.command(
    short_help="Take a newer package edge-station.",
    epilog=example("sudo edge update package", "sudo edge update package --usb /media/stick"),
)
def package(usb: Path | None = stick_option(), root: Path = root_option()) -> None:
    """Take the package of this software that the station's ring names, now, whatever [update] says
    of packages: verified, installed beside a station that judges on, on trial, and taken back if
    the station is not healthy with it. Only root may.
    """
    import os
    import sys

    # in its own environment, which stays although the package puts another one to use
    python = str(Path(sys.prefix).resolve() / "bin/python")
    words = ["-I", "-m", "edge.update.package_step", "--by-hand", "--root", str(root)]
    more = ["--usb", str(usb)] if usb is not None else []
    os.execv(python, [python, *words, *more])


@app.command(
    short_help="What was taken, refused or rolled back.", epilog=example("edge update status")
)
def status(root: Path = root_option()) -> None:
    """What is on trial, and what was decided about earlier bundles."""
    from edge.station.store import Store

    for line in _status(Store(root)):
        print(line)


@app.command(
    short_help="Let refused bundles be tried again.", epilog=example("edge update forget washer")
)
def forget(
    product: str = typer.Argument(..., help="Whose bundles; or edge-station.", metavar="PRODUCT"),
    root: Path = root_option(),
) -> None:
    """Forget what was decided about the bundles of a product, or about the package edge-station:
    what is offered is taken again.
    """
    from edge.provision.package import PACKAGE
    from edge.station.store import Store
    from edge.update.forgetting import forget as forget_product
    from edge.update.package_step import forget_packages

    gone = forget_packages(root) if product == PACKAGE else forget_product(Store(root), product)
    versions = ", ".join(one.version for one in gone) or "nothing"
    print(f"{product}: {versions} forgotten")


def _status(store: Store) -> list[str]:
    from edge.update.state import read_update_state

    state = read_update_state(store)
    lines = [f"{one.product} {one.version}: {one.outcome}: {one.why}" for one in state.known]
    if state.trial is not None:
        trial = state.trial
        lines.append(
            f"{trial.offer.product} {trial.offer.version}: on trial, {trial.parts} parts,"
            f" {trial.judged_s / 60:.0f} min"
        )
    lines += _package_status(store)
    return lines or ["no bundle came by `edge update` yet"]


def _package_status(store: Store) -> list[str]:
    from edge.provision.package import PACKAGE
    from edge.update.package_state import read_package_state

    state = read_package_state(store.root)
    lines = [f"{PACKAGE} {one.version}: {one.outcome}: {one.why}" for one in state.known]
    if state.trial is not None:
        lines.append(f"{PACKAGE} {state.trial.version}: on trial")
    return lines
