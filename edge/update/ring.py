"""A ring: which bundle of each product the stations that belong to it should run, and which version
of the package edge-station.

    rings/RING.json    a small target of its own role, signed online

It can only choose among the bundles that the offline key of the repository signed; and none of them
is installed without the signature of a key that the station trusts.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from edge.schema import Name, Sha256, Strict

RING = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")  # a name, as [update] of station.toml has it
RING_LIMIT = 256 << 10  # bytes
PACKAGE_LIMIT = 1 << 30  # bytes of a .deb

BundlePath = Annotated[
    str, StringConstraints(pattern=r"^bundles/[A-Za-z0-9][A-Za-z0-9._-]{0,130}\.bundle$")
]


class RingEntry(Strict):
    """One product. halt: stations that do not have it yet wait."""

    version: Name
    bundle: BundlePath
    sha256: Sha256
    halt: bool = False


class RingPackage(Strict):
    """The package edge-station. halt: as of a RingEntry."""

    version: Name
    halt: bool = False


class RingFile(Strict):
    """rings/RING.json. package: for stations that take their package from here; null: none."""

    schema_version: Literal[1] = 1
    ring: Name
    products: dict[Name, RingEntry] = Field(default={}, max_length=1024)
    package: RingPackage | None = None


def ring_path(ring: str) -> str:
    """Its path among the targets of a repository."""
    return f"rings/{ring}.json"


def package_path(version: str, codename: str, processor: str) -> str:
    """The path of the package for one distribution among the targets of a repository."""
    return f"packages/edge-station_{version}_{codename}_{processor}.deb"


def address_of(path: str, sha256: str) -> str:
    """Where a target lies below a repository that keeps several versions of a name: with its digest
    before its name (TUF, consistent snapshots).
    """
    folder, _, name = path.rpartition("/")
    return f"targets/{folder}/{sha256}.{name}"
