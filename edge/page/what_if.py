"""What another threshold would have done to the parts that a station has judged. Pure; nothing is
set here, and nothing follows from it by itself.

Scores of two engines, bundles or calibrations are not comparable: only parts that were judged as
the newest one was are compared. Scores and thresholds are float32, as on the station: a part is
rejected whose score is greater than the threshold.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ctypes import c_float
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.archive.query import Row

OK, NG = 1, 2  # edge.types.Code, which would load numpy
GOOD, BAD, UNLABELED = "good", "bad", "unlabeled"
LABELS = (GOOD, BAD, UNLABELED)
SAME = ("product", "bundle", "engine", "geometry", "model_state")  # of records that compare


@dataclass(frozen=True)
class JudgedPart:
    """One part that was judged OK or NG.

    score, threshold: float32, raw units. label: one of LABELS, what a person has said. judge_ms:
    from the capture to the judgment; None where the record does not say it.
    """

    seq: int
    part: str
    score: float
    threshold: float
    code: int
    label: str
    judge_ms: float | None = None

    def is_rejected(self, threshold: float) -> bool:
        """Whether this threshold would reject it."""
        return c_float(self.score).value > c_float(threshold).value


@dataclass(frozen=True)
class Comparable:
    """The newest parts that were judged alike, newest first.

    judged_by: what all of them have in common, by the keys of SAME; empty without a part.
    others: parts among those that were looked at, judged by something else and left out.
    """

    parts: tuple[JudgedPart, ...]
    judged_by: Mapping[str, str]
    others: int

    @property
    def threshold(self) -> float | None:
        """That the newest part was judged with."""
        return self.parts[0].threshold if self.parts else None


@dataclass(frozen=True)
class Effect:
    """What a threshold would have done.

    rejected, accepted: parts by label. newly_rejected, newly_accepted: parts whose verdict would
    have been another one, newest first.
    """

    threshold: float
    rejected: Mapping[str, int]
    accepted: Mapping[str, int]
    newly_rejected: tuple[JudgedPart, ...]
    newly_accepted: tuple[JudgedPart, ...]


def comparable(rows: Iterable[Row]) -> Comparable:
    """rows: newest first; those that were not judged are passed over."""
    judged = [
        row
        for row in rows
        if row.code in (OK, NG) and _has_float32(row, "score") and _has_float32(row, "thr")
    ]
    if not judged:
        return Comparable((), {}, 0)
    newest = _judged_by(judged[0])
    alike = [row for row in judged if _judged_by(row) == newest]
    return Comparable(tuple(map(_part_of, alike)), newest, len(judged) - len(alike))


def effect_of(parts: Sequence[JudgedPart], threshold: float) -> Effect:
    """threshold: raw units, as float32."""
    rejected = [part for part in parts if part.is_rejected(threshold)]
    kept = [part for part in parts if not part.is_rejected(threshold)]
    return Effect(
        threshold,
        _by_label(rejected),
        _by_label(kept),
        tuple(part for part in rejected if part.code == OK),
        tuple(part for part in kept if part.code == NG),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all does not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None


def label_of(row: Row) -> str:
    """One of LABELS."""
    said = "" if row.label is None else row.label.said
    return said if said in (GOOD, BAD) else UNLABELED


def _has_float32(row: Row, key: str) -> bool:
    value = row.number(key)
    return value is not None and math.isfinite(c_float(value).value)


def _judged_by(row: Row) -> dict[str, str]:
    return {key: row.text(key) for key in SAME}


def _part_of(row: Row) -> JudgedPart:
    return JudgedPart(
        row.seq,
        row.text("part"),
        row.number("score") or 0.0,
        row.number("thr") or 0.0,
        int(row.code or 0),
        label_of(row),
        row.number("judge_ms"),
    )


def _by_label(parts: Sequence[JudgedPart]) -> dict[str, int]:
    counts = Counter(part.label for part in parts)
    return {label: counts[label] for label in LABELS}
