"""Pictures: part, height and anomaly map are where they belong, say what the judgment says, and
hide nothing.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.overlay import (
    AMBER,
    BANNER_PX,
    CYAN,
    GREEN,
    MAGENTA,
    RED,
    WHITE,
    draw_heatmap,
    draw_height,
    draw_inspection,
    draw_kept,
    draw_mask,
    outline,
    outline_above,
    relief_of,
    with_banner,
    write_png,
)
from edge.panels import HEADING_PX, LEGEND_PX, Panel, beside, color_bar
from edge.types import Code, Frame, Intrinsics, Judgment, Reason

UNIT, PLANE = 0.0001, (0.0, 0.0, 1.0, 0.5)


@pytest.fixture
def depth() -> np.ndarray:
    """A level table at 0.5 m with a block 20 mm high in rows 24..47, columns 32..63, and a hole of
    8x8 in it.
    """
    counts = np.full((72, 96), 5000, np.uint16)
    counts[24:48, 32:64] = 4800
    counts[32:40, 40:48] = 0
    return counts


def test_block_is_foreground_with_its_height_and_its_hole_closed(depth: np.ndarray) -> None:
    relief = relief_of(depth, UNIT, PLANE, 0.005)
    assert relief.foreground[24:48, 32:64].all()
    assert relief.foreground.sum() == 24 * 32
    np.testing.assert_allclose(relief.height[24:48, 32:64], 0.02, atol=1e-6)
    np.testing.assert_array_equal(relief.read, depth > 0)
    assert relief.valid == pytest.approx(1 - 64 / 768)


def test_unread_table_is_no_foreground_and_far_holes_stay_open() -> None:
    depth = np.zeros((72, 96), np.uint16)
    depth[:, :4] = 5000
    relief = relief_of(depth, UNIT, PLANE, 0.005)
    assert not relief.foreground.any()
    assert np.isnan(relief.height[:, 40:]).all()
    assert relief.valid == 0.0


def test_region_is_left_out(depth: np.ndarray) -> None:
    region = np.full(depth.shape, 255, np.uint8)
    region[:, 48:] = 0
    assert relief_of(depth, UNIT, PLANE, 0.005, region).foreground.sum() == 24 * 16


def test_sizes_that_are_no_multiple_of_a_cell_are_kept(depth: np.ndarray) -> None:
    assert relief_of(depth[:71, :93], UNIT, PLANE, 0.005).foreground.shape == (71, 93)


def test_mask_keeps_the_part_darkens_the_table_and_marks_holes(depth: np.ndarray) -> None:
    color = np.full((72, 96, 3), 90, np.uint8)
    picture = draw_mask(color, relief_of(depth, UNIT, PLANE, 0.005))
    assert tuple(picture[28, 36]) == (90, 90, 90)
    assert tuple(picture[5, 5]) == (30, 30, 30)
    assert tuple(picture[36, 44]) == MAGENTA
    assert tuple(picture[24, 40]) == GREEN
    assert (color == 90).all()  # the caller's image is not drawn into


def test_higher_is_brighter_and_unread_is_magenta(depth: np.ndarray) -> None:
    picture = draw_height(relief_of(depth, UNIT, PLANE, 0.005)).astype(int)
    assert picture[28, 36].sum() > picture[5, 5].sum()
    assert tuple(picture[36, 44]) == MAGENTA


def test_heat_appears_only_where_the_map_doubts() -> None:
    color = np.full((64, 64, 3), 80, np.uint8)
    anomaly = np.zeros((16, 16), np.float32)
    anomaly[8:, 8:] = 2.0
    picture = draw_heatmap(color, anomaly, threshold=1.0).astype(int)
    assert (picture[:24, :24] == 80).all()
    assert picture[56, 56, 0] > picture[56, 56, 2] + 40  # red
    np.testing.assert_array_equal(draw_heatmap(color, anomaly * 0.2, 1.0), color)


def test_not_finite_map_does_not_break_the_picture() -> None:
    picture = draw_heatmap(np.zeros((8, 8, 3), np.uint8), np.full((2, 2), np.nan, np.float32), 1.0)
    assert picture.shape == (8, 8, 3)


def test_true_defect_is_outlined() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    picture = outline(np.zeros((64, 64, 3), np.uint8), mask)
    assert tuple(picture[20, 30]) == WHITE
    assert tuple(picture[30, 30]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("code", "reason", "line"),
    [
        (Code.OK, Reason.NORMAL, GREEN),
        (Code.NG, Reason.ANOMALY, RED),
        (Code.UNKNOWN, Reason.NO_DEPTH, AMBER),
    ],
)
def test_inspection_shows_the_verdict_in_its_color(
    code: Code, reason: Reason, line: tuple[int, ...], depth
) -> None:
    frame = Frame(
        np.full((72, 96, 3), 90, np.uint8),
        depth,
        UNIT,
        Intrinsics(96, 72, 90, 90, 47.5, 35.5),
        "x",
        1,
        1,
    )
    score = None if code is Code.UNKNOWN else np.float32(1.5)
    judged = Judgment(code, reason, score, np.float32(1.0), 0.1, 0.9, np.ones((9, 12), np.float32))
    picture = draw_inspection(frame, judged, "003", PLANE, 0.005)
    assert picture.shape == (72 + BANNER_PX, 4 * 96, 3), "too narrow for headings"
    banner = picture[:BANNER_PX].reshape(-1, 3).astype(int)
    brightest = banner[banner.sum(axis=1).argmax()]
    assert np.argmax(brightest) == np.argmax(line)


def test_inspection_outlines_where_material_is_expected_and_around_its_bores(depth) -> None:
    lens = Intrinsics(96, 72, 90, 90, 47.5, 35.5)
    frame = Frame(np.full((72, 96, 3), 90, np.uint8), depth, UNIT, lens, "x", 1, 1)
    judged = Judgment(Code.OK, Reason.NORMAL, np.float32(0), np.float32(1))
    expected = np.zeros((72, 96), np.uint8)
    expected[4:20, 6:40] = 255
    expected[10:14, 18:26] = 0

    def part_of(expected: np.ndarray | None) -> np.ndarray:
        picture = draw_inspection(frame, judged, "003", PLANE, 0.005, expected=expected)
        return picture[BANNER_PX:, 96 : 2 * 96]

    line = (part_of(expected) == AMBER).all(axis=2)
    assert line[4, 6:40].all()
    assert line[9:15, 17].any()
    assert not line[30:].any()
    np.testing.assert_array_equal(part_of(np.zeros_like(expected)), part_of(None))


def test_color_only_view_is_one_panel() -> None:
    frame = Frame(
        np.zeros((72, 96, 3), np.uint8),
        None,
        UNIT,
        Intrinsics(96, 72, 90, 90, 47.5, 35.5),
        "x",
        1,
        1,
    )
    picture = draw_inspection(frame, Judgment(Code.UNKNOWN, Reason.ENGINE, None, None))
    assert picture.shape == (72 + BANNER_PX, 96, 3)


def test_picture_survives_the_disk_in_rgb(tmp_path: Path) -> None:
    picture = with_banner(np.full((10, 40, 3), (200, 10, 30), np.uint8), "x")
    write_png(tmp_path / "a.png", picture)
    back = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(back, picture)


def test_where_a_map_is_above_the_threshold_is_outlined_on_any_color() -> None:
    anomaly = np.zeros((16, 16), np.float32)
    anomaly[4:12, 4:12] = 3.0
    for shade in (0, 255):
        picture = outline_above(np.full((64, 64, 3), shade, np.uint8), anomaly, 2.0)
        changed = (picture != shade).any(axis=2)
        rows, _ = np.nonzero(changed)
        assert (rows.min(), rows.max()) == pytest.approx((16, 47), abs=3)
        assert not changed[28:36, 28:36].any()
    np.testing.assert_array_equal(outline_above(picture, anomaly, 3.5), picture)


def test_a_kept_part_is_the_view_and_the_view_with_heat_or_the_view_alone() -> None:
    window, anomaly = np.full((48, 64, 3), 90, np.uint8), np.full((12, 16), np.nan, np.float32)
    both = draw_kept(window, anomaly, 1.0, "s1-1 NG anomaly", Code.NG)
    assert both.shape == (48 + BANNER_PX, 128, 3)
    np.testing.assert_array_equal(both[BANNER_PX:, :64], window)
    assert draw_kept(window, anomaly, None, "s1-1", Code.UNKNOWN).shape == (48 + BANNER_PX, 64, 3)


def test_the_surface_below_the_hottest_place_stays_visible() -> None:
    color = np.full((64, 64, 3), 60, np.uint8)
    color[24:40, 24:40] = 200
    picture = draw_heatmap(color, np.full((16, 16), 9.0, np.float32), threshold=1.0).astype(int)
    assert picture[32, 32].sum() > picture[4, 4].sum() + 3 * 60


def test_where_there_is_room_panels_have_headings_and_legends(depth: np.ndarray) -> None:
    large = np.repeat(np.repeat(depth, 4, 0), 4, 1)
    height, width = large.shape
    frame = Frame(
        np.full((height, width, 3), 90, np.uint8),
        large,
        UNIT,
        Intrinsics(width, height, 360, 360, 191.5, 143.5),
        "x",
        1,
        1,
    )
    anomaly = np.zeros((18, 24), np.float32)
    anomaly[4:8, 4:8] = 3.0
    judged = Judgment(Code.NG, Reason.ANOMALY, np.float32(3), np.float32(1), 0.1, 0.9, anomaly)
    truth = np.zeros((height, width), bool)
    truth[200:220, 300:320] = True
    picture = draw_inspection(frame, judged, "003", PLANE, 0.005, truth)
    assert picture.shape == (height + BANNER_PX + HEADING_PX + LEGEND_PX, 4 * width, 3)
    top = BANNER_PX + HEADING_PX
    for panel in range(4):
        columns = slice(panel * width, (panel + 1) * width)
        assert picture[BANNER_PX:top, columns].any(), "a heading"
        assert picture[top + height :, columns].any(), "a legend"
    view = picture[top : top + height, :width]
    assert tuple(view[200, 310]) == CYAN
    view[200:221, 300:321] = 90
    assert (view == 90).all(), "the view carries nothing but the outline of the true defect"
    heat = picture[top : top + height, width : 2 * width].astype(int)
    line = (heat == 255).all(axis=2)
    rows, _ = np.nonzero(line)
    assert (rows.min(), rows.max()) == pytest.approx((64, 127), abs=8)


def test_the_color_bar_marks_the_threshold_where_the_map_has_that_color() -> None:
    ramp = np.zeros((1, 301, 3), np.uint8)
    bar = color_bar(ramp, "0.5", "2", (1 / 3, "threshold 1"))
    assert bar.shape == (LEGEND_PX, 301, 3)
    (at,) = np.flatnonzero((bar[2] == 255).all(axis=1))
    assert at == pytest.approx(4 + 292 / 3, abs=1)


def test_the_threshold_does_not_cover_the_low_end_of_the_color_bar() -> None:
    bar = color_bar(np.zeros((1, 384, 3), np.uint8), "0.816 or less", "3", (1 / 3, "threshold 1.6"))
    below = bar[18:].max(axis=(0, 2))  # the texts, by column, below the mark itself
    assert below[:124].any()
    assert not below[100:132].any()
    assert below[132:252].any()


def test_a_map_without_a_positive_threshold_has_no_color_bar() -> None:
    window, anomaly = np.full((240, 320, 3), 90, np.uint8), np.zeros((12, 16), np.float32)
    picture = draw_kept(window, anomaly, 0.0, "s1-1", Code.OK)
    assert picture.shape == (240 + BANNER_PX + HEADING_PX, 640, 3)


def test_panels_of_one_row_are_of_one_height() -> None:
    picture = np.full((30, 220, 3), 90, np.uint8)
    legend = np.full((LEGEND_PX, 220, 3), 7, np.uint8)
    row = beside([Panel(picture, "with", legend), Panel(picture, "without")])
    assert row.shape == (30 + HEADING_PX + LEGEND_PX, 440, 3)
    assert (row[-1, :220] == 7).all()
    assert not row[-1, 220:].any()
