"""What is calibrated at this station, for those who are guided through it by the page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge.control.guide import Signed, SiteTold
from edge.errors import EdgeError
from edge.runtime.active import ActiveBundle, Fingerprint, fingerprint_of
from edge.runtime.current import CurrentBundle
from edge.station.commissioning import Challenge, Commissioning, read_commissioning
from edge.station.site import CameraGeometry, ModelState, PackedMask
from edge.station.standing import Change, newer_than_challenge, newer_than_parts
from edge.station.store import Store


class GuideFacts:
    """Read again whenever a file of the site has changed. For the threads of the clients: two that
    read at once put equal values there.
    """

    def __init__(self, current: CurrentBundle) -> None:
        """Nothing is read before the first `told`."""
        self._current = current
        self._known: tuple[tuple[ActiveBundle, str, Fingerprint], SiteTold] | None = None

    def told(self, serial: str) -> SiteTold:
        """What is calibrated. serial: of the camera, empty before its first frame."""
        active = self._current.latest
        key = (active, serial, fingerprint_of(active.store))
        known = self._known
        if known is None or known[0] != key:
            known = self._known = key, _told(active, serial)
        return known[1]


def _told(active: ActiveBundle, serial: str) -> SiteTold:
    """What cannot be read is not calibrated: the station says why in its state. Nor is what another
    camera has seen.
    """
    store, product, state = active.store, active.installed.product, active.model_state
    try:
        evidence = read_commissioning(store, product)
        serial = store.known_serial(product, serial)
        geometry = store.geometry_record(product, serial)
        if evidence is not None and _is_other(store, product, evidence.serial, serial):
            evidence = None
        if state is not None and state.shown is not None:
            is_other = _is_other(store, product, state.shown.serial, serial)
            state = state.model_copy(update={"shown": None}) if is_other else state
    except EdgeError:
        evidence = geometry = None
    known = {} if geometry is None else {serial: geometry}
    region = None if geometry is None else geometry.region
    contract = active.installed.manifest.camera
    place, image = (contract.crop_x, contract.crop_y), (contract.width, contract.height)
    if geometry is not None:
        place = geometry.crop_x, geometry.crop_y
        image = geometry.stream_width, geometry.stream_height
    return SiteTold(
        product=product,
        bundle=active.bundle,
        serial=serial,
        needs_plane="plane" in active.engine.inputs,
        region=(0.0, 0.0, 1.0, 1.0) if region is None else _around(region),
        crop=(*place, contract.crop_width, contract.crop_height),
        image=image,
        plane=None if geometry is None or geometry.plane is None else _plane(geometry),
        parts=None if state is None or state.shown is None else _parts(state, evidence, known),
        threshold=None if state is None or state.threshold is None else _threshold(state),
        challenge=None if evidence is None else _challenge(evidence, state, known),
    )


def _is_other(store: Store, product: str, seen: str, now: str) -> bool:
    """Whether another camera than that of now has seen something; not known before a frame."""
    return bool(now) and store.known_serial(product, seen) != now


def _around(region: PackedMask) -> tuple[float, float, float, float]:
    """The smallest rectangle around a mask, as shares of it; all of it where it is damaged."""
    try:
        rows, columns = np.nonzero(region.unpack("region of interest"))
    except ValueError:
        rows = columns = np.zeros(0, int)
    if not len(rows):
        return 0.0, 0.0, 1.0, 1.0
    left, top = float(columns.min()), float(rows.min())
    width, height = float(columns.max()) + 1 - left, float(rows.max()) + 1 - top
    return (left / region.width, top / region.height, width / region.width, height / region.height)


def _plane(record: CameraGeometry) -> Signed:
    return Signed(who=record.who, when=record.when, count=record.frames)


def _parts(
    state: ModelState, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> Signed:
    shown = state.shown
    assert shown is not None  # as the caller has seen
    newer = newer_than_parts(state, evidence, cameras)
    return Signed(who=shown.who, when=shown.when, count=len(shown.scores), before=_when(newer))


def _threshold(state: ModelState) -> Signed:
    return Signed(who=state.who, when=state.when, said=state.guarantee, count=state.parts)


def _challenge(
    evidence: Commissioning, state: ModelState | None, cameras: Mapping[str, CameraGeometry]
) -> Signed | None:
    """Only what was shown under the state that judges now."""
    known: Challenge | None = evidence.challenge
    if known is None or state is None or known.version != state.version:
        return None
    newer = newer_than_challenge(known, evidence.serial, cameras)
    return Signed(
        who=known.who,
        when=known.when,
        said=known.sentence,
        count=len(known.parts),
        before=_when(newer),
    )


def _when(newer: Change | None) -> str:
    return "" if newer is None else newer.when
