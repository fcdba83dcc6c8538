"""The password and certificates with which station and broker identify each other, read and checked
before anything starts.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
from pathlib import Path

from edge.credential import is_handed_over, secret_place
from edge.errors import ConfigError
from edge.files import open_plain, read_text, sentence_of
from edge.sections import BrokerConfig

log = logging.getLogger(__name__)

PASSWORD_LIMIT = 64 << 10  # bytes, as much as MQTT carries
FILE_KEYS = ("ca_file", "cert_file", "key_file", "password_file")


def with_paths_below(broker: BrokerConfig, root: Path) -> BrokerConfig:
    """The same configuration with every file's path absolute; in station.toml they may be relative
    to the root, or credentials that systemd hands over.

    Raises: ConfigError for a credential that this process did not get.
    """
    named = {key: getattr(broker, key) for key in FILE_KEYS if getattr(broker, key)}
    places = {key: secret_place(value, root, f"broker.{key}") for key, value in named.items()}
    return broker.model_copy(update={key: str(place) for key, place in places.items()})


def check_credentials(broker: BrokerConfig, section: str = "broker") -> None:
    """Check that every file that [broker] names can be used, and warn of secrets that others can
    read. section: of station.toml that names them, for the warnings.

    Raises: ConfigError, naming the key and the file.
    """
    read_password(broker)
    tls_context(broker)
    for key in ("password_file", "key_file"):
        if getattr(broker, key):
            _warn_of_mode(f"{section}.{key}", Path(getattr(broker, key)))
    if broker.password_file and not broker.tls:
        log.warning(
            "%s.password_file: the password crosses the network in clear: set tls = true in [%s]",
            section,
            section,
        )


def read_password(broker: BrokerConfig) -> str | None:
    """The first line of password_file, without its line end.

    Raises: ConfigError if it is empty or cannot be read.
    """
    if not broker.password_file:
        return None
    path = Path(broker.password_file)
    try:
        password = read_text(path, limit=PASSWORD_LIMIT).partition("\n")[0].rstrip("\r")
    except ConfigError as error:
        raise ConfigError(f"broker.password_file: {error}") from error
    if not password:
        raise ConfigError(
            f"broker.password_file: the first line of {path} is empty: write the password there"
        )
    return password


def tls_context(broker: BrokerConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or later, the broker's certificate and name checked; None without TLS.

    Raises: ConfigError if ca_file, cert_file or key_file cannot be used.
    """
    if not broker.tls:
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.ca_file:
        context = _context_with(broker.ca_file)
    context.sslsocket_class = _Socket
    if broker.cert_file:
        _show_certificate(context, broker)
    return context


class _Socket(ssl.SSLSocket):
    """A socket that is closed when the handshake fails: the MQTT library leaves that to the garbage
    collector.
    """

    def do_handshake(self, block: bool = False) -> None:
        """As SSLSocket's."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def find_alert(broker: BrokerConfig, timeout_s: float) -> str:
    """The alert of a TLS server that closes the connection after the handshake; empty if it sends
    none.

    This connects again and sends nothing: a server that closes the connection with CONNECT unread
    resets it, and its alert is lost.
    """
    try:
        context = tls_context(broker)
        if context is None:
            return ""
        plain = socket.create_connection((broker.host, broker.port), timeout_s)
        with plain, context.wrap_socket(plain, server_hostname=broker.host) as secure:
            secure.recv(1)
    except (OSError, ConfigError) as error:  # ConfigError: a file that was there is gone
        return str(error) if isinstance(error, ssl.SSLError) else ""
    return ""


def _context_with(ca_file: str) -> ssl.SSLContext:
    """A context that trusts this file's authorities and no others."""
    _require_file("ca_file", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(
            f"broker.ca_file: {ca_file} contains no certificate in PEM: name the PEM file of the"
            " authority that signed the broker's certificate"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _show_certificate(context: ssl.SSLContext, broker: BrokerConfig) -> None:
    _require_file("cert_file", broker.cert_file)
    _require_file("key_file", broker.key_file)
    try:
        context.load_cert_chain(broker.cert_file, broker.key_file, password=_no_password)
    except ssl.SSLError as error:
        if "MISMATCH" in str(error):
            what = (
                "they do not belong together: name the certificate and the key that were made for"
                " each other"
            )
        else:
            what = (
                "they are not a certificate and an unencrypted key in PEM: convert them (openssl"
                " x509, openssl pkey)"
            )
        files = f"broker.cert_file {broker.cert_file} and broker.key_file {broker.key_file}"
        raise ConfigError(f"{files}: {what}") from error


def _no_password() -> str:
    """For an encrypted key; without this function OpenSSL would ask at the terminal and the station
    would wait forever.
    """
    return ""


def _require_file(key: str, path: str) -> None:
    """Check that the file can be read.

    A pipe is refused: opening one blocks, and no signal ends that.
    """
    try:
        with os.fdopen(open_plain(Path(path)), "rb") as file:
            file.read(1)
    except ConfigError as error:
        raise ConfigError(f"broker.{key}: {error}") from error
    except OSError as error:
        raise ConfigError(f"broker.{key}: {sentence_of(error, Path(path))}") from error


def _warn_of_mode(key: str, path: Path) -> None:
    """Warn if another account can read or change the secret; a group may read a file that root
    owns, and a credential shows the mode of its access list.
    """
    if is_handed_over(path):
        return
    found = path.stat()
    allowed = (
        stat.S_IRUSR
        | stat.S_IWUSR
        | stat.S_IXUSR
        | (stat.S_IRGRP if found.st_uid == 0 and found.st_gid else 0)
    )
    if stat.S_IMODE(found.st_mode) & ~allowed:
        log.warning(
            "%s: other accounts can read or change %s: chmod 600 it, owned by the user of"
            " the service",
            key,
            path,
        )
