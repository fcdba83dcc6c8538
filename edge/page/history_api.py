"""The JSON interface to what the history shows: parts, pictures, labels, counts, rates, audit."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from edge.page.answers import found_record, picture_of, say_of
from edge.page.asked import MOST, Wanted
from edge.page.context import context_of
from edge.page.records import pictures_of
from edge.page.security import Looker

router = APIRouter(prefix="/api/v1", tags=["history"])

BUSY: dict[int | str, dict[str, Any]] = {503: {"description": "too many ask at this moment"}}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}


class Said(BaseModel):
    """What somebody says of a part."""

    said: Literal["good", "bad", "none"] = Field(description="none: taken back")
    note: str = Field(default="", max_length=500)


class LabelOut(Said):
    """A label, who gave it and when (UTC, ISO 8601)."""

    who: str
    at: str


class Part(BaseModel):
    """One part. record: every field of docs/mqtt.md, without `replay`."""

    seq: int
    record: dict[str, Any]
    label: LabelOut | None = Field(description="what was said last")
    pictures: list[str] = Field(description="addresses of its pictures, the best first")


class Parts(BaseModel):
    """A page of parts, newest first. before: for the next page, null after the last one."""

    parts: list[Part]
    before: int | None


class PartHistory(Part):
    """One part, with all that was said of it, oldest first."""

    labels: list[LabelOut]


class Counts(BaseModel):
    """How many parts; codes are 1 OK, 2 NG, 3 UNKNOWN, days those of the station's time zone."""

    total: int
    by_code: dict[int, int]
    by_reason: dict[str, int]
    by_day: dict[str, dict[int, int]]


class Rates(BaseModel):
    """False rejects and misses, by what people said (docs/page.md)."""

    good: int = Field(description="parts that count as good: OK not labeled bad, NG labeled good")
    false_rejects: int
    rate: float | None = Field(description="of good parts that were rejected")
    bound: float = Field(description="what it does not exceed, with 95 % confidence")
    unlabeled: int = Field(description="NG parts of which nobody has said anything")
    worst_bound: float = Field(description="the bound if all of these were good")
    misses: int = Field(description="judged OK, labeled bad")


class Act(BaseModel):
    """A row of the audit table."""

    id: int
    at: str
    who: str
    act: str
    detail: dict[str, Any]


@router.get("/parts")
def parts(request: Request, caller: Looker, wanted: Wanted) -> Parts:  # noqa: ARG001  who may look
    """The parts that match, newest first."""
    from edge.archive.query import read_records

    rows = read_records(context_of(request).root, wanted.filter)
    is_full = len(rows) == wanted.filter.limit
    found = [_part(request, row) for row in rows]
    return Parts(parts=found, before=rows[-1].seq if is_full else None)


@router.get("/parts/{seq}")
def part(request: Request, caller: Looker, seq: int) -> PartHistory:  # noqa: ARG001
    """One part."""
    from edge.archive.labels import label_history

    row = found_record(request, seq)
    said = label_history(context_of(request).root, seq)
    own = [_label(one) for one in said if one.judged_at == row.text("judged_at")]
    return PartHistory(**dict(_part(request, row)), labels=own)


@router.get("/parts/{seq}/pictures/{name}", response_class=Response, responses=PNG)
def picture(request: Request, caller: Looker, seq: int, name: str) -> Response:  # noqa: ARG001
    """One picture: overlay.png, color.png or map.png."""
    return picture_of(request, seq, name)


@router.post("/parts/{seq}/label")
async def label(request: Request, caller: Looker, seq: int, said: Said) -> Said:
    """Say whether a part was good or bad. It changes no verdict. Needs the header Origin."""
    await run_in_threadpool(say_of, request, seq, said.model_dump(), caller.name)
    return said


@router.get("/counts", responses=BUSY)
async def counts(request: Request, caller: Looker, wanted: Wanted) -> Counts:  # noqa: ARG001
    """How many parts match, by code, reason and day."""
    from edge.archive.query import count_records

    context = context_of(request)
    found = await context.turns.take(partial(count_records, context.root, wanted.all(None)))
    return Counts(**{key: getattr(found, key) for key in Counts.model_fields})


@router.get("/false_rejects", responses=BUSY)
async def rates(request: Request, caller: Looker, wanted: Wanted) -> Rates:  # noqa: ARG001
    """The rate of false rejects among the parts that match; code and label are not looked at."""
    from edge.archive.statistics import false_rejects

    context = context_of(request)
    found = await context.turns.take(partial(false_rejects, context.root, wanted.all(None)))
    return Rates(
        good=found.good,
        false_rejects=found.false_rejects,
        rate=found.rate,
        bound=found.bound,
        unlabeled=found.unlabelled,
        worst_bound=found.worst_bound,
        misses=found.misses,
    )


@router.get("/audit")
def audit(
    request: Request,
    caller: Looker,  # noqa: ARG001  who may look
    before: Annotated[int | None, Query(ge=1, lt=1 << 62)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> list[Act]:
    """Who changed what, newest first."""
    from edge.archive.acts import ActFilter, read_acts

    asked = ActFilter(before_id=before, limit=limit)
    return [Act(**vars(row)) for row in read_acts(context_of(request).root, asked)]


def _part(request: Request, row: Any) -> Part:
    place = f"/api/v1/parts/{row.seq}/pictures"
    return Part(
        seq=row.seq,
        record=dict(row.fields),
        label=None if row.label is None else _label(row.label),
        pictures=[f"{place}/{name}" for name in pictures_of(context_of(request).root, row)],
    )


def _label(label: Any) -> LabelOut:
    return LabelOut(said=label.said, note=label.note, who=label.who, at=label.at)
