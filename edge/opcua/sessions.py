"""Who may do what on the server: the doors that asyncua leaves open are closed here.

asyncua checks certificates only at CreateSession, and only if one is sent; lets a channel without
security carry a session; lets whoever guesses an authentication token, a small number, go on with
another client's session; and lets a session change the subscriptions of another. So a session is
activated only over a channel that a trusted certificate has opened, belongs to that channel, and
sees its own subscriptions alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import USER_TYPES, PermissionRuleset, User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from cryptography.hazmat.primitives import serialization

from edge.errors import EdgeError
from edge.opcua.certificates import TrustList, parse_der, uris_of
from edge.opcua.users import Role, read_users, role_for

log = logging.getLogger(__name__)

FAILURE_PAUSE_S = 1.0  # after a wrong password: the next one is not even looked at
CLOSED_SERVICES = (
    ua.ObjectIds.WriteRequest_Encoding_DefaultBinary,  # nothing is writable
    ua.ObjectIds.HistoryReadRequest_Encoding_DefaultBinary,  # records are the archive's
    ua.ObjectIds.TransferSubscriptionsRequest_Encoding_DefaultBinary,
)
CONNECTIONS, SUBSCRIPTIONS = 32, 64
IDLE_S = 120  # a session without any request ends
ACTIVATION_S = 10.0  # a connection without a session ends


@dataclass
class Caller(User):  # type: ignore[misc]
    """A user who has logged in."""

    may_operate: bool = False


NOBODY = Caller()
# who has sent the request that this task works on
caller: ContextVar[User] = ContextVar("caller", default=NOBODY)


class OwnServices(PermissionRuleset):  # type: ignore[misc]
    """The services that a session may use; what a method does with its caller, it asks itself."""

    def __init__(self) -> None:
        """The same for all."""
        closed = {ua.NodeId(one) for one in CLOSED_SERVICES}
        self._open = {ua.NodeId(one) for one in USER_TYPES} - closed

    def check_validity(self, user: Any, action_type: Any, body: Any) -> bool:  # noqa: ARG002
        """Whether this kind of request is taken."""
        return action_type in self._open


class Users:
    """asyncua's user manager: asked at every activation of a session."""

    def __init__(self, path: Path) -> None:
        """path: [opcua] users_file."""
        self._path = path
        self._pause_until_s = 0.0

    def get_user(
        self,
        iserver: Any,  # noqa: ARG002  # asyncua's signature
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,  # noqa: ARG002
    ) -> Caller | None:
        """Who this is; None for a wrong name or password, and for a second after one."""
        now_s = time.monotonic()
        if not username or password is None or now_s < self._pause_until_s:
            return None
        try:
            role = role_for(read_users(self._path), username, password)
        except (EdgeError, OSError) as error:
            log.error("nobody can log in: %s", error)
            return None
        if role is None:
            self._pause_until_s = now_s + FAILURE_PAUSE_S
            log.warning("a log-in as %s was refused: wrong name or password", ascii(username[:32]))
            return None
        log.info("user %s has logged in (%s)", username, role.value)
        return Caller(UserRole.User, username, role is Role.OPERATE)


class Session(InternalSession):  # type: ignore[misc]
    """One client's session."""

    iserver: GuardedServer

    async def create_session(
        self, params: Any, sockname: tuple[str, int] | None = None
    ) -> ua.CreateSessionResult:
        """Raises: ServiceError if the client's certificate is not trusted, or is another's."""
        if self.external:
            self.iserver.require_trusted(params.ClientCertificate, params.ClientDescription)
        return await super().create_session(params, sockname)

    def activate_session(self, params: Any, peer_certificate: bytes | None) -> Any:
        """peer_certificate: of the channel, whose key the client has proved to hold.

        Raises: ServiceError without a trusted one, so also over a channel without security.
        """
        if self.external:
            self.iserver.require_trusted(peer_certificate)
        return super().activate_session(params, peer_certificate)

    async def call(self, params: Any) -> Any:
        """Methods see who calls them."""
        caller.set(self.user)
        return await super().call(params)

    async def create_subscription(
        self, params: Any, callback: Any, request_callback: Any = None
    ) -> Any:
        """No faster than [opcua] publishing_ms."""
        fastest = float(self.iserver.publishing_ms)
        params.RequestedPublishingInterval = max(params.RequestedPublishingInterval, fastest)
        return await super().create_subscription(params, callback, request_callback)

    async def create_monitored_items(self, params: Any) -> Any:
        """In a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return await super().create_monitored_items(params)

    async def modify_monitored_items(self, params: Any) -> Any:
        """In a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: Any) -> Any:
        """In a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: Any) -> Any:
        """In a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return await super().set_monitoring_mode(params)

    async def set_publishing_mode(self, params: Any) -> Any:
        """Of subscriptions of one's own."""
        for one in params.SubscriptionIds:
            self._require_own(one)
        return await super().set_publishing_mode(params)

    async def delete_subscriptions(self, ids: list[int]) -> Any:
        """Of subscriptions of one's own."""
        for one in ids:
            self._require_own(one)
        return await super().delete_subscriptions(ids)

    def republish(self, params: Any) -> Any:
        """Of a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return super().republish(params)

    def modify_subscription(self, params: Any) -> Any:
        """Of a subscription of one's own."""
        self._require_own(params.SubscriptionId)
        return super().modify_subscription(params)

    def _require_own(self, number: int) -> None:
        found = self.subscription_service.subscriptions.get(number)
        if found is None or (self.external and found.session_id != self.session_id):
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)


class GuardedServer(InternalServer):  # type: ignore[misc]
    """asyncua's inner server with sessions of the kind above."""

    def __init__(self, trust: TrustList, users: Users, publishing_ms: int) -> None:
        """trust: the clients. users: asked after them."""
        self.trust, self.publishing_ms = trust, publishing_ms
        super().__init__(user_manager=users)
        self.allow_remote_admin = False
        self.supported_tokens = (ua.UserNameIdentityToken,)
        self.max_connections, self.max_subscriptions = CONNECTIONS, SUBSCRIPTIONS
        self.max_session_timeout_ms = 1e3 * IDLE_S
        self.max_pending_activation_seconds = ACTIVATION_S
        self.max_unacked_messages_per_subscription = 500
        self.max_monitored_item_queue_size = 1000

    def create_session(
        self, name: str, user: User = NOBODY, external: bool = False
    ) -> InternalSession:
        """A session that knows its limits."""
        return Session(self, self.aspace, self.subscription_service, name, user, external)

    def lookup_external_session(self, auth_token: Any) -> None:  # noqa: ARG002
        """None: a session ends with its connection. Its token is a small number: whoever guessed it
        would go on with another client's rights.
        """
        return

    def register_server(self, server: Any, conf: Any = None) -> None:  # noqa: ARG002
        """This is no discovery server. Raises: ServiceError."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    def require_trusted(self, der: bytes | None, description: Any = None) -> None:
        """Raises: ServiceError unless this is the certificate of a client that is trusted, and of
        the application that the client says it is.
        """
        certificate = parse_der(der or b"")
        if certificate is None:
            raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
        if not self.trust.is_trusted(certificate.public_bytes(serialization.Encoding.DER)):
            self.trust.reject(certificate)
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)
        if description is not None and description.ApplicationUri not in uris_of(certificate):
            raise ServiceError(ua.StatusCodes.BadCertificateUriInvalid)


Method = Callable[..., Awaitable[Any]]


def for_operators(method: Method) -> Method:
    """The method, refused to everybody who may only look."""

    async def guarded(parent: ua.NodeId, *args: Any) -> Any:
        user = caller.get()
        if not (isinstance(user, Caller) and user.may_operate):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        return await method(parent, *args)

    return guarded
