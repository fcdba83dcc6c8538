"""What the PLC sends: from the bytes of a `trigger` to a request, or what is wrong with it. Pure.

edge/line/fields.py has what all requests share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edge.line.fields import N_LIMIT as N_LIMIT
from edge.line.fields import BadRequest as BadRequest
from edge.line.fields import label_of, number_of, object_of, require_known, shown, whole

TOPIC_LIMIT = 256  # characters of a response topic
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
    return checked_trigger(object_of(payload), period_ms)


def checked_trigger(fields: Mapping[str, Any], period_ms: float) -> TriggerRequest:
    """The request that these values make, whatever dialect has read them: keys as in `trigger`.

    period_ms: as of read_trigger.
    Raises: BadRequest.
    """
    part, n = shown(fields.get("part")), whole(fields.get("n"))
    try:
        require_known(fields, KEYS)
        asked = TriggerRequest(
            label_of(fields, "part"),
            number_of(fields, "deadline_ms", DEADLINE_MS),
            None if "n" not in fields else number_of(fields, "n", (0, N_LIMIT)),
            number_of(fields, "delay_ms", DELAY_MS, 0),
            number_of(fields, "frames", FRAMES, 1),
            None if "enc" not in fields else number_of(fields, "enc", (0, N_LIMIT)),
            number_of(fields, "answer_ms", ANSWER_MS, 0),
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
    fields = object_of(payload)
    require_known(fields, ("seq",))
    return number_of(fields, "seq", (1, N_LIMIT))


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
