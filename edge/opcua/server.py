"""`edge opcua`: the server from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asyncua import Server, ua

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.opcua.certificates import TrustList, own_certificate
from edge.opcua.link import StationLink
from edge.opcua.methods import Methods
from edge.opcua.names import PATH, application_uri
from edge.opcua.nodes import Nodes
from edge.opcua.sessions import GuardedServer, OwnServices, Users
from edge.opcua.system import VisionSystem
from edge.opcua.users import read_users

log = logging.getLogger(__name__)

POLICIES = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
)
MESSAGE_LIMIT = 1 << 20  # bytes of a request


class StationServer:
    """The OPC UA server of the station under one root."""

    def __init__(self, root: Path, config: EdgeConfig) -> None:
        """Nothing is opened before `running`."""
        self._root, self._config = root, config
        self._system = VisionSystem()
        self._server: Server | None = None

    @property
    def clients(self) -> int:
        """How many clients have an open session."""
        if self._server is None or self._server.bserver is None:
            return 0
        sessions = [one.processor.session for one in self._server.bserver.clients if one.processor]
        return sum(session is not None and session.is_activated() for session in sessions)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StationServer]:
        """Serve clients, and keep the connection to the station.

        Raises: ConfigError if certificates, users or the port cannot be used.
        """
        server = await self._prepared()
        link = StationLink(self._root, self._system.hear, self._system.lose, lambda: self.clients)
        self._system.send = link.send
        self._system.nodes = await Nodes.build(server, Methods(self._system).by_path())
        await self._listen(server)
        self._server = server
        linking = asyncio.create_task(link.run())
        try:
            yield self
        finally:
            linking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await linking
            await server.stop()

    async def _listen(self, server: Server) -> None:
        try:
            await server.start()
        except OSError as error:
            opcua = self._config.opcua
            raise ConfigError(
                f"port {opcua.port} of {opcua.host} cannot be opened ({error.strerror or error}):"
                " another server uses it, or this machine has no such address: change [opcua] in"
                " station.toml"
            ) from error

    async def _prepared(self) -> Server:
        """The server with its certificate and without any node of ours."""
        opcua, uri = self._config.opcua, application_uri(self._config.station)
        folder, users = self._root / opcua.certificates, self._root / opcua.users_file
        own = own_certificate(folder, uri, opcua.host)
        if not read_users(users):
            log.warning("there is no user yet: `edge opcua user NAME` makes one")
        inner = GuardedServer(TrustList(folder), Users(users), opcua.publishing_ms)
        server = Server(iserver=inner)
        server.set_endpoint(f"opc.tcp://{opcua.host}:{opcua.port}{PATH}")
        server.set_server_name(f"Inspection station {self._config.station.station}")
        server.product_uri = "urn:rgbd-inspection"
        server.manufacturer_name = "rgbd-inspection"
        server.application_type = ua.ApplicationType.Server
        await server.init()
        await server.set_application_uri(uri)
        server.set_security_policy(list(POLICIES), OwnServices())
        await server.load_certificate(own.certificate)
        await server.load_private_key(own.key)
        server.limits.max_message_size = MESSAGE_LIMIT
        server.limits.max_chunk_count = MESSAGE_LIMIT // server.limits.max_recv_buffer + 1
        log.info(
            "certificate %s (SHA-1 thumbprint %s), valid until %s",
            own.certificate,
            own.thumbprint,
            f"{own.valid_until:%Y-%m-%d}",
        )
        return server


def serve(root: Path, config: EdgeConfig) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Raises: ConfigError if [opcua] is not enabled, or as StationServer.running.
    """
    if not config.opcua.enabled:
        raise ConfigError(
            "enabled is false in [opcua] of station.toml: `edge run` would have nothing to say to"
            " this server: set it to true, and restart `edge run`"
        )
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what matters is said here
    asyncio.run(_serve(StationServer(root, config)))


async def _serve(server: StationServer) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with server.running():
        log.info("the OPC UA server is ready")
        await ended.wait()
    log.info("the OPC UA server has ended")
