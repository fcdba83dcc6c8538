"""Kept parts as a zip file: what is in it, what is left out, and that any program opens it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from edge.archive.filters import RecordFilter
from edge.archive.labels import add_label
from edge.archive.query import Row, read_records
from edge.errors import DataError
from edge.page import dataset, zip_stream
from edge.page.dataset import choose, zip_of
from edge.page.zip_stream import zip_chunks
from tests.support.recorded import DATA, add_record, fields_of, keep_pictures, record_parts

PARTS = 12


@pytest.fixture
def root(tmp_path: Path) -> Path:
    record_parts(tmp_path, PARTS, pictured=6)
    add_label(tmp_path, 12, "good", who="q")
    add_label(tmp_path, 11, "bad", who="q")
    return tmp_path


def rows_of(root: Path) -> list[Row]:
    return read_records(root, RecordFilter(limit=None))


def unpacked(root: Path, rows: list[Row]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(zip_of(root, rows, {"who": "q"}))))


def test_labeled_parts_are_sorted_and_others_keep_their_day(root: Path) -> None:
    chosen = choose(root, rows_of(root))
    assert [row.seq for row in chosen] == [12, 11, 10, 9, 8, 7], "those with images"
    archive = unpacked(root, chosen)
    assert archive.testzip() is None
    folders = {name.rpartition("/")[0] for name in archive.namelist()} - {""}
    assert folders == {"good/cell7-12", "defective/cell7-11"} | {
        f"2026-11-20/cell7-{seq}" for seq in (10, 9, 8, 7)
    }
    one = root / DATA / "parts/2026-11-20/cell7-12"
    assert archive.read("good/cell7-12/color.png") == (one / "color.png").read_bytes()
    assert "good/cell7-12/map.npz" not in archive.namelist(), "training reads no maps"


def test_what_was_chosen_stands_in_it(root: Path) -> None:
    about = json.loads(unpacked(root, choose(root, rows_of(root))).read("dataset.json"))
    assert about["who"] == "q"
    assert about["parts"][0] == {"seq": 12, "folder": "good/cell7-12", "label": "good"}
    assert about["left_out"] == {}


def test_images_that_are_removed_meanwhile_are_named(root: Path) -> None:
    chosen = choose(root, rows_of(root))
    shutil.rmtree(root / DATA / "parts/2026-11-20/cell7-10")
    archive = unpacked(root, chosen)
    left_out = json.loads(archive.read("dataset.json"))["left_out"]
    assert left_out == {"parts/2026-11-20/cell7-10": "its images were removed meanwhile"}
    assert not any("cell7-10/" in name for name in archive.namelist())


def test_another_camera_is_left_out_and_named(root: Path) -> None:
    keep_pictures(root, fields_of(8, has_pictures=True), serial="B2")
    left_out = json.loads(unpacked(root, choose(root, rows_of(root))).read("dataset.json"))
    assert list(left_out["left_out"]) == ["parts/2026-11-20/cell7-8"]


def test_a_file_ends_at_its_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MOST_BYTES", 200_000)
    about = json.loads(unpacked(root, choose(root, rows_of(root))).read("dataset.json"))
    assert about["parts"]
    assert all("has reached" in why for why in about["left_out"].values())
    assert about["left_out"]
    monkeypatch.setattr(dataset, "MOST_PARTS", 5)
    with pytest.raises(DataError, match="images of more than 5 parts"):
        choose(root, rows_of(root))


def test_two_products_and_no_images_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="no images of these parts are kept"):
        choose(root, [row for row in rows_of(root) if row.seq < 7])
    with pytest.raises(DataError, match="no part matches"):
        choose(root, [])
    fields = fields_of(13, has_pictures=True)
    add_record(root, product="gear", images=fields["images"])
    keep_pictures(root, fields)
    with pytest.raises(DataError, match=r"several products \(gear, washer\)"):
        choose(root, rows_of(root))


@pytest.mark.parametrize(
    "images",
    [
        "parts/2026-11-20/../../../../etc",
        "parts/../../2026-11-20/x-1",
        "/etc/passwd",
        "parts/2026-11-20/..\\..\\x-1",
        7,
        None,
    ],
)
def test_a_record_cannot_lead_elsewhere(root: Path, images: object) -> None:
    fields = {**fields_of(12, has_pictures=True), "images": images}
    with pytest.raises(DataError, match="no images"):
        choose(root, [Row(12, fields)])


def test_a_name_is_safe_wherever_it_is_unpacked(root: Path) -> None:
    odd = "parts/2026-11-20/a\\..\\b c-12"
    keep_pictures(root, {**fields_of(12, has_pictures=True), "images": odd})
    rows = choose(root, [Row(12, {**fields_of(12), "images": odd})])
    names = unpacked(root, rows).namelist()
    assert "2026-11-20/a_.._b_c-12/color.png" in names


def test_a_zip_file_is_as_other_programs_write_and_read_it(tmp_path: Path) -> None:
    entries = [("a/b.txt", b"one"), ("c.bin", bytes(100_000)), ("empty", b"")]
    path = tmp_path / "made.zip"
    path.write_bytes(b"".join(zip_chunks(entries)))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [(name, archive.read(name)) for name in archive.namelist()] == entries
        assert all(info.flag_bits & 8 == 0 for info in archive.infolist()), "sizes in front"
    if shutil.which("unzip"):
        assert subprocess.run(["unzip", "-tq", path], capture_output=True).returncode == 0


def test_a_zip_file_beyond_32_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_stream, "MOST_BYTES", 1000)
    with pytest.raises(OverflowError):
        list(zip_chunks([("a", bytes(600)), ("b", bytes(600))]))
