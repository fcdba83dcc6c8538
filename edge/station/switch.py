"""Making another bundle the current one of a product. A process that is killed at any step leaves
the old bundle current, or the new one.

Two links change, `previous` and then `current`; the rename of `current` decides. The audit table
holds where both links pointed before, so that the next command can tell how far a switch came, and
correct `previous`.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.files import link_atomically, sync_directory, write_atomically
from edge.station import audit

log = logging.getLogger(__name__)

PRODUCT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as edge.schema.Name
SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}-[0-9a-f]{12}")  # VERSION-DIGEST12
ACTIVE = "active"  # the file that names the active product
SwitchStep = Literal["intent", "previous", "current"]
Act = Literal["install", "rollback"]

# What is written before, and after: when the switch was done, and when it was not.
OUTCOMES: dict[str, tuple[str, str]] = {
    "install": ("installed", "install abandoned"),
    "rollback": ("rolled back", "rollback abandoned"),
}
CLOSED = {act for outcome in OUTCOMES.values() for act in outcome}


def is_slot(path: Path) -> bool:
    """Whether a folder that is named like a slot lies there; anything else beside the slots is
    ignored.
    """
    return SLOT.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()


def slot_of(link: Path) -> str | None:
    """The slot that `current` or `previous` points at, or None where there is no such link."""
    try:
        return link.readlink().name
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):  # nothing there, or no link
            return None
        raise


def switch(
    root: Path,
    folder: Path,
    slot: str,
    act: Act,
    about: Mapping[str, object],
    reached: Callable[[SwitchStep], object] = lambda _: None,
    who: str | None = None,
) -> None:
    """Make `slot` current. The caller holds the change lock and calls `finish` next.

    Args:
        folder: of the product, with its slots. about: what else the audit row tells, such as
            version and digest.
        reached: called before each step. who: for the audit; by default who runs this.
    """
    before, previous = slot_of(folder / "current"), slot_of(folder / "previous")
    reached("intent")
    links = {"slot": slot, "before": before, "previous": previous}
    audit.append_audit(root, act, {"product": folder.name, **about, **links}, who)
    reached("previous")
    if before is not None:
        link_atomically(folder / "previous", f"slots/{before}")
    reached("current")
    link_atomically(folder / "current", f"slots/{slot}")


def finish(root: Path, products: Path) -> bool:
    """Close the audit row of a switch, whether it was done or cut short, and correct
    `previous`.

    A first installation that was cut short after its switch takes its last step here: its product
    becomes active.

    Returns: whether a row was open and its bundle is the current one. The caller holds the change
    lock.
    """
    rows = [row for row in audit.read_audit(root) if row.act in OUTCOMES or row.act in CLOSED]
    if not rows or rows[-1].act in CLOSED:
        return False
    links = _Links.of(rows[-1])
    if links is None or not (products / links.product).is_dir():
        log.warning(
            "row %s of the audit table says %r of no bundle that lies here, and is passed over",
            rows[-1].id,
            rows[-1].act,
        )
        return False
    folder = products / links.product
    done = slot_of(folder / "current") == links.slot
    _set_previous(folder, links.before if done else links.previous)
    active = products.parent / ACTIVE
    if done and rows[-1].act == "install" and not active.exists():
        write_atomically(active, f"{folder.name}\n".encode())
    closing = OUTCOMES[rows[-1].act][0 if done else 1]
    about = {
        key: value for key, value in rows[-1].detail.items() if key not in ("before", "previous")
    }
    audit.append_audit(root, closing, about, rows[-1].who)
    return done


@dataclass(frozen=True)
class _Links:
    """What an open row says about a switch."""

    product: str
    slot: str
    before: str | None
    previous: str | None

    @classmethod
    def of(cls, row: audit.AuditRow) -> _Links | None:
        """None unless each is a name as this module writes it: the row may be somebody else's
        work.
        """
        product, slot, before, previous = (
            row.detail.get(key) for key in ("product", "slot", "before", "previous")
        )
        if not (isinstance(product, str) and PRODUCT.fullmatch(product) and isinstance(slot, str)):
            return None
        names = [name for name in (slot, before, previous) if name is not None]
        if not all(isinstance(name, str) and SLOT.fullmatch(name) for name in names):
            return None
        return cls(product, slot, before, previous)


def _set_previous(folder: Path, slot: str | None) -> None:
    link = folder / "previous"
    if slot_of(link) == slot:
        return
    if slot is not None:
        link_atomically(link, f"slots/{slot}")
    else:
        link.unlink()
        sync_directory(folder)
