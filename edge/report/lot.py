"""The report of a lot: what was judged in a time, with the pictures of what was not OK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from edge.archive.acts import ActFilter
from edge.archive.pictures import LOOKED_AT, read_picture
from edge.archive.query import (
    Counts,
    RecordFilter,
    Row,
    count_by,
    count_records,
    histogram,
    read_records,
)
from edge.archive.statistics import false_rejects
from edge.errors import DataError
from edge.report.charts import days_chart, histogram_chart
from edge.report.document import Fact, Picture, Section, Table, fact
from edge.report.pictures import picture_of
from edge.report.site_sections import acts_section, latency_facts
from edge.station.store import Store
from edge.types import Code

PICTURES_SHOWN = 24  # the newest NG and UNKNOWN parts
PARTS_LISTED = 300
ACTS_SHOWN = 100
IN_FORCE = ("product", "bundle", "engine", "thr", "thr_from", "guarantee", "geometry")


def lot_sections(store: Store, asked: RecordFilter) -> tuple[list[Section], list[str]]:
    """(sections, what to look at first) of the parts that were judged in a time.

    asked: since, until and product are looked at.
    Raises: DataError if no part was judged, StorageError if the database cannot be read.
    """
    root, every = store.root, replace(asked, limit=None)
    counts = count_records(root, every)
    if not counts.total:
        raise DataError(
            f"no part was judged in this time under {root}: `edge records --root {root}` lists what"
            " there is, the oldest records are deleted after a time"
        )
    acts = ActFilter(asked.since, asked.until, limit=ACTS_SHOWN)
    sections = [
        _lot(asked, counts, read_records(root, replace(every, limit=1))[0]),
        _scores(root, every),
        _false_rejects(root, every),
        _in_force(root, every),
        _rejected(root, every),
        Section("Latency", facts=latency_facts(store, every)),
        acts_section(store, acts),
    ]
    return sections, _warnings(counts, root, every)


def _lot(asked: RecordFilter, counts: Counts, newest: Row) -> Section:
    by_code = {code.name: counts.by_code.get(code, 0) for code in Code}
    codes = [f"{count} {name} ({count / counts.total:.2%})" for name, count in by_code.items()]
    reasons = sorted(counts.by_reason.items(), key=lambda one: -one[1])
    table = Table(("Reason", "Parts"), [(name, str(count)) for name, count in reasons],
                  frozenset({1}))  # fmt: skip
    return Section(
        "Parts",
        said=[f"{counts.total} parts: {', '.join(codes)}."],
        facts=[
            Fact("From", _moment(asked.since, "the oldest record")),
            Fact("Until", _moment(asked.until, f"the newest record, {newest.text('judged_at')}")),
            Fact("Product", asked.product or "every product"),
        ],
        charts=[(days_chart(counts.by_day), "Parts by day: OK, NG, UNKNOWN.")],
        tables=[table],
    )


def _moment(moment: object, otherwise: str) -> str:
    return otherwise if moment is None else str(moment)


def _scores(root: Path, asked: RecordFilter) -> Section:
    found = histogram(root, asked)
    if found is None:
        return Section("Scores", said=["No part has a score."])
    caption = f"{found.unscored} parts without a score. The last bar also has what lies higher."
    return Section("Scores", charts=[(histogram_chart(found), caption)])


def _false_rejects(root: Path, asked: RecordFilter) -> Section:
    found = false_rejects(root, asked)
    return Section(
        "False rejects and misses, by what people said",
        said=[f"{sentence[:1].upper()}{sentence[1:]}." for sentence in found.sentences()],
        facts=[
            fact("NG, labelled good (false rejects)", str(found.false_rejects)),
            fact("NG, labelled bad", str(found.confirmed)),
            fact("NG without a label", str(found.unlabelled), is_warning=found.unlabelled > 0),
            fact("OK, labelled bad (misses)", str(found.misses), is_warning=found.misses > 0),
            fact("OK, labelled good", str(found.checked)),
        ],
        notes=[
            "A part judged OK counts as good unless somebody labelled it bad. The rate is right if"
            " somebody looked at every NG part, and at OK parts chosen without regard to their"
            " scores."
        ],
    )


def _in_force(root: Path, asked: RecordFilter) -> Section:
    """Under which bundle, engine and threshold the parts were judged."""
    groups = count_by(root, asked, *IN_FORCE)
    rows = [
        (
            str(count), f"{product} {bundle}", str(engine), _score(threshold),
            f"{source or ''}: {guarantee or ''}", str(geometry or "none"),
        )
        for (product, bundle, engine, threshold, source, guarantee, geometry), count in
        sorted(groups.items(), key=lambda one: -one[1])
    ]  # fmt: skip
    columns = (
        "Parts",
        "Bundle",
        "Engine",
        "Threshold",
        "Set from, and what it promises",
        "Geometry",
    )
    return Section("Judged under", tables=[Table(columns, rows, frozenset({0, 3}))])


def _rejected(root: Path, asked: RecordFilter) -> Section:
    """The newest parts that were not OK: pictures of some, a line for each."""
    rows = read_records(root, replace(asked, codes=(Code.NG, Code.UNKNOWN), limit=PARTS_LISTED))
    if not rows:
        return Section("Parts that were not OK", said=["None."])
    columns = ("Number", "Part", "Judged (UTC)", "Verdict", "Reason", "Score", "Said")
    pictures = list(islice(_pictures(root, rows), PICTURES_SHOWN))
    notes = []
    if len(rows) == PARTS_LISTED:
        notes.append(f"The newest {len(rows)} are listed; `edge records` has all of them.")
    if not pictures:
        notes.append("No picture of these parts is kept any more.")
    elif len(pictures) < len(rows):
        notes.append(f"Pictures of the newest {len(pictures)} of which one is kept.")
    table = Table(columns, [_line_of(row) for row in rows], frozenset({5}), frozenset({2}))
    return Section("Parts that were not OK", tables=[table], pictures=pictures, notes=notes)


def _pictures(root: Path, rows: Sequence[Row]) -> Iterator[Picture]:
    """Of the parts of which one is kept."""
    for row in rows:
        found = (read_picture(root, row, name) for name in LOOKED_AT)
        score = _score(row.number("score"))
        said = f"{_verdict(row)} {row.text('reason')}, score {score}"
        title, is_bad = f"{row.seq}: {row.text('part')}", row.code == Code.NG
        picture = picture_of(next((one for one in found if one), b""), title, said, is_bad)
        if picture.data:
            yield picture


def _line_of(row: Row) -> Sequence[str]:
    return (
        str(row.seq),
        row.text("part"),
        row.text("judged_at")[:19].replace("T", " "),
        _verdict(row),
        row.text("reason"),
        _score(row.number("score")),
        "" if row.label is None else f"{row.label.said} ({row.label.who}) {row.label.note}".strip(),
    )


def _verdict(row: Row) -> str:
    return "unreadable" if row.code is None else row.code.name


def _score(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, (int, float)) else "-"


def _warnings(counts: Counts, root: Path, asked: RecordFilter) -> list[str]:
    found = []
    if counts.unreadable:
        found.append(f"{counts.unreadable} records of this station are damaged and in no count.")
    clocks: Counter[tuple[object, ...]] = count_by(root, asked, "clock_synced")
    unsynced = sum(count for (synced,), count in clocks.items() if synced == 0)
    if unsynced:
        found.append(
            f"The clock was not synchronized for {unsynced} parts: their times may be wrong."
        )
    return found
