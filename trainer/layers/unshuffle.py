"""Pixel unshuffle: a fine image becomes channels on a coarse grid, without losing a value (MATS
2.2, AST).
"""

from __future__ import annotations

from torch import Tensor


def pixel_unshuffle(image: Tensor, factor: int) -> Tensor:
    """Move every factor x factor block of pixels into the channels of one cell.

    Written as reshape and permute, which both runtimes know in every precision; ONNX has only
    SpaceToDepth, whose channel order differs from torch's for more than one input channel.

    Args:
        image: (N, C, H, W), H and W multiples of `factor`.
        factor: block size d; 8 makes 64 channels of a depth image.
    Returns: (N, C d d, H / d, W / d); channel (c d + dy) d + dx of cell (i, j) is pixel (i d + dy,
        j d + dx) of channel c.
    Raises: ValueError if H or W is not a multiple of `factor`.
    """
    count, channels, height, width = image.shape
    if height % factor or width % factor:
        raise ValueError(f"{height}x{width} does not divide into {factor}x{factor} blocks")
    rows, columns = height // factor, width // factor
    blocks = image.reshape(count, channels, rows, factor, columns, factor)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4)  # (N, C, d, d, H / d, W / d)
    return blocks.reshape(count, channels * factor * factor, rows, columns)
