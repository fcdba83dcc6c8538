"""Clients that do not behave cost no verdict: a flood, a slow reader, halves of messages, garbage,
a huge length, a client that is killed in the middle of a message. How long verdicts take meanwhile
is measured by tests/benchmarks/socket_flood.py.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edge.control.stream import connected_socket
from tests.support.broker import wait_until
from tests.support.fakes import committed
from tests.support.socketed import Socketed, holding_process, socketed
from tests.support.station import BAD, EMPTY, GOOD, StationRoot

LIVE = b'{"do":"live"}\n'
PARTS = (GOOD, BAD, GOOD, GOOD, BAD)


@pytest.fixture(scope="module")
def cell(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Socketed]:
    station = made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")
    with socketed(station) as made:
        yield made


def flooding(connection: socket.socket) -> None:
    connection.sendall(LIVE * 200)
    connection.recv(1 << 20)


def deaf(connection: socket.socket) -> None:
    connection.sendall(LIVE * 200)


def half(connection: socket.socket) -> None:
    connection.sendall(b'{"do":"li')


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"\x00\xff" * 50_000 + b"\n")


def huge(connection: socket.socket) -> None:
    connection.sendall(b'{"do":"live","bytes":18446744073709551616}\n')


def cut(connection: socket.socket) -> None:
    connection.sendall(
        b'{"do":"session.score","frames":[0],"tensors":{},"bytes":60000000}\n' + LIVE
    )
    connection.close()


@contextmanager
def pressed(cell: Socketed, press: Callable[[socket.socket], None], threads: int) -> Iterator[None]:
    """So many threads do this to connection after connection meanwhile."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                connection = connected_socket(cell.path, 1)
                connection.settimeout(0.5)
                with connection:
                    press(connection)
                    stopping.wait(0.02)

    pressing = [threading.Thread(target=work) for _ in range(threads)]
    for thread in pressing:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in pressing:
            thread.join()


@pytest.mark.parametrize("press", [flooding, deaf, half, garbage, huge, cut])
def test_every_part_gets_its_verdict(
    cell: Socketed, press: Callable[[socket.socket], None]
) -> None:
    before = len(committed(cell.root))
    with pressed(cell, press, threads=3):
        for shot in PARTS:
            cell.show(shot)
            cell.show(EMPTY)
        wait_until(lambda: len(committed(cell.root)) == before + len(PARTS), 20, "a part is lost")
    found = [one["code"] for one in committed(cell.root)[before:]]
    assert found == [2 if shot is BAD else 1 for shot in PARTS]
    with cell.client() as client:
        assert client.live().jpeg, "who behaves is served afterwards"


def test_a_client_that_is_killed_in_a_session_costs_the_next_part_nothing(cell: Socketed) -> None:
    before = len(committed(cell.root))
    with holding_process(cell.root) as process:
        cell.pass_part(BAD)
        process.kill()
        wait_until(lambda: cell.state["ready"], 2, "still calibrating")
    cell.pass_part(GOOD)
    wait_until(lambda: len(committed(cell.root)) == before + 1, 10, "not judged")
    assert committed(cell.root)[-1]["code"] == 1
