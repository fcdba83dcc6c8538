"""Sensor bytes to tensors, inside the exported graph: the only preprocessing there is, in training and on the device.

Every resize is an exact area average, two products with constant matrices (TensorRT has no antialiased Resize).
Foreground is decided at the depth working resolution, not per pixel: a cell averages the readings of its n pixels,
which divides the sensor's noise by sqrt(n) before the comparison with `lift`. area and valid stay fractions of
pixels, because all cells cover the same number of pixels and each carries the exact share of its pixels that is in
the region or was read.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge.errors import ConfigError

HOLE_PASSES = 6       # 3x3 averages, so holes up to 12 cells across are closed: 45 px of a 480 px crop at 128 cells
HALF = 0.4999         # "at least half of the pixels", a hair below 0.5: a tie must not depend on the order of a sum
ANY = 1e-4            # "any pixel": above the rounding of a zero share


class Prepared(NamedTuple):
    """What a detector sees of N images; (h, w) color and (hd, wd) depth working size; color-only: hd, wd = h, w."""

    color: Tensor  # (N, 3, h, w) float32, RGB, 0..255
    height: Tensor | None  # (N, 1, hd, wd) float32 metres over the background, holes filled, 0 outside the foreground
    foreground: Tensor  # (N, 1, hd, wd) float32, 0 or 1
    read: Tensor | None  # (N, 1, hd, wd) float32, 1 where at least half of the cell's pixels had a reading
    area: Tensor  # (N,) foreground share of the region
    valid: Tensor  # (N,) share of foreground pixels that had a reading; 0 without foreground, 1 without depth


def working_size(height_px: int, width_px: int, long_side: int = 256, multiple: int = 32) -> tuple[int, int]:
    """(h, w) of the working image: long side `long_side`, aspect kept, both rounded to a multiple of `multiple`."""
    scale = long_side / max(height_px, width_px)
    return (max(multiple, round(height_px * scale / multiple) * multiple),
            max(multiple, round(width_px * scale / multiple) * multiple))


def area_matrix(size_in: int, size_out: int) -> Tensor:
    """(size_out, size_in) float32, rows summing to 1: the share that each input pixel has in each output cell."""
    cell = Fraction(size_in, size_out)
    rows = [[max(Fraction(0), min(cell * (o + 1), Fraction(i + 1)) - max(cell * o, Fraction(i))) / cell
             for i in range(size_in)] for o in range(size_out)]
    return torch.tensor([[float(share) for share in row] for row in rows], dtype=torch.float32)


class AreaResize(nn.Module):
    """Exact area average of (N, H, W, C) to (N, C, h, w).

    With g = gcd(in, out) the area matrix of an axis is block diagonal, g equal blocks of (out/g, in/g). Rows are
    reduced first, then the columns of all channels in one product, whose result lies channel by channel inside a
    block.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size_in: tuple[int, int], size_out: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.size_in, self.size_out, self.channels = size_in, size_out, channels
        self.blocks = (math.gcd(size_in[0], size_out[0]), math.gcd(size_in[1], size_out[1]))
        rows, columns = (area_matrix(i // g, o // g) for i, o, g in zip(size_in, size_out, self.blocks, strict=True))
        by_channel = torch.einsum("oi,cd->icdo", columns, torch.eye(channels))  # (iw/g, C, C, ow/g)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", by_channel.reshape(columns.shape[1] * channels, -1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Average (N, H, W, C) float32 over the cells of (h, w); the result is (N, C, h, w)."""
        n, (h_in, w_in), (h, w), c = image.shape[0], self.size_in, self.size_out, self.channels
        g_h, g_w = self.blocks
        reduced = torch.matmul(self.rows, image.reshape(n * g_h, h_in // g_h, w_in * c))  # (N g_h, h/g_h, W C)
        cells = torch.matmul(reduced.reshape(n * h * g_w, w_in // g_w * c), self.columns)  # (N h g_w, C w/g_w)
        if c == 1:
            return cells.reshape(n, 1, h, w)
        return cells.reshape(n, h, g_w, c, w // g_w).permute(0, 3, 1, 2, 4).reshape(n, c, h, w)


class Preprocess(nn.Module):
    """Bytes of an aligned, cropped frame to what a detector sees.

    height_px, width_px: size of the crop. working: (h, w) of the color image. depth_working: (hd, wd) of the height image,
    None for a color-only graph, whose foreground is the region. Raises: ConfigError for a size below 1.
    """

    u: Tensor
    v: Tensor

    def __init__(self, height_px: int, width_px: int, working: tuple[int, int],
                 depth_working: tuple[int, int] | None) -> None:
        super().__init__()
        if min(height_px, width_px, *working, *(depth_working or working)) < 1:
            raise ConfigError(f"a crop of {width_px}x{height_px} px cannot be resized to {working} and "
                              f"{depth_working}: every size must be at least 1")
        self.size, self.working, self.depth_working = (height_px, width_px), working, depth_working
        self.color_resize = AreaResize(self.size, working, 3)
        self.mask_resize = AreaResize(self.size, depth_working or working, 1)
        self.register_buffer("u", torch.arange(width_px, dtype=torch.float32).reshape(1, 1, -1), persistent=False)
        self.register_buffer("v", torch.arange(height_px, dtype=torch.float32).reshape(1, -1, 1), persistent=False)

    def forward(self, color: Tensor, depth: Tensor | None, region: Tensor, unit: Tensor | None = None,
                intrinsics: Tensor | None = None, plane: Tensor | None = None, lift: Tensor | None = None) -> Prepared:
        """Prepare a batch.

        Args:
            color: (N, H, W, 3) uint8 RGB. depth: (N, H, W, 2) uint8, little-endian counts, None for a color-only graph.
            region: (N, H, W, 1) uint8, 0 = ignore. unit: (N,) metres per count. intrinsics: (N, 4).
            plane: (N, 4) alpha, beta, gamma, delta. lift: (N,) metres.
        """
        del intrinsics  # in the contract for systems that need points; height needs none, the plane contains them
        small = self.color_resize(color.to(torch.float32))                                            # (N, 3, h, w)
        inside = self.mask_resize(region.to(torch.float32).clamp(max=1.0))  # (N, 1, hd, wd) share
        in_region = (inside > HALF).to(torch.float32)
        if depth is None or unit is None or plane is None or lift is None:
            share = inside.mean(dim=(1, 2, 3))                                                        # (N,)
            return Prepared(small, None, in_region, None, share, torch.ones_like(share))
        average, read = self.average_height(depth, unit, plane)
        filled, known = fill_holes(average, read)
        foreground = (filled > lift.reshape(-1, 1, 1, 1)).to(torch.float32) * known * in_region
        pixels = foreground.sum(dim=(1, 2, 3))                                                        # (N,) cells
        area = (foreground * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1.0)
        valid = (foreground * read).sum(dim=(1, 2, 3)) / pixels.clamp(min=1.0)
        return Prepared(small, filled * foreground, foreground, (read > HALF).to(torch.float32), area, valid)

    def average_height(self, depth: Tensor, unit: Tensor, plane: Tensor) -> tuple[Tensor, Tensor]:
        """(height, read): masked area average of delta - z (alpha u + beta v + gamma), and the share of pixels read.

        Height is linear in z, so z (alpha u + beta v + gamma) is averaged, and delta enters once per cell. A pixel
        without a reading has count 0 and adds nothing to the sum of z nor to the share that divides it: masked, it
        never gets height delta. Both (N, 1, hd, wd); height is 0 where nothing was read.
        """
        bytes_ = depth.to(torch.float32)                                                              # (N, H, W, 2)
        count = bytes_[..., 0] + 256.0 * bytes_[..., 1]                                               # (N, H, W)
        alpha, beta, gamma = (plane[:, i].reshape(-1, 1, 1) for i in range(3))
        depth_along = count * (alpha * self.u + (beta * self.v + gamma))  # counts along the normal
        read = self.mask_resize(count.clamp(max=1.0))  # (N, 1, hd, wd) share
        sum_along = self.mask_resize(depth_along) * unit.reshape(-1, 1, 1, 1)
        delta = plane[:, 3].reshape(-1, 1, 1, 1)
        known = (read > ANY).to(torch.float32)
        return known * (delta - sum_along / read.clamp(min=ANY)), read


def fill_holes(height: Tensor, read: Tensor, passes: int = HOLE_PASSES) -> tuple[Tensor, Tensor]:
    """Close cells without any reading by a fixed number of masked 3x3 averages, from the rim of each hole inwards.

    height, read: (N, 1, hd, wd). Returns (filled height, 1 where known after filling); what stays unknown is 0.
    """
    known = (read > ANY).to(torch.float32)
    state = torch.cat([height * known, known], dim=1)                                                 # (N, 2, hd, wd)
    for _ in range(passes):
        pooled = nn.functional.avg_pool2d(state, 3, stride=1, padding=1)
        spread = pooled / pooled[:, 1:].clamp(min=ANY)  # mean height of known neighbours, 1 if there are any
        state = state + spread * (1.0 - state[:, 1:])
    return state[:, :1], state[:, 1:]
