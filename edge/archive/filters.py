"""Which records are asked for, and the same as a condition of SQLite.

The text of a record is looked into only where it is JSON: a damaged row matches no condition about
its content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from edge.archive.labels import SAID
from edge.errors import ConfigError
from edge.line.message import utc_ms

IS_JSON = "typeof(fields) = 'text' AND json_valid(fields)"
IS_RECORD = f"CASE WHEN {IS_JSON} THEN json_type(fields) = 'object' ELSE 0 END"
CODES = (1, 2, 3)
ALL_TIME = "\U0010ffff"  # after every text


@dataclass(frozen=True)
class RecordFilter:
    """Which records. Whatever is left out, or empty, restricts nothing.

    since, until: when the part was judged, with their time zone: since <= judged_at < until.
    codes: 1 OK, 2 NG, 3 UNKNOWN. reasons: as docs/mqtt.md lists them.
    part: a name; `*` in it stands for any characters. product: of the bundle that judged.
    labels: what was said of the part last: good, bad, or none for parts without a label.
    min_score, max_score: both included; parts without a score are then left out.
    before_seq: only lower numbers, to go on after a page. limit: the newest this many; None: all.
    """

    since: datetime | None = None
    until: datetime | None = None
    codes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    part: str | None = None
    product: str | None = None
    labels: tuple[str, ...] = ()
    min_score: float | None = None
    max_score: float | None = None
    before_seq: int | None = None
    limit: int | None = 100

    def __post_init__(self) -> None:
        """Raises: ConfigError naming what is not possible."""
        if wrong := set(self.codes) - set(CODES):
            raise ConfigError(f"code {min(wrong)}: use 1 (OK), 2 (NG) or 3 (UNKNOWN)")
        if wrong_labels := set(self.labels) - set(SAID):
            raise ConfigError(f"label {min(wrong_labels)!r}: use one of {', '.join(SAID)}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit {self.limit}: ask for at least 1 record")
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ConfigError(f"the time {moment} has no time zone")


def condition_of(asked: RecordFilter) -> tuple[str, list[Any]]:
    """(condition about a row of `records`, the values for its question marks).

    `labelled` is a table with seq, judged_at and said of the labels that count.
    """
    found = [
        *_one_of("code", asked.codes),
        *_one_of("reason", asked.reasons),
        *_one_of("product", () if asked.product is None else (asked.product,)),
        *_name(asked.part),
        *_times(asked.since, asked.until),
        *_scores(asked.min_score, asked.max_score),
    ]
    if asked.labels:
        found.append(_labels(asked.labels))
    if not found:
        return "1", []
    inside = " AND ".join(text for text, _ in found)
    # only CASE fixes the order: json_extract fails on what is no JSON
    text = f"CASE WHEN {IS_JSON} THEN {inside} ELSE 0 END"
    return text, [value for _, values in found for value in values]


def field(key: str) -> str:
    """The value of one key of a record, in SQLite."""
    return f"json_extract(fields, '$.{key}')"


def time_range(since: datetime | None, until: datetime | None) -> tuple[str, str]:
    """(first, end) as records and audit rows have times, which sort as texts do."""
    return (
        "" if since is None else _text_of(since),
        ALL_TIME if until is None else _text_of(until),
    )


def parse_moment(text: str, option: str, is_end: bool = False) -> datetime:
    """A date or a time as a user writes it, with a time zone: that of this station if none is
    named.

    Args:
        text: ISO 8601, such as 2026-11-29, 2026-11-29T06:00 or 2026-11-29T05:00:00Z.
        option: named in the error.
        is_end: a date stands for the end of that day instead of its beginning.
    Raises: ConfigError for anything else.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            day = date.fromisoformat(text) + timedelta(days=1 if is_end else 0)
            return datetime.combine(day, time()).astimezone()
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{option} {text}: write a date or a time such as 2026-11-29, 2026-11-29T06:00 or"
            " 2026-11-29T05:00:00Z"
        ) from error


Condition = tuple[str, list[Any]]


def _one_of(key: str, values: tuple[Any, ...]) -> list[Condition]:
    marks = ", ".join("?" * len(values))
    return [(f"{field(key)} IN ({marks})", list(values))] if values else []


def _name(part: str | None) -> list[Condition]:
    if part is None:
        return []
    if "*" not in part:
        return _one_of("part", (part,))
    # in a pattern of GLOB these stand for something else, unless they stand in brackets
    return [(f"{field('part')} GLOB ?", [re.sub(r"[?\[]", r"[\g<0>]", part)])]


def _times(since: datetime | None, until: datetime | None) -> list[Condition]:
    if since is None and until is None:
        return []
    at = field("judged_at")
    return [(f"typeof({at}) = 'text' AND {at} >= ? AND {at} < ?", list(time_range(since, until)))]


def _text_of(moment: datetime) -> str:
    try:
        return utc_ms(moment.timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{moment} is no time that a record can have") from error


def _scores(least: float | None, most: float | None) -> list[Condition]:
    value, bounds = field("score"), [(">=", least), ("<=", most)]
    found: list[Condition] = [
        (f"{value} {sign} ?", [bound]) for sign, bound in bounds if bound is not None
    ]
    return [(f"typeof({value}) IN ('real', 'integer')", []), *found] if found else []


def _labels(labels: tuple[str, ...]) -> Condition:
    same = f"labelled.seq = records.seq AND labelled.judged_at = {field('judged_at')}"
    said = f"coalesce((SELECT said FROM labelled WHERE {same}), 'none')"
    return f"{said} IN ({', '.join('?' * len(labels))})", list(labels)
