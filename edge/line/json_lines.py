"""What the station and its OPC UA process say to each other over a Unix socket: one JSON object per
line, ASCII, each with the key `t` for what it is.

    station -> process   hello, state, ack, verdict, last, answer
    process -> station   alive, trigger, command, told

docs/opcua.md says what a PLC sees of it. Pure: bytes in, objects out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOCKET = Path("run/edge/opcua.sock")  # below the root of a station
LINE_LIMIT = 64 << 10  # bytes
ALIVE_S = 1.0  # each side says something at least this often
SILENCE_S = 3.0  # and is taken for gone after this long without it
STRANGE = "it does not speak the language of this version: install the same version for both"


class BadLine(ValueError):
    """The other side sent something that is no line of this language."""


def line_of(kind: str, /, **said: Any) -> bytes:
    """One object as its line."""
    text = json.dumps({"t": kind, **said}, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii") + b"\n"


class LineReader:
    """From the bytes of a stream to its objects."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._rest = b""

    def feed(self, data: bytes) -> list[Mapping[str, Any]]:
        """The objects that are complete with these bytes. Raises: BadLine."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) > LINE_LIMIT for line in (*lines, self._rest)):
            raise BadLine(f"a line is longer than {LINE_LIMIT} bytes")
        return [_object_of(line) for line in lines]


def _object_of(line: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine("a line is not JSON") from error
    if not isinstance(read, dict) or not isinstance(read.get("t"), str):
        raise BadLine("a line is no JSON object with the key `t`")
    return read
