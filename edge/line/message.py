"""The messages on the wire (MQTT schema 1): pure functions from a decided part to bytes.

Two audiences: `verdict` for a PLC whose strings end at 254 characters, `record` for the archive.
Both come from one Record, so they cannot disagree. Scores and thresholds are printed as the
shortest decimals that read back as the same float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edge.types import Code, Reason

if TYPE_CHECKING:  # who only reads records needs no arrays
    import numpy as np

SCHEMA = 1
VERDICT_LIMIT_BYTES = 250
PART_LIMIT = 32
STATION_LIMIT = 32  # with the longest part, number and scores the verdict still fits
MS_LIMIT = 9_999_999  # 2.7 hours


@dataclass(frozen=True)
class Triggered:
    """What the record of a triggered part has besides.

    n, enc: the PLC's number of the trigger and count of its encoder, None where it sent none.
    judged: the code of the judgment, which differs from the code that was sent where it came too
    late; None if there was no judgment.
    """

    n: int | None = None
    judged: Code | None = None
    enc: int | None = None


@dataclass(frozen=True)
class Record:
    """One decided part: what `verdict` says now and `record` keeps.

    score, threshold: float32, raw units; None when nothing was judged, or no threshold is known.
    ms: from the capture of the frame that completed the part to the judgment, milliseconds;
        `judge_ms` on the wire.
    at: when that frame was captured, UTC, milliseconds since 1970; None while the clock is not
        synced.
    geometry, model_state: digests of the site state that was applied; None where there is none.
    engine: runtime, version and precision of what judged.
    threshold_from: "bundle" or "site", whose normal parts set the threshold.
    threshold_parts: how many these were.
    guarantee: what the threshold promises about false rejects, in a sentence.
    captured_at, judged_at: UTC, ISO 8601 with milliseconds.
    images: folder of the kept images below var/lib/edge; None where they are not kept.
    images_sha256: hex SHA-256 of their raw bytes, known before the files are written
        (edge/runtime/kept_files.py).
    triggered: None in free run.
    """

    part: str
    code: Code
    reason: Reason
    score: np.float32 | None
    threshold: np.float32 | None
    ms: int
    area: float
    valid: float
    frames: int
    product: str
    bundle: str
    geometry: str | None
    model_state: str | None
    captured_at: str
    judged_at: str
    clock_synced: bool
    engine: str = ""
    threshold_from: str = ""
    threshold_parts: int = 0
    guarantee: str = ""
    at: int | None = None
    images: str | None = None
    images_sha256: str | None = None
    triggered: Triggered | None = None


@dataclass(frozen=True)
class TriggerCounts:
    """What a triggered station has counted since the start.

    accepted, refused: as `trigger/ack` said. ignored: triggers that got no answer. untriggered:
    parts that were seen to pass without a trigger. overrun: verdicts that the PLC has not
    acknowledged, though it acknowledges others.
    """

    accepted: int
    refused: int
    ignored: int
    untriggered: int
    overrun: int = 0

    def as_fields(self) -> dict[str, int]:
        """As the state message has them."""
        return {
            "triggers_accepted": self.accepted,
            "triggers_refused": self.refused,
            "triggers_ignored": self.ignored,
            "parts_untriggered": self.untriggered,
            "verdicts_overrun": self.overrun,
        }


@dataclass(frozen=True)
class StateDetails:
    """What a running station reports besides state, reason and ready, in the order on the wire.

    busy: whether a part is in view that is not decided yet.
    heartbeat: how many were sent. link: why the line does not work, None if it does.
    product, bundle, engine, precision: of the bundle and the engine that judge now.
    ok, ng, unknown: parts decided since the start.
    medians_ms: the median time of each stage that has samples, milliseconds, by the stage's name;
    "engine" is `engine_ms` on the wire.
    seq: the last sequence number given out.
    records_waiting: not acknowledged yet. records_dropped: lost unacknowledged.
    records_unwritten: of published verdicts, not yet taken by the disk.
    verdicts_unsent, frames_dropped, frame_gaps, camera_restarts, images_dropped: since the start.
    camera_resets, usb_resets: done since the start. camera_problem: why no frames come and what is
    done about it, None while they come. camera_usb, camera_temperature_c: as the camera tells them,
    None where it does not.
    product_number: of the product on this station, None where it has none. paused: by a command.
    drift: which numbers of the parts have changed since when, at most 300 characters; None: none.
    triggers: None in free run; on the wire each of them is a key of its own.
    """

    busy: bool
    heartbeat: int
    link: str | None
    product: str
    bundle: str
    engine: str
    precision: str
    ok: int
    ng: int
    unknown: int
    medians_ms: Mapping[str, float]
    seq: int
    records_waiting: int
    records_dropped: int
    records_unwritten: int
    verdicts_unsent: int
    frames_dropped: int
    frame_gaps: int
    camera_restarts: int
    images_dropped: int
    uptime_s: int
    camera_resets: int = 0
    usb_resets: int = 0
    camera_problem: str | None = None
    camera_usb: str | None = None
    camera_temperature_c: float | None = None
    product_number: int | None = None
    paused: bool = False
    drift: str | None = None
    triggers: TriggerCounts | None = None

    def as_fields(self) -> dict[str, Any]:
        """Flat, JSON types."""
        flat: dict[str, Any] = {}
        for one in dataclass_fields(self):
            value = getattr(self, one.name)
            if one.name == "medians_ms":
                flat |= {f"{stage}_ms": median for stage, median in value.items()}
            elif one.name == "triggers":
                flat |= {} if value is None else value.as_fields()
            else:
                flat[one.name] = value
        return flat


@dataclass(frozen=True)
class StationState:
    """The state of a station, for `state` and `edge status`.

    station: its name. state: online, offline, degraded or fault. reason: why, empty if online.
    ready: whether a part would be judged and its verdict published. details: None if offline.
    """

    station: str
    state: str
    reason: str
    ready: bool
    details: StateDetails | None = None


def clean_part(name: str) -> str:
    """A part's name as it may go on the wire: at most 32 printable ASCII characters, no space,
    quote or backslash.

    Any other character becomes `_`, so that the PLC, the archive and a folder name show the same;
    an empty name becomes `_`.
    """
    return (
        "".join(c if "!" <= c <= "~" and c not in '"\\' else "_" for c in name)[:PART_LIMIT] or "_"
    )


def record_id(station: str, seq: int) -> str:
    """The id of a part: independent of the wall clock."""
    return f"{clean_part(station)[:STATION_LIMIT]}-{seq}"


def float32_value(value: np.float32 | None) -> float | None:
    """A float that prints as the shortest decimal that reads back as this float32; None for None,
    NaN and infinity.
    """
    import numpy as np

    return float(str(np.float32(value))) if value is not None and np.isfinite(value) else None


def record_fields(record: Record, station: str, seq: int) -> dict[str, Any]:
    """`record` as one flat object, without `replay`, which says something about the message and
    nothing about the workpiece.
    """
    import numpy as np

    score, threshold = float32_value(record.score), float32_value(record.threshold)
    margin = (
        None
        if score is None or threshold is None
        else float32_value(np.float32(threshold) - np.float32(score))
    )
    return {
        "schema": SCHEMA,
        "id": record_id(station, seq),
        "seq": seq,
        "part": clean_part(record.part),
        **_told_by_plc(record),
        "code": int(record.code),
        "reason": record.reason.value,
        **_judged_of(record),
        "score": score,
        "thr": threshold,
        "judge_ms": _bounded(record.ms),
        "at": record.at,
        "margin": margin,
        "area": round(record.area, 6),
        "valid": round(record.valid, 6),
        "frames": record.frames,
        "product": record.product,
        "bundle": record.bundle,
        "geometry": record.geometry,
        "model_state": record.model_state,
        "engine": record.engine,
        "thr_from": record.threshold_from,
        "thr_parts": record.threshold_parts,
        "guarantee": record.guarantee,
        "captured_at": record.captured_at,
        "judged_at": record.judged_at,
        "clock_synced": record.clock_synced,
        "images": record.images,
        "images_sha256": record.images_sha256,
    }


def _told_by_plc(record: Record) -> dict[str, int]:
    told = record.triggered
    counts = {} if told is None else {"n": told.n, "enc": told.enc}
    return {key: count for key, count in counts.items() if count is not None}


def _judged_of(record: Record) -> dict[str, Any]:
    told = record.triggered
    if told is None:
        return {}
    return {"judged_code": None if told.judged is None else int(told.judged)}


def verdict_payload(fields: Mapping[str, Any], ms: int) -> bytes:
    """`verdict`: what a PLC needs of a record, in fixed order. ASCII, at most 250 bytes.

    Args:
        ms: from the capture of the frame that completed the part to the call that hands the verdict
            to the socket.
    Raises: ValueError if it would be longer, which clean_part, the station's limit and float32 rule
        out.
    """
    keys = ("id", "seq", "part", "n", "enc", "code", "reason", "score", "thr")
    head = {key: fields[key] for key in keys if key in fields}
    payload = _json({**head, "ms": _bounded(ms), "at": fields["at"]})
    if len(payload) > VERDICT_LIMIT_BYTES:
        raise ValueError(
            f"a verdict of {len(payload)} bytes does not fit a PLC's string: {payload!r}"
        )
    return payload


def code_payload(fields: Mapping[str, Any]) -> bytes:
    """`verdict/code`: `CODE SEQ PART`, for a PLC that cannot parse JSON."""
    return f"{fields['code']} {fields['seq']} {fields['part']}".encode("ascii")


def record_payload(fields: Mapping[str, Any], replay: bool) -> bytes:
    """`record`: every field, and whether an earlier copy of the message may already have
    arrived.
    """
    return _json({**fields, "replay": replay})


def state_payload(
    state: str, reason: str, ready: bool, station: str, details: Mapping[str, Any] | None = None
) -> bytes:
    """`state`, retained: online, offline, degraded or fault, why, whether a part would be judged,
    and counters.
    """
    head = {"schema": SCHEMA, "station": station, "state": state, "reason": reason, "ready": ready}
    return _json({**head, **(details or {})})


def state_message(state: StationState) -> bytes:
    """`state`, from the state of the station."""
    details = None if state.details is None else state.details.as_fields()
    return state_payload(state.state, state.reason, state.ready, state.station, details)


def heartbeat_payload(number: int, ready: bool, run: str) -> bytes:
    """`heartbeat`: a counter that starts at 1 with the process, whether a part would be judged, and
    the mark of the process.
    """
    return _json({"n": number, "ready": ready, "run": run})


def signed_state(payload: bytes, run: str) -> bytes:
    """A state message with the mark of the process that publishes it."""
    return payload[:-1] + f',"run":"{run}"}}'.encode("ascii")


def is_foreign(payload: bytes, run: str) -> bool:
    """Whether another process has published this message.

    The last will of a station carries no mark.
    """
    return b'"run":"' in payload and f'"run":"{run}"'.encode("ascii") not in payload


def short_state(payload: bytes) -> bytes:
    """A state message without its details, for a broker with a small maximum packet size."""
    said = json.loads(payload)
    return state_payload(said["state"], said["reason"], said["ready"], said["station"])


def _bounded(ms: int) -> int:
    return min(max(ms, 0), MS_LIMIT)


def utc_ms(timestamp_s: float) -> str:
    """Seconds since the epoch as UTC ISO 8601 with milliseconds, e.g. 2026-11-22T17:00:00.123Z."""
    moment = datetime.fromtimestamp(timestamp_s, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
        "ascii"
    )
