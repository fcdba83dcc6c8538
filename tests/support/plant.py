"""The other side of the broker: an archive that keeps every record, and a PLC that acts on
verdicts.

Both are separate clients, so that they see what a plant sees, and nothing inside the station.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.broker import Received, Subscriber

DEADLINE_S = 2.0  # `deadline_ms` in station.toml, by default
AHEAD_S = 0.5  # synced clocks agree that well
DAY_S = 86_400


class Archive(Subscriber):
    """Keeps the first record of each id, as docs/mqtt.md says, and notes faults of repetitions.

    kept: records by seq, as they came first. order: their seqs.
    doubled: ids that came again without `replay` and without the broker's DUP flag.
    changed: seqs that came again with another content.
    """

    def __init__(self, port: int, protocol: str = "5", user: str = "") -> None:
        self.kept: dict[int, dict[str, Any]] = {}
        self.order: list[int] = []
        self.doubled: list[str] = []
        self.changed: list[int] = []
        super().__init__(port, "archive", protocol=protocol, user=user, session_s=DAY_S)

    def take(self, message: Received) -> None:
        if message.topic != "record":
            return
        record = message.json
        first = self.kept.get(record["seq"])
        if first is None:
            self.kept[record["seq"]] = record
            self.order.append(record["seq"])
            return
        if {**record, "replay": None} != {**first, "replay": None}:
            self.changed.append(record["seq"])
        if not record["replay"] and not message.dup:
            self.doubled.append(record["id"])


@dataclass(frozen=True)
class Acted:
    """A verdict that the PLC acted on."""

    verdict: dict[str, Any]
    at_s: float


class Plc(Subscriber):
    """A PLC with a synced clock that follows the rules of docs/mqtt.md: a new number, and fresh by
    its `at`.

    acted: verdicts that it took. ignored: verdicts that the rule told it to leave.
    """

    def __init__(self, port: int, protocol: str = "5", user: str = "") -> None:
        self.acted: list[Acted] = []
        self.ignored: list[Acted] = []
        self.last_seq = 0
        super().__init__(port, "plc", protocol=protocol, user=user, session_s=0)

    @property
    def state(self) -> dict[str, Any]:
        """The last state; empty before the first."""
        received = self.of("state")
        return received[-1].json if received else {}

    def take(self, message: Received) -> None:
        if message.topic != "verdict":
            return
        acted = Acted(message.json, message.at_s)
        takes = not message.retain and self.accepts(acted)
        (self.acted if takes else self.ignored).append(acted)
        self.last_seq = max(self.last_seq, acted.verdict["seq"])

    def accepts(self, acted: Acted) -> bool:
        """A new number, captured less than the deadline ago and not in the future; never with an
        unknown time (`at` null).
        """
        captured_ms = acted.verdict["at"]
        if acted.verdict["seq"] <= self.last_seq or captured_ms is None:
            return False
        return -AHEAD_S <= acted.at_s - captured_ms / 1000.0 <= DEADLINE_S
