"""Who does not get in, and who may only look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.uaerrors import (
    BadCertificateUntrusted,
    BadCertificateUriInvalid,
    BadIdentityTokenRejected,
    BadSecurityChecksFailed,
    BadServiceUnsupported,
    BadSessionIdInvalid,
    BadSubscriptionIdInvalid,
    BadUserAccessDenied,
)

from edge.opcua import sessions
from edge.opcua.certificates import REJECTED, TrustList
from edge.opcua.names import MACHINE, PATH, RESULTS
from tests.edge.opcua.conftest import Cell
from tests.support.opcua import CLIENT_URI, FOLDER, ClientKey, UaClient

POLICIES = ("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256",)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "FAILURE_PAUSE_S", 0.0)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> ClientKey:
    return ClientKey(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def screen(served: Cell) -> Iterator[UaClient]:
    client = served.client("screen").connect()
    yield client
    client.close()


def raw(cell: Cell) -> Client:
    """A client without any security."""
    client = Client(f"opc.tcp://127.0.0.1:{cell.station.port}{PATH}", timeout=20)
    client.application_uri = CLIENT_URI
    return client


def test_only_signed_channels_and_named_users_are_offered(cell: Cell) -> None:
    async def offered() -> Any:
        return await raw(cell).connect_and_get_server_endpoints()

    endpoints = cell.loop.run(offered())
    assert {one.SecurityPolicyUri for one in endpoints} == set(POLICIES)
    assert {one.SecurityMode for one in endpoints} == {
        ua.MessageSecurityMode.Sign,
        ua.MessageSecurityMode.SignAndEncrypt,
    }
    tokens = [token.TokenType for one in endpoints for token in one.UserIdentityTokens]
    assert set(tokens) == {ua.UserTokenType.UserName}


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
def test_both_modes_work(cell: Cell, mode: str) -> None:
    client = cell.client(mode=ua.MessageSecurityMode[mode]).connect()
    assert client.read(f"{MACHINE}/CurrentState").Text
    client.close()


@pytest.mark.parametrize(
    ("user", "password"), [("plc", "wrong-one"), ("nobody", "operate-me"), ("admin", "admin")]
)
def test_a_wrong_name_or_password_is_refused(cell: Cell, user: str, password: str) -> None:
    with pytest.raises(BadUserAccessDenied):
        cell.client(user, password=password).connect()


def test_after_a_wrong_password_the_right_one_waits_a_moment(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "FAILURE_PAUSE_S", 60.0)
    users = sessions.Users(cell.root / FOLDER / "users.json")
    right = users.get_user(None, "plc", "operate-me")
    assert right is not None
    assert right.may_operate
    assert users.get_user(None, "plc", "wrong-one") is None
    assert users.get_user(None, "plc", "operate-me") is None


def test_anonymous_is_refused(cell: Cell) -> None:
    with pytest.raises((BadIdentityTokenRejected, ua.UaError)):
        cell.client(None).connect()


def test_an_unknown_certificate_is_refused_and_kept_until_it_is_trusted(
    cell: Cell, stranger: ClientKey
) -> None:
    with pytest.raises(BadCertificateUntrusted):
        cell.client(key=stranger).connect()
    kept = list((cell.root / FOLDER / REJECTED).iterdir())
    assert [one.read_bytes() for one in kept] == [stranger.certificate.read_bytes()]
    trust = TrustList(cell.root / FOLDER)
    thumbprint = trust.trust(kept[0].stem[:8].upper())
    assert thumbprint == kept[0].stem
    client = cell.client(key=stranger).connect()
    client.close()
    (cell.root / FOLDER / "trusted" / f"{thumbprint}.der").unlink()
    with pytest.raises(BadCertificateUntrusted):
        cell.client(key=stranger).connect()


async def open_plain(client: Client) -> Any:
    """A channel without security; returns its session, which is not created yet."""
    await client.connect_socket()
    await client.send_hello()
    await client.open_secure_channel()
    return client.uaclient.session


def activation() -> ua.ActivateSessionParameters:
    asked = ua.ActivateSessionParameters()
    asked.UserIdentityToken = ua.UserNameIdentityToken()
    asked.UserIdentityToken.UserName = "plc"
    asked.UserIdentityToken.Password = b"operate-me"
    return asked


def test_no_session_without_security_even_with_a_password(cell: Cell) -> None:
    """asyncua lets a channel without security carry one, whatever endpoints it offers."""

    async def connect(certificate: bytes | None) -> None:
        client = raw(cell)
        session = await open_plain(client)
        try:
            params = ua.CreateSessionParameters()
            params.ClientDescription.ApplicationUri = CLIENT_URI
            params.ClientCertificate = certificate
            params.ClientNonce = b"x" * 32
            await session.create_session(params)
            await session.activate_session(activation())
        finally:
            client.disconnect_socket()

    with pytest.raises(BadSecurityChecksFailed):
        cell.loop.run(connect(None))
    with pytest.raises(BadSecurityChecksFailed):  # a certificate is public: anybody can show it
        cell.loop.run(connect(cell.key.certificate.read_bytes()))


def test_a_guessed_token_opens_no_other_session(cell: Cell, screen: UaClient) -> None:
    """In asyncua the refused activation leaves its connection with the other client's session."""

    async def guess() -> tuple[Any, Any]:
        client = raw(cell)
        session = await open_plain(client)
        session.restore_authentication_token(screen.token)
        refused = read = None
        try:
            await session.activate_session(activation())
        except ua.UaError as error:
            refused = error
        with contextlib.suppress(ConnectionError, ua.UaError):
            read = await client.get_node(ua.ObjectIds.Server_ServerArray).read_value()
        client.disconnect_socket()
        return refused, read

    refused, read = cell.loop.run(guess())
    assert isinstance(refused, BadSessionIdInvalid)
    assert read is None


def test_nobody_registers_a_server(cell: Cell) -> None:
    async def register() -> None:
        client = raw(cell)
        await open_plain(client)
        try:
            asked = ua.RegisteredServer()
            asked.ServerUri, asked.ServerNames = "urn:evil", [ua.LocalizedText("evil")]
            await client.uaclient.register_server(asked)
        finally:
            client.disconnect_socket()

    with pytest.raises(BadServiceUnsupported):
        cell.loop.run(register())


def test_a_certificate_of_another_application_is_refused(cell: Cell, tmp_path: Path) -> None:
    key = ClientKey(tmp_path, "other", "urn:other").trusted_by(cell.root)
    key.uri = CLIENT_URI
    with pytest.raises(BadCertificateUriInvalid):
        cell.client(key=key).connect()


def test_who_may_look_reads_and_asks_for_results_and_no_more(cell: Cell, screen: UaClient) -> None:
    assert screen.read(f"{MACHINE}/CurrentState").Text
    assert screen.call(f"{RESULTS}/GetLatestResult")[0] in (0, 11)
    asked = len(cell.station.asked)
    for call in (
        lambda: screen.start("A17"),
        lambda: screen.call(f"{MACHINE}/Reset"),
        lambda: screen.write("LastVerdict/Code", ua.Variant(1, ua.VariantType.Int32)),
    ):
        with pytest.raises(BadUserAccessDenied):
            call()
    assert len(cell.station.asked) == asked


def test_nobody_writes(cell: Cell) -> None:
    client = cell.client("plc").connect()
    try:
        with pytest.raises(BadUserAccessDenied):
            client.write("LastVerdict/Code", ua.Variant(1, ua.VariantType.Int32))
    finally:
        client.close()


def test_the_subscription_of_another_session_is_out_of_reach(cell: Cell, screen: UaClient) -> None:
    plc = cell.client("plc").connect()
    try:
        number = plc.listen_number()
        with pytest.raises(BadSubscriptionIdInvalid):
            screen.delete_subscription(number)
        with pytest.raises((BadUserAccessDenied, BadSubscriptionIdInvalid)):
            screen.take_subscription(number)
    finally:
        plc.close()


def test_no_subscription_is_faster_than_configured(cell: Cell) -> None:
    plc = cell.client("plc").connect()
    assert plc.revised_period_ms(0) == 10
    plc.close()
