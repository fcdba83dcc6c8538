"""A Modbus client of the tests' own, on a plain socket: it sends the bytes that a test gives it."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from edge.dialect_sections import ModbusConfig
from edge.line.inbound import Ack, Asked
from edge.line.message import StationState
from edge.line.modbus import ModbusLine
from edge.line.modbus_map import TELLS_END, TELLS_START, Asks, Field, Table, words_of
from tests.support.broker import free_port, wait_until
from tests.support.patience import patience_s

ONLINE = StationState("cell7", "online", "", ready=True)


class ModbusClient:
    """One connection. Each method asks and waits for its answer, but `send` and `hear`."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(
            ("127.0.0.1", port), patience_s(2), source_address=(source, 0)
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self, size: int) -> bytes:
        """Exactly so many bytes; fewer if the station closes the connection."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while len(found) < size and (more := self._socket.recv(size - len(found))):
                found += more
        return found

    def is_closed(self) -> bool:
        """Waits until it is."""
        return self.hear(1) == b""

    def ask(self, request: bytes, unit: int = 1) -> bytes:
        """Function and data, and the same of the answer."""
        self.send(struct.pack(">HHHB", 7, 0, len(request) + 1, unit) + request)
        header = self.hear(7)
        transaction, protocol, length, answered = struct.unpack(">HHHB", header)
        assert (transaction, protocol, answered) == (7, 0, unit)
        return self.hear(length - 1)

    def read(self, address: int, count: int, function: int = 3) -> list[int]:
        answer = self.ask(struct.pack(">BHH", function, address, count))
        assert answer[:2] == bytes((function, 2 * count)), answer
        return list(struct.unpack(f">{count}H", answer[2:]))

    def write(self, address: int, words: Sequence[int]) -> None:
        count = len(words)
        request = struct.pack(f">BHHB{count}H", 16, address, count, 2 * count, *words)
        assert self.ask(request) == request[:5]

    def close(self) -> None:
        self._socket.close()


class ModbusPlc:
    """A PLC on one connection: writes what it asks for, and polls all that the station tells."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.client = ModbusClient(port)
        self.toggle = 0

    def connect(self) -> None:
        """Again."""
        self.client.close()
        self.client = ModbusClient(self.port)

    def arm(self) -> None:
        """The first word after the start of the station."""
        self.put(Asks.TRIGGER, self.toggle)

    def put(self, field: Field, value: Any) -> None:
        self.client.write(field.address, words_of(field.kind, value))

    def trigger(self, part: str, deadline_ms: int = 5000, **more: Any) -> int:
        """In one request; returns the word of the trigger."""
        self.toggle = self.toggle % 65535 + 1
        asked = {"PART": part, "DEADLINE_MS": deadline_ms, "N": 0, "DELAY_MS": 0, "FRAMES": 0}
        table = Table.empty()
        table.put(Asks.TRIGGER, self.toggle)
        for name, value in (asked | more).items():
            table.put(getattr(Asks, name), value)
        self.client.write(0, table.words[: Asks.ANSWER_MS.end])
        return self.toggle

    def poll(self) -> Table:
        words = self.client.read(TELLS_START, TELLS_END - TELLS_START)
        return Table([0] * TELLS_START + words)

    def get(self, field: Field) -> Any:
        return self.poll().get(field)

    def wait(self, field: Field, value: Any, quiet_s: float = 10) -> Table:
        """Poll until a register has this value."""
        found = [self.poll()]

        def has_come() -> bool:
            found[0] = self.poll()
            return bool(found[0].get(field) == value)

        wait_until(has_come, quiet_s, f"register {field.address} is never {value}")
        return found[0]

    def close(self) -> None:
        self.client.close()


class StandInStation:
    """What a line talks to: accepts each trigger, with a number, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.commanded: list[Any] = []
        self.changes = 0
        self.state = ONLINE
        self.line: ModbusLine | None = None

    def hear(self, asked: Asked) -> None:
        assert self.line is not None
        self.asked.append(asked)
        ack = Ack(asked.request.part, asked.request.n, len(self.asked))
        self.line.acknowledge(ack, asked.reply)

    def note(self) -> None:
        self.changes += 1


def verdict(seq: int, part: str = "A17", code: int = 1, **more: Any) -> dict[str, Any]:
    """The fields of a record that the registers show."""
    reason = {1: "normal", 2: "anomaly", 3: "late"}[code]
    told = {"seq": seq, "part": part, "code": code, "reason": reason, "score": None, "thr": None}
    return told | more


def soon_ns(seconds: float = 60.0) -> int:
    return time.monotonic_ns() + round(seconds * 1e9)


@contextlib.contextmanager
def modbus_line(
    is_triggered: bool = True, **settings: Any
) -> Iterator[tuple[ModbusLine, StandInStation, int]]:
    """A line that listens, the station that it belongs to, and its port."""
    port = free_port()
    config = ModbusConfig.model_validate({"enabled": True, "port": port, **settings})
    station = StandInStation()
    line = ModbusLine(
        config,
        lambda: station.state,
        lambda: station.state.ready,
        station.note,
        station.hear if is_triggered else None,
        station.commanded.append,
        first_result=1,
    )
    station.line = line
    line.start()
    try:
        wait_until(
            lambda: line.verdict_problem is None or "no Modbus client" in line.verdict_problem,
            10,
            "it does not listen",
        )
        yield line, station, port
    finally:
        line.stop()


@contextlib.contextmanager
def polled(line: ModbusLine, port: int) -> Iterator[ModbusPlc]:
    """A PLC that has polled, so that a verdict would be shown."""
    plc = ModbusPlc(port)
    try:
        plc.poll()
        wait_until(lambda: line.verdict_problem is None, 10, "the poll is not noticed")
        yield plc
    finally:
        plc.close()
