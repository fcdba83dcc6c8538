"""What a report says, before it is a page: sections of facts, tables, charts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["commissioning", "lot"]
NOT_MEASURED = "not measured"
COLUMNS = 6  # of the pictures, across the page


@dataclass(frozen=True)
class Fact:
    """One line: its name, what is known, and whether a reader should look twice."""

    name: str
    value: str
    is_warning: bool = False


@dataclass(frozen=True)
class Table:
    """Cells as text. numeric: columns that stand to the right. whole: columns that do not wrap."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    whole: frozenset[int] = frozenset()

    def style(self, column: int) -> str:
        """The class of a cell."""
        return "n" if column in self.numeric else "w" if column in self.whole else ""


@dataclass(frozen=True)
class Picture:
    """data: a JPEG as a data address; empty where there is no picture, which the page then says.

    columns: how many of COLUMNS it takes beside others.
    """

    data: str
    title: str
    caption: str = ""
    is_bad: bool = False
    columns: int = COLUMNS // 3


@dataclass(frozen=True)
class Section:
    """One heading and what stands below it, in this order; whatever is empty is left out.

    said: sentences in larger type. charts: SVG as text, each with its caption. notes: small print.
    """

    title: str
    said: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[tuple[str, str]] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Document:
    """A report. station: site/line/station. when: UTC, ISO 8601. keyid: of the key that signs."""

    kind: Kind
    title: str
    station: str
    who: str
    when: str
    keyid: str
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()


def fact(name: str, value: object, unit: str = "", is_warning: bool = False) -> Fact:
    """A fact; None is said to be not measured."""
    if value is None or value == "":
        return Fact(name, NOT_MEASURED, is_warning)
    said = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Fact(name, f"{said} {unit}".rstrip(), is_warning)
