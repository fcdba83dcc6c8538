"""One connection of a browser: who does not finish a request, or does not read the answer, makes
room for others.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0  # from the first byte, or the connection, until a request is complete
LEAVE_S = 5.0  # what is closed and still not read is dropped after this long


class BoundedConnection(H11Protocol):
    """uvicorn bounds the time between two requests alone."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A request is awaited."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        """A piece of a request."""
        super().data_received(data)
        is_whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if is_whole:
            self._end_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever ended it."""
        self._end_deadline()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked since the last answer."""
        super().timeout_keep_alive_handler()
        self._leave()

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.close()
        self._leave()

    def _leave(self) -> None:
        self.loop.call_later(LEAVE_S, self.transport.abort)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
