"""Panels of a picture side by side, each with its heading and its legend where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Color = tuple[int, int, int]

ROOM_PX = 200  # narrower panels have neither heading nor legend: their text could not be read
HEADING_PX, LEGEND_PX = 20, 34
BAR_PX = 10
WHITE: Color = (255, 255, 255)
GRAY: Color = (190, 190, 190)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture. heading: a few words of ASCII. legend: (LEGEND_PX, W, 3), None without one."""

    picture: Image
    heading: str
    legend: Image | None = None


def beside(panels: Sequence[Panel]) -> Image:
    """The pictures from left to right, all of one size: (H, n W, 3).

    From ROOM_PX on, the headings stand above, and the legends below if one has any: (H + HEADING_PX
    + LEGEND_PX, n W, 3).
    """
    if panels[0].picture.shape[1] < ROOM_PX:
        return np.concatenate([panel.picture for panel in panels], axis=1)
    below = any(panel.legend is not None for panel in panels)
    columns = []
    for panel in panels:
        width = panel.picture.shape[1]
        rows = [text_strip(panel.heading, width, HEADING_PX, GRAY, 0.42), panel.picture]
        if below:
            empty = np.zeros((LEGEND_PX, width, 3), np.uint8)
            rows.append(empty if panel.legend is None else panel.legend)
        columns.append(np.concatenate(rows))
    return np.concatenate(columns, axis=1)


def text_strip(text: str, width: int, height: int, color: Color, size: float) -> Image:
    """A black strip (height, width, 3) with one line of ASCII text, shrunk to fit."""
    strip = np.zeros((height, width, 3), np.uint8)
    _write(strip, text, 4, height - 7, width - 8, color, size)
    return strip


def color_bar(ramp: Image, low: str, high: str, mark: tuple[float, str] | None = None) -> Image:
    """A legend: colors from left to right with the values at the ends.

    Args:
        ramp: (1, W, 3) the colors. low, high: what the ends mean. mark: a place on the bar, 0..1,
            and what it means.
    Returns: (LEGEND_PX, W, 3).
    """
    width = ramp.shape[1]
    strip = np.zeros((LEGEND_PX, width, 3), np.uint8)
    strip[4 : 4 + BAR_PX, 4:-4] = ramp[:, 4:-4]
    third = width // 3 - 8
    _write(strip, low, 4, LEGEND_PX - 7, third, GRAY, 0.4)
    _write(strip, high, width - 4, LEGEND_PX - 7, third, GRAY, 0.4, align=1.0)
    if mark is not None:
        place, text = mark
        at = 4 + round(place * (width - 9))
        strip[1 : 7 + BAR_PX, at - 1 : at + 2] = 0
        strip[1 : 7 + BAR_PX, at] = WHITE
        # right of the low end's text, which takes a third at most
        _write(strip, text, max(at, third + 12), LEGEND_PX - 7, third, WHITE, 0.4)
    return strip


def keys(entries: Sequence[tuple[Color, str]], width: int) -> Image:
    """A legend of colors and their meanings in a row: (LEGEND_PX, width, 3)."""
    strip = np.zeros((LEGEND_PX, width, 3), np.uint8)
    room = width // len(entries)
    for index, (color, text) in enumerate(entries):
        left = index * room + 4
        strip[12:22, left : left + 10] = color
        _write(strip, text, left + 15, 21, room - 22, GRAY, 0.4)
    return strip


def _write(
    strip: Image,
    text: str,
    x: int,
    y: int,
    room: int,
    color: Color,
    size: float,
    align: float = 0.0,
) -> None:
    """Write a line in place, shrunk to `room` pixels. x, y: its baseline; align: 0 if x is its
    start, 0.5 its middle, 1 its end.
    """
    import cv2

    (wide, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    scale = size * min(1.0, room / max(1, wide))
    left = round(x - align * min(wide, room))
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, text, (left, y), font, scale, color, 1, cv2.LINE_AA)
