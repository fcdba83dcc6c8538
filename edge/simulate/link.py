"""How a played PLC talks to a station, whatever the dialect: the protocol `PlcLink`, what it hears,
and the registry of those there are.

A dialect is one module with a class that offers PlcLink and a function that makes it from a
StationAddress, and one entry in LINKS. Its module is imported only when it is asked for, and itself
imports nothing optional at its top: where a library is missing, the function raises
MissingDependency with the sentence that says how to install it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.line.inbound import TriggerRequest


@dataclass(frozen=True)
class Acked:
    """The station's answer to a trigger, at once. seq: of the verdict that follows; None if it is
    refused or the dialect does not tell. reason: of the refusal, empty if it is accepted. at_s:
    when it arrived here, time.monotonic.

    n: None where the dialect does not repeat it, here and in Told.
    """

    part: str
    n: int | None
    accepted: bool
    reason: str
    seq: int | None
    at_s: float


@dataclass(frozen=True)
class Told:
    """A verdict that has arrived, whoever it is for: the PLC decides whether it is one of its own.

    code: as edge.types.Code. at_s: as Acked's.
    """

    part: str
    n: int | None
    seq: int | None
    code: int
    reason: str
    at_s: float


@dataclass(frozen=True)
class Readiness:
    """A sign of life: one with each new heartbeat of the station, a second apart, never one that is
    retained or was seen before. One with ready=False also at the moment a connection is lost.
    """

    ready: bool
    at_s: float


Event = Acked | Told | Readiness


class Hearing:
    """The half of a PlcLink that is the same in every dialect: what has arrived waits to be taken.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._noting = threading.Lock()
        self._heard: list[Event] = []

    def note(self, *events: Event) -> None:
        """They have arrived, in this order."""
        with self._noting:
            self._heard += events

    def events(self) -> list[Event]:
        """As PlcLink's."""
        with self._noting:
            taken, self._heard = self._heard, []
        return taken


@runtime_checkable
class PlcLink(Protocol):
    """The PLC's end of one dialect. One thread calls it; what arrives is noted, with its moment, in
    a thread of the link's own, not when events() is called.
    """

    def connect(self, timeout_s: float) -> None:
        """Connect, and return when verdicts would be heard.

        A connection that breaks later comes back by itself. Nothing is repeated or queued then:
        what was under way is lost, and the timers of the PLC decide.
        Raises: EdgeError, in a sentence that names the address, if that took longer than timeout_s;
            MissingDependency.
        """
        ...

    def trigger(self, request: TriggerRequest) -> bool:
        """Send one trigger now; whether it left. It is never queued: False while not connected.

        Does not wait for its answer; for the network at most as long as one write takes. A dialect
        leaves out what it has no place for.
        """
        ...

    def events(self) -> list[Event]:
        """What came since the last call, in the order of arrival. Does not wait."""
        ...

    def close(self) -> None:
        """Disconnect, within a second or two. May be called twice, and without connect()."""
        ...


@dataclass(frozen=True)
class StationAddress:
    """Where the station is. config: its station.toml, or the defaults with the names set. root: of
    the station, where the paths in it begin. host, port: instead of those in the dialect's section;
    None: as there.
    """

    config: EdgeConfig
    root: Path = Path("/")
    host: str | None = None
    port: int | None = None


# by dialect: "module:function" that makes its PlcLink from a StationAddress
LINKS: Mapping[str, str] = MappingProxyType(
    {
        "mqtt": "edge.simulate.mqtt:make_link",
        "modbus": "edge.simulate.modbus:make_link",
        "opcua": "edge.simulate.opcua:make_link",
    }
)


def make_link(dialect: str, station: StationAddress) -> PlcLink:
    """The link of that dialect; it connects only by connect().

    Raises: ConfigError for a dialect that does not exist or an address that cannot be used,
        MissingDependency if its library is not installed.
    """
    if dialect not in LINKS:
        raise ConfigError(f"--dialect {dialect}: there are {', '.join(LINKS)}")
    module, _, name = LINKS[dialect].partition(":")
    make: Callable[[StationAddress], PlcLink] = getattr(importlib.import_module(module), name)
    return make(station)
