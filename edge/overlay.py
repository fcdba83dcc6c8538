"""Pictures for people: heatmap, part and height drawn over what the camera saw. Nothing here is
ever judged.

Height and foreground follow the graph's formula (docs/graph-and-bundle.md) in numpy: readings
averaged over cells of 4 pixels, holes closed from their rims, foreground where the height exceeds
`lift`. The graph's cells depend on its working size, so an outline may differ from the graph's mask
by a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.files import write_atomically
from edge.geometry import heights_m
from edge.types import Code, Frame, Judgment

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Mask = NDArray[np.bool_]  # (H, W)

CELL_PX = 4
HOLE_PASSES = 4
GREEN, RED, AMBER, MAGENTA, WHITE = (
    (40, 220, 80),
    (235, 40, 40),
    (240, 170, 0),
    (255, 0, 200),
    (255, 255, 255),
)
CODE_COLORS = {Code.OK: GREEN, Code.NG: RED, Code.UNKNOWN: AMBER}
BANNER_PX = 26


@dataclass(frozen=True, eq=False)
class Relief:
    """What stands on the table. height: (H, W) float32 meters, holes closed, NaN where nothing is
    near; foreground: higher than lift; read: the pixel had a reading of its own.
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
        lift_m: height above which a pixel is foreground. region: (H, W), 0 = ignore.
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
    """The part as it is: background darkened, outline green, foreground without a reading
    magenta.
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
    """Height in colors, from 0 (dark) to highest_m, by default nearly the foreground's highest;
    magenta: no reading.
    """
    import cv2

    shown = (
        relief.height[relief.foreground]
        if relief.foreground.any()
        else np.array([0.01], np.float32)
    )
    top = highest_m or max(float(np.percentile(shown, 99.5)), 1e-4)
    scaled = np.clip(np.nan_to_num(relief.height) / top, 0.0, 1.0)
    colored = cv2.applyColorMap((255 * scaled).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    picture = np.asarray(cv2.cvtColor(colored, cv2.COLOR_BGR2RGB), np.uint8)
    picture[~relief.read] = MAGENTA
    return picture


def draw_heatmap(color: Image, anomaly: NDArray[np.float32], threshold: float) -> Image:
    """The anomaly map over the image; the same color means the same doubt in every picture.

    Half the threshold shows nothing, twice the threshold is fully red. anomaly: (h, w) raw units,
    of any size.
    """
    import cv2

    size = (color.shape[1], color.shape[0])
    stretched = cv2.resize(
        np.nan_to_num(anomaly.astype(np.float32)), size, interpolation=cv2.INTER_LINEAR
    )
    scale = threshold if threshold > 0 else max(float(stretched.max()), 1e-12)
    strength = np.clip((stretched / scale - 0.5) / 1.5, 0.0, 1.0)
    colored = cv2.cvtColor(
        cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB
    )
    opacity = (0.7 * np.minimum(1.0, 4 * strength))[..., None]
    return np.asarray(color * (1 - opacity) + colored * opacity, np.uint8)


def outline(picture: Image, mask: Mask, line: tuple[int, int, int] = WHITE) -> Image:
    """A copy with the borders of a mask of any size drawn in; used for the true defect."""
    import cv2

    height, width = picture.shape[:2]
    fitted = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    borders, _ = cv2.findContours(fitted, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture.copy(), borders, -1, line, 1), np.uint8)


def with_banner(picture: Image, text: str, line: tuple[int, int, int] = WHITE) -> Image:
    """The picture under a black strip of BANNER_PX rows that carries one line of ASCII text, shrunk
    to fit.
    """
    import cv2

    strip = np.zeros((BANNER_PX, picture.shape[1], 3), np.uint8)
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    scale = 0.5 * min(1.0, (picture.shape[1] - 8) / max(1, text_width))
    cv2.putText(
        strip, text, (4, BANNER_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, scale, line, 1, cv2.LINE_AA
    )
    return np.concatenate([strip, picture])


def draw_inspection(
    window: Frame,
    judgment: Judgment,
    title: str = "",
    plane: Sequence[float] | None = None,
    lift_m: float | None = None,
    truth: Mask | None = None,
    region: NDArray[np.uint8] | None = None,
) -> Image:
    """One picture of one judged view: verdict on top; below, from left, image with heatmap, part,
    height.

    Args:
        window: the cropped frame that was judged. plane, lift_m: where both are known and there is
            depth, part and height are drawn too. truth: (H, W) the true defect, outlined in white,
            where somebody knows it.
    Returns: (H + BANNER_PX, W or 3 W, 3) uint8 RGB.
    """
    seen = window.color
    if judgment.map is not None and judgment.threshold is not None:
        seen = draw_heatmap(seen, judgment.map, float(judgment.threshold))
    panels = [seen if truth is None else outline(seen, truth)]
    if window.depth is not None and plane is not None and lift_m is not None:
        relief = relief_of(window.depth, window.unit, plane, lift_m, region)
        panels += [draw_mask(window.color, relief), draw_height(relief)]
    return with_banner(
        np.concatenate(panels, axis=1), _caption(judgment, title), CODE_COLORS[judgment.code]
    )


def draw_kept(
    window: Image,
    anomaly: NDArray[np.float32] | None,
    threshold: float | None,
    title: str,
    code: Code,
) -> Image:
    """One picture of one kept part: title on top in the verdict's color; below, the view, and the
    view with the heat.

    Args:
        window: (H, W, 3) what was judged. anomaly: (h, w) raw units, threshold: raw; where either
            is None, nothing was judged, and the view stands alone.
    Returns: (H + BANNER_PX, 2 W or W, 3) uint8 RGB.
    """
    panels = [window]
    if anomaly is not None and threshold is not None:
        panels.append(outline_above(draw_heatmap(window, anomaly, threshold), anomaly, threshold))
    return with_banner(np.concatenate(panels, axis=1), title, CODE_COLORS[code])


def outline_above(picture: Image, anomaly: NDArray[np.float32], threshold: float) -> Image:
    """A copy with the borders of where a map is above the threshold, white on black, seen on any
    color.

    anomaly: (h, w) raw units, of any size.
    """
    import cv2

    size = (picture.shape[1], picture.shape[0])
    stretched = cv2.resize(
        np.nan_to_num(anomaly.astype(np.float32)), size, interpolation=cv2.INTER_LINEAR
    )
    borders, _ = cv2.findContours(
        (stretched > threshold).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    dark = cv2.drawContours(picture.copy(), borders, -1, (0, 0, 0), 3)
    return np.asarray(cv2.drawContours(dark, borders, -1, WHITE, 1), np.uint8)


def write_png(path: Path, picture: Image) -> None:
    """Write an RGB picture; a half-written file is never seen. Raises: OSError."""
    import cv2

    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    write_atomically(path, encoded.tobytes())


def _caption(judgment: Judgment, title: str) -> str:
    verdict = f"{judgment.code.name} {judgment.reason.value}"
    numbers = ""
    if judgment.score is not None and judgment.threshold is not None:
        numbers = f"score {float(judgment.score):.4g} (limit {float(judgment.threshold):.4g})"
    shares = f"area {judgment.area:.1%} read {judgment.valid:.0%}" if judgment.area else ""
    return "  ".join(part for part in (title, verdict, numbers, shares) if part)


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
    """HOLE_PASSES masked 3x3 averages over cells that nothing was read in, from the rim of each
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
