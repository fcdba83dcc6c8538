"""Acts of one step whose row in the audit table claims what is not so: the next change says that it
is not in effect.

The row comes first, so that nothing changes what OK means without one; the step that follows is one
rename. A process that was killed between the two, or a pulled plug, leaves a row that claims what
never happened. So does a file that somebody moved away.
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
NAMES = (
    "keyid",
    "product",
    "version",
    "digest",
    "serial",
    "precision",
    "runtime",
)  # what the closing row repeats


def claim(station: RootFolder, act: str, detail: Detail, who: str | None = None) -> None:
    """Write down an act of one step, one of IN_EFFECT; the caller holds the change lock and takes
    that step next.

    Raises: StorageError if the audit table does not take it: then nothing may be done.
    """
    close_claim(station)
    audit.append_audit(station.root, act, detail, who)


def close_claim(station: RootFolder) -> None:
    """Add "... not in effect" if the last act of one step that was written down did not happen, or
    is gone.

    What cannot be read is left for the command that needs it to say. The caller holds the change
    lock.
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
    """A word that leads to no other folder.

    Raises: StorageError for what no command of ours wrote into the row.
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
    "calibrate model": _has_model_state,
}
