"""The PLC's end of Modbus TCP (docs/modbus.md): one connection, on which it polls all that the
station tells and writes its triggers in between.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence

from edge.dialect_sections import ModbusConfig
from edge.errors import ConfigError, EdgeError
from edge.line.inbound import Refusal, TriggerRequest
from edge.line.modbus_map import (
    FREE_RUN,
    REASONS,
    REFUSALS,
    TELLS_END,
    TELLS_START,
    WORD_LIMIT,
    Asks,
    Has,
    Mode,
    Status,
    Table,
    Tells,
)
from edge.line.modbus_wire import HEADER_BYTES, frame_of, header_of
from edge.simulate.link import Acked, Event, Hearing, Readiness, StationAddress, Told

POLL_S = 0.002
ANSWER_S = 1.0  # a station that answers no request for this long is lost
AGAIN_S = 1.0  # between two tries to connect
READ, WRITE = 3, 16  # functions
COUNT = TELLS_END - TELLS_START  # registers of a poll
KEPT = 100  # triggers whose answer may still come
REFUSAL_NAMES: Mapping[int, str] = {
    **{number: refusal.value for refusal, number in REFUSALS.items()},
    FREE_RUN: Refusal.NOT_READY.value,
}
REASON_NAMES: Mapping[int, str] = {number: reason.value for reason, number in REASONS.items()}


class Lost(Exception):
    """The connection is of no use any more."""


class ModbusPlc(Hearing):
    """A PLC as one Modbus TCP client, which takes verdicts one by one. See PlcLink."""

    def __init__(self, host: str, config: ModbusConfig) -> None:
        """host: of the station. config: its [modbus]."""
        super().__init__()
        self._host, self._config = host, config
        self._lock = threading.Lock()  # guards what follows, and what is sent
        self._socket: socket.socket | None = None  # None while not connected
        self._word = 0
        self._asked: dict[int, tuple[str, int | None]] = {}  # by the word of the trigger
        self._seen: Table | None = None  # belongs to the polling thread, as the rest
        self._told_seq: int | None = None  # of the last verdict, over all connections
        self._acked_word = 0  # of the last answer to a trigger, likewise
        self._why = "nothing was tried yet"
        self._closing, self._polls = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="modbus plc", daemon=True)

    def connect(self, timeout_s: float) -> None:
        """As PlcLink's."""
        self._thread.start()
        if not self._polls.wait(timeout_s):
            self.close()
            raise EdgeError(
                f"Modbus at {self._host}:{self._config.port} is not polled within {timeout_s:g} s:"
                f" {self._why}; is the station running, and this machine in its allow list?"
            )

    def trigger(self, request: TriggerRequest) -> bool:
        """As PlcLink's: part and word in one request."""
        with self._lock:
            if self._socket is None:
                return False
            word = self._word % WORD_LIMIT + 1
            table = Table.empty(self._config.word_swap)
            for field, value in (
                (Asks.TRIGGER, word),
                (Asks.PART, request.part),
                (Asks.N, request.n or 0),
                (Asks.DEADLINE_MS, request.deadline_ms),
                (Asks.DELAY_MS, request.delay_ms),
                (Asks.FRAMES, request.frames),
                (Asks.ENC, request.enc or 0),
                (Asks.ANSWER_MS, request.answer_ms),
            ):
                table.put(field, value)
            self._word = word  # even of one that may not have left: it may have arrived
            try:
                self._write(self._socket, 0, table.words[: Asks.ANSWER_MS.end])
            except OSError:
                return False
            self._asked[word] = (request.part, request.n)
            for old in list(self._asked)[:-KEPT]:
                del self._asked[old]
        return True

    def close(self) -> None:
        """As PlcLink's."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2 * ANSWER_S)

    # --- the polling thread ---

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connected() as connection:
                    self._poll(connection)
            except (OSError, Lost) as error:
                self._why = " ".join(str(error).split()) or type(error).__name__
            self._lose()
            self._closing.wait(AGAIN_S)

    def _connected(self) -> socket.socket:
        connection = socket.create_connection((self._host, self._config.port), ANSWER_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _poll(self, connection: socket.socket) -> None:
        """Until it is lost. A station that was started again gets the word of the last trigger
        first, which is none then. One that was not must not: what this PLC has sent on a connection
        that was lost may arrive behind it, and the word would trigger the part before.
        """
        with self._lock:
            self._write(connection, Asks.MODE.address, [Mode.ONE_BY_ONE])
        self._seen = None
        while not self._closing.is_set():
            begun_s = time.monotonic()
            with self._lock:
                connection.sendall(self._request(READ, struct.pack(">HH", TELLS_START, COUNT)))
            told = self._hear(connection)
            if Status.ARMED not in Status(told.get(Tells.STATUS)):
                with self._lock:
                    self._write(connection, Asks.TRIGGER.address, [self._word])
                self._closing.wait(POLL_S)
                continue
            self._take(connection, told)
            if not self._polls.is_set():
                with self._lock:
                    self._socket = connection
                self._polls.set()
            self._closing.wait(max(0.0, begun_s + POLL_S - time.monotonic()))

    def _hear(self, connection: socket.socket) -> Table:
        """The answer to the poll; those to what was written in between are passed over."""
        while True:
            header = header_of(_received(connection, HEADER_BYTES))
            if header is None:
                raise Lost("what answers is no Modbus TCP")
            answer = _received(connection, header[1])
            if answer[0] == READ:
                words = struct.unpack(f">{COUNT}H", answer[2:])
                return Table([0] * TELLS_START + list(words), self._config.word_swap)
            if answer[0] != WRITE:
                raise Lost(f"the station answers with exception {answer[1]}")

    def _take(self, connection: socket.socket, told: Table) -> None:
        """What is new since the last poll; of what was before the first one of a connection, only
        what this PLC waits for.
        """
        at_s, seen, self._seen = time.monotonic(), self._seen, told
        found: list[Event] = self._missed(told, at_s) if seen is None else []
        seen = seen or told
        if told.get(Tells.HEARTBEAT) != seen.get(Tells.HEARTBEAT):
            found.append(Readiness(Status.READY in Status(told.get(Tells.STATUS)), at_s))
        if told.get(Tells.TRIGGER_ANSWERS) != seen.get(Tells.TRIGGER_ANSWERS):
            found += self._acked(told, at_s)
        if told.get(Tells.RESULT) != seen.get(Tells.RESULT) and told.get(Tells.VALID):
            found.append(_told(told, at_s))
        self._told_seq = next((one.seq for one in found if isinstance(one, Told)), self._told_seq)
        self._acknowledge(connection, told)
        self.note(*found)

    def _missed(self, told: Table, at_s: float) -> list[Event]:
        """Answer and verdict that came while the connection was away."""
        with self._lock:
            asked, word = set(self._asked.values()), self._word
        found: list[Event] = []
        is_answer = told.get(Tells.TRIGGER_SEQ) or told.get(Tells.TRIGGER_REFUSAL)
        if is_answer and told.get(Tells.TRIGGER) == word != self._acked_word:
            found += self._acked(told, at_s)
        verdict = _told(told, at_s)
        if told.get(Tells.VALID) and verdict.seq != self._told_seq:
            found += [verdict] if (verdict.part, verdict.n) in asked else []
        return found

    def _acked(self, told: Table, at_s: float) -> Sequence[Acked]:
        with self._lock:
            asked = self._asked.get(told.get(Tells.TRIGGER))
        if asked is None:
            return ()  # another client's
        self._acked_word = told.get(Tells.TRIGGER)
        refusal, seq = told.get(Tells.TRIGGER_REFUSAL), told.get(Tells.TRIGGER_SEQ)
        reason = REFUSAL_NAMES.get(refusal, f"refusal {refusal}") if refusal else ""
        return (Acked(*asked, not refusal, reason, None if refusal else seq, at_s),)

    def _acknowledge(self, connection: socket.socket, told: Table) -> None:
        """The verdict is taken: the next one may be shown."""
        if told.get(Tells.VALID):
            with self._lock:
                self._write(connection, Asks.ACK.address, [told.get(Tells.RESULT)])

    def _lose(self) -> None:
        with self._lock:
            was_connected, self._socket = self._socket is not None, None
            if was_connected and not self._closing.is_set():
                self.note(Readiness(False, time.monotonic()))
        self._polls.clear()

    def _write(self, connection: socket.socket, address: int, words: Sequence[int]) -> None:
        """Under the lock: a request is sent as a whole."""
        count = len(words)
        data = struct.pack(f">HHB{count}H", address, count, 2 * count, *words)
        connection.sendall(self._request(WRITE, data))

    def _request(self, function: int, data: bytes) -> bytes:
        return frame_of(0, self._config.unit_id, bytes((function,)) + data)


def make_link(station: StationAddress) -> ModbusPlc:
    """The PLC for the address of this station. Raises: ConfigError."""
    config = station.config.modbus
    if not config.enabled and station.host is None:
        raise ConfigError(
            "enabled is false in [modbus] of station.toml: this station has no Modbus TCP; name"
            " another --dialect"
        )
    if station.port is not None:
        config = config.model_copy(update={"port": station.port})
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return ModbusPlc(station.host or everywhere.get(config.host, config.host), config)


def _received(connection: socket.socket, count: int) -> bytes:
    """Exactly so many bytes. Raises: Lost, OSError."""
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise Lost("the station has closed the connection")
        found += more
    return found


def _told(told: Table, at_s: float) -> Told:
    has = Has(told.get(Tells.HAS))
    reason = told.get(Tells.REASON)
    return Told(
        told.get(Tells.PART),
        told.get(Tells.N) if Has.N in has else None,
        told.get(Tells.SEQ),
        told.get(Tells.CODE),
        REASON_NAMES.get(reason, f"reason {reason}"),
        at_s,
    )
