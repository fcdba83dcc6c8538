"""Where a part in a fixed pose should have material: the common silhouette of a few normal parts.

Pure: no camera, no disk, no clock. A silhouette is what the graph calls foreground, by its formula
(edge/overlay.py, docs/graph-and-bundle.md): heights over the plane are averaged over cells of
`CELL_PX` pixels, cells without a reading are filled from their rim, and what is higher than the
height threshold is material. The expected silhouette is the intersection of all silhouettes, less a
margin that is measured on the parts themselves.

The margin. A part's surprise is how deep its background reaches into the intersection of all
others. The margin is one cell plus the largest surprise of the k parts. For these and one further
part, all of one spread of poses, the k + 1 surprises are exchangeable, and taking a part out of the
others only deepens them: so a further part reaches deeper than the largest surprise shown with
probability 1 / (k + 1) at most, whatever the spread. That is 1 in 6 for 5 parts, and the cell takes
what such a part lacks unless it lies a cell beyond all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.overlay import CELL_PX, relief_of

__all__ = [
    "CELL_PX",
    "ExpectedSilhouette",
    "expected_silhouette",
    "find_displaced",
    "silhouette_of",
    "surprises_px",
]

SPECK_SHARE = 0.05  # of the largest piece's area: a smaller piece is a speck,
NEAR_CELLS = 4  # unless it lies at most this far from a larger one
# of the area that the parts keep on average, each alone, one cell inside its outline. A plate of 2
# to 1 within 7 degrees keeps 0.5 to 0.6, one that turns freely at most 0.37
MIN_SHARE = 0.4
FAR = 2.0  # times the next largest surprise and a cell: so far off lies no part of the same spread


@dataclass(frozen=True, eq=False)
class ExpectedSilhouette:
    """Where every part of a fixed pose has material.

    mask: (H, W) uint8, 255 = material is expected, 0 = nothing is. margin_px: how far it stays
    inside the outline that all parts share. share: of the area that one part alone would keep, one
    cell inside its outline, 0 to 1. parts: how many it was made from.
    """

    mask: NDArray[np.uint8]
    margin_px: float
    share: float
    parts: int


def silhouette_of(
    depth: NDArray[np.uint16],
    unit: float,
    plane: Sequence[float],
    lift_m: float,
    region: NDArray[np.uint8] | None = None,
) -> NDArray[np.bool_]:
    """Where one view shows material; pieces that are small and far from the part are none.

    Args:
        depth: (H, W) uint16 counts, 0 = no reading. unit: meters per count.
        plane: alpha, beta, gamma, delta of the table, in pixels of this view, meters.
        lift_m: height above which a cell is material. region: (H, W), 0 = ignore.
    Returns: (H, W) bool; the cells of one view are squares of CELL_PX pixels.
    """
    cells = relief_of(depth, unit, plane, lift_m).foreground[::CELL_PX, ::CELL_PX]
    material = without_specks(cells)
    height, width = depth.shape
    pixels = material.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)[:height, :width]
    return pixels if region is None else pixels & (region > 0)


def expected_silhouette(silhouettes: Sequence[NDArray[np.bool_]]) -> ExpectedSilhouette | None:
    """Where all parts shown have material, less the margin.

    Args:
        silhouettes: (H, W) bool of each part, at least two.
    Returns: None if less than MIN_SHARE is left: the parts lie in different poses, or are narrower
        than the margin everywhere.
    """
    parts = len(silhouettes)
    margin_px = CELL_PX + float(surprises_px(silhouettes).max())
    kept = eroded(np.logical_and.reduce(silhouettes), margin_px)
    alone = sum(int(eroded(one, CELL_PX).sum()) for one in silhouettes) / parts
    share = min(1.0, float(kept.sum()) / max(1.0, alone))
    if share < MIN_SHARE:
        return None
    return ExpectedSilhouette(np.where(kept, 255, 0).astype(np.uint8), margin_px, share, parts)


def surprises_px(silhouettes: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """(k,) how deep each part's background reaches into the intersection of all others, in pixels.

    silhouettes: (H, W) bool of each part, at least two. 0: it has material wherever the others
    have. Raises: ValueError for a single part.
    """
    if len(silhouettes) < 2:
        raise ValueError("one part has no others: at least two are needed")
    count = np.sum(silhouettes, axis=0, dtype=np.int32)
    by_all, missed_by_one = count == len(silhouettes), count == len(silhouettes) - 1
    depths = []
    for one in silhouettes:
        lacking = missed_by_one & ~one
        depths.append(float(distance_inside(by_all | lacking, lacking).max(initial=0.0)))
    return np.array(depths)


def find_displaced(surprises: NDArray[np.float64]) -> int | None:
    """The part that lacks far more than any other, so that it alone would set the margin; None if
    there is none.

    surprises: (k,) of `surprises_px`.
    """
    order = np.argsort(surprises)
    largest, next_largest = surprises[order[-1]], surprises[order[-2]]
    return int(order[-1]) if largest > FAR * (next_largest + CELL_PX) else None


def eroded(inside: NDArray[np.bool_], distance_px: float) -> NDArray[np.bool_]:
    """The pixels of (H, W) bool `inside` that lie deeper in it than distance_px."""
    kept = np.zeros(inside.shape, bool)
    kept[inside] = distance_inside(inside, inside, distance_px) > distance_px
    return kept


def distance_inside(
    inside: NDArray[np.bool_], at: NDArray[np.bool_], limit_px: float = math.inf
) -> NDArray[np.float64]:
    """Euclidean distance from pixels to the nearest pixel that is not `inside`, exact.

    What is beyond the view counts as not inside. First every pixel's distance along its column is
    found, then the least over its row of the sum of squares (Saito and Toriwaki, Pattern
    Recognition 27, 1994).

    Args:
        inside: (H, W) bool. at: (H, W) bool, of which pixels.
        limit_px: a distance beyond it may be returned too large, never below it.
    Returns: (P,) float64 pixels, in the order of inside[at]; 0 for a pixel that is not inside.
    """
    padded = np.pad(inside, 1)
    columns = _squares_along_columns(padded)
    v, u = np.nonzero(np.pad(at, 1))
    nearest = columns[v, u]
    step = 1
    while step <= limit_px and step * step < nearest.max(initial=0):
        left, right = np.maximum(u - step, 0), np.minimum(u + step, padded.shape[1] - 1)
        beside = np.minimum(columns[v, left], columns[v, right])
        nearest = np.minimum(nearest, beside + step * step)
        step += 1
    return np.sqrt(nearest.astype(np.float64))


def without_specks(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) bool without the pieces that are small beside the largest one and far from all large
    ones.
    """
    labels = _pieces(cells)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    is_kept = sizes >= max(1.0, SPECK_SHARE * float(sizes.max()))
    near = is_kept[labels]
    for _ in range(NEAR_CELLS):
        near = np.asarray(_beside(near).any(axis=0))
    is_kept[np.unique(labels[near])] = True
    is_kept[0] = False
    return np.asarray(is_kept[labels])


def _pieces(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(h, w) labels of the 8-connected pieces, 0 = none: each cell takes the largest number beside
    it, and then the number of the cell that this number stands for, until none changes.
    """
    numbers = np.arange(1, cells.size + 1).reshape(cells.shape)
    labels = np.where(cells, numbers, 0)
    while True:
        spread = np.where(cells, _beside(labels).max(axis=0), 0)
        spread = np.concatenate([[0], spread.ravel()])[spread]
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def _beside(cells: NDArray[np.generic]) -> NDArray[np.generic]:
    """(9, h, w): every cell and its eight neighbors, 0 beyond the rim."""
    height, width = cells.shape
    padded = np.pad(cells, 1)
    return np.stack([padded[v : v + height, u : u + width] for v in range(3) for u in range(3)])


def _squares_along_columns(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(H, W) square of the distance to the nearest pixel of the same column that is not inside."""
    down, up = np.zeros(inside.shape, np.int64), np.zeros(inside.shape, np.int64)
    for row in range(1, len(inside)):
        down[row] = np.where(inside[row], down[row - 1] + 1, 0)
        up[-row - 1] = np.where(inside[-row - 1], up[-row] + 1, 0)
    nearest = np.minimum(down, up)
    return nearest * nearest
