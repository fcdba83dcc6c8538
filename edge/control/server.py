"""The server's end of the socket in `edge run`: who connects, what is asked, in which order.

One thread accepts, and each client has one that reads its requests and sends the answers; what they
are is the business of a Desk (edge/runtime/control_desk.py). None of these threads is ever waited
for by one that judges. So that many requests do not take the interpreter away from the judging
threads either, each client is given a few answers per second and not more, and connections beyond
the eighth are told so and closed.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edge.background import keep_running
from edge.control.protocol import (
    DATA_LIMIT,
    STRANGE,
    BadMessage,
    Message,
    Payload,
    Request,
    refusal_of,
    request_of,
)
from edge.control.stream import PeerGone, Stream, bound_socket
from edge.errors import BusyError, ControlError, EdgeError
from edge.files import make_folder
from edge.station.audit import account_name
from edge.trouble import Trouble

log = logging.getLogger(__name__)

MODE = 0o660
CLIENTS = 8
RATE, BURST = 20.0, 20.0  # requests per second of one client, in the long run and at once
ACCEPT_S = 0.02  # between two connections
LOOK_S = 0.25  # a client that is gone, or has to go, is noticed after this long
IDLE_S = 60.0  # a client without a session that says nothing for longer is disconnected
RETRY_S = 1.0  # between two tries to make the socket

Answer = tuple[Mapping[str, Any], Sequence[memoryview | bytes]]


class Gone(Exception):
    """The client is gone, or the station stops: nobody waits for an answer."""


@dataclass(eq=False)
class Client:
    """Who is connected. who: the account, as the kernel says."""

    stream: Stream
    pid: int
    who: str
    stopping: threading.Event
    room: float = BURST  # requests that may come at once
    filled_s: float = field(default_factory=time.monotonic)

    def require_there(self) -> None:
        """For an answer that takes long. Raises: Gone."""
        if self.stopping.is_set() or self.stream.is_gone():
            raise Gone

    def pause_s(self) -> float:
        """How long the next request has to wait, so that this client keeps to RATE."""
        now_s = time.monotonic()
        self.room = min(BURST, self.room + RATE * (now_s - self.filled_s)) - 1
        self.filled_s = now_s
        return max(0.0, -self.room / RATE)


class Desk(Protocol):
    """What is answered. Its methods are called in the threads of the clients."""

    def answer(self, request: Request, payload: Payload, client: Client) -> Iterator[Answer]:
        """The messages that answer a request. Raises: EdgeError, BadMessage, Gone."""
        ...

    def takes_data(self, client: Client) -> bool:
        """Whether raw bytes may come with this client's requests."""
        ...

    def silence_s(self, client: Client) -> float:
        """How long this client may say nothing; 0: it has to go now."""
        ...

    def farewell(self, client: Client) -> EdgeError | None:
        """Why it has to go, when its silence has lasted too long; None: it need not be told, a
        client that only looks connects again.
        """
        ...

    def left(self, client: Client) -> None:
        """This client is gone."""
        ...


class ControlServer:
    """The socket and who is connected to it."""

    def __init__(self, path: Path, desk: Desk) -> None:
        """Nothing is opened before start()."""
        self._path, self._desk = path, desk
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # guards _clients
        self._clients: dict[Client, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(
            target=keep_running, args=(log, self._serve, self._stopping), name="control",
            daemon=True,
        )  # fmt: skip
        self._place = Trouble(log, f"{path} can be made again")
        self._manners = Trouble(log, "control: a client is understood again")

    @property
    def is_open(self) -> bool:
        """Whether clients can connect."""
        return self._listener is not None

    def start(self) -> None:
        """Listen, in the background."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Disconnect everybody and remove the socket."""
        self._stopping.set()
        listener, end_s = self._listener, time.monotonic() + timeout_s
        if listener is not None:
            with contextlib.suppress(OSError):  # wakes the thread that accepts
                listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            clients = dict(self._clients)
        for client in clients:
            client.stream.hang_up()
        for thread in (self._thread, *clients.values()):
            if thread.is_alive():
                thread.join(max(0.0, end_s - time.monotonic()))

    # --- the thread that accepts ---

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                make_folder(self._path.parent)
                self._listener = bound_socket(self._path, MODE)
            except OSError as error:
                why = f"{self._path} cannot be made ({error.strerror}): check its folder"
                self._place.happened(why)
                self._stopping.wait(RETRY_S)
                continue
            self._place.ended()
            try:
                self._attend(self._listener)
            finally:
                listener, self._listener = self._listener, None
                listener.close()
                self._path.unlink(missing_ok=True)

    def _attend(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if not self._stopping.is_set():
                    log.warning("control: accept: %s", error)
                    self._stopping.wait(RETRY_S)
                continue
            self._receive(connection)
            self._stopping.wait(ACCEPT_S)

    def _receive(self, connection: socket.socket) -> None:
        stream = Stream(connection)
        with self._lock:
            is_full = len(self._clients) >= CLIENTS
        if is_full:
            why = f"{CLIENTS} clients are connected already: close one of them"
            with contextlib.suppress(PeerGone):
                stream.send(refusal_of(BusyError(why)))
            stream.close()
            return
        pid, uid = stream.owner()
        client = Client(stream, pid, account_name(uid), self._stopping)
        thread = threading.Thread(
            target=self._talk, args=(client,), name=f"control-{pid}", daemon=True
        )
        with self._lock:
            self._clients[client] = thread
        thread.start()

    # --- the thread of a client ---

    def _talk(self, client: Client) -> None:
        try:
            while self._wait_for_request(client):
                self._answer_next(client)
        except (PeerGone, Gone):
            pass
        except BadMessage as bad:
            why = f"control: process {client.pid} of {client.who} is disconnected: {bad}"
            self._manners.happened(why, cause="language")
            with contextlib.suppress(PeerGone, BadMessage):
                client.stream.send(refusal_of(ControlError(f"{bad}: {STRANGE}")))
        except Exception:
            log.exception("control: an answer failed: report this")
        finally:
            with self._lock:
                del self._clients[client]
            self._desk.left(client)
            client.stream.close()

    def _wait_for_request(self, client: Client) -> bool:
        """Wait until one comes, at the pace that this client may have; False if it has to go."""
        since_s = time.monotonic()
        while not client.stream.wait(LOOK_S):
            if self._stopping.is_set():
                return False
            if time.monotonic() - since_s > self._desk.silence_s(client):
                why = self._desk.farewell(client)
                if why is not None:
                    client.stream.send(refusal_of(why))
                return False
        return not self._stopping.wait(client.pause_s())

    def _answer_next(self, client: Client) -> None:
        """Raises: PeerGone, Gone, BadMessage."""
        limit = DATA_LIMIT if self._desk.takes_data(client) else 0
        asked = client.stream.receive(limit)
        self._manners.ended()
        try:
            for said, pieces in self._desk.answer(*_read(asked), client):
                client.stream.send({"ok": True, **said}, pieces)
        except EdgeError as error:
            client.stream.send(refusal_of(error))


def _read(asked: Message) -> tuple[Request, Payload]:
    return request_of(asked.said), Payload(asked.data)
