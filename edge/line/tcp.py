"""What the line asks of the kernel about a TCP socket: no delay, a bound on silence, packets sent
together, a reset that discards what is unsent. All but the reset do nothing where the system is not
Linux.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
from collections.abc import Iterator

USER_TIMEOUT_MS = 8_000  # bytes that stay unacknowledged this long end the connection
SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes in the send queue that were never sent


def tune(opened: socket.socket) -> None:
    """Before the first byte of MQTT: no waiting for more bytes (Nagle), a bound on unacknowledged
    ones.
    """
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def reset(opened: socket.socket) -> None:
    """End the connection at once; the kernel discards what it has not sent (RST)."""
    with contextlib.suppress(OSError):  # closed already
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # not SSLSocket's own shutdown, after which the library's thread would write unencrypted
        socket.socket.shutdown(opened, socket.SHUT_RD)


def unsent_bytes(opened: socket.socket | None) -> int:
    """How many bytes the kernel has not sent yet; 0 where it does not tell."""
    if sys.platform != "linux" or opened is None:
        return 0
    try:
        return int(
            struct.unpack("i", fcntl.ioctl(opened.fileno(), SIOCOUTQNSD, struct.pack("i", 0)))[0]
        )
    except (OSError, ValueError):  # closed meanwhile
        return 0


@contextlib.contextmanager
def corked(opened: socket.socket | None) -> Iterator[None]:
    """What is written in the body leaves in full segments, the rest at its end; the kernel waits
    0.2 s at most.
    """
    _cork(opened, True)
    try:
        yield
    finally:
        _cork(opened, False)


def _cork(opened: socket.socket | None, on: bool) -> None:
    if hasattr(socket, "TCP_CORK") and opened is not None:  # Linux
        with contextlib.suppress(OSError):  # closed meanwhile
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))
