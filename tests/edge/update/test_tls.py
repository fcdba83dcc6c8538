"""A repository and a fleet server behind TLS: their certificate is checked against the authority of
the site, and a wrong one is a sentence that says what to do.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError, UpdateError
from edge.install.install import install_bundle
from edge.station.store import Store
from edge.update.apply import update_once
from edge.update.factory import make_source
from edge.update.source import Source
from edge.update_sections import UpdateConfig
from tests.support.ddi_server import DdiServer, ddi_server
from tests.support.pki import Authority
from tests.support.released import Released, serving
from tests.support.root import Bundles

NAMED = '[station]\nsite = "plant"\nline = "l1"\nstation = "s1"\n[camera]\nkind = "virtual"\n'
SOURCES = ("tuf", "hawkbit")


@pytest.fixture
def plant(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def served(
    source: str, released: Released, certificate: tuple[Path, Path]
) -> Iterator[tuple[str, DdiServer | None]]:
    """Its address, and what it was told."""
    if source == "tuf":
        with serving(released.repository, certificate) as files:
            yield files.url, None
    else:
        with ddi_server(certificate) as fleet:
            yield fleet.address, fleet


def source_of(station: Store, kind: str, url: str, **more: Any) -> Source:
    place = station.root / "etc/edge/station.toml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(NAMED)
    return make_source(station, UpdateConfig.model_validate({"source": kind, "url": url, **more}))


def complaint(station: Store, kind: str, url: str, **more: Any) -> str:
    with pytest.raises(UpdateError) as caught:
        source_of(station, kind, url, **more).find({})
    said = str(caught.value)
    assert said.startswith(url)
    assert "\n" not in said
    assert "_ssl.c" not in said
    return said


@pytest.mark.parametrize("kind", SOURCES)
def test_the_authority_of_the_site_is_enough(
    released: Released, station: Store, plant: Authority, kind: str
) -> None:
    with served(kind, released, plant.certificate("localhost")) as (url, _):
        (offer,) = source_of(station, kind, url, ca_file=str(plant.ca_file)).find({})
    assert offer.product == "washer"


@pytest.mark.parametrize("kind", SOURCES)
def test_another_authority_is_not(
    released: Released, station: Store, plant: Authority, tmp_path: Path, kind: str
) -> None:
    other = str(Authority(tmp_path, "other").ca_file)
    with served(kind, released, plant.certificate("localhost")) as (url, fleet):
        for more in ({}, {"ca_file": other}):
            said = complaint(station, kind, url, **more)
            assert "not from an authority that this station trusts" in said
            assert "set ca_file in [update]" in said
    assert fleet is None or not fleet.asked, "the server saw a request, and with it the token"


@pytest.mark.parametrize("kind", SOURCES)
def test_a_certificate_for_another_name(
    released: Released, station: Store, plant: Authority, kind: str
) -> None:
    with served(kind, released, plant.certificate("elsewhere.example")) as (url, fleet):
        said = complaint(station, kind, url, ca_file=str(plant.ca_file))
        by_number = url.replace("localhost", "127.0.0.1")
        assert "not for this name" in complaint(
            station, kind, by_number, ca_file=str(plant.ca_file)
        )
    assert "its certificate is not for this name: set url in [update]" in said
    assert fleet is None or not fleet.asked


@pytest.mark.parametrize(
    ("begins", "ends", "words"), [(-9, -2, "has expired"), (2, 9, "is not valid yet")]
)
def test_a_certificate_out_of_its_time(
    released: Released, station: Store, plant: Authority, begins: int, ends: int, words: str
) -> None:
    days = {"begins": timedelta(days=begins), "ends": timedelta(days=ends)}
    with served("hawkbit", released, plant.certificate("localhost", **days)) as (url, _):
        said = complaint(station, "hawkbit", url, ca_file=str(plant.ca_file))
    assert f"its certificate {words}: check this machine's clock" in said


@pytest.mark.parametrize("kind", SOURCES)
def test_a_server_without_tls(released: Released, station: Store, kind: str) -> None:
    with serving(released.repository) as files:
        said = complaint(station, kind, files.url.replace("http:", "https:"))
    assert "does not speak TLS there: check scheme and port of url" in said


def test_a_server_with_an_older_tls(station: Store, plant: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*plant.certificate("localhost"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_once, args=(server, context))
        thread.start()
        url = f"https://localhost:{server.getsockname()[1]}"
        said = complaint(station, "hawkbit", url, ca_file=str(plant.ca_file))
        thread.join()
    assert "let the server offer TLS 1.2 or 1.3" in said


def _answer_once(server: socket.socket, context: ssl.SSLContext) -> None:
    with server.accept()[0] as client, pytest.raises(ssl.SSLError):
        context.wrap_socket(client, server_side=True)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_file_that_holds_no_authority(station: Store, tmp_path: Path, kind: str) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for path, words in (("no.pem", "contains no certificate in PEM"), ("none", "does not exist")):
        with pytest.raises(ConfigError, match=rf"^update\.ca_file: .*{path} {words}"):
            source_of(station, kind, "https://localhost:9", ca_file=str(tmp_path / path))


def test_a_bundle_comes_from_a_fleet_server_behind_tls(
    plant: Authority, store: Store, bundles: Bundles
) -> None:
    """Poll, order, file and reports, over https alone."""
    install_bundle(bundles("washer", "1.0.0"), store.root)
    with ddi_server(plant.certificate("localhost")) as fleet:
        fleet.file = bundles("washer", "2.0.0").read_bytes()
        source = source_of(store, "hawkbit", fleet.address, ca_file=str(plant.ca_file))
        config = UpdateConfig(source="hawkbit", url=fleet.address)
        update_once(store, source, config, lambda _: None)
        assert store.active().manifest.version == "2.0.0"
        assert [path.partition("/")[0] for path, _ in fleet.told] == ["deploymentBase"]


def test_a_store_of_another_authority_beside_the_server(
    plant: Authority, station: Store, tmp_path: Path
) -> None:
    """The files' server is checked as the fleet server is."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/w.bundle").write_bytes(b"x")
    other = Authority(tmp_path, "other").certificate("localhost")
    (tmp_path / "to").mkdir()
    with (
        ddi_server(plant.certificate("localhost")) as fleet,
        serving(tmp_path / "files", other) as files,
    ):
        fleet.file, fleet.file_link = b"x", f"{files.url}/w.bundle"
        source = source_of(station, "hawkbit", fleet.address, ca_file=str(plant.ca_file))
        (offer,) = source.find({})
        with pytest.raises(UpdateError, match="not from an authority"):
            source.fetch(offer, tmp_path / "to")
    assert files.asked == []
