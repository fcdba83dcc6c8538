"""What `edge update` makes of a package that the station's ring names: a word about it, or a
request to root.

The account that asks for updates installs no package. It leaves an empty file in run/edge;
edge-package-update.path then starts edge-package-update.service (edge/update/package_step.py),
which believes nothing of it and looks for itself.
"""

from __future__ import annotations

from pathlib import Path

from edge.provision.package import PACKAGE
from edge.station.store import Store
from edge.update.dpkg import Dpkg
from edge.update.package_request import leave_request
from edge.update.package_state import PackageState, read_package_state
from edge.update.ring import RingPackage
from edge.update.source import Source
from edge.update.state import updating
from edge.update.tuf_source import TufSource
from edge.update_sections import UpdateConfig

BY_HAND = "`sudo edge update package` takes it"
AGAIN = f"`sudo edge update forget {PACKAGE}` lets it be tried again"


def objection_to(
    named: RingPackage, path: str | None, state: PackageState, dpkg: Dpkg, installed: str
) -> str:
    """Why a package that a ring names is not taken, in a sentence; empty if it may be."""
    if named.version == installed:
        return "it is installed already"
    if not dpkg.is_newer(named.version, installed):
        return f"{installed} is installed, and versions only go up"
    known = state.find(named.version)
    if known is not None and known.outcome in ("rolled_back", "refused"):
        was = "rolled back" if known.outcome == "rolled_back" else "refused"
        return f"it was {was} here before ({known.why}); {AGAIN}"
    if path is None:
        here = f"{dpkg.codename() or 'this distribution'}, {dpkg.processor()}"
        return f"the repository has none for {here}: `trainer release package` takes it in"
    return "kept back by its source" if named.halt else ""


def is_on_trial(root: Path) -> bool:
    """Whether a package is on trial, so that no bundle is taken."""
    return read_package_state(root).trial is not None


def offered_package(
    store: Store, source: Source, config: UpdateConfig, is_asked: bool, only_shown: bool = False
) -> str:
    """What the station's ring says of the package, in a line; empty where it says nothing new. Asks
    root to take it, or to go on with its trial, if [update] says so.

    is_asked: False where somebody named a stick by hand. only_shown: nobody is asked.
    Raises: UpdateError, ConfigError as the source; StorageError if the request cannot be left.
    """
    state, dpkg = read_package_state(store.root), Dpkg(store.root)
    if state.trial is not None:
        if not only_shown:
            leave_request(store)
        return f"{PACKAGE} {state.trial.version}: on trial"
    installed = dpkg.installed()
    if installed is None or not isinstance(source, TufSource):
        return ""
    with updating(store):  # what was verified is the account's, also where root asks
        found = source.find_package(dpkg.codename(), dpkg.processor())
    if found is None or found[0].version == installed.version:
        return ""
    words = f"{PACKAGE} {found[0].version}"
    if why := objection_to(*found, state, dpkg, installed.version):
        return f"{words}: {why}"
    if not (config.package and is_asked):
        why = "a stick named by hand brings bundles" if config.package else "package is false"
        return f"{words}: offered, and not taken by itself ({why}); {BY_HAND}"
    if only_shown:
        return f"{words}: would be taken"
    leave_request(store)
    return f"{words}: edge-package-update.service is asked to take it"
