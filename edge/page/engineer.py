"""For the engineer: what another threshold would have done, drift, what judges, and kept parts as a
data set. Nothing here changes the station: edge/page/calibrate.py proposes and signs a limit.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from edge.page.answers import as_file, shown_page
from edge.page.asked import Asked, Wanted
from edge.page.calibrate import RATES
from edge.page.charts import Axis, Bars, histogram, score_axis
from edge.page.context import context_of
from edge.page.dataset import choose, zip_of
from edge.page.drift_view import DriftView, read_drift
from edge.page.engine_view import EngineView, Latency, latency_of, read_engine
from edge.page.records import in_chunks
from edge.page.security import Calibrator, Looker
from edge.page.what_if import LABELS, Comparable, Effect, comparable, effect_of

if TYPE_CHECKING:
    from edge.archive.query import Row

router = APIRouter(include_in_schema=False)

JUDGED = 1000  # the newest judged parts that the slider works on
LOOKED_AT = 200_000  # the newest records that a data set is chosen from
STEPS = 1000  # of the slider, from one end of the axis to the other
_sending = threading.Semaphore(1)  # data sets at once: the disk belongs to the station
Numbers = Annotated[list[int], Query(max_length=500, description="parts, by their numbers")]


@dataclass(frozen=True)
class EngineerView:
    """Everything that the page shows; axis and chart are None without a judged part."""

    judged: Comparable
    axis: Axis | None
    chart: Bars | None
    drift: DriftView | None
    engine: EngineView
    latency: Latency


@router.get("/engineer")
async def engineer(
    request: Request,
    caller: Looker,  # noqa: ARG001  who may look
    at: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """The engineer's page; `at` is a threshold to try."""
    context = context_of(request)
    said = (await context.live.get()).said
    view = await run_in_threadpool(read_view, context.root, said)
    tried = _number(at, view.judged.threshold)
    effect = None if tried is None else effect_of(view.judged.parts, tried)
    return await run_in_threadpool(_page, request, view, effect)


@router.get("/engineer/dataset.zip")
def dataset(request: Request, caller: Calibrator, wanted: Wanted, seq: Numbers = []) -> Response:  # noqa: B006  not changed
    """Kept parts as a data set; those of `seq` if there are any, else all that match."""
    return dataset_of(request, caller.name, wanted, seq)


def read_view(root: Path, said: Any) -> EngineerView:
    """said: the state of the station; empty where it does not run. Raises: EdgeError."""
    judged = judged_parts(root)
    axis = chart = None
    if judged.threshold is not None:
        axis = score_axis([part.score for part in judged.parts], judged.threshold)
        by_label = {
            label: [part.score for part in judged.parts if part.label == label] for label in LABELS
        }
        chart = histogram(by_label, axis)
    return EngineerView(
        judged, axis, chart, read_drift(root), read_engine(root), latency_of(judged.parts, said)
    )


def judged_parts(root: Path) -> Comparable:
    """The newest judged parts that can be compared with each other. Raises: StorageError."""
    from edge.archive.filters import RecordFilter
    from edge.archive.query import iterate_records

    return comparable(iterate_records(root, RecordFilter(codes=(1, 2), limit=JUDGED)))


class _Turn:
    """Whose turn it is to send a data set: until the last piece, or until the browser is gone,
    which may be before the first one.
    """

    def __init__(self) -> None:
        """Raises: HTTPException 429 while another one is sent."""
        if not _sending.acquire(blocking=False):
            raise HTTPException(429, "another data set is being sent: try again when it is done")
        self.end = weakref.finalize(self, _sending.release)  # once, whoever calls it

    def until_sent(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces; then the turn ends."""
        try:
            yield from pieces
        finally:
            self.end()


def dataset_of(request: Request, who: str, wanted: Asked, seqs: list[int]) -> Response:
    """The zip file. Raises: HTTPException 429 while another one is sent, EdgeError."""
    root, turn = context_of(request).root, _Turn()
    try:
        chosen = choose(root, _rows(root, wanted, seqs))
    except BaseException:
        turn.end()
        raise
    about = {
        "station": context_of(request).config.station.station,
        "who": who,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "asked": sorted(seqs) if seqs else wanted.query(),
    }
    pieces = turn.until_sent(zip_of(root, chosen, about))
    return StreamingResponse(pieces, media_type="application/zip", headers=as_file("dataset.zip"))


def _rows(root: Path, wanted: Asked, seqs: list[int]) -> Iterator[Row]:
    from edge.archive.query import find_record

    if not seqs:
        yield from in_chunks(root, wanted.all(LOOKED_AT))
    for seq in sorted(set(seqs), reverse=True):
        row = find_record(root, seq) if seq > 0 else None
        if row is not None:
            yield row


def _page(request: Request, view: EngineerView, effect: Effect | None) -> Response:
    position = 0
    if effect is not None and view.axis is not None:
        position = round(STEPS * view.axis.share(effect.threshold))
    return shown_page(
        request,
        "engineer.html",
        view=view,
        effect=effect,
        position=position,
        labels=LABELS,
        rates=RATES,
    )


def _number(text: str, otherwise: float | None) -> float | None:
    """A threshold to try; what else it is where the text is no number."""
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return otherwise
    return value if math.isfinite(value) else otherwise
