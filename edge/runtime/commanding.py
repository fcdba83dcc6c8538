"""From a command to its answer: carried out once, one at a time, answered once, audited.

    dialect's thread   hear: a repeat, or the next one to be carried out, or a refusal; never waits
    commands thread    edge/runtime/command_acts.py carries it out; audit table; answer

A repeat has the same id within a minute, or is a packet that is marked as sent before (DUP), and
gets the same answer.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from edge.background import keep_running
from edge.errors import BusyError, EdgeError, StorageError
from edge.line.base import Line
from edge.line.commands import Command, CommandAnswer, Commanded, CommandRefusal, Unreadable
from edge.line.inbound import Reply
from edge.runtime.audit_rows import AuditRows, RowLimit
from edge.sections import CommandsConfig
from edge.station.audit import append_audit

log = logging.getLogger(__name__)

ACT = "command"  # rows of the audit table
PASS_S = 0.1
REPEAT_S = 60.0  # in which the same id is the same command
REMEMBERED = 60  # commands; with more in this time the next is refused
REPLIES = 8  # repeats of one command that get its answer
REFUSED_ROWS, REFUSED_ROWS_S = 60, 3600.0
RESULT_CHARS = 400  # of a sentence in a row

Act = Callable[[Command, str], str]


class Refused(EdgeError):
    """A command is not carried out. reason: which of the closed list."""

    def __init__(self, reason: CommandRefusal, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(eq=False)
class Case:
    """A command and what is known of it. answer: None while it is at work."""

    commanded: Commanded
    command: Command
    until_s: float
    replies: list[Reply] = field(default_factory=list)
    answer: CommandAnswer | None = None


class Commanding:
    """The commands of a running station. Thread-safe."""

    def __init__(
        self, config: CommandsConfig, root: Path, line: Line, carry_out: Act, rows: AuditRows
    ) -> None:
        """Nothing is started before start().

        Args:
            root: of the station. carry_out: does it, in the thread of the commands; given who has
                asked; returns a sentence, or raises Refused or another EdgeError. rows: of what is
                refused at once.
        """
        self._allowed: Collection[str] = config.allow
        self._root, self._line, self._carry_out, self._rows = root, line, carry_out, rows
        self._lock = threading.Lock()  # guards what follows
        self._cases: list[Case] = []  # of the last minute
        self._at_work: Case | None = None
        self._limit = RowLimit(REFUSED_ROWS, REFUSED_ROWS_S)
        self._jobs: queue.Queue[Case] = queue.Queue()  # never more than one: _at_work
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=keep_running, args=(log, self._work, self._stopping), name="commands",
            daemon=True,
        )  # fmt: skip

    def start(self) -> None:
        """Carry out what comes."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Carry out no more; what is at work is waited for so long."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # --- the dialect's thread ---

    def hear(self, commanded: Commanded) -> None:
        """A command has arrived. Waits for nothing."""
        command = commanded.command
        if isinstance(command, Unreadable):
            answer = CommandAnswer(
                command.do, commanded.who, command.why, CommandRefusal.BAD_REQUEST, command.field,
                command.id,
            )  # fmt: skip
            self._refuse(answer, commanded)
        elif (why := self._find_prohibition(command, commanded)) is not None:
            self._refuse(_refusal(commanded, command, CommandRefusal.NOT_ALLOWED, why), commanded)
        else:
            self._take(command, commanded)

    def _find_prohibition(self, command: Command, commanded: Commanded) -> str | None:
        if not commanded.is_authenticated:
            return "this connection is not authenticated"
        if command.verb.value not in self._allowed:
            return f"`allow` in [commands] of station.toml does not name {command.verb.value}"
        return None

    def _take(self, command: Command, commanded: Commanded) -> None:
        with self._lock:
            now_s = time.monotonic()
            self._cases = [one for one in self._cases if one.until_s > now_s or one.answer is None]
            known = self._find_repeated(command, commanded)
            if known is not None and known.answer is None:
                known.replies = [*known.replies, commanded.reply][:REPLIES]
                return
            is_free = self._at_work is None and len(self._cases) < REMEMBERED
            case = Case(commanded, command, now_s + REPEAT_S, [commanded.reply])
            if known is None and is_free:
                self._cases.append(case)
                self._at_work = case
        if known is not None and known.answer is not None:
            self._repeat(known.answer, known, command, commanded)
        elif is_free:
            self._jobs.put(case)
        else:
            why = "another command is at work: send this one again after its answer"
            self._refuse(_refusal(commanded, command, CommandRefusal.BUSY, why), commanded)

    def _find_repeated(self, command: Command, commanded: Commanded) -> Case | None:
        """The one that this repeats. Without an id, only what is marked as sent before."""
        same = (one for one in self._cases if one.commanded.reply.dialect == _dialect(commanded))
        if command.id:
            return next((one for one in same if one.command.id == command.id), None)
        return next((one for one in same if commanded.is_dup and one.command == command), None)

    def _repeat(
        self, answer: CommandAnswer, known: Case, command: Command, commanded: Commanded
    ) -> None:
        if known.command == command:
            self._line.answer_command(answer, commanded.reply)
            return
        why = f"another command had this id less than {REPEAT_S:g} s ago"
        refused = _refusal(commanded, command, CommandRefusal.BAD_REQUEST, why, "id")
        self._refuse(refused, commanded)

    def _refuse(self, answer: CommandAnswer, commanded: Commanded) -> None:
        """At once: the answer, and a row soon."""
        with self._lock:
            row = self._limit.limited(_row(answer, commanded))
        if row is not None:
            self._rows.put(ACT, row, answer.who)
        self._line.answer_command(answer, commanded.reply)

    # --- the commands thread ---

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                case = self._jobs.get(timeout=PASS_S)
            except queue.Empty:
                continue
            self._finish(case, self._carried_out(case))

    def _carried_out(self, case: Case) -> CommandAnswer:
        commanded, command = case.commanded, case.command
        try:
            result = self._carry_out(command, commanded.who)
        except Refused as refused:
            return _refusal(commanded, command, refused.reason, str(refused))
        except BusyError as error:  # somebody at the station changes something
            return _refusal(commanded, command, CommandRefusal.BUSY, str(error))
        except EdgeError as error:
            return _refusal(commanded, command, CommandRefusal.FAILED, str(error))
        except Exception as error:  # the PLC waits for an answer
            log.exception("the command %s failed: report this", command.verb.value)
            why = f"{type(error).__name__}, the log has the traceback: report it"
            return _refusal(commanded, command, CommandRefusal.FAILED, why)
        return CommandAnswer(command.verb.value, commanded.who, result, id=command.id)

    def _finish(self, case: Case, answer: CommandAnswer) -> None:
        """On disk first, then told."""
        try:
            append_audit(self._root, ACT, _row(answer, case.commanded), answer.who)
        except StorageError as error:
            log.error("the audit table has no row for %s: %s", answer, error)
        with self._lock:
            case.answer, self._at_work = answer, None
            case.until_s = time.monotonic() + REPEAT_S
            replies = case.replies
        log.info(
            "command=%s who=%s reason=%s result=%s",
            answer.verb,
            answer.who,
            None if answer.reason is None else answer.reason.value,
            answer.result,
        )
        for reply in replies:
            self._line.answer_command(answer, reply)


def _dialect(commanded: Commanded) -> str:
    return commanded.reply.dialect


def _refusal(
    commanded: Commanded, command: Command, reason: CommandRefusal, why: str, field: str = ""
) -> CommandAnswer:
    return CommandAnswer(command.verb.value, commanded.who, why, reason, field, command.id)


def _row(answer: CommandAnswer, commanded: Commanded) -> dict[str, object]:
    command = commanded.command
    asked = command.as_fields() if isinstance(command, Command) else {"do": answer.verb}
    reason = {} if answer.reason is None else {"reason": answer.reason.value}
    done = answer.reason is None
    return {**asked, "done": done, **reason, "result": answer.result[:RESULT_CHARS]}
