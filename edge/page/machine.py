"""What other programs ask: whether the station works, its numbers for Prometheus, and what this API
is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from edge.page.context import context_of
from edge.page.live_source import Look
from edge.page.security import Watcher

router = APIRouter(tags=["programs"])

AT_WORK = ("online", "degraded", "fault")
GAUGES = {  # of the state: their names and what they mean
    "records_waiting": "Records that the broker has not acknowledged",
    "records_unwritten": "Records that the disk has not taken yet",
    "camera_temperature_c": "Temperature of the camera in degrees Celsius",
    "uptime_s": "Seconds since the start of edge run",
}
COUNTERS = {
    "frames": "Frames judged",
    "frames_dropped": "Frames dropped for newer ones",
    "frame_gaps": "Gaps in the numbers of the frames",
    "camera_restarts": "Restarts of the camera's process",
    "verdicts_unsent": "Verdicts that reached no PLC in time",
    "records_dropped": "Records lost by the bound of age and size",
    "images_dropped": "Parts whose images were not kept",
}
STAGE = "_ms"  # ends the names of the medians of the stages
TEXT = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus


class Health(BaseModel):
    """Whether the station works."""

    page: Literal["ok"] = "ok"
    station: str = Field(description="as in /api/v1/live")
    ready: bool


@router.get("/health", responses={503: {"model": Health, "description": "it does not judge"}})
async def health(request: Request) -> JSONResponse:
    """Open to everybody. 200 while `edge run` is at work without a fault, else 503."""
    look = await context_of(request).live.get()
    said = Health(station=look.station, ready=look.said.get("ready") is True)
    works = look.station in ("online", "degraded")
    return JSONResponse(said.model_dump(), 200 if works else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, caller: Watcher) -> Response:  # noqa: ARG001  who may look
    """For Prometheus, which logs in with a token: `edge page user add NAME --token`."""
    look = await context_of(request).live.get()
    return PlainTextResponse("\n".join(lines_of(look)) + "\n", media_type=TEXT)


@router.get("/api/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request, caller: Watcher) -> JSONResponse:  # noqa: ARG001  who may look
    """The description of this API."""
    return JSONResponse(request.app.openapi())


def lines_of(look: Look) -> Iterator[str]:
    """The numbers of one look, in the text format of Prometheus."""
    said = look.said
    yield from _metric("up", "gauge", "1 while edge run is at work", look.station in AT_WORK)
    yield from _metric("ready", "gauge", "1 while a part would be judged", said.get("ready"))
    yield from _metric("fault", "gauge", "1 in the state fault", look.station == "fault")
    if look.station not in AT_WORK:
        return
    yield "# HELP edge_parts_total Parts decided since the start of edge run"
    yield "# TYPE edge_parts_total counter"
    for code in ("ok", "ng", "unknown"):
        yield f'edge_parts_total{{code="{code}"}} {_value(said.get(code))}'
    for key, text in GAUGES.items():
        if said.get(key) is not None:
            yield from _metric(key, "gauge", text, said[key])
    for key, text in COUNTERS.items():
        if said.get(key) is not None:
            yield from _metric(f"{key}_total", "counter", text, said[key])
    yield "# HELP edge_stage_seconds Median time of a stage of judging"
    yield "# TYPE edge_stage_seconds gauge"
    for key, value in said.items():
        if key.endswith(STAGE) and isinstance(value, int | float):
            yield f'edge_stage_seconds{{stage="{key.removesuffix(STAGE)}"}} {value / 1000:.6g}'


def _metric(name: str, kind: str, text: str, value: object) -> Iterator[str]:
    yield f"# HELP edge_{name} {text}"
    yield f"# TYPE edge_{name} {kind}"
    yield f"edge_{name} {_value(value)}"


def _value(value: Any) -> str:
    return f"{float(value):.10g}" if isinstance(value, int | float) else "0"
