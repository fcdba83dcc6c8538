"""What is remembered of the package's own updates, in a folder that is root's alone to change.

    var/lib/edge-package/state.json          the package on trial, what was decided about others
    var/lib/edge-package/fetched/            a package on its way here
    var/lib/edge-package/previous/FILE.deb   the package before the last one, to go back to
    var/lib/edge-package/tuf, usb            what root itself has verified (edge.update.tuf_source)

It lies beside var/lib/edge, whose account could put another folder in the place of one in there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edge.errors import ConfigError
from edge.files import make_folder, remove_tree, write_atomically
from edge.schema import Name, Strict, canonical_json
from edge.station.links import require_closed
from edge.update.state import KNOWN_LIMIT, TrialRecord, remembered

FOLDER, FILE = Path("var/lib/edge-package"), "state.json"
FETCHED, PREVIOUS, LOCK = "fetched", "previous", "package.lock"

Outcome = Literal["installed", "rolled_back", "refused", "failed"]


class PackageTrial(Strict):
    """A package that is installed, or about to be, and whose health is not decided yet.

    before: the version that it replaces. previous: the file of that one. is_installed: dpkg has
    ended with it. pid: of the station's process before, which counts in that boot only; None where
    none was at work. judges: the bundle that judges meanwhile, and how far the trial came.
    unhealthy: why it is to be taken back.
    """

    version: Name
    before: str = Field(max_length=128)
    previous: str = Field(max_length=256)
    is_installed: bool = False
    pid: int | None = None
    boot: str = Field(default="", max_length=64)
    judges: TrialRecord | None = None
    unhealthy: str = ""


class KnownPackage(Strict):
    """A package that was decided about. why: in a sentence. when: UTC."""

    version: Name
    outcome: Outcome
    why: str
    when: str = Field(max_length=64)


class PackageState(Strict):
    """state.json."""

    schema_version: Literal[1] = 1
    trial: PackageTrial | None = None
    known: tuple[KnownPackage, ...] = ()

    def find(self, version: str) -> KnownPackage | None:
        """What was decided about a version."""
        return next((one for one in self.known if one.version == version), None)

    def with_known(self, new: KnownPackage) -> PackageState:
        """The same without a trial, with one more decision in place of those about its version."""
        others = [one for one in self.known if one.version != new.version]
        known = (*others, new)[-KNOWN_LIMIT:]
        return PackageState(known=known)


def package_folder(root: Path) -> Path:
    """Where all of this lies."""
    return root / FOLDER


def read_package_state(root: Path) -> PackageState:
    """What is remembered; nothing where there is no file yet.

    Raises: ConfigError if the file is damaged, or other accounts may change it.
    """
    path = package_folder(root) / FILE
    require_closed([path.parent, path], ConfigError)
    remedy = "see with `edge --version` that the right package is installed, then remove the file"
    return remembered(path, PackageState, remedy)


def tidy(root: Path) -> None:
    """Remove what a killed call left half written. The caller holds the lock. Raises: OSError."""
    for folder in (package_folder(root), package_folder(root) / PREVIOUS):
        for path in list(folder.glob(".*")):
            remove_tree(path)


def write_package_state(root: Path, state: PackageState) -> None:
    """Replace the file. Raises: OSError."""
    make_folder(package_folder(root))
    write_atomically(package_folder(root) / FILE, canonical_json(state.model_dump(mode="json")))
