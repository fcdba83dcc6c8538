"""One flat JSON object that the plant has sent, key by key: what all kinds of request share. Pure.

A key is missing, unknown or out of bounds: the answer names it, so that a PLC programmer finds it
without the station's log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge.line.message import PART_LIMIT, clean_part

PAYLOAD_LIMIT = 1024  # bytes of a request
N_LIMIT = (1 << 32) - 1  # a UDINT; with more digits the verdict would not fit a PLC's string
LABEL = f"1 to {PART_LIMIT} printable ASCII characters, no space, quote or backslash"


class BadRequest(ValueError):
    """A request that cannot be taken. field: the key that is missing, unknown or wrong; empty if it
    is no JSON object. part, n: of a trigger as far as they could be read, for the answer.
    """

    def __init__(self, field: str, why: str, part: str = "", n: int | None = None) -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field, self.part, self.n = field, part, n


def object_of(payload: bytes) -> Mapping[str, Any]:
    """The object in a payload. Raises: BadRequest if there is none, or a key is there twice."""
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


def require_known(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises: BadRequest naming the first key that is not among `known`."""
    for key in fields:
        if key not in known:
            raise BadRequest(clean_part(key), f"there is no such key (known: {', '.join(known)})")


def label_of(fields: Mapping[str, Any], key: str) -> str:
    """A name that the plant gives to something. Raises: BadRequest."""
    label = fields.get(key)
    if not isinstance(label, str) or clean_part(label) != label:
        raise BadRequest(key, LABEL)
    return label


def number_of(
    fields: Mapping[str, Any], key: str, bounds: tuple[int, int], default: int | None = None
) -> int:
    """A whole number within bounds. Raises: BadRequest."""
    value = whole(fields.get(key, default))
    if value is None or not bounds[0] <= value <= bounds[1]:
        raise BadRequest(key, f"a whole number from {bounds[0]} to {bounds[1]}")
    return value


def whole(value: Any) -> int | None:
    """Whole and no truth value, else None; PLCs also write 500.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return int(value) if abs(value) <= N_LIMIT and value == int(value) else None


def shown(label: Any) -> str:
    """A name as the answer to a bad request shows it; empty where there is none."""
    return clean_part(label) if isinstance(label, str) and label else ""
