"""The OPC UA server in a thread of the test's process, and clients of it, one line each.

Everything of asyncua runs in that thread's event loop; tests call from outside.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edge.config import EdgeConfig, parse_config
from edge.opcua.certificates import TRUSTED, self_signed
from edge.opcua.names import EVENTS, MODE, NAMESPACE, PATH, SYSTEM
from edge.opcua.server import StationServer
from edge.opcua.users import Role, new_user, write_users
from tests.support.broker import wait_until
from tests.support.patience import HANG_S

Result = TypeVar("Result")
FOLDER = Path("var/lib/edge/opcua")
PASSWORDS = {"plc": "operate-me", "screen": "look-at-me"}
CLIENT_URI = "urn:test:plc"


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HANG_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_S)
        self._loop.close()


class ClientKey:
    """A client's key and self-signed certificate."""

    def __init__(self, folder: Path, name: str = "client", uri: str = CLIENT_URI) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        made = self_signed(key, uri, name, [x509.DNSName("localhost")])
        self.uri = uri
        self.certificate, self.key = folder / f"{name}.der", folder / f"{name}.pem"
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.DER))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def trusted_by(self, root: Path) -> ClientKey:
        folder = root / FOLDER / TRUSTED
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.certificate.name).write_bytes(self.certificate.read_bytes())
        return self


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def section(port: int) -> str:
    """[opcua] of station.toml."""
    return f'[opcua]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\n'


def opcua_config(port: int, mode: str = "triggered") -> EdgeConfig:
    return parse_config(
        f'[station]\nstation = "s1"\n[broker]\nenabled = false\n{section(port)}'
        f'[decision]\nmode = "{mode}"\n'
    )


def make_users(root: Path) -> None:
    roles = {"plc": Role.OPERATE, "screen": Role.LOOK}
    users = {name: new_user(name, PASSWORDS[name], role) for name, role in roles.items()}
    write_users(root / FOLDER / "users.json", users)


class RunningServer:
    """edge.opcua's server for a root."""

    def __init__(self, loop: Loop, root: Path, config: EdgeConfig) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._loop = loop
        self.server = StationServer(root, config)
        self._context = self.server.running()
        loop.run(self._context.__aenter__())

    def stop(self) -> None:
        self._loop.run(self._context.__aexit__(None, None, None))


class Heard:
    """Events and changes that a subscription has brought, with their moments."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Any]] = []
        self.changes: list[tuple[float, str, Any]] = []

    def event_notification(self, event: Any) -> None:
        self.events.append((time.monotonic(), event))

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.changes.append((time.monotonic(), node.nodeid.Identifier, value))

    def status_change_notification(self, status: Any) -> None:
        pass

    def of(self, part: str) -> list[Any]:
        """The results of a part."""
        found = [event for _, event in list(self.events)]
        return [event for event in found if event.PartId == part and event.Code is not None]


class UaClient:
    """An OPC UA client, called from the test's thread."""

    def __init__(
        self,
        loop: Loop,
        port: int,
        key: ClientKey | None,
        user: str | None = "plc",
        password: str | None = None,
        mode: Any = ua.MessageSecurityMode.SignAndEncrypt,
    ) -> None:
        """key: None for no security. user: None for anonymous."""
        self._loop, self.heard = loop, Heard()
        self._client = Client(f"opc.tcp://127.0.0.1:{port}{PATH}", timeout=20)
        self._key, self._mode = key, mode
        if key is not None:
            self._client.application_uri = key.uri
        if user is not None:
            self._client.set_user(user)
            self._client.set_password(password or PASSWORDS.get(user, ""))
        self._index = 2

    def connect(self) -> UaClient:
        self._loop.run(self._connect())
        return self

    def close(self) -> None:
        self._loop.run(self._client.disconnect())

    def read(self, path: str) -> Any:
        return self._loop.run(self._node(path).read_value())

    def status(self, path: str) -> str:
        """The name of a variable's status."""
        data = self._loop.run(self._node(path).read_data_value(raise_on_bad_status=False))
        name: str = data.StatusCode.name
        return name

    def write(self, path: str, value: Any) -> None:
        self._loop.run(self._node(path).write_value(value))

    def call(self, path: str, *given: Any) -> Any:
        parent = self._node(path.rpartition("/")[0])
        return self._loop.run(parent.call_method(self._node(path).nodeid, *given))

    def start(self, part: str, *parameters: str, meas: str = "", recipe: str = "") -> list[Any]:
        """StartSingleJob: JobId, Error and Reason."""
        given = [ua.Variant(one, ua.VariantType.String) for one in (meas, part, recipe, "")]
        more = ua.Variant(list(parameters), ua.VariantType.String, is_array=True)
        found: list[Any] = self.call(f"{MODE}/StartSingleJob", *given, more)
        return found

    def listen(self, to: str = "", period_ms: int = 10) -> Heard:
        """Subscribe to all events of the vision system. to: "Server" for those of that object."""
        self._loop.run(self._listen(to, period_ms))
        return self.heard

    def watch(self, *paths: str, period_ms: int = 10) -> Heard:
        self._loop.run(self._watch(paths, period_ms))
        return self.heard

    @property
    def token(self) -> Any:
        """What the server knows this session by."""
        return self._client.uaclient.session.authentication_token

    def revised_period_ms(self, asked_ms: float) -> float:
        """The publishing interval that the server grants."""
        asked = ua.CreateSubscriptionParameters()
        asked.RequestedPublishingInterval = asked_ms
        session = self._client.uaclient.session
        made = self._loop.run(session.create_subscription(asked, lambda _: None))
        period_ms: float = made.RevisedPublishingInterval
        return period_ms

    def listen_number(self) -> int:
        """A new subscription's number."""
        made = self._loop.run(self._client.create_subscription(100, self.heard))
        number: int = made.subscription_id
        return number

    def delete_subscription(self, number: int) -> None:
        async def delete() -> None:
            for code in await self._client.uaclient.session.delete_subscriptions([number]):
                code.check()

        self._loop.run(delete())

    def take_subscription(self, number: int) -> None:
        async def take() -> None:
            asked = ua.TransferSubscriptionsParameters()
            asked.SubscriptionIds = [number]
            for one in await self._client.uaclient.session.transfer_subscriptions(asked):
                one.StatusCode.check()

        self._loop.run(take())

    def result(self, part: str, count: int = 1) -> Any:
        wait_until(lambda: len(self.heard.of(part)) >= count, 20, f"no result of {part}")
        return self.heard.of(part)[count - 1]

    def browse(self, path: str) -> list[str]:
        async def names() -> list[str]:
            children = await self._node(path).get_children()
            return [(await child.read_browse_name()).Name for child in children]

        return self._loop.run(names())

    async def _connect(self) -> None:
        if self._key is not None:
            await self._client.set_security(
                SecurityPolicyBasic256Sha256,
                str(self._key.certificate),
                str(self._key.key),
                mode=self._mode,
            )
        await self._client.connect()
        self._index = await self._client.get_namespace_index(NAMESPACE)

    async def _listen(self, to: str, period_ms: int) -> None:
        base = self._client.get_node(ua.ObjectIds.BaseEventType)
        types = [await base.get_child(f"{self._index}:{name}") for name in EVENTS]
        subscription = await self._client.create_subscription(period_ms, self.heard)
        source = self._client.nodes.server if to == "Server" else self._node("")
        await subscription.subscribe_events(source, types, queuesize=1000)

    async def _watch(self, paths: tuple[str, ...], period_ms: int) -> None:
        subscription = await self._client.create_subscription(period_ms, self.heard)
        await subscription.subscribe_data_change([self._node(path) for path in paths])

    def _node(self, path: str) -> Any:
        return self._client.get_node(ua.NodeId(f"{SYSTEM}/{path}".rstrip("/"), self._index))
