"""For the quality manager: every part with its pictures, what was said of it, counts and rates, and
who changed what OK means. Nothing here changes a verdict; a label is only counted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response, StreamingResponse

from edge.page.answers import KINDS, as_file, found_record, picture_of, say_of, shown_page
from edge.page.asked import LIMIT, Asked, Wanted
from edge.page.charts import day_bars
from edge.page.context import context_of
from edge.page.forms import read_form
from edge.page.records import calibrations_of, in_blocks, in_chunks, ok_acts, pictures_of, views
from edge.page.security import Looker, safe_place
from edge.page.shown import away_from

router = APIRouter(include_in_schema=False)

LOT_PARTS = 100  # rejected parts that a lot shows with their pictures
CSV = "text/csv; charset=utf-8"


@router.get("/history")
def history(request: Request, caller: Looker, wanted: Wanted) -> Response:  # noqa: ARG001
    """The parts that match, newest first, a page at a time."""
    from edge.archive.query import read_records

    root = context_of(request).root
    rows = read_records(root, wanted.filter)
    is_full = len(rows) == wanted.filter.limit
    return shown_page(
        request,
        "history.html",
        wanted=wanted,
        parts=views(root, rows),
        older=wanted.query(before=rows[-1].seq) if is_full else None,
        is_first=wanted.filter.before_seq is None,
    )


@router.get("/history/counts")
async def counts(request: Request, caller: Looker, wanted: Wanted) -> Response:  # noqa: ARG001
    """How many parts by day, code and reason, and the rate of false rejects with its bound."""
    context = context_of(request)
    counted = await context.turns.take(partial(_counted, context.root, wanted))
    return shown_page(request, "counts.html", wanted=wanted, **counted)


@router.get("/history/lot")
async def lot(request: Request, caller: Looker, wanted: Wanted) -> Response:  # noqa: ARG001
    """Everything about the parts of a lot, to print: counts, what judged, each rejected part."""
    context = context_of(request)
    found = await context.turns.take(partial(_lot, context.root, wanted))
    return shown_page(request, "lot.html", wanted=wanted, most=LOT_PARTS, **found)


@router.get("/history/records.csv")
def records_csv(request: Request, caller: Looker, wanted: Wanted) -> Response:  # noqa: ARG001
    """All records that match, for a spreadsheet."""
    from edge.archive.csv_file import record_lines

    root = context_of(request).root
    lines = record_lines(in_chunks(root, wanted.all(None)))
    return StreamingResponse(in_blocks(lines), media_type=CSV, headers=as_file("records.csv"))


@router.get("/history/{seq}")
def part(request: Request, caller: Looker, seq: int) -> Response:  # noqa: ARG001
    """Everything that is known of one part, in plain words."""
    from edge.archive.labels import label_history
    from edge.archive.query import find_record

    root = context_of(request).root
    row = found_record(request, seq)
    own = [one for one in label_history(root, seq) if one.judged_at == row.text("judged_at")]
    return shown_page(
        request,
        "part.html",
        row=row,
        pictures=pictures_of(root, row),
        away=away_from(row.number("score"), row.number("thr")),
        calibrations=calibrations_of(root, row),
        said=own,
        newer=find_record(root, seq + 1),
        older=find_record(root, seq - 1),
    )


@router.post("/history/{seq}/label")
async def label(request: Request, caller: Looker, seq: int) -> Response:
    """Note what this user says of the part; the browser goes back to where it came from."""
    form = await read_form(request)
    await run_in_threadpool(say_of, request, seq, form, caller.name)
    return RedirectResponse(safe_place(form.get("next", f"/history/{seq}")), 303)


@router.get("/history/{seq}/{name}")
def picture(request: Request, caller: Looker, seq: int, name: str) -> Response:  # noqa: ARG001
    """One picture of a part."""
    return picture_of(request, seq, name)


@router.get("/audit")
def audit(
    request: Request,
    caller: Looker,  # noqa: ARG001
    every: Annotated[str, Query(max_length=8)] = "",
    before: Annotated[str, Query(max_length=18, pattern="^[0-9]*$")] = "",
) -> Response:
    """Who changed what OK means; with `every` also what else the table says."""
    from edge.archive.acts import ActFilter, read_acts

    acts = () if every else ok_acts()
    asked = ActFilter(acts=acts, before_id=int(before) if before else None, limit=LIMIT)
    rows = read_acts(context_of(request).root, asked)
    older = rows[-1].id if len(rows) == LIMIT else None
    return shown_page(request, "audit.html", acts=rows, every=bool(every), older=older)


def _lot(root: Path, wanted: Asked) -> dict[str, object]:
    from edge.archive.acts import ActFilter, read_acts
    from edge.archive.query import count_by, read_records

    judged_by = count_by(root, wanted.all(None), "product", "bundle", "engine", "thr", "guarantee")
    rejected = replace(wanted.all(LOT_PARTS), codes=wanted.filter.codes or (2, 3))
    meanwhile = ActFilter(wanted.filter.since, wanted.filter.until, ok_acts(), limit=None)
    return {
        "judged_by": judged_by.most_common(),
        "parts": views(root, read_records(root, rejected)),
        "acts": read_acts(root, meanwhile) if wanted.filter.since else [],
        **_counted(root, wanted),
    }


def _counted(root: Path, wanted: Asked) -> dict[str, object]:
    from edge.archive.query import count_records
    from edge.archive.statistics import false_rejects

    counted = count_records(root, wanted.all(None))
    days = {
        day: {KINDS[code]: count for code, count in by_code.items()}
        for day, by_code in counted.by_day.items()
    }
    return {
        "counted": counted,
        "chart": day_bars(days, tuple(KINDS.values())) if days else None,
        "rates": false_rejects(root, wanted.all(None)),
    }
