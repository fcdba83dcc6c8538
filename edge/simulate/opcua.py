"""The PLC's end of OPC UA (docs/opcua.md): StartSingleJob, and the events of the results.

It logs in as a guest of the station on its own machine: a certificate and a user that are made for
one connection and removed at its end. The key and the password never leave this process, so that
what a killed simulator leaves behind lets nobody in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edge.errors import ConfigError, EdgeError
from edge.files import make_folder, read_bytes, write_atomically
from edge.line.inbound import TriggerRequest
from edge.opcua.certificates import (
    CERTIFICATE,
    CERTIFICATE_LIMIT,
    FOLDER_MODE,
    KEY_BITS,
    TRUSTED,
    self_signed,
)
from edge.opcua.names import MODE, NAMESPACE, PATH, RESULT_READY, SYSTEM
from edge.opcua.users import Role, new_user, read_users, write_users
from edge.optional import optional_module
from edge.simulate.link import Acked, Hearing, Readiness, StationAddress, Told
from edge.station.store import Store

GUEST = "simulated-plc"
GUEST_URI = "urn:rgbd-inspection:simulated-plc"
PUBLISHING_MS = 10
AGAIN_S = 1.0  # between two tries to connect
LOOK_S = 0.2  # how often the connection is looked at
CALL_S = 4.0  # for one answer of the server
QUEUE = 1000  # results that may wait for one publishing interval
START = f"{MODE}/StartSingleJob"


class Guest:
    """A user and a trusted certificate for as long as they are needed."""

    def __init__(self, station: StationAddress) -> None:
        """Nothing is written before `enter`."""
        opcua = station.config.opcua
        self._root = station.root
        self._users = station.root / opcua.users_file
        self._trusted = station.root / opcua.certificates / TRUSTED / f"{GUEST}.der"
        self.server = station.root / opcua.certificates / CERTIFICATE
        self.password = secrets.token_urlsafe(24)
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        made = self_signed(key, GUEST_URI, GUEST, [])
        self.certificate = made.public_bytes(serialization.Encoding.DER)
        self.key = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def enter(self) -> None:
        """Be let in from now on. Raises: ConfigError or OSError if the station's files refuse."""
        user = new_user(GUEST, self.password, Role.OPERATE)
        with Store(self._root).inside():
            make_folder(self._trusted.parent, FOLDER_MODE)
            write_atomically(self._trusted, self.certificate)
            write_users(self._users, {**read_users(self._users), GUEST: user})

    def leave(self) -> None:
        """Nobody is let in by this any more."""
        with contextlib.suppress(EdgeError, OSError), Store(self._root).inside():
            self._trusted.unlink(missing_ok=True)
            users = read_users(self._users)
            if users.pop(GUEST, None) is not None:
                write_users(self._users, users)


class OpcUaPlc(Hearing):
    """A PLC as one OPC UA client."""

    def __init__(self, url: str, guest: Guest) -> None:
        """url: of the endpoint."""
        super().__init__()
        self._url, self._guest = url, guest
        self._listens = threading.Event()  # connected, and subscribed
        self._closing = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="simulated plc", daemon=True)
        self._why = "it does not answer"
        self._start: Callable[..., Coroutine[Any, Any, Any]] | None = None  # StartSingleJob
        self._ready = False

    def connect(self, timeout_s: float) -> None:
        """As PlcLink's."""
        self._guest.enter()
        self._thread.start()
        if not self._listens.wait(timeout_s):
            self.close()
            raise EdgeError(
                f"the OPC UA server at {self._url} cannot be used within {timeout_s:g} s"
                f" ({self._why}): is edge-opcua.service running?"
            )

    def trigger(self, request: TriggerRequest) -> bool:
        """As PlcLink's."""
        start = self._start
        if start is None or not self._listens.is_set():
            return False
        asyncio.run_coroutine_threadsafe(self._ask(start, request), self._loop)
        return True

    def close(self) -> None:
        """As PlcLink's."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(2 * LOOK_S + CALL_S)
        elif not self._loop.is_closed() and not self._thread.ident:
            self._loop.close()  # it was never started
        self._guest.leave()

    def event_notification(self, event: Any) -> None:
        """A result has come. Called by the library."""
        at_s = time.monotonic()
        self.note(Told(event.PartId, event.N, event.Seq, event.Code, event.Reason, at_s))

    def datachange_notification(self, node: Any, value: Any, _: Any) -> None:
        """Ready or Heartbeat has changed. Called by the library; Ready comes first."""
        if node.nodeid.Identifier.endswith("/Ready"):
            self._ready = bool(value)
        elif value is None:
            self.note(Readiness(False, time.monotonic()))
        else:
            self.note(Readiness(self._ready, time.monotonic()))

    def status_change_notification(self, _: Any) -> None:
        """Of the subscription: its end is seen with the connection's. Called by the library."""

    # --- the thread of the connection ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._keep_connected())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _keep_connected(self) -> None:
        while not self._closing.is_set():
            try:
                await self._converse()
            # the library has a dozen of its own, and whatever it is, the connection is lost
            except Exception as error:  # noqa: BLE001
                self._why = str(error) or type(error).__name__
            if self._listens.is_set():
                self._listens.clear()
                self.note(Readiness(False, time.monotonic()))
            end_s = time.monotonic() + AGAIN_S
            while not self._closing.is_set() and time.monotonic() < end_s:
                await asyncio.sleep(LOOK_S)

    async def _converse(self) -> None:
        """One connection, until it breaks or close()."""
        from asyncua import Client
        from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

        guest = self._guest
        client = Client(self._url, timeout=CALL_S)
        client.application_uri = GUEST_URI
        client.set_user(GUEST)
        client.set_password(guest.password)
        server = read_bytes(guest.server, limit=CERTIFICATE_LIMIT)
        await client.set_security(
            SecurityPolicyBasic256Sha256, guest.certificate, guest.key, server_certificate=server
        )
        async with client:
            await self._subscribe(client)
            self._listens.set()
            while not self._closing.is_set():
                await client.check_connection()
                await asyncio.sleep(LOOK_S)

    async def _subscribe(self, client: Any) -> None:
        from asyncua import ua

        index = await client.get_namespace_index(NAMESPACE)

        def node(path: str) -> Any:
            return client.get_node(ua.NodeId(f"{SYSTEM}/{path}".rstrip("/"), index))

        base = client.get_node(ua.ObjectIds.BaseEventType)
        results = await base.get_child(f"{index}:{RESULT_READY}")
        subscription = await client.create_subscription(PUBLISHING_MS, self)
        await subscription.subscribe_events(node(""), [results], queuesize=QUEUE)
        await subscription.subscribe_data_change([node("Ready"), node("Heartbeat")])
        mode, method = node(MODE), node(START).nodeid

        async def start(part: str, meas_id: str, parameters: list[str]) -> Any:
            texts = [ua.Variant(text, ua.VariantType.String) for text in (meas_id, part, "", "")]
            more = ua.Variant(parameters, ua.VariantType.String, is_array=True)
            return await mode.call_method(method, *texts, more)

        self._start = start

    async def _ask(self, start: Callable[..., Any], request: TriggerRequest) -> None:
        """No answer is no event: the PLC's timer decides."""
        said = {key: value for key, value in vars(request).items() if value is not None}
        part, n = said.pop("part"), said.pop("n", "")
        parameters = [f"{key}={value}" for key, value in said.items()]
        with contextlib.suppress(Exception):
            job, error, reason = await asyncio.wait_for(start(part, str(n), parameters), CALL_S)
            seq = int(job) if job else None
            word = reason.partition(":")[0]
            self.note(Acked(part, request.n, error == 0, word, seq, time.monotonic()))


def make_link(station: StationAddress) -> OpcUaPlc:
    """The PLC for this station's server. Raises: ConfigError, MissingDependency."""
    optional_module("asyncua", "Install it: pip install 'rgbd-inspection[opcua]'")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # what matters is an EdgeError
    opcua = station.config.opcua
    if not opcua.enabled:
        raise ConfigError(
            "enabled is false in [opcua] of station.toml: this station has no OPC UA; name another"
            " --dialect"
        )
    guest = Guest(station)
    if not Path(guest.server).exists():
        raise ConfigError(
            f"{guest.server} does not exist: start edge-opcua.service once, and give this command"
            " on the station itself"
        )
    anywhere = opcua.host in ("0.0.0.0", "::")
    host = station.host or ("127.0.0.1" if anywhere else opcua.host)
    return OpcUaPlc(f"opc.tcp://{host}:{station.port or opcua.port}{PATH}", guest)
