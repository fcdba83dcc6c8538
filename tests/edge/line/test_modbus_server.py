"""The server against slow, half-open and hostile clients, and what becomes of the others."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from edge.line import modbus_server
from edge.line.modbus import ModbusLine
from edge.line.modbus_map import TELLS_END, TELLS_START
from edge.line.modbus_server import PLACES, bind_problem
from tests.support.broker import wait_until
from tests.support.modbus import ModbusClient, ModbusPlc, modbus_line, polled

COUNT = TELLS_END - TELLS_START
ENOUGH = 200_000  # bytes of requests: their answers would be a multiple of all buffers
OTHER, STRANGER = "127.0.0.2", "127.0.0.3"
READ_ALL = bytes.fromhex(f"0001000000060103{TELLS_START:04x}{COUNT:04x}")


@pytest.fixture
def served() -> Iterator[tuple[ModbusLine, ModbusPlc]]:
    """A PLC on this machine, and a second address that may connect."""
    with modbus_line(allow=[OTHER]) as (line, _, port), polled(line, port) as plc:
        yield line, plc


def slowest_poll_s(plc: ModbusPlc, count: int = 50) -> float:
    slowest = 0.0
    for _ in range(count):
        begun_s = time.monotonic()
        plc.poll()
        slowest = max(slowest, time.monotonic() - begun_s)
    return slowest


def test_an_address_that_is_not_allowed_is_closed_counted_and_logged_once(
    served: tuple[ModbusLine, ModbusPlc], caplog: pytest.LogCaptureFixture
) -> None:
    line, plc = served
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            stranger = ModbusClient(plc.port, STRANGER)
            assert stranger.is_closed()
            stranger.close()
    assert line.clients_refused == 3
    assert caplog.text.count(f"{STRANGER} is not allowed") == 1
    friend = ModbusClient(plc.port, OTHER)
    assert friend.read(TELLS_START, 1) == [1]
    friend.close()


def test_requests_in_one_segment_and_requests_in_pieces_are_answered_in_order(
    served: tuple[ModbusLine, ModbusPlc],
) -> None:
    client = served[1].client
    client.send(
        bytes.fromhex(
            "0001000000060106001d0005"  # the PLC's heartbeat
            "000200000006010300 1d0001 000300000006010300640001".replace(" ", "")
        )
    )
    assert client.hear(12 + 11 + 11).hex() == (
        "0001000000060106001d0005" + "0002000000050103020005" + "0003000000050103020001"
    )
    for one in READ_ALL[:11]:
        client.send(bytes((one,)))
        time.sleep(0.001)
    client.send(READ_ALL[11:])
    answer = client.hear(9 + 2 * COUNT)
    assert answer[:9].hex() == f"00010000{2 * COUNT + 3:04x}0103{2 * COUNT:02x}"


def test_what_is_no_modbus_is_closed_and_logged_once(
    served: tuple[ModbusLine, ModbusPlc], caplog: pytest.LogCaptureFixture
) -> None:
    plc = served[1]
    noise = random.Random(0)
    for bad in (
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("0001 0000 ffff 01 03"),
        bytes.fromhex("0001 0000 0001 01"),
        bytes.fromhex("0001 0001 0006 01 0300640001"),
        b"\xff" * 5000,
        *(b"\xee" + noise.randbytes(300) + b"\xee" for _ in range(5)),
    ):
        client = ModbusClient(plc.port, OTHER)
        with contextlib.suppress(OSError):
            client.send(bad)
        assert client.is_closed()
        client.close()
    assert caplog.text.count("it sends is no Modbus") <= 2
    assert slowest_poll_s(plc, 5) < 60


def test_a_client_that_does_not_read_keeps_little_and_delays_nobody(
    served: tuple[ModbusLine, ModbusPlc],
) -> None:
    plc = served[1]
    deaf = socket.socket()
    with closing(deaf):
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            deaf.setsockopt(socket.SOL_SOCKET, buffer, 4096)
        deaf.bind((OTHER, 0))
        deaf.connect(("127.0.0.1", plc.port))
        deaf.setblocking(False)
        sent = stuck = 0
        while stuck < 60 and sent < ENOUGH:
            try:
                sent += deaf.send((READ_ALL * 100)[sent % len(READ_ALL) :])
                stuck = 0
            except BlockingIOError:  # the station reads no further requests of it
                stuck += 1
                time.sleep(0.01)
        assert 100 * len(READ_ALL) < sent < ENOUGH
        assert slowest_poll_s(plc) < 1.0


def test_a_thousand_connections_take_no_place_of_another_address(
    served: tuple[ModbusLine, ModbusPlc],
) -> None:
    line, plc = served
    crowd = []
    for _ in range(1000):
        crowd.append(socket.create_connection(("127.0.0.1", plc.port), source_address=(OTHER, 0)))
        if len(crowd) % 100 == 0:
            plc.poll()
    wait_until(lambda: line.clients_refused >= 1000 - PLACES, 20, "more than their places")
    assert slowest_poll_s(plc) < 1.0
    assert line.verdict_problem is None
    for one in crowd:
        one.close()


def test_a_silent_connection_gives_up_its_place(
    served: tuple[ModbusLine, ModbusPlc], monkeypatch: pytest.MonkeyPatch
) -> None:
    plc = served[1]
    half_open = [ModbusClient(plc.port, OTHER) for _ in range(PLACES)]
    for one in half_open:
        one.read(TELLS_START, 1)
    late = ModbusClient(plc.port, OTHER)
    assert late.is_closed()
    monkeypatch.setattr(modbus_server, "SILENT_S", 0.0)
    again = ModbusClient(plc.port, OTHER)
    assert again.read(TELLS_START, 1) == [1]
    assert half_open[0].is_closed()
    for client in (*half_open, late, again):
        client.close()


def test_a_connection_without_requests_is_closed_after_a_while(
    served: tuple[ModbusLine, ModbusPlc], monkeypatch: pytest.MonkeyPatch
) -> None:
    plc = served[1]
    slow = ModbusClient(plc.port, OTHER)
    slow.send(READ_ALL[:5])
    monkeypatch.setattr(modbus_server, "SWEEP_S", 0.1)
    monkeypatch.setattr(modbus_server, "IDLE_S", 0.2)
    polling = threading.Event()

    def poll() -> None:
        while not polling.is_set():
            plc.poll()
            time.sleep(0.02)

    thread = threading.Thread(target=poll)
    thread.start()
    assert slow.is_closed()
    polling.set()
    thread.join()
    assert plc.poll()
    slow.close()


def test_a_server_that_ends_is_noticed_and_started_again(
    served: tuple[ModbusLine, ModbusPlc], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, plc = served

    def fail(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("edge.line.modbus.RETRY_S", 0.3)
    monkeypatch.setattr(modbus_server, "SWEEP_S", 0.1)
    monkeypatch.setattr(modbus_server.ModbusServer, "_sweep", fail)
    wait_until(lambda: "has failed" in str(line.verdict_problem), 10, "its end is not noticed")
    assert not line.is_connected
    assert not line.publish_verdict({"seq": 1}, time.monotonic_ns() + 10**9)
    monkeypatch.undo()

    def is_back() -> bool:
        with contextlib.suppress(OSError, AssertionError):
            plc.connect()
            plc.poll()
        return line.verdict_problem is None

    wait_until(is_back, 10, "it is not started again")


def test_a_request_that_fails_here_is_an_exception_and_no_end(
    served: tuple[ModbusLine, ModbusPlc], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, plc = served

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(line.board, "read", fail)
    assert plc.client.ask(bytes.fromhex("0300640001")).hex() == "8304"
    monkeypatch.undo()
    assert plc.client.read(TELLS_START, 1) == [1]


def test_a_port_that_another_program_has_is_told_and_tried_again() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.modbus.free_port", lambda: port)
        patch.setattr("edge.line.modbus.RETRY_S", 0.1)
        threading.Timer(0.2, taken.close).start()
        with modbus_line() as (line, _, _), polled(line, port):
            assert line.verdict_problem is None


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(13, "port = 1502"), (98, "another program"), (99, "no such address"), (5, "Input/output")],
)
def test_why_it_cannot_listen_is_a_sentence_with_the_remedy(number: int, remedy: str) -> None:
    said = bind_problem(OSError(number, "Input/output error"), "10.0.0.5", 502)
    assert said.startswith("10.0.0.5:502 of [modbus] cannot be bound: ")
    assert remedy in said
