"""The station's end of the socket to its OPC UA process: one connection, never waited for.

One thread accepts, reads and writes; whoever has something to send puts it into a bounded queue and
wakes that thread. A process that does not read is dropped when its queue is full, and one that says
nothing for some seconds, too. A new connection takes the place of the one before it. Who connects
must be the station's own account or root, as the kernel says (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.background import keep_running
from edge.files import make_folder, opened_folder
from edge.line.json_lines import ALIVE_S, SILENCE_S, STRANGE, BadLine, LineReader
from edge.trouble import Trouble

log = logging.getLogger(__name__)

QUEUE_LIMIT = 256  # lines
MODE = 0o660
READ_BYTES = 64 << 10
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
RETRY_S = 1.0  # between two tries to make the socket


def owner_of(connection: socket.socket) -> tuple[int, int]:
    """The process and the account at the other end, as the kernel knows them."""
    pid, uid, _ = CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    )
    return pid, uid


class Peer:
    """One connection. Belongs to the gateway's thread, but for `put`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.reader = connection, LineReader()
        self.heard_s = time.monotonic()
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._partial = b""  # of the line that is being sent
        self.is_full = False  # a line found no room: the other side does not read

    @property
    def has_more(self) -> bool:
        """Whether something waits until the other side reads."""
        return bool(self._partial or self._queue)

    def put(self, line: bytes, deadline_ns: int | None) -> bool:
        """Queue a line; False if the queue is full."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.is_full = True
            return False
        self._queue.append((line, deadline_ns))
        return True

    def write(self) -> None:
        """Send what the socket takes now. Lines whose deadline has passed are left out.

        Raises: OSError if the connection is broken.
        """
        while self._partial or self._queue:
            if not self._partial:
                line, deadline_ns = self._queue.popleft()
                if deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
                    continue
                self._partial = line
            try:
                sent = self.connection.send(self._partial)
            except BlockingIOError:
                return
            self._partial = self._partial[sent:]


class Gateway:
    """The socket and who is connected to it. `send` may be called from any thread."""

    def __init__(
        self,
        path: Path,
        heard: Callable[[Mapping[str, Any]], None],
        beat: Callable[[], bytes],
        connected: Callable[[bool], None],
    ) -> None:
        """Nothing is opened before start(). All three are called in this gateway's thread.

        Args:
            path: of the socket.
            heard: is given what the process says; may raise BadLine.
            beat: gives the line that is sent each second.
            connected: is told when a process has connected, and when it is gone.
        """
        self._path, self._heard, self._beat, self._connected = path, heard, beat, connected
        self._lock = threading.Lock()  # guards _peer and its queue
        self._peer: Peer | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None  # wakes the thread
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=keep_running, args=(log, self._serve, self._stopping), name="opcua", daemon=True
        )
        self._place = Trouble(log, f"{path} can be made again")
        self._manners = Trouble(log, "opcua: the gateway is connected again")
        self._beat_s = 0.0
        self.problem: str | None = None  # why nobody can connect

    @property
    def is_connected(self) -> bool:
        """Whether a process is connected."""
        return self._peer is not None

    def start(self) -> None:
        """Listen, in the background."""
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and the connection; what is queued is sent first if that is at once."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(1.0)
        bell, self._bell = self._bell, None
        for end in bell or ():
            end.close()

    def send(self, line: bytes, deadline_ns: int | None = None) -> bool:
        """Queue a line for the process; False if there is none, or it does not read. Does not wait.

        deadline_ns: host monotonic clock; from then on the line is not sent any more.
        """
        with self._lock:
            taken = self._peer is not None and self._peer.put(line, deadline_ns)
        self._wake()
        return taken

    def _wake(self) -> None:
        bell = self._bell
        if bell is not None:
            with contextlib.suppress(OSError):  # full: it wakes anyway
                bell[1].send(b"w")

    # --- this gateway's thread ---

    def _serve(self) -> None:
        bell = self._bell
        while bell is not None and not self._stopping.is_set():
            try:
                listener = self._listen()
            except OSError as error:
                self.problem = f"{self._path} cannot be made ({error.strerror}): check its folder"
                self._place.happened(self.problem)
                self._stopping.wait(RETRY_S)
                continue
            self.problem = None
            self._place.ended()
            with listener, selectors.DefaultSelector() as selector:
                try:
                    self._attend(listener, bell[0], selector)
                finally:
                    self._drop(selector)
                    self._path.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        """The listening socket. Its path may be longer than the 107 bytes that an address holds."""
        make_folder(self._path.parent)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with opened_folder(self._path.parent) as folder:
                short = f"/proc/self/fd/{folder}/{self._path.name}"
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path.name, dir_fd=folder)
                listener.bind(short)
                os.chmod(self._path.name, MODE, dir_fd=folder)
            listener.listen(4)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def _attend(
        self, listener: socket.socket, rung: socket.socket, selector: selectors.BaseSelector
    ) -> None:
        for one in (listener, rung):
            selector.register(one, selectors.EVENT_READ)
        while not self._stopping.is_set():
            for key, _ in selector.select(self._left_s()):
                if key.fileobj is listener:
                    self._accept(listener, selector)
                elif key.fileobj is rung:
                    rung.recv(READ_BYTES)
                elif self._peer is not None and key.fileobj is self._peer.connection:
                    self._read(self._peer, selector)
            self._keep_up(selector)

    def _left_s(self) -> float:
        """Until the next beat."""
        return max(0.0, self._beat_s + ALIVE_S - time.monotonic())

    def _keep_up(self, selector: selectors.BaseSelector) -> None:
        """Write what is queued, say that the station is alive, and give up who is not."""
        peer = self._peer
        now_s = time.monotonic()
        if now_s >= self._beat_s + ALIVE_S:
            self._beat_s = now_s
            self._send_own(self._beat())
        if peer is None:
            return
        if now_s > peer.heard_s + SILENCE_S:
            self._complain(f"it has said nothing for {SILENCE_S:.0f} s", selector)
            return
        try:
            with self._lock:
                peer.write()
        except OSError:
            self._drop(selector)
            return
        if peer.is_full:
            self._complain(f"it has not read {QUEUE_LIMIT} messages", selector)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.has_more else 0)
        selector.modify(peer.connection, events)

    def _send_own(self, line: bytes) -> None:
        with self._lock:
            if self._peer is not None:
                self._peer.put(line, None)

    def _accept(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                log.debug("opcua: accept: %s", error)
            return
        pid, uid = owner_of(connection)
        if uid not in (os.geteuid(), 0):
            log.warning("opcua: process %d of account %d may not connect", pid, uid)
            connection.close()
            return
        self._drop(selector)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
        peer = Peer(connection)
        with self._lock:
            self._peer = peer
        self._connected(True)
        self._beat_s = 0.0
        self._manners.ended()

    def _read(self, peer: Peer, selector: selectors.BaseSelector) -> None:
        try:
            data = peer.connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(selector)
            return
        peer.heard_s = time.monotonic()
        try:
            for said in peer.reader.feed(data):
                self._heard(said)
        except BadLine as bad:
            self._complain(f"{bad}: {STRANGE}", selector)

    def _complain(self, why: str, selector: selectors.BaseSelector) -> None:
        self._manners.happened(f"opcua: the gateway is disconnected: {why}")
        self._drop(selector)

    def _drop(self, selector: selectors.BaseSelector) -> None:
        with self._lock:
            peer, self._peer = self._peer, None
        if peer is None:
            return
        with contextlib.suppress(OSError):
            peer.write()
        selector.unregister(peer.connection)
        peer.connection.close()
        self._connected(False)
