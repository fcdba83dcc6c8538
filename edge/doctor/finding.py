"""What one look found. Nothing here reads anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.config import EdgeConfig
from edge.station.store import Store

State = Literal["right", "wrong", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One row. said: what is so, in a sentence; remedy: what to do, empty where it is right."""

    state: State
    said: str
    remedy: str = ""


def right(said: str) -> Finding:
    """As it should be."""
    return Finding("right", said)


def wrong(said: str, remedy: str) -> Finding:
    """Something to mend."""
    return Finding("wrong", said, remedy)


def unknown(said: str, remedy: str = "") -> Finding:
    """It cannot be told here; remedy: how it could be."""
    return Finding("unknown", said, remedy)


@dataclass(frozen=True)
class Subject:
    """What is looked at. store: of the station. machine: the root of the machine's facts.

    config: defaults where station.toml cannot be used; then a row of its own says so.
    """

    store: Store
    machine: Path
    config: EdgeConfig

    @property
    def is_here(self) -> bool:
        """Whether the machine is the one that runs this, and not a tree of files."""
        return self.machine == Path("/")


@dataclass(frozen=True)
class Check:
    """One row of the table. look: None where the row has no meaning on this machine.

    needs_root: it asks this machine what root alone is told, and touches no file of the station.
    """

    name: str
    look: Callable[[Subject], Finding | None]
    needs_root: bool = False


@dataclass(frozen=True)
class Row:
    """A finding with its name."""

    name: str
    finding: Finding
