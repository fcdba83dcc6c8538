"""The data set that the station's page sends is one that the trainer reads."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from edge.archive.filters import RecordFilter
from edge.archive.labels import add_label
from edge.archive.query import read_records
from edge.frames.dataset import open_dataset
from edge.frames.reading import Reading
from edge.page.dataset import choose, zip_of
from tests.support.recorded import record_parts
from trainer.data.defects import with_defects

PARTS = 24  # 23 is NG


@pytest.fixture
def station(tmp_path: Path) -> Path:
    record_parts(tmp_path / "station", PARTS, pictured=PARTS)
    return tmp_path / "station"


def downloaded(station: Path, to: Path) -> Path:
    rows = choose(station, read_records(station, RecordFilter(limit=None)))
    zipfile.ZipFile(io.BytesIO(b"".join(zip_of(station, rows, {})))).extractall(to)
    return to


def test_without_labels_the_verdicts_count_and_that_is_said(station: Path, tmp_path: Path) -> None:
    dataset = open_dataset(downloaded(station, tmp_path / "data"))
    by_kind = {sample.path.parent.name: sample.defect for sample in dataset.samples}
    assert by_kind["cell7-23"] == "NG"
    assert {kind for name, kind in by_kind.items() if name != "cell7-23"} == {"good"}
    assert any("verdicts stand in for the truth" in note for note in dataset.notes)
    assert dataset.has_depth
    assert dataset.samples[0].load().depth is not None


def test_labels_decide_what_is_trained_on(station: Path, tmp_path: Path) -> None:
    add_label(station, 23, "good", who="q")  # a false reject
    add_label(station, 5, "bad", who="q")  # a miss
    dataset = open_dataset(downloaded(station, tmp_path / "data"))
    by_kind = {sample.path.parent.name: (sample.defect, sample.split) for sample in dataset.samples}
    assert by_kind["cell7-23"] == ("good", "")
    assert by_kind["cell7-5"] == ("defective", "test")
    assert len(by_kind) == PARTS


@pytest.mark.parametrize("given", ["defective", "."])
def test_evaluate_reads_its_defects(station: Path, tmp_path: Path, given: str) -> None:
    for seq in range(1, PARTS + 1):
        add_label(station, seq, "bad" if seq in (5, 23) else "good", who="q")
    data = downloaded(station, tmp_path / "data")
    trained = open_dataset(data / "good")
    assert {sample.defect for sample in trained.samples} == {"good"}
    judged = with_defects(trained, data / given, Reading(), with_depth=True)
    found = {sample.path.parent.name for sample in judged.samples if sample.is_defective}
    assert found == {"cell7-5", "cell7-23"}
