"""Making another bundle the current one of a product, so that being killed anywhere is no worse than being told no.

Two links change, `previous` and then `current`; the rename of `current` is what counts. Both ends are written down in
the audit table first, so that whoever finds a switch half done can tell which end it reached and put `previous` right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from edge.bundle import audit
from edge.files import link_atomically, sync_directory, write_atomically

ACTIVE = "active"       # the file that names the active product
SwitchStep = Literal["intent", "previous", "current"]
Act = Literal["install", "rollback"]

# What is written before, and after: when the switch was done, and when it was not.
OUTCOMES: dict[str, tuple[str, str]] = {
    "install": ("installed", "install abandoned"),
    "rollback": ("rolled back", "rollback abandoned"),
}
CLOSED = {act for outcome in OUTCOMES.values() for act in outcome}


def slot_of(link: Path) -> str | None:
    """The slot that `current` or `previous` points at, or None where there is no such link."""
    return link.readlink().name if link.is_symlink() else None


def switch(
    root: Path,
    folder: Path,
    slot: str,
    act: Act,
    about: Mapping[str, object],
    reached: Callable[[SwitchStep], object] = lambda _: None,
) -> None:
    """Make `slot` current. The caller holds the change lock and calls `finish` next.

    Args:
        folder: of the product, with its slots. about: what else the audit row tells, such as version and digest.
        reached: called before each step.
    """
    before, previous = slot_of(folder / "current"), slot_of(folder / "previous")
    reached("intent")
    links = {"slot": slot, "before": before, "previous": previous}
    audit.append_audit(root, act, {"product": folder.name, **about, **links})
    reached("previous")
    if before is not None:
        link_atomically(folder / "previous", f"slots/{before}")
    reached("current")
    link_atomically(folder / "current", f"slots/{slot}")


def finish(root: Path, products: Path) -> bool:
    """Close the audit row of a switch, whether it was done or cut short, and put `previous` right.

    A first installation that was cut short after its switch takes its last step here: its product becomes active.

    Returns: whether a row was open and its bundle is the current one. The caller holds the change lock.
    """
    rows = [row for row in audit.read_audit(root) if row.act in OUTCOMES or row.act in CLOSED]
    if not rows or rows[-1].act in CLOSED:
        return False
    links, folder = rows[-1].detail, products / rows[-1].detail["product"]
    done: bool = slot_of(folder / "current") == links["slot"]
    _set_previous(folder, links["before"] if done else links["previous"])
    active = products.parent / ACTIVE
    if done and rows[-1].act == "install" and not active.exists():
        write_atomically(active, f"{folder.name}\n".encode())
    closing = OUTCOMES[rows[-1].act][0 if done else 1]
    about = {key: value for key, value in links.items() if key not in ("before", "previous")}
    audit.append_audit(root, closing, about, rows[-1].who)
    return done


def _set_previous(folder: Path, slot: str | None) -> None:
    link = folder / "previous"
    if slot_of(link) == slot:
        return
    if slot is not None:
        link_atomically(link, f"slots/{slot}")
    else:
        link.unlink()
        sync_directory(folder)
