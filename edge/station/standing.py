"""Whether what was shown on site still stands: normal and known-bad parts were seen under one
plane, crop, region of interest and expected silhouette, and a later one makes other scores of the
same parts.

What they set goes on judging, since nothing better is known; everybody who is told of it is told
this too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.station.commissioning import Challenge, Commissioning
from edge.station.site import CameraGeometry, ModelState

PARTS_AGAIN = "`edge calibrate parts` again"
CHALLENGE_AGAIN = "`edge calibrate challenge` again"


@dataclass(frozen=True)
class Change:
    """When the geometry of a camera became what it is, and by whom; when: UTC, ISO 8601."""

    when: str
    who: str


def newer_than_parts(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> Change | None:
    """What came after the normal parts behind a model state; None where they were shown under the
    geometry that is in force, or none were shown.

    evidence: the last that was kept of the product. cameras: its geometry by serial. A station has
    one camera: the one whose geometry changed last.
    """
    shown = None if state is None else state.shown
    if shown is None:
        return None
    is_its = evidence is not None and evidence.is_of(state)
    version = evidence.geometry_version if evidence is not None and is_its else None
    return _newer(cameras, shown.serial, version, shown.when)


def newer_than_challenge(
    challenge: Challenge, serial: str, cameras: Mapping[str, CameraGeometry]
) -> Change | None:
    """What came after known-bad parts; None where the geometry is the one in force.

    serial: of the camera that saw them. cameras: as newer_than_parts takes them.
    """
    return _newer(cameras, serial, challenge.geometry_version, challenge.when)


def parts_line(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> str | None:
    """Why the normal parts behind the threshold must be shown again; None where they stand."""
    newer = newer_than_parts(state, evidence, cameras)
    if newer is None or state is None or state.shown is None:
        return None
    said = _before("normal parts behind the threshold", state.shown.when, newer)
    return f"{said}: run {PARTS_AGAIN}"


def challenge_line(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> str | None:
    """Why the known-bad parts must be shown again; None where they stand, or none were shown."""
    challenge = None if evidence is None else evidence.challenge
    if evidence is None or challenge is None:
        return None
    newer = newer_than_challenge(challenge, evidence.serial, cameras)
    if newer is not None:
        return f"{_before('known-bad parts', challenge.when, newer)}: run {CHALLENGE_AGAIN}"
    if state is not None and evidence.is_of(state) and challenge.version == state.version:
        return None
    return (
        f"the known-bad parts were shown on {challenge.when} under another threshold or bundle than"
        f" what judges now: run {CHALLENGE_AGAIN}"
    )


def standing_lines(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> list[str]:
    """One sentence for each thing that must be shown again; nothing where all stands."""
    lines = (line(state, evidence, cameras) for line in (parts_line, challenge_line))
    return [line for line in lines if line is not None]


def _before(what: str, when: str, newer: Change) -> str:
    """what: was shown. when: it was."""
    return (
        f"the {what} were shown on {when}, before the plane, crop, region or silhouette of"
        f" {newer.when} by {newer.who}"
    )


def _newer(
    cameras: Mapping[str, CameraGeometry], own: str, version: int | None, when: str
) -> Change | None:
    """own: serial of the camera that saw what was shown. version: of its geometry then; None where
    it was not noted, or there was none: then the time tells.
    """
    changes = {serial: _change_of(record) for serial, record in cameras.items()}
    if not changes:
        return None
    last = max(changes, key=lambda serial: changes[serial].when)
    if own in changes and version is not None and version != cameras[own].version:
        return changes[own]
    if last == own and version is not None:
        return None
    return changes[last] if changes[last].when > when else None


def _change_of(record: CameraGeometry) -> Change:
    """The silhouette is learned after the plane, and keeps who measured that."""
    made = [Change(record.when, record.who)]
    if record.expected is not None:
        made.append(Change(record.expected.when, record.expected.who))
    return max(made, key=lambda change: change.when)
