"""Rows of the audit table that claim an act which is not in effect: the next change adds a row that
says so.

The row is written before the act, so that nothing changes what OK means without a row; the act is
one rename. A process that was killed between the two, or a pulled plug, leaves a row for an act
that never happened. A file that somebody moved away leaves one too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge.errors import EdgeError, StorageError
from edge.station import audit
from edge.station.keys import TrustedKeys
from edge.station.root import RootFolder
from edge.station.site import GeometryFile, ModelStateFile, read_state
from edge.station.switch import PRODUCT

Detail = Mapping[str, Any]
DENIED = " not in effect"
# what the closing row repeats
NAMES = ("keyid", "product", "version", "digest", "serial", "precision", "runtime")


def claim(station: RootFolder, act: str, detail: Detail, who: str | None = None) -> None:
    """Add the row of an act, one of IN_EFFECT, which the caller carries out next. The caller holds
    the change lock.

    Raises: StorageError if the audit table does not take the row: then the act must not be done.
    """
    close_claim(station)
    audit.append_audit(station.root, act, detail, who)


def close_claim(station: RootFolder) -> None:
    """Add the row "ACT not in effect" if the act of the last claim did not happen, or was undone by
    hand.

    Files that cannot be read are left to the command that needs them, which reports them. The
    caller holds the change lock.
    """
    rows = [
        row for row in audit.read_audit(station.root) if row.act.removesuffix(DENIED) in IN_EFFECT
    ]
    if not rows or rows[-1].act.endswith(DENIED):
        return
    try:
        is_so = IN_EFFECT[rows[-1].act](station, rows[-1].detail)
    except EdgeError:
        return
    if not is_so:
        about = {name: rows[-1].detail[name] for name in NAMES if name in rows[-1].detail}
        audit.append_audit(station.root, rows[-1].act + DENIED, about, rows[-1].who)


def _is_trusted(station: RootFolder, detail: Detail) -> bool:
    wanted = (detail.get("keyid"), detail.get("products", []))
    return any((key.keyid, list(key.products)) == wanted for key in TrustedKeys(station).all())


def _is_distrusted(station: RootFolder, detail: Detail) -> bool:
    return all(key.keyid != detail.get("keyid") for key in TrustedKeys(station).all())


def _is_selected(station: RootFolder, detail: Detail) -> bool:
    return station.active_product() == detail.get("product")


def _has_geometry(station: RootFolder, detail: Detail) -> bool:
    file = read_state(station.site_folder(_name(detail, "product")) / "geometry.json", GeometryFile)
    camera = None if file is None else file.cameras.get(str(detail.get("serial")))
    return camera is not None and camera.version >= _version(detail)


def _has_model_state(station: RootFolder, detail: Detail) -> bool:
    digest = _name(detail, "digest")
    file = read_state(station.model_file(_name(detail, "product"), digest), ModelStateFile)
    wanted = (digest, detail.get("precision"), detail.get("runtime"))
    found = (
        []
        if file is None
        else [one for one in file.states if (one.digest, one.precision, one.runtime) == wanted]
    )
    return any(one.version >= _version(detail) for one in found)


def _name(detail: Detail, key: str) -> str:
    """A name from a row, which cannot lead to another folder.

    Raises: StorageError if no command of this software can have written it.
    """
    word = detail.get(key)
    if not isinstance(word, str) or not PRODUCT.fullmatch(word):
        raise StorageError(f"a row of the audit table has no usable {key}")
    return word


def _version(detail: Detail) -> int:
    version = detail.get("version")
    if not isinstance(version, int):
        raise StorageError("a row of the audit table has no usable version")
    return version


IN_EFFECT: dict[str, Callable[[RootFolder, Detail], bool]] = {
    "trust": _is_trusted,
    "distrust": _is_distrusted,
    "select": _is_selected,
    "calibrate geometry": _has_geometry,
    "calibrate expected": _has_geometry,
    "calibrate model": _has_model_state,
    "calibrate undo": _has_model_state,
}
