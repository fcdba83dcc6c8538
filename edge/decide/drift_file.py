"""What is remembered of the parts' numbers as strict JSON, so that a restart changes nothing: the
same parts give the same p-values and the same capital, in one run or in many.

A file that is damaged is refused as a whole.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from edge.decide.drift import NUMBERS, POINTS, POOL, WATCHED, Account, Change, Drift, Mark, Run
from edge.decide.drift import Number as Watched
from edge.schema import Strict, parse_json

FILE_LIMIT = 4 << 20  # bytes


class DriftKey(Strict):
    """What the parts have in common: another product, camera, bundle, engine, geometry or model
    state makes other numbers. All but serial as in the record.
    """

    product: str
    serial: str
    bundle: str
    engine: str
    geometry: str | None
    model_state: str | None


class SavedRun(Strict):
    """As edge.decide.drift.Run."""

    gain: float = Field(ge=0)
    since: Mark | None
    parts: int = Field(ge=0)
    total: float


class SavedNumber(Strict):
    """As edge.decide.drift.Number. pool: float32, ascending, little endian, base64."""

    pool: str
    parts: int = Field(ge=0)
    total: float
    level: float
    logs: tuple[float, ...]
    runs: tuple[tuple[SavedRun, ...], ...]


class SavedDrift(Strict):
    """The file."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    key: DriftKey
    seed: int = Field(ge=0, lt=1 << 63)
    parts: int = Field(ge=0)
    numbers: dict[str, SavedNumber]
    changes: tuple[Change, ...]
    points: tuple[tuple[int, tuple[float, ...]], ...] = Field(max_length=POINTS)
    stride: int = Field(ge=1)

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


def drift_to_json(key: DriftKey, drift: Drift) -> bytes:
    """One line."""
    saved = SavedDrift(
        key=key,
        seed=drift.seed,
        parts=drift.parts,
        numbers={name: _saved(number) for name, number in drift.numbers.items()},
        changes=tuple(drift.changes.values()),
        points=tuple(drift.points),
        stride=drift.stride,
    )
    text = json.dumps(saved.model_dump(mode="json", by_alias=True), allow_nan=False)
    return f"{text}\n".encode("ascii")


def drift_from_json(data: bytes) -> tuple[DriftKey, Drift]:
    """What was saved. Raises: ValueError in one line if it is damaged."""
    try:
        saved = SavedDrift.model_validate(parse_json(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from error
    if list(saved.numbers) != list(NUMBERS):
        raise ValueError(f"it has the numbers {', '.join(saved.numbers) or 'none'}")
    if not {change.number for change in saved.changes} <= WATCHED.keys():
        raise ValueError("it has a change of a number that is not watched")
    if any(len(levels) != len(NUMBERS) for _, levels in saved.points):
        raise ValueError("a point of its picture has not a level for each number")
    drift = Drift(saved.seed, saved.parts, stride=saved.stride, points=list(saved.points))
    drift.numbers = _restored_numbers(saved.numbers, saved.parts)
    drift.changes = {change.number: change for change in saved.changes}
    return saved.key, drift


def _restored_numbers(saved: Mapping[str, SavedNumber], parts: int) -> dict[str, Watched]:
    return {name: _restored(name, saved[name], NUMBERS[name], parts) for name in NUMBERS}


def _saved(number: Watched) -> SavedNumber:
    return SavedNumber(
        pool=base64.b64encode(np.array(number.pool, "<f4").tobytes()).decode("ascii"),
        parts=number.parts,
        total=number.total,
        level=number.level,
        logs=tuple(number.logs),
        runs=tuple(tuple(_saved_run(run) for run in runs) for runs in number.runs),
    )


def _saved_run(run: Run) -> SavedRun:
    return SavedRun(gain=run.gain, since=run.since, parts=run.parts, total=run.total)


def _restored(name: str, saved: SavedNumber, accounts: Sequence[Account], parts: int) -> Watched:
    """Raises: ValueError if it does not fit together."""
    number = Watched(tuple(accounts))
    number.pool = _unpacked(name, saved.pool)
    if len(number.pool) != min(saved.parts, POOL) or saved.parts > parts:
        raise ValueError(f"{name}: {len(number.pool)} values of {saved.parts} parts")
    of_each = [len(account.dating) for account in accounts]
    if len(saved.logs) != len(accounts) or [len(runs) for runs in saved.runs] != of_each:
        raise ValueError(f"{name}: it has not the {len(accounts)} accounts of this number")
    number.parts, number.total, number.level = saved.parts, saved.total, saved.level
    number.logs = list(saved.logs)
    number.runs = [
        [Run(run.gain, run.since, run.parts, run.total) for run in runs] for runs in saved.runs
    ]
    return number


def _unpacked(name: str, text: str) -> list[float]:
    """Raises: ValueError if these are no ascending numbers."""
    try:
        flat = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}: its values are damaged ({error})") from error
    if not np.isfinite(flat).all() or (np.diff(flat) < 0).any():
        raise ValueError(f"{name}: its values are not finite and ascending")
    values: list[float] = flat.tolist()
    return values
