"""What the plant may ask of a station beside judging: the commands, whatever dialect brings them.
Pure. What becomes of them: edge/runtime/commanding.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edge.line.fields import BadRequest, label_of, number_of, object_of, require_known, shown
from edge.line.inbound import NO_REPLY, Reply
from edge.schema import NAME, PRODUCT_NUMBERS

CALIBRATIONS = ("plane", "expected", "parts", "threshold")  # of `edge calibrate`
COUNTS = {"expected": (5, 200), "parts": (3, 99)}  # parts that `edge calibrate` is shown
FALSE_REJECTS = (0.0001, 0.5)
WHO_LIMIT, RESULT_LIMIT = 48, 240  # characters of an answer


class Verb(str, Enum):
    """The commands: a closed list."""

    SELECT = "select"  # a product that is installed, by its name or its number
    CALIBRATE = "calibrate"  # starts `edge calibrate` with the arguments of the command
    ROLLBACK = "rollback"  # to the product's bundle before this one
    RESTART_CAMERA = "restart_camera"
    RESET = "reset"  # the counters of parts, and a camera that was given up is tried again
    PAUSE = "pause"  # judge no more parts until `resume`
    RESUME = "resume"


KEYS: Mapping[Verb, tuple[str, ...]] = {
    Verb.SELECT: ("product", "number"),
    Verb.CALIBRATE: ("what", "count", "false_rejects"),
}
COMMON = ("do", "id")


class CommandRefusal(str, Enum):
    """Why a command is not carried out: the closed list that PLC programmers may switch on."""

    BAD_REQUEST = "bad_request"  # `field` says which key is missing or wrong
    NOT_ALLOWED = "not_allowed"  # this command is not, or the connection is not authenticated
    BUSY = "busy"  # a part is open, or another command is at work
    UNKNOWN_PRODUCT = "unknown_product"  # no such product or number is installed
    FAILED = "failed"  # `result` says why


@dataclass(frozen=True)
class Command:
    """One command. product, number: for `select`, one of them. what: for `calibrate`, the name of
    the calibration; count: of parts, for `expected` and `parts`; false_rejects: 0..1, for `parts`
    and `threshold`. id: the sender's own name for it, passed through.
    """

    verb: Verb
    product: str = ""
    number: int | None = None
    what: str = ""
    id: str = ""
    count: int | None = None
    false_rejects: float | None = None

    def as_fields(self) -> dict[str, Any]:
        """What was asked, for the audit: only what the sender has named."""
        named = {
            "product": self.product or None,
            "number": self.number,
            "what": self.what or None,
            "count": self.count,
            "false_rejects": self.false_rejects,
            "id": self.id or None,
        }
        return {"do": self.verb.value, **{k: v for k, v in named.items() if v is not None}}


@dataclass(frozen=True)
class Unreadable:
    """A command that cannot be taken. field: the key that is missing, unknown or wrong, empty if it
    is no JSON object. do, id: as far as they could be read.
    """

    why: str
    field: str = ""
    do: str = ""
    id: str = ""


@dataclass(frozen=True)
class Commanded:
    """A command that has arrived. who: the sender as far as the dialect knows it, for the audit.

    is_authenticated: whether the dialect knows that nobody can send one who may not. is_dup: it is
    marked as sent before.
    """

    command: Command | Unreadable
    who: str
    reply: Reply = NO_REPLY
    is_authenticated: bool = False
    is_dup: bool = False


@dataclass(frozen=True)
class CommandAnswer:
    """What became of it. reason: None if it was carried out. result: a sentence."""

    verb: str
    who: str
    result: str
    reason: CommandRefusal | None = None
    field: str = ""
    id: str = ""


@dataclass(frozen=True)
class Sent:
    """A command from a payload. who: the sender's name for itself, which nothing proves."""

    command: Command | Unreadable
    who: str = ""


def read_command(payload: bytes) -> Sent:
    """The command in a payload, or what is wrong with it."""
    fields: Mapping[str, Any] = {}
    try:
        fields = object_of(payload)
        who = label_of(fields, "who") if "who" in fields else ""
        return Sent(checked_command({k: v for k, v in fields.items() if k != "who"}), who)
    except BadRequest as bad:
        known = shown(fields.get("do")), shown(fields.get("id"))
        return Sent(Unreadable(str(bad), bad.field, *known), shown(fields.get("who")))


def checked_command(fields: Mapping[str, Any]) -> Command:
    """The command that these values make, whatever dialect has read them: keys as in `command`, but
    for `who`, which the dialect knows.

    Raises: BadRequest.
    """
    verb = _verb_of(fields)
    require_known(fields, (*COMMON, *KEYS.get(verb, ())))
    name = label_of(fields, "id") if "id" in fields else ""
    if verb is Verb.SELECT:
        return _selection_of(fields, name)
    if verb is Verb.CALIBRATE:
        return _calibration_of(fields, name)
    return Command(verb, id=name)


def _verb_of(fields: Mapping[str, Any]) -> Verb:
    try:
        return Verb(fields.get("do"))
    except ValueError:
        raise BadRequest("do", f"one of {', '.join(verb.value for verb in Verb)}") from None


def _selection_of(fields: Mapping[str, Any], name: str) -> Command:
    if ("product" in fields) == ("number" in fields):
        raise BadRequest("product", "name the product, or give its number instead")
    if "number" in fields:
        return Command(Verb.SELECT, number=number_of(fields, "number", PRODUCT_NUMBERS), id=name)
    product = fields["product"]
    if not isinstance(product, str) or not re.fullmatch(NAME, product):
        raise BadRequest("product", "the name of a product: letters, digits, . _ -, at most 64")
    return Command(Verb.SELECT, product=product, id=name)


def _calibration_of(fields: Mapping[str, Any], name: str) -> Command:
    what = fields.get("what")
    if what not in CALIBRATIONS:
        raise BadRequest("what", f"one of {', '.join(CALIBRATIONS)}")
    count = rate = None
    if what in COUNTS and "count" in fields:
        count = number_of(fields, "count", COUNTS[what])
    elif "count" in fields:
        raise BadRequest("count", "only `expected` and `parts` have it")
    if what == "threshold" or (what == "parts" and "false_rejects" in fields):
        rate = _share_of(fields, "false_rejects", FALSE_REJECTS)
    elif "false_rejects" in fields:
        raise BadRequest("false_rejects", "only `parts` and `threshold` have it")
    return Command(Verb.CALIBRATE, what=what, id=name, count=count, false_rejects=rate)


def _share_of(fields: Mapping[str, Any], key: str, bounds: tuple[float, float]) -> float:
    value = fields.get(key)
    if not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:  # no NaN either
        raise BadRequest(key, f"a number from {bounds[0]:g} to {bounds[1]:g}")
    return float(value)  # True is beyond the bounds


def answer_payload(answer: CommandAnswer) -> bytes:
    """`command/answer`: do, id, who, done, reason, field, result. ASCII, at most 500 bytes; what a
    PLC switches on comes first, for one whose strings are shorter.
    """
    told = {
        "do": answer.verb,
        "id": answer.id,
        "who": _plain(answer.who, WHO_LIMIT),
        "done": answer.reason is None,
        "reason": "" if answer.reason is None else answer.reason.value,
        "field": answer.field,
        "result": _plain(answer.result, RESULT_LIMIT),
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _plain(sentence: str, limit: int) -> str:
    """On one line, in characters that JSON writes as one byte each, cut to a length."""
    shown = " ".join(sentence.split()).replace('"', "'").replace("\\", "/")
    shown = "".join(c if " " <= c <= "~" else "_" for c in shown)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
