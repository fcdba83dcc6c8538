"""The line over OPC UA, as far as `edge run` has part in it.

The OPC UA server is a process of its own (`edge opcua`, edge/opcua), because its library alone
holds more memory than the whole station. It connects to a Unix socket in the station's run folder
and gets the state, acknowledgments and verdicts there; triggers and commands come back. If it
hangs, dies or was never started, no other dialect notices (edge/line/gateway.py).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge.line.base import LineSetup
from edge.line.commands import CommandAnswer, Commanded, CommandRefusal, read_command
from edge.line.gateway import Gateway
from edge.line.inbound import Ack, Asked, BadRequest, Refusal, Reply, read_trigger
from edge.line.json_lines import SOCKET, BadLine, line_of
from edge.line.quiet import QuietLine
from edge.trouble import Trouble

log = logging.getLogger(__name__)

NAME = "opcua"
ID_LIMIT = 64  # characters of the gateway's name for one trigger or command
NO_GATEWAY = (
    "no OPC UA gateway is connected: start edge-opcua.service, or `edge opcua` with the same --root"
)
NO_CLIENT = (
    "no OPC UA client is connected: connect the PLC to the endpoint in [opcua], or read the log of"
    " edge-opcua.service"
)
CLOSED = "commands are not taken by this station"


class OpcUaLine(QuietLine):
    """Hands everything to the gateway process. See edge.line.base.Line."""

    tells_plc = True

    def __init__(self, setup: LineSetup) -> None:
        """Nothing is opened before start()."""
        super().__init__()
        self._setup = setup
        self._period_ms = 1e3 / setup.config.camera.fps
        self._counting = threading.Lock()  # guards counters, _untold and _last
        self._untold: dict[int, None] = {}  # verdicts that the gateway has not told its clients
        self._last: bytes | None = None  # line of the last verdict, for a gateway that starts
        self._clients = 0
        self._unread = Trouble(log, "opcua: triggers can be read again")
        self._hearers: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "alive": self._hear_alive,
            "told": self._hear_told,
            "trigger": self._hear_trigger,
            "command": self._hear_command,
        }
        self._gateway = Gateway(setup.root / SOCKET, self._hear, self._beat, self._connect)

    @property
    def is_connected(self) -> bool:  # type: ignore[override]
        """Whether a client is connected to the gateway."""
        return self._gateway.is_connected and self._clients > 0

    @property
    def verdict_problem(self) -> str | None:  # type: ignore[override]
        """Why no verdict would reach an OPC UA client now; None if one would."""
        if not self._gateway.is_connected:
            return self._gateway.problem or NO_GATEWAY
        return None if self._clients else NO_CLIENT

    @property
    def problem(self) -> str | None:  # type: ignore[override]
        """The same: there are no records to deliver."""
        return self.verdict_problem

    def start(self) -> None:
        """Listen for the gateway."""
        self._gateway.start()

    def stop(self) -> None:
        """Tell the gateway that the station ends, and close the socket."""
        self._gateway.send(line_of("bye"))
        self._gateway.stop()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for a client of the gateway; False if that took longer."""
        end_s = time.monotonic() + timeout_s
        while not self.is_connected and time.monotonic() < end_s:
            time.sleep(0.02)
        return self.is_connected

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """The verdict to the gateway, if one is connected; returns whether it left to a client."""
        return self._tell(fields, deadline_mono_ns, "")

    def answer(
        self,
        fields: Mapping[str, Any],
        deadline_mono_ns: int,
        completed_mono_ns: int,  # noqa: ARG002  # Line's signature
        reply: Reply,
    ) -> bool:
        """The same for a part that was triggered, with the gateway's own name for the trigger."""
        return self._tell(fields, deadline_mono_ns, _id_of(reply))

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """The answer to a trigger. Does not wait."""
        with self._counting:
            self.counters.triggers_refused += ack.reason is not None
        self._gateway.send(
            line_of(
                "ack",
                id=_id_of(reply),
                part=ack.part,
                n=ack.n,
                seq=ack.seq,
                reason="" if ack.reason is None else ack.reason.value,
                field=ack.field,
            )
        )

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """What became of a command. Does not wait."""
        reason = "" if answer.reason is None else answer.reason.value
        self._gateway.send(line_of("answer", id=_id_of(reply), reason=reason, result=answer.result))

    def state_changed(self) -> None:
        """The state to the gateway now. Does not wait."""
        self._gateway.send(self._state_line())

    def _tell(self, fields: Mapping[str, Any], deadline_ns: int, name: str) -> bool:
        line = line_of("verdict", id=name, deadline_ns=deadline_ns, fields=dict(fields))
        seq, has_client = fields["seq"], self._clients > 0
        with self._counting:
            self._last = line_of("last", fields=dict(fields))
            self._untold[seq] = None
        is_queued = time.monotonic_ns() < deadline_ns and self._gateway.send(line, deadline_ns)
        if not is_queued:
            self._count_unsent(seq)
        return is_queued and has_client

    def _count_unsent(self, *seqs: int) -> None:
        with self._counting:
            for seq in seqs or tuple(self._untold):
                if seq in self._untold:
                    del self._untold[seq]
                    self.counters.verdicts_unsent += 1

    # --- the gateway's thread ---

    def _connect(self, is_connected: bool) -> None:
        self._clients = 0
        if is_connected:
            config = self._setup.config
            self._gateway.send(
                line_of(
                    "hello",
                    station=config.station.station,
                    mode=config.decision.mode,
                    deadline_ms=config.decision.deadline_ms,
                )
            )
            with self._counting:
                last = self._last
            if last is not None:
                self._gateway.send(last)
        else:
            self._count_unsent()
        self._setup.changed()

    def _beat(self) -> bytes:
        self.heartbeats += 1
        return self._state_line()

    def _state_line(self) -> bytes:
        state = self._setup.state()
        details = None if state.details is None else state.details.as_fields()
        return line_of(
            "state",
            beat=self.heartbeats,
            state=state.state,
            reason=state.reason,
            ready=self._setup.is_ready(),
            details=details,
        )

    def _hear(self, said: Mapping[str, Any]) -> None:
        """Raises: BadLine."""
        hearer = self._hearers.get(said["t"])
        if hearer is None:
            raise BadLine(f"a line of the unknown kind {said['t'][:ID_LIMIT]!r}")
        hearer(said)

    def _hear_alive(self, said: Mapping[str, Any]) -> None:
        clients = said.get("clients")
        if not isinstance(clients, int):
            raise BadLine("`alive` without the number of clients")
        before, self._clients = self._clients, clients
        if bool(before) != bool(clients):
            self._setup.changed()

    def _hear_told(self, said: Mapping[str, Any]) -> None:
        seq, in_time = said.get("seq"), said.get("in_time")
        if not isinstance(seq, int) or not isinstance(in_time, bool):
            raise BadLine("`told` without seq or in_time")
        if not in_time:
            self._count_unsent(seq)
            return
        with self._counting:
            if seq in self._untold:
                del self._untold[seq]
                self.counters.verdicts_sent += 1

    def _hear_trigger(self, said: Mapping[str, Any]) -> None:
        reply, request = _reply_to(said), said.get("request")
        try:
            asked = read_trigger(json.dumps(request).encode(), self._period_ms)
        except BadRequest as bad:
            self._unread.happened(f"opcua: a trigger cannot be taken: {bad}", cause="bad request")
            self.acknowledge(Ack(bad.part, bad.n, None, Refusal.BAD_REQUEST, bad.field), reply)
            return
        self._unread.ended()
        if self._setup.triggered is None:  # in free run
            self.acknowledge(Ack(asked.part, asked.n, None, Refusal.NOT_READY), reply)
        else:
            self._setup.triggered(Asked(asked, reply=reply))

    def _hear_command(self, said: Mapping[str, Any]) -> None:
        """The user has logged in at the gateway, which passes commands of operators on alone."""
        reply, who = _reply_to(said), said.get("who")
        if not isinstance(who, str):
            raise BadLine("a command without who")
        command = read_command(json.dumps(said.get("request")).encode()).command
        if self._setup.commanded is not None:
            self._setup.commanded(Commanded(command, who, reply, is_authenticated=True))
            return
        self.answer_command(CommandAnswer("", who, CLOSED, CommandRefusal.NOT_ALLOWED), reply)


def _id_of(reply: Reply) -> str:
    """The gateway's own name for what it has asked; empty for another dialect's."""
    return (reply.correlation or b"").decode("ascii") if reply.dialect == NAME else ""


def _reply_to(said: Mapping[str, Any]) -> Reply:
    """Raises: BadLine."""
    name = said.get("id")
    if not isinstance(name, str) or not name.isascii() or len(name) > ID_LIMIT:
        raise BadLine("a request without an id")
    return Reply(correlation=name.encode("ascii"), dialect=NAME)


def make_opcua_line(setup: LineSetup) -> OpcUaLine:
    """For edge.line.factory: waits for the process that [opcua] configures."""
    return OpcUaLine(setup)
