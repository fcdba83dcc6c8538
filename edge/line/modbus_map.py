"""The registers of the Modbus dialect (map 1): where each value lies, how it is written in words,
and the numbers that stand for reasons. Pure.

Addresses are those of the protocol, from 0; a Modicon number is 40001 or 30001 more. Numbers that
were given once are frozen: PLC programs switch on them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from enum import Enum, IntFlag
from types import MappingProxyType
from typing import Any

from edge.line.commands import CommandRefusal, Verb
from edge.line.inbound import Refusal
from edge.types import Reason

MAP_VERSION = 1
WORD_LIMIT = 0xFFFF
DWORD_LIMIT = 0xFFFF_FFFF
OTHER = 99  # a reason that is younger than this map


class Kind(Enum):
    """How a value is written in words. DWORD and REAL have the high word first, unless the words
    are swapped; the first character of a TEXT is in the high byte.
    """

    WORD = "word"
    DWORD = "dword"
    REAL = "real"
    TEXT = "text"


SIZES: Mapping[Kind, int] = MappingProxyType(
    {Kind.WORD: 1, Kind.DWORD: 2, Kind.REAL: 2, Kind.TEXT: 16}
)


@dataclass(frozen=True)
class Field:
    """One value of the map. address: of its first word."""

    address: int
    kind: Kind = Kind.WORD

    @property
    def end(self) -> int:
        """The address after its last word."""
        return self.address + SIZES[self.kind]


class Asks:
    """What the PLC writes: holding registers from 0."""

    TRIGGER = Field(0)
    PART = Field(1, Kind.TEXT)
    N = Field(17, Kind.DWORD)
    DEADLINE_MS = Field(19, Kind.DWORD)
    DELAY_MS = Field(21)
    FRAMES = Field(22)
    ENC = Field(23, Kind.DWORD)
    ANSWER_MS = Field(25, Kind.DWORD)
    ACK = Field(27)
    MODE = Field(28)
    HEARTBEAT = Field(29)
    COMMAND = Field(30)
    VERB = Field(31)
    ARGUMENT = Field(32)


class Tells:
    """What the station writes: holding registers from 100, and input registers of the same
    addresses.
    """

    MAP = Field(100)
    HEARTBEAT = Field(101)
    STATUS = Field(102)
    STATE = Field(103)
    STATE_REASON = Field(104)
    TRIGGER = Field(105)
    TRIGGER_REFUSAL = Field(106)
    TRIGGER_WRONG = Field(107)
    TRIGGER_ANSWERS = Field(108)
    COMMAND = Field(109)
    COMMAND_REFUSAL = Field(110)
    COMMAND_ANSWERS = Field(111)
    TRIGGER_SEQ = Field(112, Kind.DWORD)
    RESULT = Field(114)
    CODE = Field(115)
    REASON = Field(116)
    HAS = Field(117)
    SEQ = Field(118, Kind.DWORD)
    N = Field(120, Kind.DWORD)
    ENC = Field(122, Kind.DWORD)
    SCORE = Field(124, Kind.REAL)
    THRESHOLD = Field(126, Kind.REAL)
    MS = Field(128, Kind.DWORD)
    PART = Field(130, Kind.TEXT)
    RESULT_AGAIN = Field(146)
    VALID = Field(147)
    OK = Field(148, Kind.DWORD)
    NG = Field(150, Kind.DWORD)
    UNKNOWN = Field(152, Kind.DWORD)
    UNSENT = Field(154, Kind.DWORD)
    OVERRUN = Field(156, Kind.DWORD)
    ACCEPTED = Field(158, Kind.DWORD)
    REFUSED = Field(160, Kind.DWORD)
    UNTRIGGERED = Field(162, Kind.DWORD)
    PRODUCT = Field(164)


ASKS_END, TELLS_START, TELLS_END = 40, Tells.MAP.address, Tells.PRODUCT.end


class Mode(IntFlag):
    """Bits of Asks.MODE."""

    ONE_BY_ONE = 1  # the next verdict is shown only after the acknowledgment of this one
    HEARTBEAT = 2  # the station watches Asks.HEARTBEAT


class Status(IntFlag):
    """Bits of Tells.STATUS."""

    READY = 1
    BUSY = 2
    VALID = 4
    FAULT = 8
    ARMED = 16
    REFUSED = 32
    OVERRUN = 64
    TRIGGERED = 128


class Has(IntFlag):
    """Bits of Tells.HAS: which values the verdict has; the others read 0."""

    SCORE = 1
    THRESHOLD = 2
    N = 4
    ENC = 8


STATES: Mapping[str, int] = MappingProxyType({"online": 1, "degraded": 2, "fault": 3})

REASONS: Mapping[Reason, int] = MappingProxyType(
    {
        Reason.NORMAL: 1,
        Reason.ANOMALY: 2,
        Reason.NO_PART: 3,
        Reason.TOO_LARGE: 4,
        Reason.PARTIAL: 5,
        Reason.TWO_PARTS: 6,
        Reason.NO_DEPTH: 7,
        Reason.UNCALIBRATED: 8,
        Reason.CAMERA_MISMATCH: 9,
        Reason.CAMERA_LOST: 10,
        Reason.BLIND: 11,
        Reason.STALE: 12,
        Reason.NOT_FINITE: 13,
        Reason.ENGINE: 14,
        Reason.LATE: 15,
        Reason.STORAGE: 16,
        Reason.SLOW: 17,
        Reason.BUNDLE: 18,
        Reason.LINK: 19,
        Reason.ARCHIVE: 20,
        Reason.PAUSED: 21,
        Reason.CALIBRATING: 22,
        Reason.POWER: 23,
    }
)

REFUSALS: Mapping[Refusal, int] = MappingProxyType(
    {Refusal.BAD_REQUEST: 1, Refusal.NOT_READY: 2, Refusal.BUSY: 3, Refusal.STORAGE: 4}
)
FREE_RUN = 10  # the station takes no triggers; of this dialect only

COMMAND_REFUSALS: Mapping[CommandRefusal, int] = MappingProxyType(
    {
        CommandRefusal.BAD_REQUEST: 1,
        CommandRefusal.NOT_ALLOWED: 2,
        CommandRefusal.BUSY: 3,
        CommandRefusal.UNKNOWN_PRODUCT: 4,
        CommandRefusal.FAILED: 5,
    }
)

VERBS: Mapping[int, Verb] = MappingProxyType(
    {1: Verb.SELECT, 2: Verb.RESET, 3: Verb.PAUSE, 4: Verb.RESUME, 5: Verb.RESTART_CAMERA}
)

# keys of a trigger, and the register that a refusal names
KEYS: Mapping[str, Field] = MappingProxyType(
    {
        "part": Asks.PART,
        "n": Asks.N,
        "deadline_ms": Asks.DEADLINE_MS,
        "delay_ms": Asks.DELAY_MS,
        "frames": Asks.FRAMES,
        "enc": Asks.ENC,
        "answer_ms": Asks.ANSWER_MS,
    }
)


def number_of_reason(reason: str) -> int:
    """The frozen number; 0 for no reason."""
    known = {one.value: number for one, number in REASONS.items()}
    return known.get(reason, OTHER) if reason else 0


def words_of(kind: Kind, value: int | float | str, is_swapped: bool = False) -> list[int]:
    """A value as words. What does not fit is cut: an integer modulo its size, a text at its end."""
    if kind is Kind.TEXT:
        text = str(value).encode("ascii", "replace")[:32].ljust(32, b"\0")
        return list(struct.unpack(">16H", text))
    if kind is Kind.WORD:
        return [int(value) & WORD_LIMIT]
    packed = struct.pack(">f", value) if kind is Kind.REAL else _packed(int(value))
    high, low = struct.unpack(">HH", packed)
    return [low, high] if is_swapped else [high, low]


def value_of(kind: Kind, words: Sequence[int], is_swapped: bool = False) -> Any:
    """The value in these words: int, float, or str without the NUL and spaces at its end.

    A character that is not ASCII reads as one that no name of a part may have.
    """
    if kind is Kind.TEXT:
        return struct.pack(">16H", *words).rstrip(b"\0 ").decode("ascii", "replace")
    if kind is Kind.WORD:
        return words[0]
    ordered = reversed(words) if is_swapped else words
    return struct.unpack(">f" if kind is Kind.REAL else ">I", struct.pack(">HH", *ordered))[0]


@dataclass
class Table:
    """All registers, by their address. is_swapped: the low word of DWORD and REAL comes first."""

    words: MutableSequence[int]
    is_swapped: bool = False

    @classmethod
    def empty(cls, is_swapped: bool = False) -> Table:
        """Every word is 0."""
        return cls([0] * TELLS_END, is_swapped)

    def get(self, field: Field) -> Any:
        """The value of one field."""
        return value_of(field.kind, self.words[field.address : field.end], self.is_swapped)

    def put(self, field: Field, value: int | float | str) -> None:
        """Write one field."""
        self.words[field.address : field.end] = words_of(field.kind, value, self.is_swapped)


def trigger_fields(table: Table) -> dict[str, Any]:
    """What the PLC asks for, as edge.line.inbound.checked_trigger takes it.

    0 stands for a key that is left out: `n` and `enc` are absent then, the others have their
    defaults. A part without a name is named by its `n`.
    """
    asked = {key: table.get(field) for key, field in KEYS.items()}
    if not asked["part"] and asked["n"]:
        asked["part"] = str(asked["n"])
    return {key: value for key, value in asked.items() if value or key == "deadline_ms"}


def _packed(value: int) -> bytes:
    return struct.pack(">I", value & DWORD_LIMIT)
