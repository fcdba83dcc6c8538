"""What a station remembers of its updates.

    var/lib/edge/update/state.json    the bundle on trial, what was decided about others, reports
                                      that wait for their source
    var/lib/edge/update/fetched/      a bundle on its way here
    var/lib/edge/update/update.lock   held by whoever updates

The file is replaced by one rename. Every bundle is decided about once: what was taken, refused or
taken back is never taken again by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from edge.clock import boot_time_s, read_boot_id
from edge.errors import ConfigError, StorageError
from edge.files import is_there, make_folder, read_bytes, remove_tree, sentence_of, write_atomically
from edge.schema import Name, Sha256, Strict, canonical_json, parse_json
from edge.station.lock import locked
from edge.station.root import RootFolder
from edge.update.source import Offer, Outcome

FOLDER, FILE, FETCHED, LOCK = "update", "state.json", "fetched", "update.lock"
LIMIT = 1 << 20  # bytes of a state file
KNOWN_LIMIT = 256  # decisions that are remembered; the oldest are forgotten first
WAITING_LIMIT = 64  # reports that wait
REFUSED_LIMIT = 5  # times that a source may refuse one of them: then it is dropped


State = TypeVar("State", bound=Strict)


class KeptOffer(Strict):
    """An offer as the file has it."""

    product: Name
    version: Name
    size: int | None = Field(default=None, ge=0)
    sha256: Sha256 | None = None
    action: str | None = Field(default=None, max_length=256)

    @classmethod
    def of(cls, offer: Offer) -> KeptOffer:
        """From an offer, which is not halted."""
        return cls(
            product=offer.product,
            version=offer.version,
            size=offer.size,
            sha256=offer.sha256,
            action=offer.action,
        )

    def as_offer(self) -> Offer:
        """The same as a value."""
        return Offer(self.product, self.version, self.size, self.sha256, self.action)


class TrialRecord(Strict):
    """A bundle that was installed, or is about to be, and whose health is not decided yet.

    before: the slot that it replaced; null where there was none. is_installed: the installation has
    ended. reason_before: what was wrong with the station already. parts, rejected: judged with it
    so far. judged_s: seconds in which the station judged with it. unhealthy: why it is to be rolled
    back, once that is decided.
    """

    source: str = Field(max_length=64)
    offer: KeptOffer
    slot: str = Field(max_length=128)
    before: str | None = Field(default=None, max_length=128)
    is_installed: bool = False
    reason_before: str = Field(default="", max_length=64)
    parts: int = Field(default=0, ge=0)
    rejected: int = Field(default=0, ge=0)
    judged_s: float = Field(default=0, ge=0)
    unhealthy: str = ""


class Known(Strict):
    """A bundle that was decided about. why: in a sentence."""

    product: Name
    version: Name
    sha256: Sha256 | None = None
    outcome: Outcome
    why: str

    def is_of(self, offer: Offer) -> bool:
        """Whether it is the offered bundle: a digest decides where both are known."""
        same = (self.product, self.version) == (offer.product, offer.version)
        return same and (None in (self.sha256, offer.sha256) or self.sha256 == offer.sha256)


class Waiting(Strict):
    """A report that its source did not take yet.

    is_told: somebody was told that it waits. refusals: how often the source did not accept it.
    """

    source: str = Field(max_length=64)
    offer: KeptOffer
    outcome: Outcome
    details: tuple[str, ...]
    is_told: bool = False
    refusals: int = Field(default=0, ge=0)


class Checked(Strict):
    """When the source was asked last: seconds since the boot of that id."""

    boot: str = Field(max_length=64)
    boot_s: float


class UpdateState(Strict):
    """state.json. let_again: PRODUCT/SLOT of what was taken back by hand, and is forgotten."""

    schema_version: Literal[1] = 1
    trial: TrialRecord | None = None
    known: tuple[Known, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    checked: Checked | None = None
    let_again: tuple[str, ...] = ()

    def find(self, offer: Offer) -> Known | None:
        """What was decided about an offered bundle."""
        return next((one for one in self.known if one.is_of(offer)), None)

    def with_known(self, new: Known) -> UpdateState:
        """The same, with one more decision, and without those about the same bundle."""
        others = [
            one
            for one in self.known
            if (one.product, one.version, one.sha256) != (new.product, new.version, new.sha256)
        ]
        again = [place for place in self.let_again if not place.startswith(f"{new.product}/")]
        known = (*others, new)[-KNOWN_LIMIT:]
        return self.model_copy(update={"known": known, "let_again": tuple(again)})

    def with_waiting(self, report: Waiting) -> UpdateState:
        """The same, with one more report that waits, in place of others about its order."""
        order = (report.source, report.offer.action)
        others = [one for one in self.waiting if (one.source, one.offer.action) != order]
        return self.model_copy(update={"waiting": (*others, report)[-WAITING_LIMIT:]})


def is_due(state: UpdateState, interval_s: float) -> bool:
    """Whether the source is to be asked again: after a boot, after this long, or if a trial goes
    on.
    """
    checked = state.checked
    if state.trial is not None or checked is None or checked.boot != read_boot_id():
        return True
    return boot_time_s() - checked.boot_s >= interval_s


def place_of(product: str, slot: str) -> str:
    """A slot as `let_again` has it."""
    return f"{product}/{slot}"


def update_folder(station: RootFolder) -> Path:
    """Where all of this lies."""
    return station.data / FOLDER


def read_update_state(station: RootFolder) -> UpdateState:
    """What is remembered; nothing where there is no file yet.

    Raises: ConfigError if the file is damaged.
    """
    remedy = (
        "see with `edge bundle list` that the right bundle judges, then remove the file; bundles"
        " that were refused before are tried once more"
    )
    return remembered(update_folder(station) / FILE, UpdateState, remedy)


def remembered(path: Path, kind: type[State], remedy: str) -> State:
    """The content of a state file; one without content where there is no file yet.

    Raises: ConfigError with the remedy if the file is damaged.
    """
    if not is_there(path):
        return kind()
    try:
        return kind.model_validate(parse_json(read_bytes(path, limit=LIMIT)))
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {remedy}") from error


def write_update_state(station: RootFolder, state: UpdateState) -> None:
    """Replace the file. The caller holds the update lock. Raises: OSError."""
    folder = update_folder(station)
    make_folder(folder)
    write_atomically(folder / FILE, canonical_json(state.model_dump(mode="json")))


@contextmanager
def updating(station: RootFolder) -> Iterator[None]:
    """Hold the update lock, with the rights of the account that the station belongs to; what a
    killed update left half written is removed.

    Raises: BusyError if another `edge update` is at work; StorageError if the disk does not take
        it.
    """
    try:
        with station.inside(), locked(update_folder(station), LOCK, "edge update"):
            for path in list(update_folder(station).glob(".*")):
                remove_tree(path)
            yield
    except OSError as error:
        raise StorageError(f"the update stops: {sentence_of(error)}") from error
