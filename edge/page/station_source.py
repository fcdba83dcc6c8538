"""Asks `edge run` what it sees and says, over its control socket; where that does not answer, the
file that it writes each second tells what is wrong.

The language of the socket is edge/control/protocol.py: one JSON object on a line, `bytes` of raw
data behind it. It is spoken here without numpy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.clock import boot_time_s
from edge.errors import EdgeError
from edge.files import opened_folder, read_bytes
from edge.page.live_source import Look
from edge.page.vault import DATA
from edge.station.lock import RUN, is_held
from edge.trouble import Trouble

log = logging.getLogger(__name__)

SOCKET, STATUS = Path("run/edge/control.sock"), Path("run/edge/status.json")
LINE_LIMIT, STATUS_LIMIT, PICTURE_LIMIT = 64 << 10, 64 << 10, 4 << 20  # bytes
ANSWER_S, RETRY_S = 2.0, 1.0  # an answer takes at most this long; then the socket is left alone
SILENT_S = 5.0  # the file is written each second
REQUEST = b'{"do":"live"}\n'


class StationSource:
    """The station under one root. See edge.page.live_source.LiveSource."""

    def __init__(self, root: Path) -> None:
        """Nothing is opened before the first look()."""
        self._root = root
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._retry_s = 0.0
        self._trouble = Trouble(log, "the station's socket answers again")

    async def look(self) -> Look:
        """Over the socket, else from the file."""
        if time.monotonic() < self._retry_s:
            return self._from_file()
        try:
            look = await asyncio.wait_for(self._asked_once_more(), ANSWER_S)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            self._retry_s = time.monotonic() + RETRY_S
            await self.close()
            look = self._from_file()
            if look.station != "stopped":
                self._trouble.happened(f"the station's socket does not answer ({error!r})")
            return look
        self._trouble.ended()
        return look

    async def close(self) -> None:
        """The page ends, or the socket does not answer."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _asked_once_more(self) -> Look:
        """Over a new connection, if the one that is open has ended: the station was restarted."""
        was_open = self._streams is not None
        try:
            return await self._asked()
        except (OSError, EOFError):
            await self.close()
            if not was_open:
                raise
        return await self._asked()

    async def _asked(self) -> Look:
        """Raises: OSError, EOFError or ValueError if it is not there or not understood."""
        if self._streams is None:
            self._streams = await connected(self._root / SOCKET)
        reader, writer = self._streams
        writer.write(REQUEST)
        await writer.drain()
        said = json.loads(await next_line(reader))
        return look_of(said, await next_picture(reader, said))

    def _from_file(self) -> Look:
        """Stopped, starting, silent, or what the file says, without a picture."""
        if not is_held(self._root / DATA / RUN):
            return Look("stopped")
        try:
            said = json.loads(read_bytes(self._root / STATUS, limit=STATUS_LIMIT))
            is_silent = boot_time_s() - float(said["boottime_s"]) > SILENT_S
            return Look("silent" if is_silent else str(said["state"]), said)
        except (EdgeError, OSError, ValueError, TypeError, KeyError, RecursionError):
            return Look("starting")


async def connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the socket at `path`. Raises: OSError.

    The path may be longer than an address may be: it is opened below its folder.
    """
    with opened_folder(path.parent) as folder:
        return await asyncio.open_unix_connection(
            f"/proc/self/fd/{folder}/{path.name}", limit=LINE_LIMIT
        )


async def next_picture(reader: asyncio.StreamReader, said: Mapping[str, Any]) -> bytes | None:
    """The picture behind what the station has said; None without one.

    Raises: OSError, EOFError; ValueError if that is no size of a picture.
    """
    size = said.get("bytes", 0)
    if type(size) is not int or not 0 <= size <= PICTURE_LIMIT:
        raise ValueError("`bytes` is no size of a picture")
    return await reader.readexactly(size) if size else None


async def next_line(reader: asyncio.StreamReader) -> bytes:
    """What the station says next.

    Raises: EOFError if the connection has ended, ValueError if the line is too long.
    """
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("the station has closed the connection")
    return line


def look_of(said: Mapping[str, Any], picture: bytes | None) -> Look:
    """The answer to `live`. Raises: ValueError if it is none."""
    state, verdicts = said.get("state"), said.get("verdicts")
    if said.get("ok") is False or not isinstance(state, dict):
        raise ValueError(str(said.get("text", "it is no answer to `live`"))[:200])
    last = verdicts[-1] if isinstance(verdicts, list) and verdicts else None
    return Look(
        station=str(state.get("state")),
        said=state,
        last=last if isinstance(last, dict) else None,
        picture=picture,
    )
