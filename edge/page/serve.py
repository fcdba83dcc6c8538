"""`edge page`: from the configuration to a server that runs until it is stopped."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

import uvicorn

from edge.config import PLACE, EdgeConfig
from edge.credential import secret_place
from edge.errors import ConfigError
from edge.page.app import create_app
from edge.page.connection import BoundedConnection
from edge.page.tls import Certificate, own_certificate, site_certificate
from edge.sections import PageConfig

log = logging.getLogger(__name__)

NICE = 10  # behind `edge run`, whatever is asked of the page
CONNECTIONS = 64  # more are answered with 503
BACKLOG = 64
IDLE_S = 15  # a connection without a request is closed
END_S = 2  # for requests at work when the page is stopped
HEADER_LIMIT = 16 << 10  # bytes


def serve(root: Path, config: EdgeConfig) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises: ConfigError if [page] is not enabled, its address cannot be used, or its certificate is
        none.
    """
    if not config.page.enabled:
        raise ConfigError(
            f"{root / PLACE}: enabled is false in [page]: set it to true, and make a user with"
            " `edge page user add NAME --role administer`"
        )
    with suppress(OSError):
        os.nice(NICE)
    certificate = certificate_of(root, config.page)
    with listening(config.page) as listener:
        server = make_server(root, certificate)
        log.info("the page is at %s", address_of(config.page, listener))
        server.run(sockets=[listener])


def make_server(root: Path, certificate: Certificate | None) -> uvicorn.Server:
    """The server, not started yet. certificate: None without TLS."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(root),
            http=BoundedConnection,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level="error",  # a flood must not fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody's X-Forwarded-... is trusted
            ssl_certfile=None if certificate is None else certificate.certificate,
            ssl_keyfile=None if certificate is None else certificate.key,
            limit_concurrency=CONNECTIONS,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=END_S,
            h11_max_incomplete_event_size=HEADER_LIMIT,
        )
    )


def certificate_of(root: Path, page: PageConfig) -> Certificate | None:
    """What [page] says; None without TLS. Raises: ConfigError."""
    if not page.tls:
        return None
    if page.certificate:
        return site_certificate(root / page.certificate, secret_place(page.key, root, "page.key"))
    return own_certificate(root, (page.host, *page.hosts))


def listening(page: PageConfig) -> socket.socket:
    """The socket at the address of [page]. Raises: ConfigError if it cannot be used."""
    try:
        family = socket.getaddrinfo(page.host, page.port, type=socket.SOCK_STREAM)[0][0]
        both = family == socket.AF_INET6 and page.host == "::"
        return socket.create_server(
            (page.host, page.port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise ConfigError(
            f"the page cannot listen at {page.host} port {page.port} ({error.strerror}): correct"
            " host and port in [page], or stop what uses them"
        ) from error


def address_of(page: PageConfig, listener: socket.socket) -> str:
    """What to type into a browser."""
    host = socket.gethostname() if page.host in ("0.0.0.0", "::") else page.host
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if page.tls else ''}://{shown}:{listener.getsockname()[1]}/"
