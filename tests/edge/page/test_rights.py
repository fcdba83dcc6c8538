"""require(role): who passes, and where the others are sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from edge.page import app as app_module
from edge.page import sessions as sessions_module
from edge.page.roles import Role
from edge.page.security import Administrator, Calibrator, require
from edge.page.sessions import Caller
from tests.support.served_page import PASSWORD, Client, served_page


class Acts:
    """A module with a router, as ROUTERS has them."""

    router = APIRouter()


@Acts.router.get("/calibrated")
async def calibrated(request: Request, caller: Calibrator) -> Response:
    return PlainTextResponse(caller.name)


@Acts.router.post("/select")
async def select(request: Request, caller: Administrator) -> Response:
    return PlainTextResponse(caller.name)


@Acts.router.get("/api/v1/administered")
async def administered(
    request: Request, caller: Annotated[Caller, Depends(require(Role.ADMINISTER))]
) -> Response:
    return PlainTextResponse(caller.name)


@pytest.fixture(scope="module")
def port(shared_root: Path) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "ROUTERS", (*app_module.ROUTERS, Acts))
        with served_page(shared_root) as port:
            yield port


def test_a_role_that_does_not_suffice_is_refused(client: Client) -> None:
    client.log_in("lena")
    assert client.get("/calibrated").status == 403
    assert "may not do this" in client.get("/calibrated").text
    assert client.post("/select").status == 403
    answer = client.api("/api/v1/administered")
    assert (answer.status, answer.json) == (403, {"error": "role"})


def test_a_role_that_suffices_passes(client: Client) -> None:
    client.log_in("carl")
    assert client.get("/calibrated").text == "carl"
    assert client.post("/select").status == 403
    client.log_in("anna")
    assert client.get("/calibrated").text == client.post("/select").text == "anna"


def test_a_dangerous_act_asks_for_the_password_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.log_in("anna")
    monkeypatch.setattr(sessions_module, "PROVED_S", 0.0)
    assert client.post("/select").place == "/again?next=/"
    assert client.get("/calibrated").text == "anna"
    monkeypatch.setattr(sessions_module, "RESTS_S", -1.0)
    assert client.get("/calibrated?a=1").place == "/again?next=/calibrated%3Fa%3D1"
    assert client.api("/api/v1/administered").json == {"error": "proof"}
    assert client.get("/").status == 200, "the view stays"
    monkeypatch.undo()
    assert client.post("/again", secret=PASSWORD, next="/calibrated?a=1").place == "/calibrated?a=1"
    assert client.post("/select").text == "anna"
