"""The registers of one station between its threads and its Modbus clients.

Whatever changes, changes under one lock and in one go, and a request is answered under the same
lock: what one request reads belongs together. The PLC's values are kept over its reconnections;
after a start of the station the first word in a toggle register is only noted, so that a word from
before the start is no trigger.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.line.message import MS_LIMIT
from edge.line.modbus_map import (
    ASKS_END,
    MAP_VERSION,
    STATES,
    TELLS_END,
    TELLS_START,
    WORD_LIMIT,
    Asks,
    Field,
    Has,
    Mode,
    Status,
    Table,
    Tells,
    number_of_reason,
    trigger_fields,
)
from edge.line.modbus_results import ResultCounts, Results, Shown

NS = 1e9


@dataclass(frozen=True)
class TriggerEdge:
    """The PLC has changed the trigger word. fields: as inbound.checked_trigger takes them."""

    word: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class CommandEdge:
    """The PLC has changed the command word. verb, argument: the numbers beside it."""

    word: int
    verb: int
    argument: int


@dataclass(frozen=True)
class Edges:
    """What one write has begun."""

    trigger: TriggerEdge | None = None
    command: CommandEdge | None = None


@dataclass(frozen=True)
class Condition:
    """What the station says of itself, in the words of the map.

    state, reason: as in edge.line.message.StationState. counts: by their field.
    """

    state: str
    reason: str
    ready: bool
    busy: bool
    heartbeat: int
    counts: Mapping[Field, int]


class Board:
    """See the top of this file. Thread-safe; no method waits for anything but another one."""

    def __init__(self, is_swapped: bool, is_triggered: bool, first_result: int) -> None:
        """is_swapped: the low word of two comes first. first_result: see Results."""
        self._lock = threading.Lock()
        self._table = Table.empty(is_swapped)
        self._results = Results(first_result)
        self._is_triggered = is_triggered
        self._status = Status.TRIGGERED if is_triggered else Status(0)
        self._toggles: dict[Field, int] = {}  # the word that was noted last
        self._overrun_told = 0
        self._polled_ns: int | None = None
        self._beaten_ns: int | None = None  # None while the PLC's heartbeat is not watched
        self._table.put(Tells.MAP, MAP_VERSION)

    def counts(self) -> ResultCounts:
        """What became of the verdicts since the start."""
        with self._lock:
            return replace(self._results.counts)

    @property
    def is_drained(self) -> bool:
        """Whether every verdict that may be acted on was read."""
        with self._lock:
            return self._results.is_drained

    def unpolled_s(self, now_ns: int) -> float | None:
        """Since a client has read what the station writes; None if none ever has."""
        with self._lock:
            return None if self._polled_ns is None else (now_ns - self._polled_ns) / NS

    def unbeaten_s(self, now_ns: int) -> float | None:
        """Since the PLC's heartbeat has changed; None if it is not to be watched."""
        with self._lock:
            return None if self._beaten_ns is None else (now_ns - self._beaten_ns) / NS

    # --- requests of a client ---

    def read(self, address: int, count: int, now_ns: int) -> list[int] | None:
        """So many registers, all of one moment; None if one of them does not exist."""
        end = address + count
        if not (end <= ASKS_END or TELLS_START <= address < end <= TELLS_END):
            return None
        with self._lock:
            if address >= TELLS_START:
                self._polled_ns = now_ns
                self._advance(now_ns)
                if address <= Tells.CODE.address < end:
                    self._results.note_read()
            return list(self._table.words[address:end])

    def write(self, address: int, words: Sequence[int], now_ns: int) -> Edges | None:
        """Take all of these words, then see what has changed; None if one of the registers does not
        exist or belongs to the station: then none is written.
        """
        end = address + len(words)
        if end > ASKS_END:
            return None
        with self._lock:
            beat = self._table.get(Asks.HEARTBEAT)
            self._table.words[address:end] = words
            self._watch_beat(beat, now_ns)
            if address <= Asks.ACK.address < end:
                self._acknowledge(now_ns)
            return Edges(self._trigger_edge(address, end), self._command_edge(address, end))

    # --- the station's threads ---

    def show(self, shown: Shown, now_ns: int) -> None:
        """A verdict was given: show it, or let it wait for its turn."""
        with self._lock:
            self._advance(now_ns)
            one_by_one = Mode.ONE_BY_ONE in Mode(self._table.get(Asks.MODE))
            self._write_result(self._results.add(shown, one_by_one, now_ns), now_ns)
            self._write_status()

    def answer_trigger(self, word: int, refusal: int, wrong: int = 0, seq: int = 0) -> None:
        """The trigger of this word is accepted (refusal 0), or it is not."""
        with self._lock:
            self._set(Status.REFUSED, refusal != 0)
            told = (
                (Tells.TRIGGER_SEQ, seq),
                (Tells.TRIGGER_REFUSAL, refusal),
                (Tells.TRIGGER_WRONG, wrong),
                (Tells.TRIGGER_ANSWERS, self._table.get(Tells.TRIGGER_ANSWERS) + 1),
                (Tells.TRIGGER, word),
            )
            for field, value in told:
                self._table.put(field, value)
            self._write_status()

    def answer_command(self, word: int, refusal: int) -> None:
        """The command of this word was carried out (refusal 0), or it was not."""
        with self._lock:
            self._table.put(Tells.COMMAND_REFUSAL, refusal)
            answers = self._table.get(Tells.COMMAND_ANSWERS) + 1
            self._table.put(Tells.COMMAND_ANSWERS, answers)
            self._table.put(Tells.COMMAND, word)

    def describe(self, condition: Condition) -> None:
        """The state of the station, its heartbeat and its counters."""
        with self._lock:
            self._set(Status.READY, condition.ready)
            self._set(Status.BUSY, condition.busy)
            self._set(Status.FAULT, condition.state == "fault")
            self._table.put(Tells.HEARTBEAT, condition.heartbeat)
            self._table.put(Tells.STATE, STATES.get(condition.state, 0))
            self._table.put(Tells.STATE_REASON, number_of_reason(condition.reason))
            for field, value in condition.counts.items():
                self._table.put(field, value)
            self._write_status()

    # --- under the lock ---

    def _advance(self, now_ns: int) -> None:
        """What is shown may be over, and another verdict wait."""
        self._results.expire(now_ns)
        self._write_result(self._results.next(now_ns), now_ns)
        self._write_status()

    def _acknowledge(self, now_ns: int) -> None:
        was_shown = self._results.current
        self._results.acknowledge(self._table.get(Asks.ACK))
        if was_shown is not None and self._results.current is None:
            self._overrun_told = self._results.counts.overrun
        self._advance(now_ns)

    def _watch_beat(self, before: int, now_ns: int) -> None:
        is_watched = Mode.HEARTBEAT in Mode(self._table.get(Asks.MODE))
        has_beaten = self._table.get(Asks.HEARTBEAT) != before
        if not is_watched:
            self._beaten_ns = None
        elif has_beaten or self._beaten_ns is None:
            self._beaten_ns = now_ns

    def _trigger_edge(self, address: int, end: int) -> TriggerEdge | None:
        word = self._edge(Asks.TRIGGER, Tells.TRIGGER, address, end)
        return None if word is None else TriggerEdge(word, trigger_fields(self._table))

    def _command_edge(self, address: int, end: int) -> CommandEdge | None:
        word = self._edge(Asks.COMMAND, Tells.COMMAND, address, end)
        if word is None:
            return None
        return CommandEdge(word, self._table.get(Asks.VERB), self._table.get(Asks.ARGUMENT))

    def _edge(self, toggle: Field, answer: Field, address: int, end: int) -> int | None:
        """The word of a toggle register if this write has changed it. The first one since the start
        is noted, and shown as answered, so that the PLC sees that nothing is open.
        """
        if not address <= toggle.address < end:
            return None
        word: int = self._table.get(toggle)
        before = self._toggles.get(toggle)
        self._toggles[toggle] = word
        if before is None:
            self._table.put(answer, word)
            self._write_status()
        return None if before is None or before == word else word

    def _write_result(self, shown: Shown | None, now_ns: int) -> None:
        """The words of a verdict; its validity is written last."""
        if shown is None:
            return
        fields, table = shown.fields, self._table
        has = Has(0)
        for key, field, flag in (
            ("score", Tells.SCORE, Has.SCORE),
            ("thr", Tells.THRESHOLD, Has.THRESHOLD),
            ("n", Tells.N, Has.N),
            ("enc", Tells.ENC, Has.ENC),
        ):
            value = fields.get(key)
            table.put(field, 0 if value is None else value)
            has |= Has(0) if value is None else flag
        ms = min(max(round((now_ns - shown.completed_ns) / 1e6), 0), MS_LIMIT)
        for field, value in (
            (Tells.RESULT, self._results.number),
            (Tells.CODE, fields["code"]),
            (Tells.REASON, number_of_reason(fields["reason"])),
            (Tells.HAS, has),
            (Tells.SEQ, fields["seq"]),
            (Tells.MS, ms),
            (Tells.PART, fields["part"]),
            (Tells.RESULT_AGAIN, self._results.number),
        ):
            table.put(field, value)

    def _write_status(self) -> None:
        results = self._results
        is_valid = results.current is not None
        is_armed = Asks.TRIGGER in self._toggles
        self._set(Status.VALID, is_valid)
        self._set(Status.ARMED, is_armed)
        self._set(Status.OVERRUN, results.counts.overrun > self._overrun_told)
        told = self._status
        if self._is_triggered and not is_armed:
            told &= ~Status.READY
        self._table.put(Tells.OVERRUN, results.counts.overrun)
        self._table.put(Tells.STATUS, told & WORD_LIMIT)
        self._table.put(Tells.VALID, is_valid)

    def _set(self, bit: Status, is_on: bool) -> None:
        self._status = self._status | bit if is_on else self._status & ~bit
