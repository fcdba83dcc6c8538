"""Installs a newer package edge-station, as root: the program of edge-package-update.service.

It believes nothing that the station's account could have written. What to install it asks the
repository itself, by the root metadata and the settings that are root's; what it has verified, and
the package, lie in a folder that is root's from the first byte (edge/update/package_state.py). Of
the station it reads which bundle judges, and how it does.

It is started by `/opt/edge/bin/python`, an interpreter whose environment stays while it runs, also
when the package puts another one to use.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge.config import PLACE, read_config
from edge.errors import ConfigError, EdgeError, StorageError, on_one_line
from edge.files import make_folder, sentence_of
from edge.provision.package import PACKAGE
from edge.station.links import require_roots
from edge.station.lock import locked
from edge.station.root import TRUST
from edge.station.store import Store
from edge.update.dpkg import Dpkg
from edge.update.package_pass import PackagePass
from edge.update.package_request import take_request
from edge.update.package_state import (
    FETCHED,
    FILE,
    FOLDER,
    LOCK,
    PREVIOUS,
    KnownPackage,
    Outcome,
    PackageState,
    package_folder,
    read_package_state,
    tidy,
    write_package_state,
)
from edge.update.roots import trusted_name

# what decides which package root installs, and what it has verified of it
GOVERNING = (
    PLACE,
    *(TRUST / trusted_name(kind) for kind in ("online", "usb")),
    *(FOLDER / name for name in (FILE, FETCHED, PREVIOUS, "tuf", "usb")),
)


def update_package(
    root: Path, say: Callable[[str], object], by_hand: bool = False, usb: Path | None = None
) -> Outcome | None:
    """One call of the program under `root`. Raises: EdgeError."""
    store, folder = Store(root), package_folder(root)
    if os.geteuid() != 0:
        raise ConfigError("only root installs a package: `sudo edge update package`")
    try:
        take_request(store)
    except StorageError as error:  # systemd ends what is started again and again
        say(str(error))
    try:
        require_roots(root, GOVERNING, ConfigError)
        make_folder(folder)
        with locked(folder, LOCK, "edge update package"):
            tidy(root)
            config = read_config(root).update
            return PackagePass(store, config, say, Dpkg(root)).run(by_hand, usb)
    except OSError as error:
        raise StorageError(f"the package's update stops: {sentence_of(error)}") from error


def forget_packages(root: Path) -> list[KnownPackage]:
    """Forget what was decided about packages, so that they are taken again if they are offered;
    returns the decisions. Raises: ConfigError, StorageError if another account than root asks.
    """
    state = read_package_state(root)
    try:
        if state.known:
            with locked(package_folder(root), LOCK, "edge update forget"):
                write_package_state(root, PackageState(trial=read_package_state(root).trial))
    except OSError as error:
        raise StorageError(f"{PACKAGE}: {sentence_of(error)}; use sudo") from error
    return list(state.known)


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--by-hand", action="store_true")
    parser.add_argument("--usb", type=Path)
    parser.add_argument("--root", type=Path, default=Path("/"))
    wanted = parser.parse_args()
    try:
        outcome = update_package(
            wanted.root, lambda line: print(line, flush=True), wanted.by_hand, wanted.usb
        )
    except EdgeError as error:
        print(on_one_line(str(error)), file=sys.stderr)
        return 1
    return 0 if outcome in ("installed", None) else 1


if __name__ == "__main__":
    sys.exit(main())
