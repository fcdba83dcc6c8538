"""What a browser or a program asks of the records, from the query of its address: the same names
for the pages, the JSON interface and the files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query

from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge.archive.filters import RecordFilter

Texts = Annotated[list[str], Query(max_length=32)]
LIMIT = 50
MOST = 200  # records in one answer
CODES = {"OK": 1, "NG": 2, "UNKNOWN": 3}


@dataclass(frozen=True)
class Asked:
    """A filter, and the query that it came from.

    given: (key, value) as they were sent, without empty ones, `before` and `limit`.
    """

    filter: RecordFilter
    given: tuple[tuple[str, str], ...]

    def query(self, **changed: object) -> str:
        """The query that asks for the same, with other keys besides."""
        return urlencode([*self.given, *((key, str(value)) for key, value in changed.items())])

    def value(self, key: str) -> str:
        """What was sent for a key that is sent once; empty where nothing was."""
        return next((value for known, value in self.given if known == key), "")

    def has(self, key: str, value: str) -> bool:
        """Whether this was sent for a key that may be sent several times."""
        return (key, value) in self.given

    def all(self, limit: int | None) -> RecordFilter:
        """The filter without its place in the list: the newest `limit` records that match."""
        return replace(self.filter, before_seq=None, limit=limit)


def asked(
    since: Annotated[str, Query(max_length=40, description="date or time, ISO 8601")] = "",
    until: Annotated[str, Query(max_length=40, description="a date: to its end")] = "",
    code: Annotated[Texts, Query(description="OK, NG, UNKNOWN")] = [],  # noqa: B006  not changed
    reason: Texts = [],  # noqa: B006
    label: Annotated[Texts, Query(description="good, bad, none")] = [],  # noqa: B006
    part: Annotated[str, Query(max_length=64, description="a name; * for any characters")] = "",
    product: Annotated[str, Query(max_length=64)] = "",
    min_score: Annotated[str, Query(max_length=40)] = "",
    max_score: Annotated[str, Query(max_length=40)] = "",
    before: Annotated[str, Query(max_length=40, description="only lower numbers")] = "",
    limit: Annotated[str, Query(max_length=40, description=f"at most {MOST}")] = "",
) -> Asked:
    """The records that are asked for; an empty value restricts nothing.

    Raises: ConfigError naming the key.
    """
    from edge.archive.filters import RecordFilter, parse_moment

    several = {"code": code, "reason": reason, "label": label}
    once = {
        "since": since,
        "until": until,
        "part": part.strip(),
        "product": product,
        "min_score": min_score,
        "max_score": max_score,
    }
    given = [(key, value) for key, value in once.items() if value]
    given += [(key, value) for key, values in several.items() for value in values if value]
    found = RecordFilter(
        since=parse_moment(since, "since") if since else None,
        until=parse_moment(until, "until", is_end=True) if until else None,
        codes=_codes(code),
        reasons=tuple(value for value in reason if value),
        part=once["part"] or None,
        product=product or None,
        labels=tuple(value for value in label if value),
        min_score=_number("min_score", min_score),
        max_score=_number("max_score", max_score),
        before_seq=_whole("before", before),
        limit=min(MOST, _whole("limit", limit) or LIMIT),
    )
    return Asked(found, tuple(given))


Wanted = Annotated[Asked, Depends(asked)]


def _codes(values: Sequence[str]) -> tuple[int, ...]:
    if wrong := [value for value in values if value and value not in CODES]:
        raise ConfigError(f"code {wrong[0]!r}: use OK, NG or UNKNOWN")
    return tuple(CODES[value] for value in values if value)


def _number(key: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{key} {text!r} is no number: write one such as 13.25")
    return value


def _whole(key: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ConfigError(f"{key} {text!r} is no number of a part: write digits")
    return int(text)
