"""Whether what was shown on site still stands: normal and known-bad parts were seen under one
plane, crop, region of interest and expected silhouette, and a later one makes other scores of the
same parts.

What they set goes on judging, since nothing better is known; everybody who is told of it is told
this too.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge.station.commissioning import Challenge, Commissioning
from edge.station.site import CameraGeometry, ModelState

PARTS_AGAIN = "`edge calibrate parts` again"
CHALLENGE_AGAIN = "`edge calibrate challenge` again"


def newer_than_parts(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> CameraGeometry | None:
    """The geometry that came after the normal parts behind a model state; None where they were
    shown under the one that is in force, or none were shown.

    evidence: the last that was kept of the product. cameras: its geometry by serial.
    """
    shown = None if state is None else state.shown
    if shown is None:
        return None
    is_its = evidence is not None and evidence.is_of(state)
    version = evidence.geometry_version if evidence is not None and is_its else None
    return _newer(cameras.get(shown.serial), version, shown.when)


def newer_than_challenge(
    challenge: Challenge, serial: str, cameras: Mapping[str, CameraGeometry]
) -> CameraGeometry | None:
    """The geometry that came after known-bad parts; None where it is the one in force."""
    return _newer(cameras.get(serial), challenge.geometry_version, challenge.when)


def before_sentence(what: str, when: str, newer: CameraGeometry) -> str:
    """what: was shown. when: it was."""
    return (
        f"the {what} were shown on {when}, before the plane, crop or region of {newer.when} by"
        f" {newer.who}"
    )


def parts_line(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> str | None:
    """Why the normal parts behind the threshold must be shown again; None where they stand."""
    newer = newer_than_parts(state, evidence, cameras)
    if newer is None or state is None or state.shown is None:
        return None
    said = before_sentence("normal parts behind the threshold", state.shown.when, newer)
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
        said = before_sentence("known-bad parts", challenge.when, newer)
        return f"{said}: run {CHALLENGE_AGAIN}"
    if state is not None and evidence.is_of(state) and challenge.version == state.version:
        return None
    return (
        f"the known-bad parts were shown on {challenge.when} under another threshold than the one"
        f" that judges now: run {CHALLENGE_AGAIN}"
    )


def standing_lines(
    state: ModelState | None, evidence: Commissioning | None, cameras: Mapping[str, CameraGeometry]
) -> list[str]:
    """One sentence for each thing that must be shown again; nothing where all stands."""
    lines = (line(state, evidence, cameras) for line in (parts_line, challenge_line))
    return [line for line in lines if line is not None]


def _newer(record: CameraGeometry | None, version: int | None, when: str) -> CameraGeometry | None:
    """The record, unless what was shown was seen under it.

    version: of the geometry then; None where it was not noted, or there was none: then the time
    tells.
    """
    if record is None:
        return None
    is_under = when >= record.when if version is None else version == record.version
    return None if is_under else record
