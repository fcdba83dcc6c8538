"""What the pages and the JSON interface share: one part, its pictures, what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from starlette.responses import HTMLResponse, Response

from edge.page.context import context_of
from edge.page.records import PICTURES
from edge.page.render import page
from edge.page.roles import Role
from edge.page.shown import Shown

if TYPE_CHECKING:
    from edge.archive.query import Row
    from edge.page.sessions import Caller

KINDS = {1: "ok", 2: "ng", 3: "unknown"}  # the class of a code, from the ground of a bar up


def shown_page(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A page with numbers and times in the reader's language."""
    caller: Caller | None = getattr(request.state, "caller", None)
    known: dict[str, Any] = {
        "show": Shown(context_of(request).renderer.language(request)),
        "kinds": KINDS,
        "may_calibrate": caller is not None and caller.may(Role.CALIBRATE),
    }
    return page(request, template, **known, **values)


def found_record(request: Request, seq: int) -> Row:
    """The record of one part. Raises: HTTPException 404 if there is none."""
    from edge.archive.query import find_record

    row = find_record(context_of(request).root, seq) if seq > 0 else None
    if row is None:
        raise HTTPException(404)
    return row


def picture_of(request: Request, seq: int, name: str) -> Response:
    """One of the part's pictures, from the folder that its record names and nowhere else.

    Raises: HTTPException 404 if there is no such part or picture.
    """
    from edge.archive.pictures import read_picture

    row = found_record(request, seq)
    data = read_picture(context_of(request).root, row, name) if name in PICTURES else None
    if data is None:
        raise HTTPException(404)
    headers = {"cache-control": "private, max-age=60"}  # a number's pictures never change
    return Response(data, media_type="image/png", headers=headers)


def say_of(request: Request, seq: int, form: Mapping[str, str], who: str) -> None:
    """Keep the label. Raises: HTTPException 404 if there is no such part, EdgeError."""
    from edge.archive.labels import add_label

    found_record(request, seq)
    said, note = form.get("said", ""), form.get("note", "").strip()
    add_label(context_of(request).root, seq, said, note, f"{who} (page)")


def as_file(name: str) -> dict[str, str]:
    """Headers by which a browser saves an answer. name: ASCII, without quotes."""
    return {"content-disposition": f'attachment; filename="{name}"'}
