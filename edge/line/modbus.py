"""The line over Modbus TCP: the station is the server, the PLC polls its registers and writes into
its own.

edge/line/modbus_map.py says where each value lies, edge/line/modbus_board.py keeps them, and
edge/line/modbus_server.py answers the clients. A second thread here watches over both: it brings
the state of the station into the registers, notices a PLC that has stopped to poll, and starts the
server again if it has ended.
"""

from __future__ import annotations

import logging
import secrets
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.background import keep_running
from edge.dialect_sections import ModbusConfig
from edge.line.base import LineSetup
from edge.line.commands import Command, CommandAnswer, Commanded, CommandRefusal, Verb
from edge.line.inbound import Ack, Asked, BadRequest, Refusal, Reply, checked_trigger
from edge.line.message import StateDetails, StationState
from edge.line.modbus_board import Board, CommandEdge, Condition, TriggerEdge
from edge.line.modbus_map import (
    COMMAND_REFUSALS,
    FREE_RUN,
    KEYS,
    OTHER,
    REFUSALS,
    VERBS,
    WORD_LIMIT,
    Field,
    Tells,
)
from edge.line.modbus_results import Shown
from edge.line.modbus_server import ModbusServer
from edge.line.quiet import QuietLine
from edge.trouble import Trouble

log = logging.getLogger(__name__)

NAME = "modbus"
POLL_S = 3.0  # a PLC that has not read for this long would get no verdict
BEAT_S = 3.0  # nor one whose heartbeat has stopped, where it has one
PASS_S = 0.1
RETRY_S = 1.0  # from the end of the server to the next one
LAST_S = 0.3  # at the end: for the PLC to read the last verdicts
END_S = 0.5


class ModbusLine(QuietLine):
    """The registers of a station and their server. See edge.line.base.Line."""

    tells_plc = True

    def __init__(
        self,
        config: ModbusConfig,
        state: Callable[[], StationState],
        is_ready: Callable[[], bool],
        changed: Callable[[], None],
        triggered: Callable[[Asked], None] | None = None,
        commanded: Callable[[Commanded], None] | None = None,
        period_ms: float = 1e3 / 30,
        deadline_s: float = 2.0,
        first_result: int | None = None,
    ) -> None:
        """Prepare; nothing listens before start().

        Args:
            state, is_ready, changed, triggered, commanded: as in LineSetup.
            period_ms: of the camera's frames.
            deadline_s: of a part in free run, from the capture of the frame that completed it.
            first_result: see edge.line.modbus_results.Results; None: any.
        """
        super().__init__()
        self._config, self._state = config, state
        self._is_ready, self._changed = is_ready, changed
        self._triggered = triggered
        self._commanded = commanded if config.commands else None
        self._period_ms, self._deadline_s = period_ms, deadline_s
        first = first_result or secrets.randbelow(WORD_LIMIT) + 1
        self.board = Board(config.word_swap, triggered is not None, first)
        self._server = self._new_server()
        self._ended_s: float | None = None  # when the end of the server was noticed
        self._started_s = time.monotonic()
        self._unsent = 0  # guarded by _counting, as the counters
        self._counting = threading.Lock()
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._unread = Trouble(log, "triggers over Modbus can be read again")
        self._unheard = Trouble(log, f"Modbus at {config.host}:{config.port} works again")
        self.verdict_problem = self.problem = self._server.problem
        self._watch = threading.Thread(
            target=keep_running,
            args=(log, self._watch_all, self._stopping),
            name="modbus watch",
            daemon=True,
        )

    # --- what the station calls ---

    @property
    def clients_refused(self) -> int:
        """Connections that were closed because their address is not allowed or has no place left,
        since the server has begun to listen.
        """
        return self._server.refused

    def start(self) -> None:
        """Listen."""
        self._server.start()
        self._watch.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until a client polls."""
        end_s = time.monotonic() + timeout_s
        while not self.is_connected and time.monotonic() < end_s:
            time.sleep(0.01)
        return self.is_connected

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """Show the verdict until its deadline, if a PLC polls; whether it is shown."""
        completed_ns = deadline_mono_ns - round(self._deadline_s * 1e9)
        return self._show(Shown(fields, deadline_mono_ns, completed_ns))

    def answer(
        self,
        fields: Mapping[str, Any],
        deadline_mono_ns: int,
        completed_mono_ns: int,
        reply: Reply,  # noqa: ARG002  # Line's signature: there is one place for all verdicts
    ) -> bool:
        """As publish_verdict, for a triggered part."""
        return self._show(Shown(fields, deadline_mono_ns, completed_mono_ns))

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """The answer beside the word of the trigger."""
        word = _word_of(reply)
        if ack.reason is None:
            self.board.answer_trigger(word, 0, seq=ack.seq or 0)
        else:
            self._refuse(word, REFUSALS.get(ack.reason, OTHER), ack.field)
        self._wake.set()

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """The answer beside the word of the command."""
        reason = answer.reason
        refusal = 0 if reason is None else COMMAND_REFUSALS.get(reason, OTHER)
        self.board.answer_command(_word_of(reply), refusal)
        self._wake.set()

    def state_changed(self) -> None:
        """Bring the state into the registers now."""
        self._wake.set()

    def stop(self) -> None:
        """Let a PLC that polls read the last verdicts, then close every connection."""
        end_s = time.monotonic() + LAST_S
        while self.is_connected and not self.board.is_drained and time.monotonic() < end_s:
            time.sleep(0.01)
        self._stopping.set()
        self._wake.set()
        if self._watch.is_alive():
            self._watch.join(END_S)
        self._server.stop(END_S)

    # --- what the clients do, in the server's thread ---

    def trigger(self, edge: TriggerEdge) -> None:
        """The PLC has changed the trigger word."""
        if self._triggered is None:
            self._refuse(edge.word, FREE_RUN)
            return
        try:
            request = checked_trigger(edge.fields, self._period_ms)
        except BadRequest as bad:
            self._unread.happened(f"a trigger over Modbus cannot be taken: {bad}", cause="bad")
            self._refuse(edge.word, REFUSALS[Refusal.BAD_REQUEST], bad.field)
            return
        self._unread.ended()
        self._triggered(Asked(request, reply=_reply_to(edge.word)))

    def command(self, edge: CommandEdge, who: str) -> None:
        """The PLC has changed the command word."""
        verb = VERBS.get(edge.verb)
        number = edge.argument if verb is Verb.SELECT else None
        if self._commanded is None:
            self.board.answer_command(edge.word, COMMAND_REFUSALS[CommandRefusal.NOT_ALLOWED])
        elif verb is None or number == 0:
            self.board.answer_command(edge.word, COMMAND_REFUSALS[CommandRefusal.BAD_REQUEST])
        else:
            command = Command(verb, number=number)
            reply = _reply_to(edge.word)
            self._commanded(Commanded(command, who, reply, is_authenticated=True))

    def note_poll(self) -> None:
        """A client has read."""
        if not self.is_connected:
            self._wake.set()

    # ---

    def _show(self, shown: Shown) -> bool:
        now_ns = time.monotonic_ns()
        if self.verdict_problem is not None or now_ns >= shown.deadline_ns:
            with self._counting:
                self._unsent += 1
            return False
        self.board.show(shown, now_ns)
        self._wake.set()
        return True

    def _refuse(self, word: int, refusal: int, field: str = "") -> None:
        with self._counting:
            self.counters.triggers_refused += 1
        wrong = KEYS[field].address if field in KEYS else 0
        self.board.answer_trigger(word, refusal, wrong)

    def _new_server(self) -> ModbusServer:
        config = self._config
        return ModbusServer(
            config.host,
            config.port,
            config.unit_id,
            config.allow,
            lambda address: ClientRegisters(self, f"modbus {address}"),
        )

    # --- its own thread ---

    def _watch_all(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._revive()
            self._note_problem()
            self._describe()
            self._wake.wait(PASS_S)

    def _revive(self) -> None:
        """Start another server a second after this one has ended."""
        if self._server.is_alive:
            return
        if self._ended_s is None:
            self._ended_s = time.monotonic()
        elif time.monotonic() - self._ended_s > RETRY_S:
            self._server, self._ended_s = self._new_server(), None
            self._server.start()

    def _note_problem(self) -> None:
        unpolled_s = self.board.unpolled_s(time.monotonic_ns())
        is_polled = unpolled_s is not None and unpolled_s < POLL_S
        found = self._find_problem(is_polled)
        self.is_connected = is_polled and self._server.is_alive
        if found == self.verdict_problem:
            return
        self.verdict_problem = self.problem = found
        if found is None:
            self._unheard.ended()
        else:
            self._unheard.happened(found)
        self._changed()

    def _find_problem(self, is_polled: bool) -> str | None:
        server, config = self._server, self._config
        if not server.is_alive:
            return server.problem or "the Modbus server has ended and starts again"
        if server.problem is not None:
            return self.verdict_problem or server.problem  # the last one, until it listens
        if not is_polled:
            return (
                f"no Modbus client has read registers {Tells.MAP.address} and up for"
                f" {POLL_S:.0f} s: let the PLC poll {config.host}:{config.port}, and see that allow"
                " in [modbus] has its address"
            )
        unbeaten_s = self.board.unbeaten_s(time.monotonic_ns())
        if unbeaten_s is not None and unbeaten_s > BEAT_S:
            return (
                f"the PLC's heartbeat over Modbus has stood still for {BEAT_S:.0f} s: is its"
                " program running?"
            )
        return None

    def _describe(self) -> None:
        state = self._state()
        self.heartbeats = int(time.monotonic() - self._started_s) + 1
        self._count()
        self.board.describe(
            Condition(
                state.state,
                state.reason,
                ready=self._is_ready() and self.verdict_problem is None,
                busy=state.details is not None and state.details.busy,
                heartbeat=self.heartbeats,
                counts=counts_of(state.details),
            )
        )

    def _count(self) -> None:
        found = self.board.counts()
        with self._counting:
            self.counters.verdicts_sent = found.read
            self.counters.verdicts_unsent = found.unread + self._unsent
            self.counters.verdicts_overrun = found.overrun


class ClientRegisters:
    """The registers as one client reads and writes them. See edge.line.modbus_wire.Registers."""

    def __init__(self, line: ModbusLine, who: str) -> None:
        """who: for the audit of commands."""
        self._line, self._who = line, who

    def read(self, address: int, count: int) -> Sequence[int] | None:
        """Of one moment."""
        words = self._line.board.read(address, count, time.monotonic_ns())
        if words is not None:
            self._line.note_poll()
        return words

    def write(self, address: int, words: Sequence[int]) -> bool:
        """Whatever this begins is handed on before the answer leaves."""
        edges = self._line.board.write(address, words, time.monotonic_ns())
        if edges is None:
            return False
        if edges.trigger is not None:
            self._line.trigger(edges.trigger)
        if edges.command is not None:
            self._line.command(edges.command, self._who)
        return True


def counts_of(details: StateDetails | None) -> dict[Field, int]:
    """The counters of the map, in the station's own numbers."""
    if details is None:
        return {}
    counts = {
        Tells.OK: details.ok,
        Tells.NG: details.ng,
        Tells.UNKNOWN: details.unknown,
        Tells.UNSENT: details.verdicts_unsent,
        Tells.PRODUCT: details.product_number or 0,
    }
    if details.triggers is not None:
        counts |= {
            Tells.ACCEPTED: details.triggers.accepted,
            Tells.REFUSED: details.triggers.refused,
            Tells.UNTRIGGERED: details.triggers.untriggered,
        }
    return counts


def _reply_to(word: int) -> Reply:
    return Reply(correlation=struct.pack(">H", word), dialect=NAME)


def _word_of(reply: Reply) -> int:
    """Of the toggle that is answered."""
    return int.from_bytes(reply.correlation or b"", "big")


def make_modbus_line(setup: LineSetup) -> ModbusLine:
    """For edge.line.factory: listens at the address of [modbus]."""
    config = setup.config
    return ModbusLine(
        config.modbus,
        setup.state,
        setup.is_ready,
        setup.changed,
        setup.triggered,
        setup.commanded,
        period_ms=1e3 / config.camera.fps,
        deadline_s=config.decision.deadline_ms / 1e3,
    )
