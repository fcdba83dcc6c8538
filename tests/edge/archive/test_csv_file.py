"""A spreadsheet runs nothing that a part's name or a note says, and reads every value back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from edge.archive.acts import ActFilter, read_acts
from edge.archive.csv_file import FORMULA, MARK, audit_lines, record_lines, safe_cell, write_lines
from edge.archive.labels import add_label
from edge.archive.query import RecordFilter, iterate_records
from edge.line.message import record_fields
from edge.station.audit import append_audit
from tests.support.archive import judged, unknown, write_records
from tests.support.line import RECORD


def read_back(data: bytes) -> list[dict[str, str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_records_as_csv(tmp_path: Path) -> None:
    hostile = "=cmd|'/c calc'!A1"
    write_records(
        tmp_path,
        [
            judged(1, 13.25, part=hostile, margin=-3.75),
            unknown(2, part='a,"b', n=7),
            judged(3, 1.5),
        ],
    )
    add_label(tmp_path, 1, "good", '-Müller, "dust"\n=1+1', who="+anna")
    file = io.BytesIO()
    assert write_lines(file, record_lines(iterate_records(tmp_path, RecordFilter()))) == 3
    third, second, first = read_back(file.getvalue())
    assert first["part"] == f"'{hostile}"
    assert first["margin"] == "-3.75"
    assert (first["verdict"], first["reason"], first["score"]) == ("NG", "anomaly", "13.25")
    assert first["label"] == "good"
    assert first["label_note"] == '\'-Müller, "dust"\\n=1+1'
    assert first["label_who"] == "'+anna"
    assert (second["part"], second["n"], second["score"]) == ('a,"b', "7", "")
    assert third["judged_at"] == "2026-11-30T00:56:20.000Z"
    assert third["clock_synced"] == "true"


def test_every_field_of_a_record_has_a_column() -> None:
    head = next(record_lines([])).removeprefix(MARK).strip().split(",")
    fields = record_fields(RECORD, "s1", 1)
    assert [key for key in fields if key not in head and key not in ("schema", "at")] == []


def test_audit_rows_as_csv(tmp_path: Path) -> None:
    append_audit(tmp_path, "install", {"product": "Müller", "n": [1, 2]}, who="@anna")
    lines = audit_lines(read_acts(tmp_path, ActFilter()))
    (row,) = read_back("".join(lines).encode())
    assert (row["who"], row["act"]) == ("'@anna", "install")
    assert json.loads(row["detail"]) == {"product": "Müller", "n": [1, 2]}


@pytest.mark.parametrize("start", FORMULA)
def test_no_text_is_a_formula(start: str) -> None:
    assert safe_cell(f"{start}1") == f"'{start}1"
    assert safe_cell(-1.5) == -1.5
    assert safe_cell(None) == ""
    assert safe_cell(True) == "true"
