"""Sizes of images, feature grids and maps that several systems derive in the same way."""

from __future__ import annotations

from trainer.graph.preprocess import working_size
from trainer.graph.sizes import WorkingSizes

FINEST = 4  # stride of the finest level
DEPTH_CELLS = 2  # depth image cells per cell of the finest level, on a side


def level_sizes(height_px: int, width_px: int, long_side: int, with_depth: bool) -> WorkingSizes:
    """Long side given, aspect kept to whole cells of the coarsest level; the depth image has half
    the color's side.
    """
    color = working_size(height_px, width_px, long_side)
    depth = color[0] // FINEST * DEPTH_CELLS, color[1] // FINEST * DEPTH_CELLS
    return WorkingSizes(color, depth if with_depth else None)


def scaled_to(long_side: int, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) with the aspect of `size` and this long side: the size of a map over its grid."""
    longest = max(size)
    return long_side * size[0] // longest, long_side * size[1] // longest
