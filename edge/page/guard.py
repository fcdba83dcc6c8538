"""What holds for every request and answer, before any route is looked at.

- Host must be a name of this station, or an address: a page of the internet whose name was made to
  lead here (DNS rebinding) is refused.
- What is not GET must come from a page of this very origin (Origin, Sec-Fetch-Site), beside the
  cookie's SameSite=Strict.
- Bodies are small.
- Every answer has a strict content security policy: nothing from elsewhere, nothing inline.

Headers of a proxy (X-Forwarded-...) are trusted from nobody.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

BODY_LIMIT = 64 << 10  # bytes
METHODS = ("GET", "POST")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: the live picture
        "connect-src 'self'",
        "form-action 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # "no-referrer" would make Origin "null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
CACHE = "cache-control"


class _TooLarge(Exception):
    """A body without a length was longer than it may be."""


class Guard:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        """hosts: names under which this station is reached, besides those of this machine."""
        own = ("localhost", socket.gethostname())
        self._app = app
        self._hosts = {name.lower().rstrip(".") for name in (*own, f"{own[1]}.local", *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, out = Headers(scope=scope), _Answer(send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, out.send)
            return
        try:
            await self._app(scope, _limited(receive), out.send)
        except _TooLarge:
            await out.instead(_said(413, "the request is too large"), scope, receive)
        except Exception:
            log.exception("%s %s failed", scope["method"], ascii(scope["path"]))
            await out.instead(_said(500, "this page has failed: see its log"), scope, receive)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self.is_own(host):
            return _said(421, "this station is not known by that name: add it to hosts in [page]")
        if scope["method"] not in METHODS:
            return _said(405, "only GET and POST")
        if scope["method"] == "POST" and not _is_same_origin(scope["scheme"], host, headers):
            return _said(403, "the request comes from another page")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT:
            return _said(413, "the request is too large")
        return None

    def is_own(self, host: str) -> bool:
        """Whether the header Host names this station. A rebound name is never an address."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            return name in self._hosts or _is_address(name)
        except ValueError:
            return False


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_same_origin(scheme: str, host: str, headers: Headers) -> bool:
    """Browsers send at least one of the two with every POST; a program sends Origin itself."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    return origin in (None, f"{scheme}://{host}") and site in (None, "same-origin", "none")


def _limited(receive: Receive) -> Receive:
    """Bodies without a length are counted while they come."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > BODY_LIMIT:
            raise _TooLarge
        return message

    return limited


class _Answer:
    """Sends with the headers of every answer."""

    def __init__(self, send: Send) -> None:
        self._send, self._is_begun = send, False

    async def send(self, message: Message) -> None:
        """For the application. Nothing is kept by a browser unless the route says so."""
        if message["type"] == "http.response.start":
            self._is_begun = True
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault(CACHE, "no-store")
        await self._send(message)

    async def instead(self, response: PlainTextResponse, scope: Scope, receive: Receive) -> None:
        """Answer with this, unless an answer has begun."""
        if not self._is_begun:
            await response(scope, receive, self.send)


def _said(status: int, sentence: str) -> PlainTextResponse:
    return PlainTextResponse(f"{sentence}\n", status)
