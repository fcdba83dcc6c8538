"""`edge update`: from an offer to a bundle that judges, or to the one that judged before.

An offered bundle is fetched, verified, installed beside the active one (edge.install), taken up by
the running station between two parts, and then on trial (edge/update/trial.py). A process may be
killed anywhere: the trial is written down before the installation begins, and the next call goes on
with it. One bundle is on trial at a time, and nothing else is taken meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeGuard

from pydantic import ValidationError

from edge.bundle.archive import open_bundle
from edge.clock import boot_time_s, read_boot_id
from edge.errors import BundleError, EdgeError, ParityError, StorageError, UpdateError
from edge.files import make_folder, remove_tree, sentence_of, sha256_of
from edge.install.install import SPARE_BYTES, install_bundle
from edge.station.store import Installed, Store, slot_name
from edge.update.ledger import Ledger
from edge.update.objections import AGAIN, TOLD, Decided, objection
from edge.update.package_offer import is_on_trial
from edge.update.source import Offer, Outcome, Source
from edge.update.state import FETCHED, Checked, KeptOffer, TrialRecord, update_folder, updating
from edge.update.trial import Bounds
from edge.update.watch import said_now, watch
from edge.update_sections import UpdateConfig


def update_once(
    store: Store, source: Source, config: UpdateConfig, say: Callable[[str], object]
) -> list[Decided]:
    """Ask the source, and take what it offers; first, go on with a trial that was left.

    say: is told each step in a line. Returns: what was decided, and what is on trial still.
    Raises: UpdateError if the source cannot be asked or trusted; BusyError if another `edge update`
        is at work; StorageError if the disk does not take it. What judges stays then.
    """
    with updating(store):
        return _Pass(store, source, config, say).run()


def preview(store: Store, source: Source, config: UpdateConfig) -> list[str]:
    """What the source offers, and what `update_once` would do; nothing is installed.

    Raises: as update_once.
    """
    with updating(store):
        return _Pass(store, source, config, lambda _: None).preview()


class _Pass:
    """One call of `edge update`. The caller holds the update lock."""

    def __init__(
        self, store: Store, source: Source, config: UpdateConfig, say: Callable[[str], object]
    ) -> None:
        self._store, self._source, self._config, self._say = store, source, config, say
        self._bounds = Bounds(config.trial_parts, 60.0 * config.trial_min, config.max_rejected)
        self._ledger = Ledger(store, source, say)
        self._damaged: dict[str, str] = {}  # products, and what is wrong with each

    def run(self) -> list[Decided]:
        """Everything, in order."""
        self._ledger.deliver()
        if self._ledger.state.trial is not None:
            self._go_on(self._ledger.state.trial, was_at_work=False)
        if not self._is_trying() and is_on_trial(self._store.root):
            self._say("a package is on trial: no bundle is taken meanwhile")
        elif not self._is_trying():
            self._ledger.keep(checked=Checked(boot=read_boot_id(), boot_s=boot_time_s()))
            for offer in self._source.find(self._current()):
                self._consider(offer)
                if self._is_trying():
                    break
            self._tell_damaged()
        return self._ledger.decided

    def _tell_damaged(self) -> None:
        """The products that nothing can be decided about, while the others are taken."""
        for product, why in self._damaged.items():
            self._ledger.tell(Decided(Offer(product, "(damaged)"), "failed", why))

    def _is_trying(self) -> bool:
        return self._ledger.state.trial is not None

    def preview(self) -> list[str]:
        """A line for each offer."""
        lines = []
        for offer in self._source.find(self._current()):
            outcome, why = self._objection(offer)
            verb = f"{TOLD[outcome]}: " if outcome else ""
            lines.append(f"{offer.words}: {verb}{why or 'would be taken'}")
        lines += [f"{product} is damaged: {why}" for product, why in self._damaged.items()]
        return lines

    def _objection(self, offer: Offer) -> tuple[Outcome | None, str]:
        if offer.product in self._damaged:
            return None, "its installed bundle is damaged, so that no version can be compared"
        previous = self._store.link(offer.product, "previous")
        products = self._config.products
        return objection(offer, self._current(), previous, products, self._ledger.state)

    def _current(self) -> Mapping[str, Installed]:
        """Every installed bundle whose manifest can be read; the others are in `_damaged` then."""
        found = dict[str, Installed]()
        self._damaged.clear()
        for product in self._store.products():
            try:
                found[product] = self._store.installed(product)
            except BundleError as error:
                self._damaged[product] = str(error)
        return found

    # --- an offer ---

    def _consider(self, offer: Offer) -> None:
        """Take it, unless something speaks against it.

        Raises: UpdateError for an offer that names no bundle.
        """
        try:
            KeptOffer.of(offer)
        except ValidationError as error:
            raise UpdateError(
                f"{self._source.name} offers {offer.words!r}, which names no bundle: correct it at"
                " the source"
            ) from error
        outcome, why = self._objection(offer)
        if outcome is None and why:
            self._say(f"{offer.words}: {why}")
        elif outcome is None:
            self._take(offer)
        elif offer.action is not None:  # the source waits for an answer
            self._ledger.decide(offer, outcome, why, is_new=False)
        else:
            self._say(f"{offer.words}: {TOLD[outcome]}: {why}")

    def _take(self, offer: Offer) -> None:
        try:
            path = self._fetch(offer)
            record = self._trial_of(offer, path)
            self._say(f"{offer.words}: verified, {record.slot}; its engines are proven now")
            self._install(record, path)
        except (EdgeError, OSError) as error:
            if not self._is_current(self._ledger.state.trial):
                self._not_taken(offer, error)
                return
            record = self._ledger.state.trial  # it failed behind the switch
        self._go_on(record, was_at_work=bool(said_now(self._store)))

    def _not_taken(self, offer: Offer, error: EdgeError | OSError) -> None:
        self._ledger.drop_trial()
        if isinstance(error, (BundleError, ParityError)):
            self._ledger.decide(offer, "refused", f"{error}; {AGAIN}")
        else:
            why = sentence_of(error) if isinstance(error, OSError) else str(error)
            self._ledger.decide(offer, "failed", why)

    def _fetch(self, offer: Offer) -> Path:
        folder = update_folder(self._store) / FETCHED
        make_folder(folder)
        there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        free, needed = shutil.disk_usage(folder).free, (offer.size or 0) + SPARE_BYTES - there
        if free < needed:
            raise StorageError(
                f"{folder} needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free: make room"
            )
        self._say(f"{offer.words}: offered by {self._source.name}, fetched now")
        return self._source.fetch(offer, folder)

    def _trial_of(self, offer: Offer, path: Path) -> TrialRecord:
        """The record with which the trial begins.

        Raises: BundleError if the file is not the bundle that was offered, or is not trusted.
        """
        with open_bundle(path, self._store.keys.all()) as bundle:
            manifest, digest = bundle.manifest, bundle.digest
        if (manifest.product, manifest.version) != (offer.product, offer.version):
            raise BundleError(
                f"{self._source.name} offered {offer.words} and gave {manifest.product}"
                f" {manifest.version}: correct it at the source"
            )
        said = said_now(self._store) or {}
        kept = KeptOffer.of(offer)
        return TrialRecord(
            source=self._source.name,
            offer=kept.model_copy(update={"sha256": kept.sha256 or sha256_of(path)}),
            slot=slot_name(manifest, digest),
            before=self._store.link(offer.product, "current"),
            reason_before=str(said.get("reason", "")),
        )

    def _install(self, record: TrialRecord, path: Path) -> None:
        """The trial is written down first: whatever is killed from here on, the next call knows of
        the bundle.
        """
        self._ledger.keep(trial=record)
        offer = record.offer
        about = offer.model_dump(exclude_none=True) | {"slot": record.slot}
        self._ledger.audit("update", {"source": record.source, **about})
        install_bundle(path, self._store.root)
        remove_tree(update_folder(self._store) / FETCHED)

    # --- its trial ---

    def _go_on(self, record: TrialRecord, was_at_work: bool) -> None:
        """With the trial of `record`, whose bundle is installed or was about to be."""
        product, offer = record.offer.product, record.offer.as_offer()
        now = self._store.link(product, "current")
        if now == record.slot:
            self._try_out(self._placed(record), was_at_work)
        elif record.unhealthy:
            self._ledger.decide(offer, "rolled_back", record.unhealthy)
        elif not record.is_installed:  # the installation was cut short, and changed nothing
            self._ledger.drop_trial()
        elif now != record.before:
            why = f"{now} took its place before its trial ended"
            self._ledger.decide(offer, "rolled_back", why)
        else:
            self._ledger.decide(offer, "rolled_back", "somebody went back before its trial ended")

    def _is_current(self, record: TrialRecord | None) -> TypeGuard[TrialRecord]:
        if record is None:
            return False
        return self._store.link(record.offer.product, "current") == record.slot

    def _placed(self, record: TrialRecord) -> TrialRecord:
        """The record of a bundle that is current: what it replaced is known only now, as somebody
        may have installed another one while it was fetched and proven.
        """
        if not record.is_installed:
            before = self._store.link(record.offer.product, "previous")
            record = record.model_copy(update={"is_installed": True, "before": before})
            self._ledger.keep(trial=record)
        return record

    def _try_out(self, record: TrialRecord, was_at_work: bool) -> None:
        offer = record.offer.as_offer()
        healthy: bool | None = False
        if not record.unhealthy and self._store.active_product() != offer.product:
            why = "proven; another product is active, so no trial"
            self._ledger.decide(offer, "installed", why)
            return
        if not record.unhealthy:
            self._say(
                f"{offer.words}: on trial for {self._bounds.parts} parts or"
                f" {self._config.trial_min} min"
            )
            record, healthy = watch(
                self._store,
                record,
                self._bounds,
                lambda new: self._ledger.keep(trial=new),
                was_at_work,
            )
            self._ledger.keep(trial=record)
        if healthy:
            told = f"{record.parts} parts, {record.rejected} of them NG or UNKNOWN"
            took = f"in {record.judged_s:.0f} s"
            why = f"the station is healthy with it: {told}, {took}"
            self._ledger.decide(offer, "installed", why)
        elif record.unhealthy:
            self._roll_back(record)
        else:
            self._leave_open(record, offer)

    def _leave_open(self, record: TrialRecord, offer: Offer) -> None:
        if not self._is_current(record):
            self._go_on(record, was_at_work=False)
            return
        why = "the trial goes on when the station judges; `edge update` or its timer looks again"
        self._ledger.tell(Decided(offer, None, why))

    def _roll_back(self, record: TrialRecord) -> None:
        """Put the bundle before it back. `record.unhealthy` is written down already."""
        offer, why = record.offer.as_offer(), record.unhealthy
        if record.before is None or self._store.link(offer.product, "previous") != record.before:
            why = f"{why}; it stays: there is none before it to go back to"
            self._ledger.decide(offer, "failed", why)
            return
        try:
            back = self._store.rollback(offer.product, self._ledger.who, record.slot)
        except BundleError as error:
            if not self._is_current(record):  # somebody was faster
                self._go_on(record, was_at_work=False)
            else:
                self._ledger.decide(offer, "failed", f"{why}; it stays: {error}")
            return
        self._ledger.decide(offer, "rolled_back", f"{why}; {back.slot} judges again; {AGAIN}")
