"""What `edge status` shows of a station: from values to lines. No file, no clock, no database:
edge/runtime/status_facts.py reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config import PLACE, EdgeConfig
from edge.line.factory import dialects_of
from edge.sections import CameraConfig
from edge.types import Code

FILE = Path("run/edge/status.json")
SILENT_S = 5.0  # a station that runs writes FILE each second: after this long something holds it up
DRIFT_REMEDY = (
    "parts are judged as before; find the cause (lamp, lens, camera, the parts), then calibrate"
    " anew: docs/drift.md"
)
LOSSES = (
    ("records_dropped", "unsent records dropped by the bound"),
    ("images_dropped", "parts' images not kept"),
)


@dataclass(frozen=True)
class Live:
    """What the process that holds the root's lock said last.

    said: what edge.runtime.report.Report.for_status gave, with `pid`; empty if it said nothing.
    age_s: how long ago that was.
    """

    said: Mapping[str, Any]
    age_s: float


@dataclass(frozen=True)
class Verdict:
    """The last one that was decided. score, threshold: None where nothing was judged."""

    part: str
    code: Code
    reason: str
    score: float | None
    threshold: float | None
    judged_at: str


@dataclass(frozen=True)
class Facts:
    """Everything that the lines are made of.

    live: None if no `edge run` is at work. free_bytes: on the disk of the data, or a sentence why
    that is not known. last: None if there is none yet, or a sentence why it is not known.
    """

    config: EdgeConfig
    live: Live | None
    free_bytes: int | str
    clock_synced: bool
    last: Verdict | str | None


def lines_of(facts: Facts) -> list[str]:
    """Station, camera, broker, disk, clock, last verdict, drift: one line each."""
    said = {} if facts.live is None else facts.live.said
    return [
        f"station      {_station(facts.live)}",
        f"camera       {_camera(facts.config.camera, said)}",
        f"broker       {_broker(facts.config, said)}",
        f"disk         {_disk(facts, said)}",
        f"clock        {_clock(facts.clock_synced, said)}",
        f"last verdict {_last_verdict(facts.last)}",
        f"drift        {_drift(said)}",
    ]


def _station(live: Live | None) -> str:
    if live is None:
        return "not running: `edge run` (or `systemctl start edge`) starts it"
    said = live.said
    if not said:
        return (
            f"running, not yet judging: it opens its engine, or cannot write {FILE} (then its log"
            " says so)"
        )
    if live.age_s > SILENT_S:
        return (
            f"process {said['pid']} has said nothing for {live.age_s:.0f} s: see its log, or"
            " restart it"
        )
    state = str(said["state"]) + (f" ({said['reason']})" if said["reason"] else "")
    ready = "ready" if said["ready"] else "not ready"
    why = f": {said['why']}" if said.get("why") else ""
    ready += ", paused by a command" if said.get("paused") else ""
    return f"{state}, {ready}, process {said['pid']}, up {_duration(said.get('uptime_s', 0))}{why}"


def _camera(camera: CameraConfig, said: Mapping[str, Any]) -> str:
    name = f"{camera.kind} {camera.serial or camera.path}".rstrip()
    if not said:
        return f"{name}, not open"
    told = f"{name}, serial {said['camera']}" if said.get("camera") else name
    frames = f"{said['frames']} frames" if "frames" in said else "frames not counted"
    return f"{told}: {frames}, {said.get('frames_dropped', 0)} dropped for newer ones"


def _broker(config: EdgeConfig, said: Mapping[str, Any]) -> str:
    broker = config.broker
    others = dialects_of(config)
    if not broker.enabled and not others:
        return f"none: broker.enabled is false in {PLACE}, verdicts are only stored"
    if not broker.enabled:
        named = f"none: broker.enabled is false in {PLACE}; verdicts by {', '.join(others)}"
        return f"{named}: {said['link']}" if said.get("link") else named
    where = f"{broker.host}:{broker.port}{' with TLS' if broker.tls else ''}"
    if not said:
        return f"{where}, not connected"
    problem = said.get("link")
    return f"{where}: {problem}" if problem else f"{where}, connected"


def _disk(facts: Facts, said: Mapping[str, Any]) -> str:
    if isinstance(facts.free_bytes, str):
        return facts.free_bytes
    retention, waiting = facts.config.retention, said.get("records_waiting")
    records = "" if waiting is None else f", {waiting} records wait for the broker"
    lost = "".join(f", {said[key]} {what}" for key, what in LOSSES if said.get(key))
    return (
        f"{facts.free_bytes / 1e9:.1f} GB free, bound {retention.gb:g} GB or {retention.days}"
        f" days{records}{lost}"
    )


def _clock(is_synced: bool, said: Mapping[str, Any]) -> str:
    synced = "synchronized" if is_synced else "not synchronized: dates in records may be wrong"
    powered_s = said.get("powered_on_s")
    return (
        synced if powered_s is None else f"{synced}; powered on for {_duration(powered_s)} in all"
    )


def _last_verdict(last: Verdict | str | None) -> str:
    if last is None:
        return "none yet"
    if isinstance(last, str):
        return last
    score = "" if last.score is None else f", score {last.score:.6g} (limit {last.threshold:.6g})"
    return f"{last.part} {last.code.name} {last.reason}{score}, judged {last.judged_at}"


def _drift(said: Mapping[str, Any]) -> str:
    """What to do beside what drifts."""
    if not said:
        return "not watched while nothing runs"
    parts = said.get("parts_watched", 0)
    if said.get("drift"):
        return f"{said['drift']}: {DRIFT_REMEDY}"
    return f"none in {parts} parts" if parts else "not watched yet"


def _duration(seconds: float) -> str:
    """1 d 3 h, 3 h 5 min, 5 min, 12 s."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
