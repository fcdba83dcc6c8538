"""The page's certificate: one of the site, or one that is made at the first start.

    var/lib/edge/page/own/      certificate.pem, key.pem (0600), about.json

Nobody has signed the one that is made here: browsers warn once. Compare the SHA-256 fingerprint
that they show with the one in the log.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ConfigError
from edge.files import make_folder, read_bytes, read_text, write_atomically, write_json
from edge.page.vault import FOLDER, FOLDER_MODE

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

log = logging.getLogger(__name__)

OWN = FOLDER / "own"
ABOUT = "about.json"  # what the certificate says, written last
KEY_MODE = 0o600
VALID_DAYS = 820  # Apple's devices take none that is valid for more than 825
RENEW_DAYS = 60  # before the end, at the next start
# a machine without a clock of its own may start in 1970
EARLIEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
LIMIT = 64 << 10  # bytes of a file


@dataclass(frozen=True)
class Certificate:
    """What browsers are shown. The files are PEM, the key has no password."""

    certificate: Path
    key: Path


def site_certificate(certificate: Path, key: Path) -> Certificate:
    """The site's own. Raises: ConfigError naming the file that is not what it should be."""
    for path in (certificate, key):
        read_bytes(path, limit=LIMIT)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"{certificate} and {key} are no certificate and its key, both PEM, the key without a"
            " password: correct certificate and key in [page]"
        ) from error
    return Certificate(certificate, key)


def own_certificate(root: Path, names: Sequence[str]) -> Certificate:
    """The one that is made here: at the first start, and when it nears its end or `names`, under
    which the station is reached, have changed.

    The library that makes it is loaded only then.
    """
    found = Certificate(root / OWN / "certificate.pem", root / OWN / "key.pem")
    wanted, about = _names(names), root / OWN / ABOUT
    if not _is_good(found, about, wanted):
        _make(found, about, wanted)
    der = ssl.PEM_cert_to_DER_cert(read_text(found.certificate, limit=LIMIT))
    log.info(
        "the page's own certificate has the SHA-256 fingerprint %s",
        hashlib.sha256(der).digest().hex(":").upper(),
    )
    return found


def _is_good(found: Certificate, about: Path, names: set[str]) -> bool:
    """Whether there is one, for these names, that is valid for long enough."""
    if not (found.certificate.exists() and found.key.exists() and about.exists()):
        return False
    try:
        said = json.loads(read_text(about, limit=LIMIT))
        left_s = float(said["until_s"]) - time.time()
        return left_s > RENEW_DAYS * 86_400 and set(said["names"]) == names
    except (ValueError, TypeError, KeyError):
        return False


def _make(made: Certificate, about: Path, names: set[str]) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    make_folder(made.key.parent, FOLDER_MODE)
    about.unlink(missing_ok=True)  # of a certificate that may be half replaced now
    write_atomically(made.key, pem, KEY_MODE)
    signed = _signed(key, names)
    write_atomically(made.certificate, signed.public_bytes(serialization.Encoding.PEM))
    said = {"until_s": signed.not_valid_after_utc.timestamp(), "names": sorted(names)}
    write_json(about, said)


def _signed(key: ec.EllipticCurvePrivateKey, names: set[str]) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = max(datetime.datetime.now(datetime.timezone.utc), EARLIEST)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:64])])
    others = x509.SubjectAlternativeName([_general(name) for name in sorted(names)])
    return (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .not_valid_before(min(now, EARLIEST))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .add_extension(others, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _names(names: Sequence[str]) -> set[str]:
    """Of this machine, and those that the configuration adds; wildcards are no names."""
    machine = (socket.gethostname(), "localhost", "127.0.0.1", "::1")
    return {name for name in (*machine, *names) if name not in ("", "0.0.0.0", "::")}


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
