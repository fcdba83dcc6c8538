"""One station that speaks several dialects at once.

Each has its own threads, its own place in the outbox and its own troubles. Whatever one of them
raises is logged and keeps nothing from the others: a verdict goes first to the dialect whose PLC
has asked for it, then to the rest. A PLC that cannot be reached stops the line only if no other
can be.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge.line.base import Line, LineCounters
from edge.line.commands import CommandAnswer
from edge.line.inbound import NO_REPLY, Ack, Reply
from edge.trouble import Trouble

log = logging.getLogger(__name__)

STOP_S = 1.5  # a dialect that takes longer is left behind


class SeveralLines:
    """The dialects of a station as one edge.line.base.Line. Thread-safe as they are."""

    def __init__(self, lines: Mapping[str, Line]) -> None:
        """lines: by the name of the dialect, at least one."""
        self._lines = dict(lines)
        self._broken = {
            name: Trouble(log, f"{name}: the dialect works again") for name in self._lines
        }

    @property
    def tells_plc(self) -> bool:
        """Whether any of them does."""
        return any(line.tells_plc for line in self._lines.values())

    @property
    def counters(self) -> LineCounters:
        """The sums."""
        counts = [dataclasses.asdict(line.counters) for line in self._lines.values()]
        return LineCounters(**{name: sum(one[name] for one in counts) for name in counts[0]})

    @property
    def is_connected(self) -> bool:
        """Whether a receiver of verdicts is connected to any of them."""
        return any(line.is_connected for line in self._lines.values())

    @property
    def verdict_problem(self) -> str | None:
        """Why no verdict would reach any PLC now; None if one would reach one of them."""
        telling = [line for line in self._lines.values() if line.tells_plc]
        problems = [line.verdict_problem for line in telling]
        return problems[0] if problems and None not in problems else None

    @property
    def record_problem(self) -> str | None:
        """What is wrong with any of them that does not stop the line."""
        problems = (line.problem for line in self._lines.values())
        return None if self.verdict_problem else next(filter(None, problems), None)

    @property
    def problem(self) -> str | None:
        """The worse of both."""
        return self.verdict_problem or self.record_problem

    @property
    def heartbeats(self) -> int:
        """Of the dialect that has sent the most."""
        return max(line.heartbeats for line in self._lines.values())

    @property
    def backlog(self) -> int:
        """Of the dialect that has the most to deliver."""
        return max(line.backlog for line in self._lines.values())

    def start(self) -> None:
        """Start all of them."""
        self._each("start", lambda line: line.start())

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for all of them, together at most timeout_s."""
        end_s = time.monotonic() + timeout_s
        return all(
            line.wait_connected(max(0.0, end_s - time.monotonic())) for line in self._lines.values()
        )

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """Tell all of them; whether it left to any PLC."""
        left = self._each("verdict", lambda line: line.publish_verdict(fields, deadline_mono_ns))
        return any(left.values())

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """Tell the one whose PLC has asked."""
        self._only(reply.dialect, "acknowledge", lambda line: line.acknowledge(ack, reply))

    def answer(
        self, fields: Mapping[str, Any], deadline_mono_ns: int, completed_mono_ns: int, reply: Reply
    ) -> bool:
        """Tell the one whose PLC has asked, then the others; whether it left to the first."""
        left = {}
        for name in sorted(self._lines, key=lambda name: name != reply.dialect):
            to = reply if name == reply.dialect else dataclasses.replace(NO_REPLY, dialect=name)

            def tell(line: Line, to: Reply = to) -> bool:
                return line.answer(fields, deadline_mono_ns, completed_mono_ns, to)

            left[name] = self._only(name, "answer", tell)
        return bool(left.get(reply.dialect))

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """Tell the one that has brought the command."""
        self._only(reply.dialect, "command", lambda line: line.answer_command(answer, reply))

    def records_waiting(self) -> None:
        """Wake all of them."""
        self._each("records", lambda line: line.records_waiting())

    def state_changed(self) -> None:
        """Let all of them publish the state."""
        self._each("state", lambda line: line.state_changed())

    def stop(self) -> None:
        """Stop all of them at once: a station that ends has no time for one after the other."""
        stops = [
            threading.Thread(
                target=self._only, args=(name, "stop", lambda line: line.stop()), daemon=True
            )
            for name in self._lines
        ]
        for one in stops:
            one.start()
        end_s = time.monotonic() + STOP_S
        for one in stops:
            one.join(max(0.0, end_s - time.monotonic()))

    def _each(self, what: str, call: Callable[[Line], Any]) -> dict[str, Any]:
        return {name: self._only(name, what, call) for name in self._lines}

    def _only(self, name: str, what: str, call: Callable[[Line], Any]) -> Any:
        """What the dialect of that name returns; None if it raises, which the others outlive."""
        line = self._lines.get(name)
        if line is None:
            return None
        try:
            returned = call(line)
        except Exception as error:
            log.debug("%s: %s", name, what, exc_info=True)
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            sentence = f"{name}: `{what}` of the dialect failed ({why}): report it"
            self._broken[name].happened(sentence, what, cause=what)
            return None
        self._broken[name].ended(what)
        return returned


def _stop(line: Line) -> None:
    line.stop()
