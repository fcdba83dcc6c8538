"""The server's own certificate, and the clients' that it trusts."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.errors import ConfigError
from edge.opcua import certificates
from edge.opcua.certificates import (
    CERTIFICATE,
    KEY,
    REJECTED,
    TRUSTED,
    TrustList,
    own_certificate,
    parse_der,
    uris_of,
)
from tests.support.opcua import ClientKey

URI = "urn:rgbd-inspection:site:line:s1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    own_certificate(folder, URI, "10.1.2.3")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ClientKey(tmp_path_factory.mktemp("client")).certificate.read_bytes()


def test_the_own_one_is_made_once_and_names_application_and_machine(made: Path) -> None:
    first = (made / CERTIFICATE).read_bytes()
    own = own_certificate(made, URI, "10.1.2.3")
    read = x509.load_der_x509_certificate(first)
    assert own.certificate.read_bytes() == first
    assert uris_of(read) == [URI]
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3"]
    uses = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in uses
    assert own.valid_until - certificates.EARLIEST > timedelta(days=9 * 365)
    assert stat.S_IMODE((made / KEY).stat().st_mode) == 0o600


def test_the_certificate_of_another_station_is_not_used(made: Path) -> None:
    with pytest.raises(ConfigError, match="another name"):
        own_certificate(made, URI + "2", "0.0.0.0")


def test_one_that_ends_soon_is_told(
    made: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "WARN_DAYS", 20 * 365)
    own_certificate(made, URI, "10.1.2.3")
    assert "is valid until" in caplog.text


def test_a_client_is_trusted_by_its_own_certificate(tmp_path: Path, client: bytes) -> None:
    trust = TrustList(tmp_path)
    assert not trust.is_trusted(client)
    read = parse_der(client)
    assert read is not None
    trust.reject(read)
    (kept,) = (tmp_path / REJECTED).iterdir()
    trust.trust(kept.stem[:8])
    assert trust.is_trusted(client)
    assert not list((tmp_path / REJECTED).iterdir())
    assert not trust.is_trusted(client[:-1] + b"\0")
    (tmp_path / TRUSTED / "notes.txt").write_text("no certificate")
    assert trust.is_trusted(client)


def test_a_chain_begins_with_the_clients_own(client: bytes) -> None:
    read = parse_der(client + b"\x30\x82\x01\x00")
    assert read is not None
    assert uris_of(read) == ["urn:test:plc"]
    assert [parse_der(one) for one in (b"", b"\x30\x82", b"hello", client[:100])] == [None] * 4


def test_strangers_do_not_fill_the_disk(
    tmp_path: Path, client: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "REJECTED_LIMIT", 3)
    folder = tmp_path / REJECTED
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.der").write_bytes(b"old")
    read = parse_der(client)
    assert read is not None
    TrustList(tmp_path).reject(read)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("named", ["3f9c", "3f9c01d2", "no/such/file.der"])
def test_what_is_not_there_cannot_be_trusted(tmp_path: Path, named: str) -> None:
    with pytest.raises(ConfigError, match="let the client connect first"):
        TrustList(tmp_path).trust(named)
