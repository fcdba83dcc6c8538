"""What the plant may ask of a station beside judging: the commands, whatever dialect brings them.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.line.inbound import NO_REPLY, Reply


class Verb(str, Enum):
    """The commands: a closed list."""

    SELECT = "select"  # a product that is installed, by its name or its number
    CALIBRATE = "calibrate"  # starts `edge calibrate` with the arguments of the command
    ROLLBACK = "rollback"  # to the product's bundle before this one
    RESTART_CAMERA = "restart_camera"
    RESET = "reset"  # the counters of parts, and a camera that was given up is tried again
    PAUSE = "pause"  # judge no more parts until `resume`
    RESUME = "resume"


class CommandRefusal(str, Enum):
    """Why a command is not carried out: the closed list that PLC programmers may switch on."""

    BAD_REQUEST = "bad_request"  # `field` says which key is missing or wrong
    NOT_ALLOWED = "not_allowed"  # commands are off, or the connection is not authenticated
    BUSY = "busy"  # a part is open, or another command is at work
    UNKNOWN_PRODUCT = "unknown_product"  # no such product or number is installed
    FAILED = "failed"  # `result` says why


@dataclass(frozen=True)
class Command:
    """One command. product, number: for `select`, one of them. what: for `calibrate`, the name of
    the calibration. id: the sender's own name for it, passed through.
    """

    verb: Verb
    product: str = ""
    number: int | None = None
    what: str = ""
    id: str = ""


@dataclass(frozen=True)
class Commanded:
    """A command that has arrived. who: the sender as far as the dialect knows it, for the audit."""

    command: Command
    who: str
    reply: Reply = NO_REPLY


@dataclass(frozen=True)
class CommandAnswer:
    """What became of it. reason: None if it was carried out. result: a sentence."""

    verb: str
    who: str
    result: str
    reason: CommandRefusal | None = None
    field: str = ""
    id: str = ""
