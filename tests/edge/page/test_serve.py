"""`edge page` from its command line to a socket: configuration, certificate, process."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typer.testing import CliRunner

from edge.cli.page import app
from edge.config import parse_config
from edge.errors import ConfigError, MissingDependency
from edge.install.install import install_bundle
from edge.page import tls
from edge.page.roles import Role
from edge.page.serve import address_of, certificate_of, listening
from edge.page.tls import own_certificate, site_certificate
from edge.sections import PageConfig
from tests.support.patience import patience_s
from tests.support.played_socket import OK, played_station
from tests.support.process import ENVIRONMENT
from tests.support.recorded import record_parts
from tests.support.root import Bundles, trusting_root
from tests.support.served_page import Client, add_user, served_page, users_of, write_page_config
from tests.support.tiny_bundle import KeyPair


def edge(root: Path, *words: str) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(app, [*words, "--root", str(root)])
    return done.stdout, done.exception if isinstance(done.exception, ConfigError) else None


def test_users_by_the_command_line(tmp_path: Path) -> None:
    assert edge(tmp_path, "user", "list")[0].startswith("no users: make one with")
    said, _ = edge(tmp_path, "user", "add", "anna", "--role", "administer")
    code = re.search(r"user anna: code ([a-z2-9]{4}(-[a-z2-9]{4}){3})\n", said)
    assert code is not None
    token = edge(tmp_path, "user", "add", "prometheus", "--token")[0].split()[3]
    with users_of(tmp_path) as users:
        assert users.check("anna", code[1]) is not None
        assert users.of_token(token) is not None
    assert edge(tmp_path, "user", "list")[0].split() == [
        "anna", "administer", "code", "prometheus", "look", "token"
    ]  # fmt: skip
    assert code[1] not in edge(tmp_path, "user", "reset", "anna")[0]
    assert edge(tmp_path, "user", "remove", "anna")[0] == "user anna is removed\n"
    for words, sentence in (
        (("add", "a b"), "cannot be a user's name"),
        (("add", "tom", "--role", "all"), "--role 'all': there are look, calibrate, administer"),
        (("add", "tom", "--token", "--role", "calibrate"), "a program may only look"),
        (("reset", "anna"), "there is no user 'anna' (users: prometheus)"),
    ):
        assert sentence in str(edge(tmp_path, "user", *words)[1])


def test_without_the_section_or_the_library_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "enabled is false in [page]" in str(edge(tmp_path)[1])
    monkeypatch.setitem(sys.modules, "fastapi", None)
    done = CliRunner().invoke(app, ["--root", str(tmp_path)])
    assert isinstance(done.exception, MissingDependency)
    assert "pip install 'rgbd-inspection[page]'" in str(done.exception)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ('host = "0.0.0.0"\ntls = false', "passwords would cross the network in clear"),
        ('host = "cell7"\ntls = false', "passwords would cross the network in clear"),
        ('certificate = "a.pem"', "of certificate and key one is set"),
        (
            'tls = false\ncertificate = "a.pem"\nkey = "b.pem"',
            "certificate is set but tls is false",
        ),
        ('hosts = ["a b"]', "page.hosts"),
        ('hosts = ["https://cell7"]', "page.hosts"),
    ],
)
def test_a_configuration_that_is_not_safe_is_refused(page: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse_config(f"[page]\n{page}\n")


def test_it_listens_at_this_machine_alone_until_told_otherwise() -> None:
    config = parse_config("").page
    assert (config.enabled, config.host, config.tls, config.wall_view) == (
        False, "127.0.0.1", True, False
    )  # fmt: skip
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", socket.gethostname())):
        page = PageConfig(host=host, port=1).model_copy(update={"port": 0})
        with listening(page) as listener:
            assert listener.getsockname()[0] == host
            port = listener.getsockname()[1]
            assert address_of(page, listener) == f"https://{shown}:{port}/"


def test_an_address_that_cannot_be_used_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "192.0.2.1", "no-such-name.invalid"):
            with pytest.raises(ConfigError, match=f"cannot listen at {host} port {port}"):
                listening(PageConfig(host=host, port=port))


def test_its_own_certificate_is_made_once_and_again_for_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = own_certificate(tmp_path, ("0.0.0.0", "cell7"))
    before = made.certificate.read_bytes()
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert own_certificate(tmp_path, ("0.0.0.0", "cell7")).certificate.read_bytes() == before
    read = x509.load_pem_x509_certificate(before)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "cell7"} <= set(names.get_values_for_type(x509.DNSName))
    days = (read.not_valid_after_utc - read.not_valid_before_utc).days
    shown = read.fingerprint(hashes.SHA256()).hex(":").upper()
    assert caplog.messages[-1].endswith(f"fingerprint {shown}")
    assert own_certificate(tmp_path, ("cell8",)).certificate.read_bytes() != before
    assert days > 365


def test_it_is_made_anew_before_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "VALID_DAYS", 59)
    before = own_certificate(tmp_path, ()).certificate.read_bytes()
    monkeypatch.setattr(tls, "VALID_DAYS", 820)
    after = own_certificate(tmp_path, ()).certificate.read_bytes()
    assert after != before
    assert own_certificate(tmp_path, ()).certificate.read_bytes() == after


def test_one_that_was_half_replaced_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was lost, and the power fails between another key and its certificate."""
    made = own_certificate(tmp_path, ())
    made.key.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(tls, "_signed", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            own_certificate(tmp_path, ())
    assert made.key.exists()
    again = own_certificate(tmp_path, ())
    assert site_certificate(again.certificate, again.key) == again


def test_a_certificate_of_the_site_is_taken_or_named(tmp_path: Path) -> None:
    own = own_certificate(tmp_path / "a", ("cell7",))
    other = own_certificate(tmp_path / "b", ("cell7",))
    page = PageConfig(certificate=str(own.certificate), key=str(own.key))
    assert certificate_of(tmp_path, page) == own
    for certificate, key in ((own.certificate, other.key), (own.key, own.key)):
        with pytest.raises(ConfigError, match="are no certificate and its key"):
            site_certificate(certificate, key)


def test_with_tls_the_cookie_is_bound_to_this_very_host(tmp_path: Path) -> None:
    write_page_config(tmp_path)
    add_user(tmp_path, "lena", Role.LOOK)
    made = own_certificate(tmp_path, ())
    trusting = ssl.create_default_context(cafile=str(made.certificate))
    with served_page(tmp_path, made) as port:
        client = Client(port, tls=trusting)
        said = client.log_in("lena").headers["set-cookie"]
        assert said.startswith("__Host-session=")
        assert "secure" in said.lower()
        assert client.get("/").status == 200
        client.cookies = {"session": client.cookies["__Host-session"]}
        assert client.get("/").status == 303


@pytest.mark.parametrize("words", [["edge", "page"], ["edge.page"]], ids=" ".join)
def test_a_mistake_is_one_sentence(tmp_path: Path, words: list[str]) -> None:
    write_page_config(tmp_path, "tls = 5")
    command = [sys.executable, "-m", *words, "--root", str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("edge: ")
    assert "station.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def process(
    tmp_path: Path, key: KeyPair, bundles: Bundles
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """The page as the service starts it, with TLS, and a client of it. There are a bundle, records,
    and a station that is at work.
    """
    install_bundle(bundles(), trusting_root(tmp_path, key).root)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write_page_config(tmp_path, f"port = {port}", tls=True)
    add_user(tmp_path, "lena", Role.ADMINISTER)
    record_parts(tmp_path, 20, pictured=0)
    made = own_certificate(tmp_path, ("127.0.0.1",))
    words = [sys.executable, "-m", "edge.page", "--root", str(tmp_path)]
    with (
        played_station(tmp_path) as station,
        subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as running,
    ):
        station.state["seq"] = 20
        station.show(OK, bytes(60_000))
        try:
            yield running, Client(port, tls=ssl.create_default_context(cafile=made.certificate))
        finally:
            running.kill()


def wait_for(port: int) -> None:
    end_s = time.monotonic() + patience_s(10)
    while time.monotonic() < end_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    pytest.fail("nobody listens")


def test_the_process_is_small_yields_to_the_station_and_ends_at_once(
    process: tuple[subprocess.Popen[str], Client],
) -> None:
    running, client = process
    wait_for(client.port)
    assert client.log_in("lena").place == "/"
    pages = ("/", "/account", "/history", "/history/20", "/audit", "/engineer")
    for path in (*pages, "/metrics", "/api/v1/openapi.json"):
        assert client.get(path).status == 200
    for _ in range(20):
        assert client.get("/api/v1/live/picture").status == 200
    assert client.api("/api/v1/live").json["shift"] is not None
    assert client.api("/api/v1/engine").json["product"] == "washer"
    status = Path(f"/proc/{running.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
    assert resident < 80e6
    mapped = Path(f"/proc/{running.pid}/maps").read_text()
    for library in ("numpy", "cv2", "cryptography"):
        assert library not in mapped
    assert os.getpriority(os.PRIO_PROCESS, running.pid) == 10
    running.send_signal(signal.SIGTERM)
    assert running.wait(patience_s(5)) in (0, -signal.SIGTERM)
    assert running.stderr is not None
    assert f"the page is at https://127.0.0.1:{client.port}/" in running.stderr.read()
