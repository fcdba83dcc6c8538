"""What judges now: the active bundle with its engine, rule and site state, resolved once and
whole.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decide.verdict import DecisionRule
from edge.engine.protocol import Engine, one_line
from edge.errors import (
    BundleError,
    ConfigError,
    EdgeError,
    EngineError,
    MissingDependency,
    ParityError,
    StorageError,
)
from edge.install.proven import ProvenEngine
from edge.runtime.pipeline import SiteState, site_state
from edge.station.audit import append_audit
from edge.station.site import ModelState
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)

Fingerprint = tuple[object, ...]
EngineLoader = Callable[[Installed], ProvenEngine]


@dataclass(frozen=True)
class Guarantee:
    """What the threshold that judges promises. parts: n normal parts, counted as parts; rank: of
    the threshold among their scores, None where it is none of them; source: the bundle's normal
    parts, or this site's calibration.
    """

    value: np.float32
    source: Literal["bundle", "site"]
    parts: int
    rank: int | None
    sentence: str


@dataclass(eq=False)
class ActiveStation:
    """One resolved bundle.

    Site geometry is looked up by camera serial, and kept until the next resolve.
    """

    store: Store
    installed: Installed
    proven: ProvenEngine
    rule: DecisionRule
    guarantee: Guarantee
    model_state: ModelState | None
    fingerprint: Fingerprint
    refused: str = ""  # why the active bundle is not this one: it could not be opened
    _sites: dict[str, tuple[SiteState, str | None]] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        """What judges."""
        return self.proven.engine

    @property
    def engine_name(self) -> str:
        """Runtime, version and precision, as records name it."""
        return f"{self.engine.name} {self.engine.precision}"

    @property
    def manifest(self) -> Manifest:
        """Of the active bundle."""
        return self.installed.manifest

    @property
    def bundle(self) -> str:
        """VERSION-DIGEST12, as records name it."""
        return self.installed.slot

    @property
    def model_digest(self) -> str | None:
        """The first 12 digits of the SHA-256 of the calibrated model state; None where there is
        none.
        """
        return None if self.model_state is None else _digest(self.model_state.model_dump_json())

    def site(self, serial: str) -> SiteState:
        """The site's graph inputs for this camera. Raises: ConfigError if its files are damaged."""
        return self._site(serial)[0]

    def geometry_digest(self, serial: str) -> str | None:
        """The first 12 digits of the SHA-256 of the geometry that is applied; None where there is
        none.
        """
        return self._site(serial)[1]

    def _site(self, serial: str) -> tuple[SiteState, str | None]:
        if serial not in self._sites:
            record = self.store.geometry_record(self.installed.product, serial)
            geometry = self.store.geometry(self.installed.product, serial)
            tensors = _tensors_of(self.model_state)
            site = site_state(self.manifest, geometry, tensors)
            if not site.is_calibrated:
                product = self.installed.product
                log.error(
                    "product %s has no plane for camera %s: run `edge calibrate plane`",
                    product,
                    serial,
                )
            self._sites[serial] = (
                site,
                (None if record is None else _digest(record.model_dump_json())),
            )
        return self._sites[serial]


def first_station(store: Store, load_engine: EngineLoader) -> ActiveStation:
    """Resolve what is active now; where its bundle cannot be opened, the bundle that it replaced
    judges.

    A line that stands is the dearer mistake: the previous bundle was proven on this station and
    judged here until the installation. It is never taken silently: it is logged as an error, a row
    of the audit table, and `refused` says it to whoever asks for the state. What station.toml or
    the site state says wrong is no fault of the bundle and raised.

    Raises: as resolve_station, if there is no previous bundle or it cannot be opened either.
    """
    try:
        return resolve_station(store, load_engine)
    except (BundleError, EngineError, ParityError, MissingDependency) as error:
        return _fall_back(store, load_engine, error, str(error))
    except (EdgeError, OSError):
        raise
    except Exception as error:
        log.exception("the active bundle cannot be opened")
        return _fall_back(store, load_engine, error, f"{type(error).__name__}: {one_line(error)}")


def _fall_back(
    store: Store, load_engine: EngineLoader, error: Exception, why: str
) -> ActiveStation:
    """The station with the previous bundle.

    Raises: `error` if there is none that could take its place.
    """
    try:
        previous = find_previous(store)
        station = resolve_station(store, load_engine, previous)
    except EdgeError as other:
        log.error("there is no previous bundle to fall back on: %s", other)
        raise error from other
    station.refused = why
    log.error(
        "THE PREVIOUS BUNDLE JUDGES, %s: the active one cannot be opened: %s", previous.slot, why
    )
    about = {
        "product": previous.product,
        "version": previous.manifest.version,
        "digest": previous.digest,
        "why": why,
    }
    try:
        append_audit(store.root, "fallback", about)
    except StorageError as other:
        log.error("the audit table does not say so: %s", other)
    return station


def find_previous(store: Store) -> Installed:
    """The previous bundle of the active product, for the same kind of parts as the active one where
    that can be read.

    Raises: BundleError if there is none.
    """
    product = store.active_product()
    if product is None or store.link(product, "previous") in (None, store.link(product, "current")):
        raise BundleError(
            f"{product} has no earlier bundle under {store.root}: install one with `edge install`"
        )
    previous = store.installed(product, "previous")
    try:
        presence = store.active().manifest.presence
    except BundleError:
        presence = previous.manifest.presence
    if previous.manifest.presence != presence:
        raise BundleError(
            f"{previous.slot} tells parts apart in another way: install a bundle with `edge"
            " install`"
        )
    return previous


def find_readable(store: Store) -> Installed:
    """The active bundle, or the previous one where its manifest cannot be read.

    Raises: BundleError if neither can.
    """
    try:
        return store.active()
    except BundleError as error:
        try:
            return find_previous(store)
        except EdgeError:
            raise error from None


def resolve_station(
    store: Store, load_engine: EngineLoader, bundle: Installed | None = None
) -> ActiveStation:
    """Resolve what is active now. bundle: judges in place of the active one.

    Raises: BundleError if nothing is, or it is damaged; EngineError if it cannot be loaded;
    ConfigError.
    """
    before = fingerprint_of(store)
    installed = bundle or store.active()
    proven = load_engine(installed)
    engine = proven.engine
    state = store.model_state(installed, engine.precision, engine.name)
    contract, guarantee = installed.manifest.camera, guarantee_of(proven, state)
    rule = DecisionRule(
        guarantee.value,
        contract.min_area,
        contract.max_area,
        contract.min_valid,
        contract.max_border,
    )
    log.info(
        "product=%s bundle=%s engine=%s precision=%s threshold=%s from=%s",
        installed.product,
        installed.slot,
        engine.name,
        engine.precision,
        rule.threshold,
        guarantee.source,
    )
    return ActiveStation(store, installed, proven, rule, guarantee, state, before)


def guarantee_of(proven: ProvenEngine, state: ModelState | None) -> Guarantee:
    """The site's own threshold for exactly this bundle and engine, else the one measured on the
    engine's scores.
    """
    if state is not None and state.threshold is not None:
        return Guarantee(
            np.float32(state.threshold), "site", state.parts, state.rank, state.guarantee
        )
    own = proven.threshold
    return Guarantee(np.float32(own.value), "bundle", own.parts, own.rank, own.guarantee)


def fingerprint_of(store: Store) -> Fingerprint:
    """Changes whenever another bundle or other site state would be resolved. Cheap: links and file
    times only.

    What cannot be read is a change too: resolving it says why.
    """
    try:
        product, slot = store.token()
        if product is None:
            return ()
        files = sorted(store.site_folder(product).glob("*.json"))
        return product, slot, *(_stamp(path) for path in files)
    except (EdgeError, OSError) as error:
        return "unreadable", str(error)


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:  # replaced between listing and looking
        return path.name, 0, 0
    return path.name, stat.st_mtime_ns, stat.st_ino


def _tensors_of(
    state: ModelState | None,
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    try:
        return {} if state is None else dict(state.arrays())
    except ValueError as error:
        raise ConfigError(
            f"the calibrated model state is damaged ({error}): calibrate again"
        ) from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
