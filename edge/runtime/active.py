"""The active bundle with its engine, rule and site state, resolved once and as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decide.verdict import DecisionRule
from edge.engine.protocol import Engine
from edge.errors import ConfigError, EdgeError
from edge.install.proven import ProvenEngine
from edge.install.summary import OUTLINE_ONLY, expected_line
from edge.runtime.pipeline import SiteState, site_state
from edge.station.numbers import numbers_file, read_numbers
from edge.station.site import ExpectedState, ModelState
from edge.station.site_digest import geometry_digest, model_digest
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)

Fingerprint = tuple[object, ...]
EngineLoader = Callable[[Installed], ProvenEngine]
OPEN_LIMIT_S = 3600.0  # an engine that takes longer to open or build is assumed to hang


@dataclass(frozen=True)
class Guarantee:
    """What the threshold that judges promises.

    source: the bundle's normal parts, or those of this site's calibration.
    parts: how many they were. rank: of the threshold among their scores, None where it is none of
    them.
    """

    value: np.float32
    source: Literal["bundle", "site"]
    parts: int
    rank: int | None
    sentence: str


@dataclass(frozen=True, eq=False)
class ActiveBundle:
    """One resolved bundle: everything that decides on a frame, and what its record says about it.

    fingerprint: of what it was resolved from. refused: why it judges in place of the active bundle,
    which could not be opened; empty where it is the active one. number: of the product on this
    station, None where it has none.
    """

    store: Store
    installed: Installed
    proven: ProvenEngine
    rule: DecisionRule
    guarantee: Guarantee
    model_state: ModelState | None
    fingerprint: Fingerprint
    refused: str = ""
    number: int | None = None
    # by camera serial. Two threads that fill one entry at once put equal values there.
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
        """What the bundle says of itself."""
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
        return None if self.model_state is None else model_digest(self.model_state)

    def site(self, serial: str) -> SiteState:
        """The site's graph inputs for this camera, as they were when they were asked for first.

        Raises: ConfigError if the site's files are damaged.
        """
        return self._site(serial)[0]

    def geometry_digest(self, serial: str) -> str | None:
        """The first 12 digits of the SHA-256 of the geometry that is applied; None where there is
        none, or the site's files are damaged.
        """
        try:
            return self._site(serial)[1]
        except ConfigError:  # the judgment says so
            return None

    def _site(self, serial: str) -> tuple[SiteState, str | None]:
        if serial not in self._sites:
            known = self.store.known_serial(self.installed.product, serial)
            record = self.store.geometry_record(self.installed.product, known)
            geometry = self.store.geometry(self.installed.product, known)
            tensors = _tensors_of(self.model_state)
            site = site_state(self.manifest, geometry, tensors)
            if not site.is_calibrated:
                product = self.installed.product
                log.error(
                    "product %s has no plane for camera %s: run `edge calibrate plane`",
                    product,
                    serial,
                )
            self._tell_expected(serial, None if record is None else record.expected)
            self._sites[serial] = (site, None if record is None else geometry_digest(record))
        return self._sites[serial]

    def _tell_expected(self, serial: str, state: ExpectedState | None) -> None:
        """The journal says whether missing material is looked for in a silhouette."""
        product, manifest = self.installed.product, self.manifest
        if state is not None:
            log.info(
                "product=%s camera=%s expected silhouette %s", product, serial, expected_line(state)
            )
        elif manifest.camera.fixed_pose and manifest.presence:
            log.warning(
                "product %s has no expected silhouette for camera %s: %s",
                product,
                serial,
                OUTLINE_ONLY,
            )


def resolve_active(
    store: Store, load_engine: EngineLoader, bundle: Installed | None = None
) -> ActiveBundle:
    """Resolve what is active now.

    Args:
        bundle: judges in place of the active one.
    Raises: BundleError if nothing is active, or it is damaged; EngineError if no engine can be
        loaded; ConfigError if station.toml or the site state is wrong.
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
    number = _number_of(store, installed.product)
    return ActiveBundle(store, installed, proven, rule, guarantee, state, before, number=number)


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
    """A value that changes whenever another bundle or other site state would be resolved.

    Cheap: links and file times only. What cannot be read is a change too: resolving it says why.
    """
    try:
        product, slot = store.token()
        if product is None:
            return ()
        files = sorted(store.site_folder(product).glob("*.json"))
        return product, slot, *(_stamp(path) for path in (numbers_file(store), *files))
    except (EdgeError, OSError) as error:
        return "unreadable", str(error)


def _number_of(store: Store, product: str) -> int | None:
    """A damaged file of numbers keeps no part from being judged."""
    try:
        return read_numbers(store).get(product)
    except EdgeError as error:
        log.error("the product has no number: %s", error)
        return None


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
