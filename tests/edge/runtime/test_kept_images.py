"""What the station keeps of a part: the very frame, and a picture that is never a reason to keep
less.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge.runtime.kept_files as kept_files
from edge.frames.dataset import open_dataset
from edge.overlay import BANNER_PX
from edge.runtime.keeper import Keeper
from edge.runtime.kept_files import overlay_png
from edge.sections import RetentionConfig
from tests.support.broker import wait_until
from tests.support.fakes import committed, frames_of
from tests.support.kept import CROP, images_of, write_images
from tests.support.service import new_service
from tests.support.station import BAD, EMPTY, HEIGHT, SERIAL, WIDTH, StationRoot


def read(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path))[:, :, ::-1]).astype(int)


def test_a_kept_part_is_read_back_as_the_frame_that_was_judged(station: StationRoot) -> None:
    shown = frames_of([*[EMPTY] * 3, *[BAD] * 6, *[EMPTY] * 3])
    new_service(station, shown).run()
    (record,) = committed(station.root)
    folder = station.root / "var/lib/edge" / record["images"]
    assert {path.name for path in folder.iterdir()} == {
        "color.png",
        "depth.png",
        "intrinsics.json",
        "camera.json",
        "map.npz",
        "map.png",
        "record.json",
        "overlay.png",
    }
    (sample,) = open_dataset(station.root / "var/lib/edge/parts").samples
    again = sample.load()
    judged = next(frame for frame in shown if np.array_equal(frame.color, again.color))
    np.testing.assert_array_equal(again.depth, judged.depth)
    assert (again.unit, again.intrinsics, again.serial) == (judged.unit, judged.intrinsics, SERIAL)
    picture = read(folder / "overlay.png")
    assert picture.shape == (HEIGHT + BANNER_PX, 2 * WIDTH, 3)
    np.testing.assert_array_equal(picture[BANNER_PX:, :WIDTH], judged.color)


def test_the_camera_is_written_as_readers_of_the_folder_layout_know_it(tmp_path: Path) -> None:
    write_images(tmp_path / "a", images_of(1, judged=True))
    lens = json.loads((tmp_path / "a/intrinsics.json").read_text())
    frame = images_of(1, judged=True).frame
    i = frame.intrinsics
    assert lens == {
        "width": WIDTH,
        "height": HEIGHT,
        "depth_unit_m": frame.unit,
        "fx": i.fx,
        "fy": i.fy,
        "cx": i.cx,
        "cy": i.cy,
    }
    told = json.loads((tmp_path / "a/camera.json").read_text())
    assert told == {"serial": SERIAL, "width": WIDTH, "height": HEIGHT, "exposure_us": 8000.0}


def test_the_overlay_shows_the_crop_and_outlines_where_the_map_is_above_the_threshold(
    tmp_path: Path,
) -> None:
    part = images_of(1, judged=True)
    (tmp_path / "overlay.png").write_bytes(overlay_png(part))
    picture = read(tmp_path / "overlay.png")
    x, y, width, height = CROP
    assert picture.shape == (height + BANNER_PX, 2 * width, 3)
    np.testing.assert_array_equal(
        picture[BANNER_PX:, :width], part.frame.color[y : y + height, x : x + width]
    )
    white = (picture[BANNER_PX:, width:] == 255).all(axis=2)
    rows, columns = np.nonzero(white)
    # 4 map pixels are 16 of the crop
    assert (rows.min(), rows.max()) == pytest.approx((16, 31), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((24, 39), abs=2)
    assert not white[22:26, 30:34].any(), "an outline, not an area"
    above = picture[BANNER_PX : BANNER_PX + 8, width:]
    np.testing.assert_array_equal(above, part.frame.color[y : y + 8, x : x + width])


def test_a_part_that_was_not_judged_is_shown_as_the_camera_saw_it(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").write_bytes(overlay_png(images_of(1)))
    assert read(tmp_path / "overlay.png").shape == (HEIGHT + BANNER_PX, WIDTH, 3)


def test_an_overlay_that_cannot_be_drawn_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise cv2.error("no memory")

    monkeypatch.setattr(kept_files, "draw_kept", broken)
    keeper = Keeper(tmp_path, RetentionConfig(min_free_gb=0.0, days=3650))
    keeper.start()
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            keeper.put(images_of(number, judged=True))
        wait_until(lambda: len(keeper._kept) == 2, 5, "the thread has ended")
    keeper.stop(2.0)
    assert keeper.dropped == 0
    assert caplog.text.count("overlay.png not drawn: no memory") == 2
    for number in (1, 2):
        names = {path.name for path in (tmp_path / images_of(number, judged=True).folder).iterdir()}
        assert {"color.png", "depth.png", "map.npz", "record.json"} <= names
        assert "overlay.png" not in names


def test_the_overlay_counts_in_the_bound_of_gigabytes(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, RetentionConfig(min_free_gb=0.0, days=3650))
    keeper.start()
    keeper.put(images_of(1, judged=True))
    wait_until(lambda: len(keeper._kept) == 1, 5, "it was not kept")
    keeper.stop(2.0)
    folder, size = keeper._kept[0]
    assert (folder / "overlay.png").stat().st_size > 0
    on_disk = sum(path.stat().st_blocks * 512 for path in [folder, *folder.iterdir()])
    assert on_disk <= size <= on_disk + 4096


def test_a_color_only_part_keeps_its_camera_too(tmp_path: Path) -> None:
    part = images_of(1, judged=True)
    write_images(tmp_path / "a", replace(part, frame=replace(part.frame, depth=None)))
    assert not (tmp_path / "a/depth.png").exists()
    assert json.loads((tmp_path / "a/camera.json").read_text())["serial"] == SERIAL
