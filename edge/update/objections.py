"""What speaks against an offer before anything of it is fetched, and how decisions are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge.bundle.versions import version_key
from edge.station.installed import Installed
from edge.update.source import Offer, Outcome
from edge.update.state import UpdateState, place_of

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
    offer: Offer,
    current: Mapping[str, Installed],
    previous: str | None,
    products: Sequence[str],
    state: UpdateState,
) -> tuple[Outcome | None, str]:
    """What is answered to an offer without fetching it; (None, "") if it is to be taken, None with
    a sentence if it is neither taken nor refused now.

    current: the current bundle of each installed product. previous: the slot that `edge bundle
    rollback` would go to. products: those of [update]; none of them
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
        if version is not None and _was_taken_back(offer, previous, state):
            return "refused", f"somebody went back from it to {version} here; {AGAIN}"
        return None, ""
    if version_key(offer.version) == version_key(version):
        return "installed", "it is installed already"
    return "refused", f"{version} is installed, and versions only go up"


def _was_taken_back(offer: Offer, previous: str | None, state: UpdateState) -> bool:
    """Whether the bundle before the current one is this one, which is newer: however it came here,
    somebody went back from it.
    """
    if previous is None or place_of(offer.product, previous) in state.let_again:
        return False
    return version_key(previous.rpartition("-")[0]) == version_key(offer.version)
