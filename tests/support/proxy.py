"""A TCP proxy between a station and its broker that behaves like a plant's network on a bad day."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.support.broker import free_port

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST
CONNECT = 0x10  # first byte of MQTT's first packet


@dataclass(eq=False)
class Pair:
    """Both halves of one connection. lost_bytes: bytes are missing, so that it cannot recover."""

    station: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    lost_bytes: bool = False

    def reset(self) -> None:
        for writer in (self.station, self.broker):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, RESET
                )
            writer.transport.abort()


class Proxy:
    """Hands on every byte until told otherwise. Thread-safe; its event loop has a thread of its
    own.

    client_ids: of every MQTT CONNECT that passed, in order.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.client_ids: list[str] = []
        self._target = target_port
        self._delay_s, self._swallows = 0.0, False
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self._pairs: set[Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()
        self._call(self._heal)

    def stop(self) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def heal(self) -> None:
        """As new: connections go on where they were, unless bytes of them were lost."""
        self._call(self._heal)

    def stall(self) -> None:
        """No byte passes either way; connections stand, and new ones are accepted."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def delay(self, seconds: float) -> None:
        """Every byte takes this long, each way."""
        self._delay_s = seconds

    def swallow(self) -> None:
        """Bytes are read and dropped: the sender notices nothing, and no answer ever comes."""
        self._swallows = True

    def refuse(self) -> None:
        """The port is closed and every connection reset, as while the broker's host restarts."""
        self._call(self._refuse)

    def reset(self) -> None:
        """Every connection is reset now; new ones are welcome."""
        self._call(self._reset)

    def half_close(self) -> None:
        """The station is sent a FIN on every connection; what it sends is still handed on."""
        self._call(self._half_close)

    # --- in the loop ---

    def _call(self, act: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await act()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _heal(self) -> None:
        self._delay_s, self._swallows = 0.0, False
        for pair in list(self._pairs):
            if pair.lost_bytes:
                pair.reset()
        self._passes.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def _half_close(self) -> None:
        for pair in list(self._pairs):
            with contextlib.suppress(OSError, RuntimeError):
                pair.station.write_eof()

    async def _close(self) -> None:
        await self._refuse()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, station: asyncio.StreamWriter) -> None:
        try:
            upstream, broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            station.close()
            return
        pair = Pair(station, broker)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._carry(pair, reader, broker), self._carry(pair, upstream, station)
            )
        finally:
            self._pairs.discard(pair)
            station.close()
            broker.close()

    async def _carry(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One way: what is read waits for its time in a queue, so that nothing overtakes when a
        delay ends.
        """
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self._send(on_the_way, writer))
        try:
            data = b"-"
            while data:
                try:
                    data = await reader.read(CHUNK)
                except OSError:
                    data = b""
                await self._passes.wait()
                if self._swallows:
                    pair.lost_bytes = pair.lost_bytes or bool(data)
                    continue
                self._note_connect(data)
                on_the_way.put_nowait((self._loop.time() + self._delay_s, data))
            await sending if not pair.lost_bytes else None
        finally:
            sending.cancel()

    async def _send(
        self, on_the_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while True:
                due_s, data = await on_the_way.get()
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
                await self._passes.wait()
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

    def _note_connect(self, data: bytes) -> None:
        if data[:1] == bytes([CONNECT]) and b"MQTT" in data[2:12]:
            self.client_ids.append(client_id_of(data))


def client_id_of(packet: bytes) -> str:
    """The client identifier in a CONNECT packet (MQTT 5, section 3.1; 3.1.1, section 3.1)."""
    _, at = _variable_integer(packet, 1)
    level = packet[at + 6]
    at += 10  # name, level, flags, keep-alive
    if level == 5:
        length, start = _variable_integer(packet, at)
        at = start + length
    size = int.from_bytes(packet[at : at + 2], "big")
    return packet[at + 2 : at + 2 + size].decode()


def _variable_integer(packet: bytes, at: int) -> tuple[int, int]:
    """The value, and where the next field begins."""
    value = shift = 0
    while True:
        byte = packet[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
