"""The Modbus TCP server of a station: one asyncio loop in a thread of its own, which answers
requests and does nothing else.

A client whose address is not allowed is closed at once. Each address has a few places of its own,
so no client can take another's; a connection that has been silent gives up its place to a new one.
A client that sends no Modbus is closed, one that does not read what it asks for is not served
before it does: its connection keeps a few kilobytes and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from edge.line.modbus_wire import (
    DEVICE_FAILURE,
    HEADER_BYTES,
    Registers,
    answer_of,
    exception_of,
    frame_of,
    header_of,
)
from edge.trouble import Trouble

log = logging.getLogger(__name__)

PLACES = 4  # connections of one address
SILENT_S = 3.0  # a connection without a request for this long gives up its place to a new one
IDLE_S = 60.0  # and after this long it is closed, whether or not another one comes
SWEEP_S = 1.0
CLOSING_S = 0.01  # for the connections to end by themselves, before their tasks are canceled
BUFFER_BYTES = 4096  # of answers that a client does not read,
KERNEL_BYTES = 16 << 10  # beside the kernel's own, each way: without a limit these are megabytes
OWN = ("127.0.0.1", "::1")
LOGGED = 100  # addresses that are not allowed; further ones are only counted


class NotModbus(Exception):
    """What a client has sent is no header of Modbus TCP."""


@dataclass(eq=False)
class Client:
    """One connection. heard_s: when its last request came, or it was made."""

    address: str
    writer: asyncio.StreamWriter
    heard_s: float

    def close(self) -> None:
        """At once; what it has not read is dropped."""
        self.writer.transport.abort()


class ModbusServer:
    """See the top of this file. Made and started by one thread; a server that has ended is not
    started again: make another one.

    refused: connections that were closed because their address is not allowed, or has no place
    left.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unit: int,
        allowed: Collection[str],
        registers: Callable[[str], Registers],
    ) -> None:
        """host: address to listen at. unit: the station's own. allowed: addresses of clients beside
        this machine's own. registers: what a client of that address reads and writes.
        """
        self._host, self._port, self._unit = host, port, unit
        self._allowed = {ipaddress.ip_address(one) for one in (*allowed, *OWN, host)}
        self._registers = registers
        self._clients: list[Client] = []  # belongs to the loop
        self._strangers: set[str] = set()
        self._bad = Trouble(log, "Modbus clients send Modbus again")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="modbus", daemon=True)
        self.refused = 0
        self.problem: str | None = "the Modbus server is starting"

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Listen, in the background; `problem` is None once it does."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Close every connection and end."""
        loop, ending = self._loop, self._ending
        if loop is not None and ending is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(ending.set)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # --- its thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self.problem = bind_problem(error, self._host, self._port)
        # whatever ends the thread: whoever watches it starts another one
        except BaseException as error:
            log.exception("the Modbus server has failed and starts again: report this")
            self.problem = f"the Modbus server has failed and starts again: {error!r}"

    async def _serve(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._talk, self._host, self._port, limit=BUFFER_BYTES, backlog=128
        )
        self.problem = None
        try:
            while not self._ending.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), SWEEP_S)
                self._sweep()
        finally:
            server.close()
            for client in self._clients:
                client.close()
            await asyncio.sleep(CLOSING_S)

    def _sweep(self) -> None:
        """Close who has been silent for long: half open, slow, or not reading."""
        limit_s = time.monotonic() - IDLE_S
        for client in self._clients:
            if client.heard_s < limit_s:
                client.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = self._admit(writer)
        if client is None:
            return
        self._clients.append(client)
        try:
            await self._answer_all(client, reader)
        except NotModbus as bad:
            self._bad.happened(f"Modbus client {client.address} is closed: {bad}", client.address)
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has gone, which a PLC may do at any time
        finally:
            self._clients.remove(client)
            client.close()

    def _admit(self, writer: asyncio.StreamWriter) -> Client | None:
        """The new connection, where its address is allowed and has a place for it."""
        peer = writer.get_extra_info("peername")
        address = ipaddress.ip_address(peer[0]) if peer else None
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address not in self._allowed:
            self._refuse(writer, str(address))
            return None
        client = Client(str(address), writer, time.monotonic())
        others = [one for one in self._clients if one.address == client.address]
        if len(others) >= PLACES:
            oldest = min(others, key=lambda one: one.heard_s)
            if client.heard_s - oldest.heard_s < SILENT_S:
                self.refused += 1
                writer.transport.abort()
                return None
            oldest.close()
        writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, which, KERNEL_BYTES)
        return client

    def _refuse(self, writer: asyncio.StreamWriter, address: str) -> None:
        self.refused += 1
        writer.transport.abort()
        if address not in self._strangers and len(self._strangers) < LOGGED:
            self._strangers.add(address)
            log.warning(
                "Modbus client %s is not allowed: its connections are closed. If it is the PLC, add"
                " its address to allow in [modbus] of station.toml",
                address,
            )

    async def _answer_all(self, client: Client, reader: asyncio.StreamReader) -> None:
        """Its requests, one after the other, in their order; another client's turn is between any
        two of them.
        """
        registers = self._registers(client.address)
        while True:
            header = header_of(await reader.readexactly(HEADER_BYTES))
            if header is None:
                raise NotModbus("what it sends is no Modbus TCP")
            transaction, size, unit = header
            request = await reader.readexactly(size)
            client.heard_s = time.monotonic()
            answer = self._answer(request, unit, registers)
            client.writer.write(frame_of(transaction, unit, answer))
            if self._bad.is_on:
                self._bad.ended(client.address)
            await client.writer.drain()
            await asyncio.sleep(0)

    def _answer(self, request: bytes, unit: int, registers: Registers) -> bytes:
        try:
            return answer_of(request, unit, self._unit, registers)
        except Exception:  # one request that fails must not end a PLC's connection
            log.exception("a Modbus request cannot be answered: report this")
            return exception_of(request[0], DEVICE_FAILURE)


def bind_problem(error: OSError, host: str, port: int) -> str:
    """Why nobody can connect, and what to do."""
    where = f"{host}:{port} of [modbus] cannot be bound"
    if error.errno == errno.EACCES:
        return (
            f"{where}: this account may not use ports below 1024: set port = 1502, or run `sysctl"
            f" -w net.ipv4.ip_unprivileged_port_start={port}` as root and keep it in /etc/sysctl.d"
        )
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there: end it, or set another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address now: plug the network in, or set host"
    return f"{where}: {error}"
