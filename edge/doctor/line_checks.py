"""What the station reaches and shows: broker, certificates."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge.doctor.finding import Finding, Subject, right, wrong
from edge.errors import ConfigError, EdgeError
from edge.files import read_bytes
from edge.line.credentials import check_credentials, with_paths_below
from edge.runtime.status import SILENT_S
from edge.runtime.status_file import read_live

REACH_S = 3.0
CERTIFICATE_LIMIT = 256 << 10  # bytes
SOON = timedelta(days=30)
NOT_YET = timedelta(days=1)  # a clock that is not synchronized may be as far off


def broker(subject: Subject) -> Finding | None:
    """Whether the broker takes verdicts: as the running station says; else whether it answers."""
    section = subject.config.broker
    if not section.enabled:
        return None
    where = f"{section.host}:{section.port}"
    live = read_live(subject.store)
    if live is not None and live.said and live.age_s <= SILENT_S:  # else it hangs
        problem = live.said.get("link")
        if not problem:
            return right(f"{where}, connected")
        return wrong(f"{where}: {problem}", "docs/troubleshooting.md, `The broker`")
    try:
        check_credentials(with_paths_below(section, subject.store.root))
        socket.create_connection((section.host, section.port), REACH_S).close()
    except ConfigError as error:
        return wrong(str(error), "correct [broker] of station.toml")
    except OSError as error:
        return wrong(
            f"{where} does not answer ({error.strerror or error})",
            "start the broker, or correct host and port in [broker] of station.toml",
        )
    return right(f"{where} answers; whether it lets the station in, `edge run` shows")


def certificates(subject: Subject) -> Finding | None:
    """Whether every certificate of the station is valid now and for another month."""
    files = list(_files(subject))
    if not files:
        return None
    now, until = datetime.now(timezone.utc), {}
    for path in files:
        try:
            first, last = _dates(path)
        except (EdgeError, OSError, ValueError) as error:
            return wrong(f"{path} cannot be read: {error}", "replace it")
        if first > now + NOT_YET:
            return wrong(
                f"{path} is valid from {first:%Y-%m-%d} on, this machine's date is {now:%Y-%m-%d}",
                "correct the clock, or the certificate",
            )
        until[path] = last
    path = min(until, key=lambda one: until[one])
    said = f"{len(files)} valid, {path.name} until {until[path]:%Y-%m-%d}"
    if until[path] > now + SOON:
        return right(said)
    if until[path] <= now:
        return wrong(f"{path} has expired on {until[path]:%Y-%m-%d}", "replace it")
    return wrong(f"{path} is valid until {until[path]:%Y-%m-%d}", "replace it before that day")


def _files(subject: Subject) -> Iterator[Path]:
    """Certificates that station.toml names, and those that the servers have made for themselves."""
    config, root = subject.config, subject.store.root
    named = [config.broker.ca_file, config.broker.cert_file] if config.broker.enabled else []
    named += [config.update.ca_file] if config.update.source != "off" else []
    yield from (root / name for name in named if name)
    if config.page.enabled and config.page.tls:
        own = "var/lib/edge/page/own/certificate.pem"
        path = root / (config.page.certificate or own)
        if config.page.certificate or path.exists():
            yield path
    if config.opcua.enabled:
        yield from sorted((root / config.opcua.certificates / "own").glob("*.der"))


def _dates(path: Path) -> tuple[datetime, datetime]:
    """From when and until when every certificate of a file is valid. Raises: ValueError, OSError,
    ConfigError if it holds none.
    """
    from cryptography import x509

    data = read_bytes(path, limit=CERTIFICATE_LIMIT)
    if b"-----BEGIN" in data:
        found = x509.load_pem_x509_certificates(data)
    else:
        found = [x509.load_der_x509_certificate(data)]
    return (
        max(one.not_valid_before_utc for one in found),
        min(one.not_valid_after_utc for one in found),
    )
