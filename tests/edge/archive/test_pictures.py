"""Pictures of a part, wherever its record says they are, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.archive.pictures import picture_names, read_picture
from edge.archive.query import Row
from tests.support.archive import judged, keep_picture

FOLDER = "parts/2026-11-30/s1-4"
RECORD = judged(4, 20.0, images=FOLDER)


def row_with(images: object) -> Row:
    return Row(4, {**RECORD, "images": images})


def test_what_is_kept_of_a_part(tmp_path: Path) -> None:
    keep_picture(tmp_path, RECORD, b"pixels", "overlay.png")
    row = row_with(FOLDER)
    assert picture_names(tmp_path, row) == ["overlay.png", "record.json"]
    assert read_picture(tmp_path, row, "overlay.png") == b"pixels"
    assert read_picture(tmp_path, row, "map.png") is None


@pytest.mark.parametrize(
    "images",
    [None, "", 7, "parts/2026-11-30/s1-5", "parts/2026-11-30", "parts/../parts/2026-11-30/s1-4",
     "/etc", "parts/2026-11-30/../2026-11-30/s1-4", "engines/2026-11-30/s1-4", f"{FOLDER}/"],
)  # fmt: skip
def test_a_record_that_names_another_place(tmp_path: Path, images: object) -> None:
    keep_picture(tmp_path, RECORD, b"pixels", "overlay.png")
    assert picture_names(tmp_path, row_with(images)) == []
    assert read_picture(tmp_path, row_with(images), "overlay.png") is None


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    picture = keep_picture(tmp_path, RECORD, b"pixels", "overlay.png")
    (picture.parent / "color.png").symlink_to(tmp_path / "secret")
    row = row_with(FOLDER)
    assert read_picture(tmp_path, row, "color.png") is None
    assert read_picture(tmp_path, row, "../s1-4/overlay.png") is None
    assert read_picture(tmp_path, row, "..") is None
    day = picture.parent.parent
    day.rename(tmp_path / "elsewhere")
    day.symlink_to(tmp_path / "elsewhere")
    assert read_picture(tmp_path, row, "overlay.png") is None
    assert picture_names(tmp_path, row) == []
