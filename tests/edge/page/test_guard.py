"""What holds for every request, before any route."""

from __future__ import annotations

import socket

import pytest

from edge.page.guard import BODY_LIMIT, Guard
from edge.page.serve import CONNECTIONS
from tests.support.patience import patience_s
from tests.support.served_page import PASSWORD, Client


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8443", True),
        ("192.168.7.20", True),
        ("[fe80::1]:8443", True),
        ("localhost:8443", True),
        (f"{socket.gethostname()}:8443", True),
        ("CELL7.plant.example.", True),
        ("evil.example", False),
        ("cell7.plant.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#127.0.0.1", False),
        ("user@evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_name_must_be_known_and_an_address_may_be_any(host: str, is_own: bool) -> None:
    async def app(*_: object) -> None: ...

    assert Guard(app, ["cell7.plant.example"]).is_own(host) is is_own


def test_a_rebound_name_gets_nothing(client: Client) -> None:
    client.host = "evil.example"
    for path in ("/", "/login", "/health", "/static/page.css"):
        assert client.get(path).status == 421
    assert client.log_in("anna").status == 421


FORM = b"name=anna&secret=" + PASSWORD.replace(" ", "+").encode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "OWN", "sec-fetch-site": "cross-site"}, 403),
        ({"origin": "OWN", "sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "OWN:1"}, 403),
        ({"origin": "OTHER SCHEME"}, 403),
        ({"origin": "OWN", "x-forwarded-host": "evil.example"}, 303),
        ({"origin": "OWN", "sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "same-origin"}, 303),
    ],
)
def test_a_post_comes_from_this_very_page(
    client: Client, headers: dict[str, str], status: int
) -> None:
    known = {"OWN": client.origin, "OTHER SCHEME": client.origin.replace("http:", "https:")}
    sent = {
        name: known.get(value, value.replace("OWN", client.origin))
        for name, value in headers.items()
    }
    assert client.send("POST", "/login", FORM, sent).status == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD"])
def test_other_methods_are_closed(client: Client, method: str) -> None:
    assert client.send(method, "/login").status == 405


def test_bodies_are_small(client: Client) -> None:
    headers = {"origin": client.origin}
    assert client.send("POST", "/login", b"x" * (BODY_LIMIT + 1), headers).status == 413
    assert client.send("POST", "/login", b"x" * BODY_LIMIT, headers).status == 401


def test_a_body_without_a_length_is_counted(client: Client) -> None:
    head = (
        f"POST /login HTTP/1.1\r\nHost: {client.named}\r\nOrigin: {client.origin}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", client.port), patience_s(5)) as connection:
        connection.sendall(head + chunk * 5 + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/login", "/", "/health", "/nothing", "/static/page.js"])
def test_every_answer_allows_nothing_from_elsewhere(client: Client, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in str(policy)
    assert headers["x-content-type-options"] == "nosniff"
    kept = "immutable" if path.startswith("/static/") else "no-store"
    assert kept in headers["cache-control"]
    assert headers["server"] is None


def test_a_failure_inside_is_logged_and_says_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug with a secret in it")

    monkeypatch.setattr("edge.page.render.Renderer.page", fail)
    answer = client.get("/login")
    assert (answer.status, "secret" in answer.text) == (500, False)
    assert answer.headers["content-security-policy"]
    assert "a bug with a secret in it" in caplog.text


def test_who_does_not_finish_a_request_makes_room_for_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More connections than the page takes: silent ones, and ones that stop in a head or a body."""
    monkeypatch.setattr("edge.page.connection.REQUEST_S", 0.2)
    head = f"POST /login HTTP/1.1\r\nHost: {client.named}\r\nOrigin: {client.origin}\r\n"
    begun = (b"", head.encode(), f"{head}Content-Length: 100\r\n\r\nname=".encode())
    held = []
    for number in range(CONNECTIONS + 6):
        one = socket.create_connection(("127.0.0.1", client.port), patience_s(5))
        one.sendall(begun[number % 3])
        held.append(one)
    for one in held:
        while one.recv(1000):  # nothing but the end, or an answer and then the end
            pass
        one.close()
    assert client.get("/login").status == 200


def test_a_second_request_that_stops_ends_the_connection_too(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.page.connection.REQUEST_S", 0.2)
    whole = f"GET /health HTTP/1.1\r\nHost: {client.named}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", client.port), patience_s(2)) as connection:
        connection.sendall(whole)
        assert connection.recv(4000).startswith(b"HTTP/1.1")
        connection.sendall(whole[:-4])
        while received := connection.recv(4000):
            assert b"HTTP/1.1" not in received
