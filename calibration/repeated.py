"""Whether the same part was shown twice: it lies where it lay before, and its picture differs from
the one before by no more than two pictures of one part at rest. Pure.

Both have to hold. Parts in a fixture all lie in one place, but their edges and surfaces differ by
more than noise; a part that was taken out and laid back by hand lies elsewhere, and cannot be told
from another part by its picture: it is not found. What is found is a part that was never taken
away, and a file that is there twice.

Pictures are means over the frames of a part and over cells of CELL_PX pixels, so that noise is
small. How small is measured on the part itself, by the difference between its odd and even frames.
A part with a single frame gives no such measure: then only pictures that are equal but for rounding
count as the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.shown_parts import Sight

CELL_PX = 4
# of the cells that differ most: a defect or an edge covers this share of a view at least
QUANTILE = 0.995
NOISE_FACTOR = 1.5  # times the difference that noise alone makes
ROUNDING = 0.5  # gray levels, of the files of one picture
REST_PX = 0.5  # a part whose center is this near to its median lies at rest
NEAR_PX, NEAR_DEVIATIONS = 0.1, 3.0  # centers that lie nearer are one place


@dataclass(frozen=True, eq=False)
class Look:
    """One part at rest.

    center: (u, v) pixels. wander: deviation of its center over its frames. picture: (h, w, 3) gray
    levels of cells. noise: by how much two such pictures of this part differ at QUANTILE, 0 for a
    single frame.
    """

    center: NDArray[np.float64]
    wander: float
    picture: NDArray[np.float32]
    noise: float


def look_of(sights: Sequence[Sight]) -> Look | None:
    """None for a part that moves in half of its frames: on a belt no part stays.

    sights: its frames that were judged, at least one.
    """
    centers = np.array([(one.sighting.u, one.sighting.v) for one in sights])
    off = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    rests = np.flatnonzero(off <= REST_PX).tolist()
    if 2 * len(rests) <= len(sights):
        return None
    cells = np.stack([_cells(sights[number].window.color) for number in rests])
    noise = 0.0
    if len(rests) > 1:
        # two means of n frames differ by 1 / sqrt(2) of what their halves do
        halves = cells[::2].mean(axis=0) - cells[1::2].mean(axis=0)
        noise = float(np.quantile(np.abs(halves), QUANTILE) / np.sqrt(2))
    wander = float(np.linalg.norm(centers[rests].std(axis=0)))
    return Look(np.median(centers[rests], axis=0), wander, cells.mean(axis=0), noise)


def find_same(look: Look | None, before: Sequence[Look | None]) -> int | None:
    """The index of the earlier part that this one is; None if it is another."""
    if look is None:
        return None
    same = (number for number, one in enumerate(before) if one is not None and _is_same(look, one))
    return next(same, None)


def _is_same(one: Look, other: Look) -> bool:
    near = max(NEAR_PX, NEAR_DEVIATIONS * min(one.wander, other.wander))
    if np.linalg.norm(one.center - other.center) > near:
        return False
    differs = float(np.quantile(np.abs(one.picture - other.picture), QUANTILE))
    return differs <= max(ROUNDING, NOISE_FACTOR * max(one.noise, other.noise))


def _cells(color: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H // CELL_PX, W // CELL_PX, 3) means."""
    height, width = (side // CELL_PX for side in color.shape[:2])
    whole = color[: height * CELL_PX, : width * CELL_PX].astype(np.float32)
    return np.asarray(whole.reshape(height, CELL_PX, width, CELL_PX, 3).mean(axis=(1, 3)))
