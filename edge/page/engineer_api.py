"""The JSON interface to what the engineer sees, and a list of the whole interface to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from edge.page.answers import shown_page
from edge.page.asked import Wanted
from edge.page.context import context_of
from edge.page.drift_view import Change, read_drift
from edge.page.engine_view import EngineView, Latency, latency_of, read_engine
from edge.page.engineer import Numbers, dataset_of, judged_parts
from edge.page.security import Calibrator, Looker
from edge.page.what_if import effect_of

router = APIRouter(tags=["engineer"])

ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}}}


class Judged(BaseModel):
    """One judged part. code: 1 OK, 2 NG. label: good, bad or unlabeled."""

    seq: int
    part: str
    score: float
    threshold: float
    code: int
    label: str


class Effect(BaseModel):
    """What a threshold would have done to the parts. It is not set by this."""

    threshold: float
    rejected: dict[str, int] = Field(description="parts by label")
    accepted: dict[str, int]
    newly_rejected: int = Field(description="parts judged OK that it would have rejected")
    newly_accepted: int = Field(description="parts judged NG that it would have accepted")


class Scores(BaseModel):
    """The newest judged parts that compare, newest first, and what a threshold would have done."""

    threshold: float | None = Field(description="that the newest part was judged with")
    judged_by: dict[str, str] = Field(description="what all of them have in common")
    left_out: int = Field(description="parts among them that something else has judged")
    effect: Effect | None
    parts: list[Judged]


class Drift(BaseModel):
    """The drift watch; null where nothing is watched yet."""

    parts: int
    changes: list[Change]
    seqs: list[int] = Field(description="the part of each point")
    series: dict[str, list[float]] = Field(
        description="smoothed normal score of each number, in standard deviations"
    )
    problem: str


@dataclass(frozen=True)
class Operation:
    """One thing that the interface can do."""

    method: str
    path: str
    said: str
    keys: tuple[str, ...]


@router.get("/api/v1/scores")
def scores(
    request: Request,
    caller: Looker,  # noqa: ARG001  who may look
    at: Annotated[float | None, Query(allow_inf_nan=False, description="a threshold")] = None,
) -> Scores:
    """The newest 1,000 judged parts, and what the threshold `at` would have done to them."""
    judged = judged_parts(context_of(request).root)
    threshold = judged.threshold if at is None else at
    return Scores(
        threshold=judged.threshold,
        judged_by=dict(judged.judged_by),
        left_out=judged.others,
        effect=None if threshold is None else _effect(judged.parts, threshold),
        parts=[
            Judged(**{key: getattr(part, key) for key in Judged.model_fields})
            for part in judged.parts
        ],
    )


@router.get("/api/v1/drift")
def drift(request: Request, caller: Looker) -> Drift | None:  # noqa: ARG001  who may look
    """Whether the numbers of the parts drift."""
    found = read_drift(context_of(request).root)
    if found is None:
        return None
    series = {name: list(values) for name, values in found.series.items()}
    return Drift(
        parts=found.parts,
        changes=list(found.changes),
        seqs=list(found.seqs),
        series=series,
        problem=found.problem,
    )


@router.get("/api/v1/engine")
def engine(request: Request, caller: Looker) -> EngineView:  # noqa: ARG001  who may look
    """What judges: bundle, engines of this machine, certificate, calibration."""
    return read_engine(context_of(request).root)


@router.get("/api/v1/latency")
async def latency(request: Request, caller: Looker) -> Latency:  # noqa: ARG001  who may look
    """How long judging takes."""
    context = context_of(request)
    said = (await context.live.get()).said
    judged = await run_in_threadpool(judged_parts, context.root)
    return latency_of(judged.parts, said)


@router.get("/api/v1/dataset.zip", response_class=Response, responses=ZIP)
def dataset(request: Request, caller: Calibrator, wanted: Wanted, seq: Numbers = []) -> Response:  # noqa: B006  not changed
    """Kept parts as a data set for `trainer train`; those of `seq`, else all that match."""
    return dataset_of(request, caller.name, wanted, seq)


@router.get("/api", include_in_schema=False)
def listing(request: Request, caller: Looker) -> Response:  # noqa: ARG001  who may look
    """The interface as a page."""
    return shown_page(request, "api.html", operations=list(operations_of(request.app.openapi())))


def operations_of(description: dict[str, Any]) -> Iterator[Operation]:
    """What an OpenAPI description lists, in its order."""
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            keys = tuple(one["name"] for one in about.get("parameters", ()))
            said = " ".join(about.get("description", about.get("summary", "")).split())
            yield Operation(method.upper(), path, said, keys)


def _effect(parts: Any, threshold: float) -> Effect:
    found = effect_of(parts, threshold)
    return Effect(
        threshold=found.threshold,
        rejected=dict(found.rejected),
        accepted=dict(found.accepted),
        newly_rejected=len(found.newly_rejected),
        newly_accepted=len(found.newly_accepted),
    )
