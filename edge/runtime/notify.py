"""sd_notify in a few lines: systemd is told that the station is ready, alive and stopping."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """Sends to $NOTIFY_SOCKET; without one (not started by systemd) every call does nothing."""

    def __init__(self, address: str | None = None) -> None:
        """address: a path, or with a leading @ a name in the abstract namespace; None takes the
        environment's.
        """
        found = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = f"\0{found[1:]}" if found.startswith("@") else found

    def ready(self) -> None:
        """The station judges from now on."""
        self._send("READY=1")

    def alive(self) -> None:
        """The watchdog starts to count again. Only after a pass of the main loop that saw progress,
        which edge/runtime/capture.py defines.
        """
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting takes longer: systemd gives up only after this long without another message."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def stopping(self) -> None:
        """The station was asked to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            ) as connection:
                connection.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("cannot notify systemd (%s): %s", error, message)
