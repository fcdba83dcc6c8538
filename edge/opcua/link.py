"""The server's end of the socket to `edge run`: connects by itself, and again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from edge.files import opened_folder
from edge.line.json_lines import ALIVE_S, SILENCE_S, SOCKET, STRANGE, BadLine, LineReader, line_of
from edge.trouble import Trouble

log = logging.getLogger(__name__)

RETRY_S = 0.5
LOOK_S = 0.1  # how often the number of clients is looked at
READ_BYTES = 64 << 10


class StationLink:
    """The connection to the station of one root. Everything runs in the event loop."""

    def __init__(
        self,
        root: Path,
        heard: Callable[[Mapping[str, Any]], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
        clients: Callable[[], int],
    ) -> None:
        """Nothing is opened before run().

        Args:
            heard: is given each line of the station.
            lost: is called when the connection has ended.
            clients: how many OPC UA clients are connected now.
        """
        self._path, self._heard, self._lost, self._clients = root / SOCKET, heard, lost, clients
        self._writer: asyncio.StreamWriter | None = None
        self._told: tuple[float, int] = 0.0, -1  # when, and how many clients
        self._trouble = Trouble(log, "the station is there again")

    @property
    def is_connected(self) -> bool:
        """Whether the station can be asked."""
        return self._writer is not None

    def send(self, line: bytes) -> bool:
        """Send a line; False without a connection."""
        if self._writer is None:
            return False
        self._writer.write(line)
        return True

    async def run(self) -> None:
        """Keep the connection until this task is canceled."""
        telling = asyncio.create_task(self._keep_telling())
        try:
            while True:
                try:
                    await self._converse()
                    self._trouble.happened("the station has ended the connection", cause="end")
                except (OSError, asyncio.TimeoutError) as error:
                    why = "it does not answer" if not str(error) else str(error)
                    self._trouble.happened(
                        f"no station at {self._path} ({why}): `edge run` must run on the same root,"
                        " with enabled = true in [opcua]",
                        cause=type(error).__name__,
                    )
                except BadLine as bad:
                    self._trouble.happened(f"the station is not understood: {bad}: {STRANGE}")
                await asyncio.sleep(RETRY_S)
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling

    async def _converse(self) -> None:
        """One connection, until the station ends it.

        Raises: OSError, TimeoutError or BadLine if it ends otherwise.
        """
        reader, writer = await self._open()
        lines = LineReader()
        self._writer, self._told = writer, (0.0, -1)
        try:
            while data := await asyncio.wait_for(reader.read(READ_BYTES), SILENCE_S):
                for said in lines.feed(data):
                    self._trouble.ended()
                    await self._heard(said)
        finally:
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await self._lost()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The path may be longer than an address may be: it is opened below its folder."""
        with opened_folder(self._path.parent) as folder:
            return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{self._path.name}")

    async def _keep_telling(self) -> None:
        """The number of clients, each second and when it has changed."""
        while True:
            at_s, before = self._told
            now_s, clients = time.monotonic(), self._clients()
            if self.is_connected and (clients != before or now_s >= at_s + ALIVE_S):
                self._told = now_s, clients
                self.send(line_of("alive", clients=clients))
            await asyncio.sleep(LOOK_S)
