"""The live view, for who has logged in; the wall view, for everybody where it is switched on."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from edge.page.context import context_of
from edge.page.live_state import LiveState
from edge.page.render import page
from edge.page.roles import Role
from edge.page.security import Looker, require

router = APIRouter()

_watch = require(Role.LOOK, is_act=False)


async def watch(request: Request) -> None:
    """Who may see what the station does: who has logged in; everybody while the wall view is on."""
    if not context_of(request).config.page.wall_view:
        await _watch(request)


Watched = [Depends(watch)]


@router.get("/", include_in_schema=False)
async def live(request: Request, caller: Looker) -> Response:  # noqa: ARG001  who may look
    """The technician's view."""
    return page(request, "live.html", is_wall=False)


@router.get("/wall", include_in_schema=False)
async def wall(request: Request) -> Response:
    """The same, larger, with nothing to touch."""
    if not context_of(request).config.page.wall_view:
        raise HTTPException(404)
    return page(request, "live.html", is_wall=True)


@router.get("/live", include_in_schema=False)
async def old_place() -> Response:
    """People type it."""
    return RedirectResponse("/", 303)


@router.get("/api/v1/live", tags=["live"], dependencies=Watched)
async def live_state(request: Request) -> LiveState:
    """State, counters and last verdict."""
    return (await context_of(request).view.get()).state


@router.get(
    "/api/v1/live/picture",
    tags=["live"],
    dependencies=Watched,
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}, "description": "the latest picture"},
        204: {"description": "there is no picture"},
        304: {"description": "no newer one than that of If-None-Match"},
    },
)
async def picture(request: Request) -> Response:
    """The latest picture, with the contour of what is abnormal. Its header X-Live-Version changes
    whenever /api/v1/live does: who polls this needs to ask for that only then.
    """
    seen = await context_of(request).view.get()
    headers = {"x-live-version": seen.state.version, "cache-control": "no-cache"}
    if seen.picture is None:
        return Response(status_code=204, headers=headers)
    headers["etag"] = seen.etag
    if request.headers.get("if-none-match") == seen.etag:
        return Response(status_code=304, headers=headers)
    return Response(seen.picture, media_type="image/jpeg", headers=headers)
