"""The root metadata with which a station begins to trust a repository of updates.

    etc/edge/trust/update-online.json    of the repository behind an address
    etc/edge/trust/update-usb.json       of its copies on sticks, which have keys of their own

It is only the beginning: the repository may replace its keys from there on, each root signed by the
one before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edge.errors import ConfigError
from edge.files import is_there, make_folder, read_bytes, write_atomically
from edge.optional import optional_module
from edge.station import audit
from edge.station.links import require_closed
from edge.station.root import TRUST, RootFolder

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root

Kind = Literal["online", "usb"]
KIND = "x-edge-repository"  # in a root: which of the two it is of
LIMIT = 512_000  # bytes, as TUF clients take it
REMEDY = "Install the extra `update` (pip install 'rgbd-inspection[update]'), or the package"


def trusted_name(kind: Kind) -> str:
    """Its file's name, in the folder of what the station trusts."""
    return f"update-{kind}.json"


def root_file(station: RootFolder, kind: Kind) -> Path:
    """Where it is kept."""
    return station.trust_folder / trusted_name(kind)


def read_root(station: RootFolder, kind: Kind) -> bytes:
    """The root that the station begins with.

    Raises: ConfigError if there is none, or other accounts may change it.
    """
    path = root_file(station, kind)
    if not is_there(path):
        name = "root.json" if kind == "online" else "usb-root.json"
        raise ConfigError(
            f"{path} does not exist, so no repository of updates is trusted here: run `edge update"
            f" trust {name}` with the file that `trainer release` wrote"
        )
    require_closed([station.trust_folder, path], ConfigError)
    return read_bytes(path, limit=LIMIT)


def trust_root(station: RootFolder, source: Path) -> Kind:
    """Begin with the root in this file from now on; returns which repository it is of.

    Raises: ConfigError if it is no root of `trainer release`, or its own keys did not sign it.
    """
    data = read_bytes(source, limit=LIMIT)
    root = parse_root(data, str(source))
    kind = kind_of(root)
    if kind is None:
        raise ConfigError(f"{source} is no root of a repository that `trainer release` made")
    with station.change("edge update trust"):
        about = {
            "repository": kind,
            "version": root.signed.version,
            "keys": sorted(root.signed.roles["root"].keyids),
        }
        audit.append_audit(station.root, "update trust", about)
        with station.inside(TRUST):
            make_folder(station.trust_folder)
            write_atomically(root_file(station, kind), data)
    return kind


def parse_root(data: bytes, where: str) -> Metadata[Root]:
    """A root that enough of its own keys signed. Raises: ConfigError."""
    api: Any = optional_module("tuf.api.metadata", REMEDY)
    exceptions: Any = optional_module("tuf.api.exceptions", REMEDY)
    try:
        root: Metadata[Root] = api.Metadata[api.Root].from_bytes(data)
        if root.signed.type != api.Root.type:
            raise ValueError(f"it is {root.signed.type}")
        root.signed.verify_delegate(api.Root.type, root.signed_bytes, root.signatures)
    except (exceptions.RepositoryError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(
            f"{where} is no root of a repository of updates ({why}): name root.json of `trainer"
            " release`"
        ) from error
    return root


def kind_of(root: Metadata[Root]) -> Kind | None:
    """Which repository it is of, None where it does not say so."""
    said = root.signed.unrecognized_fields.get(KIND)
    return next((kind for kind in get_args(Kind) if kind == said), None)
