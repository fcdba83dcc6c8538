"""Photographs with the truth's outline and the anomaly map over them, as JPEG inside a page.

Nothing hides the defect: the photograph carries only the outline around it, the map tints a gray
copy lightly and draws a line where it exceeds the threshold, and the close-up carries nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.overlay import outline_above

WIDTH_PX = 480
"""Width of a picture in the page's file: the page shows it smaller, until it is enlarged."""
SAMPLES_PER_MAP = 4096
ZOOM = 4
"""A close-up is this much larger than the photograph."""
OUTLINE = (0, 229, 255)
"""Cyan, RGB: no product and no color of the heat scale has it."""
MOST_TINT = 0.55
"""Share of the heat color in the most tinted pixel: the surface below stays visible."""

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class HeatScale:
    """One scale for every map of the page, so that colors may be compared between pictures.

    Attributes:
        low: value from which a pixel is tinted, raw map units.
        high: value from which it is tinted fully.
    """

    low: float
    high: float


def heat_scale(maps: Sequence[NDArray[np.float32]], labels: NDArray[np.bool_]) -> HeatScale:
    """Tint what normal images hardly ever reach: from their 99th percentile to a typical defect's
    maximum.

    Args:
        maps: n raw maps (h, w).
        labels: (n,) bool, True = defective.
    """
    references = [m for m, defective in zip(maps, labels, strict=True) if not defective] or list(
        maps
    )
    pixels = np.concatenate([m.ravel()[:: max(1, m.size // SAMPLES_PER_MAP)] for m in references])
    low = float(np.quantile(pixels, 0.99))
    peaks = [float(m.max()) for m, defective in zip(maps, labels, strict=True) if defective] or [
        float(pixels.max())
    ]
    high = float(np.median(peaks))
    if high <= low:
        high = low + (abs(low) * 0.5 or 1.0)
    return HeatScale(low, high)


def photograph(image: Image, truth: NDArray[np.bool_] | None) -> str:
    """Return the image as a data address, the defect's true outline drawn on it.

    Args:
        image: uint8 RGB (H, W, 3).
        truth: (H, W) bool or None.
    """
    return jpeg(_outlined(_shrunk(image), truth))


def heat(
    image: Image,
    anomaly_map: NDArray[np.float32],
    truth: NDArray[np.bool_] | None,
    scale: HeatScale,
    threshold: float,
) -> str:
    """Return the image in gray with the map over it as a data address: tinted, a white line around
    what exceeds the threshold, and the true outline.

    Args:
        image: uint8 RGB (H, W, 3).
        anomaly_map: raw map (h, w).
        truth: (H, W) bool or None.
        scale: the page's scale.
        threshold: raw.
    """
    tinted = _tinted(image, anomaly_map, scale)
    return jpeg(_outlined(outline_above(tinted, anomaly_map, threshold), truth))


def beside_heat(image: Image, anomaly_map: NDArray[np.float32], scale: HeatScale) -> Image:
    """The image and, to its right, the image in gray with the map over it: uint8 RGB (h, 2
    WIDTH_PX, 3).

    Args:
        image: uint8 RGB (H, W, 3).
        anomaly_map: raw map (h, w).
        scale: which map values are tinted.
    """
    return np.concatenate([_shrunk(image), _tinted(image, anomaly_map, scale)], axis=1)


def _tinted(image: Image, anomaly_map: NDArray[np.float32], scale: HeatScale) -> Image:
    """The image in gray, WIDTH_PX wide, with the map over it."""
    small = _shrunk(image)
    size = (small.shape[1], small.shape[0])
    values = cv2.resize(
        np.ascontiguousarray(anomaly_map, np.float32), size, interpolation=cv2.INTER_LINEAR
    )
    share = np.clip((values - scale.low) / (scale.high - scale.low), 0, 1)
    gray = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(
        np.float32
    )
    # tinted at once, so that a weak answer is seen
    weight = np.clip(share * 4, 0, MOST_TINT)[..., None]
    mixed = gray * (1 - weight) + colors_of(share) * weight
    return np.asarray(mixed.round(), np.uint8)


def close_up(
    image: Image, anomaly_map: NDArray[np.float32], truth: NDArray[np.bool_] | None
) -> str:
    """Return a quarter of the image's width and height as a data address, around the defect or else
    the map's peak.

    Args:
        image: uint8 RGB (H, W, 3).
        anomaly_map: raw map (h, w).
        truth: (H, W) bool or None.
    """
    return jpeg(_shrunk(_window(image, anomaly_map, truth)))


def relief(
    height: NDArray[np.float32], anomaly_map: NDArray[np.float32], truth: NDArray[np.bool_] | None
) -> str:
    """Return the same window as `close_up` of the height, dark is low, as a data address.

    Args:
        height: (H', W') meters over the background, 0 or less = background.
        anomaly_map: raw map (h, w).
        truth: (H, W) bool or None.
    """
    window = _window(height, anomaly_map, truth)
    part = window[window > 0]
    low, high = (float(v) for v in np.quantile(part, [0.03, 0.97])) if part.size else (0.0, 1.0)
    share = np.clip((window - low) / max(high - low, 1e-6), 0, 1)
    gray = np.where(window > 0, 40 + 215 * share, 0).astype(np.uint8)
    return jpeg(_shrunk(np.repeat(gray[..., None], 3, axis=2)))


def _window(
    picture: NDArray[Any], anomaly_map: NDArray[np.float32], truth: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """Cut a quarter of width and height out of (H, W, ...), around the largest defect or else the
    map's peak.
    """
    if truth is not None and truth.any():
        _, _, boxes, centers = cv2.connectedComponentsWithStats(
            truth.astype(np.uint8), connectivity=8
        )
        largest = 1 + int(np.argmax(boxes[1:, cv2.CC_STAT_AREA]))
        across, down = (centers[largest] + 0.5) / (truth.shape[1], truth.shape[0])
    else:
        row, column = np.unravel_index(int(np.argmax(anomaly_map)), anomaly_map.shape)
        across, down = (column + 0.5) / anomaly_map.shape[1], (row + 0.5) / anomaly_map.shape[0]
    height, width = picture.shape[:2]
    wide, high = max(1, width // ZOOM), max(1, height // ZOOM)
    left = int(min(max(across * width - wide / 2, 0), width - wide))
    top = int(min(max(down * height - high / 2, 0), height - high))
    return picture[top : top + high, left : left + wide]


def colors_of(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Heat colors, RGB 0..255: (...,) shares in 0..1 -> (..., 3)."""
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    table = np.array([[70, 20, 110], [200, 40, 80], [250, 140, 20], [255, 245, 120]], np.float32)
    channels = [np.interp(share, stops, table[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _shrunk(image: Image) -> Image:
    height = max(1, round(image.shape[0] * WIDTH_PX / image.shape[1]))
    smaller = cv2.INTER_AREA if image.shape[1] > WIDTH_PX else cv2.INTER_CUBIC
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), (WIDTH_PX, height), interpolation=smaller), np.uint8
    )


def _outlined(image: Image, truth: NDArray[np.bool_] | None) -> Image:
    """Draw the outline of the truth around the defect, not over it: a defect can be three pixels
    wide.
    """
    if truth is None or not truth.any():
        return image
    height, width = image.shape[:2]
    share = cv2.resize(truth.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    grown = cv2.dilate((share > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlined = cv2.drawContours(image.copy(), contours, -1, OUTLINE, 2, cv2.LINE_AA)
    return np.asarray(outlined, np.uint8)


def jpeg(image: Image) -> str:
    """Encode uint8 RGB (H, W, 3) as a data address."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82]
    )
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
