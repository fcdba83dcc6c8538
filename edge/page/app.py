"""The application: routes, who may use them, and what holds for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from edge.config import EdgeConfig, read_config
from edge.errors import EdgeError, StorageError
from edge.page import calibrate, engineer, engineer_api, history, history_api, live, login, machine
from edge.page.checks import Checks
from edge.page.context import PageContext, context_of
from edge.page.guard import Guard
from edge.page.live_source import LiveSource, SharedLook
from edge.page.live_state import LiveView
from edge.page.render import Place, Renderer
from edge.page.roles import Role
from edge.page.security import Refused, answer_refusal, identify, is_api
from edge.page.sessions import Sessions
from edge.page.shift import ShiftCounts
from edge.page.static_files import StaticFiles
from edge.page.station_guide import StationGuide
from edge.page.station_source import StationSource
from edge.page.texts import read_texts
from edge.page.turns import Turns
from edge.page.users import Users
from edge.page.vault import open_vault

# modules that have a `router`
ROUTERS = (login, live, calibrate, history, history_api, engineer, engineer_api, machine)
PLACES = (  # the navigation
    Place("nav.live", "/"),
    Place("nav.calibrate", "/calibrate", Role.CALIBRATE),
    Place("nav.history", "/history"),
    Place("nav.engineer", "/engineer"),
    Place("nav.audit", "/audit"),
)


def create_app(root: Path, source: LiveSource | None = None) -> FastAPI:
    """The page of the station under `root`.

    source: who says what the station does; None: the station itself.
    Raises: ConfigError, StorageError if its files cannot be used.
    """
    config, static = read_config(root), StaticFiles()
    context = _context(root, config, static, source)
    app = FastAPI(
        title="Inspection station",
        version="1",
        lifespan=_ends,
        openapi_url=None,  # only for who has logged in: edge/page/machine.py
        docs_url=None,  # would be fetched from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    for module in ROUTERS:
        app.include_router(module.router)
    app.include_router(static.router())
    app.add_exception_handler(Refused, _refuse)
    app.add_exception_handler(HTTPException, _fail)
    app.add_exception_handler(RequestValidationError, _fail)
    app.add_exception_handler(EdgeError, _tell)
    app.add_middleware(Guard, hosts=config.page.hosts)
    return app


def _context(
    root: Path, config: EdgeConfig, static: StaticFiles, source: LiveSource | None
) -> PageContext:
    vault = open_vault(root)
    users, names = Users(vault), config.station
    look = SharedLook(source or StationSource(root))
    return PageContext(
        root=root,
        config=config,
        vault=vault,
        users=users,
        checks=Checks(users),
        sessions=Sessions(vault),
        renderer=Renderer(read_texts(), static, PLACES, f"{names.line} / {names.station}"),
        live=look,
        view=LiveView(look, ShiftCounts(root, config.page.shifts)),
        guide=StationGuide(root),
        turns=Turns(),
    )


@asynccontextmanager
async def _ends(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.context.live.close()
    app.state.context.vault.close()


async def _refuse(request: Request, error: Exception) -> Response:
    return answer_refusal(request, error)


async def _fail(request: Request, error: Exception) -> Response:
    """Something in the request is wrong."""
    status, what = 500, ""
    if isinstance(error, HTTPException):
        status, what = error.status_code, str(error.detail)
    elif isinstance(error, RequestValidationError):
        status, what = 422, "; ".join(_complaint(one) for one in error.errors())
    if is_api(request):
        return JSONResponse({"error": what}, status)
    identify(request, is_act=False)  # no route has: the navigation is shown all the same
    return context_of(request).renderer.error(request, status)


def _complaint(error: Mapping[str, Any]) -> str:
    """Where and what, without the value, which may be anything."""
    return f"{'.'.join(str(step) for step in error['loc'])}: {error['msg']}"


async def _tell(request: Request, error: Exception) -> Response:
    """What the station refuses, in its own sentence."""
    status = 503 if isinstance(error, StorageError) else 400
    if is_api(request):
        return JSONResponse({"error": str(error)}, status)
    return context_of(request).renderer.error(request, status, str(error))
