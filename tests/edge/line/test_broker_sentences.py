"""Why a broker cannot be used, in one sentence that says what to do: found on live sockets, one for
each cause.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.line.link import Link
from edge.line.outbox import Outbox
from edge.line.remedy import cause_of_error
from edge.sections import BrokerConfig
from tests.support.broker import Broker, free_port, wait_until
from tests.support.fake_broker import FakeBroker
from tests.support.line import new_line, started, wait_problem, wait_ready


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does this with every connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client = server.accept()[0]
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            answer(client)

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    server.close()


def problem_of(port: int, **settings: object) -> str:
    link = Link(
        BrokerConfig.model_validate({"host": "127.0.0.1", "port": port, **settings}),
        "edge:s1:record",
        None,
    )
    link.start()
    wait_until(lambda: link.problem, 60, "nothing was said")
    link.say_goodbye()
    link.join(5)
    return link.problem or ""


def hang_up(client: socket.socket) -> None:
    client.recv(1000)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; broker.pem for 127.0.0.1 and other.pem for elsewhere.example, with their keys;
    alone.pem of nobody.
    """
    folder = tmp_path_factory.mktemp("pki")

    def openssl(words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)

    new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    openssl(f"{new} -x509 -subj /CN=plant -keyout ca.key -out ca.pem")
    openssl(
        f"{new} -x509 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout alone.key"
        " -out alone.pem"
    )
    for name, alternative in (
        ("broker", "IP:127.0.0.1"),
        ("other", "DNS:elsewhere.example"),
        ("station", "DNS:s1"),
    ):
        (folder / "names").write_text(f"subjectAltName={alternative}\n")
        openssl(f"{new} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        signed = f"-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        openssl(f"x509 -req -in {name}.csr {signed}")
    return folder


@contextmanager
def tls_broker(folder: Path, pki: Path, name: str, more: str = "") -> Iterator[Broker]:
    extra = f"certfile {pki}/{name}.pem\nkeyfile {pki}/{name}.key\n{more}"
    with Broker(folder / "secure", extra) as secure:
        yield secure


def test_no_answer_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.line.connection.ANSWER_S", 0.3)
    with answering(lambda client: client.recv(1 << 20) and client.recv(1)) as port:
        assert (
            problem_of(port)
            == f"broker 127.0.0.1:{port}: it accepts the connection and does not answer CONNECT: is"
            " it the right port, does it hang? Look at its log, restart it"
        )


def test_a_broker_that_closes() -> None:
    with answering(hang_up) as port:
        assert (
            problem_of(port)
            == f"broker 127.0.0.1:{port}: it closes the connection without a word before it has"
            " accepted this client: if this is its TLS port, set tls = true; if it knows MQTT"
            ' 3.1.1 only, set protocol = "3.1.1"; look at its log'
        )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x01, 'Unsupported protocol version (0x84): set protocol = "3.1.1"'),
        (0x84, 'Unsupported protocol version (0x84): set protocol = "3.1.1"'),
        (0x86, "Bad user name or password (0x86): check username and password_file"),
        (0x87, "Not authorized (0x87): check username and password_file"),
        (0x88, "Server unavailable (0x88): the broker is starting"),
        (0x97, "Quota exceeded (0x97): look at the broker's log"),
    ],
)
def test_a_refusal_is_told_with_its_reason(code: int, words: str) -> None:
    with FakeBroker(connack=bytes([0, code] if code == 1 else [0, code, 0])) as broker:
        said = problem_of(broker.port)
    assert said.startswith(
        f"broker 127.0.0.1:{broker.port}: it refuses this client (edge:s1:record): "
    )
    assert words in said


@pytest.mark.parametrize("code", [4, 5])
def test_a_refusal_of_mqtt_3_1_1(code: int) -> None:
    with FakeBroker(connack=bytes([0, code])) as broker:
        assert "check username and password_file" in problem_of(broker.port, protocol="3.1.1")


def test_a_client_identifier_that_is_refused_is_replaced_by_a_short_one() -> None:
    with FakeBroker(connack=bytes([0, 2])) as broker:
        config = BrokerConfig(host="127.0.0.1", port=broker.port, protocol="3.1.1")
        link = Link(config, "edge:plant:line:cell7:record", None)
        link.start()
        wait_until(lambda: len(broker.connects) > 1, 60, "not tried again")
        link.say_goodbye()
        link.join(5)
        identifier = broker.connects[1][12:].decode()
    assert len(identifier) == 23
    assert identifier.isalnum()


def test_a_takeover_is_told_by_the_broker() -> None:
    def take_over(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(bytes([0x20, 3, 0, 0, 0, 0xE0, 1, 0x8E]))
        client.recv(1)

    with answering(take_over) as port:
        assert (
            problem_of(port)
            == f"broker 127.0.0.1:{port}: session taken over: another station uses the name of this"
            " one (client id edge:s1:record): give each station its own site, line and station"
            " in station.toml"
        )


def test_two_stations_of_one_name_are_told_by_a_broker_that_says_nothing(
    broker: Broker, tmp_path: Path, outbox: Outbox
) -> None:
    other = Outbox(tmp_path / "other.sqlite")
    with started(broker.port, outbox) as first:
        wait_ready(first)
        with started(broker.port, other) as second:
            wait_until(lambda: "taken over" in f"{first.problem} {second.problem}", 60, "not said")
    other.close()


@pytest.mark.parametrize(
    "prefixes", [("edge/a/b-c/s", "edge/a-b/c/s"), ("edge/a/b.c/s", "edge/a.b/c/s")]
)
def test_names_that_look_alike_are_two_stations(
    broker: Broker, tmp_path: Path, outbox: Outbox, prefixes: tuple[str, str]
) -> None:
    other = Outbox(tmp_path / "other.sqlite")
    with (
        started(broker.port, outbox, prefixes[0]) as first,
        started(broker.port, other, prefixes[1]) as second,
    ):
        wait_ready(first)
        wait_ready(second)
        wait_until(lambda: min(first.heartbeats, second.heartbeats) > 2, 60, "no heartbeats")
        assert (first.problem, second.problem) == (None, None)
    other.close()


def test_nothing_listens() -> None:
    port = free_port()
    assert (
        problem_of(port)
        == f"broker 127.0.0.1:{port}: nothing listens there: start the broker, or check host and"
        " port in [broker]"
    )


def test_a_name_that_is_not_known() -> None:
    config = BrokerConfig(host="no such host")
    said = cause_of_error(socket.gaierror(-2, "Name or service not known"), config).sentence
    assert (
        said == "broker no such host:1883: its name is not known: check host in [broker] and this"
        " machine's DNS"
    )
    assert "its name is not known" in problem_of(1883, host="a" * 64 + ".example")


def test_tls_on_a_plain_port(broker: Broker) -> None:
    assert (
        problem_of(broker.port, tls=True)
        == f"broker 127.0.0.1:{broker.port}: it does not speak TLS on this port: set port in"
        " [broker] to its TLS port (often 8883), or tls = false"
    )


def test_plain_on_a_tls_port(tmp_path: Path, pki: Path) -> None:
    with tls_broker(tmp_path, pki, "broker") as secure:
        assert "set tls = true" in problem_of(secure.port)


def test_plain_on_a_tls_port_that_answers_with_an_alert(pki: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "broker.pem", pki / "broker.key")

    def wrap(client: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError):
            context.wrap_socket(client, server_side=True).close()

    with answering(wrap) as port:
        assert "set tls = true" in problem_of(port)


def test_an_answer_that_is_not_mqtt_is_known_by_what_the_library_logs() -> None:
    """A TLS alert, as paho reads it: a command that a broker never sends."""
    alert = b"\x15\x03\x03\x00\x02\x02\x0a"
    with answering(lambda client: client.recv(1000) and client.sendall(alert)) as port:
        assert (
            problem_of(port)
            == f"broker 127.0.0.1:{port}: what answers is not MQTT: set tls = true if this is its"
            " TLS port, or check port in [broker]"
        )


@pytest.mark.parametrize(
    ("name", "ca", "words"),
    [
        ("alone", "ca.pem", "its certificate is not from an authority that this station trusts"),
        ("other", "ca.pem", "its certificate is not for the name 127.0.0.1: set host"),
        ("broker", "", "set ca_file in [broker] to the PEM file of the authority"),
    ],
)
def test_a_certificate_that_is_not_the_brokers(
    tmp_path: Path, pki: Path, name: str, ca: str, words: str
) -> None:
    with tls_broker(tmp_path, pki, name) as secure:
        assert words in problem_of(secure.port, tls=True, ca_file=str(pki / ca) if ca else "")


def test_a_client_certificate_that_is_wanted_and_then_shown(
    tmp_path: Path, pki: Path, outbox: Outbox
) -> None:
    trust = {"tls": True, "ca_file": str(pki / "ca.pem")}
    with tls_broker(
        tmp_path, pki, "broker", f"cafile {pki}/ca.pem\nrequire_certificate true\n"
    ) as secure:
        assert "it wants a client certificate: set cert_file and key_file" in problem_of(
            secure.port, **trust
        )
        stranger = {"cert_file": str(pki / "alone.pem"), "key_file": str(pki / "alone.key")}
        assert "does not accept this station's client certificate" in problem_of(
            secure.port, **trust, **stranger
        )
        own = {"cert_file": str(pki / "station.pem"), "key_file": str(pki / "station.key")}
        with started(secure.port, outbox, **trust, **own) as line:
            wait_ready(line)
            connection = line._verdicts.link.connection
            assert connection is not None
            assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_failure_that_goes_on_is_logged_once_for_both_clients(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.link.STABLE_S", 0.1)
    monkeypatch.setattr("edge.line.link.SLOW_S", 0.1)
    with FakeBroker(connack=bytes([0, 0x86, 0])) as broker, started(broker.port, outbox) as line:
        wait_until(lambda: len(broker.connects) > 6, 60, "not tried again")
        wait_problem(line, "password")
        broker.connack = None
        wait_ready(line)
        wait_until(lambda: "connected again, after" in caplog.text, 60, "the end was not told")
    assert caplog.text.count("0x86") == 1
    assert new_line(broker.port, outbox).problem == "not connected to the broker yet"
