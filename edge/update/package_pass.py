"""One call of what takes a newer package: offered, fetched, verified, installed, on trial, taken
back where the station is not healthy with it.

It may be killed anywhere: the trial is written down before dpkg begins, and the next call goes on
with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.clock import read_boot_id
from edge.errors import BundleError, ConfigError, EdgeError, StorageError, UpdateError, on_one_line
from edge.files import make_folder, remove_tree
from edge.provision.package import PACKAGE, python_of, read_package
from edge.station.audit import append_audit, now_utc
from edge.station.store import Store
from edge.update.dpkg import Dpkg
from edge.update.factory import is_at_hand, make_repository
from edge.update.package_offer import AGAIN, objection_to
from edge.update.package_state import (
    FETCHED,
    PREVIOUS,
    KnownPackage,
    Outcome,
    PackageTrial,
    package_folder,
    read_package_state,
    write_package_state,
)
from edge.update.state import KeptOffer, TrialRecord, read_update_state, updating
from edge.update.trial import Bounds
from edge.update.watch import said_now, watch
from edge.update_sections import UpdateConfig

SPARE_BYTES = 1 << 30  # for the new environment, which postinst measures more exactly
REPLACED = "somebody installed another one before its trial ended"
BUNDLE_FIRST = "a bundle is on trial; it is taken when that has ended"


def what_judges(store: Store, said: Mapping[str, Any]) -> TrialRecord | None:
    """The bundle that a trial begins with; None where none can be found, also because of what the
    account has laid in its place. said: what the station says.

    Raises: BusyError where a restored backup is only half in place.
    """
    try:
        now = store.active()
    except (BundleError, OSError):
        return None
    return TrialRecord(
        source=PACKAGE,
        offer=KeptOffer(product=now.manifest.product, version=now.manifest.version),
        slot=now.slot,
        is_installed=True,
        reason_before=str(said.get("reason", "")),
    )


class PackagePass:
    """One call. Root runs it, and holds its lock."""

    def __init__(
        self, store: Store, config: UpdateConfig, say: Callable[[str], object], dpkg: Dpkg
    ) -> None:
        """say: is told each step in a line."""
        self._store, self._config, self._say, self._dpkg = store, config, say, dpkg
        self._folder = package_folder(store.root)
        self._bounds = Bounds(config.trial_parts, 60.0 * config.trial_min, config.max_rejected)
        self._state = read_package_state(store.root)

    def run(self, by_hand: bool = False, usb: Path | None = None) -> Outcome | None:
        """Go on with a trial, or else take what is offered, where [update] or `by_hand` asks for
        it; what was decided, None where nothing was.

        Raises: EdgeError; what is installed stays then.
        """
        if self._state.trial is not None:
            return self._go_on(self._state.trial)
        if not by_hand and not self._config.package:
            self._say("package is false in [update] of station.toml: no package is taken")
            return None
        if not by_hand and not is_at_hand(self._store, self._config):
            return None
        return self._take(usb)

    # --- an offer ---

    def _take(self, usb: Path | None) -> Outcome | None:
        installed = self._dpkg.installed()
        if installed is None or not installed.is_whole:
            raise UpdateError(
                f"{PACKAGE} is not installed as a whole package here, so that it does not update"
                " itself: `dpkg --configure -a`, or install its file"
            )
        source = make_repository(self._store, self._config, usb, self._folder)
        found = source.find_package(self._dpkg.codename(), self._dpkg.processor())
        if found is None or found[0].version == installed.version:
            self._say("no newer package is offered")
            return None
        named, path = found
        why = objection_to(named, path, self._state, self._dpkg, installed.version)
        if why or path is None:
            self._say(f"{PACKAGE} {named.version}: {why}")
            return None
        with self._store.acting():
            has_trial = read_update_state(self._store).trial is not None
        if has_trial:
            self._say(f"{PACKAGE} {named.version}: {BUNDLE_FIRST}")
            return None
        self._require_room(source.size_of(path))
        self._say(f"{PACKAGE} {named.version}: offered by {source.name}, fetched now")
        make_folder(self._folder / FETCHED)
        package = source.fetch_package(path, self._folder / FETCHED)
        try:
            self._require_right(package, named.version)
        except ConfigError as error:
            return self._decide(named.version, "refused", f"{error}; {AGAIN}")
        previous = self._dpkg.keep(installed.version, self._folder / PREVIOUS)
        trial = PackageTrial(
            version=named.version, before=installed.version, previous=previous.name
        )
        return self._install(package, trial)

    def _require_room(self, size: int) -> None:
        """size: of the new package, which dpkg unpacks beside the installed one, of which `keep`
        makes two copies.
        """
        needed = SPARE_BYTES + 3 * size + 2 * self._dpkg.installed_bytes()
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise StorageError(
                f"{self._folder} needs {needed / 1e6:.0f} MB for a package,"
                f" {free / 1e6:.0f} MB are free: make room"
            )

    def _require_right(self, package: Path, version: str) -> None:
        """Raises: ConfigError if the file is another package than its place in the repository
        says.
        """
        about = read_package(package)
        python = python_of(self._store.root)
        about.require_fits(self._dpkg.codename(), self._dpkg.processor(), python)
        if about.version != version:
            raise ConfigError(f"{package.name} holds version {about.version}: correct it there")

    def _install(self, package: Path, trial: PackageTrial) -> Outcome | None:
        said = said_now(self._store)
        # compared with what a later process says, and nothing else: 0 where it says nothing yet
        pid = None if said is None else said.get("pid", 0)
        now = {"pid": pid, "boot": read_boot_id(), "judges": what_judges(self._store, said or {})}
        trial = trial.model_copy(update=now)
        self._keep(trial)  # from here on edge.update.apply begins no trial of a bundle
        try:
            with updating(self._store):
                has_trial = read_update_state(self._store).trial is not None
                if not has_trial:
                    about = {"version": trial.version, "before": trial.before}
                    self._audit("package update", about)
        except EdgeError:
            self._drop_trial()
            raise
        if has_trial:
            self._drop_trial()
            self._say(f"{PACKAGE} {trial.version}: {BUNDLE_FIRST}")
            return None
        self._say(f"{PACKAGE} {trial.version}: verified; it is installed now")
        return self._installed(trial, self._dpkg.install(package))

    # --- its trial ---

    def _go_on(self, trial: PackageTrial) -> Outcome | None:
        """With a trial that another process has left."""
        if trial.unhealthy:
            return self._go_back(trial)
        if trial.is_installed:
            return self._try_out(trial)
        now = self._dpkg.installed()
        is_whole = now is not None and now.is_whole
        return self._installed(trial, "" if is_whole else self._dpkg.finish())

    def _installed(self, trial: PackageTrial, failure: str) -> Outcome | None:
        """After dpkg. failure: what it said; empty where it ended well."""
        now = self._dpkg.installed()
        if now is not None and now.is_whole and now.version == trial.version:
            trial = trial.model_copy(update={"is_installed": True})
            self._keep(trial)
            return self._try_out(trial)
        if now is not None and now.is_whole:  # nothing was unpacked
            why = failure or "its installation was cut short, and changed nothing"
            return self._decide(trial.version, "failed", why)
        why = f"it could not be installed: {failure or 'it was cut short'}"
        return self._go_back(self._kept_as_unhealthy(trial, why))

    def _kept_as_unhealthy(self, trial: PackageTrial, why: str) -> PackageTrial:
        trial = trial.model_copy(update={"unhealthy": on_one_line(why)})
        self._keep(trial)
        return trial

    def _try_out(self, trial: PackageTrial) -> Outcome | None:
        now = self._dpkg.installed()
        if now is None or now.version != trial.version:
            return self._decide(trial.version, "rolled_back", REPLACED)
        if trial.pid is None or trial.judges is None:
            why = "no `edge run` was at work, so no trial"
            return self._decide(trial.version, "installed", why)
        self._say(
            f"{PACKAGE} {trial.version}: on trial for {self._bounds.parts} parts or"
            f" {self._config.trial_min} min"
        )
        judges, healthy = watch(
            self._store,
            self._newest(trial.judges),
            self._bounds,
            lambda record: self._keep(trial.model_copy(update={"judges": record})),
            was_at_work=True,
            look=lambda: self._said_since(trial),
        )
        trial = trial.model_copy(update={"judges": judges})
        self._keep(trial)
        if healthy:
            told = f"the station is healthy with it: {judges.parts} parts"
            return self._decide(trial.version, "installed", told)
        if judges.unhealthy:
            return self._go_back(self._kept_as_unhealthy(trial, judges.unhealthy))
        self._say(f"{PACKAGE} {trial.version}: the trial goes on at the next check")
        return None

    def _newest(self, judges: TrialRecord) -> TrialRecord:
        """The same trial with the bundle that judges now, where somebody has chosen another."""
        now = what_judges(self._store, {})
        if now is None or now.slot == judges.slot:
            return judges
        return judges.model_copy(update={"slot": now.slot, "offer": now.offer})

    def _said_since(self, trial: PackageTrial) -> dict[str, Any] | None:
        """What the station says; nothing while the process of before still runs."""
        said = said_now(self._store)
        before = (trial.pid, trial.boot)
        return {} if said and (said.get("pid"), read_boot_id()) == before else said

    def _go_back(self, trial: PackageTrial) -> Outcome | None:
        """`trial.unhealthy` is written down already."""
        now = self._dpkg.installed()
        if now is not None and now.version not in (trial.version, trial.before):
            return self._decide(trial.version, "rolled_back", f"{trial.unhealthy}; {REPLACED}")
        if now is None or not (now.is_whole and now.version == trial.before):
            self._say(f"{PACKAGE} {trial.version}: {trial.unhealthy}; going back to {trial.before}")
            previous = self._folder / PREVIOUS / trial.previous
            failure = self._dpkg.install(previous, downgrade=True)
            if failure:
                why = (
                    f"{trial.unhealthy}; going back to {trial.before} failed too ({failure}): run"
                    f" `sudo EDGE_DOWNGRADE=yes dpkg -i {previous}`"
                )
                return self._decide(trial.version, "refused", why)
        why = f"{trial.unhealthy}; {trial.before} is installed again; {AGAIN}"
        return self._decide(trial.version, "rolled_back", why)

    # --- what is kept and told ---

    def _decide(self, version: str, outcome: Outcome, why: str) -> Outcome:
        """Remember it, so that a package that did not do well is never taken again by itself."""
        why = on_one_line(why)
        known = KnownPackage(version=version, outcome=outcome, why=why, when=now_utc())
        self._state = self._state.with_known(known)
        write_package_state(self._store.root, self._state)
        if outcome != "failed":  # else the next call need not fetch it again
            remove_tree(self._folder / FETCHED)
        told = outcome.replace("_", " ")
        self._say(f"{PACKAGE} {version}: {told}: {why}")
        self._audit(f"package update {told}", {"version": version, "why": why})
        return outcome

    def _keep(self, trial: PackageTrial) -> None:
        self._state = self._state.model_copy(update={"trial": trial})
        write_package_state(self._store.root, self._state)

    def _drop_trial(self) -> None:
        self._state = self._state.model_copy(update={"trial": None})
        write_package_state(self._store.root, self._state)

    def _audit(self, act: str, about: dict[str, str]) -> None:
        append_audit(self._store.root, act, about, "edge-package-update")
