"""The server's own certificate, and those of the clients that it trusts.

    own/        certificate.der and key.pem (0600), made at the first start
    trusted/    a client may connect if its certificate lies here, in DER or PEM
    rejected/   certificates of clients that were refused, for `edge opcua trust`

A certificate is trusted by itself, not by an authority that signed it, and until it is removed: one
that has expired is still taken, with a warning, so that no line stops at midnight.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import logging
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.errors import ConfigError, on_one_line
from edge.files import make_folder, read_bytes, write_atomically

log = logging.getLogger(__name__)

CERTIFICATE, KEY = Path("own/certificate.der"), Path("own/key.pem")
TRUSTED, REJECTED = "trusted", "rejected"
FOLDER_MODE, KEY_MODE = 0o700, 0o600
KEY_BITS = 2048
VALID_YEARS = 10
WARN_DAYS = 60  # before the end
# a machine without a clock of its own may start in 1970
EARLIEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
REJECTED_LIMIT = 50  # files; the oldest goes first
CERTIFICATE_LIMIT = 16 << 10  # bytes


@dataclass(frozen=True)
class OwnCertificate:
    """What the server shows to clients. valid_until: UTC."""

    certificate: Path
    key: Path
    thumbprint: str
    valid_until: datetime.datetime


def own_certificate(folder: Path, uri: str, host: str) -> OwnCertificate:
    """The server's certificate, made now if there is none.

    Args:
        folder: [opcua] certificates.
        uri: of the application; a certificate of another one is replaced.
        host: that clients connect to; a wildcard address is left out.
    Raises: ConfigError if the files are damaged.
    """
    certificate, key = folder / CERTIFICATE, folder / KEY
    if not (certificate.exists() and key.exists()):
        _make_own(folder, uri, host)
    read = _parse(read_bytes(certificate, limit=CERTIFICATE_LIMIT), certificate)
    if uri not in uris_of(read):
        raise ConfigError(
            f"{certificate} belongs to a station of another name: remove {certificate.parent} for a"
            f" certificate of {uri}, which the clients must then trust"
        )
    until = read.not_valid_after_utc
    left = until - datetime.datetime.now(datetime.timezone.utc)
    if left < datetime.timedelta(days=WARN_DAYS):
        log.warning(
            "%s is valid until %s: remove %s for a new one, which the clients must then trust",
            certificate,
            f"{until:%Y-%m-%d}",
            certificate.parent,
        )
    return OwnCertificate(certificate, key, thumbprint_of(_der_of(read)), until)


def _make_own(folder: Path, uri: str, host: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    certificate = self_signed(key, uri, "rgbd-inspection", _names(host))
    for name in (CERTIFICATE.parent, TRUSTED, REJECTED):
        make_folder(folder / name, FOLDER_MODE)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(folder / KEY, pem, KEY_MODE)
    write_atomically(folder / CERTIFICATE, _der_of(certificate))


def self_signed(
    key: rsa.RSAPrivateKey, uri: str, name: str, names: list[x509.GeneralName]
) -> x509.Certificate:
    """An application instance certificate as OPC 10000-6, 6.2.2 asks for.

    names: under which the machine is reached.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = max(now, EARLIEST) + datetime.timedelta(days=365.25 * VALID_YEARS)
    alternatives = [x509.UniformResourceIdentifier(uri), *names]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .not_valid_before(min(now, EARLIEST))
        .not_valid_after(ends)
        .serial_number(x509.random_serial_number())
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(uses, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(socket.gethostname()), x509.DNSName("localhost")]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [*names, x509.DNSName(host)]
    return names if address.is_unspecified else [*names, x509.IPAddress(address)]


class TrustList:
    """The clients' certificates in a folder, which is read at every question."""

    def __init__(self, folder: Path) -> None:
        """folder: [opcua] certificates."""
        self._trusted, self._rejected = folder / TRUSTED, folder / REJECTED
        self._told: set[str] = set()  # thumbprints: a client tries again every few seconds

    def is_trusted(self, der: bytes) -> bool:
        """Whether this very certificate lies in trusted/."""
        try:
            files = sorted(self._trusted.iterdir())
        except OSError:
            return False
        return any(_der_in(file) == der for file in files)

    def reject(self, certificate: x509.Certificate) -> None:
        """Keep it in rejected/, and say how to trust it; both once for each certificate."""
        der = _der_of(certificate)
        thumbprint = thumbprint_of(der)
        path = self._rejected / f"{thumbprint}.der"
        if thumbprint in self._told:
            return
        if len(self._told) >= REJECTED_LIMIT:
            self._told.clear()
        self._told.add(thumbprint)
        log.warning(
            "a client was refused: certificate %s of %s is not trusted: compare its SHA-1"
            " thumbprint with the one that the client shows, then run `edge opcua trust %s`",
            thumbprint,
            on_one_line(", ".join(uris_of(certificate)) or "no application"),
            thumbprint,
        )
        if path.exists() or len(der) > CERTIFICATE_LIMIT:
            return
        with contextlib.suppress(OSError):
            make_folder(self._rejected, FOLDER_MODE)
            kept = sorted(self._rejected.iterdir(), key=lambda file: file.stat().st_mtime)
            for file in kept[: max(0, len(kept) + 1 - REJECTED_LIMIT)]:
                file.unlink()
            write_atomically(path, der)

    def trust(self, named: str) -> str:
        """Trust a rejected certificate, named by the beginning of its thumbprint, or one in a file;
        returns the thumbprint.

        Raises: ConfigError if there is no such certificate, or several begin so.
        """
        path = Path(named)
        if not path.exists():
            path = self._find_rejected(named)
        certificate = _parse(read_bytes(path, limit=CERTIFICATE_LIMIT), path)
        der = _der_of(certificate)
        thumbprint = thumbprint_of(der)
        make_folder(self._trusted, FOLDER_MODE)
        write_atomically(self._trusted / f"{thumbprint}.der", der)
        (self._rejected / f"{thumbprint}.der").unlink(missing_ok=True)
        return thumbprint

    def _find_rejected(self, named: str) -> Path:
        begins = named.replace(":", "").replace(" ", "").lower()
        found = sorted(self._rejected.glob("*.der")) if self._rejected.is_dir() else []
        fitting = [file for file in found if len(begins) >= 8 and file.stem.startswith(begins)]
        if len(fitting) != 1:
            raise ConfigError(
                f"{named!a} is no file and not the beginning (8 digits or more) of one"
                f" thumbprint in {self._rejected}: let the client connect first, and read the log"
            )
        return fitting[0]


def thumbprint_of(der: bytes) -> str:
    """SHA-1 of a certificate in hexadecimal: the name that OPC UA products show for it."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The application URIs in a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)


def parse_der(der: bytes) -> x509.Certificate | None:
    """The first certificate of what a client has sent, which may be a chain; None if it is none."""
    if len(der) < 4 or der[0] != 0x30 or der[1] != 0x82:  # a SEQUENCE of 256 bytes or more
        return None
    try:
        return x509.load_der_x509_certificate(der[: 4 + int.from_bytes(der[2:4], "big")])
    except ValueError:
        return None


def _parse(data: bytes, path: Path) -> x509.Certificate:
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate in DER or PEM: check the path") from error


def _der_in(file: Path) -> bytes | None:
    """The certificate in a file of trusted/; a file that holds none is passed over."""
    try:
        return _der_of(_parse(read_bytes(file, limit=CERTIFICATE_LIMIT), file))
    except (ConfigError, OSError):
        return None


def _der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
