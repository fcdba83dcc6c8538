"""Messages over a connected socket, each within a time limit: a peer that stops in the middle of a
message, or does not read, is given up.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.control.protocol import LINE_LIMIT, BadMessage, Message, line_of, read_line
from edge.files import opened_folder

MESSAGE_S = 10.0  # for one message, once it has begun to come or to leave
READ_BYTES = 64 << 10
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; unix(7)
GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class PeerGone(ConnectionError):
    """The other side has closed the connection, or takes too long."""


class Stream:
    """One connection, for one thread; `is_gone` and `hang_up` are for any."""

    def __init__(self, connection: socket.socket, message_s: float = MESSAGE_S) -> None:
        self._socket, self._message_s = connection, message_s
        self._rest = bytearray()  # was read and belongs to the next message
        self._readable, self._hangup = select.poll(), select.poll()
        self._readable.register(connection, select.POLLIN)
        self._hangup.register(connection, select.POLLRDHUP)

    def owner(self) -> tuple[int, int]:
        """The process and the account at the other end, as the kernel knows them."""
        size = CREDENTIALS.size
        pid, uid, _ = CREDENTIALS.unpack(
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return pid, uid

    def is_gone(self) -> bool:
        """Whether the other side has closed its end."""
        return any(event & GONE for _, event in self._hangup.poll(0))

    def wait(self, timeout_s: float) -> bool:
        """Wait until a message begins to come, or the other side is gone; False if neither."""
        return bool(self._rest) or bool(self._readable.poll(timeout_s * 1000))

    def receive(self, data_limit: int) -> Message:
        """The next message; waits for it at most the time of one message.

        data_limit: of the raw bytes behind its line.
        Raises: BadMessage; PeerGone, also if the message stops in the middle.
        """
        end_s = time.monotonic() + self._message_s
        while (at := self._rest.find(b"\n")) < 0:
            if len(self._rest) > LINE_LIMIT:
                raise BadMessage(f"a line is longer than {LINE_LIMIT} bytes")
            self._rest += self._read(READ_BYTES, end_s)
        if at >= LINE_LIMIT:
            raise BadMessage(f"a line is longer than {LINE_LIMIT} bytes")
        line, self._rest = self._rest[:at], self._rest[at + 1 :]
        said, size = read_line(line)
        if size > data_limit:
            raise BadMessage(f"{size} bytes follow a line, {data_limit} are taken here")
        return Message(said, self._take(size, end_s))

    def send(self, said: Mapping[str, Any], pieces: Sequence[memoryview | bytes] = ()) -> None:
        """One message. Raises: BadMessage if it cannot be told, PeerGone if it is not read."""
        line = line_of(said, sum(len(piece) for piece in pieces))
        end_s = time.monotonic() + self._message_s
        for piece in (line, *pieces):
            try:
                self._socket.settimeout(max(0.001, end_s - time.monotonic()))
                self._socket.sendall(piece)
            except OSError as error:
                raise PeerGone(f"it does not read: {error}") from error

    def hang_up(self) -> None:
        """End the connection for both sides, whatever the other threads do with it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has ended already
            return

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def _take(self, size: int, end_s: float) -> bytearray:
        """The raw bytes of a message, in memory that grows as they come."""
        data, self._rest = self._rest[:size], self._rest[size:]
        while len(data) < size:
            data += self._read(min(size - len(data), 1 << 20), end_s)
        return data

    def _read(self, limit: int, end_s: float) -> bytes:
        try:
            self._socket.settimeout(max(0.001, end_s - time.monotonic()))
            data = self._socket.recv(limit)
        except OSError as error:
            raise PeerGone(f"it stops in the middle of a message: {error}") from error
        if not data:
            raise PeerGone("it has closed the connection")
        return data


def bound_socket(path: Path, mode: int) -> socket.socket:
    """A listening socket at `path`, in a folder that is there; it appears complete, in the place of
    what an earlier process has left.

    Its path may be longer than the 107 bytes that an address holds.
    Raises: OSError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f".{path.name}.new"
    try:
        with opened_folder(path.parent) as folder:
            with contextlib.suppress(FileNotFoundError):  # of a process that was killed
                os.unlink(temporary, dir_fd=folder)
            listener.bind(f"/proc/self/fd/{folder}/{temporary}")
            os.chmod(temporary, mode, dir_fd=folder)
            listener.listen(16)
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        listener.close()
        raise
    return listener


def connected_socket(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the socket at `path`, also where others wait to be accepted before it.

    Raises: OSError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    end_s = time.monotonic() + timeout_s
    try:
        with opened_folder(path.parent) as folder:
            while True:
                try:
                    connection.connect(f"/proc/self/fd/{folder}/{path.name}")
                    break
                except BlockingIOError:  # the queue is full: unix(7) waits only without a timeout
                    if time.monotonic() >= end_s:
                        raise
                    time.sleep(0.01)
    except BaseException:
        connection.close()
        raise
    return connection
