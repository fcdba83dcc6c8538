"""What a step of an acceptance is, and what it works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge.board.model import is_jetson
from edge.doctor.desk import Desk
from edge.doctor.finding import Subject
from edge.errors import EdgeError
from edge.station.lock import RUN, is_held

STOP = "the station runs: `sudo systemctl stop edge` first"
NOBODY = "nobody can answer: run it at a terminal"
NO_JETSON = "this machine is no Jetson"


class StepFailed(EdgeError):
    """A step found what must not be."""


@dataclass(frozen=True)
class Bench:
    """What the steps work on, and with whom."""

    subject: Subject
    desk: Desk

    @property
    def is_target(self) -> bool:
        """Whether this is a running Jetson, and no tree of files that looks like one."""
        return self.subject.is_here and is_jetson(self.subject.machine)

    @property
    def runs(self) -> bool:
        """Whether the station is at work."""
        return is_held(self.subject.store.data / RUN)


@dataclass(frozen=True)
class Done:
    """What a step that passed has found."""

    said: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """lacks: why it cannot be done here and now, empty where it can. act: raises what is wrong."""

    name: str
    lacks: Callable[[Bench], str]
    act: Callable[[Bench], Done]
