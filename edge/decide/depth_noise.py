"""How noisy the depth readings on a part are, and how bright its view is: from one frame of it, for
the watch over slow changes (edge/decide/drift.py). Cheap: some rows are looked at, not all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.types import Frame

ROWS = 64  # of the view, evenly spaced
LEAST = 100  # triples of readings: of fewer no noise is told
KEPT = 0.9  # of the differences, the smaller ones: the others are steps of the part's surface
# mean of the KEPT smallest absolute values of a standard normal distribution
MEAN_OF_KEPT = 0.6573
STEP = 8  # every eighth row and column shows the brightness


def depth_noise_mm(window: Frame, site: Mapping[str, NDArray[Any]]) -> float | None:
    """The noise of the readings on the part, millimeters; None where there are too few of them.

    Of three neighbors in a row, z[u - 1] - 2 z[u] + z[u + 1] is 0 on any plane, however it is
    inclined; under independent noise its deviation is sqrt(6) times that of a reading. The result
    is scaled so that independent normal noise is read as its standard deviation. A camera that
    smooths its depth reads lower: what counts is a change.

    Args:
        window: the crop. site: `plane`, `lift` and `region`, as the graph gets them.
    """
    if window.depth is None or not {"plane", "lift"} <= site.keys():
        return None
    rows = np.arange(0, window.depth.shape[0], max(1, window.depth.shape[0] // ROWS))
    counts = window.depth[rows]
    z = counts * np.float32(window.unit)
    on_part = (counts > 0) & (_height(z, rows, site["plane"]) > site["lift"][0])
    if "region" in site:
        on_part &= site["region"][0, rows, :, 0] > 0
    together = on_part[:, :-2] & on_part[:, 1:-1] & on_part[:, 2:]
    found = np.abs(z[:, :-2] - 2 * z[:, 1:-1] + z[:, 2:])[together]
    if found.size < LEAST:
        return None
    kept = int(KEPT * found.size)
    mean = float(np.partition(found, kept - 1)[:kept].mean(dtype=np.float64))
    return 1000 * mean / (MEAN_OF_KEPT * math.sqrt(6))


def mean_brightness(color: NDArray[np.uint8]) -> float:
    """Of a crop, (H, W, 3) uint8, 0..255."""
    return float(color[::STEP, ::STEP].mean(dtype=np.float64))


def _height(z: NDArray[Any], rows: NDArray[Any], plane: NDArray[Any]) -> NDArray[Any]:
    """Over the background plane, meters. z: (n, W) of these rows."""
    alpha, beta, gamma, delta = (np.float32(value) for value in plane)
    columns = np.arange(z.shape[1], dtype=np.float32)
    slope = alpha * columns[None] + beta * rows[:, None].astype(np.float32) + gamma
    height: NDArray[Any] = delta - z * slope
    return height
