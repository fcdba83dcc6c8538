"""An authority of a site, and certificates that it has signed."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """ca_file: its certificate in PEM, as a station gets it."""

    def __init__(self, folder: Path, name: str = "plant") -> None:
        self._folder, self._name = folder, _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca_file = folder / f"{name}-ca.pem"
        signed = self._begun(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._write(self.ca_file, signed)

    def certificate(
        self, *hosts: str, begins: timedelta = -DAY, ends: timedelta = DAY
    ) -> tuple[Path, Path]:
        """PEM files of a server's certificate and its key, for these names, from and until these
        times from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        begun = self._begun(_named("server"), key, begins, ends).add_extension(names, False)
        path = self._folder / f"{x509.random_serial_number()}.pem"
        self._write(path, begun)
        private = path.with_suffix(".key")
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path, private

    def _begun(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
    ) -> x509.CertificateBuilder:
        now = datetime.now(timezone.utc)
        number = x509.random_serial_number()
        return x509.CertificateBuilder(
            self._name, subject, key.public_key(), number, now + begins, now + ends
        )

    def _write(self, path: Path, begun: x509.CertificateBuilder) -> None:
        signed = begun.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """For a server that has this certificate and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
