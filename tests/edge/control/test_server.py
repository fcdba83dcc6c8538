"""The socket itself: who may connect, what becomes of clients that do not behave, and that the
others are served meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.control import server, stream
from edge.control.client import ControlClient, find_station
from edge.control.protocol import (
    LINE_LIMIT,
    SOCKET,
    Hello,
    Live,
    Payload,
    Request,
    line_of,
    read_line,
)
from edge.control.server import CLIENTS, Answer, Client, ControlServer
from edge.control.stream import connected_socket
from edge.errors import BusyError, CalibrationError, ControlError, EdgeError
from tests.support.broker import wait_until
from tests.support.patience import HANG_S


class Counter:
    """A desk: counts what is asked, answers `live` with so many bytes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.who: list[tuple[str, int]] = []
        self.gone = 0
        self.size = 1
        self.silent_s = 60.0
        self.words: EdgeError | None = None

    def answer(self, request: Request, payload: Payload, client: Client) -> Iterator[Answer]:
        payload.require_end()
        self.asked.append(request.do)
        self.who.append((client.who, client.pid))
        if isinstance(request, Hello):
            yield {"number": len(self.asked)}, ()
        elif isinstance(request, Live):
            yield {}, (bytes(self.size),)
        else:
            raise BusyError("later")

    def takes_data(self, client: Client) -> bool:
        return False

    def silence_s(self, client: Client) -> float:
        return self.silent_s

    def farewell(self, client: Client) -> EdgeError | None:
        return self.words

    def left(self, client: Client) -> None:
        self.gone += 1


@contextmanager
def served(root: Path) -> Iterator[Counter]:
    desk = Counter()
    made = ControlServer(root / SOCKET, desk)
    made.start()
    wait_until(lambda: made.is_open, 5, "not open")
    try:
        yield desk
    finally:
        made.stop(HANG_S)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Counter]:
    with served(tmp_path) as made:
        yield made


def connected(root: Path) -> ControlClient:
    found = find_station(root)
    assert found is not None
    return found


def raw(root: Path) -> socket.socket:
    return connected_socket(root / SOCKET, 10)


def said_by(connection: socket.socket) -> dict[str, Any]:
    """Everything until the other side closes, as one line."""
    connection.settimeout(HANG_S)
    data = b""
    with contextlib.suppress(ConnectionResetError):  # it has not read everything
        while piece := connection.recv(1 << 16):
            data += piece
    return read_line(data.strip())[0]


def assert_serves(root: Path) -> None:
    with connected(root) as client:
        assert client.hello()["number"] > 0


def test_the_socket_is_the_group_s_and_gone_at_the_end(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with served(tmp_path):
            about = (tmp_path / SOCKET).stat()
            assert stat.S_ISSOCK(about.st_mode)
            assert stat.S_IMODE(about.st_mode) == 0o660
            assert list((tmp_path / SOCKET).parent.iterdir()) == [tmp_path / SOCKET]
            assert_serves(tmp_path)
    finally:
        os.umask(before)
    assert not list((tmp_path / SOCKET).parent.iterdir())
    assert find_station(tmp_path) is None


def test_a_path_that_is_longer_than_an_address_works(tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30)
    with served(root):
        assert len(str(root / SOCKET)) > 150
        assert_serves(root)


def test_what_a_dead_process_has_left_is_replaced(tmp_path: Path) -> None:
    folder = (tmp_path / SOCKET).parent
    folder.mkdir(parents=True)
    for name in (SOCKET.name, f".{SOCKET.name}.new"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / name))
    assert find_station(tmp_path) is None, "nobody listens there"
    with served(tmp_path):
        assert_serves(tmp_path)


def test_a_folder_in_its_place_is_said_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RETRY_S", 0.05)
    (tmp_path / SOCKET / "x").mkdir(parents=True)
    made = ControlServer(tmp_path / SOCKET, Counter())
    made.start()
    wait_until(lambda: "control.sock cannot be made" in caplog.text, 5, "not said")
    assert not made.is_open
    (tmp_path / SOCKET / "x").rmdir()
    (tmp_path / SOCKET).rmdir()
    wait_until(lambda: made.is_open, 5, "not tried again")
    assert_serves(tmp_path)
    made.stop(HANG_S)


def test_who_asks_is_what_the_kernel_says(desk: Counter, tmp_path: Path) -> None:
    assert_serves(tmp_path)
    assert desk.who == [(pwd.getpwuid(os.geteuid()).pw_name, os.getpid())]


def test_requests_that_come_at_once_are_answered_one_after_the_other(
    desk: Counter, tmp_path: Path
) -> None:
    with raw(tmp_path) as connection:
        connection.sendall(b'{"do":"hello"}\n' * 15)
        reader = connection.makefile("rb")
        numbers = [read_line(reader.readline())[0]["number"] for _ in range(15)]
    assert numbers == list(range(1, 16))


def test_a_client_that_asks_without_end_gets_a_few_answers_a_second(
    desk: Counter, tmp_path: Path
) -> None:
    with raw(tmp_path) as connection, raw(tmp_path) as other:
        begun_s = time.monotonic()
        connection.sendall(b'{"do":"hello"}\n' * 200)
        wait_until(lambda: len(desk.asked) >= 30, 10, "not answered")
        took_s = time.monotonic() - begun_s
        assert took_s > 0.4, "20 at once, then 20 a second"
        other.sendall(b'{"do":"hello"}\n')
        assert read_line(other.makefile("rb").readline())[0]["ok"]


def test_the_ninth_client_is_told_and_the_others_stay(desk: Counter, tmp_path: Path) -> None:
    clients = [connected(tmp_path) for _ in range(CLIENTS)]
    for client in clients:
        client.hello()
    with connected(tmp_path) as ninth, pytest.raises(BusyError, match="8 clients are connected"):
        ninth.hello()
    clients.pop().close()
    wait_until(lambda: desk.gone == 1, 5, "not noticed")
    assert_serves(tmp_path)
    for client in clients:
        client.hello()
        client.close()


@pytest.mark.parametrize(
    "bad",
    [
        b"\x00\xff\xfe\n", b"GET / HTTP/1.1\r\n\r\n", b'{"do":"reboot"}\n', b"x" * (LINE_LIMIT + 9),
        b'{"do":"hello","bytes":99999999999999}\n', b'{"do":"hello","bytes":1000}\n' + bytes(1000),
    ],
)  # fmt: skip
def test_garbage_is_told_so_and_disconnected(desk: Counter, tmp_path: Path, bad: bytes) -> None:
    with raw(tmp_path) as connection:
        connection.sendall(bad)
        said = said_by(connection)
    assert (said["ok"], said["error"]) == (False, "ControlError")
    assert said["text"].endswith("install the same version for both")
    assert desk.asked == []
    assert_serves(tmp_path)


def test_raw_bytes_that_nobody_asked_for_are_not_waited_for(desk: Counter, tmp_path: Path) -> None:
    with raw(tmp_path) as connection:
        connection.sendall(b'{"do":"hello","bytes":60000000}\n')
        assert said_by(connection)["text"].startswith("60000000 bytes follow a line, 0 are taken")


def test_the_socket_appears_with_its_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_there, plain = [], os.chmod

    def chmod(*what: Any, **more: Any) -> None:
        was_there.append((tmp_path / SOCKET).exists())
        plain(*what, **more)

    monkeypatch.setattr(stream.os, "chmod", chmod)
    with served(tmp_path):
        assert was_there == [False]


def test_a_message_that_stops_in_the_middle_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.Stream.__init__, "__defaults__", (0.3,))
    with served(tmp_path) as desk, raw(tmp_path) as connection:
        connection.sendall(b'{"do":"hel')
        assert_serves(tmp_path)
        wait_until(lambda: desk.gone == 2, 5, "not given up")
        assert connection.recv(1) == b""


def test_a_client_that_does_not_read_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.Stream.__init__, "__defaults__", (0.3,))
    with served(tmp_path) as desk, raw(tmp_path) as connection:
        desk.size = 32 << 20
        connection.sendall(b'{"do":"live"}\n')
        wait_until(lambda: desk.asked == ["live"], 5, "not asked")
        assert_serves(tmp_path)
        wait_until(lambda: desk.gone == 2, 5, "not given up")


def test_a_client_that_dies_in_the_middle_of_anything_is_forgotten(
    desk: Counter, tmp_path: Path
) -> None:
    for half in (b"", b'{"do":', b'{"do":"live"}\n', b'{"do":"hello"}\n' * 300):
        connection = raw(tmp_path)
        connection.sendall(half)
        connection.close()
    wait_until(lambda: desk.gone == 4, 20, "not forgotten")
    assert_serves(tmp_path)


@pytest.mark.parametrize(
    ("words", "heard"),
    [(None, "has closed this connection"), (CalibrationError("it is over"), "it is over")],
)
def test_a_client_that_says_nothing_is_disconnected(
    desk: Counter, tmp_path: Path, words: EdgeError | None, heard: str
) -> None:
    with connected(tmp_path) as client:
        client.hello()
        desk.words, desk.silent_s = words, 0.1
        wait_until(lambda: desk.gone == 1, 5, "not disconnected")
        with pytest.raises(EdgeError, match=heard):
            client.hello()


def test_a_refusal_leaves_the_connection_open(desk: Counter, tmp_path: Path) -> None:
    with raw(tmp_path) as connection:
        reader = connection.makefile("rb")
        connection.sendall(line_of({"do": "session.close"}))
        assert read_line(reader.readline())[0]["text"] == "later"
        connection.sendall(line_of({"do": "hello"}))
        assert read_line(reader.readline())[0]["ok"]


def test_the_end_of_the_station_waits_for_no_client(tmp_path: Path) -> None:
    desk = Counter()
    desk.size = 32 << 20
    made = ControlServer(tmp_path / SOCKET, desk)
    made.start()
    wait_until(lambda: made.is_open, 5, "not open")
    with raw(tmp_path) as silent, raw(tmp_path) as deaf, raw(tmp_path) as half:
        silent.sendall(b'{"do":"hello"}\n')
        deaf.sendall(b'{"do":"live"}\n')
        half.sendall(b'{"do"')
        wait_until(lambda: (len(desk.asked), len(made._clients)) == (2, 3), 5, "not there")
        before = threading.active_count()
        made.stop(HANG_S)
        assert desk.gone == 3
        assert threading.active_count() == before - 4
    assert not (tmp_path / SOCKET).exists()


def test_a_crowd_is_told_so(desk: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ACCEPT_S", HANG_S)
    with contextlib.ExitStack() as waiting:
        with contextlib.suppress(BlockingIOError):  # the queue takes sixteen or so
            for _ in range(40):
                waiting.enter_context(connected_socket(tmp_path / SOCKET, 0.1))
        with pytest.raises(ControlError, match="too many others want to connect"):
            find_station(tmp_path, timeout_s=0.1)


def test_an_account_that_may_not_connect_is_told(
    desk: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edge.control.client.connected_socket", refuse)
    with pytest.raises(ControlError, match="run this as the account of `edge run`"):
        find_station(tmp_path)
