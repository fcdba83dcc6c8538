"""What speaks against an offer before anything of it is fetched, and how decisions are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.bundle.versions import version_key
from edge.station.installed import Installed
from edge.update.source import Offer, Outcome
from edge.update.state import UpdateState

AGAIN = "`edge update forget` lets it be tried again"
TOLD: dict[Outcome, str] = {  # what became of an offer, in words
    "installed": "installed",
    "refused": "refused",
    "rolled_back": "rolled back",
    "failed": "not taken now",
}


@dataclass(frozen=True)
class Decided:
    """What became of one offer. outcome: None while it is on trial."""

    offer: Offer
    outcome: Outcome | None
    why: str

    def line(self) -> str:
        """For the terminal and the journal."""
        what = TOLD[self.outcome] if self.outcome else "on trial"
        return f"{self.offer.words}: {what}: {self.why}"


def objection(
    offer: Offer, current: Mapping[str, Installed], products: Sequence[str], state: UpdateState
) -> tuple[Outcome | None, str]:
    """What is answered to an offer without fetching it; (None, "") if it is to be taken, None with
    a sentence if it is neither taken nor refused now.

    current: the current bundle of each installed product. products: those of [update]; none of them
    stands for the installed ones.
    """
    now = current.get(offer.product)
    if offer.halt:
        return None, "kept back by its source"
    if offer.product not in products if products else now is None:
        return "refused", "[update] products does not list it, and takes installed ones only"
    version = None if now is None else now.manifest.version
    if known := state.find(offer):
        if known.outcome == "installed" and version == known.version:
            return "installed", "it is installed already"
        return "refused", f"it was {TOLD[known.outcome]} here before ({known.why}); {AGAIN}"
    if version is None or version_key(offer.version) > version_key(version):
        return None, ""
    if version_key(offer.version) == version_key(version):
        return "installed", "it is installed already"
    return "refused", f"{version} is installed, and versions only go up"
