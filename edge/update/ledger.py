"""What one call of `edge update` decides: remembered, told to the source and to the audit table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge.errors import UpdateError, on_one_line
from edge.files import remove_tree
from edge.station.audit import append_audit
from edge.station.store import Store
from edge.update.objections import Decided
from edge.update.reach import Refused
from edge.update.source import Offer, Outcome, Source
from edge.update.state import (
    FETCHED,
    REFUSED_LIMIT,
    KeptOffer,
    Known,
    Waiting,
    read_update_state,
    update_folder,
    write_update_state,
)


class Ledger:
    """The caller holds the update lock. state: as the file has it. decided: in this call."""

    def __init__(self, store: Store, source: Source, say: Callable[[str], object]) -> None:
        """say: is told each decision in a line."""
        self._store, self._source, self._say = store, source, say
        self.state = read_update_state(store)
        self.decided: list[Decided] = []

    @property
    def who(self) -> str:
        """For the audit table."""
        return f"edge update ({self._source.name})"

    def decide(self, offer: Offer, outcome: Outcome, why: str, is_new: bool = True) -> None:
        """Remember it, so that it is decided once; then tell the source.

        is_new: False where that was decided before, or by station.toml.
        """
        trial, state, why = self.state.trial, self.state, on_one_line(why)
        kept = KeptOffer.of(offer) if trial is None else trial.offer
        if is_new and (outcome != "failed" or trial is not None):
            state = state.with_known(
                Known(
                    product=kept.product,
                    version=kept.version,
                    sha256=kept.sha256,
                    outcome=outcome,
                    why=why,
                )
            )
        report = Waiting(
            source=self._source.name if trial is None else trial.source,
            offer=kept,
            outcome=outcome,
            details=(why,),
        )
        self.state = state.with_waiting(report)
        self.keep(trial=None)
        if is_new:
            about = {"product": kept.product, "version": kept.version, "why": why}
            self.audit(f"update {outcome.replace('_', ' ')}", about)
        if outcome != "failed":  # else the next call goes on with what is there
            remove_tree(update_folder(self._store) / FETCHED)
        self.tell(Decided(offer, outcome, why))
        self.deliver()

    def tell(self, decided: Decided) -> None:
        """Of an offer, in a line."""
        self.decided.append(decided)
        self._say(decided.line())

    def deliver(self) -> None:
        """Give the source the reports that wait for it; what it does not take waits on."""
        left: list[Waiting] = []
        for report in self.state.waiting:
            if report.source != self._source.name:
                left.append(report)
                continue
            try:
                self._source.report(report.offer.as_offer(), report.outcome, report.details)
            except Refused as error:
                self._refused(report, error, left)
            except UpdateError as error:
                self._put_off(report, error, left)
        if tuple(left) != self.state.waiting:
            self.keep(waiting=tuple(left))

    def _refused(self, report: Waiting, error: Refused, left: list[Waiting]) -> None:
        """A report that the source does not accept: a few more times, then no more."""
        again = report.model_copy(update={"refusals": report.refusals + 1})
        if again.refusals < REFUSED_LIMIT:
            self._put_off(again, error, left)
            return
        words = report.offer.as_offer().words
        why = f"{error}; its report was refused {again.refusals} times and is dropped"
        self._say(f"{words}: {why}")
        about = {"product": report.offer.product, "version": report.offer.version, "why": why}
        self.audit("update report dropped", about)

    def _put_off(self, report: Waiting, error: UpdateError, left: list[Waiting]) -> None:
        if not report.is_told:
            self._say(f"{error}; it is told again at each check")
        left.append(report.model_copy(update={"is_told": True}))

    def drop_trial(self) -> None:
        """Nothing is on trial, and nothing was decided."""
        if self.state.trial is not None:
            self.keep(trial=None)

    def keep(self, **changed: Any) -> None:
        """Change the state, also on the disk. Raises: OSError."""
        self.state = self.state.model_copy(update=changed)
        write_update_state(self._store, self.state)

    def audit(self, act: str, about: Mapping[str, object]) -> None:
        """A row in the name of the source. Raises: StorageError."""
        append_audit(self._store.root, act, about, self.who)
