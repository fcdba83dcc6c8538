"""The calibration that a technician is guided through: empty table, normal parts, known-bad parts.

The station carries it out (edge/runtime/guide.py) and saves what is signed; this page shows how far
it is and hands on what is decided. Everything survives a reload, and every tab shows the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from edge.control.guide import FOLDER, PICTURE, GuideBegin, GuideOrder, GuideState, Order, SiteTold
from edge.errors import ConfigError, EdgeError
from edge.files import read_bytes
from edge.page.answers import shown_page
from edge.page.context import context_of
from edge.page.forms import read_form
from edge.page.roles import Role
from edge.page.security import Calibrator, Looker, require
from edge.page.sessions import Caller
from edge.page.station_guide import GuideView
from edge.page.vault import DATA

router = APIRouter()

STEPS = ("plane", "parts", "challenge")  # in their order
THRESHOLD = "threshold"  # is begun on the engineer's page
RATES = (0.01, 0.02, 0.05, 0.1)  # of false rejects, to choose from
DECISIONS: tuple[Order, ...] = ("stop", "leave_out", "keep")  # what is signed has a form of its own
SIDES = ("left", "top", "width", "height")  # of the region of interest, in percent of the view
CORNER = ("crop_x", "crop_y")  # of the crop, pixels of the whole image
COUNTS = {"parts": 10, "challenge": 5}  # that are shown, unless somebody wants others
PICTURE_LIMIT = 8 << 20  # bytes

Signer = Annotated[Caller, Depends(require(Role.CALIBRATE, fresh=True))]
Watcher = Annotated[Caller, Depends(require(Role.CALIBRATE, is_act=False))]
Wanted = Annotated[str, Query(max_length=16)]


class CalibrationNow(BaseModel):
    """How far the calibration of the station is."""

    guide: GuideState | None = Field(description="the last step since the start of `edge run`")
    site: SiteTold | None = Field(description="what is calibrated; null where no `edge run` is")


@router.get("/calibrate", include_in_schema=False)
async def calibrate(request: Request, caller: Calibrator, step: Wanted = "") -> Response:  # noqa: ARG001
    """The page; `step` is the one that somebody wants to see."""
    return await _shown(request, "calibrate.html", step)


@router.get("/calibrate/now", include_in_schema=False)
async def now(request: Request, caller: Watcher, step: Wanted = "") -> Response:  # noqa: ARG001
    """What changes on the page; 304 while nothing does."""
    answer = await _shown(request, "_calibrate.html", step)
    etag = f'"{hashlib.blake2b(bytes(answer.body), digest_size=8).hexdigest()}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    answer.headers.update(headers)
    return answer


@router.post("/calibrate/begin", include_in_schema=False)
async def begin(request: Request, caller: Signer) -> Response:
    """Begin a step."""
    form = await read_form(request)
    await context_of(request).guide.tell(_begun_of(form, _name_of(caller)))
    return RedirectResponse("/calibrate", 303)


@router.post("/calibrate/sign", include_in_schema=False)
async def sign(request: Request, caller: Signer) -> Response:
    """Save what the step has found, as the signer has seen it."""
    return await _ordered(request, caller, "sign", await read_form(request))


@router.post("/calibrate/decide", include_in_schema=False)
async def decide(request: Request, caller: Calibrator) -> Response:
    """Stop, or say of a part whether it is normal."""
    form = await read_form(request)
    order = next((one for one in DECISIONS if one == form.get("order")), None)
    if order is None:
        raise ConfigError(f"order {form.get('order')!a}: there is no such decision")
    return await _ordered(request, caller, order, form)


@router.get("/calibrate/pictures/{name}", include_in_schema=False)
async def picture(request: Request, caller: Watcher, name: str) -> Response:  # noqa: ARG001
    """A part that was shown in the last step."""
    if not re.fullmatch(PICTURE, name):
        raise HTTPException(404)
    path = context_of(request).root / DATA / FOLDER / name
    try:
        data = await run_in_threadpool(read_bytes, path, limit=PICTURE_LIMIT)
    except (EdgeError, OSError):
        raise HTTPException(404) from None
    return Response(data, media_type="image/jpeg")


@router.get("/calibrate/whole", include_in_schema=False)
async def whole(request: Request, caller: Watcher) -> Response:  # noqa: ARG001
    """The whole color image, also beside the crop; 204 where there is none."""
    data = await context_of(request).guide.whole_image()
    if data is None:
        return Response(status_code=204)
    return Response(data, media_type="image/jpeg", headers={"cache-control": "no-store"})


@router.get("/api/v1/calibration", tags=["calibration"])
async def calibration(request: Request, caller: Looker) -> CalibrationNow:  # noqa: ARG001
    """What is calibrated, and how far the step is that somebody is guided through."""
    view = await context_of(request).guide.look()
    return CalibrationNow(guide=view.state, site=view.site)


async def _ordered(
    request: Request, caller: Caller, order: Order, form: Mapping[str, str]
) -> Response:
    told = GuideOrder(order=order, who=_name_of(caller))
    seen = None if order == "stop" else form.get("seen", "")
    await context_of(request).guide.tell(told, seen)
    return RedirectResponse("/calibrate", 303)


def _begun_of(form: Mapping[str, str], who: str) -> GuideBegin:
    """Raises: ConfigError naming what is wrong."""
    asked: dict[str, Any] = {key: form[key] for key in ("what", "count") if form.get(key)}
    if form.get("region_set"):
        asked["region"] = [_share_of(form, side) for side in SIDES]
    if form.get("crop_set"):
        asked["crop"] = [form.get(name, "") for name in CORNER]
    if "rate" in form:
        asked["false_rejects"] = form["rate"]
    try:
        return GuideBegin.model_validate({**asked, "who": who, "split": "split" in form})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {first['msg']}: choose another one") from None


def _share_of(form: Mapping[str, str], side: str) -> float:
    """Raises: ConfigError if it is no number."""
    try:
        return float(form.get(side, "").replace(",", ".")) / 100
    except ValueError:
        raise ConfigError(f"{side} {form.get(side)!a} is no number: write percents") from None


def _name_of(caller: Caller) -> str:
    """As the audit table names who acts here."""
    return f"{caller.name} (page)"


async def _shown(request: Request, template: str, step: str) -> Response:
    context = context_of(request)
    view, look = await context.guide.look(), await context.live.get()
    return shown_page(
        request,
        template,
        view=view,
        at_work=look.station,
        steps=_steps_of(view),
        step=_step_of(view, step),
        rates=RATES,
        counts=COUNTS,
        sides=SIDES,
        corner=CORNER,
    )


def _steps_of(view: GuideView) -> tuple[str, ...]:
    """The steps of this product, in their order."""
    has_plane = view.site is None or view.site.needs_plane
    return STEPS if has_plane else STEPS[1:]


def _step_of(view: GuideView, wanted: str) -> str:
    """The step that is shown: what is at work, else what is wanted, else what was done last, else
    the first that was not done.
    """
    state, site, steps = view.state, view.site, _steps_of(view)
    last = "" if state is None else state.what.replace("undo", "parts")
    is_at_work = state is not None and not state.is_over
    for step in (last, wanted) if is_at_work else (wanted, last):
        if step in (*steps, THRESHOLD):
            return step
    return next((one for one in steps if not _is_done(site, one)), steps[-1])


def _is_done(site: SiteTold | None, step: str) -> bool:
    """Whether it was done, and under the plane, crop and region that are in force."""
    signed = None if site is None else getattr(site, step)
    return signed is not None and not signed.before
