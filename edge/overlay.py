"""Pictures for people: anomaly map, part and height beside the camera's image. Nothing is judged
here, and nothing hides the defect: the map only tints the image, and a line marks the threshold.

Height and foreground follow the graph's formula (docs/graph-and-bundle.md) in numpy: readings are
averaged over cells of 4 pixels, holes are closed from their rims, and cells above the height
threshold (`lift`) are foreground. The graph's cells depend on its working size, so that an outline
may differ from the graph's mask by a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.files import write_atomically
from edge.geometry import heights_m
from edge.panels import Panel, beside, color_bar, keys, text_strip
from edge.types import Code, Frame, Judgment

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]  # (H, W)

CELL_PX = 4
HOLE_PASSES = 4
GREEN, RED, AMBER, MAGENTA, WHITE, CYAN = (
    (40, 220, 80),
    (235, 40, 40),
    (240, 170, 0),
    (255, 0, 200),
    (255, 255, 255),
    (0, 229, 255),
)
CODE_COLORS = {Code.OK: GREEN, Code.NG: RED, Code.UNKNOWN: AMBER}
BANNER_PX = 26
TINTED_FROM, TINTED_TO = (
    0.5,
    2.0,
)  # multiples of the threshold: no tint up to the first, full tint from the second
MOST_TINT = 0.45  # opacity of the heat: the surface below stays visible


@dataclass(frozen=True, eq=False)
class Relief:
    """Height over the table and what counts as the part.

    height: (H, W) float32 meters, holes closed, NaN where no reading is near. foreground: (H, W)
    bool, above the height threshold. read: (H, W) bool, the pixel had a reading of its own.
    """

    height: NDArray[np.float32]
    foreground: Mask
    read: Mask

    @property
    def valid(self) -> float:
        """Share of foreground pixels with a reading of their own; 0 without foreground."""
        return float(self.read[self.foreground].mean()) if self.foreground.any() else 0.0


def relief_of(
    depth: NDArray[np.uint16],
    unit: float,
    plane: Sequence[float],
    lift_m: float,
    region: NDArray[np.uint8] | None = None,
) -> Relief:
    """Height and foreground of one aligned, cropped depth image.

    Args:
        depth: (H, W) uint16 counts, 0 = no reading. unit: meters per count. plane: alpha, beta,
            gamma, delta.
        lift_m: height threshold in meters; higher cells are foreground. region: the region of
            interest, (H, W), 0 = ignore.
    """
    heights = heights_m(depth, unit, plane)
    cells, known = _close_holes(*_cell_means(heights))
    height, width = depth.shape
    spread = (
        np.where(known, cells, np.nan)
        .repeat(CELL_PX, axis=0)
        .repeat(CELL_PX, axis=1)[:height, :width]
    )
    foreground = np.nan_to_num(spread, nan=-np.inf) > lift_m
    if region is not None:
        foreground &= region > 0
    return Relief(spread.astype(np.float32), foreground, depth > 0)


def draw_mask(color: Image, relief: Relief) -> Image:
    """The image with the background darkened, the part outlined in green, and its pixels without a
    reading in magenta.
    """
    import cv2

    picture = color.copy()
    picture[~relief.foreground] //= 3
    picture[relief.foreground & ~relief.read] = MAGENTA
    outlines, _ = cv2.findContours(
        relief.foreground.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    return np.asarray(cv2.drawContours(picture, outlines, -1, GREEN, 1), np.uint8)


def draw_height(relief: Relief, highest_m: float | None = None) -> Image:
    """Height in colors, from 0 (dark) to highest_m (default: highest_of); magenta: no reading."""
    top = highest_m or highest_of(relief)
    picture = _colors(np.nan_to_num(relief.height) / top, "VIRIDIS")
    picture[~relief.read] = MAGENTA
    return picture


def highest_of(relief: Relief) -> float:
    """The 99.5th percentile of the foreground's height in meters, so that one wrong reading does
    not set the scale.
    """
    if not relief.foreground.any():
        return 0.01
    return max(float(np.percentile(relief.height[relief.foreground], 99.5)), 1e-4)


def draw_heatmap(color: Image, anomaly: NDArray[np.float32], threshold: float) -> Image:
    """The image tinted by its anomaly map; a color means the same share of the threshold in every
    picture.

    No tint up to half the threshold, full red from twice the threshold on. anomaly: (h, w) of any
    size, raw units.
    """
    stretched = _stretched(anomaly, color)
    scale = threshold if threshold > 0 else max(float(stretched.max()), 1e-12)
    strength = np.clip((stretched / scale - TINTED_FROM) / (TINTED_TO - TINTED_FROM), 0.0, 1.0)
    opacity = (MOST_TINT * np.minimum(1.0, 4 * strength))[..., None]
    return np.asarray(color * (1 - opacity) + _colors(strength, "TURBO") * opacity, np.uint8)


def outline(
    picture: Image, mask: Mask, line: tuple[int, int, int] = WHITE, bores: bool = False
) -> Image:
    """A copy with the outline of a mask of any size: the true defect, the expected silhouette.

    bores: also around what the mask leaves out inside.
    """
    import cv2

    height, width = picture.shape[:2]
    fitted = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    which = cv2.RETR_LIST if bores else cv2.RETR_EXTERNAL
    borders, _ = cv2.findContours(fitted, which, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture.copy(), borders, -1, line, 1), np.uint8)


def with_banner(picture: Image, text: str, line: tuple[int, int, int] = WHITE) -> Image:
    """The picture under a black strip of BANNER_PX rows that carries one line of ASCII text, shrunk
    to fit.
    """
    strip = text_strip(text, picture.shape[1], BANNER_PX, line, 0.5)
    return np.concatenate([strip, picture])


def draw_inspection(
    window: Frame,
    judgment: Judgment,
    title: str = "",
    plane: Sequence[float] | None = None,
    lift_m: float | None = None,
    truth: Mask | None = None,
    region: NDArray[np.uint8] | None = None,
    expected: NDArray[np.uint8] | None = None,
) -> Image:
    """One picture of one judged view: the verdict on top; below, from left, image, anomaly map,
    part, height.

    Args:
        window: the cropped frame that was judged. plane, lift_m: where both are known and there is
            depth, part and height are drawn too. truth: (H, W) the true defect, outlined in cyan,
            where it is known. expected: (H, W), nonzero where material should be, outlined in the
            part; None or 0 throughout: nothing is expected.
    Returns: (H + BANNER_PX, n W, 3) uint8 RGB of n panels, higher where there is room for headings
        and legends (edge.panels.ROOM_PX).
    """
    panels = _panels(window.color, judgment.map, judgment.threshold, truth)
    if window.depth is not None and plane is not None and lift_m is not None:
        relief = relief_of(window.depth, window.unit, plane, lift_m, region)
        width = window.color.shape[1]
        part, known = draw_mask(window.color, relief), [(GREEN, "outline")]
        if expected is not None and expected.any():
            part, known = (
                outline(part, expected > 0, AMBER, bores=True),
                [*known, (AMBER, "expected")],
            )
        marks = keys([*known, (MAGENTA, "no depth reading")], width)
        panels.append(Panel(part, "part", marks))
        panels.append(Panel(draw_height(relief), "height", _height_bar(relief)))
    return with_banner(beside(panels), _caption(judgment, title), CODE_COLORS[judgment.code])


def draw_kept(
    window: Image,
    anomaly: NDArray[np.float32] | None,
    threshold: float | None,
    title: str,
    code: Code,
) -> Image:
    """One picture of one kept part: the title on top in the verdict's color; below, the view, and
    the view with the anomaly map.

    Args:
        window: (H, W, 3) what was judged. anomaly: (h, w) raw units, threshold: raw; where either
            is None, nothing was judged, and the view stands alone.
    Returns: (H + BANNER_PX, 2 W or W, 3) uint8 RGB, higher where there is room for headings and a
        legend (edge.panels.ROOM_PX).
    """
    return with_banner(beside(_panels(window, anomaly, threshold)), title, CODE_COLORS[code])


def _panels(
    color: Image,
    anomaly: NDArray[np.float32] | None,
    threshold: float | np.float32 | None,
    truth: Mask | None = None,
) -> list[Panel]:
    """The view as it is and, where it was judged, with the anomaly map."""
    known = [(CYAN, "true defect")] if truth is not None else []

    def seen(picture: Image) -> Image:
        return picture if truth is None else outline(picture, truth, CYAN)

    panels = [Panel(seen(color), "image", keys(known, color.shape[1]) if known else None)]
    if anomaly is not None and threshold is not None:
        limit = float(threshold)
        heat = outline_above(draw_heatmap(color, anomaly, limit), anomaly, limit)
        panels.append(
            Panel(seen(heat), "anomaly map, line: above the threshold", _heat_bar(color, limit))
        )
    return panels


def _heat_bar(color: Image, threshold: float) -> Image | None:
    """The legend of `draw_heatmap`, over middle gray; None where its colors have no fixed
    meaning.
    """
    if threshold <= 0:
        return None
    gray = np.full((1, color.shape[1], 3), 128, np.uint8)
    values = np.linspace(TINTED_FROM, TINTED_TO, color.shape[1], dtype=np.float32)[None]
    ramp = draw_heatmap(gray, values * np.float32(threshold), threshold)
    at = (1 - TINTED_FROM) / (TINTED_TO - TINTED_FROM)
    ends = f"{TINTED_FROM * threshold:.3g} or less", f"{TINTED_TO * threshold:.3g} or more"
    return color_bar(ramp, *ends, (at, f"threshold {threshold:.3g}"))


def _height_bar(relief: Relief) -> Image:
    ramp = _colors(np.linspace(0, 1, relief.height.shape[1], dtype=np.float32)[None], "VIRIDIS")
    return color_bar(ramp, "0 mm", f"{1000 * highest_of(relief):.3g} mm")


def outline_above(picture: Image, anomaly: NDArray[np.float32], threshold: float) -> Image:
    """A copy with a white line in a black border around the map's cells above the threshold,
    visible on any color.

    anomaly: (h, w) of any size, raw units.
    """
    import cv2

    stretched = _stretched(anomaly, picture)
    borders, _ = cv2.findContours(
        (stretched > threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    dark = cv2.drawContours(picture.copy(), borders, -1, (0, 0, 0), 3)
    return np.asarray(cv2.drawContours(dark, borders, -1, WHITE, 1), np.uint8)


def write_png(path: Path, picture: Image) -> None:
    """Write an RGB picture atomically. Raises: OSError."""
    import cv2

    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    write_atomically(path, encoded.tobytes())


def _stretched(anomaly: NDArray[np.float32], picture: Image) -> NDArray[np.float32]:
    """A map (h, w) at the size of a picture; 0 where it is not finite."""
    import cv2

    finite = np.nan_to_num(anomaly.astype(np.float32))
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.resize(finite, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _colors(shares: NDArray[np.float32], name: str) -> Image:
    """(H, W) values, clipped to 0..1, in the colors of one of OpenCV's color maps: (H, W, 3)
    RGB.
    """
    import cv2

    levels = (255 * np.clip(shares, 0.0, 1.0)).astype(np.uint8)
    colored = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name}"))
    return np.asarray(cv2.cvtColor(colored, cv2.COLOR_BGR2RGB), np.uint8)


def _caption(judgment: Judgment, title: str) -> str:
    verdict = f"{judgment.code.name} {judgment.reason.value}"
    numbers = ""
    if judgment.score is not None and judgment.threshold is not None:
        numbers = f"score {float(judgment.score):.4g} (limit {float(judgment.threshold):.4g})"
    shares = f"area {judgment.area:.1%} read {judgment.valid:.0%}" if judgment.area else ""
    return "  ".join(words for words in (title, verdict, numbers, shares) if words)


def _cell_means(heights: NDArray[np.float32]) -> tuple[NDArray[np.float32], Mask]:
    """((h, w) mean of the readings of every cell, 0 without any; (h, w) whether there was one)."""
    height, width = heights.shape
    rows, columns = -(-height // CELL_PX), -(-width // CELL_PX)
    padded = np.full((rows * CELL_PX, columns * CELL_PX), np.nan, np.float32)
    padded[:height, :width] = heights
    cells = padded.reshape(rows, CELL_PX, columns, CELL_PX)
    count = np.isfinite(cells).sum(axis=(1, 3))
    total = np.nansum(cells, axis=(1, 3))
    return (total / np.maximum(count, 1)).astype(np.float32), count > 0


def _close_holes(cells: NDArray[np.float32], known: Mask) -> tuple[NDArray[np.float32], Mask]:
    """HOLE_PASSES masked 3x3 averages over cells without a reading, from the rim of each
    hole inwards.
    """
    import cv2

    for _ in range(HOLE_PASSES):
        near = cv2.boxFilter(
            known.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        total = cv2.boxFilter(
            np.where(known, cells, 0.0).astype(np.float32),
            -1,
            (3, 3),
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
        cells = np.where(known, cells, total / np.maximum(near, 1.0)).astype(np.float32)
        known = near > 0.5
    return cells, known
