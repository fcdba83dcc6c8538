"""What the PLC sends: from the bytes of a `trigger` to a request, or what is wrong with it. Pure.

A key is missing, unknown or out of bounds: the answer names it, so that a PLC programmer finds it
without the station's log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edge.line.message import PART_LIMIT, clean_part

PAYLOAD_LIMIT = 1024  # bytes of a trigger
TOPIC_LIMIT = 256  # characters of a response topic
N_LIMIT = (1 << 32) - 1  # a UDINT; with more digits the verdict would not fit a PLC's string
DEADLINE_MS = (50, 600_000)
DELAY_MS = (0, 60_000)
FRAMES = (1, 30)
ANSWER_MS = (0, 600_000)
PART_WITH_ENC = 15  # characters of a part whose trigger has `enc`, for the same reason
KEYS = ("part", "deadline_ms", "n", "enc", "delay_ms", "frames", "answer_ms")


class Refusal(str, Enum):
    """Why a trigger is not accepted: the closed list that PLC programmers may switch on."""

    BAD_REQUEST = "bad_request"  # `field` says which key is missing or wrong
    NOT_READY = "not_ready"  # a part would not be judged now, or its verdict not told
    BUSY = "busy"  # its window overlaps another one, or too many parts wait
    STORAGE = "storage"  # its number could not be committed in time


class BadRequest(ValueError):
    """A trigger that cannot be taken. field: the key that is missing, unknown or wrong; empty if it
    is no JSON object. part, n: of the request as far as they could be read, for the answer.
    """

    def __init__(self, field: str, why: str, part: str = "", n: int | None = None) -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field, self.part, self.n = field, part, n


@dataclass(frozen=True)
class TriggerRequest:
    """One trigger as the PLC has sent it.

    part: its name for the workpiece. deadline_ms: of the verdict, from the arrival at the station.
    n: the PLC's own number of the trigger. delay_ms: from the arrival until the part is in view.
    frames: how many are judged together. enc: count of the belt's encoder, passed through.
    answer_ms: from the arrival until the verdict leaves; 0: as soon as there is one.
    """

    part: str
    deadline_ms: int
    n: int | None = None
    delay_ms: int = 0
    frames: int = 1
    enc: int | None = None
    answer_ms: int = 0


@dataclass(frozen=True)
class Reply:
    """Where the answers go.

    topic: response topic of an MQTT 5 client beside the usual topics, empty for none. correlation:
    its correlation data. dialect: in which it was asked; the others are told as nobody has asked.
    """

    topic: str = ""
    correlation: bytes | None = None
    dialect: str = "mqtt"


NO_REPLY = Reply()


@dataclass(frozen=True)
class Asked:
    """A trigger that has arrived. is_dup: the broker marks it as sent before."""

    request: TriggerRequest
    is_dup: bool = False
    reply: Reply = NO_REPLY


@dataclass(frozen=True)
class Ack:
    """The answer to a trigger, at once. seq: the part's number; None if it is refused."""

    part: str
    n: int | None
    seq: int | None = None
    reason: Refusal | None = None
    field: str = ""


def read_trigger(payload: bytes, period_ms: float) -> TriggerRequest:
    """The request in the payload of a `trigger`.

    period_ms: of the camera's frames: a deadline that ends before the last of them is refused.
    Raises: BadRequest.
    """
    return checked_trigger(_object_of(payload), period_ms)


def checked_trigger(fields: Mapping[str, Any], period_ms: float) -> TriggerRequest:
    """The request that these values make, whatever dialect has read them: keys as in `trigger`.

    period_ms: as of read_trigger.
    Raises: BadRequest.
    """
    part, n = _text(fields.get("part")), _integer(fields.get("n"))
    try:
        _require_known(fields, KEYS)
        asked = TriggerRequest(
            _part_of(fields),
            _number(fields, "deadline_ms", DEADLINE_MS),
            None if "n" not in fields else _number(fields, "n", (0, N_LIMIT)),
            _number(fields, "delay_ms", DELAY_MS, 0),
            _number(fields, "frames", FRAMES, 1),
            None if "enc" not in fields else _number(fields, "enc", (0, N_LIMIT)),
            _number(fields, "answer_ms", ANSWER_MS, 0),
        )
        _require_possible(asked, period_ms)
    except BadRequest as bad:
        bad.part, bad.n = part, n
        raise
    return asked


def read_ack(payload: bytes) -> int:
    """The number of the verdict that the PLC has taken, from the payload of an `ack`.

    Raises: BadRequest.
    """
    fields = _object_of(payload)
    _require_known(fields, ("seq",))
    return _number(fields, "seq", (1, N_LIMIT))


def ack_payload(ack: Ack) -> bytes:
    """`trigger/ack`: part, n where the trigger had one, accepted, seq, reason, field. ASCII."""
    told: dict[str, Any] = {"part": ack.part}
    if ack.n is not None:
        told["n"] = ack.n
    told |= {
        "accepted": ack.reason is None,
        "seq": ack.seq,
        "reason": "" if ack.reason is None else ack.reason.value,
        "field": ack.field,
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def usable_reply(topic: str, correlation: bytes | None, prefix: str) -> Reply:
    """Where to answer: no response topic that is a filter, a broker's own ($), or below `prefix`,
    where the station's own messages and its ears are.
    """
    is_topic = 0 < len(topic) <= TOPIC_LIMIT and not any(c in topic for c in "#+\0$")
    is_ours = topic == prefix or topic.startswith(f"{prefix}/")
    return Reply(topic if is_topic and not is_ours else "", correlation)


def _object_of(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > PAYLOAD_LIMIT:
        raise BadRequest("", f"it has {len(payload)} bytes, at most {PAYLOAD_LIMIT} are read")
    try:
        read = json.loads(payload.decode("utf-8"), object_pairs_hook=_once)
    except RecursionError as error:
        raise BadRequest("", "it is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, BadRequest):
            raise
        raise BadRequest("", "it is not JSON") from error
    if not isinstance(read, dict):
        raise BadRequest("", "it is no JSON object")
    return read


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Nobody knows which of two values of one key was meant."""
    read = dict(pairs)
    if len(read) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise BadRequest(clean_part(twice), "it is there twice")
    return read


def _require_known(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in fields:
        if key not in known:
            raise BadRequest(clean_part(key), f"there is no such key (known: {', '.join(known)})")


def _part_of(fields: Mapping[str, Any]) -> str:
    part = fields.get("part")
    if not isinstance(part, str) or clean_part(part) != part:
        what = f"1 to {PART_LIMIT} printable ASCII characters, no space, quote or backslash"
        raise BadRequest("part", what)
    return part


def _require_possible(asked: TriggerRequest, period_ms: float) -> None:
    last_ms = asked.delay_ms + asked.frames * period_ms
    too_soon = f"the last frame may come {last_ms:.0f} ms after the trigger"
    if asked.deadline_ms <= last_ms:
        raise BadRequest("deadline_ms", too_soon)
    if 0 < asked.answer_ms <= last_ms:
        raise BadRequest("answer_ms", too_soon)
    if asked.answer_ms >= asked.deadline_ms:
        raise BadRequest("answer_ms", "it does not lie before the deadline")
    if asked.enc is not None and len(asked.part) > PART_WITH_ENC:
        raise BadRequest("part", f"with enc it has at most {PART_WITH_ENC} characters")


def _number(
    fields: Mapping[str, Any], key: str, bounds: tuple[int, int], default: int | None = None
) -> int:
    value = _integer(fields.get(key, default))
    if value is None or not bounds[0] <= value <= bounds[1]:
        raise BadRequest(key, f"a whole number from {bounds[0]} to {bounds[1]}")
    return value


def _integer(value: Any) -> int | None:
    """Whole and no truth value; PLCs also write 500.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return int(value) if abs(value) <= N_LIMIT and value == int(value) else None


def _text(part: Any) -> str:
    """The part's name as the answer to a bad request shows it."""
    return clean_part(part) if isinstance(part, str) and part else ""
