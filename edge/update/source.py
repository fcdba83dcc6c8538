"""Where updates come from: the protocol that every source offers.

A source says WHICH bundle this station should run. Whether it may is decided by the bundle's own
signature, by the proof of its engines and by the station's health (edge/update/apply.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edge.station.installed import Installed

Outcome = Literal[
    "installed",  # it is the product's current bundle, and the station is healthy with it
    "refused",  # damaged, not trusted, not proven here, or it was refused or rolled back before
    "rolled_back",  # the station was not healthy with it, the previous bundle judges again
    "failed",  # not a fault of the bundle (network, disk, another command): tried again later
]


@dataclass(frozen=True)
class Offer:
    """A bundle that this station should run.

    size: bytes of the .bundle file. sha256: of that file, hexadecimal. Either is None where the
    source does not say it. action: the source's own name of this order, which `report` needs; None
    where it has none. halt: nothing is to be taken now: the order is kept back.
    """

    product: str
    version: str
    size: int | None = None
    sha256: str | None = None
    action: str | None = None
    halt: bool = False

    @property
    def words(self) -> str:
        """Product and version, for messages."""
        return f"{self.product} {self.version}"


class Source(Protocol):
    """One place that updates come from. Used by one thread of one process at a time."""

    name: str  # as [update] of station.toml and the audit table name it

    def find(self, current: Mapping[str, Installed]) -> Sequence[Offer]:
        """What this station should run: at most one offer per product, also where the station has
        that bundle already. A source that takes orders one by one gives the oldest.

        current: the current bundle of each installed product.
        Raises: UpdateError if the source cannot be reached, or what it says cannot be trusted.
        """
        ...

    def fetch(self, offer: Offer, folder: Path) -> Path:
        """Bring the offer's .bundle file into `folder` (which exists); returns its path.

        Size and digest are checked where the offer has them, and no more bytes than that are
        written. What an interrupted call left in `folder` may be used by the next one.
        Raises: UpdateError if it cannot be had, or is not what was offered; OSError if the disk
        does not take it.
        """
        ...

    def report(self, offer: Offer, outcome: Outcome, details: Sequence[str]) -> None:
        """Tell the source what became of an offer. A source that nobody reads reports in does
        nothing.

        details: sentences.
        Raises: UpdateError if the report cannot be delivered: it is repeated at the next check;
            Refused (edge.update.reach) if the source does not accept it: it is repeated a few
            times.
        """
        ...
